//! Which header counts when several are there, as New Relic's agents agree on it.

use crate::support::{Draws, EXIT_ID, GUID, NEW_TRACE, PARENT, Setup, TRACE, TRACEPARENT, counted, encode};

const INVALID: &str = "00-00000000000000000000000000000000-b7d20c4e19f86a35-01";
const ENTRY: &str = "777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900";
const INVALID_ENTRY: &str = "777@nr=0-9-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900";
const PAYLOAD: &str = r#"{"v":[0,1],"d":{"ty":"Browser","ac":"777","ap":"5","tr":"ab12","id":"0102030405060708","tx":"3344","pr":1.25,"sa":true,"ti":1749999999900}}"#;

/// Where the trace comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    New,
    /// Trace and parent of `traceparent`; whether New Relic's data came with it.
    W3c(bool),
    Newrelic,
}

/// One row: the inbound headers, where the trace comes from, what goes on of `tracestate`, and what is counted.
struct Row<'a> {
    traceparent: Option<&'a str>,
    tracestate: &'a [&'a str],
    newrelic: Option<String>,
    source: Source,
    foreign: &'a str,
    counted: &'a [&'a str],
}

impl Row<'_> {
    fn check(&self) {
        let draws = if self.source == Source::New { Draws::new_trace() } else { Draws::gateway() };
        let setup = Setup::gateway().draws(draws.priority(250_000));
        let traceparent = self.traceparent.map(|value| ("traceparent", value));
        let tracestate = self.tracestate.iter().map(|value| ("tracestate", *value));
        let newrelic = self.newrelic.as_deref().map(|value| ("newrelic", value));
        let lines: Vec<_> = traceparent.into_iter().chain(tracestate).chain(newrelic).collect();
        let seen = setup.exchange(&lines);
        let (trace, parent, account, priority) = match self.source {
            Source::New => (NEW_TRACE, None, None, "2.25"),
            Source::W3c(false) => (TRACE, Some(PARENT), None, "2.25"),
            Source::W3c(true) => (TRACE, Some(PARENT), Some("4002"), "1.5"),
            Source::Newrelic => ("0000000000000000000000000000ab12", Some("0102030405060708"), Some("777"), "1.25"),
        };
        assert_eq!(seen.traceparent(), format!("00-{trace}-{EXIT_ID}-01"), "{lines:?}");
        let tracestate = format!("777@nr=0-0-4001-90210--{GUID}-1-{priority}-1750000000123{}", self.foreign);
        assert_eq!(seen.tracestate(), Some(tracestate), "{lines:?}");
        let transaction = seen.transaction();
        let text = |key: &str| transaction.get(key).and_then(|value| value.as_str()).map(str::to_owned);
        assert_eq!(text("parentSpanId").as_deref(), parent, "{lines:?}");
        assert_eq!(text("parent.account").as_deref(), account, "{lines:?}");
        let created = ["TraceContext/Create/Success", "DistributedTrace/CreatePayload/Success"];
        assert_eq!(seen.supportability(), counted(&[self.counted, &created].concat()), "{lines:?}");
    }
}

/// `traceparent`, `tracestate` lines, and what is expected as in [`Row`].
type W3cRow<'a> = (&'a str, &'a [&'a str], Source, &'a str, &'a [&'a str]);

#[test]
fn without_any_header_a_new_trace_starts_and_nothing_is_counted() {
    for tracestate in [&[][..], &[ENTRY], &["a=1", "b="]] {
        Row { traceparent: None, tracestate, newrelic: None, source: Source::New, foreign: "", counted: &[] }.check();
    }
}

#[test]
fn without_traceparent_the_newrelic_header_counts() {
    let accept = |name: &str| format!("DistributedTrace/AcceptPayload/{name}");
    for (newrelic, source, name) in [
        (encode(PAYLOAD), Source::Newrelic, "Success"),
        ("garbage!".to_owned(), Source::New, "ParseException"),
        (encode(PAYLOAD.replace("777", "778")), Source::New, "Ignored/UntrustedAccount"),
        (encode(PAYLOAD.replace("[0,1]", "[2,0]")), Source::New, "Ignored/MajorVersion"),
        (String::new(), Source::New, "Ignored/Null"),
    ] {
        for traceparent in [None, Some(""), Some(" \t")] {
            for tracestate in [&[][..], &[ENTRY], &["a=1"], &["b="]] {
                let counted = [&*accept(name)];
                let newrelic = Some(newrelic.clone());
                Row { traceparent, tracestate, newrelic, source, foreign: "", counted: &counted }.check();
            }
        }
    }
}

#[test]
fn a_traceparent_that_is_there_disables_the_newrelic_header() {
    const ACCEPTED: &str = "TraceContext/Accept/Success";
    const NO_ENTRY: &str = "TraceContext/TraceState/NoNrEntry";
    const MALFORMED: &str = "TraceContext/TraceState/Parse/Exception";
    let with_others = format!("a=1,{ENTRY},b=2");
    let with_malformed = format!("a=1,{ENTRY},b=");
    let rows: [W3cRow<'_>; 14] = [
        (INVALID, &[ENTRY], Source::New, "", &["TraceContext/TraceParent/Parse/Exception"]),
        (INVALID, &["a=1"], Source::New, "", &["TraceContext/TraceParent/Parse/Exception"]),
        (INVALID, &[], Source::New, "", &["TraceContext/TraceParent/Parse/Exception"]),
        (TRACEPARENT, &[ENTRY], Source::W3c(true), "", &[ACCEPTED]),
        (TRACEPARENT, &[&with_others], Source::W3c(true), ",a=1,b=2", &[ACCEPTED]),
        (TRACEPARENT, &["a=1", ENTRY, "b=2"], Source::W3c(true), ",a=1,b=2", &[ACCEPTED]),
        (
            TRACEPARENT,
            &["a=1", INVALID_ENTRY],
            Source::W3c(false),
            ",a=1",
            &[ACCEPTED, "TraceContext/TraceState/InvalidNrEntry"],
        ),
        (TRACEPARENT, &[], Source::W3c(false), "", &[ACCEPTED, NO_ENTRY]),
        (TRACEPARENT, &[""], Source::W3c(false), "", &[ACCEPTED, NO_ENTRY]),
        (TRACEPARENT, &["a=1,b=2"], Source::W3c(false), ",a=1,b=2", &[ACCEPTED, NO_ENTRY]),
        (
            TRACEPARENT,
            &["888@nr=0-0-9-8---1-1.2-1749999999900"],
            Source::W3c(false),
            ",888@nr=0-0-9-8---1-1.2-1749999999900",
            &[ACCEPTED, NO_ENTRY],
        ),
        (TRACEPARENT, &[&with_malformed], Source::W3c(true), "", &[ACCEPTED, MALFORMED]),
        (TRACEPARENT, &["a=1", "b="], Source::W3c(false), "", &[ACCEPTED, MALFORMED, NO_ENTRY]),
        (
            TRACEPARENT,
            &["b=", INVALID_ENTRY],
            Source::W3c(false),
            "",
            &[ACCEPTED, MALFORMED, "TraceContext/TraceState/InvalidNrEntry"],
        ),
    ];
    for (traceparent, tracestate, source, foreign, counted) in rows {
        let traceparent = Some(traceparent);
        for newrelic in [None, Some(encode(PAYLOAD)), Some("garbage!".to_owned()), Some(String::new())] {
            Row { traceparent, tracestate, newrelic, source, foreign, counted }.check();
        }
    }
}

#[test]
fn flag_and_entry_choose_sampler_and_decision() {
    // An adaptive sampler takes the entry's decision over whatever the flag says; other samplers go by the flag's
    // section alone.
    let state = |sampled: &str| format!("777@nr=0-0-4002-55---{sampled}-1.5-1749999999900");
    for (flags, sampled, section, sampler, expected) in [
        ("00", "1", "remote_parent_not_sampled", "adaptive", "01"),
        ("01", "0", "remote_parent_sampled", "adaptive", "00"),
        ("01", "1", "remote_parent_sampled", "always_off", "00"),
        ("01", "0", "remote_parent_sampled", "always_on", "01"),
        ("00", "1", "remote_parent_not_sampled", "always_off", "00"),
        ("00", "0", "remote_parent_not_sampled", "always_on", "01"),
    ] {
        let setup = Setup::gateway().with(&format!("distributed_tracing.sampler.{section}"), sampler);
        let traceparent = format!("00-{TRACE}-{PARENT}-{flags}");
        let seen = setup.exchange(&[("traceparent", &traceparent), ("tracestate", &state(sampled))]);
        assert!(
            seen.traceparent().ends_with(expected),
            "flags {flags}, entry {sampled}, {sampler}: {}",
            seen.traceparent()
        );
    }
}
