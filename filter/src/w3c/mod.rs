//! W3C Trace Context: `traceparent` and `tracestate`.

pub mod traceparent;
pub mod tracestate;
