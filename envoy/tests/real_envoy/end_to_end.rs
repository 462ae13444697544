//! The demo, on ports of its own: traces from the edge to the last service.

use envoy_demo::demo::{self, Demo};
use envoy_demo::mode::Mode;
use envoy_demo::paths;
use envoy_demo::ports::Ports;
use envoy_demo::receiver::SpanRecord;
use envoy_demo::verdict::{self, Check, Counts};

use crate::harness::{envoy_or_skip, fresh_dir};

async fn start(envoy: &std::path::Path) -> Demo {
    let module = paths::wasm_module().unwrap();
    Demo::start(Mode::DistributedTracing, Ports::free().unwrap(), envoy, &module, &fresh_dir()).await.unwrap()
}

fn failures(checks: Vec<Check>) -> Vec<String> {
    let failed = |check: Check| Some(format!("{}: {}", check.claim, check.fault?));
    checks.into_iter().filter_map(failed).collect()
}

#[tokio::test]
async fn every_scenario_of_the_demo_holds() {
    let Some(envoy) = envoy_or_skip() else { return };
    let demo = start(&envoy).await;
    let mut evidence = Vec::new();
    for scenario in demo::scenarios().unwrap() {
        let found = demo.run(scenario).await.unwrap();
        assert_eq!(failures(verdict::judge(&found)), [""; 0], "{}", found.scenario.title);
        evidence.push(found);
    }
    let totals = demo.totals(Counts::shown(&evidence), |_| true).await.unwrap();
    assert_eq!(failures(verdict::judge_totals(&totals)), [""; 0]);
    demo.stop().await.unwrap();
}

#[tokio::test]
async fn one_request_is_one_trace_from_the_edge_to_the_last_service() {
    let Some(envoy) = envoy_or_skip() else { return };
    let demo = start(&envoy).await;
    let evidence = demo.run(demo::scenarios().unwrap().swap_remove(0)).await.unwrap();
    let mut spans = evidence.spans;
    spans.sort_by_key(|span| span.timestamp_ms);
    let names: Vec<&str> = spans.iter().map(|span| span.text("name")).collect();
    for name in ["WebTransaction/Envoy/GET /checkout/*", "External/cart/envoy/GET", "External/bank.example/envoy/GET"] {
        assert!(names.contains(&name), "no {name} among {names:?}");
    }
    let entry_points = spans.iter().filter(|span| span.attributes.get("nr.entryPoint") == Some(&true.into()));
    assert_eq!(entry_points.count(), 4, "one for the gateway and each service");
    let of_bank = evidence.sightings.last().unwrap();
    let last: Option<&SpanRecord> = spans.iter().find(|span| span.text("http.url").starts_with("http://bank.example/"));
    assert_eq!(of_bank.headers.traceparent().map(|sent| sent.parent_id), last.map(|span| span.id.clone()));
}
