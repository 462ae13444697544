//! VMs and root contexts: start, update, failure and end.

use std::sync::Arc;

use super::{Envoy, Root, Slot};
use crate::error::{Failure, FailureKind, Result};
use crate::grpc::GrpcState;
use crate::http_call::CallState;
use crate::journal::Thread;
use crate::module::Module;
use crate::plugin::{FailurePolicy, Plugin};
use crate::random::Random;
use crate::state::{Context, Deferred, Delivery};
use crate::vm::{Vm, VmSettings};

/// The base of the back-off before a VM is made anew. Envoy adds jitter; a test wants none.
const RELOAD_BACKOFF_NS: u64 = 1_000_000_000;

/// Queue announcements of one operation. More means two listeners feed each other without end.
const QUEUE_ROUNDS_MAX: usize = 100_000;

impl Envoy {
    pub(super) fn add_plugin(&mut self, plugin: Plugin) -> Result<()> {
        let plugin = Arc::new(plugin);
        self.try_out(&plugin)?;
        let mut slot = Slot { name: plugin.name.clone(), roots: std::collections::BTreeMap::new() };
        for thread in self.threads() {
            slot.roots.insert(thread, self.configure_on(thread, &plugin)?);
        }
        self.slots.push(slot);
        Ok(())
    }

    fn threads(&self) -> Vec<Thread> {
        std::iter::once(Thread::Main).chain((0..self.workers).map(Thread::Worker)).collect()
    }

    /// Gives a plugin another configuration, as an update of the listener does. New streams use the
    /// new one; old streams end on the old one, whose root context ends with the last of them.
    ///
    /// # Errors
    /// As for `start`; the old configuration stays when the canary refuses the new one. `Usage`
    /// when no plugin has this name.
    pub fn update_plugin(&mut self, plugin: Plugin) -> Result<()> {
        let result = self.replace_plugin(plugin);
        self.told(result)
    }

    fn replace_plugin(&mut self, plugin: Plugin) -> Result<()> {
        let slot = self.slots.iter().position(|slot| slot.name == plugin.name);
        let slot = slot.ok_or_else(|| Self::usage(format!("no plugin is named {}", plugin.name)))?;
        let plugin = Arc::new(plugin);
        self.try_out(&plugin)?;
        for thread in self.threads() {
            let new = self.configure_on(thread, &plugin)?;
            let old = self.slots[slot].roots.insert(thread, new);
            if let Some(old) = old.filter(|old| *old != new) {
                self.roots[old].retired = true;
                self.finish_unused(old)?;
            }
        }
        self.settle()
    }

    /// Configures the plugin in a VM of its own, which is dropped at once: its calls are cancelled.
    fn try_out(&mut self, plugin: &Arc<Plugin>) -> Result<()> {
        let module = self.module_of(plugin);
        let outside = module.imports_outside(self.process.lock().profile);
        if !outside.is_empty() {
            let detail = format!("this version of Envoy does not have {}", outside.join(", "));
            return Err(Failure::new(FailureKind::Import, detail));
        }
        let vm = self.make_vm(Thread::Canary, &self.first_of_vm(plugin))?;
        let tried = self.configure_in(vm, plugin);
        self.drop_vm(vm);
        tried.map(drop)
    }

    /// The plugin for which the VM of this one was made first: its environment is that of the VM.
    fn first_of_vm(&self, plugin: &Arc<Plugin>) -> Arc<Plugin> {
        let separates = self.process.lock().profile.separates_environments();
        let key = |plugin: &Plugin| plugin.vm_key(self.module_of(plugin).identity(), separates);
        let mut of_roots = self.roots.iter().filter(|root| root.alive).map(|root| &root.plugin);
        Arc::clone(of_roots.find(|first| key(first) == key(plugin)).unwrap_or(plugin))
    }

    fn module_of(&self, plugin: &Plugin) -> Module {
        plugin.module.clone().unwrap_or_else(|| self.module.clone())
    }

    fn make_vm(&mut self, thread: Thread, plugin: &Plugin) -> Result<usize> {
        let module = self.module_of(plugin);
        let index = self.next_vm;
        self.next_vm += 1;
        let mut random = Random::from_seed(self.seed, index as u64);
        if let Some(script) = self.random_scripts.get(&thread) {
            random.push(script);
        }
        let separates = self.process.lock().profile.separates_environments();
        let settings = VmSettings {
            module: &module,
            plugin,
            key: plugin.vm_key(module.identity(), separates),
            index,
            thread,
            random,
            fuel_max: self.fuel_max,
        };
        self.vms.insert(index, Vm::start(settings, &self.process)?);
        Ok(index)
    }

    /// The root context of the plugin on a thread: one with the same settings, or a new one in the
    /// VM of its key, or a new one in a new VM.
    pub(super) fn configure_on(&mut self, thread: Thread, plugin: &Arc<Plugin>) -> Result<usize> {
        let separates = self.process.lock().profile.separates_environments();
        let key = plugin.vm_key(self.module_of(plugin).identity(), separates);
        let mut vms = self.vms.iter();
        let vm = vms.find(|(_, vm)| vm.thread == thread && vm.key == key && !vm.failed).map(|(index, _)| *index);
        let vm = match vm {
            Some(vm) => vm,
            None => self.make_vm(thread, plugin)?,
        };
        let same =
            |root: &Root| root.alive && !root.retired && root.vm == vm && root.plugin.root_key() == plugin.root_key();
        if let Some(index) = self.roots.iter().position(same) {
            return Ok(index);
        }
        let context = self.configure_in(vm, plugin)?;
        let now_ns = self.process.lock().clock.elapsed_ns();
        self.roots.push(Root {
            plugin: Arc::clone(plugin),
            vm,
            context,
            streams: std::collections::BTreeSet::new(),
            retired: false,
            alive: true,
            reload_at_ns: now_ns.saturating_add(RELOAD_BACKOFF_NS),
        });
        Ok(self.roots.len() - 1)
    }

    fn configure_in(&mut self, vm: usize, plugin: &Arc<Plugin>) -> Result<u32> {
        let missing = || Self::usage("the VM is gone");
        let context = self.vms.get_mut(&vm).ok_or_else(missing)?.add_context(Context::Root(Arc::clone(plugin)));
        let vm_len = u32::try_from(plugin.vm_configuration.len()).unwrap_or(u32::MAX);
        let len = u32::try_from(plugin.configuration.len()).unwrap_or(u32::MAX);
        self.invoke(vm, "proxy_on_context_create", context, &[0], Delivery::default())?;
        let started = self.invoke(vm, "proxy_on_vm_start", context, &[vm_len], Delivery::default())?;
        self.accepted(vm, "proxy_on_vm_start", started)?;
        let delivery = Delivery { plugin_configuration: Some(plugin.configuration.clone()), ..Delivery::default() };
        let configured = self.invoke(vm, "proxy_on_configure", context, &[len], delivery)?;
        self.accepted(vm, "proxy_on_configure", configured)?;
        Ok(context)
    }

    fn accepted(&self, vm: usize, name: &str, answer: Option<u32>) -> Result<()> {
        if answer != Some(0) {
            return Ok(());
        }
        let thread = self.vms.get(&vm).map_or(Thread::Canary, |vm| vm.thread);
        Err(Failure::new(FailureKind::Configuration, format!("{name} answered false on {thread}")))
    }

    /// Calls the guest and does what it asked to be done afterwards.
    pub(super) fn invoke(
        &mut self,
        vm: usize,
        name: &'static str,
        context: u32,
        arguments: &[u32],
        delivery: Delivery,
    ) -> Result<Option<u32>> {
        let answer = self.invoke_only(vm, name, context, arguments, delivery)?;
        self.run_deferred(vm)?;
        Ok(answer)
    }

    /// Calls the guest. A VM that traps is dead from then on.
    pub(super) fn invoke_only(
        &mut self,
        vm: usize,
        name: &'static str,
        context: u32,
        arguments: &[u32],
        delivery: Delivery,
    ) -> Result<Option<u32>> {
        let Some(live) = self.vms.get_mut(&vm).filter(|vm| !vm.failed) else {
            return Ok(None);
        };
        let answer = live.call(name, Some(context), arguments, delivery);
        if live.failed {
            self.bury(vm);
        }
        answer
    }

    /// Nothing of a dead VM runs any more. Its calls stay open, but are never delivered.
    fn bury(&mut self, vm: usize) {
        self.process.lock().timers.retain(|(of, _), _| *of != vm);
        if let Some(dead) = self.vms.get_mut(&vm) {
            dead.state_mut().deferred.clear();
        }
    }

    pub(super) fn run_deferred(&mut self, vm: usize) -> Result<()> {
        let Some(live) = self.vms.get_mut(&vm) else {
            return Ok(());
        };
        for action in std::mem::take(&mut live.state_mut().deferred) {
            match action {
                Deferred::LocalReply { stream, reply } => self.reply_locally(stream, reply)?,
                Deferred::Continue { stream, filter, side } => self.resume(stream, filter, side)?,
                Deferred::Close { stream } => self.reset(stream),
                Deferred::RootDone { root } => self.delete_root_context(vm, root)?,
                Deferred::GrpcRefused { root, token } => self.refuse_grpc(vm, root, token)?,
            }
        }
        Ok(())
    }

    /// Announces what was put into queues meanwhile.
    pub(super) fn settle(&mut self) -> Result<()> {
        for _ in 0..QUEUE_ROUNDS_MAX {
            let ready = self.process.lock().ready_queues.pop_front();
            let Some((listener, token)) = ready else {
                return Ok(());
            };
            if self.has_context(listener.vm, listener.root) {
                self.invoke(listener.vm, "proxy_on_queue_ready", listener.root, &[token], Delivery::default())?;
            }
        }
        Err(Self::usage("queues are announced without end"))
    }

    /// Whether a VM can be called for this context.
    pub(super) fn has_context(&self, vm: usize, context: u32) -> bool {
        self.vms.get(&vm).is_some_and(|vm| !vm.failed && vm.state().contexts.contains_key(&context))
    }

    /// Tells the roots that the proxy ends: on the workers, then on the main thread.
    ///
    /// # Errors
    /// `Trap` or `Unsupported` when a guest fails meanwhile.
    pub fn shutdown(&mut self) -> Result<()> {
        let (mut workers, mut main) = (Vec::new(), Vec::new());
        for (index, root) in self.roots.iter().enumerate().filter(|(_, root)| root.alive) {
            let of_main = self.vms.get(&root.vm).is_some_and(|vm| vm.thread == Thread::Main);
            if of_main { main.push(index) } else { workers.push(index) }
        }
        for root in workers.into_iter().chain(main) {
            let finished = self.finish_root(root);
            self.told(finished)?;
        }
        let settled = self.settle();
        self.told(settled)
    }

    /// Ends a replaced root once its last stream has.
    pub(super) fn finish_unused(&mut self, root: usize) -> Result<()> {
        let unused = self.roots[root].retired && self.roots[root].alive && self.roots[root].streams.is_empty();
        if unused { self.finish_root(root) } else { Ok(()) }
    }

    /// `proxy_on_done`, and `proxy_on_delete` unless the guest asks for more time.
    fn finish_root(&mut self, root: usize) -> Result<()> {
        let (vm, context) = (self.roots[root].vm, self.roots[root].context);
        let answer = self.invoke(vm, "proxy_on_done", context, &[], Delivery::default())?;
        if answer == Some(0) {
            if let Some(vm) = self.vms.get_mut(&vm) {
                vm.state_mut().pending_done.push(context);
            }
            return Ok(());
        }
        self.delete_root_context(vm, context)
    }

    fn delete_root_context(&mut self, vm: usize, context: u32) -> Result<()> {
        self.invoke(vm, "proxy_on_delete", context, &[], Delivery::default())?;
        self.forget_context(vm, context);
        for root in self.roots.iter_mut().filter(|root| root.vm == vm && root.context == context) {
            root.alive = false;
        }
        let in_use = self.roots.iter().any(|root| root.alive && root.vm == vm);
        if !in_use {
            self.drop_vm(vm);
        }
        Ok(())
    }

    /// Removes a root context: its timer stops, its calls are cancelled.
    fn forget_context(&mut self, vm: usize, context: u32) {
        if let Some(vm) = self.vms.get_mut(&vm) {
            vm.state_mut().contexts.remove(&context);
        }
        let mut process = self.process.lock();
        process.timers.remove(&(vm, context));
        let of_context = |of: usize, root: u32| of == vm && root == context;
        for call in process.http_calls.iter_mut().filter(|call| of_context(call.vm, call.root)) {
            if call.state == CallState::Pending {
                call.state = CallState::Cancelled;
            }
        }
        for call in process.grpc_calls.iter_mut().filter(|call| of_context(call.vm, call.root)) {
            if call.is_live() {
                call.state = GrpcState::Cancelled;
            }
        }
    }

    fn drop_vm(&mut self, vm: usize) {
        let contexts: Vec<u32> = match self.vms.get(&vm) {
            Some(vm) => vm.state().contexts.keys().copied().collect(),
            None => Vec::new(),
        };
        for context in contexts {
            self.forget_context(vm, context);
        }
        self.vms.remove(&vm);
    }

    /// The root that serves new streams in a slot, after a reload when one is due.
    pub(super) fn serving_root(&mut self, slot: usize, thread: Thread) -> Result<usize> {
        let no_root = || Self::usage(format!("no such thread: {thread}"));
        let index = *self.slots[slot].roots.get(&thread).ok_or_else(no_root)?;
        let root = &self.roots[index];
        let dead = self.vms.get(&root.vm).is_none_or(|vm| vm.failed);
        let due = self.process.lock().clock.elapsed_ns() >= root.reload_at_ns;
        if !dead || !due || root.plugin.failure_policy != FailurePolicy::Reload {
            return Ok(index);
        }
        let plugin = Arc::clone(&root.plugin);
        let vm = root.vm;
        let new = self.configure_on(thread, &plugin)?;
        self.slots[slot].roots.insert(thread, new);
        self.roots[index].alive = false;
        let in_use = self.roots.iter().any(|root| root.alive && root.vm == vm);
        if !in_use {
            self.drop_vm(vm);
        }
        Ok(new)
    }
}
