//! Envoy's statistics, and the accounting equation that the filter's counters keep.

use std::collections::BTreeMap;

/// Counters and gauges of one moment, by name.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    values: BTreeMap<String, u64>,
}

impl Stats {
    /// Reads the text of Envoy's `/stats`. Lines that are no number (histograms, texts) are left out.
    pub fn parse(text: &str) -> Self {
        let value = |line: &str| {
            let (name, value) = line.rsplit_once(": ")?;
            // Envoy shows a custom namespace with its prefix or without it, depending on its version.
            let name = name.strip_prefix("wasmcustom.").unwrap_or(name);
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self { values: text.lines().filter_map(value).collect() }
    }

    /// One value. A statistic that Envoy does not have was never counted: 0.
    pub fn value(&self, name: &str) -> u64 {
        self.values.get(name).copied().unwrap_or(0)
    }

    /// Every statistic whose name begins so, with what follows the prefix.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
        self.values.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, *value)))
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
        newrelic.export.latency_ms.trace_api: P0(nan,1) P25(nan,1.025)\nserver.version: \"9\"\n";

    #[test]
    fn sums_up_where_the_records_are() {
        let accounting = Stats::parse(STATS).accounting("spans");
        assert_eq!(accounting, Accounting { recorded: 9, exported: 5, dropped: 3, queued: 1 });
        assert!(accounting.balances());
        assert!(!Accounting { queued: 0, ..accounting }.balances());
    }

    #[test]
    fn takes_numbers_only() {
        let stats = Stats::parse(STATS);
        assert_eq!(stats.value("cluster.bank.upstream_rq_200"), 3);
        assert_eq!(stats.below("newrelic.export.").count(), 0);
        assert_eq!(stats.value("newrelic.transactions.recorded"), 0);
    }
}
