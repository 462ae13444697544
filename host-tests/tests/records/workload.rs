//! Who the records belong to: the service's name, and the workload of Kubernetes and Istio, from the node's metadata.

use std::collections::BTreeMap;

use host_tests::{Node, Profile};
use serde_json::{Value, json};

use crate::harness::{Exchange, flush, gateway, posting};
use crate::support::{CLUSTER, Seen, Setup, module};

/// What the Trace API's common block and OTLP's resource say, and the name in a Transaction event.
fn entity(seen: &mut Seen) -> (Value, BTreeMap<String, Value>, Value) {
    let posts = flush(&mut seen.envoy);
    let body = |path: &str| -> Value {
        let post = posts.iter().find(|post| post.headers.text(":path").as_deref() == Some(path));
        serde_json::from_slice(&post.expect("each exporter posts").body).expect("JSON")
    };
    let otlp = body("/v1/traces");
    let pairs = otlp["resourceSpans"][0]["resource"]["attributes"].as_array().expect("a list");
    let pair =
        |pair: &Value| (pair["key"].as_str().unwrap_or_default().to_owned(), pair["value"]["stringValue"].clone());
    let event = body("/v1/accounts/4001/events");
    (
        body("/trace/v1")[0]["common"]["attributes"].clone(),
        pairs.iter().map(pair).collect(),
        event[0]["appName"].clone(),
    )
}

fn setup(node: Node) -> Setup {
    gateway().without("app_name").with("exporters", posting(&["trace_api", "otlp", "event_api"])).node(node)
}

fn run(setup: &Setup) -> (Value, BTreeMap<String, Value>, Value) {
    entity(&mut Exchange::answered("200").run(setup))
}

fn istio() -> Node {
    Node::new("sidecar~10.0.0.5~cart-7f9c-x2x~shop.svc.cluster.local", "cart.shop")
        .metadata(&["NAME"], "cart-7f9c-x2x")
        .metadata(&["NAMESPACE"], "shop")
        .metadata(&["WORKLOAD_NAME"], "cart")
        .metadata(&["CLUSTER_ID"], "prod-eu")
        .metadata(&["NODE_NAME"], "node-7")
        .metadata(&["MESH_ID"], "mesh-1")
        .metadata(&["LABELS", "app"], "cart-app")
}

#[test]
fn the_service_is_named_by_the_first_source_that_there_is() {
    let node = |id: &str, cluster: &str| Node::new(id, cluster);
    for (setup, name) in [
        (setup(istio()).with("app_name", "configured"), "configured"),
        (setup(istio()), "cart"),
        (setup(node("id-1", "cluster-1").metadata(&["LABELS", "app"], "label")), "label"),
        (setup(node("id-1", "cluster-1").metadata(&["WORKLOAD_NAME"], "")), "cluster-1"),
        (setup(node("id-1", "")), "id-1"),
        (setup(node("", "")), "envoy"),
        (setup(Node::default()), "envoy"),
    ] {
        let (common, resource, app_name) = run(&setup);
        assert_eq!(common["service.name"], name);
        assert_eq!(resource["service.name"], name);
        assert_eq!(app_name, name);
    }
}

#[test]
fn the_workload_is_told_in_kubernetes_and_istios_words() {
    let (common, resource, _) = run(&setup(istio()));
    for (name, value) in [
        ("k8s.pod.name", "cart-7f9c-x2x"),
        ("k8s.namespace.name", "shop"),
        ("k8s.deployment.name", "cart"),
        ("k8s.cluster.name", "prod-eu"),
        ("k8s.node.name", "node-7"),
        ("istio.mesh_id", "mesh-1"),
        ("service.instance.id", "sidecar~10.0.0.5~cart-7f9c-x2x~shop.svc.cluster.local"),
    ] {
        assert_eq!((&common[name], &resource[name]), (&json!(value), &json!(value)), "{name}");
    }
}

#[test]
fn a_proxy_outside_of_a_mesh_tells_no_workload() {
    let (common, resource, _) = run(&setup(Node::new("id-1", "cluster-1")));
    let of_mesh = |name: &String| name.starts_with("k8s.") || name.starts_with("istio.");
    assert!(!common.as_object().expect("an object").keys().any(of_mesh), "{common}");
    assert!(!resource.keys().any(of_mesh), "{resource:?}");
}

#[test]
fn the_instrumentation_has_a_name_of_its_own_and_reserved_names_are_left_to_new_relic() {
    let (common, resource, _) = run(&setup(istio()));
    assert_eq!(common["instrumentation.provider"], "envoy-newrelic-filter");
    assert_eq!(common["instrumentation.name"], "envoy");
    assert_eq!(common["collector.name"], "envoy-newrelic-filter");
    for name in ["entity.guid", "entity.name", "entity.type", "entityGuid", "guid"] {
        assert_eq!((common.get(name), resource.get(name)), (None, None), "{name}");
    }
    assert!(resource.contains_key("telemetry.sdk.language"));
}

#[test]
fn the_host_is_the_pods_name_when_the_environment_tells_it() {
    let setup = setup(istio());
    let plugin = setup.plugin().env("HOSTNAME", "cart-host");
    let mut envoy =
        host_tests::Envoy::builder(&module()).plugin(plugin).cluster(CLUSTER).node(istio()).start().expect("it starts");
    let stream = envoy.stream().open();
    let upstream = Exchange::answered("200").send(&mut envoy, stream, |_, _| {});
    let (common, resource, _) = entity(&mut Seen { envoy, stream, upstream });
    assert_eq!((&common["host"], &resource["host.name"]), (&json!("cart-host"), &json!("cart-host")));
}

#[test]
fn older_proxies_name_the_node_in_their_own_way() {
    let setup = setup(istio());
    let builder = host_tests::Envoy::builder(&module()).plugin(setup.plugin()).cluster(CLUSTER).node(istio());
    let mut envoy = builder.profile(Profile::OLDEST).start().expect("it starts");
    let stream = envoy.stream().open();
    let upstream = Exchange::answered("200").send(&mut envoy, stream, |_, _| {});
    let (common, _, _) = entity(&mut Seen { envoy, stream, upstream });
    assert_eq!((&common["service.name"], &common["k8s.pod.name"]), (&json!("cart"), &json!("cart-7f9c-x2x")));
}
