//! One VM: an instance of the module with its store.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use wasmtime::{Func, Instance, Memory, Store, StoreLimitsBuilder, TypedFunc, Val};

use crate::error::{Failure, FailureKind, Result};
use crate::expression::Expressions;
use crate::journal::{Callback, Thread};
use crate::metrics::MetricIds;
use crate::module::Module;
use crate::plugin::{Plugin, VmKey};
use crate::random::Random;
use crate::state::{Context, Delivery, GuestHandles, SharedProcess, VmState};
use crate::stream::StreamId;

/// Envoy gives a VM at most this much memory (`proxy-wasm-cpp-host`, `src/v8/v8.cc`).
const MEMORY_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// What a VM is made from.
pub(crate) struct VmSettings<'a> {
    pub(crate) module: &'a Module,
    pub(crate) plugin: &'a Plugin,
    pub(crate) key: VmKey,
    pub(crate) index: usize,
    pub(crate) thread: Thread,
    pub(crate) random: Random,
    pub(crate) fuel_max: u64,
}

/// An instantiated module.
pub(crate) struct Vm {
    pub(crate) key: VmKey,
    pub(crate) thread: Thread,
    /// Whether it trapped: Envoy does not call it any more.
    pub(crate) failed: bool,
    store: Store<VmState>,
    instance: Instance,
    memory: Memory,
    exports: BTreeMap<&'static str, Option<Func>>,
    fuel_max: u64,
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vm").field("thread", &self.thread).field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl Vm {
    /// Instantiates the module and runs `_initialize`, or else `_start`.
    pub(crate) fn start(settings: VmSettings<'_>, process: &SharedProcess) -> Result<Self> {
        let module = settings.module;
        check_abi(module)?;
        let limits = StoreLimitsBuilder::new().memory_size(MEMORY_BYTES_MAX).build();
        let state = VmState {
            process: process.clone(),
            index: settings.index,
            thread: settings.thread,
            vm_id: settings.plugin.vm_id.clone(),
            vm_configuration: settings.plugin.vm_configuration.clone(),
            environment: settings.plugin.environment.clone(),
            guest: None,
            contexts: BTreeMap::new(),
            next_context: 1,
            current: 0,
            effective: None,
            starting: false,
            delivery: Delivery::default(),
            expressions: Expressions::default(),
            metrics: MetricIds::default(),
            random: settings.random,
            host_calls: Vec::new(),
            host_time: Duration::ZERO,
            deferred: Vec::new(),
            pending_done: Vec::new(),
            unsupported: None,
            http_calls: 0,
            grpc_calls: 0,
            grpc_streams: 0,
            status_code: 0,
            limits,
        };
        let mut store = Store::new(module.compiled().engine(), state);
        store.limiter(|state| &mut state.limits);
        refuel(&mut store, settings.fuel_max)?;
        let instance = module.linker().instantiate(&mut store, module.compiled());
        let instance = instance.map_err(|why| Failure::new(FailureKind::Load, format!("{why:#}")))?;
        let memory = instance.get_memory(&mut store, "memory").ok_or_else(|| missing("memory"))?;
        let allocate = allocator(&instance, &mut store)?;
        store.data_mut().guest = Some(GuestHandles { memory, allocate });
        let (key, thread, fuel_max) = (settings.key, settings.thread, settings.fuel_max);
        let mut vm = Self { key, thread, failed: false, store, instance, memory, exports: BTreeMap::new(), fuel_max };
        vm.initialize()?;
        Ok(vm)
    }

    fn initialize(&mut self) -> Result<()> {
        self.state_mut().starting = true;
        let done = if self.export("_initialize").is_some() {
            self.call("_initialize", None, &[], Delivery::default())
        } else {
            self.call("_start", None, &[], Delivery::default())
        };
        self.state_mut().starting = false;
        done.map(drop)
    }

    pub(crate) fn state(&self) -> &VmState {
        self.store.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut VmState {
        self.store.data_mut()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// Adds a context and gives its number.
    pub(crate) fn add_context(&mut self, context: Context) -> u32 {
        let state = self.state_mut();
        let id = state.next_context;
        state.next_context += 1;
        state.contexts.insert(id, context);
        id
    }

    fn export(&mut self, name: &'static str) -> Option<Func> {
        let (instance, store) = (&self.instance, &mut self.store);
        *self.exports.entry(name).or_insert_with(|| instance.get_func(store, name))
    }

    /// Calls an export for a context, with the context's number before `arguments`. `None` when the
    /// module does not export it, or when it returns nothing.
    pub(crate) fn call(
        &mut self,
        name: &'static str,
        context: Option<u32>,
        arguments: &[u32],
        delivery: Delivery,
    ) -> Result<Option<u32>> {
        let Some(function) = self.export(name) else {
            return Ok(None);
        };
        refuel(&mut self.store, self.fuel_max)?;
        let state = self.store.data_mut();
        state.current = context.unwrap_or(0);
        state.effective = None;
        if let Some((code, _)) = &delivery.status {
            state.status_code = *code;
        }
        state.delivery = delivery;
        let arguments: Vec<Val> =
            context.iter().chain(arguments).map(|number| Val::I32(number.cast_signed())).collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        let began = Instant::now();
        let outcome = function.call(&mut self.store, &arguments, &mut results);
        self.note(name, began.elapsed());
        match outcome {
            Ok(()) => Ok(results.first().and_then(Val::i32).map(i32::cast_unsigned)),
            Err(trap) => Err(self.failure(name, &trap)),
        }
    }

    /// Writes the callback, which took so long, to the journal, and ends its delivery.
    fn note(&mut self, name: &'static str, time: Duration) {
        let left = self.store.get_fuel().unwrap_or(0);
        let memory_bytes = self.memory_bytes();
        let state = self.store.data_mut();
        let callback = Callback {
            name,
            thread: state.thread,
            context: state.current,
            stream: match state.contexts.get(&state.current) {
                Some(Context::Stream { stream, .. }) => Some(StreamId(*stream)),
                Some(Context::Root(_)) | None => None,
            },
            fuel: self.fuel_max - left,
            memory_bytes,
            host_calls: std::mem::take(&mut state.host_calls),
        };
        state.delivery = Delivery::default();
        state.effective = None;
        let guest_time = time.saturating_sub(std::mem::take(&mut state.host_time));
        state.process.lock().journal.add(callback, guest_time);
    }

    fn failure(&mut self, name: &str, trap: &wasmtime::Error) -> Failure {
        self.failed = true;
        let thread = self.thread;
        match self.state_mut().unsupported.take() {
            Some(what) => Failure::new(FailureKind::Unsupported, format!("{what} (in {name}, {thread})")),
            None => Failure::new(FailureKind::Trap, format!("{name} on {thread}: {}", trap_text(trap))),
        }
    }
}

/// The chain of causes on one line.
fn trap_text(trap: &wasmtime::Error) -> String {
    let causes: Vec<String> = trap.chain().map(ToString::to_string).collect();
    causes.join(": ")
}

fn refuel(store: &mut Store<VmState>, fuel: u64) -> Result<()> {
    store.set_fuel(fuel).map_err(|why| Failure::new(FailureKind::Setup, format!("{why:#}")))
}

fn missing(export: &str) -> Failure {
    Failure::new(FailureKind::Export, format!("the module does not export {export}"))
}

/// Envoy 1.28 and later know the ABI versions 0.1.0, 0.2.0 and 0.2.1; this library plays 0.2.
fn check_abi(module: &Module) -> Result<()> {
    let exports = module.exports();
    let known = ["proxy_abi_version_0_2_0", "proxy_abi_version_0_2_1"];
    if exports.iter().any(|name| known.contains(&name.as_str())) {
        Ok(())
    } else {
        Err(missing("proxy_abi_version_0_2_0 or proxy_abi_version_0_2_1"))
    }
}

fn allocator(instance: &Instance, store: &mut Store<VmState>) -> Result<TypedFunc<u32, u32>> {
    for name in ["proxy_on_memory_allocate", "malloc"] {
        if let Ok(allocate) = instance.get_typed_func(&mut *store, name) {
            return Ok(allocate);
        }
    }
    Err(missing("proxy_on_memory_allocate or malloc"))
}
