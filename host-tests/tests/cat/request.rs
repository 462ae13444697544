//! The request side: what is accepted of a caller, and what the upstream sees.

use host_tests::Ending;

use crate::harness::*;

/// What became of one caller's headers.
#[derive(Debug, PartialEq, Eq)]
struct Accepted {
    /// Whether the caller got an answer.
    answered: bool,
    /// The array that the upstream got.
    upstream: String,
    /// What was recorded besides the own guid, the trip and the path hash.
    recorded: Vec<String>,
}

impl Accepted {
    /// No caller: the trip starts here.
    fn nothing() -> Self {
        Self { answered: false, upstream: format!(r#"["{GUID}",false,"{GUID}","540b93f9"]"#), recorded: Vec::new() }
    }

    /// The caller, without its transaction: the trip starts here too, but the caller gets an answer.
    fn client() -> Self {
        Self { answered: true, recorded: vec![format!("client_cross_process_id={CALLER}")], ..Self::nothing() }
    }

    /// The caller with its transaction.
    fn trip(trip_id: &str, path_hash: &str, referring_hash: Option<&str>, referring_guid: &str) -> Self {
        let hash = referring_hash.map(|hash| format!("nr.referringPathHash={hash}"));
        let rest =
            [format!("nr.referringTransactionGuid={referring_guid}"), format!("client_cross_process_id={CALLER}")];
        Self {
            answered: true,
            upstream: format!(r#"["{GUID}",false,"{trip_id}","{path_hash}"]"#),
            recorded: hash.into_iter().chain(rest).collect(),
        }
    }

    /// Sends the request and looks at what came of it.
    fn of(request: host_tests::HeaderMap) -> host_tests::Result<Self> {
        let (envoy, exchange) = exchange(Setup::new("inbound"), request, response(&[]))?;
        assert_eq!(exchange.upstream.all(ID), [b"UgAAVUBYVlcAAg=="], "the own id goes on, whoever called");
        let recorded = intrinsics(&transaction(&envoy));
        let upstream = plain(&exchange.upstream, TRANSACTION).expect("the own transaction goes on, whoever called");
        let [_, trip, hash] = &recorded[..3] else { unreachable!("three were asked for") };
        let (trip, hash) = (trip.trim_start_matches("nr.tripId="), hash.trim_start_matches("nr.pathHash="));
        assert_eq!(upstream, format!(r#"["{GUID}",false,"{trip}","{hash}"]"#), "what is sent is recorded");
        assert_eq!(recorded[0], format!("nr.guid={GUID}"));
        let answered = exchange.downstream.contains(APP_DATA);
        Ok(Self { answered, upstream, recorded: recorded[3..].to_vec() })
    }
}

#[test]
fn a_caller_is_believed_only_with_a_well_formed_id_of_a_trusted_account() -> host_tests::Result<()> {
    let longest = format!("4002#{}", "5".repeat(58));
    assert_eq!(longest.len(), 63);
    for (id, is_believed) in [
        ("4002#55", true),
        ("4001#1", true),
        (longest.as_str(), true),
        (&format!("{longest}5"), false),
        ("4003#55", false),
        ("40020#55", false),
        ("04002#55", false),
        ("", false),
        ("4002", false),
        ("4002#", false),
        ("#55", false),
        ("4002#5x", false),
        ("x4002#55", false),
        (" 4002#55", false),
        ("4002#55\n", false),
        ("4002#55#1", false),
        ("4002#-55", false),
    ] {
        let accepted = Accepted::of(call_of(id, Some(CALLER_TRANSACTION)))?;
        let expected = if is_believed {
            let client = format!("client_cross_process_id={id}");
            let mut trip = Accepted::trip("9f8e7d6c5b4a3921", "abf64d96", Some("fffeef37"), "9f8e7d6c5b4a3921");
            trip.recorded[2] = client;
            trip
        } else {
            Accepted::nothing()
        };
        assert_eq!(accepted, expected, "{id:?}");
    }
    Ok(())
}

#[test]
fn an_id_that_cannot_be_decoded_is_no_id() -> host_tests::Result<()> {
    let transaction = encode(CALLER_TRANSACTION, KEY);
    for id in [
        &b""[..],
        b"=",
        b"UgAAVkBUUw=",
        b"UgAAVkBUUw",
        b"UgAA VkBUUw==",
        b"UgAA-kBUUw==",
        b"4002#55",
        b"\xff\xfe",
        encode([0xff, 0xfe], KEY).as_bytes(),
        encode("4002#55", "another key").as_bytes(),
    ] {
        let request = request(&[(ID, id), (TRANSACTION, transaction.as_bytes())]);
        assert_eq!(Accepted::of(request)?, Accepted::nothing(), "{}", id.escape_ascii());
    }
    // Without an id the transaction does not count.
    let request = request(&[(TRANSACTION, transaction.as_bytes())]);
    assert_eq!(Accepted::of(request)?, Accepted::nothing());
    Ok(())
}

#[test]
fn every_form_of_a_callers_transaction_is_read() -> host_tests::Result<()> {
    for (array, expected) in [
        (r#"["9f8e",false,"7d6c","fffeef37"]"#, Accepted::trip("7d6c", "abf64d96", Some("fffeef37"), "9f8e")),
        (r#"["9f8e",true,"7d6c","fffeef37"]"#, Accepted::trip("7d6c", "abf64d96", Some("fffeef37"), "9f8e")),
        (r#" [ "9f8e" , false , "7d6c" , "fffeef37" ] "#, Accepted::trip("7d6c", "abf64d96", Some("fffeef37"), "9f8e")),
        (r#"["9f8e",false,"7d6c","fffeef37",1,{}]"#, Accepted::trip("7d6c", "abf64d96", Some("fffeef37"), "9f8e")),
        (r#"["9f8e",false]"#, Accepted::trip(GUID, "540b93f9", None, "9f8e")),
        (r#"["9f8e",false,"7d6c"]"#, Accepted::trip("7d6c", "540b93f9", None, "9f8e")),
        (r#"["9f8e",false,null]"#, Accepted::trip(GUID, "540b93f9", None, "9f8e")),
        (r#"["9f8e",false,null,null]"#, Accepted::trip(GUID, "540b93f9", None, "9f8e")),
        (r#"["9f8e",false,null,"fffeef37"]"#, Accepted::trip(GUID, "abf64d96", Some("fffeef37"), "9f8e")),
        // The Go agent prints a number without leading zeros.
        (r#"["1",false,"1","fffeef37"]"#, Accepted::trip("1", "abf64d96", Some("fffeef37"), "1")),
    ] {
        assert_eq!(Accepted::of(call_of(CALLER, Some(array)))?, expected, "{array}");
    }
    Ok(())
}

/// Kept as text all the same.
#[test]
fn a_referring_path_hash_that_is_not_eight_hex_digits_counts_as_none() -> host_tests::Result<()> {
    for (referring, expected) in [
        ("fffeef37", "abf64d96"),
        ("FFFEEF37", "abf64d96"),
        ("c0ffee11", "d5f44fda"),
        ("00000000", "540b93f9"),
        ("zz", "540b93f9"),
        ("fffeef3", "540b93f9"),
        ("0fffeef37", "540b93f9"),
        ("fffeef3g", "540b93f9"),
        ("+ffeef37", "540b93f9"),
    ] {
        let array = format!(r#"["9f8e",false,"7d6c","{referring}"]"#);
        let expected = Accepted::trip("7d6c", expected, Some(referring), "9f8e");
        assert_eq!(Accepted::of(call_of(CALLER, Some(&array)))?, expected, "{referring}");
    }
    Ok(())
}

#[test]
fn a_transaction_that_breaks_a_rule_is_refused_whole_and_the_id_is_kept() -> host_tests::Result<()> {
    let long = format!(r#"["{}",false,"7d6c","fffeef37"]"#, "9".repeat(300));
    for array in [
        "",
        "null",
        "{}",
        "7",
        r#""9f8e""#,
        "[]",
        r#"["9f8e"]"#,
        r#"["9f8e",false,"7d6c","fffeef37""#,
        r#"["9f8e",false,"7d6c","fffeef37"],"#,
        r#"[1,false,"7d6c","fffeef37"]"#,
        r#"[null,false,"7d6c","fffeef37"]"#,
        r#"["",false,"7d6c","fffeef37"]"#,
        r#"["9f8e",null,"7d6c","fffeef37"]"#,
        r#"["9f8e","false","7d6c","fffeef37"]"#,
        r#"["9f8e",0,"7d6c","fffeef37"]"#,
        r#"["9f8e",false,7,"fffeef37"]"#,
        r#"["9f8e",false,[],"fffeef37"]"#,
        r#"["9f8e",false,"7d6c",7]"#,
        r#"["9f8e",false,"7d6c",false]"#,
        long.as_str(),
    ] {
        assert_eq!(Accepted::of(call_of(CALLER, Some(array)))?, Accepted::client(), "{array}");
    }
    for value in [&b"*"[..], b"\xff", encode([b'[', 0xff], KEY).as_bytes()] {
        let id = encode(CALLER, KEY);
        let request = request(&[(ID, id.as_bytes()), (TRANSACTION, value)]);
        assert_eq!(Accepted::of(request)?, Accepted::client(), "{}", value.escape_ascii());
    }
    assert_eq!(Accepted::of(call_of(CALLER, None))?, Accepted::client());
    Ok(())
}

/// The first of repeated lines counts, and the upstream gets one line of each.
#[test]
fn repeated_lines_are_replaced_by_one() -> host_tests::Result<()> {
    let mut request = call();
    request.add(ID, encode("4001#1", KEY));
    request.add(TRANSACTION, encode(r#"["1",false,"1","c0ffee11"]"#, KEY));
    let expected = Accepted::trip("9f8e7d6c5b4a3921", "abf64d96", Some("fffeef37"), "9f8e7d6c5b4a3921");
    assert_eq!(Accepted::of(request)?, expected);
    Ok(())
}

/// A caller may choose any text; it must not break the JSON that goes on, nor the record. What goes on is ASCII, since
/// the Python agent takes each byte of it for a character.
#[test]
fn a_trip_id_of_any_characters_is_sent_on_and_recorded() -> host_tests::Result<()> {
    for (came, sent, recorded) in [
        ("café", r"caf\u00e9", "café"),
        (r"caf\u00E9", r"caf\u00e9", "café"),
        ("日", r"\u65e5", "日"),
        ("😀", r"\ud83d\ude00", "😀"),
        (r#"\"\\"#, r#"\"\\"#, r#""\"#),
        (r"a\u000ab", r"a\nb", "a\nb"),
        (r"\u0001", r"\u0001", "\u{1}"),
        (r"\/", "/", "/"),
    ] {
        let array = format!(r#"["9f8e",false,"{came}","fffeef37"]"#);
        let (envoy, exchange) = exchange(Setup::new("inbound"), call_of(CALLER, Some(&array)), response(&[]))?;
        let expected = format!(r#"["{GUID}",false,"{sent}","abf64d96"]"#);
        assert_eq!(plain(&exchange.upstream, TRANSACTION), Some(expected), "{came}");
        assert_eq!(text(&transaction(&envoy), "nr.tripId").as_deref(), Some(recorded), "{came}");
    }
    Ok(())
}

#[test]
fn path_hashes_are_those_of_new_relics_agents() -> host_tests::Result<()> {
    for (referring, app_name, name, expected) in [
        (None, "storefront", "WebTransaction/Custom/checkout", "fffeef37"),
        (Some("fffeef37"), "inventory", "WebTransaction/Envoy/GET /stock", "abf64d96"),
        (Some("c0ffee11"), "inventory", "WebTransaction/Envoy/GET /stock", "d5f44fda"),
        (Some("zz"), "inventory", "WebTransaction/Envoy/GET /stock", "540b93f9"),
        (None, "Café", "WebTransaction/Uri/日", "d950c857"),
    ] {
        let array = referring.map_or_else(|| "null".to_owned(), |hash| format!(r#""{hash}""#));
        let setup = Setup::new("gateway").application("4001#90210", app_name).transaction_name(name);
        let request = call_of(CALLER, Some(&format!(r#"["9f8e",false,"7d6c",{array}]"#)));
        let (envoy, exchange) = exchange(setup, request, response(&[]))?;
        let upstream = format!(r#"["{GUID}",false,"7d6c","{expected}"]"#);
        assert_eq!(plain(&exchange.upstream, TRANSACTION), Some(upstream), "{app_name} {name}");
        assert_eq!(text(&transaction(&envoy), "nr.pathHash").as_deref(), Some(expected), "{app_name} {name}");
    }
    Ok(())
}

/// Every key that a configuration may hold, in both of its forms.
#[test]
fn values_are_obfuscated_under_the_configured_key() -> host_tests::Result<()> {
    for (json, key, expected) in [
        (r#""f00dcafe1234""#, "f00dcafe1234", "UgAAVUBYVlcAAg=="),
        (r#"{"value":"k"}"#, "k", "X1tbWkhSW1laWw=="),
        (r#"{"env":"CAT_KEY"}"#, "key", "X1VJWkZAW1dIWw=="),
        (r#"{"value":" ~!\"\\"}"#, " ~!\"\\", "FE4RE38ZThMTbA=="),
        (
            r#"{"value":"d67afc830dab717fd163bfcb0b8b88423e9a1a3b"}"#,
            "d67afc830dab717fd163bfcb0b8b88423e9a1a3b",
            "UAYHUEVaCAEBVA==",
        ),
    ] {
        let setup = Setup::new("inbound").encoding_key(json);
        let plugin = setup.plugin().env("CAT_KEY", "key");
        let mut envoy = setup.start_with(plugin)?;
        let (id, transaction) = (encode(CALLER, key), encode(CALLER_TRANSACTION, key));
        let headers = request(&[(ID, id.as_bytes()), (TRANSACTION, transaction.as_bytes())]);
        let exchange = envoy.stream().exchange(headers, response(&[]))?;
        assert_eq!(exchange.upstream.text(ID).as_deref(), Some(expected), "{json}");
        assert_eq!(
            decode(exchange.upstream.get(TRANSACTION).unwrap_or_default(), key),
            r#"["1122334455667788",false,"9f8e7d6c5b4a3921","abf64d96"]"#,
            "{json}"
        );
        let answer = decode(exchange.downstream.get(APP_DATA).unwrap_or_default(), key);
        assert!(answer.starts_with(r#"["4001#90210","#), "{json}: {answer}");
        assert!(!envoy.transcript().contains("d67afc830dab"), "the key is a secret");
    }
    Ok(())
}

#[test]
fn synthetic_monitors_headers_pass_untouched() -> host_tests::Result<()> {
    let lines = [("x-newrelic-synthetics", &b"UwB\xff="[..]), ("x-newrelic-synthetics-info", b"")];
    for setup in [Setup::new("inbound"), Setup::new("gateway").mechanisms(true, false), Setup::new("outbound")] {
        let (_, exchange) = exchange(setup, request(&lines), response(&[]))?;
        for (name, value) in lines {
            assert_eq!(exchange.upstream.all(name), [value], "{name}");
        }
    }
    Ok(())
}

/// An earlier filter answered: the caller's part is known, but no request was made.
#[test]
fn a_request_that_never_came_this_far_has_only_the_callers_part() -> host_tests::Result<()> {
    let trip = [
        "nr.guid=1122334455667788",
        "nr.tripId=9f8e7d6c5b4a3921",
        "nr.pathHash=abf64d96",
        "nr.referringPathHash=fffeef37",
        "nr.referringTransactionGuid=9f8e7d6c5b4a3921",
        "client_cross_process_id=4002#55",
    ];
    for (request, expected) in [
        (request(&[]), &[][..]),
        (request(&[(ID, b"*")]), &[]),
        (call(), &trip),
        // Of an array with a wrong type agents record no trip, as of a caller without the headers.
        (call_of(CALLER, Some(r#"[1,false,"7d6c","fffeef37"]"#)), &["client_cross_process_id=4002#55"]),
    ] {
        let mut envoy = Setup::new("inbound").start()?;
        let stream = envoy.stream().received(request.clone()).open();
        envoy.end(stream, Ending::earlier_filter_replied(403, "rbac_access_denied"))?;
        assert_eq!(intrinsics(&transaction(&envoy)), expected, "{request:?}");
    }
    Ok(())
}
