//! A receiver that answers posts as New Relic's public interfaces do, and decodes what they carry.
//!
//! | Interface | Path | Success | Without a key | Source |
//! |---|---|--:|--:|---|
//! | Trace API, format `newrelic` | `/trace/v1` | 202 | 403 | docs.newrelic.com, "Trace API general requirements and limits" |
//! | Event API | `/v1/accounts/{id}/events` | 200 | 403 | docs.newrelic.com, "Introduction to the Event API" |
//! | OTLP/HTTP, protobuf and JSON | `/v1/traces` | 200 | 401 | OpenTelemetry protocol specification; docs.newrelic.com, "New Relic OTLP endpoint" |
//!
//! The first two look at the contents of a body only after they have accepted it: what is wrong there is a [`Problem`]
//! of an accepted post, as New Relic's `NrIntegrationError` event tells it. OTLP refuses a body it cannot decode.
//!
//! ```
//! use std::time::Duration;
//! use host_tests::newrelic::Receiver;
//! # use host_tests::{Envoy, Module, Plugin};
//! # fn main() -> host_tests::Result<()> {
//! # let module = Module::from_bytes(r#"(module (memory (export "memory") 1)
//! #   (func (export "proxy_abi_version_0_2_1"))
//! #   (func (export "malloc") (param i32) (result i32) (i32.const 1024)))"#)?;
//! let receiver = Receiver::with_key("license-key");
//! let mut envoy = Envoy::builder(&module)
//!     .plugin(Plugin::new("tracing"))
//!     .serving_cluster("trace-api", Duration::from_millis(20), receiver.server())
//!     .start()?;
//! envoy.advance(Duration::from_secs(60))?; // The module posts, and is answered.
//! assert_eq!(receiver.spans().len(), 0); // This module did not.
//! # Ok(())
//! # }
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use newrelic_ingest::{Form, Head, Key};
use serde_json::json;

use crate::http_call::{Answer, HttpCall};

pub use newrelic_ingest::{BODY_BYTES_MAX, Contents, Event, Interface, Problem, Refusal, Span};

/// What became of a post.
#[derive(Debug, Clone, PartialEq)]
pub struct Post {
    /// The interface, when the path names one.
    pub interface: Option<Interface>,
    /// What it carried, or why it was refused.
    pub outcome: Result<Contents, Refusal>,
}

impl Post {
    /// The status that tells the sender of it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match (&self.outcome, &self.interface) {
            (Ok(_), Some(interface)) => interface.success(),
            (Ok(_), None) => Refusal::Path.status(None),
            (Err(refusal), interface) => refusal.status(interface.as_ref()),
        }
    }
}

/// The receiver. Clones of it are the same receiver, so that a test keeps one while the proxy asks another.
#[derive(Debug, Clone)]
pub struct Receiver {
    key: Arc<Key>,
    posts: Arc<Mutex<Vec<Post>>>,
}

impl Receiver {
    /// A receiver that knows one license key.
    #[must_use]
    pub fn with_key(key: &str) -> Self {
        Self { key: Arc::new(Key::Exactly(key.to_owned())), posts: Arc::default() }
    }

    /// Takes a post, and gives the answer that New Relic would give.
    pub fn receive(&self, call: &HttpCall) -> Answer {
        let (post, form) = read(call, &self.key);
        let status = post.status();
        let mut posts = self.lock();
        posts.push(post);
        answer(status, posts.last().and_then(|post| post.interface.as_ref()), form, posts.len())
    }

    /// The receiver as a cluster that answers by itself, see [`Builder::serving_cluster`](crate::Builder).
    pub fn server(&self) -> impl Fn(&HttpCall) -> Option<Answer> + Send + Sync + 'static {
        let receiver = self.clone();
        move |call| Some(receiver.receive(call))
    }

    /// Every post, in the order they came.
    #[must_use]
    pub fn posts(&self) -> Vec<Post> {
        self.lock().clone()
    }

    /// Every span that was accepted, in the order they came.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.collect(|contents| &contents.spans)
    }

    /// Every event that was accepted, in the order they came.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.collect(|contents| &contents.events)
    }

    /// What was wrong inside posts that were accepted.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.collect(|contents| &contents.problems)
    }

    /// Why posts were refused.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refusal> {
        self.lock().iter().filter_map(|post| post.outcome.as_ref().err().copied()).collect()
    }

    fn collect<T: Clone>(&self, part: impl Fn(&Contents) -> &Vec<T>) -> Vec<T> {
        let posts = self.lock();
        posts.iter().filter_map(|post| post.outcome.as_ref().ok()).flat_map(|contents| part(contents).clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Post>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a call as a post to the interface its path names. The form is known of an accepted post.
fn read(call: &HttpCall, key: &Key) -> (Post, Option<Form>) {
    let header = |name: &str| call.headers.text(name);
    let path = header(":path").unwrap_or_default();
    let Some(interface) = Interface::of_path(&path) else {
        return (Post { interface: None, outcome: Err(Refusal::Path) }, None);
    };
    let head = Head::read(header(":method").unwrap_or_default(), path, header);
    let form = interface.check(&head, call.body.len(), key);
    let outcome = form.and_then(|form| interface.decode(form, &call.body));
    (Post { interface: Some(interface), outcome }, form.ok())
}

/// The answer with this status to the post with this number.
fn answer(status: u16, interface: Option<&Interface>, form: Option<Form>, number: usize) -> Answer {
    let answer = Answer::status(status);
    let id = format!("00000000-0000-4000-8000-{number:012}");
    let body = match (interface, form) {
        (Some(interface), Some(form)) if status == interface.success() => interface.success_body(form, &id),
        (Some(Interface::EventApi { .. }), _) => json!({ "success": false, "uuid": id }).to_string(),
        _ => json!({ "requestId": id }).to_string(),
    };
    let of_protobuf = form.is_some_and(|form| !form.json);
    let content_type = if of_protobuf { "application/x-protobuf" } else { "application/json" };
    answer.header("content-type", content_type).body(body)
}
