//! Processor time while something is measured: that of the measured Envoy, and that of programs that do not belong here.

use std::time::{Duration, Instant};

use anyhow::Result;
use envoy_demo::process::EnvoyProcess;

use crate::procfs;

/// Counts processor time of a process, except for the time in which it is asked about itself.
pub(crate) struct Meter {
    pid: u32,
    /// Processor time that counts, in nanoseconds.
    pub(crate) counted_ns: u64,
    since_ns: u64,
}

impl Meter {
    /// Begins to count.
    pub(crate) fn start(pid: u32) -> Result<Self> {
        Ok(Self { pid, counted_ns: 0, since_ns: procfs::cpu_ns(pid)? })
    }

    /// Adds what was used since the begin or the last [`Self::resume`].
    pub(crate) fn pause(&mut self) -> Result<()> {
        self.counted_ns += procfs::cpu_ns(self.pid)?.saturating_sub(self.since_ns);
        Ok(())
    }

    /// Goes on after [`Self::pause`]; what was used between them does not count.
    pub(crate) fn resume(&mut self) -> Result<()> {
        self.since_ns = procfs::cpu_ns(self.pid)?;
        Ok(())
    }
}

/// Processor time of all programs and of those that belong to the measurement.
pub(crate) struct Programs {
    at: Instant,
    busy: Duration,
    ours: Duration,
}

impl Programs {
    /// What the kernel says at this moment.
    pub(crate) fn now(measured: &EnvoyProcess, backend: &EnvoyProcess) -> Result<Self> {
        let ours = procfs::cpu(measured.pid())? + procfs::cpu(backend.pid())? + procfs::own_and_ended_children_cpu()?;
        Ok(Self { at: Instant::now(), busy: procfs::busy()?, ours })
    }

    /// Use of one processor by the others since then.
    pub(crate) fn others_since(&self, before: &Self) -> f64 {
        let others = self.busy.saturating_sub(before.busy).saturating_sub(self.ours.saturating_sub(before.ours));
        others.as_secs_f64() / (self.at - before.at).as_secs_f64().max(f64::EPSILON)
    }
}
