//! The request header that names the calling transaction, and the trip that both belong to.
//!
//! ```text
//! transaction = "[" guid "," record-tt [ "," trip-id [ "," path-hash *( "," any ) ] ] "]"     ; JSON, obfuscated
//! guid        = string                 ; any but the empty one: the Go agent prints fewer than 16 digits at times
//! record-tt   = true / false           ; read and ignored, written as false
//! trip-id     = string / null
//! path-hash   = string / null
//! ```

use alloc::boxed::Box;
use alloc::string::String;

use super::{EncodingKey, ObfuscationError, PathHash, json};
use crate::json::Value;

/// The longest guid, trip id or path hash that is accepted, in bytes; agents write 16 and 8. They are sent on and
/// recorded, so a caller must not choose their size freely.
pub const ID_BYTES_MAX: usize = 255;

/// Why a transaction header is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionError {
    /// The obfuscation could not be taken off.
    Obfuscation(ObfuscationError),
    /// Not one JSON value.
    Json,
    /// JSON, but no array.
    Array,
    /// An array of fewer than two elements.
    Elements,
    /// Element 0 is not a string of 1 to [`ID_BYTES_MAX`] bytes.
    Guid,
    /// Element 1 is neither true nor false.
    RecordTt,
    /// Element 2 is neither null nor a string of at most [`ID_BYTES_MAX`] bytes.
    TripId,
    /// Element 3 is neither null nor a string of at most [`ID_BYTES_MAX`] bytes.
    PathHash,
}

impl TransactionError {
    /// Whether an array came, but with an element of a wrong type. Agents then behave as if the caller had not
    /// spoken CAT at all, while a header that holds no array counts as none.
    pub fn is_wrong_type(self) -> bool {
        matches!(self, Self::Guid | Self::RecordTt | Self::TripId | Self::PathHash)
    }
}

impl core::fmt::Display for TransactionError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Self::Obfuscation(why) => return why.fmt(formatter),
            Self::Json => "the transaction is not JSON",
            Self::Array => "the transaction is not a JSON array",
            Self::Elements => "the transaction has fewer than two elements",
            Self::Guid => "the guid is not a short string",
            Self::RecordTt => "record_tt is not a truth value",
            Self::TripId => "the trip id is neither null nor a short string",
            Self::PathHash => "the path hash is neither null nor a short string",
        })
    }
}

/// What a caller tells about its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerTransaction {
    /// The caller's transaction guid: 1 to [`ID_BYTES_MAX`] bytes, usually 16 hex digits.
    pub guid: Box<str>,
    /// The guid of the trip's first transaction; `None` when missing, null or empty.
    pub trip_id: Option<Box<str>>,
    /// The caller's path hash as it arrived, valid or not; `None` when missing, null or empty.
    pub path_hash: Option<Box<str>>,
}

impl CallerTransaction {
    /// Reads a header value.
    ///
    /// # Errors
    /// The variant names the broken rule; nothing of the header is then believed.
    pub fn read(value: &[u8], key: &EncodingKey) -> Result<Self, TransactionError> {
        Self::parse(&key.decode_text(value).map_err(TransactionError::Obfuscation)?)
    }

    /// Reads the array once the obfuscation is off.
    fn parse(text: &str) -> Result<Self, TransactionError> {
        use TransactionError as E;
        let value = json::parse(text).ok_or(E::Json)?;
        let elements = value.as_array().ok_or(E::Array)?;
        let [guid, record_tt, rest @ ..] = elements else { return Err(E::Elements) };
        let guid = guid.as_str().filter(|guid| (1..=ID_BYTES_MAX).contains(&guid.len())).ok_or(E::Guid)?;
        if record_tt.as_bool().is_none() {
            return Err(E::RecordTt);
        }
        Ok(Self {
            guid: guid.into(),
            trip_id: optional_id(rest.first(), E::TripId)?,
            path_hash: optional_id(rest.get(1), E::PathHash)?,
        })
    }
}

/// A string that may be missing, null or, as the Go agent writes null, empty.
fn optional_id(value: Option<&Value<'_>>, why: TransactionError) -> Result<Option<Box<str>>, TransactionError> {
    let Some(value) = value.filter(|value| **value != Value::Null) else { return Ok(None) };
    match value.as_str() {
        Some("") => Ok(None),
        Some(text) if text.len() <= ID_BYTES_MAX => Ok(Some(text.into())),
        _ => Err(why),
    }
}

/// The header value of an own transaction: always four elements.
pub(super) fn build(key: &EncodingKey, guid: &str, trip_id: &str, path_hash: PathHash) -> String {
    let mut text = vec![b'['];
    json::push_string(&mut text, guid);
    text.extend_from_slice(b",false,");
    json::push_string(&mut text, trip_id);
    text.push(b',');
    json::push_string(&mut text, &path_hash.to_hex());
    text.push(b']');
    key.encode(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(guid: &str, trip_id: Option<&str>, path_hash: Option<&str>) -> CallerTransaction {
        CallerTransaction { guid: guid.into(), trip_id: trip_id.map(Into::into), path_hash: path_hash.map(Into::into) }
    }

    #[test]
    fn reads_every_form_that_agents_write() {
        for (text, expected) in [
            (r#"["9f8e",false,"7d6c","fffeef37"]"#, caller("9f8e", Some("7d6c"), Some("fffeef37"))),
            (r#"["9f8e",true,"7d6c","fffeef37"]"#, caller("9f8e", Some("7d6c"), Some("fffeef37"))),
            (r#"["9f8e",false]"#, caller("9f8e", None, None)),
            (r#"["9f8e",false,null]"#, caller("9f8e", None, None)),
            (r#"["9f8e",false,null,null]"#, caller("9f8e", None, None)),
            (r#"["9f8e",false,"",""]"#, caller("9f8e", None, None)),
            (r#"["9f8e",false,null,"fffeef37"]"#, caller("9f8e", None, Some("fffeef37"))),
            (r#"["9f8e",false,"7d6c","zz"]"#, caller("9f8e", Some("7d6c"), Some("zz"))),
            (r#"["9f8e",false,"7d6c","fffeef37",{"new":[1]},7]"#, caller("9f8e", Some("7d6c"), Some("fffeef37"))),
            (r#" [ "9" , false , "Caf\u00e9" ] "#, caller("9", Some("Café"), None)),
        ] {
            assert_eq!(CallerTransaction::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn each_refusal_names_its_own_rule() {
        use TransactionError as E;
        for (text, why) in [
            ("", E::Json),
            ("[", E::Json),
            (r#"["9f8e",false"#, E::Json),
            (r#"["9f8e",false]x"#, E::Json),
            (r#"["9f8e",false,"\ud800"]"#, E::Json),
            ("null", E::Array),
            ("7", E::Array),
            (r#""9f8e""#, E::Array),
            (r#"{"guid":"9f8e"}"#, E::Array),
            ("[]", E::Elements),
            (r#"["9f8e"]"#, E::Elements),
            (r#"[7,false,"7d6c","fffeef37"]"#, E::Guid),
            (r#"[null,false,"7d6c","fffeef37"]"#, E::Guid),
            (r#"["",false,"7d6c","fffeef37"]"#, E::Guid),
            (r#"["9f8e","false","7d6c","fffeef37"]"#, E::RecordTt),
            (r#"["9f8e",0,"7d6c","fffeef37"]"#, E::RecordTt),
            (r#"["9f8e",null,"7d6c","fffeef37"]"#, E::RecordTt),
            (r#"["9f8e",false,["7d6c"],"fffeef37"]"#, E::TripId),
            (r#"["9f8e",false,7,"fffeef37"]"#, E::TripId),
            (r#"["9f8e",false,"7d6c",["fffeef37"]]"#, E::PathHash),
            (r#"["9f8e",false,"7d6c",4294901559]"#, E::PathHash),
            (r#"["9f8e",false,"7d6c",{}]"#, E::PathHash),
        ] {
            assert_eq!(CallerTransaction::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        assert_eq!(CallerTransaction::parse(&"[".repeat(10_000)), Err(TransactionError::Json));
    }

    #[test]
    fn every_id_is_bounded_from_both_sides() {
        use TransactionError as E;
        let (longest, longer) = ("x".repeat(ID_BYTES_MAX), "x".repeat(ID_BYTES_MAX + 1));
        let (longest, longer) = (longest.as_str(), longer.as_str());
        let whole = CallerTransaction::parse(&format!(r#"["{longest}",false,"{longest}","{longest}"]"#));
        assert_eq!(whole, Ok(caller(longest, Some(longest), Some(longest))));
        for (text, why) in [
            (format!(r#"["{longer}",false]"#), E::Guid),
            (format!(r#"["9f8e",false,"{longer}"]"#), E::TripId),
            (format!(r#"["9f8e",false,null,"{longer}"]"#), E::PathHash),
        ] {
            assert_eq!(CallerTransaction::parse(&text), Err(why));
        }
    }

    #[test]
    fn a_value_under_another_key_is_refused() {
        let (key, other) = (EncodingKey::new(b"f00dcafe1234").unwrap(), EncodingKey::new(b"other").unwrap());
        let value = build(&key, "9f8e", "7d6c", PathHash::new(None, "a", "t"));
        assert!(CallerTransaction::read(value.as_bytes(), &key).is_ok());
        assert_eq!(CallerTransaction::read(value.as_bytes(), &other), Err(TransactionError::Json));
        assert_eq!(CallerTransaction::read(b"*", &key), Err(TransactionError::Obfuscation(ObfuscationError::Base64)));
    }
}
