//! `envoy-demo`: shows the filter at work in a real Envoy, and judges what it has shown.
//!
//! Environment: `ENVOY` (the Envoy to run), `NEWRELIC_TRACING_WASM` (the module; built when unset),
//! `DEMO_PORT_…` (the ports), `DEMO_ONCE=1` (end after the verdict, also in a terminal), `NO_COLOR`.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use envoy_demo::demo::{self, Demo};
use envoy_demo::paint::Paint;
use envoy_demo::ports::{self, Ports};
use envoy_demo::receiver::SpanRecord;
use envoy_demo::verdict::{self, Check, Counts};
use envoy_demo::{follow, paths, report};
use tokio::signal::unix::{SignalKind, signal};

/// The exit code of a demo that was interrupted before its verdict: 128 and the number of `SIGINT`.
const INTERRUPTED: u8 = 130;
/// How many ports one printed line has: the edge and what is no service, then a line for each service.
const PORTS_PER_LINE: usize = 3;

#[tokio::main]
async fn main() -> ExitCode {
    run(Paint::for_stdout()).await.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

async fn run(paint: Paint) -> Result<ExitCode> {
    let Some(shown) = unless_interrupted(start_and_show(paint)).await else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let (demo, holds) = shown?;
    if stays_up() {
        stay_up(&demo, paint).await?;
    }
    demo.stop().await?;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn start_and_show(paint: Paint) -> Result<(Demo, bool)> {
    // The ports first: a taken one is told at once, not after an installation.
    let ports = Ports::fixed(|name| std::env::var(name).ok())?;
    let (envoy, module) = (paths::envoy()?, paths::wasm_module()?);
    say(&format!("Envoy  {}\nfilter {}\n", envoy.display(), module.display()))?;
    let dir = paths::target_dir().join("envoy-demo");
    let demo = Demo::start(ports, &envoy, &module, &dir).await?;
    say(&places(&demo, &dir))?;
    let holds = show(&demo, paint).await?;
    Ok((demo, holds))
}

/// Shows the traces of a person's own requests until that person has seen enough.
async fn stay_up(demo: &Demo, paint: Paint) -> Result<()> {
    say(&invitation(demo))?;
    let show = |spans: &[SpanRecord]| say(&format!("{}\n", report::trace(spans, paint)));
    match unless_interrupted(follow::new_traces(demo.receiver(), show)).await {
        Some(outcome) => match outcome? {},
        None => say("\n"),
    }
}

/// Runs every scenario, prints what it led to, and tells whether every check holds.
async fn show(demo: &Demo, paint: Paint) -> Result<bool> {
    let mut all: Vec<(&str, Vec<Check>)> = Vec::new();
    let mut evidence = Vec::new();
    for (index, scenario) in demo::scenarios()?.into_iter().enumerate() {
        let found = demo.run(scenario).await?;
        let checks = verdict::judge(&found);
        say(&report::scenario(index + 1, &found, &checks, paint))?;
        all.push((found.scenario.title, checks));
        evidence.push(found);
    }
    let totals = demo.totals(Counts::shown(&evidence)).await?;
    let checks = verdict::judge_totals(&totals);
    say(&report::totals(&totals, &checks, paint))?;
    all.push(("Accounting", checks));
    say(&report::verdict(&all, paint))?;
    Ok(all.iter().flat_map(|(_, checks)| checks).all(|check| check.fault.is_none()))
}

/// Where everything is.
fn places(demo: &Demo, dir: &Path) -> String {
    let mut text = format!("config {}\n", dir.join("envoy.yaml").display());
    text += &format!("log    {}\n", demo.envoy().log_path().display());
    for (index, some) in ports::PLACES.chunks(PORTS_PER_LINE).enumerate() {
        let ports: Vec<String> =
            some.iter().map(|place| format!("{} {}", place.name, demo.address(*place).port())).collect();
        text += &format!("{:<6} {}\n", if index == 0 { "ports" } else { "" }, ports.join(", "));
    }
    text + &format!("       on 127.0.0.1; {}=<port> and so on choose others\n", ports::GATEWAY.variable())
}

fn invitation(demo: &Demo) -> String {
    let gateway = demo.address(ports::GATEWAY);
    format!(
        "\nThe demo stays up; Ctrl-C ends it. New traces appear here:\n\
        \x20  curl http://{gateway}/checkout/1\n\
        \x20  curl http://{gateway}/checkout/declined\n\n"
    )
}

/// Only a person at a terminal can make use of a demo that stays up.
fn stays_up() -> bool {
    let once = std::env::var("DEMO_ONCE").is_ok_and(|value| value == "1");
    !once && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Does some work; `None` when this program is told to end before it is done.
async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        outcome = work => Some(outcome),
        () = interrupted() => None,
    }
}

/// Returns when this program shall end: on Ctrl-C, on `kill`, or when its terminal is closed.
async fn interrupted() {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = signals else {
        // Without handlers a signal ends the program right away, and the guard ends Envoy.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot print")
}

fn complain(error: &anyhow::Error) {
    // When even the standard error is gone, the exit code is all there is.
    writeln!(std::io::stderr(), "envoy-demo: {error:#}").unwrap_or_default();
}
