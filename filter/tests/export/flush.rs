//! When records go out, how many at once, and which do when there are too many.

use crate::harness::{Call, SECOND, Span, Worker, config, event_api, http, trace_api, unlimited};
use newrelic_tracing::config::{Config, HttpExporter, InfiniteTracing, OtlpEncoding, SpanLimit};
use newrelic_tracing::export::Destination;
use newrelic_tracing::export::delivery::REQUESTS_IN_FLIGHT_MAX;
use newrelic_tracing::newrelic::priority::Priority;
use newrelic_tracing::stats::{Counter, Gauge};

fn observed(observer: HttpExporter, queue_size: u32) -> Config {
    Config { infinite_tracing: Some(InfiniteTracing { observer, queue_size }), ..config() }
}

#[test]
fn records_wait_for_the_flush_interval() {
    let mut worker = Worker::new(&trace_api(http()));
    worker.offer(3);
    assert_eq!(worker.exporters.next_wakeup_ns(), Some(worker.now + 5 * SECOND));
    worker.now += 5 * SECOND - 1;
    assert_eq!(worker.tick().len(), 0);
    worker.now += 1;
    assert_eq!(worker.tick().len(), 1);
}

#[test]
fn an_idle_worker_has_nothing_to_wake_up_for() {
    let mut worker = Worker::new(&trace_api(http()));
    assert_eq!(worker.exporters.next_wakeup_ns(), None);
    worker.offer(1);
    worker.drain(|_| 202);
    assert_eq!(worker.exporters.next_wakeup_ns(), None);
}

#[test]
fn a_request_has_the_headers_that_the_trace_api_asks_for() {
    let mut worker = Worker::new(&trace_api(HttpExporter { gzip: true, ..http() }));
    worker.random = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
    worker.offer(1);
    let call = worker.flush().remove(0);
    for (name, value) in [
        (":method", "POST"),
        (":authority", "receiver.test"),
        (":path", "/v1/x"),
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
        ("data-format", "newrelic"),
        ("data-format-version", "1"),
        ("api-key", "hunter2"),
        ("x-request-id", "01234567-89ab-4def-8123-456789abcdef"),
    ] {
        assert_eq!(call.header(name), Some(value), "{name}");
    }
    assert!(call.header("user-agent").unwrap().starts_with("envoy-newrelic-filter/"));
    assert_eq!((call.cluster.as_str(), call.timeout_ms), ("receiver", 10_000));
    assert_eq!(worker.named("newrelic.export.bytes.trace_api"), call.body.len() as u64);
}

#[test]
fn other_receivers_get_no_header_of_the_trace_api() {
    let mut config = config();
    config.exporters.otlp = Some((OtlpEncoding::Protobuf, http()));
    config.exporters.event_api = Some(http());
    let mut worker = Worker::new(&config);
    worker.offer(1);
    worker.offer_transaction(Priority::ZERO);
    let calls = worker.flush();
    assert_eq!(calls.len(), 2);
    for call in &calls {
        assert_eq!((call.header("data-format"), call.header("content-encoding")), (None, None));
        let protobuf = call.exporter == Destination::Otlp;
        let expected = if protobuf { "application/x-protobuf" } else { "application/json" };
        assert_eq!(call.header("content-type"), Some(expected));
    }
}

#[test]
fn a_compressed_body_is_the_plain_one_for_whoever_unpacks_it() {
    let calls = [true, false].map(|gzip| {
        let mut worker = Worker::new(&trace_api(HttpExporter { gzip, ..http() }));
        worker.offer(100);
        worker.flush().remove(0)
    });
    let deflate = &calls[0].body[10..calls[0].body.len() - 8];
    assert_eq!(miniz_oxide::inflate::decompress_to_vec(deflate).unwrap(), calls[1].body);
    assert!(calls[0].body.len() * 5 < calls[1].body.len());
}

#[test]
fn a_secret_is_in_no_log_line_and_no_debug_output() {
    let mut worker = Worker::new(&trace_api(http()));
    worker.offer(1);
    worker.drain(|_| 503);
    let log = worker.take_log().join("\n");
    assert!(!log.is_empty() && !log.contains("hunter2"));
    assert!(!format!("{:?}", worker.exporters).contains("hunter2"));
}

#[test]
fn a_flush_makes_as_many_batches_as_500_records_and_256_kib_ask_for() {
    for (count, url_bytes, least_batches) in [(500, 10, 1), (501, 10, 2), (1200, 10, 3), (400, 4000, 7)] {
        let mut config = trace_api(http());
        config.span_events.max_samples_stored = SpanLimit::PerMinute(10_000);
        let flush_interval_ms = 60_000;
        config.exporters.trace_api = Some(HttpExporter { flush_interval_ms, ..http() });
        let mut worker = Worker::new(&config);
        for _ in 0..count {
            worker.offer_span(Span { url_bytes, ..Span::default() });
        }
        worker.now += 60 * SECOND;
        let calls = worker.tick();
        assert!(calls.iter().all(|call| call.ids().len() <= 500), "{count}");
        assert_eq!(calls.iter().map(|call| call.ids().len()).sum::<usize>(), count);
        assert!((least_batches..=least_batches + 2).contains(&calls.len()), "{count}: {}", calls.len());
    }
}

#[test]
fn without_a_reservoir_a_full_batch_does_not_wait() {
    let mut worker = Worker::new(&unlimited(http()));
    for _ in 0..68 {
        worker.offer_span(Span { url_bytes: 4000, ..Span::default() });
    }
    let calls = worker.tick();
    assert_eq!(calls.len(), 1, "256 KiB are full");
    assert!(calls[0].ids().len() < 68);
    worker.answer_status(&calls[0], 202);
    assert_eq!(worker.drain(|_| 202).len(), 1, "the rest comes with the flush");
}

#[test]
fn a_span_with_endless_texts_is_shortened_until_it_fits() {
    use newrelic_tracing::id::{SpanId, TraceId, TraceIdentity};
    use newrelic_tracing::record::{Attribute, Name, Origin, OtlpStatus, SpanKind, SpanRecord, Value};
    let names: Vec<String> = (0..60).map(|number| format!("user.{number}")).collect();
    let text = vec![0xff; 60_000];
    let attributes: Vec<_> =
        names.iter().map(|name| Attribute { name: Name::User(name), value: Value::Text(&text) }).collect();
    let trace = TraceIdentity::from(TraceId::from_u128(1).unwrap());
    let record = SpanRecord {
        kind: SpanKind::Server,
        trace: &trace,
        span_id: SpanId::from_u64(1).unwrap(),
        parent: None,
        name: b"n",
        otlp_name: b"n",
        start_ns: 1,
        duration_ns: 1,
        priority: Priority::ZERO,
        sampled: true,
        origin: Origin::Local,
        otlp_status: OtlpStatus::Unset,
        trace_state: b"",
        attributes: &attributes,
    };
    let mut worker = Worker::new(&trace_api(http()));
    assert_eq!(worker.exporters.offer_span(&record, &mut worker.stats), None);
    let call = worker.flush().remove(0);
    let value = call.json()[0]["spans"][0]["attributes"]["user.59"].as_str().unwrap().to_owned();
    assert_eq!(value, "\u{fffd}".repeat(255));
}

#[test]
fn the_reservoir_keeps_the_highest_priorities_of_an_interval() {
    // 2000 a minute are 166 in five seconds.
    let mut worker = Worker::new(&trace_api(http()));
    for number in 0..400 {
        worker.offer_span(Span { priority: Priority::from_whole(number), ..Span::default() });
    }
    assert_eq!(worker.count(Counter::SpansDroppedReservoir), 400 - 166);
    let ids = worker.flush()[0].ids();
    // The ids count from one, and the best come first.
    let expected: Vec<String> = (400 - 166..400).rev().map(|number| format!("{:016x}", number + 1)).collect();
    assert_eq!(ids, expected);
}

#[test]
fn a_short_interval_does_not_cut_the_reservoir_below_100() {
    for (limit, kept) in [(2000, 100), (50, 50)] {
        let mut config = trace_api(HttpExporter { flush_interval_ms: 100, ..http() });
        config.span_events.max_samples_stored = SpanLimit::PerMinute(limit);
        let mut worker = Worker::new(&config);
        worker.offer(300);
        assert_eq!(worker.exporters.queued_records(), kept, "{limit}");
    }
}

#[test]
fn what_the_minutes_budget_does_not_grant_is_dropped_from_the_low_end() {
    let mut worker = Worker::new(&trace_api(http()));
    worker.budget = |request| Some(request.records - 4);
    for number in 0..10 {
        worker.offer_span(Span { priority: Priority::from_whole(number), ..Span::default() });
    }
    let ids = worker.flush()[0].ids();
    assert_eq!(ids.len(), 6);
    assert_eq!(ids[0], format!("{:016x}", 10));
    assert_eq!(worker.count(Counter::SpansDroppedReservoir), 4);
}

#[test]
fn without_shared_data_each_worker_keeps_the_minutes_limit_by_itself() {
    let mut worker = Worker::new(&event_api(http()));
    worker.budget = |_| None;
    let mut received = 0;
    for _ in 0..24 {
        for _ in 0..100 {
            worker.offer_transaction(Priority::ZERO);
        }
        for call in worker.flush() {
            received += call.ids().len();
            worker.answer_status(&call, 200);
        }
    }
    assert_eq!(received, 2400, "two minutes of 1200");
    let mut worker = Worker::new(&event_api(HttpExporter { flush_interval_ms: 1000, ..http() }));
    worker.budget = |_| None;
    let mut received = 0;
    for _ in 0..59 {
        for _ in 0..100 {
            worker.offer_transaction(Priority::ZERO);
        }
        worker.now += SECOND;
        for call in worker.tick() {
            received += call.ids().len();
            worker.answer_status(&call, 200);
        }
    }
    assert_eq!(received, 1200, "one minute");
}

#[test]
fn a_queue_full_of_bytes_takes_nothing_more_and_says_so_once_a_minute() {
    for config in [
        unlimited(HttpExporter { max_queue_bytes: 3000, ..http() }),
        trace_api(HttpExporter { max_queue_bytes: 3000, ..http() }),
    ] {
        let mut worker = Worker::new(&config);
        worker.offer(100);
        let queued = worker.stats.pending_gauge(Gauge::QueueBytes);
        assert!((2500..=3000).contains(&queued), "{queued}");
        let dropped = worker.count(Counter::SpansDroppedQueueBytes);
        assert_eq!(dropped + worker.exporters.queued_records() as u64, 100);
        worker.flush();
        worker.offer(1);
        worker.flush();
        let log = worker.take_log();
        assert_eq!(log, [format!("Error exporter trace_api: {dropped} spans dropped: the queue is full")]);
    }
}

#[test]
fn a_batch_in_flight_is_still_queued() {
    let mut worker = Worker::new(&trace_api(http()));
    worker.offer(5);
    let call = worker.flush().remove(0);
    assert_eq!(worker.stats.pending_gauge(Gauge::QueueSpans), 5);
    worker.answer_status(&call, 202);
    assert_eq!(worker.stats.pending_gauge(Gauge::QueueSpans), 0);
    assert_eq!(worker.stats.pending_gauge(Gauge::QueueBytes), 0);
}

#[test]
fn a_receiver_that_does_not_answer_gets_no_more_than_so_many_requests_at_a_time() {
    let mut worker = Worker::new(&unlimited(HttpExporter { timeout_ms: 0, ..http() }));
    let mut calls = Vec::new();
    for _ in 0..2 * REQUESTS_IN_FLIGHT_MAX {
        worker.offer(1);
        calls.extend(worker.flush());
    }
    assert_eq!(calls.len(), REQUESTS_IN_FLIGHT_MAX);
    worker.answer_status(&calls[0], 202);
    assert_eq!(worker.tick().len(), 1, "one answer, one more request");
}

#[test]
fn the_last_flush_sends_everything_at_once_and_what_is_left_is_dropped_as_shutdown() {
    let mut worker = Worker::new(&trace_api(http()));
    worker.offer(3);
    let call = worker.flush().remove(0);
    worker.answer(&call, &[(":status", "429"), ("retry-after", "300")]);
    worker.offer(4);
    worker.exporters.close();
    let calls = worker.tick();
    assert_eq!(calls.iter().map(|call| call.ids().len()).sum::<usize>(), 7, "the paused batch and the reservoir");
    worker.answer_status(&calls[0], 202);
    worker.exporters.abandon(&mut worker.stats);
    worker.check();
    let exported = worker.count(Counter::SpansExported);
    assert_eq!(worker.count(Counter::SpansDroppedShutdown), 7 - exported);
    worker.offer(2);
    assert_eq!(worker.count(Counter::SpansDroppedShutdown), 9 - exported);
    assert!(worker.take_log().iter().any(|line| line.ends_with("still queued at shutdown")));
}

#[test]
fn a_trace_observer_gets_every_span_and_the_trace_api_none() {
    let mut config = observed(http(), 10_000);
    config.exporters.trace_api = Some(http());
    config.exporters.otlp = Some((OtlpEncoding::Json, http()));
    let mut worker = Worker::new(&config);
    assert!(worker.exporters.wants_unsampled_spans());
    let sampled = worker.offer(1).remove(0);
    let unsampled = worker.offer_span(Span { sampled: false, ..Span::default() });
    let calls = worker.flush();
    let of = |destination| calls.iter().filter(|call| call.exporter == destination).collect::<Vec<&Call>>();
    assert_eq!(of(Destination::InfiniteTracing)[0].ids(), [sampled.clone(), unsampled]);
    assert_eq!(of(Destination::InfiniteTracing)[0].header("data-format"), Some("newrelic"));
    assert_eq!(of(Destination::TraceApi).len(), 0);
    let otlp = of(Destination::Otlp)[0].json();
    let spans = otlp["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    assert_eq!(spans.iter().map(|span| span["spanId"].as_str().unwrap()).collect::<Vec<_>>(), [sampled]);
}

#[test]
fn the_observers_queue_is_bounded_in_spans_and_drops_the_newest() {
    let mut worker = Worker::new(&observed(http(), 5));
    let ids = worker.offer(8);
    assert_eq!(worker.count(Counter::SpansDroppedQueueSize), 3);
    let call = worker.flush().remove(0);
    assert_eq!(call.ids(), ids[..5]);
    worker.offer(1);
    assert_eq!(worker.count(Counter::SpansDroppedQueueSize), 4, "spans in flight still count");
    worker.answer_status(&call, 202);
    worker.offer(1);
    assert_eq!(worker.count(Counter::SpansDroppedQueueSize), 4);
}

#[test]
fn an_observer_counts_for_nothing_while_spans_are_off() {
    for (tracing, spans) in [(false, true), (true, false)] {
        let mut config = observed(http(), 5);
        config.exporters.trace_api = Some(http());
        config.distributed_tracing.enabled = tracing;
        config.span_events.enabled = spans;
        let worker = Worker::new(&config);
        assert!(!worker.exporters.wants_spans() && !worker.exporters.wants_unsampled_spans());
    }
}

#[test]
fn each_kind_of_record_is_wanted_only_when_an_exporter_takes_it() {
    for (config, spans, transactions) in
        [(config(), false, false), (trace_api(http()), true, false), (event_api(http()), false, true)]
    {
        let worker = Worker::new(&config);
        assert_eq!((worker.exporters.wants_spans(), worker.exporters.wants_transactions()), (spans, transactions));
    }
    let mut off = event_api(http());
    off.transaction_events.enabled = false;
    assert!(!Worker::new(&off).exporters.wants_transactions());
}
