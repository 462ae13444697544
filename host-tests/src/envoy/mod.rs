//! The proxy: its threads, plugins and streams, and what a test may ask of it.

mod builder;
mod calls;
mod lifecycle;
mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::abi::{LogLevel, MetricType};
use crate::error::{Failure, FailureKind, Result};
use crate::fault::Fault;
use crate::grpc::GrpcCall;
use crate::http_call::{CallState, HttpCall};
use crate::journal::{Callback, LogLine, Thread, count_host_calls};
use crate::module::Module;
use crate::plugin::Plugin;
use crate::state::SharedProcess;
use crate::stream::StreamId;
use crate::vm::Vm;

pub use builder::Builder;
pub use streams::{Exchange, StreamBuilder, StreamHandle};

/// The order of the callbacks that end a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallbackOrder {
    /// `proxy_on_log`, `proxy_on_done`, `proxy_on_delete`: what Envoy does for HTTP.
    #[default]
    Envoy,
    /// `proxy_on_done`, `proxy_on_log`, `proxy_on_delete`: what the specification says.
    Specification,
}

/// A proxy that runs plugins. See the [crate documentation](crate) for an example.
pub struct Envoy {
    process: SharedProcess,
    module: Module,
    workers: usize,
    order: CallbackOrder,
    seed: u64,
    random_scripts: BTreeMap<Thread, Vec<u8>>,
    fuel_max: u64,
    vms: BTreeMap<usize, Vm>,
    next_vm: usize,
    /// Every root context there ever was; the slots say which are current.
    roots: Vec<Root>,
    slots: Vec<Slot>,
    next_stream: u64,
}

impl fmt::Debug for Envoy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envoy").field("workers", &self.workers).field("vms", &self.vms).finish_non_exhaustive()
    }
}

/// The root context of a plugin on one thread.
#[derive(Debug)]
struct Root {
    plugin: std::sync::Arc<Plugin>,
    vm: usize,
    context: u32,
    /// Streams that still use it.
    streams: BTreeSet<u64>,
    /// Whether a newer configuration took its place.
    retired: bool,
    /// Whether its context still exists in the VM.
    alive: bool,
    /// When a new VM may be tried, with `FailurePolicy::Reload`: counted from when this one was made.
    reload_at_ns: u64,
}

/// A plugin's place in the configuration, and its current root context on each thread.
#[derive(Debug)]
struct Slot {
    name: String,
    roots: BTreeMap<Thread, usize>,
}

impl Envoy {
    /// Starts to describe a proxy whose plugins run `module`.
    #[must_use]
    pub fn builder(module: &Module) -> Builder {
        Builder::new(module)
    }

    /// The wall clock, in nanoseconds since 1970.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.process.lock().clock.wall_ns()
    }

    /// Sets the wall clock without firing anything, as NTP or an administrator does.
    pub fn set_wall_clock_ns(&mut self, now_ns: u64) {
        self.process.lock().clock.set_wall(now_ns);
    }

    /// The kept log lines, oldest first.
    #[must_use]
    pub fn logs(&self) -> Vec<LogLine> {
        self.process.lock().journal.logs()
    }

    /// Whether a kept line of this level or a more urgent one contains `text`.
    #[must_use]
    pub fn logged(&self, level: LogLevel, text: &str) -> bool {
        self.logs().iter().any(|line| line.level >= level && line.message.contains(text))
    }

    /// The kept callbacks, oldest first.
    #[must_use]
    pub fn callbacks(&self) -> Vec<Callback> {
        self.process.lock().journal.callbacks()
    }

    /// The kept callbacks of one stream.
    #[must_use]
    pub fn callbacks_of(&self, stream: StreamId) -> Vec<Callback> {
        self.callbacks().into_iter().filter(|callback| callback.stream == Some(stream)).collect()
    }

    /// How often each host function was called for one stream.
    #[must_use]
    pub fn host_calls_of(&self, stream: StreamId) -> BTreeMap<&'static str, usize> {
        count_host_calls(&self.callbacks_of(stream))
    }

    /// The WebAssembly instructions all callbacks of one stream executed.
    #[must_use]
    pub fn fuel_of(&self, stream: StreamId) -> u64 {
        self.callbacks_of(stream).iter().map(|callback| callback.fuel).sum()
    }

    /// The callbacks of one stream, each with its host calls and what they answered, as text that is
    /// the same in every run: to keep beside a test and compare with.
    #[must_use]
    pub fn snapshot(&self, stream: StreamId) -> String {
        let mut text = String::new();
        for callback in self.callbacks_of(stream) {
            text += &format!("{}\n", callback.name);
            for call in &callback.host_calls {
                text += &format!("    {} {} -> {}\n", call.name, call.about, call.status);
            }
        }
        text
    }

    /// How long the guests' own code ran on this machine, by callback and over all VMs, since the start or the last
    /// [`Envoy::clear_journal`]. What the host calls took is left out.
    #[must_use]
    pub fn guest_times(&self) -> BTreeMap<&'static str, Duration> {
        self.process.lock().journal.guest_times()
    }

    /// Forgets callbacks, their times, and log lines.
    pub fn clear_journal(&mut self) {
        self.process.lock().journal.clear();
    }

    /// The last log lines, callbacks and host calls, for a person.
    #[must_use]
    pub fn transcript(&self) -> String {
        self.process.lock().journal.transcript()
    }

    /// The sum of a counter over all VMs; 0 when it was never defined.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.process.lock().metrics.number(MetricType::Counter, name).unwrap_or(0)
    }

    /// All counters.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        self.process.lock().metrics.numbers(MetricType::Counter)
    }

    /// A gauge; `None` when it was never defined.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<u64> {
        self.process.lock().metrics.number(MetricType::Gauge, name)
    }

    /// The values a histogram recorded; `None` when it was never defined.
    #[must_use]
    pub fn histogram(&self, name: &str) -> Option<Vec<u64>> {
        self.process.lock().metrics.histogram(name)
    }

    /// The metric ids a VM has defined. A module that defines in every callback leaks them.
    #[must_use]
    pub fn metric_definitions(&self, thread: Thread) -> usize {
        self.vms_of(thread).map(|vm| vm.state().metrics.len()).sum()
    }

    /// A value of the shared data.
    #[must_use]
    pub fn shared_data(&self, vm_id: &str, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        self.process.lock().data.get(vm_id, key.as_ref()).map(|(value, _)| value)
    }

    /// Writes a value of the shared data, as another plugin would.
    pub fn set_shared_data(&mut self, vm_id: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let written = self.process.lock().data.set(vm_id, key.as_ref(), value.as_ref(), 0);
        debug_assert_eq!(written, Ok(()), "without a token every write succeeds");
    }

    /// Every HTTP call, oldest first.
    #[must_use]
    pub fn http_calls(&self) -> Vec<HttpCall> {
        self.process.lock().http_calls.clone()
    }

    /// The HTTP calls that wait for an answer, oldest first.
    #[must_use]
    pub fn pending_calls(&self) -> Vec<HttpCall> {
        self.http_calls().into_iter().filter(|call| call.state == CallState::Pending).collect()
    }

    /// Drops the bodies of calls that are over, so that a long test does not collect them.
    pub fn drop_finished_bodies(&mut self) {
        let mut process = self.process.lock();
        for call in &mut process.http_calls {
            if call.state != CallState::Pending {
                call.body = Vec::new();
            }
        }
    }

    /// Every gRPC call and stream, oldest first.
    #[must_use]
    pub fn grpc_calls(&self) -> Vec<GrpcCall> {
        self.process.lock().grpc_calls.clone()
    }

    /// Makes host calls answer a status from now on. Rules are tried in the order they were added.
    pub fn inject(&mut self, fault: Fault) {
        self.process.lock().faults.add(fault);
    }

    /// Ends all fault injection.
    pub fn clear_faults(&mut self) {
        self.process.lock().faults.clear();
    }

    /// Changes the log level that `proxy_get_log_level` tells; lines below it are not kept.
    pub fn set_log_level(&mut self, level: LogLevel) {
        self.process.lock().log_level = level;
    }

    /// Bytes the VMs of a thread get as random before any generated ones.
    pub fn push_random(&mut self, thread: Thread, bytes: impl AsRef<[u8]>) {
        for vm in self.vms.values_mut().filter(|vm| vm.thread == thread) {
            vm.state_mut().random.push(bytes.as_ref());
        }
    }

    /// The linear memory of a thread's VMs in bytes.
    #[must_use]
    pub fn memory_bytes(&self, thread: Thread) -> usize {
        self.vms_of(thread).map(Vm::memory_bytes).sum()
    }

    /// The contexts alive on a thread, root contexts included.
    #[must_use]
    pub fn contexts(&self, thread: Thread) -> usize {
        self.vms_of(thread).map(|vm| vm.state().contexts.len()).sum()
    }

    /// The VMs that live on a thread.
    #[must_use]
    pub fn vm_count(&self, thread: Thread) -> usize {
        self.vms_of(thread).count()
    }

    /// Whether a VM of the thread has trapped.
    #[must_use]
    pub fn is_dead(&self, thread: Thread) -> bool {
        self.vms_of(thread).any(|vm| vm.failed)
    }

    /// The number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    fn vms_of(&self, thread: Thread) -> impl Iterator<Item = &Vm> {
        self.vms.values().filter(move |vm| vm.thread == thread)
    }

    /// An error about the use of this library.
    fn usage(detail: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Usage, detail)
    }

    /// Adds the transcript to an error.
    fn told<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|failure| failure.with_transcript(self.transcript()))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
