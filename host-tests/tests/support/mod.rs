//! What the suites of the filter share: a proxy that runs the module, scripted ids, and readers of what the module
//! wrote. A suite sees only the wire: header lines, log lines, statistics.
#![allow(
    clippy::allow_attributes,
    dead_code,
    reason = "every suite compiles this file for itself and uses a part of it; an expectation would fail in the others"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host_tests::{
    Builder, Direction, Ending, Envoy, HeaderMap, LogLevel, Module, Node, Plugin, StreamId, Thread, guest,
};
use serde_json::{Value, json};

/// The clock of every proxy at its start, Unix milliseconds.
pub(crate) const NOW_MS: u64 = 1_750_000_000_123;
/// The trace id that [`Draws::new_trace`] scripts.
pub(crate) const NEW_TRACE: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// The transaction guid that [`Draws`] scripts.
pub(crate) const GUID: &str = "9f8e7d6c5b4a3921";
/// The id of the entry span that [`Draws`] scripts.
pub(crate) const ENTRY_ID: &str = "0a1b2c3d4e5f6071";
/// The id of the exit span that [`Draws`] scripts.
pub(crate) const EXIT_ID: &str = "c3d4e5f60718293a";
/// The trace id of callers.
pub(crate) const TRACE: &str = "c0a8017e5d3b4f2226e1d47b08aa3f5c";
/// The span id of callers.
pub(crate) const PARENT: &str = "b7d20c4e19f86a35";
/// A `traceparent` with that trace and parent, sampled.
pub(crate) const TRACEPARENT: &str = "00-c0a8017e5d3b4f2226e1d47b08aa3f5c-b7d20c4e19f86a35-01";
/// The Envoy cluster of the exporters, see [`trace_api`] and [`event_api`].
pub(crate) const CLUSTER: &str = "new-relic";
/// The headers that tracing may change.
pub(crate) const TRACING_HEADERS: [&str; 3] = ["traceparent", "tracestate", "newrelic"];

/// The pseudo headers and the other headers of every request.
pub(crate) const REQUEST: [(&str, &str); 6] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/cart/17?coupon=1"),
    (":authority", "shop.example"),
    ("user-agent", "test"),
    ("x-request-id", "5c0a1f7e-9a43-9d0c-8a5f-1d7bb6a0c2a4"),
];

/// The filter, built once in each process.
pub(crate) fn module() -> Module {
    guest::module("newrelic-tracing").expect("the filter builds")
}

/// The bytes that the module draws, in the order in which it draws them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draws(Vec<u8>);

impl Draws {
    /// For a request of role `gateway` that continues a trace: transaction guid, entry span, exit span.
    pub(crate) fn gateway() -> Self {
        Self::default().hex(GUID).hex(ENTRY_ID).hex(EXIT_ID)
    }

    /// For a request of role `gateway` that starts a trace.
    pub(crate) fn new_trace() -> Self {
        Self::default().hex(NEW_TRACE).hex(GUID).hex(ENTRY_ID).hex(EXIT_ID)
    }

    /// An id, or the draw of a sampler.
    pub(crate) fn hex(mut self, digits: &str) -> Self {
        let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits are ASCII"));
        self.0.extend(pairs.map(|pair| u8::from_str_radix(pair, 16).expect("digits are hex")));
        self
    }

    /// The base of a priority, in millionths: four bytes that stand for `bytes / 2^32`.
    pub(crate) fn priority(mut self, millionths: u32) -> Self {
        let number = (u64::from(millionths) << 32).div_ceil(1_000_000);
        self.0.extend(u32::try_from(number).expect("a base is below one").to_be_bytes());
        self
    }

    /// The draws of another request behind these.
    pub(crate) fn then(mut self, next: &Self) -> Self {
        self.0.extend(&next.0);
        self
    }
}

/// How a proxy with the filter is set up.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    settings: Value,
    draws: Draws,
    direction: Direction,
    node: Node,
    workers: usize,
    log_level: LogLevel,
}

impl Setup {
    /// A gateway of account 4001, application 90210, in the group of account 777.
    pub(crate) fn gateway() -> Self {
        Self::role("gateway")
    }

    /// The same with another role.
    pub(crate) fn role(role: &str) -> Self {
        Self {
            settings: json!({
                "account_id": "4001",
                "trusted_account_key": "777",
                "primary_application_id": "90210",
                "app_name": "edge",
                "role": role,
            }),
            draws: Draws::default(),
            direction: Direction::Unspecified,
            node: Node::new("test-node", "test-cluster"),
            workers: 1,
            log_level: LogLevel::Info,
        }
    }

    /// Sets the key with this dotted path.
    pub(crate) fn with(mut self, path: &str, value: impl Into<Value>) -> Self {
        let place = path.split('.').fold(&mut self.settings, |place, key| &mut place[key]);
        *place = value.into();
        self
    }

    /// Leaves a key out.
    pub(crate) fn without(mut self, key: &str) -> Self {
        self.settings.as_object_mut().expect("the configuration is an object").remove(key);
        self
    }

    /// Gives all three origins of a request the same sampler.
    pub(crate) fn sampler(self, sampler: impl Into<Value>) -> Self {
        let sampler = sampler.into();
        ["root", "remote_parent_sampled", "remote_parent_not_sampled"]
            .iter()
            .fold(self, |setup, section| setup.with(&format!("distributed_tracing.sampler.{section}"), sampler.clone()))
    }

    /// Scripts what worker 0 draws.
    pub(crate) fn draws(self, draws: Draws) -> Self {
        Self { draws, ..self }
    }

    /// Sets the traffic direction of the listener.
    pub(crate) fn direction(self, direction: Direction) -> Self {
        Self { direction, ..self }
    }

    /// Sets the node.
    pub(crate) fn node(self, node: Node) -> Self {
        Self { node, ..self }
    }

    /// Sets the number of workers.
    pub(crate) fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// Sets the level from which on log lines are kept.
    pub(crate) fn log_level(self, log_level: LogLevel) -> Self {
        Self { log_level, ..self }
    }

    /// The plugin: for a test that needs more of the proxy than [`Setup::start`] offers.
    pub(crate) fn plugin(&self) -> Plugin {
        Plugin::new("tracing").configuration(self.settings.to_string()).listener("default", self.direction)
    }

    /// The proxy before it starts.
    pub(crate) fn builder(&self) -> Builder {
        Envoy::builder(&module())
            .plugin(self.plugin())
            .workers(self.workers)
            .cluster(CLUSTER)
            .clock_ns(NOW_MS * 1_000_000)
            .log_level(self.log_level)
            .node(self.node.clone())
            .random(Thread::Worker(0), &self.draws.0)
    }

    /// Starts the proxy.
    pub(crate) fn start(&self) -> Envoy {
        self.builder().start().expect("the proxy starts")
    }

    /// Starts a proxy and sends it one request with these lines behind those of [`REQUEST`], answered with 200
    /// after 40 ms.
    pub(crate) fn exchange<N: AsRef<[u8]>, V: AsRef<[u8]>>(&self, lines: &[(N, V)]) -> Seen {
        let mut envoy = self.start();
        let stream = envoy.stream().open();
        let upstream = send(&mut envoy, stream, &request(lines));
        finish(&mut envoy, stream, "200");
        Seen::new(envoy, stream, upstream)
    }
}

/// The headers of a request: those of [`REQUEST`], then `lines`.
pub(crate) fn request<N: AsRef<[u8]>, V: AsRef<[u8]>>(lines: &[(N, V)]) -> HeaderMap {
    let mut headers = HeaderMap::from(&REQUEST);
    for (name, value) in lines {
        headers.add(name, value);
    }
    headers
}

/// Sends a request through the filter, and checks that it changed nothing but tracing headers and held nothing up.
pub(crate) fn send(envoy: &mut Envoy, stream: StreamId, request: &HeaderMap) -> HeaderMap {
    let upstream = envoy.request_headers(stream, request).expect("the filter does not trap");
    assert!(!envoy.is_paused(stream), "the request goes on");
    assert_eq!(envoy.local_reply(stream), None, "the request goes on");
    assert_eq!(others(&upstream), others(request), "tracing changes nothing but its own headers");
    upstream
}

/// Answers a request after 40 ms, and ends it.
pub(crate) fn finish(envoy: &mut Envoy, stream: StreamId, status: &str) {
    envoy.advance(Duration::from_millis(40)).expect("no tick traps");
    let answer = [(":status", status), ("content-type", "text/plain")];
    let downstream = envoy.response_headers(stream, answer).expect("the filter does not trap");
    assert_eq!(downstream, HeaderMap::from(&answer), "the answer is left alone");
    envoy.end(stream, Ending::complete()).expect("the filter does not trap");
}

/// Lets the filter's timer fire, so that statistics are published.
pub(crate) fn tick(envoy: &mut Envoy) {
    envoy.advance(Duration::from_secs(1)).expect("no tick traps");
}

/// Every line that is none of tracing.
pub(crate) fn others(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let names = [&TRACING_HEADERS[..], &["x-newrelic-id", "x-newrelic-transaction"]].concat();
    let is_other = |name: &[u8]| names.iter().all(|tracing| tracing.as_bytes() != name);
    headers.iter().filter(|(name, _)| is_other(name)).map(|(name, value)| (text(name), text(value))).collect()
}

/// What one request left behind.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The proxy, one tick after the end of the request.
    pub(crate) envoy: Envoy,
    /// The stream.
    pub(crate) stream: StreamId,
    /// The request headers as the upstream got them.
    pub(crate) upstream: HeaderMap,
}

impl Seen {
    /// Notes what a finished request left behind, and lets the timer fire.
    pub(crate) fn new(envoy: Envoy, stream: StreamId, upstream: HeaderMap) -> Self {
        let mut envoy = envoy;
        tick(&mut envoy);
        Self { envoy, stream, upstream }
    }

    /// The only line of a header.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let lines = self.upstream.all(name);
        assert!(lines.len() <= 1, "the upstream gets at most one {name}: {:?}", self.upstream);
        lines.first().map(|line| String::from_utf8_lossy(line).into_owned())
    }

    /// `traceparent` as sent.
    pub(crate) fn traceparent(&self) -> String {
        self.header("traceparent").expect("traceparent is sent")
    }

    /// `tracestate` as sent.
    pub(crate) fn tracestate(&self) -> Option<String> {
        self.header("tracestate")
    }

    /// `newrelic` as sent, decoded.
    pub(crate) fn payload(&self) -> Option<Value> {
        self.header("newrelic").map(|value| decode(&value))
    }

    /// Every span.
    pub(crate) fn spans(&self) -> Vec<Value> {
        records(&self.envoy, "span")
    }

    /// Every transaction.
    pub(crate) fn transactions(&self) -> Vec<Value> {
        records(&self.envoy, "transaction")
    }

    /// The only transaction.
    pub(crate) fn transaction(&self) -> Value {
        only(self.transactions(), "transaction")
    }

    /// The only span of kind `server`.
    pub(crate) fn entry_span(&self) -> Value {
        self.span("server")
    }

    /// The only span of kind `client`.
    pub(crate) fn exit_span(&self) -> Value {
        self.span("client")
    }

    fn span(&self, kind: &str) -> Value {
        let is_of_kind = |span: &Value| span["attributes"]["span.kind"] == kind;
        only(self.spans().into_iter().filter(is_of_kind).collect(), kind)
    }

    /// The supportability counters of propagation that are not zero, without their prefix.
    pub(crate) fn supportability(&self) -> BTreeMap<String, u64> {
        let counters = self.envoy.counters().into_iter().filter(|(_, count)| *count > 0);
        let shorten = |(name, count): (String, u64)| {
            let name = name.strip_prefix("newrelic.Supportability/")?;
            let is_of_propagation = name.starts_with("TraceContext/") || name.starts_with("DistributedTrace/");
            is_of_propagation.then(|| (name.to_owned(), count))
        };
        counters.filter_map(shorten).collect()
    }
}

fn only(records: Vec<Value>, what: &str) -> Value {
    assert_eq!(records.len(), 1, "one {what}: {records:?}");
    records.into_iter().next().unwrap_or_default()
}

/// The records that the `log` exporter wrote as lines that begin with `word`.
pub(crate) fn records(envoy: &Envoy, word: &str) -> Vec<Value> {
    let prefix = format!("{word} ");
    let lines = envoy.logs();
    let objects = lines.iter().filter_map(|line| line.message.strip_prefix(&prefix));
    objects.map(|object| serde_json::from_str(object).expect("a record is JSON")).collect()
}

/// Counters with their number, for comparison with [`Seen::supportability`].
pub(crate) fn counted(names: &[&str]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry((*name).to_owned()).or_default() += 1;
    }
    counts
}

/// The `newrelic` header with this JSON text inside.
pub(crate) fn encode(json: impl AsRef<[u8]>) -> String {
    STANDARD.encode(json)
}

/// The JSON inside a `newrelic` header of the strict form that every agent reads.
pub(crate) fn decode(value: &str) -> Value {
    let json = STANDARD.decode(value).expect("standard base64 with padding");
    serde_json::from_slice(&json).expect("JSON")
}

/// The texts of a tracing header in order.
pub(crate) fn texts(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.all(name).iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

/// `exporters.trace_api` for [`CLUSTER`].
pub(crate) fn trace_api() -> Value {
    json!({ "cluster": CLUSTER, "api_key": { "value": "test-key" } })
}

/// `exporters.event_api` for [`CLUSTER`].
pub(crate) fn event_api() -> Value {
    trace_api()
}

/// A stream with these lines that the filter hears of only when it ends, as an earlier filter answered.
pub(crate) fn refused_stream<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    envoy: &mut Envoy,
    lines: &[(N, V)],
    ending: Ending,
) -> StreamId {
    let stream = envoy.stream().received(request(lines)).open();
    envoy.end(stream, ending).expect("the filter does not trap");
    stream
}
