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
    /// Counts what belongs to the traces or trips of all scenarios.
    pub fn shown<T>(evidence: &[Evidence<T>]) -> Self {
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
    /// What belongs to the traces or trips of the scenarios.
    pub shown: Counts,
    /// What the receiver got.
    pub received: Counts,
    /// Posts that the receiver refused, and payloads that it found faulty.
    pub complaints: Vec<String>,
}

/// Judges the sums over all scenarios.
pub fn judge_totals(totals: &Totals) -> Vec<Check> {
    let mut checks = vec![
        check("every span is accounted for", accounts_balance(&totals.stats, "spans", totals.received.spans)),
        check("no span is opened beyond the traces shown", spans_started(totals)),
    ];
    checks.extend(common(totals));
    checks
}

/// What must hold in either tracing system.
pub(crate) fn common(totals: &Totals) -> [Check; 4] {
    let Totals { stats, received, complaints, .. } = totals;
    [
        check("every transaction is accounted for", accounts_balance(stats, "transactions", received.transactions)),
        check("nothing is recorded beyond what is shown", expect_equal(received, &totals.shown)),
        check("the receiver has no complaint", expect(complaints.is_empty(), || complaints.join("; "))),
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
