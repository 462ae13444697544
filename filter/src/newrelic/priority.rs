//! New Relic's sampling priority: ranks data when buffers overflow, made once per trace and carried along.
//!
//! On the wire: a decimal number, at most six fraction digits, no sign, no exponent, no trailing zeros.

use alloc::vec::Vec;

/// A priority in millionths: exact, ordered, and printed without floating point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u64);

/// Priorities at or above one million are treated as absent.
const LIMIT_MICROS: u64 = 1_000_000 * ONE;
const ONE: u64 = 1_000_000;

/// The longest text of a priority: six digits, a dot, six digits.
pub const TEXT_BYTES_MAX: usize = 13;

impl Priority {
    /// `always_off`: 0.
    pub const ZERO: Self = Self(0);

    /// A priority of `micros` millionths; `None` from one million on.
    pub fn from_micros(micros: u64) -> Option<Self> {
        (micros < LIMIT_MICROS).then_some(Self(micros))
    }

    /// A whole priority below one million, as `always_on` gives; larger numbers are capped.
    pub fn from_whole(whole: u32) -> Self {
        Self((u64::from(whole) * ONE).min(LIMIT_MICROS - 1))
    }

    /// A priority in `[0, 1)` with six digits, from a random number.
    pub fn from_random(random: u32) -> Self {
        Self((u64::from(random) * ONE) >> 32)
    }

    /// Reads a JSON number; `None` outside `[0, 1000000)` and for NaN. Rounded to six digits.
    pub fn from_f64(value: f64) -> Option<Self> {
        if !(0.0..1_000_000.0).contains(&value) {
            return None;
        }
        // In range by the check above, and the half added makes the cut a rounding.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in 0..=1e12")]
        Self::from_micros((value * 1e6 + 0.5) as u64)
    }

    /// Reads `digits [ "." digits ]`; `None` for anything else and from one million on. Rounded to six digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut halves = text.splitn(2, |byte| *byte == b'.');
        let (whole, fraction) = (halves.next()?, halves.next());
        if whole.is_empty() && fraction.is_none_or(<[u8]>::is_empty) {
            return None;
        }
        let whole = whole.iter().try_fold(0_u64, |value, digit| {
            let value = value * 10 + u64::from(decimal(*digit)?);
            (value < 1_000_000).then_some(value)
        })?;
        Self::from_micros(whole * ONE + fraction_micros(fraction.unwrap_or_default())?)
    }

    /// This priority raised by a whole number, as a positive sampling decision does.
    pub fn raised_by(self, whole: u32) -> Self {
        Self((self.0 + u64::from(whole) * ONE).min(LIMIT_MICROS - 1))
    }

    /// Millionths.
    pub fn as_micros(self) -> u64 {
        self.0
    }

    /// The priority as a number.
    pub fn as_f64(self) -> f64 {
        // At most 10^12, which a double holds exactly.
        self.0 as f64 / 1e6
    }

    /// Appends the wire form.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(itoa::Buffer::new().format(self.0 / ONE).as_bytes());
        let mut fraction = self.0 % ONE;
        if fraction == 0 {
            return;
        }
        out.push(b'.');
        let mut unit = ONE / 10;
        while fraction > 0 {
            out.push(b'0' + u8::try_from(fraction / unit).unwrap_or(0));
            fraction %= unit;
            unit /= 10;
        }
    }
}

/// Six digits of a fraction, rounded half up by the seventh.
fn fraction_micros(digits: &[u8]) -> Option<u64> {
    let mut micros = 0;
    let mut unit = ONE / 10;
    for (position, digit) in digits.iter().enumerate() {
        let digit = u64::from(decimal(*digit)?);
        if position == 6 {
            micros += u64::from(digit >= 5);
        } else {
            micros += digit * unit;
            unit /= 10;
        }
    }
    Some(micros)
}

fn decimal(digit: u8) -> Option<u8> {
    digit.is_ascii_digit().then(|| digit - b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(priority: Priority) -> String {
        let mut out = Vec::new();
        priority.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn prints_at_most_six_digits_rounded_without_trailing_zeros() {
        for (value, expected) in [
            (0.000_034, "0.000034"),
            (1.765_432_6, "1.765433"),
            (2.038_147_9, "2.038148"),
            (2.0, "2"),
            (0.0, "0"),
            (-0.0, "0"),
            (0.1 + 0.2, "0.3"),
        ] {
            assert_eq!(text(Priority::from_f64(value).unwrap()), expected, "{value}");
        }
    }

    #[test]
    fn reads_decimal_text_and_treats_the_rest_as_absent() {
        for (input, expected) in [
            ("2.0381479", Some(2_038_148)),
            ("1.7", Some(1_700_000)),
            ("0", Some(0)),
            (".5", Some(500_000)),
            ("3.", Some(3_000_000)),
            ("999999.9999999", None),
            ("1000000", None),
            ("", None),
            (".", None),
            ("-1", None),
            ("+1", None),
            ("1e3", None),
            ("NaN", None),
            ("1.2.3", None),
            ("99999999999999999999999999", None),
        ] {
            assert_eq!(Priority::parse(input.as_bytes()).map(Priority::as_micros), expected, "{input}");
        }
    }

    #[test]
    fn json_numbers_outside_the_range_are_absent() {
        for value in [-0.1, 1e6, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 999_999.999_999_9] {
            assert_eq!(Priority::from_f64(value), None, "{value}");
        }
    }

    #[test]
    fn a_random_base_stays_below_one() {
        assert_eq!(text(Priority::from_random(u32::MAX)), "0.999999");
        assert_eq!(text(Priority::from_random(0)), "0");
    }

    #[test]
    fn raising_keeps_the_fraction() {
        assert_eq!(text(Priority::parse(b"0.437019").unwrap().raised_by(2)), "2.437019");
    }
}
