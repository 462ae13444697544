//! One hop in every encoding: `POST /cart/17?x=1` from a caller of a trusted account reaches this filter at
//! 1750000000124 ms, a millisecond after the proxy; the proxy sends it on to `http://payments:8443`, which answers 503
//! after 40.5 ms; from here on the whole takes 41 ms.

use std::collections::BTreeMap;
use std::time::Duration;

use host_tests::{Ending, Envoy, HeaderMap, Phase, Value as Property};
use serde_json::{Value, json};

use crate::harness::{only_body, posting};
use crate::protobuf::Message;
use crate::support::{Draws, EXIT_ID, GUID, Setup, TRACE};

const ENTRY_ID: &str = "7a6b5c4d3e2f1001";
const NAME: &str = "WebTransaction/Envoy/POST /cart/*";
const BACKEND_NS: i64 = 40_500_000;

const REQUEST: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/cart/17?x=1"),
    (":authority", "shop.example"),
    ("traceparent", "00-c0a8017e5d3b4f2226e1d47b08aa3f5c-b7d20c4e19f86a35-01"),
    (
        "tracestate",
        "vend1=q9/Zx.7,777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-2.0381479-1749999999900 , zeta=4*k",
    ),
];

/// Sends the request through a gateway with this exporter.
fn hop(exporters: Value) -> Envoy {
    let draws = Draws::default().hex(GUID).hex(ENTRY_ID).hex(EXIT_ID);
    let setup = Setup::gateway().with("app_name", "edge-proxy").with("exporters", exporters).draws(draws);
    let mut envoy = setup.start();
    let latency = Property::Duration(BACKEND_NS);
    let stream = envoy.stream().property_from(Phase::Log, "response.backend_latency", latency).open();
    envoy.advance(Duration::from_millis(1)).expect("no tick traps");
    envoy.request_headers(stream, REQUEST).expect("the filter does not trap");
    let routed = |headers: &mut HeaderMap| headers.replace(":authority", "payments:8443");
    envoy.change_request_headers(stream, routed).expect("the stream is there");
    envoy.advance(Duration::from_millis(41)).expect("no tick traps");
    envoy.response_headers(stream, [(":status", "503")]).expect("the filter does not trap");
    envoy.end(stream, Ending::complete()).expect("the filter does not trap");
    envoy
}

/// `found` has every member of `expected`, objects below included; arrays and other values are equal.
fn assert_contains(found: &Value, expected: &Value, path: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            for (key, value) in expected {
                let place = format!("{path}.{key}");
                assert_contains(found.get(key).unwrap_or_else(|| panic!("no {place} in {found:?}")), value, &place);
            }
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{path}");
            for (position, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_contains(found, expected, &format!("{path}[{position}]"));
            }
        }
        _ => assert!(is_same(found, expected), "{path}: {found} instead of {expected}"),
    }
}

/// JSON has one kind of number: `42` and `42.0` are the same.
fn is_same(found: &Value, expected: &Value) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
        _ => found == expected,
    }
}

fn expected_entry() -> Value {
    json!({
        "id": ENTRY_ID, "trace.id": TRACE, "timestamp": 1_750_000_000_124_u64,
        "attributes": {
            "name": NAME, "duration.ms": 41.0, "parent.id": "b7d20c4e19f86a35", "span.kind": "server",
            "category": "generic", "nr.entryPoint": true, "transaction.name": NAME,
            "transactionId": GUID, "priority": 2.038148, "sampled": true, "trustedParentId": "aa11bb22cc33dd44",
            "tracingVendors": "vend1,zeta", "request.method": "POST", "request.uri": "/cart/17",
            "http.statusCode": 503, "error.class": "503", "error.message": "Service Unavailable",
            "parent.type": "App", "parent.account": "4002", "parent.app": "55", "parent.transportType": "HTTPS",
            "parent.transportDuration": 0.224,
        },
    })
}

fn expected_exit() -> Value {
    json!({
        "id": EXIT_ID, "trace.id": TRACE, "timestamp": 1_750_000_000_124_u64,
        "attributes": {
            "name": "External/payments:8443/envoy/POST", "duration.ms": 40.5, "parent.id": ENTRY_ID,
            "span.kind": "client", "category": "http", "component": "envoy", "transactionId": GUID,
            "priority": 2.038148, "sampled": true, "http.url": "http://payments:8443/cart/17", "http.method": "POST",
            "http.statusCode": 503, "server.address": "payments", "server.port": 8443,
        },
    })
}

#[test]
fn the_trace_api_gets_the_hop_in_new_relics_words() {
    let mut envoy = hop(posting(&["trace_api"]));
    let body: Value = serde_json::from_slice(&only_body(&mut envoy)).expect("JSON");
    let expected = json!([{
        "common": { "attributes": {
            "service.name": "edge-proxy", "host": "test-node", "instrumentation.provider": "envoy-newrelic-filter",
        } },
        "spans": [expected_entry(), expected_exit()],
    }]);
    assert_contains(&body, &expected, "body");
    let exit = &body[0]["spans"][1]["attributes"];
    for absent in ["nr.entryPoint", "error.class", "error.message", "transaction.name", "parent.type"] {
        assert_eq!(exit[absent], Value::Null, "{absent}");
    }
}

#[test]
fn the_log_gets_the_objects_of_the_apis() {
    let envoy = hop(json!({ "log": {} }));
    let spans = crate::support::records(&envoy, "span");
    assert_contains(&Value::Array(spans), &json!([expected_entry(), expected_exit()]), "spans");
    let transactions = crate::support::records(&envoy, "transaction");
    assert_contains(&Value::Array(transactions), &json!([expected_event()]), "transactions");
}

fn expected_event() -> Value {
    json!({
        "eventType": "Transaction", "name": NAME, "timestamp": 1_750_000_000_124_u64, "duration": 0.041,
        "appName": "edge-proxy", "error": true, "guid": GUID, "traceId": TRACE, "priority": 2.038148, "sampled": true,
        "parent.type": "App", "parent.account": "4002", "parent.app": "55", "parent.transportType": "HTTPS",
        "parent.transportDuration": 0.224, "parentId": "1122334455667788", "parentSpanId": "b7d20c4e19f86a35",
        "request.method": "POST", "request.uri": "/cart/17", "http.statusCode": 503,
        "externalCallCount": 1, "externalDuration": 0.0405,
    })
}

#[test]
fn the_event_api_gets_a_flat_transaction() {
    let mut envoy = hop(posting(&["event_api"]));
    let body: Value = serde_json::from_slice(&only_body(&mut envoy)).expect("JSON");
    assert_contains(&body, &json!([expected_event()]), "body");
    let event = body[0].as_object().expect("an event is an object");
    assert!(event.values().all(|value| !value.is_object() && !value.is_array()), "{event:?}");
}

#[test]
fn a_priority_has_six_decimals_at_most_in_every_body() {
    for exporter in ["trace_api", "event_api"] {
        let body = String::from_utf8(only_body(&mut hop(posting(&[exporter])))).expect("JSON is UTF-8");
        assert!(body.contains("\"priority\":2.038148,") || body.contains("\"priority\":2.038148}"), "{body}");
    }
}

/// A span as OTLP carries it, whatever the encoding.
#[derive(Debug, PartialEq)]
struct OtlpSpan {
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    name: String,
    kind: u64,
    start_ns: u64,
    end_ns: u64,
    flags: u64,
    trace_state: String,
    status: (u64, String),
    attributes: BTreeMap<String, Value>,
}

/// Resource attributes, scope name and version, spans.
type Otlp = (BTreeMap<String, Value>, [String; 2], Vec<OtlpSpan>);

fn otlp_json(body: &[u8]) -> Otlp {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let [resource_spans] = &body["resourceSpans"].as_array().expect("a list")[..] else { panic!("{body}") };
    let [scope_spans] = &resource_spans["scopeSpans"].as_array().expect("a list")[..] else { panic!("{body}") };
    let scope = ["name", "version"].map(|key| text(&scope_spans["scope"][key]));
    let spans = scope_spans["spans"].as_array().expect("a list").iter().map(json_span).collect();
    (json_attributes(&resource_spans["resource"]["attributes"]), scope, spans)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn digits(value: &Value) -> u64 {
    value.as_str().expect("64-bit integers are text").parse().expect("digits")
}

fn json_span(span: &Value) -> OtlpSpan {
    OtlpSpan {
        trace_id: text(&span["traceId"]),
        span_id: text(&span["spanId"]),
        parent_span_id: text(&span["parentSpanId"]),
        name: text(&span["name"]),
        kind: span["kind"].as_u64().expect("an enumeration is a number"),
        start_ns: digits(&span["startTimeUnixNano"]),
        end_ns: digits(&span["endTimeUnixNano"]),
        flags: span["flags"].as_u64().unwrap_or(0),
        trace_state: text(&span["traceState"]),
        status: (span["status"]["code"].as_u64().unwrap_or(0), text(&span["status"]["message"])),
        attributes: json_attributes(&span["attributes"]),
    }
}

fn json_attributes(list: &Value) -> BTreeMap<String, Value> {
    let value = |value: &Value| match value.as_object().and_then(|object| object.iter().next()) {
        Some((kind, number)) if kind == "intValue" => json!(digits(number)),
        Some((_, value)) => value.clone(),
        None => panic!("an attribute without a value"),
    };
    let list = list.as_array().expect("a list");
    list.iter().map(|pair| (text(&pair["key"]), value(&pair["value"]))).collect()
}

/// Field numbers: `opentelemetry/proto/{collector/trace,trace,resource,common}/v1/*.proto`.
fn otlp_protobuf(body: &[u8]) -> Otlp {
    let resource_spans = Message::parse(body).message(1);
    let scope_spans = resource_spans.message(2);
    let scope = scope_spans.message(1);
    let spans = scope_spans.messages(2).iter().map(protobuf_span).collect();
    (protobuf_attributes(&resource_spans.message(1).messages(1)), [scope.text(1), scope.text(2)], spans)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn protobuf_span(span: &Message) -> OtlpSpan {
    let status = span.messages(15).into_iter().next().unwrap_or_default();
    OtlpSpan {
        trace_id: hex(&span.bytes(1)),
        span_id: hex(&span.bytes(2)),
        parent_span_id: hex(&span.bytes(4)),
        name: span.text(5),
        kind: span.number(6).unwrap_or(0),
        start_ns: span.number(7).unwrap_or(0),
        end_ns: span.number(8).unwrap_or(0),
        flags: span.number(16).unwrap_or(0),
        trace_state: span.text(3),
        status: (status.number(3).unwrap_or(0), status.text(2)),
        attributes: protobuf_attributes(&span.messages(9)),
    }
}

fn protobuf_attributes(pairs: &[Message]) -> BTreeMap<String, Value> {
    let value = |any: &Message| match (any.number(2), any.number(3), any.number(4)) {
        (Some(truth), None, None) => json!(truth == 1),
        (None, Some(number), None) => json!(number),
        (None, None, Some(bits)) => json!(f64::from_bits(bits)),
        (None, None, None) => json!(any.text(1)),
        several => panic!("an attribute has one value: {several:?}"),
    };
    pairs.iter().map(|pair| (pair.text(1), value(&pair.message(2)))).collect()
}

/// Asserts what every OTLP encoding of the hop says.
fn assert_otlp((resource, scope, spans): &Otlp) {
    assert_eq!(resource["service.name"], "edge-proxy");
    assert_eq!(resource["host.name"], "test-node");
    assert_eq!(scope, &["envoy-newrelic-filter".to_owned(), env!("CARGO_PKG_VERSION").to_owned()]);
    let [entry, exit] = &spans[..] else { panic!("{spans:?}") };
    let common = [
        ("transactionId", json!(GUID)),
        ("priority", json!(2.038148)),
        ("sampled", json!(true)),
        ("http.request.method", json!("POST")),
        ("http.response.status_code", json!(503)),
    ];
    let of_entry = [
        ("url.path", json!("/cart/17")),
        ("nr.entryPoint", json!(true)),
        ("transaction.name", json!(NAME)),
        ("trustedParentId", json!("aa11bb22cc33dd44")),
        ("tracingVendors", json!("vend1,zeta")),
        ("parent.type", json!("App")),
        ("parent.account", json!("4002")),
        ("parent.app", json!("55")),
        ("parent.transportType", json!("HTTPS")),
        ("parent.transportDuration", json!(0.224)),
    ];
    let of_exit = [
        ("url.full", json!("http://payments:8443/cart/17")),
        ("server.address", json!("payments")),
        ("server.port", json!(8443)),
    ];
    for (span, own) in [(entry, &of_entry[..]), (exit, &of_exit[..])] {
        for (name, value) in common.iter().chain(own) {
            let found = span.attributes.get(*name).unwrap_or_else(|| panic!("no {name} in {span:?}"));
            assert!(is_same(found, value), "{name}: {found} instead of {value}");
        }
        for doubled in ["request.method", "request.uri", "http.statusCode", "http.url", "http.method", "span.kind"] {
            assert!(!span.attributes.contains_key(doubled), "{doubled} is OpenTelemetry's under another name");
        }
        assert_eq!(span.status, (2, String::new()));
        assert_eq!(span.flags & 1, 1, "the trace is sampled");
        assert_eq!(span.trace_id, TRACE);
        let sent = "777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-1-2.038148-1750000000124,vend1=q9/Zx.7,zeta=4*k";
        assert_eq!(span.trace_state, sent);
    }
    let identity = |span: &OtlpSpan| (span.span_id.clone(), span.parent_span_id.clone(), span.name.clone(), span.kind);
    let entry_identity = (ENTRY_ID.to_owned(), "b7d20c4e19f86a35".to_owned(), "POST /cart/*".to_owned(), 2);
    assert_eq!(identity(entry), entry_identity);
    assert_eq!(identity(exit), (EXIT_ID.to_owned(), ENTRY_ID.to_owned(), "POST".to_owned(), 3));
    assert_eq!((entry.start_ns, entry.end_ns), (1_750_000_000_124_000_000, 1_750_000_000_165_000_000));
    assert_eq!((exit.start_ns, exit.end_ns), (1_750_000_000_124_000_000, 1_750_000_000_164_500_000));
}

fn otlp(encoding: &str) -> Otlp {
    let mut exporters = posting(&["otlp"]);
    exporters["otlp"]["encoding"] = json!(encoding);
    let body = only_body(&mut hop(exporters));
    if encoding == "json" { otlp_json(&body) } else { otlp_protobuf(&body) }
}

#[test]
fn otlp_as_json_has_the_hop_in_opentelemetrys_words() {
    assert_otlp(&otlp("json"));
}

#[test]
fn otlp_as_protobuf_has_the_hop_in_opentelemetrys_words() {
    assert_otlp(&otlp("protobuf"));
}

#[test]
fn both_encodings_of_otlp_say_the_same() {
    assert_eq!(otlp("json"), otlp("protobuf"));
}

#[test]
fn a_trace_id_that_is_not_of_32_digits_is_kept_for_new_relic_and_padded_for_otlp() {
    let payload = r#"{"v":[0,1],"d":{"ty":"App","ac":"4002","ap":"55","id":"AA11bb22cc33dd44","tr":"4Ad91cE07b35F268","pr":1.5,"sa":true,"ti":1749999999900,"tk":"777"}}"#;
    let setup = Setup::gateway().with("exporters", posting(&["trace_api", "otlp"]));
    let mut seen = setup.exchange(&[("newrelic", crate::support::encode(payload))]);
    let posts = crate::harness::flush(&mut seen.envoy);
    let [trace_api, otlp] = &posts[..] else { panic!("{posts:?}") };
    let spans: Value = serde_json::from_slice(&trace_api.body).expect("JSON");
    assert_eq!(spans[0]["spans"][0]["trace.id"], "4Ad91cE07b35F268");
    assert_eq!(spans[0]["spans"][0]["attributes"]["parent.id"], "AA11bb22cc33dd44");
    let (_, _, spans) = otlp_json(&otlp.body);
    assert_eq!(spans[0].trace_id, "00000000000000004ad91ce07b35f268");
    assert_eq!(spans[0].parent_span_id, "aa11bb22cc33dd44");
}
