//! What must hold for the trace as the trace store has it.
//!
//! What the store must count follows from the scenario; which spans are exit spans is worked out anew, by New Relic's
//! words: an attribute begins with `http.` or `db.`, or a child belongs to another service.

use std::collections::HashSet;

use super::{Check, Evidence, Finding, check, expect, expect_equal};
use crate::receiver::SpanRecord;
use crate::scenario::ExpectedTrace;
use crate::services::Sighting;
use crate::trace_store::summary::{State, Summary};
use crate::trace_view::Trace;
use crate::tracing_headers::SHOWN;

pub(super) fn judge(evidence: &Evidence, expected: &ExpectedTrace) -> Vec<Check> {
    let with = |finding: &dyn Fn(&Trace) -> Finding| {
        evidence.stored.as_ref().map_or_else(|| Err("the store does not have it".to_owned()), finding)
    };
    vec![
        check("the trace store has the trace's spans as received", with(&|trace| same_spans(trace, &evidence.spans))),
        check("the trace store holds the trace open", with(&is_open)),
        check("the trace store counts its spans right", with(&|trace| counts_right(trace, evidence, expected))),
        check(
            "the trace store tells root and services in their order",
            with(&|trace| in_order(trace, evidence, expected)),
        ),
        check("the trace store has the headers of each hop", with(&|trace| has_hops(trace, evidence))),
    ]
}

/// Id, parent, service, name and error of each span.
fn same_spans(trace: &Trace, received: &[SpanRecord]) -> Finding {
    type Facts = (String, Option<String>, String, String, Option<String>);
    let mut stored: Vec<Facts> = trace
        .spans
        .iter()
        .map(|span| {
            let parent = span.parent_id.clone();
            (span.id.clone(), parent, span.service.clone(), span.name.clone(), span.error.clone())
        })
        .collect();
    let mut wanted: Vec<Facts> = received
        .iter()
        .map(|span| {
            let [service, name] = [span.service(), span.text("name")].map(str::to_owned);
            (span.id.clone(), span.parent_id().map(str::to_owned), service, name, span.error())
        })
        .collect();
    stored.sort_unstable();
    wanted.sort_unstable();
    expect_equal(&stored, &wanted)
}

/// Traces are new ones, so that each has one session, which stays open for 90 seconds.
fn is_open(trace: &Trace) -> Finding {
    let [session] = trace.sessions.as_slice() else {
        return Err(format!("{} sessions instead of one", trace.sessions.len()));
    };
    expect_equal(&(session.state, session.late), &(State::Open, false))?;
    expect(session.closes_in_ms.is_some(), || "it is not said when it closes".to_owned())
}

fn counts_right(trace: &Trace, evidence: &Evidence, expected: &ExpectedTrace) -> Finding {
    let Some(Summary { totals, .. }) = trace.sessions.first() else {
        return Err("there is no session".to_owned());
    };
    let entries = services(expected).len();
    let exits = exit_spans(&evidence.spans);
    let is_fragment = expected.caller.is_some();
    for (what, found, wanted) in [
        ("spans", totals.spans, expected.chain.len()),
        ("entry spans", totals.entry_spans, entries),
        ("process boundaries", totals.process_boundaries, entries - 1),
        ("exit spans", totals.exit_spans, exits),
        ("external spans", totals.external_spans, exits),
        ("datastore spans", totals.datastore_spans, 0),
        ("errors", totals.errors, if expected.failed { entries } else { 0 }),
        ("orphans", totals.orphans, usize::from(is_fragment)),
    ] {
        expect_equal(&found, &wanted).map_err(|fault| format!("{what}: {fault}"))?;
    }
    expect_equal(&totals.missing_root, &is_fragment).map_err(|fault| format!("missing root: {fault}"))
}

/// The services of the chain, each where it begins.
fn services(expected: &ExpectedTrace) -> Vec<&'static str> {
    let mut services: Vec<&str> = expected.chain.iter().map(|(service, _)| *service).collect();
    services.dedup();
    services
}

/// The root is the span whose parent was not received. Starts are whole milliseconds, which several services
/// share; the callers are still to come first.
fn in_order(trace: &Trace, evidence: &Evidence, expected: &ExpectedTrace) -> Finding {
    let Some(Summary { totals, .. }) = trace.sessions.first() else {
        return Err("there is no session".to_owned());
    };
    let is_received = |id: &str| evidence.spans.iter().any(|span| span.id == id);
    let top = evidence.spans.iter().find(|span| !span.parent_id().is_some_and(is_received));
    let wanted = top.map(|span| [&span.id, span.text("name"), span.service()]);
    let found = totals.root.as_ref().map(|root| [root.span_id.as_str(), &root.name, &root.service]);
    expect_equal(&found, &wanted).map_err(|fault| format!("root: {fault}"))?;
    let found: Vec<&str> = totals.services.iter().map(String::as_str).collect();
    expect_equal(&found, &services(expected)).map_err(|fault| format!("services: {fault}"))
}

fn exit_spans(spans: &[SpanRecord]) -> usize {
    let service_of = |id: &str| spans.iter().find(|span| span.id == id).map(SpanRecord::service);
    let leads_out = |child: &SpanRecord| {
        let parent = child.parent_id()?;
        service_of(parent).filter(|service| *service != child.service()).map(|_| parent.to_owned())
    };
    let parents: HashSet<String> = spans.iter().filter_map(leads_out).collect();
    let calls =
        |span: &SpanRecord| span.attributes.keys().any(|name| name.starts_with("http.") || name.starts_with("db."));
    spans.iter().filter(|span| calls(span) || parents.contains(&span.id)).count()
}

fn has_hops(trace: &Trace, evidence: &Evidence) -> Finding {
    let stored: Vec<(&str, &str, usize)> =
        trace.hops.iter().map(|hop| (hop.service.as_str(), hop.path.as_str(), hop.headers.len())).collect();
    let lines = |seen: &Sighting| SHOWN.into_iter().map(|name| seen.headers.values(name).len()).sum();
    let seen: Vec<(&str, &str, usize)> =
        evidence.sightings.iter().map(|seen| (seen.service, seen.path.as_str(), lines(seen))).collect();
    expect_equal(&stored, &seen)
}
