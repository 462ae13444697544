//! The response header that tells a caller who answered.
//!
//! ```text
//! app-data = "[" cross-process-id "," transaction-name "," queue-time "," response-time "," content-length
//!            [ "," guid [ "," record-tt *( "," any ) ] ] "]"                       ; JSON, obfuscated
//! queue-time, response-time = number                   ; seconds
//! content-length            = number                   ; bytes of the request body, -1 when unknown
//! ```
//! Older agents write five or six elements, so five are enough. Several header values count as one list, joined by
//! commas or in several lines.

use alloc::boxed::Box;
use alloc::string::String;

use crate::headers::trim_ows;
use crate::id::TransactionId;
use crate::json::Number;

use super::{CrossProcessId, CrossProcessIdError, ObfuscationError, Settings, json};

/// At most this many values of a response are tried: one for each proxy that may have added its own.
pub const CANDIDATES_MAX: usize = 8;

/// Why app data is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppDataError {
    /// The obfuscation could not be taken off.
    Obfuscation(ObfuscationError),
    /// Not one JSON value.
    Json,
    /// JSON, but no array.
    Array,
    /// An array of fewer than five elements.
    Elements,
    /// Element 0 is not a string.
    CrossProcessIdType,
    /// Element 0 is no cross process id.
    CrossProcessId(CrossProcessIdError),
    /// Element 1 is not a string.
    TransactionName,
    /// Element 2 is not a number.
    QueueTime,
    /// Element 3 is not a number.
    ResponseTime,
    /// Element 4 is not a number.
    ContentLength,
    /// Element 5 is there, but not a string.
    Guid,
    /// Element 6 is there, but neither true nor false.
    RecordTt,
    /// The account of element 0 is not trusted.
    UntrustedAccount,
}

impl core::fmt::Display for AppDataError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Self::Obfuscation(why) => return why.fmt(formatter),
            Self::CrossProcessId(why) => return why.fmt(formatter),
            Self::Json => "the app data is not JSON",
            Self::Array => "the app data is not a JSON array",
            Self::Elements => "the app data has fewer than five elements",
            Self::CrossProcessIdType => "the cross process id is not a string",
            Self::TransactionName => "the transaction name is not a string",
            Self::QueueTime => "the queue time is not a number",
            Self::ResponseTime => "the response time is not a number",
            Self::ContentLength => "the content length is not a number",
            Self::Guid => "the guid is not a string",
            Self::RecordTt => "record_tt is not a truth value",
            Self::UntrustedAccount => "the callee's account is not trusted",
        })
    }
}

/// What a callee of a trusted account tells about its transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct AppData {
    /// The callee.
    pub cross_process_id: CrossProcessId,
    /// The callee's full transaction name, below [`super::VALUE_BYTES_MAX`] bytes.
    pub transaction_name: Box<str>,
    /// Seconds that the request waited in front of the callee; as claimed, of either sign.
    pub queue_time_s: f64,
    /// Seconds that the callee took until it wrote the header; as claimed, of either sign.
    pub response_time_s: f64,
    /// Bytes of the request body that the callee saw; `None` when it does not know.
    pub content_length: Option<u64>,
    /// The callee's transaction guid; older agents leave it out.
    pub guid: Option<Box<str>>,
}

/// Reads all values of a response, one item for each header line, and checks the trust. `Ok(None)` when there is
/// none: no header and a broken header do not look alike.
///
/// # Errors
/// When no value can be read, what is wrong with the first one; [`AppDataError::UntrustedAccount`] when the first
/// one that can be read comes from elsewhere.
pub fn read_app_data<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    settings: &Settings,
) -> Result<Option<AppData>, AppDataError> {
    let values = lines.into_iter().flat_map(|line| line.split(|byte| *byte == b','));
    let mut first_error = None;
    for value in values.map(trim_ows).filter(|value| !value.is_empty()).take(CANDIDATES_MAX) {
        match AppData::read(value, settings) {
            Ok(data) if settings.trusts(&data.cross_process_id) => return Ok(Some(data)),
            Ok(_) => return Err(AppDataError::UntrustedAccount),
            Err(why) => {
                first_error.get_or_insert(why);
            }
        }
    }
    first_error.map_or(Ok(None), Err)
}

impl AppData {
    fn read(value: &[u8], settings: &Settings) -> Result<Self, AppDataError> {
        Self::parse(&settings.encoding_key().decode_text(value).map_err(AppDataError::Obfuscation)?)
    }

    /// Reads the array once the obfuscation is off.
    fn parse(text: &str) -> Result<Self, AppDataError> {
        use AppDataError as E;
        let value = json::parse(text).ok_or(E::Json)?;
        let elements = value.as_array().ok_or(E::Array)?;
        let [id, name, queue_time, response_time, content_length, rest @ ..] = elements else {
            return Err(E::Elements);
        };
        let id = id.as_str().ok_or(E::CrossProcessIdType)?;
        let data = Self {
            cross_process_id: CrossProcessId::parse(id).map_err(E::CrossProcessId)?,
            transaction_name: name.as_str().ok_or(E::TransactionName)?.into(),
            queue_time_s: queue_time.as_f64().ok_or(E::QueueTime)?,
            response_time_s: response_time.as_f64().ok_or(E::ResponseTime)?,
            content_length: content_length.as_number().map(Number::as_u64).ok_or(E::ContentLength)?,
            guid: rest.first().map(|guid| guid.as_str().ok_or(E::Guid)).transpose()?.map(Into::into),
        };
        if rest.get(1).is_some_and(|record_tt| record_tt.as_bool().is_none()) {
            return Err(E::RecordTt);
        }
        Ok(data)
    }
}

/// What an answer tells the caller, besides who we are.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Our full transaction name; it must not change any more.
    pub transaction_name: &'a [u8],
    /// Nanoseconds that the request waited in front of us; 0 when unknown.
    pub queue_time_ns: u64,
    /// Nanoseconds from our start to now.
    pub response_time_ns: u64,
    /// `content-length` of the request, when known.
    pub request_content_length: Option<u64>,
}

/// The header value of an own answer.
pub(super) fn build(settings: &Settings, guid: TransactionId, transaction_name: &str, answer: &Answer<'_>) -> String {
    let content_length = answer.request_content_length.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1);
    let mut text = vec![b'['];
    json::push_string(&mut text, settings.cross_process_id().as_str());
    text.push(b',');
    json::push_string(&mut text, transaction_name);
    text.push(b',');
    json::push_seconds(&mut text, answer.queue_time_ns);
    text.push(b',');
    json::push_seconds(&mut text, answer.response_time_ns);
    text.push(b',');
    json::push_integer(&mut text, content_length);
    text.extend_from_slice(b",\"");
    text.extend_from_slice(&guid.to_hex());
    text.extend_from_slice(b"\",false]");
    settings.encoding_key().encode(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new("4002#55", b"f00dcafe1234", &["4001".into()], "storefront").unwrap()
    }

    fn obfuscated(text: &str) -> Vec<u8> {
        settings().encoding_key().encode(text.as_bytes()).into_bytes()
    }

    #[test]
    fn reads_every_form_that_agents_write() {
        let whole = AppData {
            cross_process_id: CrossProcessId::parse("4001#90210").unwrap(),
            transaction_name: "WebTransaction/Go/x".into(),
            queue_time_s: 0.015,
            response_time_s: 0.25,
            content_length: None,
            guid: Some("1122334455667788".into()),
        };
        let old = AppData { guid: None, content_length: Some(12), queue_time_s: 0.0, ..whole.clone() };
        let head = r#"["4001#90210","WebTransaction/Go/x""#;
        for (text, expected) in [
            (format!(r#"{head},0.015,0.25,-1,"1122334455667788",false]"#), &whole),
            (format!(r#"{head},0.015,0.25,-1,"1122334455667788",true]"#), &whole),
            (format!(r#"{head},0.015,2.5e-1,-1,"1122334455667788",false,"new",{{}}]"#), &whole),
            (format!(r#"{head},0.015,0.25,-1,"1122334455667788"]"#), &whole),
            (format!(r#"{head},0,0.25,12]"#), &old),
        ] {
            assert_eq!(AppData::parse(&text).as_ref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn each_refusal_names_its_own_rule() {
        use AppDataError as E;
        for (text, why) in [
            ("", E::Json),
            (r#"["4001#90210","x",0,0,-1"#, E::Json),
            ("{}", E::Array),
            ("null", E::Array),
            ("[]", E::Elements),
            (r#"["4001#90210","x",0,0]"#, E::Elements),
            (r#"[4001,"x",0,0,-1]"#, E::CrossProcessIdType),
            (r#"["4001","x",0,0,-1]"#, E::CrossProcessId(CrossProcessIdError::Separator)),
            (r#"["4001#x","x",0,0,-1]"#, E::CrossProcessId(CrossProcessIdError::Application)),
            (r#"["4001#90210",null,0,0,-1]"#, E::TransactionName),
            (r#"["4001#90210","x","0",0,-1]"#, E::QueueTime),
            (r#"["4001#90210","x",1e999,0,-1]"#, E::QueueTime),
            (r#"["4001#90210","x",0,null,-1]"#, E::ResponseTime),
            (r#"["4001#90210","x",0,0,"-1"]"#, E::ContentLength),
            (r#"["4001#90210","x",0,0,-1,7]"#, E::Guid),
            (r#"["4001#90210","x",0,0,-1,null]"#, E::Guid),
            (r#"["4001#90210","x",0,0,-1,"11",0]"#, E::RecordTt),
        ] {
            assert_eq!(AppData::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn the_first_value_that_can_be_read_counts() {
        let value = |name: &str| obfuscated(&format!(r#"["4001#90210","{name}",0,0,-1,"11",false]"#));
        let (first, second, garbage) = (value("first"), value("second"), b"garbage!".to_vec());
        let joined = |values: &[&[u8]]| values.join(&b", "[..]);
        for (lines, expected) in [
            (vec![first.clone(), second.clone()], "first"),
            (vec![garbage.clone(), second.clone()], "second"),
            (vec![joined(&[&garbage, &second, &first])], "second"),
            (vec![joined(&[&garbage, b"", &first]), second.clone()], "first"),
            (vec![b",,,,,,,,,,,".to_vec(), first.clone()], "first"),
            (vec![obfuscated("[]"), first.clone()], "first"),
        ] {
            let data = read_app_data(lines.iter().map(Vec::as_slice), &settings()).unwrap().unwrap();
            assert_eq!(&*data.transaction_name, expected, "{lines:?}");
        }
    }

    #[test]
    fn no_header_is_not_a_broken_header() {
        use AppDataError as E;
        let read = |lines: &[&[u8]]| read_app_data(lines.iter().copied(), &settings());
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[b"", b" , "]), Ok(None));
        assert_eq!(read(&[b"*", &obfuscated("[]")]), Err(E::Obfuscation(ObfuscationError::Base64)));
        assert_eq!(read(&[&obfuscated("[]"), b"*"]), Err(E::Elements));
    }

    #[test]
    fn an_untrusted_callee_is_not_believed_and_ends_the_search() {
        let stranger = obfuscated(r#"["4003#1","x",0,0,-1,"11",false]"#);
        let trusted = obfuscated(r#"["4001#1","x",0,0,-1,"11",false]"#);
        let lines = [stranger.as_slice(), &trusted];
        assert_eq!(read_app_data(lines, &settings()), Err(AppDataError::UntrustedAccount));
    }

    #[test]
    fn only_so_many_values_are_tried() {
        let good = obfuscated(r#"["4001#90210","x",0,0,-1]"#);
        let mut lines = vec![&b"*"[..]; CANDIDATES_MAX - 1];
        lines.push(&good);
        assert!(read_app_data(lines.iter().copied(), &settings()).is_ok());
        lines.insert(0, b"*");
        assert_eq!(read_app_data(lines, &settings()), Err(AppDataError::Obfuscation(ObfuscationError::Base64)));
    }

    #[test]
    fn what_is_unknown_is_written_as_zero_or_minus_one() {
        let answer =
            Answer { transaction_name: b"", queue_time_ns: 0, response_time_ns: 0, request_content_length: None };
        for (length, expected) in [(None, "-1"), (Some(0), "0"), (Some(17), "17"), (Some(u64::MAX), "-1")] {
            let answer = Answer { request_content_length: length, ..answer };
            let value = build(&settings(), TransactionId::from_u64(1).unwrap(), "x", &answer);
            let text = settings().encoding_key().decode_text(value.as_bytes()).unwrap();
            assert_eq!(text, format!(r#"["4002#55","x",0,0,{expected},"0000000000000001",false]"#));
        }
    }
}
