//! JSON text, appended to a byte buffer. What comes in is a peer's bytes; what goes out is always valid.

use alloc::vec::Vec;

use crate::{swar, text};

/// Appends a JSON string, quotes included, of at most `chars_max` characters, cut and repaired as [`text::pieces`]
/// does it.
pub fn string(out: &mut Vec<u8>, text: &[u8], chars_max: usize) {
    if text.len() <= chars_max && is_plain(text) {
        return quoted(out, text);
    }
    out.push(b'"');
    for piece in text::pieces(text, chars_max) {
        escaped(out, piece);
    }
    out.push(b'"');
}

/// Appends a JSON string of text that needs no escape, such as an id.
pub fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// Whether a text is printable ASCII without anything to escape, as nearly every text is.
fn is_plain(text: &[u8]) -> bool {
    swar::all(text, |word| swar::printable(word) & !swar::equal(word, b'"') & !swar::equal(word, b'\\'))
}

/// Appends text with the escapes that JSON asks for: quote, backslash, control characters.
fn escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        let Some((plain, [special, behind @ ..])) = rest.split_at_checked(at) else { break };
        out.extend_from_slice(plain);
        escape(out, *special);
        rest = behind;
    }
    out.extend_from_slice(rest);
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let low = byte & 0xf;
            let digit = if low < 10 { b'0' + low } else { b'a' + low - 10 };
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), digit]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends a whole number.
pub fn int(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a whole number that is not negative.
pub fn uint(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `true` or `false`.
pub fn bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(bytes: &[u8], chars_max: usize) -> String {
        let mut out = Vec::new();
        string(&mut out, bytes, chars_max);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_what_json_asks_for_and_nothing_else() {
        for (input, expected) in [
            ("", r#""""#),
            ("plain / text \u{7f}", "\"plain / text \u{7f}\""),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\n\r\t\u{0}\u{1f}\u{1b}", r#""\n\r\t\u0000\u001f\u001b""#),
            ("grün \u{1f980}", "\"grün \u{1f980}\""),
        ] {
            assert_eq!(json(input.as_bytes(), 100), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_plain_needs_no_escape(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'a')], 0..40)) {
            let is_special = |byte: &u8| !(0x20..0x7f).contains(byte) || matches!(byte, b'"' | b'\\');
            prop_assert_eq!(is_plain(&bytes), !bytes.iter().any(is_special));
        }
    }

    #[test]
    fn numbers_are_json_numbers() {
        let mut out = Vec::new();
        int(&mut out, i64::MIN);
        uint(&mut out, u64::MAX);
        assert_eq!(out, b"-922337203685477580818446744073709551615");
    }

    proptest! {
        #[test]
        fn any_bytes_read_back_as_their_repaired_and_cut_text(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            chars_max in 0_usize..220,
        ) {
            let expected: String = String::from_utf8_lossy(&bytes).chars().take(chars_max).collect();
            let read: String = serde_json::from_str(&json(&bytes, chars_max)).unwrap();
            prop_assert_eq!(&read, &expected);
        }
    }
}
