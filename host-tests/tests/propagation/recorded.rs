//! What the records say of the trace and of the caller: the intrinsic attributes of New Relic's Transaction events and
//! spans, and their agent attributes about the caller.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    CLUSTER, Draws, ENTRY_ID, EXIT_ID, GUID, NEW_TRACE, PARENT, REQUEST, Seen, Setup, TRACE, TRACEPARENT, encode,
    event_api, finish, request, send, trace_api,
};

const STATE: &str = "a=1,777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900,b=2";
const PAYLOAD: &str = r#"{"v":[0,1],"d":{"ty":"Browser","ac":"4003","ap":"56","id":"Span","tx":"Guid","tr":"Ab12","pr":1.25,"sa":true,"ti":1749999999900,"tk":"777"}}"#;

/// Requests without a caller, with one that speaks only W3C, and with callers that bring New Relic's data.
fn callers() -> [(&'static str, Vec<(&'static str, String)>); 4] {
    [
        ("nobody", vec![]),
        ("W3C", vec![("traceparent", TRACEPARENT.to_owned()), ("tracestate", "a=1,b=2".to_owned())]),
        ("entry", vec![("traceparent", TRACEPARENT.to_owned()), ("tracestate", STATE.to_owned())]),
        ("payload", vec![("newrelic", encode(PAYLOAD))]),
    ]
}

fn exchange(lines: &[(&str, String)]) -> Seen {
    let draws = if lines.is_empty() { Draws::new_trace() } else { Draws::gateway() };
    Setup::gateway().sampler("always_on").draws(draws).exchange(lines)
}

/// Checks an attribute for each of the callers of [`callers`]; null where it must be absent.
fn assert_by_caller(what: &str, read: impl Fn(&Seen) -> Value, expected: [Value; 4]) {
    for ((caller, lines), expected) in callers().into_iter().zip(expected) {
        assert_eq!(read(&exchange(&lines)), expected, "{what}, {caller}");
    }
}

fn of_transaction(key: &'static str) -> impl Fn(&Seen) -> Value {
    move |seen| seen.transaction()[key].clone()
}

fn of_entry_span(key: &'static str) -> impl Fn(&Seen) -> Value {
    move |seen| seen.entry_span()["attributes"][key].clone()
}

fn of_exit_span(key: &'static str) -> impl Fn(&Seen) -> Value {
    move |seen| seen.exit_span()["attributes"][key].clone()
}

fn always(value: impl Into<Value>) -> [Value; 4] {
    let value = value.into();
    [value.clone(), value.clone(), value.clone(), value]
}

const NONE: Value = Value::Null;

#[test]
fn a_transaction_tells_its_identity() {
    assert_by_caller("guid", of_transaction("guid"), always(GUID));
    assert_by_caller(
        "traceId",
        of_transaction("traceId"),
        [json!(NEW_TRACE), json!(TRACE), json!(TRACE), json!("Ab12")],
    );
    assert_by_caller("priority", of_transaction("priority"), always(3));
    assert_by_caller("sampled", of_transaction("sampled"), always(true));
}

#[test]
fn a_transaction_tells_of_its_caller() {
    let data = |entry: Value, payload: Value| [NONE, NONE, entry, payload];
    assert_by_caller("parent.type", of_transaction("parent.type"), data(json!("App"), json!("Browser")));
    assert_by_caller("parent.account", of_transaction("parent.account"), data(json!("4002"), json!("4003")));
    assert_by_caller("parent.app", of_transaction("parent.app"), data(json!("55"), json!("56")));
    assert_by_caller("parentId", of_transaction("parentId"), data(json!("1122334455667788"), json!("Guid")));
    assert_by_caller("duration", of_transaction("parent.transportDuration"), data(json!(0.223), json!(0.223)));
    let https = json!("HTTPS");
    let transport = [NONE, https.clone(), https.clone(), https];
    assert_by_caller("parent.transportType", of_transaction("parent.transportType"), transport);
    let parents = [NONE, json!(PARENT), json!(PARENT), json!("Span")];
    assert_by_caller("parentSpanId", of_transaction("parentSpanId"), parents);
}

#[test]
fn every_span_tells_its_identity() {
    for (key, expected) in [("transactionId", json!(GUID)), ("priority", json!(3)), ("sampled", json!(true))] {
        assert_by_caller(key, of_entry_span(key), always(expected.clone()));
        assert_by_caller(key, of_exit_span(key), always(expected));
    }
    let traces = [json!(NEW_TRACE), json!(TRACE), json!(TRACE), json!("Ab12")];
    assert_by_caller("trace.id", |seen| seen.entry_span()["trace.id"].clone(), traces.clone());
    assert_by_caller("trace.id", |seen| seen.exit_span()["trace.id"].clone(), traces);
    assert_by_caller("id", |seen| seen.entry_span()["id"].clone(), always(ENTRY_ID));
    assert_by_caller("id", |seen| seen.exit_span()["id"].clone(), always(EXIT_ID));
}

#[test]
fn the_entry_span_tells_of_its_caller_and_the_exit_span_of_the_entry_span() {
    let parents = [NONE, json!(PARENT), json!(PARENT), json!("Span")];
    assert_by_caller("parent.id", of_entry_span("parent.id"), parents);
    assert_by_caller("parent.id", of_exit_span("parent.id"), always(ENTRY_ID));
    let trusted = [NONE, NONE, json!("aa11bb22cc33dd44"), NONE];
    assert_by_caller("trustedParentId", of_entry_span("trustedParentId"), trusted);
    let vendors = [NONE, json!("a,b"), json!("a,b"), NONE];
    assert_by_caller("tracingVendors", of_entry_span("tracingVendors"), vendors);
    assert_by_caller("nr.entryPoint", of_entry_span("nr.entryPoint"), always(true));
    let name = "WebTransaction/Envoy/GET /cart/*";
    assert_by_caller("transaction.name", of_entry_span("transaction.name"), always(name));
    assert_by_caller("name", of_transaction("name"), always(name));
    for key in ["trustedParentId", "tracingVendors", "nr.entryPoint", "transaction.name"] {
        assert_by_caller(key, of_exit_span(key), always(NONE));
    }
}

#[test]
fn what_tells_of_the_caller_on_a_span_is_no_intrinsic_and_so_can_be_excluded() {
    let setup =
        Setup::gateway().sampler("always_on").with("span_events.attributes.exclude", json!(["parent.*", "nr.*", "t*"]));
    let seen = setup.exchange(&[("traceparent", TRACEPARENT), ("tracestate", STATE)]);
    let entry = seen.entry_span();
    let attributes = entry["attributes"].as_object().expect("attributes are an object");
    for key in ["parent.type", "parent.account", "parent.app", "parent.transportType", "parent.transportDuration"] {
        assert!(!attributes.contains_key(key), "{key} is an agent attribute");
    }
    for key in ["parent.id", "nr.entryPoint", "transactionId", "transaction.name", "trustedParentId", "tracingVendors"]
    {
        assert!(attributes.contains_key(key), "{key} is an intrinsic attribute");
    }
}

#[test]
fn nothing_of_cross_application_tracing_is_recorded_and_nothing_obsolete() {
    let mut lines = callers()[2].1.clone();
    lines.push(("x-newrelic-id", "MTIzNA==".to_owned()));
    lines.push(("x-newrelic-transaction", "WyJhIl0=".to_owned()));
    let seen = exchange(&lines);
    let records = [seen.transaction(), seen.entry_span()["attributes"].clone(), seen.exit_span()["attributes"].clone()];
    for key in [
        "nr.guid",
        "nr.tripId",
        "nr.pathHash",
        "nr.referringPathHash",
        "nr.referringTransactionGuid",
        "nr.alternatePathHashes",
        "client_cross_process_id",
        "cross_process_id",
        "grandparentId",
    ] {
        assert!(records.iter().all(|record| record.get(key).is_none()), "{key}");
    }
}

#[test]
fn the_transport_is_told_by_the_inbound_scheme() {
    for (scheme, expected) in
        [("http", "HTTP"), ("https", "HTTPS"), ("kafka", "Unknown"), ("HTTPS", "Unknown"), ("", "Unknown")]
    {
        let mut envoy = Setup::gateway().sampler("always_on").start();
        let stream = envoy.stream().open();
        let mut headers = request(&[("traceparent", TRACEPARENT), ("tracestate", STATE)]);
        headers.replace(":scheme", scheme);
        let upstream = send(&mut envoy, stream, &headers);
        finish(&mut envoy, stream, "200");
        let seen = Seen::new(envoy, stream, upstream);
        assert_eq!(seen.transaction()["parent.transportType"], expected, "{scheme:?}");
        assert_eq!(seen.entry_span()["attributes"]["parent.transportType"], expected, "{scheme:?}");
    }
}

#[test]
fn a_caller_whose_clock_is_ahead_took_no_time() {
    for (sent_ms, expected) in
        [("1749999999900", 0.223), ("1750000000123", 0.0), ("1750000099999", 0.0), ("9223372036854775807", 0.0)]
    {
        let state = format!("777@nr=0-0-4002-55---1-1.5-{sent_ms}");
        let seen = exchange(&[("traceparent", TRACEPARENT.to_owned()), ("tracestate", state)]);
        assert_eq!(seen.transaction()["parent.transportDuration"], expected, "{sent_ms}");
        let json = PAYLOAD.replace("1749999999900", sent_ms);
        assert_eq!(
            exchange(&[("newrelic", encode(json))]).transaction()["parent.transportDuration"],
            expected,
            "{sent_ms}"
        );
    }
    let json = PAYLOAD.replace("1749999999900", "-5");
    let duration = exchange(&[("newrelic", encode(json))]).transaction()["parent.transportDuration"].as_f64();
    assert!(duration.is_some_and(|seconds| seconds >= 0.0), "{duration:?}");
}

#[test]
fn a_transaction_that_is_not_sampled_is_recorded_all_the_same() {
    let setup = Setup::gateway().sampler("always_off").draws(Draws::gateway());
    let seen = setup.exchange(&[("traceparent", TRACEPARENT), ("tracestate", STATE)]);
    let transaction = seen.transaction();
    assert_eq!((&transaction["sampled"], &transaction["priority"]), (&json!(false), &json!(0)));
    assert_eq!((&transaction["guid"], &transaction["parentId"]), (&json!(GUID), &json!("1122334455667788")));
    assert_eq!(seen.spans(), Vec::<Value>::new());
}

#[test]
fn bytes_of_a_caller_that_are_no_text_are_repaired_in_records() {
    let json = [&br#"{"v":[0,1],"d":{"ty":"App","ac":"777","ap":"\u0000\"\\5","id":"\u2028x","tr":"ab","ti":1}}"#[..]]
        .concat();
    let seen = exchange(&[("newrelic", encode(json))]);
    assert_eq!(seen.transaction()["parent.app"], "\u{0}\"\\5");
    assert_eq!(seen.transaction()["parentSpanId"], "\u{2028}x");
    let mut envoy = Setup::gateway().sampler("always_on").start();
    let stream = envoy.stream().open();
    let upstream = send(&mut envoy, stream, &request(&[("user-agent", b"\xff\xfe")]));
    finish(&mut envoy, stream, "200");
    let seen = Seen::new(envoy, stream, upstream);
    assert_eq!(seen.transaction()["request.headers.userAgent"], "test,\u{fffd}\u{fffd}");
}

#[test]
fn exporters_over_http_carry_the_same_records_as_the_log() {
    let exporter = |exporter: Value| {
        let mut exporter = exporter;
        exporter["gzip"] = json!(false);
        exporter
    };
    let setup = Setup::gateway().sampler("always_on").draws(Draws::gateway()).with(
        "exporters",
        json!({ "log": {}, "trace_api": exporter(trace_api()), "event_api": exporter(event_api()) }),
    );
    let mut seen = setup.exchange(&callers()[2].1);
    seen.envoy.advance(Duration::from_secs(6)).expect("no tick traps");
    let calls = seen.envoy.http_calls();
    let body = |path: &str| {
        let call =
            calls.iter().find(|call| call.headers.text(":path").as_deref() == Some(path)).expect("records are sent");
        assert_eq!(call.cluster, CLUSTER);
        serde_json::from_slice::<Value>(&call.body).expect("a body is JSON")
    };
    let mut spans = body("/trace/v1")[0]["spans"].as_array().cloned().unwrap_or_default();
    let mut logged = seen.spans();
    spans.sort_by_key(|span| span["id"].to_string());
    logged.sort_by_key(|span| span["id"].to_string());
    assert_eq!(spans, logged);
    assert_eq!(body("/v1/accounts/4001/events"), json!(seen.transactions()));
}

#[test]
fn request_attributes_do_not_depend_on_the_caller() {
    assert_by_caller("request.method", of_transaction("request.method"), always(REQUEST[0].1));
    assert_by_caller("request.uri", of_transaction("request.uri"), always("/cart/17"));
}
