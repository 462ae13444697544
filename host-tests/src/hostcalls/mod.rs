//! The functions a module may import, a file per area of the ABI.
//!
//! Every function goes through [`call`]: it is counted, kept back while the module is being
//! initialized, answered by a fault rule if there is one, and only then done.

mod buffers;
mod foreign;
mod grpc;
mod headers;
mod http_call;
mod logging;
mod metrics;
mod properties;
mod shared;
mod stream;
mod timers;
mod wasi;

use std::time::Instant;

use wasmtime::{Caller, Linker};

use crate::abi::Status;
use crate::journal::HostCall;
use crate::memory::{Guest, HostResult, Stop};
use crate::state::VmState;

/// Defines functions of the ABI on a linker: a name, its arguments, what the call is about, and the
/// function that does it.
macro_rules! functions {
    ($linker:expr; $($name:literal ($($argument:ident: $type:ty),*) about $about:expr => $work:path;)*) => {$(
        $linker.func_wrap(
            "env",
            $name,
            |mut caller: wasmtime::Caller<'_, $crate::state::VmState>, $($argument: $type),*| -> wasmtime::Result<u32> {
                $crate::hostcalls::call(&mut caller, $name, $about, |guest| $work(guest, $($argument),*))
            },
        )?;
    )*};
}
pub(crate) use functions;

/// What a call is about, for the journal and for fault rules.
#[derive(Clone, Copy)]
pub(crate) enum About {
    Nothing,
    /// Text in the guest's memory: pointer and length.
    Text(u32, u32),
    /// The name of the metric with this id.
    Metric(u32),
    /// The name of the map with this number.
    Map(u32),
}

/// Defines every function of every version of Envoy. What a version lacks is refused before.
///
/// # Errors
/// When a name is defined twice.
pub(crate) fn add_to(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    buffers::add_to(linker)?;
    foreign::add_to(linker)?;
    grpc::add_to(linker)?;
    headers::add_to(linker)?;
    http_call::add_to(linker)?;
    logging::add_to(linker)?;
    metrics::add_to(linker)?;
    properties::add_to(linker)?;
    shared::add_to(linker)?;
    stream::add_to(linker)?;
    timers::add_to(linker)?;
    wasi::add_to(linker)
}

/// Functions Envoy allows while `_initialize` or `_start` runs (`proxy-wasm-cpp-host`,
/// `src/wasm.cc`, `startVm`).
const ALLOWED_WHILE_STARTING: &[&str] = &[
    "proxy_log",
    "fd_write",
    "args_sizes_get",
    "args_get",
    "environ_sizes_get",
    "environ_get",
    "fd_prestat_get",
    "fd_prestat_dir_name",
    "clock_time_get",
    "random_get",
];

/// Makes one host call of the ABI.
pub(crate) fn call(
    caller: &mut Caller<'_, VmState>,
    name: &'static str,
    about: About,
    work: impl FnOnce(&mut Guest<'_, '_>) -> HostResult,
) -> wasmtime::Result<u32> {
    let mut guest = Guest::new(caller);
    let entry = enter(&mut guest, name, about)?;
    let fault = guest.process(|process| process.faults.answer(name, &entry.about));
    let result = match fault {
        Some(status) => Err(Stop::Status(status)),
        None => work(&mut guest),
    };
    let status = match result {
        Ok(()) => Status::Ok,
        Err(Stop::Status(status)) => status,
        Err(Stop::Trap(trap)) => return Err(trap),
    };
    leave(&mut guest, &entry, status);
    Ok(status as u32)
}

/// The place of a running call in the journal. The guest's allocator may make calls in between.
pub(crate) struct Entry {
    position: usize,
    about: String,
    began: Instant,
}

/// Notes the call, and refuses it while the module is being initialized.
pub(crate) fn enter(guest: &mut Guest<'_, '_>, name: &'static str, about: About) -> wasmtime::Result<Entry> {
    let began = Instant::now();
    if guest.state().starting && !ALLOWED_WHILE_STARTING.contains(&name) {
        return Err(wasmtime::Error::msg(format!("restricted_callback: {name} is not allowed during start")));
    }
    let about = describe(guest, about);
    let calls = &mut guest.state_mut().host_calls;
    let position = calls.len();
    calls.push(HostCall { name, about: about.clone(), status: Status::Ok });
    Ok(Entry { position, about, began })
}

/// Notes what the call answered, and how long it took.
pub(crate) fn leave(guest: &mut Guest<'_, '_>, entry: &Entry, status: Status) {
    if let Some(call) = guest.state_mut().host_calls.get_mut(entry.position) {
        call.status = status;
    }
    guest.state_mut().host_time += entry.began.elapsed();
}

fn describe(guest: &Guest<'_, '_>, about: About) -> String {
    match about {
        About::Nothing => String::new(),
        About::Text(pointer, len) => {
            let bytes = guest.read(pointer, len).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', ".")
        }
        About::Metric(id) => guest.state().metrics.find(id).map_or_else(|_| id.to_string(), |metric| metric.name),
        About::Map(number) => {
            let map = crate::abi::MapType::from_number(number);
            map.map_or_else(|| number.to_string(), |map| format!("{map:?}"))
        }
    }
}
