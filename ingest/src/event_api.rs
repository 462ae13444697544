//! Custom events of the Event API: one flat object, or an array of them.
//!
//! Source: docs.newrelic.com, "Introduction to the Event API".

use serde_json::{Map, Value};

use crate::{Contents, Event, Problem, attributes_of};

/// Timestamps from here on are milliseconds; as seconds they would be in the year 5138.
const FIRST_MILLISECONDS: u64 = 100_000_000_000;

/// Reads a body; `None` when it has another shape.
pub(super) fn decode(body: &[u8], account_id: &str) -> Option<Contents> {
    let events = match serde_json::from_slice(body).ok()? {
        Value::Array(events) => events,
        event @ Value::Object(_) => vec![event],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    };
    let mut contents = Contents::default();
    for event in &events {
        match event.as_object().ok_or(Problem::Shape).and_then(|event| read(event, account_id)) {
            Ok(event) => contents.events.push(event),
            Err(problem) => contents.problems.push(problem),
        }
    }
    Some(contents)
}

fn read(event: &Map<String, Value>, account_id: &str) -> Result<Event, Problem> {
    let mut attributes = attributes_of(event).ok_or(Problem::Attribute)?;
    let event_type = match attributes.remove("eventType") {
        Some(Value::String(name)) if name.starts_with(|first: char| first.is_ascii_alphabetic()) => name,
        _ => return Err(Problem::EventType),
    };
    let timestamp_ms = attributes.remove("timestamp").map(|value| timestamp_ms(&value)).transpose()?;
    Ok(Event { account_id: account_id.to_owned(), event_type, timestamp_ms, attributes })
}

fn timestamp_ms(value: &Value) -> Result<u64, Problem> {
    let number = value.as_u64().ok_or(Problem::Timestamp)?;
    Ok(if number < FIRST_MILLISECONDS { number * 1000 } else { number })
}
