//! The callbacks that the host finds in the module. Each only passes on to the VM's state.
#![expect(unsafe_code, unreachable_pub, reason = "the host finds callbacks by their unmangled names")]

use super::{calls, vm};

/// Continue with the next filter: the only thing that this filter ever answers.
const CONTINUE: u32 = 0;

/// Marks the ABI version of the module.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_abi_version_0_2_1() {}

/// Called once, before anything else. Without this export the linker would wrap every other one in the constructors.
#[unsafe(no_mangle)]
pub extern "C" fn _initialize() {
    calls::call_constructors();
}

/// Gives the host memory for what it answers.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_memory_allocate(length: usize) -> *mut u8 {
    calls::allocate(length)
}

/// A plugin instance (no parent) or a stream begins.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_context_create(context: u32, parent: u32) {
    vm::with(|vm| vm.create(context, parent));
}

/// The plugin's configuration is there; 0 refuses it.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_configure(context: u32, length: usize) -> u32 {
    u32::from(vm::with(|vm| vm.configure(context, length)).unwrap_or(false))
}

/// A request's headers are there.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_headers(context: u32, _headers: u32, _end_of_stream: u32) -> u32 {
    vm::with(|vm| vm.request_headers(context));
    CONTINUE
}

/// The answer's headers are there.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_response_headers(context: u32, _headers: u32, _end_of_stream: u32) -> u32 {
    vm::with(|vm| vm.response_headers(context));
    CONTINUE
}

/// A stream ended: once for each, also for those that no other callback announced.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_log(context: u32) {
    vm::with(|vm| vm.log(context));
}

/// The plugin's timer fired.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_tick(context: u32) {
    vm::with(|vm| vm.tick(context));
}

/// A call of the plugin was answered, or failed without headers.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_http_call_response(context: u32, token: u32, _headers: u32, body: usize, _trailers: u32) {
    vm::with(|vm| vm.http_call_response(context, token, body));
}

/// A plugin instance or a stream is about to end; 0 asks the host to wait.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_done(context: u32) -> u32 {
    u32::from(vm::with(|vm| vm.done(context)).unwrap_or(true))
}

/// A plugin instance or a stream is gone.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_delete(context: u32) {
    vm::with(|vm| vm.delete(context));
}
