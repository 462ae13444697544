//! The program `trace-store`, ended in every way there is.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_demo::client::{self, Request};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Sessions are short here, so that some are being written whenever the store is killed.
const SESSION_SECONDS: &str = "1";
/// Senders at the same time.
const SENDERS: u64 = 4;
/// Posts that are acknowledged before each kill.
const POSTS_BEFORE_KILL: usize = 150;
/// Only a fault meets this deadline.
const DONE_MAX: Duration = Duration::from_secs(60);

/// A directory that goes when the test ends.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Self {
        Self(std::env::temp_dir().join(format!("trace-store-test-{test}-{}", std::process::id())))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trace-store"));
    command.args(["--listen", "127.0.0.1:0", "--session-seconds", SESSION_SECONDS, "--data"]).arg(dir);
    command
}

/// A running store. It is killed at the latest when the value goes.
struct Store {
    process: Child,
    address: SocketAddr,
}

impl Store {
    fn start(dir: &Path) -> Self {
        let mut process = command(dir).stdout(Stdio::piped()).spawn().unwrap();
        let line = BufReader::new(process.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let address = line.split(['/', ' ']).find_map(|word| word.parse().ok()).unwrap();
        Self { process, address }
    }

    /// As a crash does: the program can do nothing about it.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn signal(&mut self, signal: &str) -> ExitStatus {
        assert!(Command::new("kill").arg(signal).arg(self.process.id().to_string()).status().unwrap().success());
        self.process.wait().unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = client::send(self.address, &Request::get("store", path)).await.unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }

    async fn wait_until(&self, done: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let status = self.get("/api/status").await;
                if done(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(DONE_MAX, waiting).await.expect("the store does not get there")
    }

    /// Trace and span ids of everything the store shows.
    async fn spans(&self) -> BTreeSet<(String, String)> {
        let mut seen = BTreeSet::new();
        let mut page = "/api/traces?limit=200".to_owned();
        loop {
            let list = self.get(&page).await;
            for trace in list["traces"].as_array().unwrap() {
                let trace_id = trace["trace_id"].as_str().unwrap();
                let shown = self.get(&format!("/api/traces/{trace_id}")).await;
                let ids = shown["spans"].as_array().unwrap().iter().map(|span| span["id"].as_str().unwrap().to_owned());
                seen.extend(ids.map(|id| (trace_id.to_owned(), id)));
            }
            let Some(next) = list["next"].as_str() else { return seen };
            page = format!("/api/traces?limit=200&before={next}");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended already.
        self.process.kill().unwrap_or_default();
        self.process.wait().map(drop).unwrap_or_default();
    }
}

type Ids = Vec<(String, String)>;

/// A post with spans of several traces, and the ids of these. Traces get spans from several posts.
fn post(number: u64) -> (Request, Ids) {
    let ids: Ids = (0..5).map(|at| (format!("t{}", (number + at) / 7), format!("s{number}-{at}"))).collect();
    let span = |(trace_id, id): &(String, String)| json!({ "id": id, "trace.id": trace_id, "timestamp": number, "attributes": { "service.name": "shop" } });
    let body = json!([{ "spans": ids.iter().map(span).collect::<Vec<_>>() }]).to_string();
    let request = Request::post("store", "/trace/v1", body);
    (request.header("api-key", "k").header("content-type", "application/json"), ids)
}

/// Sends posts until the store is gone. Gives the ids of those it has acknowledged.
async fn send_until_gone(address: SocketAddr, number: Arc<AtomicU64>, acknowledged: Arc<Mutex<Vec<Ids>>>) {
    loop {
        let (request, ids) = post(number.fetch_add(1, Ordering::Relaxed));
        match client::send(address, &request).await {
            Ok(answer) if answer.status == 202 => acknowledged.lock().unwrap().push(ids),
            Ok(answer) => panic!("{} {}", answer.status, answer.text()),
            Err(_) => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_acknowledged_survives_a_kill_while_spans_arrive() {
    let dir = Dir::new("kill");
    let number = Arc::new(AtomicU64::new(0));
    let acknowledged: Arc<Mutex<Vec<Ids>>> = Arc::default();
    for round in 1..=3 {
        let mut store = Store::start(&dir.0);
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            senders.spawn(send_until_gone(store.address, Arc::clone(&number), Arc::clone(&acknowledged)));
        }
        let enough = || acknowledged.lock().unwrap().len() >= round * POSTS_BEFORE_KILL;
        while !enough() && !senders.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        store.kill();
        senders.join_all().await;
    }
    let store = Store::start(&dir.0);
    let status = store.wait_until(|status| status["open"] == 0).await;
    assert_eq!(status["spans_lost"], 0, "{status}");
    assert_ne!(status["sessions_recovered"], 0, "{status}");
    let there = store.spans().await;
    let acknowledged = acknowledged.lock().unwrap();
    let missing: Vec<_> = acknowledged.iter().flatten().filter(|ids| !there.contains(*ids)).collect();
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), acknowledged.len());
    assert!(acknowledged.len() >= 3 * POSTS_BEFORE_KILL);
}

#[tokio::test]
async fn a_signal_ends_the_store_in_order() {
    let dir = Dir::new("signal");
    for (round, signal) in ["-INT", "-TERM"].into_iter().enumerate() {
        let mut store = Store::start(&dir.0);
        let (request, ids) = post(round as u64 * 10);
        assert_eq!(client::send(store.address, &request).await.unwrap().status, 202);
        assert!(store.signal(signal).success(), "{signal}");
        let log = std::fs::metadata(dir.0.join("traces.db-wal")).map_or(0, |log| log.len());
        assert_eq!(log, 0, "everything is in the database's file");
        let store = Store::start(&dir.0);
        let there = store.spans().await;
        assert!(ids.iter().all(|ids| there.contains(ids)), "{signal}: {there:?}");
    }
}

#[test]
fn what_hinders_the_start_is_said() {
    let dir = Dir::new("start");
    let store = Store::start(&dir.0);
    let fail = |command: &mut Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let second = fail(&mut command(&dir.0));
    assert!(second.contains("another trace store uses") && second.contains(dir.0.to_str().unwrap()), "{second}");
    let other = Dir::new("other");
    let taken = fail(command(&other.0).args(["--listen", &store.address.to_string()]));
    assert!(taken.contains(&format!("cannot listen on {}", store.address)), "{taken}");
    for (arguments, text) in [
        (&["--session-seconds", "0"][..], "--session-seconds is a number from 1 to 3600"),
        (&["--listen", "here"], "--listen"),
        (&["--colour", "red"], "--colour"),
    ] {
        let said = fail(command(&other.0).args(arguments));
        assert!(said.contains(text), "{said}");
    }
    let database = other.0.join("traces.db");
    std::fs::write(&database, "this is no database, whatever its name says").unwrap();
    let said = fail(&mut command(&other.0));
    assert!(said.contains(database.to_str().unwrap()) && said.contains("damaged"), "{said}");
}

#[test]
fn help_names_every_option() {
    let output = command(Path::new("nowhere")).arg("--help").output().unwrap();
    let mut text = String::new();
    output.stdout.as_slice().read_to_string(&mut text).unwrap();
    assert!(output.status.success());
    for option in ["--listen", "--data", "--api-key", "--traces-max", "--session-seconds", "--help"] {
        assert!(text.contains(option), "{option}");
    }
    assert!(!Path::new("nowhere").exists());
}

#[tokio::test]
async fn a_given_key_is_the_only_one() {
    let dir = Dir::new("key");
    let mut process = command(&dir.0).args(["--api-key", "secret"]).stdout(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(process.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let address = line.split(['/', ' ']).find_map(|word| word.parse().ok()).unwrap();
    let store = Store { process, address };
    let with_key = |key: &str| {
        let (Request { body, .. }, _) = post(1);
        Request::post("store", "/trace/v1", body).header("api-key", key).header("content-type", "application/json")
    };
    for (key, status) in [("secret", 202), ("other", 403), ("", 403)] {
        assert_eq!(client::send(store.address, &with_key(key)).await.unwrap().status, status, "{key}");
    }
}
