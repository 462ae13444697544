//! Bytes that a caller may send and statuses that a host may answer: none of them ends the VM, stops a request or
//! changes another header.

mod support;

use std::cell::RefCell;
use std::time::Duration;

use host_tests::{Answer, Ending, Envoy, Fault, HeaderMap, LogLevel, Status, Thread};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use serde_json::{Value, json};

use support::{
    Setup, TRACEPARENT, decode, encode, event_api, finish, records, refused_stream, request, send, texts, tick,
    trace_api,
};

const STATE: &str = "a=1,777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900,b=2";
const PAYLOAD: &str = r#"{"v":[0,1],"d":{"ty":"App","ac":"777","ap":"5","id":"x","tx":"y","tr":"ab12","pr":1.25,"sa":true,"ti":1749999999900}}"#;

/// A proxy that samples and records everything.
fn recording(role: &str) -> Envoy {
    Setup::role(role).sampler("always_on").with("span_events.max_samples_stored", "unlimited").start()
}

/// Sends one hostile request and checks what is always true.
fn assert_withstands(envoy: &mut Envoy, headers: &HeaderMap) {
    let stream = envoy.stream().open();
    let upstream = send(envoy, stream, headers);
    assert_well_formed(&upstream);
    finish(envoy, stream, "200");
    tick(envoy);
    assert!(!envoy.is_dead(Thread::Worker(0)));
    for record in records(envoy, "span").iter().chain(&records(envoy, "transaction")) {
        assert!(record.is_object());
    }
    let complaints: Vec<_> = envoy.logs().into_iter().filter(|line| line.level >= LogLevel::Warn).collect();
    assert_eq!(complaints, [], "a caller cannot fill the log");
    envoy.clear_journal();
    envoy.forget(stream);
}

/// What goes on is what W3C and New Relic's agents read.
fn assert_well_formed(upstream: &HeaderMap) {
    let [traceparent] = &texts(upstream, "traceparent")[..] else { panic!("one traceparent: {upstream:?}") };
    let fields: Vec<_> = traceparent.split('-').collect();
    assert_eq!(fields.iter().map(|field| field.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{traceparent}");
    assert!(traceparent.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')), "{traceparent}");
    let [tracestate] = &upstream.all("tracestate")[..] else { panic!("one tracestate: {upstream:?}") };
    let members: Vec<_> = tracestate.split(|byte| *byte == b',').collect();
    assert!(members.len() <= 32 && tracestate.len() <= 8192, "{} members, {} bytes", members.len(), tracestate.len());
    assert!(tracestate.starts_with(b"777@nr=0-0-4001-90210-"), "{}", tracestate.escape_ascii());
    for member in members {
        assert_eq!(member.iter().filter(|byte| **byte == b'=').count(), 1, "{}", tracestate.escape_ascii());
        assert!(member.iter().all(|byte| matches!(byte, b' '..=b'~')), "{}", tracestate.escape_ascii());
    }
    for payload in texts(upstream, "newrelic") {
        assert!(decode(&payload)["d"].is_object());
        assert!(payload.len() < 2048, "{} bytes", payload.len());
    }
}

/// Header values as the codec lets them pass: any bytes but NUL, CR and LF.
fn any_value() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no codec lets it pass", |byte| !matches!(byte, 0 | b'\r' | b'\n'));
    prop::collection::vec(byte, 0..200)
}

/// A value that is nearly right: some bytes of a good one replaced, and its end cut or repeated.
fn nearly(good: String) -> impl Strategy<Value = Vec<u8>> {
    let length = good.len();
    let change =
        (0..length, 1_u8..=255).prop_filter("no codec lets it pass", |(_, byte)| !matches!(byte, b'\r' | b'\n'));
    (prop::collection::vec(change, 0..4), 0..=length, 0..3_usize).prop_map(move |(changes, cut, repeat)| {
        let mut value = good.clone().into_bytes();
        for (at, byte) in changes {
            value[at] = byte;
        }
        let rest = value[cut..].repeat(repeat);
        if repeat > 0 { [&value[..cut], &rest].concat() } else { value }
    })
}

/// A payload that is nearly right inside its base64.
fn nearly_encoded() -> impl Strategy<Value = Vec<u8>> {
    nearly(PAYLOAD.to_owned()).prop_map(|json| encode(json).into_bytes())
}

/// One line with a name that the filter reads, or another one.
fn any_line() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    const OTHERS: [&str; 12] = [
        "x-newrelic-id",
        "x-newrelic-transaction",
        "x-other",
        "user-agent",
        "referer",
        "content-type",
        "content-length",
        "x-request-start",
        "x-queue-start",
        "x-envoy-internal",
        "accept",
        "host",
    ];
    prop_oneof![
        (Just("traceparent"), prop_oneof![any_value(), nearly(TRACEPARENT.to_owned())]),
        (Just("tracestate"), prop_oneof![any_value(), nearly(STATE.to_owned())]),
        (Just("newrelic"), prop_oneof![any_value(), nearly(PAYLOAD.to_owned()), nearly_encoded()]),
        (prop::sample::select(&OTHERS[..]), any_value()),
    ]
}

#[test]
fn any_bytes_in_any_header_neither_trap_nor_change_another_header() {
    let config = Config {
        cases: 96,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        source_file: Some(file!()),
        ..Config::default()
    };
    for role in ["inbound", "outbound", "gateway"] {
        // One proxy for all cases: what one request spoils, a later one shows.
        let envoy = RefCell::new(recording(role));
        let lines = prop::collection::vec(any_line(), 0..8);
        let outcome = TestRunner::new(config.clone()).run(&lines, |lines| {
            assert_withstands(&mut envoy.borrow_mut(), &request(&lines));
            Ok(())
        });
        if let Err(failure) = outcome {
            panic!("{role}: {failure}");
        }
    }
}

/// JSON of many nested arrays or objects.
fn nested(open: &str, close: &str, depth: usize) -> String {
    format!("{}1{}", open.repeat(depth), close.repeat(depth))
}

/// Header lines.
type Lines = Vec<(&'static str, Vec<u8>)>;

/// Requests that somebody who wants to do harm would send, by what they try.
fn attacks() -> Vec<(&'static str, Lines)> {
    let payload_with = |value: &str| encode(PAYLOAD.replace(r#""y""#, value)).into_bytes();
    let traceparent = |line: &[u8]| vec![("traceparent", line.to_vec())];
    let newrelic = |line: Vec<u8>| vec![("newrelic", line)];
    let tracestate = |lines: &[&[u8]]| {
        let parent = [("traceparent", TRACEPARENT.as_bytes().to_vec())];
        let states = lines.iter().map(|line| ("tracestate", line.to_vec()));
        parent.into_iter().chain(states).collect::<Vec<_>>()
    };
    let many_states: Vec<_> = (0..1000).map(|number| format!("k{number}=1")).collect();
    let many_states: Vec<_> = many_states.iter().map(String::as_bytes).collect();
    vec![
        ("no text in traceparent", traceparent(b"\xff\xfe")),
        ("60 KB traceparent", traceparent(&[b'0'; 60_000])),
        ("dashes only", traceparent(&[b'-'; 55])),
        ("1000 traceparent lines", vec![("traceparent", TRACEPARENT.as_bytes().to_vec()); 1000]),
        ("no text in tracestate", tracestate(&[b"\xff\xfe=\x80"])),
        ("60 KB tracestate of one member", tracestate(&[&[b'a'; 60_000]])),
        ("60 KB tracestate of valid members", tracestate(&[many_states.join(&b',').repeat(7).as_slice()])),
        ("60 KB of commas", tracestate(&[&[b','; 60_000]])),
        ("60 KB of equals signs", tracestate(&[&[b'='; 60_000]])),
        ("60 KB of dashes in our entry", tracestate(&[&[&b"777@nr="[..], &[b'-'; 60_000]].concat()])),
        ("1000 tracestate lines", tracestate(&many_states)),
        (
            "the largest fields",
            tracestate(&[
                format!("777@nr=0-0-{}-{}-{}----9", "1".repeat(80), "2".repeat(80), "3".repeat(80)).as_bytes()
            ]),
        ),
        (
            "huge numbers in our entry",
            tracestate(&[b"777@nr=99999999999999999999-0-1-2-3-4-1-99999999999999999999.9-9223372036854775807"]),
        ),
        ("a timestamp beyond all time", tracestate(&[b"777@nr=0-0-1-2-3-4-1-1-9223372036854775808"])),
        ("60 KB newrelic", newrelic(encode([b' '; 45_000]).into_bytes())),
        ("9 KB newrelic that would be valid", newrelic(payload_with(&format!(r#""{}""#, "y".repeat(9_000))))),
        ("7 KB newrelic that is valid", newrelic(payload_with(&format!(r#""y","z":"{}""#, "y".repeat(5_000))))),
        ("nested arrays", newrelic(payload_with(&nested("[", "]", 2_500)))),
        ("nested objects", newrelic(payload_with(&nested(r#"{"a":"#, "}", 900)))),
        ("unclosed arrays", newrelic(encode("[".repeat(6_000)).into_bytes())),
        ("plain unclosed objects", newrelic(r#"{"a":"#.repeat(1_600).into_bytes())),
        ("huge numbers", newrelic(encode(PAYLOAD.replace("1749999999900", "9".repeat(400).as_str())).into_bytes())),
        ("a huge exponent", newrelic(encode(PAYLOAD.replace("1.25", "1e999999999")).into_bytes())),
        (
            "a huge negative time",
            newrelic(encode(PAYLOAD.replace("1749999999900", "-9223372036854775808")).into_bytes()),
        ),
        ("surrogates", newrelic(payload_with(r#""\ud800\udc00\ud800""#))),
        ("no text in JSON", newrelic(encode([PAYLOAD.as_bytes(), b"\xff"].concat()).into_bytes())),
        ("escapes that grow in JSON", newrelic(payload_with(&format!(r#""{}""#, r"\u0001".repeat(128))))),
        ("1000 newrelic lines", vec![("newrelic", encode(PAYLOAD).into_bytes()); 1000]),
        ("1000 other headers", (0..1000).map(|_| ("x-other", vec![0xff; 30])).collect()),
        ("60 KB in a header that is recorded", vec![("user-agent", vec![0xf0; 60_000])]),
        (
            "huge numbers in recorded headers",
            vec![("content-length", vec![b'9'; 400]), ("x-request-start", b"t=1e400".to_vec())],
        ),
        ("CAT", vec![("x-newrelic-id", vec![0xff; 300]), ("x-newrelic-transaction", b"WyI=".to_vec())]),
    ]
}

#[test]
fn attacks_do_no_harm_and_the_next_request_is_served_as_ever() {
    for role in ["inbound", "outbound", "gateway"] {
        let mut envoy = recording(role);
        for (name, lines) in attacks() {
            eprintln!("{role}: {name}");
            assert_withstands(&mut envoy, &request(&lines));
            let stream = envoy.stream().open();
            let upstream = send(&mut envoy, stream, &request(&[("traceparent", TRACEPARENT), ("tracestate", STATE)]));
            let sent = upstream.text("traceparent").unwrap_or_default();
            assert!(sent.starts_with("00-c0a8017e5d3b4f2226e1d47b08aa3f5c-"), "{role}, after {name}: {sent}");
            assert!(
                upstream.text("tracestate").is_some_and(|state| state.ends_with(",a=1,b=2")),
                "{role}, after {name}"
            );
            finish(&mut envoy, stream, "200");
            envoy.clear_journal();
        }
    }
}

#[test]
fn attacks_do_no_harm_to_streams_that_only_reach_the_log() {
    for role in ["inbound", "outbound", "gateway"] {
        let mut envoy = recording(role);
        for (name, lines) in attacks() {
            eprintln!("{role}: {name}");
            refused_stream(&mut envoy, &lines, Ending::earlier_filter_replied(403, "ext_authz_denied"));
            assert!(!envoy.is_dead(Thread::Worker(0)), "{role}, after {name}");
            envoy.clear_journal();
        }
        assert_withstands(&mut envoy, &request(&[("traceparent", TRACEPARENT)]));
    }
}

#[test]
fn pseudo_headers_of_any_kind_do_no_harm() {
    for role in ["inbound", "outbound", "gateway"] {
        let mut envoy = recording(role);
        for value in [
            &b""[..],
            b"\xff\xfe",
            b"*",
            b"?",
            b"/%zz%",
            b"//",
            b"http://[::1",
            b"[",
            b":",
            b"@",
            b":99999999",
            &[b'/'; 60_000],
            &[b';'; 9_000],
        ] {
            for name in [":method", ":path", ":authority", ":scheme"] {
                let mut headers = request::<&str, &str>(&[]);
                headers.replace(name, value);
                assert_withstands(&mut envoy, &headers);
            }
        }
        let stream = envoy.stream().open();
        let nothing: [(&str, &str); 0] = [];
        envoy.request_headers(stream, nothing).expect("a request without any header does not trap");
        envoy.end(stream, Ending::client_abort()).expect("no trap");
    }
}

#[test]
fn the_work_for_a_request_is_bounded_and_in_proportion_to_its_length() {
    let mut envoy = recording("gateway");
    for (name, lines) in attacks() {
        let headers = request(&lines);
        let stream = envoy.stream().open();
        send(&mut envoy, stream, &headers);
        let fuel = envoy.fuel_of(stream);
        finish(&mut envoy, stream, "200");
        let bytes = u64::try_from(headers.byte_size() + 40 * headers.len()).expect("headers are small");
        // JSON may nest 128 levels deep, and each has its price, however few bytes it takes.
        let ceiling = 800_000 + 130 * bytes;
        assert!(fuel < ceiling, "{name}: {fuel} instructions for {bytes} bytes, at most {ceiling} are allowed");
    }
}

#[test]
fn attacks_take_no_memory_for_good() {
    let mut envoy = recording("gateway");
    let headers: Vec<_> = attacks().into_iter().map(|(_, lines)| request(&lines)).collect();
    let round = |envoy: &mut Envoy| {
        for headers in &headers {
            let stream = envoy.stream().open();
            send(envoy, stream, headers);
            finish(envoy, stream, "200");
            envoy.forget(stream);
        }
        envoy.clear_journal();
        envoy.memory_bytes(Thread::Worker(0))
    };
    let warm = (0..3).map(|_| round(&mut envoy)).max();
    let later = (0..10).map(|_| round(&mut envoy)).max();
    assert_eq!(later, warm, "linear memory never shrinks, so it must not grow either");
}

// ------------------------------------------------------------------------------------------------- hosts that refuse

const REFUSALS: [Status; 12] = [
    Status::NotFound,
    Status::BadArgument,
    Status::SerializationFailure,
    Status::ParseFailure,
    Status::BadExpression,
    Status::InvalidMemoryAccess,
    Status::Empty,
    Status::CasMismatch,
    Status::ResultMismatch,
    Status::InternalFailure,
    Status::BrokenConnection,
    Status::Unimplemented,
];

/// The calls of a proxy that serves requests, the statistic of each, and the statuses that are answers and no
/// refusals.
const CALLS: [(&str, &str, &[Status]); 13] = [
    ("proxy_get_current_time_nanoseconds", "get_current_time", &[]),
    ("proxy_get_property", "get_property", &[Status::NotFound]),
    ("proxy_set_property", "set_property", &[]),
    ("proxy_get_header_map_pairs", "get_header_map_pairs", &[Status::NotFound, Status::BadArgument]),
    ("proxy_replace_header_map_value", "replace_header_map_value", &[]),
    ("proxy_remove_header_map_value", "remove_header_map_value", &[]),
    ("proxy_get_shared_data", "get_shared_data", &[Status::NotFound]),
    ("proxy_set_shared_data", "set_shared_data", &[Status::CasMismatch]),
    ("proxy_http_call", "http_call", &[]),
    ("proxy_define_metric", "define_metric", &[]),
    ("proxy_increment_metric", "increment_metric", &[]),
    ("proxy_record_metric", "record_metric", &[]),
    ("proxy_log", "log", &REFUSALS),
];

/// A setup that makes every host call which a request can lead to.
fn busy() -> Setup {
    Setup::gateway()
        .with("distributed_tracing.exclude_newrelic_header", true)
        .with("application_logging.local_decorating.enabled", true)
        .with("span_events.custom_attributes", json!({ "zone": { "property": ["xds", "node", "locality", "zone"] } }))
        .with("exporters", json!({ "log": {}, "trace_api": trace_api(), "event_api": event_api() }))
}

/// Requests of every kind, time for the timer and the exporters, and answers to what they sent.
fn day_of_work(envoy: &mut Envoy) {
    for status in ["200", "500"] {
        let stream = envoy.stream().open();
        send(envoy, stream, &request(&[("newrelic", encode(PAYLOAD))]));
        finish(envoy, stream, status);
        let stream = envoy.stream().open();
        send(envoy, stream, &request::<&str, &str>(&[]));
        envoy.end(stream, Ending::connect_failure()).expect("no trap");
        refused_stream(envoy, &[("traceparent", TRACEPARENT)], Ending::earlier_filter_replied(403, "rbac"));
    }
    envoy.advance(Duration::from_secs(7)).expect("no tick traps");
    envoy.answer_all(&Answer::status(202)).expect("no answer traps");
    envoy.advance(Duration::from_secs(60)).expect("no tick traps");
    envoy.answer_all(&Answer::status(500)).expect("no answer traps");
    envoy.advance(Duration::from_secs(2)).expect("no tick traps");
}

fn refusals(envoy: &Envoy, statistic: &str) -> u64 {
    envoy.counter(&format!("newrelic.host_refused.{statistic}"))
}

#[test]
fn no_refusal_of_the_host_traps_or_stops_a_request_and_each_is_counted() {
    for (call, statistic, expected_answers) in CALLS {
        let mut envoy = busy().start();
        for status in REFUSALS {
            let before = refusals(&envoy, statistic);
            envoy.inject(Fault::on(call, status));
            day_of_work(&mut envoy);
            envoy.clear_faults();
            tick(&mut envoy);
            tick(&mut envoy);
            let is_counted = refusals(&envoy, statistic) > before;
            assert_eq!(is_counted, !expected_answers.contains(&status), "{call} answers {status}");
            assert!(!envoy.is_dead(Thread::Worker(0)), "{call} answers {status}");
        }
        envoy.clear_journal();
        envoy.advance(Duration::from_secs(120)).expect("no tick traps");
        let stream = envoy.stream().open();
        let upstream = send(&mut envoy, stream, &request(&[("traceparent", TRACEPARENT), ("tracestate", STATE)]));
        assert_well_formed(&upstream);
        finish(&mut envoy, stream, "200");
        assert_eq!(records(&envoy, "transaction").len(), 1, "after {call} works again, so does the filter");
    }
}

#[test]
fn a_host_that_refuses_at_any_single_moment_does_no_harm() {
    for (call, ..) in CALLS {
        let mut envoy = busy().start();
        for nth in 1..=24 {
            for status in [Status::InternalFailure, Status::NotFound, Status::BadArgument] {
                envoy.inject(Fault::on(call, status).nth(nth));
                let stream = envoy.stream().open();
                send(&mut envoy, stream, &request(&[("newrelic", encode(PAYLOAD))]));
                finish(&mut envoy, stream, "200");
                tick(&mut envoy);
                envoy.clear_faults();
                envoy.clear_journal();
            }
        }
        assert!(!envoy.is_dead(Thread::Worker(0)), "{call}");
        envoy.answer_all(&Answer::broken()).expect("no answer traps");
    }
}

#[test]
fn a_host_that_refuses_from_the_start_still_serves_requests() {
    let calls = CALLS.iter().map(|(call, ..)| *call).chain([
        "proxy_set_tick_period_milliseconds",
        "proxy_get_buffer_bytes",
        "proxy_call_foreign_function",
    ]);
    for call in calls {
        for status in REFUSALS {
            let builder = Envoy::builder(&support::module()).plugin(busy().plugin()).cluster(support::CLUSTER);
            // A configuration that cannot be read may be refused, but never by a trap.
            let started = builder.inject(Fault::on(call, status)).start();
            let mut envoy = match started {
                Ok(envoy) => envoy,
                Err(failure) => {
                    assert_eq!(
                        failure.kind(),
                        host_tests::FailureKind::Configuration,
                        "{call} answers {status}: {failure}"
                    );
                    assert_eq!(call, "proxy_get_buffer_bytes", "{failure}");
                    continue;
                }
            };
            let stream = envoy.stream().open();
            send(&mut envoy, stream, &request(&[("newrelic", encode(PAYLOAD))]));
            finish(&mut envoy, stream, "200");
            assert!(!envoy.is_dead(Thread::Worker(0)), "{call} answers {status}");
        }
    }
}

#[test]
fn a_list_of_values_that_is_no_list_leaves_the_span_without_them() {
    let too_many = [&[0xff_u8; 4][..], b"whatever"].concat();
    for answer in [Vec::new(), vec![7], too_many, vec![1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, b'x']] {
        let builder = busy().builder().foreign_function("expr_evaluate", move |_| Ok(answer.clone()));
        let mut envoy = builder.start().expect("the configuration is valid");
        let stream = envoy.stream().open();
        send(&mut envoy, stream, &request(&[("traceparent", TRACEPARENT)]));
        finish(&mut envoy, stream, "200");
        tick(&mut envoy);
        assert!(!envoy.is_dead(Thread::Worker(0)));
        assert!(envoy.counter("newrelic.spans.recorded") > 0, "{}", envoy.transcript());
    }
}

#[test]
fn a_host_that_refuses_the_end_of_a_plugin_does_no_harm() {
    for call in ["proxy_done", "proxy_set_effective_context", "proxy_http_call", "proxy_increment_metric", "proxy_log"]
    {
        for status in [Status::NotFound, Status::BadArgument, Status::InternalFailure, Status::Unimplemented] {
            let mut envoy = busy().start();
            let stream = envoy.stream().open();
            send(&mut envoy, stream, &request(&[("newrelic", encode(PAYLOAD))]));
            finish(&mut envoy, stream, "200");
            envoy.inject(Fault::on(call, status));
            envoy.update_plugin(busy().with("app_name", "renamed").plugin()).expect("the update is taken");
            envoy.answer_all(&Answer::status(202)).expect("no answer traps");
            let stream = envoy.stream().open();
            send(&mut envoy, stream, &request(&[("traceparent", TRACEPARENT)]));
            finish(&mut envoy, stream, "200");
            envoy.advance(Duration::from_secs(20)).expect("no tick traps");
            envoy.shutdown().expect("the end does not trap");
        }
    }
}

#[test]
fn header_maps_that_the_host_does_not_give_are_like_empty_ones() {
    let mut envoy = recording("gateway");
    envoy.inject(Fault::on("proxy_get_header_map_pairs", Status::InternalFailure));
    let stream = envoy.stream().open();
    let upstream = send(&mut envoy, stream, &request::<&str, &str>(&[]));
    finish(&mut envoy, stream, "200");
    let transactions = records(&envoy, "transaction");
    assert!(transactions.iter().all(Value::is_object));
    assert!(upstream.all("traceparent").len() <= 1);
}

#[test]
fn a_request_whose_headers_the_host_withholds_goes_on_as_it_is() {
    for status in [Status::InternalFailure, Status::BadArgument, Status::NotFound] {
        let mut envoy = Setup::role("gateway").with("exclude", json!([{ "path": "/healthz" }])).start();
        envoy.inject(Fault::on("proxy_get_header_map_pairs", status).times(1));
        let sent = request(&[("traceparent", TRACEPARENT), ("tracestate", STATE), ("newrelic", "stays")]);
        let stream = envoy.stream().open();
        let upstream = envoy.request_headers(stream, sent.clone()).expect("the filter does not trap");
        // Half of a trace context of ours beside half of the caller's would be worse than none.
        assert_eq!(upstream, sent, "{status:?}");
        finish(&mut envoy, stream, "200");
        assert!(records(&envoy, "span").is_empty());
    }
}

#[test]
fn a_statistic_that_the_host_did_not_define_at_first_loses_nothing() {
    let setup = Setup::role("gateway").sampler("always_on");
    let mut envoy =
        setup.builder().inject(Fault::on("proxy_define_metric", Status::InternalFailure)).start().expect("starts");
    for _ in 0..3 {
        let stream = envoy.stream().open();
        send(&mut envoy, stream, &request::<&str, &str>(&[]));
        finish(&mut envoy, stream, "200");
    }
    tick(&mut envoy);
    envoy.clear_faults();
    tick(&mut envoy);
    assert_eq!(envoy.counter("newrelic.Supportability/TraceContext/Create/Success"), 3);
    assert_eq!(envoy.counter("newrelic.spans.recorded"), envoy.counter("newrelic.spans.exported"));
}
