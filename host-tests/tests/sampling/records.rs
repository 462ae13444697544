//! What a decision means for headers, spans and transactions.

use std::time::Duration;

use host_tests::{Direction, Envoy};
use serde_json::{Value, json};

use crate::harness::{
    builder, configuration, counted_decisions, entry, is_sampled, module, plugin, records, request, root, send, w3c,
    with,
};

fn sections(sampler: &str) -> Value {
    json!({ "root": sampler, "remote_parent_sampled": sampler, "remote_parent_not_sampled": sampler })
}

#[test]
fn a_trace_that_is_not_sampled_has_headers_and_a_transaction_but_no_span() {
    for (sampler, sampled, spans, priority) in [("always_on", true, 2, 3), ("always_off", false, 0, 0)] {
        for caller in [root(), w3c("00"), w3c("01"), entry("01", "1", "1.7")] {
            let mut envoy = builder(&configuration(&sections(sampler))).start().unwrap();
            let seen = send(&mut envoy, &caller);
            assert_eq!(is_sampled(&seen.upstream), sampled);
            for name in ["traceparent", "tracestate", "newrelic"] {
                assert_eq!(seen.upstream.all(name).len(), 1, "{name}");
            }
            assert_eq!(seen.spans.len(), spans);
            let [transaction] = &seen.transactions[..] else { panic!("{:?}", seen.transactions) };
            assert_eq!((&transaction["sampled"], &transaction["priority"]), (&json!(sampled), &json!(priority)));
            envoy.advance(Duration::from_secs(1)).unwrap();
            for name in ["newrelic.spans.started", "newrelic.spans.recorded"] {
                assert_eq!(envoy.counter(name), spans as u64, "{name}");
            }
            assert_eq!(envoy.counter("newrelic.transactions.recorded"), 1);
        }
    }
}

#[test]
fn without_span_events_the_decision_is_still_made_and_sent_on() {
    let configuration = with(&configuration(&json!({})), &json!({ "span_events": { "enabled": false } }));
    let mut envoy = builder(&configuration).start().unwrap();
    let seen = send(&mut envoy, &root());
    assert!(is_sampled(&seen.upstream));
    assert_eq!((seen.spans.len(), &seen.transactions[0]["sampled"]), (0, &json!(true)));
    assert_eq!(counted_decisions(&mut envoy), [1, 0]);
}

#[test]
fn without_distributed_tracing_nobody_decides_and_nothing_is_sent_on() {
    let disabled = json!({ "enabled": false, "sampler": sections("always_on") });
    let configuration = with(&configuration(&json!({})), &json!({ "distributed_tracing": disabled }));
    let mut envoy = builder(&configuration).start().unwrap();
    let seen = send(&mut envoy, &root());
    for name in ["traceparent", "tracestate", "newrelic"] {
        assert!(!seen.upstream.contains(name), "{name}");
    }
    assert_eq!(seen.spans.len(), 0);
    let [transaction] = &seen.transactions[..] else { panic!("{:?}", seen.transactions) };
    for name in ["guid", "traceId", "priority", "sampled"] {
        assert_eq!(transaction.get(name), None, "{name}");
    }
    assert_eq!(counted_decisions(&mut envoy), [0, 0]);
}

#[test]
fn excluded_requests_use_nothing_of_the_target() {
    let more = json!({ "exclude": [{ "path": "/cart/*" }] });
    let configuration = with(&configuration(&json!({ "adaptive_sampling_target": 1 })), &more);
    let mut envoy = builder(&configuration).start().unwrap();
    let excluded = envoy.stream().exchange(request(&w3c("01")), [(":status", "200")]).unwrap();
    assert_eq!(excluded.upstream.text("traceparent").unwrap(), w3c("01")[0].1);
    assert_eq!(counted_decisions(&mut envoy), [0, 0]);
    let mut other = request(&root());
    other.replace(":path", "/");
    let decided = [other.clone(), other]
        .map(|headers| is_sampled(&envoy.stream().exchange(headers, [(":status", "200")]).unwrap().upstream));
    assert_eq!(decided, [true, false]);
}

#[test]
fn every_role_decides_for_new_traces_and_follows_its_caller() {
    for (role, spans) in [("inbound", 1), ("outbound", 1), ("gateway", 2)] {
        let configuration = with(&configuration(&json!({ "adaptive_sampling_target": 1 })), &json!({ "role": role }));
        let mut envoy = builder(&configuration).start().unwrap();
        for (caller, sampled) in
            [(root(), true), (root(), false), (entry("00", "1", "1.5"), true), (entry("01", "0", "0.5"), false)]
        {
            let seen = send(&mut envoy, &caller);
            assert_eq!(is_sampled(&seen.upstream), sampled, "{role} {caller:?}");
            assert_eq!(seen.spans.len(), if sampled { spans } else { 0 }, "{role} {caller:?}");
        }
        assert_eq!(counted_decisions(&mut envoy), [1, 1], "{role}");
    }
}

#[test]
fn a_trace_is_decided_once_on_its_way_through_one_proxy() {
    let listeners = [("in", Direction::Inbound, "inbound"), ("out", Direction::Outbound, "outbound")];
    let plugins = listeners.map(|(listener, direction, role)| {
        let configuration = with(&configuration(&json!({ "adaptive_sampling_target": 2 })), &json!({ "role": role }));
        plugin(&configuration).listener(listener, direction)
    });
    let start = plugins.into_iter().fold(Envoy::builder(module()), host_tests::Builder::plugin);
    let mut envoy = start.workers(2).start().unwrap();
    let mut sampled = Vec::new();
    for _ in 0..5 {
        let arriving = envoy.stream().listener("in").exchange(request(&root()), [(":status", "200")]).unwrap();
        let tracing = ["traceparent", "tracestate", "newrelic"];
        let copied = tracing.map(|name| (name, arriving.upstream.text(name).unwrap().into_owned())).to_vec();
        let leaving =
            envoy.stream().worker(1).listener("out").exchange(request(&copied), [(":status", "200")]).unwrap();
        assert_eq!(is_sampled(&leaving.upstream), is_sampled(&arriving.upstream));
        sampled.push(is_sampled(&arriving.upstream));
    }
    assert_eq!(sampled, [true, true, false, false, false]);
    assert_eq!(records(&envoy.logs(), "span ").len(), 4);
    assert_eq!(counted_decisions(&mut envoy), [2, 3]);
}
