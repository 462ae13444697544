//! Tracing over carriers that are not HTTP: for integrators of custom protocols, on plain bytes, without a proxy.
//!
//! A message of such a protocol has room for pairs of names and values: a [`Carrier`]. Each exchange has two sides
//! and two messages, so there are four steps; distributed tracing takes the first two of them:
//!
//! | Side | Message | Step |
//! |---|---|---|
//! | caller | request | `inject_request` makes its metadata |
//! | callee | request | `extract_request` processes it |
//! | callee | response | `inject_response` makes its metadata |
//! | caller | response | `extract_response` processes it |
//!
//! Both sides of a call need the same mechanism; nothing translates between the two. `examples/tcp_messages` carries a
//! trace over a TCP protocol with either.
//!
//! # Distributed tracing
//!
//! [`DistributedTracing`] reads and writes `traceparent`, `tracestate` and `newrelic`, in the forms that they have in
//! HTTP. Time and random bytes come from the integrator, so that a test may repeat everything.
//!
//! ```
//! use newrelic_tracing::carrier::{DistributedTracing, Extracted, Inputs, Transaction};
//! use newrelic_tracing::config;
//! use newrelic_tracing::id::ParentId;
//! use newrelic_tracing::random::RandomPool;
//! use newrelic_tracing::stats::Stats;
//!
//! // The same keys as the plugin configuration.
//! let application = |json: &str| {
//!     let config = config::parse(json.as_bytes(), &|_| None).unwrap();
//!     DistributedTracing::new(&config).unwrap()
//! };
//! let mut storefront =
//!     application(r#"{"account_id": "4002", "trusted_account_key": "777", "primary_application_id": "55"}"#);
//! let mut inventory =
//!     application(r#"{"account_id": "4001", "trusted_account_key": "777", "primary_application_id": "90210"}"#);
//!
//! // A program fills the pool with random bytes of its system before this, and whenever it `needs_refill`.
//! let (mut random, mut stats) = (RandomPool::new(1), Stats::default());
//!
//! // The caller begins a trace and sends a request from one of its spans.
//! let mut calling = Transaction::new(random.span_id(), random.trace_id());
//! let span_id = random.span_id();
//! let mut request: Vec<(String, Vec<u8>)> = Vec::new();
//! let inputs = Inputs { now_ns: 1_750_000_000_123_000_000, random: &mut random, stats: &mut stats };
//! storefront.inject_request(&mut calling, span_id, &mut request, inputs);
//!
//! // The callee continues it.
//! let mut called = Transaction::new(random.span_id(), random.trace_id());
//! assert_eq!(inventory.extract_request(&mut called, &request, &mut stats), Extracted::Parent);
//! let parent = inventory.parent(&called).unwrap();
//! assert_eq!(called.trace(), calling.trace());
//! assert_eq!(parent.parent_id, Some(ParentId::Span(span_id)));
//! assert_eq!(parent.caller.unwrap().transaction_id.as_deref(), Some(&calling.guid().to_hex()[..]));
//! let inputs = Inputs { now_ns: 1_750_000_000_125_000_000, random: &mut random, stats: &mut stats };
//! let decision = inventory.sample(&mut called, inputs);
//! assert_eq!(Some(decision.sampled), calling.decision().map(|decision| decision.sampled));
//! ```
//!
//! # Cross Application Tracing
//!
//! [`CrossApplication`] has the names that New Relic's agents use on message queues: `NewRelicID`,
//! `NewRelicTransaction` and `NewRelicAppData`. Values are base64 text.
//!
//! ```
//! use newrelic_tracing::carrier::CrossApplication;
//! use newrelic_tracing::id::TransactionId;
//! use newrelic_tracing::newrelic::cat::{Answer, Settings, Trip};
//!
//! type Message = Vec<(String, Vec<u8>)>;
//! let accounts = ["4001".into(), "4002".into()];
//! let caller = Settings::new("4002#55", b"f00dcafe1234", &accounts, "storefront").unwrap();
//! let callee = Settings::new("4001#90210", b"f00dcafe1234", &accounts, "inventory").unwrap();
//!
//! // The caller begins a trip and sends a request.
//! let guid = TransactionId::from_u64(0x9f8e_7d6c_5b4a_3921).unwrap();
//! let mut trip = Trip::accept(guid, None, None, &caller);
//! let mut request = Message::new();
//! CrossApplication::new(&caller).inject_request(&mut trip, b"OtherTransaction/Custom/checkout", &mut request);
//!
//! // The callee continues it and answers.
//! let guid = TransactionId::from_u64(0x1122_3344_5566_7788).unwrap();
//! let mut continued = CrossApplication::new(&callee).extract_request(guid, &request);
//! let mut response = Message::new();
//! let answer = Answer {
//!     transaction_name: b"OtherTransaction/Custom/stock",
//!     queue_time_ns: 0,
//!     response_time_ns: 250_000_000,
//!     request_content_length: None,
//! };
//! assert!(CrossApplication::new(&callee).inject_response(&mut continued, &answer, &mut response));
//! let recorded = continued.finish(&callee, b"OtherTransaction/Custom/stock");
//! assert_eq!(recorded.trip.unwrap().trip_id, "9f8e7d6c5b4a3921");
//!
//! // The caller learns who answered.
//! let answered = CrossApplication::new(&caller).extract_response(&response).unwrap().unwrap();
//! assert_eq!(answered.cross_process_id.as_str(), "4001#90210");
//! ```

use alloc::vec::Vec;

use crate::config::Config;
use crate::headers::{HeaderEdit, RequestHeaders, serialize_pairs};
use crate::id::{SpanId, TraceId, TraceIdentity, TransactionId};
use crate::newrelic::cat::{
    Answer, AppData, AppDataError, NEWRELIC_APP_DATA, NEWRELIC_ID, NEWRELIC_TRANSACTION, Settings, Trip, read_app_data,
};
use crate::propagation::{self, Inbound, Outbound, Parent, Propagator, Refusal, Sequence};
use crate::random::RandomPool;
use crate::sampler::{Decision, Inbound as SamplerInput, Samplers, Verdict};
use crate::stats::{Counter, Stats};

/// Distributed tracing: trace, calling span and flags, of W3C Trace Context.
pub const TRACEPARENT: &str = "traceparent";
/// Distributed tracing: what each vendor says of the trace, of W3C Trace Context.
pub const TRACESTATE: &str = "tracestate";
/// Distributed tracing: the payload of New Relic, for agents that do not know W3C's names.
pub const NEWRELIC: &str = "newrelic";

/// Bytes that are read of a [`TRACEPARENT`] or [`NEWRELIC`] value: more than either may have.
pub const VALUE_BYTES_MAX: usize = 16 << 10;
/// Bytes that are read of all [`TRACESTATE`] values together: nearly twice what 32 members of the largest size need.
/// Values beyond it are left out whole, so that no member is cut.
pub const TRACESTATE_BYTES_MAX: usize = 32 << 10;

/// Nanoseconds in a millisecond.
const MILLI: u64 = 1_000_000;

/// The metadata of one message: names and values. Names are ASCII; an implementation may compare them with or
/// without regard to case, as its protocol does.
pub trait Carrier {
    /// Every value under a name, in order of appearance.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;

    /// Makes this the only value under a name.
    fn set(&mut self, name: &str, value: Vec<u8>);

    /// Takes away every value under a name.
    fn unset(&mut self, name: &str);
}

/// Pairs of names and values, such as `(String, Vec<u8>)` or `(Vec<u8>, Vec<u8>)`; names without regard to case,
/// because many protocols lower them on the way.
impl<N: AsRef<[u8]> + for<'a> From<&'a str>> Carrier for Vec<(N, Vec<u8>)> {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(found, _)| is_name(found, name)).map(|(_, value)| value.as_slice())
    }

    fn set(&mut self, name: &str, value: Vec<u8>) {
        self.unset(name);
        self.push((name.into(), value));
    }

    fn unset(&mut self, name: &str) {
        self.retain(|(found, _)| !is_name(found, name));
    }
}

fn is_name(found: &impl AsRef<[u8]>, name: &str) -> bool {
    found.as_ref().eq_ignore_ascii_case(name.as_bytes())
}

/// Distributed tracing over any carrier, as one application with one sampler.
///
/// The adaptive sampler's target holds for one of these: threads that share a target share the value.
#[derive(Debug)]
pub struct DistributedTracing {
    propagator: Propagator,
    samplers: Samplers,
}

/// What a step takes from the program around it.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// Now, Unix nanoseconds.
    pub now_ns: u64,
    /// For the sampler's draws and priorities: at most 20 bytes for each transaction.
    pub random: &'a mut RandomPool,
    /// Counts decisions and what was written, under the names of New Relic's agents.
    pub stats: &'a mut Stats,
}

/// What processing a request's metadata came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extracted {
    /// The transaction continues the caller's trace.
    Parent,
    /// There was nothing: the transaction's own trace goes on.
    Absent,
    /// There was something that does not count: the transaction's own trace goes on.
    Refused(Refusal),
    /// Ignored, because the transaction continues a caller's trace already.
    Multiple,
    /// Ignored, because the transaction has sent a request already.
    CreateBeforeAccept,
}

/// One transaction's part in a distributed trace. It begins with a trace of its own, until it continues that of a
/// caller.
#[derive(Clone, Debug)]
pub struct Transaction {
    guid: TransactionId,
    trace: TraceIdentity,
    sequence: Sequence,
    /// The caller's metadata as header lines; empty without a caller.
    accepted: Vec<u8>,
    decision: Option<Decision>,
}

impl Transaction {
    /// Begins a transaction. Both ids must be new and random: `trace_id` is used when no caller brings another.
    pub fn new(guid: TransactionId, trace_id: TraceId) -> Self {
        let sequence = Sequence::default();
        Self { guid, trace: trace_id.into(), sequence, accepted: Vec::new(), decision: None }
    }

    /// The transaction's own id.
    pub fn guid(&self) -> TransactionId {
        self.guid
    }

    /// The trace that the transaction belongs to.
    pub fn trace(&self) -> &TraceIdentity {
        &self.trace
    }

    /// The sampling decision; `None` until [`DistributedTracing::sample`] or the first request makes it.
    pub fn decision(&self) -> Option<Decision> {
        self.decision
    }
}

impl DistributedTracing {
    /// As the application that a configuration describes; `None` when it switches distributed tracing off.
    pub fn new(config: &Config) -> Option<Self> {
        let settings = &config.distributed_tracing;
        settings.enabled.then(|| Self {
            propagator: Propagator::from(config),
            // The identity tells instances with shared targets apart; here nothing is shared.
            samplers: Samplers::new(&settings.sampler, b"", config.infinite_tracing.is_some()),
        })
    }

    /// Callee: processes a request's metadata, and counts what was found. A caller that is not to be believed is not
    /// asked at all.
    ///
    /// The first caller that is accepted counts, and none after a request was sent, as in New Relic's agents. A
    /// decision that was made before is forgotten, since it was made for another trace.
    pub fn extract_request(
        &self,
        transaction: &mut Transaction,
        request: &impl Carrier,
        stats: &mut Stats,
    ) -> Extracted {
        let mut ignored = None;
        if !transaction.sequence.may_accept(&mut |counter| ignored = Some(counter)) {
            return ignore(ignored, stats);
        }
        let lines = header_lines(request);
        let inbound = self.propagator.extract(&RequestHeaders::new(&lines), &mut |counter| stats.count(counter));
        transaction.sequence.note_accept(&inbound);
        match inbound {
            Inbound::Absent => Extracted::Absent,
            Inbound::Refused(why) => Extracted::Refused(why),
            Inbound::Parent(parent) => {
                transaction.trace = parent.trace;
                transaction.decision = None;
                transaction.accepted = lines;
                Extracted::Parent
            }
        }
    }

    /// What the accepted caller told; `None` without one.
    pub fn parent<'a>(&self, transaction: &'a Transaction) -> Option<Parent<'a>> {
        match self.propagator.extract(&RequestHeaders::new(&transaction.accepted), &mut |_| {}) {
            Inbound::Parent(parent) => Some(parent),
            Inbound::Absent | Inbound::Refused(_) => None,
        }
    }

    /// Decides whether the transaction is recorded, once: later calls answer the same. Needed by a transaction that
    /// sends no request.
    pub fn sample(&mut self, transaction: &mut Transaction, inputs: Inputs<'_>) -> Decision {
        if let Some(decision) = transaction.decision {
            return decision;
        }
        let Inputs { now_ns, random, stats } = inputs;
        let input = propagation::sampler_input(self.parent(transaction).as_ref(), transaction.trace.id);
        let decision = self.decide(&input, now_ns, random);
        if decision.sampler_ran {
            stats.count(if decision.sampled { Counter::DecisionsSampled } else { Counter::DecisionsNotSampled });
        }
        transaction.decision = Some(decision);
        decision
    }

    fn decide(&mut self, input: &SamplerInput, now_ns: u64, random: &mut RandomPool) -> Decision {
        let mut verdict = self.samplers.decide(input, now_ns, random);
        loop {
            match verdict {
                Verdict::Final(decision) => return decision,
                // No other worker has a part in the target.
                Verdict::Claim(claim) => verdict = self.samplers.claim_local(claim, now_ns, random),
            }
        }
    }

    /// Caller: names this transaction's trace in a request, in the place of all tracing metadata that is there. The
    /// callee's entry span hangs under `span_id`: a span of this transaction, or a new id when it has none.
    pub fn inject_request(
        &mut self,
        transaction: &mut Transaction,
        span_id: SpanId,
        request: &mut impl Carrier,
        inputs: Inputs<'_>,
    ) {
        let Inputs { now_ns, random, stats } = inputs;
        let decision = self.sample(transaction, Inputs { now_ns, random, stats: &mut *stats });
        transaction.sequence.note_create();
        for name in [TRACEPARENT, TRACESTATE, NEWRELIC] {
            request.unset(name);
        }
        for edit in self.request_edits(transaction, span_id, decision, now_ns) {
            if let HeaderEdit::Set(name, value) = edit {
                count_created(name, stats);
                request.set(name, value);
            }
        }
    }

    fn request_edits(
        &self,
        transaction: &Transaction,
        span_id: SpanId,
        decision: Decision,
        now_ns: u64,
    ) -> Vec<HeaderEdit> {
        let parent = self.parent(transaction);
        let outbound = Outbound {
            trace: &transaction.trace,
            span_id,
            transaction_id: Some(&transaction.guid.to_hex()),
            sampled: decision.sampled,
            priority: decision.priority,
            random_flag: parent.as_ref().is_some_and(|parent| parent.random_flag),
            timestamp_ms: now_ns / MILLI,
        };
        let foreign = parent.as_ref().map_or(&[][..], |parent| parent.foreign.as_slice());
        self.propagator.inject(&outbound, foreign, &RequestHeaders::new(&[]))
    }
}

/// Counts a request's metadata that came at the wrong time.
fn ignore(why: Option<Counter>, stats: &mut Stats) -> Extracted {
    why.into_iter().for_each(|counter| stats.count(counter));
    if why == Some(Counter::PayloadMultiple) { Extracted::Multiple } else { Extracted::CreateBeforeAccept }
}

fn count_created(name: &str, stats: &mut Stats) {
    match name {
        TRACEPARENT => stats.count(Counter::W3cCreated),
        NEWRELIC => stats.count(Counter::PayloadCreated),
        _ => {}
    }
}

/// The metadata of distributed tracing as the lines of an HTTP request, which the propagator reads.
fn header_lines(request: &impl Carrier) -> Vec<u8> {
    let cut = |value: &'_ [u8]| value.get(..VALUE_BYTES_MAX).unwrap_or(value).to_vec();
    let mut room = TRACESTATE_BYTES_MAX;
    let has_room = |value: &&[u8]| {
        let left = room.checked_sub(value.len() + 1);
        room = left.unwrap_or(room);
        left.is_some()
    };
    // A second traceparent is one too many already; of several payloads the first counts.
    let traceparent = request.values(TRACEPARENT).take(2).map(|value| (TRACEPARENT, cut(value)));
    let tracestate = request.values(TRACESTATE).filter(has_room).map(|value| (TRACESTATE, value.to_vec()));
    let newrelic = request.values(NEWRELIC).take(1).map(|value| (NEWRELIC, cut(value)));
    let lines: Vec<(&str, Vec<u8>)> = traceparent.chain(tracestate).chain(newrelic).collect();
    serialize_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())))
}

/// Cross Application Tracing over any carrier.
#[derive(Clone, Copy, Debug)]
pub struct CrossApplication<'a> {
    settings: &'a Settings,
}

impl<'a> CrossApplication<'a> {
    /// As this application.
    pub fn new(settings: &'a Settings) -> Self {
        Self { settings }
    }

    /// Caller: names this transaction in a request. `transaction_name` is the full name as known now.
    pub fn inject_request(&self, trip: &mut Trip, transaction_name: &[u8], request: &mut impl Carrier) {
        let outbound = trip.outbound(self.settings, transaction_name);
        request.set(NEWRELIC_ID, outbound.id.into_bytes());
        request.set(NEWRELIC_TRANSACTION, outbound.transaction.into_bytes());
    }

    /// Callee: begins a transaction with the new guid `guid`. [`Trip::accepted`] tells what the request held and
    /// what of it was refused; a request without metadata begins a trip of its own.
    pub fn extract_request(&self, guid: TransactionId, request: &impl Carrier) -> Trip {
        let (id, transaction) = (request.values(NEWRELIC_ID).next(), request.values(NEWRELIC_TRANSACTION).next());
        Trip::accept(guid, id, transaction, self.settings)
    }

    /// Callee: tells the caller who answers, and freezes the transaction's name. False, and nothing is set, when
    /// the caller is not trusted or sent no metadata, or has its answer already.
    pub fn inject_response(&self, trip: &mut Trip, answer: &Answer<'_>, response: &mut impl Carrier) -> bool {
        let Some(value) = trip.answer(self.settings, answer) else { return false };
        response.set(NEWRELIC_APP_DATA, value.into_bytes());
        true
    }

    /// Caller: reads who answered; `None` when the response does not tell.
    ///
    /// # Errors
    /// [`AppDataError`] names the rule that the metadata breaks, the trust included.
    pub fn extract_response(&self, response: &impl Carrier) -> Result<Option<AppData>, AppDataError> {
        read_app_data(response.values(NEWRELIC_APP_DATA), self.settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_replaces_every_value_under_a_name() {
        let mut pairs: Vec<(String, Vec<u8>)> =
            vec![("newrelicid".into(), b"1".to_vec()), ("other".into(), b"2".to_vec()), ("NEWRELICID".into(), vec![])];
        assert_eq!(pairs.values(NEWRELIC_ID).collect::<Vec<_>>(), [&b"1"[..], b""]);
        pairs.set(NEWRELIC_ID, b"3".to_vec());
        assert_eq!(pairs, [("other".to_owned(), b"2".to_vec()), ("NewRelicID".to_owned(), b"3".to_vec())]);
    }

    #[test]
    fn names_may_be_bytes() {
        let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = vec![(b"\xff".to_vec(), vec![])];
        pairs.set("name", b"value".to_vec());
        assert_eq!(pairs.values("Name").collect::<Vec<_>>(), [b"value"]);
        assert_eq!(pairs.values("other").count(), 0);
    }
}
