//! OTLP spans as JSON: ids in hexadecimal, 64-bit integers as text, enumerations as numbers.

use alloc::vec::Vec;

use super::{STATUS_ERROR, attributes, flags, kind, parent};
use crate::export::common::{COMMON_VALUE_CHARS_MAX, Common, PROVIDER, VERSION};
use crate::export::json;
use crate::export::limits::{Limits, TooLarge};
use crate::record::{OtlpStatus, SpanRecord, Value};

/// What stands before the spans of a body.
pub fn prefix(common: &Common) -> Vec<u8> {
    let mut out = b"{\"resourceSpans\":[{\"resource\":{\"attributes\":[".to_vec();
    for (position, (name, value)) in common.open_telemetry().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        key_value(&mut out, name, Value::Text(value.as_bytes()), COMMON_VALUE_CHARS_MAX);
    }
    out.extend_from_slice(b"]},\"scopeSpans\":[{\"scope\":{\"name\":");
    json::string(&mut out, PROVIDER.as_bytes(), COMMON_VALUE_CHARS_MAX);
    out.extend_from_slice(b",\"version\":");
    json::string(&mut out, VERSION.as_bytes(), COMMON_VALUE_CHARS_MAX);
    out.extend_from_slice(b"},\"spans\":[");
    out
}

/// What stands behind the spans of a body.
pub const SUFFIX: &[u8] = b"]}]}]}";

/// Appends one span object.
///
/// # Errors
/// [`TooLarge`] when it exceeds `limits.bytes_max`; `out` then ends with a part of it.
pub fn span(out: &mut Vec<u8>, record: &SpanRecord<'_>, limits: &Limits) -> Result<(), TooLarge> {
    let start = out.len();
    out.extend_from_slice(b"{\"traceId\":\"");
    out.extend_from_slice(&record.trace.id.to_hex());
    out.extend_from_slice(b"\",\"spanId\":\"");
    out.extend_from_slice(&record.span_id.to_hex());
    out.push(b'"');
    if let Some(parent) = parent(record).0 {
        out.extend_from_slice(b",\"parentSpanId\":\"");
        out.extend_from_slice(&parent.to_hex());
        out.push(b'"');
    }
    if !record.trace_state.is_empty() {
        out.extend_from_slice(b",\"traceState\":");
        json::string(out, record.trace_state, limits.value_chars_max);
    }
    fields(out, record, limits);
    out.extend_from_slice(b",\"attributes\":[");
    for (position, (name, value)) in attributes(record, limits).enumerate() {
        if position > 0 {
            out.push(b',');
        }
        key_value(out, name, value, limits.value_chars_max);
        limits.check(out.len() - start)?;
    }
    out.push(b']');
    status(out, record.otlp_status, limits.value_chars_max);
    out.push(b'}');
    limits.check(out.len() - start)
}

fn fields(out: &mut Vec<u8>, record: &SpanRecord<'_>, limits: &Limits) {
    out.extend_from_slice(b",\"flags\":");
    json::uint(out, u64::from(flags(record)));
    out.extend_from_slice(b",\"name\":");
    json::string(out, record.otlp_name, limits.value_chars_max);
    out.extend_from_slice(b",\"kind\":");
    json::uint(out, u64::from(kind(record.kind)));
    out.extend_from_slice(b",\"startTimeUnixNano\":\"");
    json::uint(out, record.start_ns);
    out.extend_from_slice(b"\",\"endTimeUnixNano\":\"");
    json::uint(out, record.start_ns.saturating_add(record.duration_ns));
    out.push(b'"');
}

fn status(out: &mut Vec<u8>, status: OtlpStatus<'_>, chars_max: usize) {
    let OtlpStatus::Error(message) = status else { return };
    out.extend_from_slice(b",\"status\":{");
    if let Some(message) = message {
        out.extend_from_slice(b"\"message\":");
        json::string(out, message, chars_max);
        out.push(b',');
    }
    out.extend_from_slice(b"\"code\":");
    json::uint(out, u64::from(STATUS_ERROR));
    out.push(b'}');
}

fn key_value(out: &mut Vec<u8>, name: &str, value: Value<'_>, chars_max: usize) {
    out.extend_from_slice(b"{\"key\":");
    json::string(out, name.as_bytes(), usize::MAX);
    let (kind, quoted): (&[u8], _) = match value {
        Value::Text(_) => (b"stringValue", false),
        Value::Int(_) => (b"intValue", true),
        Value::Float(_) | Value::Priority(_) => (b"doubleValue", false),
        Value::Bool(_) => (b"boolValue", false),
    };
    out.extend_from_slice(b",\"value\":{\"");
    out.extend_from_slice(kind);
    out.extend_from_slice(if quoted { b"\":\"" } else { b"\":" });
    json::value(out, value, chars_max);
    out.extend_from_slice(if quoted { b"\"}}" } else { b"}}" });
}
