//! The node: what the bootstrap says of this proxy.

use std::collections::BTreeMap;

use crate::property::{Path, Value};

/// The properties `xds.node.*`, readable in every context.
#[derive(Debug, Clone, Default)]
pub struct Node {
    properties: BTreeMap<Path, Value>,
}

impl Node {
    /// A node with this id and service cluster.
    #[must_use]
    pub fn new(id: &str, cluster: &str) -> Self {
        Self::default().with(&["id"], id).with(&["cluster"], cluster)
    }

    /// Adds one entry of the metadata, such as `["LABELS", "app"]`.
    #[must_use]
    pub fn metadata(self, path: &[&str], value: impl Into<Value>) -> Self {
        self.with(&[&["metadata"], path].concat(), value)
    }

    /// Adds a field by its path below `node`, such as `["locality", "zone"]`.
    #[must_use]
    pub fn with(mut self, path: &[&str], value: impl Into<Value>) -> Self {
        self.properties.insert(Path::from(path), value.into());
        self
    }

    pub(crate) fn property(&self, below_node: &[&[u8]]) -> Option<&Value> {
        let found = self.properties.iter().find(|(path, _)| path.segments() == below_node);
        found.map(|(_, value)| value)
    }
}
