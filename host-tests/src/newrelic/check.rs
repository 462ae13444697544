//! What an interface checks before it accepts a post.

use std::borrow::Cow;
use std::io::Read as _;

use super::{BODY_BYTES_MAX, Contents, Interface, Post, Problem, Refusal, event_api, otlp, trace_api};
use crate::http_call::HttpCall;

/// Bytes that a body may have when it is inflated; a sender of tests never needs them.
const INFLATED_BYTES_MAX: u64 = 256 << 20;

/// Reads a call as a post to the interface its path names.
pub(super) fn read(call: &HttpCall, key: &str) -> Post {
    let interface = interface(&header(call, ":path"));
    let outcome = match &interface {
        None => Err(Refusal::Path),
        Some(interface) => check(call, interface, key).and_then(|()| contents(call, interface)),
    };
    Post { interface, outcome }
}

fn interface(path: &str) -> Option<Interface> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    match path {
        "/trace/v1" => return Some(Interface::TraceApi),
        "/v1/traces" => return Some(Interface::Otlp),
        _ => {}
    }
    let account_id = path.strip_prefix("/v1/accounts/")?.strip_suffix("/events")?;
    let is_number = !account_id.is_empty() && account_id.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Interface::EventApi { account_id: account_id.to_owned() })
}

fn check(call: &HttpCall, interface: &Interface, key: &str) -> Result<(), Refusal> {
    let types: &[&str] = match interface {
        Interface::Otlp => &["application/x-protobuf", "application/json"],
        Interface::TraceApi | Interface::EventApi { .. } => &["application/json"],
    };
    if header(call, ":method") != "POST" {
        return Err(Refusal::Method);
    }
    check_key(call, key)?;
    if call.body.is_empty() {
        return Err(Refusal::Length);
    }
    if call.body.len() > BODY_BYTES_MAX {
        return Err(Refusal::TooLarge);
    }
    if !types.contains(&content_type(call).as_str()) {
        return Err(Refusal::ContentType);
    }
    if !matches!(&*header(call, "content-encoding"), "" | "gzip") {
        return Err(Refusal::ContentEncoding);
    }
    if *interface == Interface::TraceApi { check_format(call) } else { Ok(()) }
}

fn check_key(call: &HttpCall, key: &str) -> Result<(), Refusal> {
    match call.headers.get("api-key") {
        None => Err(Refusal::MissingKey),
        Some(sent) if sent != key.as_bytes() => Err(Refusal::WrongKey),
        Some(_) => Ok(()),
    }
}

/// The format and its version come together, or not at all, which means `newrelic`.
fn check_format(call: &HttpCall) -> Result<(), Refusal> {
    match (&*header(call, "data-format"), &*header(call, "data-format-version")) {
        ("newrelic", "1") | ("", "") => Ok(()),
        _ => Err(Refusal::DataFormat),
    }
}

/// The media type without its parameters, in lower case.
fn content_type(call: &HttpCall) -> String {
    let value = header(call, "content-type");
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn contents(call: &HttpCall, interface: &Interface) -> Result<Contents, Refusal> {
    let inflated = inflate(call);
    let late = |problem| Ok(Contents { problems: vec![problem], ..Contents::default() });
    match (interface, inflated) {
        (Interface::Otlp, None) => Err(Refusal::Body),
        (Interface::Otlp, Some(body)) => {
            let spans = if content_type(call) == "application/json" {
                otlp::from_json(&body)
            } else {
                otlp::from_protobuf(&body)
            };
            Ok(Contents { spans: spans.ok_or(Refusal::Body)?, ..Contents::default() })
        }
        (_, None) => late(Problem::Gzip),
        (Interface::TraceApi, Some(body)) => trace_api::decode(&body).map_or_else(|| late(Problem::Shape), Ok),
        (Interface::EventApi { account_id }, Some(body)) => {
            event_api::decode(&body, account_id).map_or_else(|| late(Problem::Shape), Ok)
        }
    }
}

/// The body as it was before compression.
fn inflate(call: &HttpCall) -> Option<Cow<'_, [u8]>> {
    if header(call, "content-encoding").is_empty() {
        return Some(Cow::Borrowed(&call.body));
    }
    let mut inflated = Vec::new();
    let decoder = flate2::read::MultiGzDecoder::new(call.body.as_slice());
    decoder.take(INFLATED_BYTES_MAX).read_to_end(&mut inflated).ok()?;
    Some(Cow::Owned(inflated))
}

/// The first line of a header; empty when there is none.
fn header<'a>(call: &'a HttpCall, name: &str) -> Cow<'a, str> {
    call.headers.text(name).unwrap_or_default()
}
