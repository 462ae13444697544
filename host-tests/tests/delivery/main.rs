//! What becomes of a record once it is offered to an exporter: batches, answers, retries, pauses, bounds, and the books
//! that account for each of them. Through the real module, with a virtual clock and a receiver that follows a script.
//!
//! Sources: New Relic's telemetry SDK specification (`communication.md`), its Trace API, Event API and OTLP
//! documentation, and the OTLP specification ("OTLP/HTTP Response").

#[path = "../support/mod.rs"]
mod support;

mod accounting;
mod answers;
mod batches;
mod harness;
mod memory;
mod retries;
mod shutdown;
mod trace_observer;
