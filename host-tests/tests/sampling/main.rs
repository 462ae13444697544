//! Which traces are recorded, through the real module: the decision and where it shows, the targets of a process with
//! many workers, what is recorded of a partial trace, and who gets how much of a reservoir.
//!
//! Sources: New Relic's agents (Java `tracing/samplers`, Python `newrelic/core/samplers` and `core/node_mixin.py`,
//! Ruby `adaptive_sampler.rb`) and their shared fixtures; OpenTelemetry's `TraceIdRatioBased`.

mod adaptive;
mod decisions;
mod fallbacks;
mod granularity;
mod harness;
mod host_calls;
mod infinite_tracing;
mod process;
mod records;
mod reservoirs;
