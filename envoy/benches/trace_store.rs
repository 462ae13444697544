//! What a trace store takes, and how soon it answers: 10,000 traces of 8 spans over HTTP, as four services of a mesh
//! would send them, while all of them are open and after all of them were written.
//!
//! `cargo bench -p envoy-demo --bench trace_store` starts the program `trace-store` on a free port and with a
//! directory of its own. It prints what it measured; it judges nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use envoy_demo::client::{self, Request};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

/// Traces that are sent.
const TRACES: u64 = 10_000;
/// The services of each trace, which call one another in this order. Each has an entry and an exit span.
const SERVICES: [&str; 4] = ["storefront", "cart", "payments", "ledger"];
/// Bytes of a batch before it is compressed, and spans in it: those of the filter.
const BATCH_BYTES_MAX: usize = 64 * 1024;
const BATCH_SPANS_MAX: usize = 500;
/// How long sessions stay open here: longer than the sending takes, shorter than a cup of coffee.
const SESSION_SECONDS: u64 = 30;
/// Requests of each kind, of which the median and the slowest are told.
const REQUESTS: usize = 21;

/// A running `trace-store`.
struct Store {
    process: Child,
    address: SocketAddr,
    dir: PathBuf,
}

impl Store {
    fn start() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("trace-store-bench-{}", std::process::id()));
        let mut process = Command::new(env!("CARGO_BIN_EXE_trace-store"))
            .args(["--listen", "127.0.0.1:0", "--session-seconds", &SESSION_SECONDS.to_string(), "--data"])
            .arg(&dir)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().context("no standard output")?;
        let line = BufReader::new(stdout).lines().next().context("the store does not start")??;
        let address = line.split(['/', ' ']).find_map(|word| word.parse().ok()).context(line)?;
        Ok(Self { process, address, dir })
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer = client::send(self.address, &Request::get("store", path)).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
        Ok(serde_json::from_slice(&answer.body)?)
    }

    async fn status(&self, name: &str) -> Result<u64> {
        self.get("/api/status").await?[name].as_u64().with_context(|| format!("no {name}"))
    }

    /// Resident memory now and at most, in MiB.
    fn memory(&self) -> Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let mib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
        };
        mib("VmRSS:").zip(mib("VmHWM:")).context("no memory in the process status")
    }

    async fn report_memory(&self, when: &str) -> Result<()> {
        let (now, most) = self.memory()?;
        let disk = self.status("database_bytes").await? >> 20;
        say(&format!("{when:<34} memory {now:>4} MiB (at most {most:>4} MiB), database {disk:>4} MiB\n"))
    }

    /// How long answers take.
    async fn report_latency(&self, trace_id: &str) -> Result<()> {
        for path in [
            "/api/traces",
            "/api/traces?limit=200",
            "/api/traces?service=cart&error=true",
            "/api/traces?min_ms=190",
            "/api/traces?id=00000000000000000000000000001",
            "/api/traces?service=nowhere",
            "/api/services",
            "/api/map",
            &format!("/api/traces/{trace_id}"),
        ] {
            let mut times = Vec::new();
            let mut bytes = 0;
            for _ in 0..REQUESTS {
                let start = Instant::now();
                let answer = client::send(self.address, &Request::get("store", path)).await?;
                times.push(start.elapsed());
                ensure!(answer.status == 200, "{path}: {}", answer.status);
                bytes = answer.body.len();
            }
            let first = times[0];
            times.sort_unstable();
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            say(&format!(
                "  {path:<58} {:>7.1} ms median, {:>7.1} ms first, {:>7.1} ms slowest, {bytes:>7} bytes\n",
                ms(times[REQUESTS / 2]),
                ms(first),
                ms(times[REQUESTS - 1]),
            ))?;
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended on its own.
        self.process.kill().unwrap_or_default();
        self.process.wait().map(drop).unwrap_or_default();
        std::fs::remove_dir_all(&self.dir).unwrap_or_default();
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let store = Store::start()?;
    store.report_memory("at the start").await?;
    let batches: Vec<Vec<Vec<u8>>> = (0..SERVICES.len()).map(batches).collect::<Result<_>>()?;
    let posts: usize = batches.iter().map(Vec::len).sum();
    let start = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for batches in batches {
        senders.spawn(send(store.address, batches));
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    let seconds = start.elapsed().as_secs_f64();
    let spans = TRACES * 2 * SERVICES.len() as u64;
    ensure!(store.status("spans_received").await? == spans, "not every span was taken");
    say(&format!("{TRACES} traces, {spans} spans in {posts} posts arrived in {seconds:.1} s\n"))?;
    store.report_memory(&format!("with {} open traces", store.status("open").await?)).await?;
    store.report_latency(&trace_id(TRACES / 2)).await?;
    let start = Instant::now();
    while store.status("written").await? < TRACES {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    say(&format!(
        "all are written {:.1} s later (they had to wait for {SESSION_SECONDS} s)\n",
        start.elapsed().as_secs_f64()
    ))?;
    store.report_memory(&format!("with {} written traces", store.status("written").await?)).await?;
    store.report_latency(&trace_id(TRACES / 2)).await?;
    store.report_memory("at the end").await
}

async fn send(address: SocketAddr, batches: Vec<Vec<u8>>) -> Result<()> {
    for body in batches {
        let request = Request::post("store", "/trace/v1", body)
            .header("api-key", "0000000000000000000000000000000000000000")
            .header("content-type", "application/json")
            .header("content-encoding", "gzip");
        let answer = client::send(address, &request).await?;
        ensure!(answer.status == 202, "{} {}", answer.status, answer.text());
    }
    Ok(())
}

/// The compressed batches of one service.
fn batches(service: usize) -> Result<Vec<Vec<u8>>> {
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let mut batches = Vec::new();
    let (mut spans, mut bytes) = (Vec::new(), 0);
    for trace in 0..TRACES {
        for span in spans_of(trace, service, now_ms) {
            let span = span.to_string();
            if spans.len() == BATCH_SPANS_MAX || bytes + span.len() > BATCH_BYTES_MAX {
                batches.push(batch(service, &std::mem::take(&mut spans))?);
                bytes = 0;
            }
            bytes += span.len();
            spans.push(span);
        }
    }
    batches.push(batch(service, &spans)?);
    Ok(batches)
}

fn batch(service: usize, spans: &[String]) -> Result<Vec<u8>> {
    let common = json!({ "attributes": {
        "service.name": SERVICES[service], "host": "node-1", "instrumentation.provider": "envoy-newrelic-filter",
        "instrumentation.name": "envoy", "instrumentation.version": "0.1.0",
    } });
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    write!(encoder, "[{{\"common\":{common},\"spans\":[{}]}}]", spans.join(","))?;
    Ok(encoder.finish()?)
}

fn trace_id(trace: u64) -> String {
    format!("{trace:032x}")
}

/// The entry and the exit span of a service in a trace. Every tenth trace fails in the last service.
fn spans_of(trace: u64, service: usize, now_ms: u64) -> [Value; 2] {
    let id = |number: usize| format!("{:016x}", trace * 100 + number as u64 + 1);
    let (entry, exit) = (id(2 * service), id(2 * service + 1));
    let is_last = service + 1 == SERVICES.len();
    let callee = SERVICES.get(service + 1).copied().unwrap_or("bank.example");
    let status = if trace.is_multiple_of(10) { 503 } else { 200 };
    let duration_ms = 100.0 + (trace % 100) as f64 - 10.0 * service as f64;
    let start_ms = now_ms + trace % 1_000 + 4 * service as u64;
    let transaction = format!("{:016x}", trace * 7 + service as u64);
    let span = |id: &str, parent: Option<String>, start_ms: u64, more: Value| {
        let mut attributes = json!({
            "transactionId": transaction, "priority": 1.25, "sampled": true, "parent.id": parent,
        });
        if let (Some(all), Value::Object(more)) = (attributes.as_object_mut(), more) {
            all.extend(more);
        }
        json!({ "id": id, "trace.id": trace_id(trace), "timestamp": start_ms, "attributes": attributes })
    };
    let mut served = json!({
        "name": "WebTransaction/Envoy/GET /checkout/*", "duration.ms": duration_ms, "span.kind": "server",
        "category": "generic", "nr.entryPoint": true, "transaction.name": "WebTransaction/Envoy/GET /checkout/*",
        "request.method": "GET", "request.uri": format!("/checkout/{trace}"), "request.headers.host": "shop.example",
        "request.headers.userAgent": "curl/8.5.0", "http.statusCode": status, "parent.type": "App",
        "parent.transportType": "HTTP",
    });
    if is_last && status == 503 {
        served["error.class"] = json!("503");
        served["error.message"] = json!("Service Unavailable");
    }
    let called = json!({
        "name": format!("External/{callee}/envoy/GET"), "duration.ms": duration_ms - 4.0, "span.kind": "client",
        "category": "http", "component": "envoy", "http.url": format!("http://{callee}/checkout/{trace}"),
        "http.method": "GET", "http.statusCode": status, "server.address": callee, "server.port": 8080,
    });
    let caller = service.checked_sub(1).map(|before| id(2 * before + 1));
    [span(&entry, caller, start_ms, served), span(&exit, Some(entry.clone()), start_ms + 2, called)]
}

/// Where the bench is run in a terminal, lines appear as they are known.
fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot print")
}
