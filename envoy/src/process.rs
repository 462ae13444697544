//! One Envoy process: started with a configuration, asked through its admin interface, never left behind.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

use crate::client::{self, Request};
use crate::stats::Stats;

/// How long Envoy may take to start. V8 compiles the module first, which a busy machine slows down.
const START_MAX: Duration = Duration::from_secs(120);
/// How long Envoy may take to end when it is asked to.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Pause between two looks at a process or an address.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Lines of the log that an error shows.
const LOG_TAIL_LINES: usize = 20;

/// Becomes Envoy, after it has left a guard behind. The guard reads a pipe that only this program
/// holds open: when this program is gone, however it ended, the guard kills its process group,
/// which is Envoy and itself.
const GUARDED: &str = r#"exec 3<&0 </dev/null
(read -r _ <&3; kill -KILL 0) >/dev/null 2>&1 &
exec "$@" 3<&-"#;

/// What an Envoy is started with.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The Envoy binary.
    pub binary: &'a Path,
    /// The whole bootstrap configuration, as YAML.
    pub config: &'a str,
    /// Folder for the configuration, the log and the admin's address; made when it is missing.
    pub dir: &'a Path,
    /// Environment variables in addition to those of this process.
    pub env: &'a [(&'a str, &'a str)],
    /// Worker threads.
    pub concurrency: u32,
}

/// A running Envoy. Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub struct EnvoyProcess {
    child: Child,
    /// Held open as long as Envoy may live, see [`GUARDED`].
    guard: Option<ChildStdin>,
    dir: PathBuf,
}

impl EnvoyProcess {
    /// Starts Envoy and waits until it serves requests.
    ///
    /// # Errors
    /// It cannot be started, ends at once, or is not ready in time; the message ends with its log.
    pub async fn start(launch: &Launch<'_>) -> Result<Self> {
        let mut envoy = Self::spawn(launch)?;
        envoy.wait_until_ready().await?;
        Ok(envoy)
    }

    /// Starts Envoy without waiting for anything.
    ///
    /// # Errors
    /// The folder cannot be written or the process not started.
    pub fn spawn(launch: &Launch<'_>) -> Result<Self> {
        let dir = launch.dir;
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::write(dir.join("envoy.yaml"), launch.config)?;
        let admin_address = dir.join("admin-address");
        if admin_address.exists() {
            fs::remove_file(&admin_address)?;
        }
        let log = File::create(dir.join("envoy.log"))?;
        let mut child = Command::new("sh")
            .args(["-c", GUARDED, "sh"])
            .arg(launch.binary)
            .arg("--config-path")
            .arg(dir.join("envoy.yaml"))
            .arg("--admin-address-path")
            .arg(admin_address)
            .args(["--concurrency", &launch.concurrency.to_string()])
            .args(["--disable-hot-restart", "--log-level", "warning", "--component-log-level", "wasm:info"])
            .envs(launch.env.iter().copied())
            // Of its own, so that Ctrl-C reaches only this program, which then ends Envoy in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start Envoy")?;
        let guard = child.stdin.take();
        Ok(Self { child, guard, dir: dir.to_owned() })
    }

    /// Waits until Envoy serves requests.
    ///
    /// # Errors
    /// It ends instead, or is not ready in time; the message ends with its log.
    pub async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("Envoy ended with {status} instead of starting; its log:\n{}", self.log_tail());
            }
            if self.admin("GET", "/ready").await.is_ok_and(|answer| answer == "LIVE\n") {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("Envoy was not ready after {START_MAX:?}; its log:\n{}", self.log_tail());
    }

    /// Waits until Envoy has ended by itself.
    ///
    /// # Errors
    /// It still runs after two minutes.
    pub async fn wait_for_exit(&mut self) -> Result<ExitStatus> {
        self.exit_before(Instant::now() + START_MAX).await?.context("Envoy still runs")
    }

    async fn exit_before(&mut self, deadline: Instant) -> Result<Option<ExitStatus>> {
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(None)
    }

    /// The admin interface's address, which Envoy writes down once it listens there.
    ///
    /// # Errors
    /// It has not done so yet.
    pub fn admin_address(&self) -> Result<SocketAddr> {
        let text = fs::read_to_string(self.dir.join("admin-address")).context("Envoy's admin is not up")?;
        text.trim().parse().context("Envoy's admin address")
    }

    async fn admin(&self, method: &str, path: &str) -> Result<String> {
        let request = Request { method: method.to_owned(), ..Request::get("admin", path) };
        Ok(client::send(self.admin_address()?, &request).await?.text())
    }

    /// Envoy's statistics as they are now; histograms as of the last flush.
    ///
    /// # Errors
    /// The admin interface does not answer.
    pub async fn stats(&self) -> Result<Stats> {
        Ok(Stats::parse(&self.admin("GET", Stats::PATH).await?))
    }

    /// Waits until the statistics are as `reached` wants them, and gives them. It gives the last
    /// ones when that does not happen in time.
    ///
    /// # Errors
    /// The admin interface does not answer.
    pub async fn stats_when(&self, within: Duration, reached: impl Fn(&Stats) -> bool) -> Result<Stats> {
        let deadline = Instant::now() + within;
        loop {
            let stats = self.stats().await?;
            if reached(&stats) || Instant::now() >= deadline {
                return Ok(stats);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything Envoy has logged so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The log file.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("envoy.log")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Asks Envoy to end, as its own shutdown does, and waits for it; kills it when it does not.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub async fn stop(mut self) -> Result<()> {
        // An Envoy that does not answer any more is killed by the drop.
        if self.admin("POST", "/quitquitquit").await.is_ok() {
            self.exit_before(Instant::now() + STOP_MAX).await?;
        }
        Ok(())
    }
}

impl Drop for EnvoyProcess {
    fn drop(&mut self) {
        drop(self.guard.take());
        for failure in [self.child.kill().err(), self.child.wait().err()].into_iter().flatten() {
            // Nobody is left to hand an error to; the guard kills what this could not.
            let complaint = format!("cannot end Envoy {}: {failure}\n", self.child.id());
            if std::io::stderr().write_all(complaint.as_bytes()).is_err() {
                return;
            }
        }
    }
}
