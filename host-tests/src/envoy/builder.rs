//! The settings of a proxy.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{CallbackOrder, Envoy, nanoseconds};
use crate::abi::{LogLevel, Status};
use crate::clock::Clock;
use crate::error::{Failure, FailureKind, Result};
use crate::fault::{Fault, Faults};
use crate::http_call::{Answer, HttpCall};
use crate::journal::{Journal, Thread};
use crate::metrics::Metrics;
use crate::module::Module;
use crate::node::Node;
use crate::plugin::Plugin;
use crate::profile::Profile;
use crate::shared::{SharedData, SharedQueues};
use crate::state::{Cluster, ForeignFunction, Process, SharedProcess};

/// 2025-06-15T15:06:40.123Z.
const DEFAULT_CLOCK_NS: u64 = 1_750_000_000_123_000_000;

/// Fuel of one callback. A module that needs more is taken to hang.
const DEFAULT_FUEL_MAX: u64 = 1 << 33;

/// Callbacks and log lines kept unless the test asks for another number.
const DEFAULT_JOURNAL_MAX: usize = 10_000;

/// Describes a proxy; made by [`Envoy::builder`].
pub struct Builder {
    module: Module,
    plugins: Vec<Plugin>,
    workers: usize,
    profile: Profile,
    clusters: BTreeMap<String, Cluster>,
    clock_ns: u64,
    log_level: LogLevel,
    node: Node,
    seed: u64,
    random_scripts: BTreeMap<Thread, Vec<u8>>,
    order: CallbackOrder,
    fuel_max: u64,
    journal_max: usize,
    faults: Faults,
    foreign: BTreeMap<String, ForeignFunction>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("plugins", &self.plugins).finish_non_exhaustive()
    }
}

impl Builder {
    pub(super) fn new(module: &Module) -> Self {
        Self {
            module: module.clone(),
            plugins: Vec::new(),
            workers: 1,
            profile: Profile::NEWEST,
            clusters: BTreeMap::new(),
            clock_ns: DEFAULT_CLOCK_NS,
            log_level: LogLevel::Info,
            node: Node::new("test-node", "test-cluster"),
            seed: 0,
            random_scripts: BTreeMap::new(),
            order: CallbackOrder::default(),
            fuel_max: DEFAULT_FUEL_MAX,
            journal_max: DEFAULT_JOURNAL_MAX,
            faults: Faults::default(),
            foreign: BTreeMap::new(),
        }
    }

    /// Adds a plugin. Requests pass the plugins of a listener in the order added.
    #[must_use]
    pub fn plugin(mut self, plugin: Plugin) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// Sets the number of workers; 1 unless set.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// Sets the version of Envoy; the newest unless set.
    #[must_use]
    pub fn profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// Makes a cluster known. Calls to it wait for [`Envoy::answer`].
    #[must_use]
    pub fn cluster(mut self, name: impl Into<String>) -> Self {
        self.clusters.insert(name.into(), Cluster::Waiting);
        self
    }

    /// Makes a cluster known that has no healthy host: an HTTP call to it answers `InternalFailure`
    /// and is not answered otherwise.
    #[must_use]
    pub fn empty_cluster(mut self, name: impl Into<String>) -> Self {
        self.clusters.insert(name.into(), Cluster::WithoutHosts);
        self
    }

    /// Makes a cluster known that gives every call this answer, `after` the call was made. The
    /// answer arrives when [`Envoy::advance`] reaches that moment.
    #[must_use]
    pub fn answering_cluster(self, name: impl Into<String>, answer: Answer, after: Duration) -> Self {
        self.serving_cluster(name, after, move |_| Some(answer.clone()))
    }

    /// Makes a cluster known whose server sees every call as it is made and gives its answer, which arrives when
    /// [`Envoy::advance`] reaches the moment `after` it. A call to which it gives `None` waits for [`Envoy::answer`].
    #[must_use]
    pub fn serving_cluster(
        mut self,
        name: impl Into<String>,
        after: Duration,
        server: impl Fn(&HttpCall) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let cluster = Cluster::Answering { server: Arc::new(server), after_ns: nanoseconds(after) };
        self.clusters.insert(name.into(), cluster);
        self
    }

    /// Sets the wall clock at the start, in nanoseconds since 1970.
    #[must_use]
    pub fn clock_ns(self, clock_ns: u64) -> Self {
        Self { clock_ns, ..self }
    }

    /// Sets the log level; `Info` unless set, as in Envoy. Lines below it are not kept.
    #[must_use]
    pub fn log_level(self, log_level: LogLevel) -> Self {
        Self { log_level, ..self }
    }

    /// Sets the node.
    #[must_use]
    pub fn node(self, node: Node) -> Self {
        Self { node, ..self }
    }

    /// Sets the seed of the random numbers. Every VM draws its own from it.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Bytes the VMs of a thread get as random before any generated ones, from their start on.
    #[must_use]
    pub fn random(mut self, thread: Thread, bytes: impl AsRef<[u8]>) -> Self {
        self.random_scripts.insert(thread, bytes.as_ref().to_vec());
        self
    }

    /// Sets the order of the callbacks that end a stream.
    #[must_use]
    pub fn callback_order(self, order: CallbackOrder) -> Self {
        Self { order, ..self }
    }

    /// Sets the fuel of one callback; a callback that needs more traps.
    #[must_use]
    pub fn fuel_max(self, fuel_max: u64) -> Self {
        Self { fuel_max, ..self }
    }

    /// Sets how many callbacks, and how many log lines, are kept.
    #[must_use]
    pub fn journal_max(self, journal_max: usize) -> Self {
        Self { journal_max, ..self }
    }

    /// Makes host calls answer a status, also those of the start.
    #[must_use]
    pub fn inject(mut self, fault: Fault) -> Self {
        self.faults.add(fault);
        self
    }

    /// Registers a foreign function.
    #[must_use]
    pub fn foreign_function(
        mut self,
        name: impl Into<String>,
        function: impl Fn(&[u8]) -> std::result::Result<Vec<u8>, Status> + Send + Sync + 'static,
    ) -> Self {
        self.foreign.insert(name.into(), Arc::new(function));
        self
    }

    /// Starts the proxy: every plugin is tried out in a canary VM, then started and configured on
    /// the main thread and on each worker.
    ///
    /// # Errors
    /// `Import` and `Export` when the module does not fit this version of Envoy, `Configuration`
    /// when it answers false, `Trap` and `Unsupported` when it fails meanwhile, `Setup` when a
    /// setting is impossible. The error shows what the guest logged.
    pub fn start(self) -> Result<Envoy> {
        self.check()?;
        let process = Process {
            profile: self.profile,
            clock: Clock::starting_at(self.clock_ns),
            node: self.node,
            log_level: self.log_level,
            clusters: self.clusters,
            data: SharedData::default(),
            queues: SharedQueues::default(),
            metrics: Metrics::default(),
            journal: Journal::keeping(self.journal_max, self.journal_max),
            streams: BTreeMap::new(),
            http_calls: Vec::new(),
            grpc_calls: Vec::new(),
            scheduled: Vec::new(),
            timers: BTreeMap::new(),
            ready_queues: VecDeque::new(),
            faults: self.faults,
            foreign: self.foreign,
            next_armed: 0,
        };
        let mut envoy = Envoy {
            process: SharedProcess::new(process),
            module: self.module,
            workers: self.workers,
            order: self.order,
            seed: self.seed,
            random_scripts: self.random_scripts,
            fuel_max: self.fuel_max,
            vms: BTreeMap::new(),
            next_vm: 0,
            roots: Vec::new(),
            slots: Vec::new(),
            next_stream: 1,
        };
        for plugin in self.plugins {
            let added = envoy.add_plugin(plugin);
            envoy.told(added)?;
        }
        let settled = envoy.settle();
        envoy.told(settled)?;
        Ok(envoy)
    }

    fn check(&self) -> Result<()> {
        let setup = |detail: &str| Err(Failure::new(FailureKind::Setup, detail));
        if self.plugins.is_empty() {
            return setup("a proxy needs a plugin");
        }
        if self.workers == 0 {
            return setup("a proxy needs a worker");
        }
        let reload = |plugin: &Plugin| plugin.failure_policy == crate::plugin::FailurePolicy::Reload;
        if !self.profile.has_fail_reload() && self.plugins.iter().any(reload) {
            return setup("FAIL_RELOAD came with Envoy 1.33");
        }
        Ok(())
    }
}
