//! The functions of the host, with slices for pointers and lengths. A status is the number the host gave.
//!
//! Source: the Proxy-Wasm ABI 0.2.1, `abi-versions/v0.2.1/README.md` of `proxy-wasm/spec`.

use std::ptr::null_mut;

mod raw {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub(super) fn proxy_log(level: u32, text: *const u8, len: usize) -> u32;
        pub(super) fn proxy_get_log_level(level: *mut u32) -> u32;
        pub(super) fn proxy_get_header_map_value(
            map: u32,
            name: *const u8,
            name_len: usize,
            value: *mut *mut u8,
            len: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_header_map_pairs(map: u32, pairs: *mut *mut u8, len: *mut usize) -> u32;
        pub(super) fn proxy_set_header_map_pairs(map: u32, pairs: *const u8, len: usize) -> u32;
        pub(super) fn proxy_get_header_map_size(map: u32, size: *mut u32) -> u32;
        pub(super) fn proxy_add_header_map_value(
            map: u32,
            name: *const u8,
            name_len: usize,
            value: *const u8,
            len: usize,
        ) -> u32;
        pub(super) fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_len: usize,
            value: *const u8,
            len: usize,
        ) -> u32;
        pub(super) fn proxy_remove_header_map_value(map: u32, name: *const u8, name_len: usize) -> u32;
        pub(super) fn proxy_get_property(path: *const u8, path_len: usize, value: *mut *mut u8, len: *mut usize)
        -> u32;
        pub(super) fn proxy_set_property(path: *const u8, path_len: usize, value: *const u8, len: usize) -> u32;
        pub(super) fn proxy_get_buffer_bytes(
            buffer: u32,
            start: usize,
            max: usize,
            bytes: *mut *mut u8,
            len: *mut usize,
        ) -> u32;
        pub(super) fn proxy_set_buffer_bytes(
            buffer: u32,
            start: usize,
            size: usize,
            bytes: *const u8,
            len: usize,
        ) -> u32;
        pub(super) fn proxy_get_buffer_status(buffer: u32, len: *mut usize, flags: *mut u32) -> u32;
        pub(super) fn proxy_http_call(
            cluster: *const u8,
            cluster_len: usize,
            headers: *const u8,
            headers_len: usize,
            body: *const u8,
            body_len: usize,
            trailers: *const u8,
            trailers_len: usize,
            timeout_ms: u32,
            token: *mut u32,
        ) -> u32;
        pub(super) fn proxy_grpc_call(
            service: *const u8,
            service_len: usize,
            service_name: *const u8,
            service_name_len: usize,
            method: *const u8,
            method_len: usize,
            metadata: *const u8,
            metadata_len: usize,
            message: *const u8,
            message_len: usize,
            timeout_ms: u32,
            token: *mut u32,
        ) -> u32;
        pub(super) fn proxy_get_status(code: *mut u32, message: *mut *mut u8, len: *mut usize) -> u32;
        pub(super) fn proxy_get_shared_data(
            key: *const u8,
            key_len: usize,
            value: *mut *mut u8,
            len: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub(super) fn proxy_set_shared_data(
            key: *const u8,
            key_len: usize,
            value: *const u8,
            len: usize,
            cas: u32,
        ) -> u32;
        pub(super) fn proxy_register_shared_queue(name: *const u8, name_len: usize, queue: *mut u32) -> u32;
        pub(super) fn proxy_resolve_shared_queue(
            vm_id: *const u8,
            vm_id_len: usize,
            name: *const u8,
            name_len: usize,
            queue: *mut u32,
        ) -> u32;
        pub(super) fn proxy_enqueue_shared_queue(queue: u32, value: *const u8, len: usize) -> u32;
        pub(super) fn proxy_dequeue_shared_queue(queue: u32, value: *mut *mut u8, len: *mut usize) -> u32;
        pub(super) fn proxy_define_metric(kind: u32, name: *const u8, name_len: usize, id: *mut u32) -> u32;
        pub(super) fn proxy_increment_metric(id: u32, by: i64) -> u32;
        pub(super) fn proxy_record_metric(id: u32, value: u64) -> u32;
        pub(super) fn proxy_get_metric(id: u32, value: *mut u64) -> u32;
        pub(super) fn proxy_call_foreign_function(
            name: *const u8,
            name_len: usize,
            argument: *const u8,
            argument_len: usize,
            result: *mut *mut u8,
            len: *mut usize,
        ) -> u32;
        pub(super) fn proxy_send_local_response(
            code: u32,
            details: *const u8,
            details_len: usize,
            body: *const u8,
            body_len: usize,
            headers: *const u8,
            headers_len: usize,
            grpc_status: i32,
        ) -> u32;
        pub(super) fn proxy_continue_stream(side: u32) -> u32;
        pub(super) fn proxy_close_stream(side: u32) -> u32;
        pub(super) fn proxy_set_effective_context(context: u32) -> u32;
        pub(super) fn proxy_set_tick_period_milliseconds(period_ms: u32) -> u32;
        pub(super) fn proxy_get_current_time_nanoseconds(time_ns: *mut u64) -> u32;
        pub(super) fn proxy_done() -> u32;
    }
}

/// A status and the bytes that came with it. The host took their memory from `proxy_on_memory_allocate`.
pub(crate) type Bytes = (u32, Vec<u8>);

/// A status and the number that came with it.
pub(crate) type Number = (u32, u64);

fn bytes(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Bytes {
    let (mut pointer, mut len) = (null_mut(), 0);
    let status = call(&raw mut pointer, &raw mut len);
    if pointer.is_null() || len == 0 {
        return (status, Vec::new());
    }
    // SAFETY: a host that gives a pointer gives one it got from `proxy_on_memory_allocate` for `len` bytes.
    (status, unsafe { Vec::from_raw_parts(pointer, len, len) })
}

fn number(call: impl FnOnce(*mut u32) -> u32) -> Number {
    let mut value = 0;
    let status = call(&raw mut value);
    (status, value.into())
}

/// Headers in the form in which they cross the ABI.
pub(crate) fn pairs(lines: &[(&[u8], &[u8])]) -> Vec<u8> {
    let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let mut form = word(lines.len()).to_vec();
    for (name, value) in lines {
        form.extend(word(name.len()));
        form.extend(word(value.len()));
    }
    for (name, value) in lines {
        form.extend_from_slice(name);
        form.push(0);
        form.extend_from_slice(value);
        form.push(0);
    }
    form
}

/// Calls a function of the host: numbers and pointers first, then slices, then numbers and pointers again.
macro_rules! host {
    ($function:ident($($before:expr),*; $($slice:expr),*; $($after:expr),*)) => {
        // SAFETY: every pointer is that of a live slice or local, and a slice comes with its length.
        unsafe { raw::$function($($before,)* $($slice.as_ptr(), $slice.len(),)* $($after),*) }
    };
}

pub(crate) fn log(level: u32, text: &[u8]) -> u32 {
    host!(proxy_log(level; text; ))
}
pub(crate) fn log_level() -> Number {
    number(|level| host!(proxy_get_log_level(level; ; )))
}
pub(crate) fn header(map: u32, name: &[u8]) -> Bytes {
    bytes(|p, n| host!(proxy_get_header_map_value(map; name; p, n)))
}
pub(crate) fn header_pairs(map: u32) -> Bytes {
    bytes(|p, n| host!(proxy_get_header_map_pairs(map, p, n; ; )))
}
pub(crate) fn set_header_pairs(map: u32, form: &[u8]) -> u32 {
    host!(proxy_set_header_map_pairs(map; form; ))
}
pub(crate) fn header_size(map: u32) -> Number {
    number(|size| host!(proxy_get_header_map_size(map, size; ; )))
}
pub(crate) fn add_header(map: u32, name: &[u8], value: &[u8]) -> u32 {
    host!(proxy_add_header_map_value(map; name, value; ))
}
pub(crate) fn replace_header(map: u32, name: &[u8], value: &[u8]) -> u32 {
    host!(proxy_replace_header_map_value(map; name, value; ))
}
pub(crate) fn remove_header(map: u32, name: &[u8]) -> u32 {
    host!(proxy_remove_header_map_value(map; name; ))
}
pub(crate) fn property(path: &[u8]) -> Bytes {
    bytes(|p, n| host!(proxy_get_property(; path; p, n)))
}
pub(crate) fn set_property(path: &[u8], value: &[u8]) -> u32 {
    host!(proxy_set_property(; path, value; ))
}
pub(crate) fn buffer(kind: u32, start: usize, max: usize) -> Bytes {
    bytes(|p, n| host!(proxy_get_buffer_bytes(kind, start, max, p, n; ; )))
}
pub(crate) fn set_buffer(kind: u32, start: usize, size: usize, data: &[u8]) -> u32 {
    host!(proxy_set_buffer_bytes(kind, start, size; data; ))
}
/// The status, the length and the flags of a buffer.
pub(crate) fn buffer_status(kind: u32) -> (u32, usize, u32) {
    let (mut len, mut flags) = (0, 0);
    let status = host!(proxy_get_buffer_status(kind, &raw mut len, &raw mut flags; ; ));
    (status, len, flags)
}
pub(crate) fn http_call(cluster: &[u8], headers: &[u8], body: &[u8], timeout_ms: u32) -> Number {
    number(|token| host!(proxy_http_call(; cluster, headers, body, [0_u8; 0]; timeout_ms, token)))
}
pub(crate) fn grpc_call(service: &[u8], timeout_ms: u32) -> Number {
    let empty = pairs(&[]);
    number(|token| host!(proxy_grpc_call(; service, b"pkg.Service", b"Method", empty, b"message"; timeout_ms, token)))
}
/// The status, the code and the message of the answer that is being delivered.
pub(crate) fn status() -> (u32, u32, Vec<u8>) {
    let mut code = 0;
    let (status, message) = bytes(|p, n| host!(proxy_get_status(&raw mut code, p, n; ; )));
    (status, code, message)
}
/// The status, the value and the compare-and-swap number of a key.
pub(crate) fn shared(key: &[u8]) -> (u32, Vec<u8>, u32) {
    let mut cas = 0;
    let (status, value) = bytes(|p, n| host!(proxy_get_shared_data(; key; p, n, &raw mut cas)));
    (status, value, cas)
}
pub(crate) fn set_shared(key: &[u8], value: &[u8], cas: u32) -> u32 {
    host!(proxy_set_shared_data(; key, value; cas))
}
pub(crate) fn register_queue(name: &[u8]) -> Number {
    number(|queue| host!(proxy_register_shared_queue(; name; queue)))
}
pub(crate) fn resolve_queue(vm_id: &[u8], name: &[u8]) -> Number {
    number(|queue| host!(proxy_resolve_shared_queue(; vm_id, name; queue)))
}
pub(crate) fn enqueue(queue: u32, value: &[u8]) -> u32 {
    host!(proxy_enqueue_shared_queue(queue; value; ))
}
pub(crate) fn dequeue(queue: u32) -> Bytes {
    bytes(|p, n| host!(proxy_dequeue_shared_queue(queue, p, n; ; )))
}
pub(crate) fn define_metric(kind: u32, name: &[u8]) -> Number {
    number(|id| host!(proxy_define_metric(kind; name; id)))
}
pub(crate) fn increment_metric(id: u32, by: i64) -> u32 {
    host!(proxy_increment_metric(id, by; ; ))
}
pub(crate) fn record_metric(id: u32, value: u64) -> u32 {
    host!(proxy_record_metric(id, value; ; ))
}
pub(crate) fn metric(id: u32) -> Number {
    let mut value = 0;
    (host!(proxy_get_metric(id, &raw mut value; ; )), value)
}
pub(crate) fn foreign(name: &[u8], argument: &[u8]) -> Bytes {
    bytes(|p, n| host!(proxy_call_foreign_function(; name, argument; p, n)))
}
pub(crate) fn local_response(code: u32, details: &[u8], body: &[u8], headers: &[u8], grpc_status: i32) -> u32 {
    host!(proxy_send_local_response(code; details, body, headers; grpc_status))
}
pub(crate) fn continue_stream(side: u32) -> u32 {
    host!(proxy_continue_stream(side; ; ))
}
pub(crate) fn close_stream(side: u32) -> u32 {
    host!(proxy_close_stream(side; ; ))
}
pub(crate) fn set_effective_context(context: u32) -> u32 {
    host!(proxy_set_effective_context(context; ; ))
}
pub(crate) fn set_tick_period(period_ms: u32) -> u32 {
    host!(proxy_set_tick_period_milliseconds(period_ms; ; ))
}
pub(crate) fn time_ns() -> Number {
    let mut time = 0;
    (host!(proxy_get_current_time_nanoseconds(&raw mut time; ; )), time)
}
pub(crate) fn done() -> u32 {
    host!(proxy_done(; ; ))
}
