//! `proxy_call_foreign_function`.

use wasmtime::Linker;

use super::{About, functions};
use crate::abi::Status;
use crate::memory::{Guest, HostResult};
use crate::state::VmState;

pub(super) fn add_to(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    functions! { linker;
        "proxy_call_foreign_function"(
            name: u32, name_len: u32, argument: u32, argument_len: u32, result_at: u32, len_at: u32
        ) about About::Text(name, name_len) => call;
    }
    Ok(())
}

/// Functions of Envoy (`source/extensions/common/wasm/foreign.cc`) that this library does not play:
/// a test that needs one registers it.
const OF_ENVOY: &[&str] = &[
    "compress",
    "uncompress",
    "sign",
    "verify_signature",
    "set_envoy_filter_state",
    "declare_property",
    "expr_create",
    "expr_evaluate",
    "expr_delete",
];

fn call(
    guest: &mut Guest<'_, '_>,
    name: u32,
    name_len: u32,
    argument: u32,
    argument_len: u32,
    result_at: u32,
    len_at: u32,
) -> HostResult {
    let name = String::from_utf8_lossy(&guest.read(name, name_len)?).into_owned();
    let argument = guest.read(argument, argument_len)?;
    let registered = guest.process(|process| process.foreign.get(&name).cloned());
    let result = match registered {
        Some(function) => function(&argument)?,
        // Routes are chosen by the test, so there is no cache to clear.
        None if name == "clear_route_cache" => Vec::new(),
        None if OF_ENVOY.contains(&name.as_str()) => {
            return Err(guest.unsupported(format!("the foreign function {name} is not registered")));
        }
        None => return Err(Status::NotFound.into()),
    };
    if result_at == 0 || len_at == 0 { Ok(()) } else { guest.give(&result, result_at, len_at) }
}
