//! What the module knows of its contexts and calls.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::abi;

/// The map of request headers.
const REQUEST_HEADERS: u32 = 0;

/// One context.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) plugin: String,
    /// The context of the plugin, and itself in a root context.
    pub(crate) root: u32,
    pub(crate) is_root: bool,
    pub(crate) script: Option<String>,
}

/// A call whose answer is awaited.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) label: String,
    /// The context that made it.
    pub(crate) context: u32,
    /// The script of that context, which may be gone when the answer comes.
    pub(crate) script: String,
}

/// Everything one VM remembers.
pub(crate) struct State {
    pub(crate) contexts: BTreeMap<u32, Context>,
    pub(crate) calls: BTreeMap<u32, Call>,
    /// The context of the call that is being answered.
    pub(crate) caller: u32,
    /// The latest metric, queue and compare-and-swap number.
    pub(crate) metric: u32,
    pub(crate) queue: u32,
    pub(crate) cas: u32,
}

static STATE: Mutex<State> =
    Mutex::new(State { contexts: BTreeMap::new(), calls: BTreeMap::new(), caller: 0, metric: 0, queue: 0, cas: 0 });

/// The state. Nobody holds it while the host is called.
pub(crate) fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers a new context.
pub(crate) fn create(context: u32, parent: u32) {
    let known = state().contexts.get(&parent).cloned();
    let new = match known {
        Some(root) => Context { plugin: root.plugin, root: parent, is_root: false, script: None },
        None => {
            let name = abi::property(b"plugin_name").1;
            let plugin = String::from_utf8_lossy(&name).into_owned();
            Context { plugin, root: context, is_root: true, script: None }
        }
    };
    state().contexts.insert(context, new);
}

/// Logs a line for a context.
pub(crate) fn say(context: u32, text: &str) {
    let (plugin, kind) = match state().contexts.get(&context) {
        Some(Context { plugin, is_root, .. }) => (plugin.clone(), if *is_root { "root" } else { "stream" }),
        None => (String::new(), "unknown"),
    };
    abi::log(2, format!("probe|{plugin}|{kind}|{text}").as_bytes());
}

/// The script of a context. That of a stream is in its first header of that name, if there is one.
pub(crate) fn script(context: u32) -> String {
    let Some(known) = state().contexts.get(&context).cloned() else { return String::new() };
    if let Some(script) = known.script {
        return script;
    }
    if known.is_root {
        return String::new();
    }
    let (status, header) = abi::header(REQUEST_HEADERS, b"x-script");
    if status == 0 && !header.is_empty() {
        let script = String::from_utf8_lossy(&header).into_owned();
        set_script(context, script.clone());
        return script;
    }
    state().contexts.get(&known.root).and_then(|root| root.script.clone()).unwrap_or_default()
}

/// Remembers the script of a context.
pub(crate) fn set_script(context: u32, script: String) {
    if let Some(context) = state().contexts.get_mut(&context) {
        context.script = Some(script);
    }
}
