//! The plugin configuration, checked once: what the operator wrote becomes types that need no further check.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

mod document;
mod exporters;
mod fault;
mod reader;
mod sampling;
mod schema;
mod span_events;
mod struct_pb;
mod text;

pub use fault::{Fault, Faults, Problem, Rule};
pub use schema::parse;
pub use text::TextRule;

use crate::glob::Glob;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes a text out of sight.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, for a header or a key; never for a log line.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Own account, when configured. Without it no New Relic entry and no `newrelic` header is written.
    pub account: Option<Account>,
    /// `service.name`, when configured; otherwise the host's node tells.
    pub app_name: Option<Box<str>>,
    /// Which spans one request makes.
    pub role: RoleSetting,
    /// Whether the caller's tracing headers are believed.
    pub trust_inbound: TrustInbound,
    /// Headers and sampling.
    pub distributed_tracing: DistributedTracing,
    /// Spans.
    pub span_events: SpanEvents,
    /// Transaction records.
    pub transaction_events: TransactionEvents,
    /// Status codes from 400 on that are no error, sorted, without repeats.
    pub ignore_status_codes: StatusCodes,
    /// Transaction names by path; the first match wins.
    pub transaction_name_rules: Vec<NameRule>,
    /// Requests that tracing leaves alone.
    pub exclude: Vec<ExcludeRule>,
    /// Upstream hosts that are datastores.
    pub datastores: Vec<Datastore>,
    /// Whether ids are put into filter state for access logs.
    pub local_decorating: bool,
    /// The trace observer, when configured.
    pub infinite_tracing: Option<InfiniteTracing>,
    /// Cross Application Tracing, when enabled and complete, and distributed tracing is off.
    pub cross_application_tracing: Option<CrossApplicationTracing>,
    /// Where records go.
    pub exporters: Exporters,
    /// What is odd, but no fault: one line each, naming the key.
    pub warnings: Vec<String>,
}

/// The ids that New Relic's headers carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Decimal digits.
    pub account_id: Box<str>,
    /// Decimal digits; the account id unless configured.
    pub trusted_account_key: Box<str>,
    /// Decimal digits or `Unknown`.
    pub primary_application_id: Box<str>,
}

/// `role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleSetting {
    /// By the listener's traffic direction and the node id.
    Auto,
    /// As configured.
    Fixed(Role),
}

/// Which side of a service a proxy stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// In front of the application: entry span.
    Inbound,
    /// Behind the application: exit span.
    Outbound,
    /// No application behind it: entry span and exit span.
    Gateway,
}

/// `trust_inbound`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustInbound {
    /// Headers of every caller are believed.
    Always,
    /// Headers of no caller are believed; they are dropped.
    Never,
    /// Headers are believed when Envoy calls the request internal.
    InternalOnly,
}

/// `distributed_tracing`.
#[derive(Clone, Debug)]
pub struct DistributedTracing {
    /// Off: headers pass untouched and no spans are made.
    pub enabled: bool,
    /// Whether the `newrelic` header is left out.
    pub exclude_newrelic_header: bool,
    /// Whether field 4 of the tracestate entry is written.
    pub tracestate_span_id: bool,
    /// Whether bit 1 of a continued trace's flags is sent on.
    pub propagate_random_flag: bool,
    /// Who decides what is sampled.
    pub sampler: SamplerSettings,
}

/// `distributed_tracing.sampler`.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerSettings {
    /// Traces a minute that the shared adaptive sampler starts: 1 to 120.
    pub adaptive_sampling_target: u16,
    /// Full granularity; `None` when disabled.
    pub full: Option<SamplerSections>,
    /// Partial granularity and its type; `None` when disabled.
    pub partial: Option<(PartialType, SamplerSections)>,
}

/// One sampler for each origin of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerSections {
    /// New traces.
    pub root: SamplerKind,
    /// The caller sampled the trace.
    pub remote_parent_sampled: SamplerKind,
    /// The caller did not sample the trace.
    pub remote_parent_not_sampled: SamplerKind,
}

/// A sampler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SamplerKind {
    /// The adaptive sampler that all such sections share.
    AdaptiveShared,
    /// An adaptive sampler of the section's own, traces a minute: 1 to 120.
    Adaptive(u16),
    /// Every trace.
    AlwaysOn,
    /// No trace.
    AlwaysOff,
    /// The share of trace ids, above 0 and at most 1. As configured: layering is the sampler's business.
    TraceIdRatioBased(f64),
}

/// `partial_granularity.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartialType {
    /// All attributes.
    Reduced,
    /// Intrinsics, entity and error attributes.
    Essential,
    /// As essential, one exit span for each callee.
    Compact,
}

/// `span_events`.
#[derive(Clone, Debug)]
pub struct SpanEvents {
    /// Off: no spans are made.
    pub enabled: bool,
    /// Spans a minute, for the whole process.
    pub max_samples_stored: SpanLimit,
    /// Which attributes are recorded.
    pub attributes: AttributeFilter,
    /// Request headers recorded as user attributes: lower-case header name, attribute name.
    pub request_headers: Vec<(Box<str>, Box<str>)>,
    /// User attributes on every span: at most 64 with those of `request_headers`.
    pub custom_attributes: Vec<(Box<str>, CustomValue)>,
}

/// `span_events.max_samples_stored`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanLimit {
    /// Reservoir of so many spans a minute: 1 to 10000.
    PerMinute(u32),
    /// No reservoir.
    Unlimited,
}

/// `include` and `exclude` of attributes; exclude wins.
#[derive(Clone, Debug, Default)]
pub struct AttributeFilter {
    /// When not empty, only agent and user attributes that match one of these are recorded.
    pub include: Vec<NamePattern>,
    /// Attributes that match one of these are not recorded.
    pub exclude: Vec<NamePattern>,
}

/// An attribute name, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    /// The name without the asterisk.
    pub text: Box<str>,
    /// Whether an asterisk followed.
    pub prefix: bool,
}

/// Where the value of a custom attribute comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum CustomValue {
    /// Text, from the configuration or the environment.
    Text(Box<str>),
    /// A number.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// A host property, read when the request ends: path segments.
    Property(Vec<Box<str>>),
}

/// `transaction_events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionEvents {
    /// Off: no Transaction records are made.
    pub enabled: bool,
    /// Records a minute, for the whole process: 1 to 10000.
    pub max_samples_stored: u32,
}

/// A set of HTTP status codes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusCodes(
    /// Inclusive ranges.
    pub Vec<(u16, u16)>,
);

impl StatusCodes {
    /// Whether the code is in the set.
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&code))
    }
}

/// `transaction_name.rules`: one rule.
#[derive(Clone, Debug)]
pub struct NameRule {
    /// Matched with the path without query.
    pub path: Glob,
    /// The whole transaction name.
    pub name: Box<str>,
}

/// `exclude`: one rule.
#[derive(Clone, Debug)]
pub enum ExcludeRule {
    /// By the path without query.
    Path(Glob),
    /// By `:authority`, without regard to case.
    Host(Glob),
    /// By a header: lower-case name, and what a line of it matches.
    Header(Box<str>, Glob),
}

/// `datastores`: one rule.
#[derive(Clone, Debug)]
pub struct Datastore {
    /// Matched with the upstream's host, with or without its port, without regard to case.
    pub host: Glob,
    /// Product, the value of `db.system`.
    pub system: Box<str>,
}

/// `cross_application_tracer`, complete.
#[derive(Clone, Debug)]
pub struct CrossApplicationTracing {
    /// `{account}#{application}`.
    pub cross_process_id: Box<str>,
    /// The obfuscation key.
    pub encoding_key: Secret,
    /// Accounts whose headers are believed: decimal digits.
    pub trusted_account_ids: Vec<Box<str>>,
}

/// `exporters`.
#[derive(Clone, Debug, Default)]
pub struct Exporters {
    /// Records to the host's log.
    pub log: Option<LogExporter>,
    /// Spans to the Trace API.
    pub trace_api: Option<HttpExporter>,
    /// Transactions to the Event API.
    pub event_api: Option<HttpExporter>,
    /// Spans to an OTLP receiver.
    pub otlp: Option<(OtlpEncoding, HttpExporter)>,
}

/// `exporters.log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogExporter {
    /// The level of the lines.
    pub level: LogLevel,
}

/// The host's log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `trace`.
    Trace,
    /// `debug`.
    Debug,
    /// `info`.
    Info,
    /// `warn`.
    Warn,
    /// `error`.
    Error,
    /// `critical`.
    Critical,
}

/// `exporters.otlp.encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpEncoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

/// An exporter that posts to an Envoy cluster.
#[derive(Clone, Debug)]
pub struct HttpExporter {
    /// The Envoy cluster.
    pub cluster: Box<str>,
    /// `:authority` of the requests, with the port when one is configured.
    pub host: Box<str>,
    /// `:path` of the requests.
    pub path: Box<str>,
    /// Headers of the requests that carry keys: lower-case name, value.
    pub headers: Vec<(Box<str>, Secret)>,
    /// Milliseconds between flushes: 100 to 60000.
    pub flush_interval_ms: u32,
    /// Milliseconds that a request may take.
    pub timeout_ms: u32,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// Bytes of encoded records in each worker, over all batches.
    pub max_queue_bytes: u32,
    /// Retries of a batch.
    pub retry: Retry,
}

/// `retry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Milliseconds before the second retry; doubled for each further one.
    pub factor_ms: u32,
    /// The longest pause in milliseconds.
    pub max_ms: u32,
    /// Retries after the first try.
    pub attempts: u32,
}

/// `infinite_tracing`.
#[derive(Clone, Debug)]
pub struct InfiniteTracing {
    /// The trace observer: as `trace_api`.
    pub observer: HttpExporter,
    /// Spans that wait in each worker.
    pub queue_size: u32,
}
