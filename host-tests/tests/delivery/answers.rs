//! What each answer of a receiver does to the records that it answers.

use host_tests::{Answer, Envoy, HttpCall, LogLevel};

use crate::harness::{
    Books, FLUSH_S, Target, assert_settled, class_counts, classes, drops, lines, records_of, request_id, requests,
    serve,
};
use crate::support::CLUSTER;

/// Where a record ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Exported,
    Rejected,
    /// Sent again as it was.
    Retried,
    /// A single record is too large for the receiver.
    TooLarge,
}

/// An answer that an upstream server made, not Envoy.
fn server(status: u16) -> Answer {
    Answer::status(status).header("server", "ingest").header("date", "Sun, 15 Jun 2025 15:06:40 GMT")
}

/// The first post gets `answer`, further ones are accepted.
fn answered(target: Target, answer: &Answer) -> (Envoy, Vec<HttpCall>) {
    let mut envoy = target.setup().start();
    requests(&mut envoy, 0, 1);
    let mut posts = Vec::new();
    serve(&mut envoy, FLUSH_S + 5, |call, _| {
        posts.push(call.clone());
        Some(if posts.len() == 1 { answer.clone() } else { target.success() })
    });
    (envoy, posts)
}

fn check(target: Target, answer: &Answer, fate: Fate, class: &str) {
    let (envoy, posts) = answered(target, answer);
    let case = format!("{target:?} {answer:?}");
    let expected_drops: &[(&str, u64)] = match fate {
        Fate::Exported | Fate::Retried => &[],
        Fate::Rejected => &[("rejected", 1)],
        Fate::TooLarge => &[("too_large", 1)],
    };
    assert_eq!(drops(&envoy, target.records()), expected_drops.iter().copied().collect(), "{case}");
    let exported = u64::from(matches!(fate, Fate::Exported | Fate::Retried));
    assert_eq!(Books::of(&envoy, target.records()).exported, exported, "{case}");
    let retried = fate == Fate::Retried;
    let counts = class_counts(&[(class, 1), ("2xx", 1)][..1 + usize::from(retried)]);
    assert_eq!(classes(&envoy, target.name()), counts, "{case}");
    assert_eq!(posts.len(), 1 + usize::from(retried), "{case}");
    assert!(posts.iter().all(|post| request_id(post) == request_id(&posts[0]) && post.body == posts[0].body));
    assert_settled(&envoy);
}

#[test]
fn every_answer_of_new_relics_apis_has_its_consequence() {
    for target in Target::OF_NEW_RELIC {
        for status in [200, 202, 204, 299] {
            check(target, &server(status), Fate::Exported, "2xx");
        }
        for status in [400, 401, 403, 404, 405, 409, 410, 411, 414, 415, 431] {
            check(target, &server(status), Fate::Rejected, "4xx");
        }
        for status in [402, 406, 408, 412, 418, 422, 425, 451] {
            check(target, &server(status), Fate::Retried, "4xx");
        }
        check(target, &server(413), Fate::TooLarge, "4xx");
        check(target, &server(429), Fate::Retried, "429");
        for status in [302, 500, 502, 503, 504, 507] {
            check(target, &server(status), Fate::Retried, "5xx");
        }
    }
}

#[test]
fn every_answer_of_an_otlp_receiver_has_its_consequence() {
    check(Target::Otlp, &server(200), Fate::Exported, "2xx");
    for status in [400, 401, 403, 404, 405, 408, 411, 415, 422, 431] {
        check(Target::Otlp, &server(status), Fate::Rejected, "4xx");
    }
    check(Target::Otlp, &server(413), Fate::TooLarge, "4xx");
    check(Target::Otlp, &server(429), Fate::Retried, "429");
    for status in [502, 503, 504] {
        check(Target::Otlp, &server(status), Fate::Retried, "5xx");
    }
    for status in [500, 501, 302] {
        check(Target::Otlp, &server(status), Fate::Rejected, "5xx");
    }
}

#[test]
fn no_answer_at_all_is_told_from_a_servers_failure() {
    for target in [Target::TraceApi, Target::EventApi, Target::InfiniteTracing, Target::Otlp] {
        check(target, &Answer::reset(), Fate::Retried, "unreachable");
        check(target, &Answer::broken(), Fate::Retried, "unreachable");
        check(target, &Answer::timeout(), Fate::Retried, "timeout");
        check(target, &server(503), Fate::Retried, "5xx");
        check(target, &server(504), Fate::Retried, "5xx");
    }
}

#[test]
fn posts_say_what_they_carry_and_who_sends_it() {
    for target in [Target::TraceApi, Target::EventApi, Target::InfiniteTracing, Target::Otlp] {
        let (_, posts) = answered(target, &target.success());
        let [post] = &posts[..] else { panic!("{target:?}: {posts:?}") };
        assert_eq!(post.cluster, CLUSTER);
        let header = |name: &str| post.headers.text(name).map(std::borrow::Cow::into_owned);
        let format = matches!(target, Target::TraceApi | Target::InfiniteTracing);
        for (name, value) in [
            (":method", Some("POST")),
            (":path", Some(target.path())),
            ("content-type", Some("application/json")),
            ("api-key", Some("test-key")),
            ("content-encoding", None),
            ("data-format", format.then_some("newrelic")),
            ("data-format-version", format.then_some("1")),
            ("traceparent", None),
            ("newrelic", None),
        ] {
            assert_eq!(header(name).as_deref(), value, "{target:?} {name}");
        }
        assert!(header("user-agent").is_some_and(|agent| agent.starts_with("envoy-newrelic-filter/")));
        assert_eq!(records_of(post).len(), 1);
    }
}

#[test]
fn an_answer_that_stays_is_logged_once_with_what_it_cost() {
    let mut envoy = Target::TraceApi.setup().start();
    for _ in 0..5 {
        requests(&mut envoy, 0, 2);
        serve(&mut envoy, FLUSH_S, |_, _| Some(server(403)));
    }
    requests(&mut envoy, 0, 1);
    serve(&mut envoy, FLUSH_S + 1, |_, _| Some(server(400)));
    let lines = lines(&envoy, LogLevel::Error);
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, parts) in lines.iter().zip([["trace_api", "2 spans", "403"], ["trace_api", "1 span ", "400"]]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    assert_eq!(drops(&envoy, "spans"), [("rejected", 11)].into());
}

#[test]
fn a_failure_that_may_pass_is_logged_each_time() {
    let mut envoy = Target::TraceApi.setup().start();
    requests(&mut envoy, 0, 3);
    let mut posts = 0;
    serve(&mut envoy, FLUSH_S + 10, |_, _| {
        posts += 1;
        Some(if posts < 3 { server(503) } else { Target::TraceApi.success() })
    });
    let lines = lines(&envoy, LogLevel::Warn);
    assert_eq!(lines.iter().filter(|line| line.contains("503") && line.contains("3 spans")).count(), 2, "{lines:?}");
}

#[test]
fn no_key_and_no_body_of_an_answer_reaches_the_log() {
    let mut envoy = Target::TraceApi.setup().log_level(LogLevel::Trace).start();
    requests(&mut envoy, 0, 1);
    serve(&mut envoy, FLUSH_S + 5, |_, _| Some(server(403).body("your key test-key is bad")));
    let logs = envoy.logs();
    assert!(logs.iter().any(|line| line.message.contains("403")), "{logs:?}");
    assert!(logs.iter().all(|line| !line.message.contains("test-key")), "{logs:?}");
}

#[test]
fn an_otlp_receiver_may_reject_some_spans_of_a_post() {
    let answer = |rejected: &str| {
        Answer::status(200).body(format!(r#"{{"partialSuccess":{{"rejectedSpans":{rejected},"errorMessage":"x"}}}}"#))
    };
    for (rejected, exported, refused) in [(r#""2""#, 3, 2), ("2", 3, 2), (r#""0""#, 5, 0), (r#""99""#, 0, 5)] {
        let mut envoy = Target::Otlp.setup().start();
        requests(&mut envoy, 0, 5);
        serve(&mut envoy, FLUSH_S + 1, |_, _| Some(answer(rejected)));
        let books = Books::of(&envoy, "spans");
        assert_eq!((books.exported, books.dropped), (exported, refused), "{rejected}");
        assert_settled(&envoy);
    }
}
