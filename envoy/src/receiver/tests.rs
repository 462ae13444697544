//! The receiver as a sender sees it: over HTTP.

use std::io::Write;

use axum::http::StatusCode;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::client::{self, Request};

const KEY: &str = "0123456789012345678901234567890123456789";
const TRACES: &str = "/trace/v1";
const EVENTS: &str = "/v1/accounts/4001/events";
const SPANS: &str = r#"[{"common":{"attributes":{"service.name":"cart","x":1}},"spans":[
    {"id":"a1","trace.id":"t1","timestamp":7,"attributes":{"span.kind":"server","x":2,"guid":"g"}}]}]"#;

async fn receiver() -> Receiver {
    Receiver::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), KEY).unwrap()
}

fn request(path: &str, body: impl Into<Vec<u8>>) -> Request {
    Request::post("receiver", path, body).header("api-key", KEY).header("content-type", "application/json")
}

async fn post(receiver: &Receiver, request: &Request) -> client::Response {
    client::send(receiver.address(), request).await.unwrap()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_span_gets_the_common_attributes_and_keeps_its_own() {
    let receiver = receiver().await;
    let answer = post(&receiver, &request(TRACES, SPANS)).await;
    assert_eq!((answer.status, answer.text().starts_with(r#"{"requestId":""#)), (202, true));
    let span = receiver.read(|store| store.trace("t1").next().cloned()).unwrap();
    assert_eq!((span.id.as_str(), span.service(), span.kind(), span.timestamp_ms), ("a1", "cart", "server", 7));
    assert_eq!(span.attributes["x"], 2);
    assert!(!span.attributes.contains_key("guid"), "New Relic drops this name");
}

#[tokio::test]
async fn compressed_posts_are_unpacked() {
    let receiver = receiver().await;
    let compressed = request(TRACES, gzip(SPANS)).header("content-encoding", "gzip");
    assert_eq!(post(&receiver, &compressed).await.status, 202);
    assert_eq!(receiver.read(|store| store.spans().count()), 1);
}

#[tokio::test]
async fn each_faulty_post_gets_the_status_of_its_fault() {
    let receiver = receiver().await;
    let bare = || Request::post("receiver", TRACES, SPANS);
    for (fault, faulty, status) in [
        ("no key", bare().header("content-type", "application/json"), 403),
        ("another key", bare().header("api-key", "1234").header("content-type", "application/json"), 403),
        ("no type", bare().header("api-key", KEY), 415),
        ("text", bare().header("api-key", KEY).header("content-type", "text/plain"), 415),
        ("deflate", request(TRACES, SPANS).header("content-encoding", "deflate"), 415),
        ("format without version", request(TRACES, SPANS).header("data-format", "newrelic"), 400),
        (
            "wrong pair",
            request(TRACES, SPANS).header("data-format", "newrelic").header("data-format-version", "2"),
            400,
        ),
        ("too large", request(TRACES, vec![b' '; BODY_BYTES_MAX + 1]), 413),
        ("wrong path", request("/trace/v2", SPANS), 404),
        ("wrong method", Request { method: "GET".to_owned(), ..request(TRACES, "") }, 405),
    ] {
        assert_eq!(post(&receiver, &faulty).await.status, status, "{fault}");
    }
    assert_eq!(receiver.read(|store| store.spans().count()), 0);
}

#[tokio::test]
async fn faults_inside_a_payload_are_reported_later() {
    let receiver = receiver().await;
    let bodies = [
        (TRACES, "[{\"spans\":[{\"id\":\"a1\"}]}]"),
        (TRACES, "no json"),
        (EVENTS, r#"[{"name":"x"}]"#),
        (EVENTS, r#"[{"eventType":"Transaction","nested":{}}]"#),
    ];
    for (path, body) in bodies {
        assert!(post(&receiver, &request(path, body)).await.status < 300, "{body}");
    }
    let broken = request(TRACES, "no gzip").header("content-encoding", "gzip");
    assert_eq!(post(&receiver, &broken).await.status, 202);
    assert_eq!(receiver.read(|store| store.integration_errors().count()), bodies.len() + 1);
}

#[tokio::test]
async fn transactions_are_kept_from_either_shape() {
    let receiver = receiver().await;
    for body in [r#"{"eventType":"Transaction","name":"a"}"#, r#"[{"eventType":"Transaction","name":"b"}]"#] {
        let answer = post(&receiver, &request(EVENTS, body)).await;
        assert_eq!((answer.status, answer.text().starts_with(r#"{"success":true,"uuid":""#)), (200, true));
    }
    let names: Vec<String> = receiver.read(|store| store.transactions().map(|t| t.text("name").to_owned()).collect());
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test]
async fn scripted_answers_come_in_their_order_and_keep_nothing() {
    let receiver = receiver().await;
    let busy = Answer { retry_after_s: Some(7), ..Answer::status(StatusCode::TOO_MANY_REQUESTS) };
    receiver.answer_next(Api::Trace, [Answer::status(StatusCode::SERVICE_UNAVAILABLE), busy]);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let answer = post(&receiver, &request(TRACES, SPANS)).await;
        seen.push((answer.status, answer.header("retry-after").map(<[u8]>::to_vec)));
    }
    assert_eq!(seen, [(503, None), (429, Some(b"7".to_vec())), (202, None)]);
    assert_eq!(receiver.read(|store| store.spans().count()), 1);
    assert_eq!(receiver.read(|store| store.posts().count()), 3);
}
