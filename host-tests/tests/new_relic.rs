//! What the module posts, as New Relic's public interfaces take it.
#![cfg(feature = "newrelic")]

use std::time::Duration;

use host_tests::newrelic::{Interface, Receiver};
use host_tests::{Envoy, Plugin, Result, guest};
use serde_json::{Value, json};

const KEY: &str = "license-key";
const TRACE: &str = "c0a8017e5d3b4f2226e1d47b08aa3f5c";
const PARENT: &str = "b7d20c4e19f86a35";

/// Sends one sampled request through a gateway with these exporters, and gives what the receiver has after the flush.
fn posted(exporters: &Value) -> Result<Receiver> {
    let receiver = Receiver::with_key(KEY);
    let configuration = json!({
        "account_id": "4001", "trusted_account_key": "777", "primary_application_id": "90210", "app_name": "edge",
        "role": "gateway", "exporters": exporters,
        "distributed_tracing": { "sampler": { "remote_parent_sampled": "always_on" } },
    });
    let mut envoy = Envoy::builder(&guest::module("newrelic-tracing")?)
        .plugin(Plugin::new("tracing").configuration(configuration.to_string()))
        .serving_cluster("new-relic", Duration::from_millis(50), receiver.server())
        .start()?;
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let request = [(":method", "GET"), (":path", "/"), (":authority", "shop"), ("traceparent", &*traceparent)];
    envoy.stream().exchange(request, [(":status", "200")])?;
    envoy.advance(Duration::from_secs(10))?;
    assert_eq!(envoy.pending_calls(), []);
    assert_eq!((receiver.refusals(), receiver.problems()), (vec![], vec![]));
    Ok(receiver)
}

#[test]
fn spans_arrive_complete_by_way_of_every_interface_that_takes_them() -> Result<()> {
    let trace_api =
        |gzip: bool| json!({ "trace_api": { "cluster": "new-relic", "api_key": { "value": KEY }, "gzip": gzip } });
    let otlp = |encoding: &str| {
        let headers = json!({ "api-key": { "value": KEY } });
        json!({ "otlp": { "cluster": "new-relic", "headers": headers, "encoding": encoding } })
    };
    for exporters in [trace_api(true), trace_api(false), otlp("protobuf"), otlp("json")] {
        let spans = posted(&exporters)?.spans();
        let of_kind = |kind: &str| spans.iter().find(|span| span.attributes["span.kind"] == kind);
        let [Some(entry), Some(exit)] = ["server", "client"].map(of_kind) else { panic!("{exporters}: {spans:?}") };
        assert_eq!(spans.len(), 2, "{exporters}");
        assert_eq!([&*entry.trace_id, &*exit.trace_id], [TRACE; 2], "{exporters}");
        assert_eq!(entry.parent_id.as_deref(), Some(PARENT), "{exporters}");
        assert_eq!(exit.parent_id.as_ref(), Some(&entry.id), "{exporters}");
        for span in [entry, exit] {
            assert_eq!(span.attributes["service.name"], "edge", "{exporters}");
            assert!(span.name.is_some() && span.start_ns.is_some() && span.duration_ms.is_some(), "{exporters}");
        }
    }
    Ok(())
}

#[test]
fn transactions_arrive_as_events_of_the_account() -> Result<()> {
    let exporters = json!({ "event_api": { "cluster": "new-relic", "api_key": { "value": KEY } } });
    let receiver = posted(&exporters)?;
    let events = receiver.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&*events[0].account_id, &*events[0].event_type), ("4001", "Transaction"));
    assert_eq!(events[0].attributes["traceId"], TRACE);
    let account_id = "4001".to_owned();
    assert_eq!(receiver.posts()[0].interface, Some(Interface::EventApi { account_id }));
    Ok(())
}
