//! A span as the store keeps it, and what the rules look at in it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Attributes of one span, beyond which New Relic's Trace API keeps none ("Trace API general requirements and
/// limits" in New Relic's documentation, as the next ones).
pub const ATTRIBUTES_MAX: usize = 200;
/// Bytes of an attribute's name; an attribute with a longer one is left out.
pub const NAME_BYTES_MAX: usize = 255;
/// Characters of a text; a longer one is cut.
pub const VALUE_CHARS_MAX: usize = 4_095;
/// Elements of a list; a longer one is cut.
pub const LIST_LEN_MAX: usize = 64;
/// Name of the service of spans that name none.
pub const UNKNOWN_SERVICE: &str = "UNKNOWN";

/// Attributes by name.
pub type Attributes = BTreeMap<String, Value>;

/// One span as it is kept, whichever way it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Span id, unique in its trace.
    pub id: String,
    /// The parent; `None` for the root of a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// Name; empty when it has none.
    pub name: String,
    /// Start, nanoseconds since 1970, at most `i64::MAX`.
    pub start_ns: u64,
    /// How long it took, in nanoseconds. It ends at `i64::MAX` at the latest.
    pub duration_ns: u64,
    /// Everything else.
    pub attributes: Attributes,
}

impl Span {
    /// Takes a span as it came at `now_ms`, which is its start when it names none. Gives the trace's id, too.
    pub fn take(span: newrelic_ingest::Span, now_ms: u64) -> (String, Self) {
        let latest = i64::MAX.unsigned_abs();
        let start_ns = span.start_ns.unwrap_or_else(|| now_ms.saturating_mul(1_000_000)).min(latest);
        let kept = Self {
            id: span.id,
            parent_id: span.parent_id.filter(|parent| !parent.is_empty()),
            name: cut(span.name.unwrap_or_default()),
            start_ns,
            duration_ns: nanoseconds(span.duration_ms.unwrap_or_default()).min(latest - start_ns),
            attributes: limit(span.attributes),
        };
        (span.trace_id, kept)
    }

    /// What the rules look at.
    pub fn facts(&self) -> Facts {
        let starts_with = |prefix| self.attributes.keys().any(|name| name.starts_with(prefix));
        let kind = Kind::of(self.text("span.kind"));
        let has_db = starts_with("db.");
        Facts {
            id: self.id.as_str().into(),
            parent_id: self.parent_id.as_deref().map(Into::into),
            name: self.name.as_str().into(),
            service: self.service().into(),
            entity_guid: Some(self.text("entity.guid")).filter(|guid| !guid.is_empty()).map(Into::into),
            start_ns: self.start_ns,
            duration_ns: self.duration_ns,
            kind,
            has_db,
            has_http: starts_with("http."),
            is_error: self.is_error(),
            is_front_end: ["browserApp.name", "mobileApp.name"].iter().any(|name| self.attributes.contains_key(*name)),
            callee: if has_db { Some(self.datastore().into()) } else { self.host_called(kind).map(Into::into) },
        }
    }

    /// Name of the service that made it, as New Relic's entity is called when there is none.
    pub fn service(&self) -> &str {
        Some(self.text("service.name")).filter(|name| !name.is_empty()).unwrap_or(UNKNOWN_SERVICE)
    }

    /// A text attribute; empty when there is none of that name.
    pub fn text(&self, name: &str) -> &str {
        self.attributes.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// An attribute that begins with `error.` marks a span as failed; so does OpenTelemetry's status.
    ///
    /// Sources: "Report traces via the Trace API" and "Understand and use the distributed tracing UI" in New Relic's
    /// documentation.
    fn is_error(&self) -> bool {
        self.attributes.keys().any(|name| name.starts_with("error.")) || self.text("otel.status_code") == "ERROR"
    }

    /// The failure in words; `None` for a span without one.
    pub fn error(&self) -> Option<String> {
        if !self.is_error() {
            return None;
        }
        let class = [self.text("error.class"), self.text("error.type")];
        let message = [self.text("error.message"), self.text("otel.status_description")];
        let words = [class, message].map(|names| names.into_iter().find(|text| !text.is_empty()).unwrap_or_default());
        let text = words.join(" ").trim().to_owned();
        Some(if text.is_empty() { "error".to_owned() } else { text })
    }

    /// The product, and where it is.
    fn datastore(&self) -> String {
        let first = |names: &[&str]| names.iter().map(|name| self.text(name)).find(|text| !text.is_empty());
        let product = first(&["db.system", "db.system.name", "component"]).unwrap_or("datastore");
        match first(&["server.address", "peer.hostname", "net.peer.name", "db.instance"]) {
            Some(place) => format!("{product} {place}"),
            None => product.to_owned(),
        }
    }

    /// The host that a call goes to. `http.url` and `net.peer.name` are what New Relic's External services page goes
    /// by; the others are only meant so on the span of a client, as a server has a `server.address`, too.
    fn host_called(&self, kind: Kind) -> Option<&str> {
        if matches!(kind, Kind::Server | Kind::Consumer) {
            return None;
        }
        let given = |name| Some(self.text(name)).filter(|text| !text.is_empty());
        let of_client = |name| given(name).filter(|_| kind == Kind::Client);
        given("http.url")
            .and_then(host)
            .or_else(|| given("net.peer.name"))
            .or_else(|| of_client("url.full").and_then(host))
            .or_else(|| of_client("server.address"))
            .or_else(|| of_client("peer.hostname"))
    }
}

/// Host and port of a URL.
fn host(url: &str) -> Option<&str> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(host).filter(|host| !host.is_empty())
}

/// What a span says it is, `span.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The work on a request.
    Server,
    /// The work on a message.
    Consumer,
    /// A call.
    Client,
    /// The sending of a message.
    Producer,
    /// Neither.
    Internal,
    /// It does not say, or something else.
    Unknown,
}

impl Kind {
    fn of(text: &str) -> Self {
        match text {
            "server" => Self::Server,
            "consumer" => Self::Consumer,
            "client" => Self::Client,
            "producer" => Self::Producer,
            "internal" => Self::Internal,
            _ => Self::Unknown,
        }
    }
}

/// What the rules look at in a span. The rest of an open trace's spans is not kept in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Span id.
    pub id: Box<str>,
    /// The parent; `None` for the root of a trace.
    pub parent_id: Option<Box<str>>,
    /// Name.
    pub name: Box<str>,
    /// Name of the service.
    pub service: Box<str>,
    /// New Relic's id of the service, where the span has one.
    pub entity_guid: Option<Box<str>>,
    /// Start, nanoseconds since 1970.
    pub start_ns: u64,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
    /// What it says it is.
    pub kind: Kind,
    /// Has an attribute whose name begins with `db.`.
    pub has_db: bool,
    /// Has an attribute whose name begins with `http.`.
    pub has_http: bool,
    /// Failed.
    pub is_error: bool,
    /// Made by a browser or a mobile app, not by a service.
    pub is_front_end: bool,
    /// The datastore, or else the host, that it calls.
    pub callee: Option<Box<str>>,
}

impl Facts {
    /// When it ended, nanoseconds since 1970.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.duration_ns)
    }

    /// Whether both were made by the same service. Its name tells only where one of them has no guid.
    pub fn is_same_entity(&self, other: &Self) -> bool {
        match (&self.entity_guid, &other.entity_guid) {
            (Some(guid), Some(other)) => guid == other,
            _ => self.service == other.service,
        }
    }

    /// About how much memory it takes, its place in an index included, in bytes.
    pub fn bytes(&self) -> usize {
        let texts = [Some(&self.id), Some(&self.id), self.parent_id.as_ref(), Some(&self.name), Some(&self.service)];
        let optional = [self.entity_guid.as_ref(), self.callee.as_ref()];
        let text: usize = texts.into_iter().chain(optional).flatten().map(|text| text.len() + ALLOCATION_BYTES).sum();
        size_of::<Self>() + text
    }
}

/// What an allocation costs beyond its bytes, about.
const ALLOCATION_BYTES: usize = 16;

fn nanoseconds(milliseconds: f64) -> u64 {
    let duration = Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or(Duration::MAX);
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn limit(attributes: Attributes) -> Attributes {
    let short = attributes.into_iter().filter(|(name, _)| name.len() <= NAME_BYTES_MAX);
    short.take(ATTRIBUTES_MAX).map(|(name, value)| (name, limit_value(value))).collect()
}

fn limit_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(cut(text)),
        Value::Array(items) => items.into_iter().take(LIST_LEN_MAX).map(limit_value).collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => other,
    }
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(VALUE_CHARS_MAX) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn span(attributes: Value) -> Span {
        let span = newrelic_ingest::Span {
            trace_id: "t".to_owned(),
            id: "a".to_owned(),
            parent_id: None,
            name: None,
            start_ns: None,
            duration_ms: Some(1.5),
            attributes: serde_json::from_value(attributes).unwrap(),
        };
        Span::take(span, 7).1
    }

    #[test]
    fn a_span_without_a_start_began_when_it_arrived() {
        assert_eq!((span(json!({})).start_ns, span(json!({})).duration_ns), (7_000_000, 1_500_000));
    }

    #[test]
    fn attributes_beyond_the_limits_are_left_out_or_cut() {
        let many: Attributes = (0..=ATTRIBUTES_MAX).map(|index| (format!("a{index:04}"), json!(index))).collect();
        assert_eq!(span(json!(many)).attributes.len(), ATTRIBUTES_MAX);
        let name = |len| "n".repeat(len);
        let long = span(json!({
            name(NAME_BYTES_MAX): 1, name(NAME_BYTES_MAX + 1): 2,
            "text": "ä".repeat(VALUE_CHARS_MAX + 1), "list": vec![0; LIST_LEN_MAX + 1],
        }));
        assert_eq!(long.attributes.len(), 3, "the attribute with the longer name is gone");
        assert_eq!(long.text("text").chars().count(), VALUE_CHARS_MAX);
        assert_eq!(long.attributes["list"].as_array().map(Vec::len), Some(LIST_LEN_MAX));
    }

    #[test]
    fn only_attributes_that_begin_with_error_or_an_error_status_mark_a_failure() {
        for (attributes, error) in [
            (json!({}), None),
            (json!({ "error": true, "errors": 1, "http.statusCode": 503 }), None),
            (json!({ "error.class": "503", "error.message": "Service Unavailable" }), Some("503 Service Unavailable")),
            (json!({ "error.type": "timeout" }), Some("timeout")),
            (json!({ "error.expected": true }), Some("error")),
            (json!({ "otel.status_code": "ERROR", "otel.status_description": "broken" }), Some("broken")),
            (json!({ "otel.status_code": "OK", "otel.status_description": "fine" }), None),
        ] {
            let span = span(attributes.clone());
            assert_eq!(span.error().as_deref(), error, "{attributes}");
            assert_eq!(span.facts().is_error, error.is_some(), "{attributes}");
        }
    }

    #[test]
    fn a_call_leads_to_its_datastore_or_its_host() {
        for (attributes, callee) in [
            (json!({ "http.url": "http://u:p@bank:8443/a?b#c" }), Some("bank:8443")),
            (json!({ "http.url": "http://bank/", "net.peer.name": "other" }), Some("bank")),
            (json!({ "net.peer.name": "bank" }), Some("bank")),
            (json!({ "span.kind": "client", "url.full": "https://bank/x" }), Some("bank")),
            (json!({ "span.kind": "client", "server.address": "bank" }), Some("bank")),
            (json!({ "span.kind": "client", "peer.hostname": "bank" }), Some("bank")),
            (json!({ "span.kind": "server", "http.url": "http://me/" }), None),
            (json!({ "server.address": "me" }), None),
            (json!({ "db.system": "postgres", "server.address": "db1" }), Some("postgres db1")),
            (json!({ "db.statement": "select" }), Some("datastore")),
        ] {
            assert_eq!(span(attributes.clone()).facts().callee.as_deref(), callee, "{attributes}");
        }
    }

    #[test]
    fn a_service_without_a_name_is_called_unknown() {
        for (attributes, service) in [(json!({}), "UNKNOWN"), (json!({ "service.name": "" }), "UNKNOWN")] {
            assert_eq!(&*span(attributes).facts().service, service);
        }
    }

    #[test]
    fn times_beyond_what_the_database_holds_are_limited() {
        let limited = |start_ns, duration_ms| {
            let span = newrelic_ingest::Span {
                trace_id: String::new(),
                id: String::new(),
                parent_id: None,
                name: None,
                start_ns: Some(start_ns),
                duration_ms: Some(duration_ms),
                attributes: Attributes::new(),
            };
            Span::take(span, 0).1.facts().end_ns()
        };
        let latest = i64::MAX.unsigned_abs();
        assert_eq!([limited(u64::MAX, 1.0), limited(0, f64::MAX), limited(latest - 5, 1e9)], [latest; 3]);
    }
}
