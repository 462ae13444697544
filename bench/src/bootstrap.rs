//! The configurations of both Envoys.

use std::path::Path;

use anyhow::{Context, Result};
use envoy_demo::template;
use serde_json::{Value, json};

use crate::settings::Topology;
use crate::traffic;
use crate::variant::Variant;

const MEASURED: &str = include_str!("../measured.yaml");
const BACKEND: &str = include_str!("../backend.yaml");
/// Columns in front of a fragment of the connection manager in `measured.yaml`.
const COLUMNS: usize = 10;
/// A license key of the right length, of no account.
const LICENSE_KEY: &str = "0000000000000000000000000000000000000000";

/// Ports of the loopback interface.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The listener that is measured.
    pub measured: u16,
    /// The application.
    pub app: u16,
    /// Receiver of the Trace API.
    pub trace_api: u16,
    /// Receiver of the Event API.
    pub event_api: u16,
    /// Receiver of OTLP.
    pub otlp: u16,
}

impl Addresses {
    fn value_of(self, name: &str) -> Option<String> {
        let port = match name {
            "PORT_MEASURED" => self.measured,
            "PORT_APP" => self.app,
            "PORT_TRACE_API" => self.trace_api,
            "PORT_EVENT_API" => self.event_api,
            "PORT_OTLP" => self.otlp,
            _ => return None,
        };
        Some(port.to_string())
    }
}

/// The Envoy behind the measured one.
///
/// # Errors
/// The template has a placeholder that nothing fills.
pub fn backend(addresses: Addresses) -> Result<String> {
    template::render(BACKEND, |name| match name {
        "ANSWERS" => Some(traffic::answers().to_string()),
        _ => addresses.value_of(name),
    })
}

/// The Envoy that is measured. `module` is the file that the variant's module stands for.
///
/// # Errors
/// A placeholder that nothing fills, in the template or in the variant.
pub fn measured(
    variant: &Variant,
    module: Option<&Path>,
    addresses: Addresses,
    topology: Topology,
    routes: u32,
) -> Result<String> {
    let filters = match (&variant.http_filters, module) {
        (Some(filters), _) => filters.clone(),
        (None, Some(module)) => wasm(variant, module)?,
        (None, None) => String::new(),
    };
    let filters = template::render(&filters, |name| addresses.value_of(name))?;
    let tracing = match &variant.tracing {
        Some(tracing) => format!("tracing:\n{}", indented(&template::render(tracing, |_| None)?, COLUMNS + 2)),
        None => String::new(),
    };
    template::render(MEASURED, |name| match name {
        "RUNTIME" => serde_json::to_string(&variant.runtime).ok(),
        "TRAFFIC_DIRECTION" => Some(variant.traffic_direction.as_str().to_owned()),
        "TRACING" => Some(tracing.clone()),
        "HTTP_FILTERS" => Some(indented(&filters, COLUMNS).trim_start().to_owned()),
        "ROUTES" => Some(route_table(topology, routes).to_string()),
        _ => addresses.value_of(name),
    })
}

/// The filter entry for a module.
fn wasm(variant: &Variant, module: &Path) -> Result<String> {
    let file = module.to_str().context("the path of the module is no text")?;
    let configuration = variant.configuration.as_deref().unwrap_or("{}");
    let filter = json!({
        "name": "wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "wasm",
                "root_id": "wasm",
                "failure_policy": "FAIL_RELOAD",
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": { "local": { "filename": file } },
                    "environment_variables": { "key_values": { "NEW_RELIC_LICENSE_KEY": LICENSE_KEY } },
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration,
                },
            },
        },
    });
    // JSON is YAML, too.
    Ok(format!("- {filter}"))
}

/// As many routes as wished, of which only the last ones match: the longest way through the table.
fn route_table(topology: Topology, routes: u32) -> Value {
    let mut table: Vec<Value> = (1..routes)
        .map(|number| json!({ "match": { "prefix": format!("/unused/{number}/") }, "route": { "cluster": "app" } }))
        .collect();
    match (topology, traffic::answers()) {
        (Topology::Direct, Value::Array(answers)) => table.extend(answers),
        _ => table.push(json!({ "match": { "prefix": "/" }, "route": { "cluster": "app" } })),
    }
    Value::Array(table)
}

fn indented(fragment: &str, columns: usize) -> String {
    let indent = " ".repeat(columns);
    let lines: Vec<String> =
        fragment.lines().map(|line| if line.is_empty() { String::new() } else { format!("{indent}{line}") }).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: Addresses = Addresses { measured: 1, app: 2, trace_api: 3, event_api: 4, otlp: 5 };

    fn rendered(keys: &str, topology: Topology, routes: u32) -> String {
        let variant = Variant::parse("a", &format!("title = 'A'\ngroups = ['main']\n{keys}")).unwrap();
        measured(&variant, variant.module.as_deref().map(Path::new), ADDRESSES, topology, routes).unwrap()
    }

    #[test]
    fn a_fragment_is_indented_to_its_place() {
        let text = rendered(
            "tracing = '''\nprovider:\n  name: x'''\nhttp_filters = '''\n- name: one\n- name: two'''",
            Topology::Proxied,
            1,
        );
        assert!(text.contains("\n          tracing:\n            provider:\n              name: x\n"), "{text}");
        assert!(text.contains("\n          http_filters:\n          - name: one\n          - name: two\n"), "{text}");
    }

    #[test]
    fn a_module_gets_its_configuration_as_it_was_written() {
        let text =
            rendered("module = '/m.wasm'\nconfiguration = '''{ \"account_id\": \"1\" }'''", Topology::Proxied, 1);
        assert!(text.contains(r#""filename":"/m.wasm""#), "{text}");
        assert!(text.contains(r#""value":"{ \"account_id\": \"1\" }""#), "{text}");
    }

    #[test]
    fn the_routes_that_do_not_match_come_first() {
        let (proxied, direct) = (route_table(Topology::Proxied, 300), route_table(Topology::Direct, 1));
        assert_eq!(proxied.as_array().map(Vec::len), Some(300));
        assert_eq!(proxied[299]["match"]["prefix"], "/");
        assert_eq!(direct, traffic::answers());
    }

    #[test]
    fn both_templates_are_filled_completely() {
        assert!(!backend(ADDRESSES).unwrap().contains("${"));
        assert!(!rendered("", Topology::Direct, 1).contains("${"));
    }
}
