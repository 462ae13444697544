//! gRPC calls and streams. The root context of the caller owns them.

use std::time::Duration;

use wasmtime::Linker;

use super::{About, functions};
use crate::abi::Status;
use crate::grpc::{GrpcCall, GrpcId, GrpcState, cluster_of_service};
use crate::headers::HeaderMap;
use crate::memory::{Guest, HostResult};
use crate::pairs;
use crate::state::{Deferred, VmState};

pub(super) fn add_to(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    functions! { linker;
        "proxy_grpc_call"(
            upstream: u32, upstream_len: u32, service: u32, service_len: u32, method: u32, method_len: u32,
            metadata: u32, metadata_len: u32, message: u32, message_len: u32, timeout_ms: u32, token_at: u32
        ) about About::Text(method, method_len) => call;
        "proxy_grpc_stream"(
            upstream: u32, upstream_len: u32, service: u32, service_len: u32, method: u32, method_len: u32,
            metadata: u32, metadata_len: u32, token_at: u32
        ) about About::Text(method, method_len) => stream;
        "proxy_grpc_send"(token: u32, message: u32, message_len: u32, end: u32) about About::Nothing => send;
        "proxy_grpc_close"(token: u32) about About::Nothing => close;
        "proxy_grpc_cancel"(token: u32) about About::Nothing => cancel;
    }
    Ok(())
}

/// The two lowest bits of a token tell its kind (`proxy-wasm-cpp-host`, `include/proxy-wasm/wasm.h`).
const KIND_MASK: u32 = 3;
const CALL_BITS: u32 = 1;
const STREAM_BITS: u32 = 2;

/// A text in the guest's memory.
type Text = (u32, u32);

#[expect(clippy::too_many_arguments, reason = "the ABI has that many")]
fn call(
    guest: &mut Guest<'_, '_>,
    upstream: u32,
    upstream_len: u32,
    service: u32,
    service_len: u32,
    method: u32,
    method_len: u32,
    metadata: u32,
    metadata_len: u32,
    message: u32,
    message_len: u32,
    timeout_ms: u32,
    token_at: u32,
) -> HostResult {
    let target = [(upstream, upstream_len), (service, service_len), (method, method_len)];
    let mut call = open(guest, target, (metadata, metadata_len))?;
    call.messages.push(guest.read(message, message_len)?);
    call.state = GrpcState::HalfClosed;
    call.timeout = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms.into()));
    register(guest, call, token_at)
}

#[expect(clippy::too_many_arguments, reason = "the ABI has that many")]
fn stream(
    guest: &mut Guest<'_, '_>,
    upstream: u32,
    upstream_len: u32,
    service: u32,
    service_len: u32,
    method: u32,
    method_len: u32,
    metadata: u32,
    metadata_len: u32,
    token_at: u32,
) -> HostResult {
    let target = [(upstream, upstream_len), (service, service_len), (method, method_len)];
    let mut call = open(guest, target, (metadata, metadata_len))?;
    call.streaming = true;
    register(guest, call, token_at)
}

/// The exchange, without a token yet.
fn open(guest: &Guest<'_, '_>, target: [Text; 3], metadata: Text) -> HostResult<GrpcCall> {
    let text = |(pointer, len)| guest.read(pointer, len);
    let [upstream, service, method] = target;
    Ok(GrpcCall {
        id: GrpcId(0),
        thread: guest.state().thread,
        cluster: cluster_of(guest, &text(upstream)?)?,
        service: String::from_utf8_lossy(&text(service)?).into_owned(),
        method: String::from_utf8_lossy(&text(method)?).into_owned(),
        metadata: HeaderMap::from(pairs::decode(&text(metadata)?)),
        messages: Vec::new(),
        timeout: None,
        streaming: false,
        state: GrpcState::Open,
        vm: guest.state().index,
        root: guest.state().root_id(),
        token: 0,
        deadline_ns: None,
        armed: 0,
    })
}

/// A known cluster by its name, or any by a serialized `GrpcService`. Other bytes are `ParseFailure`.
fn cluster_of(guest: &Guest<'_, '_>, upstream: &[u8]) -> HostResult<String> {
    let name = std::str::from_utf8(upstream).ok().filter(|name| is_known(guest, name));
    let name = name.or_else(|| cluster_of_service(upstream)).ok_or(Status::ParseFailure)?;
    Ok(name.to_owned())
}

fn is_known(guest: &Guest<'_, '_>, cluster: &str) -> bool {
    guest.process(|process| process.clusters.contains_key(cluster))
}

/// Gives the exchange its token. One to an unknown cluster takes a token too, and is refused: the
/// answer is `InternalFailure`, and `proxy_on_grpc_close` follows.
fn register(guest: &mut Guest<'_, '_>, mut call: GrpcCall, token_at: u32) -> HostResult {
    let known = is_known(guest, &call.cluster);
    let state = guest.state_mut();
    let made = if call.streaming { &mut state.grpc_streams } else { &mut state.grpc_calls };
    *made += 1;
    let token = (*made << 2) | if call.streaming { STREAM_BITS } else { CALL_BITS };
    if !known {
        state.deferred.push(Deferred::GrpcRefused { root: call.root, token });
        return Err(Status::InternalFailure.into());
    }
    call.token = token;
    guest.process(|process| {
        call.id = GrpcId(process.grpc_calls.len());
        let timeout_ns = call.timeout.map(|t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX));
        call.deadline_ns = timeout_ns.map(|t| process.clock.elapsed_ns().saturating_add(t));
        call.armed = process.arm();
        process.grpc_calls.push(call);
    });
    guest.write_u32(token_at, token)
}

fn send(guest: &mut Guest<'_, '_>, token: u32, message: u32, message_len: u32, end: u32) -> HostResult {
    let message = guest.read(message, message_len)?;
    if token & KIND_MASK != STREAM_BITS {
        return Err(Status::BadArgument.into());
    }
    live(guest, token, |call| {
        call.messages.push(message);
        if end != 0 {
            call.state = GrpcState::HalfClosed;
        }
    })
}

fn close(guest: &mut Guest<'_, '_>, token: u32) -> HostResult {
    live(guest, token, |call| {
        call.state = if call.streaming { GrpcState::HalfClosed } else { GrpcState::Cancelled };
    })
}

fn cancel(guest: &mut Guest<'_, '_>, token: u32) -> HostResult {
    live(guest, token, |call| call.state = GrpcState::Cancelled)
}

/// Works on an exchange of this VM that is not over. `NotFound` when there is none.
fn live(guest: &Guest<'_, '_>, token: u32, work: impl FnOnce(&mut GrpcCall)) -> HostResult {
    let vm = guest.state().index;
    guest.process(|process| {
        let mut calls = process.grpc_calls.iter_mut();
        let call = calls.find(|call| call.vm == vm && call.token == token && call.is_live());
        work(call.ok_or(Status::NotFound)?);
        Ok(())
    })
}
