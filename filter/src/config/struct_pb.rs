//! The protobuf bytes of a `google.protobuf.Struct`, which Envoy hands to a module when the plugin configuration is of
//! that type. Source: `google/protobuf/struct.proto`, <https://protobuf.dev/programming-guides/encoding/>.
//!
//! ```text
//! Struct    = *( 0x0a length Entry )
//! Entry     = 0x0a length key  0x12 length Value
//! Value     = 0x08 varint            ; null
//!           / 0x11 8OCTET            ; number, IEEE 754 double, little-endian
//!           / 0x1a length text       ; string, UTF-8
//!           / 0x20 varint            ; bool
//!           / 0x2a length Struct
//!           / 0x32 length ListValue
//! ListValue = *( 0x0a length Value )
//! length    = varint                 ; 7 bits a byte, low ones first, the high bit says that more follow
//! ```
//!
//! The fields of a message may come in any order, and the last of several wins.

use alloc::vec::Vec;
use core::fmt;

use crate::json::{Number, Object, Value};

/// Values within values; each level of a text that Envoy accepts takes two messages, and Envoy's own limit is 100.
const DEPTH_MAX: u32 = 64;

/// Why the bytes are no `Struct`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StructError {
    /// A field is longer than the message.
    Truncated,
    /// A field that the message does not have.
    Field,
    /// A text is not UTF-8.
    Text,
    /// Values nest too deeply.
    Depth,
}

impl fmt::Display for StructError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Truncated => "a field is longer than its message",
            Self::Field => "a field is unknown",
            Self::Text => "a text is not UTF-8",
            Self::Depth => "values nest too deeply",
        })
    }
}

/// Reads the bytes of a `Struct`.
///
/// # Errors
/// The variant names the broken rule.
pub(super) fn decode(bytes: &[u8]) -> Result<Value<'_>, StructError> {
    object(bytes, 0)
}

fn object(mut message: &[u8], depth: u32) -> Result<Value<'_>, StructError> {
    let mut object = Object::new();
    while !message.is_empty() {
        tag(&mut message, 0x0a)?;
        let (key, value) = entry(delimited(&mut message)?, depth)?;
        object.push(key.into(), value);
    }
    Ok(Value::Object(object))
}

fn entry(mut message: &[u8], depth: u32) -> Result<(&str, Value<'_>), StructError> {
    let mut key = "";
    let mut found = Value::Null;
    while !message.is_empty() {
        match byte(&mut message)? {
            0x0a => key = text(delimited(&mut message)?)?,
            0x12 => found = value(delimited(&mut message)?, depth + 1)?,
            _ => return Err(StructError::Field),
        }
    }
    Ok((key, found))
}

fn value(mut message: &[u8], depth: u32) -> Result<Value<'_>, StructError> {
    if depth > DEPTH_MAX {
        return Err(StructError::Depth);
    }
    let mut found = Value::Null;
    while !message.is_empty() {
        found = match byte(&mut message)? {
            0x08 => varint(&mut message).map(|_| Value::Null)?,
            0x11 => number(&mut message)?,
            0x1a => Value::String(text(delimited(&mut message)?)?.into()),
            0x20 => Value::Bool(varint(&mut message)? != 0),
            0x2a => object(delimited(&mut message)?, depth)?,
            0x32 => list(delimited(&mut message)?, depth)?,
            _ => return Err(StructError::Field),
        };
    }
    Ok(found)
}

fn list(mut message: &[u8], depth: u32) -> Result<Value<'_>, StructError> {
    let mut values = Vec::new();
    while !message.is_empty() {
        tag(&mut message, 0x0a)?;
        values.push(value(delimited(&mut message)?, depth + 1)?);
    }
    Ok(Value::Array(values))
}

fn number(message: &mut &[u8]) -> Result<Value<'static>, StructError> {
    let (bytes, rest) = message.split_first_chunk::<8>().ok_or(StructError::Truncated)?;
    *message = rest;
    Ok(from_double(f64::from_le_bytes(*bytes)))
}

/// What is no number at all becomes null.
fn from_double(number: f64) -> Value<'static> {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

fn text(bytes: &[u8]) -> Result<&str, StructError> {
    core::str::from_utf8(bytes).map_err(|_| StructError::Text)
}

fn tag(message: &mut &[u8], expected: u8) -> Result<(), StructError> {
    if byte(message)? == expected { Ok(()) } else { Err(StructError::Field) }
}

fn byte(message: &mut &[u8]) -> Result<u8, StructError> {
    let (first, rest) = message.split_first().ok_or(StructError::Truncated)?;
    *message = rest;
    Ok(*first)
}

fn delimited<'a>(message: &mut &'a [u8]) -> Result<&'a [u8], StructError> {
    let length = usize::try_from(varint(message)?).map_err(|_| StructError::Truncated)?;
    let (field, rest) = message.split_at_checked(length).ok_or(StructError::Truncated)?;
    *message = rest;
    Ok(field)
}

fn varint(message: &mut &[u8]) -> Result<u64, StructError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let next = byte(message)?;
        value |= u64::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(StructError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    #[test]
    fn reads_every_kind_of_value() {
        let bytes = b"\
            \x0a\x07\x0a\x01n\x12\x02\x08\x00\
            \x0a\x0e\x0a\x01d\x12\x09\x11\x00\x00\x00\x00\x00\x00\xf8\x3f\
            \x0a\x0e\x0a\x01i\x12\x09\x11\x00\x00\x00\x00\x00\x00\x1c\x40\
            \x0a\x08\x0a\x01s\x12\x03\x1a\x01x\
            \x0a\x07\x0a\x01b\x12\x02\x20\x01\
            \x0a\x07\x0a\x01o\x12\x02\x2a\x00\
            \x0a\x0c\x0a\x01l\x12\x07\x32\x05\x0a\x03\x1a\x01y";
        let expected = br#"{"n": null, "d": 1.5, "i": 7, "s": "x", "b": true, "o": {}, "l": ["y"]}"#;
        assert_eq!(decode(bytes), Ok(parse(expected).unwrap()));
    }

    #[test]
    fn the_parts_of_an_entry_may_be_absent_or_turned_round() {
        for (bytes, expected) in [
            (&b""[..], "{}"),
            (b"\x0a\x00", r#"{"": null}"#),
            (b"\x0a\x03\x0a\x01k", r#"{"k": null}"#),
            (b"\x0a\x07\x12\x02\x20\x01\x0a\x01k", r#"{"k": true}"#),
            (b"\x0a\x05\x0a\x01k\x12\x00", r#"{"k": null}"#),
        ] {
            assert_eq!(decode(bytes), Ok(parse(expected.as_bytes()).unwrap()), "{bytes:?}");
        }
    }

    #[test]
    fn each_refusal_names_its_own_rule() {
        for (bytes, why) in [
            (&b"\x0a"[..], StructError::Truncated),
            (b"\x0a\x05\x0a\x01k", StructError::Truncated),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", StructError::Truncated),
            (b"\x0a\x0a\x0a\x01k\x12\x05\x11\x00\x00\x00\x00", StructError::Truncated),
            (b"\x12\x00", StructError::Field),
            (b"\x0a\x02\x1a\x00", StructError::Field),
            (b"\x0a\x07\x0a\x01k\x12\x02\x3a\x00", StructError::Field),
            (b"\x0a\x03\x0a\x01\xff", StructError::Text),
        ] {
            assert_eq!(decode(bytes), Err(why), "{bytes:?}");
        }
    }

    #[test]
    fn a_value_nested_too_deeply_is_refused() {
        let nested = |depth: usize| {
            let mut value = vec![0x20, 1];
            for _ in 1..depth {
                value = field(0x32, &field(0x0a, &value));
            }
            decode(&field(0x0a, &field(0x12, &value))).map(|_| ())
        };
        assert_eq!(nested(64), Ok(()));
        assert_eq!(nested(65), Err(StructError::Depth));
    }

    fn field(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        let mut length = content.len();
        while length >= 0x80 {
            out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        out.push(u8::try_from(length).unwrap());
        out.extend_from_slice(content);
        out
    }

    #[test]
    fn what_is_no_number_is_null() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(from_double(number), Value::Null);
        }
    }

    #[test]
    fn a_number_prints_as_it_was_written() {
        for (number, expected) in [(-3.0, "-3"), (0.25, "0.25"), (9_007_199_254_740_992.0, "9007199254740992")] {
            assert_eq!(from_double(number).as_number().unwrap().as_str(), expected);
        }
    }
}
