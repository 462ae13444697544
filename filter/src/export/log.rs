//! Records as lines of the proxy's log.
//!
//! ```text
//! line = ( "span" | "transaction" ) " " OBJECT
//! ```
//! A span's object is the Trace API's, a transaction's the Event API's. A line is written as its record ends, so no
//! reservoir can rank it. What the minute's budget does not grant is dropped all the same: a worker writes ahead of
//! the process's budget, up to what a reservoir of the default flush interval holds, and pays within a second.

use super::budget::LocalBudget;
use super::delivery::RESERVOIR_RECORDS_MIN;
use super::frame::{Room, SpanFormat, encode_transaction};
use super::ledger::{Kind, Ledger, Reason};
use super::limits::TooLarge;
use super::{BudgetRequest, Destination, makes_spans};
use crate::config::{Config, LogLevel, SpanLimit};
use crate::record::{SpanRecord, TransactionRecord};
use crate::stats::Stats;

/// Nanoseconds between two claims on the budget.
const CLAIM_INTERVAL_NS: u64 = 1_000_000_000;
/// Flushes in a minute at the default flush interval.
const FLUSHES_A_MINUTE: u32 = 12;

/// A record as a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLine<'a> {
    /// The level to log it at.
    pub level: LogLevel,
    /// UTF-8, without a line break.
    pub text: &'a [u8],
}

/// The log exporter.
#[derive(Debug)]
pub struct LogExporter {
    level: LogLevel,
    spans: Option<Lane>,
    transactions: Option<Lane>,
}

impl LogExporter {
    /// The exporter that a configuration asks for.
    pub fn new(config: &Config, now_ns: u64) -> Option<Self> {
        let level = config.exporters.log?.level;
        let span_limit = match config.span_events.max_samples_stored {
            SpanLimit::PerMinute(limit) => Some(limit),
            SpanLimit::Unlimited => None,
        };
        let transaction_limit = Some(config.transaction_events.max_samples_stored);
        let lane = |kind, limit: Option<u32>| Lane {
            ledger: Ledger::new(kind),
            credit: limit.map(|limit| Credit::new(kind, limit, now_ns)),
        };
        Some(Self {
            level,
            spans: makes_spans(config).then(|| lane(Kind::Spans, span_limit)),
            transactions: config.transaction_events.enabled.then(|| lane(Kind::Transactions, transaction_limit)),
        })
    }

    /// Whether spans are logged.
    pub fn takes_spans(&self) -> bool {
        self.spans.is_some()
    }

    /// Whether transactions are logged.
    pub fn takes_transactions(&self) -> bool {
        self.transactions.is_some()
    }

    /// The line of a span, in `line`.
    pub fn span<'a>(
        &mut self,
        record: &SpanRecord<'_>,
        line: &'a mut Vec<u8>,
        stats: &mut Stats,
    ) -> Option<RecordLine<'a>> {
        let write = |line: &mut Vec<u8>| SpanFormat::TraceApi.encode(line, record, &Room::ALONE);
        let text = self.spans.as_mut()?.write(b"span ", line, stats, write)?;
        Some(RecordLine { level: self.level, text })
    }

    /// The line of a transaction, in `line`.
    pub fn transaction<'a>(
        &mut self,
        record: &TransactionRecord<'_>,
        app_name: &str,
        line: &'a mut Vec<u8>,
        stats: &mut Stats,
    ) -> Option<RecordLine<'a>> {
        let write = |line: &mut Vec<u8>| encode_transaction(line, record, app_name, &Room::ALONE);
        let text = self.transactions.as_mut()?.write(b"transaction ", line, stats, write)?;
        Some(RecordLine { level: self.level, text })
    }

    /// What to claim of the budget, when it is time.
    pub fn budget_request(&mut self, now_ns: u64) -> Option<BudgetRequest> {
        self.lanes_mut().find_map(|lane| lane.credit.as_mut()?.request(now_ns))
    }

    /// What the budget gave.
    pub fn grant(&mut self, kind: Kind, granted: Option<u32>, now_ns: u64) {
        let credits = self.lanes_mut().filter_map(|lane| lane.credit.as_mut());
        credits.filter(|credit| credit.kind == kind).for_each(|credit| credit.grant(granted, now_ns));
    }

    /// When to claim next.
    pub fn next_wakeup_ns(&self) -> Option<u64> {
        let lanes = self.spans.iter().chain(&self.transactions);
        lanes.filter_map(|lane| lane.credit.as_ref()?.next_wakeup_ns()).min()
    }

    fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.spans.iter_mut().chain(&mut self.transactions)
    }
}

/// One kind of record.
#[derive(Debug)]
struct Lane {
    ledger: Ledger,
    /// None when there is no limit.
    credit: Option<Credit>,
}

impl Lane {
    fn write<'a>(
        &mut self,
        word: &[u8],
        line: &'a mut Vec<u8>,
        stats: &mut Stats,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLarge>,
    ) -> Option<&'a [u8]> {
        if !self.credit.as_mut().is_none_or(Credit::take) {
            self.ledger.refused(Reason::Reservoir, stats);
            return None;
        }
        line.clear();
        line.extend_from_slice(word);
        if write(line).is_err() {
            self.ledger.refused(Reason::TooLarge, stats);
            return None;
        }
        self.ledger.queued(line.len(), stats);
        self.ledger.exported(1, line.len(), stats);
        // Behind the object stands the separator of a list.
        line.split_last().map(|(_, text)| text)
    }
}

/// What a worker may write before it asks the process's budget again.
#[derive(Debug)]
struct Credit {
    kind: Kind,
    per_minute: u32,
    left: u32,
    owed: u32,
    claim_due_ns: u64,
    local: LocalBudget,
}

impl Credit {
    /// A full credit.
    fn new(kind: Kind, per_minute: u32, now_ns: u64) -> Self {
        Self {
            kind,
            per_minute,
            left: Self::full(per_minute),
            owed: 0,
            claim_due_ns: now_ns.saturating_add(CLAIM_INTERVAL_NS),
            local: LocalBudget::default(),
        }
    }

    fn full(per_minute: u32) -> u32 {
        (per_minute / FLUSHES_A_MINUTE).max(RESERVOIR_RECORDS_MIN).min(per_minute)
    }

    /// Whether one more line may be written.
    fn take(&mut self) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        self.owed += 1;
        true
    }

    /// What was written; or a single line when nothing may be, to see whether the minute has turned.
    fn claim(&self) -> Option<u32> {
        (self.owed > 0 || self.left == 0).then_some(self.owed.max(1))
    }

    fn request(&mut self, now_ns: u64) -> Option<BudgetRequest> {
        let records = self.claim().filter(|_| now_ns >= self.claim_due_ns)?;
        self.claim_due_ns = now_ns.saturating_add(CLAIM_INTERVAL_NS);
        Some(BudgetRequest { exporter: Destination::Log, kind: self.kind, records, per_minute: self.per_minute })
    }

    /// Fills the credit up, or ends it when the budget did not give all.
    fn grant(&mut self, granted: Option<u32>, now_ns: u64) {
        let Some(claimed) = self.claim() else { return };
        let granted = granted.unwrap_or_else(|| self.local.claim(now_ns, self.per_minute, claimed));
        self.left = if granted < claimed { 0 } else { Self::full(self.per_minute) };
        self.owed = 0;
    }

    fn next_wakeup_ns(&self) -> Option<u64> {
        self.claim().map(|_| self.claim_due_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    /// Lines written in each minute by workers that each try one line a millisecond.
    fn written(workers: usize, per_minute: u32, minutes: u64) -> Vec<u32> {
        let mut process = LocalBudget::default();
        let mut credits: Vec<_> = (0..workers).map(|_| Credit::new(Kind::Spans, per_minute, 0)).collect();
        let mut lines = Vec::new();
        for minute in 0..minutes {
            let mut count = 0;
            for millisecond in 0..60_000 {
                let now_ns = (minute * 60_000 + millisecond) * SECOND_NS / 1000;
                for credit in &mut credits {
                    count += u32::from(credit.take());
                    if let Some(request) = credit.request(now_ns) {
                        credit.grant(Some(process.claim(now_ns, per_minute, request.records)), now_ns);
                    }
                }
            }
            lines.push(count);
        }
        lines
    }

    #[test]
    fn a_worker_alone_writes_about_the_limit_in_every_minute() {
        for lines in written(1, 2000, 4) {
            assert!((1500..=2000 + 166).contains(&lines), "{lines}");
        }
    }

    #[test]
    fn workers_together_exceed_the_limit_only_by_what_each_may_write_ahead() {
        for lines in written(4, 2000, 4) {
            assert!((1500..=2000 + 4 * 166).contains(&lines), "{lines}");
        }
    }

    #[test]
    fn a_limit_below_the_least_reservoir_holds() {
        for lines in written(1, 10, 3) {
            assert!(lines <= 20, "{lines}");
        }
    }
}
