//! Small guests in the text form of WebAssembly, and what tests ask of them again and again.

use host_tests::{Envoy, Module, Plugin, Thread};

/// Imports, memory, allocator and logging helpers of every guest.
const PRELUDE: &str = include_str!("prelude.wat");

/// Where the texts of a guest begin in its memory.
const TEXTS_AT: usize = 4096;

/// A guest: the prelude, then `body`, in which `@"text"` stands for the pointer and length of that
/// text. `\hh` in it is a byte.
pub(crate) fn guest(body: &str) -> Module {
    let (body, texts) = place_texts(body);
    let wat = format!("(module {PRELUDE} {body} {texts})");
    Module::from_bytes(wat).expect("the guest is valid WebAssembly text")
}

fn place_texts(body: &str) -> (String, String) {
    let (mut code, mut data, mut at) = (String::new(), String::new(), TEXTS_AT);
    let mut parts = body.split("@\"");
    code += parts.next().unwrap_or_default();
    for part in parts {
        let (text, rest) = part.split_once('"').expect("a text ends with a quotation mark");
        let len = text.len() - 2 * text.matches('\\').count();
        code += &format!("(i32.const {at}) (i32.const {len}){rest}");
        data += &format!("(data (i32.const {at}) \"{text}\")");
        at += len;
    }
    (code, data)
}

/// A proxy with one worker that runs `body` as its only plugin.
pub(crate) fn envoy(body: &str) -> Envoy {
    let builder = Envoy::builder(&guest(body)).plugin(Plugin::new("plugin"));
    builder.cluster("up").start().expect("the guest starts")
}

/// What the guest logged on the first worker.
pub(crate) fn said(envoy: &Envoy) -> Vec<String> {
    said_on(envoy, Thread::Worker(0))
}

/// What the guest logged on a thread.
pub(crate) fn said_on(envoy: &Envoy, thread: Thread) -> Vec<String> {
    let lines = envoy.logs().into_iter().filter(|line| line.thread == thread);
    lines.map(|line| line.message).collect()
}

/// The names of the callbacks on a thread, in order.
pub(crate) fn callbacks(envoy: &Envoy, thread: Thread) -> Vec<&'static str> {
    let all = envoy.callbacks().into_iter().filter(|callback| callback.thread == thread);
    all.map(|callback| callback.name).collect()
}

/// The headers of a request.
pub(crate) const REQUEST: &[(&str, &str)] =
    &[(":method", "GET"), (":path", "/a?b=c#d"), (":authority", "shop"), (":scheme", "http")];

/// The headers of a response.
pub(crate) const RESPONSE: &[(&str, &str)] = &[(":status", "200"), ("x-up", "1"), ("x-up", "2")];
