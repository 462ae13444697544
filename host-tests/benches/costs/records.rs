//! Records: what one more exporter costs a sampled request. The record is made for another exporter anyway, so that
//! the difference is to encode and to keep it.

use host_tests::{Cost, Result};
use serde_json::{Map, Value, json};

use super::requests::traced;
use super::{Measured, PLACES, otlp, request_cost};
use crate::support::{Setup, event_api, trace_api};

pub(super) fn measure() -> Result<Vec<Measured>> {
    let otlp = |encoding: &str| ("otlp", otlp(encoding));
    let log = ("log", json!({}));
    let trace_api = ("trace_api", trace_api());
    let event_api = ("event_api", event_api());
    let inbound = Setup::role("inbound").sampler("always_on").with("span_events.max_samples_stored", PLACES);
    let inbound = inbound.with("transaction_events.max_samples_stored", PLACES);
    let spans = inbound.clone().with("transaction_events.enabled", false);
    let unlimited = spans.clone().with("span_events.max_samples_stored", "unlimited");
    let transactions = inbound.with("span_events.enabled", false);
    let mut all = vec![made(&spans)?];
    for (name, setup, base, exporter) in [
        ("span for trace_api", &spans, &log, &trace_api),
        ("span for trace_api, unlimited", &unlimited, &log, &trace_api),
        ("span for otlp, protobuf", &spans, &log, &otlp("protobuf")),
        ("span for otlp, json", &spans, &log, &otlp("json")),
        ("span for log", &spans, &trace_api, &log),
        ("transaction for event_api", &transactions, &log, &event_api),
        ("transaction for log", &transactions, &event_api, &log),
    ] {
        let difference = cost(setup, &[base, exporter])? - cost(setup, &[base])?;
        all.push(Measured::new(name, difference));
    }
    Ok(all)
}

/// All that one span costs: reading what it tells, making it, encoding it for the Trace API.
fn made(spans: &Setup) -> Result<Measured> {
    let difference = cost(spans, &[&("trace_api", trace_api())])? - cost(spans, &[])?;
    Ok(Measured::new("span for trace_api alone, from the properties on", difference))
}

fn cost(setup: &Setup, exporters: &[&(&str, Value)]) -> Result<Cost> {
    let exporters: Map<String, Value> =
        exporters.iter().map(|(name, exporter)| ((*name).to_owned(), exporter.clone())).collect();
    request_cost(&setup.clone().with("exporters", exporters), traced())
}
