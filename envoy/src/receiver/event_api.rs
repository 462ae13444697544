//! The Event API's payload: one flat object, or an array of them, each with an `eventType`.
//!
//! Source: "Introduction to the Event API" in New Relic's documentation.

use serde::Deserialize;

use super::store::{Attributes, Store, Transaction};

#[derive(Deserialize)]
#[serde(untagged)]
enum Payload {
    Many(Vec<Attributes>),
    One(Attributes),
}

/// Keeps the `Transaction` events of one payload; a faulty one is refused as a whole.
pub(super) fn keep(store: &mut Store, json: &[u8]) -> Result<(), String> {
    let events = match serde_json::from_slice(json).map_err(|error| error.to_string())? {
        Payload::Many(events) => events,
        Payload::One(event) => vec![event],
    };
    check(&events)?;
    for attributes in events {
        if attributes["eventType"] == "Transaction" {
            store.add_transaction(Transaction { attributes });
        }
    }
    Ok(())
}

fn check(events: &[Attributes]) -> Result<(), String> {
    for event in events {
        if !event.get("eventType").is_some_and(serde_json::Value::is_string) {
            return Err("an event lacks its eventType".to_owned());
        }
        if let Some((name, _)) = event.iter().find(|(_, value)| value.is_object() || value.is_array()) {
            return Err(format!("the event attribute {name} is not flat"));
        }
    }
    Ok(())
}
