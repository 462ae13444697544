//! What the demo prints, as text.

use std::fmt::Write;

use serde_json::Value;

use crate::paint::Paint;
use crate::receiver::SpanRecord;
use crate::tracing_headers::{self, SHOWN, TracingHeaders};
use crate::tree::{self, Item};
use crate::verdict::{Check, Evidence, Totals};

/// Width of the column with the services' names.
const SERVICE_WIDTH: usize = 10;
/// Width of the column with the headers' names.
const NAME_WIDTH: usize = 11;

/// The keys of a `newrelic` header's data in the order in which agents write them.
const PAYLOAD_KEYS: [&str; 10] = ["ty", "ac", "ap", "id", "tx", "tr", "pr", "sa", "ti", "tk"];

/// One scenario: the request, the headers as each hop saw them, the trace and the checks.
pub fn scenario(number: usize, evidence: &Evidence, checks: &[Check], paint: Paint) -> String {
    frame(number, evidence, &hops(evidence, paint), &trace(&evidence.spans, paint), checks, paint)
}

/// One scenario of either tracing system around its headers and its records.
pub(crate) fn frame<T>(
    number: usize,
    evidence: &Evidence<T>,
    headers: &str,
    records: &str,
    checks: &[Check],
    paint: Paint,
) -> String {
    let scenario = &evidence.scenario;
    let mut text = format!("\n{}\n", paint.bold(&format!("{number}. {}", scenario.title)));
    text += &format!("   {}\n", paint.dim(scenario.shows));
    text += &format!("\n   {} {} → {}\n", scenario.request.method, scenario.request.path, evidence.status);
    text += headers;
    text.push('\n');
    text += &indent(records);
    text += &indent(&self::checks(checks, paint));
    text
}

/// The headers as the caller sent them and as each service saw them.
fn hops(evidence: &Evidence, paint: Paint) -> String {
    let sent = evidence.scenario.request.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    let caller = ("caller", TracingHeaders::pick(sent));
    let services = evidence.sightings.iter().map(|seen| (seen.service, seen.headers.clone()));
    let lines = std::iter::once(caller).chain(services).map(|(hop, headers)| hop_lines(hop, &headers, paint));
    lines.collect()
}

fn hop_lines(hop: &str, headers: &TracingHeaders, paint: Paint) -> String {
    let mut text = String::new();
    let mut label = hop;
    for name in SHOWN {
        for value in headers.values(name) {
            text += &hop_line(label, name, &readable(name, value), paint);
            label = "";
        }
    }
    if text.is_empty() { hop_line(hop, "", "no tracing headers", paint) } else { text }
}

fn hop_line(hop: &str, name: &str, value: &str, paint: Paint) -> String {
    let hop = paint.service(hop, SERVICE_WIDTH);
    format!("   {hop} {} {value}\n", paint.dim(&format!("{name:<NAME_WIDTH$}")))
}

/// A header's value for people: `newrelic` decoded, everything else as it is.
pub(crate) fn readable(name: &str, value: &[u8]) -> String {
    let decoded = (name == "newrelic").then(|| tracing_headers::decode_newrelic(value)).flatten();
    let Some(Value::Object(mut data)) = decoded else { return value.escape_ascii().to_string() };
    let known: Vec<(&str, Value)> = PAYLOAD_KEYS.into_iter().filter_map(|key| Some((key, data.remove(key)?))).collect();
    let others = data.iter().map(|(key, value)| (key.as_str(), value.clone()));
    let fields: Vec<String> =
        known.into_iter().chain(others).map(|(key, value)| format!("{key}={}", bare(&value))).collect();
    fields.join(" ")
}

/// A JSON value without the quotes of a text.
pub(crate) fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The spans of one trace as a tree under a heading.
pub fn trace(spans: &[SpanRecord], paint: Paint) -> String {
    let Some(first) = spans.first() else {
        return format!("{}\n", paint.dim("no trace"));
    };
    let heading = paint.bold(&format!("trace {}, {} spans", first.trace_id, spans.len()));
    let items: Vec<Item<'_>> = spans.iter().map(Item::from).collect();
    format!("{heading}\n{}", tree::print(&items, paint))
}

/// One line when everything holds, and one more for each claim that does not.
pub(crate) fn checks(checks: &[Check], paint: Paint) -> String {
    let failed: Vec<&Check> = checks.iter().filter(|check| check.fault.is_some()).collect();
    let mut text = format!("{}\n", paint.green(&format!("✓ {} checks hold", checks.len() - failed.len())));
    for check in failed {
        text += &format!("{}\n", paint.red(&failure(check)));
    }
    text
}

fn failure(check: &Check) -> String {
    format!("✗ {}: {}", check.claim, check.fault.as_deref().unwrap_or_default())
}

/// The sums over all scenarios, and their checks.
pub fn totals(totals: &Totals, checks: &[Check], paint: Paint) -> String {
    sums(totals, paint) + &indent(&self::checks(checks, paint))
}

/// The sums over all scenarios of either tracing system.
pub(crate) fn sums(totals: &Totals, paint: Paint) -> String {
    let mut text = format!("\n{}\n", paint.bold("Accounting, from Envoy's statistics"));
    for (records, received) in [("spans", totals.received.spans), ("transactions", totals.received.transactions)] {
        let sum = totals.stats.accounting(records);
        text += &format!(
            "   {records:<12}  {} recorded = {} exported + {} dropped + {} queued; {received} arrived\n",
            sum.recorded, sum.exported, sum.dropped, sum.queued
        );
    }
    text
}

/// The last word: whether every check of every scenario holds, and which do not.
pub fn verdict(all: &[(&str, Vec<Check>)], paint: Paint) -> String {
    let count: usize = all.iter().map(|(_, checks)| checks.len()).sum();
    let mut failures = String::new();
    for (scenario, checks) in all {
        for check in checks.iter().filter(|check| check.fault.is_some()) {
            failures += &format!("   {}\n", paint.red(&format!("{scenario}: {}", failure(check))));
        }
    }
    if failures.is_empty() {
        return format!("\n{}\n", paint.green(&format!("VERDICT: all {count} checks hold")));
    }
    format!("\n{}\n{failures}", paint.red(&format!("VERDICT: {} of {count} checks failed", failures.lines().count())))
}

pub(crate) fn indent(text: &str) -> String {
    text.lines().fold(String::new(), |mut indented, line| {
        // Writing to a String cannot fail.
        writeln!(indented, "   {line}").unwrap_or_default();
        indented
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fault: Option<&str>) -> Check {
        Check { claim: "it holds", fault: fault.map(str::to_owned) }
    }

    #[test]
    fn the_verdict_lists_what_failed_and_where() {
        let all = [("One", vec![check(None), check(None)]), ("Two", vec![check(Some("it does not"))])];
        let text = verdict(&all, Paint::plain());
        assert_eq!(text, "\nVERDICT: 1 of 3 checks failed\n   Two: ✗ it holds: it does not\n");
        assert_eq!(verdict(&all[..1], Paint::plain()), "\nVERDICT: all 2 checks hold\n");
    }

    #[test]
    fn header_values_are_readable_whatever_their_bytes_are() {
        assert_eq!(readable("traceparent", b"\xff\xfe-01"), "\\xff\\xfe-01");
        let header = tracing_headers::encode_newrelic(&serde_json::json!({ "new": 1, "sa": true, "ty": "App" }));
        assert_eq!(readable("newrelic", header.as_bytes()), "ty=App sa=true new=1");
        assert_eq!(readable("newrelic", b"no base64"), "no base64");
    }
}
