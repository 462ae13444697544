//! OTLP spans (opentelemetry-proto `trace/v1/trace.proto`; OTLP specification, "JSON Protobuf Encoding").
//!
//! ```text
//! ExportTraceServiceRequest { 1 resource_spans }
//! ResourceSpans             { 1 resource, 2 scope_spans }
//! ScopeSpans                { 1 scope, 2 spans }
//! Span   { 1 trace_id, 2 span_id, 3 trace_state, 4 parent_span_id, 5 name, 6 kind, 7 start_time_unix_nano,
//!          8 end_time_unix_nano, 9 attributes, 15 status, 16 flags }
//! Status { 2 message, 3 code }
//! ```
//! The JSON form has the same fields in lowerCamelCase, ids in hexadecimal and 64-bit integers as text.

pub mod json;
pub mod partial_success;
pub mod protobuf;

use super::limits::{Limits, Naming, kept};
use crate::id::{ParentId, SpanId};
use crate::record::{SpanKind, SpanRecord, Value};

/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: u8 = 2;
/// Bit 0 of `flags`: the W3C flag `sampled`.
const FLAG_SAMPLED: u32 = 1;
/// The attribute that takes a parent id which is no span id of OpenTelemetry's.
const PARENT_ID: &str = "parent.id";

/// `SPAN_KIND_SERVER` or `SPAN_KIND_CLIENT`.
fn kind(kind: SpanKind) -> u8 {
    match kind {
        SpanKind::Server => 2,
        SpanKind::Client => 3,
    }
}

fn flags(record: &SpanRecord<'_>) -> u32 {
    if record.sampled { FLAG_SAMPLED } else { 0 }
}

/// The parent as a span id; or, when a `newrelic` header brought something else, its text.
fn parent<'a>(record: &SpanRecord<'a>) -> (Option<SpanId>, Option<&'a str>) {
    match record.parent {
        None => (None, None),
        Some(ParentId::Span(id)) => (Some(*id), None),
        Some(ParentId::Text(text)) => match span_id(text) {
            Some(id) => (Some(id), None),
            None => (None, Some(text)),
        },
    }
}

fn span_id(text: &str) -> Option<SpanId> {
    let mut digits: [u8; 16] = text.as_bytes().try_into().ok()?;
    digits.make_ascii_lowercase();
    SpanId::from_hex(&digits)
}

/// The attributes that go out, a foreign parent id first.
fn attributes<'a>(record: &SpanRecord<'a>, limits: &Limits) -> impl Iterator<Item = (&'a str, Value<'a>)> {
    let foreign_parent = parent(record).1.map(|text| (PARENT_ID, Value::Text(text.as_bytes())));
    let room = limits.attributes_max.saturating_sub(usize::from(foreign_parent.is_some()));
    foreign_parent
        .into_iter()
        .chain(kept(record.attributes, Naming::OpenTelemetry, room).map(|kept| (kept.name, kept.value)))
}
