//! What goes on to the next hop: exactly one of each header, all of them ours (New Relic's agents; W3C Trace Context,
//! section 4.3).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Draws, EXIT_ID, GUID, PARENT, REQUEST, Seen, Setup, TRACE, TRACEPARENT, counted, encode, finish, request, send,
    texts,
};

const STATE: &str = "a=1,777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900";
const PAYLOAD: &str = r#"{"v":[0,1],"d":{"ty":"App","ac":"777","ap":"5","tr":"ab12","id":"0102030405060708","tx":"3344","pr":1.25,"sa":true,"ti":1749999999900}}"#;

/// A request with everything that tracing replaces, on several lines.
fn crowded() -> Vec<(&'static str, String)> {
    vec![
        ("newrelic", encode(PAYLOAD)),
        ("x-first", "1".to_owned()),
        ("tracestate", STATE.to_owned()),
        ("traceparent", TRACEPARENT.to_owned()),
        ("tracestate", "b=2".to_owned()),
        ("x-second", "2".to_owned()),
        ("newrelic", "another".to_owned()),
    ]
}

fn exchange(setup: Setup) -> Seen {
    setup.draws(Draws::gateway()).exchange(&crowded())
}

fn data(seen: &Seen) -> Value {
    seen.payload().unwrap_or_default()["d"].clone()
}

#[test]
fn the_upstream_sees_exactly_one_of_each_header() {
    let seen = exchange(Setup::gateway());
    assert_eq!(texts(&seen.upstream, "traceparent"), [format!("00-{TRACE}-{EXIT_ID}-01")]);
    assert_eq!(
        texts(&seen.upstream, "tracestate"),
        [format!("777@nr=0-0-4001-90210--{GUID}-1-1.5-1750000000123,a=1,b=2")]
    );
    assert_eq!(texts(&seen.upstream, "newrelic").len(), 1);
}

#[test]
fn the_decision_is_in_all_three_headers_and_the_priority_in_two() {
    for (sampler, flags, sampled, priority) in [("always_on", "01", true, "3"), ("always_off", "00", false, "0")] {
        let seen = exchange(Setup::gateway().sampler(sampler));
        assert_eq!(seen.traceparent(), format!("00-{TRACE}-{EXIT_ID}-{flags}"));
        let own = format!("777@nr=0-0-4001-90210--{GUID}-{}-{priority}-1750000000123,a=1,b=2", u8::from(sampled));
        assert_eq!(seen.tracestate(), Some(own));
        assert_eq!((&data(&seen)["sa"], data(&seen)["pr"].as_f64()), (&json!(sampled), priority.parse().ok()));
        assert_eq!(data(&seen)["id"], EXIT_ID, "the id is sent whether sampled or not");
    }
}

#[test]
fn without_span_events_a_random_parent_id_is_sent_and_no_span_named() {
    let seen = exchange(Setup::gateway().with("span_events.enabled", false));
    assert_eq!(seen.traceparent(), format!("00-{TRACE}-{EXIT_ID}-01"));
    assert_eq!(seen.tracestate(), Some(format!("777@nr=0-0-4001-90210--{GUID}-1-1.5-1750000000123,a=1,b=2")));
    assert_eq!((data(&seen).get("id"), &data(&seen)["tx"]), (None, &json!(GUID)));
    assert_eq!(seen.spans(), Vec::<Value>::new());
    assert_eq!(seen.transaction()["guid"], GUID);
}

#[test]
fn without_transaction_events_field_5_is_empty_and_tx_still_sent() {
    let seen = exchange(Setup::gateway().with("transaction_events.enabled", false));
    assert_eq!(seen.tracestate(), Some("777@nr=0-0-4001-90210---1-1.5-1750000000123,a=1,b=2".to_owned()));
    assert_eq!(data(&seen)["tx"], GUID);
    assert_eq!(seen.transactions(), Vec::<Value>::new());
    assert_eq!(seen.entry_span()["attributes"]["transactionId"], GUID);
}

#[test]
fn an_excluded_newrelic_header_is_read_and_taken_away_but_not_sent() {
    let setup = || Setup::gateway().with("distributed_tracing.exclude_newrelic_header", true).draws(Draws::gateway());
    let seen = setup().exchange(&crowded());
    assert_eq!(texts(&seen.upstream, "newrelic"), Vec::<String>::new());
    assert_eq!(seen.supportability(), counted(&["TraceContext/Accept/Success", "TraceContext/Create/Success"]));

    let seen = setup().exchange(&[("newrelic", encode(PAYLOAD))]);
    assert_eq!(texts(&seen.upstream, "newrelic"), Vec::<String>::new());
    assert_eq!(seen.traceparent(), format!("00-0000000000000000000000000000ab12-{EXIT_ID}-01"));
    assert_eq!(seen.transaction()["parent.account"], "777");
    let expected = ["DistributedTrace/AcceptPayload/Success", "TraceContext/Create/Success"];
    assert_eq!(seen.supportability(), counted(&expected));
}

#[test]
fn without_an_account_only_w3c_is_spoken() {
    let setup = || {
        let setup =
            Setup::gateway().without("account_id").without("trusted_account_key").without("primary_application_id");
        setup.sampler("always_on").draws(Draws::gateway())
    };
    let seen = setup().exchange(&crowded());
    assert_eq!(seen.traceparent(), format!("00-{TRACE}-{EXIT_ID}-01"));
    let state = format!("{STATE},b=2");
    assert_eq!(seen.tracestate(), Some(state), "no entry is ours: all members are other vendors'");
    assert_eq!(texts(&seen.upstream, "newrelic"), Vec::<String>::new());
    assert_eq!(seen.entry_span()["attributes"]["tracingVendors"], "a,777@nr,b");

    let seen = setup().exchange(&[("traceparent", TRACEPARENT)]);
    assert_eq!((seen.tracestate(), seen.payload()), (None, None));
}

#[test]
fn an_empty_configuration_speaks_w3c() {
    let mut envoy = host_tests::Envoy::builder(&crate::support::module())
        .plugin(host_tests::Plugin::new("tracing"))
        .start()
        .expect("nothing is a valid configuration");
    let stream = envoy.stream().open();
    let upstream = send(&mut envoy, stream, &request(&crowded()));
    assert!(upstream.text("traceparent").is_some_and(|sent| sent.starts_with(&format!("00-{TRACE}-"))));
    assert_eq!(texts(&upstream, "newrelic"), Vec::<String>::new());
}

#[test]
fn disabled_tracing_leaves_every_header_as_it_is() {
    let setup = Setup::gateway().with("distributed_tracing.enabled", false);
    for lines in [crowded(), vec![("traceparent", "garbage".to_owned()), ("newrelic", String::new())]] {
        let seen = setup.exchange(&lines);
        assert_eq!(seen.upstream, request(&lines));
        assert_eq!(seen.spans(), Vec::<Value>::new());
        assert_eq!(seen.supportability(), counted(&[]));
        let transaction = seen.transaction();
        for key in ["guid", "traceId", "sampled", "priority", "parent.type", "parentId", "parentSpanId"] {
            assert_eq!(transaction.get(key), None, "{key}");
        }
    }
    assert_eq!(setup.exchange::<&str, &str>(&[]).upstream.len(), REQUEST.len(), "nothing is added either");
}

#[test]
fn both_carriers_have_the_time_at_which_they_were_made() {
    let mut envoy = Setup::gateway().start();
    let stream = envoy.stream().open();
    envoy.advance(Duration::from_millis(877)).expect("no tick traps");
    let upstream = send(&mut envoy, stream, &request::<&str, &str>(&[]));
    finish(&mut envoy, stream, "200");
    let seen = Seen::new(envoy, stream, upstream);
    assert_eq!(data(&seen)["ti"], 1_750_000_001_000_u64);
    let state = seen.tracestate().unwrap_or_default();
    assert!(state.ends_with("-1750000001000"), "{state}");
}

#[test]
fn a_caller_that_sends_nothing_still_makes_a_whole_trace() {
    let seen = Setup::gateway().exchange::<&str, &str>(&[]);
    let (entry, exit) = (seen.entry_span(), seen.exit_span());
    let trace = entry["trace.id"].as_str().unwrap_or_default().to_owned();
    let exit_id = exit["id"].as_str().unwrap_or_default();
    assert_eq!((trace.len(), exit_id.len()), (32, 16));
    assert_eq!(seen.traceparent(), format!("00-{trace}-{exit_id}-01"));
    assert_eq!(exit["attributes"]["parent.id"], entry["id"]);
    assert_eq!(entry["attributes"].get("parent.id"), None, "the entry span is the root");
    assert_ne!(entry["id"], PARENT);
}
