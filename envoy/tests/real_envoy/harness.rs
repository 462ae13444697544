//! One Envoy with the filter in front of an application, on ports of its own, for one test.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Request as Arrived, State};
use axum::response::{IntoResponse, Response as Answer};
use envoy_demo::client::{self, Request, Response};
use envoy_demo::ports::ReservedPort;
use envoy_demo::process::{EnvoyProcess, Launch};
use envoy_demo::receiver::{Receiver, SpanRecord};
use envoy_demo::tracing_headers::{TracingHeaders, X_NEWRELIC_APP_DATA};
use envoy_demo::{paths, template};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const PROXY_YAML: &str = include_str!("proxy.yaml");
const LICENSE_KEY: &str = "0000000000000000000000000000000000000000";
/// Only a fault meets this deadline.
pub(crate) const ARRIVAL_MAX: Duration = Duration::from_secs(20);
/// A path on which the application never answers.
pub(crate) const HANG_PATH: &str = "/hang";
/// A path on which the application answers with the `X-NewRelic-App-Data` that it is sent.
pub(crate) const APP_DATA_PATH: &str = "/app-data";
/// A caller's trace id and span id.
pub(crate) const TRACE_ID: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
pub(crate) const CALLER_SPAN_ID: &str = "c3d4e5f60718293a";

/// The Envoy to test with; `None` when there is none and that may be.
///
/// # Panics
/// There is none although `CI` or `ENVOY` promises one.
pub(crate) fn envoy_or_skip() -> Option<PathBuf> {
    let envoy = paths::envoy_at_hand();
    if envoy.is_none() {
        let promised = ["CI", "ENVOY"].into_iter().find(|name| std::env::var_os(name).is_some());
        assert!(promised.is_none(), "{promised:?} is set, but there is no Envoy; `make test` installs one");
        // Written to the stream itself, because the test harness hides what a passing test prints.
        let notice = "SKIPPED: no Envoy on this machine; `make test` installs one, ENVOY=/path names one\n";
        std::io::stderr().write_all(notice.as_bytes()).unwrap();
    }
    envoy
}

/// A folder for one Envoy's configuration and log, below cargo's.
pub(crate) fn fresh_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("envoy-{}-{number}", std::process::id()))
}

/// What a test varies.
pub(crate) struct Setup {
    /// The plugin configuration as Envoy's YAML takes it, a protobuf `Any` in JSON.
    pub(crate) configuration: Value,
    /// The VM's environment.
    pub(crate) environment: Value,
}

impl Setup {
    /// A configuration as JSON text in a `StringValue`.
    pub(crate) fn text(configuration: &Value) -> Self {
        let any = json!({
            "@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration.to_string(),
        });
        Self { configuration: any, environment: json!({ "NEW_RELIC_LICENSE_KEY": LICENSE_KEY }) }
    }

    /// A configuration as a `Struct`.
    pub(crate) fn fields(configuration: &Value) -> Self {
        let any = json!({ "@type": "type.googleapis.com/google.protobuf.Struct", "value": configuration });
        Self { configuration: any, ..Self::text(configuration) }
    }

    pub(crate) fn with_env(mut self, name: &str, value: &str) -> Self {
        self.environment[name] = json!(value);
        self
    }
}

/// The plugin configuration of most tests: everything is sampled and sent to the receiver.
pub(crate) fn tracing_everything() -> Value {
    json!({
        "account_id": "4001",
        "trusted_account_key": "4000",
        "primary_application_id": "502",
        "app_name": "app",
        "distributed_tracing": { "sampler": { "root": "always_on", "remote_parent_sampled": "always_on" } },
        "exporters": { "trace_api": { "cluster": "newrelic", "flush_interval_ms": 100 } },
    })
}

/// An Envoy with the filter, the application behind it, and the receiver of its spans.
pub(crate) struct Proxy {
    pub(crate) envoy: EnvoyProcess,
    pub(crate) receiver: Receiver,
    pub(crate) app: App,
    /// The listener with the filter.
    pub(crate) filtered: SocketAddr,
    /// The listener without it.
    pub(crate) bare: SocketAddr,
    _ports: [ReservedPort; 2],
}

impl Proxy {
    /// Starts all three and waits until requests can be sent.
    pub(crate) async fn start(envoy: &Path, setup: &Setup) -> Result<Self> {
        let (filtered, bare) = (ReservedPort::any()?, ReservedPort::any()?);
        let app = App::start()?;
        let receiver = Receiver::start(ReservedPort::any()?.listen()?, LICENSE_KEY)?;
        let ports = [filtered.address(), bare.address(), app.address, receiver.address()];
        let config = render(setup, ports)?;
        let envoy = EnvoyProcess::start(&launch(envoy, &config, &fresh_dir())).await?;
        let (with, without) = (filtered.address(), bare.address());
        Ok(Self { envoy, receiver, app, filtered: with, bare: without, _ports: [filtered, bare] })
    }

    /// Sends a request to the listener with the filter.
    pub(crate) async fn send(&self, request: &Request) -> Response {
        client::send(self.filtered, request).await.unwrap()
    }

    /// Waits for a span of that trace.
    pub(crate) async fn span_of(&self, trace_id: &str) -> SpanRecord {
        self.receiver.wait_until(ARRIVAL_MAX, |store| store.trace(trace_id).next().is_some()).await;
        let span = self.receiver.read(|store| store.trace(trace_id).next().cloned());
        span.with_context(|| format!("no span of trace {trace_id}; Envoy's log:\n{}", self.envoy.log())).unwrap()
    }

    /// Sends a decent request and asserts that the filter treats it as ever: it goes on with the
    /// caller's trace and records a span. Each call of one test needs a `number` of its own.
    pub(crate) async fn assert_traces(&self, number: u32, after: &str) {
        let trace_id = format!("{number:032x}");
        let traceparent = format!("00-{trace_id}-{CALLER_SPAN_ID}-01");
        let answer = self.send(&Request::get("app", "/fine").header("traceparent", traceparent)).await;
        assert_eq!(answer.status, 200, "after {after}");
        let seen = self.app.last_seen();
        let sent = seen.traceparent().unwrap_or_else(|| panic!("after {after}: no traceparent in {seen:?}"));
        assert_eq!((sent.trace_id.as_str(), sent.sampled), (trace_id.as_str(), true), "after {after}");
        let span = self.span_of(&trace_id).await;
        assert_eq!((span.id, span.attributes["parent.id"].as_str()), (sent.parent_id, Some(CALLER_SPAN_ID)));
    }
}

/// Starts an Envoy that is not expected to get ready. Nothing listens behind it.
pub(crate) fn spawn(envoy: &Path, setup: &Setup) -> Result<EnvoyProcess> {
    let ports = [ReservedPort::any()?, ReservedPort::any()?, ReservedPort::any()?, ReservedPort::any()?];
    let config = render(setup, ports.each_ref().map(ReservedPort::address))?;
    EnvoyProcess::spawn(&launch(envoy, &config, &fresh_dir()))
}

fn launch<'a>(binary: &'a Path, config: &'a str, dir: &'a Path) -> Launch<'a> {
    Launch { binary, config, dir, env: &[], concurrency: 1 }
}

fn render(setup: &Setup, [filtered, bare, app, receiver]: [SocketAddr; 4]) -> Result<String> {
    let module = paths::wasm_module()?;
    template::render(PROXY_YAML, |name| match name {
        "WASM" => module.to_str().map(str::to_owned),
        "ENVIRONMENT" => Some(setup.environment.to_string()),
        "CONFIGURATION" => Some(setup.configuration.to_string()),
        "PORT_FILTERED" => Some(filtered.port().to_string()),
        "PORT_BARE" => Some(bare.port().to_string()),
        "PORT_APP" => Some(app.port().to_string()),
        "PORT_RECEIVER" => Some(receiver.port().to_string()),
        _ => None,
    })
}

/// The application: answers every request in the same way and keeps the tracing headers it saw.
pub(crate) struct App {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<TracingHeaders>>>,
    server: JoinHandle<()>,
}

impl App {
    fn start() -> Result<Self> {
        let listener = ReservedPort::any()?.listen()?;
        let address = listener.local_addr()?;
        let seen = Arc::default();
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Ok(Self { address, seen, server })
    }

    /// The tracing headers of the latest request.
    pub(crate) fn last_seen(&self) -> TracingHeaders {
        self.seen.lock().unwrap().last().cloned().expect("no request reached the application")
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(seen): State<Arc<Mutex<Vec<TracingHeaders>>>>, request: Arrived) -> Answer {
    let lines = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    seen.lock().unwrap().push(TracingHeaders::pick(lines));
    if request.uri().path() == HANG_PATH {
        std::future::pending::<()>().await;
    }
    let body = format!("served {}\n", request.uri().path());
    match request.headers().get(X_NEWRELIC_APP_DATA) {
        Some(value) if request.uri().path() == APP_DATA_PATH => {
            ([(X_NEWRELIC_APP_DATA, value.clone())], body).into_response()
        }
        _ => body.into_response(),
    }
}
