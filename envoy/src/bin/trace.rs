//! `trace`: prints a trace of a trace store as a tree.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use envoy_demo::paint::Paint;
use envoy_demo::trace_store::summary::Summary;
use envoy_demo::trace_view::file::TraceFile;
use envoy_demo::trace_view::{Trace, only_one, server, text};
use envoy_demo::{demo, ports};
use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt as _;

const HELP: &str = "\
trace: prints a trace of a trace store as a tree

  trace [ID]              the trace whose id begins so; without one, the trace that started last

  --store ADDRESS:PORT    the store to ask (127.0.0.1 and DEMO_PORT_RECEIVER, or 18082)
  --data DIRECTORY        what to read when no store answers (the demo's)
  --help                  this text
";
/// Sessions that are looked at to find out which trace is meant.
const SESSIONS_MAX: usize = 200;
/// Traces that are named when it is not clear which one is meant.
const CANDIDATES_MAX: usize = 10;

struct Arguments {
    store: SocketAddr,
    data: PathBuf,
    /// Empty for the latest.
    id: String,
}

/// Where traces come from.
enum Source {
    Server(SocketAddr),
    File(TraceFile),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("trace: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let Some(arguments) = read_arguments(lexopt::Parser::from_env())? else {
        return say(HELP);
    };
    let source = Source::open(&arguments).await?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1e3;
    let trace = source.find(&arguments.id, now_ms).await?;
    say(&text::trace(&trace, now_ms, Paint::for_stdout()))?;
    match source {
        Source::Server(address) => say(&format!("http://{address}/#/trace/{}\n", server::encode(&trace.trace_id))),
        Source::File(_) => Ok(()),
    }
}

/// `None` when only the help is wanted.
fn read_arguments(mut parser: lexopt::Parser) -> Result<Option<Arguments>> {
    let port = ports::RECEIVER.chosen(|name| std::env::var(name).ok())?;
    let mut arguments = Arguments {
        store: (Ipv4Addr::LOCALHOST, port).into(),
        data: demo::traces_dir(&demo::dir()),
        id: String::new(),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("store") => arguments.store = parser.value()?.parse().context("--store")?,
            Long("data") => arguments.data = parser.value()?.into(),
            Long("help") | Short('h') => return Ok(None),
            Value(id) if arguments.id.is_empty() => arguments.id = id.string().context("the id")?,
            Long(_) | Short(_) | Value(_) => return Err(argument.unexpected().into()),
        }
    }
    Ok(Some(arguments))
}

impl Source {
    async fn open(arguments: &Arguments) -> Result<Self> {
        let Err(silence) = server::probe(arguments.store).await else {
            return Ok(Self::Server(arguments.store));
        };
        let data = arguments.data.display();
        let Some(file) = TraceFile::open(&arguments.data)? else {
            bail!("{silence:#}; and there are no traces in {data}: `make envoy-demo` makes some");
        };
        complain(&format!("no trace store serves at {}; this is from {data}\n", arguments.store));
        Ok(Self::File(file))
    }

    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<Summary>> {
        match self {
            Self::Server(address) => server::list(*address, prefix, limit).await,
            Self::File(file) => file.list(prefix, limit),
        }
    }

    async fn trace(&self, id: &str) -> Result<Option<Trace>> {
        match self {
            Self::Server(address) => server::trace(*address, id).await,
            Self::File(file) => file.trace(id),
        }
    }

    /// The trace of this id, or the only one whose id begins so; without an id the latest.
    async fn find(&self, id: &str, now_ms: f64) -> Result<Trace> {
        if !id.is_empty()
            && let Some(trace) = self.trace(id).await?
        {
            return Ok(trace);
        }
        let sessions = self.list(id, if id.is_empty() { 1 } else { SESSIONS_MAX }).await?;
        ensure!(!(id.is_empty() && sessions.is_empty()), "there are no traces yet");
        let Some(id) = only_one(&sessions) else {
            return Err(self.no_single_trace(id, &sessions, now_ms).await);
        };
        self.trace(id).await?.with_context(|| format!("the trace {id} has just made room for others"))
    }

    /// Says why it is not clear which trace is meant, and names some that could be.
    async fn no_single_trace(&self, prefix: &str, sessions: &[Summary], now_ms: f64) -> anyhow::Error {
        let (why, candidates) = match sessions {
            [] => ("no trace", self.list("", SESSIONS_MAX).await.unwrap_or_default()),
            several => ("more than one trace", several.to_vec()),
        };
        let mut lines: Vec<String> = Vec::new();
        let mut named: Vec<&str> = Vec::new();
        for summary in &candidates {
            if named.len() < CANDIDATES_MAX && !named.contains(&summary.trace_id.as_str()) {
                named.push(&summary.trace_id);
                lines.push(format!("\n  {}", text::candidate(summary, now_ms)));
            }
        }
        let heading = if sessions.is_empty() { "The latest ones" } else { "They are, the latest first" };
        let heading = if lines.is_empty() { String::new() } else { format!(". {heading}:") };
        anyhow::anyhow!("{why} has an id that begins with {prefix:?}{heading}{}", lines.concat())
    }
}

fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot print")
}

fn complain(text: &str) {
    // When even the standard error is gone, the exit code is all there is.
    write!(std::io::stderr(), "{text}").unwrap_or_default();
}
