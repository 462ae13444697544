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
//! # What it plays, and the test that would fail without
//!
//! Tests without a folder are in `tests/host_behaviour`. The truth check, `envoy/tests/truth`, plays
//! the same traffic here and through real Envoys, and compares what a probe saw.
//!
//! | | What | Test |
//! |--:|---|---|
//! | 1 | The real `.wasm`, built by Cargo; the same cases for a module and for its native core | `tests/module.rs`, `tests/scenarios.rs` with `filter/tests/scenarios.rs` |
//! | 2 | No globals: proxies live side by side | `what_leaves_one_proxy_enters_the_next` |
//! | 3 | Canary, main thread, workers; shared data and queues | `canary_main_thread_and_every_worker_are_started_and_configured_once`, `a_queue_is_announced_on_the_thread_that_registered_it_last` |
//! | 4 | Envoy's order of callbacks, or the specification's | `the_callbacks_of_a_whole_exchange_come_in_the_order_of_envoy`, `the_order_of_the_specification_can_be_chosen` |
//! | 5 | State to assert on, and every host call | `the_journal_tells_fuel_memory_and_host_calls_per_callback` |
//! | 6 | A virtual clock that fires ticks | `ticks_fire_each_period_on_every_thread_with_the_time_they_are_due` |
//! | 7 | HTTP calls: answers, resets, timeouts, refusals, out of order, too late | `a_call_without_an_answer_times_out_as_a_504`, `answers_may_come_out_of_order`, `an_answer_to_a_root_that_is_gone_is_not_delivered` |
//! | 8 | gRPC calls and streams | `a_grpc_stream_gives_metadata_messages_and_its_status` |
//! | 9 | Header maps with repeated names and any bytes | `add_appends_replace_collapses_and_remove_takes_all`, `a_value_is_that_of_the_first_line_and_any_bytes_pass` |
//! | 10 | Properties in Envoy's encodings, each in its phases | `attributes_exist_in_the_phases_in_which_envoy_has_them` |
//! | 11 | Endings, local replies, streams that are only logged, WebSockets, trailers, retries, filters of a cluster | `every_ending_shows_its_attributes_and_its_reply`, `a_stream_the_filter_never_saw_is_created_and_logged_only`, `a_websocket_lives_until_its_connection_closes`, `a_filter_of_the_cluster_has_a_context_for_each_attempt_and_no_log` |
//! | 12 | Versions of Envoy | `another_environment_is_another_vm_since_1_40_and_the_first_ones_before`, `an_old_envoy_has_no_reload` |
//! | 13 | The imports a version has | `an_old_envoy_refuses_an_import_a_new_one_has` |
//! | 14 | Traps and failure policies | `each_policy_decides_for_the_stream_that_trapped_and_for_later_ones`, `a_reload_makes_a_new_vm_after_the_back_off` |
//! | 15 | Refused configurations | `a_refused_configuration_stops_the_start_and_shows_the_log` |
//! | 16 | Hostile headers and failing host calls | `hostile_headers_are_passed_on_unharmed`, `a_fault_answers_instead_of_the_host` |
//! | 17 | Fuel, memory, leaks | `a_loop_without_end_runs_out_of_fuel`, `a_hundred_thousand_requests_leave_no_context_and_no_memory_behind` |
//! | 18 | New Relic's Trace API, Event API and OTLP receiver | `each_interface_refuses_with_its_own_status`, `spans_of_opentelemetry_are_the_same_as_json_and_as_protobuf` |
//! | 19 | The proxy's own tracer, and several hops | `the_tracer_of_the_proxy_overwrites_what_the_filter_wrote`, `what_leaves_one_proxy_enters_the_next` |
//! | 20 | A comparison with real Envoys | `envoy/tests/truth` |
//! | 21 | Snapshots and measurements | `a_snapshot_is_the_story_of_a_stream_as_text`, `a_load_tells_what_one_request_costs_while_others_are_open` |
//!
//! # Where it differs from Envoy
//!
//! - TCP filters and HTTP metadata are not played.
//! - Headers the connection manager and the router add (`date`, `server`,
//!   `x-envoy-expected-rq-timeout-ms`) are not added; `Envoy::change_request_headers` can.
//! - A reply of the proxy to a gRPC request is not turned into `grpc-status`.
//! - Parts of a protobuf property, such as `metadata.filter_metadata.x`, exist when a test sets
//!   them by their full path.
//! - `FailurePolicy::Reload` waits for exactly one second: Envoy adds jitter.

mod abi;
mod attributes;
mod bench;
mod clock;
mod envoy;
mod error;
mod expression;
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
#[cfg(feature = "newrelic")]
pub mod newrelic;
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
pub use bench::{Cost, Load};
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
