//! Requests of each role with each outcome.

use std::collections::BTreeMap;

use host_tests::{Cost, Envoy, Load, Result};
use serde_json::json;

use super::{JOURNAL_MAX, Measured, PAYLOAD, PLACES, REQUESTS, RESPONSE, TRACESTATE, setup};
use crate::support::{REQUEST, Setup, TRACEPARENT, encode, event_api, module};

/// The key of Cross Application Tracing, and what an agent sends under it.
const CAT_KEY: &str = "f00dcafe1234";
const CAT_CALLER: &str = "4002#55";
const CAT_TRANSACTION: &str = r#"["9f8e7d6c5b4a3921",false,"9f8e7d6c5b4a3921","fffeef37"]"#;

pub(super) fn measure() -> Result<Vec<Measured>> {
    let mut all = Vec::new();
    for role in ["inbound", "outbound", "gateway"] {
        let unlimited = setup(role, "always_on").with("span_events.max_samples_stored", "unlimited");
        let excluding = setup(role, "always_on").with("exclude", json!([{ "path": "/cart/*" }]));
        for (outcome, setup, request) in [
            ("unsampled", setup(role, "always_off"), traced()),
            ("sampled", setup(role, "always_on"), traced()),
            ("sampled, unlimited", unlimited, traced()),
            ("excluded", excluding, traced()),
            ("CAT", cat(role), cat_request()),
        ] {
            let mut envoy = setup.builder().journal_max(JOURNAL_MAX).start()?;
            all.extend(by_callback(&mut envoy, &format!("{role}, {outcome}"), &request)?);
        }
    }
    all.extend(by_callback(&mut passing_through()?, "wrong configuration, passed through", &traced())?);
    Ok(all)
}

/// The request of a caller with an agent: twelve headers at the proxy.
pub(super) fn traced() -> Vec<(&'static str, String)> {
    let tracing =
        [("traceparent", TRACEPARENT.to_owned()), ("tracestate", TRACESTATE.to_owned()), ("newrelic", encode(PAYLOAD))];
    plain().into_iter().chain(tracing).collect()
}

/// The same without tracing headers.
pub(super) fn plain() -> Vec<(&'static str, String)> {
    let more = [("accept", "*/*"), ("accept-encoding", "gzip, deflate, br"), ("x-forwarded-proto", "https")];
    REQUEST.into_iter().chain(more).map(|(name, value)| (name, value.to_owned())).collect()
}

/// Cross Application Tracing instead of distributed tracing, with what it records.
fn cat(role: &str) -> Setup {
    Setup::role(role)
        .with("distributed_tracing.enabled", false)
        .with("cross_application_tracer.enabled", true)
        .with("cross_application_tracer.cross_process_id", "4001#90210")
        .with("cross_application_tracer.encoding_key.value", CAT_KEY)
        .with("cross_application_tracer.trusted_account_ids", json!(["4001", "4002"]))
        .with("exporters", json!({ "event_api": event_api() }))
        .with("transaction_events.max_samples_stored", PLACES)
}

fn cat_request() -> Vec<(&'static str, String)> {
    let mut request = plain();
    request
        .extend([("x-newrelic-id", obfuscated(CAT_CALLER)), ("x-newrelic-transaction", obfuscated(CAT_TRANSACTION))]);
    request
}

/// As CAT's headers carry text: base64 of the bytes under a repeated key.
fn obfuscated(text: &str) -> String {
    encode(text.bytes().zip(CAT_KEY.bytes().cycle()).map(|(byte, key)| byte ^ key).collect::<Vec<_>>())
}

/// A proxy whose operator prefers no tracing to no requests.
fn passing_through() -> Result<Envoy> {
    let plugin = Setup::role("nonsense").plugin().env("NEW_RELIC_INVALID_CONFIG", "pass_through");
    Envoy::builder(&module()).plugin(plugin).journal_max(JOURNAL_MAX).start()
}

fn by_callback(envoy: &mut Envoy, request: &str, headers: &[(&'static str, String)]) -> Result<Vec<Measured>> {
    let load = Load { background: 0, requests: REQUESTS };
    load.run(envoy, headers, RESPONSE)?;
    let costs = load.run_by_callback(envoy, headers, RESPONSE)?;
    Ok(grouped(&costs)
        .into_iter()
        .map(|(callback, cost)| Measured::new(format!("{request}: {callback}"), cost))
        .collect())
}

/// The callbacks that a stream has for being one are taken together.
fn grouped(costs: &BTreeMap<&'static str, Cost>) -> Vec<(&'static str, Cost)> {
    let names = ["request_headers", "response_headers", "log", "creation and deletion"];
    let group = |callback: &str| names.into_iter().find(|name| callback.ends_with(name)).unwrap_or(names[3]);
    let cost = |name| {
        let mut sum = Cost::default();
        costs.iter().filter(|(callback, _)| group(callback) == name).for_each(|(_, cost)| sum += *cost);
        sum
    };
    names.into_iter().map(|name| (name, cost(name))).collect()
}
