//! What an exporter tells the operator: every drop with its number of records, but no line a hundred times.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::batch::Batch;
use super::ledger::{Kind, Reason};
use super::lines::Lines;
use super::response::Class;
use crate::config::LogLevel;

/// An answer that will not change by itself is logged so often, not every time: one hour in nanoseconds.
const ONCE_NS: u64 = 3_600_000_000_000;
/// Records that find no place are summed up so often: one minute in nanoseconds.
const SUM_NS: u64 = 60_000_000_000;
/// So many causes are told apart; beyond that the oldest is forgotten, and logged again when it returns.
const CAUSES_MAX: usize = 32;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The receiver's answer.
    Status(u16),
    /// It ended without one.
    Ended(Class),
    /// The receiver took the request, but not all of it.
    PartialSuccess,
    /// The proxy does not know the cluster.
    UnknownCluster,
}

impl core::fmt::Display for Cause {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Status(status) => write!(formatter, "the receiver answered {status}"),
            Self::Ended(Class::Timeout) => formatter.write_str("no answer in time"),
            Self::Ended(_) => formatter.write_str("the receiver cannot be reached"),
            Self::PartialSuccess => formatter.write_str("the receiver accepted only a part of the request"),
            Self::UnknownCluster => formatter.write_str("the proxy has no such cluster"),
        }
    }
}

/// A cause that is logged once in a while.
#[derive(Debug)]
struct Known {
    cause: Cause,
    logged_ns: u64,
    /// Records that it has cost since.
    since: usize,
}

/// What one exporter has logged, and what it has yet to log.
#[derive(Debug)]
pub struct Reports {
    exporter: &'static str,
    kind: Kind,
    cluster: Box<str>,
    known: Vec<Known>,
    queue_full: usize,
    too_large: usize,
    summed_up_ns: Option<u64>,
}

impl Reports {
    /// Nothing logged yet.
    pub fn new(exporter: &'static str, kind: Kind, cluster: &str) -> Self {
        Self {
            exporter,
            kind,
            cluster: cluster.into(),
            known: Vec::new(),
            queue_full: 0,
            too_large: 0,
            summed_up_ns: None,
        }
    }

    fn line(&self, lines: &mut Lines, level: LogLevel, records: usize, text: &str) {
        let noun = self.kind.noun(records);
        lines.push(level, format!("exporter {}: {records} {noun} {text}", self.exporter));
    }

    /// The receiver has a batch.
    pub fn accepted(&self, records: usize, lines: &mut Lines) {
        self.line(lines, LogLevel::Debug, records, "accepted");
    }

    /// A batch was dropped, for a cause that is logged once in a while.
    pub fn rejected(&mut self, cause: Cause, records: usize, now_ns: u64, lines: &mut Lines) {
        match self.once(cause, records, now_ns) {
            Some(0) => self.line(lines, LogLevel::Error, records, &format!("dropped: {cause}")),
            Some(since) => {
                let text = format!("dropped: {cause}; {since} more since this was last logged");
                self.line(lines, LogLevel::Error, records, &text);
            }
            None => {}
        }
    }

    /// Whether the cause is to be logged now, and how many records it has cost since it last was.
    fn once(&mut self, cause: Cause, records: usize, now_ns: u64) -> Option<usize> {
        if let Some(known) = self.known.iter_mut().find(|known| known.cause == cause) {
            if now_ns.saturating_sub(known.logged_ns) < ONCE_NS {
                known.since = known.since.saturating_add(records);
                return None;
            }
            known.logged_ns = now_ns;
            return Some(core::mem::take(&mut known.since));
        }
        if self.known.len() >= CAUSES_MAX {
            self.known.remove(0);
        }
        self.known.push(Known { cause, logged_ns: now_ns, since: 0 });
        Some(0)
    }

    /// A batch was dropped, for a cause that is logged each time.
    pub fn dropped(&self, cause: Cause, records: usize, lines: &mut Lines) {
        self.line(lines, LogLevel::Error, records, &format!("dropped: {cause}"));
    }

    /// A batch was dropped after its last retry.
    pub fn exhausted(&self, cause: Cause, records: usize, retries: u32, lines: &mut Lines) {
        self.line(lines, LogLevel::Error, records, &format!("dropped after {retries} retries: {cause}"));
    }

    /// A batch is sent again as two.
    pub fn split(&self, records: usize, lines: &mut Lines) {
        self.line(lines, LogLevel::Warn, records, "too large for the receiver, sent again in two halves");
    }

    /// A batch is sent again later.
    pub fn retry(&mut self, cause: Cause, batch: &Batch, pause_ns: u64, now_ns: u64, lines: &mut Lines) {
        if cause == Cause::UnknownCluster {
            return self.unknown_cluster(now_ns, lines);
        }
        let pause_ms = pause_ns / 1_000_000;
        let text = format!("sent again in {pause_ms} ms, retry {}: {cause}", batch.retries);
        self.line(lines, LogLevel::Warn, batch.len(), &text);
    }

    fn unknown_cluster(&mut self, now_ns: u64, lines: &mut Lines) {
        if self.once(Cause::UnknownCluster, 0, now_ns).is_some() {
            let text = format!("exporter {}: the proxy has no cluster \"{}\"", self.exporter, self.cluster);
            lines.push(LogLevel::Error, text);
        }
    }

    /// A record found no place.
    pub fn note_refused(&mut self, reason: Reason) {
        match reason {
            Reason::QueueBytes | Reason::QueueSize => self.queue_full += 1,
            Reason::TooLarge => self.too_large += 1,
            // Priority decides about these, as the operator's limits ask for: nothing is wrong.
            Reason::Reservoir | Reason::Rejected | Reason::RetriesExhausted | Reason::Shutdown => {}
        }
    }

    /// Sums up the records that found no place, once a minute.
    pub fn report_refused(&mut self, now_ns: u64, lines: &mut Lines) {
        if self.queue_full + self.too_large == 0
            || self.summed_up_ns.is_some_and(|summed_up| now_ns.saturating_sub(summed_up) < SUM_NS)
        {
            return;
        }
        self.summed_up_ns = Some(now_ns);
        self.sum_up(lines);
    }

    fn sum_up(&mut self, lines: &mut Lines) {
        for (records, text) in [
            (core::mem::take(&mut self.queue_full), "dropped: the queue is full"),
            (core::mem::take(&mut self.too_large), "dropped: too large for any request"),
        ] {
            if records > 0 {
                self.line(lines, LogLevel::Error, records, text);
            }
        }
    }

    /// The plugin goes away with so many records queued.
    pub fn abandoned(&mut self, records: usize, lines: &mut Lines) {
        self.sum_up(lines);
        if records > 0 {
            self.line(lines, LogLevel::Error, records, "dropped: still queued at shutdown");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &mut Lines) -> Vec<String> {
        lines.take().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn an_answer_that_stays_is_logged_once_an_hour_with_what_it_cost_meanwhile() {
        let mut reports = Reports::new("trace_api", Kind::Spans, "c");
        let mut lines = Lines::default();
        for (now_ns, records) in [(0, 3), (ONCE_NS - 1, 4), (ONCE_NS / 2, 5), (ONCE_NS, 1)] {
            reports.rejected(Cause::Status(403), records, now_ns, &mut lines);
        }
        reports.rejected(Cause::Status(400), 1, ONCE_NS, &mut lines);
        assert_eq!(
            texts(&mut lines),
            [
                "exporter trace_api: 3 spans dropped: the receiver answered 403",
                "exporter trace_api: 1 span dropped: the receiver answered 403; 9 more since this was last logged",
                "exporter trace_api: 1 span dropped: the receiver answered 400",
            ]
        );
    }

    #[test]
    fn records_that_find_no_place_are_summed_up_once_a_minute() {
        let mut reports = Reports::new("event_api", Kind::Transactions, "c");
        let mut lines = Lines::default();
        reports.note_refused(Reason::QueueBytes);
        reports.report_refused(0, &mut lines);
        reports.note_refused(Reason::QueueBytes);
        reports.note_refused(Reason::QueueBytes);
        reports.note_refused(Reason::TooLarge);
        reports.note_refused(Reason::Reservoir);
        reports.report_refused(SUM_NS - 1, &mut lines);
        reports.report_refused(SUM_NS, &mut lines);
        reports.report_refused(3 * SUM_NS, &mut lines);
        assert_eq!(
            texts(&mut lines),
            [
                "exporter event_api: 1 transaction dropped: the queue is full",
                "exporter event_api: 2 transactions dropped: the queue is full",
                "exporter event_api: 1 transaction dropped: too large for any request",
            ]
        );
    }

    #[test]
    fn ever_new_causes_do_not_grow_without_bound() {
        let mut reports = Reports::new("otlp", Kind::Spans, "c");
        let mut lines = Lines::default();
        for status in 400..500 {
            reports.rejected(Cause::Status(status), 1, 0, &mut lines);
        }
        assert_eq!(reports.known.len(), CAUSES_MAX);
    }
}
