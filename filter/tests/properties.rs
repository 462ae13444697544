//! What holds for any input: no bytes panic, what is printed reads back the same, and other vendors' members keep
//! their order and bytes.

use newrelic_tracing::config::{self, Config};
use newrelic_tracing::headers::{HeaderEdit, HeaderPairs, RequestHeaders, serialize_pairs, trim_ows};
use newrelic_tracing::id::{SpanId, TraceId, TraceIdentity};
use newrelic_tracing::newrelic::CallerType;
use newrelic_tracing::newrelic::list_member::{self, Entry, OwnEntry};
use newrelic_tracing::newrelic::payload::{self, OwnPayload, PayloadWriter};
use newrelic_tracing::newrelic::priority::{Priority, TEXT_BYTES_MAX};
use newrelic_tracing::propagation::{Inbound, Outbound, Propagator};
use newrelic_tracing::w3c::traceparent::{self, TraceFlags, Traceparent};
use newrelic_tracing::w3c::tracestate::{self, BYTES_MAX, MEMBERS_MAX};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const OWN_KEY: &[u8] = b"777@nr";

/// Failing seeds go into `properties.seeds` beside this file.
fn committed_seeds() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        ..ProptestConfig::default()
    }
}

fn config() -> Config {
    let settings = br#"{"account_id":"4001","trusted_account_key":"777","primary_application_id":"90210"}"#;
    config::parse(settings, &|_| None).expect("the configuration is valid")
}

fn bytes(length_max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..length_max)
}

fn trace_id() -> impl Strategy<Value = TraceId> {
    (1..=u128::MAX).prop_map(|value| TraceId::from_u128(value).expect("not zero"))
}

fn span_id() -> impl Strategy<Value = SpanId> {
    (1..=u64::MAX).prop_map(|value| SpanId::from_u64(value).expect("not zero"))
}

fn any_traceparent() -> impl Strategy<Value = Traceparent> {
    (trace_id(), span_id(), any::<bool>(), any::<bool>()).prop_map(|(trace_id, parent_id, sampled, random)| {
        Traceparent { trace_id, parent_id, flags: TraceFlags { sampled, random } }
    })
}

fn priority() -> impl Strategy<Value = Priority> {
    (0..1_000_000_000_000_u64).prop_map(|micros| Priority::from_micros(micros).expect("below one million"))
}

/// A `newrelic` value from its JSON text or from any bytes, in base64 or not.
fn payload_like() -> impl Strategy<Value = Vec<u8>> {
    use base64::Engine as _;
    let encode = |json: Vec<u8>| base64::engine::general_purpose::STANDARD.encode(json).into_bytes();
    let json = r#"\{"v":\[[0-9.-]{1,3},[0-9]{1,2}\],"d":\{("(ty|ac|ap|id|tx|tr|pr|sa|ti|tk)":("[ -~]{0,9}"|[0-9.e-]{1,9}|true|null|\[\]),?){0,10}\}\}"#;
    prop_oneof![
        bytes(300),
        bytes(300).prop_map(encode),
        json.prop_map(String::into_bytes),
        json.prop_map(move |json| encode(json.into_bytes()))
    ]
}

/// A list member of any vendor, as the grammar has it.
fn member() -> impl Strategy<Value = Vec<u8>> {
    let key = "[a-z0-9][a-z0-9_*/@-]{0,20}";
    let value = "[ -+./-<>-~-]{0,40}[!-+./-<>-~-]";
    (key, value)
        .prop_filter("it is not ours", |(key, _)| key.as_bytes() != OWN_KEY)
        .prop_map(|(key, value)| format!("{key}={value}").into_bytes())
}

fn key_of(member: &[u8]) -> &[u8] {
    member.split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// Members with different keys: of equal ones the first stays.
fn members(count_max: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(member(), 0..=count_max).prop_map(|members| {
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for member in members {
            if kept.iter().all(|other| key_of(other) != key_of(&member)) {
                kept.push(member);
            }
        }
        kept
    })
}

/// The members spread over header lines, with blanks and empty members between them.
fn lines_of(members: &[Vec<u8>], breaks: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    for (member, style) in members.iter().zip(breaks.iter().cycle()) {
        if style % 5 == 0 {
            lines.push(Vec::new());
        }
        let line = lines.last_mut().expect("there is a line");
        let separator: &[u8] = match style % 4 {
            0 => b",",
            1 => b" ,\t",
            2 => b",, ",
            _ => b"\t, ,",
        };
        line.extend_from_slice(member);
        line.extend_from_slice(separator);
    }
    lines
}

/// The header map of a request with these lines, as the host hands it over.
fn buffer(lines: &[(&str, Vec<u8>)]) -> Vec<u8> {
    serialize_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())))
}

/// What a request that goes on carries, and how it came.
fn forward(propagator: &Propagator, buffer: &[u8]) -> Vec<HeaderEdit> {
    let headers = RequestHeaders::new(buffer);
    let own = TraceIdentity::from(TraceId::from_u128(7).expect("not zero"));
    let inbound = propagator.extract(&headers, &mut |_| {});
    let parent = match &inbound {
        Inbound::Parent(parent) => Some(parent),
        Inbound::Absent | Inbound::Refused(_) => None,
    };
    let outbound = Outbound {
        trace: parent.map_or(&own, |parent| &parent.trace),
        span_id: SpanId::from_u64(9).expect("not zero"),
        transaction_id: parent.and_then(|parent| parent.caller.as_ref()?.transaction_id.as_deref()),
        sampled: true,
        priority: Priority::from_whole(2),
        random_flag: parent.is_some_and(|parent| parent.random_flag),
        timestamp_ms: 1_750_000_000_123,
    };
    propagator.inject(&outbound, parent.map_or(&[][..], |parent| parent.foreign.as_slice()), &headers)
}

fn value_of<'a>(edits: &'a [HeaderEdit], wanted: &str) -> Option<&'a [u8]> {
    edits.iter().find_map(|edit| match edit {
        HeaderEdit::Set(name, value) if *name == wanted => Some(value.as_slice()),
        HeaderEdit::Set(..) | HeaderEdit::Remove(_) => None,
    })
}

proptest! {
    #![proptest_config(committed_seeds())]

    #[test]
    fn a_traceparent_reads_back_as_it_was_printed(printed in any_traceparent()) {
        prop_assert_eq!(traceparent::parse(&printed.to_bytes()), Ok(printed));
    }

    #[test]
    fn a_traceparent_that_is_read_prints_the_same_but_for_version_and_unknown_flags(
        printed in any_traceparent(), version in 0_u8..0xff, flags in any::<u8>(), tail in "(-[ -~]{0,20})?",
    ) {
        let text = String::from_utf8(printed.to_bytes()).expect("it is text");
        let tail = if version == 0 { "" } else { tail.trim_end() };
        let header = format!("{version:02x}{}{flags:02x}{tail}", &text[2..text.len() - 2]);
        let read = traceparent::parse(header.as_bytes());
        let random = version == 0 && flags & 2 != 0;
        prop_assert_eq!(read, Ok(Traceparent { flags: TraceFlags { sampled: flags & 1 != 0, random }, ..printed }));
    }

    #[test]
    fn any_bytes_are_read_without_panic(value in bytes(400)) {
        let _read = (traceparent::parse(&value), list_member::parse(&value), Priority::parse(&value));
        let _read = (HeaderPairs::new(&value).count(), RequestHeaders::new(&value), payload::parse(&value, Some("777")));
        prop_assert!(trim_ows(&value).len() <= value.len());
        let state = tracestate::parse([value.as_slice()].into_iter(), Some(OWN_KEY));
        prop_assert!(tracestate::join(b"", state.foreign.as_slice()).len() <= value.len());
    }

    #[test]
    fn any_header_lines_are_forwarded_without_panic_and_within_bounds(
        parent in prop_oneof![bytes(80), any_traceparent().prop_map(|parent| parent.to_bytes())],
        states in prop::collection::vec(prop_oneof![bytes(100), members(40).prop_map(|members| members.join(&b','))], 0..4),
        payload in payload_like(),
    ) {
        let mut lines = vec![("traceparent", parent), ("newrelic", payload)];
        lines.extend(states.into_iter().map(|state| ("tracestate", state)));
        let buffer = buffer(&lines);
        let propagator = Propagator::from(&config());
        let edits = forward(&propagator, &buffer);
        let parent = value_of(&edits, "traceparent").expect("always sent");
        prop_assert!(traceparent::parse(parent).is_ok(), "{:?}", parent);
        let state = value_of(&edits, "tracestate").expect("always sent");
        let read = tracestate::parse([state].into_iter(), Some(OWN_KEY));
        prop_assert!(!read.malformed && state.len() <= BYTES_MAX, "{:?}", state);
        prop_assert!(read.own.is_some_and(|own| list_member::parse(own).is_ok()));
        let payload = value_of(&edits, "newrelic").expect("always sent");
        prop_assert!(payload::parse(payload, Some("777")).is_ok(), "{:?}", payload);
    }

    #[test]
    fn any_cut_of_a_header_map_is_read_without_panic(
        lines in prop::collection::vec((prop::sample::select(&["traceparent", "tracestate", "newrelic", ":path", "x"][..]), bytes(40)), 0..6),
        cut in any::<prop::sample::Index>(), damage in any::<(prop::sample::Index, u8)>(),
    ) {
        let mut buffer = buffer(&lines);
        buffer.truncate(cut.index(buffer.len() + 1));
        if !buffer.is_empty() {
            let at = damage.0.index(buffer.len());
            buffer[at] = damage.1;
        }
        forward(&Propagator::from(&config()), &buffer);
    }

    #[test]
    fn foreign_members_keep_their_order_and_bytes(
        members in members(31), breaks in prop::collection::vec(any::<u8>(), 1..8), own_at in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut received = members.clone();
        if let Some(at) = own_at {
            let own = b"777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900".to_vec();
            received.insert(at.index(received.len() + 1), own);
        }
        let mut lines = vec![("traceparent", b"00-c0a8017e5d3b4f2226e1d47b08aa3f5c-b7d20c4e19f86a35-01".to_vec())];
        lines.extend(lines_of(&received, &breaks).into_iter().map(|line| ("tracestate", line)));
        let edits = forward(&Propagator::from(&config()), &buffer(&lines));
        let sent = value_of(&edits, "tracestate").expect("always sent");
        let sent: Vec<_> = sent.split(|byte| *byte == b',').collect();
        // Blanks at a member's end belong to the list and not to the member.
        let expected: Vec<_> = members.iter().map(|member| trim_ows(member)).collect();
        prop_assert!(sent[0].starts_with(b"777@nr=0-0-4001-90210-"));
        prop_assert_eq!(&sent[1..], &expected[..]);
    }

    #[test]
    fn a_joined_tracestate_reads_back_the_same(members in members(MEMBERS_MAX)) {
        let line = members.join(&b',');
        let read = tracestate::parse([line.as_slice()].into_iter(), Some(OWN_KEY));
        prop_assert!(!read.malformed);
        prop_assert_eq!(read.foreign.as_slice(), &members[..]);
        let joined = tracestate::join(b"", read.foreign.as_slice());
        prop_assert_eq!(&joined, &line);
        let again = tracestate::parse([joined.as_slice()].into_iter(), Some(OWN_KEY));
        prop_assert_eq!(again.foreign.as_slice(), read.foreign.as_slice());
    }

    #[test]
    fn a_list_that_is_shortened_loses_whole_members_and_keeps_the_order(
        sizes in prop::collection::vec(prop_oneof![5_usize..260, 120_usize..140], 0..=31), own in 0_usize..400,
    ) {
        let member = |(at, size): (usize, &usize)| format!("k{at}={}", "v".repeat(*size)).into_bytes();
        let members: Vec<_> = sizes.iter().enumerate().map(member).filter(|member| member.len() < 260).collect();
        let line = members.join(&b',');
        let read = tracestate::parse([line.as_slice()].into_iter(), Some(OWN_KEY));
        prop_assert!(!read.malformed);
        let own = format!("777@nr={}", "0".repeat(own));
        let sent = tracestate::join(own.as_bytes(), read.foreign.as_slice());
        prop_assert!(sent.len() <= BYTES_MAX);
        let kept: Vec<_> = sent.split(|byte| *byte == b',').skip(1).collect();
        let mut rest = members.iter();
        prop_assert!(kept.iter().all(|kept| rest.any(|member| member == kept)), "order and bytes stay");
        let missing: usize = members.iter().filter(|member| !kept.contains(&member.as_slice())).map(|member| member.len() + 1).min().unwrap_or(usize::MAX);
        prop_assert!(sent.len().saturating_add(missing) > BYTES_MAX || missing == usize::MAX, "no more goes than must");
    }

    #[test]
    fn a_list_member_reads_back_as_it_was_printed(
        account in "[0-9]{1,20}", app in "[0-9]{1,20}|Unknown", span in prop::option::of("[0-9a-f]{16}"),
        transaction in prop::option::of("[!-+./-<>-~]{1,40}"), sampled in any::<bool>(), priority in priority(), timestamp_ms in 0..=i64::MAX,
    ) {
        let own = OwnEntry {
            trusted_account_key: "777",
            account_id: &account,
            app_id: &app,
            span_id: span.as_deref().map(str::as_bytes),
            transaction_id: transaction.as_deref().map(str::as_bytes),
            sampled,
            priority,
            timestamp_ms: timestamp_ms.cast_unsigned(),
        };
        let printed = own.to_bytes();
        let value = printed.strip_prefix(b"777@nr=").expect("the key is first");
        let expected = Entry {
            parent_type: CallerType::App,
            account_id: account.as_bytes(),
            app_id: app.as_bytes(),
            span_id: span.as_deref().map(str::as_bytes),
            transaction_id: transaction.as_deref().map(str::as_bytes),
            sampled: Some(sampled),
            priority: Some(priority),
            timestamp_ms,
        };
        prop_assert_eq!(list_member::parse(value), Ok(expected));
        let state = tracestate::parse([printed.as_slice()].into_iter(), Some(OWN_KEY));
        prop_assert_eq!((state.own, state.malformed), (Some(value), false), "and it is a valid member");
    }

    #[test]
    fn any_transaction_id_leaves_a_valid_list_member(transaction in bytes(300)) {
        let own = OwnEntry {
            trusted_account_key: "777",
            account_id: "4001",
            app_id: "90210",
            span_id: None,
            transaction_id: Some(&transaction),
            sampled: true,
            priority: Priority::ZERO,
            timestamp_ms: 1,
        };
        let printed = own.to_bytes();
        let state = tracestate::parse([printed.as_slice()].into_iter(), Some(OWN_KEY));
        prop_assert!(!state.malformed, "{:?}", printed);
        let entry = state.own.map(list_member::parse);
        prop_assert!(matches!(entry, Some(Ok(entry)) if entry.timestamp_ms == 1), "{:?}", printed);
    }

    #[test]
    fn a_payload_reads_back_as_it_was_printed(
        account in "[0-9]{1,20}", is_trusted_key_written in any::<bool>(), app in "\\PC{1,8}", span in prop::option::of(1..=u64::MAX),
        transaction in "\\PC{1,30}", trace_id in trace_id(), received in prop::option::of("[0-9a-fA-F]{0,20}[1-9a-fA-F]"),
        priority in priority(), sampled in any::<bool>(), timestamp_ms in 0..=i64::MAX,
    ) {
        let trusted = if is_trusted_key_written { "777" } else { account.as_str() };
        let span_id = span.and_then(SpanId::from_u64);
        let own = OwnPayload {
            span_id,
            transaction_id: Some(transaction.as_bytes()),
            trace: &TraceIdentity { id: trace_id, received: received.as_deref().map(Into::into) },
            priority,
            sampled,
            timestamp_ms: timestamp_ms.cast_unsigned(),
        };
        let printed = PayloadWriter::new(&account, &app, trusted).write(&own);
        let read = payload::parse(&printed, Some(trusted)).expect("it is valid");
        let hex = span_id.map(|id| String::from_utf8(id.to_hex().to_vec()).expect("digits are ASCII"));
        let texts = (&*read.account_id, &*read.app_id, read.span_id.as_deref(), read.transaction_id.as_deref());
        prop_assert_eq!(texts, (account.as_str(), app.as_str(), hex.as_deref(), Some(transaction.as_str())));
        prop_assert_eq!((read.priority, read.sampled, read.timestamp_ms), (Some(priority), Some(sampled), timestamp_ms));
        let hex = read.trace.id.to_hex();
        let expected = received.as_deref().map_or_else(|| trace_id.to_hex().to_vec(), |text| text.as_bytes().to_vec());
        prop_assert_eq!(read.trace.text(&hex), expected);
    }

    #[test]
    fn any_text_in_a_payload_is_valid_json_that_strict_readers_take(transaction in bytes(60), trace_id in trace_id()) {
        use base64::Engine as _;
        let own = OwnPayload {
            span_id: None,
            transaction_id: Some(&transaction),
            trace: &trace_id.into(),
            priority: Priority::ZERO,
            sampled: false,
            timestamp_ms: u64::MAX,
        };
        let json = base64::engine::general_purpose::STANDARD.decode(PayloadWriter::new("4001", "90210", "777").write(&own)).expect("strict base64");
        let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        prop_assert_eq!(value["d"]["tx"].as_str(), Some(&*String::from_utf8_lossy(&transaction)));
    }

    #[test]
    fn a_priority_reads_back_as_it_was_printed_and_is_short(priority in priority()) {
        let mut text = Vec::new();
        priority.write(&mut text);
        prop_assert_eq!(Priority::parse(&text), Some(priority));
        prop_assert!(text.len() <= TEXT_BYTES_MAX);
        let text = String::from_utf8(text).expect("it is text");
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "{}", text);
        prop_assert!(!text.contains('.') || !(text.ends_with('0') || text.ends_with('.')), "{}", text);
        prop_assert_eq!(Priority::from_f64(priority.as_f64()), Some(priority));
    }

    #[test]
    fn header_lines_read_back_as_they_were_serialized(
        lines in prop::collection::vec((bytes(20), bytes(60)), 0..12),
    ) {
        let buffer = serialize_pairs(lines.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
        let read: Vec<_> = HeaderPairs::new(&buffer).map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        prop_assert_eq!(read, lines);
    }
}
