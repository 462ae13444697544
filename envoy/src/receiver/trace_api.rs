//! The Trace API's `newrelic` format, version 1:
//!
//! ```text
//! [ { "common": { "attributes": { … } },                                            optional
//!     "spans":  [ { "id": "…", "trace.id": "…", "timestamp": ms, "attributes": { … } } ] } ]
//! ```
//!
//! Source: "Report New Relic-format traces via the Trace API" in New Relic's documentation.

use serde::Deserialize;

use super::store::{Attributes, SpanRecord, Store};

/// Attribute names that New Relic drops.
const RESTRICTED: [&str; 2] = ["entityGuid", "guid"];

#[derive(Deserialize)]
struct Batch {
    #[serde(default)]
    common: Common,
    spans: Vec<Span>,
}

#[derive(Deserialize, Default)]
struct Common {
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Deserialize)]
struct Span {
    id: String,
    #[serde(rename = "trace.id")]
    trace_id: String,
    #[serde(default)]
    timestamp: u64,
    #[serde(default)]
    attributes: Attributes,
}

/// Keeps the spans of one payload, or none of them when it is faulty.
pub(super) fn keep(store: &mut Store, json: &[u8]) -> Result<(), String> {
    let batches: Vec<Batch> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    for batch in batches {
        for span in batch.spans {
            store.add_span(span.into_record(&batch.common.attributes));
        }
    }
    Ok(())
}

impl Span {
    /// The span's own attributes win over the common ones.
    fn into_record(self, common: &Attributes) -> SpanRecord {
        let mut attributes = common.clone();
        attributes.extend(self.attributes);
        attributes.retain(|name, _| !RESTRICTED.contains(&name.as_str()));
        SpanRecord { id: self.id, trace_id: self.trace_id, timestamp_ms: self.timestamp, attributes }
    }
}
