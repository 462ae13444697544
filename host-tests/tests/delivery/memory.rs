//! How much memory a worker's VM takes while its receivers fail. Linear memory never shrinks, so that its size at the end
//! is its peak.

use host_tests::{Answer, Thread};
use serde_json::{Value, json};

use crate::harness::{TICK, and, requests, unlimited};
use crate::support::CLUSTER;

const MIB: usize = 1 << 20;

/// What the README states for a worker with the default settings: this much, and twice the bytes that each queue may
/// hold.
const BASE_BYTES: usize = 4 * MIB;

/// The default settings of an exporter, compression included.
fn settings(max_queue_bytes: usize) -> Value {
    let settings = json!({ "cluster": CLUSTER, "api_key": { "value": "test-key" } });
    and(settings, "max_queue_bytes", max_queue_bytes)
}

#[test]
fn a_worker_whose_receivers_fail_keeps_to_the_bound_that_the_readme_states() {
    for queue_bytes in [MIB, 4 * MIB] {
        let exporters = json!({ "trace_api": settings(queue_bytes), "event_api": settings(queue_bytes) });
        let mut envoy = unlimited(exporters).start();
        for second in 0..40 {
            requests(&mut envoy, 0, 500);
            envoy.advance(TICK).expect("no tick traps");
            // Receivers fail in every way in turn; what they get is offered again.
            let answer =
                [Answer::status(500), Answer::reset(), Answer::status(413), Answer::timeout()][second % 4].clone();
            envoy.answer_all(&answer).expect("the filter does not trap");
            envoy.clear_journal();
        }
        let memory = envoy.memory_bytes(Thread::Worker(0));
        let bound = BASE_BYTES + 2 * 2 * queue_bytes;
        assert!(memory <= bound, "{memory} bytes of {bound}, queues of {queue_bytes}");
        let dropped = envoy.counter("newrelic.spans.dropped.queue_bytes");
        assert!(dropped > 0, "the queue was never full, so that the bound is not proven");
    }
}
