//! The decision procedure: section, sampler, layers.

use serde_json::{Value, json};

use crate::harness::Recorded::{Full, Nothing, Partial};
use crate::harness::{
    Decision, Lines, Recorded, TRACE_ID, builder, configuration, counted_decisions, entry, envoy, payload, quarters,
    root, send, w3c, with,
};

/// One request to a fresh proxy.
struct Case {
    why: &'static str,
    sampler: Value,
    caller: Lines,
    expected: (bool, &'static str, Recorded),
    /// Whether a sampler decided, instead of inheriting.
    sampler_ran: bool,
}

fn case(why: &'static str, sampler: Value, caller: Lines, expected: (bool, &'static str, Recorded)) -> Case {
    Case { why, sampler, caller, expected, sampler_ran: true }
}

fn inherited(why: &'static str, sampler: Value, caller: Lines, expected: (bool, &'static str, Recorded)) -> Case {
    Case { sampler_ran: false, ..case(why, sampler, caller, expected) }
}

fn check(cases: impl IntoIterator<Item = Case>) {
    for Case { why, sampler, caller, expected: (sampled, priority, recorded), sampler_ran } in cases {
        let mut envoy = envoy(&sampler);
        let decision = send(&mut envoy, &caller).decision();
        assert_eq!(decision, Decision::new(sampled, priority, recorded), "{why}: {sampler}");
        let expected = if sampler_ran { [u64::from(sampled), u64::from(!sampled)] } else { [0, 0] };
        assert_eq!(counted_decisions(&mut envoy), expected, "{why}: {sampler}");
    }
}

/// The same sampler in every section.
fn everywhere(sampler: &Value) -> Value {
    json!({ "root": sampler, "remote_parent_sampled": sampler, "remote_parent_not_sampled": sampler })
}

fn ratio(ratio: f64) -> Value {
    json!({ "trace_id_ratio_based": { "ratio": ratio } })
}

/// Partial granularity with the same sampler in every section, behind full granularity.
fn layered(full: &Value, partial: &Value) -> Value {
    let partial = with(&everywhere(partial), &json!({ "enabled": true }));
    with(&everywhere(full), &json!({ "partial_granularity": partial }))
}

fn disabled() -> Value {
    json!({ "full_granularity": { "enabled": false } })
}

#[test]
fn adaptive_samplers_inherit_what_the_caller_decided() {
    let default = || json!({});
    let private = || everywhere(&json!({ "adaptive": { "sampling_target": 5 } }));
    let (yes, no) = (&json!(true), &json!(false));
    check([
        inherited("yes", default(), entry("01", "1", "1.7"), (true, "1.7", Full)),
        inherited("the entry's yes beats flag 00", default(), entry("00", "1", "1.7"), (true, "1.7", Full)),
        inherited("the entry's no beats flag 01", default(), entry("01", "0", "1.4"), (false, "1.4", Nothing)),
        inherited("yes without a priority", default(), entry("01", "1", ""), (true, "2.25", Full)),
        inherited("no without a priority", default(), entry("00", "0", ""), (false, "0.25", Nothing)),
        inherited("a private target inherits too", private(), entry("01", "0", "1.4"), (false, "1.4", Nothing)),
        inherited("newrelic's no keeps 1.4", default(), payload(TRACE_ID, no, &json!(1.4)), (false, "1.4", Nothing)),
        inherited("newrelic's yes", default(), payload(TRACE_ID, yes, &json!(0.3)), (true, "0.3", Full)),
        inherited("newrelic's yes alone", default(), payload(TRACE_ID, yes, &Value::Null), (true, "2.25", Full)),
        inherited("a band means nothing", default(), entry("00", "0", "2.999999"), (false, "2.999999", Nothing)),
    ]);
}

#[test]
fn adaptive_samplers_decide_what_the_caller_left_open() {
    let none = &Value::Null;
    for sampler in
        [json!({}), everywhere(&json!("adaptive")), everywhere(&json!({ "adaptive": { "sampling_target": 5 } }))]
    {
        let sampler = || sampler.clone();
        check([
            case("new trace", sampler(), root(), (true, "2.25", Full)),
            case("W3C alone, sampled", sampler(), w3c("01"), (true, "2.25", Full)),
            case("W3C alone, not sampled", sampler(), w3c("00"), (true, "2.25", Full)),
            case("the caller's priority is kept", sampler(), entry("01", "", "0.6"), (true, "0.6", Full)),
            case("a field that is neither 0 nor 1", sampler(), entry("00", "2", "0.6"), (true, "0.6", Full)),
            case("a priority that is none", sampler(), entry("00", "", "1000000"), (true, "2.25", Full)),
            case("newrelic without sa", sampler(), payload(TRACE_ID, none, &json!(0.6)), (true, "0.6", Full)),
            case("newrelic without both", sampler(), payload(TRACE_ID, none, none), (true, "2.25", Full)),
        ]);
    }
}

#[test]
fn a_context_that_is_not_believed_decides_nothing() {
    let untrusted = || {
        let foreign = |(name, value): (&'static str, String)| (name, value.replace("777@nr", "44@nr"));
        entry("01", "0", "1.4").into_iter().map(foreign).collect::<Lines>()
    };
    let invalid = || {
        let short = |(name, value): (&'static str, String)| (name, value.replace("0-0-4002-55", "0-0-4002-"));
        entry("01", "0", "1.4").into_iter().map(short).collect::<Lines>()
    };
    let broken = || vec![("traceparent", "00-0-0-01".to_owned()), entry("01", "0", "1.4").remove(1)];
    let sections = json!({ "root": "always_off", "remote_parent_sampled": "always_on", "remote_parent_not_sampled": "always_off" });
    check([
        case("another account's entry", json!({}), untrusted(), (true, "2.25", Full)),
        case("an invalid entry", json!({}), invalid(), (true, "2.25", Full)),
        case("an invalid traceparent", json!({}), broken(), (true, "2.25", Full)),
        case("the flag of another account's trace", sections.clone(), untrusted(), (true, "3", Full)),
        case("an invalid traceparent has no flag", sections, broken(), (false, "0", Nothing)),
    ]);

    let distrusting = with(&configuration(&json!({})), &json!({ "trust_inbound": "never" }));
    let start = builder(&distrusting).random(host_tests::Thread::Worker(0), quarters());
    let decision = send(&mut start.start().unwrap(), &entry("01", "0", "1.4")).decision();
    assert_eq!(decision, Decision::new(true, "2.25", Full), "a caller that is not trusted");
}

#[test]
fn every_section_asks_its_own_sampler() {
    let sections = || json!({ "root": "always_off", "remote_parent_sampled": "always_on", "remote_parent_not_sampled": ratio(0.2) });
    let (yes, no, none) = (&json!(true), &json!(false), &Value::Null);
    check([
        case("root", sections(), root(), (false, "0", Nothing)),
        case("newrelic without sa is a root", sections(), payload(TRACE_ID, none, &json!(0.6)), (false, "0", Nothing)),
        case("flag 01", sections(), w3c("01"), (true, "3", Full)),
        case("flag 01, entry no", sections(), entry("01", "0", "0.1"), (true, "3", Full)),
        case("sa true", sections(), payload(TRACE_ID, yes, none), (true, "3", Full)),
        case("flag 00", sections(), w3c("00"), (true, "2.25", Full)),
        case("flag 00, entry yes", sections(), entry("00", "1", "1.9"), (true, "2.25", Full)),
        case("sa false", sections(), payload(TRACE_ID, no, none), (true, "2.25", Full)),
        case("the random flag is no decision", sections(), w3c("02"), (true, "2.25", Full)),
    ]);
}

#[test]
fn fixed_samplers_have_fixed_priorities_whatever_the_caller_says() {
    let on = || everywhere(&json!("always_on"));
    let off = || everywhere(&json!("always_off"));
    check([
        case("on, root", on(), root(), (true, "3", Full)),
        case("on, the caller's no", on(), entry("00", "0", "0.1"), (true, "3", Full)),
        case("off, root", off(), root(), (false, "0", Nothing)),
        case("off, the caller's yes", off(), entry("01", "1", "1.9"), (false, "0", Nothing)),
        case(
            "off for sampled parents",
            json!({ "remote_parent_sampled": "always_off" }),
            entry("01", "1", "1.9"),
            (false, "0", Nothing),
        ),
    ]);
}

#[test]
fn a_ratio_sampler_decides_alone_and_makes_a_priority_of_its_own() {
    let most = || everywhere(&ratio(0.2));
    let few = || everywhere(&ratio(0.1));
    check([
        case("the caller's no", most(), entry("00", "0", "0.1"), (true, "2.25", Full)),
        case("the caller's yes", few(), entry("01", "1", "1.9"), (false, "0.25", Nothing)),
        case("no decision, but a priority", most(), entry("01", "", "0.6"), (true, "2.25", Full)),
        // The trace id made of quarters has a low half of a quarter and a little.
        case("an own trace id", everywhere(&ratio(0.26)), root(), (true, "2.25", Full)),
        case("an own trace id just above", everywhere(&ratio(0.25)), root(), (false, "0.25", Nothing)),
    ]);
}

#[test]
fn the_low_half_of_the_trace_id_decides_however_it_is_spelt() {
    const RATIOS: [f64; 5] = [0.1, 0.2, 0.5, 0.6, 1.0];
    for (trace_id, expected) in [
        ("c0a8017e5d3b4f2226e1d47b08aa3f5c", [false, true, true, true, true]),
        ("0f1e2d3c4b5a69788796a5b4c3d2e1f0", [false, false, false, true, true]),
        ("4Ad91cE07b35F268", [false, false, true, true, true]),
        ("00000000000000008000000000000000", [false, false, false, true, true]),
        ("00000000000000007fffffffffffffff", [false, false, true, true, true]),
        ("ffffffffffffffff0000000000000000", [true, true, true, true, true]),
        // The right-most 32 of a longer one, and a short one is padded.
        ("ffffC0A8017E5D3B4F2226E1D47B08AA3F5C", [false, true, true, true, true]),
        ("1", [true, true, true, true, true]),
    ] {
        let decided = RATIOS.map(|share| {
            let mut envoy = envoy(&everywhere(&ratio(share)));
            let spellings =
                [payload(trace_id, &Value::Null, &Value::Null), payload(trace_id, &json!(false), &json!(0.5))];
            let mut decisions: Vec<_> = spellings.iter().map(|lines| send(&mut envoy, lines).decision()).collect();
            if trace_id.len() == 32 {
                let lines = vec![("traceparent", format!("00-{trace_id}-c3d4e5f60718293a-01"))];
                decisions.push(send(&mut envoy, &lines).decision());
            }
            let (priority, recorded) = if decisions[0].sampled { ("2.25", Full) } else { ("0.25", Nothing) };
            for decision in &decisions {
                assert_eq!(*decision, Decision::new(decisions[0].sampled, priority, recorded), "{trace_id} at {share}");
            }
            decisions[0].sampled
        });
        assert_eq!(decided, expected, "{trace_id}");
    }
}

#[test]
fn partial_granularity_decides_after_full_on_what_the_caller_sent() {
    let (on, off, adaptive) = (&json!("always_on"), &json!("always_off"), &json!("adaptive"));
    let alone = |partial: &Value| with(&layered(on, partial), &disabled());
    check([
        case("full wins", layered(on, on), root(), (true, "3", Full)),
        case("on after off", layered(off, on), root(), (true, "2", Partial)),
        case("on after the caller's no", layered(adaptive, on), entry("00", "0", "1.4"), (true, "2", Partial)),
        case("off twice", layered(off, off), root(), (false, "0", Nothing)),
        case("adaptive after off", layered(off, adaptive), root(), (true, "1.25", Partial)),
        case("off after the caller's no", layered(adaptive, off), entry("00", "0", "1.4"), (false, "0", Nothing)),
        case("the caller's yes after off", layered(off, adaptive), entry("01", "1", "1.7"), (true, "1.7", Partial)),
        case("yes, no priority, after off", layered(off, adaptive), entry("01", "1", ""), (true, "1.25", Partial)),
        inherited("the same no twice", layered(adaptive, adaptive), entry("00", "0", "1.4"), (false, "1.4", Nothing)),
        case("partial alone", alone(adaptive), root(), (true, "1.25", Partial)),
        case("partial alone, always", alone(on), entry("00", "0", "0.1"), (true, "2", Partial)),
        inherited("both disabled", disabled(), root(), (false, "0.25", Nothing)),
        inherited("both disabled, the caller's yes", disabled(), entry("01", "1", "1.9"), (false, "0.25", Nothing)),
    ]);
}

#[test]
fn a_partial_ratio_comes_on_top_of_the_full_one_of_its_section() {
    let traced = || payload(TRACE_ID, &Value::Null, &Value::Null);
    let alone = |partial: f64| with(&layered(&ratio(0.1), &ratio(partial)), &disabled());
    let by_section = || {
        let full = json!({ "root": "always_off", "remote_parent_sampled": ratio(0.1), "remote_parent_not_sampled": ratio(0.02) });
        let partial = with(&everywhere(&ratio(0.1)), &json!({ "enabled": true }));
        with(&full, &json!({ "partial_granularity": partial }))
    };
    check([
        case("0.1 and 0.4 make 0.5", layered(&ratio(0.1), &ratio(0.4)), traced(), (true, "1.25", Partial)),
        case("0.1 and 0.06 make 0.16", layered(&ratio(0.1), &ratio(0.06)), traced(), (true, "1.25", Partial)),
        case("0.1 and 0.05 make 0.15", layered(&ratio(0.1), &ratio(0.05)), traced(), (false, "0.25", Nothing)),
        case("0.1 and 1 make 1", layered(&ratio(0.1), &ratio(1.0)), traced(), (true, "1.25", Partial)),
        case("full says yes", layered(&ratio(0.2), &ratio(0.2)), traced(), (true, "2.25", Full)),
        case("full disabled, 0.16", alone(0.16), traced(), (true, "1.25", Partial)),
        case("full disabled, 0.1 stays", alone(0.1), traced(), (false, "0.25", Nothing)),
        case("another section's ratio", by_section(), traced(), (false, "0.25", Nothing)),
        case("the section's own ratio", by_section(), w3c("01"), (true, "1.25", Partial)),
        case("the section's own small ratio", by_section(), w3c("00"), (false, "0.25", Nothing)),
    ]);
}
