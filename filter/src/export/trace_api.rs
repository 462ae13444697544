//! The Trace API's `newrelic` format, version 1 (New Relic docs, "Report traces via the Trace API").
//!
//! ```text
//! body   = [{"common":{"attributes":{ATTRIBUTES}},"spans":[ span *( "," span ) ]}]
//! span   = {"id":TEXT,"trace.id":TEXT,"timestamp":MS,"attributes":{"name":TEXT,"duration.ms":NUMBER
//!          [,"parent.id":TEXT] *( "," NAME ":" VALUE )}}
//! ```
//! An absent `parent.id` marks the root of the trace.

use alloc::vec::Vec;

use super::common::{COMMON_VALUE_CHARS_MAX, Common};
use super::json;
use super::limits::{Limits, Naming, TooLarge, kept};
use crate::id::ParentId;
use crate::record::SpanRecord;

/// What stands before the spans of a body.
pub fn prefix(common: &Common) -> Vec<u8> {
    let mut out = b"[{\"common\":{\"attributes\":{".to_vec();
    for (position, (name, value)) in common.new_relic().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        json::name(&mut out, name);
        json::string(&mut out, value.as_bytes(), COMMON_VALUE_CHARS_MAX);
    }
    out.extend_from_slice(b"}},\"spans\":[");
    out
}

/// What stands behind the spans of a body.
pub const SUFFIX: &[u8] = b"]}]";

/// Appends one span object.
///
/// # Errors
/// [`TooLarge`] when it exceeds `limits.bytes_max`; `out` then ends with a part of it.
pub fn span(out: &mut Vec<u8>, record: &SpanRecord<'_>, limits: &Limits) -> Result<(), TooLarge> {
    let start = out.len();
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(&record.span_id.to_hex());
    out.extend_from_slice(b"\",\"trace.id\":");
    // As received, it is hexadecimal, too.
    json::quoted(out, record.trace.text(&record.trace.id.to_hex()));
    out.extend_from_slice(b",\"timestamp\":");
    json::uint(out, record.start_ns / 1_000_000);
    out.extend_from_slice(b",\"attributes\":{\"name\":");
    json::string(out, record.name, limits.value_chars_max);
    out.extend_from_slice(b",\"duration.ms\":");
    json::float(out, record.duration_ns as f64 / 1e6);
    if let Some(parent) = record.parent {
        out.extend_from_slice(b",\"parent.id\":");
        parent_id(out, parent, limits.value_chars_max);
    }
    let fields = if record.parent.is_some() { 3 } else { 2 };
    let attributes = kept(record.attributes, Naming::NewRelic, limits.attributes_max.saturating_sub(fields));
    json::members(out, start, attributes, limits)?;
    out.extend_from_slice(b"}}");
    limits.check(out.len() - start)
}

fn parent_id(out: &mut Vec<u8>, parent: &ParentId, chars_max: usize) {
    match parent {
        ParentId::Span(id) => json::quoted(out, &id.to_hex()),
        ParentId::Text(text) => json::string(out, text.as_bytes(), chars_max),
    }
}
