//! The program `trace`, against a store that serves and against the database of one that does not.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use envoy_demo::client::{self, Request};
use envoy_demo::ports::ReservedPort;
use envoy_demo::trace_store::{self, Clock, Options, TraceStore};
use newrelic_ingest::Key;
use serde_json::{Value, json};

const TRACE: &str = "851c8df3ac12e4f34d93d910d93e037a";
const OTHER: &str = "85aa8df3ac12e4f34d93d910d93e037b";
/// When the store of a test is opened, milliseconds since 1970.
const START_MS: u64 = 1_750_000_000_000;

/// A folder of its own for a test's store, below cargo's.
fn fresh_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("trace-command-{}-{number}", std::process::id()))
}

/// A store that serves, whose clock is the test's.
struct Site {
    dir: PathBuf,
    address: SocketAddr,
    store: TraceStore,
    now_ms: Arc<AtomicU64>,
}

impl Site {
    fn start() -> Self {
        let now_ms = Arc::new(AtomicU64::new(START_MS));
        let clock = Arc::clone(&now_ms);
        let options = Options { clock: Clock::new(move || clock.load(Ordering::Relaxed)), ..Options::default() };
        let dir = fresh_dir();
        let store = TraceStore::open(&dir, options).unwrap();
        let listener = ReservedPort::any().unwrap().listen().unwrap();
        let address = listener.local_addr().unwrap();
        let routes = trace_store::server(store.clone(), Key::Any);
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { dir, address, store, now_ms }
    }

    async fn post(&self, spans: &[Value]) {
        let request = Request::post("store", "/trace/v1", json!([{ "spans": spans }]).to_string())
            .header("content-type", "application/json")
            .header("api-key", "a key")
            .header("data-format", "newrelic")
            .header("data-format-version", "1");
        let answer = client::send(self.address, &request).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
    }

    /// Lets time pass until every trace is written.
    async fn write_all(&self) {
        self.now_ms.fetch_add(90_000, Ordering::Relaxed);
        let mut news = self.store.news();
        news.wait_for(|news| news.open == 0).await.unwrap();
    }
}

fn span(trace_id: &str, id: &str, parent_id: Option<&str>, service: &str, more: &Value) -> Value {
    let mut attributes = json!({
        "name": format!("span {id}"), "service.name": service, "duration.ms": 2.5, "parent.id": parent_id,
    });
    attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "trace.id": trace_id, "id": id, "timestamp": START_MS, "attributes": attributes })
}

/// A call from one service to another, where it fails in a database.
fn call(trace_id: &str) -> [Value; 4] {
    [
        span(trace_id, "a", None, "shop", &json!({})),
        span(trace_id, "b", Some("a"), "shop", &json!({ "http.url": "http://cart/" })),
        span(trace_id, "c", Some("b"), "cart", &json!({ "error.class": "503" })),
        span(trace_id, "d", Some("c"), "cart", &json!({ "db.system": "redis" })),
    ]
}

const TREE: &str = "\n\
    span a           service    shop       2.5 ms\n\
    └─ span b        external   shop       2.5 ms\n\
    \x20  ╘═ span c     service    cart       2.5 ms  error 503\n\
    \x20     └─ span d  datastore  cart       2.5 ms\n";

async fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trace"));
    command.args(arguments).env_remove("DEMO_PORT_RECEIVER");
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// What it prints when all is well.
async fn printed(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// What it complains about; it then prints nothing and ends with 1.
async fn complaint(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &[][..]), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_store_that_serves_is_asked_for_an_id_its_beginning_or_the_latest() {
    let site = Site::start();
    let store = site.address.to_string();
    site.post(&call(TRACE)).await;
    for id in [&[TRACE][..], &[&TRACE[..4]], &[]] {
        let text = printed(&[&["--store", &store], id].concat()).await;
        assert!(
            text.starts_with(&format!("trace {TRACE}\nsession 1, open, closes in 90 s: 4 spans in 2.5 ms")),
            "{text}"
        );
        assert!(text.contains(TREE), "{text}");
        assert!(text.ends_with(&format!("http://{store}/#/trace/{TRACE}\n")), "{text}");
    }
}

#[tokio::test]
async fn an_id_that_is_not_clear_is_an_error_that_names_candidates() {
    let site = Site::start();
    let store = site.address.to_string();
    assert_eq!(complaint(&["--store", &store]).await, "trace: there are no traces yet\n");
    site.post(&call(TRACE)).await;
    site.post(&call(OTHER)).await;
    for (id, why) in [("85", "more than one trace has an id that begins with \"85\""), ("7", "no trace has an id")] {
        let text = complaint(&["--store", &store, id]).await;
        assert!(text.starts_with(&format!("trace: {why}")), "{text}");
        for candidate in [TRACE, OTHER] {
            assert!(text.contains(&format!("\n  {candidate}  span a, 4 spans, with errors, ")), "{text}");
        }
    }
}

#[tokio::test]
async fn a_trace_of_several_sessions_is_shown_whole() {
    let site = Site::start();
    let [a, b, c, d] = call(TRACE);
    site.post(&[a, b]).await;
    site.write_all().await;
    site.post(&[c, d]).await;
    let text = printed(&["--store", &site.address.to_string()]).await;
    for part in [
        "session 1, written: 2 spans",
        "session 2, open, closes in 90 s, late: 2 spans",
        "the parent of 1 span is not in the data",
        "╘═ span c     service    cart       2.5 ms  error 503  session 2\n",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[tokio::test]
async fn without_a_store_that_serves_its_database_is_read_and_left_as_it_is() {
    let site = Site::start();
    let silent = ReservedPort::any().unwrap();
    let store = silent.address().to_string();
    let dir = site.dir.to_str().unwrap();
    site.post(&call(TRACE)).await;
    site.write_all().await;
    site.post(&call(OTHER)).await;
    site.store.close().await;
    let before = std::fs::read(site.dir.join("traces.db")).unwrap();
    for (id, state) in [(TRACE, "written"), (OTHER, "not written yet")] {
        let output = run(&["--store", &store, "--data", dir, &id[..4]]).await;
        let [text, notice] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(notice, format!("no trace store serves at {store}; this is from {dir}\n"));
        assert!(text.starts_with(&format!("trace {id}\n")) && text.contains(&format!(", {state}: 4 spans")), "{text}");
        assert!(text.contains(TREE), "{text}");
    }
    let text = String::from_utf8(run(&["--store", &store, "--data", dir, "85"]).await.stderr).unwrap();
    assert!(text.contains("more than one trace") && text.contains(TRACE) && text.contains(OTHER), "{text}");
    assert_eq!(std::fs::read(site.dir.join("traces.db")).unwrap(), before);
}

#[tokio::test]
async fn what_is_no_trace_store_is_told_as_such() {
    let silent = ReservedPort::any().unwrap();
    let store = silent.address().to_string();
    let dir = fresh_dir();
    let data = dir.to_str().unwrap();
    let text = complaint(&["--store", &store, "--data", data]).await;
    assert!(text.contains("there are no traces in ") && text.contains("make envoy-demo"), "{text}");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("traces.db"), "no database, but a text that is long enough to be one").unwrap();
    let text = complaint(&["--store", &store, "--data", data]).await;
    assert!(text.contains("cannot read ") && text.contains("traces.db"), "{text}");
    assert!(complaint(&["--store", "here"]).await.contains("--store"));
}
