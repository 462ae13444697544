//! What every answer does to a batch: New Relic's telemetry SDK specification, the OTLP specification.

use crate::harness::{Call, SECOND, Worker, config, event_api, http, trace_api};
use newrelic_tracing::config::{Exporters as ExporterSettings, HttpExporter, OtlpEncoding};
use newrelic_tracing::export::Refusal;
use newrelic_tracing::export::response::Response;
use newrelic_tracing::newrelic::priority::Priority;
use newrelic_tracing::stats::Counter;
use std::collections::BTreeSet;

/// What one answer leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    Dropped,
    Kept,
}

fn fate(worker: &Worker) -> Fate {
    match (worker.exporters.queued_records(), worker.count(Counter::SpansExported)) {
        (0, 0) => Fate::Dropped,
        (0, _) => Fate::Done,
        _ => Fate::Kept,
    }
}

fn otlp(http: HttpExporter) -> newrelic_tracing::config::Config {
    let otlp = Some((OtlpEncoding::Json, http));
    newrelic_tracing::config::Config { exporters: ExporterSettings { otlp, ..ExporterSettings::default() }, ..config() }
}

/// Sends three batches of two spans and answers each with the status; returns the log as well.
fn three_batches(config: &newrelic_tracing::config::Config, status: u16) -> (Worker, Vec<String>) {
    let mut worker = Worker::new(config);
    for _ in 0..3 {
        worker.offer(2);
        let calls = worker.flush();
        let call = calls.last().expect("a new batch is tried whatever became of the others");
        worker.answer_status(call, status);
    }
    let log = worker.take_log();
    (worker, log)
}

#[test]
fn every_status_of_new_relics_apis_leads_where_their_specification_says() {
    for (status, expected, lines) in [
        (200, Fate::Done, 3),
        (202, Fate::Done, 3),
        (299, Fate::Done, 3),
        (400, Fate::Dropped, 1),
        (401, Fate::Dropped, 1),
        (403, Fate::Dropped, 1),
        (404, Fate::Dropped, 1),
        (405, Fate::Dropped, 1),
        (408, Fate::Kept, 3),
        (409, Fate::Dropped, 1),
        (410, Fate::Dropped, 1),
        (411, Fate::Dropped, 1),
        (413, Fate::Kept, 3),
        (414, Fate::Dropped, 1),
        (415, Fate::Dropped, 1),
        (429, Fate::Kept, 3),
        (431, Fate::Dropped, 1),
        (500, Fate::Kept, 3),
        (502, Fate::Kept, 3),
        (503, Fate::Kept, 3),
        (504, Fate::Kept, 3),
        (599, Fate::Kept, 3),
        (302, Fate::Kept, 3),
        (418, Fate::Kept, 3),
    ] {
        let (worker, log) = three_batches(&trace_api(http()), status);
        assert_eq!(fate(&worker), expected, "{status}");
        assert_eq!(log.len(), lines, "{status}: {log:?}");
        let level = match expected {
            Fate::Done => "Debug ",
            Fate::Dropped => "Error ",
            Fate::Kept => "Warn ",
        };
        assert!(log.iter().all(|line| line.starts_with(level)), "{status}: {log:?}");
        if expected == Fate::Dropped {
            assert_eq!(worker.count(Counter::SpansDroppedRejected), 6, "{status}");
            assert!(log[0].contains("2 spans"), "{log:?}");
        }
    }
}

#[test]
fn every_status_of_an_otlp_receiver_leads_where_opentelemetry_says() {
    for (status, expected) in [
        (200, Fate::Done),
        (400, Fate::Dropped),
        (401, Fate::Dropped),
        (403, Fate::Dropped),
        (404, Fate::Dropped),
        (408, Fate::Dropped),
        (413, Fate::Kept),
        (422, Fate::Dropped),
        (429, Fate::Kept),
        (500, Fate::Dropped),
        (501, Fate::Dropped),
        (502, Fate::Kept),
        (503, Fate::Kept),
        (504, Fate::Kept),
    ] {
        let (worker, _) = three_batches(&otlp(http()), status);
        assert_eq!(fate(&worker), expected, "{status}");
    }
}

#[test]
fn a_refused_key_is_logged_again_after_an_hour_with_what_it_cost() {
    let (mut worker, _) = three_batches(&trace_api(http()), 403);
    worker.now += 3600 * SECOND;
    worker.offer(1);
    let call = worker.flush().remove(0);
    worker.answer_status(&call, 403);
    let log = worker.take_log();
    assert_eq!(
        log,
        ["Error exporter trace_api: 1 span dropped: the receiver answered 403; 4 more since this was last logged"]
    );
}

#[test]
fn a_batch_is_tried_again_after_0_5_10_20_40_80_80_80_seconds_and_then_dropped() {
    let mut worker = Worker::new(&trace_api(http()));
    let ids = worker.offer(3);
    let calls = worker.drain(|_| 503);
    let tries: Vec<u64> = calls.iter().map(|call| call.at / SECOND).collect();
    // The first try comes with the first flush, five seconds after the start.
    assert_eq!(tries, [0, 0, 5, 15, 35, 75, 155, 235, 315].map(|second| second + 5));
    assert!(calls.iter().all(|call| call.ids() == ids && call.request_id() == calls[0].request_id()));
    assert_eq!(worker.count(Counter::SpansDroppedRetriesExhausted), 3);
    let log = worker.take_log();
    assert_eq!(
        log.last().unwrap(),
        "Error exporter trace_api: 3 spans dropped after 8 retries: the receiver answered 503"
    );
}

#[test]
fn chance_lengthens_a_pause_by_at_most_a_tenth() {
    let mut worker = Worker::new(&trace_api(http()));
    worker.random = u128::from(u32::MAX);
    worker.offer(1);
    let calls = worker.drain(|_| 500);
    let pauses: Vec<u64> = calls.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    for (pause, seconds) in pauses.iter().zip([0, 5, 10, 20, 40, 80, 80, 80]) {
        let (least, most) = (seconds * SECOND, seconds * SECOND * 11 / 10);
        assert!((least..=most).contains(pause), "{pauses:?}");
    }
    assert!(pauses[1] > 5 * SECOND, "chance has no effect: {pauses:?}");
}

#[test]
fn attempts_0_never_tries_again() {
    let mut settings = http();
    settings.retry.attempts = 0;
    let mut worker = Worker::new(&trace_api(settings));
    worker.offer(2);
    assert_eq!(worker.drain(|_| 503).len(), 1);
    assert_eq!(worker.count(Counter::SpansDroppedRetriesExhausted), 2);
}

#[test]
fn retry_after_is_waited_for_and_holds_back_everything_else() {
    for (value, seconds) in [("7", 7), ("300", 300), ("100000", 300)] {
        let mut worker = Worker::new(&trace_api(http()));
        worker.offer(1);
        let call = worker.flush().remove(0);
        worker.answer(&call, &[(":status", "429"), ("retry-after", value)]);
        worker.offer(1);
        worker.now += seconds * SECOND - 1;
        assert_eq!(worker.tick().len(), 0, "{value}");
        worker.now += 1;
        let calls = worker.tick();
        assert_eq!(calls.len(), 2, "{value}: the batch, and the one that was held back");
        assert!(calls.iter().any(|next| next.request_id() == call.request_id()), "{value}");
    }
}

#[test]
fn a_429_without_a_readable_retry_after_is_paused_by_the_backoff() {
    for headers in [&[(":status", "429")][..], &[(":status", "429"), ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")]]
    {
        let mut worker = Worker::new(&trace_api(http()));
        worker.offer(1);
        let call = worker.flush().remove(0);
        worker.answer(&call, headers);
        let again = worker.tick().remove(0);
        worker.answer(&again, headers);
        worker.now += 5 * SECOND - 1;
        assert_eq!(worker.tick().len(), 0);
        worker.now += 1;
        assert_eq!(worker.tick().len(), 1);
    }
}

#[test]
fn a_batch_that_is_too_large_is_halved_until_it_is_not() {
    let mut worker = Worker::new(&trace_api(http()));
    let ids = worker.offer(100);
    let mut received = Vec::new();
    let calls = worker.drain(|call| {
        let ids = call.ids();
        if ids.len() > 7 {
            return 413;
        }
        received.extend(ids);
        202
    });
    received.sort();
    assert_eq!(received, ids, "every span exactly once");
    let request_ids: BTreeSet<_> = calls.iter().map(Call::request_id).collect();
    assert_eq!(request_ids.len(), calls.len(), "a part is a new request");
}

#[test]
fn a_span_that_is_too_large_even_alone_is_dropped_and_the_others_arrive() {
    let mut worker = Worker::new(&trace_api(http()));
    let ids = worker.offer(9);
    let poison = &ids[5];
    let mut received = Vec::new();
    worker.drain(|call| {
        if call.ids().contains(poison) {
            return 413;
        }
        received.extend(call.ids());
        202
    });
    received.sort();
    assert_eq!(received, ids.iter().filter(|id| *id != poison).cloned().collect::<Vec<_>>());
    assert_eq!(worker.count(Counter::SpansDroppedTooLarge), 1);
    let log = worker.take_log();
    assert!(log.contains(&"Error exporter trace_api: 1 span dropped: the receiver answered 413".to_owned()), "{log:?}");
}

#[test]
fn a_receiver_that_refuses_every_size_ends_with_single_spans() {
    let mut worker = Worker::new(&otlp(http()));
    worker.offer(64);
    let calls = worker.drain(|_| 413);
    assert_eq!(calls.len(), 127, "the nodes of a binary tree with 64 leaves");
    assert_eq!(worker.count(Counter::SpansDroppedTooLarge), 64);
}

#[test]
fn a_cluster_that_the_proxy_does_not_know_is_reported_once_and_its_batches_wait_for_it() {
    let mut worker = Worker::new(&trace_api(http()));
    let ids = worker.offer(2);
    for _ in 0..4 {
        worker.now += 5 * SECOND;
        assert_eq!(worker.tick_with(|_| Some(Refusal::UnknownCluster)).len(), 0);
    }
    assert!(worker.named("newrelic.export.requests.trace_api.unreachable") >= 3);
    assert_eq!(worker.take_log(), ["Error exporter trace_api: the proxy has no cluster \"receiver\""]);
    let calls = worker.drain(|_| 202);
    assert_eq!(calls.iter().flat_map(Call::ids).collect::<Vec<_>>(), ids);
    assert_eq!(worker.count(Counter::SpansExported), 2);
    assert_eq!(worker.named("newrelic.export.bytes.trace_api"), calls[0].body.len() as u64, "only what was sent");
}

#[test]
fn a_call_that_fails_as_it_begins_is_tried_again() {
    let mut worker = Worker::new(&trace_api(http()));
    worker.offer(1);
    worker.now += 5 * SECOND;
    assert_eq!(worker.tick_with(|_| Some(Refusal::Failed)).len(), 0);
    assert_eq!(worker.drain(|_| 202).len(), 1);
    assert_eq!(worker.count(Counter::SpansExported), 1);
    assert!(worker.take_log()[0].contains("the receiver cannot be reached"));
}

#[test]
fn the_proxys_own_answers_count_as_unreachable_and_timeout() {
    let local = [("content-length", "24"), ("content-type", "text/plain")];
    for (status, is_local, class) in [
        ("503", true, "unreachable"),
        ("504", true, "timeout"),
        ("503", false, "5xx"),
        ("504", false, "5xx"),
        ("429", false, "429"),
        ("404", false, "4xx"),
        ("202", false, "2xx"),
    ] {
        let mut worker = Worker::new(&trace_api(http()));
        worker.offer(1);
        let call = worker.flush().remove(0);
        let mut headers = vec![(":status", status)];
        headers.extend(local);
        headers.extend((!is_local).then_some(("date", "Thu, 01 Jan 2026 00:00:05 GMT")));
        worker.answer(&call, &headers);
        assert_eq!(worker.named(&format!("newrelic.export.requests.trace_api.{class}")), 1, "{headers:?}");
    }
}

#[test]
fn a_call_that_ends_without_an_answer_is_tried_again() {
    let mut worker = Worker::new(&event_api(http()));
    worker.offer_transaction(Priority::ZERO);
    let call = worker.flush().remove(0);
    worker.answer(&call, &[]);
    assert_eq!(worker.named("newrelic.export.requests.event_api.unreachable"), 1);
    worker.drain(|_| 200);
    assert_eq!(worker.count(Counter::TransactionsExported), 1);
}

#[test]
fn a_call_that_is_never_answered_is_given_up_after_its_timeout_and_a_late_answer_is_nobodys() {
    let mut worker = Worker::new(&trace_api(http()));
    let ids = worker.offer(1);
    let lost = worker.flush().remove(0);
    worker.now += u64::from(lost.timeout_ms) * 1_000_000;
    assert_eq!(worker.tick().len(), 0, "the proxy's own 504 may still be on its way");
    worker.now += 10 * SECOND;
    let again = worker.tick().remove(0);
    assert_eq!((again.ids(), again.request_id()), (ids, lost.request_id()));
    let late = crate::harness::response(&[(":status", "202")]);
    assert!(!worker.exporters.answered(lost.call_id, &late, worker.now, &mut worker.stats));
    worker.answer_status(&again, 202);
    assert_eq!(worker.count(Counter::SpansExported), 1);
}

#[test]
fn the_latency_of_every_answer_is_observed() {
    let mut worker = Worker::new(&trace_api(http()));
    worker.offer(1);
    let call = worker.flush().remove(0);
    worker.now += 17_600_000;
    worker.answer_status(&call, 202);
    let mut seen = Vec::new();
    worker.stats.take_named(
        |name, _| Some(u32::from(name.ends_with("latency_ms.trace_api"))),
        |metric, update| {
            if metric == 1 {
                seen.push(update);
            }
        },
    );
    assert_eq!(seen, [newrelic_tracing::stats::Update::Record(17)]);
}

#[test]
fn spans_that_an_otlp_receiver_rejects_in_a_success_are_dropped_and_not_sent_again() {
    for (rejected, dropped) in [(3, 3), (500, 10)] {
        let mut worker = Worker::new(&otlp(http()));
        worker.offer(10);
        let call = worker.flush().remove(0);
        let body = format!("{{\"partialSuccess\":{{\"rejectedSpans\":\"{rejected}\"}}}}");
        let answer = Response { status: Some(200), body: body.as_bytes(), ..Response::default() };
        assert!(worker.exporters.answered(call.call_id, &answer, worker.now, &mut worker.stats));
        worker.check();
        assert_eq!(worker.count(Counter::SpansDroppedRejected), dropped);
        assert_eq!(worker.count(Counter::SpansExported), 10 - dropped);
        assert_eq!(worker.exporters.next_wakeup_ns(), None);
    }
}
