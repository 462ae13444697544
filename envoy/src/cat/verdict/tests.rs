//! The verdict on evidence that is right, and on evidence with one fault each.

use serde_json::json;

use super::*;
use crate::cat::scenario::{self, TRUSTED_CALLER};
use crate::cat::wire::{CallingTransaction, encode};
use crate::scenario::Scenario;
use crate::stats::Stats;
use crate::tracing_headers::TracingHeaders;
use crate::verdict::{Counts, Totals};

fn guid(place: usize) -> String {
    format!("{:016x}", place + 1)
}

/// The trip and the path hashes of all hops, as they must be.
fn trip(expected: &ExpectedTrip) -> (String, Vec<String>) {
    let trip_id = expected.caller.as_ref().map_or_else(|| guid(0), |caller| caller.trip_id.clone());
    let mut hashes: Vec<String> = Vec::new();
    for hop in WAY {
        let of_caller = expected.caller.as_ref().map(|caller| caller.path_hash.as_str());
        let referring = hashes.last().map(String::as_str).or(of_caller);
        hashes.push(path_hash(referring, hop.service, &expected.transaction_name(hop)));
    }
    (trip_id, hashes)
}

/// Evidence as a faultless filter leaves it behind.
fn flawless(scenario: Scenario<ExpectedTrip>) -> Evidence<ExpectedTrip> {
    let Some(expected) = scenario.expected.clone() else {
        return evidence(scenario.clone(), |_| (pick(&scenario.request.headers), Vec::new()));
    };
    let mut found = evidence(scenario, |service| (headers(&expected, service), answer_to(&expected, service)));
    found.app_data = expected.client.map(|_| app_data(&expected, 0)).into_iter().collect();
    found.transactions = (0..WAY.len()).map(|place| event(&expected, place)).collect();
    found
}

fn evidence(
    scenario: Scenario<ExpectedTrip>,
    seen: impl Fn(&str) -> (TracingHeaders, Vec<Vec<u8>>),
) -> Evidence<ExpectedTrip> {
    let see = |service: &&'static str| {
        let (headers, app_data) = seen(service);
        Sighting { service, path: "/".to_owned(), headers, app_data }
    };
    let (status, sightings) = (scenario.status, scenario.services.iter().map(see).collect());
    Evidence {
        scenario,
        status,
        app_data: Vec::new(),
        sightings,
        spans: Vec::new(),
        transactions: Vec::new(),
        stored: None,
    }
}

fn pick(headers: &[(String, Vec<u8>)]) -> TracingHeaders {
    TracingHeaders::pick(headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())))
}

/// The place of the proxy in front of a service, or in front of the one that calls it without a proxy.
fn place_of(service: &str) -> usize {
    WAY.iter().position(|hop| hop.service == service).unwrap_or(WAY.len() - 1)
}

fn headers(expected: &ExpectedTrip, service: &str) -> TracingHeaders {
    let place = place_of(service);
    let (trip_id, hashes) = trip(expected);
    let transaction = CallingTransaction { guid: guid(place), trip_id, path_hash: hashes[place].clone() };
    pick(&[
        (X_NEWRELIC_ID.to_owned(), encode(WAY[place].cross_process_id).into_bytes()),
        (X_NEWRELIC_TRANSACTION.to_owned(), transaction.write().into_bytes()),
    ])
}

fn answer_to(expected: &ExpectedTrip, service: &str) -> Vec<Vec<u8>> {
    match service {
        "bank" => Vec::new(),
        "payments" => expected.answer_of_bank.map(<[u8]>::to_vec).into_iter().collect(),
        _ => vec![app_data(expected, place_of(service) + 1)],
    }
}

fn app_data(expected: &ExpectedTrip, place: usize) -> Vec<u8> {
    let answer = AppData {
        cross_process_id: WAY[place].cross_process_id.to_owned(),
        transaction_name: expected.transaction_name(WAY[place]),
        queue_time_s: 0.0,
        response_time_s: 0.25,
        content_length: -1,
        guid: guid(place),
    };
    answer.write().into_bytes()
}

fn event(expected: &ExpectedTrip, place: usize) -> Transaction {
    let (trip_id, hashes) = trip(expected);
    let caller = expected.caller.as_ref();
    let before = place.checked_sub(1);
    let fields = [
        (
            "client_cross_process_id",
            before.map_or(expected.client, |before| Some(WAY[before].cross_process_id)).map(str::to_owned),
        ),
        ("nr.referringTransactionGuid", before.map(guid).or_else(|| Some(caller?.guid.clone()))),
        (
            "nr.referringPathHash",
            before.map(|before| hashes[before].clone()).or_else(|| Some(caller?.path_hash.clone())),
        ),
    ];
    let own = json!({
        "appName": WAY[place].service, "name": expected.transaction_name(WAY[place]), "error": expected.failed,
        "nr.guid": guid(place), "nr.tripId": trip_id, "nr.pathHash": hashes[place],
    });
    let mut attributes = own.as_object().cloned().unwrap_or_default();
    attributes.extend(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))));
    Transaction { attributes }
}

fn failed_claims(evidence: &Evidence<ExpectedTrip>) -> Vec<&'static str> {
    judge(evidence).into_iter().filter(|check| check.fault.is_some()).map(|check| check.claim).collect()
}

/// The flawless evidence of the scenario whose title contains some words.
fn flawless_of(words: &str) -> Evidence<ExpectedTrip> {
    let mut all = scenario::all().into_iter();
    flawless(all.find(|scenario| scenario.title.contains(words)).unwrap())
}

/// A fault is made in flawless evidence, and the verdict must name the claim that it breaks.
fn assert_noticed(words: &str, claim: &str, fault: impl Fn(&mut Evidence<ExpectedTrip>)) {
    let mut evidence = flawless_of(words);
    fault(&mut evidence);
    let failed = failed_claims(&evidence);
    assert!(failed.contains(&claim), "{words}: expected {claim:?} among {failed:?}");
}

/// Replaces the first line of a header at one service.
fn rewrite(evidence: &mut Evidence<ExpectedTrip>, service: usize, name: &str, value: &str) {
    let line = evidence.sightings[service].headers.lines.iter_mut().find(|(line, _)| line == name).unwrap();
    line.1 = value.as_bytes().to_vec();
}

/// Replaces, adds or (null) removes an attribute of the event of one hop.
fn record(evidence: &mut Evidence<ExpectedTrip>, place: usize, name: &str, value: Value) {
    let attributes = &mut evidence.transactions[place].attributes;
    attributes.insert(name.to_owned(), value);
    attributes.retain(|_, value| !value.is_null());
}

#[test]
fn flawless_evidence_passes_every_check() {
    for scenario in scenario::all() {
        let title = scenario.title;
        assert_eq!(failed_claims(&flawless(scenario)), [""; 0], "{title}");
    }
}

#[test]
fn a_fault_in_the_headers_is_noticed() {
    let one_line = "each service sees one line of each CAT header, and no other";
    assert_noticed("No CAT", one_line, |evidence| {
        let double = evidence.sightings[1].headers.lines[0].clone();
        evidence.sightings[1].headers.lines.push(double);
    });
    assert_noticed("No CAT", one_line, |evidence| {
        evidence.sightings[2].headers.lines.push(("traceparent".to_owned(), b"00".to_vec()));
    });
    assert_noticed("No CAT", one_line, |evidence| rewrite(evidence, 3, X_NEWRELIC_TRANSACTION, "garbage"));
    let other = CallingTransaction { guid: guid(2), trip_id: "other".to_owned(), path_hash: "0badcafe".to_owned() };
    assert_noticed("trusted caller", "one trip id at every hop", |evidence| {
        rewrite(evidence, 1, X_NEWRELIC_TRANSACTION, &other.write());
    });
    let called = "each service is called by its proxy's transaction";
    assert_noticed("trusted caller", called, |evidence| rewrite(evidence, 1, X_NEWRELIC_TRANSACTION, &other.write()));
    assert_noticed("No CAT", called, |evidence| rewrite(evidence, 3, X_NEWRELIC_ID, &encode("4001#503")));
}

#[test]
fn a_fault_in_the_records_is_noticed() {
    let has_transaction = "each application has its transaction";
    assert_noticed("No CAT", has_transaction, |evidence| drop(evidence.transactions.pop()));
    assert_noticed("An error", has_transaction, |evidence| record(evidence, 1, "error", json!(false)));
    assert_noticed("No CAT", has_transaction, |evidence| record(evidence, 1, "name", json!("WebTransaction/Uri/x")));
    let one_trip = "one trip id at every hop";
    assert_noticed("No CAT", one_trip, |evidence| record(evidence, 2, "nr.tripId", json!("other")));
    assert_noticed("No CAT", one_trip, |evidence| record(evidence, 0, "nr.guid", Value::Null));
    let knows = "each transaction knows its caller";
    for (place, key) in
        [(0, "client_cross_process_id"), (1, "nr.referringTransactionGuid"), (3, "nr.referringPathHash")]
    {
        assert_noticed("trusted caller", knows, |evidence| record(evidence, place, key, Value::Null));
    }
    for words in ["not trusted", "Garbage in X-NewRelic-ID"] {
        assert_noticed(words, knows, |evidence| record(evidence, 0, "client_cross_process_id", json!(TRUSTED_CALLER)));
        assert_noticed(words, knows, |evidence| record(evidence, 0, "nr.referringTransactionGuid", json!("9f8e")));
    }
    let hash = "each path hash is right";
    assert_noticed("No CAT", hash, |evidence| record(evidence, 3, "nr.pathHash", json!("0badcafe")));
    assert_noticed("No CAT", hash, |evidence| record(evidence, 3, "nr.alternatePathHashes", json!("0badcafe")));
}

#[test]
fn a_fault_in_the_answers_is_noticed() {
    let by_gateway = "the caller is answered by the gateway";
    for words in ["trusted caller", "Garbage in X-NewRelic-Transaction", "An error"] {
        assert_noticed(words, by_gateway, |evidence| evidence.app_data.clear());
    }
    assert_noticed("trusted caller", by_gateway, |evidence| evidence.app_data = evidence.sightings[0].app_data.clone());
    assert_noticed("trusted caller", by_gateway, |evidence| evidence.app_data.push(b"x".to_vec()));
    for words in ["No CAT", "not trusted", "Garbage in X-NewRelic-ID", "Garbage in X-NewRelic-App-Data"] {
        assert_noticed(words, "a caller that is not believed gets no answer", |evidence| {
            evidence.app_data = evidence.sightings[0].app_data.clone();
        });
    }
    let by_next = "each service is answered by the next";
    assert_noticed("No CAT", by_next, |evidence| evidence.sightings[1].app_data.clear());
    assert_noticed("No CAT", by_next, |evidence| evidence.sightings[2].app_data.push(b"x".to_vec()));
    assert_noticed("App-Data", by_next, |evidence| evidence.sightings[2].app_data.clear());
}

#[test]
fn a_fault_with_an_excluded_request_is_noticed() {
    assert_noticed("health check", "CAT headers pass untouched", |evidence| rewrite(evidence, 0, X_NEWRELIC_ID, "x"));
    assert_noticed("health check", "nobody answers", |evidence| evidence.app_data.push(b"x".to_vec()));
}

#[test]
fn a_fault_in_the_sums_is_noticed() {
    let evidence = [flawless_of("trusted caller")];
    let expected = Statistics::expected(&evidence);
    let mut lines = "newrelic.transactions.recorded: 4\nnewrelic.transactions.exported: 4\n".to_owned();
    lines += "newrelic.ClientApplication/4002#55/all: B1(0,1)\n";
    for (host, hop) in [("shop.example", WAY[1]), ("cart", WAY[2]), ("payments", WAY[3])] {
        let id = hop.cross_process_id;
        lines +=
            &format!("newrelic.ClientApplication/{}/all: B1(0,1)\n", WAY[place_of(hop.service) - 1].cross_process_id);
        lines += &format!("newrelic.ExternalApp/{host}/{id}/all: B1(0,1)\n");
        lines +=
            &format!("newrelic.ExternalTransaction/{host}/{id}/WebTransaction/Envoy/GET /{}/*: B1(0,1)\n", hop.path);
    }
    let totals = |lines: &str| {
        let counts = Counts { spans: 0, transactions: 4 };
        Totals { stats: Stats::parse(lines), shown: counts, received: counts, complaints: Vec::new() }
    };
    for (lines, claim) in [
        (lines.clone(), ""),
        (lines.clone() + "newrelic.spans.started: 1\n", "there are no spans"),
        (lines.replace("4002#55/all: B1(0,1)", "4002#55/all: B1(0,2)"), "ClientApplication/… counts every caller"),
        (
            lines.clone() + "newrelic.ClientApplication/4999#55/all: B1(0,1)\n",
            "ClientApplication/… counts every caller",
        ),
        (lines.clone() + "newrelic.ExternalApp/bank/1#1/all: B1(0,1)\n", "ExternalApp/… counts every callee"),
        (lines.replace("GET /cart/*: B", "GET /cart: B"), "ExternalTransaction/… counts every callee's transaction"),
        (lines.clone() + "newrelic.transactions.dropped.rejected: 1\n", "every transaction is accounted for"),
    ] {
        let failed = judge_totals(&totals(&lines), &expected).into_iter().filter(|check| check.fault.is_some());
        assert_eq!(failed.map(|check| check.claim).collect::<String>(), claim);
    }
}
