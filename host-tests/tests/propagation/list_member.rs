//! New Relic's `tracestate` entry: how its nine fields are read and written (the agents' W3C support, as their shared
//! fixture `trace_context.json` has it).

use serde_json::{Value, json};

use crate::support::{Draws, EXIT_ID, GUID, PARENT, Seen, Setup, TRACEPARENT};

/// The fields of a complete entry.
const FIELDS: [&str; 9] = ["0", "0", "4002", "55", "aa11bb22cc33dd44", "1122334455667788", "1", "1.5", "1749999999900"];

fn entry(fields: &[&str]) -> String {
    format!("777@nr={}", fields.join("-"))
}

/// The complete entry with one field replaced.
fn with_field(position: usize, value: &str) -> String {
    let mut fields = FIELDS;
    fields[position] = value;
    entry(&fields)
}

/// The default sampler inherits the entry's decision, and else samples the first requests.
fn exchange(state: &str) -> Seen {
    let setup = Setup::gateway().draws(Draws::gateway().priority(250_000));
    setup.exchange(&[("traceparent", TRACEPARENT), ("tracestate", state)])
}

/// Field `position` of the entry that we send.
fn sent(seen: &Seen, position: usize) -> String {
    let state = seen.tracestate().unwrap_or_default();
    let own = state.split(',').next().unwrap_or_default();
    own.split('-').nth(position).unwrap_or_default().to_owned()
}

fn is_accepted(seen: &Seen) -> bool {
    let counters = seen.supportability();
    assert_eq!(counters.get("TraceContext/Accept/Success"), Some(&1), "the trace goes on in any case");
    assert_eq!(counters.get("TraceContext/TraceState/NoNrEntry"), None, "there is an entry");
    !counters.contains_key("TraceContext/TraceState/InvalidNrEntry")
}

#[test]
fn required_fields_must_be_there_and_of_their_kind() {
    for (position, value, accepted) in [
        (0, "0", true),
        (0, "1", true),
        (0, "17", true),
        (0, "99999999999999999999", true),
        (0, "", false),
        (0, "x", false),
        (0, "0x", false),
        (0, "1.0", false),
        (0, "+1", false),
        (1, "0", true),
        (1, "1", true),
        (1, "2", true),
        (1, "3", false),
        (1, "", false),
        (1, "00", false),
        (1, "App", false),
        (2, "4002", true),
        (2, "any text", true),
        (2, "", false),
        (3, "55", true),
        (3, "Unknown", true),
        (3, "", false),
        (4, "", true),
        (5, "", true),
        (6, "", true),
        (7, "", true),
        (8, "1749999999900", true),
        (8, "0", true),
        (8, "", false),
        (8, "notanumber", false),
        (8, "1749999999900.5", false),
        (8, "1e12", false),
        (8, "99999999999999999999", false),
    ] {
        let state = with_field(position, value);
        assert_eq!(is_accepted(&exchange(&state)), accepted, "{state}");
    }
}

#[test]
fn an_entry_with_fewer_than_nine_fields_is_invalid() {
    for count in 0..9 {
        let state = if count == 0 { "777@nr=x".to_owned() } else { entry(&FIELDS[..count]) };
        assert!(!is_accepted(&exchange(&state)), "{state}");
    }
}

#[test]
fn further_fields_are_ignored_in_any_version() {
    for version in ["0", "1", "2"] {
        let mut fields = FIELDS;
        fields[0] = version;
        let state = format!("{}-other-new-fields", entry(&fields));
        let seen = exchange(&state);
        assert!(is_accepted(&seen), "{state}");
        assert_eq!(seen.transaction()["parent.transportDuration"], 0.223, "{state}");
    }
}

#[test]
fn an_invalid_entry_tells_nothing_is_not_sent_on_and_leaves_other_vendors_alone() {
    let seen = exchange(&format!("a=1,{},b=2", with_field(8, "notanumber")));
    assert_eq!(
        seen.tracestate().unwrap_or_default(),
        format!("777@nr=0-0-4001-90210--{GUID}-1-2.25-1750000000123,a=1,b=2")
    );
    let transaction = seen.transaction();
    for key in ["parent.type", "parent.account", "parent.app", "parent.transportDuration", "parentId"] {
        assert_eq!(transaction.get(key), None, "{key}");
    }
    assert_eq!(transaction["parentSpanId"], PARENT);
    assert_eq!(transaction["parent.transportType"], "HTTPS");
    let span = &seen.entry_span()["attributes"];
    assert_eq!(span.get("trustedParentId"), None);
    assert_eq!((&span["parent.id"], &span["tracingVendors"]), (&json!(PARENT), &json!("a,b")));
}

#[test]
fn every_parent_type_has_its_name() {
    for (field, name) in [("0", "App"), ("1", "Browser"), ("2", "Mobile")] {
        assert_eq!(exchange(&with_field(1, field)).transaction()["parent.type"], name);
    }
}

#[test]
fn fields_of_a_valid_entry_are_recorded() {
    let seen = exchange(&entry(&FIELDS));
    let transaction = seen.transaction();
    assert_eq!(transaction["parent.account"], "4002");
    assert_eq!(transaction["parent.app"], "55");
    assert_eq!(transaction["parentId"], "1122334455667788");
    assert_eq!(transaction["priority"], 1.5);
    assert_eq!(seen.entry_span()["attributes"]["trustedParentId"], "aa11bb22cc33dd44");
}

#[test]
fn the_decision_is_taken_over_when_it_is_given() {
    // The sampler, which runs when no decision is given, says yes.
    for (field, sampled, ran) in
        [("1", true, 0), ("0", false, 0), ("", true, 1), ("2", true, 1), ("true", true, 1), ("01", true, 1)]
    {
        let seen = exchange(&with_field(6, field));
        assert_eq!(sent(&seen, 6), if sampled { "1" } else { "0" }, "{field:?}");
        assert!(seen.traceparent().ends_with(if sampled { "-01" } else { "-00" }), "{field:?}");
        assert_eq!(seen.transaction()["sampled"], sampled, "{field:?}");
        assert_eq!(seen.envoy.counter("newrelic.sampler.decisions.sampled"), ran, "{field:?}");
    }
}

#[test]
fn the_priority_is_taken_over_and_written_with_at_most_six_digits() {
    // 2.25 is the priority that we draw when none is given.
    for (field, expected) in [
        ("0.000034", "0.000034"),
        ("1.7654326", "1.765433"),
        ("2.0381479", "2.038148"),
        ("2.0", "2"),
        ("2", "2"),
        ("0.0", "0"),
        ("0", "0"),
        ("0.30000000000000004", "0.3"),
        ("1.100000", "1.1"),
        ("0.9999996", "1"),
        ("999999.999999", "999999.999999"),
        ("1000000", "2.25"),
        ("99999999999999999999999999", "2.25"),
        ("", "2.25"),
        ("x", "2.25"),
        ("1.2.3", "2.25"),
        ("+1", "2.25"),
        ("NaN", "2.25"),
        ("inf", "2.25"),
    ] {
        let seen = exchange(&with_field(7, field));
        assert!(is_accepted(&seen), "{field:?}");
        assert_eq!(sent(&seen, 7), expected, "{field:?}");
        assert_eq!(seen.transaction()["priority"].as_f64(), expected.parse().ok(), "{field:?}");
        assert_eq!(seen.payload().unwrap_or_default()["d"]["pr"].as_f64(), expected.parse().ok(), "{field:?}");
    }
}

#[test]
fn a_negative_priority_shifts_the_fields() {
    // Its dash ends field 7, and what should be the timestamp is now a further field.
    let seen = exchange(&with_field(7, "-1.5"));
    assert!(!is_accepted(&seen), "1.5 is no timestamp");
    let seen = exchange(&with_field(7, "-1749999999000"));
    assert!(is_accepted(&seen));
    assert_eq!(seen.transaction()["parent.transportDuration"], 1.123);
    assert_eq!(sent(&seen, 7), "2.25");
}

#[test]
fn what_is_written_has_nine_fields_of_ours() {
    let seen = exchange(&entry(&FIELDS));
    assert_eq!(seen.tracestate(), Some(format!("777@nr=0-0-4001-90210--{GUID}-1-1.5-1750000000123")));
    let setup = Setup::gateway().without("primary_application_id").draws(Draws::gateway());
    let seen = setup.exchange(&[("traceparent", TRACEPARENT), ("tracestate", &entry(&FIELDS))]);
    assert_eq!(sent(&seen, 3), "Unknown");
}

#[test]
fn the_span_id_is_left_out_unless_asked_for_and_needs_span_events() {
    for (setup, expected) in [
        (Setup::gateway(), ""),
        (Setup::gateway().with("distributed_tracing.tracestate_span_id", false), ""),
        (Setup::gateway().with("distributed_tracing.tracestate_span_id", true), EXIT_ID),
        (Setup::gateway().with("distributed_tracing.tracestate_span_id", true).sampler("always_off"), EXIT_ID),
        (Setup::gateway().with("distributed_tracing.tracestate_span_id", true).with("span_events.enabled", false), ""),
    ] {
        let seen = setup.draws(Draws::gateway()).exchange(&[("traceparent", TRACEPARENT)]);
        assert_eq!(sent(&seen, 4), expected);
        assert!(seen.traceparent().contains(EXIT_ID), "both carry the same id");
    }
}

#[test]
fn only_the_exact_key_of_the_trusted_account_is_ours() {
    for (key, own) in [
        ("777@nr", true),
        ("44@nr", false),
        ("7777@nr", false),
        ("77@nr", false),
        ("0777@nr", false),
        ("4001@nr", false),
        ("777@nrx", false),
        ("777@n", false),
        ("777", false),
        ("777nr", false),
    ] {
        let member = format!("{key}={}", FIELDS.join("-"));
        let seen = exchange(&member);
        let entry = seen.entry_span();
        let vendors = &entry["attributes"]["tracingVendors"];
        assert_eq!(vendors, &if own { Value::Null } else { json!(key) }, "{key}");
        let is_counted = seen.supportability().contains_key("TraceContext/TraceState/NoNrEntry");
        assert_eq!(is_counted, !own, "{key}");
        assert_eq!(
            seen.tracestate().unwrap_or_default().ends_with(&member),
            !own,
            "{key}: other vendors' members go on"
        );
    }
}

#[test]
fn the_trusted_key_is_the_account_unless_configured() {
    let setup = Setup::gateway().without("trusted_account_key").draws(Draws::gateway());
    let seen =
        setup.exchange(&[("traceparent", TRACEPARENT), ("tracestate", &format!("4001@nr={}", FIELDS.join("-")))]);
    assert_eq!(seen.tracestate(), Some(format!("4001@nr=0-0-4001-90210--{GUID}-1-1.5-1750000000123")));
    assert_eq!(seen.transaction()["parent.account"], "4002");
}

#[test]
fn a_browsers_entry_leaves_the_decision_to_us() {
    let seen = exchange("777@nr=0-1-4002-17-f0e1d2c3b4a59687----1749999999900");
    assert!(is_accepted(&seen));
    assert_eq!(seen.tracestate(), Some(format!("777@nr=0-0-4001-90210--{GUID}-1-2.25-1750000000123")));
    let transaction = seen.transaction();
    assert_eq!((&transaction["parent.type"], transaction.get("parentId")), (&json!("Browser"), None));
    assert_eq!(seen.entry_span()["attributes"]["trustedParentId"], "f0e1d2c3b4a59687");
}
