//! One stream of the worker: from its headers to its log.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::abi::Map;
use super::calls;
use super::expression::Expression;
use super::plugin::Plugin;
use crate::headers::{HeaderPairs, RequestHeaders, serialize_pairs};
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
        Needs::StatusCode => finish_counted(open, plugin, calls::now_ns()),
        Needs::Record { exit, grpc } => record(open, plugin, exit, grpc),
    }
}

/// When the request began, in front of all filters; `now_ns` when the host does not tell.
fn request_start_ns(now_ns: u64) -> u64 {
    let start = calls::number_property(b"request\0time").and_then(|start| u64::try_from(start).ok());
    start.map_or(now_ns, |start| start.min(now_ns))
}

/// Ends a request of which only the status code counts.
fn finish_counted(open: Box<OpenRequest>, plugin: &mut Plugin, end_ns: u64) {
    let code = calls::number_property(b"response\0code").and_then(|code| u16::try_from(code).ok());
    plugin.finish(open, &Outcome::of_status(end_ns, code));
}

fn record(mut open: Box<OpenRequest>, plugin: &mut Plugin, exit: bool, grpc: bool) {
    let end_ns = calls::now_ns();
    if plugin.drops_record(&open, end_ns) {
        open.skip_records();
        return finish_counted(open, plugin, end_ns);
    }
    let ending = Ending::read(plugin, end_ns, exit, grpc);
    plugin.finish_later(open, ending);
}

/// What the host tells of a request at its end, as [`Outcome`] without its borrows.
#[derive(Debug)]
pub(super) struct Ending {
    end_ns: u64,
    /// The serialized headers of the answer.
    response: Vec<u8>,
    texts: Texts,
    transaction_name: Vec<u8>,
    flags: ResponseFlags,
    has_upstream: bool,
    upstream_is_tls: bool,
    grpc_status: Option<i64>,
    properties: Vec<Vec<u8>>,
}

impl Ending {
    fn read(plugin: &mut Plugin, end_ns: u64, exit: bool, grpc: bool) -> Self {
        let response = calls::header_map(Map::Response);
        let texts = Texts::read(exit, &mut plugin.exit_values);
        let via_upstream = Outcome::is_details_of_upstream_answer(texts.view().details);
        let has = |path: &[u8]| exit && calls::property(path).is_some();
        let number = |wanted: bool, path: &[u8]| wanted.then(|| calls::number_property(path)).flatten();
        Self {
            end_ns,
            response,
            texts,
            transaction_name: RouteNames::read_transaction_name(),
            flags: ResponseFlags(number(!via_upstream, b"response\0flags").map_or(0, i64::cast_unsigned)),
            has_upstream: !via_upstream && has(b"upstream\0address"),
            upstream_is_tls: has(b"upstream\0tls_version"),
            grpc_status: number(grpc, b"response\0grpc_status"),
            properties: plugin.custom_properties(),
        }
    }

    /// Bytes of its texts.
    pub(super) fn bytes(&self) -> usize {
        let texts = [&self.response, &self.transaction_name];
        self.texts.bytes() + texts.into_iter().chain(&self.properties).map(Vec::capacity).sum::<usize>()
    }

    /// The outcome, with borrowed texts.
    pub(super) fn with_outcome(&self, take: impl FnOnce(&Outcome<'_>)) {
        let answer = Answer::new(&self.response);
        let texts = self.texts.view();
        take(&Outcome {
            end_ns: self.end_ns,
            status_code: answer.status,
            content_type: answer.content_type,
            content_length: answer.content_length,
            details: texts.details,
            flags: self.flags,
            route: Route { transaction_name: &self.transaction_name, name: texts.route_name },
            cluster: texts.cluster,
            has_upstream: self.has_upstream,
            upstream_is_tls: self.upstream_is_tls,
            upstream_authority: texts.authority,
            upstream_path: texts.path,
            backend_latency_ns: count(texts.backend_latency),
            attempts: count(texts.attempts).unwrap_or(0),
            grpc_status: self.grpc_status,
            properties: &self.properties,
        });
    }
}

/// The values that the host has for every request, or for every one that went upstream.
#[derive(Debug)]
enum Texts {
    /// Of a request without an exit span.
    Entry { details: Vec<u8>, route_name: Vec<u8> },
    /// All of [`View`] in the layout of header lines, each a name with an empty value.
    Exit(Vec<u8>),
}

/// [`Texts`], read.
#[derive(Clone, Copy, Debug, Default)]
struct View<'a> {
    details: &'a [u8],
    route_name: &'a [u8],
    cluster: &'a [u8],
    /// `:authority` and `:path` of the request as sent upstream.
    authority: &'a [u8],
    path: &'a [u8],
    /// Nanoseconds, and a number, in eight bytes.
    backend_latency: &'a [u8],
    attempts: &'a [u8],
}

/// The attributes of [`Texts::Exit`], as the host's language of expressions has them.
pub(super) const EXIT_VALUES: &str = "[response.code_details, xds.route_name, xds.cluster_name, request.host, \
    request.path, response.backend_latency, upstream.request_attempt_count]";

impl Texts {
    fn read(exit: bool, exit_values: &mut Expression) -> Self {
        if exit {
            return Self::Exit(exit_values.evaluate().unwrap_or_else(Self::read_one_by_one));
        }
        Self::Entry { details: read_details(), route_name: RouteNames::read_name() }
    }

    /// As [`EXIT_VALUES`], with an empty text for what is absent.
    fn read_one_by_one() -> Vec<u8> {
        let value = |path: &[u8]| calls::property(path).unwrap_or_default();
        let [details, route_name] = [read_details(), RouteNames::read_name()];
        let request = calls::header_map(Map::Request);
        let request = RequestHeaders::new(&request);
        let cluster = legacy_property(b"xds\0cluster_name", b"cluster_name").unwrap_or_default();
        let [latency, attempts] = [value(b"response\0backend_latency"), value(b"upstream\0request_attempt_count")];
        let texts: [&[u8]; 7] = [&details, &route_name, &cluster, request.authority, request.path, &latency, &attempts];
        serialize_pairs(texts.into_iter().map(|text| (text, &b""[..])))
    }

    fn view(&self) -> View<'_> {
        match self {
            Self::Entry { details, route_name } => View { details, route_name, ..View::default() },
            Self::Exit(list) => {
                let mut texts = HeaderPairs::new(list).map(|(text, _)| text);
                let mut next = || texts.next().unwrap_or_default();
                View {
                    details: next(),
                    route_name: next(),
                    cluster: next(),
                    authority: next(),
                    path: next(),
                    backend_latency: next(),
                    attempts: next(),
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Entry { details, route_name } => details.capacity() + route_name.capacity(),
            Self::Exit(list) => list.capacity(),
        }
    }
}

fn read_details() -> Vec<u8> {
    calls::property(b"response\0code_details").unwrap_or_default()
}

/// A number of the host's that is never negative.
fn count(bytes: &[u8]) -> Option<u64> {
    u64::try_from(i64::from_le_bytes(bytes.try_into().ok()?)).ok()
}

/// What the route says of a request.
#[derive(Debug, Default)]
pub(super) struct RouteNames {
    name: Vec<u8>,
    transaction_name: Vec<u8>,
}

impl RouteNames {
    pub(super) fn read() -> Self {
        Self { name: Self::read_name(), transaction_name: Self::read_transaction_name() }
    }

    fn read_name() -> Vec<u8> {
        legacy_property(b"xds\0route_name", b"route_name").unwrap_or_default()
    }

    fn read_transaction_name() -> Vec<u8> {
        const PATH: &[u8] = b"xds\0route_metadata\0filter_metadata\0newrelic.tracing\0transaction_name";
        calls::property(PATH).unwrap_or_default()
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
