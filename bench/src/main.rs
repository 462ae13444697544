//! `make bench`: measures what the filter costs a real Envoy.
//!
//! Environment: `ENVOY`, `WRK`, `NEWRELIC_TRACING_WASM` and `BENCH_FLOOR_WASM` name programs and modules, found or
//! built when unset; `BENCH_…` are the settings, see `bench/README.md`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use envoy_demo::interrupt::interrupted;
use envoy_demo::paths;
use proxy_bench::machine::Machine;
use proxy_bench::report::Report;
use proxy_bench::settings::Settings;
use proxy_bench::tools::Tools;
use proxy_bench::{bench, variant};

/// The exit code of an interrupted run: 128 and the number of `SIGINT`.
const INTERRUPTED: u8 = 130;

// One thread, so that a process that it starts inherits the processor that it is pinned to.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = tokio::select! {
        outcome = run() => outcome,
        () = interrupted() => return ExitCode::from(INTERRUPTED),
    };
    outcome.unwrap_or_else(|error| {
        // When even the standard error is gone, the exit code is all there is.
        writeln!(std::io::stderr(), "bench: {error:#}").unwrap_or_default();
        ExitCode::FAILURE
    })
}

async fn run() -> Result<ExitCode> {
    let settings = Settings::read(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))?;
    let variants = variant::read_all(&Path::new(proxy_bench::PACKAGE).join("variants"))?;
    let tools = Tools::find()?;
    let machine = Machine::look(&tools);
    let raw = bench::run(&settings, &variants, tools, &paths::target_dir().join("bench"), &mut progress).await?;
    let report = Report::new(settings, variants, machine, raw);
    let mut said = report.markdown() + "\n";
    for file in report.write()? {
        said += &format!("{}\n", file.display());
    }
    if report.settings.update_readme {
        report.update_readme(&Path::new(proxy_bench::PACKAGE).join("../README.md"))?;
    }
    std::io::stdout().write_all(said.as_bytes()).context("cannot print")?;
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells a person how far the run is. When even the standard error is gone, the results are still written.
fn progress(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap_or_default();
}
