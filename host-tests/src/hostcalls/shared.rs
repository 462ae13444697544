//! Shared data and shared queues.

use wasmtime::Linker;

use super::{About, functions};
use crate::abi::Status;
use crate::memory::{Guest, HostResult};
use crate::shared::Listener;
use crate::state::VmState;

pub(super) fn add_to(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    functions! { linker;
        "proxy_get_shared_data"(key: u32, key_len: u32, value_at: u32, len_at: u32, cas_at: u32)
            about About::Text(key, key_len) => get;
        "proxy_set_shared_data"(key: u32, key_len: u32, value: u32, value_len: u32, cas: u32)
            about About::Text(key, key_len) => set;
        "proxy_register_shared_queue"(name: u32, name_len: u32, token_at: u32)
            about About::Text(name, name_len) => register;
        "proxy_resolve_shared_queue"(vm_id: u32, vm_id_len: u32, name: u32, name_len: u32, token_at: u32)
            about About::Text(name, name_len) => resolve;
        "proxy_enqueue_shared_queue"(token: u32, item: u32, item_len: u32) about About::Nothing => enqueue;
        "proxy_dequeue_shared_queue"(token: u32, item_at: u32, len_at: u32) about About::Nothing => dequeue;
    }
    Ok(())
}

fn get(guest: &mut Guest<'_, '_>, key: u32, key_len: u32, value_at: u32, len_at: u32, cas_at: u32) -> HostResult {
    let key = guest.read(key, key_len)?;
    let found = guest.process(|process| process.data.get(&guest.state().vm_id, &key));
    let (value, cas) = found.ok_or(Status::NotFound)?;
    guest.give(&value, value_at, len_at)?;
    guest.write_u32(cas_at, cas)
}

fn set(guest: &mut Guest<'_, '_>, key: u32, key_len: u32, value: u32, value_len: u32, cas: u32) -> HostResult {
    let (key, value) = (guest.read(key, key_len)?, guest.read(value, value_len)?);
    Ok(guest.process(|process| process.data.set(&guest.state().vm_id, &key, &value, cas))?)
}

fn register(guest: &mut Guest<'_, '_>, name: u32, name_len: u32, token_at: u32) -> HostResult {
    let name = guest.read(name, name_len)?;
    let listener = Listener { vm: guest.state().index, root: guest.state().root_id() };
    let token = guest.process(|process| process.queues.register(&guest.state().vm_id, &name, listener));
    guest.write_u32(token_at, token)
}

/// An empty VM id means the caller's own.
fn resolve(guest: &mut Guest<'_, '_>, vm_id: u32, vm_id_len: u32, name: u32, name_len: u32, at: u32) -> HostResult {
    let (vm_id, name) = (guest.read(vm_id, vm_id_len)?, guest.read(name, name_len)?);
    let vm_id = String::from_utf8_lossy(&vm_id).into_owned();
    let vm_id = if vm_id.is_empty() { guest.state().vm_id.clone() } else { vm_id };
    let token = guest.process(|process| process.queues.resolve(&vm_id, &name)).ok_or(Status::NotFound)?;
    guest.write_u32(at, token)
}

fn enqueue(guest: &mut Guest<'_, '_>, token: u32, item: u32, item_len: u32) -> HostResult {
    let item = guest.read(item, item_len)?;
    guest.process(|process| {
        let listener = process.queues.enqueue(token, &item).ok_or(Status::NotFound)?;
        process.ready_queues.push_back((listener, token));
        Ok(())
    })
}

fn dequeue(guest: &mut Guest<'_, '_>, token: u32, item_at: u32, len_at: u32) -> HostResult {
    let item = guest.process(|process| process.queues.dequeue(token))?;
    guest.give(&item, item_at, len_at)
}
