//! `exporters` and `infinite_tracing`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::fault::{Rule, quoted};
use super::reader::{Findings, Place};
use super::schema::PLAIN;
use super::text::{TextRule, fill_account_id, split_port};
use super::{Exporters, HttpExporter, InfiniteTracing, LogExporter, LogLevel, OtlpEncoding, Retry, Secret};
use crate::json::Value;

/// Milliseconds between flushes.
const FLUSH_INTERVAL_MS_MIN: u32 = 100;
const FLUSH_INTERVAL_MS_MAX: u32 = 60_000;
/// Milliseconds that a request may take: New Relic answers within seconds, a slow link within minutes.
const TIMEOUT_MS_MAX: u32 = 600_000;
/// Bytes of encoded records in each worker: one small record at least, and at most what a worker's VM can spare.
const QUEUE_BYTES_MIN: u32 = 1024;
const QUEUE_BYTES_MAX: u32 = 256 << 20;
/// Spans that wait for the trace observer in each worker, about a kilobyte each.
const QUEUE_SIZE_MAX: u32 = 100_000;
/// Milliseconds before the second retry, and between any two.
const RETRY_FACTOR_MS_MAX: u32 = 600_000;
const RETRY_MS_MAX: u32 = 3_600_000;
/// Retries after the first try.
const RETRIES_MAX: u32 = 100;
/// Further headers of a request to an OTLP receiver.
const HEADERS_MAX: usize = 32;

/// Carries the key in requests to each of New Relic's receivers.
const API_KEY: &str = "api-key";
/// Where the key is looked up unless the configuration names another place.
const LICENSE_KEY_VARIABLE: &str = "NEW_RELIC_LICENSE_KEY";

/// Headers that an exporter or the proxy writes itself: lower-case names.
const RESERVED_HEADERS: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-request-id",
];

/// Keys of every exporter that posts to a cluster.
macro_rules! keys {
    ($($own:literal),*) => {
        &["cluster", "host", "flush_interval_ms", "timeout_ms", "gzip", "max_queue_bytes", "retry", $($own),*]
    };
}

/// What differs from one exporter to the next when nothing is configured.
struct Defaults {
    host: &'static str,
    path: &'static str,
    path_rule: TextRule,
    flush_interval_ms: u32,
}

impl Defaults {
    const fn new(host: &'static str, path: &'static str) -> Self {
        Self { host, path, path_rule: TextRule::Path, flush_interval_ms: 5000 }
    }
}

pub(super) fn exporters(place: &Place<'_>, account_id: &Place<'_>, findings: &mut Findings<'_>) -> Exporters {
    if !place.is_written() {
        return Exporters { log: Some(LogExporter { level: LogLevel::Info }), ..Exporters::default() };
    }
    place.object(&["log", "trace_api", "event_api", "otlp"], findings);
    Exporters {
        log: log(&place.at("log"), findings),
        trace_api: trace_api(&place.at("trace_api"), findings),
        event_api: event_api(&place.at("event_api"), account_id, findings),
        otlp: otlp(&place.at("otlp"), findings),
    }
}

fn log(place: &Place<'_>, findings: &mut Findings<'_>) -> Option<LogExporter> {
    if !place.object(&["level"], findings) {
        return None;
    }
    let level = match place.at("level").choice(&["trace", "debug", "info", "warn", "error", "critical"], findings) {
        Some("trace") => LogLevel::Trace,
        Some("debug") => LogLevel::Debug,
        Some("warn") => LogLevel::Warn,
        Some("error") => LogLevel::Error,
        Some("critical") => LogLevel::Critical,
        _ => LogLevel::Info,
    };
    Some(LogExporter { level })
}

fn trace_api(place: &Place<'_>, findings: &mut Findings<'_>) -> Option<HttpExporter> {
    const DEFAULTS: Defaults = Defaults::new("trace-api.newrelic.com", "/trace/v1");
    if !place.object(keys!["path", "api_key"], findings) {
        return None;
    }
    let mut exporter = http(place, &DEFAULTS, findings);
    exporter.headers = api_key(&place.at("api_key"), findings);
    Some(exporter)
}

fn event_api(place: &Place<'_>, account_id: &Place<'_>, findings: &mut Findings<'_>) -> Option<HttpExporter> {
    const DEFAULTS: Defaults = Defaults {
        path_rule: TextRule::AccountPath,
        ..Defaults::new("insights-collector.newrelic.com", "/v1/accounts/{account_id}/events")
    };
    if !place.object(keys!["path", "api_key"], findings) {
        return None;
    }
    let mut exporter = http(place, &DEFAULTS, findings);
    exporter.headers = api_key(&place.at("api_key"), findings);
    exporter.path = with_account_id(&exporter.path, account_id, findings);
    Some(exporter)
}

fn with_account_id(path: &str, account_id: &Place<'_>, findings: &mut Findings<'_>) -> Box<str> {
    // What is written but no account id is a fault already.
    let digits = account_id.value.and_then(Value::as_str).unwrap_or_default();
    let (filled, places) = fill_account_id(path, digits);
    if places > 0 && !account_id.is_written() {
        account_id.refuse(Rule::AccountIdForPath, findings);
    }
    filled.into()
}

fn otlp(place: &Place<'_>, findings: &mut Findings<'_>) -> Option<(OtlpEncoding, HttpExporter)> {
    const DEFAULTS: Defaults = Defaults::new("otlp.nr-data.net", "/v1/traces");
    if !place.object(keys!["path", "headers", "encoding"], findings) {
        return None;
    }
    let encoding = match place.at("encoding").choice(&["protobuf", "json"], findings) {
        Some("json") => OtlpEncoding::Json,
        _ => OtlpEncoding::Protobuf,
    };
    let mut exporter = http(place, &DEFAULTS, findings);
    exporter.headers = headers(&place.at("headers").secret(), findings);
    Some((encoding, exporter))
}

pub(super) fn infinite_tracing(place: &Place<'_>, findings: &mut Findings<'_>) -> Option<InfiniteTracing> {
    const DEFAULTS: Defaults = Defaults { flush_interval_ms: 1000, ..Defaults::new("", "/trace/v1") };
    const QUEUE_SIZE: u32 = 10_000;
    if !place.object(keys!["port", "queue_size", "api_key"], findings) {
        return None;
    }
    let mut observer = http(place, &DEFAULTS, findings);
    observer.headers = api_key(&place.at("api_key"), findings);
    observer.host = with_port(&place.at("host"), &place.at("port"), findings);
    let queue_size = place.at("queue_size").integer(1, QUEUE_SIZE_MAX, QUEUE_SIZE, findings);
    Some(InfiniteTracing { observer, queue_size })
}

/// The observer's address, of which nobody knows a default.
fn with_port(host: &Place<'_>, port: &Place<'_>, findings: &mut Findings<'_>) -> Box<str> {
    if !host.is_written() {
        host.refuse(Rule::Text(TextRule::Host), findings);
    }
    let name = host.value.and_then(Value::as_str).unwrap_or_default();
    if !port.is_written() {
        return name.into();
    }
    if split_port(name).1.is_some() {
        port.refuse(Rule::NoSecondPort, findings);
    }
    format!("{name}:{}", port.integer(1, u32::from(u16::MAX), 443, findings)).into()
}

/// The keys that all share, without headers.
fn http(place: &Place<'_>, defaults: &Defaults, findings: &mut Findings<'_>) -> HttpExporter {
    const TIMEOUT_MS: u32 = 10_000;
    const QUEUE_BYTES: u32 = 4 << 20;
    let at = |name| place.at(name);
    HttpExporter {
        cluster: at("cluster").required(PLAIN, findings).unwrap_or_default().into(),
        host: at("host").text(TextRule::Host, findings).unwrap_or(defaults.host).into(),
        path: at("path").text(defaults.path_rule, findings).unwrap_or(defaults.path).into(),
        headers: Vec::new(),
        flush_interval_ms: at("flush_interval_ms").integer(
            FLUSH_INTERVAL_MS_MIN,
            FLUSH_INTERVAL_MS_MAX,
            defaults.flush_interval_ms,
            findings,
        ),
        timeout_ms: at("timeout_ms").integer(1, TIMEOUT_MS_MAX, TIMEOUT_MS, findings),
        gzip: at("gzip").boolean(true, findings),
        max_queue_bytes: at("max_queue_bytes").integer(QUEUE_BYTES_MIN, QUEUE_BYTES_MAX, QUEUE_BYTES, findings),
        retry: retry(&at("retry"), findings),
    }
}

fn retry(place: &Place<'_>, findings: &mut Findings<'_>) -> Retry {
    place.object(&["factor_ms", "max_ms", "attempts"], findings);
    Retry {
        factor_ms: place.at("factor_ms").integer(0, RETRY_FACTOR_MS_MAX, 5000, findings),
        max_ms: place.at("max_ms").integer(0, RETRY_MS_MAX, 80_000, findings),
        attempts: place.at("attempts").integer(0, RETRIES_MAX, 8, findings),
    }
}

fn api_key(place: &Place<'_>, findings: &mut Findings<'_>) -> Vec<(Box<str>, Secret)> {
    let place = place.secret();
    let key = match place.is_written() {
        true => place.sourced(TextRule::Printable, findings),
        false => place.variable(LICENSE_KEY_VARIABLE, TextRule::Printable, findings),
    };
    key.iter().map(|key| (API_KEY.into(), Secret::new(key))).collect()
}

fn headers(place: &Place<'_>, findings: &mut Findings<'_>) -> Vec<(Box<str>, Secret)> {
    if !place.is_written() {
        return api_key(place, findings);
    }
    let mut headers: Vec<(Box<str>, Secret)> = Vec::new();
    for (name, value) in place.entries(HEADERS_MAX, findings) {
        value.check_name(name, TextRule::HeaderName, findings);
        let lower = name.to_ascii_lowercase();
        if RESERVED_HEADERS.contains(&lower.as_str()) || headers.iter().any(|(taken, _)| **taken == *lower) {
            value.refuse_text(&quoted(name), Rule::FreeHeaderName, findings);
        }
        if let Some(text) = value.text_or_sourced(TextRule::Printable, findings) {
            headers.push((lower.into(), Secret::new(&text)));
        }
    }
    headers
}
