//! New Relic's public ingest interfaces, seen from the other side: which posts they take, how they answer, and what
//! a body carries.
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
//! There is no server here and no clock. A server gives the [`Head`] of a post and its body:
//!
//! ```
//! use newrelic_ingest::{Head, Interface, Key};
//!
//! let headers = |name: &str| match name {
//!     "api-key" => Some("k".into()),
//!     "content-type" => Some("application/json".into()),
//!     _ => None,
//! };
//! let body = br#"[{"spans": [{"id": "1", "trace.id": "2"}]}]"#;
//! let interface = Interface::of_path("/trace/v1").unwrap();
//! let head = Head::read("POST", "/trace/v1", headers);
//! let form = interface.check(&head, body.len(), &Key::Exactly("k".to_owned())).unwrap();
//! let contents = interface.decode(form, body).unwrap();
//! assert_eq!((interface.success(), &*contents.spans[0].id), (202, "1"));
//! ```

mod check;
mod event_api;
mod otlp;
mod trace_api;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

pub use check::{Form, Head, Key};

/// Bytes of a body as sent, beyond which every interface refuses it: 1 MB.
pub const BODY_BYTES_MAX: usize = 1_000_000;
/// Bytes that a body may have when it is inflated, so that no small body fills the memory.
pub const INFLATED_BYTES_MAX: u64 = 32_000_000;

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

impl Interface {
    /// The interface at a path; a query behind it does not matter.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        match path {
            "/trace/v1" => return Some(Self::TraceApi),
            "/v1/traces" => return Some(Self::Otlp),
            _ => {}
        }
        let account_id = path.strip_prefix("/v1/accounts/")?.strip_suffix("/events")?;
        let is_number = !account_id.is_empty() && account_id.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| Self::EventApi { account_id: account_id.to_owned() })
    }

    /// The status of an accepted post.
    #[must_use]
    pub fn success(&self) -> u16 {
        match self {
            Self::TraceApi => 202,
            Self::EventApi { .. } | Self::Otlp => 200,
        }
    }

    /// The body of an accepted post's answer. That of OTLP is an `ExportTraceServiceResponse` without fields: no
    /// bytes at all as protobuf, an empty object as JSON.
    #[must_use]
    pub fn success_body(&self, form: Form, request_id: &str) -> String {
        match self {
            Self::TraceApi => json!({ "requestId": request_id }).to_string(),
            Self::EventApi { .. } => json!({ "success": true, "uuid": request_id }).to_string(),
            Self::Otlp if form.json => "{}".to_owned(),
            Self::Otlp => String::new(),
        }
    }
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
    /// The body did not arrive in time: 408.
    Slow,
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

impl Refusal {
    /// The status that tells the sender of it. `interface` is the one that the path names.
    #[must_use]
    pub fn status(self, interface: Option<&Interface>) -> u16 {
        match (self, interface) {
            (Self::Path, _) => 404,
            (Self::Method, _) => 405,
            (Self::MissingKey, Some(Interface::Otlp)) => 401,
            (Self::MissingKey | Self::WrongKey, _) => 403,
            (Self::Length, Some(Interface::EventApi { .. })) => 400,
            (Self::Length, _) => 411,
            (Self::Slow, _) => 408,
            (Self::TooLarge, _) => 413,
            (Self::ContentType | Self::ContentEncoding, _) => 415,
            (Self::DataFormat | Self::Body, _) => 400,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "no interface has this path",
            Self::Method => "the method is not POST",
            Self::MissingKey => "the header api-key is missing",
            Self::WrongKey => "the api key is another one",
            Self::Length => "the body is missing",
            Self::Slow => "the body did not arrive in time",
            Self::TooLarge => "the body is larger than 1 MB",
            Self::ContentType => "the content type is not one of this interface",
            Self::ContentEncoding => "the content encoding is neither absent nor gzip",
            Self::DataFormat => "data-format and data-format-version are not newrelic and 1",
            Self::Body => "the body cannot be decoded",
        })
    }
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

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "the body is not the gzip it claims to be",
            Self::Shape => "the body is not JSON of the right shape",
            Self::SpanId => "a span has no id",
            Self::TraceId => "a span has no trace.id",
            Self::Timestamp => "a timestamp is no whole number of milliseconds",
            Self::Duration => "a duration.ms is no number, or negative",
            Self::Attribute => "an attribute is neither text nor number nor truth value",
            Self::EventType => "an event has no eventType that starts with a letter",
        })
    }
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

/// Takes the attributes of an object; `None` when one is neither text nor number nor truth value.
fn attributes_of(object: &serde_json::Map<String, Value>) -> Option<BTreeMap<String, Value>> {
    let is_scalar = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    object.values().all(is_scalar).then(|| object.clone().into_iter().collect())
}
