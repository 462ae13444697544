//! Ids for access logs: filter state of the stream, readable there as `%FILTER_STATE(wasm.nr_trace_id:PLAIN)%`.

use host_tests::Envoy;
use serde_json::json;

use crate::harness::{Exchange, gateway};
use crate::support::{Seen, Setup, TRACE, TRACEPARENT};

const STATE: [&str; 3] = ["wasm.nr_trace_id", "wasm.nr_span_id", "wasm.nr_sampled"];

fn decorating(setup: Setup) -> Setup {
    setup.with("application_logging.local_decorating.enabled", true)
}

fn state(seen: &Seen) -> [Option<String>; 3] {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("ids are text");
    STATE.map(|name| seen.envoy.filter_state(seen.stream, name).map(text))
}

fn ids_sent(seen: &Seen) -> (String, String) {
    let traceparent = seen.traceparent();
    let fields: Vec<&str> = traceparent.split('-').collect();
    (fields[1].to_owned(), fields[2].to_owned())
}

#[test]
fn the_ids_are_those_sent_upstream_whatever_the_role_and_the_decision() {
    for role in ["gateway", "inbound", "outbound"] {
        for (sampler, sampled) in [("always_on", "true"), ("always_off", "false")] {
            let seen = Exchange::answered("200").run(&decorating(Setup::role(role).sampler(sampler)));
            let (trace_id, span_id) = ids_sent(&seen);
            assert_eq!(state(&seen), [Some(trace_id), Some(span_id), Some(sampled.to_owned())], "{role} {sampler}");
        }
    }
}

#[test]
fn a_callers_trace_is_the_one_in_the_log() {
    let seen = Exchange::answered("200").request(&[("traceparent", TRACEPARENT)]).run(&decorating(gateway()));
    assert_eq!(state(&seen)[0].as_deref(), Some(TRACE));
}

#[test]
fn the_ids_are_there_before_the_request_is_answered() {
    let mut envoy: Envoy = decorating(gateway()).start();
    let stream = envoy.stream().open();
    envoy.request_headers(stream, crate::support::REQUEST).expect("no trap");
    assert!(STATE.iter().all(|name| envoy.filter_state(stream, name).is_some()));
}

#[test]
fn without_the_setting_nothing_is_set() {
    let seen = Exchange::answered("200").run(&gateway());
    assert_eq!(state(&seen), [None, None, None]);
    assert_eq!(seen.envoy.host_calls_of(seen.stream).get("proxy_set_property"), None);
}

#[test]
fn an_excluded_request_has_none() {
    let setup = decorating(gateway()).with("exclude", json!([{ "path": "/cart/*" }]));
    let seen = Exchange::answered("200").run(&setup);
    assert_eq!(state(&seen), [None, None, None]);
}
