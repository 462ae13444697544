//! Envoy's statistics, and the accounting equation that the filter's counters keep.

use std::collections::BTreeMap;

/// Counters, gauges and sizes of histograms at one moment, by name.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    values: BTreeMap<String, u64>,
    samples: BTreeMap<String, u64>,
}

impl Stats {
    /// Where Envoy's admin tells them, histograms as cumulative buckets.
    pub const PATH: &str = "/stats?histogram_buckets=cumulative";

    /// Reads the text of Envoy's [`Stats::PATH`]. Texts, and histograms without samples, are left out.
    pub fn parse(text: &str) -> Self {
        let mut stats = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.rsplit_once(": ")) {
            // Envoy shows a custom namespace with its prefix or without it, depending on its version.
            let name = name.strip_prefix("wasmcustom.").unwrap_or(name).to_owned();
            if let Ok(number) = value.parse() {
                stats.values.insert(name, number);
            } else if let Some(samples) = samples_of(value) {
                stats.samples.insert(name, samples);
            }
        }
        stats
    }

    /// One value. A statistic that Envoy does not have was never counted: 0.
    pub fn value(&self, name: &str) -> u64 {
        self.values.get(name).copied().unwrap_or(0)
    }

    /// Every statistic whose name begins so, with what follows the prefix.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
        self.values.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, *value)))
    }

    /// The histograms whose names begin so, each with its whole name and the number of its samples.
    pub fn samples_below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
        let all = self.samples.iter().map(|(name, samples)| (name.as_str(), *samples));
        all.filter(move |(name, _)| name.starts_with(prefix))
    }

    /// What the filter says about the records of one kind, `spans` or `transactions`.
    pub fn accounting(&self, records: &str) -> Accounting {
        Accounting {
            recorded: self.value(&format!("newrelic.{records}.recorded")),
            exported: self.value(&format!("newrelic.{records}.exported")),
            dropped: self.below(&format!("newrelic.{records}.dropped.")).map(|(_, count)| count).sum(),
            queued: self.value(&format!("newrelic.queue.{records}")),
        }
    }
}

/// The number of samples in `B0.5(0,1) … B3.6e+06(2,7)`: the last bucket holds them all, the second number counts
/// since the start.
fn samples_of(buckets: &str) -> Option<u64> {
    let (_, last) = buckets.strip_prefix('B')?.rsplit_once(',')?;
    last.strip_suffix(')')?.parse().ok()
}

/// Where the records of one kind are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accounting {
    /// Offered to an exporter.
    pub recorded: u64,
    /// Accepted by the receiver.
    pub exported: u64,
    /// Given up, for any reason.
    pub dropped: u64,
    /// Waiting, or on their way.
    pub queued: u64,
}

impl Accounting {
    /// Whether every record is accounted for, which holds at every quiet moment.
    pub fn balances(self) -> bool {
        self.recorded == self.exported + self.dropped + self.queued
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATS: &str = "cluster.bank.upstream_rq_200: 3\n\
        wasmcustom.newrelic.spans.recorded: 9\nnewrelic.spans.exported: 5\n\
        newrelic.spans.dropped.reservoir: 1\nnewrelic.spans.dropped.rejected: 2\nnewrelic.queue.spans: 1\n\
        newrelic.export.latency_ms.trace_api: B0.5(0,0) B1(0,2) B5(1,3)\nserver.version: \"9\"\n\
        wasmcustom.newrelic.ClientApplication/4002#55/all: B0.5(0,0) B3.6e+06(2,12)\n\
        newrelic.ClientApplication/4001#1/all: No recorded values\n";

    #[test]
    fn sums_up_where_the_records_are() {
        let accounting = Stats::parse(STATS).accounting("spans");
        assert_eq!(accounting, Accounting { recorded: 9, exported: 5, dropped: 3, queued: 1 });
        assert!(accounting.balances());
        assert!(!Accounting { queued: 0, ..accounting }.balances());
    }

    #[test]
    fn counts_the_samples_of_histograms() {
        let stats = Stats::parse(STATS);
        let of =
            |prefix| stats.samples_below(prefix).map(|(name, samples)| (name.to_owned(), samples)).collect::<Vec<_>>();
        assert_eq!(of("newrelic.export."), [("newrelic.export.latency_ms.trace_api".to_owned(), 3)]);
        assert_eq!(of("newrelic.ClientApplication/"), [("newrelic.ClientApplication/4002#55/all".to_owned(), 12)]);
    }

    #[test]
    fn takes_numbers_only() {
        let stats = Stats::parse(STATS);
        assert_eq!(stats.value("cluster.bank.upstream_rq_200"), 3);
        assert_eq!(stats.below("newrelic.export.").count(), 0);
        assert_eq!(stats.value("newrelic.transactions.recorded"), 0);
    }
}
