//! A trace store for one test, the spans that the test sends to it, and the browser that looks at it.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use envoy_demo::client::{self, Request};
use envoy_demo::ports::ReservedPort;
use envoy_demo::trace_store::{self, Options, TraceStore};
use newrelic_ingest::Key;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use crate::chromium::{Browser, Programs};

/// The key that the test's store asks for.
const API_KEY: &str = "0000000000000000000000000000000000000000";

/// Chromium and chromedriver; `None` when they cannot be had and that may be.
///
/// # Panics
/// There are none although `CI`, `CHROMEDRIVER` or `CHROMIUM` promises them.
pub(crate) fn chromium_or_skip() -> Option<Programs> {
    static FOUND: OnceLock<Option<Programs>> = OnceLock::new();
    let found = FOUND.get_or_init(|| Programs::find().ok()).clone();
    if found.is_none() {
        let promised = ["CI", "CHROMEDRIVER", "CHROMIUM"].into_iter().find(|name| std::env::var_os(name).is_some());
        assert!(promised.is_none(), "{promised:?} is set, but there is no Chromium; the lines above say why");
        notice(
            "SKIPPED: no Chromium on this machine, and none can be installed; CHROMEDRIVER=/path and CHROMIUM=/path name them\n",
        );
    }
    found
}

/// Written to the stream itself, because the test harness hides what a passing test prints.
pub(crate) fn notice(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

/// A folder of its own for a test's store, Envoy or profile, below cargo's.
pub(crate) fn fresh_dir(what: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{what}-{}-{number}", std::process::id()))
}

/// Epoch milliseconds.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A trace store on a port of its own. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Site {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Site {
    /// Starts one with nothing in it.
    pub(crate) async fn start() -> Self {
        let store = TraceStore::open(&fresh_dir("traces"), Options::default()).unwrap();
        let listener = ReservedPort::any().unwrap().listen().unwrap();
        let address = listener.local_addr().unwrap();
        let routes = trace_store::server(store, Key::Exactly(API_KEY.to_owned()));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A browser that looks at the page at an address.
pub(crate) async fn browser_at(programs: &Programs, address: SocketAddr) -> Browser {
    Browser::start(programs, &format!("http://{address}"), &fresh_dir("chromium")).await.unwrap()
}

/// What the API of the store at an address answers.
pub(crate) async fn api(address: SocketAddr, path: &str) -> Value {
    let answer = client::send(address, &Request::get("store", path)).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// A span as a test sends it.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) trace_id: String,
    pub(crate) id: String,
    pub(crate) parent_id: Option<String>,
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) start_ms: u64,
    pub(crate) duration_ms: f64,
    pub(crate) attributes: Map<String, Value>,
}

impl Span {
    /// A span that starts its trace now.
    pub(crate) fn root(trace_id: &str, service: &str, name: &str) -> Self {
        Self {
            trace_id: trace_id.to_owned(),
            id: "00000000000000a1".to_owned(),
            parent_id: None,
            service: service.to_owned(),
            name: name.to_owned(),
            start_ms: now_ms(),
            duration_ms: 20.0,
            attributes: Map::new(),
        }
    }

    /// A span below this one, a millisecond later.
    pub(crate) fn child(&self, id: &str, service: &str, name: &str) -> Self {
        Self {
            id: id.to_owned(),
            parent_id: Some(self.id.clone()),
            service: service.to_owned(),
            name: name.to_owned(),
            start_ms: self.start_ms + 1,
            duration_ms: self.duration_ms / 2.0,
            attributes: Map::new(),
            ..self.clone()
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.attributes.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn lasting(self, duration_ms: f64) -> Self {
        Self { duration_ms, ..self }
    }

    fn to_json(&self) -> Value {
        let mut attributes = self.attributes.clone();
        attributes.insert("service.name".to_owned(), json!(self.service));
        attributes.insert("name".to_owned(), json!(self.name));
        attributes.insert("duration.ms".to_owned(), json!(self.duration_ms));
        if let Some(parent) = &self.parent_id {
            attributes.insert("parent.id".to_owned(), json!(parent));
        }
        json!({ "trace.id": self.trace_id, "id": self.id, "timestamp": self.start_ms, "attributes": attributes })
    }
}

/// Sends spans to the store at an address, as the Trace API takes them.
pub(crate) async fn send(address: SocketAddr, spans: &[Span]) {
    let body = json!([{ "spans": spans.iter().map(Span::to_json).collect::<Vec<_>>() }]);
    let request = Request::post("store", "/trace/v1", body.to_string())
        .header("content-type", "application/json")
        .header("api-key", API_KEY)
        .header("data-format", "newrelic")
        .header("data-format-version", "1");
    let answer = client::send(address, &request).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
}
