//! A proxy with the filter, requests that bring a decision along or none, and everything a decision shows in.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use host_tests::{Builder, Envoy, HeaderMap, LogLevel, LogLine, Module, Plugin, Thread, guest};
use serde_json::{Map, Value, json};

/// A trace id whose low half is 0.1519 of 2^64.
pub(crate) const TRACE_ID: &str = "c0a8017e5d3b4f2226e1d47b08aa3f5c";
const CALLER_SPAN_ID: &str = "c3d4e5f60718293a";
/// The account of a caller that is trusted.
pub(crate) const CALLER_ACCOUNT: &str = "4002";
const TRUSTED_ACCOUNT_KEY: &str = "777";
/// When a caller sent its request, Unix milliseconds.
const SENT_MS: u64 = 1_750_000_000_000;
/// When the test host starts, Unix nanoseconds.
pub(crate) const START_NS: u64 = 1_750_000_000_123_000_000;
pub(crate) const SECOND_NS: u64 = 1_000_000_000;
pub(crate) const PERIOD_NS: u64 = 60 * SECOND_NS;
/// Counts requests in which a sampler said yes, and in which it said no.
pub(crate) const DECISIONS: [&str; 2] =
    ["newrelic.sampler.decisions.sampled", "newrelic.sampler.decisions.not_sampled"];

/// The filter, built once for all tests.
pub(crate) fn module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| guest::module("newrelic-tracing").unwrap())
}

/// The configuration of a gateway, with this tree below `distributed_tracing.sampler`. Records go to the log.
pub(crate) fn configuration(sampler: &Value) -> Value {
    json!({
        "account_id": "4001",
        "trusted_account_key": TRUSTED_ACCOUNT_KEY,
        "primary_application_id": "90210",
        "app_name": "edge",
        "role": "gateway",
        "distributed_tracing": { "sampler": sampler },
    })
}

pub(crate) fn plugin(configuration: &Value) -> Plugin {
    Plugin::new("newrelic-tracing").configuration(configuration.to_string()).env("NEW_RELIC_LICENSE_KEY", "a key")
}

pub(crate) fn builder(configuration: &Value) -> Builder {
    Envoy::builder(module()).plugin(plugin(configuration)).clock_ns(START_NS)
}

/// A proxy with one worker, whose own priorities are 0.25 before anything is added to them.
pub(crate) fn envoy(sampler: &Value) -> Envoy {
    builder(&configuration(sampler)).random(Thread::Worker(0), quarters()).start().unwrap()
}

/// Random bytes for some hundred requests: every number made of them is a quarter of its range.
pub(crate) fn quarters() -> Vec<u8> {
    [0x40, 0, 0, 0].repeat(4096)
}

/// Header lines of a request.
pub(crate) type Lines = Vec<(&'static str, String)>;

/// A caller's lines: none.
pub(crate) fn root() -> Lines {
    Vec::new()
}

/// A caller that only speaks W3C Trace Context.
pub(crate) fn w3c(flags: &str) -> Lines {
    vec![("traceparent", format!("00-{TRACE_ID}-{CALLER_SPAN_ID}-{flags}"))]
}

/// A New Relic agent as caller; `sampled` and `priority` are the fields of its tracestate entry, which may be empty.
pub(crate) fn entry(flags: &str, sampled: &str, priority: &str) -> Lines {
    entry_of(CALLER_ACCOUNT, flags, sampled, priority)
}

pub(crate) fn entry_of(account: &str, flags: &str, sampled: &str, priority: &str) -> Lines {
    let entry = format!("0-0-{account}-55-{CALLER_SPAN_ID}-1122334455667788-{sampled}-{priority}-{SENT_MS}");
    [w3c(flags), vec![("tracestate", format!("{TRUSTED_ACCOUNT_KEY}@nr={entry}"))]].concat()
}

/// An agent that only sends `newrelic`; what is null is left out.
pub(crate) fn payload(trace_id: &str, sampled: &Value, priority: &Value) -> Lines {
    let mut data = json!({
        "ty": "App", "ac": CALLER_ACCOUNT, "ap": "55", "tk": TRUSTED_ACCOUNT_KEY,
        "id": CALLER_SPAN_ID, "tx": "1122334455667788", "tr": trace_id, "ti": SENT_MS,
    });
    for (key, value) in [("sa", sampled), ("pr", priority)] {
        if !value.is_null() {
            data[key] = value.clone();
        }
    }
    vec![("newrelic", STANDARD.encode(json!({ "v": [0, 1], "d": data }).to_string()))]
}

/// A whole request with a caller's lines.
pub(crate) fn request(caller: &Lines) -> HeaderMap {
    let own = [(":method", "GET"), (":scheme", "https"), (":authority", "shop.example"), (":path", "/cart/17")];
    let own = own.map(|(name, value)| (name, value.to_owned()));
    HeaderMap::from_lines(own.into_iter().chain(caller.iter().cloned()))
}

/// How much of a trace was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    Full,
    Partial,
    Nothing,
}

/// A decision, as every place it shows in tells it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) sampled: bool,
    /// As the tracestate entry writes it.
    pub(crate) priority: String,
    pub(crate) recorded: Recorded,
}

impl Decision {
    pub(crate) fn new(sampled: bool, priority: &str, recorded: Recorded) -> Self {
        Self { sampled, priority: priority.to_owned(), recorded }
    }
}

/// One request through the gateway.
pub(crate) struct Seen {
    pub(crate) upstream: HeaderMap,
    /// Entry span before exit span, as the Trace API carries them.
    pub(crate) spans: Vec<Value>,
    pub(crate) transactions: Vec<Value>,
}

/// Sends a request to the first worker, which the upstream answers.
pub(crate) fn send(envoy: &mut Envoy, caller: &Lines) -> Seen {
    envoy.clear_journal();
    let exchange = envoy.stream().exchange(request(caller), [(":status", "200")]).unwrap();
    let logs = envoy.logs();
    Seen { upstream: exchange.upstream, spans: records(&logs, "span "), transactions: records(&logs, "transaction ") }
}

/// The objects of the log lines that begin with `word`.
pub(crate) fn records(logs: &[LogLine], word: &str) -> Vec<Value> {
    let objects = logs.iter().filter_map(|line| line.message.strip_prefix(word));
    objects.map(|object| serde_json::from_str(object).unwrap()).collect()
}

impl Seen {
    /// The decision; the same in all headers and records.
    pub(crate) fn decision(&self) -> Decision {
        let entry = self.entry();
        let decision =
            Decision { sampled: is_sampled(&self.upstream), priority: entry[7].clone(), recorded: self.recorded() };
        let number = json!(decision.priority.parse::<f64>().unwrap());
        assert_eq!(entry[6], if decision.sampled { "1" } else { "0" }, "tracestate agrees with traceparent");
        let payload = self.payload();
        let [transaction] = &self.transactions[..] else { panic!("transactions: {:?}", self.transactions) };
        let spans = self.spans.iter().map(|span| &span["attributes"]);
        let records = spans.chain([transaction]).map(|record| [&record["sampled"], &record["priority"]]);
        for [sampled, priority] in records.chain([[&payload["sa"], &payload["pr"]]]) {
            assert_eq!(*sampled, json!(decision.sampled));
            assert_eq!(priority.as_f64(), number.as_f64());
        }
        decision
    }

    /// The fields of New Relic's tracestate entry.
    fn entry(&self) -> Vec<String> {
        let tracestate = self.upstream.text("tracestate").unwrap();
        let entry = tracestate.split(',').find_map(|member| member.strip_prefix("777@nr=")).unwrap();
        entry.split('-').map(str::to_owned).collect()
    }

    fn payload(&self) -> Value {
        let json = STANDARD.decode(self.upstream.get("newrelic").unwrap()).unwrap();
        serde_json::from_slice::<Value>(&json).unwrap()["d"].take()
    }

    fn recorded(&self) -> Recorded {
        let Some((entry, exits)) = self.spans.split_first() else { return Recorded::Nothing };
        assert_eq!(entry["attributes"]["nr.entryPoint"], json!(true));
        assert_eq!(exits.len(), 1, "a gateway records its entry span and its exit span");
        assert_eq!(exits[0]["attributes"]["nr.pg"], Value::Null, "only the entry span is marked");
        let mark = &entry["attributes"]["nr.pg"];
        if mark.is_null() {
            return Recorded::Full;
        }
        assert_eq!(*mark, json!(true));
        Recorded::Partial
    }
}

/// Whether `traceparent` says that the trace is sampled.
pub(crate) fn is_sampled(upstream: &HeaderMap) -> bool {
    match upstream.text("traceparent").unwrap().rsplit_once('-').unwrap().1 {
        "01" => true,
        "00" => false,
        flags => panic!("flags {flags}"),
    }
}

/// How many of so many requests one after the other are sampled.
pub(crate) fn sampled_of(envoy: &mut Envoy, requests: usize, caller: &Lines) -> usize {
    (0..requests).filter(|_| is_sampled(&send(envoy, caller).upstream)).count()
}

/// The decisions that samplers made, sampled and not, after the statistics were published.
pub(crate) fn counted_decisions(envoy: &mut Envoy) -> [u64; 2] {
    envoy.advance(std::time::Duration::from_secs(1)).unwrap();
    DECISIONS.map(|name| envoy.counter(name))
}

/// The lines of this level or a more urgent one, of all threads.
pub(crate) fn lines_of(envoy: &Envoy, level: LogLevel) -> Vec<String> {
    let lines = envoy.logs().into_iter().filter(|line| line.level >= level);
    lines.map(|line| line.message).collect()
}

/// The object merged from two, the second one wins.
pub(crate) fn with(base: &Value, more: &Value) -> Value {
    let mut merged: Map<String, Value> = base.as_object().unwrap().clone();
    merged.extend(more.as_object().unwrap().clone());
    Value::Object(merged)
}
