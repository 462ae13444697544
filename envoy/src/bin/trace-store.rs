//! `trace-store`: a local backend for traces. Sends it what New Relic's interfaces take, and look at it in a browser.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use envoy_demo::ports;
use envoy_demo::trace_store::{self, Options, TraceStore};
use lexopt::Arg::{Long, Short};
use lexopt::ValueExt as _;
use newrelic_ingest::Key;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
trace-store: keeps traces on this machine and shows them

  --listen ADDRESS:PORT   where it listens (127.0.0.1:18082)
  --data DIRECTORY        where it keeps traces (./traces)
  --api-key KEY           the only key that posts may carry (any, but there must be one)
  --traces-max NUMBER     traces kept; the first ones written make room (50000)
  --session-seconds N     how long a trace stays open after its last span (90, as at New Relic)
  --help                  this text

It takes POST /trace/v1 (Trace API), /v1/accounts/{id}/events (Event API) and /v1/traces (OTLP, protobuf or JSON).
";

struct Arguments {
    listen: SocketAddr,
    data: PathBuf,
    key: Key,
    options: Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // When even the standard error is gone, the exit code is all there is.
            writeln!(std::io::stderr(), "trace-store: {error:#}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let Some(arguments) = read_arguments(lexopt::Parser::from_env())? else {
        return say(HELP);
    };
    let mut end = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [Ok(interrupt), Ok(terminate)] = &mut end else { bail!("cannot listen to signals") };
    let store = TraceStore::open(&arguments.data, arguments.options)?;
    let listener = TcpListener::bind(arguments.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let routes = trace_store::server(store.clone(), arguments.key);
    say(&format!("traces at http://{}/, kept in {}\n", listener.local_addr()?, arguments.data.display()))?;
    tokio::select! {
        served = axum::serve(listener, routes) => served?,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    store.close().await;
    Ok(())
}

/// `None` when only the help is wanted.
fn read_arguments(mut parser: lexopt::Parser) -> Result<Option<Arguments>> {
    let mut arguments = Arguments {
        listen: (Ipv4Addr::LOCALHOST, ports::RECEIVER.default_port).into(),
        data: PathBuf::from("traces"),
        key: Key::Any,
        options: Options::default(),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("listen") => arguments.listen = parser.value()?.parse().context("--listen")?,
            Long("data") => arguments.data = parser.value()?.into(),
            Long("api-key") => arguments.key = Key::Exactly(parser.value()?.string().context("--api-key")?),
            Long("traces-max") => arguments.options.traces_max = parser.value()?.parse().context("--traces-max")?,
            Long("session-seconds") => {
                let seconds: u64 = parser.value()?.parse().context("--session-seconds")?;
                ensure!((1..=3_600).contains(&seconds), "--session-seconds is a number from 1 to 3600");
                arguments.options.session = Duration::from_secs(seconds);
            }
            Long("help") | Short('h') => return Ok(None),
            Long(_) | Short(_) | lexopt::Arg::Value(_) => return Err(argument.unexpected().into()),
        }
    }
    Ok(Some(arguments))
}

fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot print")
}
