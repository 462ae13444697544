//! The headers of Cross Application Tracing as a bystander reads them, who knows the key.
//!
//! ```text
//! X-NewRelic-ID          = obfuscated( cross-process-id )
//! X-NewRelic-Transaction = obfuscated( [ guid, record_tt, trip-id, path-hash ] )
//! X-NewRelic-App-Data    = obfuscated( [ cross-process-id, transaction-name, queue-time, response-time,
//!                                        content-length, guid, record_tt ] )
//! obfuscated( text )     = base64( text XOR key, repeated )
//! ```
//! It reads the forms that the filter sends, not every form that agents accept.
//! Source: newrelic/go-agent `v3/internal/cat`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::tracing_headers::{TracingHeaders, X_NEWRELIC_ID, X_NEWRELIC_TRANSACTION};

/// The key that all applications of the demo share. It is no secret, nobody else uses it.
pub const ENCODING_KEY: &str = "f00dcafe1234";

/// Obfuscates a text.
pub fn encode(text: &str) -> String {
    STANDARD.encode(mask(text.as_bytes()))
}

/// Takes the obfuscation off a value; `None` when there is none on it.
pub fn decode(value: &[u8]) -> Option<String> {
    String::from_utf8(mask(&STANDARD.decode(value).ok()?)).ok()
}

fn mask(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().zip(ENCODING_KEY.bytes().cycle()).map(|(byte, key)| byte ^ key).collect()
}

fn decode_array<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    serde_json::from_str(&decode(value)?).ok()
}

/// What `X-NewRelic-Transaction` tells about the calling transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallingTransaction {
    /// Its guid.
    pub guid: String,
    /// The trip that it is part of: the guid of the first transaction.
    pub trip_id: String,
    /// Its path hash.
    pub path_hash: String,
}

impl CallingTransaction {
    /// Reads the header's value.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (guid, _record_tt, trip_id, path_hash): (String, bool, String, String) = decode_array(value)?;
        Some(Self { guid, trip_id, path_hash })
    }

    /// The header's value.
    pub fn write(&self) -> String {
        encode(&json!([self.guid, false, self.trip_id, self.path_hash]).to_string())
    }
}

/// What the two request headers tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `account#application`.
    pub cross_process_id: String,
    /// Its transaction.
    pub transaction: CallingTransaction,
}

impl Caller {
    /// Reads the headers, when there is one line of each.
    pub fn read(headers: &TracingHeaders) -> Option<Self> {
        let cross_process_id = decode(headers.only(X_NEWRELIC_ID)?.as_bytes())?;
        let transaction = CallingTransaction::read(headers.only(X_NEWRELIC_TRANSACTION)?.as_bytes())?;
        Some(Self { cross_process_id, transaction })
    }
}

/// What `X-NewRelic-App-Data` tells about the transaction that answered.
#[derive(Debug, Clone, PartialEq)]
pub struct AppData {
    /// `account#application`.
    pub cross_process_id: String,
    /// The full name.
    pub transaction_name: String,
    /// Seconds that the request waited before.
    pub queue_time_s: f64,
    /// Seconds until the header was written.
    pub response_time_s: f64,
    /// Bytes of the request's body, -1 when unknown.
    pub content_length: i64,
    /// Its guid.
    pub guid: String,
}

impl AppData {
    /// Reads the header's value.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (cross_process_id, transaction_name, queue_time_s, response_time_s, content_length, guid, _record_tt): (
            String,
            String,
            f64,
            f64,
            i64,
            String,
            bool,
        ) = decode_array(value)?;
        Some(Self { cross_process_id, transaction_name, queue_time_s, response_time_s, content_length, guid })
    }

    /// The header's value.
    pub fn write(&self) -> String {
        let times = (self.queue_time_s, self.response_time_s);
        encode(
            &json!([
                self.cross_process_id,
                self.transaction_name,
                times.0,
                times.1,
                self.content_length,
                self.guid,
                false
            ])
            .to_string(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_obfuscated_with_the_key_over_and_over() {
        for (text, value) in [("4002#55", "UgAAVkBUUw=="), ("4001#90210", "UgAAVUBYVlcAAg=="), ("", "")] {
            assert_eq!((encode(text).as_str(), decode(value.as_bytes()).as_deref()), (value, Some(text)));
        }
        for broken in [&b"no base64"[..], b"\xff", b"mZmZ"] {
            assert_eq!(decode(broken), None, "{}", broken.escape_ascii());
        }
    }

    #[test]
    fn a_calling_transaction_is_read_as_it_was_written() {
        let transaction = CallingTransaction {
            guid: "9f8e7d6c5b4a3921".to_owned(),
            trip_id: "9f8e7d6c5b4a3921".to_owned(),
            path_hash: "fffeef37".to_owned(),
        };
        let value = "PRIJAlsEUQEHUQZWUlEDXVFQRElXU19HAxwSXQVZA1JVBFABBARRV1pTV0cdEFVSAFVVAlBWRDg=";
        assert_eq!(
            (transaction.write().as_str(), CallingTransaction::read(value.as_bytes())),
            (value, Some(transaction))
        );
        for json in ["", "{}", r#"["a",false,"b"]"#, r#"["a",false,"b","c",1]"#, r#"["a",0,"b","c"]"#] {
            assert_eq!(CallingTransaction::read(encode(json).as_bytes()), None, "{json}");
        }
    }

    #[test]
    fn app_data_is_read_as_it_was_written() {
        let app_data = AppData {
            cross_process_id: "4001#90210".to_owned(),
            transaction_name: "WebTransaction/Envoy/GET /stock".to_owned(),
            queue_time_s: 0.015,
            response_time_s: 0.25,
            content_length: -1,
            guid: "1122334455667788".to_owned(),
        };
        let value = "PRIEVFNQRVwBAAIERBwSMwYDMhdQXEBVBURZCw1OIwtHXUobIXVkREwSEgpSWREYVh4AVVZNVksDBx8ZVxwSVVJTVFYCBgcBUwYGU1RZ\
            XkcdVFJYFVVt";
        assert_eq!((app_data.write().as_str(), AppData::read(value.as_bytes())), (value, Some(app_data)));
        assert_eq!(AppData::read(encode(r#"["4001#1","a",0,0,-1]"#).as_bytes()), None);
    }

    #[test]
    fn a_caller_is_read_from_one_line_of_each_header() {
        let transaction =
            CallingTransaction { guid: "a".to_owned(), trip_id: "b".to_owned(), path_hash: "c".to_owned() };
        let (id, value) = (encode("4002#55"), transaction.write());
        let read = |lines: &[(&str, &str)]| {
            Caller::read(&TracingHeaders::pick(lines.iter().map(|(name, value)| (*name, value.as_bytes()))))
        };
        let both = [(X_NEWRELIC_ID, id.as_str()), (X_NEWRELIC_TRANSACTION, value.as_str())];
        assert_eq!(read(&both), Some(Caller { cross_process_id: "4002#55".to_owned(), transaction }));
        for broken in [&both[..1], &both[1..], &[both[0], both[1], both[0]]] {
            assert_eq!(read(broken), None, "{broken:?}");
        }
    }
}
