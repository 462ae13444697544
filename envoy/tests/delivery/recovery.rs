//! A receiver that fails in every way it can, and then works: whatever was offered has arrived once, or is counted as
//! dropped, and no request that the proxy served meanwhile has noticed.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::StatusCode;
use envoy_demo::ports::ReservedPort;
use envoy_demo::receiver::{Answer, Api, Receiver};
use envoy_demo::stats::Stats;
use tokio::io::AsyncReadExt;

use crate::harness::{ARRIVAL_MAX, envoy_or_skip};
use crate::site::{A_WHILE, Setup, Site, plugin, received, receiver_at};

/// Milliseconds between flushes, and between the filter's looks at its exporters.
const FLUSH_MS: u32 = 100;

/// Waits until nothing is queued any more, and compares what the application saw, what arrived, and what is counted.
async fn assert_accounted(site: &Site, receiver: &Receiver) -> Stats {
    let offered = site.app.span_ids();
    let count = offered.len() as u64;
    let is_settled = |stats: &Stats| {
        let spans = stats.accounting("spans");
        spans.recorded == count && spans.queued == 0 && stats.value("newrelic.queue.bytes") == 0
    };
    let stats = site.stats_when(is_settled).await;
    let spans = stats.accounting("spans");
    assert!(is_settled(&stats) && spans.balances(), "{spans:?}\n{}", site.envoy.log());
    let arrived = received(receiver);
    assert_eq!(arrived.difference(&offered).collect::<Vec<_>>(), Vec::<&String>::new(), "nothing is made up");
    assert_eq!(spans.exported, arrived.len() as u64, "exported is what arrived");
    assert_eq!(spans.dropped, (offered.len() - arrived.len()) as u64, "dropped is what did not");
    stats
}

fn answers(status: StatusCode, count: usize) -> impl Iterator<Item = Answer> {
    std::iter::repeat_n(Answer::status(status), count)
}

#[tokio::test]
async fn a_receiver_that_fails_in_every_way_and_recovers_gets_every_span_once() {
    let Some(envoy) = envoy_or_skip() else { return };
    let place = ReservedPort::any().unwrap();
    let site = Site::start(&envoy, &Setup::new(plugin("app", FLUSH_MS)), place.address()).await.unwrap();
    // Nobody listens there.
    site.requests(40).await;
    site.stats_when(|stats| stats.value("newrelic.export.requests.trace_api.unreachable") >= 2).await;
    let receiver = receiver_at(place).unwrap();
    let busy = Answer { retry_after_s: Some(1), ..Answer::status(StatusCode::TOO_MANY_REQUESTS) };
    let late = Answer { delay: A_WHILE, ..Answer::status(StatusCode::ACCEPTED) };
    receiver.answer_next(Api::Trace, answers(StatusCode::SERVICE_UNAVAILABLE, 2));
    receiver.answer_next(Api::Trace, [busy, Answer::status(StatusCode::REQUEST_TIMEOUT), late]);
    receiver.answer_next(Api::Trace, answers(StatusCode::PAYLOAD_TOO_LARGE, 2));
    receiver.answer_next(Api::Trace, answers(StatusCode::INTERNAL_SERVER_ERROR, 3));
    for _ in 0..10 {
        site.requests(20).await;
        tokio::time::sleep(Duration::from_millis(FLUSH_MS.into())).await;
    }
    let failed = 10;
    receiver.wait_until(ARRIVAL_MAX, |store| store.posts().count() > failed).await;
    let stats = assert_accounted(&site, &receiver).await;
    assert_eq!(stats.accounting("spans").dropped, 0, "every failure was one that passes");
    for class in ["unreachable", "timeout", "4xx", "429", "5xx", "2xx"] {
        assert!(stats.value(&format!("newrelic.export.requests.trace_api.{class}")) > 0, "{class}");
    }
}

#[tokio::test]
async fn what_a_receiver_refuses_for_good_is_counted_and_the_rest_arrives() {
    let Some(envoy) = envoy_or_skip() else { return };
    let receiver = receiver_at(ReservedPort::any().unwrap()).unwrap();
    let site = Site::start(&envoy, &Setup::new(plugin("app", FLUSH_MS)), receiver.address()).await.unwrap();
    let refusals = [StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN].map(Answer::status);
    receiver.answer_next(Api::Trace, refusals);
    for _ in 0..6 {
        site.requests(10).await;
        tokio::time::sleep(Duration::from_millis(3 * u64::from(FLUSH_MS))).await;
    }
    let stats = assert_accounted(&site, &receiver).await;
    let rejected = stats.value("newrelic.spans.dropped.rejected");
    assert!((1..60).contains(&rejected), "{rejected}");
    assert_eq!(stats.accounting("spans").dropped, rejected);
}

#[tokio::test]
async fn spans_beyond_the_queues_bound_are_counted_and_the_rest_arrives() {
    let Some(envoy) = envoy_or_skip() else { return };
    let place = ReservedPort::any().unwrap();
    let mut configuration = plugin("app", FLUSH_MS);
    configuration["exporters"]["trace_api"]["max_queue_bytes"] = 20_000.into();
    let site = Site::start(&envoy, &Setup::new(configuration), place.address()).await.unwrap();
    site.requests(300).await;
    let stats = site.stats_when(|stats| stats.accounting("spans").recorded == 300).await;
    let bytes = stats.value("newrelic.queue.bytes");
    assert!((1..=2 * 20_000).contains(&bytes), "two workers: {bytes}");
    let receiver = receiver_at(place).unwrap();
    let stats = assert_accounted(&site, &receiver).await;
    let dropped = stats.value("newrelic.spans.dropped.queue_bytes");
    assert!((1..300).contains(&dropped) && stats.accounting("spans").dropped == dropped, "{dropped}");
}

/// A receiver that takes every connection and all that is sent, and answers nothing.
async fn swallow(listener: tokio::net::TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        tokio::spawn(async move {
            let mut room = vec![0; 1 << 16];
            while stream.read(&mut room).await.is_ok_and(|read| read > 0) {}
        });
    }
}

#[tokio::test]
async fn no_request_waits_for_a_receiver_that_hangs() {
    let Some(envoy) = envoy_or_skip() else { return };
    let listener = ReservedPort::any().unwrap().listen().unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(swallow(listener));
    let mut configuration = plugin("app", FLUSH_MS);
    // Longer than the test may take: any request that waited for an answer of the receiver would miss its deadline.
    configuration["exporters"]["trace_api"]["timeout_ms"] = 600_000.into();
    let site = Site::start(&envoy, &Setup::new(configuration), address).await.unwrap();
    site.requests(50).await;
    let in_flight = |stats: &Stats| stats.value("cluster.newrelic.upstream_rq_active") > 0;
    assert!(in_flight(&site.stats_when(in_flight).await), "a post hangs");
    site.requests(200).await;
    let stats = site.stats_when(|stats| stats.accounting("spans").recorded == 250).await;
    let spans = stats.accounting("spans");
    assert_eq!((spans.recorded, spans.exported, spans.queued), (250, 0, 250), "the posts hang still");
    server.abort();
}

/// A receiver whose answer gets lost: the connection breaks once the post is there.
async fn lose_answers(listener: tokio::net::TcpListener, heads: tokio::sync::mpsc::UnboundedSender<Vec<u8>>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let mut head = vec![0; 1 << 16];
        let Ok(read) = stream.read(&mut head).await else { continue };
        head.truncate(read);
        if heads.send(head).is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_post_whose_answer_is_lost_is_made_again_under_the_same_id() {
    let Some(envoy) = envoy_or_skip() else { return };
    let listener = ReservedPort::any().unwrap().listen().unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let server = tokio::spawn(lose_answers(listener, sender));
    let setup = Setup { workers: 1, ..Setup::new(plugin("app", FLUSH_MS)) };
    let site = Site::start(&envoy, &setup, address).await.unwrap();
    site.requests(1).await;
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let head = tokio::time::timeout(ARRIVAL_MAX, heads.recv()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&head).into_owned();
        let id = text.lines().find_map(|line| line.strip_prefix("x-request-id: ")).map(str::to_owned);
        ids.insert(id.unwrap_or_else(|| panic!("no x-request-id in {text}")));
    }
    assert_eq!(ids.len(), 1, "the receiver can tell a second copy: {ids:?}");
    server.abort();
}
