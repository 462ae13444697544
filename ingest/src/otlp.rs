//! Spans as OpenTelemetry sends them: an `ExportTraceServiceRequest` as protobuf or as JSON.
//!
//! Fields of a span that New Relic keeps as attributes get the names they have there (docs.newrelic.com, "OTLP traces").

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{self as otlp, ScopeSpans};
use prost::Message as _;
use serde_json::Value;

use crate::Span;

/// Reads a protobuf body; `None` when it is none, or an id has a wrong length or is all zeros.
pub(super) fn from_protobuf(body: &[u8]) -> Option<Vec<Span>> {
    spans(&ExportTraceServiceRequest::decode(body).ok()?)
}

/// Reads a JSON body; `None` as for [`from_protobuf`].
pub(super) fn from_json(body: &[u8]) -> Option<Vec<Span>> {
    spans(&serde_json::from_slice(body).ok()?)
}

fn spans(request: &ExportTraceServiceRequest) -> Option<Vec<Span>> {
    let mut spans = Vec::new();
    for resource_spans in &request.resource_spans {
        let resource = resource_spans.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        for scope_spans in &resource_spans.scope_spans {
            let shared = shared(resource, scope_spans);
            for span in &scope_spans.spans {
                spans.push(read(span, shared.clone())?);
            }
        }
    }
    Some(spans)
}

/// What all spans of a scope have: the attributes of the resource, and over them those of the scope.
fn shared(resource: &[KeyValue], scope_spans: &ScopeSpans) -> BTreeMap<String, Value> {
    let mut attributes = attributes(resource);
    if let Some(InstrumentationScope { name, version, attributes: own, .. }) = &scope_spans.scope {
        attributes.extend(self::attributes(own));
        attributes.insert("otel.library.name".to_owned(), name.clone().into());
        attributes.insert("otel.library.version".to_owned(), version.clone().into());
    }
    attributes
}

fn read(span: &otlp::Span, shared: BTreeMap<String, Value>) -> Option<Span> {
    let mut attributes = shared;
    attributes.extend(self::attributes(&span.attributes));
    let mut put = |name: &str, value: &str| attributes.insert(name.to_owned(), value.into());
    put("span.kind", kind(span.kind()));
    if !span.trace_state.is_empty() {
        put("w3c.tracestate", &span.trace_state);
    }
    if let Some(status) = &span.status {
        put("otel.status_code", status_code(status.code()));
        put("otel.status_description", &status.message);
    }
    Some(Span {
        trace_id: hex(&span.trace_id, 16)?,
        id: hex(&span.span_id, 8)?,
        parent_id: if span.parent_span_id.is_empty() { None } else { Some(hex(&span.parent_span_id, 8)?) },
        name: Some(span.name.clone()),
        start_ns: Some(span.start_time_unix_nano),
        duration_ms: Some(milliseconds(span.end_time_unix_nano.checked_sub(span.start_time_unix_nano)?)),
        attributes,
    })
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "unspecified",
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

fn status_code(code: StatusCode) -> &'static str {
    match code {
        StatusCode::Unset => "UNSET",
        StatusCode::Ok => "OK",
        StatusCode::Error => "ERROR",
    }
}

/// An id in lowercase hex; `None` for another length, or all zeros.
fn hex(id: &[u8], len: usize) -> Option<String> {
    let is_valid = id.len() == len && id.iter().any(|byte| *byte != 0);
    is_valid.then(|| id.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn milliseconds(nanoseconds: u64) -> f64 {
    std::time::Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, Value> {
    let value = |entry: &KeyValue| json(entry.value.as_ref()?.value.as_ref()?);
    list.iter().filter_map(|entry| Some((entry.key.clone(), value(entry)?))).collect()
}

/// Texts, numbers, truth values, and lists of them; what New Relic does not keep is left out.
fn json(value: &AnyValue) -> Option<Value> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "bytes, maps and references to a dictionary are not kept")]
    match value {
        AnyValue::StringValue(text) => Some(text.clone().into()),
        AnyValue::BoolValue(truth) => Some((*truth).into()),
        AnyValue::IntValue(number) => Some((*number).into()),
        AnyValue::DoubleValue(number) => serde_json::Number::from_f64(*number).map(Value::Number),
        AnyValue::ArrayValue(list) => list.values.iter().map(|item| json(item.value.as_ref()?)).collect(),
        _ => None,
    }
}
