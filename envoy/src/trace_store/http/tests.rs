//! The store as senders and the page see it: over HTTP.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use newrelic_ingest::BODY_BYTES_MAX;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::client::{self, Request};
use crate::receiver::{Answer, Api, Receiver};
use crate::trace_store::tests::Dir;
use crate::trace_store::{Clock, Hop, HopHeader, Options};

const KEY: &str = "0123456789012345678901234567890123456789";
const TRACES: &str = "/trace/v1";
const EVENTS: &str = "/v1/accounts/4001/events";
const OTLP: &str = "/v1/traces";
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

/// A store that is served.
struct Site {
    store: TraceStore,
    address: SocketAddr,
    now_ms: Arc<AtomicU64>,
    _dir: Dir,
}

impl Site {
    async fn with(options: Options, intake: Intake) -> Self {
        let dir = Dir::new();
        let now_ms = Arc::new(AtomicU64::new(1_750_000_000_000));
        let clock = Arc::clone(&now_ms);
        let options = Options { clock: Clock::new(move || clock.load(Ordering::Relaxed)), ..options };
        let store = TraceStore::open(&dir.0, options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = serving(store.clone(), intake);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { store, address, now_ms, _dir: dir }
    }

    async fn new() -> Self {
        Self::with(Options::default(), Intake::with_key(Key::Exactly(KEY.to_owned()))).await
    }

    async fn send(&self, request: &Request) -> client::Response {
        client::send(self.address, request).await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.send(&Request::get("store", path)).await;
        assert_eq!(answer.header("content-type"), Some(&b"application/json"[..]), "{path}");
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    async fn ids(&self, query: &str) -> Vec<String> {
        let (status, list) = self.get(&format!("/api/traces{query}")).await;
        assert_eq!(status, 200, "{query}: {list}");
        let id = |trace: &Value| trace["trace_id"].as_str().unwrap().to_owned();
        list["traces"].as_array().unwrap().iter().map(id).collect()
    }
}

fn post(path: &str, body: impl Into<Vec<u8>>) -> Request {
    Request::post("store", path, body).header("api-key", KEY).header("content-type", "application/json")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn trace(trace_id: &str, start_ms: u64, service: &str, more: &Value) -> String {
    let mut attributes = json!({ "service.name": service, "duration.ms": 10, "name": "GET /" });
    attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let span = json!({ "id": "a1", "trace.id": trace_id, "timestamp": start_ms, "attributes": attributes });
    json!([{ "spans": [span] }]).to_string()
}

fn plain() -> String {
    trace(TRACE_ID, 1_000, "shop", &json!({}))
}

fn otlp() -> Value {
    json!({ "resourceSpans": [{
        "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "shop" } }] },
        "scopeSpans": [{ "spans": [{
            "traceId": TRACE_ID, "spanId": "b7ad6b7169203331", "name": "GET /", "kind": 2,
            "startTimeUnixNano": "1750000000123000000", "endTimeUnixNano": "1750000000135500000",
        }] }],
    }] })
}

fn protobuf() -> Vec<u8> {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    let request: ExportTraceServiceRequest = serde_json::from_value(otlp()).unwrap();
    prost::Message::encode_to_vec(&request)
}

#[tokio::test]
async fn each_interface_answers_what_it_takes_as_new_relic_does() {
    let (json, proto) = (("content-type", "application/json"), ("content-type", "application/x-protobuf"));
    let zipped = ("content-encoding", "gzip");
    for (path, headers, body, status, answer) in [
        (TRACES, &[json][..], plain().into_bytes(), 202, r#"{"requestId":"00000000-0000-4000-8000-000000000001"}"#),
        (
            TRACES,
            &[json, zipped],
            gzip(plain().as_bytes()),
            202,
            r#"{"requestId":"00000000-0000-4000-8000-000000000001"}"#,
        ),
        (OTLP, &[json], otlp().to_string().into_bytes(), 200, "{}"),
        (OTLP, &[json, zipped], gzip(otlp().to_string().as_bytes()), 200, "{}"),
        (OTLP, &[proto], protobuf(), 200, ""),
        (OTLP, &[proto, zipped], gzip(&protobuf()), 200, ""),
    ] {
        let site = Site::new().await;
        let mut request = Request::post("store", path, body).header("api-key", KEY);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let answered = site.send(&request).await;
        assert_eq!((answered.status, answered.text().as_str()), (status, answer), "{path} {headers:?}");
        assert_eq!(answered.header("content-type"), Some(headers[0].1.as_bytes()), "{path} {headers:?}");
        let (_, shown) = site.get(&format!("/api/traces/{TRACE_ID}")).await;
        assert_eq!((&shown["spans"][0]["service"], &shown["spans"][0]["name"]), (&json!("shop"), &json!("GET /")));
    }
}

#[tokio::test]
async fn each_refusal_names_its_rule() {
    let site = Site::new().await;
    let typed = |path, body: &str| Request::post("store", path, body).header("content-type", "application/json");
    let untyped = |path, body: &str| Request::post("store", path, body).header("api-key", KEY);
    let with = |name: &str, value: &str| post(TRACES, plain()).header(name, value);
    let other_key = typed(TRACES, "x").header("api-key", "other");
    let large = vec![b' '; BODY_BYTES_MAX + 1];
    let spans_not_json = untyped(TRACES, "x").header("content-type", "application/x-protobuf");
    for (request, status, rule) in [
        (typed(TRACES, "x"), 403, "api-key is missing"),
        (typed(EVENTS, "x"), 403, "api-key is missing"),
        (typed(OTLP, "x"), 401, "api-key is missing"),
        (other_key, 403, "another one"),
        (post("/v1/accounts/none/events", "x"), 404, "no interface has this path"),
        (post(TRACES, ""), 411, "body is missing"),
        (post(OTLP, ""), 411, "body is missing"),
        (post(EVENTS, ""), 400, "body is missing"),
        (post(TRACES, large.clone()), 413, "larger than 1 MB"),
        (post(OTLP, large), 413, "larger than 1 MB"),
        (untyped(TRACES, "x"), 415, "content type"),
        (spans_not_json, 415, "content type"),
        (with("content-encoding", "br"), 415, "content encoding"),
        (with("data-format", "newrelic"), 400, "data-format"),
        (with("data-format", "zipkin").header("data-format-version", "2"), 400, "data-format"),
        (post(OTLP, "{"), 400, "cannot be decoded"),
        (post(OTLP, "x").header("content-encoding", "gzip"), 400, "cannot be decoded"),
    ] {
        let answer = site.send(&request).await;
        assert_eq!(answer.status, status, "{request:?}: {}", answer.text());
        assert!(answer.text().contains(rule), "{rule:?} is not in {}", answer.text());
    }
    for (request, status) in [
        (post("/trace/v2", "x"), 404),
        (Request { method: "GET".to_owned(), ..post(TRACES, "") }, 405),
        (Request { method: "PUT".to_owned(), ..post(OTLP, "x") }, 405),
    ] {
        assert_eq!(site.send(&request).await.status, status, "{request:?}");
    }
    assert_eq!(site.store.status().spans_received, 0);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_refused_as_too_slow() {
    let intake = Intake { body_read_max: Duration::from_millis(50), ..Intake::with_key(Key::Any) };
    let site = Site::with(Options::default(), intake).await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let head = "POST /trace/v1 HTTP/1.1\r\nhost: store\r\napi-key: k\r\ncontent-type: application/json\r\n\
        content-length: 10\r\nconnection: close\r\n\r\nshort";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("did not arrive in time"), "{answer}");
}

#[tokio::test]
async fn a_full_store_asks_senders_to_come_back() {
    let options = Options { journal_bytes_max: 10, ..Options::default() };
    let site = Site::with(options, Intake::with_key(Key::Any)).await;
    for (path, body) in [(TRACES, plain()), (OTLP, otlp().to_string())] {
        let answer = site.send(&post(path, body)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some(&b"1"[..])), "{path}");
    }
    assert_eq!(site.store.status().spans_refused, 2);
}

#[tokio::test]
async fn a_store_that_cannot_write_takes_nothing() {
    let site = Site::new().await;
    site.store.close().await;
    assert_eq!(site.send(&post(TRACES, plain())).await.status, 503);
}

#[tokio::test]
async fn faults_inside_of_an_accepted_post_are_counted_and_lose_only_their_record() {
    let site = Site::new().await;
    let body = json!([{ "spans": [{ "id": "a" }, { "id": "b", "trace.id": "t" }] }]).to_string();
    assert_eq!(site.send(&post(TRACES, body)).await.status, 202);
    assert_eq!(site.send(&post(TRACES, "no json")).await.status, 202);
    assert_eq!(site.send(&post(EVENTS, r#"{"name":"x"}"#)).await.status, 200);
    let (_, status) = site.get("/api/status").await;
    assert_eq!((&status["integration_errors"], &status["spans_received"]), (&json!(3), &json!(1)));
}

#[tokio::test]
async fn events_are_shown_with_their_trace() {
    let site = Site::new().await;
    let event = json!({ "eventType": "Transaction", "traceId": TRACE_ID, "timestamp": 1_750_000_000_000_u64 });
    let answer = site.send(&post(EVENTS, event.to_string())).await;
    assert_eq!((answer.status, answer.text().starts_with(r#"{"success":true,"uuid":""#)), (200, true));
    site.send(&post(TRACES, plain())).await;
    let (_, shown) = site.get(&format!("/api/traces/{TRACE_ID}")).await;
    assert_eq!(shown["events"], json!([event]));
}

#[tokio::test]
async fn the_list_takes_every_filter() {
    let site = Site::new().await;
    for (trace_id, start_ms, service, more) in [
        ("aa1", 1_000, "shop", json!({ "error.class": "503" })),
        ("aa2", 2_000, "shop", json!({ "duration.ms": 500.5 })),
        ("b 3", 3_000, "cart & co", json!({})),
    ] {
        assert_eq!(site.send(&post(TRACES, trace(trace_id, start_ms, service, &more))).await.status, 202);
    }
    for (query, expected) in [
        ("", &["b 3", "aa2", "aa1"][..]),
        ("?id=aa", &["aa2", "aa1"]),
        ("?id=b%203", &["b 3"]),
        ("?service=shop", &["aa2", "aa1"]),
        ("?service=cart+%26%20co", &["b 3"]),
        ("?service=shop&service=cart", &[]),
        ("?error=true", &["aa1"]),
        ("?error=false", &["b 3", "aa2"]),
        ("?min_ms=500.5", &["aa2"]),
        ("?max_ms=499", &["b 3", "aa1"]),
        ("?from_ms=2000", &["b 3", "aa2"]),
        ("?to_ms=2000", &["aa2", "aa1"]),
        ("?state=open", &["b 3", "aa2", "aa1"]),
        ("?state=written", &[]),
        ("?limit=1", &["b 3"]),
        ("?service=shop&error=false&limit=200", &["aa2"]),
    ] {
        assert_eq!(site.ids(query).await, expected, "{query}");
    }
    let (_, first) = site.get("/api/traces?limit=2").await;
    let next = first["next"].as_str().unwrap();
    let (_, second) = site.get(&format!("/api/traces?limit=2&before={next}")).await;
    assert_eq!((&second["traces"][0]["trace_id"], &second["next"]), (&json!("aa1"), &Value::Null));
}

#[tokio::test]
async fn a_parameter_that_does_not_fit_is_named() {
    let site = Site::new().await;
    for (path, parameter) in [
        ("/api/traces?limit=0", "limit"),
        ("/api/traces?limit=201", "limit"),
        ("/api/traces?limit=many", "limit"),
        ("/api/traces?before=then", "before"),
        ("/api/traces?error=yes", "error"),
        ("/api/traces?state=closed", "state"),
        ("/api/traces?min_ms=-1", "min_ms"),
        ("/api/traces?max_ms=NaN", "max_ms"),
        ("/api/traces?from_ms=inf", "from_ms"),
        ("/api/traces?to_ms=", "to_ms"),
        ("/api/traces?colour=red", "colour"),
        ("/api/map?from_ms=now", "from_ms"),
        ("/api/map?service=shop", "service"),
    ] {
        let (status, answer) = site.get(path).await;
        let text = answer["error"].as_str().unwrap();
        assert!(status == 400 && text.contains(parameter), "{path}: {status} {text}");
    }
}

#[tokio::test]
async fn a_trace_that_is_not_there_is_not_found() {
    let site = Site::new().await;
    for path in ["/api/traces/latest", "/api/traces/0af7"] {
        let (status, answer) = site.get(path).await;
        assert_eq!((status, answer), (404, json!({ "error": "there is no such trace" })), "{path}");
    }
}

#[tokio::test]
async fn a_trace_is_shown_with_everything_the_page_needs() {
    let site = Site::new().await;
    let span = |id: &str, parent: Option<&str>, service: &str, start_ms: u64, more: Value| {
        let mut attributes = json!({ "service.name": service, "duration.ms": 2.5, "name": id, "parent.id": parent });
        attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "id": id, "trace.id": "t", "timestamp": start_ms, "attributes": attributes })
    };
    let spans = [
        span("b", Some("a"), "shop", 1_001, json!({ "http.url": "http://cart/", "span.kind": "client" })),
        span("a", None, "shop", 1_000, json!({ "span.kind": "server" })),
        span("c", Some("b"), "cart", 1_002, json!({ "error.class": "503" })),
    ];
    site.send(&post(TRACES, json!([{ "spans": spans }]).to_string())).await;
    let headers = vec![HopHeader { name: "traceparent".to_owned(), value: "00".to_owned(), readable: String::new() }];
    let hop = Hop { service: "cart".to_owned(), path: "/cart/1".to_owned(), headers };
    site.store.add_hops("t", vec![hop]).await.unwrap();
    let (_, shown) = site.get("/api/traces/latest").await;
    let span = |id: &str, parent: Value, service: &str, start_ms: f64, kind: Value, rest: Value| {
        let mut span = json!({
            "id": id, "parent_id": parent, "session": 1, "name": id, "service": service, "start_ms": start_ms,
            "duration_ms": 2.5, "orphan": false, "span_kind": kind, "client": null, "boundary": false, "error": null,
        });
        span.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        span
    };
    let expected = json!([
        span(
            "a",
            Value::Null,
            "shop",
            1_000.0,
            json!("server"),
            json!({
                "roles": ["entry"], "display": "service",
                "attributes": { "service.name": "shop", "span.kind": "server" },
            })
        ),
        span(
            "b",
            json!("a"),
            "shop",
            1_001.0,
            json!("client"),
            json!({
                "roles": ["exit"], "display": "external", "client": "external",
                "attributes": { "service.name": "shop", "span.kind": "client", "http.url": "http://cart/" },
            })
        ),
        span(
            "c",
            json!("b"),
            "cart",
            1_002.0,
            Value::Null,
            json!({
                "roles": ["entry"], "display": "service", "boundary": true, "error": "503",
                "attributes": { "service.name": "cart", "error.class": "503" },
            })
        ),
    ]);
    assert_eq!((&shown["trace_id"], &shown["spans"]), (&json!("t"), &expected));
    let header = json!({ "name": "traceparent", "value": "00", "readable": "" });
    assert_eq!(shown["hops"], json!([{ "service": "cart", "path": "/cart/1", "headers": [header] }]));
    let summary = json!({
        "session": 1, "trace_id": "t", "state": "open",
        "root": { "span_id": "a", "name": "a", "service": "shop" },
        "start_ms": 1_000.0, "duration_ms": 4.5, "backend_duration_ms": 4.5, "spans": 3, "entry_spans": 2,
        "exit_spans": 1, "in_process_spans": 0, "datastore_spans": 0, "external_spans": 1, "process_boundaries": 1,
        "errors": 1, "services": ["shop", "cart"], "orphans": 0, "missing_root": false, "late": false,
        "first_seen_ms": 1_750_000_000_000_u64, "last_seen_ms": 1_750_000_000_000_u64, "closes_in_ms": 90_000,
    });
    assert_eq!(shown["sessions"], json!([summary]));
    assert_eq!(site.get("/api/services").await.1, json!({ "services": ["cart", "shop"] }));
}

#[tokio::test]
async fn news_comes_at_once_and_with_every_change() {
    let site = Site::new().await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(b"GET /api/events HTTP/1.1\r\nhost: store\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    wait_for(&mut stream, &mut seen, r#"data: {"open":0,"written":0}"#).await;
    assert!(seen.contains("content-type: text/event-stream") && seen.contains("event: changed"), "{seen}");
    site.send(&post(TRACES, plain())).await;
    wait_for(&mut stream, &mut seen, r#"data: {"open":1,"written":0}"#).await;
    site.now_ms.fetch_add(90_000, Ordering::Relaxed);
    wait_for(&mut stream, &mut seen, r#"data: {"open":0,"written":1}"#).await;
}

/// Reads until a text has come.
async fn wait_for(stream: &mut TcpStream, seen: &mut String, text: &str) {
    let mut bytes = [0; 4_096];
    while !seen.contains(text) {
        let reading = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut bytes));
        let length = reading.await.unwrap_or_else(|_| panic!("no {text} in {seen}")).unwrap();
        assert!(length > 0, "the stream has ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
}

#[tokio::test]
async fn the_page_is_served_with_its_types_and_may_load_nothing_from_elsewhere() {
    let site = Site::new().await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/assets/app.js", "text/javascript; charset=utf-8"),
        ("/assets/style.css", "text/css; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml"),
        ("/api/status", "application/json"),
    ] {
        let answer = site.send(&Request::get("store", path)).await;
        let line = |name: &str| String::from_utf8_lossy(answer.header(name).unwrap_or_default()).into_owned();
        assert_eq!((answer.status, line("content-type").as_str()), (200, content_type), "{path}");
        assert_eq!(line("x-content-type-options"), "nosniff", "{path}");
        assert!(line("content-security-policy").starts_with("default-src 'self';"), "{path}");
        assert_eq!(line("cache-control"), if path.starts_with("/api") { "no-store" } else { "no-cache" }, "{path}");
    }
    for path in ["/assets/nothing.js", "/assets/..%2f..%2fCargo.toml", "/assets/index.html", "/nothing"] {
        assert_eq!(site.send(&Request::get("store", path)).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_receiver_with_a_store_shows_what_it_takes_and_only_that() {
    let dir = Dir::new();
    let store = TraceStore::open(&dir.0, Options::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let receiver = Receiver::with_trace_store(listener, KEY, store).unwrap();
    receiver.answer_next(Api::Trace, [Answer::status(StatusCode::SERVICE_UNAVAILABLE)]);
    let mut statuses = Vec::new();
    for (path, body) in [(TRACES, trace("t1", 1, "shop", &json!({}))), (TRACES, trace("t2", 2, "shop", &json!({})))] {
        statuses.push(client::send(receiver.address(), &post(path, body)).await.unwrap().status);
    }
    statuses.push(client::send(receiver.address(), &post(OTLP, otlp().to_string())).await.unwrap().status);
    assert_eq!(statuses, [503, 202, 200]);
    let list = client::send(receiver.address(), &Request::get("store", "/api/traces")).await.unwrap();
    let list: Value = serde_json::from_slice(&list.body).unwrap();
    let shown: Vec<&Value> = list["traces"].as_array().unwrap().iter().map(|trace| &trace["trace_id"]).collect();
    assert_eq!(shown, [TRACE_ID, "t2"]);
    let kept: Vec<String> = receiver.read(|store| store.spans().map(|span| span.trace_id.clone()).collect());
    assert_eq!(kept, ["t2", TRACE_ID]);
}
