//! One exporter's way from records to answered requests: collect, batch, try, retry, give up, and count all of it.
//!
//! A record waits in the reservoir, or in the open batch when there is none. A flush closes it into batches; a batch
//! waits for its time, is in flight until it is answered, and then is done, waits again, or is split.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::backoff::pause_ns;
use super::batch::{BATCH_RECORDS_MAX, Batch, RECORD_BYTES_MAX, RequestId};
use super::budget::LocalBudget;
use super::common::Common;
use super::frame::{Frame, Room, SpanFormat, encode_transaction};
use super::ledger::{Kind, Ledger, Reason};
use super::limits::TooLarge;
use super::lines::Lines;
use super::otlp::partial_success::rejected_spans;
use super::reports::{Cause, Reports};
use super::reservoir::{Offer, Reservoir};
use super::response::{Class, Response, Rules, Verdict};
use super::{BudgetRequest, Destination, Refusal};
use crate::config::HttpExporter;
use crate::newrelic::priority::Priority;
use crate::record::{Origin, SpanRecord, TransactionRecord};
use crate::stats::Stats;
use alloc::collections::VecDeque;

/// Requests of one exporter that wait for their answers at the same time, in one worker. The queue's bound in bytes
/// holds for them too; this one keeps a slow receiver from opening ever more connections.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 16;
/// Below so many records a reservoir is not cut, however short the flush interval.
pub const RESERVOIR_RECORDS_MIN: u32 = 100;
/// When the proxy has not answered a request so long after its timeout, it never will.
const ANSWER_GRACE_NS: u64 = 10_000_000_000;
const MILLISECOND_NS: u64 = 1_000_000;
const MINUTE_MS: u64 = 60_000;

/// Statistics and log lines, where everything that happens is told.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// Statistics.
    pub stats: &'a mut Stats,
    /// Log lines.
    pub lines: &'a mut Lines,
}

/// Where records wait before they are batched.
#[derive(Debug)]
pub enum Intake {
    /// In a reservoir, of which a flush sends as much as the minute's budget grants.
    Reservoir {
        /// The records.
        reservoir: Reservoir,
        /// Records a minute, for the whole process.
        per_minute: u32,
    },
    /// In the open batch, which goes out when it is full or at the flush interval.
    Stream {
        /// The batch that is being filled.
        open: Batch,
        /// Records that may wait altogether, when they are counted.
        queue_size: Option<usize>,
    },
}

impl Intake {
    /// A reservoir of the minute's size, cut to the flush interval.
    pub fn reservoir(per_minute: u32, flush_interval_ms: u32) -> Self {
        let share = u64::from(per_minute) * u64::from(flush_interval_ms) / MINUTE_MS;
        let share = u32::try_from(share).unwrap_or(u32::MAX).max(RESERVOIR_RECORDS_MIN).min(per_minute);
        Self::Reservoir { reservoir: Reservoir::new(usize::try_from(share).unwrap_or(usize::MAX)), per_minute }
    }

    /// No reservoir.
    pub fn stream(queue_size: Option<u32>) -> Self {
        let queue_size = queue_size.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        Self::Stream { open: Batch::default(), queue_size }
    }
}

/// What an exporter's records look like.
#[derive(Debug)]
pub struct Format {
    /// None for transactions, which have a single form.
    spans: Option<SpanFormat>,
    /// Whether spans come here that no sampler chose.
    takes_unsampled: bool,
    room: Room,
    frame: Frame,
}

impl Format {
    /// Spans.
    pub fn spans(format: SpanFormat, common: &Common, takes_unsampled: bool) -> Self {
        Self { spans: Some(format), takes_unsampled, room: format.room(common), frame: format.frame(common) }
    }

    /// Transactions.
    pub fn transactions(frame: Frame) -> Self {
        Self { spans: None, takes_unsampled: false, room: Room::ALONE, frame }
    }
}

/// Numbers a request while the host makes the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(u32);

/// A batch that was handed to the host.
#[derive(Debug)]
struct Flight {
    token: Token,
    /// The host's number of the call, once it is made.
    call_id: Option<u32>,
    sent_ns: u64,
    wire_bytes: usize,
    batch: Batch,
}

/// One exporter that posts to a receiver.
#[derive(Debug)]
pub struct Delivery {
    /// Which one.
    pub destination: Destination,
    /// Where to, how often, how long.
    pub config: HttpExporter,
    format: Format,
    rules: Rules,
    ledger: Ledger,
    intake: Intake,
    waiting: VecDeque<Batch>,
    flying: Vec<Flight>,
    reports: Reports,
    /// In use while the host keeps no shared data.
    local_budget: LocalBudget,
    next_token: u32,
    flush_due_ns: u64,
    /// The receiver asked for silence until then.
    silent_until_ns: u64,
    closing: bool,
    closed: bool,
}

impl Delivery {
    /// An exporter with nothing to do; the first flush comes one interval after `now_ns`.
    pub fn new(destination: Destination, config: &HttpExporter, format: Format, intake: Intake, now_ns: u64) -> Self {
        let rules = if destination == Destination::Otlp { Rules::Otlp } else { Rules::NewRelic };
        Self {
            destination,
            config: config.clone(),
            format,
            rules,
            ledger: Ledger::new(destination.kind()),
            intake,
            waiting: VecDeque::new(),
            flying: Vec::new(),
            reports: Reports::new(destination.as_str(), destination.kind(), &config.cluster),
            local_budget: LocalBudget::default(),
            next_token: 0,
            flush_due_ns: now_ns.saturating_add(interval_ns(config)),
            silent_until_ns: 0,
            closing: false,
            closed: false,
        }
    }

    /// What it carries.
    pub fn kind(&self) -> Kind {
        self.ledger.kind()
    }

    /// Records that wait or are in flight.
    pub fn queued_records(&self) -> usize {
        self.ledger.records()
    }

    /// Whether spans come here that no sampler chose.
    pub fn takes_unsampled(&self) -> bool {
        self.format.takes_unsampled
    }

    /// What stands around the records of a request.
    pub fn frame(&self) -> &Frame {
        &self.format.frame
    }

    /// Offers a span, if spans are what goes here. `scratch` is room to encode it.
    pub fn offer_span(&mut self, record: &SpanRecord<'_>, scratch: &mut Vec<u8>, out: &mut Outputs<'_>) {
        let Some(format) = self.format.spans.filter(|_| record.sampled || self.format.takes_unsampled) else { return };
        let room = self.format.room;
        let mut encode = |scratch: &mut Vec<u8>| format.encode(scratch, record, &room);
        self.offer((record.priority, record.origin), scratch, &mut encode, out);
    }

    /// Offers a transaction, if transactions are what goes here.
    pub fn offer_transaction(
        &mut self,
        record: &TransactionRecord<'_>,
        app_name: &str,
        scratch: &mut Vec<u8>,
        out: &mut Outputs<'_>,
    ) {
        if self.format.spans.is_some() {
            return;
        }
        let room = self.format.room;
        let mut encode = |scratch: &mut Vec<u8>| encode_transaction(scratch, record, app_name, &room);
        self.offer((record.priority, record.origin), scratch, &mut encode, out);
    }

    /// Whether a transaction of this rank would be dropped for lack of a place.
    pub fn would_refuse(&self, priority: Priority, origin: Origin) -> bool {
        match &self.intake {
            Intake::Reservoir { reservoir, .. } => {
                !self.closed
                    && self.ledger.bytes() + RECORD_BYTES_MAX <= self.bytes_max()
                    && reservoir.would_refuse(priority, origin)
            }
            Intake::Stream { .. } => false,
        }
    }

    /// Drops such a transaction unseen.
    pub fn refuse_unseen(&mut self, priority: Priority, origin: Origin, stats: &mut Stats) {
        if let Intake::Reservoir { reservoir, .. } = &mut self.intake
            && reservoir.refuses(priority, origin)
        {
            self.ledger.refused(Reason::Reservoir, stats);
        }
    }

    fn offer(
        &mut self,
        (priority, origin): (Priority, Origin),
        scratch: &mut Vec<u8>,
        encode: &mut dyn FnMut(&mut Vec<u8>) -> Result<(), TooLarge>,
        out: &mut Outputs<'_>,
    ) {
        scratch.clear();
        if self.closed {
            return self.ledger.refused(Reason::Shutdown, out.stats);
        }
        match &self.intake {
            Intake::Stream { queue_size, .. } if queue_size.is_some_and(|size| self.ledger.records() >= size) => {
                self.refuse(Reason::QueueSize, out);
            }
            Intake::Reservoir { .. } if self.ledger.bytes() + RECORD_BYTES_MAX <= self.bytes_max() => {
                self.offer_to_reservoir((priority, origin), scratch, encode, out);
            }
            Intake::Stream { .. } | Intake::Reservoir { .. } => match encode(scratch) {
                Err(TooLarge) => self.refuse(Reason::TooLarge, out),
                Ok(()) if self.ledger.bytes() + scratch.len() > self.bytes_max() => {
                    self.refuse(Reason::QueueBytes, out);
                }
                Ok(()) => self.store((priority, origin), scratch, out),
            },
        }
    }

    /// A record that finds no place is not even encoded: under load those are most.
    fn offer_to_reservoir(
        &mut self,
        (priority, origin): (Priority, Origin),
        scratch: &mut Vec<u8>,
        encode: &mut dyn FnMut(&mut Vec<u8>) -> Result<(), TooLarge>,
        out: &mut Outputs<'_>,
    ) {
        let Intake::Reservoir { reservoir, .. } = &mut self.intake else { return };
        let mut encoded_bytes = None;
        let offer = reservoir.offer_with(priority, origin, || match encode(scratch) {
            Ok(()) => {
                encoded_bytes = Some(scratch.len());
                scratch.as_slice().into()
            }
            // The place is given already. An empty record holds it, which nobody counts and nobody sends.
            Err(TooLarge) => Box::default(),
        });
        self.settle(offer, encoded_bytes, out);
    }

    fn store(&mut self, (priority, origin): (Priority, Origin), encoded: &[u8], out: &mut Outputs<'_>) {
        match &mut self.intake {
            Intake::Reservoir { reservoir, .. } => {
                let offer = reservoir.offer(priority, origin, encoded.into());
                self.settle(offer, Some(encoded.len()), out);
            }
            Intake::Stream { open, .. } => {
                if open.is_full_for(encoded.len(), self.format.frame.records_bytes_max()) {
                    self.waiting.push_back(open.take_full());
                }
                open.push(encoded);
                if open.len() >= BATCH_RECORDS_MAX {
                    self.waiting.push_back(open.take_full());
                }
                self.ledger.queued(encoded.len(), out.stats);
            }
        }
    }

    /// Books what a reservoir did.
    fn settle(&mut self, offer: Offer, encoded_bytes: Option<usize>, out: &mut Outputs<'_>) {
        if let Some(bytes) = offer.evicted.filter(|bytes| *bytes > 0) {
            self.ledger.dropped(Reason::Reservoir, 1, bytes, out.stats);
        }
        match encoded_bytes {
            _ if !offer.stored => self.ledger.refused(Reason::Reservoir, out.stats),
            Some(bytes) => self.ledger.queued(bytes, out.stats),
            None => self.refuse(Reason::TooLarge, out),
        }
    }

    fn refuse(&mut self, reason: Reason, out: &mut Outputs<'_>) {
        self.ledger.refused(reason, out.stats);
        self.reports.note_refused(reason);
    }

    fn bytes_max(&self) -> usize {
        usize::try_from(self.config.max_queue_bytes).unwrap_or(usize::MAX)
    }

    /// Begins a flush when it is time and a reservoir has something to send. Answer with [`Delivery::grant`].
    pub fn budget_request(&mut self, now_ns: u64) -> Option<BudgetRequest> {
        let Intake::Reservoir { reservoir, per_minute } = &self.intake else { return None };
        if now_ns < self.flush_due_ns {
            return None;
        }
        self.flush_due_ns = now_ns.saturating_add(interval_ns(&self.config));
        let records = u32::try_from(reservoir.len()).unwrap_or(u32::MAX);
        let (exporter, kind, per_minute) = (self.destination, self.kind(), *per_minute);
        (records > 0).then_some(BudgetRequest { exporter, kind, records, per_minute })
    }

    /// Empties the reservoir: the best `granted` records go into batches, the others are dropped. `None` when only
    /// this worker's own budget can tell.
    pub fn grant(&mut self, granted: Option<u32>, now_ns: u64, out: &mut Outputs<'_>) {
        let Intake::Reservoir { reservoir, per_minute } = &mut self.intake else { return };
        let wanted = u32::try_from(reservoir.len()).unwrap_or(u32::MAX);
        let granted = granted.unwrap_or_else(|| self.local_budget.claim(now_ns, *per_minute, wanted));
        let granted = usize::try_from(granted).unwrap_or(usize::MAX);
        let bytes_max = self.format.frame.records_bytes_max();
        let mut open = Batch::default();
        for (position, record) in reservoir.harvest().iter().filter(|record| !record.is_empty()).enumerate() {
            if position >= granted {
                self.ledger.dropped(Reason::Reservoir, 1, record.len(), out.stats);
                continue;
            }
            if open.is_full_for(record.len(), bytes_max) {
                self.waiting.push_back(core::mem::take(&mut open));
            }
            open.push(record);
        }
        if !open.is_empty() {
            self.waiting.push_back(open);
        }
    }

    /// Closes the open batch when it is time, gives up waiting for answers that never come, and reports what did
    /// not get in.
    pub fn advance(&mut self, now_ns: u64, out: &mut Outputs<'_>) {
        self.reports.report_refused(now_ns, out.lines);
        if let Intake::Stream { open, .. } = &mut self.intake
            && now_ns >= self.flush_due_ns
        {
            self.flush_due_ns = now_ns.saturating_add(interval_ns(&self.config));
            if !open.is_empty() {
                self.waiting.push_back(core::mem::take(open));
            }
        }
        while let Some(flight) = self.take_overdue(now_ns) {
            self.conclude(flight, &Response::default(), now_ns, out);
        }
    }

    fn take_overdue(&mut self, now_ns: u64) -> Option<Flight> {
        let index = self.flying.iter().position(|flight| self.overdue_ns(flight) <= now_ns)?;
        Some(self.flying.swap_remove(index))
    }

    fn overdue_ns(&self, flight: &Flight) -> u64 {
        match self.config.timeout_ms {
            0 => u64::MAX,
            timeout_ms => flight.sent_ns.saturating_add(u64::from(timeout_ms) * MILLISECOND_NS + ANSWER_GRACE_NS),
        }
    }

    /// Whether a batch could be put in flight now.
    pub fn has_due_batch(&self, now_ns: u64) -> bool {
        self.due_batch(now_ns).is_some()
    }

    fn due_batch(&self, now_ns: u64) -> Option<usize> {
        if now_ns < self.silent_until_ns || !self.has_free_flight() {
            return None;
        }
        self.waiting.iter().position(|batch| batch.due_ns <= now_ns)
    }

    /// Puts the next batch whose time has come in flight.
    pub fn take_off(&mut self, now_ns: u64, random: u128) -> Option<Token> {
        let index = self.due_batch(now_ns)?;
        let mut batch = self.waiting.remove(index)?;
        batch.request_id.get_or_insert_with(|| RequestId::from_random(random));
        batch.chance = (random & u128::from(u32::MAX)).try_into().unwrap_or(0);
        let token = Token(self.next_token);
        self.next_token = self.next_token.wrapping_add(1);
        self.flying.push(Flight { token, call_id: None, sent_ns: now_ns, wire_bytes: 0, batch });
        Some(token)
    }

    fn has_free_flight(&self) -> bool {
        self.closing || self.flying.len() < REQUESTS_IN_FLIGHT_MAX
    }

    /// The records in flight under this number.
    pub fn records(&self, token: Token) -> &[u8] {
        self.batch(token).map_or(&[], |batch| &batch.records)
    }

    /// `x-request-id` of the batch in flight under this number.
    pub fn request_id(&self, token: Token) -> &[u8] {
        self.batch(token).and_then(|batch| batch.request_id.as_ref()).map_or(&[], RequestId::as_bytes)
    }

    fn batch(&self, token: Token) -> Option<&Batch> {
        self.flying.iter().find(|flight| flight.token == token).map(|flight| &flight.batch)
    }

    /// Notes how large the request is as sent.
    pub fn note_wire_bytes(&mut self, token: Token, bytes: usize) {
        if let Some(flight) = self.flying.iter_mut().find(|flight| flight.token == token) {
            flight.wire_bytes = bytes;
        }
    }

    /// The host made the call, and will answer under `call_id`.
    pub fn sent(&mut self, token: Token, call_id: u32, out: &mut Outputs<'_>) {
        let Some(flight) = self.flying.iter_mut().find(|flight| flight.token == token) else { return };
        flight.call_id = Some(call_id);
        out.stats.add_named(&self.destination.statistic("bytes", ""), flight.wire_bytes as u64);
    }

    /// The host did not make the call: there will be no answer.
    pub fn refused(&mut self, token: Token, refusal: Refusal, now_ns: u64, out: &mut Outputs<'_>) {
        let Some(index) = self.flying.iter().position(|flight| flight.token == token) else { return };
        let flight = self.flying.swap_remove(index);
        self.count_request(Class::Unreachable, out);
        let cause = match refusal {
            Refusal::UnknownCluster => Cause::UnknownCluster,
            Refusal::Failed => Cause::Ended(Class::Unreachable),
        };
        self.retry(flight.batch, cause, None, now_ns, out);
    }

    /// The host has an answer. `false` when it is not for a request of this exporter.
    pub fn answered(&mut self, call_id: u32, response: &Response<'_>, now_ns: u64, out: &mut Outputs<'_>) -> bool {
        let Some(index) = self.flying.iter().position(|flight| flight.call_id == Some(call_id)) else { return false };
        let flight = self.flying.swap_remove(index);
        if Class::of(response) != Class::Unreachable {
            let latency_ms = now_ns.saturating_sub(flight.sent_ns) / MILLISECOND_NS;
            out.stats.observe(&self.destination.statistic("latency_ms", ""), latency_ms);
        }
        self.conclude(flight, response, now_ns, out);
        true
    }

    fn conclude(&mut self, flight: Flight, response: &Response<'_>, now_ns: u64, out: &mut Outputs<'_>) {
        let class = Class::of(response);
        self.count_request(class, out);
        let cause = match (class, response.status) {
            (Class::Timeout | Class::Unreachable, _) | (_, None) => Cause::Ended(class),
            (_, Some(status)) => Cause::Status(status),
        };
        let batch = flight.batch;
        match self.rules.judge(response) {
            Verdict::Accepted => self.accepted(&batch, response.body, now_ns, out),
            Verdict::Rejected => {
                self.reports.rejected(cause, batch.len(), now_ns, out.lines);
                self.ledger.dropped(Reason::Rejected, batch.len(), batch.records.len(), out.stats);
            }
            Verdict::Split => self.split(batch, now_ns, out),
            Verdict::Retry(wait_ns) => self.retry(batch, cause, wait_ns, now_ns, out),
        }
    }

    /// The receiver has the batch; an OTLP receiver may have rejected some of its spans, without saying which.
    fn accepted(&mut self, batch: &Batch, body: &[u8], now_ns: u64, out: &mut Outputs<'_>) {
        let rejected = match self.format.spans {
            Some(SpanFormat::Otlp(encoding)) => rejected_spans(encoding, body).min(batch.len()),
            Some(SpanFormat::TraceApi) | None => 0,
        };
        if rejected > 0 {
            self.reports.rejected(Cause::PartialSuccess, rejected, now_ns, out.lines);
            self.ledger.dropped(Reason::Rejected, rejected, 0, out.stats);
        }
        self.reports.accepted(batch.len() - rejected, out.lines);
        self.ledger.exported(batch.len() - rejected, batch.records.len(), out.stats);
    }

    fn count_request(&self, class: Class, out: &mut Outputs<'_>) {
        out.stats.add_named(&self.destination.statistic("requests", class.as_str()), 1);
    }

    fn split(&mut self, mut batch: Batch, now_ns: u64, out: &mut Outputs<'_>) {
        let Some(mut behind) = batch.split() else {
            self.reports.dropped(Cause::Status(413), batch.len(), out.lines);
            return self.ledger.dropped(Reason::TooLarge, batch.len(), batch.records.len(), out.stats);
        };
        self.reports.split(batch.len() + behind.len(), out.lines);
        batch.due_ns = now_ns;
        behind.due_ns = now_ns;
        self.waiting.push_back(batch);
        self.waiting.push_back(behind);
    }

    fn retry(&mut self, mut batch: Batch, cause: Cause, wait_ns: Option<u64>, now_ns: u64, out: &mut Outputs<'_>) {
        if batch.retries >= self.config.retry.attempts {
            self.reports.exhausted(cause, batch.len(), batch.retries, out.lines);
            return self.ledger.dropped(Reason::RetriesExhausted, batch.len(), batch.records.len(), out.stats);
        }
        let pause = wait_ns.unwrap_or_else(|| pause_ns(&self.config.retry, batch.retries, batch.chance));
        batch.due_ns = now_ns.saturating_add(pause);
        batch.retries += 1;
        if wait_ns.is_some() {
            // A rate limit is the account's, not the batch's: nothing else goes out before either.
            self.silent_until_ns = self.silent_until_ns.max(batch.due_ns);
        }
        self.reports.retry(cause, &batch, pause, now_ns, out.lines);
        self.waiting.push_back(batch);
    }

    /// When something is to be done next; `None` while nothing is queued.
    pub fn next_wakeup_ns(&self) -> Option<u64> {
        let collected = match &self.intake {
            Intake::Reservoir { reservoir, .. } => !reservoir.is_empty(),
            Intake::Stream { open, .. } => !open.is_empty(),
        };
        let flush = collected.then_some(self.flush_due_ns);
        let due = self.waiting.iter().map(|batch| batch.due_ns.max(self.silent_until_ns)).min();
        let due = due.filter(|_| self.has_free_flight());
        let overdue = self.flying.iter().map(|flight| self.overdue_ns(flight)).min();
        flush.into_iter().chain(due).chain(overdue).min()
    }

    /// Makes everything due at once, for the last flush: neither pauses nor the bound on requests in flight hold it
    /// back.
    pub fn close(&mut self) {
        self.closing = true;
        self.flush_due_ns = 0;
        self.silent_until_ns = 0;
        for batch in &mut self.waiting {
            batch.due_ns = 0;
        }
    }

    /// Drops what is left, requests without an answer included, and takes nothing more.
    pub fn abandon(&mut self, out: &mut Outputs<'_>) {
        self.closed = true;
        let (records, bytes) = (self.ledger.records(), self.ledger.bytes());
        self.waiting.clear();
        self.flying.clear();
        self.intake = Intake::stream(None);
        self.reports.abandoned(records, out.lines);
        self.ledger.dropped(Reason::Shutdown, records, bytes, out.stats);
    }
}

fn interval_ns(config: &HttpExporter) -> u64 {
    u64::from(config.flush_interval_ms) * MILLISECOND_NS
}
