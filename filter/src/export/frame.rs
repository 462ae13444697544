//! What a format puts around the records of one request.

use alloc::vec::Vec;

use super::batch::{BATCH_BYTES_MAX, RECORD_BYTES_MAX};
use super::common::Common;
use super::limits::{ATTRIBUTES_MAX, Limits, SHORT_VALUE_CHARS_MAX, TooLarge, VALUE_CHARS_MAX};
use super::{event_api, otlp, trace_api};
use crate::config::OtlpEncoding;
use crate::record::{SpanRecord, TransactionRecord};

/// How spans are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanFormat {
    /// The Trace API's `newrelic` format.
    TraceApi,
    /// OTLP.
    Otlp(OtlpEncoding),
}

impl SpanFormat {
    /// Appends one encoded span, with the separator that stands between spans. One that is too large is encoded
    /// again with shorter texts.
    ///
    /// # Errors
    /// [`TooLarge`] when that did not help either; `out` is then as before.
    pub fn encode(self, out: &mut Vec<u8>, record: &SpanRecord<'_>, room: &Room) -> Result<(), TooLarge> {
        shortened(out, room, |out, limits| match self {
            Self::TraceApi => trace_api::span(out, record, limits),
            Self::Otlp(OtlpEncoding::Json) => otlp::json::span(out, record, limits),
            Self::Otlp(OtlpEncoding::Protobuf) => otlp::protobuf::span(out, record, limits),
        })?;
        if self != Self::Otlp(OtlpEncoding::Protobuf) {
            out.push(SEPARATOR);
        }
        Ok(())
    }

    /// The frame of a request with such spans.
    pub fn frame(self, common: &Common) -> Frame {
        match self {
            Self::TraceApi => Frame::Json { prefix: trace_api::prefix(common), suffix: trace_api::SUFFIX },
            Self::Otlp(OtlpEncoding::Json) => {
                Frame::Json { prefix: otlp::json::prefix(common), suffix: otlp::json::SUFFIX }
            }
            Self::Otlp(OtlpEncoding::Protobuf) => Frame::Protobuf(otlp::protobuf::Envelope::new(common)),
        }
    }

    /// What a span may take.
    pub fn room(self, common: &Common) -> Room {
        let repeated = match self {
            Self::TraceApi => common.new_relic().count(),
            Self::Otlp(_) => common.open_telemetry().count(),
        };
        Room { attributes: ATTRIBUTES_MAX.saturating_sub(repeated), bytes: RECORD_BYTES_MAX }
    }
}

/// Appends one encoded event, as [`SpanFormat::encode`] does a span.
///
/// # Errors
/// [`TooLarge`] when shorter texts did not help; `out` is then as before.
pub fn encode_transaction(
    out: &mut Vec<u8>,
    record: &TransactionRecord<'_>,
    app_name: &str,
    room: &Room,
) -> Result<(), TooLarge> {
    shortened(out, room, |out, limits| event_api::transaction(out, record, app_name, limits))?;
    out.push(SEPARATOR);
    Ok(())
}

/// The frame of a request with events.
pub fn event_frame() -> Frame {
    Frame::Json { prefix: event_api::PREFIX.to_vec(), suffix: event_api::SUFFIX }
}

/// JSON's separator stands behind every record, and the frame takes the last one off: so any run of records is one
/// slice.
const SEPARATOR: u8 = b',';

/// What one record may take.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Attributes.
    pub attributes: usize,
    /// Bytes, the separator included.
    pub bytes: usize,
}

impl Room {
    /// A record by itself, as in a line of the log.
    pub const ALONE: Self = Self { attributes: ATTRIBUTES_MAX, bytes: RECORD_BYTES_MAX };

    fn limits(&self, value_chars_max: usize) -> Limits {
        Limits { value_chars_max, attributes_max: self.attributes, bytes_max: self.bytes.saturating_sub(1) }
    }
}

fn shortened(
    out: &mut Vec<u8>,
    room: &Room,
    mut write: impl FnMut(&mut Vec<u8>, &Limits) -> Result<(), TooLarge>,
) -> Result<(), TooLarge> {
    let start = out.len();
    let mut result = Ok(());
    for value_chars_max in [VALUE_CHARS_MAX, SHORT_VALUE_CHARS_MAX] {
        out.truncate(start);
        result = write(out, &room.limits(value_chars_max));
        if result.is_ok() {
            return result;
        }
    }
    out.truncate(start);
    result
}

/// What stands around the records.
#[derive(Clone, Debug)]
pub enum Frame {
    /// JSON text before the first and behind the last record.
    Json {
        /// Before.
        prefix: Vec<u8>,
        /// Behind.
        suffix: &'static [u8],
    },
    /// Messages around the records, whose lengths depend on them.
    Protobuf(otlp::protobuf::Envelope),
}

impl Frame {
    /// Replaces `out` by the body of a request with these records.
    pub fn body(&self, records: &[u8], out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::Json { prefix, suffix } => {
                out.extend_from_slice(prefix);
                out.extend_from_slice(records.strip_suffix(&[SEPARATOR]).unwrap_or(records));
                out.extend_from_slice(suffix);
            }
            Self::Protobuf(envelope) => envelope.body(out, records),
        }
    }

    /// Bytes of records that one request takes.
    pub fn records_bytes_max(&self) -> usize {
        BATCH_BYTES_MAX.saturating_sub(match self {
            Self::Json { prefix, suffix } => prefix.len() + suffix.len(),
            Self::Protobuf(envelope) => envelope.bytes_max(),
        })
    }

    /// `content-type` of the body.
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Json { .. } => "application/json",
            Self::Protobuf(_) => "application/x-protobuf",
        }
    }
}
