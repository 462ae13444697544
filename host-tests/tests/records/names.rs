//! Names of transactions and spans: from the operator, the route, or the request, and always from a bounded set.

use host_tests::{StreamBuilder, StreamId};
use serde_json::{Value, json};

use crate::harness::{Exchange, assert_has, gateway, only_body, posting};
use crate::support::Setup;

/// The path of a route's own metadata for this filter.
const ROUTE_METADATA: [&str; 5] = ["xds", "route_metadata", "filter_metadata", "newrelic.tracing", "transaction_name"];

fn path(path: &str) -> Exchange {
    Exchange::answered("200").request(&[(":path", path)])
}

fn assert_named(setup: &Setup, exchange: &Exchange, open: impl Fn(StreamBuilder<'_>) -> StreamId, name: &str) {
    let seen = exchange.run_on(setup, open);
    let expected = json!({ "name": name, "transaction.name": name });
    assert_has(&seen.entry_span(), &expected, name);
    assert_eq!(seen.transaction()["name"], name);
}

#[test]
fn a_rule_names_the_transaction_as_it_is_written() {
    let rules = json!([
        { "path": "/cart/*/items", "name": "cart items" },
        { "path": "/cart/*", "name": "WebTransaction/Custom/cart" },
        { "path": "/cart/never", "name": "never" },
    ]);
    let setup = gateway().with("transaction_name.rules", rules);
    for (request_path, name) in [
        ("/cart/17/items?x=1", "cart items"),
        ("/cart/never", "WebTransaction/Custom/cart"),
        ("/other", "WebTransaction/Envoy/GET /other"),
    ] {
        assert_named(&setup, &path(request_path), |stream| stream.open(), name);
    }
}

#[test]
fn a_routes_metadata_names_what_no_rule_names() {
    let setup = gateway().with("transaction_name.rules", json!([{ "path": "/ruled", "name": "ruled" }]));
    let open = |stream: StreamBuilder<'_>| stream.route("shop").property(ROUTE_METADATA, "checkout").open();
    assert_named(&setup, &path("/any"), open, "checkout");
    assert_named(&setup, &path("/ruled"), open, "ruled");
}

#[test]
fn a_route_has_its_name_unless_it_is_called_default() {
    for (route, name) in [
        ("checkout", "WebTransaction/Envoy/checkout"),
        ("default", "WebTransaction/Envoy/GET /cart/*"),
        ("", "WebTransaction/Envoy/GET /cart/*"),
    ] {
        assert_named(&gateway(), &path("/cart/17?x=1"), |stream| stream.route(route).open(), name);
    }
    assert_named(&gateway(), &path("/cart/17"), |stream| stream.unrouted().open(), "WebTransaction/Envoy/GET /cart/*");
}

#[test]
fn ids_in_a_path_become_asterisks() {
    for (request_path, name) in [
        ("/", "GET /"),
        ("/cart/items", "GET /cart/items"),
        ("/cart/17", "GET /cart/*"),
        ("/v2/cart", "GET /*/cart"),
        ("/u/6f1c1f9e-2f7b-4a55-9f0e-0a1b2c3d4e5f/x", "GET /u/*/x"),
        ("/u/deadbeefcafe", "GET /u/*"),
        ("/u/abcdefghijklmnopqrstuvwxyzabcdefg", "GET /u/*"),
        ("/a;session=1/b", "GET /a"),
    ] {
        let name = format!("WebTransaction/Envoy/{name}");
        assert_named(&gateway(), &path(request_path), |stream| stream.open(), &name);
    }
}

#[test]
fn a_method_that_a_client_invents_does_not_make_a_name() {
    let seen = Exchange::answered("200").request(&[(":method", "BREW")]).run(&gateway());
    assert_has(
        &seen.entry_span(),
        &json!({ "name": "WebTransaction/Envoy/_OTHER /cart/*", "request.method": "BREW" }),
        "",
    );
    assert_has(&seen.exit_span(), &json!({ "name": "External/shop.example/envoy/_OTHER", "http.method": "BREW" }), "");
}

#[test]
fn an_answer_of_the_proxys_own_names_the_transaction_by_the_request() {
    let seen = Exchange::failed(host_tests::Ending::no_route()).run_on(&gateway(), |stream| stream.unrouted().open());
    assert_eq!(seen.transaction()["name"], "WebTransaction/Envoy/GET /cart/*");
}

#[test]
fn opentelemetry_has_the_names_without_new_relics_prefixes() {
    for (route, name) in [("checkout", "checkout"), ("default", "GET /cart/*")] {
        let mut envoy = gateway().with("exporters", posting(&["otlp"])).start();
        let stream = envoy.stream().route(route).open();
        Exchange::answered("200").send(&mut envoy, stream, |_, _| {});
        let body: Value = serde_json::from_slice(&only_body(&mut envoy)).expect("JSON");
        let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
        assert_eq!((&spans[0]["name"], &spans[1]["name"]), (&json!(name), &json!("GET")));
    }
}
