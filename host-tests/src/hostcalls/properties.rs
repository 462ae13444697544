//! `proxy_get_property` and `proxy_set_property`.

use wasmtime::Linker;

use super::{About, functions};
use crate::abi::Status;
use crate::attributes::Scope;
use crate::memory::{Guest, HostResult};
use crate::property::{Path, Value};
use crate::state::VmState;

pub(super) fn add_to(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    functions! { linker;
        "proxy_get_property"(path: u32, path_len: u32, value_at: u32, len_at: u32)
            about About::Text(path, path_len) => get;
        "proxy_set_property"(path: u32, path_len: u32, value: u32, value_len: u32)
            about About::Text(path, path_len) => set;
    }
    Ok(())
}

fn get(guest: &mut Guest<'_, '_>, path: u32, path_len: u32, value_at: u32, len_at: u32) -> HostResult {
    let path = Path::from_wire(&guest.read(path, path_len)?);
    let value = find(guest, &path)?;
    guest.give(&value.encode(), value_at, len_at)
}

/// The value of a property in the current context.
pub(super) fn find(guest: &Guest<'_, '_>, path: &Path) -> Result<Value, Status> {
    let plugin = guest.state().plugin().ok_or(Status::NotFound)?.clone();
    let place = guest.state().stream();
    guest.process(|process| {
        let stream = place.and_then(|(stream, filter)| Some((process.streams.get(&stream)?, filter)));
        let scope = Scope { profile: process.profile, node: &process.node, plugin: &plugin, stream };
        scope.property(path)
    })
}

/// On a stream the value becomes filter state under `wasm.<path>`. A root context has no stream.
fn set(guest: &mut Guest<'_, '_>, path: u32, path_len: u32, value: u32, value_len: u32) -> HostResult {
    let (path, value) = (guest.read(path, path_len)?, guest.read(value, value_len)?);
    let (stream, _) = guest.state().stream().ok_or(Status::NotFound)?;
    guest.process(|process| {
        let stream = process.streams.get_mut(&stream).ok_or(Status::NotFound)?;
        stream.filter_state.insert([b"wasm.", path.as_slice()].concat(), value);
        Ok(())
    })
}
