//! Reading and writing `tracestate`: W3C Trace Context, section 3.3 (keys by the more generous Level 2), and 3.3.1.5
//! (limits).

use crate::support::{Draws, Seen, Setup, TRACEPARENT, counted};

/// Our member in all of these tests.
const OWN: &str = "777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-1-3-1750000000123";
const PARSE_EXCEPTION: &str = "TraceContext/TraceState/Parse/Exception";
const NO_ENTRY: &str = "TraceContext/TraceState/NoNrEntry";

fn exchange<V: AsRef<[u8]>>(states: &[V]) -> Seen {
    let parent = [("traceparent", TRACEPARENT.as_bytes())];
    let states = states.iter().map(|state| ("tracestate", state.as_ref()));
    let lines: Vec<_> = parent.into_iter().chain(states).collect();
    Setup::gateway().sampler("always_on").draws(Draws::gateway()).exchange(&lines)
}

/// What goes on behind our member; empty when nothing does.
fn foreign(seen: &Seen) -> String {
    let state = seen.tracestate().unwrap_or_default();
    let rest = state.strip_prefix(OWN).unwrap_or_else(|| panic!("our member is the left-most: {state}"));
    match rest.strip_prefix(',') {
        Some(members) if !members.is_empty() => members.to_owned(),
        None if rest.is_empty() => String::new(),
        _ => panic!("no empty member is sent: {state}"),
    }
}

fn counts(seen: &Seen, name: &str) -> u64 {
    seen.supportability().get(name).copied().unwrap_or(0)
}

#[test]
fn lines_are_joined_in_order_blanks_trimmed_and_empty_members_skipped() {
    for (lines, expected) in [
        (&["a=1", "b=2"][..], "a=1,b=2"),
        (&["b=2", "a=1", "c=3"], "b=2,a=1,c=3"),
        (&["a=1 ,\t b=2"], "a=1,b=2"),
        (&["\ta=1\t,\t b=2 \t"], "a=1,b=2"),
        (&["a=1,,b=2,"], "a=1,b=2"),
        (&[",", "a=1", " , "], "a=1"),
        (&["", " ", "a=1"], "a=1"),
        (&["a=1,b=2", "", "c=3"], "a=1,b=2,c=3"),
        (&[""], ""),
        (&["  "], ""),
        (&[], ""),
    ] {
        let seen = exchange(lines);
        assert_eq!(foreign(&seen), expected, "{lines:?}");
        assert_eq!(counts(&seen, PARSE_EXCEPTION), 0, "{lines:?}");
        assert_eq!(counts(&seen, NO_ENTRY), 1, "{lines:?}");
    }
}

#[test]
fn well_formed_members_go_on_byte_for_byte() {
    let long_key = format!("{}=1", "k".repeat(256));
    let long_value = format!("k={}", "v".repeat(256));
    let every_character: String = (' '..='~').filter(|character| !matches!(character, ',' | '=')).collect();
    let every_value = format!("k={every_character}");
    for member in [
        "a=1",
        "foo@=1",
        "foo@@bar=2",
        "t*2/4@v=1",
        "0a=1",
        "1=1",
        "a_-*/@0=1",
        "foo@bar=1",
        "k= leading",
        "k=in the middle",
        "k=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~",
        &long_key,
        &long_value,
        &every_value,
    ] {
        let seen = exchange(&[member]);
        assert_eq!(foreign(&seen), member);
        assert_eq!(counts(&seen, PARSE_EXCEPTION), 0, "{member}");
        let key = member.split('=').next().unwrap_or_default();
        assert_eq!(seen.entry_span()["attributes"]["tracingVendors"], key);
    }
}

#[test]
fn a_malformed_member_discards_every_foreign_one_but_not_our_own() {
    let long_key = format!("{}=1", "k".repeat(257));
    let long_value = format!("k={}", "v".repeat(257));
    for malformed in [
        &b"@foo=1"[..],
        b"FOO=1",
        b"fOO=1",
        b"foo.bar=1",
        b"foo =1",
        b"foo",
        b"=1",
        b"=",
        b"foo=",
        b"foo=1=2",
        b"foo==1",
        b"-a=1",
        b"_a=1",
        b"*a=1",
        b"/a=1",
        b"a b=1",
        b"foo=b\tar",
        b"foo=b\x7far",
        b"foo=b\xc3\xa4r",
        b"foo=\xff\xfe",
        b"f\xff=1",
        b"foo=\x01",
        long_key.as_bytes(),
        long_value.as_bytes(),
    ] {
        let name = malformed.escape_ascii();
        let own = b"777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900";
        for line in [[b"a=1,", malformed, b",b=2,", own].concat(), [own, &b",a=1,b=2,"[..], malformed].concat()] {
            let seen = exchange(&[line]);
            assert_eq!(foreign(&seen), "", "{name}");
            assert_eq!(counts(&seen, PARSE_EXCEPTION), 1, "{name}");
            assert_eq!(counts(&seen, "TraceContext/Accept/Success"), 1, "{name}: tracestate never spoils traceparent");
            let entry = &seen.entry_span()["attributes"];
            assert_eq!(entry["trustedParentId"], "aa11bb22cc33dd44", "{name}");
            assert_eq!(entry.get("tracingVendors"), None, "{name}");
        }
    }
}

#[test]
fn our_own_entry_counts_once_and_never_goes_on() {
    let entry = |id: &str| format!("777@nr=0-0-4002-55-{id}-1122334455667788-1-1.5-1749999999900");
    let (first, second) = (entry("1111111111111111"), entry("2222222222222222"));
    for lines in [
        vec![format!("{first},a=1,{second}")],
        vec![format!("a=1,{first},{second}")],
        vec![first.clone(), format!("a=1,{second}")],
        vec![format!("{first},777@nr=broken,a=1")],
    ] {
        let seen = exchange(&lines);
        assert_eq!(foreign(&seen), "a=1", "{lines:?}");
        assert_eq!(seen.entry_span()["attributes"]["trustedParentId"], "1111111111111111", "{lines:?}");
    }
}

#[test]
fn of_members_with_the_same_key_the_left_most_goes_on() {
    for (lines, expected) in [
        (&["a=1,a=2"][..], "a=1"),
        (&["a=1,b=2,a=3,b=4,c=5"], "a=1,b=2,c=5"),
        (&["a=1", "a=2,b=3"], "a=1,b=3"),
        (&["a=1,a=1"], "a=1"),
    ] {
        let seen = exchange(lines);
        assert_eq!(foreign(&seen), expected, "{lines:?}");
        assert_eq!(counts(&seen, PARSE_EXCEPTION), 0, "{lines:?}");
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("v{number}={number}")).collect()
}

#[test]
fn at_most_32_members_go_on_ours_included_and_the_right_most_is_dropped() {
    for (received, sent) in [(1, 1), (30, 30), (31, 31), (32, 31)] {
        let seen = exchange(&[numbered(received).join(",")]);
        assert_eq!(foreign(&seen), numbered(sent).join(","), "{received} members");
        assert_eq!(counts(&seen, PARSE_EXCEPTION), 0, "{received} members");
    }
}

#[test]
fn more_than_32_members_are_malformed() {
    let own = "777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900".to_owned();
    let many = numbered(33);
    let (left, right) = many.split_at(16);
    for lines in [
        vec![many.join(",")],
        vec![left.join(","), right.join(",")],
        vec![own.clone(), numbered(32).join(",")],
        vec!["a=1,".repeat(33)],
    ] {
        let seen = exchange(&lines);
        assert_eq!(foreign(&seen), "", "{lines:?}");
        assert_eq!(counts(&seen, PARSE_EXCEPTION), 1, "{lines:?}");
    }
    let seen = exchange(&[format!("{},,, ,", numbered(31).join(","))]);
    assert_eq!(foreign(&seen), numbered(31).join(","), "empty members do not count");
    let seen = exchange(&[own, numbered(31).join(",")]);
    assert_eq!(foreign(&seen), numbered(31).join(","), "32 with the one that we replace");
}

/// A member of this many bytes.
fn member(key: &str, bytes: usize) -> String {
    format!("{key}={}", "x".repeat(bytes - key.len() - 1))
}

#[test]
fn a_list_of_the_512_characters_that_everybody_must_forward_goes_on_whole() {
    let list: Vec<_> = (0..4).map(|number| member(&format!("v{number}"), 127)).collect();
    let list = list.join(",") + ",";
    assert_eq!(list.len(), 512);
    assert_eq!(foreign(&exchange(&[&list])), list.trim_end_matches(','));
    let longer: Vec<_> = (0..31).map(|number| member(&format!("v{number}"), 200)).collect();
    assert_eq!(foreign(&exchange(&[longer.join(",")])), longer.join(","), "6 KB are no reason to shorten");
}

#[test]
fn beyond_8_kib_long_members_go_first_and_then_the_right_most() {
    let long: Vec<_> = (0..31).map(|number| member(&format!("long{number}"), 260)).collect();
    let fits: usize = (1..=31).rev().find(|count| OWN.len() + count * 261 <= 8192).unwrap_or_default();
    let seen = exchange(&[long.join(",")]);
    assert_eq!(foreign(&seen), long.get(..fits).unwrap_or_default().join(","), "the right-most long ones go");

    let mut mixed = long;
    mixed[29] = member("short", 128);
    mixed[30] = member("last", 100);
    let kept = foreign(&exchange(&[mixed.join(",")]));
    assert!(kept.len() + OWN.len() < 8192, "{} bytes", kept.len());
    assert!(kept.ends_with(&mixed[29..].join(",")), "members of up to 128 bytes stay while longer ones can go: {kept}");
    assert!(kept.starts_with(&mixed[..20].join(",")), "no more goes than must: {kept}");
    let is_in_order = kept.split(',').map(|kept| mixed.iter().position(|member| member == kept));
    assert!(is_in_order.collect::<Option<Vec<_>>>().is_some_and(|positions| positions.is_sorted()));
}

#[test]
fn without_a_valid_traceparent_tracestate_is_dropped_unread() {
    for lines in [
        &[("tracestate", "a=1,777@nr=0-0-4002-55---1-1.5-1749999999900")][..],
        &[("tracestate", "a=1"), ("tracestate", "b=")],
    ] {
        let seen = Setup::gateway().sampler("always_on").draws(Draws::new_trace()).exchange(lines);
        assert_eq!(foreign(&seen), "");
        let expected = ["TraceContext/Create/Success", "DistributedTrace/CreatePayload/Success"];
        assert_eq!(seen.supportability(), counted(&expected));
    }
}

#[test]
fn an_empty_tracestate_is_never_sent() {
    let setup = Setup::gateway().without("account_id").without("trusted_account_key").without("primary_application_id");
    for states in [&[][..], &[""], &[" "], &["a="], &["", ","]] {
        let states = states.iter().map(|state| ("tracestate", *state));
        let lines: Vec<_> = [("traceparent", TRACEPARENT)].into_iter().chain(states).collect();
        assert_eq!(setup.exchange(&lines).tracestate(), None, "{lines:?}");
    }
}
