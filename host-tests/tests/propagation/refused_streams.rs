//! Streams that reach the filter only when they end: an earlier filter answered, or the codec refused the request.

use std::collections::BTreeSet;
use std::time::Duration;

use host_tests::Ending;
use serde_json::{Value, json};

use crate::support::{PARENT, Setup, TRACE, TRACEPARENT, counted, records, refused_stream, request, tick};

const STATE: &str = "a=1,777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900";

fn earlier_filter() -> Ending {
    Ending::earlier_filter_replied(403, "rbac_access_denied_matched_policy[none]")
}

#[test]
fn a_request_that_an_earlier_filter_answered_is_recorded_with_its_caller() {
    for role in ["inbound", "gateway"] {
        let mut envoy = Setup::role(role).start();
        refused_stream(&mut envoy, &[("traceparent", TRACEPARENT), ("tracestate", STATE)], earlier_filter());
        tick(&mut envoy);
        let (spans, transactions) = (records(&envoy, "span"), records(&envoy, "transaction"));
        assert_eq!((spans.len(), transactions.len()), (1, 1), "{role}: nothing was sent upstream");
        let (span, transaction) = (&spans[0], &transactions[0]);
        assert_eq!((&span["trace.id"], &span["attributes"]["parent.id"]), (&json!(TRACE), &json!(PARENT)), "{role}");
        assert_eq!(span["attributes"]["span.kind"], "server", "{role}");
        assert_eq!(span["attributes"]["http.statusCode"], 403, "{role}");
        assert_eq!(transaction["parent.account"], "4002", "{role}");
        assert_eq!(transaction["parentId"], "1122334455667788", "{role}");
        assert_eq!(transaction["priority"], 1.5, "{role}");
        assert_eq!(transaction["http.statusCode"], 403, "{role}");
    }
}

#[test]
fn headers_that_were_never_written_are_not_counted_as_created() {
    let mut envoy = Setup::gateway().start();
    refused_stream(&mut envoy, &[("traceparent", TRACEPARENT)], earlier_filter());
    tick(&mut envoy);
    let created =
        ["TraceContext/Create/Success", "TraceContext/Create/Exception", "DistributedTrace/CreatePayload/Success"];
    for name in created {
        assert_eq!(envoy.counter(&format!("newrelic.Supportability/{name}")), 0, "{name}");
    }
    assert_eq!(envoy.counter("newrelic.Supportability/TraceContext/Accept/Success"), 1);
    let refused = envoy.counters().into_iter().filter(|(name, count)| name.contains("host_refused") && *count > 0);
    assert_eq!(refused.collect::<Vec<_>>(), []);
}

#[test]
fn an_outbound_proxy_has_no_exit_span_for_a_request_that_never_left() {
    let mut envoy = Setup::role("outbound").start();
    refused_stream(&mut envoy, &[("traceparent", TRACEPARENT)], earlier_filter());
    tick(&mut envoy);
    assert_eq!(records(&envoy, "span"), Vec::<Value>::new());
    assert_eq!(records(&envoy, "transaction"), Vec::<Value>::new());
}

#[test]
fn a_request_that_the_codec_refused_leaves_nothing() {
    for role in ["inbound", "outbound", "gateway"] {
        let mut envoy = Setup::role(role).start();
        let stream = envoy.stream().open();
        envoy.end(stream, Ending::codec_error()).expect("the filter does not trap");
        tick(&mut envoy);
        assert_eq!(records(&envoy, "span"), Vec::<Value>::new());
        assert_eq!(records(&envoy, "transaction"), Vec::<Value>::new());
        let counted_now: Vec<_> =
            envoy.counters().into_iter().filter(|(name, count)| *count > 0 && !name.contains("Granularity")).collect();
        assert_eq!(counted_now, counted(&[]).into_iter().collect::<Vec<_>>(), "{role}");
    }
}

#[test]
fn a_stream_without_request_that_never_ended_properly_leaves_nothing() {
    let mut envoy = Setup::gateway().start();
    let stream = envoy.stream().open();
    envoy.end(stream, Ending::client_abort()).expect("the filter does not trap");
    assert_eq!(records(&envoy, "transaction"), Vec::<Value>::new());
}

#[test]
fn ids_differ_between_workers_that_only_ever_see_refused_streams() {
    let mut envoy = Setup::gateway().workers(4).sampler("always_on").start();
    let mut ids = BTreeSet::new();
    for worker in 0..4 {
        let stream = envoy.stream().worker(worker).received(request::<&str, &str>(&[])).open();
        envoy.end(stream, earlier_filter()).expect("the filter does not trap");
    }
    for span in records(&envoy, "span") {
        ids.insert(span["trace.id"].to_string());
    }
    assert_eq!(ids.len(), 4, "each worker starts a trace of its own: {ids:?}");
}

#[test]
fn the_default_sampler_counts_refused_streams_like_any_other() {
    let mut envoy = Setup::gateway().with("distributed_tracing.sampler.adaptive_sampling_target", 2).start();
    for _ in 0..5 {
        refused_stream::<&str, &str>(&mut envoy, &[], earlier_filter());
        envoy.advance(Duration::from_millis(10)).expect("no tick traps");
    }
    tick(&mut envoy);
    assert_eq!((records(&envoy, "span").len(), records(&envoy, "transaction").len()), (2, 5));
    assert_eq!(envoy.counter("newrelic.sampler.decisions.sampled"), 2);
    assert_eq!(envoy.counter("newrelic.sampler.decisions.not_sampled"), 3);
}
