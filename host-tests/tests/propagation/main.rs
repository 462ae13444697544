//! Which tracing headers are believed, what is sent on, and what is recorded of them: New Relic's rules for W3C Trace
//! Context and its own `newrelic` header, through the real module.
//!
//! Sources: W3C Trace Context, Level 1 and 2; New Relic's agents (Go, Java, Node, Python) and their shared fixtures
//! `trace_context.json` and `distributed_tracing.json`.

#[path = "../support/mod.rs"]
mod support;

mod emitting;
mod list_member;
mod metrics;
mod payload;
mod precedence;
mod recorded;
mod refused_streams;
mod roles;
mod traceparent;
mod tracestate;
mod trust;
mod worked_examples;
