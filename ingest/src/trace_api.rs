//! Spans in the format `newrelic` of the Trace API.
//!
//! ```text
//! body  = [ group, ... ]
//! group = { "common": { "attributes": {} } ?, "spans": [ span, ... ] }
//! span  = { "id", "trace.id", "timestamp" ?, "attributes": {} ? }
//! ```
//!
//! Source: docs.newrelic.com, "Report traces via the Trace API (New Relic format)".

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{Contents, Problem, Span, attributes_of};

/// Attributes that New Relic makes itself, and drops when they are sent.
const RESTRICTED: [&str; 2] = ["entityGuid", "guid"];

/// Reads a body; `None` when it has another shape.
pub(super) fn decode(body: &[u8]) -> Option<Contents> {
    let groups: Vec<Map<String, Value>> = serde_json::from_slice(body).ok()?;
    let mut contents = Contents::default();
    for group in &groups {
        let common = group.get("common").map_or_else(|| Some(Map::new()), |common| common.as_object().cloned())?;
        for span in group.get("spans")?.as_array()? {
            match read(span, &common) {
                Ok(span) => contents.spans.push(span),
                Err(problem) => contents.problems.push(problem),
            }
        }
    }
    Some(contents)
}

fn read(span: &Value, common: &Map<String, Value>) -> Result<Span, Problem> {
    let span = span.as_object().ok_or(Problem::Shape)?;
    let field = |name: &str| span.get(name).or_else(|| common.get(name));
    let text = |name: &str| field(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let mut attributes = shared(common.get("attributes"))?;
    attributes.extend(shared(span.get("attributes"))?);
    attributes.retain(|name, _| !RESTRICTED.contains(&name.as_str()));
    let duration = attributes.remove("duration.ms").map(|value| duration(&value)).transpose()?;
    Ok(Span {
        id: text("id").ok_or(Problem::SpanId)?,
        trace_id: text("trace.id").ok_or(Problem::TraceId)?,
        parent_id: take_text(&mut attributes, "parent.id")?,
        name: take_text(&mut attributes, "name")?,
        start_ns: field("timestamp").map(start_ns).transpose()?,
        duration_ms: duration,
        attributes,
    })
}

/// The members of `attributes`. A null means that the attribute is absent.
fn shared(attributes: Option<&Value>) -> Result<BTreeMap<String, Value>, Problem> {
    let Some(attributes) = attributes else { return Ok(BTreeMap::new()) };
    let mut object = attributes.as_object().ok_or(Problem::Attribute)?.clone();
    object.retain(|_, value| !value.is_null());
    attributes_of(&object).ok_or(Problem::Attribute)
}

fn take_text(attributes: &mut BTreeMap<String, Value>, name: &str) -> Result<Option<String>, Problem> {
    match attributes.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::Attribute),
    }
}

fn duration(value: &Value) -> Result<f64, Problem> {
    value.as_f64().filter(|milliseconds| *milliseconds >= 0.0).ok_or(Problem::Duration)
}

fn start_ns(timestamp: &Value) -> Result<u64, Problem> {
    timestamp.as_u64().and_then(|milliseconds| milliseconds.checked_mul(1_000_000)).ok_or(Problem::Timestamp)
}
