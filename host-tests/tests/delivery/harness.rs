//! A proxy with exporters, requests through it, a receiver that follows a script, and the books.

use std::collections::BTreeMap;
use std::time::Duration;

use host_tests::{Answer, Ending, Envoy, HttpCall, LogLevel};
use serde_json::{Value, json};

use crate::support::{CLUSTER, REQUEST, Setup};

/// The filter looks after its exporters once a second.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// Seconds between two flushes.
pub(crate) const FLUSH_S: u64 = 5;
/// The reasons for which a record is dropped.
pub(crate) const REASONS: [&str; 8] =
    ["reservoir", "queue_bytes", "queue_size", "rejected", "too_large", "retries_exhausted", "encoding", "shutdown"];

/// The settings of an exporter: the defaults, but bodies that a test can read.
pub(crate) fn plain() -> Value {
    json!({ "cluster": CLUSTER, "api_key": { "value": "test-key" }, "gzip": false })
}

/// `settings` with one more key.
pub(crate) fn and(settings: Value, key: &str, value: impl Into<Value>) -> Value {
    let mut settings = settings;
    settings[key] = value.into();
    settings
}

/// A proxy in front of an application. Every request is sampled: it makes one span and one transaction.
pub(crate) fn setup(exporters: impl Into<Value>) -> Setup {
    Setup::role("inbound").sampler("always_on").with("exporters", exporters)
}

/// As [`setup`], without a reservoir: batches go out as they fill.
pub(crate) fn unlimited(exporters: impl Into<Value>) -> Setup {
    setup(exporters).with("span_events.max_samples_stored", "unlimited")
}

/// An exporter that posts, and what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    TraceApi,
    EventApi,
    Otlp,
    InfiniteTracing,
}

impl Target {
    /// Those that follow New Relic's own rules.
    pub(crate) const OF_NEW_RELIC: [Self; 3] = [Self::TraceApi, Self::EventApi, Self::InfiniteTracing];

    /// As in statistics and log lines.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TraceApi => "trace_api",
            Self::EventApi => "event_api",
            Self::Otlp => "otlp",
            Self::InfiniteTracing => "infinite_tracing",
        }
    }

    /// As in statistics.
    pub(crate) fn records(self) -> &'static str {
        if self == Self::EventApi { "transactions" } else { "spans" }
    }

    /// Where posts go.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::TraceApi | Self::InfiniteTracing => "/trace/v1",
            Self::EventApi => "/v1/accounts/4001/events",
            Self::Otlp => "/v1/traces",
        }
    }

    /// The status of a post that is accepted.
    pub(crate) fn success(self) -> Answer {
        match self {
            Self::TraceApi | Self::InfiniteTracing => Answer::status(202).body(r#"{"requestId":"1"}"#),
            Self::EventApi => Answer::status(200).body(r#"{"success":true,"uuid":"1"}"#),
            Self::Otlp => Answer::status(200),
        }
    }

    /// A proxy with this exporter alone.
    pub(crate) fn setup(self) -> Setup {
        self.setup_with(plain())
    }

    /// A proxy with this exporter alone, and these settings.
    pub(crate) fn setup_with(self, settings: Value) -> Setup {
        match self {
            Self::Otlp => setup(json!({ "otlp": otlp(settings) })),
            Self::InfiniteTracing => setup(json!({})).with("infinite_tracing", and(settings, "host", "observer.test")),
            Self::TraceApi | Self::EventApi => setup(json!({ self.name(): settings })),
        }
    }
}

/// The same settings for OTLP as JSON, which has headers instead of a key.
pub(crate) fn otlp(settings: Value) -> Value {
    let mut settings = settings;
    let fields = settings.as_object_mut().expect("settings are an object");
    let key = fields.remove("api_key").expect("settings have a key");
    and(and(settings, "headers", json!({ "api-key": key })), "encoding", "json")
}

/// Sends so many requests through a worker, at one moment.
pub(crate) fn requests(envoy: &mut Envoy, worker: usize, count: usize) {
    for _ in 0..count {
        let stream = envoy.stream().worker(worker).open();
        envoy.request_headers(stream, REQUEST).expect("the filter does not trap");
        envoy.response_headers(stream, [(":status", "200")]).expect("the filter does not trap");
        envoy.end(stream, Ending::complete()).expect("the filter does not trap");
        envoy.forget(stream);
    }
}

/// Lets so many seconds pass. At the end of each the receiver sees every call that waits and its age in seconds, and
/// answers it or does not.
pub(crate) fn serve(envoy: &mut Envoy, seconds: u64, mut receiver: impl FnMut(&HttpCall, u64) -> Option<Answer>) {
    for _ in 0..seconds {
        envoy.advance(TICK).expect("no tick traps");
        for call in envoy.pending_calls() {
            let age_s = (envoy.now_ns() - call.sent_at_ns) / 1_000_000_000;
            if let Some(answer) = receiver(&call, age_s) {
                envoy.answer(call.id, answer).expect("no answer traps");
            }
        }
    }
}

/// As [`serve`], with a receiver that gives every call the same answer at once.
pub(crate) fn serve_all(envoy: &mut Envoy, seconds: u64, answer: &Answer) {
    serve(envoy, seconds, |_, _| Some(answer.clone()));
}

/// When a call was made, in milliseconds after another one.
pub(crate) fn later_ms(call: &HttpCall, earlier: &HttpCall) -> u64 {
    (call.sent_at_ns - earlier.sent_at_ns) / 1_000_000
}

/// `x-request-id` of a call.
pub(crate) fn request_id(call: &HttpCall) -> String {
    call.headers.text("x-request-id").expect("every post has an id").into_owned()
}

/// The records in a body that is not compressed.
pub(crate) fn records_of(call: &HttpCall) -> Vec<Value> {
    let body: Value = serde_json::from_slice(&call.body).expect("the body is JSON");
    let spans = [&body[0]["spans"], &body["resourceSpans"][0]["scopeSpans"][0]["spans"]];
    let list = spans.into_iter().find(|spans| spans.is_array()).unwrap_or(&body);
    list.as_array().expect("the body has records").clone()
}

/// What tells a record from all others.
pub(crate) fn ids_of(call: &HttpCall) -> Vec<String> {
    let id = |record: &Value| ["id", "spanId", "guid"].iter().find_map(|key| record[key].as_str().map(str::to_owned));
    records_of(call).iter().map(|record| id(record).expect("a record has an id")).collect()
}

/// Where the records of one kind are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) recorded: u64,
    pub(crate) exported: u64,
    pub(crate) dropped: u64,
    pub(crate) queued: u64,
}

impl Books {
    /// As the statistics have them, which lag behind by up to a tick.
    pub(crate) fn of(envoy: &Envoy, records: &str) -> Self {
        Self {
            recorded: envoy.counter(&format!("newrelic.{records}.recorded")),
            exported: envoy.counter(&format!("newrelic.{records}.exported")),
            dropped: REASONS.iter().map(|reason| dropped(envoy, records, reason)).sum(),
            queued: envoy.gauge(&format!("newrelic.queue.{records}")).unwrap_or(0),
        }
    }

    /// What came since another moment.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            recorded: self.recorded - earlier.recorded,
            exported: self.exported - earlier.exported,
            dropped: self.dropped - earlier.dropped,
            queued: self.queued.wrapping_sub(earlier.queued),
        }
    }

    /// Every record is somewhere.
    pub(crate) fn balance(self) -> bool {
        self.recorded == self.exported + self.dropped + self.queued
    }
}

/// Records dropped for this reason.
pub(crate) fn dropped(envoy: &Envoy, records: &str, reason: &str) -> u64 {
    envoy.counter(&format!("newrelic.{records}.dropped.{reason}"))
}

/// Records dropped, by the reasons that there were.
pub(crate) fn drops(envoy: &Envoy, records: &str) -> BTreeMap<&'static str, u64> {
    let counted = REASONS.iter().map(|reason| (*reason, dropped(envoy, records, reason)));
    counted.filter(|(_, count)| *count > 0).collect()
}

/// The posts of an exporter, by the class of their answers.
pub(crate) fn classes(envoy: &Envoy, exporter: &str) -> BTreeMap<String, u64> {
    let prefix = format!("newrelic.export.requests.{exporter}.");
    let counters = envoy.counters().into_iter();
    counters.filter_map(|(name, count)| Some((name.strip_prefix(&prefix)?.to_owned(), count))).collect()
}

/// The same, for comparison.
pub(crate) fn class_counts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().map(|(class, count)| ((*class).to_owned(), *count)).collect()
}

/// Asserts that the books balance, spans and transactions, that nothing waits, and that no post was made for a
/// stream. To be asked at a quiet moment, one tick after the last thing happened.
pub(crate) fn assert_settled(envoy: &Envoy) {
    for records in ["spans", "transactions"] {
        let books = Books::of(envoy, records);
        assert!(books.balance(), "{records}: {books:?}");
        assert_eq!(books.queued, 0, "{records}: {books:?}");
    }
    assert_eq!(envoy.gauge("newrelic.queue.bytes"), Some(0));
    assert_eq!(posts_for_streams(envoy), 0);
}

/// Posts that the filter made while it was called for a stream, among the callbacks that are still kept.
pub(crate) fn posts_for_streams(envoy: &Envoy) -> usize {
    let callbacks = envoy.callbacks().into_iter().filter(|callback| callback.stream.is_some());
    callbacks.map(|callback| callback.count("proxy_http_call")).sum()
}

/// The lines of the exporters at this level or a more urgent one.
pub(crate) fn lines(envoy: &Envoy, level: LogLevel) -> Vec<String> {
    let lines = envoy.logs().into_iter().filter(|line| line.level >= level && line.message.contains("exporter "));
    lines.map(|line| line.message).collect()
}
