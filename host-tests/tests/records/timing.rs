//! When spans start and how long they take.

use std::time::Duration;

use host_tests::{Ending, Envoy, Phase, StreamId, Value as Property};
use serde_json::{Value, json};

use crate::harness::{Exchange, assert_has, gateway, start_ms};
use crate::support::{NOW_MS, REQUEST, Seen, Setup, refused_stream};

const MILLISECOND: Duration = Duration::from_millis(1);

/// A request that waits 3 ms in front of this filter, 5 ms for the answer, and 7 ms for its end.
fn slow(setup: &Setup, backend_latency_ns: Option<i64>) -> Seen {
    let mut envoy = setup.start();
    let stream = envoy.stream();
    let stream = match backend_latency_ns {
        Some(latency) => stream.property_from(Phase::Log, "response.backend_latency", Property::Duration(latency)),
        None => stream.without_property("response.backend_latency"),
    };
    let stream = stream.open();
    envoy.advance(3 * MILLISECOND).expect("no tick traps");
    let upstream = envoy.request_headers(stream, REQUEST).expect("no trap");
    pass(&mut envoy, stream);
    Seen::new(envoy, stream, upstream)
}

fn pass(envoy: &mut Envoy, stream: StreamId) {
    envoy.advance(5 * MILLISECOND).expect("no tick traps");
    envoy.response_headers(stream, [(":status", "200")]).expect("no trap");
    envoy.advance(7 * MILLISECOND).expect("no tick traps");
    envoy.end(stream, Ending::complete()).expect("no trap");
}

#[test]
fn both_spans_begin_when_the_request_reaches_the_filter() {
    let seen = slow(&gateway(), None);
    assert_eq!(seen.entry_span()["timestamp"], NOW_MS + 3);
    assert_has(&seen.entry_span(), &json!({ "duration.ms": 12.0 }), "entry span");
    assert_eq!(seen.exit_span()["timestamp"], NOW_MS + 3);
    assert_has(&seen.exit_span(), &json!({ "duration.ms": 12.0 }), "exit span");
    let transaction = seen.transaction();
    assert_eq!((&transaction["timestamp"], &transaction["duration"]), (&json!(NOW_MS + 3), &json!(0.012)));
}

#[test]
fn a_gateways_exit_span_takes_as_long_as_the_upstream() {
    let seen = slow(&gateway(), Some(4_250_000));
    assert_has(&seen.exit_span(), &json!({ "duration.ms": 4.25, "envoy.backend_latency_ms": 4.25 }), "exit span");
    assert_eq!(seen.transaction()["externalDuration"], 0.00425);
    let impossible = slow(&gateway(), Some(99_000_000));
    assert_has(&impossible.exit_span(), &json!({ "duration.ms": 12.0 }), "no call is longer than its request");
}

#[test]
fn an_outbound_proxys_span_lasts_until_the_caller_has_its_answer() {
    let seen = slow(&Setup::role("outbound").sampler("always_on"), Some(4_250_000));
    assert_has(&seen.exit_span(), &json!({ "duration.ms": 12.0, "envoy.backend_latency_ms": 4.25 }), "exit span");
}

#[test]
fn a_call_without_an_answer_lasts_until_its_end() {
    let mut envoy = gateway().start();
    let stream = envoy.stream().open();
    let upstream = envoy.request_headers(stream, REQUEST).expect("no trap");
    envoy.advance(Duration::from_secs(15)).expect("no tick traps");
    envoy.end(stream, Ending::upstream_timeout()).expect("no trap");
    let seen = Seen::new(envoy, stream, upstream);
    assert_has(&seen.exit_span(), &json!({ "duration.ms": 15_000.0, "envoy.backend_latency_ms": null }), "exit span");
}

#[test]
fn a_clock_that_is_set_back_makes_no_negative_duration() {
    let mut envoy = gateway().start();
    let stream = envoy.stream().open();
    let upstream = envoy.request_headers(stream, REQUEST).expect("no trap");
    envoy.set_wall_clock_ns((NOW_MS - 60_000) * 1_000_000);
    envoy.response_headers(stream, [(":status", "200")]).expect("no trap");
    envoy.end(stream, Ending::complete()).expect("no trap");
    let seen = Seen::new(envoy, stream, upstream);
    assert_has(&seen.entry_span(), &json!({ "duration.ms": 0.0 }), "entry span");
    assert_eq!(seen.transaction()["duration"], 0.0);
}

#[test]
fn a_request_that_an_earlier_filter_answers_takes_as_long_as_that_filter() {
    let mut envoy = gateway().start();
    let stream = envoy.stream().received(REQUEST).open();
    envoy.advance(9 * MILLISECOND).expect("no tick traps");
    envoy.end(stream, Ending::earlier_filter_replied(403, "ext_authz_denied")).expect("no trap");
    let seen = Seen::new(envoy, stream, host_tests::HeaderMap::new());
    assert_eq!(seen.entry_span()["timestamp"], start_ms());
    assert_has(&seen.entry_span(), &json!({ "duration.ms": 9.0 }), "entry span");
}

#[test]
fn a_long_connection_has_its_whole_length() {
    let upgrade = Exchange { ending: Ending::websocket_closed(), ..Exchange::answered("101") };
    let day = |envoy: &mut Envoy, _| envoy.set_wall_clock_ns((NOW_MS + 86_400_000) * 1_000_000);
    let seen = upgrade.run_with(&gateway(), crate::harness::plain, day);
    assert_has(&seen.entry_span(), &json!({ "duration.ms": 86_400_040.0 }), "entry span");
}

#[test]
fn an_earlier_filters_refusal_has_one_record_of_each_kind() {
    let mut envoy = gateway().start();
    let ending = Ending::earlier_filter_replied(403, "rbac_access_denied");
    let stream = refused_stream::<&str, &str>(&mut envoy, &[], ending);
    let seen = Seen::new(envoy, stream, host_tests::HeaderMap::new());
    assert_eq!((seen.spans().len(), seen.transactions().len()), (1, 1));
    assert_eq!(seen.spans()[0]["attributes"]["parent.id"], Value::Null);
}
