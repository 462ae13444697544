//! Who the proxy is: from the host's node, read once when the plugin is configured.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::calls;
use super::stream::legacy_property;
use crate::config::{Role, RoleSetting};
use crate::export::common::Common;

/// Used when nothing tells a better name.
const LAST_RESORT: &str = "envoy";

/// Node metadata of Istio, and what OpenTelemetry and New Relic call it.
const WORKLOAD: [(&[u8], &str); 6] = [
    (b"NAME", "k8s.pod.name"),
    (b"NAMESPACE", "k8s.namespace.name"),
    (b"WORKLOAD_NAME", "k8s.deployment.name"),
    (b"CLUSTER_ID", "k8s.cluster.name"),
    (b"NODE_NAME", "k8s.node.name"),
    (b"MESH_ID", "istio.mesh_id"),
];

/// The entity that the records belong to.
pub(super) fn common(app_name: Option<&str>) -> Common {
    let node_id = node(b"id");
    Common {
        service_name: app_name.map_or_else(|| discovered_name(node_id.as_deref()), Into::into),
        host: calls::variable("HOSTNAME").filter(|host| !host.is_empty()).map(Into::into).or_else(|| node_id.clone()),
        instance_id: node_id,
        extra: WORKLOAD.iter().filter_map(|(key, name)| Some(((*name).into(), metadata(&[key])?))).collect(),
    }
}

/// Istio's workload, else the `app` label, else Envoy's cluster, else the node id.
fn discovered_name(node_id: Option<&str>) -> Box<str> {
    metadata(&[b"WORKLOAD_NAME"])
        .or_else(|| metadata(&[b"LABELS", b"app"]))
        .or_else(|| node(b"cluster"))
        .or_else(|| node_id.map(Into::into))
        .unwrap_or_else(|| LAST_RESORT.into())
}

/// The role, as far as it is known without a stream.
pub(super) fn role_of_node(setting: RoleSetting) -> Option<Role> {
    match setting {
        RoleSetting::Fixed(role) => Some(role),
        // Istio's gateways and waypoints have no application behind them, though their listeners say OUTBOUND.
        RoleSetting::Auto => node(b"id")
            .is_some_and(|id| id.starts_with("router~") || id.starts_with("waypoint~"))
            .then_some(Role::Gateway),
    }
}

/// The role by the listener of the current stream.
pub(super) fn role_of_listener() -> Role {
    const INBOUND: [u8; 8] = 1_i64.to_le_bytes();
    const OUTBOUND: [u8; 8] = 2_i64.to_le_bytes();
    match legacy_property(b"xds\0listener_direction", b"listener_direction").as_deref() {
        Some(direction) if direction == INBOUND => Role::Inbound,
        Some(direction) if direction == OUTBOUND => Role::Outbound,
        _ => Role::Gateway,
    }
}

/// A text of the node.
fn node(name: &[u8]) -> Option<Box<str>> {
    let legacy = [b"node\0", name].concat();
    text(legacy_property(&[b"xds\0", &*legacy].concat(), &legacy)?)
}

/// A text in the node's metadata.
fn metadata(path: &[&[u8]]) -> Option<Box<str>> {
    let path = path.join(&0);
    let legacy = [b"node\0metadata\0", &*path].concat();
    text(legacy_property(&[b"xds\0", &*legacy].concat(), &legacy)?)
}

fn text(bytes: Vec<u8>) -> Option<Box<str>> {
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty()).map(Into::into)
}
