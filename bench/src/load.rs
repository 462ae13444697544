//! The load generator wrk.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::{Child, Command};

use crate::procfs::pinned;

/// How much longer than asked the load generator may run.
const OVERTIME_MAX: Duration = Duration::from_secs(20);

/// What the load generator saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Requests with an answer.
    pub requests: u64,
    /// Length, in microseconds.
    pub duration_us: u64,
    /// Half of the answers took at most so long, in microseconds.
    pub p50_us: u64,
    /// 99 % of the answers.
    pub p99_us: u64,
    /// 99.9 % of the answers.
    pub p999_us: u64,
    /// The slowest answer.
    pub max_us: u64,
    /// Connections that failed, and requests without an answer.
    pub failed_sockets: u64,
}

impl Load {
    /// Answers a second.
    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 / (self.duration_us as f64 / 1e6)
    }

    /// Reads the line that `load.lua` writes.
    ///
    /// # Errors
    /// There is none, or it lacks a number; the message shows what there is.
    pub fn parse(output: &str) -> Result<Self> {
        let line = output.lines().find_map(|line| line.strip_prefix("load: "));
        let line = line.with_context(|| format!("wrk tells no outcome:\n{output}"))?;
        let number = |name: &str| {
            let words = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
            let value = words.into_iter().find(|(key, _)| *key == name).with_context(|| format!("no {name}"))?.1;
            // LuaJIT's %d and a percentile are whole, but may be written as a float.
            value.split('.').next().unwrap_or(value).parse::<u64>().with_context(|| format!("{name} is {value}"))
        };
        Ok(Self {
            requests: number("requests")?,
            duration_us: number("duration_us")?,
            p50_us: number("p50_us")?,
            p99_us: number("p99_us")?,
            p999_us: number("p999_us")?,
            max_us: number("max_us")?,
            failed_sockets: number("failed_sockets")?,
        })
    }
}

/// How to run the load generator.
#[derive(Debug, Clone, Copy)]
pub struct Generator<'a> {
    /// The program.
    pub wrk: &'a Path,
    /// The processor that it runs on, when it shall not share that of Envoy.
    pub processor: Option<usize>,
    /// File with the requests, see [`crate::traffic::file`].
    pub requests: &'a Path,
    /// Connections kept open.
    pub connections: u32,
    /// Port of the measured listener.
    pub port: u16,
}

impl Generator<'_> {
    /// Sends requests for some seconds.
    ///
    /// # Errors
    /// The program cannot be started, fails, or does not end.
    pub async fn run(&self, length: Duration) -> Result<Load> {
        let child = pinned(self.processor, || self.spawn(length))?;
        let output = tokio::time::timeout(length + OVERTIME_MAX, child.wait_with_output())
            .await
            .context("wrk does not end")??;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk failed: {}\n{text}", String::from_utf8_lossy(&output.stderr));
        Load::parse(&text)
    }

    fn spawn(&self, length: Duration) -> Result<Child> {
        let script = Path::new(crate::PACKAGE).join("load.lua");
        Command::new(self.wrk)
            .args(["--threads", "1", "--timeout", "10s", "--latency"])
            .args(["--connections", &self.connections.to_string()])
            .args(["--duration", &format!("{}s", length.as_secs().max(1))])
            .arg("--script")
            .arg(script)
            .arg(format!("http://127.0.0.1:{}", self.port))
            .arg("--")
            .arg(self.requests)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.wrk.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Running 1s test @ http://127.0.0.1:1\n  1 threads and 16 connections\n\
        load: requests=25123 duration_us=1000123 p50_us=563 p99_us=1119 p999_us=2050 max_us=4100 failed_sockets=0\n";

    #[test]
    fn the_outcome_is_one_line_among_others() {
        let load = Load::parse(OUTPUT).unwrap();
        assert_eq!(
            load,
            Load {
                requests: 25123,
                duration_us: 1_000_123,
                p50_us: 563,
                p99_us: 1119,
                p999_us: 2050,
                max_us: 4100,
                failed_sockets: 0
            }
        );
    }

    #[test]
    fn output_without_the_line_or_a_number_is_an_error_that_shows_it() {
        let error = Load::parse("unable to connect to 127.0.0.1:1").unwrap_err();
        assert!(error.to_string().contains("unable to connect"), "{error}");
        assert!(Load::parse(&OUTPUT.replace("p99_us", "p98_us")).is_err());
    }
}
