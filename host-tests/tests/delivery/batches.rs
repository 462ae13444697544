//! What one post carries, how large it and the queue may get, and what becomes of a post that is too large.

use std::collections::BTreeSet;

use host_tests::{Answer, Envoy, HttpCall};
use serde_json::{Value, json};

use crate::harness::{
    Books, FLUSH_S, Target, and, assert_settled, class_counts, classes, drops, ids_of, later_ms, plain, records_of,
    request_id, requests, serve, serve_all, setup, unlimited,
};
use crate::support::Setup;

/// Bytes and records of one post, as the documentation promises them.
const BODY_BYTES_MAX: usize = 256 * 1024;
const BATCH_RECORDS_MAX: usize = 500;

fn accepted() -> Answer {
    Answer::status(202)
}

/// Runs the proxy with a receiver that accepts everything, and gives the posts.
fn posts(envoy: &mut Envoy, seconds: u64) -> Vec<HttpCall> {
    let before = envoy.http_calls().len();
    serve_all(envoy, seconds, &accepted());
    envoy.http_calls().split_off(before)
}

/// As [`unlimited`], with a text of so many bytes on every record.
fn wide(exporters: Value, bytes: usize) -> Setup {
    unlimited(exporters).with("span_events.custom_attributes", json!({ "wide": { "value": "w".repeat(bytes) } }))
}

#[test]
fn a_flush_comes_after_the_interval_and_not_before() {
    for (interval_ms, ticks_s) in [(5000, 5), (1000, 1), (60_000, 60)] {
        let mut envoy = Target::TraceApi.setup_with(and(plain(), "flush_interval_ms", interval_ms)).start();
        requests(&mut envoy, 0, 3);
        assert_eq!(posts(&mut envoy, ticks_s - 1).len(), 0, "{interval_ms}");
        let posts = posts(&mut envoy, 1);
        assert_eq!(posts.iter().map(|post| records_of(post).len()).collect::<Vec<_>>(), [3], "{interval_ms}");
    }
}

#[test]
fn a_short_interval_is_kept_too() {
    let mut envoy = Target::TraceApi.setup_with(and(plain(), "flush_interval_ms", 100)).start();
    requests(&mut envoy, 0, 1);
    envoy.advance(std::time::Duration::from_millis(200)).expect("no tick traps");
    assert_eq!(envoy.pending_calls().len(), 1);
}

#[test]
fn nothing_is_posted_when_there_is_nothing_to_post() {
    let mut envoy = setup(json!({ "trace_api": plain(), "event_api": plain() })).start();
    serve_all(&mut envoy, 60, &accepted());
    assert!(envoy.http_calls().is_empty());
}

#[test]
fn a_full_batch_goes_out_before_the_interval_ends() {
    let mut envoy = wide(json!({ "trace_api": and(plain(), "flush_interval_ms", 60_000) }), 500).start();
    requests(&mut envoy, 0, 600);
    let first = posts(&mut envoy, 1);
    assert!(
        !first.is_empty() && first.iter().all(|post| post.body.len() > BODY_BYTES_MAX - 2048),
        "bytes fill a batch"
    );
    let late = posts(&mut envoy, 61);
    assert_eq!(first.iter().chain(&late).map(|post| records_of(post).len()).sum::<usize>(), 600);
    assert!(late.len() == 1 && later_ms(&late[0], &first[0]) >= 58_000);
    assert_settled(&envoy);
}

#[test]
fn no_post_is_larger_than_it_may_be() {
    for target in ["trace_api", "otlp"] {
        for (bytes, count) in [(0, 1200), (700, 900), (4000, 200)] {
            let settings = and(plain(), "flush_interval_ms", 1000);
            let settings = if target == "otlp" { crate::harness::otlp(settings) } else { settings };
            let mut envoy = wide(json!({ target: settings }), bytes).start();
            requests(&mut envoy, 0, count);
            let posts = posts(&mut envoy, 30);
            assert!(posts.len() > 2, "{target} {bytes}");
            for post in &posts {
                let records = records_of(post).len();
                assert!(post.body.len() <= BODY_BYTES_MAX, "{target} {bytes}: {} bytes", post.body.len());
                assert!((1..=BATCH_RECORDS_MAX).contains(&records), "{target} {bytes}: {records} records");
            }
            let ids: BTreeSet<String> = posts.iter().flat_map(ids_of).collect();
            assert_eq!(ids.len(), count, "{target} {bytes}: every record once");
            assert_settled(&envoy);
        }
    }
}

#[test]
fn a_body_is_compressed_unless_the_operator_says_no() {
    let body_of = |gzip: bool| {
        let mut envoy = Target::TraceApi.setup_with(and(plain(), "gzip", gzip)).start();
        requests(&mut envoy, 0, 20);
        let post = posts(&mut envoy, FLUSH_S).remove(0);
        serve(&mut envoy, 1, |_, _| None);
        assert_eq!(envoy.counter("newrelic.export.bytes.trace_api"), post.body.len() as u64, "bytes on the wire");
        post
    };
    let (packed, plain) = (body_of(true), body_of(false));
    assert_eq!(packed.headers.text("content-encoding").as_deref(), Some("gzip"));
    assert_eq!(plain.headers.text("content-encoding"), None);
    for post in [&packed, &plain] {
        assert_eq!(post.headers.text("content-length"), Some(post.body.len().to_string().into()));
    }
    // RFC 1952: the magic, and at the end the sum and the length of what was compressed: the body of the proxy that
    // drew the same ids and does not compress.
    assert_eq!(packed.body[..3], [0x1f, 0x8b, 8]);
    let (_, end) = packed.body.split_at(packed.body.len() - 8);
    let sum_and_length = [crc32(&plain.body).to_le_bytes(), u32::try_from(plain.body.len()).unwrap().to_le_bytes()];
    assert_eq!(end, sum_and_length.concat());
    assert!(packed.body.len() * 4 < plain.body.len(), "{} of {}", packed.body.len(), plain.body.len());
}

/// The checksum of RFC 1952, section 8.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

/// A receiver that takes at most so many records in one post.
fn narrow(call: &HttpCall, most: usize) -> Answer {
    if records_of(call).len() > most { Answer::status(413).header("server", "ingest") } else { accepted() }
}

#[test]
fn a_post_that_is_too_large_is_halved_until_it_fits() {
    for (most, requests_made) in [(10, 40), (3, 21), (1, 16)] {
        let mut envoy = Target::TraceApi.setup().start();
        requests(&mut envoy, 0, requests_made);
        let mut arrived = Vec::new();
        let mut ids = Vec::new();
        serve(&mut envoy, FLUSH_S + 40, |call, _| {
            ids.push(request_id(call));
            let answer = narrow(call, most);
            if answer.headers.text(":status").as_deref() == Some("202") {
                arrived.extend(ids_of(call));
            }
            Some(answer)
        });
        let posts = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), posts, "{most}: every part has an id of its own");
        arrived.sort();
        arrived.dedup();
        assert_eq!(arrived.len(), requests_made, "{most}: every record arrives");
        assert_eq!(Books::of(&envoy, "spans").exported, requests_made as u64, "{most}");
        assert_settled(&envoy);
    }
}

#[test]
fn a_single_record_that_is_too_large_is_dropped_and_the_others_arrive() {
    let mut envoy = Target::TraceApi.setup().start();
    requests(&mut envoy, 0, 16);
    let mut victim = None;
    serve(&mut envoy, FLUSH_S + 40, |call, _| {
        let victim = victim.get_or_insert_with(|| ids_of(call)[5].clone());
        Some(if ids_of(call).contains(victim) { Answer::status(413).header("server", "x") } else { accepted() })
    });
    assert_eq!(drops(&envoy, "spans"), [("too_large", 1)].into());
    assert_eq!(Books::of(&envoy, "spans").exported, 15);
    assert_eq!(classes(&envoy, "trace_api"), class_counts(&[("4xx", 5), ("2xx", 4)]));
    assert!(envoy.logged(host_tests::LogLevel::Error, "1 span "), "{:?}", envoy.logs());
    assert_settled(&envoy);
}

#[test]
fn the_queue_is_bounded_in_bytes_and_what_does_not_fit_is_counted() {
    const QUEUE_BYTES: u64 = 200_000;
    let settings = and(and(plain(), "max_queue_bytes", QUEUE_BYTES), "flush_interval_ms", 1000);
    let mut envoy = unlimited(json!({ "trace_api": settings })).start();
    let mut most = 0;
    for _ in 0..30 {
        requests(&mut envoy, 0, 20);
        serve(&mut envoy, 1, |_, _| None);
        most = most.max(envoy.gauge("newrelic.queue.bytes").unwrap_or(0));
    }
    assert!((QUEUE_BYTES / 2..=QUEUE_BYTES).contains(&most), "{most} bytes");
    serve_all(&mut envoy, 200, &accepted());
    let books = Books::of(&envoy, "spans");
    assert_eq!(books.recorded, 600);
    assert!(books.exported > 100, "what was queued arrives when the receiver is back: {books:?}");
    assert_eq!(drops(&envoy, "spans"), [("queue_bytes", 600 - books.exported)].into());
    assert!(envoy.logged(host_tests::LogLevel::Error, "queue is full"), "{:?}", envoy.logs());
    assert_settled(&envoy);
}

#[test]
fn a_bounded_queue_with_a_reservoir_keeps_its_bound_too() {
    const QUEUE_BYTES: u64 = 100_000;
    let settings = and(plain(), "max_queue_bytes", QUEUE_BYTES);
    let mut envoy = setup(json!({ "trace_api": settings })).with("span_events.max_samples_stored", 10_000).start();
    for _ in 0..60 {
        requests(&mut envoy, 0, 30);
        serve(&mut envoy, 1, |_, _| None);
        assert!(envoy.gauge("newrelic.queue.bytes").unwrap_or(0) <= QUEUE_BYTES);
    }
    serve_all(&mut envoy, 200, &accepted());
    let books = Books::of(&envoy, "spans");
    assert_eq!(books.recorded, 1800);
    assert!(books.exported > 50 && drops(&envoy, "spans").contains_key("queue_bytes"), "{:?}", drops(&envoy, "spans"));
    assert_settled(&envoy);
}

#[test]
fn a_reservoir_holds_a_flushs_share_of_the_minute_and_at_least_a_hundred() {
    for (per_minute, interval_ms, kept) in
        [(2000, 5000, 166), (2000, 1000, 100), (6000, 5000, 500), (50, 5000, 50), (2000, 60_000, 2000)]
    {
        let settings = and(plain(), "flush_interval_ms", interval_ms);
        let mut envoy =
            setup(json!({ "trace_api": settings })).with("span_events.max_samples_stored", per_minute).start();
        requests(&mut envoy, 0, kept + 40);
        serve_all(&mut envoy, interval_ms / 1000 + 10, &accepted());
        assert_eq!(Books::of(&envoy, "spans").exported, kept as u64, "{per_minute} {interval_ms}");
        assert_eq!(drops(&envoy, "spans"), [("reservoir", 40)].into(), "{per_minute} {interval_ms}");
        assert_settled(&envoy);
    }
}

#[test]
fn a_minutes_budget_is_one_for_all_workers() {
    let mut envoy =
        setup(json!({ "trace_api": plain() })).with("span_events.max_samples_stored", 120).workers(4).start();
    for _ in 0..11 {
        for worker in 0..4 {
            requests(&mut envoy, worker, 20);
        }
        serve_all(&mut envoy, FLUSH_S, &accepted());
    }
    let books = Books::of(&envoy, "spans");
    assert_eq!((books.recorded, books.exported), (880, 120));
    assert_eq!(drops(&envoy, "spans"), [("reservoir", 760)].into());
    assert_settled(&envoy);
}

#[test]
fn batches_go_out_as_fast_as_they_fill_and_no_exporter_waits_for_another() {
    let events = and(plain(), "flush_interval_ms", 1000);
    let mut envoy = wide(json!({ "trace_api": plain(), "event_api": events }), 1000).start();
    let answering = std::time::Duration::from_millis(5);
    for _ in 0..5 {
        // About twenty batches of spans a second from one worker.
        requests(&mut envoy, 0, 800);
        for _ in 0..100 {
            envoy.advance(answering * 2).expect("no tick traps");
            envoy.answer_all(&accepted()).expect("the filter does not trap");
        }
    }
    let waiting = Books::of(&envoy, "spans").queued;
    assert!(waiting < 200, "only an open batch may wait: {waiting}");
    serve_all(&mut envoy, FLUSH_S + 1, &accepted());
    assert_eq!(Books::of(&envoy, "spans"), Books { recorded: 4000, exported: 4000, dropped: 0, queued: 0 });
    let first_events = envoy
        .http_calls()
        .into_iter()
        .find(|call| call.headers.text(":path").is_some_and(|path| path.ends_with("/events")));
    let first_events = first_events.expect("transactions are posted");
    let spans_since = envoy.http_calls().iter().filter(|call| call.sent_at_ns > first_events.sent_at_ns).count();
    assert!(spans_since > 0, "events went out between spans, not behind all of them");
}
