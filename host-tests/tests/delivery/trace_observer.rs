//! `infinite_tracing`: every span goes to a trace observer, sampled or not.

use host_tests::{Answer, LogLevel};
use serde_json::json;

use crate::harness::{
    Books, Target, and, assert_settled, drops, otlp, plain, records_of, requests, serve, serve_all, setup,
};

fn accepted() -> Answer {
    Answer::status(202)
}

#[test]
fn spans_of_traces_that_are_not_sampled_are_sent_too_and_say_so() {
    let mut envoy = Target::InfiniteTracing.setup().sampler("always_off").start();
    requests(&mut envoy, 0, 3);
    serve_all(&mut envoy, 3, &accepted());
    let [post] = &envoy.http_calls()[..] else { panic!("{:?}", envoy.http_calls()) };
    assert_eq!(post.headers.text(":authority").as_deref(), Some("observer.test"));
    let spans = records_of(post);
    assert_eq!(spans.len(), 3);
    assert!(spans.iter().all(|span| span["attributes"]["sampled"] == json!(false)));
    assert_settled(&envoy);
}

#[test]
fn the_observers_port_is_part_of_its_address() {
    let mut envoy = Target::InfiniteTracing.setup_with(and(plain(), "port", 8443)).start();
    requests(&mut envoy, 0, 1);
    serve_all(&mut envoy, 2, &accepted());
    assert_eq!(envoy.http_calls()[0].headers.text(":authority").as_deref(), Some("observer.test:8443"));
}

#[test]
fn new_relic_does_not_get_a_span_twice_and_other_receivers_get_the_sampled_ones() {
    let exporters = json!({ "trace_api": plain(), "otlp": otlp(plain()), "event_api": plain() });
    for (sampler, otlp_spans) in [("always_on", 2), ("always_off", 0)] {
        let mut envoy = setup(exporters.clone())
            .with("infinite_tracing", and(plain(), "host", "observer.test"))
            .sampler(sampler)
            .start();
        requests(&mut envoy, 0, 2);
        let mut received = std::collections::BTreeMap::<String, usize>::new();
        serve(&mut envoy, 7, |call, _| {
            let target = call.headers.text(":authority").unwrap_or_default().into_owned();
            *received.entry(target).or_default() += records_of(call).len();
            Some(accepted())
        });
        let of = |target: &str| received.get(target).copied().unwrap_or(0);
        assert_eq!(of("observer.test"), 2, "{received:?}");
        assert_eq!(of("trace-api.newrelic.com"), 0, "{received:?}");
        assert_eq!(of("otlp.nr-data.net"), otlp_spans, "{received:?}");
        assert_eq!(of("insights-collector.newrelic.com"), 2, "{received:?}");
        let is_warning =
            |line: &host_tests::LogLine| line.level == LogLevel::Warn && line.message.contains("trace_api");
        let logs = envoy.logs();
        assert_eq!(logs.iter().filter(|line| is_warning(line)).count(), 1, "{logs:?}");
        assert_settled(&envoy);
    }
}

#[test]
fn a_full_queue_keeps_the_older_spans() {
    let mut envoy = Target::InfiniteTracing.setup_with(and(plain(), "queue_size", 50)).start();
    requests(&mut envoy, 0, 80);
    serve_all(&mut envoy, 3, &accepted());
    assert_eq!(Books::of(&envoy, "spans"), Books { recorded: 80, exported: 50, dropped: 30, queued: 0 });
    assert_eq!(drops(&envoy, "spans"), [("queue_size", 30)].into());
    requests(&mut envoy, 0, 50);
    serve_all(&mut envoy, 3, &accepted());
    assert_eq!(Books::of(&envoy, "spans").exported, 100, "there is room again");
    assert_settled(&envoy);
}

#[test]
fn a_span_in_flight_takes_a_place_in_the_queue() {
    let mut envoy = Target::InfiniteTracing.setup_with(and(plain(), "queue_size", 50)).start();
    requests(&mut envoy, 0, 50);
    serve(&mut envoy, 2, |_, _| None);
    requests(&mut envoy, 0, 10);
    serve_all(&mut envoy, 3, &accepted());
    assert_eq!(drops(&envoy, "spans"), [("queue_size", 10)].into());
    assert_settled(&envoy);
}

#[test]
fn the_sampling_decision_goes_on_in_the_headers_all_the_same() {
    let mut envoy = Target::InfiniteTracing.setup().sampler("always_off").start();
    let exchange = envoy.stream().exchange(crate::support::REQUEST, [(":status", "200")]).expect("no trap");
    let traceparent = exchange.upstream.text("traceparent").expect("traceparent is sent").into_owned();
    assert!(traceparent.ends_with("-00"), "{traceparent}");
}
