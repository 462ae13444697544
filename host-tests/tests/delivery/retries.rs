//! When a post is made again, what stays the same about it, and when it is given up.

use host_tests::{Answer, Envoy, HttpCall, LogLevel};
use serde_json::{Value, json};

use crate::harness::{
    Books, FLUSH_S, Target, and, assert_settled, class_counts, classes, drops, ids_of, later_ms, lines, plain,
    request_id, requests, serve, serve_all, setup, unlimited,
};
use crate::support::{CLUSTER, module};

/// A pause begins with an answer and ends with a tick: it may be so much longer than asked for.
const TICK_MS: u64 = 1000;

fn server(status: u16) -> Answer {
    Answer::status(status).header("server", "ingest")
}

/// One record and a receiver that gives each of its posts the same answer.
fn refused(settings: Value, seconds: u64, answer: &Answer) -> (Envoy, Vec<HttpCall>) {
    let mut envoy = Target::TraceApi.setup_with(settings).start();
    requests(&mut envoy, 0, 1);
    let mut posts = Vec::new();
    serve(&mut envoy, seconds, |call, _| {
        posts.push(call.clone());
        Some(answer.clone())
    });
    (envoy, posts)
}

fn pauses_ms(posts: &[HttpCall]) -> Vec<u64> {
    posts.windows(2).map(|pair| later_ms(&pair[1], &pair[0])).collect()
}

/// Each pause is the one asked for, a tenth more at most, and then up to a tick.
fn assert_pauses(posts: &[HttpCall], seconds: &[u64]) {
    let pauses = pauses_ms(posts);
    assert_eq!(pauses.len(), seconds.len(), "{pauses:?}");
    for (pause_ms, asked_ms) in pauses.iter().zip(seconds.iter().map(|seconds| seconds * 1000)) {
        let longest = asked_ms + asked_ms / 10 + TICK_MS;
        assert!((asked_ms..=longest).contains(pause_ms), "{pauses:?} instead of {seconds:?} s");
    }
}

#[test]
fn pauses_double_until_the_last_retry_and_then_the_records_are_dropped() {
    let (envoy, posts) = refused(plain(), 420, &server(503));
    assert_pauses(&posts, &[0, 5, 10, 20, 40, 80, 80, 80]);
    assert_eq!(drops(&envoy, "spans"), [("retries_exhausted", 1)].into());
    assert_eq!(classes(&envoy, "trace_api"), class_counts(&[("5xx", 9)]));
    let errors = lines(&envoy, LogLevel::Error);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(["trace_api", "1 span ", "8 retries", "503"].iter().all(|part| errors[0].contains(part)), "{errors:?}");
    assert_settled(&envoy);
}

#[test]
fn the_operator_chooses_the_pauses() {
    let retry = json!({ "factor_ms": 1000, "max_ms": 16_000, "attempts": 7 });
    let (envoy, posts) = refused(and(plain(), "retry", retry), 90, &server(500));
    assert_pauses(&posts, &[0, 1, 2, 4, 8, 16, 16]);
    assert_settled(&envoy);
}

#[test]
fn without_retries_a_failed_post_is_dropped_at_once() {
    let (envoy, posts) = refused(and(plain(), "retry", json!({ "attempts": 0 })), FLUSH_S + 2, &server(500));
    assert_eq!(posts.len(), 1);
    assert_eq!(drops(&envoy, "spans"), [("retries_exhausted", 1)].into());
    assert_settled(&envoy);
}

#[test]
fn two_proxies_do_not_come_back_at_the_same_moments() {
    let pauses = |seed| {
        let retry = json!({ "factor_ms": 600_000, "max_ms": 3_600_000, "attempts": 2 });
        let plugin = Target::TraceApi.setup_with(and(plain(), "retry", retry)).plugin();
        let builder = Envoy::builder(&module()).plugin(plugin).cluster(CLUSTER).seed(seed);
        let mut envoy = builder.start().expect("the proxy starts");
        requests(&mut envoy, 0, 1);
        let mut posts = Vec::new();
        serve(&mut envoy, 700, |call, _| {
            posts.push(call.clone());
            Some(server(503))
        });
        pauses_ms(&posts)
    };
    let different: std::collections::BTreeSet<_> = (0..5).map(pauses).collect();
    assert!(different.len() > 3, "{different:?}");
}

#[test]
fn a_receiver_that_asks_for_a_pause_gets_it_up_to_five_minutes() {
    for (retry_after, seconds) in [
        (Some("7"), 7),
        (Some("0"), 0),
        (Some("300"), 300),
        (Some("301"), 300),
        (Some("99999999999999999999"), 300),
        // None of these is a number of seconds, so that the first pause is that of the backoff.
        (Some("-5"), 0),
        (Some("1.5"), 0),
        (Some("Sun, 15 Jun 2025 15:07:40 GMT"), 0),
        (Some(""), 0),
        (None, 0),
    ] {
        for target in [Target::TraceApi, Target::EventApi, Target::Otlp] {
            let mut envoy = target.setup().start();
            requests(&mut envoy, 0, 1);
            let mut posts = Vec::new();
            serve(&mut envoy, FLUSH_S + seconds + 3, |call, _| {
                posts.push(call.clone());
                let busy = retry_after.iter().fold(server(429), |busy, value| busy.header("retry-after", value));
                Some(if posts.len() == 1 { busy } else { target.success() })
            });
            let pauses = pauses_ms(&posts);
            let range = seconds * 1000..=seconds * 1000 + TICK_MS;
            assert!(pauses.len() == 1 && range.contains(&pauses[0]), "{target:?} {retry_after:?}: {pauses:?}");
            assert_eq!(Books::of(&envoy, target.records()).exported, 1);
            assert_settled(&envoy);
        }
    }
}

#[test]
fn while_a_receiver_wants_silence_nothing_else_is_posted_to_it() {
    let mut envoy = Target::TraceApi.setup().start();
    requests(&mut envoy, 0, 1);
    let mut posts = Vec::new();
    for second in 0..FLUSH_S + 45 {
        if second == FLUSH_S + 10 {
            requests(&mut envoy, 0, 1);
        }
        serve(&mut envoy, 1, |call, _| {
            posts.push(call.clone());
            Some(if posts.len() == 1 { server(429).header("retry-after", "30") } else { server(202) })
        });
    }
    assert_eq!(posts.len(), 3);
    assert!(posts[1..].iter().all(|post| later_ms(post, &posts[0]) >= 30_000));
    assert_eq!(Books::of(&envoy, "spans").exported, 2);
    assert_settled(&envoy);
}

#[test]
fn a_rate_limit_that_never_ends_uses_up_the_retries() {
    let (envoy, posts) = refused(plain(), FLUSH_S + 50, &server(429).header("retry-after", "2"));
    assert_eq!(posts.len(), 9);
    assert_eq!(drops(&envoy, "spans"), [("retries_exhausted", 1)].into());
    assert_settled(&envoy);
}

#[test]
fn a_receiver_that_hangs_is_a_timeout_and_the_post_is_made_again() {
    let mut envoy = Target::TraceApi.setup_with(and(plain(), "timeout_ms", 3000)).start();
    requests(&mut envoy, 0, 2);
    let mut posts: Vec<HttpCall> = Vec::new();
    serve(&mut envoy, FLUSH_S + 30, |call, _| {
        if posts.iter().all(|post| post.id != call.id) {
            posts.push(call.clone());
        }
        (posts.len() > 3).then(|| server(202))
    });
    assert_eq!(posts.len(), 4);
    assert!(posts.iter().all(|post| post.timeout == Some(std::time::Duration::from_secs(3))));
    assert!(posts.iter().all(|post| request_id(post) == request_id(&posts[0]) && post.body == posts[0].body));
    assert_eq!(classes(&envoy, "trace_api"), class_counts(&[("timeout", 3), ("2xx", 1)]));
    assert_eq!(Books::of(&envoy, "spans").exported, 2);
    assert_settled(&envoy);
}

#[test]
fn a_receiver_that_hangs_for_good_costs_the_records_but_no_request() {
    let mut envoy = Target::TraceApi.setup().start();
    requests(&mut envoy, 0, 3);
    serve(&mut envoy, 600, |_, _| None);
    assert_eq!(drops(&envoy, "spans"), [("retries_exhausted", 3)].into());
    assert_eq!(classes(&envoy, "trace_api"), class_counts(&[("timeout", 9)]));
    assert_settled(&envoy);
}

#[test]
fn a_receiver_that_cannot_be_reached_gets_the_records_when_it_is_back() {
    let mut envoy = Target::TraceApi.setup().start();
    let mut delivered = Vec::new();
    for second in 0..180 {
        if second % 10 == 0 {
            requests(&mut envoy, 0, 2);
        }
        serve(&mut envoy, 1, |call, _| {
            if second < 60 {
                return Some(Answer::reset());
            }
            delivered.extend(ids_of(call));
            Some(server(202))
        });
    }
    serve_all(&mut envoy, 60, &server(202));
    delivered.sort();
    let count = delivered.len();
    delivered.dedup();
    assert_eq!((delivered.len(), count), (36, 36), "each record arrives once");
    assert_eq!(Books::of(&envoy, "spans"), Books { recorded: 36, exported: 36, dropped: 0, queued: 0 });
    assert_settled(&envoy);
}

#[test]
fn a_cluster_that_does_not_exist_is_reported_once_and_counted_every_time() {
    let mut envoy = Target::TraceApi.setup_with(and(plain(), "cluster", "nowhere")).start();
    requests(&mut envoy, 0, 2);
    serve(&mut envoy, 200, |_, _| None);
    requests(&mut envoy, 0, 1);
    serve(&mut envoy, 420, |_, _| None);
    assert!(envoy.http_calls().is_empty());
    let named: Vec<_> = envoy.logs().into_iter().filter(|line| line.message.contains("\"nowhere\"")).collect();
    assert_eq!(named.len(), 1, "{named:?}");
    assert_eq!(named[0].level, LogLevel::Error);
    assert_eq!(classes(&envoy, "trace_api"), class_counts(&[("unreachable", 18)]));
    assert_eq!(envoy.counter("newrelic.host_refused.http_call"), 18);
    assert_eq!(drops(&envoy, "spans"), [("retries_exhausted", 3)].into());
    assert_settled(&envoy);
}

#[test]
fn a_cluster_that_comes_later_gets_the_records() {
    let fault = host_tests::Fault::on("proxy_http_call", host_tests::Status::BadArgument).times(3);
    let mut envoy = Target::TraceApi.setup().start();
    envoy.inject(fault);
    requests(&mut envoy, 0, 2);
    serve_all(&mut envoy, FLUSH_S + 30, &server(202));
    assert_eq!(classes(&envoy, "trace_api"), class_counts(&[("unreachable", 3), ("2xx", 1)]));
    assert_eq!(Books::of(&envoy, "spans").exported, 2);
    assert_settled(&envoy);
}

#[test]
fn a_call_that_the_host_cannot_begin_is_made_again() {
    let fault = host_tests::Fault::on("proxy_http_call", host_tests::Status::InternalFailure).times(2);
    let mut envoy = Target::TraceApi.setup().start();
    envoy.inject(fault);
    requests(&mut envoy, 0, 1);
    serve_all(&mut envoy, FLUSH_S + 10, &server(202));
    assert_eq!(Books::of(&envoy, "spans").exported, 1);
    assert!(!envoy.logged(LogLevel::Error, "no cluster"));
    assert_settled(&envoy);
}

#[test]
fn a_slow_receiver_under_load_gets_everything_and_never_many_calls_at_once() {
    let mut envoy = unlimited(json!({ "trace_api": and(plain(), "flush_interval_ms", 1000) })).start();
    let mut most = 0;
    for second in 0..120 {
        if second < 60 {
            requests(&mut envoy, 0, 40);
        }
        most = most.max(envoy.pending_calls().len());
        serve(&mut envoy, 1, |_, age_s| (age_s >= 8).then(|| server(202)));
        envoy.drop_finished_bodies();
    }
    assert_eq!(Books::of(&envoy, "spans"), Books { recorded: 2400, exported: 2400, dropped: 0, queued: 0 });
    assert!((2..=16).contains(&most), "{most} calls at once");
    let latencies = envoy.histogram("newrelic.export.latency_ms.trace_api").unwrap_or_default();
    assert!(!latencies.is_empty() && latencies.iter().all(|latency| *latency == 8000), "{latencies:?}");
    assert_settled(&envoy);
}

#[test]
fn an_id_is_a_version_4_uuid_of_one_body() {
    let mut envoy = setup(json!({ "trace_api": plain(), "event_api": plain() })).start();
    let mut ids: Vec<String> = Vec::new();
    let mut posts = 0;
    for _ in 0..4 {
        requests(&mut envoy, 0, 1);
        serve(&mut envoy, FLUSH_S + 1, |call, _| {
            posts += 1;
            ids.push(request_id(call));
            Some(server(if posts % 2 == 1 { 500 } else { 202 }))
        });
    }
    for id in &ids {
        let groups: Vec<&str> = id.split('-').collect();
        assert_eq!(groups.iter().map(|group| group.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
        assert!(id.chars().all(|digit| matches!(digit, '0'..='9' | 'a'..='f' | '-')), "{id}");
        assert!(groups[2].starts_with('4') && groups[3].starts_with(['8', '9', 'a', 'b']), "{id}");
    }
    assert!(posts > 8, "some posts are made again");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 8, "one id for each of four bodies to two receivers");
}
