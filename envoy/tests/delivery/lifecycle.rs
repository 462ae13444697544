//! What becomes of spans that wait when Envoy drains, gets another configuration, or ends.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use envoy_demo::client::{self, Request};
use envoy_demo::ports::ReservedPort;
use envoy_demo::receiver::{Answer, Api, Receiver, Store};
use envoy_demo::stats::Stats;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::harness::{ARRIVAL_MAX, envoy_or_skip};
use crate::site::{HELD_PATH, Setup, Site, Source, plugin, received, receiver_at};

/// Longer than any test: what arrives did not wait for its flush.
const NEVER_MS: u32 = 60_000;
const SOON_MS: u32 = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

fn receiver() -> Receiver {
    receiver_at(ReservedPort::any().unwrap()).unwrap()
}

/// Waits for so many spans of a service.
async fn spans_of(receiver: &Receiver, service: &str, count: usize) -> usize {
    receiver
        .wait_until(ARRIVAL_MAX, |store| store.spans().filter(|span| span.service() == service).count() >= count)
        .await;
    receiver.read(|store| store.spans().filter(|span| span.service() == service).count())
}

/// Sends requests until one is recorded under the new configuration.
async fn until_new(site: &Site, receiver: &Receiver) {
    let deadline = Instant::now() + ARRIVAL_MAX;
    while receiver.read(|store| store.spans().all(|span| span.service() != "new")) {
        assert!(Instant::now() < deadline, "no request meets the new configuration\n{}", site.envoy.log());
        site.requests(1).await;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Every span of every request has arrived, once, and nothing waits.
async fn assert_all_arrived(site: &Site, receiver: &Receiver) {
    let count = site.app.span_ids().len() as u64;
    let is_done = |stats: &Stats| {
        let spans = stats.accounting("spans");
        spans.exported == count && spans.queued == 0
    };
    let stats = site.stats_when(is_done).await;
    let spans = stats.accounting("spans");
    assert!(is_done(&stats) && spans.balances() && spans.dropped == 0, "{count}: {spans:?}\n{}", site.envoy.log());
    assert_eq!(received(receiver), site.app.span_ids());
    assert_eq!(stats.value("newrelic.queue.bytes"), 0);
}

fn updating(source: Source) -> Setup {
    Setup { source, ..Setup::new(plugin("old", NEVER_MS)) }
}

async fn update_with_spans_waiting(envoy: &Path, source: Source) {
    let receiver = receiver();
    let site = Site::start(envoy, &updating(source), receiver.address()).await.unwrap();
    site.requests(60).await;
    site.stats_when(|stats| stats.accounting("spans").queued == 60).await;
    assert_eq!(received(&receiver).len(), 0, "all of them wait for their flush");
    site.update(&plugin("new", SOON_MS)).unwrap();
    until_new(&site, &receiver).await;
    assert!(spans_of(&receiver, "old", 60).await >= 60, "{source:?}");
    assert_all_arrived(&site, &receiver).await;
}

#[tokio::test]
async fn an_update_of_the_filter_alone_flushes_what_waits() {
    let Some(envoy) = envoy_or_skip() else { return };
    update_with_spans_waiting(&envoy, Source::Extension).await;
}

#[tokio::test]
async fn an_update_of_the_listener_flushes_what_waits() {
    let Some(envoy) = envoy_or_skip() else { return };
    update_with_spans_waiting(&envoy, Source::Listener).await;
}

#[tokio::test]
async fn an_update_while_the_receiver_fails_loses_nothing() {
    let Some(envoy) = envoy_or_skip() else { return };
    let receiver = receiver();
    let site = Site::start(&envoy, &updating(Source::Extension), receiver.address()).await.unwrap();
    site.requests(40).await;
    let failing = std::iter::repeat_n(Answer::status(axum::http::StatusCode::SERVICE_UNAVAILABLE), 8);
    receiver.answer_next(Api::Trace, failing);
    site.update(&plugin("new", SOON_MS)).unwrap();
    until_new(&site, &receiver).await;
    assert!(spans_of(&receiver, "old", 40).await >= 40);
    assert_all_arrived(&site, &receiver).await;
}

#[tokio::test]
async fn a_request_that_an_update_overtakes_is_recorded_by_the_old_configuration() {
    let Some(envoy) = envoy_or_skip() else { return };
    let receiver = receiver();
    // One worker, so that the request and those that follow it meet in it.
    let setup = Setup { workers: 1, ..updating(Source::Extension) };
    let site = Site::start(&envoy, &setup, receiver.address()).await.unwrap();
    let held = hold_request(&site).await;
    let span_id = site.app.span_ids().pop_first().unwrap();
    site.update(&plugin("new", SOON_MS)).unwrap();
    until_new(&site, &receiver).await;
    assert!(!received(&receiver).contains(&span_id));
    site.app.release();
    assert_eq!(held.await.unwrap().unwrap().status, 200);
    let arrived = |store: &Store| store.spans().any(|span| span.id == span_id && span.service() == "old");
    assert!(receiver.wait_until(ARRIVAL_MAX, arrived).await);
    assert_all_arrived(&site, &receiver).await;
}

/// Sends a request that the application answers only when it is told to, and waits until it is there.
async fn hold_request(site: &Site) -> JoinHandle<anyhow::Result<client::Response>> {
    let (address, before) = (site.filtered, site.app.span_ids().len());
    let held = tokio::spawn(async move { client::send(address, &Request::get("app", HELD_PATH)).await });
    let deadline = Instant::now() + ARRIVAL_MAX;
    while site.app.span_ids().len() == before {
        assert!(Instant::now() < deadline, "the request does not reach the application");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    held
}

#[tokio::test]
async fn a_refused_update_leaves_the_old_configuration_at_work() {
    let Some(envoy) = envoy_or_skip() else { return };
    let receiver = receiver();
    let setup = Setup { source: Source::Extension, ..Setup::new(plugin("old", SOON_MS)) };
    let site = Site::start(&envoy, &setup, receiver.address()).await.unwrap();
    site.requests(5).await;
    let mut wrong = plugin("new", SOON_MS);
    wrong["role"] = "sideways".into();
    site.update(&wrong).unwrap();
    let rejected = |stats: &Stats| {
        stats.below("extension_config_discovery.").any(|(name, count)| name.ends_with("config_fail") && count > 0)
    };
    assert!(rejected(&site.stats_when(rejected).await), "{}", site.envoy.log());
    assert!(site.envoy.log().contains("sideways"), "the log names the fault:\n{}", site.envoy.log());
    site.requests(5).await;
    assert_eq!(spans_of(&receiver, "old", 10).await, 10);
    assert_all_arrived(&site, &receiver).await;
}

#[tokio::test]
async fn a_draining_envoy_serves_and_records_the_requests_it_has() {
    let Some(envoy) = envoy_or_skip() else { return };
    for drain in ["/drain_listeners?graceful", "/drain_listeners", "/healthcheck/fail"] {
        let receiver = receiver();
        let site = Site::start(&envoy, &Setup::new(plugin("app", SOON_MS)), receiver.address()).await.unwrap();
        site.requests(10).await;
        let held = hold_request(&site).await;
        site.admin(drain).await.unwrap();
        site.app.release();
        assert_eq!(held.await.unwrap().unwrap().status, 200, "{drain}");
        assert_all_arrived(&site, &receiver).await;
    }
}

#[tokio::test]
async fn an_envoy_that_drains_longer_than_a_flush_before_it_ends_loses_nothing() {
    let Some(envoy) = envoy_or_skip() else { return };
    let receiver = receiver();
    let mut site = Site::start(&envoy, &Setup::new(plugin("app", SOON_MS)), receiver.address()).await.unwrap();
    site.requests(100).await;
    site.admin("/healthcheck/fail").await.unwrap();
    site.admin("/drain_listeners?graceful").await.unwrap();
    assert_all_arrived(&site, &receiver).await;
    site.terminate().unwrap();
    assert!(site.envoy.wait_for_exit().await.unwrap().success());
    assert_eq!(received(&receiver), site.app.span_ids());
}

#[tokio::test]
async fn an_envoy_with_spans_waiting_ends_in_order_all_the_same() {
    let Some(envoy) = envoy_or_skip() else { return };
    let receiver = receiver();
    let mut site = Site::start(&envoy, &Setup::new(plugin("app", NEVER_MS)), receiver.address()).await.unwrap();
    site.requests(100).await;
    site.terminate().unwrap();
    assert!(site.envoy.wait_for_exit().await.unwrap().success(), "{}", site.envoy.log());
    assert!(received(&receiver).is_subset(&site.app.span_ids()));
}

/// One measurement: what a SIGTERM finds.
#[derive(Debug, Clone, Copy)]
struct Case {
    workers: u32,
    spans: usize,
    /// Whether a flush came shortly before, so that there are connections to the receiver.
    after_flush: bool,
}

/// A reservoir holds the spans back until the flush, however many there are.
fn collecting(flush_interval_ms: u32) -> Value {
    let mut configuration = plugin("app", flush_interval_ms);
    configuration["span_events"]["max_samples_stored"] = 10_000.into();
    configuration
}

/// How many spans arrived after the signal, and how long Envoy took to end.
async fn measure_sigterm(envoy: &Path, case: Case) -> (usize, Duration) {
    let receiver = receiver();
    let configuration = collecting(if case.after_flush { 5000 } else { NEVER_MS });
    let setup = Setup { workers: case.workers, ..Setup::new(configuration) };
    let mut site = Site::start(envoy, &setup, receiver.address()).await.unwrap();
    if case.after_flush {
        site.requests(100).await;
        let flushed = |stats: &Stats| stats.accounting("spans").exported == 100;
        assert!(flushed(&site.stats_when(flushed).await));
    }
    let before = received(&receiver).len();
    site.requests(case.spans).await;
    let waiting = site.app.span_ids().len() - before;
    assert_eq!((waiting, received(&receiver).len()), (case.spans, before), "no flush comes in between");
    let begin = Instant::now();
    site.terminate().unwrap();
    site.envoy.wait_for_exit().await.unwrap();
    let took = begin.elapsed();
    // What was on its way arrives within a moment, and nothing follows: the process is gone.
    tokio::time::sleep(Duration::from_millis(500)).await;
    (received(&receiver).len() - before, took)
}

#[tokio::test]
#[ignore = "a measurement, for docs/shutdown.md"]
async fn measure_what_gets_out_on_sigterm() {
    let Some(envoy) = envoy_or_skip() else { return };
    let mut out = std::io::stdout();
    writeln!(out, "| Workers | Spans waiting | Connection | Arrived after the signal | Envoy ended after |").unwrap();
    writeln!(out, "|---|---|---|---|---|").unwrap();
    for workers in [1, 4] {
        for spans in [20, 500] {
            for after_flush in [false, true] {
                let (mut arrived, mut took) = (Vec::new(), Vec::new());
                for _ in 0..5 {
                    let result = measure_sigterm(&envoy, Case { workers, spans, after_flush }).await;
                    arrived.push(result.0.to_string());
                    took.push(result.1.as_millis().to_string());
                }
                let connection = if after_flush { "open" } else { "none yet" };
                let (arrived, took) = (arrived.join(", "), took.join(", "));
                writeln!(out, "| {workers} | {spans} | {connection} | {arrived} | {took} ms |").unwrap();
            }
        }
    }
}
