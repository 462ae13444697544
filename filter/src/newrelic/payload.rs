//! The `newrelic` header: base64 of a JSON object.
//!
//! ```text
//! {"v":[major,minor],"d":{"ty":…,"ac":…,"ap":…,"id":…,"tx":…,"tr":…,"pr":…,"sa":…,"ti":…,"tk":…}}
//! ```
//! `ty ac ap tr ti` and one of `id` and `tx` are required. The versions we know are `[0, any]`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use ::base64::Engine as _;
use ::base64::alphabet;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::CallerType;
use super::base64;
use super::priority::Priority;
use crate::headers::trim_ows;
use crate::id::{SpanId, TraceId, TraceIdentity};
use crate::json::{self, Object, Value, parse as parse_json};

/// Longer ids count as missing: a header must not grow from hop to hop.
const ID_BYTES_MAX: usize = 128;

/// Longer values are refused unread. Agents' own are below 400 bytes.
const VALUE_BYTES_MAX: usize = 8192;

/// An accepted payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// `ty`.
    pub caller_type: CallerType,
    /// `ac`.
    pub account_id: Box<str>,
    /// `ap`.
    pub app_id: Box<str>,
    /// `id`: the calling span.
    pub span_id: Option<Box<str>>,
    /// `tx`: the calling transaction.
    pub transaction_id: Option<Box<str>>,
    /// `tr`, in the form of W3C and as received.
    pub trace: TraceIdentity,
    /// `pr`.
    pub priority: Option<Priority>,
    /// `sa`.
    pub sampled: Option<bool>,
    /// `ti`: creation time, Unix milliseconds.
    pub timestamp_ms: i64,
}

/// Why a payload is not used; each is a supportability metric of New Relic's agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// Empty, blank, or JSON `null`.
    Null,
    /// Not base64, not JSON, or a required key is missing or of a wrong type.
    Parse,
    /// A major version that we do not know.
    MajorVersion,
    /// An account outside the trusted group.
    UntrustedAccount,
}

impl core::fmt::Display for PayloadError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Self::Null => "payload is empty or null",
            Self::Parse => "payload is not readable, or a required key is missing",
            Self::MajorVersion => "payload has an unknown major version",
            Self::UntrustedAccount => "payload comes from an untrusted account",
        })
    }
}

/// Reads a header value and checks its trust.
///
/// # Errors
/// The first of New Relic's rules that the value breaks, in the order of the agents.
pub fn parse(value: &[u8], trusted_account_key: Option<&str>) -> Result<Payload, PayloadError> {
    let json = decode(trim_ows(value))?;
    let (version, data) = open(&json)?;
    if version > 0 {
        return Err(PayloadError::MajorVersion);
    }
    let payload = read_data(&data).ok_or(PayloadError::Parse)?;
    let claimed = text(&data, "tk").unwrap_or(&payload.account_id);
    if trusted_account_key != Some(claimed) {
        return Err(PayloadError::UntrustedAccount);
    }
    Ok(payload)
}

/// The JSON text inside: as it stands, or out of base64 of either alphabet, padded or not.
fn decode(value: &[u8]) -> Result<Vec<u8>, PayloadError> {
    let json = match value.first() {
        None => return Err(PayloadError::Null),
        Some(_) if value.len() > VALUE_BYTES_MAX => return Err(PayloadError::Parse),
        Some(b'{') => value.to_vec(),
        Some(_) if value == b"null" => value.to_vec(),
        Some(_) => {
            let is_url_safe = value.iter().any(|byte| matches!(byte, b'-' | b'_'));
            let alphabet = if is_url_safe { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
            let config = GeneralPurposeConfig::new()
                .with_decode_padding_mode(DecodePaddingMode::Indifferent)
                .with_decode_allow_trailing_bits(true);
            GeneralPurpose::new(alphabet, config).decode(value).map_err(|_| PayloadError::Parse)?
        }
    };
    if json.trim_ascii() == b"null" { Err(PayloadError::Null) } else { Ok(json) }
}

/// The major version and the data object.
fn open(json: &[u8]) -> Result<(i64, Object<'_>), PayloadError> {
    let opened = || {
        let Value::Object(mut payload) = parse_json(json).ok()? else { return None };
        let version = match payload.get("v")?.as_array()? {
            [major, minor] => minor.as_i64().and(major.as_i64())?,
            _ => return None,
        };
        match payload.remove("d")? {
            Value::Object(data) => Some((version, data)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
        }
    };
    opened().ok_or(PayloadError::Parse)
}

fn read_data(data: &Object<'_>) -> Option<Payload> {
    let span_id = text(data, "id").filter(|id| id.len() <= ID_BYTES_MAX);
    let transaction_id = text(data, "tx").filter(|id| id.len() <= ID_BYTES_MAX);
    if span_id.is_none() && transaction_id.is_none() {
        return None;
    }
    Some(Payload {
        caller_type: caller_type(text(data, "ty")?),
        account_id: text_or_number(data, "ac")?,
        app_id: text_or_number(data, "ap")?,
        span_id: span_id.map(Into::into),
        transaction_id: transaction_id.map(Into::into),
        trace: trace_identity(text(data, "tr")?)?,
        priority: data.get("pr").and_then(Value::as_f64).and_then(Priority::from_f64),
        sampled: data.get("sa").and_then(Value::as_bool),
        timestamp_ms: data.get("ti")?.as_i64()?,
    })
}

/// A text that is not empty.
fn text<'a>(data: &'a Object<'_>, key: &str) -> Option<&'a str> {
    data.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn text_or_number(data: &Object<'_>, key: &str) -> Option<Box<str>> {
    match data.get(key)?.as_i64() {
        Some(number) => Some(itoa::Buffer::new().format(number).into()),
        None => text(data, key).map(Into::into),
    }
}

fn caller_type(text: &str) -> CallerType {
    [CallerType::App, CallerType::Browser, CallerType::Mobile]
        .into_iter()
        .find(|known| known.as_str() == text)
        .unwrap_or(CallerType::Unknown)
}

/// Lower-case, padded to 32 digits or cut to the right-most 32; the spelling received is kept when it differs.
///
/// Agents do not check the digits; we do, since `traceparent` could not carry others.
fn trace_identity(received: &str) -> Option<TraceIdentity> {
    if received.len() > ID_BYTES_MAX {
        return None;
    }
    let mut value = 0_u128;
    for digit in received.bytes() {
        // Digits further left than the right-most 32 are shifted out.
        value = (value << 4) | u128::from(crate::id::hex_digit(digit.to_ascii_lowercase())?);
    }
    let id = TraceId::from_u128(value)?;
    let received = (received.as_bytes() != id.to_hex()).then(|| received.into());
    Some(TraceIdentity { id, received })
}

/// What we write of one request.
#[derive(Clone, Copy, Debug)]
pub struct OwnPayload<'a> {
    /// The current span.
    pub span_id: Option<SpanId>,
    /// The transaction; a peer's text.
    pub transaction_id: Option<&'a [u8]>,
    /// The trace, whose id goes on as it was received.
    pub trace: &'a TraceIdentity,
    /// The priority.
    pub priority: Priority,
    /// The decision.
    pub sampled: bool,
    /// Creation time, Unix milliseconds.
    pub timestamp_ms: u64,
}

/// Bytes of the JSON text beside the ids of transaction and trace: keys, punctuation, numbers, span id.
const FIXED_BYTES: usize = 128;

/// Bytes that base64 takes at once.
const GROUP_BYTES: usize = 3;

/// Writes the payloads of one account and application. What is the same in all of them is prepared: a quarter of the
/// text is base64 already.
#[derive(Clone, Debug)]
pub struct PayloadWriter {
    /// Base64 of the text's beginning, as far as it consists of whole groups.
    beginning: Box<[u8]>,
    /// The rest of the beginning, JSON.
    rest: Box<[u8]>,
    /// The end, JSON.
    end: Box<[u8]>,
}

impl PayloadWriter {
    /// The trusted account key is only written when it differs from the account.
    pub fn new(account_id: &str, app_id: &str, trusted_account_key: &str) -> Self {
        let mut beginning = br#"{"v":[0,1],"d":{"ty":"App","ac":"#.to_vec();
        json::string(&mut beginning, account_id.as_bytes(), usize::MAX);
        beginning.extend_from_slice(b",\"ap\":");
        json::string(&mut beginning, app_id.as_bytes(), usize::MAX);
        let rest = beginning.split_off(beginning.len() / GROUP_BYTES * GROUP_BYTES);
        let mut encoded = Vec::new();
        base64::encode(&mut encoded, &beginning);
        let mut end = Vec::new();
        if trusted_account_key != account_id {
            end.extend_from_slice(b",\"tk\":");
            json::string(&mut end, trusted_account_key.as_bytes(), usize::MAX);
        }
        end.extend_from_slice(b"}}");
        Self { beginning: encoded.into(), rest: rest.into(), end: end.into() }
    }

    /// The header value: standard base64 with padding, which every agent reads.
    pub fn write(&self, own: &OwnPayload<'_>) -> Vec<u8> {
        let json = self.json(own);
        let mut out = Vec::with_capacity(self.beginning.len() + json.len().div_ceil(GROUP_BYTES) * 4);
        out.extend_from_slice(&self.beginning);
        base64::encode(&mut out, &json);
        out
    }

    /// The JSON text behind what is encoded already.
    fn json(&self, own: &OwnPayload<'_>) -> Vec<u8> {
        let trace_id = own.trace.id.to_hex();
        let trace_id = own.trace.text(&trace_id);
        let ids = own.transaction_id.map_or(0, <[u8]>::len) + trace_id.len();
        let mut out = Vec::with_capacity(self.rest.len() + FIXED_BYTES + ids + self.end.len());
        out.extend_from_slice(&self.rest);
        if let Some(span_id) = own.span_id {
            out.extend_from_slice(b",\"id\":");
            json::quoted(&mut out, &span_id.to_hex());
        }
        if let Some(transaction_id) = own.transaction_id {
            out.extend_from_slice(b",\"tx\":");
            json::string(&mut out, transaction_id, usize::MAX);
        }
        out.extend_from_slice(b",\"tr\":");
        json::quoted(&mut out, trace_id);
        out.extend_from_slice(b",\"pr\":");
        own.priority.write(&mut out);
        out.extend_from_slice(if own.sampled { b",\"sa\":true,\"ti\":" } else { b",\"sa\":false,\"ti\":" });
        json::uint(&mut out, own.timestamp_ms);
        out.extend_from_slice(&self.end);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    use PayloadError as E;

    fn read(json: &str) -> Result<Payload, E> {
        parse(STANDARD.encode(json).as_bytes(), Some("777"))
    }

    const MOBILE: &str =
        r#"{"v":[0,1],"d":{"ty":"Mobile","ac":"777","ap":"5","tr":"ab12","id":"0102030405060708","ti":1749999999900}}"#;

    #[test]
    fn the_accept_table_of_new_relics_agents() {
        let payload = read(MOBILE).unwrap();
        assert_eq!((payload.sampled, payload.priority), (None, None));
        assert_eq!(payload.caller_type, CallerType::Mobile);
        for (json, expected) in [
            (MOBILE.replace("[0,1]", "[1,0]"), Err(E::MajorVersion)),
            (MOBILE.replace("[0,1]", "[0,7]").replace("\"ti\"", "\"x\":1,\"ti\""), Ok(())),
            (MOBILE.replace(r#""id":"0102030405060708","#, ""), Err(E::Parse)),
            (MOBILE.replace("\"id\"", "\"tx\""), Ok(())),
            (MOBILE.replace("\"777\"", "\"778\""), Err(E::UntrustedAccount)),
            (MOBILE.replace("\"777\"", "\"778\",\"tk\":\"777\""), Ok(())),
            (MOBILE.replace("\"777\"", "777"), Ok(())),
            ("null".into(), Err(E::Null)),
            ("[]".into(), Err(E::Parse)),
            ("{}".into(), Err(E::Parse)),
            (r#"{"v":[0,1]}"#.into(), Err(E::Parse)),
            (r#"{"v":[0,1],"d":[]}"#.into(), Err(E::Parse)),
            (MOBILE.replace("[0,1]", "[0]"), Err(E::Parse)),
            (MOBILE.replace("[0,1]", "[0,\"1\"]"), Err(E::Parse)),
            (MOBILE.replace("[0,1]", "\"0.1\""), Err(E::Parse)),
            // The major version is checked before the content of `d`.
            (r#"{"v":[1,0],"d":{}}"#.into(), Err(E::MajorVersion)),
        ] {
            assert_eq!(read(&json).map(|_| ()), expected, "{json}");
        }
        for key in ["ty", "ac", "ap", "tr", "ti"] {
            let json = MOBILE.replace(&format!("\"{key}\""), "\"gone\"");
            assert_eq!(read(&json), Err(E::Parse), "{key}");
        }
        for value in ["\"1749999999900\"", "1.5", "null"] {
            assert_eq!(read(&MOBILE.replace("1749999999900", value)), Err(E::Parse), "{value}");
        }
        for trace_id in ["", "xyz", "0", &"0".repeat(40), &"a".repeat(129), "ab-12"] {
            assert_eq!(read(&MOBILE.replace("ab12", trace_id)), Err(E::Parse), "{trace_id}");
        }
    }

    #[test]
    fn blank_values_are_null_and_garbage_is_not_readable() {
        for (value, why) in [
            (&b""[..], E::Null),
            (b" \t", E::Null),
            (b"null", E::Null),
            (b"!!", E::Parse),
            (b"\xff\xfe", E::Parse),
            (b"e30x=", E::Parse),
            (b"eyJ2IjpbMCwxXSwiZCI6ey", E::Parse),
            (b"{", E::Parse),
            (&[b'A'; VALUE_BYTES_MAX + 4], E::Parse),
        ] {
            assert_eq!(parse(value, Some("777")), Err(why), "{value:?}");
        }
        let deep = "[".repeat(4000);
        assert_eq!(parse(deep.as_bytes(), Some("777")), Err(E::Parse));
        assert_eq!(read(&deep), Err(E::Parse));
    }

    #[test]
    fn either_alphabet_and_any_padding_are_read() {
        // The question marks make the two alphabets differ.
        let json = MOBILE.replace("0102030405060708", "???>>>~~~");
        for value in [
            STANDARD.encode(&json),
            STANDARD_NO_PAD.encode(&json),
            URL_SAFE.encode(&json),
            URL_SAFE_NO_PAD.encode(&json),
        ] {
            assert!(parse(value.as_bytes(), Some("777")).is_ok(), "{value}");
        }
        assert!(parse(json.as_bytes(), Some("777")).is_ok(), "raw JSON");
    }

    #[test]
    fn odd_optional_values_are_absent() {
        for (extra, sampled, priority) in [
            (r#""pr":"1.5","sa":"true""#, None, None),
            (r#""pr":1.5,"sa":1"#, None, Priority::from_micros(1_500_000)),
            (r#""pr":1000000,"sa":false"#, Some(false), None),
            (r#""pr":-1,"sa":true"#, Some(true), None),
            (r#""pr":2.0381479,"sa":null"#, None, Priority::from_micros(2_038_148)),
        ] {
            let payload = read(&MOBILE.replace("\"ti\"", &format!("{extra},\"ti\""))).unwrap();
            assert_eq!((payload.sampled, payload.priority), (sampled, priority), "{extra}");
        }
        let long = MOBILE.replace("\"id\"", &format!("\"tx\":\"{}\",\"id\"", "a".repeat(129)));
        assert_eq!(read(&long).unwrap().transaction_id, None);
    }

    #[test]
    fn trace_ids_are_padded_or_cut_and_kept_as_received() {
        for (received, hex, kept) in [
            ("4Ad91cE07b35F268", "00000000000000004ad91ce07b35f268", true),
            ("c0a8017e5d3b4f2226e1d47b08aa3f5c", "c0a8017e5d3b4f2226e1d47b08aa3f5c", false),
            ("C0A8017E5D3B4F2226E1D47B08AA3F5C", "c0a8017e5d3b4f2226e1d47b08aa3f5c", true),
            ("ffffc0a8017e5d3b4f2226e1d47b08aa3f5c", "c0a8017e5d3b4f2226e1d47b08aa3f5c", true),
        ] {
            let trace = read(&MOBILE.replace("ab12", received)).unwrap().trace;
            assert_eq!(trace.id.to_hex(), hex.as_bytes());
            assert_eq!(trace.received.as_deref(), kept.then_some(received));
        }
    }

    #[test]
    fn without_a_trusted_key_nobody_is_trusted() {
        assert_eq!(parse(STANDARD.encode(MOBILE).as_bytes(), None), Err(E::UntrustedAccount));
    }

    #[test]
    fn writes_what_it_reads() {
        let trace = trace_identity("4Ad91cE07b35F268").unwrap();
        let own = OwnPayload {
            span_id: SpanId::from_hex(b"c3d4e5f60718293a"),
            transaction_id: Some(b"quote\"and\\slash"),
            trace: &trace,
            priority: Priority::from_micros(120_000).unwrap(),
            sampled: false,
            timestamp_ms: 1_750_000_000_123,
        };
        // Applications of different lengths: the text that is encoded in advance ends at each place of a group.
        for app_id in ["1", "90", "902", "9\"02"] {
            let payload = parse(&PayloadWriter::new("4001", app_id, "777").write(&own), Some("777")).unwrap();
            assert_eq!((&*payload.account_id, &*payload.app_id), ("4001", app_id));
            assert_eq!(payload.span_id.as_deref(), Some("c3d4e5f60718293a"));
            assert_eq!(payload.transaction_id.as_deref(), Some("quote\"and\\slash"));
            assert_eq!(payload.priority, Some(own.priority));
            assert_eq!(payload.trace.received.as_deref(), Some("4Ad91cE07b35F268"));
        }
        let own = OwnPayload { span_id: None, ..own };
        let value = PayloadWriter::new("4001", "90210", "4001").write(&own);
        let json = String::from_utf8(STANDARD.decode(value).unwrap()).unwrap();
        assert!(json.starts_with(r#"{"v":[0,1],"d":{"ty":"App","ac":"4001","ap":"90210","tx":"#), "{json}");
        assert!(json.ends_with(r#","sa":false,"ti":1750000000123}}"#), "{json}");
    }
}
