//! One plugin as an operator configures it.

use std::collections::BTreeMap;

use crate::module::Module;

/// What happens to streams once the module has trapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailurePolicy {
    /// The stream that trapped and all later ones get 503. Envoy's default.
    #[default]
    Closed,
    /// `failure_policy: FAIL_OPEN`: the stream that trapped gets 503, later ones pass by the filter.
    Open,
    /// `failure_policy: FAIL_RELOAD`: 503 until a back-off of one second has passed, then a new VM.
    Reload,
    /// The deprecated `fail_open: true`: also the stream that trapped goes on without the filter.
    LegacyFailOpen,
}

/// Which way the traffic of a listener flows (`envoy.config.core.v3.TrafficDirection`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i32)]
pub enum Direction {
    /// Not stated.
    #[default]
    Unspecified = 0,
    /// To the workload of this proxy.
    Inbound = 1,
    /// From the workload of this proxy.
    Outbound = 2,
}

/// The settings of one plugin. Fields are public; the methods are for building in one expression.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// `name`, the property `plugin_name`.
    pub name: String,
    /// `root_id`, the property `plugin_root_id`.
    pub root_id: String,
    /// `vm_config.vm_id`: shared data and queues are kept apart by it. Istio leaves it empty.
    pub vm_id: String,
    /// `configuration` as the guest reads it.
    pub configuration: Vec<u8>,
    /// `vm_config.configuration` as the guest reads it.
    pub vm_configuration: Vec<u8>,
    /// `vm_config.environment_variables`.
    pub environment: BTreeMap<String, String>,
    /// What happens once the module has trapped.
    pub failure_policy: FailurePolicy,
    /// The name of the listener whose streams pass through the plugin.
    pub listener: String,
    /// The traffic direction of that listener.
    pub direction: Direction,
    /// The code, when it is not the module the proxy was built with.
    pub module: Option<Module>,
}

impl Plugin {
    /// A plugin with this name, an empty configuration, and Envoy's defaults.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            root_id: String::new(),
            vm_id: String::new(),
            configuration: Vec::new(),
            vm_configuration: Vec::new(),
            environment: BTreeMap::new(),
            failure_policy: FailurePolicy::default(),
            listener: "default".to_owned(),
            direction: Direction::default(),
            module: None,
        }
    }

    /// Sets the root id.
    #[must_use]
    pub fn root_id(self, root_id: impl Into<String>) -> Self {
        Self { root_id: root_id.into(), ..self }
    }

    /// Sets the VM id.
    #[must_use]
    pub fn vm_id(self, vm_id: impl Into<String>) -> Self {
        Self { vm_id: vm_id.into(), ..self }
    }

    /// Sets the configuration of the plugin.
    #[must_use]
    pub fn configuration(self, configuration: impl AsRef<[u8]>) -> Self {
        Self { configuration: configuration.as_ref().to_vec(), ..self }
    }

    /// Sets the configuration of the VM.
    #[must_use]
    pub fn vm_configuration(self, configuration: impl AsRef<[u8]>) -> Self {
        Self { vm_configuration: configuration.as_ref().to_vec(), ..self }
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Sets the failure policy.
    #[must_use]
    pub fn failure_policy(self, failure_policy: FailurePolicy) -> Self {
        Self { failure_policy, ..self }
    }

    /// Puts the plugin on a listener. Plugins of one listener form a chain, in the order given.
    #[must_use]
    pub fn listener(self, name: impl Into<String>, direction: Direction) -> Self {
        Self { listener: name.into(), direction, ..self }
    }

    /// Gives the plugin code of its own.
    #[must_use]
    pub fn module(self, module: &Module) -> Self {
        Self { module: Some(module.clone()), ..self }
    }

    /// Plugins of one VM with the same key share a root context (Envoy `plugin.h`, `createPluginKey`).
    pub(crate) fn root_key(&self) -> RootKey {
        RootKey {
            root_id: self.root_id.clone(),
            configuration: self.configuration.clone(),
            name: self.name.clone(),
            direction: self.direction as i32,
        }
    }

    /// Plugins with the same key share a VM on each thread.
    pub(crate) fn vm_key(&self, code: u64, separates_environments: bool) -> VmKey {
        VmKey {
            vm_id: self.vm_id.clone(),
            vm_configuration: self.vm_configuration.clone(),
            code,
            environment: separates_environments.then(|| self.environment.clone()),
        }
    }
}

/// See [`Plugin::root_key`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RootKey {
    root_id: String,
    configuration: Vec<u8>,
    name: String,
    direction: i32,
}

/// See [`Plugin::vm_key`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VmKey {
    vm_id: String,
    vm_configuration: Vec<u8>,
    code: u64,
    environment: Option<BTreeMap<String, String>>,
}
