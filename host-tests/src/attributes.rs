//! The properties of a context: which exist when, and what they are.
//!
//! Sources: Envoy `source/extensions/filters/common/expr/context.cc` (attributes) and
//! `source/extensions/common/wasm/context.cc`, `findValue`.

use crate::abi::{MapType, Status};
use crate::headers::HeaderMap;
use crate::node::Node;
use crate::plugin::Plugin;
use crate::profile::Profile;
use crate::property::{Path, Value};
use crate::stream::{Phase, Stream, flags};

/// Everything a property may be read from.
pub(crate) struct Scope<'a> {
    pub(crate) profile: Profile,
    pub(crate) node: &'a Node,
    pub(crate) plugin: &'a Plugin,
    /// The stream and the position of the filter in its chain; `None` in a root context.
    pub(crate) stream: Option<(&'a Stream, usize)>,
}

/// Groups of attributes, which a stream has but which are no values, and the path without a name.
const GROUPS: &[&[u8]] =
    &[b"", b"request", b"response", b"connection", b"source", b"destination", b"upstream", b"xds", b"filter_state"];

impl Scope<'_> {
    /// The value at `path`.
    ///
    /// # Errors
    /// `NotFound` when it does not exist in this context and phase, `SerializationFailure` for a
    /// group of attributes as a whole.
    pub(crate) fn property(&self, path: &Path) -> Result<Value, Status> {
        let whole = |segments: &[&[u8]]| matches!(segments, [name] if GROUPS.contains(name));
        if self.stream.is_some() && whole(&path.segments()) {
            return Err(Status::SerializationFailure);
        }
        self.find(path).ok_or(Status::NotFound)
    }

    fn find(&self, path: &Path) -> Option<Value> {
        if let Some((stream, _)) = self.stream
            && let Some(given) = stream.settings.properties.get(path)
        {
            let value = if stream.phase() >= given.from { given.value.clone() } else { None };
            return value;
        }
        let segments = path.segments();
        let (first, rest) = segments.split_first()?;
        match *first {
            b"plugin_name" => Some(Value::from(self.plugin.name.as_str())),
            b"plugin_root_id" => Some(Value::from(self.plugin.root_id.as_str())),
            b"plugin_vm_id" => Some(Value::from(self.plugin.vm_id.as_str())),
            b"xds" => self.xds(rest),
            legacy if self.profile.has_legacy_attributes() && is_legacy(legacy) => self.legacy(legacy, rest),
            other => self.of_stream(other, rest),
        }
    }

    fn xds(&self, rest: &[&[u8]]) -> Option<Value> {
        if let Some((b"node", below)) = rest.split_first().map(|(first, below)| (*first, below)) {
            return self.node.property(below).cloned();
        }
        let (stream, _) = self.stream?;
        let [name] = rest else { return None };
        match *name {
            b"cluster_name" => cluster(stream),
            b"route_name" => route(stream),
            b"virtual_host_name" => {
                stream.headers.contains_key(&MapType::RequestHeaders).then(|| Value::from("default"))
            }
            // A route without metadata has an empty message.
            b"route_metadata" => route(stream).map(|_| Value::Message(Vec::new())),
            b"cluster_metadata" => cluster(stream).map(|_| Value::Message(Vec::new())),
            b"filter_chain_name" => Some(Value::from("")),
            b"listener_direction" => Some(Value::Int(self.plugin.direction as i64)),
            _ => None,
        }
    }

    /// The attributes Envoy removed in 1.33. Unlike their successors some exist in root contexts.
    fn legacy(&self, name: &[u8], rest: &[&[u8]]) -> Option<Value> {
        match name {
            b"node" => self.node.property(rest).cloned(),
            b"listener_direction" => Some(Value::Int(self.plugin.direction as i64)),
            b"cluster_name" => self.xds(&[b"cluster_name"]),
            _ => self.xds(&[b"route_name"]),
        }
    }

    fn of_stream(&self, first: &[u8], rest: &[&[u8]]) -> Option<Value> {
        let (stream, filter) = self.stream?;
        if rest == [b"headers_bytes".as_slice()] && !self.profile.has_headers_bytes() {
            return None;
        }
        match (first, rest) {
            (b"request", rest) => request(stream, filter, rest),
            (b"response", rest) => response(stream, filter, rest),
            (b"upstream", [name]) => upstream(stream, name),
            (b"connection", [b"id"]) | (b"connection_id", []) => Some(Value::Uint(stream.connection_id)),
            (b"connection", [b"mtls"]) => Some(Value::Bool(false)),
            (b"connection", [b"requested_server_name"]) => Some(Value::from("")),
            (b"source", [name]) => address(&stream.settings.source, name),
            (b"destination", [name]) => address(&stream.settings.destination, name),
            // No filter of the host writes any.
            (b"metadata", []) => Some(Value::Message(Vec::new())),
            (b"filter_state", [key]) => filter_state(stream, key),
            (name, []) => filter_state(stream, &[b"wasm.", name].concat()),
            _ => None,
        }
    }
}

fn is_legacy(name: &[u8]) -> bool {
    [b"node".as_slice(), b"listener_direction", b"cluster_name", b"route_name"].contains(&name)
}

/// Endings that show there was no route, or no cluster behind it.
fn ended_as(stream: &Stream, details: &[&str]) -> bool {
    let ended = stream.ending.as_ref().and_then(|ending| ending.details.as_deref());
    ended.is_some_and(|ended| details.contains(&ended))
}

fn route(stream: &Stream) -> Option<Value> {
    let known = stream.started || stream.settings.received.is_some();
    let lost = !known || ended_as(stream, &["route_not_found", "missing_host_header"]);
    stream.settings.route.as_deref().filter(|_| !lost).map(Value::from)
}

fn cluster(stream: &Stream) -> Option<Value> {
    let lost = ended_as(stream, &["cluster_not_found", "direct_response"]);
    route(stream)?;
    stream.settings.cluster.as_deref().filter(|_| !lost).map(Value::from)
}

fn filter_state(stream: &Stream, key: &[u8]) -> Option<Value> {
    stream.filter_state.get(key).cloned().map(Value::Bytes)
}

fn address(address: &str, part: &[u8]) -> Option<Value> {
    match part {
        b"address" => Some(Value::from(address)),
        b"port" => address.rsplit_once(':')?.1.parse().ok().map(Value::Int),
        _ => None,
    }
}

fn request(stream: &Stream, filter: usize, rest: &[&[u8]]) -> Option<Value> {
    let (name, below) = rest.split_first()?;
    let headers = stream.readable(filter, MapType::RequestHeaders);
    match (*name, below) {
        (b"headers", below) => header_property(headers, below),
        (b"time", []) => Some(Value::Timestamp(stream.start_wall_ns.cast_signed())),
        (b"duration", []) => {
            let end = stream.end_ns.filter(|_| stream.settings.attempt.is_none())?;
            Some(Value::Duration(end.saturating_sub(stream.start_elapsed_ns).cast_signed()))
        }
        (b"protocol", []) => Some(Value::from(stream.settings.protocol.as_str())),
        (b"size", []) => {
            Some(content_length(headers).unwrap_or_else(|| Value::Int(stream.request_bytes.cast_signed())))
        }
        (b"total_size", []) => {
            let headers_bytes = headers.map_or(0, HeaderMap::byte_size);
            Some(Value::Int(stream.request_bytes.cast_signed().saturating_add(signed(headers_bytes))))
        }
        (b"headers_bytes", []) => Some(Value::Int(signed(headers.map_or(0, HeaderMap::byte_size)))),
        (name, []) => of_request_headers(headers?, name),
        _ => None,
    }
}

/// The attributes that are another name for a request header.
fn of_request_headers(headers: &HeaderMap, name: &[u8]) -> Option<Value> {
    let whole = |header: &str| headers.get(header).map(|value| Value::Bytes(value.to_vec()));
    match name {
        b"path" => whole(":path"),
        b"host" => whole(":authority"),
        b"scheme" => whole(":scheme"),
        b"method" => whole(":method"),
        b"useragent" => whole("user-agent"),
        b"referer" => whole("referer"),
        b"id" => whole("x-request-id"),
        b"url_path" | b"query" => {
            let path = headers.get(":path").unwrap_or_default();
            let split = path.iter().position(|byte| *byte == b'?');
            let (before, after) = split.map_or((path, [].as_slice()), |at| (&path[..at], &path[at + 1..]));
            Some(Value::Bytes(if name == b"query" { without_fragment(after) } else { before.to_vec() }))
        }
        _ => None,
    }
}

fn without_fragment(query: &[u8]) -> Vec<u8> {
    query.iter().take_while(|byte| **byte != b'#').copied().collect()
}

fn content_length(headers: Option<&HeaderMap>) -> Option<Value> {
    headers?.text("content-length")?.parse().ok().map(Value::Int)
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn header_property(headers: Option<&HeaderMap>, below: &[&[u8]]) -> Option<Value> {
    match below {
        [] => headers.map(Value::of_headers),
        [name] => headers?.joined(name).map(Value::Bytes),
        _ => None,
    }
}

fn response(stream: &Stream, filter: usize, rest: &[&[u8]]) -> Option<Value> {
    let (name, below) = rest.split_first()?;
    let headers = stream.readable(filter, MapType::ResponseHeaders);
    let trailers = stream.readable(filter, MapType::ResponseTrailers);
    let begun = stream.phase() >= Phase::Response;
    match (*name, below) {
        (b"headers", below) => header_property(headers, below),
        (b"trailers", below) => header_property(trailers, below),
        (b"headers_bytes", []) => Some(Value::Int(signed(headers.map_or(0, HeaderMap::byte_size)))),
        (b"flags", []) => Some(Value::Int(stream.ending.as_ref().map_or(0, |e| e.flags.cast_signed()))),
        // What has left, and not what a filter is being given.
        (b"size", []) => Some(Value::Int(signed(stream.response_body.len()))),
        (b"total_size", []) => {
            let bytes = headers.map_or(0, HeaderMap::byte_size) + trailers.map_or(0, HeaderMap::byte_size);
            Some(Value::Int(signed(stream.response_body.len() + bytes)))
        }
        (b"code", []) if begun && !is_open_attempt(stream) => {
            stream.response_code().map(|code| Value::Int(code.into()))
        }
        (b"code_details", []) => details(stream).map(Value::from),
        (b"grpc_status", []) if begun => grpc_status(stream).map(Value::Int),
        (b"backend_latency", []) if answered_by_upstream(stream) => {
            let latency = stream.response_start_ns?.saturating_sub(stream.start_elapsed_ns);
            Some(Value::Duration(latency.cast_signed()))
        }
        _ => None,
    }
}

/// Whether no response has been sent to the client yet, as far as an attempt of the router can know.
fn is_open_attempt(stream: &Stream) -> bool {
    let sent = stream.response_started && stream.end_ns.is_some();
    stream.settings.attempt.is_some_and(|attempt| attempt.retried || !sent)
}

/// Known as soon as a response begins.
fn details(stream: &Stream) -> Option<&str> {
    match (&stream.ending, &stream.local_reply) {
        (Some(ending), _) => ending.details.as_deref(),
        (None, Some(reply)) => Some(&reply.details),
        (None, None) => {
            let before = stream.settings.attempt.is_some_and(|attempt| attempt.answered_before);
            (before || stream.response_started).then_some("via_upstream")
        }
    }
}

/// Whether the whole response came from the upstream.
fn answered_by_upstream(stream: &Stream) -> bool {
    let own = stream.ending.as_ref().is_some_and(|ending| ending.local_reply);
    (stream.response_complete || stream.phase() == Phase::Log) && reached_upstream(stream) && !own
}

/// Also set for plain HTTP, from the response code, as in Envoy.
fn grpc_status(stream: &Stream) -> Option<i64> {
    let from = |map| stream.headers.get(&map).and_then(|h: &HeaderMap| h.text("grpc-status")?.parse().ok());
    from(MapType::ResponseTrailers)
        .or_else(|| from(MapType::ResponseHeaders))
        .or_else(|| stream.response_code().map(http_to_grpc))
}

/// Envoy `source/common/grpc/status.cc`, `httpToGrpcStatus`.
fn http_to_grpc(code: u16) -> i64 {
    match code {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

fn reached_upstream(stream: &Stream) -> bool {
    match &stream.ending {
        Some(ending) => ending.reached_upstream,
        // The router has chosen a host before the filters of the cluster see an attempt.
        None => stream.settings.attempt.is_some() || (stream.response_started && stream.local_reply.is_none()),
    }
}

fn upstream(stream: &Stream, name: &[u8]) -> Option<Value> {
    let reached = reached_upstream(stream);
    let refused = stream.ending.as_ref().is_some_and(|e| e.flags & flags::UPSTREAM_CONNECTION_FAILURE != 0);
    let connected = reached && (stream.settings.attempt.is_none() || stream.response_started);
    match name {
        b"request_attempt_count" => {
            let so_far = if reached { stream.settings.attempts } else { 0 };
            Some(Value::Uint(stream.ending.as_ref().map_or(so_far, |ending| ending.attempts)))
        }
        b"address" | b"port" if reached => address(&stream.settings.upstream, name),
        b"local_address" if connected && !refused => Some(Value::from(LOCAL_ADDRESS)),
        b"transport_failure_reason" if connected => Some(Value::from(if refused { CONNECT_ERROR } else { "" })),
        b"cx_pool_ready_duration" if connected => Some(Value::Duration(POOL_READY_NS)),
        _ => None,
    }
}

/// Where the connection to the upstream starts.
const LOCAL_ADDRESS: &str = "10.0.0.2:50000";
/// What Envoy says of a refused connection.
const CONNECT_ERROR: &str = "delayed connect error: Connection refused";
/// How long the stream waited for a connection.
const POOL_READY_NS: i64 = 100_000;
