//! The `newrelic` header: how it is read and written (the payload of New Relic's agents before W3C Trace Context, as
//! their shared fixture `distributed_tracing.json` has it).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::{Draws, ENTRY_ID, EXIT_ID, GUID, NEW_TRACE, Seen, Setup, TRACE, TRACEPARENT, encode};

const SUCCESS: &str = "Success";
const PARSE: &str = "ParseException";
const NULL: &str = "Ignored/Null";
const MAJOR_VERSION: &str = "Ignored/MajorVersion";
const UNTRUSTED: &str = "Ignored/UntrustedAccount";

/// A payload without decision and priority.
const MOBILE: &str =
    r#"{"v":[0,1],"d":{"ty":"Mobile","ac":"777","ap":"5","tr":"ab12","id":"0102030405060708","ti":1749999999900}}"#;

/// [`MOBILE`] with something else in place of a part of it.
fn mobile(from: &str, to: &str) -> String {
    assert!(MOBILE.contains(from), "{from} is a part of the payload");
    MOBILE.replace(from, to)
}

/// [`MOBILE`] with further members of `d`.
fn mobile_with(members: &str) -> String {
    mobile(r#""ti":"#, &format!(r#"{members},"ti":"#))
}

/// The default sampler inherits the payload's decision, and else samples the first requests.
fn exchange(header: impl AsRef<[u8]>) -> Seen {
    let setup = Setup::gateway().draws(Draws::gateway().priority(250_000));
    setup.exchange(&[("newrelic", header)])
}

/// What accepting the header came to, by its counter.
fn outcome(seen: &Seen) -> String {
    let counters = seen.supportability();
    let accepts = counters
        .iter()
        .filter_map(|(name, count)| Some((name.strip_prefix("DistributedTrace/AcceptPayload/")?, *count)));
    let accepts: Vec<_> = accepts.collect();
    let [(name, 1)] = accepts[..] else { panic!("one outcome is counted: {counters:?}") };
    name.to_owned()
}

/// Checks the outcome of a header, and that only an accepted one tells anything.
fn assert_outcome(header: impl AsRef<[u8]>, expected: &str) -> Seen {
    let shown = header.as_ref().escape_ascii().to_string();
    let seen = exchange(header);
    assert_eq!(outcome(&seen), expected, "{shown}");
    let has_caller = seen.transaction().get("parent.type").is_some();
    assert_eq!(has_caller, expected == SUCCESS, "{shown}");
    assert_eq!(seen.transaction().get("parent.transportType").is_some(), expected == SUCCESS, "{shown}");
    seen
}

/// The JSON object `d` that goes on.
fn sent(seen: &Seen) -> Value {
    seen.payload().expect("a newrelic header is sent")["d"].clone()
}

#[test]
fn the_accept_table() {
    let without_id = mobile(r#""id":"0102030405060708","#, "");
    for (json, expected) in [
        (MOBILE.to_owned(), SUCCESS),
        (mobile("[0,1]", "[1,0]"), MAJOR_VERSION),
        (mobile("[0,1]", "[0,7]").replace(r#""ti":"#, r#""x":1,"ti":"#), SUCCESS),
        (without_id.clone(), PARSE),
        (mobile(r#""id""#, r#""tx""#), SUCCESS),
        (mobile(r#""777""#, r#""778""#), UNTRUSTED),
        (mobile(r#""777""#, r#""778","tk":"777""#), SUCCESS),
        (mobile(r#""777""#, r#""777","tk":"778""#), UNTRUSTED),
        ("null".to_owned(), NULL),
        (" null ".to_owned(), NULL),
        ("[]".to_owned(), PARSE),
        ("{}".to_owned(), PARSE),
        ("1".to_owned(), PARSE),
        (r#""text""#.to_owned(), PARSE),
        (String::from(r#"{"v":[0,1]}"#), PARSE),
        (r#"{"v":[0,1],"d":null}"#.to_owned(), PARSE),
        (r#"{"v":[0,1],"d":[]}"#.to_owned(), PARSE),
        (r#"{"v":[0,1],"d":{}}"#.to_owned(), PARSE),
        (mobile(r#""v":[0,1],"#, ""), PARSE),
        (mobile("[0,1]", "[0]"), PARSE),
        (mobile("[0,1]", "[0,1,2]"), PARSE),
        (mobile("[0,1]", r#"[0,"1"]"#), PARSE),
        (mobile("[0,1]", r#"["0",1]"#), PARSE),
        (mobile("[0,1]", "[0.5,1]"), PARSE),
        (mobile("[0,1]", r#""0.1""#), PARSE),
        (mobile("[0,1]", "0"), PARSE),
        // The version is looked at before the content of `d`.
        (r#"{"v":[1,0],"d":{}}"#.to_owned(), MAJOR_VERSION),
        (r#"{"v":[99,0],"d":{"tk":"778"}}"#.to_owned(), MAJOR_VERSION),
        // Required keys are looked at before the trust.
        (without_id.replace(r#""777""#, r#""778""#), PARSE),
        (MOBILE.to_owned() + "x", PARSE),
        (MOBILE[..MOBILE.len() - 1].to_owned(), PARSE),
    ] {
        assert_outcome(encode(&json), expected);
    }
}

#[test]
fn blank_and_unreadable_headers() {
    let whole = encode(MOBILE);
    for (header, expected) in [
        (&b""[..], NULL),
        (b" ", NULL),
        (b"\t ", NULL),
        (b"null", NULL),
        (b" null\t", NULL),
        (b"!!!!", PARSE),
        (b"\xff\xfe", PARSE),
        (b"eyJ2IjpbMCwxXSwiZCI6ey", PARSE),
        (b"=", PARSE),
        (b"{", PARSE),
        (b"[", PARSE),
        (&whole.as_bytes()[..whole.len() - 9], PARSE),
        (&whole.as_bytes()[1..], PARSE),
    ] {
        assert_outcome(header, expected);
    }
    let broken = [&whole.as_bytes()[..20], b" ", &whole.as_bytes()[20..]].concat();
    assert_outcome(broken, PARSE);
}

#[test]
fn required_keys_must_be_there_and_of_their_type() {
    for key in ["ty", "ac", "ap", "tr", "ti"] {
        assert_outcome(encode(mobile(&format!("\"{key}\":"), "\"gone\":")), PARSE);
    }
    for (value, key) in [(r#""Mobile""#, "ty"), (r#""777""#, "ac"), (r#""5""#, "ap"), (r#""ab12""#, "tr")] {
        for wrong in [r#""""#, "null", "true", "[]", "{}"] {
            assert_outcome(encode(mobile(&format!("\"{key}\":{value}"), &format!("\"{key}\":{wrong}"))), PARSE);
        }
    }
    for wrong in ["1", "1.5"] {
        assert_outcome(encode(mobile(r#""tr":"ab12""#, &format!(r#""tr":{wrong}"#))), PARSE);
    }
    for wrong in [r#""1749999999900""#, "1749999999900.5", "1e400", "99999999999999999999", "null", "true"] {
        assert_outcome(encode(mobile("1749999999900", wrong)), PARSE);
    }
}

#[test]
fn account_and_application_may_be_numbers() {
    let json = mobile(r#""777""#, "777").replace(r#""ap":"5""#, r#""ap":5"#);
    let seen = assert_outcome(encode(json), SUCCESS);
    let transaction = seen.transaction();
    assert_eq!((&transaction["parent.account"], &transaction["parent.app"]), (&json!("777"), &json!("5")));
    assert_outcome(encode(mobile(r#""777""#, "778")), UNTRUSTED);
}

#[test]
fn optional_values_of_a_wrong_type_are_absent() {
    // 2.25 is the priority that we draw, and the sampler says yes.
    for (members, sampled, priority) in [
        (r#""pr":1.5,"sa":true"#, true, "1.5"),
        (r#""pr":1.5,"sa":false"#, false, "1.5"),
        (r#""pr":1,"sa":true"#, true, "1"),
        (r#""pr":0,"sa":false"#, false, "0"),
        (r#""pr":-0.0,"sa":true"#, true, "0"),
        (r#""pr":2.0381479,"sa":true"#, true, "2.038148"),
        (r#""pr":3.4e-05,"sa":true"#, true, "0.000034"),
        (r#""pr":0.30000000000000004,"sa":true"#, true, "0.3"),
        (r#""pr":"1.5","sa":"true""#, true, "2.25"),
        (r#""pr":null,"sa":null"#, true, "2.25"),
        (r#""pr":[1.5],"sa":0"#, true, "2.25"),
        (r#""pr":1000000,"sa":true"#, true, "2.25"),
        (r#""pr":-0.5,"sa":true"#, true, "2.25"),
        (r#""pr":1e300,"sa":true"#, true, "2.25"),
        (r#""pr":1.5"#, true, "1.5"),
        (r#""sa":true"#, true, "2.25"),
        (r#""sa":false"#, false, "0.25"),
    ] {
        let seen = assert_outcome(encode(mobile_with(members)), SUCCESS);
        assert_eq!(
            (&sent(&seen)["sa"], sent(&seen)["pr"].as_f64()),
            (&json!(sampled), priority.parse().ok()),
            "{members}"
        );
        let entry = format!("777@nr=0-0-4001-90210--{GUID}-{}-{priority}-1750000000123", u8::from(sampled));
        assert_eq!(seen.tracestate(), Some(entry), "{members}");
    }
}

#[test]
fn the_payloads_decision_chooses_the_samplers_section() {
    for (members, section) in [
        (r#""sa":true"#, "remote_parent_sampled"),
        (r#""sa":false"#, "remote_parent_not_sampled"),
        (r#""x":1"#, "root"),
    ] {
        let setup = Setup::gateway().sampler("always_off");
        let setup = setup.with(&format!("distributed_tracing.sampler.{section}"), "always_on");
        let seen = setup.exchange(&[("newrelic", encode(mobile_with(members)))]);
        assert_eq!((&sent(&seen)["sa"], &sent(&seen)["pr"]), (&json!(true), &json!(3)), "{members}");
    }
}

#[test]
fn unknown_keys_are_ignored_wherever_they_are() {
    for json in [
        mobile_with(r#""new":{"deep":[1,2,{"x":null}]}"#),
        mobile(r#""v":"#, r#""new":"x","v":"#),
        mobile(r#""ty":"#, r#""TY":"App","ty":"#),
    ] {
        let seen = assert_outcome(encode(json), SUCCESS);
        assert_eq!(seen.transaction()["parent.type"], "Mobile");
    }
}

#[test]
fn either_alphabet_with_or_without_padding_and_plain_json_are_read() {
    // The characters of the id make the two alphabets differ, and the length of the text asks for padding.
    for padding in ["", " ", "  "] {
        let json = mobile("0102030405060708", "???>>>~~~") + padding;
        let headers = [
            STANDARD.encode(&json),
            STANDARD_NO_PAD.encode(&json),
            URL_SAFE.encode(&json),
            URL_SAFE_NO_PAD.encode(&json),
            json.clone(),
            format!("  {json}\t"),
        ];
        for header in headers {
            let seen = assert_outcome(&header, SUCCESS);
            assert_eq!(seen.transaction()["parentSpanId"], "???>>>~~~", "{header}");
        }
    }
}

#[test]
fn of_several_lines_the_first_counts_and_one_goes_on() {
    let second = encode(mobile("ab12", "cd34"));
    let setup = Setup::gateway().draws(Draws::gateway().priority(0));
    let seen = setup.exchange(&[("newrelic", encode(MOBILE)), ("newrelic", second.clone())]);
    assert_eq!(outcome(&seen), SUCCESS);
    assert_eq!(sent(&seen)["tr"], "ab12");
    let seen = Setup::gateway().exchange(&[("newrelic", "garbage".to_owned()), ("newrelic", second)]);
    assert_eq!(outcome(&seen), PARSE);
}

#[test]
fn trace_ids_are_padded_or_cut_for_traceparent_and_kept_as_received() {
    let long = format!("ffff{TRACE}");
    let upper = TRACE.to_uppercase();
    let longest = "a".repeat(128);
    for (received, traceparent) in [
        ("ab12", "0000000000000000000000000000ab12"),
        ("4Ad91cE07b35F268", "00000000000000004ad91ce07b35f268"),
        ("f", "0000000000000000000000000000000f"),
        (TRACE, TRACE),
        (&upper, TRACE),
        (&long, TRACE),
        (&longest, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("00000000000000000000000000000001", "00000000000000000000000000000001"),
    ] {
        let seen = assert_outcome(encode(mobile("ab12", received)), SUCCESS);
        assert_eq!(seen.traceparent(), format!("00-{traceparent}-{EXIT_ID}-01"), "{received}");
        assert_eq!(sent(&seen)["tr"], received);
        assert_eq!(seen.transaction()["traceId"], received);
        assert_eq!(seen.entry_span()["trace.id"], received);
        assert_eq!(seen.exit_span()["trace.id"], received);
    }
}

#[test]
fn a_trace_id_that_traceparent_could_not_carry_is_refused() {
    let zeros_after_cutting = format!("ff{}", "0".repeat(32));
    let too_long = "a".repeat(129);
    for trace_id in [
        "xyz",
        "ab-12",
        "0x12",
        "+12",
        " ab12",
        "0",
        "0000000000000000",
        &"0".repeat(32),
        &zeros_after_cutting,
        &too_long,
    ] {
        assert_outcome(encode(mobile("ab12", trace_id)), PARSE);
    }
}

#[test]
fn ids_are_recorded_as_received() {
    let longest = "i".repeat(128);
    for id in ["0102030405060708", "AA11bb22cc33dd44", "7", "any text", &longest] {
        let seen = assert_outcome(encode(mobile("0102030405060708", id)), SUCCESS);
        assert_eq!(seen.transaction()["parentSpanId"], id);
        assert_eq!(seen.entry_span()["attributes"]["parent.id"], id);
        assert_eq!(seen.exit_span()["attributes"]["parent.id"], ENTRY_ID);
        let seen = assert_outcome(encode(mobile("0102030405060708", id).replace(r#""id""#, r#""tx""#)), SUCCESS);
        assert_eq!(seen.transaction()["parentId"], id);
    }
}

#[test]
fn without_a_span_id_there_is_no_calling_span() {
    let seen = assert_outcome(encode(mobile(r#""id""#, r#""tx""#)), SUCCESS);
    assert_eq!(seen.entry_span()["attributes"].get("parent.id"), None);
    let transaction = seen.transaction();
    assert_eq!((transaction.get("parentSpanId"), &transaction["parentId"]), (None, &json!("0102030405060708")));
}

#[test]
fn ids_of_more_than_128_characters_count_as_missing() {
    let too_long = "i".repeat(129);
    assert_outcome(encode(mobile("0102030405060708", &too_long)), PARSE);
    let json = mobile_with(&format!(r#""tx":"{too_long}""#));
    let seen = assert_outcome(encode(json), SUCCESS);
    assert_eq!(seen.transaction().get("parentId"), None);
    let json = mobile("0102030405060708", &too_long).replace(r#""ti""#, r#""tx":"abc","ti""#);
    let seen = assert_outcome(encode(json), SUCCESS);
    assert_eq!((seen.transaction().get("parentSpanId"), &seen.transaction()["parentId"]), (None, &json!("abc")));
}

#[test]
fn every_caller_type_is_recorded_and_an_unknown_one_is_no_fault() {
    for (ty, expected) in [("App", "App"), ("Browser", "Browser"), ("Mobile", "Mobile")] {
        let seen = assert_outcome(encode(mobile("Mobile", ty)), SUCCESS);
        assert_eq!(seen.transaction()["parent.type"], expected);
    }
    assert_outcome(encode(mobile("Mobile", "Toaster")), SUCCESS);
}

#[test]
fn a_payload_brings_no_tracestate_and_an_inbound_one_is_dropped() {
    let setup = Setup::gateway().draws(Draws::gateway().priority(250_000));
    let seen = setup.exchange(&[("tracestate", "vend1=p0"), ("newrelic", &encode(MOBILE))]);
    assert_eq!(seen.tracestate(), Some(format!("777@nr=0-0-4001-90210--{GUID}-1-2.25-1750000000123")));
    assert_eq!(seen.entry_span()["attributes"].get("tracingVendors"), None);
}

#[test]
fn what_is_written_names_us_and_goes_on_in_strict_base64() {
    let seen = Setup::gateway().draws(Draws::gateway()).sampler("always_on").exchange(&[("traceparent", TRACEPARENT)]);
    let expected = json!({ "v": [0, 1], "d": {
        "ty": "App", "ac": "4001", "ap": "90210", "id": EXIT_ID, "tx": GUID, "tr": TRACE, "pr": 3, "sa": true,
        "ti": 1_750_000_000_123_u64, "tk": "777",
    } });
    assert_eq!(seen.payload(), Some(expected));
    let header = seen.header("newrelic").unwrap_or_default();
    assert!(header.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')), "{header}");
}

#[test]
fn the_trusted_key_is_written_only_when_it_is_not_the_account() {
    for (trusted, expected) in [(Some("777"), json!("777")), (Some("4001"), Value::Null), (None, Value::Null)] {
        let setup = Setup::gateway().without("trusted_account_key");
        let setup = trusted.into_iter().fold(setup, |setup, key| setup.with("trusted_account_key", key));
        let seen = setup.draws(Draws::new_trace()).exchange::<&str, &str>(&[]);
        assert_eq!(sent(&seen)["tk"], expected);
        assert_eq!(sent(&seen)["tr"], NEW_TRACE);
    }
}
