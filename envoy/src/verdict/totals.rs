//! What must hold for all scenarios together.

use super::{Check, Evidence, Finding, check, expect, expect_equal};
use crate::stats::Stats;

/// How many records of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Spans.
    pub spans: u64,
    /// Transaction events.
    pub transactions: u64,
}

impl Counts {
    /// Counts what belongs to the traces of all scenarios.
    pub fn shown(evidence: &[Evidence]) -> Self {
        evidence.iter().fold(Self::default(), |sum, one| Self {
            spans: sum.spans + one.spans.len() as u64,
            transactions: sum.transactions + one.transactions.len() as u64,
        })
    }
}

/// What is left at the end of all scenarios.
#[derive(Debug)]
pub struct Totals {
    /// Envoy's statistics, once nothing was queued any more.
    pub stats: Stats,
    /// What belongs to the traces of the scenarios.
    pub shown: Counts,
    /// What the receiver got.
    pub received: Counts,
    /// Posts that the receiver refused, and payloads that it found faulty.
    pub complaints: Vec<String>,
}

/// Judges the sums over all scenarios.
pub fn judge_totals(totals: &Totals) -> Vec<Check> {
    let Totals { stats, received, .. } = totals;
    vec![
        check("every span is accounted for", accounts_balance(stats, "spans", received.spans)),
        check("every transaction is accounted for", accounts_balance(stats, "transactions", received.transactions)),
        check("nothing is recorded beyond the traces shown", expect_equal(&totals.received, &totals.shown)),
        check("no span is opened beyond the traces shown", spans_started(totals)),
        check("the receiver has no complaint", expect(totals.complaints.is_empty(), || totals.complaints.join("; "))),
        check("Envoy refused no call of the filter", no_call_refused(stats)),
    ]
}

/// Every span of the demo is sampled. One that an excluded request had opened would be one too many.
fn spans_started(totals: &Totals) -> Finding {
    expect_equal(&totals.stats.value("newrelic.spans.started"), &totals.shown.spans)
}

fn accounts_balance(stats: &Stats, records: &str, received: u64) -> Finding {
    let accounting = stats.accounting(records);
    expect(accounting.balances(), || format!("{accounting:?}"))?;
    expect(accounting.recorded > 0, || "nothing was recorded".to_owned())?;
    expect(accounting.exported == received, || format!("{accounting:?}, but {received} arrived"))
}

fn no_call_refused(stats: &Stats) -> Finding {
    let refused: Vec<String> = stats
        .below("newrelic.host_refused.")
        .filter(|(_, count)| *count > 0)
        .map(|(call, count)| format!("{call} {count} times"))
        .collect();
    expect(refused.is_empty(), || refused.join(", "))
}
