//! Cross Application Tracing from the outside: whole exchanges between applications, and hostile peers.

use newrelic_tracing::carrier::{Carrier, CrossApplication};
use newrelic_tracing::id::TransactionId;
use newrelic_tracing::newrelic::cat::{
    ALTERNATE_PATH_HASHES_MAX, Answer, AppDataError, CrossProcessIdError, EncodingKey, ObfuscationError, Refusal,
    Settings, TransactionError, Trip, read_app_data,
};
use newrelic_tracing::record::{Attribute, Value};
use proptest::prelude::*;

const KEY: &[u8] = b"f00dcafe1234";
const CHECKOUT: &[u8] = b"WebTransaction/Custom/checkout";
const STOCK: &[u8] = b"WebTransaction/Envoy/GET /stock";
const TRUSTED: [&str; 2] = ["4001", "4002"];

fn settings(cross_process_id: &str, app_name: &str) -> Settings {
    Settings::new(cross_process_id, KEY, &TRUSTED.map(Into::into), app_name).unwrap()
}

fn storefront() -> Settings {
    settings("4002#55", "storefront")
}

fn inventory() -> Settings {
    settings("4001#90210", "inventory")
}

fn guid(digits: &[u8; 16]) -> TransactionId {
    TransactionId::from_hex(digits).unwrap()
}

fn obfuscated(text: &str) -> Vec<u8> {
    EncodingKey::new(KEY).unwrap().encode(text.as_bytes()).into_bytes()
}

fn plain(value: &str) -> String {
    EncodingKey::new(KEY).unwrap().decode_text(value.as_bytes()).unwrap()
}

/// A transaction of the inventory that these plain texts ask for.
fn inventory_trip(id: &str, transaction: Option<&str>) -> Trip {
    let transaction = transaction.map(obfuscated);
    Trip::accept(guid(b"1122334455667788"), Some(&obfuscated(id)), transaction.as_deref(), &inventory())
}

fn answer(transaction_name: &[u8]) -> Answer<'_> {
    Answer { transaction_name, queue_time_ns: 15_000_000, response_time_ns: 250_000_000, request_content_length: None }
}

/// The attributes of a Transaction record, as `name=value` in the order of the record.
fn recorded(trip: Trip, settings: &Settings, name: &[u8]) -> Vec<String> {
    let intrinsics = trip.finish(settings, name);
    let line = |attribute: Attribute<'_>| {
        let Value::Text(text) = attribute.value else { panic!("{attribute:?} is no text") };
        format!("{}={}", attribute.name.new_relic(), String::from_utf8_lossy(text))
    };
    intrinsics.attributes().map(line).collect()
}

#[test]
fn a_call_from_the_storefront_to_the_inventory_and_on_is_byte_exact() {
    let (storefront, inventory) = (storefront(), inventory());

    let mut caller = Trip::accept(guid(b"9f8e7d6c5b4a3921"), None, None, &storefront);
    let request = caller.outbound(&storefront, CHECKOUT);
    assert_eq!(request.id, "UgAAVkBUUw==");
    assert_eq!(request.transaction, "PRIJAlsEUQEHUQZWUlEDXVFQRElXU19HAxwSXQVZA1JVBFABBARRV1pTV0cdEFVSAFVVAlBWRDg=");
    assert_eq!(plain(&request.id), "4002#55");
    assert_eq!(plain(&request.transaction), r#"["9f8e7d6c5b4a3921",false,"9f8e7d6c5b4a3921","fffeef37"]"#);

    let (id, transaction) = (request.id.as_bytes(), request.transaction.as_bytes());
    let mut callee = Trip::accept(guid(b"1122334455667788"), Some(id), Some(transaction), &inventory);
    let onward = callee.outbound(&inventory, STOCK);
    assert_eq!(onward.id, "UgAAVUBYVlcAAg==");
    assert_eq!(onward.transaction, "PRIBVVFTVVYFBgYBUAYHU1tZRElXU19HAxwSXQVZA1JVBFABBARRV1pTV0cdEFJWAAYEAFpXRDg=");
    assert_eq!(plain(&onward.transaction), r#"["1122334455667788",false,"9f8e7d6c5b4a3921","abf64d96"]"#);

    let app_data = callee.answer(&inventory, &answer(STOCK)).unwrap();
    assert_eq!(
        app_data,
        "PRIEVFNQRVwBAAIERBwSMwYDMhdQXEBVBURZCw1OIwtHXUobIXVkREwSEgpSWREYVh4AVVZNVksDBx8ZVxwSVVJTVFYCBgcBUwYGU1RZXkcdVFJYFVVt"
    );
    assert_eq!(
        plain(&app_data),
        r#"["4001#90210","WebTransaction/Envoy/GET /stock",0.015,0.25,-1,"1122334455667788",false]"#
    );

    let read = read_app_data([app_data.as_bytes()], &storefront).unwrap().unwrap();
    assert_eq!(read.cross_process_id.as_str(), "4001#90210");
    assert_eq!(&*read.transaction_name, "WebTransaction/Envoy/GET /stock");
    assert_eq!(read.guid.as_deref(), Some("1122334455667788"));

    assert_eq!(
        recorded(caller, &storefront, CHECKOUT),
        ["nr.guid=9f8e7d6c5b4a3921", "nr.tripId=9f8e7d6c5b4a3921", "nr.pathHash=fffeef37"]
    );
    assert_eq!(
        recorded(callee, &inventory, STOCK),
        [
            "nr.guid=1122334455667788",
            "nr.tripId=9f8e7d6c5b4a3921",
            "nr.pathHash=abf64d96",
            "nr.referringPathHash=fffeef37",
            "nr.referringTransactionGuid=9f8e7d6c5b4a3921",
            "client_cross_process_id=4002#55",
        ]
    );
}

#[test]
fn a_hash_sent_under_an_earlier_name_is_recorded_as_an_alternate() {
    let transaction = r#"["9f8e7d6c5b4a3921",false,"9f8e7d6c5b4a3921","fffeef37"]"#;
    let mut trip = inventory_trip("4002#55", Some(transaction));
    let onward = trip.outbound(&inventory(), b"WebTransaction/Uri/stock");
    assert_eq!(plain(&onward.transaction), r#"["1122334455667788",false,"9f8e7d6c5b4a3921","ffd41306"]"#);
    let recorded = recorded(trip, &inventory(), STOCK);
    assert!(recorded.contains(&"nr.alternatePathHashes=ffd41306".to_owned()), "{recorded:?}");
    assert!(recorded.contains(&"nr.pathHash=abf64d96".to_owned()), "{recorded:?}");
}

#[test]
fn alternates_are_the_first_ten_distinct_hashes_without_the_final_one_in_order() {
    let settings = inventory();
    let mut trip = Trip::accept(guid(b"1122334455667788"), None, None, &settings);
    let mut sent = Vec::new();
    for number in 0..ALTERNATE_PATH_HASHES_MAX + 2 {
        let name = format!("WebTransaction/Uri/{number}");
        for _ in 0..2 {
            let value = plain(&trip.outbound(&settings, name.as_bytes()).transaction);
            let array: serde_json::Value = serde_json::from_str(&value).unwrap();
            sent.push(array[3].as_str().unwrap().to_owned());
        }
    }
    sent.dedup();
    assert_eq!(sent.len(), ALTERNATE_PATH_HASHES_MAX + 2);

    // The final name is the fourth one sent.
    let trip = trip.finish(&settings, b"WebTransaction/Uri/3").trip.unwrap();
    assert_eq!(trip.path_hash, sent[3]);
    let mut expected: Vec<_> = sent.drain(..ALTERNATE_PATH_HASHES_MAX).filter(|hash| *hash != trip.path_hash).collect();
    expected.sort();
    assert_eq!(expected.len(), ALTERNATE_PATH_HASHES_MAX - 1);
    assert_eq!(trip.alternate_path_hashes, Some(expected.join(",")));
}

#[test]
fn a_transaction_that_neither_got_nor_sent_cat_records_nothing() {
    let trip = Trip::accept(guid(b"1122334455667788"), None, None, &inventory());
    assert_eq!(recorded(trip, &inventory(), STOCK), [""; 0]);
    // A transaction header alone is none: the id decides.
    let transaction = obfuscated(r#"["9f8e7d6c5b4a3921",false]"#);
    let trip = Trip::accept(guid(b"1122334455667788"), None, Some(&transaction), &inventory());
    assert_eq!(trip.accepted().refused, None);
    assert_eq!(recorded(trip, &inventory(), STOCK), [""; 0]);
}

#[test]
fn a_caller_without_a_transaction_header_is_kept_and_answered() {
    let mut trip = inventory_trip("4002#55", None);
    assert!(trip.answer(&inventory(), &answer(STOCK)).is_some());
    assert_eq!(
        recorded(trip, &inventory(), STOCK),
        [
            "nr.guid=1122334455667788",
            "nr.tripId=1122334455667788",
            "nr.pathHash=540b93f9",
            "client_cross_process_id=4002#55",
        ]
    );
}

#[test]
fn what_the_caller_leaves_out_is_made_up_for_or_left_out() {
    for (transaction, trip_id, path_hash, referring) in [
        (r#"["9f8e",false]"#, "1122334455667788", "540b93f9", None),
        (r#"["9f8e",false,null,null]"#, "1122334455667788", "540b93f9", None),
        (r#"["9f8e",false,"7d6c"]"#, "7d6c", "540b93f9", None),
        (r#"["9f8e",true,"7d6c","zz"]"#, "7d6c", "540b93f9", Some("zz")),
        (r#"["9f8e",false,"7d6c","c0ffee11"]"#, "7d6c", "d5f44fda", Some("c0ffee11")),
    ] {
        let mut trip = inventory_trip("4002#55", Some(transaction));
        let onward = plain(&trip.outbound(&inventory(), STOCK).transaction);
        assert_eq!(onward, format!(r#"["1122334455667788",false,"{trip_id}","{path_hash}"]"#), "{transaction}");
        let recorded = trip.finish(&inventory(), STOCK).trip.unwrap();
        assert_eq!((recorded.trip_id.as_str(), recorded.path_hash.as_str()), (trip_id, path_hash), "{transaction}");
        assert_eq!(recorded.referring_path_hash.as_deref(), referring, "{transaction}");
        assert_eq!(recorded.referring_transaction_guid.as_deref(), Some("9f8e"), "{transaction}");
    }
}

#[test]
fn a_transaction_header_of_wrong_types_leaves_no_trip_but_keeps_the_caller() {
    use TransactionError as E;
    for (transaction, why) in [
        (r#"[7,false,"7d6c","fffeef37"]"#, E::Guid),
        (r#"["9f8e",0,"7d6c","fffeef37"]"#, E::RecordTt),
        (r#"["9f8e",false,["scrambled"],"fffeef37"]"#, E::TripId),
        (r#"["9f8e",false,"7d6c",["scrambled","eggs"]]"#, E::PathHash),
    ] {
        let mut trip = inventory_trip("4002#55", Some(transaction));
        assert_eq!(trip.accepted().refused, Some(Refusal::Transaction(why)), "{transaction}");
        assert!(trip.answer(&inventory(), &answer(STOCK)).is_some(), "{transaction}");
        assert_eq!(recorded(trip, &inventory(), STOCK), ["client_cross_process_id=4002#55"], "{transaction}");
    }
}

#[test]
fn a_transaction_header_that_holds_no_array_counts_as_none() {
    use TransactionError as E;
    let json = obfuscated("{}");
    let short = obfuscated(r#"["9f8e"]"#);
    let other_key = EncodingKey::new(b"another key").unwrap().encode(br#"["9f8e",false]"#).into_bytes();
    for (value, why) in [
        (&b"*"[..], E::Obfuscation(ObfuscationError::Base64)),
        (&other_key, E::Json),
        (&json, E::Array),
        (&short, E::Elements),
    ] {
        let trip = Trip::accept(guid(b"1122334455667788"), Some(&obfuscated("4002#55")), Some(value), &inventory());
        assert_eq!(trip.accepted().refused, Some(Refusal::Transaction(why)));
        let trip = trip.finish(&inventory(), STOCK).trip.unwrap();
        assert_eq!(trip.trip_id, "1122334455667788");
        assert_eq!(trip.referring_transaction_guid, None);
    }
}

#[test]
fn an_id_that_is_not_believed_hides_the_transaction_and_gets_no_answer() {
    let key = EncodingKey::new(KEY).unwrap();
    for (id, why) in [
        (b"*".to_vec(), Refusal::IdObfuscation(ObfuscationError::Base64)),
        (key.encode(b"\xff").into_bytes(), Refusal::IdObfuscation(ObfuscationError::Utf8)),
        (vec![b'A'; 1 << 20], Refusal::IdObfuscation(ObfuscationError::TooLong)),
        (Vec::new(), Refusal::Id(CrossProcessIdError::Separator)),
        (obfuscated("4002"), Refusal::Id(CrossProcessIdError::Separator)),
        (obfuscated("x#55"), Refusal::Id(CrossProcessIdError::Account)),
        (obfuscated("4002#"), Refusal::Id(CrossProcessIdError::Application)),
        (obfuscated(&format!("4002#{}", "5".repeat(59))), Refusal::Id(CrossProcessIdError::TooLong)),
        (obfuscated("4003#55"), Refusal::UntrustedAccount),
    ] {
        let transaction = obfuscated(r#"["9f8e7d6c5b4a3921",false,"9f8e7d6c5b4a3921","fffeef37"]"#);
        let mut trip = Trip::accept(guid(b"1122334455667788"), Some(&id), Some(&transaction), &inventory());
        assert_eq!(trip.accepted().refused, Some(why));
        assert_eq!(trip.answer(&inventory(), &answer(STOCK)), None, "{why:?}");
        let onward = plain(&trip.outbound(&inventory(), STOCK).transaction);
        assert_eq!(onward, r#"["1122334455667788",false,"1122334455667788","540b93f9"]"#, "{why:?}");
        assert_eq!(
            recorded(trip, &inventory(), STOCK),
            ["nr.guid=1122334455667788", "nr.tripId=1122334455667788", "nr.pathHash=540b93f9"],
            "{why:?}"
        );
    }
}

#[test]
fn the_answer_is_given_once_and_freezes_the_name() {
    let mut trip = inventory_trip("4002#55", None);
    assert_eq!(trip.frozen_name(), None);
    assert!(trip.answer(&inventory(), &answer(STOCK)).is_some());
    assert_eq!(trip.answer(&inventory(), &answer(b"WebTransaction/Uri/later")), None);
    assert_eq!(trip.frozen_name(), Some("WebTransaction/Envoy/GET /stock"));
    let onward = plain(&trip.outbound(&inventory(), b"WebTransaction/Uri/later").transaction);
    assert!(onward.ends_with(r#""540b93f9"]"#), "{onward}");
    let trip = trip.finish(&inventory(), b"WebTransaction/Uri/later").trip.unwrap();
    assert_eq!((trip.path_hash.as_str(), trip.alternate_path_hashes), ("540b93f9", None));
}

#[test]
fn a_name_of_any_bytes_makes_a_header_that_every_agent_reads() {
    let mut trip = inventory_trip("4002#55", None);
    let value = trip.answer(&inventory(), &answer("WebTransaction/Uri/\"日\\\n\u{1f600}".as_bytes())).unwrap();
    assert!(plain(&value).contains(r#""WebTransaction/Uri/\"\u65e5\\\n\ud83d\ude00""#), "{}", plain(&value));
    let read = read_app_data([value.as_bytes()], &storefront()).unwrap().unwrap();
    assert_eq!(&*read.transaction_name, "WebTransaction/Uri/\"日\\\n\u{1f600}");

    let mut trip = inventory_trip("4002#55", None);
    let value = trip.answer(&inventory(), &answer(b"WebTransaction/Uri/\xff")).unwrap();
    let read = read_app_data([value.as_bytes()], &storefront()).unwrap().unwrap();
    assert_eq!(&*read.transaction_name, "WebTransaction/Uri/\u{fffd}");
}

#[test]
fn a_foreign_trip_id_is_sent_on_unchanged() {
    let mut trip = inventory_trip("4002#55", Some(r#"["9f8e",false,"\"trip\" \u00e9\ud83d\ude00\t","zz"]"#));
    let onward = plain(&trip.outbound(&inventory(), STOCK).transaction);
    let array: serde_json::Value = serde_json::from_str(&onward).unwrap();
    assert_eq!(array[2], "\"trip\" é😀\t");
}

#[test]
fn a_custom_protocol_carries_a_trip_there_and_back() {
    let (storefront, inventory) = (storefront(), inventory());
    let (caller_side, callee_side) = (CrossApplication::new(&storefront), CrossApplication::new(&inventory));

    let mut caller = Trip::accept(guid(b"9f8e7d6c5b4a3921"), None, None, &storefront);
    let mut request: Vec<(String, Vec<u8>)> = vec![("NewRelicID".into(), b"stale".to_vec())];
    caller_side.inject_request(&mut caller, CHECKOUT, &mut request);
    assert_eq!(request.values("NewRelicID").collect::<Vec<_>>(), [b"UgAAVkBUUw=="]);
    assert_eq!(request.len(), 2);

    let mut callee = callee_side.extract_request(guid(b"1122334455667788"), &request);
    let mut response: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    assert!(callee_side.inject_response(&mut callee, &answer(STOCK), &mut response));
    assert!(!callee_side.inject_response(&mut callee, &answer(STOCK), &mut response));
    assert_eq!(response.len(), 1);

    let read = caller_side.extract_response(&response).unwrap().unwrap();
    assert_eq!(read.cross_process_id.as_str(), "4001#90210");
    let callee = callee.finish(&inventory, STOCK);
    assert_eq!(callee.client_cross_process_id.unwrap().as_str(), "4002#55");
    assert_eq!(callee.trip.unwrap().path_hash, "abf64d96");
}

#[test]
fn a_custom_protocol_without_metadata_starts_a_trip_and_gets_no_answer() {
    let inventory = inventory();
    let side = CrossApplication::new(&inventory);
    let mut message: Vec<(String, Vec<u8>)> = Vec::new();
    let mut trip = side.extract_request(guid(b"1122334455667788"), &message);
    assert!(!side.inject_response(&mut trip, &answer(STOCK), &mut message));
    assert_eq!(message, []);
    assert_eq!(side.extract_response(&message), Ok(None));
    message.set("NewRelicAppData", b"*".to_vec());
    assert_eq!(side.extract_response(&message), Err(AppDataError::Obfuscation(ObfuscationError::Base64)));
}

fn any_key() -> impl Strategy<Value = EncodingKey> {
    proptest::collection::vec(any::<u8>(), 1..64).prop_map(|key| EncodingKey::new(&key).unwrap())
}

/// Header values that get past the obfuscation more often than random bytes do.
fn hostile_value() -> impl Strategy<Value = Vec<u8>> {
    let key = || EncodingKey::new(KEY).unwrap();
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..256),
        proptest::collection::vec(any::<u8>(), 0..256).prop_map(move |bytes| key().encode(&bytes).into_bytes()),
        any::<String>().prop_map(|text| obfuscated(&text)),
        json().prop_map(|value| obfuscated(&value.to_string())),
        "[0-9]{0,70}#[0-9]{0,5}".prop_map(|text| obfuscated(&text)),
    ]
}

/// JSON arrays of the elements that CAT uses, mostly in wrong places.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let element = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        Just("4001#90210".into()),
        Just("c0ffee11".into()),
        proptest::collection::vec(Just(serde_json::Value::Null), 0..3).prop_map(Into::into),
    ];
    proptest::collection::vec(element, 0..9).prop_map(Into::into)
}

proptest! {
    #[test]
    fn obfuscation_is_undone_by_the_same_key(key in any_key(), bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let value = key.encode(&bytes);
        prop_assert_eq!(value.len(), bytes.len().div_ceil(3) * 4);
        prop_assert_eq!(key.decode(value.as_bytes()), Ok(bytes));
    }

    #[test]
    fn text_is_read_back_exactly_when_it_is_utf_8(key in any_key(), bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let read = key.decode_text(key.encode(&bytes).as_bytes());
        prop_assert_eq!(read, String::from_utf8(bytes).map_err(|_| ObfuscationError::Utf8));
    }

    #[test]
    fn hostile_request_headers_never_panic_and_always_leave_a_readable_request(
        id in proptest::option::of(prop_oneof![Just(obfuscated("4002#55")), hostile_value()]),
        transaction in proptest::option::of(hostile_value()),
        name in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let settings = inventory();
        let mut trip = Trip::accept(guid(b"1122334455667788"), id.as_deref(), transaction.as_deref(), &settings);
        let accepted = trip.accepted().clone();
        // Something was believed, refused by name, or not there.
        prop_assert_eq!(accepted.client_cross_process_id.is_none(), id.is_none() || matches!(
            accepted.refused,
            Some(Refusal::Id(_) | Refusal::IdObfuscation(_) | Refusal::UntrustedAccount)
        ));
        if accepted.client_cross_process_id.is_some() {
            let refused = matches!(accepted.refused, Some(Refusal::Transaction(_)));
            prop_assert_eq!(accepted.caller.is_none(), transaction.is_none() || refused);
        } else {
            prop_assert_eq!(&accepted.caller, &None);
        }

        let outbound = trip.outbound(&settings, &name);
        let next = Trip::accept(
            guid(b"aaaaaaaaaaaaaaaa"), Some(outbound.id.as_bytes()), Some(outbound.transaction.as_bytes()), &settings,
        );
        prop_assert_eq!(next.accepted().refused, None);
        let caller = next.accepted().caller.clone().unwrap();
        prop_assert_eq!(&*caller.guid, "1122334455667788");
        let trip_id = accepted.caller.and_then(|caller| caller.trip_id).unwrap_or_else(|| "1122334455667788".into());
        prop_assert_eq!(caller.trip_id, Some(trip_id));

        let is_answered = trip.answer(&settings, &answer(&name)).is_some();
        prop_assert_eq!(is_answered, accepted.client_cross_process_id.is_some());
        let intrinsics = trip.finish(&settings, &name);
        prop_assert_eq!(intrinsics.client_cross_process_id, accepted.client_cross_process_id);
        prop_assert_eq!(intrinsics.trip.map(|trip| trip.path_hash.into()), caller.path_hash);
    }

    #[test]
    fn hostile_app_data_never_panics_and_only_trusted_callees_are_believed(
        lines in proptest::collection::vec(hostile_value(), 0..4),
    ) {
        if let Ok(Some(data)) = read_app_data(lines.iter().map(Vec::as_slice), &storefront()) {
            prop_assert!(TRUSTED.contains(&data.cross_process_id.account()));
        }
    }

    #[test]
    fn an_answer_of_any_name_is_read_back(name in any::<String>(), queue_time_ns: u64, response_time_ns: u64, length: Option<u32>) {
        let mut trip = inventory_trip("4002#55", None);
        let answer = Answer {
            transaction_name: name.as_bytes(),
            queue_time_ns,
            response_time_ns,
            request_content_length: length.map(Into::into),
        };
        let value = trip.answer(&inventory(), &answer).unwrap();
        let read = read_app_data([value.as_bytes()], &storefront()).unwrap().unwrap();
        prop_assert_eq!(&*read.transaction_name, name.as_str());
        prop_assert_eq!(read.content_length, length.map(Into::into));
        prop_assert!((read.queue_time_s - queue_time_ns as f64 / 1e9).abs() <= read.queue_time_s * 1e-12);
        prop_assert!((read.response_time_s - response_time_ns as f64 / 1e9).abs() <= read.response_time_s * 1e-12);
    }
}
