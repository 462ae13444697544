//! What a decision asks of the host.

use std::collections::BTreeMap;
use std::time::Duration;

use host_tests::{Callback, Ending, Envoy};
use serde_json::{Value, json};

use crate::harness::{Lines, builder, configuration, entry, is_sampled, payload, request, root, w3c, with};

/// A proxy that records nothing of a trace that is not sampled.
fn start(sampler: &Value) -> Envoy {
    let spans_only = json!({ "role": "inbound", "transaction_events": { "enabled": false } });
    builder(&with(&configuration(sampler), &spans_only)).start().unwrap()
}

/// How often a request called each host function until it was sent upstream, but for the clock, and whether it is
/// sampled.
fn decide(envoy: &mut Envoy, caller: &Lines) -> (BTreeMap<&'static str, usize>, bool) {
    let stream = envoy.stream().open();
    let upstream = envoy.request_headers(stream, request(caller)).unwrap();
    let mut calls = envoy.host_calls_of(stream);
    calls.remove("proxy_get_current_time_nanoseconds");
    envoy.end(stream, Ending::complete()).unwrap();
    (calls, is_sampled(&upstream))
}

/// The calls of a request in which no sampler runs.
fn calls_without_a_decision() -> BTreeMap<&'static str, usize> {
    let mut envoy = start(&json!({ "full_granularity": { "enabled": false } }));
    // The first request of a worker also fetches random bytes.
    decide(&mut envoy, &root());
    let (calls, _) = decide(&mut envoy, &root());
    assert!(calls.keys().all(|name| name.contains("header_map")), "it reads and writes headers: {calls:?}");
    calls
}

/// A proxy whose adaptive sampler has used its target up, and a worker that knows.
fn used_up(target: u64) -> Envoy {
    let mut envoy = start(&json!({ "adaptive_sampling_target": target }));
    while decide(&mut envoy, &root()).1 {}
    envoy
}

#[test]
fn a_decision_that_is_not_sampled_asks_the_host_only_for_the_time() {
    let ratio = json!({ "root": { "trace_id_ratio_based": { "ratio": 1e-12 } } });
    let layers = json!({ "root": "always_off", "partial_granularity": { "enabled": true, "root": "always_off" } });
    let newrelic = payload("ab", &json!(false), &json!(0.5));
    let calls = calls_without_a_decision();
    for (why, mut envoy, caller) in [
        ("always off", start(&json!({ "root": "always_off" })), root()),
        ("always off twice", start(&layers), root()),
        ("ratio", start(&ratio), root()),
        ("inherited", start(&json!({})), entry("01", "0", "0.5")),
        ("inherited from newrelic", start(&json!({})), newrelic),
        ("adaptive", used_up(1), root()),
        ("adaptive, large target", used_up(120), root()),
        ("adaptive, W3C caller", used_up(1), w3c("01")),
    ] {
        decide(&mut envoy, &caller);
        assert_eq!(decide(&mut envoy, &caller), (calls.clone(), false), "{why}");
    }
}

#[test]
fn an_adaptive_sampler_asks_nothing_in_later_periods_either() {
    let expected = calls_without_a_decision();
    let mut envoy = used_up(10);
    for _ in 0..300 {
        decide(&mut envoy, &root());
    }
    envoy.advance(Duration::from_mins(1)).unwrap();
    let mut sampled = 0;
    for _ in 0..300 {
        let (mut calls, is_sampled) = decide(&mut envoy, &root());
        // Once in about a hundred requests.
        calls.remove("random_get");
        if is_sampled {
            sampled += 1;
            assert_eq!((calls["proxy_get_shared_data"], calls["proxy_set_shared_data"]), (1, 1));
        } else {
            assert_eq!(calls, expected);
        }
    }
    assert!((1..=20).contains(&sampled), "{sampled}");
}

#[test]
fn samplers_without_a_target_never_touch_shared_data() {
    let ratio = json!({ "trace_id_ratio_based": { "ratio": 0.5 } });
    for sampler in [json!("always_on"), json!("always_off"), ratio] {
        let sections = json!({ "root": sampler, "remote_parent_sampled": sampler });
        let mut envoy = start(&sections);
        for caller in [root(), w3c("01"), entry("01", "1", "1.5"), root(), root(), root()] {
            let (calls, _) = decide(&mut envoy, &caller);
            assert!(!calls.keys().any(|name| name.contains("shared_data")), "{sampler}: {calls:?}");
        }
    }
}

#[test]
fn only_a_tick_tells_the_process_of_requests_that_were_not_sampled() {
    let mut envoy = used_up(10);
    envoy.clear_journal();
    for _ in 0..50 {
        decide(&mut envoy, &root());
    }
    let of_shared_data = |callback: &Callback| {
        callback.host_calls.iter().filter(|call| call.name.contains("shared_data")).map(|call| call.name).collect()
    };
    let by_callback = |envoy: &Envoy| -> Vec<(&str, Vec<&str>)> {
        let callbacks = envoy.callbacks().into_iter().map(|callback| (callback.name, of_shared_data(&callback)));
        callbacks.filter(|(_, calls): &(_, Vec<_>)| !calls.is_empty()).collect()
    };
    assert_eq!(by_callback(&envoy), []);
    envoy.advance(Duration::from_secs(1)).unwrap();
    let sampler_calls: Vec<_> = by_callback(&envoy).into_iter().map(|(name, _)| name).collect();
    assert_eq!(sampler_calls, ["proxy_on_tick"]);
    envoy.clear_journal();
    envoy.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(by_callback(&envoy), [], "an idle worker has nothing to tell");
}
