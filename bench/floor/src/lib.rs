//! The floor under every tracing filter: what a request costs when a module does the host calls that no
//! such filter can do without, and next to nothing between them.
//!
//! It reads all request headers with one call, replaces three of them with values of their usual length made
//! from a counter, and reads one property when the request is logged. It speaks to the host without an SDK and
//! exports no callback that it does not need.
//!
//! Source: the Proxy-Wasm ABI 0.2.1, `abi-versions/v0.2.1/README.md` of `proxy-wasm/spec`.

#![cfg(target_family = "wasm")]
#![allow(unsafe_code, reason = "a module meets its host through raw pointers")]

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};

mod host {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub(super) fn proxy_get_header_map_pairs(map: u32, pairs: *mut *mut u8, len: *mut usize) -> u32;
        pub(super) fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_len: usize,
            value: *const u8,
            len: usize,
        ) -> u32;
        pub(super) fn proxy_get_property(path: *const u8, path_len: usize, value: *mut *mut u8, len: *mut usize)
        -> u32;
    }
}

unsafe extern "C" {
    /// The constructors of the module, by the linker. Without an `_initialize` that calls them, it puts a call of
    /// them around every export.
    fn __wasm_call_ctors();
}

/// The map of request headers.
const REQUEST_HEADERS: u32 = 0;
/// `Action::Continue`.
const CONTINUE: u32 = 0;
/// Bytes that a `newrelic` header usually has.
const NEWRELIC_BYTES: usize = 252;
/// Hexadecimal digits of a counter.
const DIGITS: usize = 16;
/// Twice what Envoy lets through as request headers.
const BUFFER_BYTES: usize = 128 << 10;

/// Where the host puts values: each is looked at before the host is asked for the next one.
struct Buffer(UnsafeCell<[u8; BUFFER_BYTES]>);

// SAFETY: a module has one thread.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new([0; BUFFER_BYTES]));

/// Requests so far. A module has one thread, so that no order is needed.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    // SAFETY: the host calls this once, before anything else.
    unsafe { __wasm_call_ctors() }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(len: usize) -> *mut u8 {
    if len <= BUFFER_BYTES { BUFFER.0.get().cast() } else { null_mut() }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(_context: u32, _count: u32, _end: u32) -> u32 {
    // The compiler must not find out that nobody needs the result.
    black_box(request_headers());
    let digits = digits(REQUESTS.fetch_add(1, Ordering::Relaxed));

    let mut traceparent = *b"00-00000000000000000000000000000000-0000000000000000-01";
    write(&mut traceparent, 19, &digits);
    write(&mut traceparent, 36, &digits);
    replace(b"traceparent", &traceparent);

    let mut tracestate =
        *b"4001@nr=0-0-4001-502-0000000000000000-0000000000000000-1-1.200000-1750000000000,vendor=7:2f19";
    write(&mut tracestate, 21, &digits);
    write(&mut tracestate, 38, &digits);
    replace(b"tracestate", &tracestate);

    let mut newrelic = [b'e'; NEWRELIC_BYTES];
    write(&mut newrelic, 80, &digits);
    write(&mut newrelic, 128, &digits);
    replace(b"newrelic", &newrelic);
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(_context: u32) {
    black_box(property(b"response\0code"));
}

fn request_headers() -> u32 {
    // SAFETY: both pointers are to variables that live during the call.
    given(|bytes, len| unsafe { host::proxy_get_header_map_pairs(REQUEST_HEADERS, bytes, len) })
}

fn property(path: &[u8]) -> u32 {
    // SAFETY: all pointers are to memory that lives during the call, with its length.
    given(|bytes, len| unsafe { host::proxy_get_property(path.as_ptr(), path.len(), bytes, len) })
}

fn replace(name: &[u8], value: &[u8]) {
    // SAFETY: all pointers are to memory that lives during the call, with its length.
    black_box(unsafe {
        host::proxy_replace_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    });
}

/// The sum of the bytes that a call of the host gives: every byte is read once. 0 when it refuses.
fn given(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> u32 {
    let (mut pointer, mut len) = (null_mut(), 0);
    if call(&raw mut pointer, &raw mut len) != 0 || pointer.is_null() {
        return 0;
    }
    // SAFETY: the host has written `len` bytes to what `proxy_on_memory_allocate` gave it, and does not write there
    // again before its next call.
    let bytes = unsafe { std::slice::from_raw_parts(pointer, len) };
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(u32::from(*byte)))
}

/// A number in hexadecimal digits.
fn digits(number: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        let low = u8::try_from(rest & 0xf).unwrap_or(0);
        *digit = if low < 10 { b'0' + low } else { b'a' + low - 10 };
        rest >>= 4;
    }
    digits
}

/// Overwrites a part of `text`; one that does not fit is left as it is.
fn write(text: &mut [u8], at: usize, part: &[u8]) {
    if let Some(place) = text.get_mut(at..at + part.len()) {
        place.copy_from_slice(part);
    }
}
