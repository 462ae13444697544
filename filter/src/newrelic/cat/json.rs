//! The JSON of CAT values: short arrays, written without blanks and in ASCII.

use alloc::vec::Vec;

use crate::json::Value;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Reads a text that is one JSON value.
pub(super) fn parse(text: &str) -> Option<Value<'_>> {
    crate::json::parse(text.as_bytes()).ok()
}

/// Appends a string with its quotes.
///
/// Whatever is not printable ASCII is escaped: the Python agent takes each byte of a deobfuscated value for one
/// character, so that only ASCII means the same to every agent.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for unit in text.encode_utf16() {
        push_unit(out, unit);
    }
    out.push(b'"');
}

/// Appends one UTF-16 code unit; JSON writes a character beyond 16 bits as an escaped surrogate pair.
fn push_unit(out: &mut Vec<u8>, unit: u16) {
    let [high, low] = unit.to_be_bytes();
    match (high, low) {
        (0, b'"' | b'\\') => out.extend_from_slice(&[b'\\', low]),
        (0, 0x20..=0x7e) => out.push(low),
        (0, 0x08) => out.extend_from_slice(b"\\b"),
        (0, b'\t') => out.extend_from_slice(b"\\t"),
        (0, b'\n') => out.extend_from_slice(b"\\n"),
        (0, 0x0c) => out.extend_from_slice(b"\\f"),
        (0, b'\r') => out.extend_from_slice(b"\\r"),
        _ => {
            out.extend_from_slice(b"\\u");
            out.extend([high >> 4, high & 15, low >> 4, low & 15].map(hex_digit));
        }
    }
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

/// Appends a whole number.
pub(super) fn push_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends nanoseconds as seconds: exact, without trailing zeros, without a point when whole.
pub(super) fn push_seconds(out: &mut Vec<u8>, nanos: u64) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(nanos / NANOS_PER_SECOND).as_bytes());
    let fraction = nanos % NANOS_PER_SECOND;
    if fraction == 0 {
        return;
    }
    // The leading one keeps the zeros behind the point, and is cut off.
    let mut fraction = digits.format(NANOS_PER_SECOND + fraction).as_bytes();
    while let [shorter @ .., b'0'] = fraction {
        fraction = shorter;
    }
    out.push(b'.');
    out.extend(fraction.iter().skip(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> String {
        let mut out = Vec::new();
        push_string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_ascii_and_say_the_same() {
        for (text, expected) in [
            ("", r#""""#),
            ("GET /stock", r#""GET /stock""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\u{8}\t\n\u{c}\r", r#""\b\t\n\f\r""#),
            ("\0\u{1f}\u{7f}", r#""\u0000\u001f\u007f""#),
            ("Café 日", r#""Caf\u00e9 \u65e5""#),
            ("😀", r#""\ud83d\ude00""#),
            ("</script>", r#""</script>""#),
        ] {
            assert_eq!(string(text), expected);
            assert_eq!(parse(expected).unwrap().as_str(), Some(text));
        }
    }

    #[test]
    fn seconds_are_exact_and_short() {
        for (nanos, expected) in [
            (0, "0"),
            (1, "0.000000001"),
            (15_000_000, "0.015"),
            (250_000_000, "0.25"),
            (999_999_999, "0.999999999"),
            (1_000_000_000, "1"),
            (10_500_000_000, "10.5"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            let mut out = Vec::new();
            push_seconds(&mut out, nanos);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn integers_keep_their_sign() {
        let mut out = Vec::new();
        push_integer(&mut out, -1);
        push_integer(&mut out, i64::MAX);
        assert_eq!(out, b"-19223372036854775807");
    }
}
