//! The guest's memory as host calls see it.

use wasmtime::{AsContext, AsContextMut, Caller};

use crate::abi::Status;
use crate::state::{GuestHandles, Process, VmState};

/// Why a host call stops: with an answer for the guest, or with a trap.
#[derive(Debug)]
pub(crate) enum Stop {
    Status(Status),
    Trap(wasmtime::Error),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<wasmtime::Error> for Stop {
    fn from(trap: wasmtime::Error) -> Self {
        Self::Trap(trap)
    }
}

/// The result of a host call before it becomes a number.
pub(crate) type HostResult<T = ()> = Result<T, Stop>;

/// The guest that is calling.
pub(crate) struct Guest<'a, 'caller> {
    caller: &'a mut Caller<'caller, VmState>,
}

impl<'a, 'caller> Guest<'a, 'caller> {
    pub(crate) fn new(caller: &'a mut Caller<'caller, VmState>) -> Self {
        Self { caller }
    }

    pub(crate) fn state(&self) -> &VmState {
        self.caller.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut VmState {
        self.caller.data_mut()
    }

    /// Works on the process. The lock ends with `work`, before the guest can run again.
    pub(crate) fn process<T>(&self, work: impl FnOnce(&mut Process) -> T) -> T {
        work(&mut self.caller.data().process.lock())
    }

    /// Ends the test: the guest used what this library does not play.
    pub(crate) fn unsupported(&mut self, what: impl Into<String>) -> Stop {
        let what = what.into();
        self.state_mut().unsupported = Some(what.clone());
        Stop::Trap(wasmtime::Error::msg(what))
    }

    fn handles(&self) -> HostResult<GuestHandles> {
        let handles = self.caller.data().guest.clone();
        handles.ok_or_else(|| Stop::Trap(wasmtime::Error::msg("a host call before the module was instantiated")))
    }

    pub(crate) fn read(&self, pointer: u32, len: u32) -> HostResult<Vec<u8>> {
        let memory = self.handles()?.memory;
        let start = pointer as usize;
        let end = start.checked_add(len as usize).ok_or(Status::InvalidMemoryAccess)?;
        let bytes = memory.data(self.caller.as_context()).get(start..end);
        Ok(bytes.ok_or(Status::InvalidMemoryAccess)?.to_vec())
    }

    pub(crate) fn read_u32(&self, pointer: u32) -> HostResult<u32> {
        let bytes = self.read(pointer, 4)?;
        let word = bytes.first_chunk::<4>().ok_or(Status::InvalidMemoryAccess)?;
        Ok(u32::from_le_bytes(*word))
    }

    pub(crate) fn write(&mut self, pointer: u32, bytes: &[u8]) -> HostResult {
        let memory = self.handles()?.memory;
        let written = memory.write(self.caller.as_context_mut(), pointer as usize, bytes);
        written.map_err(|_| Stop::Status(Status::InvalidMemoryAccess))
    }

    pub(crate) fn write_u32(&mut self, pointer: u32, number: u32) -> HostResult {
        self.write(pointer, &number.to_le_bytes())
    }

    /// Hands bytes over in memory the guest allocates. Nothing is allocated for no bytes: pointer and
    /// length are 0 then, as in Envoy.
    pub(crate) fn give(&mut self, bytes: &[u8], pointer_at: u32, len_at: u32) -> HostResult {
        let len = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
        let pointer = if len == 0 { 0 } else { self.allocate(len)? };
        self.write(pointer, bytes)?;
        self.write_u32(pointer_at, pointer)?;
        self.write_u32(len_at, len)
    }

    fn allocate(&mut self, len: u32) -> HostResult<u32> {
        let allocate = self.handles()?.allocate;
        let pointer = allocate.call(self.caller.as_context_mut(), len)?;
        if pointer == 0 { Err(Status::InvalidMemoryAccess.into()) } else { Ok(pointer) }
    }
}
