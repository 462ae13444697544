//! A host for Proxy-Wasm modules that behaves like Envoy, for tests.
//!
//! It runs a real `.wasm` file under wasmtime and plays the proxy around it: threads and VMs,
//! streams and their callbacks, header maps, properties, a virtual clock, HTTP and gRPC calls,
//! shared data, metrics and logs. It knows nothing of the module. Each [`Envoy`] is its own world,
//! so tests run in parallel.
//!
//! # A test of one request
//!
//! ```
//! use host_tests::{Envoy, Module, Plugin};
//!
//! # fn main() -> host_tests::Result<()> {
//! // A module that adds one header. Yours comes from `Module::from_file` or `guest::module`.
//! let module = Module::from_bytes(r#"
//!     (module
//!       (import "env" "proxy_add_header_map_value"
//!         (func $add (param i32 i32 i32 i32 i32) (result i32)))
//!       (memory (export "memory") 1)
//!       (data (i32.const 0) "x-greetinghello")
//!       (func (export "proxy_abi_version_0_2_1"))
//!       (func (export "malloc") (param i32) (result i32) (i32.const 1024))
//!       (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
//!         (drop (call $add (i32.const 0) (i32.const 0) (i32.const 10) (i32.const 10) (i32.const 5)))
//!         (i32.const 0)))
//! "#)?;
//! let mut envoy = Envoy::builder(&module).plugin(Plugin::new("greeter")).start()?;
//!
//! let exchange = envoy.stream().exchange(
//!     &[(":method", "GET"), (":path", "/"), (":authority", "shop")],
//!     &[(":status", "200")],
//! )?;
//!
//! assert_eq!(exchange.upstream.text("x-greeting").as_deref(), Some("hello"));
//! # Ok(())
//! # }
//! ```
//!
//! # Many streams, time, and calls
//!
//! Streams and calls are names ([`StreamId`], [`CallId`]), so any number of them can be open on any
//! worker while time passes:
//!
//! ```no_run
//! use std::time::Duration;
//! use host_tests::{Answer, Ending, Envoy, LogLevel, Plugin, Thread, guest};
//!
//! # fn main() -> host_tests::Result<()> {
//! let module = guest::module("filter")?;
//! let mut envoy = Envoy::builder(&module)
//!     .plugin(Plugin::new("tracing").configuration(r#"{"account_id": "1"}"#).env("KEY", "value"))
//!     .workers(2)
//!     .cluster("trace-api")
//!     .clock_ns(1_750_000_000_123_000_000)
//!     .start()?; // An error shows what the guest logged.
//!
//! let first = envoy.stream().worker(0).property("request.id", "a").open();
//! let second = envoy.stream().worker(1).open();
//! envoy.request_headers(first, &[(":method", "GET"), (":path", "/a"), (":authority", "shop")])?;
//! envoy.request_headers(second, &[("x", [0xff, 0xfe])])?;
//! envoy.advance(Duration::from_millis(12))?;
//! envoy.response_headers(first, &[(":status", "200")])?;
//! envoy.end(first, Ending::complete())?;
//! envoy.end(second, Ending::client_abort())?;
//!
//! envoy.advance(Duration::from_secs(5))?; // Ticks fire on the way.
//! for call in envoy.pending_calls() {
//!     assert_eq!((call.thread, call.cluster.as_str()), (Thread::Worker(0), "trace-api"));
//!     envoy.answer(call.id, Answer::status(202))?;
//! }
//! assert_eq!(envoy.counter("spans.sent"), 2);
//! assert!(!envoy.logged(LogLevel::Warn, ""), "{}", envoy.transcript());
//! assert_eq!(envoy.host_calls_of(first)["proxy_get_header_map_pairs"], 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What fails a test
//!
//! An operation gives a [`Failure`] when the module imports what the chosen version of Envoy does
//! not have ([`Profile`]), refuses its configuration, traps, or uses a function this library does
//! not play. It prints the last log lines and host calls. After a trap the plugin's
//! [`FailurePolicy`] decides what later streams get, as in Envoy.
//!
//! # Where it differs from Envoy
//!
//! - TCP filters and HTTP metadata are not played.
//! - Parts of a protobuf property, such as `metadata.filter_metadata.x`, exist when a test sets
//!   them by their full path.
//! - `FailurePolicy::Reload` waits for exactly one second: Envoy adds jitter.

mod abi;
mod attributes;
mod clock;
mod envoy;
mod error;
mod fault;
mod grpc;
pub mod guest;
mod headers;
mod hostcalls;
mod http_call;
mod journal;
mod memory;
mod metrics;
mod module;
mod node;
mod pairs;
mod plugin;
mod profile;
mod property;
mod random;
mod shared;
mod state;
mod stream;
mod vm;

pub use abi::{BufferType, LogLevel, MapType, MetricType, Status, StreamType};
pub use envoy::{Builder, CallbackOrder, Envoy, Exchange, StreamBuilder, StreamHandle};
pub use error::{Failure, FailureKind, Result};
pub use fault::Fault;
pub use grpc::{GrpcCall, GrpcId, GrpcState};
pub use headers::HeaderMap;
pub use http_call::{Answer, CallId, CallState, HttpCall};
pub use journal::{Callback, HostCall, LogLine, Thread, count_host_calls};
pub use module::Module;
pub use node::Node;
pub use plugin::{Direction, FailurePolicy, Plugin};
pub use profile::Profile;
pub use property::{Path, Value};
pub use stream::{Ending, LocalReply, Phase, StreamId, flags};
