//! Trace, span and transaction ids: fixed-size, never all zero, lower-case hexadecimal on the wire.

use alloc::boxed::Box;
use core::num::{NonZeroU64, NonZeroU128};

use crate::swar::ONES;

/// Names one trace (W3C `trace-id`): 16 bytes, never all zero, 32 lower-case hex digits on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// The id with this value; `None` for zero.
    pub fn from_u128(value: u128) -> Option<Self> {
        NonZeroU128::new(value).map(Self)
    }

    /// `None` for a digit outside `0-9a-f`, or for all zeros. The length is in the type.
    pub fn from_hex(digits: &[u8; 32]) -> Option<Self> {
        let (high, low) = digits.split_first_chunk::<16>()?;
        let (high, low) = (hex_u64(high)?, hex_u64(low.first_chunk::<16>()?)?);
        Self::from_u128((u128::from(high) << 64) | u128::from(low))
    }

    /// The id as a number, most significant byte first.
    pub fn as_u128(self) -> u128 {
        self.0.get()
    }

    /// The low half, which the ratio sampler looks at.
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
    pub fn low64(self) -> u64 {
        (self.0.get() & u128::from(u64::MAX)) as u64
    }

    /// 32 lower-case hex digits.
    pub fn to_hex(self) -> [u8; 32] {
        let mut digits = [0; 32];
        if let ([high, low], []) = digits.as_chunks_mut::<16>() {
            *high = to_hex((self.0.get() >> 64) as u64);
            *low = to_hex(self.low64());
        }
        digits
    }
}

/// Names one span (W3C `parent-id`): 8 bytes, never all zero, 16 lower-case hex digits on the wire.
///
/// New Relic's transaction guids have the same form, see [`TransactionId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    /// The id with this value; `None` for zero.
    pub fn from_u64(value: u64) -> Option<Self> {
        NonZeroU64::new(value).map(Self)
    }

    /// `None` for a digit outside `0-9a-f`, or for all zeros. The length is in the type.
    pub fn from_hex(digits: &[u8; 16]) -> Option<Self> {
        hex_u64(digits).and_then(Self::from_u64)
    }

    /// The id as a number, most significant byte first.
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }

    /// 16 lower-case hex digits.
    pub fn to_hex(self) -> [u8; 16] {
        to_hex(self.0.get())
    }
}

/// Names one transaction (New Relic's transaction `guid`): the same form as a span id.
pub type TransactionId = SpanId;

/// A trace id together with the spelling in which a `newrelic` header brought it.
///
/// New Relic records and forwards such an id byte for byte, also when it is shorter than 32 digits or in
/// upper case; `traceparent` and OTLP carry the padded lower-case form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceIdentity {
    /// The W3C form.
    pub id: TraceId,
    /// The spelling received, when it differs from the W3C form.
    pub received: Option<Box<str>>,
}

impl TraceIdentity {
    /// The id as New Relic's records and the `newrelic` header carry it.
    pub fn text<'a>(&'a self, hex: &'a [u8; 32]) -> &'a [u8] {
        match &self.received {
            Some(text) => text.as_bytes(),
            None => hex,
        }
    }
}

impl From<TraceId> for TraceIdentity {
    fn from(id: TraceId) -> Self {
        Self { id, received: None }
    }
}

/// The id of the calling span: W3C's, or any text when a `newrelic` header brought it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentId {
    /// From `traceparent`, or a span of our own.
    Span(SpanId),
    /// From a `newrelic` header, recorded as received (at most 128 bytes).
    Text(Box<str>),
}

/// The value of one lower-case hex digit.
pub fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The value of two lower-case hex digits.
pub fn hex_byte([high, low]: &[u8; 2]) -> Option<u8> {
    Some((hex_digit(*high)? << 4) | hex_digit(*low)?)
}

/// The value of 16 lower-case hex digits. Halves of 64 bits, since wasm shifts 128 bits by a call for each digit.
fn hex_u64(digits: &[u8; 16]) -> Option<u64> {
    let (high, low) = digits.split_first_chunk::<8>()?;
    Some((u64::from(hex_u32(high)?) << 32) | u64::from(hex_u32(low.first_chunk()?)?))
}

/// The value of eight lower-case hex digits, all at once: what the digits would be worth if they were valid is printed
/// again, and is their value when the same digits come out.
fn hex_u32(digits: &[u8; 8]) -> Option<u32> {
    let text = u64::from_le_bytes(*digits);
    let nibbles = ((text & (ONES * 0x0f)) + ((text >> 6) & ONES) * 9) & (ONES * 0x0f);
    let bytes = ((nibbles << 4) | (nibbles >> 8)) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes | (bytes >> 8)) & 0x0000_ffff_0000_ffff;
    let value = low_half(pairs | (pairs >> 16)).swap_bytes();
    (hex_digits(value) == text).then_some(value)
}

/// 16 lower-case hex digits.
fn to_hex(value: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    if let ([high, low], []) = digits.as_chunks_mut::<8>() {
        *high = hex_digits((value >> 32) as u32).to_le_bytes();
        *low = hex_digits(low_half(value)).to_le_bytes();
    }
    digits
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
fn low_half(value: u64) -> u32 {
    value as u32
}

/// Eight lower-case hex digits, the first in the lowest byte, as WebAssembly stores them. All at once, as every id of
/// every request comes through here.
fn hex_digits(value: u32) -> u64 {
    let value = u64::from(value.swap_bytes());
    let pairs = (value | (value << 16)) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs | (pairs << 8)) & 0x00ff_00ff_00ff_00ff;
    let nibbles = ((bytes >> 4) | (bytes << 8)) & (ONES * 0x0f);
    // A byte has its bit 4 set once 6 is added when its digit is a letter, and those begin 39 behind the numbers' end.
    let letters = ((nibbles + ONES * 6) >> 4) & ONES;
    nibbles + ONES * 0x30 + letters * 39
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_only_lower_case_hex_and_refuse_zero() {
        assert_eq!(TraceId::from_hex(b"00000000000000000000000000000000"), None);
        assert_eq!(TraceId::from_hex(b"+1111111111111111111111111111111"), None);
        assert_eq!(TraceId::from_hex(b"A1111111111111111111111111111111"), None);
        assert_eq!(SpanId::from_hex(b"0000000000000000"), None);
        assert_eq!(SpanId::from_hex(b"000000000000000g"), None);
        assert_eq!(SpanId::from_hex(b"00000000000000ff"), SpanId::from_u64(255));
    }

    #[test]
    fn eight_digits_are_read_and_printed_as_one_by_one() {
        let one_by_one = |digits: &[u8; 8]| {
            digits.iter().try_fold(0_u32, |value, digit| Some((value << 4) | u32::from(hex_digit(*digit)?)))
        };
        for position in 0..8 {
            for byte in 0..=u8::MAX {
                let mut digits = *b"09afb1c2";
                digits[position] = byte;
                assert_eq!(hex_u32(&digits), one_by_one(&digits), "{digits:?}");
            }
        }
        for value in (0..=u32::MAX).step_by(65_521) {
            assert_eq!(hex_digits(value).to_le_bytes(), format!("{value:08x}").as_bytes());
        }
    }

    #[test]
    fn ids_print_what_they_read() {
        let digits = b"c0a8017e5d3b4f2226e1d47b08aa3f5c";
        let id = TraceId::from_hex(digits).unwrap();
        assert_eq!(&id.to_hex(), digits);
        assert_eq!(id.low64(), 0x26e1_d47b_08aa_3f5c);
        assert_eq!(&SpanId::from_hex(b"00f067aa0ba902b7").unwrap().to_hex(), b"00f067aa0ba902b7");
    }
}
