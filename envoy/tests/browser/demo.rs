//! The demo's own traffic, through a real Envoy, on the page.

use std::collections::BTreeSet;

use envoy_demo::demo::{self, Demo};
use envoy_demo::mode::Mode;
use envoy_demo::paths;
use envoy_demo::ports::{self, Ports};
use serde_json::{Value, json};

use crate::chromium::Browser;
use crate::site::{api, browser_at, chromium_or_skip, fresh_dir, notice};

/// The rows of the waterfall that are on display, and what each of them shows.
const ROWS: &str = "const rows = [...document.querySelectorAll('[role=row][data-span-id]')];
return rows.filter((row) => row.checkVisibility()).map((row) => ({
    id: row.dataset.spanId, parent: row.dataset.parentId, level: Number(row.ariaLevel),
    name: row.querySelector('.span-name').innerText, service: row.querySelector('.chip').innerText,
    kind: row.querySelector('.kind').innerText, text: row.innerText,
}))";

/// The Envoy to test with; `None` when there is none and that may be.
fn envoy_or_skip() -> Option<std::path::PathBuf> {
    let envoy = paths::envoy_at_hand();
    if envoy.is_none() {
        let promised = ["CI", "ENVOY"].into_iter().find(|name| std::env::var_os(name).is_some());
        assert!(promised.is_none(), "{promised:?} is set, but there is no Envoy; `make test` installs one");
        notice("SKIPPED: no Envoy on this machine; `make test` installs one, ENVOY=/path names one\n");
    }
    envoy
}

#[tokio::test]
async fn the_demos_traces_are_listed_drawn_and_mapped() {
    let (Some(envoy), Some(programs)) = (envoy_or_skip(), chromium_or_skip()) else { return };
    let module = paths::wasm_module().unwrap();
    let dir = fresh_dir("demo");
    let demo = Demo::start(Mode::DistributedTracing, Ports::free().unwrap(), &envoy, &module, &dir).await.unwrap();
    let store = demo.address(ports::RECEIVER);
    let mut traces = Vec::new();
    for scenario in demo::scenarios().unwrap() {
        let found = demo.run(scenario).await.unwrap();
        if let Some(span) = found.spans.first() {
            traces.push((span.trace_id.clone(), found.spans.len(), found.scenario.title));
        }
    }
    assert_eq!(traces.len(), 6, "one of the seven requests is a health check and leaves no trace");

    let browser = browser_at(&programs, store).await;
    every_trace_is_listed(&browser, &traces).await;
    for (trace_id, spans, title) in &traces {
        a_click_opens_the_whole_trace(&browser, store, trace_id, *spans, title).await;
    }
    the_declined_payment_is_seen_to_fail(&browser).await;
    the_map_has_every_service(&browser, store).await;
    assert_eq!(browser.complaints().await.unwrap(), [""; 0]);
    drop(browser);
    demo.stop().await.unwrap();
}

async fn every_trace_is_listed(browser: &Browser, traces: &[(String, usize, &str)]) {
    browser.open("#/traces").await.unwrap();
    for (trace_id, spans, title) in traces {
        let selector = format!("li[data-trace-id='{trace_id}']");
        let script = "const row = document.querySelector(arguments[0]); return row && row.innerText";
        let row = browser.until(script, vec![json!(selector)]).await.unwrap();
        let row = row.as_str().unwrap();
        for part in [format!("{spans} spans"), "edge-gateway".to_owned(), "payments".to_owned()] {
            assert!(row.contains(&part), "{title}: no {part:?} in {row:?}");
        }
    }
}

/// Every span must be there, below its parent, and with its name, service and kind.
async fn a_click_opens_the_whole_trace(
    browser: &Browser,
    store: std::net::SocketAddr,
    trace_id: &str,
    spans: usize,
    title: &str,
) {
    browser.open("#/traces").await.unwrap();
    browser.click(&format!("li[data-trace-id='{trace_id}'] a")).await.unwrap();
    let script = "return document.querySelectorAll('[role=row][data-span-id]').length === arguments[0]";
    browser.until(script, vec![json!(spans)]).await.unwrap();
    let rows = browser.run(ROWS, vec![]).await.unwrap();
    let rows = rows.as_array().unwrap();
    let trace = api(store, &format!("/api/traces/{trace_id}")).await;
    let expected = trace["spans"].as_array().unwrap();
    assert_eq!(rows.len(), expected.len(), "{title}");
    for span in expected {
        let row = rows.iter().find(|row| row["id"] == span["id"]).unwrap_or_else(|| panic!("{title}: no {span}"));
        let parent = rows.iter().find(|row| row["id"] == span["parent_id"]);
        // The parent of a trace that a caller began is the caller's span, which is not in the data.
        let below = parent.map_or("", |parent| parent["id"].as_str().unwrap());
        assert_eq!(row["parent"], below, "{title}: {span}");
        assert_eq!(row["level"].as_u64(), Some(parent.map_or(0, |one| one["level"].as_u64().unwrap()) + 1), "{title}");
        assert_eq!((&row["name"], &row["service"]), (&span["name"], &span["service"]), "{title}");
        assert_eq!(row["kind"].as_str().map(|kind| kind.replace('-', "_")).as_deref(), span["display"].as_str());
        assert_eq!(row["text"].as_str().unwrap().contains("not in the data"), span["orphan"] == true, "{title}: {row}");
    }
    the_headers_of_every_hop_are_shown(browser, &trace, title).await;
}

async fn the_headers_of_every_hop_are_shown(browser: &Browser, trace: &Value, title: &str) {
    let script = "const tables = [...document.querySelectorAll('.hops table')];
        return tables.filter((table) => table.checkVisibility()).map((table) => table.innerText)";
    let shown = browser.run(script, vec![]).await.unwrap();
    let shown = shown.as_array().unwrap();
    let hops = trace["hops"].as_array().unwrap();
    assert!(!hops.is_empty(), "{title}: the demo recorded what its services saw");
    assert_eq!(shown.len(), hops.len(), "{title}");
    for (shown, hop) in shown.iter().zip(hops) {
        let shown = shown.as_str().unwrap();
        assert!(shown.contains(hop["service"].as_str().unwrap()), "{title}: {shown}");
        for header in hop["headers"].as_array().unwrap() {
            for part in [&header["name"], &header["value"]] {
                assert!(shown.contains(part.as_str().unwrap()), "{title}: no {part} in {shown}");
            }
        }
    }
}

async fn the_declined_payment_is_seen_to_fail(browser: &Browser) {
    browser.open("#/traces?error=true").await.unwrap();
    browser.click(".trace-row.failed a").await.unwrap();
    let failed = "const rows = document.querySelectorAll('[role=row][data-error=true]');
        return rows.length > 0 && [...rows].map((row) => row.innerText)";
    let failed = browser.until(failed, vec![]).await.unwrap();
    for row in failed.as_array().unwrap() {
        assert!(row.as_str().unwrap().contains("error: 503"), "{row}");
    }
}

async fn the_map_has_every_service(browser: &Browser, store: std::net::SocketAddr) {
    let map = api(store, "/api/map").await;
    let nodes: BTreeSet<&str> =
        map["nodes"].as_array().unwrap().iter().filter_map(|node| node["name"].as_str()).collect();
    for service in ["edge-gateway", "storefront", "cart", "payments"] {
        assert!(nodes.contains(service), "{service} is not among {nodes:?}");
    }
    browser.open("#/map").await.unwrap();
    let script = "const nodes = [...document.querySelectorAll('[data-node]')].map((node) => node.dataset.node);
        return nodes.length > 0 && nodes";
    let shown = browser.until(script, vec![]).await.unwrap();
    assert_eq!(shown.as_array().unwrap().iter().filter_map(Value::as_str).collect::<BTreeSet<_>>(), nodes);
    let script = "return [...document.querySelectorAll('.edge')].map((edge) => [edge.dataset.from, edge.dataset.to])";
    let edges = browser.run(script, vec![]).await.unwrap();
    for call in [["edge-gateway", "storefront"], ["storefront", "cart"], ["cart", "payments"]] {
        assert!(edges.as_array().unwrap().contains(&json!(call)), "{call:?} is not among {edges}");
    }
    // A click on a service leads to its traces.
    browser.click("[data-node=cart] a").await.unwrap();
    browser
        .until(
            "return location.hash === '#/traces?service=cart' && document.querySelector('.trace-row') !== null",
            vec![],
        )
        .await
        .unwrap();
}
