//! What became of the records that a variant makes, as their sender and their receiver tell it.

use envoy_demo::stats::Stats;
use serde::Serialize;

use crate::variant::{Delivers, Exporter};

/// What the head of an exporter's request may take, in bytes.
const EXPORT_HEAD_BYTES_MAX: u64 = 2048;

/// What became of records since Envoy's start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Delivery {
    /// Requests that Envoy received.
    pub requests: u64,
    /// Made.
    pub recorded: u64,
    /// Accepted by the receiver, as the exporter says.
    pub exported: u64,
    /// Given up.
    pub dropped: u64,
    /// Waiting or on their way.
    pub queued: u64,
    /// Requests to the receiver that succeeded, as the exporter says.
    pub posts: u64,
    /// Bytes of bodies, as the exporter says; with heads for Envoy's tracer.
    pub bytes: u64,
    /// Requests that the receiver has answered.
    pub sink_posts: u64,
    /// Bytes that the receiver has read, with heads.
    pub sink_bytes: u64,
}

impl Delivery {
    /// Reads the sender's statistics; `sink` is what the receiver has counted: requests and bytes.
    pub fn of(delivers: &Delivers, stats: &Stats, sink: [u64; 2]) -> Self {
        let [sink_posts, sink_bytes] = sink;
        let requests = stats.value("http.measured.downstream_rq_total");
        let name = delivers.exporter.name();
        if delivers.exporter == Exporter::Opentelemetry {
            let exported = stats.value("tracing.opentelemetry.spans_sent");
            let dropped = stats.value("tracing.opentelemetry.spans_dropped");
            let recorded = requests * delivers.per_request.unwrap_or(0);
            let queued = recorded.saturating_sub(exported + dropped);
            return Self {
                requests,
                recorded,
                exported,
                dropped,
                queued,
                // The tracer does not tell; its cluster does, which nobody else uses.
                posts: stats.value("cluster.sink_otlp.upstream_rq_2xx"),
                bytes: stats.value("cluster.sink_otlp.upstream_cx_tx_bytes_total"),
                sink_posts,
                sink_bytes,
            };
        }
        let accounting = stats.accounting(delivers.records.name());
        Self {
            requests,
            recorded: accounting.recorded,
            exported: accounting.exported,
            dropped: accounting.dropped,
            queued: accounting.queued,
            posts: stats.value(&format!("newrelic.export.requests.{name}.2xx")),
            bytes: stats.value(&format!("newrelic.export.bytes.{name}")),
            sink_posts,
            sink_bytes,
        }
    }

    /// Whether nothing more is to be expected.
    pub fn is_done(&self, delivers: &Delivers) -> bool {
        self.faults(delivers).is_empty()
    }

    /// What is wrong with it.
    pub fn faults(&self, delivers: &Delivers) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        let Self { recorded, exported, dropped, queued, .. } = *self;
        check(
            recorded == exported + dropped + queued,
            format!("{recorded} recorded, but {exported} exported, {dropped} dropped and {queued} queued"),
        );
        if let Some(per_request) = delivers.per_request {
            let expected = self.requests * per_request;
            check(recorded == expected, format!("{recorded} recorded, but {expected} expected"));
            check(dropped == 0, format!("{dropped} dropped"));
            check(queued <= delivers.left_over_max, format!("{queued} not delivered"));
        }
        if delivers.exporter.sink().is_some() {
            let (posts, sink_posts) = (self.posts, self.sink_posts);
            check(posts == sink_posts, format!("{posts} posts sent, {sink_posts} received"));
            let most = self.bytes + self.sink_posts * EXPORT_HEAD_BYTES_MAX;
            check(
                (self.bytes..=most).contains(&self.sink_bytes),
                format!("{} bytes sent, {} received", self.bytes, self.sink_bytes),
            );
        }
        faults
    }

    /// Bytes of one exported record; `None` when there is none.
    pub fn bytes_per_record(&self) -> Option<f64> {
        (self.exported > 0 && self.bytes > 0).then(|| self.bytes as f64 / self.exported as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variant::Records;

    const FILTER: &str = "http.measured.downstream_rq_total: 100\nwasmcustom.newrelic.spans.recorded: 100\n\
        wasmcustom.newrelic.spans.exported: 100\nwasmcustom.newrelic.export.requests.trace_api.2xx: 2\n\
        wasmcustom.newrelic.export.bytes.trace_api: 9000\n";
    const TRACER: &str = "http.measured.downstream_rq_total: 52\ntracing.opentelemetry.spans_sent: 50\n\
        cluster.sink_otlp.upstream_rq_2xx: 10\ncluster.sink_otlp.upstream_cx_tx_bytes_total: 40000\n";

    fn all(exporter: Exporter, left_over_max: u64) -> Delivers {
        Delivers { exporter, records: Records::Spans, per_request: Some(1), left_over_max }
    }

    fn faults(delivers: &Delivers, stats: &str, sink: [u64; 2]) -> Vec<String> {
        Delivery::of(delivers, &Stats::parse(stats), sink).faults(delivers)
    }

    #[test]
    fn what_has_arrived_completely_has_no_fault() {
        let delivers = all(Exporter::TraceApi, 0);
        assert_eq!(faults(&delivers, FILTER, [2, 9400]), [""; 0]);
        let delivery = Delivery::of(&delivers, &Stats::parse(FILTER), [2, 9400]);
        assert_eq!(delivery.bytes_per_record(), Some(90.0));
        assert_eq!(faults(&all(Exporter::Opentelemetry, 4), TRACER, [10, 40000]), [""; 0]);
    }

    #[test]
    fn each_loss_is_a_fault_of_its_own() {
        let filter = all(Exporter::TraceApi, 0);
        let dropped = FILTER.replace("exported: 100", "exported: 99") + "newrelic.spans.dropped.rejected: 1\n";
        let queued = FILTER.replace("exported: 100", "exported: 99") + "newrelic.queue.spans: 1\n";
        for (stats, sink, why) in [
            (FILTER.replace("recorded: 100", "recorded: 99"), [2, 9400], "99 recorded"),
            (FILTER.replace("exported: 100", "exported: 98"), [2, 9400], "98 exported"),
            (dropped, [2, 9400], "1 dropped"),
            (queued, [2, 9400], "1 not delivered"),
            (FILTER.to_owned(), [3, 9400], "3 received"),
            (FILTER.to_owned(), [2, 8999], "8999 received"),
            (FILTER.to_owned(), [2, 90_000], "90000 received"),
        ] {
            let faults = faults(&filter, &stats, sink);
            assert!(faults.iter().any(|fault| fault.contains(why)), "{why}: {faults:?}");
        }
        assert_eq!(faults(&all(Exporter::Opentelemetry, 1), TRACER, [10, 40000]), ["2 not delivered"]);
    }

    #[test]
    fn without_a_number_for_each_request_only_the_accounting_must_balance() {
        let some = Delivers { per_request: None, ..all(Exporter::TraceApi, 0) };
        let stats = FILTER.replace("recorded: 100", "recorded: 140") + "newrelic.spans.dropped.reservoir: 40\n";
        assert_eq!(faults(&some, &stats, [2, 9400]), [""; 0]);
        assert_eq!(faults(&some, &FILTER.replace("recorded: 100", "recorded: 140"), [2, 9400]).len(), 1);
    }
}
