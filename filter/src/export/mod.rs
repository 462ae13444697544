//! From finished records to receivers: encode each record once, collect, post in batches, and account for all of it.
//!
//! Nothing here calls the host. The host offers records as requests end ([`Exporters::offer_span`],
//! [`Exporters::offer_transaction`]), each after it has answered [`Exporters::log_budget_request`]; and on every tick of
//! the root context:
//!
//! 1. [`Exporters::budget_request`] until it gives `None`; each is answered with [`Exporters::grant`].
//! 2. [`Exporters::next_request`] until it gives `None`, or until the worker should serve requests again; each is
//!    followed by [`Exporters::sent`] or [`Exporters::refused`]. One request costs some tenths of a millisecond.
//! 3. [`Exporters::take_lines`], for the log.
//!
//! Answers come in through [`Exporters::answered`]. When the plugin goes away: [`Exporters::close`], the three steps
//! once more, and [`Exporters::abandon`] for what is left.
//!
//! At every moment and for each exporter: recorded = exported + dropped + queued, where a record in flight is queued.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

pub mod backoff;
pub mod batch;
pub mod budget;
pub mod common;
pub mod delivery;
pub mod event_api;
pub mod frame;
pub mod gzip;
pub mod json;
pub mod ledger;
pub mod limits;
pub mod lines;
pub mod log;
pub mod otlp;
pub mod protobuf;
pub mod reports;
pub mod reservoir;
pub mod response;
pub mod trace_api;

use crate::config::{Config, HttpExporter, SpanLimit};
use crate::newrelic::priority::Priority;
use crate::record::{Origin, SpanRecord, TransactionRecord};
use crate::stats::Stats;
use common::{Common, USER_AGENT};
use delivery::{Delivery, Format, Intake, Outputs, Token};
use frame::SpanFormat;
use gzip::Gzip;
use ledger::Kind;
use lines::{Line, Lines};
use log::{LogExporter, RecordLine};
use response::Response;

/// An exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `exporters.log`.
    Log,
    /// `exporters.trace_api`.
    TraceApi,
    /// `exporters.event_api`.
    EventApi,
    /// `exporters.otlp`.
    Otlp,
    /// `infinite_tracing`.
    InfiniteTracing,
}

impl Destination {
    /// As in the configuration and in statistics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::TraceApi => "trace_api",
            Self::EventApi => "event_api",
            Self::Otlp => "otlp",
            Self::InfiniteTracing => "infinite_tracing",
        }
    }

    /// What it carries. The log carries both; it is asked for spans alone here.
    fn kind(self) -> Kind {
        match self {
            Self::EventApi => Kind::Transactions,
            Self::Log | Self::TraceApi | Self::Otlp | Self::InfiniteTracing => Kind::Spans,
        }
    }

    /// The name of one of its statistics.
    fn statistic(self, what: &str, class: &str) -> String {
        let dot = if class.is_empty() { "" } else { "." };
        ["newrelic.export.", what, ".", self.as_str(), dot, class].concat()
    }
}

/// How many records may be sent of the minute's budget?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetRequest {
    /// The exporter that asks.
    pub exporter: Destination,
    /// What it would like to send.
    pub kind: Kind,
    /// How many.
    pub records: u32,
    /// The limit, for the whole process.
    pub per_minute: u32,
}

/// A request to post, as the host's call takes it.
#[expect(missing_debug_implementations, reason = "some headers are secret")]
pub struct Request<'a> {
    /// For [`Exporters::sent`] or [`Exporters::refused`].
    pub token: RequestToken,
    /// Envoy's cluster.
    pub cluster: &'a str,
    /// Header lines, pseudo-headers first. Some values are secret.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// The body as sent.
    pub body: &'a [u8],
    /// Bytes of the body before it was compressed, which tell how long that took.
    pub plain_bytes: usize,
    /// Milliseconds that the call may take.
    pub timeout_ms: u32,
}

/// Names a request between [`Exporters::next_request`] and the host's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestToken {
    exporter: Destination,
    token: Token,
}

impl RequestToken {
    /// The exporter whose request it is.
    pub fn exporter(self) -> Destination {
        self.exporter
    }
}

/// Why the host did not make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such cluster: proxy-wasm's status `BadArgument`.
    UnknownCluster,
    /// Any other status; Envoy's `InternalFailure` says that the request failed as it began.
    Failed,
}

/// All exporters of one plugin instance in one worker.
#[derive(Debug)]
pub struct Exporters {
    app_name: Box<str>,
    log: Option<LogExporter>,
    deliveries: Vec<Delivery>,
    /// Which of them sends next, when it has something to send.
    turn: usize,
    lines: Lines,
    gzip: Option<Gzip>,
    /// One encoded record, or one line of the log.
    scratch: Vec<u8>,
    /// One request's body.
    body: Vec<u8>,
    /// The same, compressed.
    wire: Vec<u8>,
}

impl Exporters {
    /// The exporters that a configuration asks for.
    pub fn new(config: &Config, common: &Common, now_ns: u64) -> Self {
        let mut deliveries = Vec::new();
        if makes_spans(config) {
            deliveries.extend(span_deliveries(config, common, now_ns));
        }
        if let Some(http) = config.exporters.event_api.as_ref().filter(|_| config.transaction_events.enabled) {
            let intake = Intake::reservoir(config.transaction_events.max_samples_stored, http.flush_interval_ms);
            let frame = frame::event_frame();
            deliveries.push(Delivery::new(Destination::EventApi, http, Format::transactions(frame), intake, now_ns));
        }
        Self {
            app_name: common.service_name.clone(),
            log: LogExporter::new(config),
            deliveries,
            turn: 0,
            lines: Lines::default(),
            gzip: None,
            scratch: Vec::new(),
            body: Vec::new(),
            wire: Vec::new(),
        }
    }

    /// Whether any exporter takes spans.
    pub fn wants_spans(&self) -> bool {
        self.deliveries.iter().any(|delivery| delivery.kind() == Kind::Spans)
            || self.log.as_ref().is_some_and(LogExporter::takes_spans)
    }

    /// Whether spans of traces that are not sampled are wanted too: for a trace observer.
    pub fn wants_unsampled_spans(&self) -> bool {
        self.deliveries.iter().any(Delivery::takes_unsampled)
    }

    /// Whether any exporter takes transactions.
    pub fn wants_transactions(&self) -> bool {
        self.deliveries.iter().any(|delivery| delivery.kind() == Kind::Transactions)
            || self.log.as_ref().is_some_and(LogExporter::takes_transactions)
    }

    /// Offers a finished span to every exporter that takes it. The line, if there is one, is to be logged at once.
    #[must_use = "the line is the log exporter's output"]
    pub fn offer_span(&mut self, record: &SpanRecord<'_>, stats: &mut Stats) -> Option<RecordLine<'_>> {
        let mut out = Outputs { stats, lines: &mut self.lines };
        for delivery in &mut self.deliveries {
            delivery.offer_span(record, &mut self.scratch, &mut out);
        }
        self.log.as_mut().filter(|_| record.sampled)?.span(record, &mut self.scratch, stats)
    }

    /// Offers a finished transaction, as [`Exporters::offer_span`].
    #[must_use = "the line is the log exporter's output"]
    pub fn offer_transaction(&mut self, record: &TransactionRecord<'_>, stats: &mut Stats) -> Option<RecordLine<'_>> {
        let mut out = Outputs { stats, lines: &mut self.lines };
        for delivery in &mut self.deliveries {
            delivery.offer_transaction(record, &self.app_name, &mut self.scratch, &mut out);
        }
        self.log.as_mut()?.transaction(record, &self.app_name, &mut self.scratch, stats)
    }

    /// Whether every exporter that takes transactions would drop one of this rank for lack of a place. It then counts
    /// as offered and dropped, and need not be made: under load most are not worth what they would be made of.
    pub fn refuses_transaction(&mut self, priority: Priority, origin: Origin, now_ns: u64, stats: &mut Stats) -> bool {
        let is_taker = |delivery: &&mut Delivery| delivery.kind() == Kind::Transactions;
        let mut log = self.log.as_mut().filter(|log| log.takes_transactions());
        let takes = log.as_ref().is_some_and(|log| !log.would_refuse_transaction(now_ns))
            || self.deliveries.iter_mut().filter(is_taker).any(|delivery| !delivery.would_refuse(priority, origin));
        if takes {
            return false;
        }
        if let Some(log) = &mut log {
            log.refuse_transaction_unseen(stats);
        }
        for delivery in self.deliveries.iter_mut().filter(is_taker) {
            delivery.refuse_unseen(priority, origin, stats);
        }
        true
    }

    /// Begins the flush of an exporter whose time has come. Answer each with [`Exporters::grant`]; `None` when
    /// there is no more to ask.
    pub fn budget_request(&mut self, now_ns: u64) -> Option<BudgetRequest> {
        self.deliveries.iter_mut().find_map(|delivery| delivery.budget_request(now_ns))
    }

    /// What the log needs of the budget before a record of this kind is offered. Answer with [`Exporters::grant`].
    pub fn log_budget_request(&self, kind: Kind, now_ns: u64) -> Option<BudgetRequest> {
        self.log.as_ref()?.budget_request(kind, now_ns)
    }

    /// What the budget gave: at most so many of the records may be sent. `None` when the host keeps no shared data;
    /// the limit then holds in each worker by itself.
    pub fn grant(&mut self, request: &BudgetRequest, granted: Option<u32>, now_ns: u64, stats: &mut Stats) {
        if let Some(log) = self.log.as_mut().filter(|_| request.exporter == Destination::Log) {
            return log.grant(request, granted, now_ns);
        }
        let (delivery, mut out) = self.delivery(request.exporter, stats);
        if let Some(delivery) = delivery {
            delivery.grant(granted, now_ns, &mut out);
        }
    }

    /// The next request to post, its body compressed when that is configured. `random` makes its id and the chance
    /// in its pauses. `None` when there is nothing to send now.
    pub fn next_request(&mut self, now_ns: u64, random: u128, stats: &mut Stats) -> Option<Request<'_>> {
        let mut out = Outputs { stats, lines: &mut self.lines };
        let count = self.deliveries.len();
        for delivery in &mut self.deliveries {
            delivery.advance(now_ns, &mut out);
        }
        // In turn, so that an exporter with much to send does not keep the others waiting.
        let (before, behind) = self.deliveries.split_at_mut_checked(self.turn)?;
        let mut deliveries = behind.iter_mut().chain(before).enumerate();
        let (offset, delivery) = deliveries.find(|(_, delivery)| delivery.has_due_batch(now_ns))?;
        let token = delivery.take_off(now_ns, random)?;
        self.turn = (self.turn + offset + 1) % count;
        delivery.frame().body(delivery.records(token), &mut self.body);
        let is_compressed =
            delivery.config.gzip && self.gzip.get_or_insert_with(Gzip::default).compress(&self.body, &mut self.wire);
        let body = if is_compressed { &self.wire } else { &self.body };
        delivery.note_wire_bytes(token, body.len());
        Some(Request {
            token: RequestToken { exporter: delivery.destination, token },
            cluster: &delivery.config.cluster,
            headers: headers(delivery, token, is_compressed),
            body,
            plain_bytes: self.body.len(),
            timeout_ms: delivery.config.timeout_ms,
        })
    }

    /// Whether [`Exporters::next_request`] would have a request now.
    pub fn has_due_request(&self, now_ns: u64) -> bool {
        self.deliveries.iter().any(|delivery| delivery.has_due_batch(now_ns))
    }

    /// The host made the call, and will answer under `call_id`.
    pub fn sent(&mut self, request: RequestToken, call_id: u32, stats: &mut Stats) {
        let (delivery, mut out) = self.delivery(request.exporter, stats);
        if let Some(delivery) = delivery {
            delivery.sent(request.token, call_id, &mut out);
        }
    }

    /// The host did not make the call; the batch is tried again later.
    pub fn refused(&mut self, request: RequestToken, refusal: Refusal, now_ns: u64, stats: &mut Stats) {
        let (delivery, mut out) = self.delivery(request.exporter, stats);
        if let Some(delivery) = delivery {
            delivery.refused(request.token, refusal, now_ns, &mut out);
        }
    }

    /// A call was answered, or ended without an answer ([`Response::default`]). `false` when it is not ours.
    pub fn answered(&mut self, call_id: u32, response: &Response<'_>, now_ns: u64, stats: &mut Stats) -> bool {
        let mut out = Outputs { stats, lines: &mut self.lines };
        self.deliveries.iter_mut().any(|delivery| delivery.answered(call_id, response, now_ns, &mut out))
    }

    /// When the next step is due, Unix nanoseconds; `None` while nothing waits.
    pub fn next_wakeup_ns(&self) -> Option<u64> {
        self.deliveries.iter().filter_map(Delivery::next_wakeup_ns).min()
    }

    /// Records that wait or are in flight, over all exporters.
    pub fn queued_records(&self) -> usize {
        self.deliveries.iter().map(Delivery::queued_records).sum()
    }

    /// Begins the last flush: all that is queued is due at once. The host then sends as much as it can.
    pub fn close(&mut self) {
        self.deliveries.iter_mut().for_each(Delivery::close);
    }

    /// Ends the last flush: what has no answer yet is dropped, and so is whatever is offered afterwards.
    pub fn abandon(&mut self, stats: &mut Stats) {
        let mut out = Outputs { stats, lines: &mut self.lines };
        for delivery in &mut self.deliveries {
            delivery.abandon(&mut out);
        }
    }

    /// What the operator should read, since the last time.
    pub fn take_lines(&mut self) -> Vec<Line> {
        self.lines.take()
    }

    fn delivery<'a>(
        &'a mut self,
        exporter: Destination,
        stats: &'a mut Stats,
    ) -> (Option<&'a mut Delivery>, Outputs<'a>) {
        let delivery = self.deliveries.iter_mut().find(|delivery| delivery.destination == exporter);
        (delivery, Outputs { stats, lines: &mut self.lines })
    }
}

/// Whether a configuration makes spans at all.
fn makes_spans(config: &Config) -> bool {
    config.distributed_tracing.enabled && config.span_events.enabled
}

/// The exporters of spans. With a trace observer all spans go there, and none to the Trace API: New Relic would
/// hold them twice.
fn span_deliveries(config: &Config, common: &Common, now_ns: u64) -> Vec<Delivery> {
    let chosen = |http: &HttpExporter| match config.span_events.max_samples_stored {
        SpanLimit::PerMinute(limit) => Intake::reservoir(limit, http.flush_interval_ms),
        SpanLimit::Unlimited => Intake::stream(None),
    };
    let delivery = |destination, http: &HttpExporter, format: SpanFormat, intake| {
        let format = Format::spans(format, common, destination == Destination::InfiniteTracing);
        Delivery::new(destination, http, format, intake, now_ns)
    };
    let mut deliveries = Vec::new();
    if let Some(observer) = &config.infinite_tracing {
        let intake = Intake::stream(Some(observer.queue_size));
        deliveries.push(delivery(Destination::InfiniteTracing, &observer.observer, SpanFormat::TraceApi, intake));
    } else if let Some(http) = &config.exporters.trace_api {
        deliveries.push(delivery(Destination::TraceApi, http, SpanFormat::TraceApi, chosen(http)));
    }
    if let Some((encoding, http)) = &config.exporters.otlp {
        deliveries.push(delivery(Destination::Otlp, http, SpanFormat::Otlp(*encoding), chosen(http)));
    }
    deliveries
}

/// The header lines of a request, those that carry keys last.
fn headers(delivery: &Delivery, token: Token, is_compressed: bool) -> Vec<(&str, &[u8])> {
    let config = &delivery.config;
    let mut headers: Vec<(&str, &[u8])> = vec![
        (":method", b"POST"),
        (":scheme", b"https"),
        (":authority", config.host.as_bytes()),
        (":path", config.path.as_bytes()),
        ("content-type", delivery.frame().content_type().as_bytes()),
        ("user-agent", USER_AGENT.as_bytes()),
        ("x-request-id", delivery.request_id(token)),
    ];
    if matches!(delivery.destination, Destination::TraceApi | Destination::InfiniteTracing) {
        headers.extend([("data-format", &b"newrelic"[..]), ("data-format-version", &b"1"[..])]);
    }
    if is_compressed {
        headers.push(("content-encoding", b"gzip"));
    }
    headers.extend(config.headers.iter().map(|(name, value)| (&**name, value.reveal().as_bytes())));
    headers
}
