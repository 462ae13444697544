//! One HTTP stream: its headers, what Envoy knows of it, and how it ended.

use std::collections::{BTreeMap, BTreeSet};

use crate::abi::{BufferType, MapType, StreamType};
use crate::headers::HeaderMap;
use crate::property::{Path, Value};

/// Names one stream of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub(crate) u64);

/// A part of a stream's life, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// From the request headers on.
    Request,
    /// From the response headers on.
    Response,
    /// In `proxy_on_log` and after it.
    Log,
}

/// A response the proxy made itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// The headers as the client gets them.
    pub headers: HeaderMap,
    /// `response.code_details`.
    pub details: String,
    /// The gRPC status, when one was given.
    pub grpc_status: Option<u32>,
}

/// Response flags as the property `response.flags` shows them.
///
/// Source: Envoy `envoy/stream_info/stream_info.h`, `CoreResponseFlag`; the bit is its position.
pub mod flags {
    /// UH: no healthy upstream.
    pub const NO_HEALTHY_UPSTREAM: u64 = 0x2;
    /// UT: the upstream took too long.
    pub const UPSTREAM_REQUEST_TIMEOUT: u64 = 0x4;
    /// UF: the upstream connection failed.
    pub const UPSTREAM_CONNECTION_FAILURE: u64 = 0x20;
    /// UC: the upstream connection was terminated.
    pub const UPSTREAM_CONNECTION_TERMINATION: u64 = 0x40;
    /// UO: the circuit breaker is open.
    pub const UPSTREAM_OVERFLOW: u64 = 0x80;
    /// NR: no route.
    pub const NO_ROUTE_FOUND: u64 = 0x100;
    /// UAEX: the authorization service refused.
    pub const UNAUTHORIZED_EXTERNAL_SERVICE: u64 = 0x1000;
    /// DC: the client went away.
    pub const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 0x4000;
    /// DPE: the client broke the protocol.
    pub const DOWNSTREAM_PROTOCOL_ERROR: u64 = 0x4_0000;
    /// NC: the cluster does not exist.
    pub const NO_CLUSTER_FOUND: u64 = 0x100_0000;
}

/// How a stream ended, as Envoy tells it in attributes.
///
/// The constructors are the endings Envoy has; every field can be changed afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// `response.code`. `None`: the status of the response headers, if there are any.
    pub code: Option<u16>,
    /// `response.flags`.
    pub flags: u64,
    /// `response.code_details`.
    pub details: Option<String>,
    /// Whether an upstream host was chosen, so that `upstream.address` exists.
    pub reached_upstream: bool,
    /// Whether Envoy replies itself: `proxy_on_response_headers` is called for it, unless a response
    /// has started or the filter never saw the request.
    pub local_reply: bool,
    /// The body of that reply.
    pub body: String,
    /// `upstream.request_attempt_count`.
    pub attempts: u64,
}

/// What Envoy writes when an upstream gave no response.
const CONNECT_ERROR: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

impl Ending {
    /// The upstream answered and the response was sent.
    #[must_use]
    pub fn complete() -> Self {
        Self {
            code: None,
            flags: 0,
            details: Some("via_upstream".to_owned()),
            reached_upstream: true,
            local_reply: false,
            body: String::new(),
            attempts: 1,
        }
    }

    fn reply(code: u16, flags: u64, details: &str) -> Self {
        Self { code: Some(code), flags, details: Some(details.to_owned()), local_reply: true, ..Self::complete() }
    }

    fn without_upstream(self) -> Self {
        Self { reached_upstream: false, attempts: 0, ..self }
    }

    /// UF: the connection to the upstream failed; 503.
    #[must_use]
    pub fn connect_failure() -> Self {
        let details = "upstream_reset_before_response_started\
                       {remote_connection_failure|delayed_connect_error:_Connection_refused}";
        Self::reply(503, flags::UPSTREAM_CONNECTION_FAILURE, details)
            .body(format!("{CONNECT_ERROR}remote connection failure"))
    }

    /// UC: the upstream closed the connection before it answered; 503.
    #[must_use]
    pub fn upstream_reset() -> Self {
        let details = "upstream_reset_before_response_started{connection_termination}";
        Self::reply(503, flags::UPSTREAM_CONNECTION_TERMINATION, details)
            .body(format!("{CONNECT_ERROR}connection termination"))
    }

    /// UT: the upstream took too long; 504.
    #[must_use]
    pub fn upstream_timeout() -> Self {
        Self::reply(504, flags::UPSTREAM_REQUEST_TIMEOUT, "response_timeout").body("upstream request timeout")
    }

    /// UH: no host of the cluster is healthy; 503.
    #[must_use]
    pub fn no_healthy_upstream() -> Self {
        Self::reply(503, flags::NO_HEALTHY_UPSTREAM, "no_healthy_upstream")
            .body("no healthy upstream")
            .without_upstream()
            .attempts(1)
    }

    /// NR: no route matches; 404. Open the stream with [`StreamBuilder::unrouted`] if the filter
    /// reads the route before.
    ///
    /// [`StreamBuilder::unrouted`]: crate::StreamBuilder::unrouted
    #[must_use]
    pub fn no_route() -> Self {
        Self::reply(404, flags::NO_ROUTE_FOUND, "route_not_found").without_upstream()
    }

    /// NC: the route names a cluster that does not exist; 503.
    #[must_use]
    pub fn no_cluster() -> Self {
        Self::reply(503, flags::NO_CLUSTER_FOUND, "cluster_not_found").without_upstream()
    }

    /// The route answers by itself.
    #[must_use]
    pub fn direct_response(code: u16) -> Self {
        Self::reply(code, 0, "direct_response").without_upstream()
    }

    /// DC: the client went away before any response. There is no response code.
    #[must_use]
    pub fn client_abort() -> Self {
        Self {
            flags: flags::DOWNSTREAM_CONNECTION_TERMINATION,
            details: Some("downstream_remote_disconnect".to_owned()),
            ..Self::complete()
        }
    }

    /// A filter before this one replied. Use it on a stream whose request headers were not sent:
    /// the filter sees only `proxy_on_context_create` and `proxy_on_log`.
    #[must_use]
    pub fn earlier_filter_replied(code: u16, details: &str) -> Self {
        Self::reply(code, 0, details).without_upstream()
    }

    /// DPE: the codec refused the request; 400. Use it on a stream whose request headers were not sent.
    #[must_use]
    pub fn codec_error() -> Self {
        Self::reply(400, flags::DOWNSTREAM_PROTOCOL_ERROR, "http1.codec_error").body("Bad Request").without_upstream()
    }

    /// The upstream closed a WebSocket normally after a `101`. Envoy flags UC even then.
    #[must_use]
    pub fn websocket_closed() -> Self {
        Self {
            flags: flags::UPSTREAM_CONNECTION_TERMINATION,
            details: Some("upstream_reset_after_response_started{connection_termination}".to_owned()),
            ..Self::complete()
        }
    }

    /// Sets how many attempts Envoy made.
    #[must_use]
    pub fn attempts(self, attempts: u64) -> Self {
        Self { attempts, ..self }
    }

    /// Sets the body of Envoy's own reply.
    #[must_use]
    pub fn body(self, body: impl Into<String>) -> Self {
        Self { body: body.into(), ..self }
    }
}

/// The headers Envoy adds to a reply of its own that has a body.
pub(crate) fn add_body_headers(headers: &mut HeaderMap, body: &[u8]) {
    if body.is_empty() {
        return;
    }
    headers.replace("content-length", body.len().to_string());
    if !headers.contains("content-type") {
        headers.add("content-type", "text/plain");
    }
}

/// A property a test gave, and from when on it exists.
#[derive(Debug, Clone)]
pub(crate) struct GivenProperty {
    pub(crate) from: Phase,
    pub(crate) value: Option<Value>,
}

/// What stays the same for the whole stream.
#[derive(Debug, Clone)]
pub(crate) struct StreamSettings {
    pub(crate) worker: usize,
    pub(crate) listener: String,
    pub(crate) properties: BTreeMap<Path, GivenProperty>,
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) upstream: String,
    pub(crate) cluster: Option<String>,
    pub(crate) route: Option<String>,
    pub(crate) protocol: String,
    pub(crate) received: Option<HeaderMap>,
    pub(crate) tracer_headers: HeaderMap,
    pub(crate) attempts: u64,
    /// Whether the filters stand in the cluster's chain, so that this is one attempt of the router.
    pub(crate) attempt: Option<Attempt>,
}

/// What an attempt of the router knows of the others.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attempt {
    /// Whether the upstream answered an earlier one.
    pub(crate) answered_before: bool,
    /// Whether the router makes another one after it.
    pub(crate) retried: bool,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            worker: 0,
            listener: "default".to_owned(),
            properties: BTreeMap::new(),
            source: "10.0.0.1:40000".to_owned(),
            destination: "10.0.0.2:8080".to_owned(),
            upstream: "10.0.0.3:9090".to_owned(),
            cluster: Some("backend".to_owned()),
            route: Some("default".to_owned()),
            protocol: "HTTP/1.1".to_owned(),
            received: None,
            tracer_headers: HeaderMap::new(),
            attempts: 1,
            attempt: None,
        }
    }
}

/// One filter of the stream's chain.
#[derive(Debug)]
pub(crate) struct FilterContext {
    /// Index of the plugin instance that was current when the stream opened.
    pub(crate) root: usize,
    /// The number of the context in its VM, once it was created.
    pub(crate) context: Option<u32>,
    /// Maps the guest may see and change now: those of the running callback, and those it paused in.
    pub(crate) maps: BTreeSet<MapType>,
    /// Whether `proxy_on_log` is running.
    pub(crate) logging: bool,
    /// The bodies the guest may see and change now.
    pub(crate) buffers: BTreeMap<BufferType, Vec<u8>>,
    /// Whether the filter stands aside: its VM is dead and the policy lets streams pass.
    pub(crate) bypassed: bool,
    /// Whether the stream failed with this filter: it is not called for it any more.
    pub(crate) failed: bool,
}

impl FilterContext {
    pub(crate) fn of(root: usize) -> Self {
        Self {
            root,
            context: None,
            maps: BTreeSet::new(),
            logging: false,
            buffers: BTreeMap::new(),
            bypassed: false,
            failed: false,
        }
    }
}

/// Where the processing of one direction waits for the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paused {
    /// The position in the chain.
    pub(crate) filter: usize,
    /// What the guest saw when it paused.
    pub(crate) at: MapType,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) settings: StreamSettings,
    pub(crate) filters: Vec<FilterContext>,
    pub(crate) headers: BTreeMap<MapType, HeaderMap>,
    pub(crate) filter_state: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) request_paused: Option<Paused>,
    pub(crate) response_paused: Option<Paused>,
    pub(crate) request_body: Vec<u8>,
    pub(crate) response_body: Vec<u8>,
    pub(crate) request_bytes: u64,
    pub(crate) started: bool,
    /// Whether the request ends with its headers.
    pub(crate) ends_with_headers: bool,
    /// Whether the request headers passed all filters, so that the router tried the upstream.
    pub(crate) routed: bool,
    pub(crate) response_started: bool,
    /// Whether the last byte of the response came.
    pub(crate) response_complete: bool,
    pub(crate) ending: Option<Ending>,
    pub(crate) ended: bool,
    pub(crate) local_reply: Option<LocalReply>,
    pub(crate) reset: bool,
    pub(crate) start_wall_ns: u64,
    pub(crate) start_elapsed_ns: u64,
    pub(crate) response_start_ns: Option<u64>,
    pub(crate) end_ns: Option<u64>,
    pub(crate) connection_id: u64,
}

impl Stream {
    /// Whether the guest at `filter` may see this map, and its content.
    ///
    /// While `proxy_on_log` runs, the maps of the access log are seen, and none is open for change.
    pub(crate) fn readable(&self, filter: usize, map: MapType) -> Option<&HeaderMap> {
        let context = self.filters.get(filter)?;
        let seen = if context.logging { map != MapType::RequestTrailers } else { context.maps.contains(&map) };
        if seen { self.headers.get(&map) } else { None }
    }

    /// The map for change: open in the running callback or in the one the guest paused in.
    pub(crate) fn writable(&mut self, filter: usize, map: MapType) -> Option<&mut HeaderMap> {
        let context = self.filters.get(filter)?;
        if context.maps.contains(&map) { self.headers.get_mut(&map) } else { None }
    }

    /// Closes the maps of one direction for the guest at `filter`.
    pub(crate) fn close_maps(&mut self, filter: usize, side: StreamType) {
        let closed = if side == StreamType::Request {
            [MapType::RequestHeaders, MapType::RequestTrailers]
        } else {
            [MapType::ResponseHeaders, MapType::ResponseTrailers]
        };
        if let Some(context) = self.filters.get_mut(filter) {
            context.maps.retain(|map| !closed.contains(map));
        }
    }

    /// The request headers passed all filters. The proxy's own tracer writes its context, which filters of the
    /// cluster had before them already.
    pub(crate) fn leave(&mut self) {
        self.routed = true;
        if self.settings.attempt.is_none() {
            self.trace();
        }
    }

    /// The proxy's own tracer writes its context, as the router begins.
    pub(crate) fn trace(&mut self) {
        let headers = self.headers.entry(MapType::RequestHeaders).or_default();
        for (name, value) in self.settings.tracer_headers.iter() {
            headers.replace(name, value);
        }
    }

    /// The part of its life the stream is in.
    pub(crate) fn phase(&self) -> Phase {
        if self.end_ns.is_some() {
            Phase::Log
        } else if self.response_started {
            Phase::Response
        } else {
            Phase::Request
        }
    }

    /// The code of the response: of the ending, or else of the response headers.
    pub(crate) fn response_code(&self) -> Option<u16> {
        if let Some(code) = self.ending.as_ref().and_then(|ending| ending.code) {
            return Some(code);
        }
        let status = self.headers.get(&MapType::ResponseHeaders)?.get(":status")?;
        std::str::from_utf8(status).ok()?.parse().ok()
    }
}
