//! The state of one VM: its plugin instances and the streams of its worker.

use alloc::vec::Vec;

use super::abi::Status;
use super::calls::{self, Call};
use super::plugin::{Plugin, Root};
use super::stream::Stream;
use super::thread::OfThread;
use crate::contexts::Contexts;
use crate::random::RandomPool;

/// Everything that lives in one VM.
#[derive(Debug)]
pub(super) struct Vm {
    /// Few: a plugin has one, and Istio puts some plugins into one VM.
    roots: Vec<(u32, Root)>,
    streams: Contexts<Stream>,
    random: RandomPool,
    /// Bytes of request headers that recorded streams keep until their end.
    kept_bytes: usize,
}

static VM: OfThread<Option<Vm>> = OfThread::new(None);

/// Runs a callback on the VM's state.
///
/// The state stays borrowed during host calls. The host answers them without calling back, but for
/// `proxy_on_memory_allocate`, which does not come here; should a host ever do otherwise, that call is refused and
/// counted instead of trapping.
pub(super) fn with<T>(callback: impl FnOnce(&mut Vm) -> T) -> Option<T> {
    let Some(mut vm) = VM.borrow_mut() else {
        calls::refused(Call::Reentry, Status::Other(0));
        return None;
    };
    Some(callback(vm.get_or_insert_with(Vm::new)))
}

impl Vm {
    fn new() -> Self {
        Self {
            roots: Vec::new(),
            streams: Contexts::default(),
            random: RandomPool::new(calls::now_ns()),
            kept_bytes: 0,
        }
    }

    pub(super) fn create(&mut self, context: u32, parent: u32) {
        if parent == 0 {
            self.roots.push((context, Root::default()));
        } else {
            self.streams.insert(context, Stream::new(parent));
        }
    }

    pub(super) fn configure(&mut self, context: u32, length: usize) -> bool {
        let root = self.roots.iter_mut().find(|(id, _)| *id == context);
        root.is_some_and(|(_, root)| root.configure(length, &mut self.random))
    }

    /// Sees to it that the next request finds random bytes.
    fn refill_random(&mut self) {
        if self.random.needs_refill() && calls::fill_random(self.random.buffer_mut()) {
            self.random.refilled();
        }
    }

    pub(super) fn request_headers(&mut self, context: u32) {
        self.refill_random();
        let Some(stream) = self.streams.get_mut(context) else { return };
        let Some(plugin) = plugin_of(&mut self.roots, stream.root()) else { return };
        stream.begin(plugin, &mut self.random, &mut self.kept_bytes);
    }

    pub(super) fn response_headers(&mut self, context: u32) {
        let Some(stream) = self.streams.get_mut(context) else { return };
        let Some(plugin) = plugin_of(&mut self.roots, stream.root()) else { return };
        stream.answer(plugin);
    }

    pub(super) fn log(&mut self, context: u32) {
        // A request that never reached this filter draws its ids only now.
        self.refill_random();
        let Some(stream) = self.streams.get_mut(context) else { return };
        let Some(plugin) = plugin_of(&mut self.roots, stream.root()) else { return };
        stream.end(plugin, &mut self.random, &mut self.kept_bytes);
    }

    pub(super) fn tick(&mut self, context: u32) {
        self.refill_random();
        if let Some(plugin) = plugin_of(&mut self.roots, context) {
            plugin.tick(context, &mut self.random);
        }
    }

    pub(super) fn http_call_response(&mut self, context: u32, token: u32, body_length: usize) {
        if let Some(plugin) = plugin_of(&mut self.roots, context) {
            plugin.answered(context, token, body_length, &mut self.random);
        }
    }

    pub(super) fn done(&mut self, context: u32) -> bool {
        plugin_of(&mut self.roots, context).is_none_or(|plugin| plugin.done(&mut self.random))
    }

    pub(super) fn delete(&mut self, context: u32) {
        if let Some(stream) = self.streams.remove(context) {
            stream.forget(&mut self.kept_bytes);
            return;
        }
        if let Some(plugin) = plugin_of(&mut self.roots, context) {
            plugin.abandon();
        }
        self.roots.retain(|(id, _)| *id != context);
    }
}

fn plugin_of(roots: &mut [(u32, Root)], context: u32) -> Option<&mut Plugin> {
    roots.iter_mut().find(|(id, _)| *id == context).and_then(|(_, root)| root.plugin_mut())
}

impl Root {
    fn plugin_mut(&mut self) -> Option<&mut Plugin> {
        match self {
            Self::Active(plugin) => Some(plugin),
            Self::Idle => None,
        }
    }
}
