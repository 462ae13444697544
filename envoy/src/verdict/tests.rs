//! The verdict on evidence that is right, and on evidence with one fault each.

use serde_json::json;

use super::*;
use crate::receiver::Attributes;
use crate::scenario::{self, ExpectedTrace, TRUSTED_ACCOUNT_KEY};
use crate::stats::Stats;
use crate::trace_store::summary::{Root, State};
use crate::tracing_headers::{TracingHeaders, encode_newrelic};

const TRACE_ID: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// The id of the span at a place in the chain.
fn span_id(place: usize) -> String {
    format!("{:016x}", place + 1)
}

/// Evidence as a faultless filter leaves it behind.
fn flawless(scenario: Scenario) -> Evidence {
    let Some(expected) = scenario.expected.clone() else {
        return evidence(scenario.clone(), |_| pick(&scenario.request.headers), Vec::new(), Vec::new());
    };
    let trace_id = expected.caller.as_ref().map_or(TRACE_ID, |(trace_id, _)| trace_id.as_str());
    let spans = spans(&expected, trace_id);
    let transactions = transactions(&expected);
    let foreign = expected.foreign_members.clone();
    evidence(scenario, |service| headers(trace_id, sender_of(service), &foreign), spans, transactions)
}

fn evidence(
    scenario: Scenario,
    headers: impl Fn(&str) -> TracingHeaders,
    spans: Vec<SpanRecord>,
    transactions: Vec<Transaction>,
) -> Evidence {
    let see = |service: &&'static str| Sighting {
        service,
        path: "/".to_owned(),
        headers: headers(service),
        app_data: Vec::new(),
    };
    let sightings = scenario.services.iter().map(see).collect();
    let mut evidence = Evidence {
        status: scenario.status,
        scenario,
        app_data: Vec::new(),
        sightings,
        spans,
        transactions,
        stored: None,
    };
    evidence.stored = evidence.scenario.expected.as_ref().map(|expected| stored(&evidence, expected));
    evidence
}

fn pick(headers: &[(String, Vec<u8>)]) -> TracingHeaders {
    TracingHeaders::pick(headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())))
}

/// Where in the whole chain the span is whose id a service sees.
fn sender_of(service: &str) -> usize {
    match service {
        "storefront" => 2,
        "cart" => 4,
        "payments" => 6,
        _ => 7,
    }
}

fn headers(trace_id: &str, sender: usize, foreign: &[String]) -> TracingHeaders {
    let parent_id = span_id(sender);
    let own = format!("{TRUSTED_ACCOUNT_KEY}@nr=0-0-4001-502--77-1-1.5-1750000000000");
    let members: Vec<String> = std::iter::once(own).chain(foreign.iter().cloned()).collect();
    let newrelic = encode_newrelic(&json!({ "tr": trace_id, "id": parent_id, "sa": true, "pr": 1.5 }));
    pick(&[
        ("traceparent".to_owned(), format!("00-{trace_id}-{parent_id}-01").into_bytes()),
        ("tracestate".to_owned(), members.join(",").into_bytes()),
        ("newrelic".to_owned(), newrelic.into_bytes()),
    ])
}

fn attributes(value: &serde_json::Value) -> Attributes {
    value.as_object().cloned().unwrap_or_default()
}

fn spans(expected: &ExpectedTrace, trace_id: &str) -> Vec<SpanRecord> {
    let caller = expected.caller.as_ref().map(|(_, span_id)| (*span_id).to_owned());
    let span = |(place, (service, kind)): (usize, &(&str, &str))| {
        let parent_id = place.checked_sub(1).map(span_id).or_else(|| caller.clone());
        let mut attributes = attributes(&json!({
            "service.name": service, "span.kind": kind, "parent.id": parent_id, "sampled": true, "priority": 1.5,
        }));
        if expected.failed && *kind == "server" {
            attributes.insert("error.class".to_owned(), json!("503"));
        }
        if place == 0 {
            attributes.extend(expected.first_span.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        }
        SpanRecord { id: span_id(place), trace_id: trace_id.to_owned(), timestamp_ms: place as u64, attributes }
    };
    expected.chain.iter().enumerate().map(span).collect()
}

fn transactions(expected: &ExpectedTrace) -> Vec<Transaction> {
    let servers = expected.chain.iter().filter(|(_, kind)| *kind == "server");
    servers
        .map(|(service, _)| Transaction {
            attributes: attributes(&json!({ "appName": service, "error": expected.failed })),
        })
        .collect()
}

/// The trace as the store has it. The spans have no attribute of a call, so that only those in front of another
/// service's are exit spans.
fn stored(evidence: &Evidence, expected: &ExpectedTrace) -> Trace {
    let mut services: Vec<&str> = expected.chain.iter().map(|(service, _)| *service).collect();
    services.dedup();
    let (entries, boundaries) = (services.len(), services.len() - 1);
    let orphans = u8::from(expected.caller.is_some());
    let root = evidence
        .spans
        .first()
        .map(|first| json!({ "span_id": first.id, "name": first.text("name"), "service": first.service() }));
    let summary = json!({
        "session": 1, "trace_id": TRACE_ID, "state": "open", "root": root, "start_ms": 0.0, "duration_ms": 1.0,
        "backend_duration_ms": 1.0, "spans": expected.chain.len(), "entry_spans": entries, "exit_spans": boundaries,
        "in_process_spans": 0, "datastore_spans": 0, "external_spans": boundaries, "process_boundaries": boundaries,
        "errors": if expected.failed { entries } else { 0 }, "services": services, "orphans": orphans,
        "missing_root": orphans == 1, "late": false, "first_seen_ms": 0, "last_seen_ms": 0, "closes_in_ms": 90_000,
    });
    let span = |span: &SpanRecord| {
        json!({
            "id": span.id, "parent_id": span.parent_id(), "session": 1, "name": span.text("name"),
            "service": span.service(), "start_ms": 0.0, "duration_ms": 1.0, "display": "service", "boundary": false,
            "error": span.error(), "orphan": false,
        })
    };
    let spans: Vec<_> = evidence.spans.iter().map(span).collect();
    let header = json!({ "name": "a header", "value": "", "readable": "" });
    let hop =
        |seen: &Sighting| json!({ "service": seen.service, "path": seen.path, "headers": [header, header, header] });
    let hops: Vec<_> = evidence.sightings.iter().map(hop).collect();
    let trace = json!({ "trace_id": TRACE_ID, "sessions": [summary], "spans": spans, "hops": hops });
    serde_json::from_value(trace).unwrap()
}

fn failed_claims(evidence: &Evidence) -> Vec<&'static str> {
    judge(evidence).into_iter().filter(|check| check.fault.is_some()).map(|check| check.claim).collect()
}

/// The scenario whose title contains some words.
fn scenario(words: &str) -> Scenario {
    let mut all = scenario::all(1_750_000_000_000).into_iter();
    all.find(|scenario| scenario.title.contains(words)).unwrap()
}

/// Replaces the first line of a header at one service.
fn rewrite(evidence: &mut Evidence, service: usize, name: &str, value: &str) {
    let line = evidence.sightings[service].headers.lines.iter_mut().find(|(line, _)| line == name).unwrap();
    line.1 = value.as_bytes().to_vec();
}

#[test]
fn flawless_evidence_passes_every_check() {
    for scenario in scenario::all(1_750_000_000_000) {
        let title = scenario.title;
        assert_eq!(failed_claims(&flawless(scenario)), [""; 0], "{title}");
    }
}

/// A fault is made in flawless evidence, and the verdict must name the claim that it breaks.
fn assert_noticed(words: &str, claim: &str, fault: impl Fn(&mut Evidence)) {
    let mut evidence = flawless(scenario(words));
    fault(&mut evidence);
    let failed = failed_claims(&evidence);
    assert!(failed.contains(&claim), "{words}: expected {claim:?} among {failed:?}");
}

#[test]
fn a_fault_in_the_answer_or_the_way_is_noticed() {
    assert_noticed("No tracing", "the answer is the service's own", |evidence| evidence.status = 503);
    assert_noticed("No tracing", "the request reaches its services", |evidence| drop(evidence.sightings.pop()));
}

#[test]
fn a_fault_in_the_headers_is_noticed() {
    assert_noticed("No tracing", "each service sees one line of each header", |evidence| {
        let double = evidence.sightings[1].headers.lines[1].clone();
        evidence.sightings[1].headers.lines.push(double);
    });
    assert_noticed("No tracing", "one trace id from end to end", |evidence| {
        rewrite(evidence, 3, "traceparent", "00-11111111111111111111111111111111-0000000000000008-01");
    });
    assert_noticed("W3C", "the caller's trace goes on", |evidence| {
        for service in 0..4 {
            rewrite(evidence, service, "traceparent", &format!("00-{TRACE_ID}-0000000000000003-01"));
        }
    });
    assert_noticed("No tracing", "each service hangs below its proxy's span", |evidence| {
        rewrite(evidence, 1, "traceparent", &format!("00-{TRACE_ID}-00000000000000ff-01"));
    });
    assert_noticed("No tracing", "sampled is agreed everywhere", |evidence| {
        rewrite(evidence, 2, "traceparent", &format!("00-{TRACE_ID}-0000000000000007-00"));
    });
    assert_noticed("No tracing", "priority is agreed everywhere", |evidence| {
        rewrite(evidence, 2, "tracestate", "4000@nr=0-0-4001-502--77-1-1.25-1750000000000");
    });
    assert_noticed("Another vendor", "other vendors' entries arrive as sent", |evidence| {
        rewrite(evidence, 3, "tracestate", "4000@nr=0-0-4001-502--77-1-1.5-1750000000000,zeta=4*k,vend1=q9/Zx.7");
    });
}

#[test]
fn a_fault_in_the_records_is_noticed() {
    assert_noticed("W3C", "every parent id exists", |evidence| drop(evidence.spans.remove(3)));
    assert_noticed("No tracing", "the spans form the expected chain", |evidence| {
        evidence.spans[4].attributes.insert("span.kind".to_owned(), json!("client"));
    });
    assert_noticed("W3C", "the first span knows its caller", |evidence| {
        evidence.spans[0].attributes.remove("parent.account");
    });
    assert_noticed("not trusted", "the first span knows its caller", |evidence| {
        evidence.spans[0].attributes.insert("parent.account".to_owned(), json!("4002"));
    });
    assert_noticed("An error", "the error is on the services' spans and nowhere else", |evidence| {
        evidence.spans[0].attributes.remove("error.class");
    });
    assert_noticed("No tracing", "the error is on the services' spans and nowhere else", |evidence| {
        evidence.spans[1].attributes.insert("error.class".to_owned(), json!("UF"));
    });
    assert_noticed("An error", "each service has its transaction", |evidence| {
        evidence.transactions[2].attributes.insert("error".to_owned(), json!(false));
    });
}

#[test]
fn a_fault_of_the_trace_store_is_noticed() {
    /// Makes a fault in what the store has.
    fn assert_noticed_in_store(claim: &str, fault: impl Fn(&mut Trace)) {
        assert_noticed("W3C", claim, |evidence| fault(evidence.stored.as_mut().unwrap()));
    }
    let spans = "the trace store has the trace's spans as received";
    assert_noticed("An error", spans, |evidence| evidence.stored = None);
    assert_noticed_in_store(spans, |trace| drop(trace.spans.pop()));
    assert_noticed_in_store(spans, |trace| trace.spans[0].error = Some("503".to_owned()));
    assert_noticed_in_store(spans, |trace| trace.spans[3].parent_id = None);
    let open = "the trace store holds the trace open";
    assert_noticed_in_store(open, |trace| trace.sessions[0].state = State::Written);
    assert_noticed_in_store(open, |trace| trace.sessions.extend_from_within(..));
    let counts = "the trace store counts its spans right";
    assert_noticed_in_store(counts, |trace| trace.sessions[0].totals.entry_spans += 1);
    assert_noticed_in_store(counts, |trace| trace.sessions[0].totals.exit_spans += 1);
    assert_noticed_in_store(counts, |trace| trace.sessions[0].totals.process_boundaries -= 1);
    assert_noticed_in_store(counts, |trace| trace.sessions[0].totals.errors = 1);
    assert_noticed_in_store(counts, |trace| trace.sessions[0].totals.missing_root = false);
    let order = "the trace store tells root and services in their order";
    assert_noticed_in_store(order, |trace| trace.sessions[0].totals.services.truncate(3));
    assert_noticed_in_store(order, |trace| trace.sessions[0].totals.services.swap(0, 1));
    assert_noticed_in_store(order, |trace| trace.sessions[0].totals.root = None);
    assert_noticed_in_store(order, |trace| {
        let second = trace.spans[1].clone();
        let root = Root { span_id: second.id, name: second.name, service: second.service };
        trace.sessions[0].totals.root = Some(root);
    });
    let hops = "the trace store has the headers of each hop";
    assert_noticed_in_store(hops, |trace| drop(trace.hops.pop()));
    assert_noticed_in_store(hops, |trace| drop(trace.hops[0].headers.pop()));
}

#[test]
fn a_fault_with_an_excluded_request_is_noticed() {
    assert_noticed("health check", "tracing headers pass untouched", |evidence| {
        rewrite(evidence, 0, "newrelic", "changed");
    });
    assert_noticed("health check", "tracing headers pass untouched", |evidence| {
        evidence.sightings[0].headers.lines.remove(1);
    });
}

#[test]
fn a_fault_in_the_sums_is_noticed() {
    let sums = "newrelic.spans.started: 9\nnewrelic.spans.recorded: 9\nnewrelic.spans.exported: 9\n\
        newrelic.transactions.recorded: 4\nnewrelic.transactions.exported: 4\n";
    let faultless = || Totals {
        stats: Stats::parse(sums),
        shown: Counts { spans: 9, transactions: 4 },
        received: Counts { spans: 9, transactions: 4 },
        complaints: Vec::new(),
    };
    let with = |line: &str| Totals { stats: Stats::parse(&format!("{sums}{line}\n")), ..faultless() };
    for (totals, claim) in [
        (faultless(), ""),
        (with("newrelic.spans.dropped.encoding: 1"), "every span is accounted for"),
        (with("newrelic.queue.transactions: 1"), "every transaction is accounted for"),
        (with("newrelic.host_refused.get_property: 1"), "Envoy refused no call of the filter"),
        (with("newrelic.spans.started: 10"), "no span is opened beyond the traces shown"),
        (
            Totals { shown: Counts { spans: 9, transactions: 3 }, ..faultless() },
            "nothing is recorded beyond what is shown",
        ),
        (
            Totals { complaints: vec!["a post was answered 403".to_owned()], ..faultless() },
            "the receiver has no complaint",
        ),
    ] {
        let failed = judge_totals(&totals).into_iter().filter(|check| check.fault.is_some());
        assert_eq!(failed.map(|check| check.claim).collect::<String>(), claim);
    }
}
