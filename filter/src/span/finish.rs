//! The end of a request: what it was, as records.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::attributes::{Attributes, seconds};
use super::cat::{CatCalls, CatRequest};
use super::names;
use super::queue_time::queue_ns;
use super::response_flags::ResponseFlags;
use super::status_text::{grpc_name, reason_phrase};
use super::{Guid, Kept, KeptParent, MILLI, OpenRequest, Route, Tracer};
use crate::caller_metrics::{CallerMetrics, Transport};
use crate::config::{Config, CustomValue, Datastore, Role};
use crate::headers::RequestHeaders;
use crate::id::{ParentId, SpanId};
use crate::newrelic::cat::Intrinsics;
use crate::record::{Key, OtlpStatus, SpanKind, SpanRecord, TransactionRecord, Value, keys};
use crate::sampler::Granularity;
use crate::url;

/// The only response code detail of an answer that came whole from the upstream.
const VIA_UPSTREAM: &[u8] = b"via_upstream";

/// What the host has to read at the end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing, not even the time.
    Nothing,
    /// The time and the status code, for the statistics by caller.
    StatusCode,
    /// Everything in [`Outcome`].
    Record {
        /// Also what only an exit span shows.
        exit: bool,
        /// Also the gRPC status.
        grpc: bool,
    },
}

/// What became of a request. Texts are bytes of the host's, empty when it has none.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// Now, Unix nanoseconds.
    pub end_ns: u64,
    /// Status code of the answer; none when the client went before there was one.
    pub status_code: Option<u16>,
    /// `content-type` of the answer.
    pub content_type: Option<&'a [u8]>,
    /// `content-length` of the answer.
    pub content_length: Option<&'a [u8]>,
    /// Envoy's response code details.
    pub details: &'a [u8],
    /// Envoy's response flags.
    pub flags: ResponseFlags,
    /// What the route says.
    pub route: Route<'a>,
    /// The Envoy cluster.
    pub cluster: &'a [u8],
    /// Whether an upstream host was chosen.
    pub has_upstream: bool,
    /// Whether the connection to it is encrypted.
    pub upstream_is_tls: bool,
    /// The request's authority as sent upstream.
    pub upstream_authority: &'a [u8],
    /// The request's path as sent upstream.
    pub upstream_path: &'a [u8],
    /// Nanoseconds from the first byte sent upstream to the last byte of the answer.
    pub backend_latency_ns: Option<u64>,
    /// Tries to send the request upstream.
    pub attempts: u64,
    /// gRPC status of the answer; only meaningful for a gRPC request.
    pub grpc_status: Option<i64>,
    /// Values of the custom attributes that are host properties, in the order of the configuration.
    pub properties: &'a [Vec<u8>],
}

impl Outcome<'_> {
    /// An outcome of which only the time and the status code are known.
    pub fn of_status(end_ns: u64, status_code: Option<u16>) -> Self {
        Self {
            end_ns,
            status_code,
            content_type: None,
            content_length: None,
            details: b"",
            flags: ResponseFlags(0),
            route: Route { transaction_name: b"", name: b"" },
            cluster: b"",
            has_upstream: false,
            upstream_is_tls: false,
            upstream_authority: b"",
            upstream_path: b"",
            backend_latency_ns: None,
            attempts: 0,
            grpc_status: None,
            properties: &[],
        }
    }

    /// Whether the answer came whole from the upstream, so that no response flag tells of a failure.
    pub fn is_details_of_upstream_answer(details: &[u8]) -> bool {
        details == VIA_UPSTREAM
    }

    fn came_via_upstream(&self) -> bool {
        Self::is_details_of_upstream_answer(self.details)
    }

    fn is_upgrade(&self) -> bool {
        self.status_code == Some(101)
    }

    /// The flags that tell of something: an upgraded connection ends with some in any case.
    fn telling_flags(&self) -> ResponseFlags {
        if self.is_upgrade() { self.flags.of_upgrade() } else { self.flags }
    }

    /// Why no whole answer came from upstream, as a response flag.
    fn upstream_failure(&self) -> Option<&'static str> {
        if self.came_via_upstream() { None } else { self.telling_flags().upstream_failure() }
    }

    /// Whether the request was sent upstream, or failed on its way there.
    fn went_upstream(&self) -> bool {
        self.came_via_upstream() || self.has_upstream || self.upstream_failure().is_some()
    }

    /// The status of the upstream; a failure has one only when the answer had begun.
    fn upstream_status(&self) -> Option<u16> {
        let began = self.came_via_upstream()
            || self.is_upgrade()
            || self.details.starts_with(b"upstream_reset_after_response_started");
        self.status_code.filter(|_| began)
    }
}

/// An error as New Relic's `error.class` and `error.message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failure<'a> {
    class: &'a [u8],
    message: &'a [u8],
}

/// Whoever takes the records of a finished request.
pub trait Sink {
    /// Takes a span.
    fn span(&mut self, record: &SpanRecord<'_>);
    /// Takes a transaction.
    fn transaction(&mut self, record: &TransactionRecord<'_>);
}

/// What a finished request adds up to, besides its records.
#[derive(Clone, Debug, PartialEq)]
pub struct Totals {
    /// Spans recorded.
    pub spans: u64,
    /// For the statistics of Cross Application Tracing.
    pub cat_calls: CatCalls,
}

impl OpenRequest {
    /// What the host has to read before [`OpenRequest::finish`].
    pub fn needs(&self) -> Needs {
        if self.is_recorded() || self.cat.as_ref().is_some_and(|cat| cat.callee.is_some()) {
            Needs::Record { exit: self.exit_id.is_some(), grpc: self.kept.as_ref().is_some_and(|kept| kept.is_grpc) }
        } else if self.caller.is_some() || self.cat.as_ref().is_some_and(|cat| cat.trip.is_some()) {
            Needs::StatusCode
        } else {
            Needs::Nothing
        }
    }

    /// Ends the request: statistics by caller, and its records.
    pub fn finish(
        mut self: Box<Self>,
        tracer: &Tracer,
        outcome: &Outcome<'_>,
        callers: &mut CallerMetrics,
        sink: &mut dyn Sink,
    ) -> Totals {
        let cat = self.cat.take();
        let mut digits = itoa::Buffer::new();
        let grpc_status = outcome.grpc_status.filter(|_| self.is_recorded());
        let failure = entry_failure(tracer.config(), outcome.status_code, grpc_status, &mut digits);
        if let Some(slot) = self.caller {
            callers.observe(slot, self.duration_ns(outcome), self.transport_ns(), failure.is_some());
        }
        let cat_calls = cat.as_ref().map(|cat| self.cat_calls(cat, tracer, outcome)).unwrap_or_default();
        let Some(kept) = &self.kept else { return Totals { spans: 0, cat_calls } };
        let headers = RequestHeaders::new(&kept.headers);
        let mut finished = Finished::new(&self, kept, tracer, outcome, &headers, failure);
        if let (Some(trip), Some(settings)) = (cat.and_then(|cat| cat.trip), &tracer.cat) {
            if let Some(name) = trip.frozen_name() {
                finished.transaction_name = name.as_bytes().to_vec();
            }
            finished.cat = Some(trip.finish(settings, &finished.transaction_name));
        }
        Totals { spans: finished.send(sink), cat_calls }
    }

    fn cat_calls(&self, cat: &CatRequest, tracer: &Tracer, outcome: &Outcome<'_>) -> CatCalls {
        let caller = cat.trip.as_ref().and_then(|trip| trip.accepted().client_cross_process_id.clone());
        let exit = self.exit_id.map(|span_id| Exit::new(span_id, self, tracer.config(), outcome));
        let callee = exit.zip(cat.callee.clone()).map(|(exit, callee)| (exit.host, callee, exit.duration_ns));
        CatCalls { caller: caller.map(|caller| (caller, self.duration_ns(outcome))), callee }
    }

    fn duration_ns(&self, outcome: &Outcome<'_>) -> u64 {
        outcome.end_ns.saturating_sub(self.times.start_ns)
    }

    /// Nanoseconds from the caller's sending to our start; zero when the clocks disagree.
    fn transport_ns(&self) -> Option<u64> {
        let sent_ms = self.caller_sent_ms?;
        // A caller's nonsense counts as now.
        let sent_ns =
            u64::try_from(sent_ms).ok().filter(|sent_ms| *sent_ms > 0).map(|sent_ms| sent_ms.saturating_mul(MILLI));
        Some(sent_ns.map_or(0, |sent_ns| self.times.start_ns.saturating_sub(sent_ns)))
    }
}

/// gRPC itself, with any encoding of its messages; gRPC-Web keeps its status in the body, where nobody reads it.
pub(super) fn is_grpc(headers: &RequestHeaders<'_>) -> bool {
    let rest = headers.content_type.and_then(|content_type| content_type.strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

/// Status codes from 400 on are errors unless ignored; so are gRPC statuses but OK and, as 404 of HTTP, NOT_FOUND.
fn entry_failure<'a>(
    config: &Config,
    status_code: Option<u16>,
    grpc_status: Option<i64>,
    digits: &'a mut itoa::Buffer,
) -> Option<Failure<'a>> {
    const GRPC_NOT_FOUND: i64 = 5;
    if let Some(code) = status_code.filter(|code| *code >= 400 && !config.ignore_status_codes.contains(*code)) {
        return Some(Failure { class: digits.format(code).as_bytes(), message: reason_phrase(code).as_bytes() });
    }
    let status = grpc_status.filter(|status| !matches!(*status, 0 | GRPC_NOT_FOUND))?;
    Some(Failure { class: digits.format(status).as_bytes(), message: grpc_name(status).as_bytes() })
}

/// Everything that the records of one request are made of.
struct Finished<'a> {
    open: &'a OpenRequest,
    tracer: &'a Tracer,
    outcome: &'a Outcome<'a>,
    headers: &'a RequestHeaders<'a>,
    parent: Option<&'a KeptParent>,
    trace_state: &'a [u8],
    failure: Option<Failure<'a>>,
    exit: Option<Exit>,
    cat: Option<Intrinsics>,
    transaction_name: Vec<u8>,
    transaction_guid: Option<Vec<u8>>,
    referer: Vec<u8>,
    error_flags: String,
}

/// The call upstream.
struct Exit {
    span_id: SpanId,
    url: Vec<u8>,
    host: Vec<u8>,
    address: Vec<u8>,
    port: Option<u16>,
    /// `host:port`, for a datastore alone.
    peer_address: Vec<u8>,
    system: Option<Box<str>>,
    duration_ns: u64,
}

impl Exit {
    fn new(span_id: SpanId, open: &OpenRequest, config: &Config, outcome: &Outcome<'_>) -> Self {
        let scheme: &[u8] = if outcome.upstream_is_tls { b"https" } else { b"http" };
        let host = names::external_host(scheme, outcome.upstream_authority);
        let (address, port) = url::split_port(url::without_userinfo(outcome.upstream_authority));
        let default_port = if outcome.upstream_is_tls { 443 } else { 80 };
        let is_of = |rule: &&Datastore| rule.host.matches(&host) || rule.host.matches(address);
        let until_now = outcome.end_ns.saturating_sub(open.times.now_ns);
        // Behind a gateway the proxy's own share is in the entry span; an outbound proxy is the caller's side whole.
        let backend = outcome.backend_latency_ns.filter(|_| open.role == Role::Gateway);
        let port = (!address.is_empty()).then(|| port.unwrap_or(default_port));
        let system = config.datastores.iter().find(is_of).map(|rule| rule.system.clone());
        let peer_address = match (&system, port) {
            (Some(_), Some(port)) => [address, b":", itoa::Buffer::new().format(port).as_bytes()].concat(),
            _ => Vec::new(),
        };
        Self {
            span_id,
            url: url::sanitize(&[scheme, b"://", outcome.upstream_authority, outcome.upstream_path].concat()),
            address: address.to_vec(),
            port,
            peer_address,
            system,
            host,
            duration_ns: backend.map_or(until_now, |latency| latency.min(until_now)),
        }
    }

    fn name(&self, method: &[u8]) -> Vec<u8> {
        match &self.system {
            Some(system) => names::datastore(system, method),
            None => names::external(&self.host, method),
        }
    }
}

impl<'a> Finished<'a> {
    fn new(
        open: &'a OpenRequest,
        kept: &'a Kept,
        tracer: &'a Tracer,
        outcome: &'a Outcome<'a>,
        headers: &'a RequestHeaders<'a>,
        failure: Option<Failure<'a>>,
    ) -> Self {
        let config = tracer.config();
        let exit =
            open.exit_id.filter(|_| outcome.went_upstream()).map(|span_id| Exit::new(span_id, open, config, outcome));
        let mut hex = [0; 16];
        Self {
            open,
            tracer,
            outcome,
            headers,
            parent: kept.parent.as_ref(),
            trace_state: &kept.trace_state,
            failure,
            exit,
            cat: None,
            transaction_name: transaction_name(config, &outcome.route, headers),
            transaction_guid: open.transaction_id.as_ref().map(|guid: &Guid| guid.text(&mut hex).to_vec()),
            referer: headers.referer.map(url::sanitize).unwrap_or_default(),
            error_flags: outcome.telling_flags().names(),
        }
    }

    fn send(&self, sink: &mut dyn Sink) -> u64 {
        if self.open.records_transaction {
            self.send_transaction(sink);
        }
        if !self.open.records_spans {
            return 0;
        }
        if let Some(span_id) = self.open.entry_id {
            self.send_entry_span(span_id, sink);
        }
        if let Some(exit) = &self.exit {
            self.send_exit_span(exit, sink);
        }
        u64::from(self.open.entry_id.is_some()) + u64::from(self.exit.is_some())
    }

    fn send_entry_span(&self, span_id: SpanId, sink: &mut dyn Sink) {
        let open = self.open;
        let mut attributes = self.attributes(open.decision.granularity);
        self.add_intrinsics(&mut attributes, SpanKind::Server, b"generic");
        attributes.add(&keys::ENTRY_POINT, Value::Bool(true));
        attributes.add_mark(SpanKind::Server, open.duration_ns(self.outcome));
        attributes.add_text(&keys::TRANSACTION_NAME, Some(&self.transaction_name));
        let trusted_parent_id = self.parent.and_then(|parent| parent.caller.as_ref()?.trusted_parent_id.as_deref());
        attributes.add_text(&keys::TRUSTED_PARENT_ID, trusted_parent_id);
        attributes.add_text(&keys::TRACING_VENDORS, self.parent.map(|parent| &*parent.vendors));
        self.add_request(&mut attributes);
        self.add_answer(&mut attributes);
        self.add_failure(&mut attributes, self.failure);
        self.add_parent(&mut attributes);
        self.add_user(&mut attributes);
        let is_server_error =
            self.failure.is_some() && self.outcome.status_code.is_none_or(|code| !(400..500).contains(&code));
        sink.span(&SpanRecord {
            kind: SpanKind::Server,
            trace: &open.trace,
            span_id,
            parent: self.parent.and_then(|parent| parent.parent_id.as_ref()),
            name: &self.transaction_name,
            otlp_name: names::without_prefix(&self.transaction_name),
            start_ns: open.times.start_ns,
            duration_ns: open.duration_ns(self.outcome),
            priority: open.decision.priority,
            sampled: open.decision.sampled,
            origin: open.decision.origin,
            otlp_status: if is_server_error { OtlpStatus::Error(None) } else { OtlpStatus::Unset },
            trace_state: self.trace_state,
            attributes: attributes.as_slice(),
        });
    }

    fn send_exit_span(&self, exit: &Exit, sink: &mut dyn Sink) {
        let open = self.open;
        let mut attributes = self.attributes(open.decision.granularity);
        let category: &[u8] = if exit.system.is_some() { b"datastore" } else { b"http" };
        self.add_intrinsics(&mut attributes, SpanKind::Client, category);
        let component = exit.system.as_deref().unwrap_or("envoy").as_bytes();
        attributes.add(&keys::COMPONENT, Value::Text(component));
        attributes.add_mark(SpanKind::Client, exit.duration_ns);
        self.add_call(&mut attributes, exit);
        let failure = self
            .outcome
            .upstream_failure()
            .map(|flag| Failure { class: flag.as_bytes(), message: self.outcome.details });
        self.add_failure(&mut attributes, failure);
        self.add_delivery(&mut attributes);
        if open.role == Role::Outbound {
            self.add_user(&mut attributes);
        }
        let enclosing = open.entry_id.map(ParentId::Span);
        let is_error_status = self.outcome.upstream_status().is_some_and(|code| code >= 400);
        let otlp_status = match failure {
            Some(failure) => OtlpStatus::Error(Some(failure.message)),
            None if is_error_status => OtlpStatus::Error(None),
            None => OtlpStatus::Unset,
        };
        sink.span(&SpanRecord {
            kind: SpanKind::Client,
            trace: &open.trace,
            span_id: exit.span_id,
            parent: enclosing.as_ref().or_else(|| self.parent.and_then(|parent| parent.parent_id.as_ref())),
            name: &exit.name(self.headers.method),
            otlp_name: names::method(self.headers.method),
            start_ns: open.times.now_ns,
            duration_ns: exit.duration_ns,
            priority: open.decision.priority,
            sampled: open.decision.sampled,
            origin: open.decision.origin,
            otlp_status,
            trace_state: self.trace_state,
            attributes: attributes.as_slice(),
        });
    }

    fn send_transaction(&self, sink: &mut dyn Sink) {
        let open = self.open;
        let hex = open.trace.id.to_hex();
        let mut attributes = self.attributes(Granularity::Full);
        attributes.add(&keys::ERROR, Value::Bool(self.failure.is_some()));
        if self.tracer.is_distributed() {
            attributes.add_text(&keys::GUID, self.transaction_guid.as_deref());
            attributes.add(&keys::TRACE_ID, Value::Text(open.trace.text(&hex)));
            attributes.add(&keys::PRIORITY, Value::Priority(open.decision.priority));
            attributes.add(&keys::SAMPLED, Value::Bool(open.decision.sampled));
        }
        for attribute in self.cat.iter().flat_map(Intrinsics::attributes) {
            attributes.push(attribute.name, attribute.value);
        }
        self.add_parent(&mut attributes);
        let caller = self.parent.and_then(|parent| parent.caller.as_ref());
        attributes.add_text(&keys::PARENT_ID, caller.and_then(|caller| caller.transaction_id.as_deref()));
        let parent_span_id = self.parent.and_then(|parent| parent.parent_id.as_ref()).map(parent_id_text);
        attributes.add_text(&keys::PARENT_SPAN_ID, parent_span_id.as_deref());
        self.add_request(&mut attributes);
        self.add_answer(&mut attributes);
        if let Some(exit) = &self.exit {
            let (count, duration) = exit_totals(exit);
            attributes.add(count, Value::Int(1));
            attributes.add_seconds(duration, Some(exit.duration_ns));
        }
        sink.transaction(&TransactionRecord {
            name: &self.transaction_name,
            start_ns: open.times.start_ns,
            duration_ns: open.duration_ns(self.outcome),
            priority: open.decision.priority,
            origin: open.decision.origin,
            attributes: attributes.as_slice(),
        });
    }

    fn attributes<'b>(&'b self, granularity: Granularity) -> Attributes<'b> {
        Attributes::new(&self.tracer.config().span_events.attributes, granularity)
    }

    fn add_intrinsics<'b>(&'b self, attributes: &mut Attributes<'b>, kind: SpanKind, category: &'static [u8]) {
        attributes.add(&keys::SPAN_KIND, Value::Text(kind.as_str().as_bytes()));
        attributes.add(&keys::CATEGORY, Value::Text(category));
        attributes.add_text(&keys::TRANSACTION_ID, self.transaction_guid.as_deref());
        attributes.add(&keys::PRIORITY, Value::Priority(self.open.decision.priority));
        attributes.add(&keys::SAMPLED, Value::Bool(self.open.decision.sampled));
    }

    fn add_request<'b>(&'b self, attributes: &mut Attributes<'b>) {
        let headers = self.headers;
        attributes.add_text(&keys::REQUEST_METHOD, Some(headers.method));
        attributes.add_text(&keys::REQUEST_URI, Some(headers.path_only()));
        attributes.add_text(&keys::REQUEST_HOST, Some(headers.authority));
        attributes.add_text(&keys::REQUEST_ACCEPT, headers.accept);
        attributes.add_text(&keys::REQUEST_CONTENT_TYPE, headers.content_type);
        add_length(attributes, &keys::REQUEST_CONTENT_LENGTH, headers.content_length);
        attributes.add_text(&keys::REQUEST_USER_AGENT, headers.user_agent);
        attributes.add_text(&keys::REQUEST_REFERER, Some(&self.referer));
        let queued = queue_ns(headers.queue_start, headers.request_start, self.open.times.start_ns);
        attributes.add_seconds(&keys::QUEUE_DURATION, queued);
    }

    fn add_answer<'b>(&'b self, attributes: &mut Attributes<'b>) {
        if let Some(code) = self.outcome.status_code {
            attributes.add(&keys::HTTP_STATUS_CODE, Value::Int(code.into()));
        }
        attributes.add_text(&keys::RESPONSE_CONTENT_TYPE, self.outcome.content_type);
        add_length(attributes, &keys::RESPONSE_CONTENT_LENGTH, self.outcome.content_length);
        self.add_grpc_status(attributes);
        self.add_ending(attributes);
    }

    /// What only a proxy knows of the end of a request.
    fn add_ending<'b>(&'b self, attributes: &mut Attributes<'b>) {
        attributes.add_text(&keys::RESPONSE_FLAGS, Some(self.error_flags.as_bytes()));
        if !self.outcome.came_via_upstream() {
            attributes.add_text(&keys::RESPONSE_CODE_DETAILS, Some(self.outcome.details));
        }
    }

    fn add_grpc_status<'b>(&'b self, attributes: &mut Attributes<'b>) {
        if let Some(status) = self.outcome.grpc_status {
            attributes.add(&keys::GRPC_STATUS_CODE, Value::Int(status));
        }
    }

    fn add_failure<'b>(&'b self, attributes: &mut Attributes<'b>, failure: Option<Failure<'b>>) {
        if let Some(failure) = failure {
            attributes.add_text(&keys::ERROR_CLASS, Some(failure.class));
            attributes.add_text(&keys::ERROR_MESSAGE, Some(failure.message));
        }
    }

    fn add_parent<'b>(&'b self, attributes: &mut Attributes<'b>) {
        let Some(parent) = self.parent else { return };
        if let Some(caller) = &parent.caller {
            attributes.add(&keys::PARENT_TYPE, Value::Text(caller.caller_type.as_str().as_bytes()));
            attributes.add_text(&keys::PARENT_ACCOUNT, Some(&caller.account_id));
            attributes.add_text(&keys::PARENT_APP, Some(&caller.app_id));
        }
        let transport = Transport::of_scheme(self.headers.scheme);
        attributes.add(&keys::PARENT_TRANSPORT_TYPE, Value::Text(transport.as_str().as_bytes()));
        attributes.add_seconds(&keys::PARENT_TRANSPORT_DURATION, self.open.transport_ns());
    }

    fn add_call<'b>(&'b self, attributes: &mut Attributes<'b>, exit: &'b Exit) {
        attributes.add_text(&keys::HTTP_URL, Some(&exit.url));
        attributes.add_text(&keys::HTTP_METHOD, Some(self.headers.method));
        if let Some(code) = self.outcome.upstream_status() {
            attributes.add(&keys::HTTP_STATUS_CODE, Value::Int(code.into()));
        }
        self.add_grpc_status(attributes);
        attributes.add_text(&keys::SERVER_ADDRESS, Some(&exit.address));
        if let Some(port) = exit.port {
            attributes.add(&keys::SERVER_PORT, Value::Int(port.into()));
        }
        if let Some(system) = &exit.system {
            attributes.add(&keys::DB_SYSTEM, Value::Text(system.as_bytes()));
            attributes.add_text(&keys::DB_OPERATION, Some(self.headers.method));
            attributes.add_text(&keys::PEER_HOSTNAME, Some(&exit.address));
            attributes.add_text(&keys::PEER_ADDRESS, Some(&exit.peer_address));
        }
    }

    /// How the call went from the proxy's point of view.
    fn add_delivery<'b>(&'b self, attributes: &mut Attributes<'b>) {
        attributes.add_text(&keys::UPSTREAM_CLUSTER, Some(self.outcome.cluster));
        if let Some(latency_ns) = self.outcome.backend_latency_ns {
            attributes.add(&keys::BACKEND_LATENCY, Value::Float(seconds(latency_ns) * 1e3));
        }
        if let Some(retries) = self.outcome.attempts.checked_sub(1).filter(|retries| *retries > 0) {
            attributes.add(&keys::RETRY_COUNT, Value::Int(i64::try_from(retries).unwrap_or(i64::MAX)));
        }
        // The entry span of the same request says it otherwise.
        if self.open.role == Role::Outbound {
            self.add_ending(attributes);
        }
    }

    fn add_user<'b>(&'b self, attributes: &mut Attributes<'b>) {
        let settings = &self.tracer.config().span_events;
        for (header, name) in &settings.request_headers {
            if let Some(value) = self.headers.line(header.as_bytes()) {
                attributes.add_user(name, Value::Text(value));
            }
        }
        let mut properties = self.outcome.properties.iter();
        for (name, value) in &settings.custom_attributes {
            match value {
                CustomValue::Text(text) => attributes.add_user(name, Value::Text(text.as_bytes())),
                CustomValue::Number(number) => attributes.add_user(name, Value::Float(*number)),
                CustomValue::Bool(truth) => attributes.add_user(name, Value::Bool(*truth)),
                CustomValue::Property(_) => {
                    if let Some(value) = properties.next().and_then(|bytes| property_value(bytes)) {
                        attributes.add_user(name, value);
                    }
                }
            }
        }
    }
}

/// The name that a rule or the route gives, or one made of the request.
pub(super) fn transaction_name(config: &Config, route: &Route<'_>, headers: &RequestHeaders<'_>) -> Vec<u8> {
    let path = headers.path_only();
    match config.transaction_name_rules.iter().find(|rule| rule.path.matches(path)) {
        Some(rule) => rule.name.as_bytes().to_vec(),
        None if !route.transaction_name.is_empty() => route.transaction_name.to_vec(),
        None => names::transaction(route.name, headers.method, path),
    }
}

/// The names of a transaction's totals for the kind of call that it made.
fn exit_totals(exit: &Exit) -> (&'static Key, &'static Key) {
    if exit.system.is_some() {
        (&keys::DATABASE_CALL_COUNT, &keys::DATABASE_DURATION)
    } else {
        (&keys::EXTERNAL_CALL_COUNT, &keys::EXTERNAL_DURATION)
    }
}

fn parent_id_text(parent: &ParentId) -> Vec<u8> {
    match parent {
        ParentId::Span(id) => id.to_hex().to_vec(),
        ParentId::Text(text) => text.as_bytes().to_vec(),
    }
}

fn add_length<'a>(attributes: &mut Attributes<'a>, key: &'static Key, value: Option<&[u8]>) {
    let length = value.and_then(url::parse_decimal).and_then(|length| i64::try_from(length).ok());
    if let Some(length) = length {
        attributes.add(key, Value::Int(length));
    }
}

/// A host property as the host encodes it: text as it is, a number as eight bytes, a truth value as one.
///
/// The bytes do not tell their type, so bytes that are readable text are taken for text, and eight other bytes for a
/// whole number unless it would be beyond 2^61: the host has none so large, while every usual double looks like one.
fn property_value(bytes: &[u8]) -> Option<Value<'_>> {
    const WHOLE_NUMBERS_END: u64 = 1 << 61;
    let is_text = |text: &str| !text.chars().any(char::is_control);
    match bytes {
        [] => None,
        [0 | 1] => Some(Value::Bool(bytes == [1])),
        _ if core::str::from_utf8(bytes).is_ok_and(is_text) => Some(Value::Text(bytes)),
        _ => bytes.try_into().ok().map(i64::from_le_bytes).map(|number| {
            if number.unsigned_abs() < WHOLE_NUMBERS_END {
                Value::Int(number)
            } else {
                Value::Float(f64::from_bits(number.cast_unsigned()))
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_shows_its_type_by_its_bytes() {
        for (bytes, expected) in [
            (&b"10.0.0.1:80"[..], Some(Value::Text(b"10.0.0.1:80"))),
            (b"", None),
            (&[1], Some(Value::Bool(true))),
            (&[0], Some(Value::Bool(false))),
            (&42_i64.to_le_bytes(), Some(Value::Int(42))),
            (&(-7_i64).to_le_bytes(), Some(Value::Int(-7))),
            (&1_750_000_000_123_000_000_i64.to_le_bytes(), Some(Value::Int(1_750_000_000_123_000_000))),
            (&0.5_f64.to_le_bytes(), Some(Value::Float(0.5))),
            (&(-2.5_f64).to_le_bytes(), Some(Value::Float(-2.5))),
            (&[0xff, 0xfe], None),
        ] {
            assert_eq!(property_value(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn only_grpc_itself_has_a_grpc_status() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            let pairs = [(&b"content-type"[..], content_type.as_bytes())];
            let buffer = crate::headers::serialize_pairs(pairs.into_iter());
            assert_eq!(is_grpc(&RequestHeaders::new(&buffer)), expected, "{content_type}");
        }
    }
}
