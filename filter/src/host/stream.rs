//! One stream of the worker: from its headers to its log.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::abi::Map;
use super::calls;
use super::plugin::Plugin;
use crate::headers::{HeaderPairs, RequestHeaders};
use crate::random::RandomPool;
use crate::span::{Needs, OpenRequest, Outcome, ResponseFlags, Route, Times};
use crate::url::parse_decimal;

/// Bytes of request headers that the streams of a VM keep together; what a stream beyond it records is dropped.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// A stream between its creation and its end.
#[derive(Debug)]
pub(super) struct Stream {
    root: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No headers yet.
    Created,
    /// On its way.
    Open(Box<OpenRequest>),
    /// Nothing more to do: excluded, or ended.
    Closed,
}

impl Stream {
    pub(super) fn new(root: u32) -> Self {
        Self { root, state: State::Created }
    }

    pub(super) fn root(&self) -> u32 {
        self.root
    }

    /// The request's headers are there: decide, and change them.
    pub(super) fn begin(&mut self, plugin: &mut Plugin, random: &mut RandomPool, kept_bytes: &mut usize) {
        if !matches!(self.state, State::Created) {
            return;
        }
        if !plugin.is_active() {
            self.state = State::Closed;
            return;
        }
        let now_ns = calls::now_ns();
        let start_ns = if plugin.is_cat() { request_start_ns(now_ns) } else { now_ns };
        let buffer = calls::header_map(Map::Request);
        self.state = match plugin.open(&buffer, Times { start_ns, now_ns }, random) {
            None => State::Closed,
            Some((mut open, edits)) => {
                plugin.edit_request(&edits);
                plugin.forward(&mut open);
                plugin.decorate(&open);
                open.count_start(&mut plugin.stats);
                keep(&mut open, buffer, kept_bytes, plugin);
                State::Open(open)
            }
        };
    }

    /// The answer's headers are there: Cross Application Tracing reads and writes one of them.
    pub(super) fn answer(&mut self, plugin: &mut Plugin) {
        if let State::Open(open) = &mut self.state
            && plugin.is_cat()
        {
            let buffer = calls::header_map(Map::Response);
            for edit in plugin.answer(open, HeaderPairs::new(&buffer)) {
                calls::edit_header(Map::Response, &edit);
            }
        }
    }

    /// The stream ended: record it.
    pub(super) fn end(&mut self, plugin: &mut Plugin, random: &mut RandomPool, kept_bytes: &mut usize) {
        let state = core::mem::replace(&mut self.state, State::Closed);
        let open = match state {
            State::Open(open) => open,
            State::Created => match self.late(plugin, random, kept_bytes) {
                Some(open) => open,
                None => return,
            },
            State::Closed => return,
        };
        *kept_bytes = kept_bytes.saturating_sub(open.kept_bytes());
        finish(open, plugin);
        plugin.publish_early();
    }

    /// A request that an earlier filter or the codec answered: it never reached this filter. Without a method
    /// there is nothing to tell of it.
    fn late(&self, plugin: &mut Plugin, random: &mut RandomPool, kept_bytes: &mut usize) -> Option<Box<OpenRequest>> {
        if !plugin.is_active() {
            return None;
        }
        let buffer = calls::header_map(Map::Request);
        if RequestHeaders::new(&buffer).method.is_empty() {
            return None;
        }
        let now_ns = calls::now_ns();
        let times = Times { start_ns: request_start_ns(now_ns), now_ns };
        let (mut open, _) = plugin.open(&buffer, times, random)?;
        open.count_start(&mut plugin.stats);
        keep(&mut open, buffer, kept_bytes, plugin);
        Some(open)
    }

    /// Gives back what an unfinished stream keeps.
    pub(super) fn forget(self, kept_bytes: &mut usize) {
        if let State::Open(open) = self.state {
            *kept_bytes = kept_bytes.saturating_sub(open.kept_bytes());
        }
    }
}

/// Keeps the headers of a request that is recorded, as long as there is room.
fn keep(open: &mut OpenRequest, buffer: Vec<u8>, kept_bytes: &mut usize, plugin: &mut Plugin) {
    if !open.is_recorded() {
        return;
    }
    open.keep(buffer);
    if *kept_bytes + open.kept_bytes() > KEPT_BYTES_MAX {
        open.give_up(&mut plugin.stats);
    }
    *kept_bytes += open.kept_bytes();
}

/// Reads what the request's records need, and makes them.
fn finish(open: Box<OpenRequest>, plugin: &mut Plugin) {
    match open.needs() {
        Needs::Nothing => {}
        Needs::StatusCode => count(open, plugin, calls::now_ns()),
        Needs::Record { exit, grpc } => record(open, plugin, exit, grpc),
    }
}

/// When the request began, in front of all filters; `now_ns` when the host does not tell.
fn request_start_ns(now_ns: u64) -> u64 {
    let start = calls::number_property(b"request\0time").and_then(|start| u64::try_from(start).ok());
    start.map_or(now_ns, |start| start.min(now_ns))
}

/// Ends a request of which only the status code counts.
fn count(open: Box<OpenRequest>, plugin: &mut Plugin, end_ns: u64) {
    let code = calls::number_property(b"response\0code").and_then(|code| u16::try_from(code).ok());
    plugin.finish(open, &Outcome::of_status(end_ns, code));
}

fn record(mut open: Box<OpenRequest>, plugin: &mut Plugin, exit: bool, grpc: bool) {
    let end_ns = calls::now_ns();
    if plugin.drops_record(&open, end_ns) {
        open.skip_records();
        return count(open, plugin, end_ns);
    }
    plugin.finish_later(open, Ending::read(end_ns, exit, grpc, plugin.custom_properties()));
}

/// What the host tells of a request at its end, as [`Outcome`] without its borrows.
#[derive(Debug)]
pub(super) struct Ending {
    end_ns: u64,
    /// The serialized headers of the answer, and of the request as sent upstream.
    response: Vec<u8>,
    upstream_request: Vec<u8>,
    details: Vec<u8>,
    flags: ResponseFlags,
    route: RouteNames,
    cluster: Vec<u8>,
    has_upstream: bool,
    upstream_is_tls: bool,
    backend_latency_ns: Option<u64>,
    attempts: u64,
    grpc_status: Option<i64>,
    properties: Vec<Vec<u8>>,
}

impl Ending {
    fn read(end_ns: u64, exit: bool, grpc: bool, properties: Vec<Vec<u8>>) -> Self {
        let response = calls::header_map(Map::Response);
        let details = calls::property(b"response\0code_details").unwrap_or_default();
        let via_upstream = Outcome::is_details_of_upstream_answer(&details);
        let has = |path: &[u8]| exit && calls::property(path).is_some();
        let number = |wanted: bool, path: &[u8]| wanted.then(|| calls::number_property(path)).flatten();
        let count = |path: &[u8]| number(exit, path).and_then(|count| u64::try_from(count).ok());
        Self {
            end_ns,
            response,
            route: RouteNames::read(),
            upstream_request: if exit { calls::header_map(Map::Request) } else { Vec::new() },
            flags: ResponseFlags(number(!via_upstream, b"response\0flags").map_or(0, i64::cast_unsigned)),
            cluster: if exit {
                legacy_property(b"xds\0cluster_name", b"cluster_name").unwrap_or_default()
            } else {
                Vec::new()
            },
            has_upstream: !via_upstream && has(b"upstream\0address"),
            upstream_is_tls: has(b"upstream\0tls_version"),
            backend_latency_ns: count(b"response\0backend_latency"),
            attempts: count(b"upstream\0request_attempt_count").unwrap_or(0),
            grpc_status: number(grpc, b"response\0grpc_status"),
            details,
            properties,
        }
    }

    /// Bytes of its texts.
    pub(super) fn bytes(&self) -> usize {
        let texts = [&self.response, &self.upstream_request, &self.details, &self.cluster];
        let route = [&self.route.name, &self.route.transaction_name];
        texts.into_iter().chain(route).chain(&self.properties).map(Vec::capacity).sum()
    }

    /// The outcome, with borrowed texts.
    pub(super) fn with_outcome(&self, take: impl FnOnce(&Outcome<'_>)) {
        let answer = Answer::new(&self.response);
        let upstream_headers = RequestHeaders::new(&self.upstream_request);
        take(&Outcome {
            end_ns: self.end_ns,
            status_code: answer.status,
            content_type: answer.content_type,
            content_length: answer.content_length,
            details: &self.details,
            flags: self.flags,
            route: self.route.as_route(),
            cluster: &self.cluster,
            has_upstream: self.has_upstream,
            upstream_is_tls: self.upstream_is_tls,
            upstream_authority: upstream_headers.authority,
            upstream_path: upstream_headers.path,
            backend_latency_ns: self.backend_latency_ns,
            attempts: self.attempts,
            grpc_status: self.grpc_status,
            properties: &self.properties,
        });
    }
}

/// What the route says of a request.
#[derive(Debug, Default)]
pub(super) struct RouteNames {
    name: Vec<u8>,
    transaction_name: Vec<u8>,
}

impl RouteNames {
    pub(super) fn read() -> Self {
        const TRANSACTION_NAME: &[u8] = b"xds\0route_metadata\0filter_metadata\0newrelic.tracing\0transaction_name";
        Self {
            name: legacy_property(b"xds\0route_name", b"route_name").unwrap_or_default(),
            transaction_name: calls::property(TRANSACTION_NAME).unwrap_or_default(),
        }
    }

    pub(super) fn as_route(&self) -> Route<'_> {
        Route { name: &self.name, transaction_name: &self.transaction_name }
    }
}

/// A property under its name of today, or under the one it had up to Envoy 1.32.
pub(super) fn legacy_property(path: &[u8], legacy: &[u8]) -> Option<Vec<u8>> {
    calls::property(path).or_else(|| calls::property(legacy))
}

/// What the headers of an answer tell.
struct Answer<'a> {
    status: Option<u16>,
    content_type: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
}

impl<'a> Answer<'a> {
    fn new(response: &'a [u8]) -> Self {
        let mut answer = Self { status: None, content_type: None, content_length: None };
        for (name, value) in HeaderPairs::new(response) {
            match name {
                b":status" => answer.status = parse_decimal(value).and_then(|status| u16::try_from(status).ok()),
                b"content-type" => answer.content_type = Some(value),
                b"content-length" => answer.content_length = Some(value),
                _ => {}
            }
        }
        answer
    }
}
