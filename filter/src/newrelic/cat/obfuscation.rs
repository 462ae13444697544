//! The obfuscation of every CAT value. It is not encryption: whoever knows one pair of values knows the key.
//!
//! ```text
//! obfuscated = base64( bytes XOR key, the key repeated )       ; RFC 4648 section 4, with padding
//! ```

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::headers::trim_ows;

/// The longest obfuscated value that is read, in bytes of base64 text: several times what agents write, whose names
/// have at most 255 bytes, and about a quarter of what Envoy lets all headers of a message have.
pub const VALUE_BYTES_MAX: usize = 16 * 1024;

/// Why an obfuscated value could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObfuscationError {
    /// Longer than [`VALUE_BYTES_MAX`].
    TooLong,
    /// Not base64 with padding.
    Base64,
    /// Not UTF-8 once the key is taken off: usually another key.
    Utf8,
}

impl core::fmt::Display for ObfuscationError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Self::TooLong => "the value is too long",
            Self::Base64 => "the value is not padded base64",
            Self::Utf8 => "the value is not text under this encoding key",
        })
    }
}

/// The key that all accounts share whose services may call each other: at least one byte, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodingKey(Box<[u8]>);

impl EncodingKey {
    /// `None` for an empty key.
    pub fn new(key: &[u8]) -> Option<Self> {
        (!key.is_empty()).then(|| Self(key.into()))
    }

    /// Obfuscates any bytes.
    pub fn encode(&self, bytes: &[u8]) -> String {
        STANDARD.encode(self.xor(bytes))
    }

    /// Reads an obfuscated value, blanks around it aside.
    ///
    /// # Errors
    /// [`ObfuscationError::TooLong`] and [`ObfuscationError::Base64`].
    pub fn decode(&self, value: &[u8]) -> Result<Vec<u8>, ObfuscationError> {
        let value = trim_ows(value);
        if value.len() > VALUE_BYTES_MAX {
            return Err(ObfuscationError::TooLong);
        }
        STANDARD.decode(value).map(|bytes| self.xor(&bytes)).map_err(|_| ObfuscationError::Base64)
    }

    /// Reads an obfuscated text, blanks around the value aside.
    ///
    /// # Errors
    /// Every variant of [`ObfuscationError`].
    pub fn decode_text(&self, value: &[u8]) -> Result<String, ObfuscationError> {
        String::from_utf8(self.decode(value)?).map_err(|_| ObfuscationError::Utf8)
    }

    fn xor(&self, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().zip(self.0.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
    }
}

impl core::fmt::Debug for EncodingKey {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> EncodingKey {
        EncodingKey::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn obfuscates_as_new_relics_agents_do() {
        for (text, encoding_key, expected) in [
            ("A", "k", "Kg=="),
            ("café", "key", "CAQfqMw="),
            ("4002#55", "f00dcafe1234", "UgAAVkBUUw=="),
            ("4001#90210", "f00dcafe1234", "UgAAVUBYVlcAAg=="),
            // newrelic/go-agent and newrelic/newrelic-java-agent test this pair.
            ("testString", "BLAHHHH", "NikyPBs8OisiJg=="),
            ("", "k", ""),
        ] {
            assert_eq!(key(encoding_key).encode(text.as_bytes()), expected, "{text}");
            assert_eq!(key(encoding_key).decode_text(expected.as_bytes()).as_deref(), Ok(text), "{expected}");
        }
    }

    #[test]
    fn uses_every_byte_of_a_key_that_is_not_text() {
        let key = EncodingKey::new(&[0xff, 0x00]).unwrap();
        assert_eq!(key.decode(key.encode(b"\x00\x01\xfe\xff").as_bytes()).as_deref(), Ok(&b"\x00\x01\xfe\xff"[..]));
        assert_eq!(key.encode(b"\x00\x01\xfe\xff"), "/wEB/w==");
    }

    #[test]
    fn there_is_no_empty_key() {
        assert_eq!(EncodingKey::new(b""), None);
    }

    #[test]
    fn each_refusal_names_its_own_rule() {
        use ObfuscationError as E;
        for (value, why) in [
            (&b"Kg"[..], E::Base64),
            (b"Kg=", E::Base64),
            (b"K===", E::Base64),
            (b"Kg==Kg==", E::Base64),
            (b"K g==", E::Base64),
            (b"-_-_", E::Base64),
            (b"\xff\xfe\xfd\xfc", E::Base64),
            // The byte 0x94, which the key turns into 0xff.
            (b"lA==", E::Utf8),
        ] {
            assert_eq!(key("k").decode_text(value), Err(why), "{value:?}");
        }
    }

    #[test]
    fn the_length_is_bounded_from_both_sides() {
        let longest = vec![b'A'; VALUE_BYTES_MAX];
        assert_eq!(key("k").decode(&longest).map(|bytes| bytes.len()), Ok(VALUE_BYTES_MAX / 4 * 3));
        let longer = vec![b'A'; VALUE_BYTES_MAX + 4];
        assert_eq!(key("k").decode(&longer), Err(ObfuscationError::TooLong));
    }

    #[test]
    fn blanks_around_a_value_do_not_count() {
        assert_eq!(key("k").decode_text(b" Kg==\t").as_deref(), Ok("A"));
    }

    #[test]
    fn the_key_is_never_printed() {
        assert_eq!(format!("{:?}", key("f00dcafe1234")), "[redacted]");
    }
}
