//! The tracing headers of one request as a bystander reads them.
//!
//! This reading is the demo's own, so that it can judge what the filter wrote without asking the
//! filter. It knows the forms that New Relic's agents and the filter send, not every form they accept.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Request header of Cross Application Tracing: who calls.
pub const X_NEWRELIC_ID: &str = "x-newrelic-id";
/// Request header of Cross Application Tracing: the caller's transaction.
pub const X_NEWRELIC_TRANSACTION: &str = "x-newrelic-transaction";
/// Response header of Cross Application Tracing: who answered.
pub const X_NEWRELIC_APP_DATA: &str = "x-newrelic-app-data";

/// The headers that an application in a mesh copies from the request it got to those it makes.
pub const COPIED: [&str; 6] =
    ["traceparent", "tracestate", "newrelic", X_NEWRELIC_ID, X_NEWRELIC_TRANSACTION, "x-request-id"];
/// Those of them that carry distributed tracing, in the order in which they are shown.
pub const SHOWN: [&str; 3] = ["traceparent", "tracestate", "newrelic"];

/// The lines of [`COPIED`] that one request had, in their order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TracingHeaders {
    /// Name in lower case, and value.
    pub lines: Vec<(String, Vec<u8>)>,
}

impl fmt::Debug for TracingHeaders {
    /// Values as text where they are text, as a failed test shows them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let readable = |(name, value): &(String, Vec<u8>)| format!("{name}: {}", value.escape_ascii());
        f.debug_list().entries(self.lines.iter().map(readable)).finish()
    }
}

impl TracingHeaders {
    /// Picks the copied headers from all of a request's.
    pub fn pick<'a>(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let copied = headers.into_iter().filter(|(name, _)| COPIED.contains(name));
        Self { lines: copied.map(|(name, value)| (name.to_owned(), value.to_vec())).collect() }
    }

    /// The values of every line of that name.
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        self.lines.iter().filter(|(line, _)| line == name).map(|(_, value)| value.as_slice()).collect()
    }

    /// The value when there is exactly one line of that name and it is text.
    pub fn only(&self, name: &str) -> Option<&str> {
        let [value] = self.values(name)[..] else {
            return None;
        };
        std::str::from_utf8(value).ok()
    }

    /// The `traceparent`, when there is exactly one of the right form.
    pub fn traceparent(&self) -> Option<Traceparent> {
        Traceparent::parse(self.only("traceparent")?)
    }

    /// The data object (`d`) of the `newrelic` header.
    pub fn newrelic(&self) -> Option<Value> {
        decode_newrelic(self.only("newrelic")?.as_bytes())
    }

    /// The fields of the `tracestate` entry that belongs to a New Relic account group.
    pub fn newrelic_entry(&self, trusted_account_key: &str) -> Option<Vec<&str>> {
        let own_key = format!("{trusted_account_key}@nr=");
        let entry = self.only("tracestate")?.split(',').find_map(|member| member.trim().strip_prefix(&own_key))?;
        let fields: Vec<&str> = entry.split('-').collect();
        (fields.len() >= 9).then_some(fields)
    }

    /// The `tracestate` members of everybody else, in their order.
    pub fn foreign_members(&self, trusted_account_key: &str) -> Vec<&str> {
        let own_key = format!("{trusted_account_key}@nr=");
        let members = self.only("tracestate").unwrap_or_default().split(',').map(str::trim);
        members.filter(|member| !member.is_empty() && !member.starts_with(&own_key)).collect()
    }
}

/// A `traceparent`: `version "-" trace-id "-" parent-id "-" trace-flags`, see W3C Trace Context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traceparent {
    /// 32 lowercase hex digits.
    pub trace_id: String,
    /// 16 lowercase hex digits.
    pub parent_id: String,
    /// Bit 0 of the flags.
    pub sampled: bool,
}

impl Traceparent {
    fn parse(value: &str) -> Option<Self> {
        let [version, trace_id, parent_id, flags] = value.split('-').collect::<Vec<_>>().try_into().ok()?;
        let well_formed = version == "00" && is_hex(trace_id, 32) && is_hex(parent_id, 16) && is_hex(flags, 2);
        well_formed.then(|| Self {
            trace_id: trace_id.to_owned(),
            parent_id: parent_id.to_owned(),
            sampled: u8::from_str_radix(flags, 16).is_ok_and(|bits| bits & 1 == 1),
        })
    }
}

fn is_hex(digits: &str, length: usize) -> bool {
    digits.len() == length && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// The data object of a `newrelic` header's value: base64 of `{"v":[0,1],"d":{…}}`.
pub fn decode_newrelic(value: &[u8]) -> Option<Value> {
    let json = STANDARD.decode(value).ok()?;
    let mut payload: Value = serde_json::from_slice(&json).ok()?;
    payload.get_mut("d").filter(|data| data.is_object()).map(Value::take)
}

/// Makes the value of a `newrelic` header from its data object.
pub fn encode_newrelic(data: &Value) -> String {
    STANDARD.encode(serde_json::json!({ "v": [0, 1], "d": data }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> TracingHeaders {
        TracingHeaders::pick(lines.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[test]
    fn only_the_copied_headers_are_picked() {
        let picked = headers(&[("traceparent", "a"), ("cookie", "b"), ("x-request-id", "c"), ("traceparent", "d")]);
        let names: Vec<&str> = picked.lines.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["traceparent", "x-request-id", "traceparent"]);
        assert_eq!(picked.only("traceparent"), None, "two lines are not one");
    }

    #[test]
    fn a_traceparent_is_read_only_when_it_is_one() {
        let value = "00-0f1e2d3c4b5a69788796a5b4c3d2e1f0-c3d4e5f60718293a-01";
        let read = headers(&[("traceparent", value)]).traceparent().unwrap();
        assert_eq!((read.parent_id.as_str(), read.sampled), ("c3d4e5f60718293a", true));
        for broken in ["", "00-0f1e-c3d4-01", &value.to_uppercase(), &format!("{value}-00"), &value[..54]] {
            assert_eq!(headers(&[("traceparent", broken)]).traceparent(), None, "{broken}");
        }
    }

    #[test]
    fn tracestate_members_are_told_apart_by_the_trusted_key() {
        let read = headers(&[("tracestate", "v1=a, 777@nr=0-0-1-2----1-1.5-3,8@nr=0")]);
        assert_eq!(read.newrelic_entry("777").map(|fields| fields[6].to_owned()), Some(String::new()));
        assert_eq!(read.foreign_members("777"), ["v1=a", "8@nr=0"]);
        assert_eq!(read.newrelic_entry("8"), None, "too few fields");
    }

    #[test]
    fn the_newrelic_header_is_read_as_it_was_written() {
        let data = serde_json::json!({ "ty": "App", "sa": true });
        assert_eq!(decode_newrelic(encode_newrelic(&data).as_bytes()), Some(data));
        for broken in ["", "e30=", "bm8ganNvbg==", "{}"] {
            assert_eq!(decode_newrelic(broken.as_bytes()), None, "{broken}");
        }
    }
}
