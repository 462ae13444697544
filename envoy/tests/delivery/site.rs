//! An Envoy with the filter in front of an application that notes every request, and the receiver of the spans.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use axum::Router;
use axum::extract::{Request as Arrived, State};
use envoy_demo::client::{self, Request};
use envoy_demo::paths;
use envoy_demo::ports::ReservedPort;
use envoy_demo::process::{EnvoyProcess, Launch};
use envoy_demo::receiver::{Receiver, Store};
use envoy_demo::stats::Stats;
use envoy_demo::tracing_headers::TracingHeaders;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::{ARRIVAL_MAX, fresh_dir};

pub(crate) const LICENSE_KEY: &str = "0000000000000000000000000000000000000000";
/// The application answers on this path when it is told to.
pub(crate) const HELD_PATH: &str = "/held";
const WASM_FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
/// Requests under way at the same time.
const CONNECTIONS: usize = 8;

/// The plugin configuration: every request is one span, and every span is sampled and sent.
pub(crate) fn plugin(app_name: &str, flush_interval_ms: u32) -> Value {
    json!({
        "account_id": "4001",
        "app_name": app_name,
        "role": "inbound",
        "distributed_tracing": { "sampler": {
            "root": "always_on", "remote_parent_sampled": "always_on", "remote_parent_not_sampled": "always_on",
        } },
        "span_events": { "max_samples_stored": "unlimited" },
        "exporters": { "trace_api": {
            "cluster": "newrelic",
            "flush_interval_ms": flush_interval_ms,
            "timeout_ms": 1000,
            "retry": { "factor_ms": 100, "max_ms": 400, "attempts": 60 },
        } },
    })
}

/// How the filter's configuration reaches Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the bootstrap file.
    Static,
    /// With its listener, from a file that Envoy watches (LDS).
    Listener,
    /// By itself, from a file that Envoy watches (ECDS), as Istio delivers it.
    Extension,
}

/// What a test varies.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) plugin: Value,
    pub(crate) source: Source,
    pub(crate) workers: u32,
    /// Envoy's `--drain-time-s`.
    pub(crate) drain_time_s: u32,
}

impl Setup {
    pub(crate) fn new(plugin: Value) -> Self {
        Self { plugin, source: Source::Static, workers: 2, drain_time_s: 1 }
    }
}

/// Everything around one Envoy.
pub(crate) struct Site {
    pub(crate) envoy: EnvoyProcess,
    pub(crate) app: App,
    pub(crate) filtered: SocketAddr,
    dir: PathBuf,
    module: PathBuf,
    source: Source,
    _port: ReservedPort,
}

impl Site {
    /// Starts Envoy and the application. The receiver is the test's, and may come later.
    pub(crate) async fn start(binary: &Path, setup: &Setup, receiver: SocketAddr) -> Result<Self> {
        let (port, app) = (ReservedPort::any()?, App::start()?);
        let (dir, module) = (fresh_dir(), paths::wasm_module()?);
        std::fs::create_dir_all(&dir)?;
        let filtered = port.address();
        let mut site = Files { dir: &dir, module: &module, source: setup.source, filtered };
        site.write_plugin(&setup.plugin)?;
        let config = site.bootstrap(&setup.plugin, app.address, receiver).to_string();
        let wrapped = with_drain_time(binary, setup.drain_time_s, &dir)?;
        let launch = Launch { binary: &wrapped, config: &config, dir: &dir, env: &[], concurrency: setup.workers };
        let envoy = EnvoyProcess::start(&launch).await?;
        Ok(Self { envoy, app, filtered, dir, module, source: setup.source, _port: port })
    }

    /// Gives the filter another configuration, through the file that Envoy watches.
    pub(crate) fn update(&self, plugin: &Value) -> Result<()> {
        let mut files = Files { dir: &self.dir, module: &self.module, source: self.source, filtered: self.filtered };
        files.write_plugin(plugin)
    }

    /// Sends so many requests; each of them must be answered as if nothing else happened.
    pub(crate) async fn requests(&self, count: usize) {
        let mut running = JoinSet::new();
        for _ in 0..count {
            if running.len() >= CONNECTIONS {
                assert_served(running.join_next().await.unwrap().unwrap());
            }
            running.spawn(client::send(self.filtered, &REQUEST));
        }
        while let Some(answer) = running.join_next().await {
            assert_served(answer.unwrap());
        }
    }

    /// Asks Envoy's admin interface to do something.
    pub(crate) async fn admin(&self, path: &str) -> Result<()> {
        let request = Request { method: "POST".to_owned(), ..Request::get("admin", path) };
        let answer = client::send(self.envoy.admin_address()?, &request).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.text());
        Ok(())
    }

    /// Waits until the statistics are as wanted.
    pub(crate) async fn stats_when(&self, reached: impl Fn(&Stats) -> bool) -> Stats {
        self.envoy.stats_when(ARRIVAL_MAX, reached).await.unwrap()
    }

    /// Sends Envoy the signal of an orderly end.
    pub(crate) fn terminate(&self) -> Result<()> {
        let status = std::process::Command::new("kill").args(["-TERM", &self.envoy.pid().to_string()]).status()?;
        ensure!(status.success(), "kill: {status}");
        Ok(())
    }
}

static REQUEST: std::sync::LazyLock<Request> = std::sync::LazyLock::new(|| Request::get("app", "/cart/17"));

fn assert_served(answer: Result<client::Response>) {
    let answer = answer.expect("a proxied request is answered in time");
    assert_eq!((answer.status, answer.text().as_str()), (200, "served\n"));
}

/// Envoy reads its drain time from the command line only.
fn with_drain_time(binary: &Path, drain_time_s: u32, dir: &Path) -> Result<PathBuf> {
    let script = dir.join("envoy");
    let text = format!(
        "#!/bin/sh\nexec {binary:?} \"$@\" --drain-time-s {drain_time_s} --parent-shutdown-time-s {}\n",
        drain_time_s + 1
    );
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// Envoy's configuration files.
struct Files<'a> {
    dir: &'a Path,
    module: &'a Path,
    source: Source,
    filtered: SocketAddr,
}

impl Files<'_> {
    /// Writes the file that Envoy watches, if it watches one: whole, then moved into its place.
    fn write_plugin(&mut self, plugin: &Value) -> Result<()> {
        let resource = match self.source {
            Source::Static => return Ok(()),
            Source::Listener => typed("type.googleapis.com/envoy.config.listener.v3.Listener", self.listener(plugin)),
            Source::Extension => typed(
                "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
                json!({ "name": "newrelic-tracing", "typed_config": self.wasm(plugin) }),
            ),
        };
        let path = self.watched();
        let new = path.with_extension("new");
        std::fs::write(&new, json!({ "resources": [resource] }).to_string())?;
        std::fs::rename(&new, &path)?;
        Ok(())
    }

    fn watched(&self) -> PathBuf {
        self.dir.join("watched.json")
    }

    fn wasm(&self, plugin: &Value) -> Value {
        let text = json!({
            "@type": "type.googleapis.com/google.protobuf.StringValue", "value": plugin.to_string(),
        });
        json!({ "@type": WASM_FILTER, "config": {
            "name": "newrelic-tracing",
            "root_id": "newrelic-tracing",
            "failure_policy": "FAIL_RELOAD",
            "vm_config": {
                "runtime": "envoy.wasm.runtime.v8",
                "code": { "local": { "filename": self.module } },
                "environment_variables": { "key_values": { "NEW_RELIC_LICENSE_KEY": LICENSE_KEY } },
            },
            "configuration": text,
        } })
    }

    fn filter(&self, plugin: &Value) -> Value {
        match self.source {
            Source::Static | Source::Listener => {
                json!({ "name": "newrelic-tracing", "typed_config": self.wasm(plugin) })
            }
            Source::Extension => json!({ "name": "newrelic-tracing", "config_discovery": {
                "config_source": { "path_config_source": { "path": self.watched() }, "resource_api_version": "V3" },
                "type_urls": [WASM_FILTER],
            } }),
        }
    }

    fn listener(&self, plugin: &Value) -> Value {
        let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
        let manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "filtered",
            "route_config": { "virtual_hosts": [{
                "name": "app", "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "app" } }],
            }] },
            "http_filters": [
                self.filter(plugin),
                { "name": "envoy.filters.http.router", "typed_config": { "@type": router } },
            ],
        });
        json!({
            "name": "filtered",
            "traffic_direction": "INBOUND",
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": self.filtered.port() } },
            "filter_chains": [{ "filters": [
                { "name": "envoy.filters.network.http_connection_manager", "typed_config": manager },
            ] }],
        })
    }

    fn bootstrap(&self, plugin: &Value, app: SocketAddr, receiver: SocketAddr) -> Value {
        let mut bootstrap = json!({
            "node": { "id": "proxy-1", "cluster": "tests" },
            "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
            "static_resources": { "clusters": [cluster("app", app), cluster("newrelic", receiver)] },
        });
        match self.source {
            Source::Static | Source::Extension => {
                bootstrap["static_resources"]["listeners"] = json!([self.listener(plugin)]);
            }
            Source::Listener => {
                let config = json!({ "path_config_source": { "path": self.watched() }, "resource_api_version": "V3" });
                bootstrap["dynamic_resources"] = json!({ "lds_config": config });
            }
        }
        bootstrap
    }
}

fn typed(type_url: &str, resource: Value) -> Value {
    let mut resource = resource;
    resource["@type"] = json!(type_url);
    resource
}

fn cluster(name: &str, address: SocketAddr) -> Value {
    let socket = json!({ "socket_address": { "address": "127.0.0.1", "port_value": address.port() } });
    json!({ "name": name, "connect_timeout": "5s", "load_assignment": {
        "cluster_name": name,
        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket } }] }],
    } })
}

/// The application. It notes the span that each request came with.
pub(crate) struct App {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    span_ids: Mutex<BTreeSet<String>>,
    release: Notify,
}

impl App {
    fn start() -> Result<Self> {
        let listener = ReservedPort::any()?.listen()?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Ok(Self { address, shared, server })
    }

    /// The ids of the spans of all requests so far.
    pub(crate) fn span_ids(&self) -> BTreeSet<String> {
        self.shared.span_ids.lock().unwrap().clone()
    }

    /// Answers the request to [`HELD_PATH`], which may still be on its way.
    pub(crate) fn release(&self) {
        self.shared.release.notify_one();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Arrived) -> &'static str {
    let lines = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let span_id = TracingHeaders::pick(lines).traceparent().expect("every request has a span").parent_id;
    shared.span_ids.lock().unwrap().insert(span_id);
    if request.uri().path() == HELD_PATH {
        shared.release.notified().await;
    }
    "served\n"
}

/// The ids of the spans that arrived.
///
/// # Panics
/// One of them arrived twice.
pub(crate) fn received(receiver: &Receiver) -> BTreeSet<String> {
    let ids: Vec<String> = receiver.read(|store: &Store| store.spans().map(|span| span.id.clone()).collect());
    let set: BTreeSet<String> = ids.iter().cloned().collect();
    assert_eq!(set.len(), ids.len(), "a span arrived twice");
    set
}

/// A receiver at this place.
pub(crate) fn receiver_at(port: ReservedPort) -> Result<Receiver> {
    Receiver::start(port.listen()?, LICENSE_KEY)
}

/// Time enough for every flush, pause and timeout of [`plugin`] to pass several times.
pub(crate) const A_WHILE: Duration = Duration::from_secs(3);
