//! The only room that knows Envoy: exports, host calls, and what a plugin instance is made of. Built for wasm alone.
//!
//! The module has exports of its own instead of the proxy-wasm SDK's dispatcher: it exports just the callbacks that do
//! something (each of Envoy's calls into the VM costs), an unknown context id is no panic, and no header is read as
//! a `String`.

mod abi;
mod calls;
mod exports;
mod expression;
mod identity;
mod memory;
mod plugin;
mod shared;
mod statistics;
mod stream;
mod thread;
mod vm;
