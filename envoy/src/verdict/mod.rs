//! The demo's judgement of itself: what must hold for what it has shown.
//!
//! Everything is checked from outside: in the headers that the services saw, the records that the
//! receiver got, and Envoy's statistics.

mod headers;
mod records;
mod totals;

use crate::receiver::{SpanRecord, Transaction};
use crate::scenario::Scenario;
use crate::services::Sighting;

pub use totals::{Counts, Totals, judge_totals};

/// What one scenario left behind.
#[derive(Debug)]
pub struct Evidence {
    /// The scenario.
    pub scenario: Scenario,
    /// Status of the answer.
    pub status: u16,
    /// What the services saw, in order.
    pub sightings: Vec<Sighting>,
    /// The spans of its trace.
    pub spans: Vec<SpanRecord>,
    /// The Transaction events of its trace.
    pub transactions: Vec<Transaction>,
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
type Finding = Result<(), String>;

fn check(claim: &'static str, finding: Finding) -> Check {
    Check { claim, fault: finding.err() }
}

fn expect(holds: bool, fault: impl FnOnce() -> String) -> Finding {
    if holds { Ok(()) } else { Err(fault()) }
}

fn expect_equal<T: PartialEq + std::fmt::Debug + ?Sized>(found: &T, wanted: &T) -> Finding {
    expect(found == wanted, || format!("{found:?} instead of {wanted:?}"))
}

/// Judges one scenario.
pub fn judge(evidence: &Evidence) -> Vec<Check> {
    let mut checks = vec![
        check("the answer is the service's own", expect_equal(&evidence.status, &evidence.scenario.status)),
        check("the request reaches its services", reaches_services(evidence)),
    ];
    match &evidence.scenario.trace {
        // That nothing is recorded shows in the sums, once later requests have had their records sent.
        None => checks.push(check("tracing headers pass untouched", headers::untouched(evidence))),
        Some(expected) => {
            checks.extend(headers::judge(evidence, expected));
            checks.extend(records::judge(evidence, expected));
        }
    }
    checks
}

fn reaches_services(evidence: &Evidence) -> Finding {
    let reached: Vec<&str> = evidence.sightings.iter().map(|seen| seen.service).collect();
    expect_equal(reached.as_slice(), evidence.scenario.services)
}

#[cfg(test)]
mod tests;
