//! Bodies, configurations and messages.

use wasmtime::Linker;

use super::{About, functions};
use crate::abi::{BufferType, Status};
use crate::memory::{Guest, HostResult};
use crate::state::VmState;

pub(super) fn add_to(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    functions! { linker;
        "proxy_get_buffer_bytes"(buffer: u32, start: u32, len: u32, bytes_at: u32, len_at: u32)
            about About::Nothing => get;
        "proxy_get_buffer_status"(buffer: u32, len_at: u32, flags_at: u32) about About::Nothing => status;
        "proxy_set_buffer_bytes"(buffer: u32, start: u32, len: u32, bytes: u32, bytes_len: u32)
            about About::Nothing => set;
    }
    Ok(())
}

fn buffer_type(number: u32) -> HostResult<BufferType> {
    Ok(BufferType::from_number(number).ok_or(Status::BadArgument)?)
}

/// `NotFound` when the buffer does not exist now. No bytes are pointer 0 and length 0.
fn get(guest: &mut Guest<'_, '_>, buffer: u32, start: u32, len: u32, bytes_at: u32, len_at: u32) -> HostResult {
    let bytes = contents(guest, buffer_type(buffer)?).ok_or(Status::NotFound)?;
    let end = start.checked_add(len).ok_or(Status::BadArgument)? as usize;
    let part = bytes.get(start as usize..end.min(bytes.len())).unwrap_or_default();
    guest.give(part, bytes_at, len_at)
}

fn status(guest: &mut Guest<'_, '_>, buffer: u32, len_at: u32, flags_at: u32) -> HostResult {
    let bytes = contents(guest, buffer_type(buffer)?).ok_or(Status::NotFound)?;
    guest.write_u32(len_at, u32::try_from(bytes.len()).unwrap_or(u32::MAX))?;
    guest.write_u32(flags_at, 0)
}

/// Bodies and messages always exist, empty outside their callbacks. The answer to an HTTP call and
/// the configuration of the plugin exist during theirs only.
fn contents(guest: &Guest<'_, '_>, buffer: BufferType) -> Option<Vec<u8>> {
    let state = guest.state();
    match buffer {
        BufferType::VmConfiguration => Some(state.vm_configuration.clone()),
        BufferType::PluginConfiguration => state.delivery.plugin_configuration.clone(),
        BufferType::HttpCallResponseBody => state.delivery.body.clone(),
        BufferType::GrpcReceiveBuffer => Some(state.delivery.grpc_message.clone().unwrap_or_default()),
        BufferType::HttpRequestBody | BufferType::HttpResponseBody => Some(body(guest, buffer).unwrap_or_default()),
        BufferType::DownstreamData | BufferType::UpstreamData | BufferType::CallData => Some(Vec::new()),
    }
}

fn body(guest: &Guest<'_, '_>, buffer: BufferType) -> Option<Vec<u8>> {
    let (stream, filter) = guest.state().stream()?;
    guest.process(|process| process.streams.get(&stream)?.filters.get(filter)?.buffers.get(&buffer).cloned())
}

/// Envoy knows three changes: put before (`start` and `len` are 0), put after (`start` is the
/// length), and replace (from 0 over the length or more). Others are `BadArgument`.
fn set(guest: &mut Guest<'_, '_>, buffer: u32, start: u32, len: u32, bytes: u32, bytes_len: u32) -> HostResult {
    let buffer = buffer_type(buffer)?;
    let present = contents(guest, buffer).ok_or(Status::NotFound)?;
    let bytes = guest.read(bytes, bytes_len)?;
    let changed = match (start as usize, len as usize) {
        (0, 0) => [bytes, present].concat(),
        (0, len) if len >= present.len() => bytes,
        (start, _) if start >= present.len() => [present, bytes].concat(),
        _ => return Err(Status::BadArgument.into()),
    };
    let (stream, filter) = guest.state().stream().ok_or(Status::BadArgument)?;
    guest.process(|process| {
        let context = process.streams.get_mut(&stream).and_then(|s| s.filters.get_mut(filter));
        let slot = context.and_then(|c| c.buffers.get_mut(&buffer)).ok_or(Status::BadArgument)?;
        *slot = changed;
        Ok(())
    })
}
