//! What is recorded of a request: spans and transactions as they leave the real module, for every way in which a
//! request can end, and every source that an attribute can have.
//!
//! Sources: New Relic's agents and attribute dictionary, its Trace API and Event API documentation, OpenTelemetry's
//! HTTP conventions, and Envoy's attributes and response flags.

#[path = "../support/mod.rs"]
mod support;

mod attributes;
mod endings;
mod golden;
mod grpc;
mod harness;
mod log_context;
mod names;
mod protobuf;
mod timing;
mod workload;
