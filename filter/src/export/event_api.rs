//! Events of type `Transaction` for the Event API (New Relic docs, "Introduction to the Event API").
//!
//! ```text
//! body  = [ event *( "," event ) ]
//! event = {"eventType":"Transaction","name":TEXT,"timestamp":MS,"duration":SECONDS,"appName":TEXT
//!         *( "," NAME ":" VALUE )}
//! ```
//! The API takes text values of 4096 characters; they are cut like a span's, one character earlier.

use alloc::vec::Vec;

use super::common::COMMON_VALUE_CHARS_MAX;
use super::json;
use super::limits::{Limits, Naming, TooLarge, kept};
use crate::record::TransactionRecord;

/// What stands before the events of a body.
pub const PREFIX: &[u8] = b"[";
/// What stands behind the events of a body.
pub const SUFFIX: &[u8] = b"]";
/// `eventType`, `name`, `timestamp`, `duration` and `appName` count as attributes.
const FIELDS: usize = 5;

/// Appends one event object.
///
/// # Errors
/// [`TooLarge`] when it exceeds `limits.bytes_max`; `out` then ends with a part of it.
pub fn transaction(
    out: &mut Vec<u8>,
    record: &TransactionRecord<'_>,
    app_name: &str,
    limits: &Limits,
) -> Result<(), TooLarge> {
    let start = out.len();
    out.extend_from_slice(b"{\"eventType\":\"Transaction\",\"name\":");
    json::string(out, record.name, limits.value_chars_max);
    out.extend_from_slice(b",\"timestamp\":");
    json::uint(out, record.start_ns / 1_000_000);
    out.extend_from_slice(b",\"duration\":");
    json::float(out, record.duration_ns as f64 / 1e9);
    out.extend_from_slice(b",\"appName\":");
    json::string(out, app_name.as_bytes(), COMMON_VALUE_CHARS_MAX);
    let attributes = kept(record.attributes, Naming::NewRelic, limits.attributes_max.saturating_sub(FIELDS));
    json::members(out, start, attributes, limits)?;
    out.push(b'}');
    limits.check(out.len() - start)
}
