//! The sampling target of a real Envoy with several workers and two plugin instances. Without an Envoy on this
//! machine the test is skipped with a notice, but with `CI` or `ENVOY` set it fails.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as Arrived, State};
use envoy_demo::client::{self, Request};
use envoy_demo::paths;
use envoy_demo::ports::ReservedPort;
use envoy_demo::process::{EnvoyProcess, Launch};
use envoy_demo::receiver::Receiver;
use envoy_demo::stats::Stats;
use envoy_demo::tracing_headers::{Traceparent, TracingHeaders};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const LICENSE_KEY: &str = "0000000000000000000000000000000000000000";
const WORKERS: u32 = 4;
/// Traces a minute.
const TARGET: usize = 10;
const REQUESTS: usize = 500;
/// Connections at the same time.
const CONNECTIONS: usize = 20;
/// Only a fault meets this deadline.
const ARRIVAL_MAX: Duration = Duration::from_secs(20);

type Seen = Arc<Mutex<Vec<Traceparent>>>;

/// The Envoy to test with; `None` when there is none and that may be.
fn envoy_or_skip() -> Option<PathBuf> {
    let envoy = paths::envoy_at_hand();
    if envoy.is_none() {
        let promised = ["CI", "ENVOY"].into_iter().find(|name| std::env::var_os(name).is_some());
        assert!(promised.is_none(), "{promised:?} is set, but there is no Envoy; `make test` installs one");
        // Written to the stream itself, because the test harness hides what a passing test prints.
        std::io::stderr().write_all(b"SKIPPED: no Envoy on this machine; `make test` installs one\n").unwrap();
    }
    envoy
}

/// A listener with a plugin instance of its own.
fn listener(name: &str, address: SocketAddr, module: &Path) -> Value {
    let plugin = json!({
        "account_id": "4001",
        "app_name": "edge",
        "distributed_tracing": { "sampler": { "adaptive_sampling_target": TARGET } },
        "exporters": { "trace_api": { "cluster": "receiver", "flush_interval_ms": 100 } },
    });
    let filter = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": name,
            "root_id": name,
            "vm_config": {
                "runtime": "envoy.wasm.runtime.v8",
                "code": { "local": { "filename": module } },
                "environment_variables": { "key_values": { "NEW_RELIC_LICENSE_KEY": LICENSE_KEY } },
            },
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": plugin.to_string(),
            },
        },
    });
    let router = json!({ "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" });
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "app" } }]);
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": { "virtual_hosts": [{ "name": "app", "domains": ["*"], "routes": routes }] },
        "http_filters": [
            { "name": "newrelic-tracing", "typed_config": filter },
            { "name": "envoy.filters.http.router", "typed_config": router },
        ],
    });
    json!({
        "name": name,
        "stat_prefix": name,
        "traffic_direction": "INBOUND",
        "address": socket_address(address),
        "filter_chains": [{
            "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }],
        }],
    })
}

fn cluster(name: &str, address: SocketAddr) -> Value {
    let endpoint = json!({ "endpoint": { "address": socket_address(address) } });
    json!({
        "name": name,
        "connect_timeout": "5s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
    })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn bootstrap(listeners: [(&str, SocketAddr); 2], app: SocketAddr, receiver: SocketAddr) -> Value {
    let module = paths::wasm_module().unwrap();
    json!({
        "node": { "id": "edge-1", "cluster": "tests" },
        "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
        "static_resources": {
            "listeners": listeners.map(|(name, address)| listener(name, address, &module)),
            "clusters": [cluster("app", app), cluster("receiver", receiver)],
        },
    })
}

/// The application: answers every request and keeps the `traceparent` it saw.
async fn serve(port: ReservedPort, seen: Seen) {
    let answer = |State(seen): State<Seen>, request: Arrived| async move {
        let lines = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        seen.lock().unwrap().extend(TracingHeaders::pick(lines).traceparent());
    };
    let routes = Router::new().fallback(answer).with_state(seen);
    axum::serve(port.listen().unwrap(), routes).await.unwrap();
}

/// Sends requests without tracing headers, each over a connection of its own.
async fn send_all(address: SocketAddr) {
    let mut connections = JoinSet::new();
    for number in 0..REQUESTS {
        if connections.len() >= CONNECTIONS {
            connections.join_next().await.unwrap().unwrap();
        }
        let request = Request::get("app", &format!("/{number}"));
        connections.spawn(async move { assert_eq!(client::send(address, &request).await.unwrap().status, 200) });
    }
    connections.join_all().await;
}

/// Connections that each worker of a listener took.
fn connections_by_worker(stats: &Stats, listener: &str) -> Vec<u64> {
    let name = |worker| format!("listener.{listener}.worker_{worker}.downstream_cx_total");
    (0..WORKERS).map(|worker| stats.value(&name(worker))).collect()
}

#[tokio::test]
async fn four_workers_and_two_plugin_instances_sample_one_target() {
    let Some(binary) = envoy_or_skip() else { return };
    let [first, second, app] = [(); 3].map(|()| ReservedPort::any().unwrap());
    let receiver = Receiver::start(ReservedPort::any().unwrap().listen().unwrap(), LICENSE_KEY).unwrap();
    let listeners = [("first", &first), ("second", &second)];
    let config = bootstrap(listeners.map(|(name, port)| (name, port.address())), app.address(), receiver.address());
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("envoy-sampling-{}", std::process::id()));
    let launch = Launch { binary: &binary, config: &config.to_string(), dir: &dir, env: &[], concurrency: WORKERS };
    let envoy = EnvoyProcess::start(&launch).await.unwrap();
    let seen = Seen::default();
    let app = tokio::spawn(serve(app, Arc::clone(&seen)));

    // The second instance finds the target used up.
    for (instance, (name, port)) in listeners.into_iter().enumerate() {
        send_all(port.address()).await;
        let by_worker = connections_by_worker(&envoy.stats().await.unwrap(), name);
        assert!(by_worker.iter().all(|connections| *connections > 0), "{name}: {by_worker:?}");
        let traces = seen.lock().unwrap().clone();
        let ids: BTreeSet<_> = traces.iter().map(|trace| &trace.trace_id).collect();
        assert_eq!(ids.len(), (instance + 1) * REQUESTS, "every request starts a trace");
        let sampled = traces.iter().filter(|trace| trace.sampled).count();
        assert_eq!(sampled, TARGET, "after the {name} instance\n{}", envoy.log());
    }
    let sampled: BTreeSet<_> =
        seen.lock().unwrap().iter().filter(|trace| trace.sampled).map(|trace| trace.trace_id.clone()).collect();
    receiver.wait_until(ARRIVAL_MAX, |store| store.spans().count() >= TARGET).await;
    let decided = |stats: &Stats| {
        ["sampled", "not_sampled"].map(|what| stats.value(&format!("newrelic.sampler.decisions.{what}")))
    };
    let expected = [TARGET as u64, (2 * REQUESTS - TARGET) as u64];
    let stats = envoy.stats_when(ARRIVAL_MAX, |stats| decided(stats) == expected).await.unwrap();
    assert_eq!(decided(&stats), expected);
    let recorded: Vec<_> = receiver.read(|store| store.spans().map(|span| span.trace_id.clone()).collect());
    assert_eq!(recorded.len(), TARGET, "one span for each sampled request");
    assert_eq!(recorded.into_iter().collect::<BTreeSet<_>>(), sampled);
    app.abort();
    envoy.stop().await.unwrap();
}
