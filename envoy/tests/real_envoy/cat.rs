//! Cross Application Tracing: the demo's scenarios on ports of their own, and what callers, callees and passers-by can
//! write into its headers.

use std::path::Path;

use envoy_demo::cat;
use envoy_demo::cat::scenario::{ExpectedTrip, TRUSTED_CALLER, WAY, no_headers};
use envoy_demo::cat::verdict::{self, Statistics};
use envoy_demo::cat::wire::{AppData, CallingTransaction, ENCODING_KEY, encode};
use envoy_demo::client::Request;
use envoy_demo::demo::Demo;
use envoy_demo::mode::Mode;
use envoy_demo::paths;
use envoy_demo::ports::Ports;
use envoy_demo::scenario::{SHOP, Scenario};
use envoy_demo::tracing_headers::{X_NEWRELIC_APP_DATA, X_NEWRELIC_ID, X_NEWRELIC_TRANSACTION};
use envoy_demo::verdict::{Check, Counts};
use serde_json::{Value, json};

use crate::harness::{APP_DATA_PATH, ARRIVAL_MAX, Proxy, Setup, envoy_or_skip, fresh_dir};

async fn start(envoy: &Path) -> Demo {
    let module = paths::wasm_module().unwrap();
    Demo::start(Mode::CrossApplicationTracing, Ports::free().unwrap(), envoy, &module, &fresh_dir()).await.unwrap()
}

fn failures(checks: Vec<Check>) -> Vec<String> {
    let failed = |check: Check| Some(format!("{}: {}", check.claim, check.fault?));
    checks.into_iter().filter_map(failed).collect()
}

/// A transaction that calls, first of its trip.
fn calling() -> CallingTransaction {
    CallingTransaction {
        guid: "9f8e7d6c5b4a3921".to_owned(),
        trip_id: "5eed0000000000ff".to_owned(),
        path_hash: "c0ffee11".to_owned(),
    }
}

#[tokio::test]
async fn every_scenario_of_the_demo_holds() {
    let Some(envoy) = envoy_or_skip() else { return };
    let demo = start(&envoy).await;
    let mut evidence = Vec::new();
    for scenario in cat::scenario::all() {
        let found = demo.run(scenario).await.unwrap();
        assert_eq!(failures(verdict::judge(&found)), [""; 0], "{}", found.scenario.title);
        evidence.push(found);
    }
    let expected = Statistics::expected(&evidence);
    let settled = |stats: &_| Statistics::of(stats) == expected;
    let totals = demo.totals(Counts::shown(&evidence), settled).await.unwrap();
    assert_eq!(failures(verdict::judge_totals(&totals, &expected)), [""; 0]);
    demo.stop().await.unwrap();
}

/// The hashes were computed by hand: `md5sum` of `{app};{transaction}`, rotation and exclusive or.
#[tokio::test]
async fn the_first_caller_is_answered_and_every_hop_has_its_path_hash() {
    let Some(envoy) = envoy_or_skip() else { return };
    let demo = start(&envoy).await;
    let request = Request::post(SHOP, "/checkout/42", "17 bytes of order")
        .header(X_NEWRELIC_ID, encode(TRUSTED_CALLER))
        .header(X_NEWRELIC_TRANSACTION, calling().write());
    let found = demo.run(Scenario { request, ..no_headers() }).await.unwrap();
    let of = |service: &str, key: &str| {
        let event = found.transactions.iter().find(|event| event.text("appName") == service);
        event.unwrap_or_else(|| panic!("no event of {service}")).text(key).to_owned()
    };
    let [answer] = &found.app_data[..] else { panic!("{:?}", found.app_data) };
    let answer = AppData::read(answer).unwrap();
    assert_eq!(
        (answer.cross_process_id.as_str(), answer.transaction_name.as_str(), answer.content_length),
        ("4001#501", "WebTransaction/Envoy/POST /checkout/*", 17)
    );
    assert_eq!(answer.guid, of("edge-gateway", "nr.guid"));
    assert_eq!(of("edge-gateway", "nr.referringTransactionGuid"), calling().guid);
    assert_eq!(of("edge-gateway", "client_cross_process_id"), TRUSTED_CALLER);
    let hashes =
        [("edge-gateway", "8a8592bd"), ("storefront", "97475304"), ("cart", "7800b0e0"), ("payments", "a102cc1d")];
    for (service, hash) in hashes {
        assert_eq!(
            (of(service, "nr.pathHash").as_str(), of(service, "nr.tripId")),
            (hash, calling().trip_id),
            "{service}"
        );
    }
}

/// A request to which garbage was added goes the way of one without CAT headers; with a trusted id it is still answered.
async fn assert_changes_nothing(demo: &Demo, client: Option<&'static str>, lines: &[(&str, &[u8])], what: &str) {
    let plain = no_headers();
    let expected = plain.expected.as_ref().map(|trip| ExpectedTrip { client, ..trip.clone() });
    let mut scenario = Scenario { expected, ..plain };
    for (name, value) in lines {
        scenario.request = scenario.request.header(name, *value);
    }
    let found = demo.run(scenario).await.unwrap();
    assert_eq!(failures(verdict::judge(&found)), [""; 0], "{what}");
}

#[tokio::test]
async fn an_id_that_is_not_believed_changes_nothing() {
    let Some(envoy) = envoy_or_skip() else { return };
    let demo = start(&envoy).await;
    let transaction = calling().write();
    for (what, id) in [
        ("an empty value", Vec::new()),
        ("bytes that are no text", vec![0xff, 0xfe]),
        ("no base64", b"4002#55".to_vec()),
        ("base64 of what is no text", b"mZmZmZmZ".to_vec()),
        ("no separator", encode("4002").into_bytes()),
        ("no digits", encode("4002#x").into_bytes()),
        ("an account that only begins like a trusted one", encode("40020#55").into_bytes()),
        ("an account that is not trusted", encode("4999#55").into_bytes()),
        ("20 KB", vec![b'A'; 20_000]),
    ] {
        let lines = [(X_NEWRELIC_ID, id.as_slice()), (X_NEWRELIC_TRANSACTION, transaction.as_bytes())];
        assert_changes_nothing(&demo, None, &lines, what).await;
    }
    assert_changes_nothing(&demo, None, &[(X_NEWRELIC_TRANSACTION, transaction.as_bytes())], "no id").await;
}

#[tokio::test]
async fn a_transaction_header_that_is_garbage_changes_nothing() {
    let Some(envoy) = envoy_or_skip() else { return };
    let demo = start(&envoy).await;
    let id = encode(TRUSTED_CALLER);
    for (what, transaction) in [
        ("an empty value", Vec::new()),
        ("bytes that are no text", vec![0xff, 0xfe]),
        ("no base64", calling().guid.into_bytes()),
        ("no JSON", encode("[\"9f8e\",").into_bytes()),
        ("no array", encode("{}").into_bytes()),
        ("too short an array", encode("[\"9f8e\"]").into_bytes()),
        ("deep nesting", encode(&"[".repeat(10_000)).into_bytes()),
        ("20 KB", vec![b'A'; 20_000]),
    ] {
        let lines = [(X_NEWRELIC_ID, id.as_bytes()), (X_NEWRELIC_TRANSACTION, transaction.as_slice())];
        assert_changes_nothing(&demo, Some(TRUSTED_CALLER), &lines, what).await;
    }
}

/// The plugin configuration of a gateway that speaks Cross Application Tracing.
fn gateway() -> Value {
    json!({
        "account_id": "4001",
        "app_name": "edge-gateway",
        "role": "gateway",
        "distributed_tracing": { "enabled": false },
        "cross_application_tracer": {
            "enabled": true,
            "cross_process_id": WAY[0].cross_process_id,
            "encoding_key": ENCODING_KEY,
            "trusted_account_ids": ["4001", "4002"],
        },
        "exporters": { "event_api": { "cluster": "newrelic", "flush_interval_ms": 100 } },
    })
}

/// An answer of the application, as a caller gets it through the gateway.
async fn answer(proxy: &Proxy, caller: &str, app_data: &[u8]) -> Vec<Vec<u8>> {
    let request = Request::get("app", APP_DATA_PATH)
        .header(X_NEWRELIC_ID, encode(caller))
        .header(X_NEWRELIC_TRANSACTION, calling().write())
        .header(X_NEWRELIC_APP_DATA, app_data);
    let answer = proxy.send(&request).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "served /app-data\n"));
    answer.lines(X_NEWRELIC_APP_DATA)
}

fn app_data_of(cross_process_id: &str) -> Vec<u8> {
    let answer = AppData {
        cross_process_id: cross_process_id.to_owned(),
        transaction_name: "WebTransaction/Go/GET /app".to_owned(),
        queue_time_s: 0.0,
        response_time_s: 0.25,
        content_length: -1,
        guid: "1122334455667788".to_owned(),
    };
    answer.write().into_bytes()
}

#[tokio::test]
async fn an_answer_that_is_garbage_changes_nothing() {
    let Some(envoy) = envoy_or_skip() else { return };
    let proxy = Proxy::start(&envoy, &Setup::text(&gateway())).await.unwrap();
    for (what, app_data) in [
        ("an empty value", Vec::new()),
        ("bytes that are no text", vec![0xff, 0xfe]),
        ("no base64", b"?? no base64 ??".to_vec()),
        ("no JSON", encode("[\"4002#7\",").into_bytes()),
        ("too short an array", encode("[\"4002#7\",\"a\",0,0]").into_bytes()),
        ("a wrong type", encode("[\"4002#7\",1,0,0,-1]").into_bytes()),
        ("no cross process id", app_data_of("x#7")),
        ("an account that is not trusted", app_data_of("4999#7")),
        ("20 KB", vec![b'A'; 20_000]),
    ] {
        let [own] = &answer(&proxy, TRUSTED_CALLER, &app_data).await[..] else { panic!("{what}: one answer") };
        let own = AppData::read(own).unwrap_or_else(|| panic!("{what}: {}", own.escape_ascii()));
        assert_eq!(own.cross_process_id, WAY[0].cross_process_id, "{what}");
        assert_eq!(answer(&proxy, "4999#55", &app_data).await, Vec::<Vec<u8>>::new(), "{what}, an untrusted caller");
    }
    // After all of that a good answer is counted, and nothing but it.
    answer(&proxy, TRUSTED_CALLER, &app_data_of("4002#7")).await;
    let callees = |stats: &envoy_demo::stats::Stats| {
        let below = ["newrelic.ExternalApp/", "newrelic.ExternalTransaction/"];
        let all = below.into_iter().flat_map(|family| stats.samples_below(family).collect::<Vec<_>>());
        all.map(|(name, samples)| (name.to_owned(), samples)).collect::<Vec<_>>()
    };
    let counted =
        ["newrelic.ExternalApp/app/4002#7/all", "newrelic.ExternalTransaction/app/4002#7/WebTransaction/Go/GET /app"];
    let counted = counted.map(|name| (name.to_owned(), 1));
    let stats = proxy.envoy.stats_when(ARRIVAL_MAX, |stats| callees(stats) == counted).await.unwrap();
    assert_eq!(callees(&stats), counted);
}
