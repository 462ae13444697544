//! Calls that steer a stream or a context.

use wasmtime::Linker;

use super::{About, functions};
use crate::abi::{Status, StreamType};
use crate::headers::HeaderMap;
use crate::memory::{Guest, HostResult};
use crate::pairs;
use crate::state::{Deferred, VmState};
use crate::stream::{LocalReply, add_body_headers};

pub(super) fn add_to(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    functions! { linker;
        "proxy_send_local_response"(
            status: u32, details: u32, details_len: u32, body: u32, body_len: u32,
            headers: u32, headers_len: u32, grpc_status: u32
        ) about About::Nothing => send_local_response;
        "proxy_continue_stream"(side: u32) about About::Nothing => continue_stream;
        "proxy_close_stream"(side: u32) about About::Nothing => close_stream;
        "proxy_set_effective_context"(context: u32) about About::Nothing => set_effective_context;
        "proxy_done"() about About::Nothing => done;
        "proxy_get_status"(code_at: u32, message_at: u32, len_at: u32) about About::Nothing => get_status;
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the ABI has that many")]
fn send_local_response(
    guest: &mut Guest<'_, '_>,
    status: u32,
    details: u32,
    details_len: u32,
    body: u32,
    body_len: u32,
    headers: u32,
    headers_len: u32,
    grpc_status: u32,
) -> HostResult {
    let details = String::from_utf8_lossy(&guest.read(details, details_len)?).replace(' ', "_");
    let body = guest.read(body, body_len)?;
    let added = pairs::decode(&guest.read(headers, headers_len)?);
    // Envoy makes nothing of a local response from a root context.
    let Some((stream, _)) = guest.state().stream() else {
        return Ok(());
    };
    let status = u16::try_from(status).map_err(|_| Status::BadArgument)?;
    let mut headers = HeaderMap::from(&[(":status", status.to_string())]);
    for (name, value) in added {
        headers.add(name, value);
    }
    add_body_headers(&mut headers, &body);
    // The SDKs give -1 for "none"; the codes of gRPC end at 16.
    let grpc_status = (grpc_status <= 16).then_some(grpc_status);
    let reply = LocalReply { status, body, headers, details, grpc_status };
    guest.state_mut().deferred.push(Deferred::LocalReply { stream, reply });
    Ok(())
}

fn continue_stream(guest: &mut Guest<'_, '_>, side: u32) -> HostResult {
    let side = http_side(side)?;
    if let Some((stream, filter)) = guest.state().stream() {
        // What waited is let go after the callback, but its maps are closed at once.
        guest.process(|process| {
            if let Some(stream) = process.streams.get_mut(&stream) {
                stream.close_maps(filter, side);
            }
        });
        guest.state_mut().deferred.push(Deferred::Continue { stream, filter, side });
    }
    Ok(())
}

fn close_stream(guest: &mut Guest<'_, '_>, side: u32) -> HostResult {
    http_side(side)?;
    if let Some((stream, _)) = guest.state().stream() {
        guest.state_mut().deferred.push(Deferred::Close { stream });
    }
    Ok(())
}

/// TCP is not played: its sides are refused as Envoy refuses numbers it does not know.
fn http_side(number: u32) -> HostResult<StreamType> {
    match StreamType::from_number(number) {
        Some(side @ (StreamType::Request | StreamType::Response)) => Ok(side),
        Some(StreamType::Downstream | StreamType::Upstream) | None => Err(Status::BadArgument.into()),
    }
}

fn set_effective_context(guest: &mut Guest<'_, '_>, context: u32) -> HostResult {
    if !guest.state().contexts.contains_key(&context) {
        return Err(Status::BadArgument.into());
    }
    guest.state_mut().effective = Some(context);
    Ok(())
}

/// `NotFound` unless `proxy_on_done` of the plugin answered "not yet" before.
fn done(guest: &mut Guest<'_, '_>) -> HostResult {
    let root = guest.state().root_id();
    let state = guest.state_mut();
    let position = state.pending_done.iter().position(|pending| *pending == root).ok_or(Status::NotFound)?;
    state.pending_done.remove(position);
    state.deferred.push(Deferred::RootDone { root });
    Ok(())
}

fn get_status(guest: &mut Guest<'_, '_>, code_at: u32, message_at: u32, len_at: u32) -> HostResult {
    let code = guest.state().status_code;
    let message = guest.state().delivery.status.clone().map(|(_, message)| message).unwrap_or_default();
    guest.write_u32(code_at, code)?;
    guest.give(message.as_bytes(), message_at, len_at)
}
