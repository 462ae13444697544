//! Requests that no decent caller sends: the answer is what it would be without the filter, and the
//! filter works on afterwards.

use std::time::Duration;

use envoy_demo::client::{self, Request, Response};

use crate::harness::{CALLER_SPAN_ID, HANG_PATH, Proxy, Setup, TRACE_ID, envoy_or_skip, tracing_everything};

/// Long enough for a request to be on its way through the proxy when its sender goes away.
const LINGER: Duration = Duration::from_millis(200);

fn traceparent() -> String {
    format!("00-{TRACE_ID}-{CALLER_SPAN_ID}-01")
}

/// A `tracestate` of 60 KB, of members that are each as long as the grammar allows.
fn long_tracestate() -> String {
    let members: Vec<String> = (0..230).map(|number| format!("vendor{number:03}={}", "x".repeat(250))).collect();
    members.join(",")
}

fn hostile_requests() -> Vec<(&'static str, Request)> {
    let get = || Request::get("app", "/hostile");
    let traced = || get().header("traceparent", traceparent());
    vec![
        ("a traceparent that is no text", get().header("traceparent", vec![0xff, 0xfe])),
        ("an empty traceparent", get().header("traceparent", "")),
        ("two traceparent lines", traced().header("traceparent", traceparent())),
        ("a tracestate that is no text", traced().header("tracestate", vec![b'a', b'=', 0x80, 0xff])),
        ("repeated tracestate lines", traced().header("tracestate", "a=1").header("tracestate", "b=2")),
        ("a tracestate of 60 KB", traced().header("tracestate", long_tracestate())),
        ("a newrelic header that is no text", get().header("newrelic", vec![0xc3, 0x28, 0xff])),
        ("a newrelic header of 60 KB", get().header("newrelic", "A".repeat(60_000))),
        ("a newrelic header that nests deeply", get().header("newrelic", "[".repeat(50_000))),
    ]
}

/// The answer without what differs from request to request.
fn comparable(mut answer: Response) -> Response {
    let varying = ["date", "x-envoy-upstream-service-time"];
    answer.headers.retain(|(name, _)| !varying.contains(&name.as_str()));
    answer
}

/// Envoy logs it when a module traps, and makes a new one.
fn assert_no_trap(proxy: &Proxy) {
    let log = proxy.envoy.log();
    let trap = log.lines().find(|line| line.contains("Function: proxy_on") || line.contains("RuntimeError"));
    assert_eq!(trap, None);
}

#[tokio::test]
async fn hostile_headers_are_answered_as_without_the_filter() {
    let Some(envoy) = envoy_or_skip() else { return };
    let proxy = Proxy::start(&envoy, &Setup::text(&tracing_everything())).await.unwrap();
    for (number, (what, request)) in (1..).zip(hostile_requests()) {
        let with = client::send(proxy.filtered, &request).await.unwrap();
        let without = client::send(proxy.bare, &request).await.unwrap();
        assert_eq!((with.status, comparable(with)), (200, comparable(without)), "{what}");
        proxy.assert_traces(number, what).await;
    }
    assert_no_trap(&proxy);
}

#[tokio::test]
async fn repeated_tracestate_lines_reach_the_application_as_one_list() {
    let Some(envoy) = envoy_or_skip() else { return };
    let proxy = Proxy::start(&envoy, &Setup::text(&tracing_everything())).await.unwrap();
    let request = Request::get("app", "/")
        .header("traceparent", traceparent())
        .header("tracestate", "a=1, b=2")
        .header("tracestate", "c=3");
    proxy.send(&request).await;
    let seen = proxy.app.last_seen();
    assert!(seen.newrelic_entry("4000").is_some(), "{seen:?}");
    assert_eq!(seen.foreign_members("4000"), ["a=1", "b=2", "c=3"]);
}

#[tokio::test]
async fn an_unreadable_traceparent_starts_a_new_trace() {
    let Some(envoy) = envoy_or_skip() else { return };
    let proxy = Proxy::start(&envoy, &Setup::text(&tracing_everything())).await.unwrap();
    let request = Request::get("app", "/").header("traceparent", vec![0xff, 0xfe]).header("tracestate", "a=1");
    proxy.send(&request).await;
    let seen = proxy.app.last_seen();
    let started = seen.traceparent().expect("one new traceparent");
    assert_eq!(seen.foreign_members("4000"), [""; 0], "a tracestate belongs to its traceparent");
    let span = proxy.span_of(&started.trace_id).await;
    assert_eq!(span.parent_id(), None);
}

#[tokio::test]
async fn callers_that_go_away_leave_the_filter_working() {
    let Some(envoy) = envoy_or_skip() else { return };
    let proxy = Proxy::start(&envoy, &Setup::text(&tracing_everything())).await.unwrap();
    let whole = Request::get("app", HANG_PATH).header("traceparent", traceparent()).to_bytes();
    let upload = b"POST /upload HTTP/1.1\r\nhost: app\r\ncontent-length: 1000\r\n\r\nonly so much";
    for (number, (what, bytes)) in
        (1..).zip([("half a request head", &whole[..40]), ("half a body", upload), ("no answer yet", &whole[..])])
    {
        client::send_and_abort(proxy.filtered, bytes, LINGER).await.unwrap();
        proxy.assert_traces(number, what).await;
    }
    assert_no_trap(&proxy);
    let aborted = proxy.span_of(TRACE_ID).await;
    assert!(!aborted.attributes.contains_key("http.statusCode"), "{aborted:?}");
}
