//! How the filter takes its configuration from Envoy, and what happens when it is wrong.

use envoy_demo::client::Request;
use serde_json::{Value, json};

use crate::harness::{ARRIVAL_MAX, Proxy, Setup, envoy_or_skip, spawn, tracing_everything};

fn wrong_configuration() -> Value {
    json!({
        "acount_id": "4001",
        "role": "sideways",
        "span_events": { "max_samples_stored": 20000 },
        "exporters": { "trace_api": { "cluster": "newrelic", "flush_interval_ms": 50 } },
    })
}

#[tokio::test]
async fn a_wrong_configuration_stops_envoy_and_every_fault_has_its_line() {
    let Some(envoy) = envoy_or_skip() else { return };
    let mut process = spawn(&envoy, &Setup::text(&wrong_configuration())).unwrap();
    let status = process.wait_for_exit().await.unwrap();
    assert!(!status.success());
    let log = process.log();
    for parts in [
        &["acount_id"][..],
        &["role", "sideways", "inbound"],
        &["span_events.max_samples_stored", "20000", "10000"],
        &["exporters.trace_api.flush_interval_ms", "50", "100"],
    ] {
        let line = log.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        assert!(line.is_some(), "no line with {parts:?} in\n{log}");
    }
}

#[tokio::test]
async fn a_license_key_that_is_missing_is_named_and_stops_envoy() {
    let Some(envoy) = envoy_or_skip() else { return };
    let setup = Setup { environment: json!({}), ..Setup::text(&tracing_everything()) };
    let mut process = spawn(&envoy, &setup).unwrap();
    assert!(!process.wait_for_exit().await.unwrap().success());
    let log = process.log();
    let line = log.lines().find(|line| line.contains("exporters.trace_api.api_key"));
    assert!(line.is_some_and(|line| line.contains("NEW_RELIC_LICENSE_KEY")), "{log}");
}

#[tokio::test]
async fn pass_through_starts_with_a_wrong_configuration_and_touches_nothing() {
    let Some(envoy) = envoy_or_skip() else { return };
    let setup = Setup::text(&wrong_configuration()).with_env("NEW_RELIC_INVALID_CONFIG", "pass_through");
    let proxy = Proxy::start(&envoy, &setup).await.unwrap();
    let sent = [("traceparent", "as it was"), ("tracestate", "a=1"), ("tracestate", "b=2"), ("newrelic", "x")];
    let request = sent.iter().fold(Request::get("app", "/"), |request, (name, value)| request.header(name, *value));
    assert_eq!(proxy.send(&request).await.status, 200);
    let mut seen = proxy.app.last_seen().lines;
    seen.retain(|(name, _)| name != "x-request-id");
    assert_eq!(seen, request.headers);
    let stats = proxy.envoy.stats().await.unwrap();
    assert_eq!(stats.value("newrelic.config_invalid"), 1);
}

#[tokio::test]
async fn a_struct_configures_the_filter_as_json_text_does() {
    let Some(envoy) = envoy_or_skip() else { return };
    let proxy = Proxy::start(&envoy, &Setup::fields(&tracing_everything())).await.unwrap();
    assert_eq!(proxy.send(&Request::get("app", "/")).await.status, 200);
    let seen = proxy.app.last_seen();
    let newrelic = seen.newrelic().expect("a newrelic header");
    assert_eq!((&newrelic["ac"], &newrelic["ap"], &newrelic["tk"]), (&json!("4001"), &json!("502"), &json!("4000")));
    let span = proxy.span_of(&seen.traceparent().unwrap().trace_id).await;
    assert_eq!((span.service(), span.kind()), ("app", "server"));
    let stats = proxy.envoy.stats_when(ARRIVAL_MAX, |stats| stats.value("newrelic.spans.exported") == 1).await.unwrap();
    assert_eq!((stats.value("newrelic.spans.exported"), stats.value("newrelic.config_invalid")), (1, 0));
}

#[tokio::test]
async fn an_empty_configuration_speaks_w3c_and_logs_the_span() {
    let Some(envoy) = envoy_or_skip() else { return };
    let proxy = Proxy::start(&envoy, &Setup::text(&json!({}))).await.unwrap();
    assert_eq!(proxy.send(&Request::get("app", "/logged")).await.status, 200);
    let seen = proxy.app.last_seen();
    let sent = seen.traceparent().expect("one traceparent");
    assert_eq!((seen.values("newrelic").len(), seen.values("tracestate").len()), (0, 0));
    let exported = |stats: &envoy_demo::stats::Stats| stats.value("newrelic.spans.exported") == 1;
    proxy.envoy.stats_when(ARRIVAL_MAX, exported).await.unwrap();
    let log = proxy.envoy.log();
    let line = log.lines().find(|line| line.contains("span {") && line.contains(&sent.trace_id));
    assert!(line.is_some_and(|line| line.contains(&sent.parent_id)), "{log}");
}
