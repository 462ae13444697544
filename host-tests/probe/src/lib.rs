//! A module that does what a script says and logs what it saw.
//!
//! It runs on the test host and in Envoy; two recordings of the same traffic show where the host is
//! not like Envoy. A script is text, `<callback>: <operation>; <operation> | <callback>: ...`, taken
//! from the request header `x-script` of a stream and from the plugin configuration of everything
//! else. Each callback is logged, and then each operation with what the host answered.

#![cfg(target_family = "wasm")]
#![allow(unsafe_code, reason = "a module meets its host through raw pointers")]

mod abi;
mod exports;
mod operations;
mod state;
mod text;
