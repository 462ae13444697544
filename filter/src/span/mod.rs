//! One request from its headers to its records.
//!
//! ```text
//! Tracer::open -> Opening --(sampler's decision)--> Opening::start -> OpenRequest + header edits
//! OpenRequest::finish(Outcome) -> records to the exporters
//! ```
//! The request's header buffer is kept until the end only when something is recorded; it is then read a second time for
//! what the attributes show, which is cheaper than copying each of them. What the tracing headers told is kept as read.

use alloc::boxed::Box;
use alloc::vec::Vec;

mod attributes;
mod cat;
mod finish;
mod names;
mod queue_time;
mod response_flags;
mod status_text;

pub use cat::CatCalls;
pub use finish::{Needs, Outcome, Sink, Totals};
pub use response_flags::ResponseFlags;

use self::cat::CatRequest;
use crate::caller_metrics::{CallerMetrics, CallerSlot, Transport};
use crate::config::{Config, ExcludeRule, Role, TrustInbound};
use crate::headers::{HeaderEdit, HeaderPairs, RequestHeaders, trim_ows};
use crate::id::{ParentId, SpanId, TraceIdentity};
use crate::newrelic::cat::{Settings as CatSettings, X_NEWRELIC_ID, X_NEWRELIC_TRANSACTION};
use crate::newrelic::priority::Priority;
use crate::propagation::{self, Caller, Inbound, Outbound, Parent, Propagator};
use crate::random::RandomPool;
use crate::record::Origin;
use crate::sampler::{self, Decision, Granularity};
use crate::stats::{Counter, Stats};

/// Nanoseconds in a millisecond.
const MILLI: u64 = 1_000_000;

/// What the filter does with requests, from its configuration.
#[derive(Debug)]
pub struct Tracer {
    config: Config,
    propagator: Propagator,
    records: Records,
    /// Cross Application Tracing, when it is in force.
    cat: Option<CatSettings>,
}

/// What the proxy's route says of a request; texts of the host's, empty when it says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Route<'a> {
    /// Transaction name in the route's metadata.
    pub transaction_name: &'a [u8],
    /// Name of the route.
    pub name: &'a [u8],
}

/// Which records somebody takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records {
    /// An exporter takes the spans of sampled traces.
    pub sampled_spans: bool,
    /// A trace observer takes every span.
    pub all_spans: bool,
    /// An exporter takes transactions.
    pub transactions: bool,
}

/// The request's times, Unix nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When the request began, as far as that is told: a request that earlier filters let through begins when it
    /// reaches this one, since to ask the host for its first byte would cost as much as half of its headers. Only
    /// Cross Application Tracing asks.
    pub start_ns: u64,
    /// When its headers reached this filter.
    pub now_ns: u64,
}

/// A request whose sampling decision is still to be made.
#[derive(Debug)]
pub struct Opening<'a> {
    role: Role,
    trusts_caller: bool,
    inbound: Inbound<'a>,
    trace: TraceIdentity,
    transaction_id: Option<Guid>,
    entry_id: Option<SpanId>,
    exit_id: Option<SpanId>,
}

/// Guid of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Guid {
    /// Made here.
    Own(SpanId),
    /// Sent on by the application behind an outbound proxy.
    Sent(Box<[u8]>),
}

impl Guid {
    /// The guid's text; `hex` lends the room for an own one.
    fn text<'a>(&'a self, hex: &'a mut [u8; 16]) -> &'a [u8] {
        match self {
            Self::Own(id) => {
                *hex = id.to_hex();
                hex
            }
            Self::Sent(text) => text,
        }
    }
}

/// A request on its way.
#[derive(Debug)]
pub struct OpenRequest {
    role: Role,
    trace: TraceIdentity,
    transaction_id: Option<Guid>,
    entry_id: Option<SpanId>,
    exit_id: Option<SpanId>,
    decision: Decision,
    times: Times,
    caller: Option<CallerSlot>,
    /// When the caller wrote its headers, Unix milliseconds.
    caller_sent_ms: Option<i64>,
    cat: Option<Box<CatRequest>>,
    records_spans: bool,
    records_transaction: bool,
    /// For the records of the request, when it has some. Apart, as a request that has none is moved about, too.
    kept: Option<Box<Kept>>,
}

/// What the records of a request are made of at its end.
#[derive(Debug)]
struct Kept {
    /// The serialized request headers.
    headers: Vec<u8>,
    /// What they tell of the caller, when they continue a trace.
    parent: Option<KeptParent>,
    /// `tracestate` as it was sent on, when a record shows it.
    trace_state: Vec<u8>,
    /// Whether the request is one of gRPC.
    is_grpc: bool,
}

/// The part of [`Parent`] that records show.
#[derive(Debug)]
struct KeptParent {
    parent_id: Option<ParentId>,
    caller: Option<Caller<'static>>,
    /// Keys of other vendors' `tracestate` members, joined by commas.
    vendors: Vec<u8>,
}

impl From<Parent<'_>> for KeptParent {
    fn from(parent: Parent<'_>) -> Self {
        Self {
            vendors: parent.foreign.keys().collect::<Vec<_>>().join(&b","[..]),
            parent_id: parent.parent_id,
            caller: parent.caller.map(Caller::into_owned),
        }
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        let parent_bytes = self.parent.as_ref().map_or(0, |parent| {
            let caller_bytes = parent.caller.as_ref().map_or(0, Caller::text_bytes);
            let parent_id_bytes = match &parent.parent_id {
                Some(ParentId::Text(text)) => text.len(),
                Some(ParentId::Span(_)) | None => 0,
            };
            caller_bytes + parent_id_bytes + parent.vendors.len()
        });
        self.headers.capacity() + self.trace_state.len() + parent_bytes
    }
}

impl Tracer {
    /// Sets up what a valid configuration asks for. `app_name` is the service's name.
    pub fn new(config: Config, records: Records, app_name: &str) -> Self {
        let cat = config.cross_application_tracing.as_ref().and_then(|cat| {
            let key = cat.encoding_key.reveal().as_bytes();
            CatSettings::new(&cat.cross_process_id, key, &cat.trusted_account_ids, app_name).ok()
        });
        Self { propagator: Propagator::from(&config), records, cat, config }
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether tracing headers are read and written.
    pub fn is_distributed(&self) -> bool {
        self.config.distributed_tracing.enabled
    }

    /// Whether Cross Application Tracing is in force, whose names and answers need more of the host.
    pub fn is_cat(&self) -> bool {
        self.cat.is_some()
    }

    /// Whether there is anything to do for a request.
    pub fn is_active(&self) -> bool {
        self.is_distributed() || self.is_cat() || self.records.transactions
    }

    /// Reads a request's tracing headers and draws the ids that it needs; `None` for a request that an `exclude` rule
    /// leaves alone.
    pub fn open<'a>(
        &self,
        role: Role,
        headers: &RequestHeaders<'a>,
        random: &mut RandomPool,
        stats: &mut Stats,
    ) -> Option<Opening<'a>> {
        if self.is_excluded(headers) {
            return None;
        }
        let trusts_caller = self.trusts_caller(role, headers);
        let inbound = self.inbound(trusts_caller, headers, &mut |counter| stats.count(counter));
        let parent = parent_of(&inbound);
        let trace = parent.map_or_else(|| random.trace_id().into(), |parent| parent.trace.clone());
        let has_entry = role != Role::Outbound;
        let transaction_id = if has_entry {
            Some(Guid::Own(random.span_id()))
        } else {
            let sent = parent.and_then(|parent| parent.caller.as_ref()?.transaction_id.as_deref());
            sent.map(|guid| Guid::Sent(guid.into()))
        };
        let entry_id = has_entry.then(|| random.span_id());
        let exit_id = (role != Role::Inbound).then(|| random.span_id());
        Some(Opening { role, trusts_caller, inbound, trace, transaction_id, entry_id, exit_id })
    }

    fn inbound<'a>(
        &self,
        trusts_caller: bool,
        headers: &RequestHeaders<'a>,
        count: &mut dyn FnMut(Counter),
    ) -> Inbound<'a> {
        if trusts_caller && self.is_distributed() { self.propagator.extract(headers, count) } else { Inbound::Absent }
    }

    fn is_excluded(&self, headers: &RequestHeaders<'_>) -> bool {
        self.config.exclude.iter().any(|rule| match rule {
            ExcludeRule::Path(pattern) => pattern.matches(headers.path_only()),
            ExcludeRule::Host(pattern) => pattern.matches(headers.authority),
            ExcludeRule::Header(name, pattern) => headers.lines(name.as_bytes()).any(|line| pattern.matches(line)),
        })
    }

    /// The caller of an outbound proxy is the application behind it, which is always believed.
    fn trusts_caller(&self, role: Role, headers: &RequestHeaders<'_>) -> bool {
        match self.config.trust_inbound {
            _ if role == Role::Outbound => true,
            TrustInbound::Always => true,
            TrustInbound::Never => false,
            TrustInbound::InternalOnly => headers.envoy_internal.is_some_and(|value| trim_ows(value) == b"true"),
        }
    }
}

fn parent_of<'b, 'a>(inbound: &'b Inbound<'a>) -> Option<&'b Parent<'a>> {
    match inbound {
        Inbound::Parent(parent) => Some(parent),
        Inbound::Absent | Inbound::Refused(_) => None,
    }
}

/// `tracestate` as it is sent on, for the one format that shows it.
fn trace_state(tracer: &Tracer, edits: &[HeaderEdit]) -> Vec<u8> {
    if tracer.config.exporters.otlp.is_none() {
        return Vec::new();
    }
    let sent = edits.iter().find_map(|edit| match edit {
        HeaderEdit::Set("tracestate", value) => Some(value.clone()),
        HeaderEdit::Set(..) | HeaderEdit::Remove(_) => None,
    });
    sent.unwrap_or_default()
}

fn foreign_of<'b, 'a>(parent: Option<&'b Parent<'a>>) -> &'b [&'a [u8]] {
    parent.map_or(&[], |parent| parent.foreign.as_slice())
}

impl Opening<'_> {
    /// What the sampler decides by.
    pub fn sampler_input(&self) -> sampler::Inbound {
        propagation::sampler_input(parent_of(&self.inbound), self.trace.id)
    }

    /// Takes the decision: the request as it goes on, and the header changes that the next hop shall see.
    ///
    /// `route` is only needed in Cross Application Tracing.
    pub fn start(
        self,
        tracer: &Tracer,
        decision: Decision,
        headers: &RequestHeaders<'_>,
        route: &Route<'_>,
        times: Times,
        callers: &mut CallerMetrics,
    ) -> (Box<OpenRequest>, Vec<HeaderEdit>) {
        let edits = self.edits(tracer, &decision, headers, times.now_ns / MILLI);
        let cat = self.cat(tracer, headers, route, times).map(Box::new);
        let is_distributed = tracer.is_distributed();
        let has_entry = self.entry_id.is_some();
        let caller = (is_distributed && has_entry).then(|| self.caller(headers, callers));
        let caller_sent_ms = parent_of(&self.inbound).and_then(|parent| Some(parent.caller.as_ref()?.timestamp_ms));
        let takes_spans = tracer.records.all_spans || (tracer.records.sampled_spans && decision.sampled);
        let records_spans = is_distributed && tracer.config.span_events.enabled && takes_spans;
        let records_transaction = has_entry && tracer.config.transaction_events.enabled && tracer.records.transactions;
        let kept = (records_spans || records_transaction).then(|| Kept {
            headers: Vec::new(),
            parent: if let Inbound::Parent(parent) = self.inbound { Some(parent.into()) } else { None },
            trace_state: trace_state(tracer, &edits),
            is_grpc: finish::is_grpc(headers),
        });
        let open = Box::new(OpenRequest {
            role: self.role,
            trace: self.trace,
            transaction_id: self.transaction_id,
            entry_id: self.entry_id,
            exit_id: self.exit_id,
            decision,
            times,
            caller,
            caller_sent_ms,
            cat,
            records_spans,
            records_transaction,
            kept: kept.map(Box::new),
        });
        (open, edits)
    }

    fn edits(
        &self,
        tracer: &Tracer,
        decision: &Decision,
        headers: &RequestHeaders<'_>,
        timestamp_ms: u64,
    ) -> Vec<HeaderEdit> {
        if !tracer.is_distributed() {
            return Vec::new();
        }
        // An exit span is the innermost, and so the next hop's parent.
        let Some(span_id) = self.exit_id.or(self.entry_id) else { return Vec::new() };
        let parent = parent_of(&self.inbound);
        let mut hex = [0; 16];
        let outbound = Outbound {
            trace: &self.trace,
            span_id,
            transaction_id: self.transaction_id.as_ref().map(|guid| guid.text(&mut hex)),
            sampled: decision.sampled,
            priority: decision.priority,
            random_flag: parent.is_some_and(|parent| parent.random_flag),
            timestamp_ms,
        };
        let mut edits = tracer.propagator.inject(&outbound, foreign_of(parent), headers);
        if !self.trusts_caller {
            let cat =
                [(X_NEWRELIC_ID, headers.x_newrelic_id), (X_NEWRELIC_TRANSACTION, headers.x_newrelic_transaction)];
            edits.extend(
                cat.into_iter().filter(|(_, field)| field.is_present()).map(|(name, _)| HeaderEdit::Remove(name)),
            );
        }
        edits
    }

    fn cat(
        &self,
        tracer: &Tracer,
        headers: &RequestHeaders<'_>,
        route: &Route<'_>,
        times: Times,
    ) -> Option<CatRequest> {
        let settings = tracer.cat.as_ref()?;
        let guid = match &self.transaction_id {
            Some(Guid::Own(guid)) => Some(*guid),
            Some(Guid::Sent(_)) | None => None,
        };
        let name = finish::transaction_name(&tracer.config, route, headers);
        Some(CatRequest::new(self.role, guid, self.trusts_caller, headers, name, times.start_ns, settings))
    }

    /// Whose statistics the request counts in.
    fn caller(&self, headers: &RequestHeaders<'_>, callers: &mut CallerMetrics) -> CallerSlot {
        match parent_of(&self.inbound) {
            None => callers.slot(None, Transport::Unknown),
            Some(parent) => callers.slot(parent.caller.as_ref(), Transport::of_scheme(headers.scheme)),
        }
    }
}

impl OpenRequest {
    /// Whether the request's headers are needed again at its end; they are then given to [`OpenRequest::keep`].
    pub fn is_recorded(&self) -> bool {
        self.records_spans || self.records_transaction
    }

    /// Keeps the serialized request headers until the request ends.
    pub fn keep(&mut self, headers: Vec<u8>) {
        if let Some(kept) = &mut self.kept {
            kept.headers = headers;
        }
    }

    /// The request goes on: the changes of its headers that Cross Application Tracing asks for. What is written here
    /// counts as sent.
    pub fn forward(&mut self, tracer: &Tracer) -> Vec<HeaderEdit> {
        match (&mut self.cat, &tracer.cat) {
            (Some(request), Some(settings)) => request.request_edits(settings),
            _ => Vec::new(),
        }
    }

    /// The answer's headers are there: the changes of them that Cross Application Tracing asks for.
    pub fn answer(&mut self, tracer: &Tracer, headers: HeaderPairs<'_>, now_ns: u64) -> Vec<HeaderEdit> {
        let response_time_ns = now_ns.saturating_sub(self.times.start_ns);
        match (&mut self.cat, &tracer.cat) {
            (Some(request), Some(settings)) => request.answer_edits(settings, headers, response_time_ns),
            _ => Vec::new(),
        }
    }

    /// Bytes that are held for the request's records.
    pub fn kept_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.bytes())
    }

    /// Gives up recording, as there is no room for what the records would be made of. Counted as if the records had
    /// been made and dropped.
    pub fn give_up(&mut self, stats: &mut Stats) {
        if self.records_spans {
            stats.add(Counter::SpansRecorded, self.open_spans());
            stats.add(Counter::SpansDroppedQueueBytes, self.open_spans());
        }
        if self.records_transaction {
            stats.count(Counter::TransactionsRecorded);
            stats.count(Counter::TransactionsDroppedQueueBytes);
        }
        self.skip_records();
    }

    /// The rank of the request's only record, when that is a transaction and nothing else asks for what it is made of.
    pub fn only_transaction(&self) -> Option<(Priority, Origin)> {
        let is_only = self.records_transaction && !self.records_spans && self.cat.is_none();
        is_only.then_some((self.decision.priority, self.decision.origin))
    }

    /// Makes no record: an exporter has counted it already.
    pub fn skip_records(&mut self) {
        self.records_spans = false;
        self.records_transaction = false;
        self.kept = None;
    }

    /// Spans that were opened; an exit span that nothing was sent under is never finished.
    fn open_spans(&self) -> u64 {
        u64::from(self.entry_id.is_some()) + u64::from(self.exit_id.is_some())
    }

    /// Granularity of the trace here.
    pub fn granularity(&self) -> Granularity {
        self.decision.granularity
    }

    /// Counts what was opened.
    pub fn count_start(&self, stats: &mut Stats) {
        if self.records_spans {
            stats.add(Counter::SpansStarted, self.open_spans());
        }
        if self.records_transaction {
            stats.count(Counter::TransactionsStarted);
        }
    }

    /// The ids for access logs: trace id and the span id sent upstream, in hex, and whether the trace is sampled.
    pub fn log_ids(&self) -> Option<([u8; 32], [u8; 16], bool)> {
        let span_id = self.exit_id.or(self.entry_id)?;
        Some((self.trace.id.to_hex(), span_id.to_hex(), self.decision.sampled))
    }
}
