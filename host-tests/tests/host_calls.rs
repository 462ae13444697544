//! Which host calls a request makes, callback by callback: most of what it costs. What the filter computes itself has
//! its bounds in `budget.rs`.

mod support;

use std::time::Duration;

use host_tests::{Builder, Callback, Ending, Envoy, Status, StreamId};
use serde_json::json;

use support::{Setup, TRACEPARENT, finish, request, send, trace_api};

/// What an agent sends.
const STATE: &str = "vend1=q9/Zx.7,777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900";
const PAYLOAD: &str = "eyJ2IjpbMCwxXSwiZCI6eyJ0eSI6IkFwcCIsImFjIjoiNDAwMiIsImFwIjoiNTUiLCJpZCI6IkFBMTFiYjIyY2MzM2RkNDQiLCJ0eCI6IjExMjIzMzQ0NTU2Njc3ODgiLCJ0ciI6IjRBZDkxY0UwN2IzNUYyNjgiLCJwciI6MS41LCJzYSI6dHJ1ZSwidGkiOjE3NDk5OTk5OTk5MDAsInRrIjoiNzc3In19";

/// A setup in which only spans are exported, and by HTTP.
fn setup(role: &str, sampler: &str) -> Setup {
    Setup::role(role).sampler(sampler).with("exporters", json!({ "trace_api": trace_api() }))
}

/// The callbacks of a request to a proxy that has served others before.
fn exchange(setup: &Setup) -> Vec<Callback> {
    let mut envoy = setup.start();
    for _ in 0..3 {
        one_request(&mut envoy);
    }
    let stream = one_request(&mut envoy);
    envoy.callbacks_of(stream)
}

fn one_request(envoy: &mut Envoy) -> StreamId {
    let stream = envoy.stream().open();
    let lines = [("traceparent", TRACEPARENT), ("tracestate", STATE), ("newrelic", PAYLOAD)];
    send(envoy, stream, &request(&lines));
    finish(envoy, stream, "200");
    stream
}

/// Every host call as `callback: name what it is about`.
fn calls(callbacks: &[Callback]) -> Vec<String> {
    let of_callback = |callback: &Callback| {
        let name = callback.name.trim_start_matches("proxy_on_").to_owned();
        let call =
            move |call: &host_tests::HostCall| format!("{name}: {} {}", call.name, call.about).trim_end().to_owned();
        callback.host_calls.iter().map(call).collect::<Vec<_>>()
    };
    callbacks.iter().flat_map(of_callback).collect()
}

/// What every request does in its headers: one reading of the clock and of the headers, and one change for each header.
const REQUEST_HEADERS: [&str; 5] = [
    "request_headers: proxy_get_current_time_nanoseconds",
    "request_headers: proxy_get_header_map_pairs RequestHeaders",
    "request_headers: proxy_replace_header_map_value traceparent",
    "request_headers: proxy_replace_header_map_value tracestate",
    "request_headers: proxy_replace_header_map_value newrelic",
];

/// What the statistics by caller need at the end of a request that is not recorded.
const STATUS_CODE: [&str; 2] = ["log: proxy_get_current_time_nanoseconds", "log: proxy_get_property response.code"];

#[test]
fn a_request_that_is_not_sampled_reads_at_most_its_status_code() {
    let with_status = [&REQUEST_HEADERS[..], &STATUS_CODE].concat();
    for (role, expected) in [("inbound", &with_status[..]), ("outbound", &REQUEST_HEADERS), ("gateway", &with_status)] {
        let callbacks = exchange(&setup(role, "always_off"));
        assert_eq!(calls(&callbacks), expected, "{role}");
    }
}

#[test]
fn a_record_that_would_find_no_place_is_not_made() {
    for exporter in ["log", "event_api"] {
        let settings = if exporter == "log" { json!({}) } else { trace_api() };
        let setup = Setup::role("inbound").sampler("always_off").with("exporters", json!({ exporter: settings }));
        let mut envoy = setup.with("transaction_events.max_samples_stored", 2).start();
        let made: Vec<usize> = (0..6).map(|_| reads(&mut envoy)).collect();
        assert!(made[..2].iter().all(|reads| *reads > STATUS_CODE.len()), "{exporter}: {made:?}");
        assert_eq!(made[4..], [STATUS_CODE.len(); 2], "{exporter}: {made:?}");
        envoy.advance(Duration::from_secs(2)).expect("no tick traps");
        let books =
            ["recorded", "dropped.reservoir"].map(|what| envoy.counter(&format!("newrelic.transactions.{what}")));
        assert_eq!(books, [6, 4], "{exporter}: what is not made counts all the same");
    }
}

/// Host calls at the end of another request.
fn reads(envoy: &mut Envoy) -> usize {
    let stream = one_request(envoy);
    calls(&envoy.callbacks_of(stream)).iter().filter(|call| call.starts_with("log: ")).count()
}

/// What a record needs of the answer, the route and the call upstream, beside what the request's headers told.
const ENTRY: [&str; 5] = [
    "log: proxy_get_current_time_nanoseconds",
    "log: proxy_get_header_map_pairs ResponseHeaders",
    "log: proxy_get_property response.code_details",
    "log: proxy_get_property xds.route_name",
    "log: proxy_get_property xds.route_metadata.filter_metadata.newrelic.tracing.transaction_name",
];
const EXIT: [&str; 5] = [
    "log: proxy_get_current_time_nanoseconds",
    "log: proxy_get_header_map_pairs ResponseHeaders",
    "log: proxy_call_foreign_function expr_evaluate",
    "log: proxy_get_property xds.route_metadata.filter_metadata.newrelic.tracing.transaction_name",
    "log: proxy_get_property upstream.tls_version",
];
/// The same of a host without expressions.
const EXIT_ONE_BY_ONE: [&str; 10] = [
    "log: proxy_get_current_time_nanoseconds",
    "log: proxy_get_header_map_pairs ResponseHeaders",
    "log: proxy_get_property response.code_details",
    "log: proxy_get_property xds.route_name",
    "log: proxy_get_header_map_pairs RequestHeaders",
    "log: proxy_get_property xds.cluster_name",
    "log: proxy_get_property response.backend_latency",
    "log: proxy_get_property upstream.request_attempt_count",
    "log: proxy_get_property xds.route_metadata.filter_metadata.newrelic.tracing.transaction_name",
    "log: proxy_get_property upstream.tls_version",
];

#[test]
fn a_sampled_request_reads_each_thing_once() {
    for (role, expected) in [("inbound", &ENTRY[..]), ("outbound", &EXIT), ("gateway", &EXIT)] {
        let callbacks = exchange(&setup(role, "always_on"));
        assert_eq!(calls(&callbacks), [&REQUEST_HEADERS, expected].concat(), "{role}");
    }
}

#[test]
fn a_host_without_expressions_is_asked_for_each_value_and_the_spans_are_the_same() {
    let setup = setup("gateway", "always_on");
    let bodies = |builder: Builder, expected: &[&str]| {
        let mut envoy = builder.start().expect("the configuration is valid");
        one_request(&mut envoy);
        let stream = one_request(&mut envoy);
        let calls = calls(&envoy.callbacks_of(stream));
        assert_eq!(calls.iter().filter(|call| call.starts_with("log: ")).collect::<Vec<_>>(), expected);
        envoy.advance(Duration::from_secs(6)).expect("no tick traps");
        envoy.pending_calls().into_iter().map(|call| call.body).collect::<Vec<_>>()
    };
    let with = bodies(setup.builder(), &EXIT);
    let without = setup.builder().foreign_function("expr_create", |_| Err(Status::NotFound));
    assert_eq!(with.len(), 1);
    assert_eq!(with, bodies(without, &EXIT_ONE_BY_ONE));
}

#[test]
fn a_list_that_fails_again_and_again_is_left_alone_for_a_while() {
    // The proxy answers by itself, and there are no values of an upstream.
    let mut envoy = setup("gateway", "always_on").start();
    let mut asked = || {
        let stream = envoy.stream().open();
        send(&mut envoy, stream, &request(&[("traceparent", TRACEPARENT)]));
        envoy.end(stream, Ending::direct_response(403)).expect("no trap");
        let calls = calls(&envoy.callbacks_of(stream));
        envoy.forget(stream);
        calls.iter().any(|call| call.ends_with("expr_evaluate"))
    };
    let asked: Vec<_> = (0..1017).map(|_| asked()).collect();
    let times: Vec<_> = (0..asked.len()).filter(|at| asked[*at]).collect();
    assert_eq!(times, (0..16).chain([1016]).collect::<Vec<_>>());
}

#[test]
fn the_records_of_ended_requests_are_made_in_a_row_unless_somebody_reads_the_log() {
    const IN_A_ROW: usize = 64;
    let fuel = |setup: &Setup| {
        let mut envoy = setup.start();
        (0..2 * IN_A_ROW).map(|_| end_fuel(&mut envoy)).collect::<Vec<_>>()
    };
    let quiet = setup("inbound", "always_on");
    let waiting = fuel(&quiet);
    let reading = *waiting.iter().min().expect("there are requests");
    let makers: Vec<_> = (1..=waiting.len()).filter(|count| waiting[count - 1] > 10 * reading).collect();
    assert_eq!(makers, [IN_A_ROW, 2 * IN_A_ROW], "the others only read what the host tells: {waiting:?}");
    let at_once = fuel(&quiet.with("exporters", json!({ "trace_api": trace_api(), "log": {} })));
    assert!(at_once.iter().all(|fuel| *fuel > 4 * reading), "each makes its own: {at_once:?}");
}

/// Instructions at the end of another request, which takes no time: no timer fires in between.
fn end_fuel(envoy: &mut Envoy) -> u64 {
    let stream = envoy.stream().open();
    send(envoy, stream, &request(&[("traceparent", TRACEPARENT)]));
    envoy.response_headers(stream, [(":status", "200")]).expect("no trap");
    envoy.end(stream, Ending::complete()).expect("no trap");
    envoy.callbacks_of(stream).iter().filter(|callback| callback.name == "proxy_on_log").map(|log| log.fuel).sum()
}

#[test]
fn an_excluded_request_is_only_looked_at() {
    let callbacks = exchange(&setup("gateway", "always_on").with("exclude", json!([{ "path": "/cart/*" }])));
    assert_eq!(calls(&callbacks), REQUEST_HEADERS[..2]);
}

#[test]
fn a_header_that_need_not_change_is_not_written() {
    let callbacks = exchange(&setup("gateway", "always_off").with("distributed_tracing.enabled", false));
    assert_eq!(changes(&callbacks), Vec::<String>::new());
    let excluded = setup("gateway", "always_off").with("distributed_tracing.exclude_newrelic_header", true);
    let mut envoy = excluded.start();
    let stream = envoy.stream().open();
    send(&mut envoy, stream, &request::<&str, &str>(&[]));
    finish(&mut envoy, stream, "200");
    let expected = REQUEST_HEADERS[2..4].to_vec();
    assert_eq!(changes(&envoy.callbacks_of(stream)), expected, "there is no newrelic header to take away");
}

fn changes(callbacks: &[Callback]) -> Vec<String> {
    let is_change = |call: &String| {
        ["proxy_replace", "proxy_remove", "proxy_add", "proxy_set"].iter().any(|name| call.contains(name))
    };
    calls(callbacks).into_iter().filter(is_change).collect()
}

#[test]
fn shared_data_is_asked_only_for_a_request_that_may_be_sampled() {
    let mut envoy = Setup::gateway().with("exporters", json!({ "trace_api": trace_api() })).start();
    let mut sampled = 0;
    // Three sampling periods: the first takes the first ten requests, later ones spread theirs.
    for _ in 0..180 {
        envoy.advance(Duration::from_millis(960)).expect("no tick traps");
        let stream = envoy.stream().open();
        let upstream = send(&mut envoy, stream, &request::<&str, &str>(&[]));
        finish(&mut envoy, stream, "200");
        let asked = calls(&envoy.callbacks_of(stream)).iter().filter(|call| call.contains("shared_data")).count();
        let is_sampled = upstream.text("traceparent").is_some_and(|value| value.ends_with("-01"));
        assert_eq!(asked, if is_sampled { 2 } else { 0 }, "one reading and one storing for a sampled request");
        sampled += usize::from(is_sampled);
        envoy.clear_journal();
    }
    assert!((20..=60).contains(&sampled), "{sampled} of 180 requests in three minutes were sampled");
}

#[test]
fn a_decision_that_is_inherited_needs_no_shared_data() {
    for (flag, state) in [("01", "1-1.5"), ("00", "0-0.5")] {
        let mut envoy = Setup::gateway().with("exporters", json!({ "trace_api": trace_api() })).start();
        let stream = envoy.stream().open();
        let traceparent = TRACEPARENT.replace("-01", &format!("-{flag}"));
        let state = format!("777@nr=0-0-4002-55---{state}-1749999999900");
        send(&mut envoy, stream, &request(&[("traceparent", &traceparent), ("tracestate", &state)]));
        finish(&mut envoy, stream, "200");
        assert!(!calls(&envoy.callbacks_of(stream)).iter().any(|call| call.contains("shared_data")), "{flag}");
    }
}

#[test]
fn random_bytes_are_fetched_once_for_dozens_of_requests() {
    let mut envoy = setup("gateway", "always_off").start();
    let mut fetched = 0;
    for _ in 0..100 {
        let stream = one_request(&mut envoy);
        fetched += calls(&envoy.callbacks_of(stream)).iter().filter(|call| call.contains("random_get")).count();
        envoy.forget(stream);
        envoy.clear_journal();
    }
    assert!((1..=2).contains(&fetched), "{fetched} times for 100 requests");
}

#[test]
fn requests_write_no_log_lines_and_define_no_metrics() {
    let callbacks = exchange(&setup("gateway", "always_on"));
    let made = calls(&callbacks);
    assert!(!made.iter().any(|call| call.contains("proxy_log") || call.contains("metric")), "{made:?}");
}
