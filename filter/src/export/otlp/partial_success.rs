//! What a successful answer of an OTLP receiver may say about spans that it rejected nevertheless: they are lost, and
//! must not be sent again (OTLP specification, "Partial Success").
//!
//! ```text
//! ExportTraceServiceResponse { 1 partial_success }
//! ExportTracePartialSuccess  { 1 rejected_spans }
//! ```

use crate::config::OtlpEncoding;
use crate::export::protobuf::{FieldValue, take_field};
use crate::json;

/// An answer that is longer tells of something else.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How many spans were rejected. 0 for an answer that cannot be read: the status alone counts then.
pub fn rejected_spans(encoding: OtlpEncoding, body: &[u8]) -> usize {
    if body.is_empty() || body.len() > BODY_BYTES_MAX {
        return 0;
    }
    let rejected = match encoding {
        OtlpEncoding::Protobuf => from_protobuf(body),
        OtlpEncoding::Json => from_json(body),
    };
    rejected.and_then(|spans| usize::try_from(spans).ok()).unwrap_or(0)
}

fn from_protobuf(body: &[u8]) -> Option<u64> {
    let FieldValue::Bytes(partial_success) = field(body, 1)? else { return None };
    let FieldValue::Varint(rejected) = field(partial_success, 1)? else { return None };
    // The field is signed: a negative number makes no sense, and is not a large one.
    u64::try_from(rejected.cast_signed()).ok()
}

fn field(message: &[u8], number: u64) -> Option<FieldValue<'_>> {
    let mut rest = message;
    core::iter::from_fn(|| take_field(&mut rest)).find(|(found, _)| *found == number).map(|(_, value)| value)
}

/// 64-bit integers are text in this form, but a reader has to take numbers too.
fn from_json(body: &[u8]) -> Option<u64> {
    let answer = json::parse(body).ok()?;
    let rejected = answer.get("partialSuccess")?.get("rejectedSpans")?;
    rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
    use prost::Message;

    #[test]
    fn both_forms_tell_how_many() {
        let error_message = "no".to_owned();
        let partial_success = Some(ExportTracePartialSuccess { rejected_spans: 300, error_message });
        let body = ExportTraceServiceResponse { partial_success }.encode_to_vec();
        assert_eq!(rejected_spans(OtlpEncoding::Protobuf, &body), 300);
        for body in [r#"{"partialSuccess":{"rejectedSpans":"300"}}"#, r#"{"partialSuccess":{"rejectedSpans":300}}"#] {
            assert_eq!(rejected_spans(OtlpEncoding::Json, body.as_bytes()), 300);
        }
    }

    #[test]
    fn what_cannot_be_read_rejects_nothing() {
        let nested = "[".repeat(10_000);
        for body in ["", "{}", "null", r#"{"partialSuccess":{"rejectedSpans":"-1"}}"#, "<html>", &nested] {
            assert_eq!(rejected_spans(OtlpEncoding::Json, body.as_bytes()), 0, "{body}");
        }
        let negative = b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        for body in [&b""[..], negative, b"\x0a", b"\x0a\xff", b"\x08\x05", b"\x0a\x02\x0a\x00", b"{}"] {
            assert_eq!(rejected_spans(OtlpEncoding::Protobuf, body), 0, "{body:?}");
        }
    }
}
