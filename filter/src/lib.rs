//! New Relic distributed tracing for Envoy and Istio, as a proxy-wasm filter.
//!
//! ```text
//! request headers -> propagation (extract) -> sampler (decide) -> span (open) -> propagation (inject)
//! end of stream   -> span (finish) -> export (encode, queue)       tick -> export (compress, send)
//! ```
//!
//! The core is pure: header bytes, time and random bytes go in, header edits and records come out. Only `host`, which
//! exists in the wasm build alone, knows Envoy. Each room uses only those listed above it:
//!
//! - [`swar`], [`id`], [`url`], [`text`], [`headers`], [`glob`], [`random`]: bytes that become values; [`contexts`]: a table;
//! - [`json`], [`w3c`], [`newrelic`]: a file for each wire format;
//! - [`config`]: what the operator wrote, checked once;
//! - [`record`], [`stats`]: what is recorded and counted;
//! - [`sampler`], [`propagation`]: policy;
//! - [`caller_metrics`], [`span`]: one request from its headers to its records;
//! - [`export`]: bounded queues, encodings and delivery;
//! - [`carrier`]: the same for protocols other than HTTP, for integrators;
//! - `host`: every host call, and the callbacks.
//!
//! The library does without `std`: its panics, backtraces and tables would be a tenth of the module, and what a module
//! has in size the proxy pays for at its start.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

#[macro_use]
extern crate alloc;
// A native library needs somebody to tell of a panic.
#[cfg(not(any(test, target_family = "wasm")))]
extern crate std;

pub mod caller_metrics;
pub mod carrier;
pub mod config;
pub mod contexts;
pub mod export;
pub mod glob;
pub mod headers;
pub mod id;
pub mod json;
pub mod newrelic;
pub mod propagation;
pub mod random;
pub mod record;
pub mod sampler;
pub mod span;
pub mod stats;
pub mod swar;
pub mod text;
pub mod url;
pub mod w3c;

#[cfg(target_family = "wasm")]
mod host;
