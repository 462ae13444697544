//! What must hold for all scenarios of Cross Application Tracing together.

use std::collections::BTreeMap;
use std::fmt;

use crate::cat::scenario::WAY;
use crate::receiver::Transaction;
use crate::stats::Stats;
use crate::verdict::{Check, Evidence, Finding, Totals, check, common, expect_equal};

/// The families of statistics that name a caller or a callee.
const FAMILIES: [&str; 3] = ["newrelic.ClientApplication/", "newrelic.ExternalApp/", "newrelic.ExternalTransaction/"];

/// The statistics that name a caller or a callee: how many samples each has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics(BTreeMap<String, u64>);

impl Statistics {
    /// What there must be after some requests. Every transaction that knows its caller counts for it; every one but
    /// the gateway's is also the callee of a proxy that reads its answer.
    pub fn expected<T>(evidence: &[Evidence<T>]) -> Self {
        let mut all = Self::default();
        for transaction in evidence.iter().flat_map(|one| &one.transactions) {
            all.count(transaction);
        }
        all
    }

    /// What Envoy has.
    pub fn of(stats: &Stats) -> Self {
        let all = FAMILIES.into_iter().flat_map(|family| stats.samples_below(family).collect::<Vec<_>>());
        Self(all.map(|(name, samples)| (name.to_owned(), samples)).collect())
    }

    fn count(&mut self, transaction: &Transaction) {
        let client = transaction.text("client_cross_process_id");
        if !client.is_empty() {
            self.add(format!("newrelic.ClientApplication/{client}/all"));
        }
        let [_, callees @ ..] = WAY;
        if let Some(callee) = callees.iter().find(|hop| hop.service == transaction.text("appName")) {
            let (host, id) = (callee.host, callee.cross_process_id);
            self.add(format!("newrelic.ExternalApp/{host}/{id}/all"));
            self.add(format!("newrelic.ExternalTransaction/{host}/{id}/{}", transaction.text("name")));
        }
    }

    fn add(&mut self, name: String) {
        *self.0.entry(name).or_default() += 1;
    }

    /// Those of one family.
    fn below(&self, family: &str) -> BTreeMap<&str, u64> {
        let all = self.0.iter().filter(|(name, _)| name.starts_with(family));
        all.map(|(name, samples)| (name.as_str(), *samples)).collect()
    }
}

impl fmt::Display for Statistics {
    /// A line for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, samples)| writeln!(f, "{samples:>3} {name}"))
    }
}

/// Judges the sums over all scenarios. `expected` are the statistics that there must be.
pub fn judge_totals(totals: &Totals, expected: &Statistics) -> Vec<Check> {
    let found = Statistics::of(&totals.stats);
    let [clients, applications, transactions] =
        FAMILIES.map(|family| expect_equal(&found.below(family), &expected.below(family)));
    let mut checks = vec![
        check("there are no spans", no_spans(totals)),
        check("ClientApplication/… counts every caller", clients),
        check("ExternalApp/… counts every callee", applications),
        check("ExternalTransaction/… counts every callee's transaction", transactions),
    ];
    checks.extend(common(totals));
    checks
}

fn no_spans(totals: &Totals) -> Finding {
    let counted = ["started", "recorded"].map(|what| totals.stats.value(&format!("newrelic.spans.{what}")));
    expect_equal(&(counted, totals.received.spans), &([0, 0], 0))
}
