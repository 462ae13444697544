//! Protocol Buffers, the few wire types that OTLP needs (protobuf.dev, "Encoding").
//!
//! ```text
//! field  = varint(number << 3 | type) value        type 0 varint, 1 fixed64, 2 length-delimited, 5 fixed32
//! varint = *( 80..ff ) 00..7f                      seven bits each, least significant first
//! ```

use alloc::vec::Vec;

use crate::{swar, text};

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;
const FIXED32: u32 = 5;

/// Appends a number, seven bits a byte.
pub fn varint(out: &mut Vec<u8>, value: u64) {
    let mut rest = value;
    while rest > 0x7f {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push((rest & 0x7f) as u8);
}

/// The bytes that [`varint`] appends.
pub fn varint_bytes(value: u64) -> usize {
    let bits = (u64::BITS - value.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

fn tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(out, u64::from(field << 3 | wire_type));
}

/// Appends an integer, a truth value or an enumeration's number.
pub fn varint_field(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

/// Appends eight bytes, least significant first.
pub fn fixed64_field(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends four bytes, least significant first.
pub fn fixed32_field(out: &mut Vec<u8>, field: u32, value: u32) {
    tag(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a double.
pub fn double_field(out: &mut Vec<u8>, field: u32, value: f64) {
    fixed64_field(out, field, value.to_bits());
}

/// Appends bytes as they are.
pub fn bytes_field(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    field_header(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends the tag and the length of a field whose bytes the caller appends next.
pub fn field_header(out: &mut Vec<u8>, field: u32, bytes: usize) {
    tag(out, field, LENGTH_DELIMITED);
    varint(out, bytes as u64);
}

/// Appends text, cut and repaired as [`text::pieces`] does it.
pub fn string_field(out: &mut Vec<u8>, field: u32, content: &[u8], chars_max: usize) {
    if content.len() <= chars_max && swar::all(content, swar::printable) {
        // As nearly every text is.
        return bytes_field(out, field, content);
    }
    let message = begin(out, field);
    for piece in text::pieces(content, chars_max) {
        out.extend_from_slice(piece.as_bytes());
    }
    end(out, message);
}

/// Where the content of an embedded message began.
#[derive(Clone, Copy, Debug)]
#[must_use = "the message has no length before `end`"]
pub struct Message(usize);

/// Begins an embedded message whose length is not known yet. Its place is one byte: most messages are short.
pub fn begin(out: &mut Vec<u8>, field: u32) -> Message {
    tag(out, field, LENGTH_DELIMITED);
    out.push(0);
    Message(out.len())
}

/// Puts the length in front of the message's content.
pub fn end(out: &mut Vec<u8>, message: Message) {
    let content_end = out.len();
    let length = content_end.saturating_sub(message.0) as u64;
    let more = varint_bytes(length) - 1;
    if more > 0 {
        out.resize(content_end + more, 0);
        out.copy_within(message.0..content_end, message.0 + more);
    }
    let place = out.get_mut(message.0.saturating_sub(1)..message.0 + more).unwrap_or_default();
    for (position, byte) in place.iter_mut().enumerate() {
        let bits = (length >> (7 * position) & 0x7f) as u8;
        *byte = if position < more { bits | 0x80 } else { bits };
    }
}

/// The value of a field that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// Type 0.
    Varint(u64),
    /// Type 2.
    Bytes(&'a [u8]),
    /// Types 1 and 5.
    Fixed,
}

/// Takes the next field off a message; `None` at its end, and where it is no message.
pub fn take_field<'a>(message: &mut &'a [u8]) -> Option<(u64, FieldValue<'a>)> {
    let key = take_varint(message)?;
    let value = match key & 7 {
        0 => FieldValue::Varint(take_varint(message)?),
        1 => take(message, 8).map(|_| FieldValue::Fixed)?,
        2 => {
            let length = usize::try_from(take_varint(message)?).ok()?;
            FieldValue::Bytes(take(message, length)?)
        }
        5 => take(message, 4).map(|_| FieldValue::Fixed)?,
        _ => return None,
    };
    Some((key >> 3, value))
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        for (value, expected) in [
            (0, &[0_u8][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out, expected, "{value}");
            assert_eq!(varint_bytes(value), expected.len(), "{value}");
        }
    }

    #[test]
    fn a_message_gets_the_shortest_length_whatever_its_size() {
        for length in [0_usize, 1, 127, 128, 16_383, 16_384, 70_000] {
            let mut out = vec![9];
            let message = begin(&mut out, 1);
            out.resize(out.len() + length, 7);
            end(&mut out, message);
            let mut expected = vec![9];
            bytes_field(&mut expected, 1, &vec![7; length]);
            assert_eq!(out, expected, "{length}");
        }
    }

    proptest! {
        #[test]
        fn every_field_reads_back(number: u64, double: f64, text in ".{0,300}") {
            let mut out = Vec::new();
            varint_field(&mut out, 3, number);
            double_field(&mut out, 4, double);
            string_field(&mut out, 1, text.as_bytes(), usize::MAX);
            fixed32_field(&mut out, 16, 7);
            let mut rest = &out[..];
            prop_assert_eq!(take_field(&mut rest), Some((3, FieldValue::Varint(number))));
            prop_assert_eq!(take_field(&mut rest), Some((4, FieldValue::Fixed)));
            prop_assert_eq!(take_field(&mut rest), Some((1, FieldValue::Bytes(text.as_bytes()))));
            prop_assert_eq!(take_field(&mut rest), Some((16, FieldValue::Fixed)));
            prop_assert_eq!(take_field(&mut rest), None);
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut rest = &bytes[..];
            while let Some((_, value)) = take_field(&mut rest) {
                if let FieldValue::Bytes(content) = value {
                    prop_assert!(content.len() < bytes.len());
                }
            }
        }
    }
}
