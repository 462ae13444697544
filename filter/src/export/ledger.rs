//! The books of one exporter: what was recorded is exported, dropped or still queued, at every moment.

use crate::stats::{Counter, Gauge, Stats};

/// What an exporter carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Spans.
    Spans,
    /// Transactions.
    Transactions,
}

impl Kind {
    /// The word for so many, for log lines.
    pub fn noun(self, count: usize) -> &'static str {
        match (self, count) {
            (Self::Spans, 1) => "span",
            (Self::Spans, _) => "spans",
            (Self::Transactions, 1) => "transaction",
            (Self::Transactions, _) => "transactions",
        }
    }

    fn recorded(self) -> Counter {
        match self {
            Self::Spans => Counter::SpansRecorded,
            Self::Transactions => Counter::TransactionsRecorded,
        }
    }

    fn exported(self) -> Counter {
        match self {
            Self::Spans => Counter::SpansExported,
            Self::Transactions => Counter::TransactionsExported,
        }
    }

    fn gauge(self) -> Gauge {
        match self {
            Self::Spans => Gauge::QueueSpans,
            Self::Transactions => Gauge::QueueTransactions,
        }
    }
}

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Records of higher priority filled the reservoir, or the minute's budget is spent.
    Reservoir,
    /// The queue has reached its bound in bytes.
    QueueBytes,
    /// The queue has reached its bound in spans.
    QueueSize,
    /// The receiver refused it for good.
    Rejected,
    /// No request can carry it.
    TooLarge,
    /// The last retry failed.
    RetriesExhausted,
    /// The plugin went away.
    Shutdown,
}

impl Reason {
    fn counter(self, kind: Kind) -> Counter {
        match (self, kind) {
            (Self::Reservoir, Kind::Spans) => Counter::SpansDroppedReservoir,
            (Self::QueueBytes, Kind::Spans) => Counter::SpansDroppedQueueBytes,
            (Self::QueueSize, Kind::Spans) => Counter::SpansDroppedQueueSize,
            (Self::Rejected, Kind::Spans) => Counter::SpansDroppedRejected,
            (Self::TooLarge, Kind::Spans) => Counter::SpansDroppedTooLarge,
            (Self::RetriesExhausted, Kind::Spans) => Counter::SpansDroppedRetriesExhausted,
            (Self::Shutdown, Kind::Spans) => Counter::SpansDroppedShutdown,
            (Self::Reservoir, Kind::Transactions) => Counter::TransactionsDroppedReservoir,
            // Only the trace observer's queue is bounded in records, and it takes spans alone.
            (Self::QueueBytes | Self::QueueSize, Kind::Transactions) => Counter::TransactionsDroppedQueueBytes,
            (Self::Rejected, Kind::Transactions) => Counter::TransactionsDroppedRejected,
            (Self::TooLarge, Kind::Transactions) => Counter::TransactionsDroppedTooLarge,
            (Self::RetriesExhausted, Kind::Transactions) => Counter::TransactionsDroppedRetriesExhausted,
            (Self::Shutdown, Kind::Transactions) => Counter::TransactionsDroppedShutdown,
        }
    }
}

/// Books and statistics in step.
#[derive(Debug)]
pub struct Ledger {
    kind: Kind,
    records: usize,
    bytes: usize,
}

impl Ledger {
    /// Nothing recorded yet.
    pub fn new(kind: Kind) -> Self {
        Self { kind, records: 0, bytes: 0 }
    }

    /// What the exporter carries.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Records that wait or are in flight.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Their encoded bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A record was offered and waits now.
    pub fn queued(&mut self, bytes: usize, stats: &mut Stats) {
        stats.count(self.kind.recorded());
        self.records += 1;
        self.bytes += bytes;
        stats.change(self.kind.gauge(), 1);
        stats.change(Gauge::QueueBytes, signed(bytes));
    }

    /// A record was offered and dropped at once.
    pub fn refused(&mut self, reason: Reason, stats: &mut Stats) {
        stats.count(self.kind.recorded());
        stats.count(reason.counter(self.kind));
    }

    /// Queued records were accepted by the receiver.
    pub fn exported(&mut self, records: usize, bytes: usize, stats: &mut Stats) {
        self.leave(records, bytes, stats);
        stats.add(self.kind.exported(), records as u64);
    }

    /// Queued records were dropped.
    pub fn dropped(&mut self, reason: Reason, records: usize, bytes: usize, stats: &mut Stats) {
        self.leave(records, bytes, stats);
        stats.add(reason.counter(self.kind), records as u64);
    }

    fn leave(&mut self, records: usize, bytes: usize, stats: &mut Stats) {
        self.records = self.records.saturating_sub(records);
        self.bytes = self.bytes.saturating_sub(bytes);
        stats.change(self.kind.gauge(), -signed(records));
        stats.change(Gauge::QueueBytes, -signed(bytes));
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
