//! Reading `traceparent`: W3C Trace Context, sections 3.2 (format), 3.2.2.5.1 (flags), 4.3 (mutations), and Level 2
//! for the random flag.

use crate::support::{
    Draws, EXIT_ID, NEW_TRACE, PARENT, Seen, Setup, TRACE, TRACEPARENT, counted, encode, request, send,
};

/// A setup in which the outgoing flags tell the section that was chosen: 01 for a sampled parent or a new trace, 00
/// for a parent that is not sampled.
fn by_section() -> Setup {
    Setup::gateway()
        .with("distributed_tracing.sampler.root", "always_on")
        .with("distributed_tracing.sampler.remote_parent_sampled", "always_on")
        .with("distributed_tracing.sampler.remote_parent_not_sampled", "always_off")
}

fn continued(flags: &str) -> String {
    format!("00-{TRACE}-{EXIT_ID}-{flags}")
}

fn restarted() -> String {
    format!("00-{NEW_TRACE}-{EXIT_ID}-01")
}

/// The header with one of its four fields replaced.
fn with_field(position: usize, value: &str) -> String {
    let mut fields: Vec<_> = TRACEPARENT.split('-').collect();
    fields[position] = value;
    fields.join("-")
}

#[test]
fn a_valid_header_is_continued_with_a_parent_id_of_our_own() {
    for (value, flags) in [
        (TRACEPARENT.to_owned(), "01"),
        (format!("  {TRACEPARENT}\t"), "01"),
        (with_field(3, "00"), "00"),
        (with_field(3, "02"), "00"),
        (with_field(3, "fe"), "00"),
        (with_field(3, "03"), "01"),
        (with_field(3, "ff"), "01"),
        (with_field(0, "cc"), "01"),
        (with_field(0, "01"), "01"),
        (format!("{}-what-the-future", with_field(0, "cc")), "01"),
        (format!("{}-", with_field(0, "cc")), "01"),
    ] {
        let seen = by_section().draws(Draws::gateway()).exchange(&[("traceparent", &value)]);
        assert_eq!(seen.traceparent(), continued(flags), "{value}");
        assert_eq!(seen.transaction()["parentSpanId"], PARENT, "{value}");
        assert_eq!(seen.supportability().get("TraceContext/Accept/Success"), Some(&1), "{value}");
    }
}

#[test]
fn an_invalid_header_starts_a_new_trace_and_nothing_is_inherited() {
    let upper_trace = TRACE.to_uppercase();
    let upper_parent = PARENT.to_uppercase();
    for value in [
        format!("{TRACEPARENT}."),
        format!("{TRACEPARENT}-"),
        format!("{TRACEPARENT}-x"),
        format!("{TRACEPARENT}-extra"),
        format!("{TRACEPARENT},{TRACEPARENT}"),
        format!("{}.what", with_field(0, "cc")),
        format!("{}what", with_field(0, "cc")),
        with_field(0, "ff"),
        with_field(0, ".0"),
        with_field(0, "0."),
        with_field(0, "0"),
        with_field(0, "000"),
        with_field(0, ""),
        with_field(0, "CC"),
        with_field(1, &"0".repeat(32)),
        with_field(1, &TRACE[1..]),
        with_field(1, &format!("{TRACE}0")),
        with_field(1, &format!(".{}", &TRACE[1..])),
        with_field(1, &format!("+{}", &TRACE[1..])),
        with_field(1, &format!("g{}", &TRACE[1..])),
        with_field(1, &upper_trace),
        with_field(1, ""),
        with_field(2, &"0".repeat(16)),
        with_field(2, &PARENT[1..]),
        with_field(2, &format!("{PARENT}0")),
        with_field(2, &format!(".{}", &PARENT[1..])),
        with_field(2, &upper_parent),
        with_field(2, ""),
        with_field(3, ".0"),
        with_field(3, "0."),
        with_field(3, "001"),
        with_field(3, "1"),
        with_field(3, ""),
        with_field(3, "0A"),
        "00".to_owned(),
        "-".to_owned(),
        format!("{TRACE}-{PARENT}-01"),
        TRACEPARENT.replace('-', "_"),
        format!("00 {}", &TRACEPARENT[3..]),
    ] {
        assert_refused(&[("traceparent", &value)]);
    }
}

/// Checks that these `traceparent` lines start a new trace, and drop a valid `tracestate` and `newrelic`.
fn assert_refused(lines: &[(&str, &str)]) {
    let payload = encode(format!(
        r#"{{"v":[0,1],"d":{{"ty":"App","ac":"777","ap":"5","id":"{PARENT}","tr":"{TRACE}","ti":1749999999900}}}}"#
    ));
    let state = "vend1=p0,777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-0-0.1-1749999999900";
    let rest = [("tracestate", state), ("newrelic", &payload)];
    let seen = by_section().draws(Draws::new_trace()).exchange(&[lines, &rest].concat());
    assert_eq!(seen.traceparent(), restarted(), "{lines:?}");
    assert_eq!(seen.tracestate(), own_entry(), "{lines:?}");
    let expected = [
        "TraceContext/TraceParent/Parse/Exception",
        "TraceContext/Create/Success",
        "DistributedTrace/CreatePayload/Success",
    ];
    assert_eq!(seen.supportability(), counted(&expected), "{lines:?}");
    assert_no_caller(&seen);
}

fn own_entry() -> Option<String> {
    Some("777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-1-3-1750000000123".to_owned())
}

fn assert_no_caller(seen: &Seen) {
    let transaction = seen.transaction();
    let caller = transaction.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with("parent"));
    assert_eq!(caller.collect::<Vec<_>>(), []);
}

#[test]
fn bytes_that_are_no_text_are_an_invalid_header() {
    for value in [&b"\xff\xfe"[..], b"00-\xff\xff", &[0x80; 55]] {
        let seen = by_section().draws(Draws::new_trace()).exchange(&[("traceparent", value)]);
        assert_eq!(seen.traceparent(), restarted(), "{value:?}");
        assert_eq!(seen.supportability().get("TraceContext/TraceParent/Parse/Exception"), Some(&1));
    }
}

#[test]
fn several_lines_are_invalid_even_when_they_are_equal() {
    let other = with_field(2, "1122334455667788");
    for second in [other.as_str(), TRACEPARENT, "", "garbage"] {
        assert_refused(&[("traceparent", TRACEPARENT), ("traceparent", second)]);
        assert_refused(&[("traceparent", second), ("traceparent", TRACEPARENT)]);
    }
}

#[test]
fn a_blank_value_is_like_no_header() {
    for value in ["", " ", "\t \t"] {
        let seen =
            by_section().draws(Draws::new_trace()).exchange(&[("traceparent", value), ("tracestate", "vend1=p0")]);
        assert_eq!(seen.traceparent(), restarted(), "{value:?}");
        assert_eq!(seen.tracestate(), own_entry(), "{value:?}");
        let expected = ["TraceContext/Create/Success", "DistributedTrace/CreatePayload/Success"];
        assert_eq!(seen.supportability(), counted(&expected), "{value:?}");
    }
}

#[test]
fn names_are_matched_without_regard_to_case() {
    for name in ["traceparent", "Traceparent", "TraceParent", "TRACEPARENT"] {
        let seen = by_section().draws(Draws::gateway()).exchange(&[(name, TRACEPARENT)]);
        assert_eq!(seen.traceparent(), continued("01"), "{name}");
    }
}

#[test]
fn names_that_are_alike_are_other_headers_and_left_alone() {
    for name in ["trace-parent", "trace_parent", "trace.parent", "x-traceparent"] {
        let seen = by_section().draws(Draws::new_trace()).exchange(&[(name, TRACEPARENT)]);
        assert_eq!(seen.traceparent(), restarted(), "{name}");
        assert_eq!(seen.header(name).as_deref(), Some(TRACEPARENT), "{name}");
    }
}

#[test]
fn the_random_flag_goes_on_only_when_asked_for_and_only_with_the_trace_id() {
    for (value, off, on) in [
        (with_field(3, "02"), "00", "02"),
        (with_field(3, "03"), "01", "03"),
        (with_field(3, "01"), "01", "01"),
        (with_field(3, "fe"), "00", "02"),
        (with_field(3, "ff"), "01", "03"),
        // Of a later version only the sampled flag is known.
        (with_field(0, "cc").replace("-01", "-03"), "01", "01"),
    ] {
        for (is_on, flags) in [(false, off), (true, on)] {
            let setup = by_section().with("distributed_tracing.propagate_random_flag", is_on).draws(Draws::gateway());
            assert_eq!(setup.exchange(&[("traceparent", &value)]).traceparent(), continued(flags), "{value}");
        }
    }
    let setup = by_section().with("distributed_tracing.propagate_random_flag", true).draws(Draws::new_trace());
    assert_eq!(setup.exchange::<&str, &str>(&[]).traceparent(), restarted(), "a new trace makes no such claim");
}

#[test]
fn every_request_of_a_trace_gets_a_parent_id_of_its_own() {
    let mut envoy = by_section().start();
    let mut parents = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let stream = envoy.stream().open();
        let upstream = send(&mut envoy, stream, &request(&[("traceparent", TRACEPARENT)]));
        let traceparent = upstream.text("traceparent").unwrap_or_default().into_owned();
        let (trace, parent) = traceparent.rsplit_once("-01").unwrap_or_default().0.rsplit_once('-').unwrap_or_default();
        assert_eq!(trace, format!("00-{TRACE}"));
        assert_eq!(parent.len(), 16);
        assert_ne!(parent, "0000000000000000");
        parents.insert(parent.to_owned());
    }
    assert_eq!(parents.len(), 200);
}

#[test]
fn zeros_are_never_drawn_as_ids() {
    let zeros = |count: usize| Draws::default().hex(&"00".repeat(count));
    let draws = zeros(16).then(&Draws::default().hex(NEW_TRACE)).then(&zeros(24)).then(&Draws::gateway());
    let seen = by_section().draws(draws).exchange::<&str, &str>(&[]);
    assert_eq!(seen.traceparent(), restarted());
    assert_eq!(seen.tracestate(), own_entry());
}
