//! Records as lines of the proxy's log.
//!
//! ```text
//! line = ( "span" | "transaction" ) " " OBJECT
//! ```
//! A span's object is the Trace API's, a transaction's the Event API's. A line is written as its record ends, so no
//! reservoir can rank it. What the minute's budget does not grant is dropped all the same: a worker claims a small
//! chunk of the process's budget when the last one is used up, and writes no line ahead of it. Chunks that are not used
//! up when the minute turns are the only lines that the next minute may hold beyond its own.

use alloc::vec::Vec;

use super::budget::LocalBudget;
use super::frame::{Room, SpanFormat, encode_transaction};
use super::ledger::{Kind, Ledger, Reason};
use super::limits::TooLarge;
use super::{BudgetRequest, Destination, makes_spans};
use crate::config::{Config, LogLevel, SpanLimit};
use crate::record::{SpanRecord, TransactionRecord};
use crate::stats::Stats;

/// Nanoseconds before a budget that was used up is asked again.
const PAUSE_NS: u64 = 1_000_000_000;
/// Chunks that a minute's budget is claimed in.
const CHUNKS_A_MINUTE: u32 = 120;

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
    pub fn new(config: &Config) -> Option<Self> {
        let level = config.exporters.log?.level;
        let span_limit = match config.span_events.max_samples_stored {
            SpanLimit::PerMinute(limit) => Some(limit),
            SpanLimit::Unlimited => None,
        };
        let transaction_limit = Some(config.transaction_events.max_samples_stored);
        let lane = |kind, limit: Option<u32>| Lane {
            ledger: Ledger::new(kind),
            credit: limit.map(|limit| Credit::new(kind, limit)),
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

    /// Whether a transaction would be dropped now, since there is no budget left for it.
    pub fn would_refuse_transaction(&self, now_ns: u64) -> bool {
        let credit = self.transactions.as_ref().and_then(|lane| lane.credit.as_ref());
        credit.is_some_and(|credit| credit.left == 0 && credit.request(now_ns).is_none())
    }

    /// Drops such a transaction unseen.
    pub fn refuse_transaction_unseen(&mut self, stats: &mut Stats) {
        if let Some(lane) = &mut self.transactions {
            lane.ledger.refused(Reason::Reservoir, stats);
        }
    }

    /// What to claim of the budget before a record of this kind is offered, when there is no credit left.
    pub fn budget_request(&self, kind: Kind, now_ns: u64) -> Option<BudgetRequest> {
        let mut lanes = self.spans.iter().chain(&self.transactions);
        lanes.find_map(|lane| lane.credit.as_ref().filter(|credit| credit.kind == kind)?.request(now_ns))
    }

    /// What the budget gave.
    pub fn grant(&mut self, request: &BudgetRequest, granted: Option<u32>, now_ns: u64) {
        let credits = self.lanes_mut().filter_map(|lane| lane.credit.as_mut());
        credits.filter(|credit| credit.kind == request.kind).for_each(|credit| credit.grant(request, granted, now_ns));
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
    paused_until_ns: u64,
    local: LocalBudget,
}

impl Credit {
    fn new(kind: Kind, per_minute: u32) -> Self {
        Self { kind, per_minute, left: 0, paused_until_ns: 0, local: LocalBudget::default() }
    }

    /// Whether one more line may be written.
    fn take(&mut self) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        true
    }

    fn request(&self, now_ns: u64) -> Option<BudgetRequest> {
        if self.left > 0 || now_ns < self.paused_until_ns {
            return None;
        }
        let records = (self.per_minute / CHUNKS_A_MINUTE).max(1);
        Some(BudgetRequest { exporter: Destination::Log, kind: self.kind, records, per_minute: self.per_minute })
    }

    fn grant(&mut self, request: &BudgetRequest, granted: Option<u32>, now_ns: u64) {
        self.left = granted.unwrap_or_else(|| self.local.claim(now_ns, self.per_minute, request.records));
        if self.left == 0 {
            self.paused_until_ns = now_ns.saturating_add(PAUSE_NS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    /// Lines written in each minute by workers that each try one line a millisecond.
    fn written(workers: usize, per_minute: u32, minutes: u64) -> Vec<u32> {
        let mut process = LocalBudget::default();
        let mut credits: Vec<_> = (0..workers).map(|_| Credit::new(Kind::Spans, per_minute)).collect();
        let mut lines = Vec::new();
        for minute in 0..minutes {
            let mut count = 0;
            for millisecond in 0..60_000 {
                let now_ns = (minute * 60_000 + millisecond) * SECOND_NS / 1000;
                for credit in &mut credits {
                    if let Some(request) = credit.request(now_ns) {
                        credit.grant(&request, Some(process.claim(now_ns, per_minute, request.records)), now_ns);
                    }
                    count += u32::from(credit.take());
                }
            }
            lines.push(count);
        }
        lines
    }

    #[test]
    fn workers_together_write_the_limit_in_every_minute() {
        for (workers, per_minute) in [(1, 2000), (4, 2000), (4, 10), (16, 1)] {
            let chunk = (per_minute / CHUNKS_A_MINUTE).max(1);
            for lines in written(workers, per_minute, 3) {
                let unused = u32::try_from(workers).unwrap() * (chunk - 1);
                let allowed = per_minute - unused..=per_minute + unused;
                assert!(allowed.contains(&lines), "{workers} workers, {per_minute} a minute: {lines}");
            }
        }
    }

    #[test]
    fn a_budget_that_is_used_up_is_asked_once_a_second() {
        let mut credit = Credit::new(Kind::Spans, 10);
        let request = credit.request(0).unwrap();
        credit.grant(&request, Some(0), 0);
        assert_eq!(credit.request(SECOND_NS - 1), None);
        assert_eq!(credit.request(SECOND_NS), Some(request));
    }
}
