//! The cases through a real Envoy.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use envoy_demo::ports::ReservedPort;
use envoy_demo::process::{EnvoyProcess, Launch};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::cases;
use crate::model::{Case, Fate, Recording, Response, is_compared};
use crate::plugins::{self, Spec};
use crate::services::{self, Desk, Plan};

/// Only a fault meets this deadline.
const MAX: Duration = Duration::from_secs(20);
/// Between two looks at the log.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// A response that pauses for so long is complete.
const IDLE: Duration = Duration::from_millis(60);

/// Plays all cases.
pub(crate) fn record(probe: &Path, binary: &Path) -> Recording {
    let runtime = Runtime::new().unwrap();
    let _in_runtime = runtime.enter();
    let real = Real::start(&runtime, probe, binary);
    let mut recording: Recording = cases::all().into_iter().map(|case| (case.name, real.play(&case))).collect();
    for (name, plugin, with_main) in cases::AT_START {
        let last = cases::last_at_start(plugin);
        if !last.is_empty() {
            real.wait_for(0, &format!("{plugin} root {last}"));
        }
        let lines = real.lines(0);
        let of = |main: bool| lines.iter().filter(move |line| line.main == main && line.of(plugin));
        let main = of(true).filter(|_| *with_main).map(|line| format!("main: {}", line.text));
        let worker = of(false).map(|line| format!("worker: {}", line.text));
        recording.insert(name, main.chain(worker).collect());
    }
    runtime.block_on(real.envoy.stop()).unwrap();
    recording
}

/// One line of the probe.
pub(crate) struct Line {
    pub(crate) thread: String,
    pub(crate) main: bool,
    pub(crate) text: String,
}

impl Line {
    pub(crate) fn of(&self, plugin: &str) -> bool {
        self.text.split(' ').next() == Some(plugin)
    }
}

/// The lines that modules logged, from Envoy's log.
pub(crate) fn lines(log: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = log.lines().filter_map(line).collect();
    let main = lines.first().map(|line| line.thread.clone());
    for line in &mut lines {
        line.main = Some(&line.thread) == main.as_ref();
    }
    lines
}

/// `[<time>][<thread>][<level>][wasm] [<source>] wasm log <plugin> <root id> <vm id>: <text>`
fn line(line: &str) -> Option<Line> {
    let (head, rest) = line.split_once("wasm log ")?;
    let (_, text) = rest.split_once(": ")?;
    let mut fields = head.split(['[', ']']).filter(|field| !field.is_empty());
    let (_, thread, level) = (fields.next()?, fields.next()?, fields.next()?);
    let text = match text.strip_prefix("probe|") {
        Some(of_probe) => of_probe.replacen('|', " ", 2),
        None => format!("logged {level} {text}"),
    };
    Some(Line { thread: thread.to_owned(), main: false, text: without_service_time(&text) })
}

/// The router measures how long a callee took.
fn without_service_time(text: &str) -> String {
    const NAME: &str = "x-envoy-upstream-service-time=";
    let Some((before, after)) = text.split_once(NAME) else { return text.to_owned() };
    format!("{before}{NAME}#{}", after.trim_start_matches(|digit: char| digit.is_ascii_digit()))
}

/// A folder for one Envoy's configuration and log, below cargo's.
pub(crate) fn fresh_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("truth-{}-{number}", std::process::id()))
}

struct Real {
    envoy: EnvoyProcess,
    listeners: BTreeMap<String, SocketAddr>,
    desk: Arc<Mutex<Desk>>,
    _ports: Vec<ReservedPort>,
}

impl Real {
    fn start(runtime: &Runtime, probe: &Path, binary: &Path) -> Self {
        let desk = Arc::default();
        let upstream = services::start(TcpListener::bind("127.0.0.1:0").unwrap(), &desk);
        let refused = ReservedPort::any().unwrap();
        let mut ports = BTreeMap::new();
        for spec in plugins::all() {
            ports.entry(spec.plugin.listener.clone()).or_insert_with(|| ReservedPort::any().unwrap());
        }
        let listeners: BTreeMap<String, SocketAddr> =
            ports.iter().map(|(name, port)| (name.clone(), port.address())).collect();
        let config = bootstrap(&plugins::all(), probe, &listeners, upstream, refused.address()).to_string();
        let dir = fresh_dir();
        let launch = Launch { binary, config: &config, dir: &dir, env: &[("ENVOY_PROBE", "x")], concurrency: 1 };
        let envoy = runtime.block_on(EnvoyProcess::start(&launch)).unwrap();
        Self { envoy, listeners, desk, _ports: ports.into_values().chain([refused]).collect() }
    }

    /// The lines since a place in the log.
    fn lines(&self, since: usize) -> Vec<Line> {
        let log = fs::read(self.envoy.log_path()).unwrap();
        let mut all = lines(&String::from_utf8_lossy(&log));
        all.split_off(since.min(all.len()))
    }

    fn tail(&self) -> String {
        const SHOWN: usize = 20;
        let log = self.envoy.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }

    /// Waits for a line that ends like this.
    fn wait_for(&self, since: usize, last: &str) {
        let deadline = Instant::now() + MAX;
        while !self.lines(since).iter().any(|line| line.text.ends_with(last)) {
            assert!(Instant::now() < deadline, "no line ends with {last}; it logged last:\n{}", self.tail());
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn play(&self, case: &Case) -> Vec<String> {
        let since = self.lines(0).len();
        *self.desk.lock().unwrap() = Desk { plans: plans(&case.fate).into(), arrived: Vec::new() };
        let mut client = TcpStream::connect(self.listeners[case.listener]).unwrap();
        client.set_read_timeout(Some(LOOK_AGAIN)).unwrap();
        send(&mut client, case);
        let got = self.await_end(client, case, since);
        let worker = self.lines(since).into_iter().filter(|line| !line.main && !line.of("calls"));
        let mut lines: Vec<String> = worker.map(|line| line.text).collect();
        if matches!(case.fate, Fate::Answer(_) | Fate::Retry(_) | Fate::Probe) {
            let arrived = std::mem::take(&mut self.desk.lock().unwrap().arrived);
            // A second attempt has the same lines again.
            let attempts = if matches!(case.fate, Fate::Retry(_)) { 2 } else { 1 };
            let one = arrived.len() / attempts;
            lines.extend(arrived.into_iter().take(one));
        }
        // What the router replies itself does not pass the filters of a cluster.
        if !matches!(case.fate, Fate::Unanswered) {
            lines.extend(shown(&got));
        }
        lines
    }

    /// Reads what comes back until the recording is complete.
    fn await_end(&self, client: TcpStream, case: &Case, since: usize) -> Vec<u8> {
        if matches!(case.fate, Fate::Abort) {
            self.wait_for(since, "stream request_headers 6 1");
            thread::sleep(services::PAUSE);
            drop(client);
            self.wait_for(since, case.last);
            return Vec::new();
        }
        let deadline = Instant::now() + MAX;
        let (mut client, mut got, mut ended, mut latest) = (client, Vec::new(), false, Instant::now());
        loop {
            let mut part = [0; 4096];
            match client.read(&mut part) {
                Ok(0) => ended = true,
                Ok(len) => {
                    got.extend_from_slice(&part[..len]);
                    latest = Instant::now();
                    if got.starts_with(b"HTTP/1.1 101") && got.ends_with(b"\r\n\r\n") {
                        client.write_all(b"ping").unwrap();
                    }
                }
                Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => ended = true,
            }
            let complete = ended || (!got.is_empty() && latest.elapsed() > IDLE);
            // After a trap the probe is silent.
            let last_seen =
                || case.last.is_empty() || self.lines(since).iter().any(|line| line.text.ends_with(case.last));
            if complete && last_seen() {
                return got;
            }
            assert!(
                Instant::now() < deadline,
                "{}: no line ends with {}; the client got {}; Envoy logged last:\n{}",
                case.name,
                case.last,
                got.escape_ascii(),
                self.tail()
            );
            if ended {
                thread::sleep(LOOK_AGAIN);
            }
        }
    }
}

fn plans(fate: &Fate) -> Vec<Plan> {
    match fate {
        Fate::Answer(response) => vec![Plan::Answer(response.clone())],
        Fate::Retry(response) | Fate::Attempts(response) => {
            let unavailable = Response { status: 503, ..Response::default() };
            vec![Plan::Answer(unavailable), Plan::Answer(response.clone())]
        }
        Fate::Timeout | Fate::Unanswered | Fate::Abort => vec![Plan::Silence],
        Fate::Upgrade => vec![Plan::Upgrade],
        Fate::Reset => vec![Plan::Close],
        Fate::Refused
        | Fate::NoHost
        | Fate::NoRoute
        | Fate::NoCluster
        | Fate::Direct
        | Fate::Earlier
        | Fate::Malformed
        | Fate::Nameless
        | Fate::Probe => Vec::new(),
    }
}

fn send(client: &mut TcpStream, case: &Case) {
    let request = &case.request;
    let version = if matches!(case.fate, Fate::Malformed) { "HTTP/9" } else { "HTTP/1.1" };
    let mut head = format!("{} {} {version}\r\n", request.method(), case.fate.path()).into_bytes();
    if !matches!(case.fate, Fate::Nameless) {
        head.extend(b"host: shop\r\n");
    }
    if !case.script.is_empty() {
        head.extend(format!("x-script: {}\r\n", case.script).into_bytes());
    }
    services::write_headers(&mut head, request.headers.iter().copied());
    services::send(client, head, &request.body).unwrap();
}

/// What the client got.
fn shown(got: &[u8]) -> Vec<String> {
    let mut reader = BufReader::new(got);
    let mut head = Vec::new();
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).unwrap();
        let text = line.trim_ascii_end().escape_ascii().to_string();
        if text.is_empty() {
            break;
        }
        head.push(text);
    }
    let Some(first) = head.first() else { return lines };
    lines.push(format!("client got {}", first.split(' ').nth(1).unwrap_or_default()));
    for (name, value) in head.iter().filter_map(|line| line.split_once(": ")).filter(|(name, _)| is_compared(name)) {
        lines.push(format!("client got {name}: {value}"));
    }
    let body = if head.iter().any(|line| line == "transfer-encoding: chunked") {
        services::read_chunks(&mut reader).unwrap()
    } else {
        let mut body = Vec::new();
        reader.read_to_end(&mut body).unwrap();
        body
    };
    lines.push(format!("client got {}", body.escape_ascii()));
    lines
}

/// The whole configuration of an Envoy with these plugins.
pub(crate) fn bootstrap(
    specs: &[Spec],
    probe: &Path,
    listeners: &BTreeMap<String, SocketAddr>,
    upstream: SocketAddr,
    refused: SocketAddr,
) -> Value {
    let listener = |(name, address): (&String, &SocketAddr)| {
        let on_it = || specs.iter().filter(|spec| spec.plugin.listener == *name && !spec.in_cluster);
        let mut filters: Vec<Value> = on_it().filter_map(|spec| spec.before.clone()).collect();
        filters.extend(on_it().map(|spec| spec.filter(probe.to_str().unwrap())));
        let inbound = on_it().any(|spec| spec.plugin.direction == host_tests::Direction::Inbound);
        listening(name, *address, filters, inbound)
    };
    let in_cluster = specs.iter().filter(|spec| spec.in_cluster).map(|spec| spec.filter(probe.to_str().unwrap()));
    let clusters = [
        cluster("up", Some(upstream)),
        cluster("refused", Some(refused)),
        cluster("empty", None),
        filtering(cluster("attempt", Some(upstream)), in_cluster.collect()),
    ];
    json!({
        "node": plugins::node_json(),
        "admin": { "address": address(([127, 0, 0, 1], 0).into()) },
        "static_resources": {
            "listeners": listeners.iter().map(listener).collect::<Vec<_>>(),
            "clusters": clusters,
        },
    })
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn cluster(name: &str, host: Option<SocketAddr>) -> Value {
    let endpoints: Vec<Value> = host
        .into_iter()
        .map(|host| json!({ "lb_endpoints": [{ "endpoint": { "address": address(host) } }] }))
        .collect();
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": endpoints },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http_protocol_options": { "enable_trailers": true } },
            },
        },
    })
}

/// A cluster with filters of its own.
fn filtering(cluster: Value, filters: Vec<Value>) -> Value {
    let (mut cluster, mut filters) = (cluster, filters);
    filters.push(json!({
        "name": "codec",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
        },
    }));
    let options = &mut cluster["typed_extension_protocol_options"];
    options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["http_filters"] = Value::Array(filters);
    cluster
}

fn listening(name: &str, at: SocketAddr, filters: Vec<Value>, inbound: bool) -> Value {
    let mut filters = filters;
    filters.push(json!({
        "name": "router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers": true,
        },
    }));
    json!({
        "name": name,
        "traffic_direction": if inbound { "INBOUND" } else { "UNSPECIFIED" },
        "address": address(at),
        "filter_chains": [{ "filters": [{
            "name": "http",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "generate_request_id": false,
                "server_header_transformation": "PASS_THROUGH",
                "http_protocol_options": { "enable_trailers": true },
                "upgrade_configs": [{ "upgrade_type": "websocket" }],
                "route_config": { "name": "routes", "virtual_hosts": [{
                    "name": "default", "domains": ["*"], "routes": routes(),
                }] },
                "http_filters": filters,
            },
        }] }],
    })
}

fn routes() -> Value {
    let to =
        |path: &str, action: Value| json!({ "match": { "prefix": format!("/{path}") }, "name": path, "route": action });
    json!([
        to("upgrade", json!({ "cluster": "up" })),
        to("up", json!({ "cluster": "up" })),
        to("changed", json!({ "cluster": "up" })),
        to("retry", json!({ "cluster": "up", "retry_policy": { "retry_on": "5xx", "num_retries": 1 } })),
        to("attempts", json!({ "cluster": "attempt", "retry_policy": { "retry_on": "5xx", "num_retries": 1 } })),
        to("unanswered", json!({ "cluster": "attempt", "timeout": "0.15s" })),
        to("refused", json!({ "cluster": "refused" })),
        to("empty", json!({ "cluster": "empty" })),
        to("nocluster", json!({ "cluster_header": "x-cluster" })),
        to("timeout", json!({ "cluster": "up", "timeout": "0.15s" })),
        { "match": { "prefix": "/direct" }, "name": "direct",
          "direct_response": { "status": 418, "body": { "inline_string": "direct" } } },
    ])
}
