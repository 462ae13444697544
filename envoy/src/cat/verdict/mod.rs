//! What must hold for a request in Cross Application Tracing: for the headers that the services saw, the answers that
//! they and the caller got, the Transaction events that the receiver got, and Envoy's statistics.

mod totals;

use serde_json::Value;

use crate::cat::path_hash::path_hash;
use crate::cat::scenario::{ExpectedTrip, Hop, WAY};
use crate::cat::wire::{AppData, Caller};
use crate::receiver::Transaction;
use crate::services::Sighting;
use crate::tracing_headers::{SHOWN, X_NEWRELIC_ID, X_NEWRELIC_TRANSACTION};
use crate::verdict::{Check, Evidence, Finding, check, expect, expect_equal, service, untouched};

pub use totals::{Statistics, judge_totals};

/// Judges one scenario.
pub fn judge(evidence: &Evidence<ExpectedTrip>) -> Vec<Check> {
    let mut checks = service(evidence).to_vec();
    match &evidence.scenario.expected {
        // That nothing is recorded shows in the sums, once later requests have had their records sent.
        None => {
            checks.push(check("CAT headers pass untouched", untouched(evidence)));
            checks.push(check("nobody answers", not_answered(&evidence.app_data)));
        }
        Some(expected) => checks.extend(judge_trip(evidence, expected)),
    }
    checks
}

fn judge_trip(evidence: &Evidence<ExpectedTrip>, expected: &ExpectedTrip) -> Vec<Check> {
    let each_hop = |finding: &dyn Fn(usize, Hop) -> Finding| {
        let at =
            |(place, hop): (usize, &Hop)| finding(place, *hop).map_err(|fault| format!("{}: {fault}", hop.service));
        WAY.iter().enumerate().try_for_each(at)
    };
    let each_service = |finding: &dyn Fn(&Sighting) -> Finding| {
        let at = |seen: &Sighting| finding(seen).map_err(|fault| format!("{}: {fault}", seen.service));
        evidence.sightings.iter().try_for_each(at)
    };
    vec![
        check("each service sees one line of each CAT header, and no other", each_service(&one_line_each)),
        check("each application has its transaction", transactions_as_expected(evidence, expected)),
        check("one trip id at every hop", one_trip(evidence, expected)),
        check(
            "each service is called by its proxy's transaction",
            each_service(&|seen| called_by_proxy(evidence, seen)),
        ),
        check(
            "each transaction knows its caller",
            each_hop(&|place, hop| knows_caller(evidence, expected, place, hop)),
        ),
        check("each path hash is right", each_hop(&|place, hop| hash_is_right(evidence, expected, place, hop))),
        caller_answered(evidence, expected),
        check("each service is answered by the next", each_service(&|seen| service_answered(evidence, expected, seen))),
    ]
}

/// The event of a service; that there is one of each is a check of its own.
fn transaction<'a>(evidence: &'a Evidence<ExpectedTrip>, service: &str) -> Option<&'a Transaction> {
    evidence.transactions.iter().find(|one| one.text("appName") == service)
}

/// A text attribute of a service's event.
fn text<'a>(evidence: &'a Evidence<ExpectedTrip>, service: &str, key: &str) -> Option<&'a str> {
    transaction(evidence, service)?.attributes.get(key)?.as_str()
}

fn one_line_each(seen: &Sighting) -> Finding {
    for (name, wanted) in
        [(X_NEWRELIC_ID, 1), (X_NEWRELIC_TRANSACTION, 1)].into_iter().chain(SHOWN.map(|name| (name, 0)))
    {
        let lines = seen.headers.values(name).len();
        expect(lines == wanted, || format!("{lines} lines of {name}"))?;
    }
    expect(Caller::read(&seen.headers).is_some(), || "the CAT headers are not readable".to_owned())
}

fn transactions_as_expected(evidence: &Evidence<ExpectedTrip>, expected: &ExpectedTrip) -> Finding {
    let mut wanted: Vec<(&str, String, bool)> =
        WAY.iter().map(|hop| (hop.service, expected.transaction_name(*hop), expected.failed)).collect();
    let failed = |one: &Transaction| one.attributes.get("error") == Some(&Value::Bool(true));
    let mut found: Vec<(&str, String, bool)> = evidence
        .transactions
        .iter()
        .map(|one| (one.text("appName"), one.text("name").to_owned(), failed(one)))
        .collect();
    wanted.sort_unstable();
    found.sort_unstable();
    expect_equal(&found, &wanted)
}

/// The trip is the caller's, or that of the gateway's transaction.
fn one_trip(evidence: &Evidence<ExpectedTrip>, expected: &ExpectedTrip) -> Finding {
    let [gateway, ..] = WAY;
    let trip_id = match &expected.caller {
        Some(caller) => Some(caller.trip_id.as_str()),
        None => text(evidence, gateway.service, "nr.guid"),
    };
    expect(trip_id.is_some(), || "the gateway's transaction has no nr.guid".to_owned())?;
    for seen in &evidence.sightings {
        let in_header = Caller::read(&seen.headers).map(|caller| caller.transaction.trip_id);
        expect_equal(&in_header.as_deref(), &trip_id).map_err(|fault| format!("{} saw {fault}", seen.service))?;
    }
    for hop in WAY {
        expect_equal(&text(evidence, hop.service, "nr.tripId"), &trip_id)
            .map_err(|fault| format!("{} recorded {fault}", hop.service))?;
    }
    Ok(())
}

/// A service sees the transaction of the proxy in front of it; the bank has none, and sees the one of payments, which
/// copied what it saw.
fn called_by_proxy(evidence: &Evidence<ExpectedTrip>, seen: &Sighting) -> Finding {
    let [.., last] = WAY;
    let proxy = WAY.into_iter().find(|hop| hop.service == seen.service).unwrap_or(last);
    let caller = Caller::read(&seen.headers);
    let found = caller.as_ref().map(|caller| {
        let transaction = &caller.transaction;
        (caller.cross_process_id.as_str(), Some(transaction.guid.as_str()), Some(transaction.path_hash.as_str()))
    });
    let recorded = |key| text(evidence, proxy.service, key);
    expect_equal(&found, &Some((proxy.cross_process_id, recorded("nr.guid"), recorded("nr.pathHash"))))
}

/// What a hop's event must tell of the caller: cross process id, guid and path hash.
fn caller_of<'a>(
    evidence: &'a Evidence<ExpectedTrip>,
    expected: &'a ExpectedTrip,
    place: usize,
) -> [Option<&'a str>; 3] {
    match place.checked_sub(1).and_then(|before| WAY.get(before)) {
        Some(before) => {
            let recorded = |key| text(evidence, before.service, key);
            [Some(before.cross_process_id), recorded("nr.guid"), recorded("nr.pathHash")]
        }
        None => {
            let caller = expected.caller.as_ref();
            [expected.client, caller.map(|caller| caller.guid.as_str()), caller.map(|caller| caller.path_hash.as_str())]
        }
    }
}

fn knows_caller(evidence: &Evidence<ExpectedTrip>, expected: &ExpectedTrip, place: usize, hop: Hop) -> Finding {
    let keys = ["client_cross_process_id", "nr.referringTransactionGuid", "nr.referringPathHash"];
    let recorded = keys.map(|key| text(evidence, hop.service, key));
    expect_equal(&recorded, &caller_of(evidence, expected, place))
}

/// Nobody's name changes on the way, so that the one hash sent is the final one.
fn hash_is_right(evidence: &Evidence<ExpectedTrip>, expected: &ExpectedTrip, place: usize, hop: Hop) -> Finding {
    let [_, _, referring] = caller_of(evidence, expected, place);
    let wanted = path_hash(referring, hop.service, &expected.transaction_name(hop));
    expect_equal(&text(evidence, hop.service, "nr.pathHash"), &Some(wanted.as_str()))?;
    expect_equal(&text(evidence, hop.service, "nr.alternatePathHashes"), &None)
}

fn caller_answered(evidence: &Evidence<ExpectedTrip>, expected: &ExpectedTrip) -> Check {
    let [gateway, ..] = WAY;
    match expected.client {
        Some(_) => {
            check("the caller is answered by the gateway", answered_by(evidence, expected, &evidence.app_data, gateway))
        }
        None => check("a caller that is not believed gets no answer", not_answered(&evidence.app_data)),
    }
}

/// Payments asks the bank, which has no proxy to answer: what it sends arrives as it is. Who asks nobody has no answer.
fn service_answered(evidence: &Evidence<ExpectedTrip>, expected: &ExpectedTrip, seen: &Sighting) -> Finding {
    let place = WAY.iter().position(|hop| hop.service == seen.service);
    match place.map(|place| WAY.get(place + 1)) {
        Some(Some(next)) => answered_by(evidence, expected, &seen.app_data, *next),
        Some(None) => {
            let found: Vec<&[u8]> = seen.app_data.iter().map(Vec::as_slice).collect();
            expect_equal(&found.as_slice(), &expected.answer_of_bank.as_slice())
        }
        None => not_answered(&seen.app_data),
    }
}

fn answered_by(evidence: &Evidence<ExpectedTrip>, expected: &ExpectedTrip, lines: &[Vec<u8>], callee: Hop) -> Finding {
    let [line] = lines else {
        return Err(format!("{} lines of app data", lines.len()));
    };
    let Some(answer) = AppData::read(line) else {
        return Err(format!("the app data is not readable: {}", line.escape_ascii()));
    };
    let guid = text(evidence, callee.service, "nr.guid");
    let name = expected.transaction_name(callee);
    expect_equal(
        &(answer.cross_process_id.as_str(), answer.transaction_name.as_str(), Some(answer.guid.as_str())),
        &(callee.cross_process_id, name.as_str(), guid),
    )?;
    expect_equal(&answer.content_length, &-1)?;
    expect(answer.queue_time_s >= 0.0 && answer.response_time_s >= 0.0, || format!("impossible times: {answer:?}"))
}

fn not_answered(lines: &[Vec<u8>]) -> Finding {
    expect(lines.is_empty(), || format!("{} lines of app data", lines.len()))
}

#[cfg(test)]
mod tests;
