//! Finished records: what the exporters encode. Borrowed views, built once when a request ends.

use crate::id::{ParentId, SpanId, TraceIdentity};
use crate::newrelic::priority::Priority;

/// The name of an attribute in New Relic's data and in OpenTelemetry's.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// New Relic's name: Trace API, Event API, log.
    pub new_relic: &'static str,
    /// The same as a further member of a JSON object: `,"name":`.
    pub member: &'static str,
    /// OpenTelemetry's name; `None` when OTLP has a field of its own for it, or no use.
    pub otlp: Option<&'static str>,
    /// Whether the operator's include and exclude lists apply.
    pub class: Class,
}

/// New Relic's three dictionaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Identity of the record; never filtered.
    Intrinsic,
    /// What the request and its answer were; filtered by the operator's lists.
    Agent,
    /// Added by the operator; filtered by the operator's lists.
    User,
}

/// The name of one attribute.
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    /// One of the names in [`keys`].
    Known(&'static Key),
    /// Chosen by the operator, the same in every format.
    User(&'a str),
}

impl<'a> Name<'a> {
    /// New Relic's name.
    pub fn new_relic(self) -> &'a str {
        match self {
            Self::Known(key) => key.new_relic,
            Self::User(name) => name,
        }
    }

    /// The dictionary that the attribute belongs to.
    pub fn class(self) -> Class {
        match self {
            Self::Known(key) => key.class,
            Self::User(_) => Class::User,
        }
    }
}

/// The value of one attribute. Text is a peer's bytes: encoders make valid UTF-8 of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text of any bytes and any length; encoders cut it to their limit on a character boundary.
    Text(&'a [u8]),
    /// A whole number.
    Int(i64),
    /// A number; encoders leave out NaN and infinities.
    Float(f64),
    /// A priority, printed exactly.
    Priority(Priority),
    /// A truth value.
    Bool(bool),
}

/// One attribute of a record.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    /// Its name.
    pub name: Name<'a>,
    /// Its value.
    pub value: Value<'a>,
}

/// OpenTelemetry's span kinds that a proxy makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Entry span.
    Server,
    /// Exit span.
    Client,
}

impl SpanKind {
    /// The value of `span.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// OpenTelemetry's status of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpStatus<'a> {
    /// Nothing to say.
    Unset,
    /// Failed, with a message only when no answer arrived.
    Error(Option<&'a [u8]>),
}

/// A finished span.
#[derive(Clone, Copy, Debug)]
pub struct SpanRecord<'a> {
    /// Entry or exit.
    pub kind: SpanKind,
    /// The trace, with the spelling received.
    pub trace: &'a TraceIdentity,
    /// The span's own id.
    pub span_id: SpanId,
    /// The calling or enclosing span.
    pub parent: Option<&'a ParentId>,
    /// New Relic's name of the span.
    pub name: &'a [u8],
    /// OpenTelemetry's name of the span.
    pub otlp_name: &'a [u8],
    /// Start, Unix nanoseconds.
    pub start_ns: u64,
    /// Length in nanoseconds.
    pub duration_ns: u64,
    /// Ranks the span when a buffer overflows.
    pub priority: Priority,
    /// Whether the span's trace is sampled; false only under Infinite Tracing.
    pub sampled: bool,
    /// Who asked for the trace, for a fair share of the reservoir.
    pub origin: Origin,
    /// OpenTelemetry's status.
    pub otlp_status: OtlpStatus<'a>,
    /// `tracestate` as sent out, without line breaks; empty when none.
    pub trace_state: &'a [u8],
    /// Everything else, [`keys::SPAN_KIND`] and the other intrinsics included, names without repeats.
    /// `name`, `duration.ms` and `parent.id` are fields of the record, and not repeated here.
    pub attributes: &'a [Attribute<'a>],
}

/// A finished transaction: one flat event.
#[derive(Clone, Copy, Debug)]
pub struct TransactionRecord<'a> {
    /// Full transaction name.
    pub name: &'a [u8],
    /// Start, Unix nanoseconds.
    pub start_ns: u64,
    /// Length in nanoseconds.
    pub duration_ns: u64,
    /// Ranks the event when a buffer overflows.
    pub priority: Priority,
    /// Who asked for the trace, for a fair share of the reservoir.
    pub origin: Origin,
    /// Everything else, in order: `error`, `guid`, `traceId`, `priority`, `sampled`, `parent.*`, request and
    /// answer. `eventType`, `name`, `timestamp`, `duration` and `appName` are added by the encoder.
    pub attributes: &'a [Attribute<'a>],
}

/// Who decided that a trace is recorded. A caller can claim any priority, so a reservoir shares out by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// Decided here: by a sampler of this proxy.
    Local,
    /// Inherited from a caller; the number tells callers' accounts apart (a hash, not an identity).
    Caller(u32),
}

/// Every attribute name of a proxy's records.
pub mod keys {
    use super::{Class, Key};

    macro_rules! keys {
        ($($(#[$meta:meta])* $constant:ident = $name:literal, $otlp:expr, $class:ident;)*) => {
            $($(#[$meta])* pub static $constant: Key = Key {
                new_relic: $name,
                member: concat!(",\"", $name, "\":"),
                otlp: $otlp,
                class: Class::$class,
            };)*

            /// All of them, for the check of an operator's attribute lists.
            pub static ALL: &[&Key] = &[$(&$constant),*];
        };
    }

    keys! {
        /// `server` or `client`.
        SPAN_KIND = "span.kind", None, Intrinsic;
        /// `generic`, `http` or `datastore`.
        CATEGORY = "category", Some("category"), Intrinsic;
        /// Client library or database product.
        COMPONENT = "component", Some("component"), Intrinsic;
        /// True on the entry span, absent elsewhere.
        ENTRY_POINT = "nr.entryPoint", Some("nr.entryPoint"), Intrinsic;
        /// True on the entry span of a partial trace.
        PARTIAL_GRANULARITY = "nr.pg", Some("nr.pg"), Intrinsic;
        /// Seconds: the union of the intervals that a span of a compact trace stands for.
        DURATIONS = "nr.durations", Some("nr.durations"), Intrinsic;
        /// Full transaction name.
        TRANSACTION_NAME = "transaction.name", Some("transaction.name"), Intrinsic;
        /// Transaction guid on spans.
        TRANSACTION_ID = "transactionId", Some("transactionId"), Intrinsic;
        /// Transaction guid on Transaction events.
        GUID = "guid", None, Intrinsic;
        /// Trace id on Transaction events.
        TRACE_ID = "traceId", None, Intrinsic;
        /// Final priority.
        PRIORITY = "priority", Some("priority"), Intrinsic;
        /// Sampling decision.
        SAMPLED = "sampled", Some("sampled"), Intrinsic;
        /// Whether a transaction failed.
        ERROR = "error", None, Intrinsic;
        /// Field 4 of New Relic's tracestate entry.
        TRUSTED_PARENT_ID = "trustedParentId", Some("trustedParentId"), Intrinsic;
        /// Keys of the foreign tracestate members.
        TRACING_VENDORS = "tracingVendors", Some("tracingVendors"), Intrinsic;
        /// The caller's transaction guid, on Transaction events.
        PARENT_ID = "parentId", None, Intrinsic;
        /// The caller's span id, on Transaction events.
        PARENT_SPAN_ID = "parentSpanId", None, Intrinsic;
        /// Seconds that the request waited in front of the proxy.
        QUEUE_DURATION = "queueDuration", Some("queueDuration"), Agent;
        /// `App`, `Browser` or `Mobile`.
        PARENT_TYPE = "parent.type", Some("parent.type"), Agent;
        /// The caller's account.
        PARENT_ACCOUNT = "parent.account", Some("parent.account"), Agent;
        /// The caller's application.
        PARENT_APP = "parent.app", Some("parent.app"), Agent;
        /// `HTTP`, `HTTPS` or `Unknown`.
        PARENT_TRANSPORT_TYPE = "parent.transportType", Some("parent.transportType"), Agent;
        /// Seconds from the caller's sending to our start.
        PARENT_TRANSPORT_DURATION = "parent.transportDuration", Some("parent.transportDuration"), Agent;
        /// Entry: request method.
        REQUEST_METHOD = "request.method", Some("http.request.method"), Agent;
        /// Entry: path without query.
        REQUEST_URI = "request.uri", Some("url.path"), Agent;
        /// Entry: `:authority`.
        REQUEST_HOST = "request.headers.host", Some("http.request.header.host"), Agent;
        /// Entry: `accept`.
        REQUEST_ACCEPT = "request.headers.accept", Some("http.request.header.accept"), Agent;
        /// Entry: `content-type`.
        REQUEST_CONTENT_TYPE = "request.headers.contentType", Some("http.request.header.content-type"), Agent;
        /// Entry: `content-length`, bytes.
        REQUEST_CONTENT_LENGTH = "request.headers.contentLength", Some("http.request.body.size"), Agent;
        /// Entry: `user-agent`.
        REQUEST_USER_AGENT = "request.headers.userAgent", Some("user_agent.original"), Agent;
        /// Entry: `referer` without query.
        REQUEST_REFERER = "request.headers.referer", Some("http.request.header.referer"), Agent;
        /// Status code, on entry and exit spans.
        HTTP_STATUS_CODE = "http.statusCode", Some("http.response.status_code"), Agent;
        /// Calls to other services in a transaction.
        EXTERNAL_CALL_COUNT = "externalCallCount", None, Intrinsic;
        /// Seconds spent in them.
        EXTERNAL_DURATION = "externalDuration", None, Intrinsic;
        /// Calls to datastores in a transaction.
        DATABASE_CALL_COUNT = "databaseCallCount", None, Intrinsic;
        /// Seconds spent in them.
        DATABASE_DURATION = "databaseDuration", None, Intrinsic;
        /// `content-type` of the answer.
        RESPONSE_CONTENT_TYPE = "response.headers.contentType", Some("http.response.header.content-type"), Agent;
        /// `content-length` of the answer, bytes.
        RESPONSE_CONTENT_LENGTH = "response.headers.contentLength", Some("http.response.body.size"), Agent;
        /// Exit: URL without query, fragment and userinfo.
        HTTP_URL = "http.url", Some("url.full"), Agent;
        /// Exit: request method.
        HTTP_METHOD = "http.method", Some("http.request.method"), Agent;
        /// Exit: host of the upstream request.
        SERVER_ADDRESS = "server.address", Some("server.address"), Agent;
        /// Exit: port of the upstream request.
        SERVER_PORT = "server.port", Some("server.port"), Agent;
        /// Status code as text, or Envoy's response flag.
        ERROR_CLASS = "error.class", Some("error.type"), Agent;
        /// Reason phrase, or Envoy's response code details.
        ERROR_MESSAGE = "error.message", Some("error.message"), Agent;
        /// Datastore exit: product.
        DB_SYSTEM = "db.system", Some("db.system.name"), Agent;
        /// Datastore exit: method.
        DB_OPERATION = "db.operation", Some("db.operation.name"), Agent;
        /// Datastore exit: host.
        PEER_HOSTNAME = "peer.hostname", Some("network.peer.address"), Agent;
        /// Datastore exit: `host:port`.
        PEER_ADDRESS = "peer.address", None, Agent;
        /// gRPC status, its number.
        GRPC_STATUS_CODE = "grpc.statusCode", Some("rpc.grpc.status_code"), Agent;
        /// Envoy's response flags, short form, joined by commas.
        RESPONSE_FLAGS = "envoy.response_flags", Some("envoy.response_flags"), Agent;
        /// Envoy's response code details.
        RESPONSE_CODE_DETAILS = "envoy.response_code_details", Some("envoy.response_code_details"), Agent;
        /// Upstream attempts after the first.
        RETRY_COUNT = "retry.count", Some("http.request.resend_count"), Agent;
        /// Milliseconds between the first request byte sent upstream and the last answer byte.
        BACKEND_LATENCY = "envoy.backend_latency_ms", Some("envoy.backend_latency_ms"), Agent;
        /// Envoy cluster of the upstream.
        UPSTREAM_CLUSTER = "envoy.upstream_cluster", Some("envoy.upstream_cluster"), Agent;
        /// CAT: own guid.
        NR_GUID = "nr.guid", None, Intrinsic;
        /// CAT: trip id.
        NR_TRIP_ID = "nr.tripId", None, Intrinsic;
        /// CAT: final path hash.
        NR_PATH_HASH = "nr.pathHash", None, Intrinsic;
        /// CAT: the caller's path hash.
        NR_REFERRING_PATH_HASH = "nr.referringPathHash", None, Intrinsic;
        /// CAT: the caller's transaction guid.
        NR_REFERRING_TRANSACTION_GUID = "nr.referringTransactionGuid", None, Intrinsic;
        /// CAT: other path hashes sent.
        NR_ALTERNATE_PATH_HASHES = "nr.alternatePathHashes", None, Intrinsic;
        /// CAT: the caller's cross process id.
        CLIENT_CROSS_PROCESS_ID = "client_cross_process_id", None, Intrinsic;
    }
}
