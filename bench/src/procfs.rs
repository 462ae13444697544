//! What the kernel knows of processes and processors.
//!
//! Source: `proc(5)`, and `Documentation/scheduler/sched-stats.rst` of the Linux kernel.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::param::clock_ticks_per_second;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Processor time that a process has used, all its living threads together, in nanoseconds.
///
/// # Errors
/// There is no such process.
pub fn cpu_ns(pid: u32) -> Result<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))?;
    let times = threads.map(|thread| {
        // A thread that ends meanwhile is not there any more.
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    let sum: u64 = times.flatten().sum();
    // A kernel may lack these statistics; the ticks are coarse, and enough for seconds.
    if sum > 0 { Ok(sum) } else { Ok(u64::try_from(cpu(pid)?.as_nanos())?) }
}

/// Processor time that a process has used, in the kernel's ticks.
///
/// # Errors
/// There is no such process.
pub fn cpu(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} has ended"))?;
    times(&text).map(|times| ticks(times.own)).with_context(|| format!("/proc/{pid}/stat reads {text:?}"))
}

/// Processor time of this process and of its children that have ended.
///
/// # Errors
/// The kernel does not tell.
pub fn own_and_ended_children_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let times = times(&text).with_context(|| format!("/proc/self/stat reads {text:?}"))?;
    Ok(ticks(times.own + times.ended_children))
}

/// Time that all processors together have spent on programs since the start.
///
/// # Errors
/// The kernel does not tell.
pub fn busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    busy_ticks(&text).map(ticks).context("/proc/stat has no first line as expected")
}

struct Times {
    own: u64,
    ended_children: u64,
}

/// User and system time in a `stat` file; the name in front of them may hold anything.
fn times(stat: &str) -> Option<Times> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut numbers = after_name.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    Some(Times { own: next()? + next()?, ended_children: next()? + next()? })
}

/// User, nice and system time. Interrupts belong to no program, and neither does what a hypervisor takes.
fn busy_ticks(stat: &str) -> Option<u64> {
    let numbers = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    numbers.take(3).map(|number| number.parse::<u64>().ok()).sum()
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_nanos(ticks * (1_000_000_000 / clock_ticks_per_second().max(1)))
}

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub resident_kib: u64,
    /// The most that was resident so far.
    pub peak_kib: u64,
}

/// Memory of a process.
///
/// # Errors
/// There is no such process.
pub fn memory(pid: u32) -> Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} has ended"))?;
    memory_of(&text).with_context(|| format!("/proc/{pid}/status tells no memory"))
}

fn memory_of(status: &str) -> Option<Memory> {
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some(Memory { resident_kib: value("VmRSS:")?, peak_kib: value("VmHWM:")? })
}

/// The processors that this program may use.
///
/// # Errors
/// The kernel does not tell.
pub fn processors() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect())
}

/// Does something on one processor only. Processes that it starts inherit that; this thread does not keep it.
///
/// # Errors
/// The kernel refuses, or `work` fails.
pub fn pinned<T>(processor: Option<usize>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(processor) = processor else {
        return work();
    };
    let before = sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(None, &only)?;
    let outcome = work();
    sched_setaffinity(None, &before)?;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_behind_a_name_that_may_hold_anything() {
        let stat = "812 (a) b (c)) S 1 812 812 0 -1 4194560 500 0 0 0 70 30 5 6 20 0 9 0 1234 1 2";
        let times = times(stat).unwrap();
        assert_eq!((times.own, times.ended_children), (100, 11));
        assert!(super::times("812 (a").is_none());
    }

    #[test]
    fn idle_interrupts_and_stolen_time_are_not_busy() {
        assert_eq!(busy_ticks("cpu  100 20 3 9000 10 11 12 13 0 0\ncpu0 1 1 1 1"), Some(123));
        assert_eq!(busy_ticks("intr 5"), None);
    }

    #[test]
    fn memory_is_read_by_name() {
        let status = "Name:\tenvoy\nVmHWM:\t  71234 kB\nVmRSS:\t  70000 kB\nThreads:\t5\n";
        assert_eq!(memory_of(status), Some(Memory { resident_kib: 70000, peak_kib: 71234 }));
        assert_eq!(memory_of("Name:\tzombie\n"), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        assert!(memory(pid).unwrap().resident_kib > 0);
        assert!(cpu_ns(pid).unwrap() > 0);
        assert!(busy().unwrap() > Duration::ZERO);
    }

    #[test]
    fn a_child_inherits_the_processor_and_this_thread_gets_its_own_back() {
        let all = processors().unwrap();
        let last = *all.last().unwrap();
        let status = pinned(Some(last), || {
            let output = std::process::Command::new("cat").arg("/proc/self/status").output()?;
            Ok(String::from_utf8(output.stdout)?)
        });
        let allowed = format!("Cpus_allowed_list:\t{last}\n");
        assert!(status.unwrap().contains(&allowed));
        assert_eq!(processors().unwrap(), all);
    }
}
