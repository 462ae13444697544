//! OTLP spans as protobuf.

use alloc::vec::Vec;

use super::{STATUS_ERROR, attributes, flags, kind, parent};
use crate::export::common::{COMMON_VALUE_CHARS_MAX, Common, PROVIDER, VERSION};
use crate::export::limits::{Limits, TooLarge};
use crate::export::protobuf::{
    begin, bytes_field, double_field, end, field_header, fixed32_field, fixed64_field, string_field, varint_bytes,
    varint_field,
};
use crate::record::{OtlpStatus, SpanRecord, Value};

/// The parts of a body that are the same in every request.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Field 1 of `ResourceSpans`.
    resource: Vec<u8>,
    /// Field 1 of `ScopeSpans`.
    scope: Vec<u8>,
}

impl Envelope {
    /// Encodes them once.
    pub fn new(common: &Common) -> Self {
        let mut resource = Vec::new();
        let message = begin(&mut resource, 1);
        for (name, value) in common.open_telemetry() {
            key_value(&mut resource, 1, name, Value::Text(value.as_bytes()), COMMON_VALUE_CHARS_MAX);
        }
        end(&mut resource, message);
        let mut scope = Vec::new();
        let message = begin(&mut scope, 1);
        bytes_field(&mut scope, 1, PROVIDER.as_bytes());
        bytes_field(&mut scope, 2, VERSION.as_bytes());
        end(&mut scope, message);
        Self { resource, scope }
    }

    /// Appends a whole body; `spans` are fields 2 of `ScopeSpans`.
    pub fn body(&self, out: &mut Vec<u8>, spans: &[u8]) {
        let scope_spans_bytes = self.scope.len() + spans.len();
        // The tag of `scope_spans` takes one byte.
        let header_bytes = 1 + varint_bytes(scope_spans_bytes as u64);
        field_header(out, 1, self.resource.len() + header_bytes + scope_spans_bytes);
        out.extend_from_slice(&self.resource);
        field_header(out, 2, scope_spans_bytes);
        out.extend_from_slice(&self.scope);
        out.extend_from_slice(spans);
    }

    /// The most that [`Envelope::body`] adds to the spans.
    pub fn bytes_max(&self) -> usize {
        // Two tags, and two lengths of up to ten bytes.
        self.resource.len() + self.scope.len() + 2 * 11
    }
}

/// Appends one span: a field 2 of `ScopeSpans`.
///
/// # Errors
/// [`TooLarge`] when it exceeds `limits.bytes_max`; `out` then ends with a part of it.
pub fn span(out: &mut Vec<u8>, record: &SpanRecord<'_>, limits: &Limits) -> Result<(), TooLarge> {
    let start = out.len();
    let message = begin(out, 2);
    bytes_field(out, 1, &record.trace.id.as_u128().to_be_bytes());
    bytes_field(out, 2, &record.span_id.as_u64().to_be_bytes());
    if !record.trace_state.is_empty() {
        string_field(out, 3, record.trace_state, limits.value_chars_max);
    }
    if let Some(parent) = parent(record).0 {
        bytes_field(out, 4, &parent.as_u64().to_be_bytes());
    }
    string_field(out, 5, record.otlp_name, limits.value_chars_max);
    varint_field(out, 6, u64::from(kind(record.kind)));
    fixed64_field(out, 7, record.start_ns);
    fixed64_field(out, 8, record.start_ns.saturating_add(record.duration_ns));
    for (name, value) in attributes(record, limits) {
        key_value(out, 9, name, value, limits.value_chars_max);
        limits.check(out.len() - start)?;
    }
    status(out, record.otlp_status, limits.value_chars_max);
    fixed32_field(out, 16, flags(record));
    end(out, message);
    limits.check(out.len() - start)
}

fn status(out: &mut Vec<u8>, status: OtlpStatus<'_>, chars_max: usize) {
    let OtlpStatus::Error(text) = status else { return };
    let message = begin(out, 15);
    if let Some(text) = text {
        string_field(out, 2, text, chars_max);
    }
    varint_field(out, 3, u64::from(STATUS_ERROR));
    end(out, message);
}

fn key_value(out: &mut Vec<u8>, field: u32, name: &str, value: Value<'_>, chars_max: usize) {
    let pair = begin(out, field);
    bytes_field(out, 1, name.as_bytes());
    let any = begin(out, 2);
    match value {
        Value::Text(text) => string_field(out, 1, text, chars_max),
        Value::Bool(truth) => varint_field(out, 2, u64::from(truth)),
        // Negative numbers go as their 64 bits.
        Value::Int(number) => varint_field(out, 3, number.cast_unsigned()),
        Value::Float(number) => double_field(out, 4, number),
        Value::Priority(priority) => double_field(out, 4, priority.as_f64()),
    }
    end(out, any);
    end(out, pair);
}
