//! The life of a stream, from its opening to `proxy_on_delete`.

use std::collections::BTreeMap;

use super::{CallbackOrder, Envoy};
use crate::abi::{BufferType, MapType, StreamType};
use crate::error::{Failure, Result};
use crate::headers::HeaderMap;
use crate::journal::{Callback, Thread};
use crate::plugin::FailurePolicy;
use crate::property::{Path, Value};
use crate::state::{Context, Delivery};
use crate::stream::{
    Attempt, Ending, FilterContext, GivenProperty, LocalReply, Paused, Phase, Stream, StreamId, StreamSettings,
    add_body_headers,
};

/// `response.code_details` of the reply Envoy makes when a module fails.
const FAIL_STREAM_DETAILS: &str = "wasm_fail_stream";

/// One direction of a stream, with the names that belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

impl Side {
    fn headers(self) -> (MapType, &'static str) {
        match self {
            Self::Request => (MapType::RequestHeaders, "proxy_on_request_headers"),
            Self::Response => (MapType::ResponseHeaders, "proxy_on_response_headers"),
        }
    }

    fn trailers(self) -> (MapType, &'static str) {
        match self {
            Self::Request => (MapType::RequestTrailers, "proxy_on_request_trailers"),
            Self::Response => (MapType::ResponseTrailers, "proxy_on_response_trailers"),
        }
    }

    fn body(self) -> (BufferType, &'static str) {
        match self {
            Self::Request => (BufferType::HttpRequestBody, "proxy_on_request_body"),
            Self::Response => (BufferType::HttpResponseBody, "proxy_on_response_body"),
        }
    }

    /// The positions of the chain from `first` on, in the order this side passes them.
    fn positions(self, filters: usize, after: Option<usize>) -> Vec<usize> {
        match self {
            Self::Request => (after.map_or(0, |last| last + 1)..filters).collect(),
            Self::Response => (0..after.unwrap_or(filters)).rev().collect(),
        }
    }

    fn paused(self, stream: &mut Stream) -> &mut Option<Paused> {
        match self {
            Self::Request => &mut stream.request_paused,
            Self::Response => &mut stream.response_paused,
        }
    }
}

/// What a filter made of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Continue,
    Pause,
}

/// Describes a stream before it opens; made by [`Envoy::stream`].
#[derive(Debug)]
pub struct StreamBuilder<'a> {
    envoy: &'a mut Envoy,
    settings: StreamSettings,
}

impl<'a> StreamBuilder<'a> {
    /// Puts the stream on a worker; 0 unless set.
    #[must_use]
    pub fn worker(mut self, worker: usize) -> Self {
        self.settings.worker = worker;
        self
    }

    /// Puts the stream on a listener; that of the first plugin unless set.
    #[must_use]
    pub fn listener(mut self, listener: impl Into<String>) -> Self {
        self.settings.listener = listener.into();
        self
    }

    /// Sets a property for the whole life of the stream.
    #[must_use]
    pub fn property(self, path: impl Into<Path>, value: impl Into<Value>) -> Self {
        self.property_from(Phase::Request, path, value)
    }

    /// Sets a property that does not exist before `phase`.
    #[must_use]
    pub fn property_from(mut self, phase: Phase, path: impl Into<Path>, value: impl Into<Value>) -> Self {
        let given = GivenProperty { from: phase, value: Some(value.into()) };
        self.settings.properties.insert(path.into(), given);
        self
    }

    /// Takes away a property Envoy would have.
    #[must_use]
    pub fn without_property(mut self, path: impl Into<Path>) -> Self {
        let given = GivenProperty { from: Phase::Request, value: None };
        self.settings.properties.insert(path.into(), given);
        self
    }

    /// Sets `source.address`, with its port.
    #[must_use]
    pub fn source(mut self, address: impl Into<String>) -> Self {
        self.settings.source = address.into();
        self
    }

    /// Sets `destination.address`, with its port.
    #[must_use]
    pub fn destination(mut self, address: impl Into<String>) -> Self {
        self.settings.destination = address.into();
        self
    }

    /// Sets `upstream.address`, with its port, and `xds.cluster_name`.
    #[must_use]
    pub fn upstream(mut self, cluster: impl Into<String>, address: impl Into<String>) -> Self {
        self.settings.cluster = Some(cluster.into());
        self.settings.upstream = address.into();
        self
    }

    /// Sets `xds.route_name`.
    #[must_use]
    pub fn route(mut self, route: impl Into<String>) -> Self {
        self.settings.route = Some(route.into());
        self
    }

    /// Gives the stream no route: `xds.route_name` and `xds.cluster_name` do not exist.
    #[must_use]
    pub fn unrouted(mut self) -> Self {
        self.settings.route = None;
        self
    }

    /// Sets `request.protocol`; `HTTP/1.1` unless set.
    #[must_use]
    pub fn protocol(mut self, protocol: impl Into<String>) -> Self {
        self.settings.protocol = protocol.into();
        self
    }

    /// Sets how many attempts it takes until the upstream responds: what
    /// `upstream.request_attempt_count` is from the response on, and until the stream ends.
    #[must_use]
    pub fn attempts(mut self, attempts: u64) -> Self {
        self.settings.attempts = attempts;
        self
    }

    /// Makes the stream one attempt of the router, seen by filters that stand in the cluster's `http_filters` (those
    /// plugins whose listener has the name set with [`StreamBuilder::listener`]). Each attempt is a stream of its own;
    /// [`Envoy::next_attempt`] retries.
    ///
    /// There is no access log here: `proxy_on_log` is never called, and an attempt that fails ends with
    /// `proxy_on_done` and `proxy_on_delete` alone, whatever its [`Ending`] says. `response.code` does not exist until
    /// the response that the client gets has been sent, `upstream.address` exists from the beginning, and the context
    /// of the proxy's own tracer is in the request already.
    #[must_use]
    pub fn upstream_filter(mut self) -> Self {
        self.settings.attempt = Some(Attempt::default());
        self
    }

    /// Header lines that the proxy's own tracer writes over those of the filters when the request
    /// leaves: Envoy injects the context of its tracer in the router, after every filter.
    #[must_use]
    pub fn native_tracer(mut self, headers: impl Into<HeaderMap>) -> Self {
        self.settings.tracer_headers = headers.into();
        self
    }

    /// Request headers that Envoy received but the filter was never called for. It sees them in
    /// `proxy_on_log` only.
    #[must_use]
    pub fn received(mut self, headers: impl Into<HeaderMap>) -> Self {
        self.settings.received = Some(headers.into());
        self
    }

    /// Opens the stream. The guest hears of it with the first headers, or when it ends.
    pub fn open(self) -> StreamId {
        self.envoy.open(self.settings)
    }

    /// Opens the stream and keeps hold of the proxy.
    pub fn begin(self) -> StreamHandle<'a> {
        let id = self.envoy.open(self.settings);
        StreamHandle { envoy: self.envoy, id }
    }

    /// Runs a whole exchange without bodies: request headers, response headers, end.
    ///
    /// # Errors
    /// As for the three steps.
    pub fn exchange(self, request: impl Into<HeaderMap>, response: impl Into<HeaderMap>) -> Result<Exchange> {
        let mut stream = self.begin();
        let upstream = stream.request_headers(request)?;
        let downstream = stream.response_headers(response)?;
        stream.end(Ending::complete())?;
        let callbacks = stream.envoy.callbacks_of(stream.id);
        Ok(Exchange { id: stream.id, upstream, downstream, callbacks })
    }
}

/// What one whole exchange showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The stream.
    pub id: StreamId,
    /// The request headers as the upstream got them.
    pub upstream: HeaderMap,
    /// The response headers as the client got them.
    pub downstream: HeaderMap,
    /// The callbacks of the stream.
    pub callbacks: Vec<Callback>,
}

/// A stream together with its proxy, for tests that work on one stream at a time.
#[derive(Debug)]
pub struct StreamHandle<'a> {
    envoy: &'a mut Envoy,
    id: StreamId,
}

impl StreamHandle<'_> {
    /// The name of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The proxy.
    pub fn envoy(&mut self) -> &mut Envoy {
        self.envoy
    }

    /// See [`Envoy::request_headers`].
    ///
    /// # Errors
    /// The same.
    pub fn request_headers(&mut self, headers: impl Into<HeaderMap>) -> Result<HeaderMap> {
        self.envoy.request_headers(self.id, headers)
    }

    /// See [`Envoy::response_headers`].
    ///
    /// # Errors
    /// The same.
    pub fn response_headers(&mut self, headers: impl Into<HeaderMap>) -> Result<HeaderMap> {
        self.envoy.response_headers(self.id, headers)
    }

    /// See [`Envoy::response_trailers`].
    ///
    /// # Errors
    /// The same.
    pub fn response_trailers(&mut self, trailers: impl Into<HeaderMap>) -> Result<HeaderMap> {
        self.envoy.response_trailers(self.id, trailers)
    }

    /// See [`Envoy::end`].
    ///
    /// # Errors
    /// The same.
    pub fn end(&mut self, ending: Ending) -> Result<()> {
        self.envoy.end(self.id, ending)
    }
}

impl Envoy {
    /// Starts to describe a stream.
    pub fn stream(&mut self) -> StreamBuilder<'_> {
        let first = self.slots.first().and_then(|slot| slot.roots.values().next());
        let listener = first.map(|root| self.roots[*root].plugin.listener.clone());
        let settings = StreamSettings { listener: listener.unwrap_or_default(), ..StreamSettings::default() };
        StreamBuilder { envoy: self, settings }
    }

    fn open(&mut self, settings: StreamSettings) -> StreamId {
        let id = self.next_stream;
        self.next_stream += 1;
        let (wall_ns, elapsed_ns) = {
            let process = self.process.lock();
            (process.clock.wall_ns(), process.clock.elapsed_ns())
        };
        let stream = Stream {
            settings,
            filters: Vec::new(),
            headers: BTreeMap::new(),
            filter_state: BTreeMap::new(),
            request_paused: None,
            response_paused: None,
            request_body: Vec::new(),
            response_body: Vec::new(),
            request_bytes: 0,
            started: false,
            ends_with_headers: false,
            routed: false,
            response_started: false,
            response_complete: false,
            ending: None,
            ended: false,
            local_reply: None,
            reset: false,
            start_wall_ns: wall_ns,
            start_elapsed_ns: elapsed_ns,
            response_start_ns: None,
            end_ns: None,
            connection_id: id,
        };
        self.process.lock().streams.insert(id, stream);
        StreamId(id)
    }

    /// Works on a stream.
    fn with<T>(&self, id: u64, work: impl FnOnce(&mut Stream) -> T) -> Result<T> {
        let mut process = self.process.lock();
        let stream = process.streams.get_mut(&id).ok_or_else(|| Self::usage("there is no such stream"))?;
        Ok(work(stream))
    }

    /// Works on one filter of a stream.
    fn with_filter<T>(&self, id: u64, filter: usize, work: impl FnOnce(&mut FilterContext) -> T) -> Result<T> {
        self.with(id, |stream| stream.filters.get_mut(filter).map(work))?
            .ok_or_else(|| Self::usage("there is no such filter"))
    }

    /// Chooses the filters of the stream: the current plugins of its listener.
    fn choose_filters(&mut self, id: u64) -> Result<()> {
        let (listener, worker, chosen) = self.with(id, |stream| {
            (stream.settings.listener.clone(), stream.settings.worker, !stream.filters.is_empty())
        })?;
        if chosen {
            return Ok(());
        }
        let mut filters = Vec::new();
        for slot in 0..self.slots.len() {
            let root = self.serving_root(slot, Thread::Worker(worker))?;
            let plugin = &self.roots[root].plugin;
            if plugin.listener != listener {
                continue;
            }
            let mut filter = FilterContext::of(root);
            let dead = self.vms.get(&self.roots[root].vm).is_none_or(|vm| vm.failed);
            filter.bypassed =
                dead && matches!(plugin.failure_policy, FailurePolicy::Open | FailurePolicy::LegacyFailOpen);
            self.roots[root].streams.insert(id);
            filters.push(filter);
        }
        if filters.is_empty() {
            return Err(Self::usage(format!("no plugin is on the listener {listener}")));
        }
        self.with(id, |stream| stream.filters = filters)
    }

    /// Sends the request headers through the filters. Gives the headers as they are then: as the
    /// upstream gets them, unless a filter paused or replied ([`Envoy::is_paused`],
    /// [`Envoy::local_reply`]).
    ///
    /// # Errors
    /// `Trap` or `Unsupported` when a guest fails, after the failure policy was applied. `Usage`
    /// when the stream is not new.
    pub fn request_headers(&mut self, stream: StreamId, headers: impl Into<HeaderMap>) -> Result<HeaderMap> {
        self.request_headers_with(stream, headers, false)
    }

    /// As [`Envoy::request_headers`], and says whether the request ends with the headers.
    ///
    /// # Errors
    /// The same.
    pub fn request_headers_with(
        &mut self,
        stream: StreamId,
        headers: impl Into<HeaderMap>,
        end_of_stream: bool,
    ) -> Result<HeaderMap> {
        let sent = self.start_request(stream.0, headers.into(), end_of_stream);
        self.told(sent)?;
        self.header_map(stream, MapType::RequestHeaders)
    }

    fn start_request(&mut self, id: u64, headers: HeaderMap, end_of_stream: bool) -> Result<()> {
        let fresh = self.with(id, |stream| !stream.started && !stream.ended)?;
        if !fresh {
            return Err(Self::usage("the stream has its request headers already"));
        }
        self.choose_filters(id)?;
        self.with(id, |stream| {
            stream.started = true;
            stream.ends_with_headers = end_of_stream;
            stream.headers.insert(MapType::RequestHeaders, headers);
            if stream.settings.attempt.is_some() {
                stream.trace();
            }
        })?;
        self.pass_headers(id, Side::Request, None, end_of_stream)?;
        self.settle()
    }

    /// Sends the response headers through the filters, and gives them as they are then.
    ///
    /// # Errors
    /// `Trap` or `Unsupported` when a guest fails. `Usage` when the request has not begun, or a
    /// response has.
    pub fn response_headers(&mut self, stream: StreamId, headers: impl Into<HeaderMap>) -> Result<HeaderMap> {
        self.response_headers_with(stream, headers, false)
    }

    /// As [`Envoy::response_headers`], and says whether the response ends with the headers.
    ///
    /// # Errors
    /// The same.
    pub fn response_headers_with(
        &mut self,
        stream: StreamId,
        headers: impl Into<HeaderMap>,
        end_of_stream: bool,
    ) -> Result<HeaderMap> {
        let sent = self.start_response(stream.0, headers.into(), end_of_stream);
        self.told(sent)?;
        let settled = self.settle();
        self.told(settled)?;
        self.header_map(stream, MapType::ResponseHeaders)
    }

    fn start_response(&mut self, id: u64, headers: HeaderMap, end_of_stream: bool) -> Result<()> {
        let now_ns = self.process.lock().clock.elapsed_ns();
        let expected = self.with(id, |stream| {
            let expected = stream.started && !stream.response_started && !stream.ended;
            if expected {
                stream.response_started = true;
                stream.response_complete = end_of_stream;
                stream.response_start_ns = Some(now_ns);
                stream.headers.insert(MapType::ResponseHeaders, headers);
            }
            expected
        })?;
        if !expected {
            return Err(Self::usage("the stream has no request yet, or has a response already"));
        }
        self.pass_headers(id, Side::Response, None, end_of_stream)
    }

    /// Sends a part of the request body through the filters and gives the bytes that came through.
    ///
    /// # Errors
    /// `Trap` or `Unsupported` when a guest fails. `Usage` when there are no headers yet.
    pub fn request_body(&mut self, stream: StreamId, data: impl AsRef<[u8]>, end_of_stream: bool) -> Result<Vec<u8>> {
        self.body(stream.0, Side::Request, data.as_ref(), end_of_stream)
    }

    /// Sends a part of the response body through the filters and gives the bytes that came through.
    ///
    /// # Errors
    /// `Trap` or `Unsupported` when a guest fails. `Usage` when there are no headers yet.
    pub fn response_body(&mut self, stream: StreamId, data: impl AsRef<[u8]>, end_of_stream: bool) -> Result<Vec<u8>> {
        self.body(stream.0, Side::Response, data.as_ref(), end_of_stream)
    }

    fn body(&mut self, id: u64, side: Side, data: &[u8], end_of_stream: bool) -> Result<Vec<u8>> {
        let len = data.len() as u64;
        let before = self.with(id, |stream| match side {
            Side::Request => {
                stream.request_bytes += len;
                stream.started.then_some(stream.request_body.len())
            }
            Side::Response => {
                stream.response_complete |= end_of_stream;
                stream.response_started.then_some(stream.response_body.len())
            }
        })?;
        let before = before.ok_or_else(|| Self::usage("a body comes after its headers"))?;
        let passed = self.pass_body(id, side, None, data.to_vec(), end_of_stream).and_then(|()| self.settle());
        self.told(passed)?;
        self.with(id, |stream| {
            let body = if side == Side::Request { &stream.request_body } else { &stream.response_body };
            body.get(before..).unwrap_or_default().to_vec()
        })
    }

    /// Sends request trailers through the filters, and gives them as they are then.
    ///
    /// # Errors
    /// `Trap` or `Unsupported` when a guest fails.
    pub fn request_trailers(&mut self, stream: StreamId, trailers: impl Into<HeaderMap>) -> Result<HeaderMap> {
        self.trailers(stream, Side::Request, trailers.into())
    }

    /// Sends response trailers through the filters, and gives them as they are then.
    ///
    /// # Errors
    /// `Trap` or `Unsupported` when a guest fails.
    pub fn response_trailers(&mut self, stream: StreamId, trailers: impl Into<HeaderMap>) -> Result<HeaderMap> {
        self.trailers(stream, Side::Response, trailers.into())
    }

    fn trailers(&mut self, stream: StreamId, side: Side, trailers: HeaderMap) -> Result<HeaderMap> {
        let (map, _) = side.trailers();
        self.with(stream.0, |stream| {
            stream.response_complete |= side == Side::Response;
            stream.headers.insert(map, trailers);
        })?;
        let passed = self.pass_trailers(stream.0, side, None).and_then(|()| self.settle());
        self.told(passed)?;
        self.header_map(stream, map)
    }

    /// The present content of a map of the stream, whether a guest may see it or not.
    ///
    /// # Errors
    /// `Usage` when there is no such stream.
    pub fn header_map(&self, stream: StreamId, map: MapType) -> Result<HeaderMap> {
        self.with(stream.0, |stream| stream.headers.get(&map).cloned().unwrap_or_default())
    }

    /// The request body that came through all filters so far: what the upstream got.
    ///
    /// # Errors
    /// `Usage` when there is no such stream.
    pub fn upstream_body(&self, stream: StreamId) -> Result<Vec<u8>> {
        self.with(stream.0, |stream| stream.request_body.clone())
    }

    /// The response body that came through all filters so far: what the client got.
    ///
    /// # Errors
    /// `Usage` when there is no such stream.
    pub fn downstream_body(&self, stream: StreamId) -> Result<Vec<u8>> {
        self.with(stream.0, |stream| stream.response_body.clone())
    }

    /// Changes the request headers as later filters and the router do: the access log shows it.
    ///
    /// # Errors
    /// `Usage` when there is no such stream.
    pub fn change_request_headers(&mut self, stream: StreamId, change: impl FnOnce(&mut HeaderMap)) -> Result<()> {
        self.with(stream.0, |stream| change(stream.headers.entry(MapType::RequestHeaders).or_default()))
    }

    /// The reply a filter made instead of the upstream, or Envoy made because a module failed.
    #[must_use]
    pub fn local_reply(&self, stream: StreamId) -> Option<LocalReply> {
        self.with(stream.0, |stream| stream.local_reply.clone()).ok().flatten()
    }

    /// Whether a filter holds the request or the response back.
    #[must_use]
    pub fn is_paused(&self, stream: StreamId) -> bool {
        let paused = self.with(stream.0, |stream| stream.request_paused.is_some() || stream.response_paused.is_some());
        paused.unwrap_or(false)
    }

    /// Whether a filter reset the stream.
    #[must_use]
    pub fn is_reset(&self, stream: StreamId) -> bool {
        self.with(stream.0, |stream| stream.reset).unwrap_or(false)
    }

    /// The filter state `key`: `wasm.<name>` for what a module set as a property.
    #[must_use]
    pub fn filter_state(&self, stream: StreamId, key: &str) -> Option<Vec<u8>> {
        self.with(stream.0, |stream| stream.filter_state.get(key.as_bytes()).cloned()).ok().flatten()
    }

    /// Passes headers on to the filters after one, until one pauses or replies.
    fn pass_headers(&mut self, id: u64, side: Side, after: Option<usize>, end_of_stream: bool) -> Result<()> {
        let (map, name) = side.headers();
        let mut outcome = Ok(());
        for filter in self.positions(id, side, after)? {
            if side == Side::Request {
                self.create_context(id, filter)?;
            }
            let count = self.with(id, |stream| stream.headers.get(&map).map_or(0, HeaderMap::len))?;
            let arguments = [u32::try_from(count).unwrap_or(u32::MAX), u32::from(end_of_stream)];
            match self.filter_callback(id, filter, Some(map), name, &arguments) {
                Ok(Flow::Continue) => {}
                Ok(Flow::Pause) => {
                    self.with(id, |stream| *side.paused(stream) = Some(Paused { filter, at: map }))?;
                    keep_first(&mut outcome, self.run_deferred_of(id, filter));
                    return outcome;
                }
                // The policy said what becomes of the stream; with `fail_open` it goes on.
                Err(failure) => keep_first(&mut outcome, Err(failure)),
            }
            keep_first(&mut outcome, self.run_deferred_of(id, filter));
            if side == Side::Request && self.with(id, |stream| stream.local_reply.is_some() || stream.reset)? {
                return outcome;
            }
        }
        if side == Side::Request {
            self.with(id, Stream::leave)?;
        }
        outcome
    }

    fn positions(&self, id: u64, side: Side, after: Option<usize>) -> Result<Vec<usize>> {
        self.with(id, |stream| side.positions(stream.filters.len(), after))
    }

    fn run_deferred_of(&mut self, id: u64, filter: usize) -> Result<()> {
        let root = self.with_filter(id, filter, |context| context.root)?;
        self.run_deferred(self.roots[root].vm)
    }

    /// Tells the guest of the stream, unless it knows it or is not called for it.
    fn create_context(&mut self, id: u64, filter: usize) -> Result<()> {
        let (root, context, aside) = self.with_filter(id, filter, |c| (c.root, c.context, c.bypassed || c.failed))?;
        let (vm, root_context) = (self.roots[root].vm, self.roots[root].context);
        let Some(live) = self.vms.get_mut(&vm).filter(|vm| !vm.failed) else {
            return Ok(());
        };
        if context.is_some() || aside {
            return Ok(());
        }
        let context = live.add_context(Context::Stream { root: root_context, stream: id, filter });
        self.with_filter(id, filter, |c| c.context = Some(context))?;
        let created = self.invoke_only(vm, "proxy_on_context_create", context, &[root_context], Delivery::default());
        match created {
            Ok(_) => Ok(()),
            Err(failure) => self.apply_failure_policy(id, filter).and(Err(failure)),
        }
    }

    /// Calls a filter with a map open. The guest's wishes are left for the caller to carry out.
    fn filter_callback(
        &mut self,
        id: u64,
        filter: usize,
        map: Option<MapType>,
        name: &'static str,
        arguments: &[u32],
    ) -> Result<Flow> {
        let (root, context, aside) = self.with_filter(id, filter, |c| (c.root, c.context, c.bypassed || c.failed))?;
        let vm = self.roots[root].vm;
        if aside {
            return Ok(Flow::Continue);
        }
        if self.vms.get(&vm).is_none_or(|vm| vm.failed) {
            self.apply_failure_policy(id, filter)?;
            return Ok(Flow::Continue);
        }
        let Some(context) = context else {
            return Ok(Flow::Continue);
        };
        self.with_filter(id, filter, |c| c.maps.extend(map))?;
        let answer = match self.invoke_only(vm, name, context, arguments, Delivery::default()) {
            Ok(answer) => answer,
            Err(failure) => {
                self.apply_failure_policy(id, filter)?;
                return Err(failure);
            }
        };
        if answer.unwrap_or(0) != 0 {
            return Ok(Flow::Pause);
        }
        self.with_filter(id, filter, |c| c.maps.retain(|open| Some(*open) != map))?;
        Ok(Flow::Continue)
    }

    /// A filter of the stream has a dead VM: its policy decides what becomes of the stream.
    fn apply_failure_policy(&mut self, id: u64, filter: usize) -> Result<()> {
        let root = self.with_filter(id, filter, |context| context.root)?;
        if self.roots[root].plugin.failure_policy == FailurePolicy::LegacyFailOpen {
            return self.with_filter(id, filter, |context| context.bypassed = true);
        }
        self.with_filter(id, filter, |context| context.failed = true)?;
        let reply = LocalReply {
            status: 503,
            body: Vec::new(),
            headers: HeaderMap::from(&[(":status", "503")]),
            details: FAIL_STREAM_DETAILS.to_owned(),
            grpc_status: None,
        };
        self.reply_locally(id, reply)
    }

    /// Makes a reply: it passes the filters as a response does, unless a response has begun, which it
    /// takes the place of.
    pub(super) fn reply_locally(&mut self, id: u64, reply: LocalReply) -> Result<()> {
        let (first, begun) = self.with(id, |stream| {
            let first = stream.local_reply.is_none() && !stream.ended;
            if first {
                stream.request_paused = None;
                stream.local_reply = Some(reply.clone());
            }
            (first, stream.response_started)
        })?;
        if !first {
            return Ok(());
        }
        if begun {
            return self.with(id, |stream| {
                stream.headers.insert(MapType::ResponseHeaders, reply.headers);
                stream.response_body = reply.body;
            });
        }
        self.send_reply(id, reply.headers, reply.body)
    }

    /// Goes on where a filter paused.
    pub(super) fn resume(&mut self, id: u64, filter: usize, side: StreamType) -> Result<()> {
        let side = if side == StreamType::Request { Side::Request } else { Side::Response };
        let (buffer, _) = side.body();
        let paused = self.with(id, |stream| {
            let held = *side.paused(stream);
            let mine = held.filter(|held| held.filter == filter);
            if mine.is_some() {
                *side.paused(stream) = None;
            }
            mine
        })?;
        let Some(paused) = paused else { return self.release_body(id, side, filter) };
        self.with_filter(id, filter, |context| context.maps.remove(&paused.at))?;
        if paused.at == side.headers().0 {
            self.pass_headers(id, side, Some(filter), false)?;
            let waiting = self.with_filter(id, filter, |context| context.buffers.remove(&buffer))?;
            match waiting {
                // The filter that paused in the headers sees the body that arrived meanwhile.
                Some(body) => self.pass_body(id, side, before(side, filter), body, false),
                None => Ok(()),
            }
        } else {
            self.pass_trailers(id, side, Some(filter))
        }
    }

    /// A filter closed the stream.
    pub(super) fn reset(&mut self, id: u64) {
        if let Some(stream) = self.process.lock().streams.get_mut(&id) {
            stream.reset = true;
            stream.request_paused = None;
            stream.response_paused = None;
        }
    }

    fn pass_body(&mut self, id: u64, side: Side, after: Option<usize>, data: Vec<u8>, end: bool) -> Result<()> {
        let (buffer, name) = side.body();
        let mut data = data;
        for filter in self.positions(id, side, after)? {
            let headers_held = self.with(id, |stream| side.paused(stream).is_some_and(|held| held.filter == filter))?;
            let len = self.with_filter(id, filter, |context| {
                let held = context.buffers.entry(buffer).or_default();
                held.append(&mut data);
                held.len()
            })?;
            if headers_held {
                return Ok(());
            }
            let arguments = [u32::try_from(len).unwrap_or(u32::MAX), u32::from(end)];
            let flow = self.filter_callback(id, filter, None, name, &arguments)?;
            if flow == Flow::Pause {
                return self.run_deferred_of(id, filter);
            }
            data = self.with_filter(id, filter, |context| context.buffers.remove(&buffer).unwrap_or_default())?;
            self.run_deferred_of(id, filter)?;
        }
        self.with(id, |stream| match side {
            Side::Request => stream.request_body.append(&mut data),
            Side::Response => stream.response_body.append(&mut data),
        })
    }

    fn pass_trailers(&mut self, id: u64, side: Side, after: Option<usize>) -> Result<()> {
        let (map, name) = side.trailers();
        for filter in self.positions(id, side, after)? {
            let count = self.with(id, |stream| stream.headers.get(&map).map_or(0, HeaderMap::len))?;
            let arguments = [u32::try_from(count).unwrap_or(u32::MAX)];
            let flow = self.filter_callback(id, filter, Some(map), name, &arguments)?;
            if flow == Flow::Pause {
                self.with(id, |stream| *side.paused(stream) = Some(Paused { filter, at: map }))?;
            }
            self.run_deferred_of(id, filter)?;
            if flow == Flow::Pause {
                return Ok(());
            }
            self.release_body(id, side, filter)?;
        }
        Ok(())
    }

    /// A filter that lets the trailers go lets the body go it held back before.
    fn release_body(&mut self, id: u64, side: Side, filter: usize) -> Result<()> {
        let (buffer, _) = side.body();
        match self.with_filter(id, filter, |context| context.buffers.remove(&buffer))? {
            Some(body) => self.pass_body(id, side, Some(filter), body, false),
            None => Ok(()),
        }
    }

    /// Ends the stream: what `ending` says becomes its attributes, Envoy's own reply passes the
    /// filters if there is one, then come `proxy_on_log`, `proxy_on_done` and `proxy_on_delete`.
    ///
    /// # Errors
    /// `Trap` or `Unsupported` when a guest fails; the stream is over all the same. `Usage` when it
    /// was over before.
    pub fn end(&mut self, stream: StreamId, ending: Ending) -> Result<()> {
        let ended = self.finish(stream.0, ending).and_then(|()| self.settle());
        self.told(ended)
    }

    fn finish(&mut self, id: u64, ending: Ending) -> Result<()> {
        if self.with(id, |stream| stream.ended)? {
            return Err(Self::usage("the stream is over already"));
        }
        self.choose_filters(id)?;
        if self.with(id, |stream| stream.settings.attempt.is_some())? {
            return self.close(id);
        }
        let reply = ending.local_reply.then(|| (local_headers(&ending), ending.body.clone().into_bytes()));
        let (started, responded) = self.with(id, |stream| {
            let attempts = u64::from(stream.routed);
            stream.ending = Some(attributed(ending, stream.local_reply.as_ref(), attempts));
            (stream.started, stream.response_started)
        })?;
        let mut outcome = Ok(());
        match reply {
            Some((headers, body)) if started && !responded => {
                keep_first(&mut outcome, self.send_reply(id, headers, body));
            }
            Some((headers, body)) if !started => {
                self.with(id, |stream| {
                    stream.response_body = body;
                    stream.headers.insert(MapType::ResponseHeaders, headers);
                })?;
            }
            Some(_) | None => {}
        }
        keep_first(&mut outcome, self.close(id));
        outcome
    }

    /// The router gives an attempt of [`StreamBuilder::upstream_filter`] up and makes another one, a stream of its
    /// own, with the request headers as the filters of this one left them. A body is for the test to send again.
    ///
    /// # Errors
    /// As for [`Envoy::end`] and [`Envoy::request_headers`]; `Usage` also when the stream is no attempt, or has no
    /// request yet.
    pub fn next_attempt(&mut self, stream: StreamId) -> Result<StreamId> {
        let next = self.with(stream.0, |stream| {
            let headers = stream.headers.get(&MapType::RequestHeaders).filter(|_| !stream.ended)?.clone();
            let mut settings = stream.settings.clone();
            let (this, following) = (stream.settings.attempt.as_mut()?, settings.attempt.as_mut()?);
            this.retried = true;
            following.answered_before |= stream.response_started;
            settings.attempts += 1;
            Some((settings, headers, stream.ends_with_headers))
        })?;
        let (settings, headers, ends) =
            next.ok_or_else(|| Self::usage("the stream is no open attempt with a request"))?;
        self.end(stream, Ending::complete())?;
        let next = self.open(settings);
        self.request_headers_with(next, headers, ends)?;
        Ok(next)
    }

    /// Passes a reply of the proxy through the filters.
    fn send_reply(&mut self, id: u64, headers: HeaderMap, body: Vec<u8>) -> Result<()> {
        self.start_response(id, headers, body.is_empty())?;
        if body.is_empty() {
            return Ok(());
        }
        self.pass_body(id, Side::Response, None, body, true)
    }

    /// The three last callbacks of every filter.
    fn close(&mut self, id: u64) -> Result<()> {
        let now_ns = self.process.lock().clock.elapsed_ns();
        let filters = self.with(id, |stream| {
            stream.end_ns = Some(now_ns);
            stream.request_paused = None;
            stream.response_paused = None;
            if let Some(received) = stream.settings.received.clone() {
                stream.headers.entry(MapType::RequestHeaders).or_insert(received);
            }
            stream.filters.len()
        })?;
        let mut outcome = Ok(());
        let order = self.order;
        let is_logged = self.with(id, |stream| stream.settings.attempt.is_none())?;
        if is_logged && order == CallbackOrder::Envoy {
            for filter in 0..filters {
                keep_first(&mut outcome, self.log(id, filter));
            }
        }
        for filter in 0..filters {
            keep_first(&mut outcome, self.end_filter(id, filter, "proxy_on_done"));
            if is_logged && order == CallbackOrder::Specification {
                keep_first(&mut outcome, self.log(id, filter));
            }
            keep_first(&mut outcome, self.end_filter(id, filter, "proxy_on_delete"));
            keep_first(&mut outcome, self.remove_context(id, filter));
        }
        self.with(id, |stream| stream.ended = true)?;
        outcome
    }

    /// The access log also hears of streams whose request the filter never saw.
    fn log(&mut self, id: u64, filter: usize) -> Result<()> {
        self.create_context(id, filter)?;
        // The maps a filter paused in are not the access log's.
        self.with_filter(id, filter, |context| {
            context.maps.clear();
            context.buffers.clear();
            context.logging = true;
        })?;
        let logged = self.end_filter(id, filter, "proxy_on_log");
        self.with_filter(id, filter, |context| context.logging = false)?;
        logged
    }

    fn end_filter(&mut self, id: u64, filter: usize, name: &'static str) -> Result<()> {
        let (root, context, bypassed) = self.with_filter(id, filter, |c| (c.root, c.context, c.bypassed))?;
        match context.filter(|_| !bypassed) {
            Some(context) => self.invoke(self.roots[root].vm, name, context, &[], Delivery::default()).map(drop),
            None => Ok(()),
        }
    }

    fn remove_context(&mut self, id: u64, filter: usize) -> Result<()> {
        let (root, context) = self.with_filter(id, filter, |c| (c.root, c.context))?;
        let vm = self.roots[root].vm;
        if let (Some(vm), Some(context)) = (self.vms.get_mut(&vm), context) {
            vm.state_mut().contexts.remove(&context);
        }
        self.roots[root].streams.remove(&id);
        self.finish_unused(root)
    }

    /// Forgets a stream that is over, so that a long test does not collect streams.
    pub fn forget(&mut self, stream: StreamId) {
        let mut process = self.process.lock();
        if process.streams.get(&stream.0).is_some_and(|stream| stream.ended) {
            process.streams.remove(&stream.0);
        }
    }
}

/// The position that comes before `filter` on this side.
fn before(side: Side, filter: usize) -> Option<usize> {
    match side {
        Side::Request => filter.checked_sub(1),
        Side::Response => Some(filter + 1),
    }
}

/// Keeps the first error of several steps that must all be made.
fn keep_first(outcome: &mut Result<()>, step: std::result::Result<(), Failure>) {
    if outcome.is_ok() {
        *outcome = step;
    }
}

/// What Envoy replies by itself.
fn local_headers(ending: &Ending) -> HeaderMap {
    let mut headers = HeaderMap::from(&[(":status", ending.code.unwrap_or(503).to_string())]);
    add_body_headers(&mut headers, ending.body.as_bytes());
    headers
}

/// A reply a filter made, or a failed module caused, gives the stream its details.
fn attributed(ending: Ending, reply: Option<&LocalReply>, attempts: u64) -> Ending {
    match reply {
        Some(reply) => Ending {
            code: Some(reply.status),
            details: Some(reply.details.clone()),
            reached_upstream: false,
            attempts,
            local_reply: false,
            ..ending
        },
        None => ending,
    }
}
