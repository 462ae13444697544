//! What the demo prints in Cross Application Tracing, as text.

use serde_json::Value;

use crate::cat::scenario::{ExpectedTrip, WAY};
use crate::cat::verdict::Statistics;
use crate::cat::wire::{AppData, CallingTransaction, decode};
use crate::paint::Paint;
use crate::receiver::Transaction;
use crate::report::{self, bare, frame};
use crate::tracing_headers::{TracingHeaders, X_NEWRELIC_APP_DATA, X_NEWRELIC_ID, X_NEWRELIC_TRANSACTION};
use crate::verdict::{Check, Evidence, Totals};

/// Width of the column with the applications' names.
const HOP_WIDTH: usize = 12;
/// Width of the column with the headers' names.
const HEADER_WIDTH: usize = 22;

/// The own three attributes are on one line, the caller's on the next.
const FIELDS_PER_LINE: usize = 3;
/// The attributes of Transaction events that Cross Application Tracing is about.
const SHOWN_KEYS: [&str; 7] = [
    "nr.guid",
    "nr.tripId",
    "nr.pathHash",
    "client_cross_process_id",
    "nr.referringTransactionGuid",
    "nr.referringPathHash",
    "nr.alternatePathHashes",
];

/// One scenario: the request, the headers as each hop saw them, the answers on the way back, the trip and the checks.
pub fn scenario(number: usize, evidence: &Evidence<ExpectedTrip>, checks: &[Check], paint: Paint) -> String {
    let headers = requests(evidence, paint) + &answers(evidence, paint);
    frame(number, evidence, &headers, &trip(&evidence.transactions, paint), checks, paint)
}

/// The request headers as the caller sent them and as each service saw them.
fn requests(evidence: &Evidence<ExpectedTrip>, paint: Paint) -> String {
    let sent = evidence.scenario.request.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    let caller = ("caller", TracingHeaders::pick(sent));
    let services = evidence.sightings.iter().map(|seen| (seen.service, seen.headers.clone()));
    let mut text = format!("   {}\n", paint.dim("request headers"));
    for (hop, headers) in std::iter::once(caller).chain(services) {
        let lines = [X_NEWRELIC_ID, X_NEWRELIC_TRANSACTION]
            .into_iter()
            .flat_map(|name| headers.values(name).into_iter().map(move |value| (name, readable(name, value))));
        text += &hop_lines(hop, lines, paint);
    }
    text
}

/// The response header as each service got it, from the last one back to the caller.
fn answers(evidence: &Evidence<ExpectedTrip>, paint: Paint) -> String {
    // The last service asks nobody.
    let asking = evidence.sightings.split_last().map_or(&[][..], |(_, asking)| asking);
    let services = asking.iter().rev().map(|seen| (seen.service, &seen.app_data));
    let mut text = format!("   {}\n", paint.dim("answered with"));
    for (hop, values) in services.chain(std::iter::once(("caller", &evidence.app_data))) {
        let lines = values.iter().map(|value| (X_NEWRELIC_APP_DATA, readable(X_NEWRELIC_APP_DATA, value)));
        text += &hop_lines(hop, lines, paint);
    }
    text
}

fn hop_lines(hop: &str, lines: impl Iterator<Item = (&'static str, String)>, paint: Paint) -> String {
    let mut text = String::new();
    let mut label = hop;
    for (name, value) in lines {
        text += &hop_line(label, name, &value, paint);
        label = "";
    }
    if text.is_empty() { hop_line(hop, "", "no CAT header", paint) } else { text }
}

fn hop_line(hop: &str, name: &str, value: &str, paint: Paint) -> String {
    let hop = paint.service(hop, HOP_WIDTH);
    format!("   {hop} {} {value}\n", paint.dim(&format!("{name:<HEADER_WIDTH$}")))
}

/// A header's value for people: decoded when it can be read, as it is when not.
fn readable(name: &str, value: &[u8]) -> String {
    let decoded = match name {
        X_NEWRELIC_ID => decode(value),
        X_NEWRELIC_TRANSACTION => CallingTransaction::read(value).map(|transaction| {
            let CallingTransaction { guid, trip_id, path_hash } = transaction;
            format!("guid={guid} trip_id={trip_id} path_hash={path_hash}")
        }),
        _ => AppData::read(value).map(|answer| {
            format!(
                "{}, {}, queue_time={} s response_time={} s content_length={} guid={}",
                answer.cross_process_id,
                answer.transaction_name,
                answer.queue_time_s,
                answer.response_time_s,
                answer.content_length,
                answer.guid,
            )
        }),
    };
    decoded.unwrap_or_else(|| value.escape_ascii().to_string())
}

/// The transactions of one trip under a heading, in the order of the way.
pub fn trip(transactions: &[Transaction], paint: Paint) -> String {
    let Some(first) = transactions.first() else {
        return format!("{}\n", paint.dim("no trip"));
    };
    let heading = format!("trip {}, {} transactions", first.text("nr.tripId"), transactions.len());
    let mut in_order: Vec<&Transaction> = transactions.iter().collect();
    in_order.sort_by_key(|one| WAY.iter().position(|hop| hop.service == one.text("appName")));
    let transactions = in_order.into_iter().map(|one| transaction(one, paint));
    format!("{}\n{}", paint.bold(&heading), transactions.collect::<String>())
}

/// Name and failure on the first line, then what there is of [`SHOWN_KEYS`], a few on each line.
fn transaction(transaction: &Transaction, paint: Paint) -> String {
    let failed = transaction.attributes.get("error") == Some(&Value::Bool(true));
    let failure = if failed { paint.red("  error") } else { String::new() };
    let service = paint.service(transaction.text("appName"), HOP_WIDTH);
    let mut text = format!("{service} {}{failure}\n", transaction.text("name"));
    let fields = SHOWN_KEYS.into_iter().filter_map(|key| Some((key, transaction.attributes.get(key)?)));
    let fields: Vec<String> = fields.map(|(key, value)| format!("{key}={}", bare(value))).collect();
    for line in fields.chunks(FIELDS_PER_LINE) {
        text += &format!("{:HOP_WIDTH$} {}\n", "", line.join(" "));
    }
    text
}

/// The sums over all scenarios, the statistics by caller and callee, and the checks.
pub fn totals(totals: &Totals, checks: &[Check], paint: Paint) -> String {
    let statistics = Statistics::of(&totals.stats).to_string();
    report::sums(totals, paint) + &report::indent(&(statistics + &report::checks(checks, paint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cat::wire::encode;

    #[test]
    fn header_values_are_readable_whatever_their_bytes_are() {
        assert_eq!(readable(X_NEWRELIC_ID, encode("4002#55").as_bytes()), "4002#55");
        for name in [X_NEWRELIC_ID, X_NEWRELIC_TRANSACTION, X_NEWRELIC_APP_DATA] {
            assert_eq!(readable(name, b"\xff no base64"), "\\xff no base64", "{name}");
        }
    }

    #[test]
    fn a_trip_is_printed_in_the_order_of_the_way() {
        let event = |service: &str, error: bool| {
            let attributes = serde_json::json!({
                "appName": service, "name": "n", "error": error, "nr.tripId": "t", "nr.guid": "g", "nr.pathHash": "p",
                "nr.referringPathHash": "r", "other": 1,
            });
            Transaction { attributes: attributes.as_object().cloned().unwrap_or_default() }
        };
        let text = trip(&[event("cart", true), event("storefront", false)], Paint::plain());
        let expected = "trip t, 2 transactions\n\
            storefront   n\n             nr.guid=g nr.tripId=t nr.pathHash=p\n             nr.referringPathHash=r\n\
            cart         n  error\n             nr.guid=g nr.tripId=t nr.pathHash=p\n             nr.referringPathHash=r\n";
        assert_eq!(text, expected);
    }
}
