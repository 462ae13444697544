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

mod check;
mod event_api;
mod otlp;
mod trace_api;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::http_call::{Answer, HttpCall};

/// Bytes of a body as sent, beyond which every interface refuses it.
pub const BODY_BYTES_MAX: usize = 1_000_000;

/// One of the public interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interface {
    /// Spans in the format `newrelic`.
    TraceApi,
    /// Custom events of an account.
    EventApi {
        /// The account, from the path.
        account_id: String,
    },
    /// Spans in OpenTelemetry's format.
    Otlp,
}

/// Why a post was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No interface has this path: 404.
    Path,
    /// It is no POST: 405.
    Method,
    /// There is no key: 403, for OTLP 401.
    MissingKey,
    /// The key is another one: 403.
    WrongKey,
    /// There is no body, and so no length of it: 411, for the Event API 400.
    Length,
    /// The body is larger than [`BODY_BYTES_MAX`]: 413.
    TooLarge,
    /// `content-type` is not one of this interface: 415.
    ContentType,
    /// `content-encoding` is neither absent nor `gzip`: 415.
    ContentEncoding,
    /// `data-format` and `data-format-version` are not those of the format `newrelic`: 400.
    DataFormat,
    /// OTLP: the body is not an export request, or not the gzip it claims to be: 400.
    Body,
}

/// What is wrong inside a post that was accepted. The record it is about is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The body is not the gzip it claims to be.
    Gzip,
    /// The body is not JSON of the right shape: an array of objects, each with `spans`; for events one object or an
    /// array of them.
    Shape,
    /// A span has no `id`.
    SpanId,
    /// A span has no `trace.id`.
    TraceId,
    /// A timestamp is no whole number of milliseconds.
    Timestamp,
    /// `duration.ms` is not a number, or negative.
    Duration,
    /// An attribute is an object, an array, or null where that means nothing.
    Attribute,
    /// An event has no `eventType` that starts with a letter.
    EventType,
}

/// A span, whichever way it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The trace, in lowercase hex when it came through OTLP.
    pub trace_id: String,
    /// The span, in lowercase hex when it came through OTLP.
    pub id: String,
    /// The parent; `None` for a root.
    pub parent_id: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// Its begin, nanoseconds since 1970; `None` when the sender left it to the receiver's clock.
    pub start_ns: Option<u64>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<f64>,
    /// Everything else: the span's own attributes, and those of its group, scope and resource which it does not
    /// override.
    pub attributes: BTreeMap<String, Value>,
}

/// A custom event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The account it was posted for.
    pub account_id: String,
    /// `eventType`.
    pub event_type: String,
    /// `timestamp`, milliseconds since 1970 (seconds are accepted and made milliseconds).
    pub timestamp_ms: Option<u64>,
    /// Everything else.
    pub attributes: BTreeMap<String, Value>,
}

/// The records of a body, and what is wrong with others.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Contents {
    /// Spans, in order.
    pub spans: Vec<Span>,
    /// Events, in order.
    pub events: Vec<Event>,
    /// One for each record that was lost, or for the whole body.
    pub problems: Vec<Problem>,
}

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
            (Ok(_), Some(Interface::TraceApi)) => 202,
            (Ok(_), _) => 200,
            (Err(Refusal::Path), _) => 404,
            (Err(Refusal::Method), _) => 405,
            (Err(Refusal::MissingKey), Some(Interface::Otlp)) => 401,
            (Err(Refusal::MissingKey | Refusal::WrongKey), _) => 403,
            (Err(Refusal::Length), Some(Interface::EventApi { .. })) => 400,
            (Err(Refusal::Length), _) => 411,
            (Err(Refusal::TooLarge), _) => 413,
            (Err(Refusal::ContentType | Refusal::ContentEncoding), _) => 415,
            (Err(Refusal::DataFormat | Refusal::Body), _) => 400,
        }
    }
}

/// The receiver. Clones of it are the same receiver, so that a test keeps one while the proxy asks another.
#[derive(Debug, Clone)]
pub struct Receiver {
    key: Arc<str>,
    posts: Arc<Mutex<Vec<Post>>>,
}

impl Receiver {
    /// A receiver that knows one license key.
    #[must_use]
    pub fn with_key(key: &str) -> Self {
        Self { key: key.into(), posts: Arc::default() }
    }

    /// Takes a post, and gives the answer that New Relic would give.
    pub fn receive(&self, call: &HttpCall) -> Answer {
        let post = check::read(call, &self.key);
        let status = post.status();
        let mut posts = self.lock();
        posts.push(post);
        answer(status, posts.last().and_then(|post| post.interface.as_ref()), posts.len())
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

/// The answer with this status to the post with this number.
fn answer(status: u16, interface: Option<&Interface>, number: usize) -> Answer {
    let answer = Answer::status(status);
    let id = format!("00000000-0000-4000-8000-{number:012}");
    let body = match (interface, status) {
        (Some(Interface::Otlp), 200) => return answer,
        (Some(Interface::EventApi { .. }), 200) => json!({ "success": true, "uuid": id }),
        (Some(Interface::EventApi { .. }), _) => json!({ "success": false, "uuid": id }),
        _ => json!({ "requestId": id }),
    };
    answer.header("content-type", "application/json").body(body.to_string())
}

/// Takes the attributes of an object; `None` when one is neither text nor number nor truth value.
fn attributes_of(object: &serde_json::Map<String, Value>) -> Option<BTreeMap<String, Value>> {
    let is_scalar = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    object.values().all(is_scalar).then(|| object.clone().into_iter().collect())
}
