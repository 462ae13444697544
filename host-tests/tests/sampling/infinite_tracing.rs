//! Every span to a trace observer, while the decision still goes out in the headers.

use std::time::Duration;

use host_tests::{Answer, Envoy, HttpCall, LogLevel, Thread};
use serde_json::{Value, json};

use crate::harness::{
    Seen, builder, configuration, counted_decisions, entry, is_sampled, lines_of, quarters, root, send, w3c, with,
};

/// An observer, and what else the configuration has.
fn observed(sampler: &Value, more: &Value) -> Value {
    let observer = json!({ "cluster": "observer", "host": "observer.example", "gzip": false, "queue_size": 100 });
    with(&with(&configuration(sampler), &json!({ "infinite_tracing": observer, "exporters": {} })), more)
}

fn start(configuration: &Value) -> Envoy {
    let start = builder(configuration).random(Thread::Worker(0), quarters());
    start.cluster("observer").cluster("traces").start().unwrap()
}

fn body(call: &HttpCall) -> Vec<Value> {
    let body: Value = serde_json::from_slice(&call.body).unwrap();
    body[0]["spans"].as_array().unwrap().clone()
}

/// The spans of all requests to a cluster so far; the calls are answered.
fn spans_at(envoy: &mut Envoy, cluster: &str) -> Vec<Value> {
    envoy.advance(Duration::from_secs(6)).unwrap();
    let calls: Vec<_> = envoy.pending_calls().into_iter().filter(|call| call.cluster == cluster).collect();
    for call in &calls {
        assert!(envoy.answer(call.id, Answer::status(202)).unwrap());
    }
    calls.iter().flat_map(body).collect()
}

fn sections(sampler: &str) -> Value {
    json!({ "root": sampler, "remote_parent_sampled": sampler, "remote_parent_not_sampled": sampler })
}

/// Flag, priority in the tracestate entry.
fn decision(seen: &Seen) -> (bool, String) {
    let tracestate = seen.upstream.text("tracestate").unwrap();
    (is_sampled(&seen.upstream), tracestate.split('-').nth(7).unwrap().to_owned())
}

#[test]
fn every_span_goes_to_the_observer_whatever_was_decided() {
    for (why, sampler, caller, sampled, priority) in [
        ("always off", sections("always_off"), root(), false, "0"),
        ("always on", sections("always_on"), root(), true, "3"),
        ("the caller's no", json!({}), entry("01", "0", "1.4"), false, "1.4"),
        ("the caller's yes", json!({}), entry("00", "1", "1.7"), true, "1.7"),
        ("adaptive", json!({}), w3c("01"), true, "2.25"),
    ] {
        let mut envoy = start(&observed(&sampler, &json!({})));
        let seen = send(&mut envoy, &caller);
        assert_eq!(decision(&seen), (sampled, priority.to_owned()), "{why}");
        let spans = spans_at(&mut envoy, "observer");
        assert_eq!(spans.len(), 2, "{why}");
        for span in spans {
            assert_eq!(span["attributes"]["sampled"], json!(sampled), "{why}");
            assert_eq!(span["attributes"]["nr.pg"], Value::Null, "{why}");
        }
    }
}

#[test]
fn the_adaptive_target_still_holds_for_what_is_sent_on() {
    let mut envoy = start(&observed(&json!({ "adaptive_sampling_target": 3 }), &json!({})));
    let sampled = (0..20).filter(|_| is_sampled(&send(&mut envoy, &root()).upstream)).count();
    assert_eq!(sampled, 3);
    assert_eq!(counted_decisions(&mut envoy), [3, 17]);
    assert_eq!(spans_at(&mut envoy, "observer").len(), 40);
}

#[test]
fn the_request_is_that_of_the_trace_api_at_the_observers_address() {
    let mut envoy = start(&observed(&json!({}), &json!({})));
    send(&mut envoy, &root());
    envoy.advance(Duration::from_secs(1)).unwrap();
    let [call] = &envoy.pending_calls()[..] else { panic!("{}", envoy.transcript()) };
    for (name, value) in [
        (":method", "POST"),
        (":authority", "observer.example"),
        (":path", "/trace/v1"),
        ("content-type", "application/json"),
        ("data-format", "newrelic"),
        ("data-format-version", "1"),
        ("api-key", "a key"),
    ] {
        assert_eq!(call.headers.text(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn partial_granularity_is_off() {
    for partial_type in ["reduced", "essential", "compact"] {
        let partial = json!({ "enabled": true, "type": partial_type, "root": "always_on" });
        let sampler = json!({ "root": "always_off", "partial_granularity": partial });
        let mut envoy = start(&observed(&sampler, &json!({})));
        let seen = send(&mut envoy, &root());
        assert_eq!(decision(&seen), (false, "0".to_owned()), "{partial_type}");
        for span in spans_at(&mut envoy, "observer") {
            let is_whole = span["attributes"].get("http.statusCode").is_some();
            assert!(is_whole && span["attributes"].get("nr.pg").is_none(), "{partial_type}: {span}");
        }
        let thinned = envoy.counters().into_iter().filter(|(name, count)| name.contains("/Span/") && *count > 0);
        assert_eq!(thinned.count(), 0, "{partial_type}");
    }
}

#[test]
fn other_exporters_keep_to_what_is_sampled_and_the_trace_api_gets_none_twice() {
    let http = json!({ "cluster": "traces", "gzip": false });
    let exporters = json!({ "log": {}, "trace_api": http });
    let sampler = json!({ "adaptive_sampling_target": 1 });
    let mut envoy = start(&observed(&sampler, &json!({ "exporters": exporters })));
    let warnings = lines_of(&envoy, LogLevel::Warn);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("trace_api"), "{warnings:?}");
    let logged: Vec<_> = (0..3).map(|_| send(&mut envoy, &root()).spans.len()).collect();
    assert_eq!(logged, [2, 0, 0]);
    envoy.advance(Duration::from_secs(6)).unwrap();
    assert!(envoy.http_calls().iter().all(|call| call.cluster == "observer"), "{}", envoy.transcript());
    assert_eq!(spans_at(&mut envoy, "observer").len(), 6);

    let otlp = json!({ "cluster": "traces", "gzip": false, "encoding": "json" });
    let mut envoy = start(&observed(&sampler, &json!({ "exporters": { "otlp": otlp } })));
    assert!(!envoy.logged(LogLevel::Warn, ""), "{}", envoy.transcript());
    for _ in 0..3 {
        send(&mut envoy, &root());
    }
    envoy.advance(Duration::from_secs(6)).unwrap();
    let calls: Vec<_> = envoy.pending_calls().into_iter().filter(|call| call.cluster == "traces").collect();
    let [call] = &calls[..] else { panic!("{}", envoy.transcript()) };
    let body: Value = serde_json::from_slice(&call.body).unwrap();
    assert_eq!(body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().len(), 2);
    assert_eq!(spans_at(&mut envoy, "observer").len(), 6);
}

#[test]
fn the_queue_has_a_bound_and_new_spans_are_what_does_not_fit() {
    let mut configuration = observed(&json!({}), &json!({ "role": "inbound" }));
    configuration["infinite_tracing"]["queue_size"] = json!(5);
    let mut envoy = start(&configuration);
    let trace = |number: u32| vec![("traceparent", format!("00-{number:032x}-c3d4e5f60718293a-01"))];
    for number in 1..=8 {
        send(&mut envoy, &trace(number));
    }
    envoy.advance(Duration::from_secs(1)).unwrap();
    let [call] = &envoy.pending_calls()[..] else { panic!("{}", envoy.transcript()) };
    let sent: Vec<_> = body(call).iter().map(|span| span["trace.id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(sent, (1..=5).map(|number| format!("{number:032x}")).collect::<Vec<_>>());
    // Spans in flight are still queued.
    send(&mut envoy, &trace(9));
    envoy.advance(Duration::from_millis(20)).unwrap();
    envoy.answer(call.id, Answer::status(202)).unwrap();
    send(&mut envoy, &trace(10));
    envoy.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(envoy.counter("newrelic.spans.recorded"), 10);
    assert_eq!(envoy.counter("newrelic.spans.exported"), 5);
    assert_eq!(envoy.counter("newrelic.spans.dropped.queue_size"), 4);
    assert_eq!(envoy.gauge("newrelic.queue.spans"), Some(1));
}

#[test]
fn there_is_no_reservoir_and_no_budget_a_minute() {
    let more = json!({ "role": "inbound", "span_events": { "max_samples_stored": 3 } });
    let mut envoy = start(&observed(&json!({}), &more));
    for _ in 0..20 {
        send(&mut envoy, &root());
    }
    assert_eq!(spans_at(&mut envoy, "observer").len(), 20);
    assert_eq!(envoy.counter("newrelic.spans.dropped.reservoir"), 0);
}

#[test]
fn without_spans_an_observer_is_as_if_it_were_not_there() {
    let partial = json!({ "enabled": true, "root": "always_on" });
    let sampler = json!({ "root": "always_off", "partial_granularity": partial });
    let mut envoy = start(&observed(&sampler, &json!({ "span_events": { "enabled": false } })));
    let seen = send(&mut envoy, &root());
    envoy.advance(Duration::from_secs(2)).unwrap();
    assert!(envoy.http_calls().is_empty());
    // Partial granularity is off only where an observer wants whole traces.
    assert_eq!(decision(&seen), (true, "2".to_owned()));

    let disabled = json!({ "distributed_tracing": { "enabled": false, "sampler": sampler } });
    let mut envoy = start(&observed(&json!({}), &disabled));
    assert!(!send(&mut envoy, &root()).upstream.contains("traceparent"));
    envoy.advance(Duration::from_secs(2)).unwrap();
    assert!(envoy.http_calls().is_empty());
}
