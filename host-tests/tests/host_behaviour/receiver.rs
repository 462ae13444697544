//! New Relic's side, played: posts of guests are answered as its public interfaces answer them, and decoded.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use crate::support::guest;
use flate2::Compression;
use flate2::write::GzEncoder;
use host_tests::newrelic::{BODY_BYTES_MAX, Event, Interface, Post, Problem, Receiver, Refusal, Span};
use host_tests::{Answer, Envoy, HttpCall, Module, Plugin};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde_json::{Value, json};

const KEY: &str = "license-key";
const MS: fn(u64) -> Duration = Duration::from_millis;

/// A guest that sends the shared data `post` as a call, and logs the status and the body of the answer. In it are the
/// size of the serialized headers (four bytes), those headers, and the body.
fn posting() -> Module {
    guest(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $set_tick (i32.const 100))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32)
             (local $at i32) (local $len i32)
             (drop (call $set_tick (i32.const 0)))
             (drop (call $get_shared @"post" (i32.const 0) (i32.const 4) (i32.const 8)))
             (local.set $at (i32.add (i32.load (i32.const 0)) (i32.const 4)))
             (local.set $len (i32.load (i32.load (i32.const 0))))
             (call $number (call $http_call @"collector" (local.get $at) (local.get $len)
               (i32.add (local.get $at) (local.get $len))
               (i32.sub (i32.load (i32.const 4)) (i32.add (local.get $len) (i32.const 4)))
               (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 0))))
           (func (export "proxy_on_http_call_response")
             (param $id i32) (param $token i32) (param $headers i32) (param $body i32) (param $trailers i32)
             (call $bytes (call $get_header (i32.const 6) @":status" (i32.const 0) (i32.const 4)))
             (call $bytes (call $get_buffer (i32.const 4) (i32.const 0) (local.get $body) (i32.const 0) (i32.const 4))))"#,
    )
}

/// A call to New Relic.
#[derive(Debug, Clone)]
struct Request {
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

impl Request {
    fn new(path: &'static str, body: impl AsRef<[u8]>) -> Self {
        let headers = vec![
            (":method", "POST"),
            (":path", path),
            (":authority", "collector"),
            ("content-type", "application/json"),
            ("api-key", KEY),
        ];
        Self { headers, body: body.as_ref().to_vec() }
    }

    fn trace_api(body: &Value) -> Self {
        let format = [("data-format", "newrelic"), ("data-format-version", "1")];
        format.iter().fold(Self::new("/trace/v1", body.to_string()), |request, (name, value)| request.with(name, value))
    }

    fn event_api(body: &Value) -> Self {
        Self::new("/v1/accounts/4001/events", body.to_string())
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self = self.without(name);
        self.headers.push((name, value));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(header, _)| *header != name);
        self
    }

    fn gzip(mut self) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.body).unwrap();
        self.body = encoder.finish().unwrap();
        self.with("content-encoding", "gzip")
    }

    /// As the guest of [`posting`] reads it.
    fn serialized(&self) -> Vec<u8> {
        let len = |len: usize| u32::try_from(len).unwrap().to_le_bytes();
        let mut pairs = len(self.headers.len()).to_vec();
        for (name, value) in &self.headers {
            pairs.extend([len(name.len()), len(value.len())].concat());
        }
        for (name, value) in &self.headers {
            pairs.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        [&len(pairs.len())[..], &pairs, &self.body].concat()
    }

    /// Sends it as a guest does to a cluster where this receiver answers after 20 ms.
    fn send(&self, receiver: &Receiver) -> Envoy {
        let builder = Envoy::builder(&posting()).plugin(Plugin::new("p"));
        let mut envoy = builder.serving_cluster("collector", MS(20), receiver.server()).start().unwrap();
        envoy.set_shared_data("", "post", self.serialized());
        envoy.advance(MS(100)).unwrap();
        envoy
    }

    /// The call itself, as the proxy sees it. The body is put in later, as it may be larger than the guest's memory.
    fn call(&self) -> HttpCall {
        let head = Self { headers: self.headers.clone(), body: Vec::new() };
        let mut call = head.send(&Receiver::with_key("")).http_calls().remove(0);
        call.body.clone_from(&self.body);
        call
    }

    /// What becomes of it.
    fn post(&self) -> Post {
        let receiver = Receiver::with_key(KEY);
        receiver.receive(&self.call());
        receiver.posts().remove(0)
    }
}

fn attributes(value: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(value).unwrap()
}

fn group() -> Value {
    json!([{
        "common": { "attributes": { "service.name": "shop", "host": "a" } },
        "spans": [{
            "id": "1111", "trace.id": "2222", "timestamp": 1_750_000_000_123_u64,
            "attributes": {
                "name": "GET /", "duration.ms": 12.5, "parent.id": "3333", "host": "b", "guid": "x", "retries": 2, "ok": true
            },
        }],
    }])
}

fn span() -> Span {
    Span {
        trace_id: "2222".to_owned(),
        id: "1111".to_owned(),
        parent_id: Some("3333".to_owned()),
        name: Some("GET /".to_owned()),
        start_ns: Some(1_750_000_000_123_000_000),
        duration_ms: Some(12.5),
        attributes: attributes(json!({ "service.name": "shop", "host": "b", "retries": 2, "ok": true })),
    }
}

#[test]
fn a_receiver_answers_the_calls_to_its_cluster_by_itself() {
    let receiver = Receiver::with_key(KEY);
    let mut envoy = Request::trace_api(&group()).gzip().send(&receiver);
    let threads = envoy.http_calls().len();
    assert_eq!(threads, 2, "the main thread and the worker post");
    assert_eq!(receiver.spans(), [span(), span()], "a post arrives as it is made");
    assert!(!envoy.logged(host_tests::LogLevel::Info, "202"), "the answer takes its time");
    envoy.advance(MS(20)).unwrap();
    assert!(envoy.logged(host_tests::LogLevel::Info, "202"), "{}", envoy.transcript());
    assert!(envoy.logged(host_tests::LogLevel::Info, r#"{"requestId":"00000000-0000-4000-8000-000000000001"}"#));
    assert_eq!(envoy.pending_calls(), []);
    assert_eq!((receiver.refusals(), receiver.problems()), (vec![], vec![]));
}

#[test]
fn a_server_that_gives_no_answer_leaves_the_call_to_the_test() {
    let builder = Envoy::builder(&posting()).plugin(Plugin::new("p"));
    let mut envoy = builder.serving_cluster("collector", MS(20), |_| None).start().unwrap();
    envoy.set_shared_data("", "post", Request::trace_api(&group()).serialized());
    envoy.advance(MS(200)).unwrap();
    let waiting = envoy.pending_calls();
    assert_eq!(waiting.len(), 2);
    assert!(envoy.answer(waiting[0].id, Answer::status(429)).unwrap());
    assert!(envoy.logged(host_tests::LogLevel::Info, "429"));
}

#[test]
fn spans_of_the_trace_api_take_what_their_group_shares() {
    for request in [Request::trace_api(&group()), Request::trace_api(&group()).gzip()] {
        let post = request.post();
        assert_eq!((&post.interface, post.status()), (&Some(Interface::TraceApi), 202));
        let contents = post.outcome.unwrap();
        assert_eq!((contents.spans, contents.problems), (vec![span()], vec![]));
    }
}

#[test]
fn events_keep_their_type_their_time_and_their_account() {
    let body = json!([
        { "eventType": "Transaction", "timestamp": 1_750_000_000_123_u64, "name": "GET", "duration": 0.5 },
        { "eventType": "Purchase", "timestamp": 1_750_000_000 },
    ]);
    let post = Request::event_api(&body).post();
    assert_eq!(post.interface, Some(Interface::EventApi { account_id: "4001".to_owned() }));
    assert_eq!(post.status(), 200);
    let event = |event_type: &str, timestamp_ms, others: Value| Event {
        account_id: "4001".to_owned(),
        event_type: event_type.to_owned(),
        timestamp_ms: Some(timestamp_ms),
        attributes: attributes(others),
    };
    let expected = [
        event("Transaction", 1_750_000_000_123, json!({ "name": "GET", "duration": 0.5 })),
        event("Purchase", 1_750_000_000_000, json!({})),
    ];
    assert_eq!(post.outcome.unwrap().events, expected);
}

fn otlp() -> Value {
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    json!({ "resourceSpans": [{
        "resource": { "attributes": [text("service.name", "shop"), text("host", "a")] },
        "scopeSpans": [{
            "scope": { "name": "tracer", "version": "1.2" },
            "spans": [{
                "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331",
                "parentSpanId": "00f067aa0ba902b7", "traceState": "a=b", "name": "GET /", "kind": 2,
                "startTimeUnixNano": "1750000000123000000", "endTimeUnixNano": "1750000000135500000",
                "attributes": [text("host", "b"), { "key": "count", "value": { "intValue": "3" } }],
                "status": { "code": 2, "message": "broken" },
            }],
        }],
    }] })
}

#[test]
fn spans_of_opentelemetry_are_the_same_as_json_and_as_protobuf() {
    let message: ExportTraceServiceRequest = serde_json::from_value(otlp()).unwrap();
    let json = Request::new("/v1/traces", otlp().to_string());
    let protobuf = Request::new("/v1/traces", message.encode_to_vec()).with("content-type", "application/x-protobuf");
    let expected = Span {
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        id: "b7ad6b7169203331".to_owned(),
        parent_id: Some("00f067aa0ba902b7".to_owned()),
        name: Some("GET /".to_owned()),
        start_ns: Some(1_750_000_000_123_000_000),
        duration_ms: Some(12.5),
        attributes: attributes(json!({
            "service.name": "shop", "host": "b", "count": 3, "span.kind": "server", "w3c.tracestate": "a=b",
            "otel.status_code": "ERROR", "otel.status_description": "broken",
            "otel.library.name": "tracer", "otel.library.version": "1.2",
        })),
    };
    for request in [json.clone().gzip(), json, protobuf.clone().gzip(), protobuf] {
        let post = request.post();
        assert_eq!((&post.interface, post.status()), (&Some(Interface::Otlp), 200));
        assert_eq!(post.outcome.unwrap().spans, std::slice::from_ref(&expected));
    }
}

#[test]
fn each_interface_refuses_with_its_own_status() {
    let trace = || Request::trace_api(&group());
    let event = || Request::event_api(&json!({ "eventType": "A" }));
    let otlp = || Request::new("/v1/traces", otlp().to_string());
    let body = |request: Request, body: &[u8]| Request { body: body.to_vec(), ..request };
    let large = vec![b' '; BODY_BYTES_MAX + 1];
    for (request, refusal, status) in [
        (trace().with(":path", "/trace/v2"), Refusal::Path, 404),
        (trace().with(":path", "/v1/accounts/x/events"), Refusal::Path, 404),
        (trace().with(":method", "PUT"), Refusal::Method, 405),
        (trace().without("api-key"), Refusal::MissingKey, 403),
        (trace().with("api-key", "another"), Refusal::WrongKey, 403),
        (event().without("api-key"), Refusal::MissingKey, 403),
        (otlp().without("api-key"), Refusal::MissingKey, 401),
        (otlp().with("api-key", "another"), Refusal::WrongKey, 403),
        (body(trace(), b""), Refusal::Length, 411),
        (body(event(), b""), Refusal::Length, 400),
        (body(trace(), &large), Refusal::TooLarge, 413),
        (trace().with("content-type", "text/plain"), Refusal::ContentType, 415),
        (trace().with("content-type", "application/x-protobuf"), Refusal::ContentType, 415),
        (otlp().with("content-type", "text/plain"), Refusal::ContentType, 415),
        (event().with("content-encoding", "br"), Refusal::ContentEncoding, 415),
        (trace().without("data-format-version"), Refusal::DataFormat, 400),
        (trace().with("data-format", "zipkin"), Refusal::DataFormat, 400),
        (body(otlp(), b"{"), Refusal::Body, 400),
        (otlp().with("content-encoding", "gzip"), Refusal::Body, 400),
        (otlp().with("content-type", "application/x-protobuf"), Refusal::Body, 400),
    ] {
        let post = request.post();
        assert_eq!((&post.outcome, post.status()), (&Err(refusal), status), "{:?}", request.headers);
    }
    let exact = vec![b' '; BODY_BYTES_MAX];
    assert_eq!(body(trace(), &exact).post().status(), 202, "the largest body is accepted");
}

#[test]
fn what_is_wrong_inside_an_accepted_body_is_told_later_and_loses_only_its_record() {
    let span = |span: Value| Request::trace_api(&json!([{ "spans": [span, { "id": "1", "trace.id": "2" }] }]));
    let event = |event: Value| Request::event_api(&json!([event, { "eventType": "A" }]));
    for (request, problem) in [
        (span(json!({ "trace.id": "2" })), Problem::SpanId),
        (span(json!({ "id": "", "trace.id": "2" })), Problem::SpanId),
        (span(json!({ "id": "1" })), Problem::TraceId),
        (span(json!({ "id": "1", "trace.id": "2", "timestamp": "now" })), Problem::Timestamp),
        (span(json!({ "id": "1", "trace.id": "2", "attributes": { "duration.ms": -1 } })), Problem::Duration),
        (span(json!({ "id": "1", "trace.id": "2", "attributes": { "a": [] } })), Problem::Attribute),
        (span(json!(7)), Problem::Shape),
        (event(json!({})), Problem::EventType),
        (event(json!({ "eventType": "9" })), Problem::EventType),
        (event(json!({ "eventType": "A", "timestamp": -1 })), Problem::Timestamp),
        (event(json!({ "eventType": "A", "list": {} })), Problem::Attribute),
    ] {
        let contents = request.post().outcome.unwrap();
        assert_eq!(contents.problems, [problem], "{contents:?}");
        assert_eq!(contents.spans.len() + contents.events.len(), 1, "{contents:?}");
    }
    let whole = |request: Request| request.post().outcome.unwrap().problems;
    assert_eq!(whole(Request::trace_api(&json!({}))), [Problem::Shape]);
    assert_eq!(whole(Request::event_api(&json!(1))), [Problem::Shape]);
    assert_eq!(whole(Request::trace_api(&group()).with("content-encoding", "gzip")), [Problem::Gzip]);
}
