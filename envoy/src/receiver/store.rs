//! What has arrived, in memory and bounded: of each kind the newest records are kept.

use std::collections::VecDeque;

use axum::http::{HeaderMap, StatusCode};
use newrelic_ingest::{Contents, Event, Span};
use serde_json::{Map, Value};

use super::script::Api;

/// Spans kept, and transactions kept. A long-running demo must not grow without end.
const RECORDS_MAX: usize = 20_000;
/// Posts kept, and complaints kept.
const POSTS_MAX: usize = 1_000;

/// Attributes by name.
pub type Attributes = Map<String, Value>;

/// One span with the Trace API's names, whichever way it came; attributes it shares with others are merged in.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanRecord {
    /// Span id.
    pub id: String,
    /// Trace id, as sent.
    pub trace_id: String,
    /// Start, Unix epoch milliseconds.
    pub timestamp_ms: u64,
    /// Everything else.
    pub attributes: Attributes,
}

impl SpanRecord {
    /// A span as it came at `now_ms`, which is its start when it names none.
    fn of(span: Span, now_ms: u64) -> Self {
        let mut attributes: Attributes = span.attributes.into_iter().collect();
        let mut put = |name: &str, value: Option<Value>| attributes.extend(value.map(|value| (name.to_owned(), value)));
        put("name", span.name.map(Value::from));
        put("parent.id", span.parent_id.map(Value::from));
        put("duration.ms", span.duration_ms.map(Value::from));
        let timestamp_ms = span.start_ns.map_or(now_ms, |start_ns| start_ns / 1_000_000);
        Self { id: span.id, trace_id: span.trace_id, timestamp_ms, attributes }
    }

    /// A text attribute; empty when the span has none of that name.
    pub fn text(&self, name: &str) -> &str {
        self.attributes.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Name of the service that made the span.
    pub fn service(&self) -> &str {
        self.text("service.name")
    }

    /// `server`, `client`, or what else the span says it is.
    pub fn kind(&self) -> &str {
        self.text("span.kind")
    }

    /// Id of the parent span. `None` marks the root of a trace.
    pub fn parent_id(&self) -> Option<&str> {
        self.attributes.get("parent.id").and_then(Value::as_str)
    }

    /// How long it took, in milliseconds.
    pub fn duration_ms(&self) -> f64 {
        self.attributes.get("duration.ms").and_then(Value::as_f64).unwrap_or_default()
    }

    /// The failure, when an attribute whose name begins with `error.` tells of one.
    pub fn error(&self) -> Option<String> {
        let failed = self.attributes.keys().any(|name| name.starts_with("error."));
        let words = [self.text("error.class"), self.text("error.message")];
        failed.then(|| words.join(" ").trim().to_owned())
    }
}

/// One `Transaction` event.
#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    /// All its attributes; events are flat.
    pub attributes: Attributes,
}

impl Transaction {
    fn of(event: Event) -> Self {
        let mut attributes: Attributes = event.attributes.into_iter().collect();
        attributes.insert("eventType".to_owned(), event.event_type.into());
        attributes.extend(event.timestamp_ms.map(|timestamp_ms| ("timestamp".to_owned(), timestamp_ms.into())));
        Self { attributes }
    }

    /// A text attribute; empty when the event has none of that name.
    pub fn text(&self, name: &str) -> &str {
        self.attributes.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// One post and what it was answered.
#[derive(Debug, Clone)]
pub struct Post {
    /// Where it went.
    pub api: Api,
    /// Its headers.
    pub headers: HeaderMap,
    /// The answer's status.
    pub status: StatusCode,
}

/// A payload that was accepted and then found faulty, as New Relic tells by an `NrIntegrationError` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrationError {
    /// The id that the post was answered with.
    pub request_id: String,
    /// What is wrong with it.
    pub message: String,
}

/// Everything the receiver keeps.
#[derive(Debug, Default)]
pub struct Store {
    spans: VecDeque<SpanRecord>,
    transactions: VecDeque<Transaction>,
    posts: VecDeque<Post>,
    integration_errors: VecDeque<IntegrationError>,
    accepted_posts: u64,
}

impl Store {
    /// The spans, in the order of their arrival.
    pub fn spans(&self) -> impl DoubleEndedIterator<Item = &SpanRecord> {
        self.spans.iter()
    }

    /// The spans of one trace, in the order of their arrival.
    pub fn trace(&self, trace_id: &str) -> impl Iterator<Item = &SpanRecord> {
        self.spans.iter().filter(move |span| span.trace_id == trace_id)
    }

    /// The Transaction events, in the order of their arrival.
    pub fn transactions(&self) -> impl Iterator<Item = &Transaction> {
        self.transactions.iter()
    }

    /// The posts, in the order of their arrival.
    pub fn posts(&self) -> impl Iterator<Item = &Post> {
        self.posts.iter()
    }

    /// The payloads found faulty.
    pub fn integration_errors(&self) -> impl Iterator<Item = &IntegrationError> {
        self.integration_errors.iter()
    }

    /// Keeps the spans and Transaction events of an accepted post, and what is wrong with its other records.
    pub(super) fn keep(&mut self, contents: Contents, now_ms: u64, request_id: &str) {
        for span in contents.spans {
            push(&mut self.spans, SpanRecord::of(span, now_ms), RECORDS_MAX);
        }
        for event in contents.events.into_iter().filter(|event| event.event_type == "Transaction") {
            push(&mut self.transactions, Transaction::of(event), RECORDS_MAX);
        }
        for problem in contents.problems {
            let error = IntegrationError { request_id: request_id.to_owned(), message: problem.to_string() };
            push(&mut self.integration_errors, error, POSTS_MAX);
        }
    }

    pub(super) fn note(&mut self, post: Post) {
        push(&mut self.posts, post, POSTS_MAX);
    }

    /// An id for the next accepted post, unique in this receiver, in the form of a UUID.
    pub(super) fn next_request_id(&mut self) -> String {
        self.accepted_posts += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.accepted_posts)
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, length_max: usize) {
    if queue.len() == length_max {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_forgets_its_oldest_item() {
        let mut queue = VecDeque::new();
        for item in 1..=5 {
            push(&mut queue, item, 3);
        }
        assert_eq!(queue, [3, 4, 5]);
    }
}
