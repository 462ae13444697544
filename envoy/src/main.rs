//! `envoy-demo`: shows the filter at work in a real Envoy, and judges what it has shown.
//!
//! Environment: `ENVOY` (the Envoy to run), `NEWRELIC_TRACING_WASM` (the module; built when unset),
//! `DEMO_MODE` (`dt`, the default, or `cat`), `DEMO_PORT_…` (the ports), `DEMO_ONCE=1` (end after the
//! verdict, also in a terminal), `DEMO_TRICKLE=0` (send no requests of its own while it stays up), `NO_COLOR`.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use envoy_demo::demo::{self, Demo};
use envoy_demo::interrupt::interrupted;
use envoy_demo::mode::{self, Mode};
use envoy_demo::paint::Paint;
use envoy_demo::ports::{self, Ports};
use envoy_demo::scenario::{Expected, Scenario};
use envoy_demo::stay::Stay;
use envoy_demo::verdict::{self, Check, Counts, Evidence};
use envoy_demo::{cat, paths, report, trickle};

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
    let mode = Mode::parse(variable(mode::VARIABLE).as_deref())?;
    let has_trickle = trickle::is_wanted(variable(trickle::VARIABLE).as_deref())?;
    let Some(shown) = unless_interrupted(start_and_show(mode, paint)).await else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let (demo, holds) = shown?;
    if stays_up() {
        stay_up(&Stay::new(&demo, mode, has_trickle, can_draw(), paint)).await?;
    }
    demo.stop().await?;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn start_and_show(mode: Mode, paint: Paint) -> Result<(Demo, bool)> {
    // The ports first: a taken one is told at once, not after an installation.
    let ports = Ports::fixed(variable)?;
    let (envoy, module) = (paths::envoy()?, paths::wasm_module()?);
    say(&format!("Envoy  {}\nfilter {}\n", envoy.display(), module.display()))?;
    let dir = demo::dir();
    let demo = Demo::start(mode, ports, &envoy, &module, &dir).await?;
    say(&places(&demo, &dir))?;
    let checks = match mode {
        Mode::DistributedTracing => show_distributed_tracing(&demo, paint).await?,
        Mode::CrossApplicationTracing => show_cross_application_tracing(&demo, paint).await?,
    };
    say(&report::verdict(&checks, paint))?;
    let holds = checks.iter().flat_map(|(_, checks)| checks).all(|check| check.fault.is_none());
    Ok((demo, holds))
}

/// Goes on until a person has seen enough.
async fn stay_up(stay: &Stay<'_>) -> Result<()> {
    say(&stay.invitation())?;
    match unless_interrupted(stay.run(say)).await {
        Some(outcome) => match outcome? {},
        None => say(&stay.farewell()),
    }
}

/// The checks of every scenario and of the sums, each under its title.
type Judged = Vec<(&'static str, Vec<Check>)>;

async fn show_distributed_tracing(demo: &Demo, paint: Paint) -> Result<Judged> {
    let (evidence, mut all) = show(demo, demo::scenarios()?, verdict::judge, report::scenario, paint).await?;
    let totals = demo.totals(Counts::shown(&evidence), |_| true).await?;
    let checks = verdict::judge_totals(&totals);
    say(&report::totals(&totals, &checks, paint))?;
    all.push(("Accounting", checks));
    Ok(all)
}

async fn show_cross_application_tracing(demo: &Demo, paint: Paint) -> Result<Judged> {
    let scenarios = cat::scenario::all();
    let (evidence, mut all) = show(demo, scenarios, cat::verdict::judge, cat::report::scenario, paint).await?;
    let expected = cat::verdict::Statistics::expected(&evidence);
    let settled = |stats: &_| cat::verdict::Statistics::of(stats) == expected;
    let totals = demo.totals(Counts::shown(&evidence), settled).await?;
    let checks = cat::verdict::judge_totals(&totals, &expected);
    say(&cat::report::totals(&totals, &checks, paint))?;
    all.push(("Accounting", checks));
    Ok(all)
}

/// Runs scenarios one after the other and prints what each led to.
async fn show<T: Expected>(
    demo: &Demo,
    scenarios: Vec<Scenario<T>>,
    judge: impl Fn(&Evidence<T>) -> Vec<Check>,
    print: impl Fn(usize, &Evidence<T>, &[Check], Paint) -> String,
    paint: Paint,
) -> Result<(Vec<Evidence<T>>, Judged)> {
    let mut all = Judged::new();
    let mut evidence = Vec::new();
    for (index, scenario) in scenarios.into_iter().enumerate() {
        let found = demo.run(scenario).await?;
        let checks = judge(&found);
        say(&print(index + 1, &found, &checks, paint))?;
        all.push((found.scenario.title, checks));
        evidence.push(found);
    }
    Ok((evidence, all))
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
    text += &format!("       on 127.0.0.1; {}=<port> and so on choose others\n", ports::GATEWAY.variable());
    match demo.page() {
        Some(page) => text + &format!("traces {page}, kept in {}\n", demo::traces_dir(dir).display()),
        None => text + "traces none: Cross Application Tracing has transactions, but no spans\n",
    }
}

/// A variable of the environment; bytes that are no text are replaced.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
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

/// A terminal that knows how to move back on a line.
fn can_draw() -> bool {
    std::io::stdout().is_terminal() && variable("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot print")
}

fn complain(error: &anyhow::Error) {
    // When even the standard error is gone, the exit code is all there is.
    writeln!(std::io::stderr(), "envoy-demo: {error:#}").unwrap_or_default();
}
