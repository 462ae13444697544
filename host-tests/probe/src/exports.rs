//! The callbacks of the host.

use crate::operations::{self, Wish};
use crate::state::{create, say, script, set_script, state};
use crate::{abi, text};

/// The buffers of the two configurations.
const VM_CONFIGURATION: u32 = 6;
const PLUGIN_CONFIGURATION: u32 = 7;

/// Logs a callback, does what its script says, and gives the answer to the host.
fn callback(context: u32, name: &str, arguments: &str, answer: u32) -> u32 {
    say(context, format!("{name} {arguments}").trim_end());
    follow(context, &script(context), name, answer)
}

fn follow(context: u32, script: &str, name: &str, answer: u32) -> u32 {
    let mut answer = answer;
    for operation in text::section(script, name) {
        match operations::run(context, script, operation) {
            Wish::Said(said) => say(context, &format!("  {operation} -> {said}")),
            Wish::Return(wish) => answer = wish,
        }
    }
    answer
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(len: usize) -> *mut u8 {
    // A box of exactly this length, so that it can be a vector of this capacity again.
    Box::into_raw(vec![0; len].into_boxed_slice()).cast()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, parent: u32) {
    create(context, parent);
    callback(context, "create", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(context: u32, len: u32) -> u32 {
    // There is no plugin configuration yet; what starts with the VM is in the configuration of the VM.
    let (status, script) = abi::buffer(VM_CONFIGURATION, 0, usize::MAX);
    if status == 0 {
        set_script(context, String::from_utf8_lossy(&script).into_owned());
    }
    callback(context, "start", &len.to_string(), 1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(context: u32, len: u32) -> u32 {
    let (status, script) = abi::buffer(PLUGIN_CONFIGURATION, 0, usize::MAX);
    set_script(context, String::from_utf8_lossy(&script).into_owned());
    let shown = if script.contains(&b'|') { "a script".to_owned() } else { script.escape_ascii().to_string() };
    callback(context, "configure", &format!("{len} {status} {shown}"), 1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(context: u32) {
    callback(context, "tick", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(context: u32, _queue: u32) {
    callback(context, "queue_ready", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, count: u32, end: u32) -> u32 {
    callback(context, "request_headers", &format!("{count} {end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(context: u32, len: u32, end: u32) -> u32 {
    callback(context, "request_body", &format!("{len} {end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(context: u32, count: u32) -> u32 {
    callback(context, "request_trailers", &count.to_string(), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(context: u32, count: u32, end: u32) -> u32 {
    callback(context, "response_headers", &format!("{count} {end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(context: u32, len: u32, end: u32) -> u32 {
    callback(context, "response_body", &format!("{len} {end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_trailers(context: u32, count: u32) -> u32 {
    callback(context, "response_trailers", &count.to_string(), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(context: u32, token: u32, headers: u32, body: u32, trailers: u32) {
    answered(context, token, "call_response", &format!("{headers} {body} {trailers}"));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_close(context: u32, token: u32, status: u32) {
    answered(context, token, "grpc_close", &status.to_string());
}

/// An answer to a call. The script of the context that made the call goes on, also when that is gone.
fn answered(context: u32, token: u32, name: &str, arguments: &str) {
    let Some(call) = state().calls.remove(&token) else {
        return say(context, &format!("{name} to an unknown call"));
    };
    state().caller = call.context;
    say(context, &format!("{name} {} {arguments}", call.label));
    follow(context, &call.script, name, 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(context: u32) {
    callback(context, "log", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(context: u32) -> u32 {
    callback(context, "done", "", 1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    callback(context, "delete", "", 0);
    state().contexts.remove(&context);
}
