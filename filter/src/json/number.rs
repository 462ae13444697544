//! Numbers: as they are written, and as the numbers that they stand for.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// 2^53: doubles from here on are whole, and not every whole number is one.
const WHOLE_MIN: f64 = 9_007_199_254_740_992.0;
/// 2^64.
const TOO_GREAT_MIN: f64 = 18_446_744_073_709_551_616.0;
/// The greatest power of ten that a double holds exactly.
const EXACT_POWER_MAX: i32 = 22;
/// Digits that surely fit into 64 bits; the further ones of a number say less than a double holds.
const DIGITS_MAX: u32 = 19;
/// Beyond this power of ten every number of [`DIGITS_MAX`] digits is zero or infinite.
const POWER_MAX: i32 = 400;

/// A number as it is written. Its text obeys the grammar.
#[derive(Clone, Debug, PartialEq)]
pub struct Number<'a>(pub(super) Cow<'a, str>);

impl Number<'_> {
    /// The number of a double; `None` for what JSON has no number for.
    pub fn from_f64(number: f64) -> Option<Self> {
        if !number.is_finite() {
            return None;
        }
        let mut text = Vec::new();
        push_f64(&mut text, number);
        // Without a fraction it may be the whole number that somebody wrote.
        let text = text.strip_suffix(b".0").unwrap_or(&text);
        Some(Self(Cow::Owned(String::from_utf8(text.to_vec()).ok()?)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The whole number, when it is written as one and is one of 64 bits.
    pub fn as_i64(&self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// The whole number, when it is written as one without a sign and is one of 64 bits.
    pub fn as_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// The double: the nearest one for numbers of up to 15 digits with a power of ten of up to 22, such as people
    /// write; one of the nearest few for others. `None` when the number is too great.
    pub fn as_f64(&self) -> Option<f64> {
        let (text, is_negative) = match self.0.strip_prefix('-') {
            Some(text) => (text, true),
            None => (&*self.0, false),
        };
        let (digits, power) = split(text);
        let magnitude = scale(digits as f64, power);
        magnitude.is_finite().then_some(if is_negative { -magnitude } else { magnitude })
    }
}

/// The digits of a number without sign, as a whole number, and the power of ten to multiply it with.
fn split(text: &str) -> (u64, i32) {
    let (mut digits, mut count, mut power, mut is_fraction) = (0_u64, 0, 0_i32, false);
    let mut rest = text.as_bytes();
    while let [byte, behind @ ..] = rest {
        rest = behind;
        match byte {
            b'.' => is_fraction = true,
            b'0'..=b'9' if count < DIGITS_MAX => {
                digits = digits * 10 + u64::from(byte - b'0');
                count += u32::from(digits > 0);
                power = power.saturating_sub(i32::from(is_fraction));
            }
            b'0'..=b'9' => power = power.saturating_add(i32::from(!is_fraction)),
            _ => return (digits, power.saturating_add(exponent(rest))),
        }
    }
    (digits, power)
}

fn exponent(text: &[u8]) -> i32 {
    let digits = text.iter().filter(|byte| byte.is_ascii_digit());
    let exponent = digits.fold(0_i32, |sum, digit| sum.saturating_mul(10).saturating_add(i32::from(digit - b'0')));
    if text.first() == Some(&b'-') { -exponent } else { exponent }
}

/// Multiplies with a power of ten. Each step rounds once, and one step is enough for a small power.
fn scale(number: f64, power: i32) -> f64 {
    let mut number = number;
    let mut left = power.clamp(-POWER_MAX, POWER_MAX);
    while left != 0 {
        let step = left.clamp(-EXACT_POWER_MAX, EXACT_POWER_MAX);
        let factor = (0..step.unsigned_abs()).fold(1.0, |factor, _| factor * 10.0);
        number = if step < 0 { number / factor } else { number * factor };
        left -= step;
    }
    number
}

/// Appends a number in the shortest form that reads back the same if it has such a form of up to 15 digits, as
/// durations and what people write do; other numbers with their first 15 digits. A whole number
/// keeps a fraction of zero, so that it is no integer to a reader that tells them apart. JSON has no word for NaN and
/// infinities: such a value becomes `null`.
#[inline(never)]
pub fn push_f64(out: &mut Vec<u8>, number: f64) {
    if !number.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    if number < 0.0 {
        out.push(b'-');
    }
    let (digits, power) = decimal(number.abs());
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(digits).as_bytes();
    let places = power.unsigned_abs() as usize;
    if !(-EXACT_POWER_MAX..=0).contains(&power) {
        out.extend_from_slice(text);
        out.push(b'e');
        out.extend_from_slice(itoa::Buffer::new().format(power).as_bytes());
        return;
    }
    let (whole, fraction) = text.split_at_checked(text.len().saturating_sub(places)).unwrap_or((text, b""));
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    out.push(b'.');
    // A whole number has no places, and gets a zero all the same.
    out.extend(core::iter::repeat_n(b'0', places.max(1) - fraction.len()));
    out.extend_from_slice(fraction);
}

/// The digits of a number, and the power of ten to multiply them with.
fn decimal(number: f64) -> (u64, i32) {
    if (WHOLE_MIN..TOO_GREAT_MIN).contains(&number) {
        return (to_whole(number), 0);
    }
    let mut factor = 1.0;
    for places in 0..=EXACT_POWER_MAX {
        let scaled = number * factor;
        if scaled >= WHOLE_MIN {
            break;
        }
        let digits = to_whole(scaled);
        // Both are exact, so that this is how the nearest double of the digits is found.
        #[expect(clippy::float_cmp, reason = "the text shall read back as this very number")]
        if digits as f64 / factor == number {
            return (digits, -places);
        }
        factor *= 10.0;
    }
    fifteen_digits(number)
}

fn fifteen_digits(number: f64) -> (u64, i32) {
    let (mut rough, mut power) = (number, 0);
    while rough >= 1e15 {
        rough /= 10.0;
        power += 1;
    }
    while rough < 1e14 {
        rough *= 10.0;
        power -= 1;
    }
    let mut digits = to_whole(scale(number, -power));
    while digits.is_multiple_of(10) {
        digits /= 10;
        power += 1;
    }
    (digits, power)
}

/// The nearest whole number of one below 2^64.
fn to_whole(number: f64) -> u64 {
    // A half more, and the rest is cut off; to a number that is whole anyway it would add one at times.
    let rounded = if number < WHOLE_MIN / 2.0 { number + 0.5 } else { number };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "neither negative nor too great")]
    let whole = rounded as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Number<'_> {
        Number(Cow::Borrowed(text))
    }

    fn written(value: f64) -> String {
        let mut out = Vec::new();
        push_f64(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn whole_numbers_are_exact_or_none() {
        for (text, signed, unsigned) in [
            ("0", Some(0), Some(0)),
            ("-7", Some(-7), None),
            ("9223372036854775807", Some(i64::MAX), Some(i64::MAX as u64)),
            ("-9223372036854775808", Some(i64::MIN), None),
            ("18446744073709551615", None, Some(u64::MAX)),
            ("18446744073709551616", None, None),
            ("1.0", None, None),
            ("1e3", None, None),
        ] {
            assert_eq!((number(text).as_i64(), number(text).as_u64()), (signed, unsigned), "{text}");
        }
    }

    #[test]
    fn doubles_of_few_digits_are_the_nearest() {
        for text in [
            "0",
            "-0",
            "1",
            "0.1",
            "-0.25",
            "1.5",
            "2.0381479",
            "0.001",
            "1e22",
            "1E-22",
            "123456789012345e-20",
            "5e+3",
            "0.000000000000000000001",
            "9007199254740991",
            "1749999999900",
        ] {
            let expected: f64 = text.parse().unwrap();
            assert_eq!(number(text).as_f64().map(f64::to_bits), Some(expected.to_bits()), "{text}");
        }
    }

    #[test]
    fn a_number_beyond_doubles_is_none_and_one_too_small_is_zero() {
        let zeros = "0".repeat(5000);
        for (text, expected) in [
            ("1e308", Some(1e308)),
            ("1e309", None),
            ("-1e999999999999", None),
            ("1e-999999999999", Some(0.0)),
            ("0e999999999999", Some(0.0)),
            (&format!("1{zeros}"), None),
            (&format!("1{zeros}e-5000"), Some(1.0)),
            (&format!("0.{zeros}1e5001"), Some(1.0)),
        ] {
            let double = number(text).as_f64();
            let is_near = |expected: f64| double.is_some_and(|double| (double - expected).abs() <= expected * 1e-14);
            assert!(expected.map_or_else(|| double.is_none(), is_near), "{text}: {double:?}");
        }
    }

    #[test]
    fn doubles_are_written_as_people_would() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (42.0, "42.0"),
            (40.5, "40.5"),
            (-0.25, "-0.25"),
            (0.223, "0.223"),
            (0.1, "0.1"),
            (1.000_001, "1.000001"),
            (86_400.000_001, "86400.000001"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.3333333333333333"),
            (9_007_199_254_740_991.0, "9007199254740991.0"),
            (9_007_199_254_740_993.0, "9007199254740992.0"),
            (18_446_744_073_709_549_568.0, "18446744073709549568.0"),
            (18_446_744_073_709_551_616.0, "184467440737096e5"),
            (1e16, "10000000000000000.0"),
            (1e300, "1e300"),
            (-2.5e-30, "-25e-31"),
            (f64::NAN, "null"),
            (f64::NEG_INFINITY, "null"),
        ] {
            assert_eq!(written(value), expected);
        }
    }

    #[test]
    fn a_number_of_a_double_is_whole_when_the_double_is() {
        for (value, expected) in
            [(-3.0, Some("-3")), (0.25, Some("0.25")), (1e18, Some("1000000000000000000")), (f64::NAN, None)]
        {
            assert_eq!(Number::from_f64(value).as_ref().map(Number::as_str), expected);
        }
    }

    proptest! {
        #[test]
        fn up_to_fifteen_digits_survive_both_ways(digits in 0_u64..1_000_000_000_000_000, places in 0_u32..=22) {
            let value = digits as f64 / 10_f64.powi(places.cast_signed());
            let text = written(value);
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{}", text);
            prop_assert_eq!(number(&text).as_f64().map(f64::to_bits), Some(value.to_bits()), "{}", text);
        }

        #[test]
        fn any_double_keeps_its_first_digits(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_normal());
            let text = written(value);
            let off = (text.parse::<f64>().unwrap() - value).abs() / value.abs();
            prop_assert!(off < 1e-14, "{} is off by {}", text, off);
            prop_assert!(serde_json::from_str::<f64>(&text).is_ok(), "{}", text);
        }

        #[test]
        fn any_text_of_a_number_is_near_what_the_standard_library_reads(text in "-?(0|[1-9][0-9]{0,30})([.][0-9]{1,30})?(e[+-]?[0-9]{1,2})?") {
            let expected: f64 = text.parse().unwrap();
            let double = number(&text).as_f64().unwrap();
            prop_assert!((double - expected).abs() <= expected.abs() * 1e-15, "{} is not {}", double, expected);
        }
    }
}
