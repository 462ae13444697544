//! `proxy_call_foreign_function`.

use wasmtime::Linker;

use super::{About, functions, properties};
use crate::abi::Status;
use crate::expression;
use crate::memory::{Guest, HostResult};
use crate::property::Value;
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
const OF_ENVOY: &[&str] =
    &["compress", "uncompress", "sign", "verify_signature", "set_envoy_filter_state", "declare_property"];

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
        None if name == "expr_create" => create(guest, &argument)?,
        None if name == "expr_evaluate" => evaluate(guest, token(&argument)?)?,
        None if name == "expr_delete" => {
            guest.state_mut().expressions.remove(token(&argument)?);
            Vec::new()
        }
        None if OF_ENVOY.contains(&name.as_str()) => {
            return Err(guest.unsupported(format!("the foreign function {name} is not registered")));
        }
        None => return Err(Status::NotFound.into()),
    };
    if result_at == 0 || len_at == 0 { Ok(()) } else { guest.give(&result, result_at, len_at) }
}

/// Takes in an expression, and answers with its number.
fn create(guest: &mut Guest<'_, '_>, text: &[u8]) -> HostResult<Vec<u8>> {
    let text = String::from_utf8_lossy(text).into_owned();
    let Some(list) = expression::attributes(&text) else {
        return Err(guest.unsupported(format!("the expression {text} is no list of attributes, and not played")));
    };
    Ok(guest.state_mut().expressions.add(list).to_le_bytes().to_vec())
}

/// The values of a list. One that is absent fails it.
fn evaluate(guest: &mut Guest<'_, '_>, token: u32) -> HostResult<Vec<u8>> {
    let list = guest.state().expressions.list(token).ok_or(Status::NotFound)?;
    let values = list.iter().map(|attribute| properties::find(guest, attribute)).collect::<Result<Vec<_>, _>>();
    Ok(Value::List(values.map_err(|_| Status::InternalFailure)?).encode())
}

fn token(argument: &[u8]) -> Result<u32, Status> {
    argument.try_into().map(u32::from_le_bytes).map_err(|_| Status::BadArgument)
}
