//! The plugins of the proxy that all cases pass through. Each has a listener of its own name, but
//! for the second of a chain.

use host_tests::{Direction, FailurePolicy, Node, Plugin};
use serde_json::{Value, json};

/// One plugin as both sides configure it.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) plugin: Plugin,
    /// How the configuration is written for Envoy.
    pub(crate) form: Form,
    /// A filter before the probe.
    pub(crate) before: Option<Value>,
    /// Whether it stands in the cluster `attempt` and not on its listener.
    pub(crate) in_cluster: bool,
}

/// How `google.protobuf.Any` carries a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// There is none.
    Absent,
    /// `google.protobuf.StringValue`.
    Text,
    /// `google.protobuf.BytesValue`.
    Bytes,
    /// `google.protobuf.Struct`, of which the guest gets the message.
    Struct,
}

/// Plugins whose VM traps, one for each policy.
pub(crate) const FAILING: [(&str, FailurePolicy); 4] = [
    ("closed", FailurePolicy::Closed),
    ("open", FailurePolicy::Open),
    ("reload", FailurePolicy::Reload),
    ("legacy", FailurePolicy::LegacyFailOpen),
];

/// `{"key": "value"}` as a `google.protobuf.Struct`: Envoy gives the guest the message and not JSON.
const STRUCT: &str = "\n\u{e}\n\u{3}key\u{12}\u{7}\u{1a}\u{5}value";

/// What the plugin `root` does by itself.
const ROOT: &str = "configure: prop plugin_name; prop plugin_root_id; prop plugin_vm_id; prop xds/node/id; \
    prop xds/node/cluster; prop xds/node/metadata/KEY; prop xds/node/metadata/NUMBER; prop xds/node/locality/zone; \
    prop xds/listener_direction; prop request/path; prop nothing; setprop mine value; prop mine; \
    pairs 0; get 0 x; add 0 x 1; size 0; bufferstatus 7; bufferstatus 6; bufferstatus 0; buffer 7 0 9; buffer 6 0 9; \
    buffer 7 100000 5; reply 200 '' '' ''; continue 0; close 0; status; done; effective 99; env KEY; env OTHER; \
    env ENVOY_PROBE; time; level | ";

/// What the plugin `calls` does once it is asked to, by its tick.
const CALLS: &str = "configure: tick 100 | tick: tick 0; call first up !/ 1000; call second nowhere /answer 1000; \
    call third up /answer 1000 | call_response: pairs 6; pairs 7; buffer 4 0 99; buffer 4 3 2; bufferstatus 4; \
    get 6 :status; add 6 x 1; pairs 0; status; grpc fourth nowhere 1000; grpc fifth refused 1000 | \
    grpc_close: status; level";

pub(crate) fn all() -> Vec<Spec> {
    let text = |name: &str, configuration: &str| spec(name, configuration, Form::Text);
    let mut specs = vec![
        text("main", "log: log 2 no-script |"),
        text("root", ROOT),
        text("calls", CALLS),
        spec("absent", "", Form::Absent),
        spec("bytes", "b\u{7f}ytes\u{1}", Form::Bytes),
        spec("struct", STRUCT, Form::Struct),
        text("first", ""),
        text("second", ""),
        text(
            "earlier",
            "log: pairs 0; get 0 :path; prop response/code; prop response/flags; \
            prop response/code_details; prop request/path; prop xds/route_name; prop xds/cluster_name |",
        ),
        text("inbound", ""),
        text("attempt", ""),
    ];
    specs.extend(FAILING.map(|(name, policy)| {
        let mut failing = text(name, "");
        failing.plugin.failure_policy = policy;
        failing
    }));
    for Spec { plugin, before, in_cluster, .. } in &mut specs {
        match plugin.name.as_str() {
            "second" => plugin.listener = "first".to_owned(),
            "inbound" => plugin.direction = Direction::Inbound,
            "attempt" => *in_cluster = true,
            "earlier" => *before = Some(refusing()),
            "root" => {
                plugin.root_id = "the-root-id".to_owned();
                plugin.vm_configuration = b"start: prop plugin_name; prop plugin_root_id; buffer 6 0 9; buffer 7 0 9; \
                    bufferstatus 7; env KEY; tick 0 |"
                    .to_vec();
                plugin.environment.insert("KEY".to_owned(), "value".to_owned());
            }
            _ => {}
        }
    }
    specs
}

fn spec(name: &str, configuration: &str, form: Form) -> Spec {
    let plugin = Plugin::new(name).vm_id(name).configuration(configuration).listener(name, Direction::Unspecified);
    Spec { plugin, form, before: None, in_cluster: false }
}

/// Envoy's fault filter: every request gets a 403.
fn refusing() -> Value {
    json!({
        "name": "fault",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "abort": { "http_status": 403, "percentage": { "numerator": 100 } },
        },
    })
}

/// The node of both proxies.
pub(crate) fn node() -> Node {
    Node::new("node-id", "node-cluster")
        .metadata(&["KEY"], "value")
        .metadata(&["NUMBER"], host_tests::Value::Double(5.0))
        .with(&["locality", "zone"], "zone-1")
}

/// The same for Envoy.
pub(crate) fn node_json() -> Value {
    json!({
        "id": "node-id", "cluster": "node-cluster", "metadata": { "KEY": "value", "NUMBER": 5 },
        "locality": { "zone": "zone-1" },
    })
}

impl Spec {
    /// The filter for Envoy's configuration.
    pub(crate) fn filter(&self, module: &str) -> Value {
        let plugin = &self.plugin;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut config = json!({
            "name": plugin.name, "root_id": plugin.root_id,
            "vm_config": {
                "vm_id": plugin.vm_id, "runtime": "envoy.wasm.runtime.v8",
                "code": { "local": { "filename": module } },
                "environment_variables": { "key_values": plugin.environment },
                "configuration": string_value(&text(&plugin.vm_configuration)),
            },
        });
        let configuration = text(&plugin.configuration);
        match self.form {
            Form::Absent => {}
            Form::Text => config["configuration"] = string_value(&configuration),
            Form::Bytes => {
                let value = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &plugin.configuration);
                config["configuration"] =
                    json!({ "@type": "type.googleapis.com/google.protobuf.BytesValue", "value": value });
            }
            Form::Struct => {
                let value = json!({ "key": "value" });
                config["configuration"] =
                    json!({ "@type": "type.googleapis.com/google.protobuf.Struct", "value": value });
            }
        }
        match plugin.failure_policy {
            FailurePolicy::Closed => {}
            FailurePolicy::Open => config["failure_policy"] = json!("FAIL_OPEN"),
            FailurePolicy::Reload => config["failure_policy"] = json!("FAIL_RELOAD"),
            FailurePolicy::LegacyFailOpen => config["fail_open"] = json!(true),
        }
        json!({
            "name": plugin.name,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm", "config": config,
            },
        })
    }
}

fn string_value(text: &str) -> Value {
    json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": text })
}
