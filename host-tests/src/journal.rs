//! What happened: log lines, callbacks and the host calls they made.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::abi::{LogLevel, Status};
use crate::stream::StreamId;

/// Which thread of the proxy a VM runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Thread {
    /// The VM that only tries a configuration out.
    Canary,
    /// The main thread: configured and ticked, but without streams.
    Main,
    /// A worker, counted from 0.
    Worker(usize),
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Canary => f.write_str("canary"),
            Self::Main => f.write_str("main"),
            Self::Worker(index) => write!(f, "worker {index}"),
        }
    }
}

/// One line the guest logged, with `proxy_log` or by writing to standard output or error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The thread of the VM.
    pub thread: Thread,
    /// The context the guest was called for.
    pub context: u32,
    /// The level. Standard output is `Info`, standard error is `Error`, as in Envoy.
    pub level: LogLevel,
    /// The text; bytes that are not UTF-8 are replaced.
    pub message: String,
}

/// One call of the guest to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCall {
    /// The imported name, such as `proxy_get_property`.
    pub name: &'static str,
    /// What the call was about: the header, property, key, metric or cluster. Empty for the rest.
    pub about: String,
    /// What the host answered. A WASI function answers `Ok` or `InternalFailure` here.
    pub status: Status,
}

/// One call of the host to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// The exported name, such as `proxy_on_request_headers`.
    pub name: &'static str,
    /// The thread of the VM.
    pub thread: Thread,
    /// The number of the context it was called for.
    pub context: u32,
    /// The stream that context belongs to.
    pub stream: Option<StreamId>,
    /// WebAssembly instructions executed, as wasmtime's fuel counts them.
    pub fuel: u64,
    /// The guest's linear memory after the call, in bytes.
    pub memory_bytes: usize,
    /// The host calls in order.
    pub host_calls: Vec<HostCall>,
}

impl Callback {
    /// How often the guest called `name`.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.host_calls.iter().filter(|call| call.name == name).count()
    }
}

/// How often each name occurs among the host calls of `callbacks`.
pub fn count_host_calls<'a>(callbacks: impl IntoIterator<Item = &'a Callback>) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for call in callbacks.into_iter().flat_map(|callback| &callback.host_calls) {
        *counts.entry(call.name).or_default() += 1;
    }
    counts
}

/// The latest callbacks and log lines, each up to a bound.
#[derive(Debug)]
pub(crate) struct Journal {
    callbacks: VecDeque<Callback>,
    callbacks_max: usize,
    logs: VecDeque<LogLine>,
    logs_max: usize,
    guest_times: BTreeMap<&'static str, Duration>,
}

/// Lines and callbacks that a failure prints.
const TRANSCRIPT_LINES: usize = 20;

impl Journal {
    pub(crate) fn keeping(callbacks_max: usize, logs_max: usize) -> Self {
        let (callbacks, logs, guest_times) = (VecDeque::new(), VecDeque::new(), BTreeMap::new());
        Self { callbacks, callbacks_max, logs, logs_max, guest_times }
    }

    /// Adds a callback, in which the guest's own code ran so long.
    pub(crate) fn add(&mut self, callback: Callback, guest_time: Duration) {
        *self.guest_times.entry(callback.name).or_default() += guest_time;
        self.callbacks.push_back(callback);
        while self.callbacks.len() > self.callbacks_max {
            self.callbacks.pop_front();
        }
    }

    pub(crate) fn log(&mut self, line: LogLine) {
        self.logs.push_back(line);
        while self.logs.len() > self.logs_max {
            self.logs.pop_front();
        }
    }

    pub(crate) fn callbacks(&self) -> Vec<Callback> {
        self.callbacks.iter().cloned().collect()
    }

    pub(crate) fn logs(&self) -> Vec<LogLine> {
        self.logs.iter().cloned().collect()
    }

    pub(crate) fn guest_times(&self) -> BTreeMap<&'static str, Duration> {
        self.guest_times.clone()
    }

    pub(crate) fn clear(&mut self) {
        self.callbacks.clear();
        self.logs.clear();
        self.guest_times.clear();
    }

    /// The end of the story, for a person.
    pub(crate) fn transcript(&self) -> String {
        let mut text = String::from("the guest logged:\n");
        for line in last(&self.logs) {
            text += &format!("  [{}] {:?} {}\n", line.thread, line.level, line.message);
        }
        text += "the last callbacks and their host calls:\n";
        for callback in last(&self.callbacks) {
            text += &format!("  [{}] {}({})\n", callback.thread, callback.name, callback.context);
            for call in &callback.host_calls {
                text += &format!("      {} {} -> {}\n", call.name, call.about, call.status);
            }
        }
        text
    }
}

fn last<T>(all: &VecDeque<T>) -> impl Iterator<Item = &T> {
    all.iter().skip(all.len().saturating_sub(TRANSCRIPT_LINES))
}
