//! The demo's judgement of itself: what must hold for what it has shown.
//!
//! Everything is checked from outside: in the headers that the services saw, the records that the receiver got, what
//! the trace store made of them, and Envoy's statistics.

mod headers;
mod records;
mod stored;
mod totals;

use crate::receiver::{SpanRecord, Transaction};
use crate::scenario::{ExpectedTrace, Scenario};
use crate::services::Sighting;
use crate::trace_view::Trace;

pub use totals::{Counts, Totals, judge_totals};

pub(crate) use headers::untouched;
pub(crate) use totals::common;

/// What one scenario left behind.
#[derive(Debug)]
pub struct Evidence<T = ExpectedTrace> {
    /// The scenario.
    pub scenario: Scenario<T>,
    /// Status of the answer.
    pub status: u16,
    /// The answer's lines of `X-NewRelic-App-Data`.
    pub app_data: Vec<Vec<u8>>,
    /// What the services saw, in order.
    pub sightings: Vec<Sighting>,
    /// The spans of its trace.
    pub spans: Vec<SpanRecord>,
    /// The Transaction events of its trace or trip.
    pub transactions: Vec<Transaction>,
    /// The trace as the trace store has it; `None` when it does not have it.
    pub stored: Option<Trace>,
}

/// One claim and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The claim.
    pub claim: &'static str,
    /// What speaks against it; `None` when it holds.
    pub fault: Option<String>,
}

/// What speaks against a claim. `Ok` when nothing does.
pub(crate) type Finding = Result<(), String>;

pub(crate) fn check(claim: &'static str, finding: Finding) -> Check {
    Check { claim, fault: finding.err() }
}

pub(crate) fn expect(holds: bool, fault: impl FnOnce() -> String) -> Finding {
    if holds { Ok(()) } else { Err(fault()) }
}

pub(crate) fn expect_equal<T: PartialEq + std::fmt::Debug + ?Sized>(found: &T, wanted: &T) -> Finding {
    expect(found == wanted, || format!("{found:?} instead of {wanted:?}"))
}

/// Judges one scenario.
pub fn judge(evidence: &Evidence) -> Vec<Check> {
    let mut checks = service(evidence).to_vec();
    match &evidence.scenario.expected {
        // That nothing is recorded shows in the sums, once later requests have had their records sent.
        None => checks.push(check("tracing headers pass untouched", untouched(evidence))),
        Some(expected) => {
            checks.extend(headers::judge(evidence, expected));
            checks.extend(records::judge(evidence, expected));
            checks.extend(stored::judge(evidence, expected));
        }
    }
    checks
}

/// Judges how the request was served, which tracing must not change.
pub(crate) fn service<T>(evidence: &Evidence<T>) -> [Check; 2] {
    [
        check("the answer is the service's own", expect_equal(&evidence.status, &evidence.scenario.status)),
        check("the request reaches its services", reaches_services(evidence)),
    ]
}

fn reaches_services<T>(evidence: &Evidence<T>) -> Finding {
    let reached: Vec<&str> = evidence.sightings.iter().map(|seen| seen.service).collect();
    expect_equal(reached.as_slice(), evidence.scenario.services)
}

#[cfg(test)]
mod tests;
