//! `proxy_http_call`. The root context of the caller owns the call, also when a stream makes it.

use std::time::Duration;

use wasmtime::Linker;

use super::{About, functions};
use crate::abi::Status;
use crate::headers::HeaderMap;
use crate::http_call::{CallId, CallState, HttpCall};
use crate::memory::{Guest, HostResult};
use crate::pairs;
use crate::state::{Cluster, Process, Scheduled, VmState};

pub(super) fn add_to(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    functions! { linker;
        "proxy_http_call"(
            cluster: u32, cluster_len: u32, headers: u32, headers_len: u32, body: u32, body_len: u32,
            trailers: u32, trailers_len: u32, timeout_ms: u32, token_at: u32
        ) about About::Text(cluster, cluster_len) => send;
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the ABI has that many")]
fn send(
    guest: &mut Guest<'_, '_>,
    cluster: u32,
    cluster_len: u32,
    headers: u32,
    headers_len: u32,
    body: u32,
    body_len: u32,
    trailers: u32,
    trailers_len: u32,
    timeout_ms: u32,
    token_at: u32,
) -> HostResult {
    let cluster = String::from_utf8_lossy(&guest.read(cluster, cluster_len)?).into_owned();
    let mut headers = HeaderMap::from(pairs::decode(&guest.read(headers, headers_len)?));
    let body = guest.read(body, body_len)?;
    let trailers = HeaderMap::from(pairs::decode(&guest.read(trailers, trailers_len)?));
    guest.write_u32(token_at, 0)?;
    let called = guest.process(|process| process.clusters.get(&cluster).cloned());
    let complete = [":path", ":method", ":authority"].iter().all(|name| headers.contains(name));
    if called.is_none() || !complete || timeout_ms.cast_signed() < 0 {
        return Err(Status::BadArgument.into());
    }
    if matches!(called, Some(Cluster::WithoutHosts)) {
        return Err(Status::InternalFailure.into());
    }
    if !body.is_empty() {
        headers.replace("content-length", body.len().to_string());
    }
    let state = guest.state_mut();
    // The two lowest bits of a token tell its kind; they are 0 for HTTP calls.
    state.http_calls += 1;
    let token = state.http_calls << 2;
    let call = HttpCall {
        id: CallId(0),
        thread: state.thread,
        cluster,
        headers,
        body,
        trailers,
        timeout: (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms.into())),
        sent_at_ns: 0,
        state: CallState::Pending,
        context: state.context_id(),
        vm: state.index,
        root: state.root_id(),
        token,
        deadline_ns: None,
        armed: 0,
    };
    guest.process(|process| record(process, call));
    guest.write_u32(token_at, token)
}

/// Puts the call on the books, and its answer on the schedule when the cluster answers by itself.
fn record(process: &mut Process, mut call: HttpCall) {
    let position = process.http_calls.len();
    let now_ns = process.clock.elapsed_ns();
    call.id = CallId(position);
    call.sent_at_ns = process.clock.wall_ns();
    call.deadline_ns = call.timeout.map(|timeout| now_ns.saturating_add(nanoseconds(timeout)));
    call.armed = process.arm();
    if let Some(Cluster::Answering { server, after_ns }) = process.clusters.get(&call.cluster).cloned()
        && let Some(answer) = server(&call)
    {
        let (due_ns, armed) = (now_ns.saturating_add(after_ns), process.arm());
        process.scheduled.push(Scheduled { due_ns, armed, call: position, answer });
    }
    process.http_calls.push(call);
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
