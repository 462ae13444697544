//! The state behind the host calls: of the proxy, and of one VM.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime::{Memory, StoreLimits, TypedFunc};

use crate::abi::{LogLevel, Status, StreamType};
use crate::clock::Clock;
use crate::expression::Expressions;
use crate::fault::Faults;
use crate::grpc::GrpcCall;
use crate::headers::HeaderMap;
use crate::http_call::{Answer, HttpCall};
use crate::journal::{HostCall, Journal, Thread};
use crate::metrics::{MetricIds, Metrics};
use crate::node::Node;
use crate::plugin::Plugin;
use crate::profile::Profile;
use crate::random::Random;
use crate::shared::{Listener, SharedData, SharedQueues};
use crate::stream::{LocalReply, Stream};

/// A function a test lends to `proxy_call_foreign_function`.
pub(crate) type ForeignFunction = Arc<dyn Fn(&[u8]) -> Result<Vec<u8>, Status> + Send + Sync>;

/// A moment something recurs at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timer {
    pub(crate) period_ns: u64,
    pub(crate) due_ns: u64,
    /// Breaks ties: what was armed first fires first.
    pub(crate) armed: u64,
}

/// An answer that waits for its time.
#[derive(Debug, Clone)]
pub(crate) struct Scheduled {
    pub(crate) due_ns: u64,
    pub(crate) armed: u64,
    pub(crate) call: usize,
    pub(crate) answer: Answer,
}

/// What a test plays the server of a cluster with.
pub(crate) type Server = Arc<dyn Fn(&HttpCall) -> Option<Answer> + Send + Sync>;

/// What becomes of the calls to a cluster.
#[derive(Clone)]
pub(crate) enum Cluster {
    /// They wait for the test.
    Waiting,
    /// They are answered by themselves, so many nanoseconds after they were made.
    Answering { server: Server, after_ns: u64 },
    /// They fail at once.
    WithoutHosts,
}

/// What all VMs of a proxy share.
pub(crate) struct Process {
    pub(crate) profile: Profile,
    pub(crate) clock: Clock,
    pub(crate) node: Node,
    pub(crate) log_level: LogLevel,
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) data: SharedData,
    pub(crate) queues: SharedQueues,
    pub(crate) metrics: Metrics,
    pub(crate) journal: Journal,
    pub(crate) streams: BTreeMap<u64, Stream>,
    pub(crate) http_calls: Vec<HttpCall>,
    pub(crate) grpc_calls: Vec<GrpcCall>,
    pub(crate) scheduled: Vec<Scheduled>,
    pub(crate) timers: BTreeMap<(usize, u32), Timer>,
    pub(crate) ready_queues: VecDeque<(Listener, u32)>,
    pub(crate) faults: Faults,
    pub(crate) foreign: BTreeMap<String, ForeignFunction>,
    pub(crate) next_armed: u64,
}

impl Process {
    /// A number larger than every one before.
    pub(crate) fn arm(&mut self) -> u64 {
        self.next_armed += 1;
        self.next_armed
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("clock", &self.clock).field("journal", &self.journal).finish_non_exhaustive()
    }
}

/// The process as its VMs hold it. The lock is never held while the guest runs.
#[derive(Debug, Clone)]
pub(crate) struct SharedProcess(Arc<Mutex<Process>>);

impl SharedProcess {
    pub(crate) fn new(process: Process) -> Self {
        Self(Arc::new(Mutex::new(process)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Process> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One context of a VM.
#[derive(Debug, Clone)]
pub(crate) enum Context {
    /// A plugin.
    Root(Arc<Plugin>),
    /// A filter of a stream: the number of the root, the stream, the position in its chain.
    Stream { root: u32, stream: u64, filter: usize },
}

/// What the host reads to the guest during one callback.
#[derive(Debug, Clone, Default)]
pub(crate) struct Delivery {
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) grpc_initial: Option<HeaderMap>,
    pub(crate) grpc_trailing: Option<HeaderMap>,
    pub(crate) grpc_message: Option<Vec<u8>>,
    pub(crate) plugin_configuration: Option<Vec<u8>>,
    /// What `proxy_get_status` tells: the code, and the text, which ends with the callback.
    pub(crate) status: Option<(u32, String)>,
}

/// What the guest asked for and gets after the callback, as in Envoy.
#[derive(Debug, Clone)]
pub(crate) enum Deferred {
    LocalReply { stream: u64, reply: LocalReply },
    Continue { stream: u64, filter: usize, side: StreamType },
    Close { stream: u64 },
    RootDone { root: u32 },
    GrpcRefused { root: u32, token: u32 },
}

/// The guest's memory and allocator, known once it is instantiated.
#[derive(Clone)]
pub(crate) struct GuestHandles {
    pub(crate) memory: Memory,
    pub(crate) allocate: TypedFunc<u32, u32>,
}

/// The state of one VM, owned by its `Store`.
pub(crate) struct VmState {
    pub(crate) process: SharedProcess,
    pub(crate) index: usize,
    pub(crate) thread: Thread,
    pub(crate) vm_id: String,
    pub(crate) vm_configuration: Vec<u8>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) guest: Option<GuestHandles>,
    pub(crate) contexts: BTreeMap<u32, Context>,
    pub(crate) next_context: u32,
    pub(crate) current: u32,
    pub(crate) effective: Option<u32>,
    pub(crate) starting: bool,
    pub(crate) delivery: Delivery,
    pub(crate) metrics: MetricIds,
    pub(crate) expressions: Expressions,
    pub(crate) random: Random,
    pub(crate) host_calls: Vec<HostCall>,
    /// What the host calls of this callback took.
    pub(crate) host_time: Duration,
    pub(crate) deferred: Vec<Deferred>,
    /// Roots whose `proxy_on_done` answered "not yet": `proxy_done` finishes them.
    pub(crate) pending_done: Vec<u32>,
    pub(crate) unsupported: Option<String>,
    /// How many HTTP calls, gRPC calls and gRPC streams were made: their tokens count from these.
    pub(crate) http_calls: u32,
    pub(crate) grpc_calls: u32,
    pub(crate) grpc_streams: u32,
    /// The code `proxy_get_status` tells. It outlives the callback it came with, as in Envoy.
    pub(crate) status_code: u32,
    pub(crate) limits: StoreLimits,
}

impl VmState {
    /// The context host calls are about: the one the guest was called for, or the one it chose.
    pub(crate) fn context_id(&self) -> u32 {
        let chosen = self.effective.filter(|id| self.contexts.contains_key(id));
        chosen.unwrap_or(self.current)
    }

    pub(crate) fn context(&self) -> Option<&Context> {
        self.contexts.get(&self.context_id())
    }

    /// The number of the plugin's root context.
    pub(crate) fn root_id(&self) -> u32 {
        match self.context() {
            Some(Context::Stream { root, .. }) => *root,
            Some(Context::Root(_)) | None => self.context_id(),
        }
    }

    /// The stream and the position in its chain, in a stream context.
    pub(crate) fn stream(&self) -> Option<(u64, usize)> {
        match self.context() {
            Some(Context::Stream { stream, filter, .. }) => Some((*stream, *filter)),
            Some(Context::Root(_)) | None => None,
        }
    }

    /// The plugin of the context.
    pub(crate) fn plugin(&self) -> Option<&Arc<Plugin>> {
        match self.contexts.get(&self.root_id()) {
            Some(Context::Root(plugin)) => Some(plugin),
            Some(Context::Stream { .. }) | None => None,
        }
    }
}
