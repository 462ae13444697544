//! One request in every encoding, and what a reader of OpenTelemetry's makes of it.
//!
//! `POST /cart/17?x=1` from a trusted caller arrives at 1750000000123 ms; the proxy forwards it to
//! `http://payments:8443`, which answers 503 after 40.5 ms; the whole takes 42 ms.

use crate::harness::{Call, Worker, common, config, event_api, http, trace_api};
use newrelic_tracing::config::{Config, OtlpEncoding};
use newrelic_tracing::id::{ParentId, SpanId, TraceId, TraceIdentity};
use newrelic_tracing::newrelic::priority::Priority;
use newrelic_tracing::record::{
    Attribute, Key, Name, Origin, OtlpStatus, SpanKind, SpanRecord, TransactionRecord, Value, keys,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::json;

const TRACE: &[u8; 32] = b"c0a8017e5d3b4f2226e1d47b08aa3f5c";
const ARRIVAL_NS: u64 = 1_750_000_000_123_000_000;
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn known(key: &'static Key, value: Value<'static>) -> Attribute<'static> {
    Attribute { name: Name::Known(key), value }
}

fn text(key: &'static Key, value: &'static str) -> Attribute<'static> {
    known(key, Value::Text(value.as_bytes()))
}

fn span_id(digits: &[u8; 16]) -> SpanId {
    SpanId::from_hex(digits).unwrap()
}

fn priority() -> Priority {
    Priority::parse(b"2.038148").unwrap()
}

fn entry_attributes() -> Vec<Attribute<'static>> {
    vec![
        text(&keys::SPAN_KIND, "server"),
        text(&keys::CATEGORY, "generic"),
        known(&keys::ENTRY_POINT, Value::Bool(true)),
        text(&keys::TRANSACTION_NAME, "WebTransaction/Envoy/POST /cart/*"),
        text(&keys::TRANSACTION_ID, "9f8e7d6c5b4a3921"),
        known(&keys::PRIORITY, Value::Priority(priority())),
        known(&keys::SAMPLED, Value::Bool(true)),
        text(&keys::TRUSTED_PARENT_ID, "aa11bb22cc33dd44"),
        text(&keys::TRACING_VENDORS, "vend1,zeta"),
        text(&keys::REQUEST_METHOD, "POST"),
        text(&keys::REQUEST_URI, "/cart/17"),
        known(&keys::HTTP_STATUS_CODE, Value::Int(503)),
        text(&keys::ERROR_CLASS, "503"),
        text(&keys::ERROR_MESSAGE, "Service Unavailable"),
        text(&keys::PARENT_TYPE, "App"),
        text(&keys::PARENT_ACCOUNT, "4002"),
        text(&keys::PARENT_APP, "55"),
        text(&keys::PARENT_TRANSPORT_TYPE, "HTTPS"),
        known(&keys::PARENT_TRANSPORT_DURATION, Value::Float(0.223)),
    ]
}

fn exit_attributes() -> Vec<Attribute<'static>> {
    vec![
        text(&keys::SPAN_KIND, "client"),
        text(&keys::CATEGORY, "http"),
        text(&keys::COMPONENT, "envoy"),
        text(&keys::TRANSACTION_ID, "9f8e7d6c5b4a3921"),
        known(&keys::PRIORITY, Value::Priority(priority())),
        known(&keys::SAMPLED, Value::Bool(true)),
        text(&keys::HTTP_URL, "http://payments:8443/cart/17"),
        text(&keys::HTTP_METHOD, "POST"),
        known(&keys::HTTP_STATUS_CODE, Value::Int(503)),
        text(&keys::SERVER_ADDRESS, "payments"),
        known(&keys::SERVER_PORT, Value::Int(8443)),
    ]
}

/// The entry span with the parent and the trace given.
fn entry<'a>(
    trace: &'a TraceIdentity,
    parent: Option<&'a ParentId>,
    attributes: &'a [Attribute<'a>],
) -> SpanRecord<'a> {
    SpanRecord {
        kind: SpanKind::Server,
        trace,
        span_id: span_id(b"7a6b5c4d3e2f1001"),
        parent,
        name: b"WebTransaction/Envoy/POST /cart/*",
        otlp_name: b"POST /cart/*",
        start_ns: ARRIVAL_NS,
        duration_ns: 42_000_000,
        priority: priority(),
        sampled: true,
        origin: Origin::Local,
        otlp_status: OtlpStatus::Error(None),
        trace_state: b"33@nr=0-0-33-5043-7a6b5c4d3e2f1001,vend1=x",
        attributes,
    }
}

/// Both spans of the request, through one exporter.
fn hop(config: &Config) -> Call {
    let trace = TraceIdentity::from(TraceId::from_hex(TRACE).unwrap());
    let caller = ParentId::Span(span_id(b"b7d20c4e19f86a35"));
    let entry_id = ParentId::Span(span_id(b"7a6b5c4d3e2f1001"));
    let (entry_attributes, exit_attributes) = (entry_attributes(), exit_attributes());
    let entry = entry(&trace, Some(&caller), &entry_attributes);
    let exit = SpanRecord {
        kind: SpanKind::Client,
        span_id: span_id(b"c3d4e5f60718293a"),
        parent: Some(&entry_id),
        name: b"External/payments:8443/envoy/POST",
        otlp_name: b"POST",
        start_ns: ARRIVAL_NS + 1_000_000,
        duration_ns: 40_500_000,
        attributes: &exit_attributes,
        ..entry
    };
    let mut worker = Worker::new(config);
    for record in [entry, exit] {
        assert_eq!(worker.exporters.offer_span(&record, &mut worker.stats), None);
    }
    worker.flush().remove(0)
}

fn otlp(encoding: OtlpEncoding) -> Config {
    let mut config = config();
    config.exporters.otlp = Some((encoding, http()));
    config
}

/// One span as an OTLP receiver reads it.
fn received(encoding: OtlpEncoding, record: &SpanRecord<'_>) -> Span {
    let mut worker = Worker::new(&otlp(encoding));
    assert_eq!(worker.exporters.offer_span(record, &mut worker.stats), None);
    let call = worker.flush().remove(0);
    let mut request = read(encoding, &call.body);
    request.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0)
}

fn read(encoding: OtlpEncoding, body: &[u8]) -> ExportTraceServiceRequest {
    match encoding {
        OtlpEncoding::Protobuf => ExportTraceServiceRequest::decode(body).unwrap(),
        OtlpEncoding::Json => serde_json::from_slice(body).unwrap(),
    }
}

fn attributes(span: &Span) -> Vec<(&str, &AnyValue)> {
    let attributes = span.attributes.iter();
    attributes.map(|pair| (&*pair.key, pair.value.as_ref().unwrap().value.as_ref().unwrap())).collect()
}

const ENCODINGS: [OtlpEncoding; 2] = [OtlpEncoding::Protobuf, OtlpEncoding::Json];

#[test]
fn the_trace_api_gets_the_hop_in_new_relics_words() {
    let expected = json!([{
        "common": {"attributes": {
            "service.name": "edge-proxy", "host": "proxy-1", "instrumentation.provider": "envoy-newrelic-filter",
            "instrumentation.name": "envoy", "instrumentation.version": VERSION,
            "collector.name": "envoy-newrelic-filter", "collector.version": VERSION,
        }},
        "spans": [
            {"id": "7a6b5c4d3e2f1001", "trace.id": "c0a8017e5d3b4f2226e1d47b08aa3f5c", "timestamp": 1_750_000_000_123_u64,
             "attributes": {
                "name": "WebTransaction/Envoy/POST /cart/*", "duration.ms": 42.0, "parent.id": "b7d20c4e19f86a35",
                "span.kind": "server", "category": "generic", "nr.entryPoint": true,
                "transaction.name": "WebTransaction/Envoy/POST /cart/*", "transactionId": "9f8e7d6c5b4a3921",
                "priority": 2.038148, "sampled": true, "trustedParentId": "aa11bb22cc33dd44",
                "tracingVendors": "vend1,zeta", "request.method": "POST", "request.uri": "/cart/17",
                "http.statusCode": 503, "error.class": "503", "error.message": "Service Unavailable",
                "parent.type": "App", "parent.account": "4002", "parent.app": "55", "parent.transportType": "HTTPS",
                "parent.transportDuration": 0.223,
            }},
            {"id": "c3d4e5f60718293a", "trace.id": "c0a8017e5d3b4f2226e1d47b08aa3f5c", "timestamp": 1_750_000_000_124_u64,
             "attributes": {
                "name": "External/payments:8443/envoy/POST", "duration.ms": 40.5, "parent.id": "7a6b5c4d3e2f1001",
                "span.kind": "client", "category": "http", "component": "envoy", "transactionId": "9f8e7d6c5b4a3921",
                "priority": 2.038148, "sampled": true, "http.url": "http://payments:8443/cart/17",
                "http.method": "POST", "http.statusCode": 503, "server.address": "payments", "server.port": 8443,
            }},
        ],
    }]);
    assert_eq!(hop(&trace_api(http())).json(), expected);
}

#[test]
fn the_event_api_gets_the_transaction_as_one_flat_event() {
    let attributes = [
        known(&keys::ERROR, Value::Bool(true)),
        text(&keys::GUID, "9f8e7d6c5b4a3921"),
        text(&keys::TRACE_ID, "5b8aa5a2d2c872e8321cf37308d69df2"),
        known(&keys::PRIORITY, Value::Priority(priority())),
        known(&keys::SAMPLED, Value::Bool(true)),
        text(&keys::PARENT_TYPE, "App"),
        text(&keys::PARENT_ACCOUNT, "4002"),
        text(&keys::PARENT_APP, "55"),
        text(&keys::PARENT_TRANSPORT_TYPE, "HTTPS"),
        known(&keys::PARENT_TRANSPORT_DURATION, Value::Float(0.223)),
        text(&keys::PARENT_ID, "1122334455667788"),
        text(&keys::PARENT_SPAN_ID, "051581bf3cb55c13"),
        text(&keys::REQUEST_METHOD, "POST"),
        text(&keys::REQUEST_URI, "/cart/17"),
        known(&keys::HTTP_STATUS_CODE, Value::Int(503)),
    ];
    let record = TransactionRecord {
        name: b"WebTransaction/Envoy/POST /cart/*",
        start_ns: ARRIVAL_NS,
        duration_ns: 42_000_000,
        priority: priority(),
        origin: Origin::Local,
        attributes: &attributes,
    };
    let mut worker = Worker::new(&event_api(http()));
    assert_eq!(worker.exporters.offer_transaction(&record, &mut worker.stats), None);
    let expected = concat!(
        r#"[{"eventType":"Transaction","name":"WebTransaction/Envoy/POST /cart/*","timestamp":1750000000123,"#,
        r#""duration":0.042,"appName":"edge-proxy","error":true,"guid":"9f8e7d6c5b4a3921","#,
        r#""traceId":"5b8aa5a2d2c872e8321cf37308d69df2","priority":2.038148,"sampled":true,"parent.type":"App","#,
        r#""parent.account":"4002","parent.app":"55","parent.transportType":"HTTPS","parent.transportDuration":0.223,"#,
        r#""parentId":"1122334455667788","parentSpanId":"051581bf3cb55c13","request.method":"POST","#,
        r#""request.uri":"/cart/17","http.statusCode":503}]"#,
    );
    assert_eq!(String::from_utf8(worker.flush()[0].body.clone()).unwrap(), expected);
}

#[test]
fn otlp_json_gets_the_hop_in_opentelemetrys_words() {
    let body = hop(&otlp(OtlpEncoding::Json)).json();
    let resource = &body["resourceSpans"][0];
    assert_eq!(
        resource["resource"]["attributes"],
        json!([
            {"key": "service.name", "value": {"stringValue": "edge-proxy"}},
            {"key": "host.name", "value": {"stringValue": "proxy-1"}},
            {"key": "telemetry.sdk.language", "value": {"stringValue": "rust"}},
            {"key": "telemetry.sdk.name", "value": {"stringValue": "envoy-newrelic-filter"}},
            {"key": "telemetry.sdk.version", "value": {"stringValue": VERSION}},
        ])
    );
    let scope = &resource["scopeSpans"][0];
    assert_eq!(scope["scope"], json!({"name": "envoy-newrelic-filter", "version": VERSION}));
    let string = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let expected = json!([
        {"traceId": "c0a8017e5d3b4f2226e1d47b08aa3f5c", "spanId": "7a6b5c4d3e2f1001", "parentSpanId": "b7d20c4e19f86a35",
         "traceState": "33@nr=0-0-33-5043-7a6b5c4d3e2f1001,vend1=x", "flags": 1, "name": "POST /cart/*", "kind": 2,
         "startTimeUnixNano": "1750000000123000000", "endTimeUnixNano": "1750000000165000000",
         "attributes": [
            string("category", "generic"),
            {"key": "nr.entryPoint", "value": {"boolValue": true}},
            string("transaction.name", "WebTransaction/Envoy/POST /cart/*"),
            string("transactionId", "9f8e7d6c5b4a3921"),
            {"key": "priority", "value": {"doubleValue": 2.038148}},
            {"key": "sampled", "value": {"boolValue": true}},
            string("trustedParentId", "aa11bb22cc33dd44"),
            string("tracingVendors", "vend1,zeta"),
            string("http.request.method", "POST"),
            string("url.path", "/cart/17"),
            {"key": "http.response.status_code", "value": {"intValue": "503"}},
            string("error.type", "503"),
            string("error.message", "Service Unavailable"),
            string("parent.type", "App"),
            string("parent.account", "4002"),
            string("parent.app", "55"),
            string("parent.transportType", "HTTPS"),
            {"key": "parent.transportDuration", "value": {"doubleValue": 0.223}},
         ], "status": {"code": 2}},
        {"traceId": "c0a8017e5d3b4f2226e1d47b08aa3f5c", "spanId": "c3d4e5f60718293a", "parentSpanId": "7a6b5c4d3e2f1001",
         "traceState": "33@nr=0-0-33-5043-7a6b5c4d3e2f1001,vend1=x", "flags": 1, "name": "POST", "kind": 3,
         "startTimeUnixNano": "1750000000124000000", "endTimeUnixNano": "1750000000164500000",
         "attributes": [
            string("category", "http"),
            string("component", "envoy"),
            string("transactionId", "9f8e7d6c5b4a3921"),
            {"key": "priority", "value": {"doubleValue": 2.038148}},
            {"key": "sampled", "value": {"boolValue": true}},
            string("url.full", "http://payments:8443/cart/17"),
            string("http.request.method", "POST"),
            {"key": "http.response.status_code", "value": {"intValue": "503"}},
            string("server.address", "payments"),
            {"key": "server.port", "value": {"intValue": "8443"}},
         ], "status": {"code": 2}},
    ]);
    assert_eq!(scope["spans"], expected);
}

#[test]
fn otlp_protobuf_is_the_same_message_as_otlp_json() {
    let [protobuf, json] = ENCODINGS.map(|encoding| read(encoding, &hop(&otlp(encoding)).body));
    assert_eq!(protobuf, json);
    assert_eq!(protobuf.resource_spans[0].scope_spans[0].spans.len(), 2);
    let span = &protobuf.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(span.trace_id, 0xc0a8_017e_5d3b_4f22_26e1_d47b_08aa_3f5c_u128.to_be_bytes());
    assert_eq!((span.kind, span.flags), (2, 1));
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 42_000_000);
}

#[test]
fn opentelemetrys_own_encoder_writes_the_same_bytes() {
    let body = hop(&otlp(OtlpEncoding::Protobuf)).body;
    assert_eq!(read(OtlpEncoding::Protobuf, &body).encode_to_vec(), body);
}

#[test]
fn a_trace_id_as_a_newrelic_header_spelt_it_stays_on_the_trace_api_and_is_padded_on_otlp() {
    let identity = TraceIdentity { id: TraceId::from_u128(0xabcd).unwrap(), received: Some("ABCD".into()) };
    let record = entry(&identity, None, &[]);
    let mut worker = Worker::new(&trace_api(http()));
    assert_eq!(worker.exporters.offer_span(&record, &mut worker.stats), None);
    assert_eq!(worker.flush()[0].json()[0]["spans"][0]["trace.id"], "ABCD");
    for encoding in ENCODINGS {
        assert_eq!(received(encoding, &record).trace_id, 0xabcd_u128.to_be_bytes());
    }
}

#[test]
fn a_parent_id_that_is_no_span_id_becomes_an_attribute_on_otlp() {
    let identity = TraceIdentity::from(TraceId::from_hex(TRACE).unwrap());
    for (text, id) in [
        ("b7d20c4e19f86a35", Some(0xb7d2_0c4e_19f8_6a35_u64)),
        ("B7D20C4E19F86A35", Some(0xb7d2_0c4e_19f8_6a35)),
        ("0000000000000000", None),
        ("b7d20c4e", None),
        ("b7d20c4e19f86a3g", None),
        ("no id \"at all\"", None),
    ] {
        let parent = ParentId::Text(text.into());
        for encoding in ENCODINGS {
            let span = received(encoding, &entry(&identity, Some(&parent), &[]));
            let expected = id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default();
            assert_eq!(span.parent_span_id, expected, "{text}");
            let foreign = AnyValue::StringValue(text.to_owned());
            let expected = if id.is_some() { vec![] } else { vec![("parent.id", &foreign)] };
            assert_eq!(attributes(&span), expected, "{text}");
        }
    }
}

#[test]
fn a_status_message_goes_out_only_when_there_is_one() {
    let identity = TraceIdentity::from(TraceId::from_hex(TRACE).unwrap());
    for (status, expected) in [
        (OtlpStatus::Unset, None),
        (OtlpStatus::Error(None), Some((2, ""))),
        (OtlpStatus::Error(Some(b"upstream_reset")), Some((2, "upstream_reset"))),
    ] {
        let record = SpanRecord { otlp_status: status, ..entry(&identity, None, &[]) };
        for encoding in ENCODINGS {
            let span = received(encoding, &record);
            let read = span.status.as_ref().map(|status| (status.code, status.message.as_str()));
            assert_eq!(read, expected);
        }
    }
}

#[test]
fn any_value_arrives_as_what_it_was() {
    let identity = TraceIdentity::from(TraceId::from_hex(TRACE).unwrap());
    let long = "ä".repeat(5000);
    let attributes_in = [
        Attribute { name: Name::User("negative"), value: Value::Int(-5) },
        Attribute { name: Name::User("least"), value: Value::Int(i64::MIN) },
        Attribute { name: Name::User("half"), value: Value::Float(0.5) },
        Attribute { name: Name::User("false"), value: Value::Bool(false) },
        Attribute { name: Name::User("broken"), value: Value::Text(b"a\xff\"\\\n\x01") },
        Attribute { name: Name::User("long"), value: Value::Text(long.as_bytes()) },
        Attribute { name: Name::User("empty"), value: Value::Text(b"") },
        Attribute { name: Name::User("nan"), value: Value::Float(f64::NAN) },
    ];
    let record = entry(&identity, None, &attributes_in);
    let cut = "ä".repeat(4095);
    for encoding in ENCODINGS {
        let span = received(encoding, &record);
        let expected = [
            ("negative", &AnyValue::IntValue(-5)),
            ("least", &AnyValue::IntValue(i64::MIN)),
            ("half", &AnyValue::DoubleValue(0.5)),
            ("false", &AnyValue::BoolValue(false)),
            ("broken", &AnyValue::StringValue("a\u{fffd}\"\\\n\u{1}".to_owned())),
            ("long", &AnyValue::StringValue(cut.clone())),
            ("empty", &AnyValue::StringValue(String::new())),
        ];
        assert_eq!(attributes(&span), expected, "{encoding:?}");
    }
    let mut worker = Worker::new(&trace_api(http()));
    assert_eq!(worker.exporters.offer_span(&record, &mut worker.stats), None);
    let body = worker.flush()[0].json();
    let attributes = &body[0]["spans"][0]["attributes"];
    assert_eq!(attributes["least"], json!(i64::MIN));
    assert_eq!(attributes["long"], json!(cut));
    assert_eq!(attributes["broken"], json!("a\u{fffd}\"\\\n\u{1}"));
    assert_eq!(attributes.get("nan"), None);
}

#[test]
fn a_span_has_at_most_200_attributes_with_those_of_its_request() {
    let identity = TraceIdentity::from(TraceId::from_hex(TRACE).unwrap());
    let parent = ParentId::Span(span_id(b"b7d20c4e19f86a35"));
    let many = vec![known(&keys::HTTP_STATUS_CODE, Value::Int(200)); 300];
    let record = entry(&identity, Some(&parent), &many);
    let mut worker = Worker::new(&trace_api(http()));
    assert_eq!(worker.exporters.offer_span(&record, &mut worker.stats), None);
    let body = String::from_utf8(worker.flush()[0].body.clone()).unwrap();
    // name, duration.ms and parent.id count too.
    assert_eq!(body.matches("http.statusCode").count() + 3 + common().new_relic().count(), 200);
    for encoding in ENCODINGS {
        assert_eq!(received(encoding, &record).attributes.len() + common().open_telemetry().count(), 200);
    }
}
