//! Base64 text of the standard alphabet, with padding (RFC 4648, section 4), as New Relic's headers carry it.
//!
//! Every request that goes on gets a `newrelic` header, and this takes a third of the instructions that the `base64`
//! crate needs for it without SIMD. What peers send is decoded by that crate.

use alloc::vec::Vec;

/// The alphabet.
const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The two characters of each number of twelve bits.
static PAIRS: [[u8; 2]; 4096] = pairs();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn pairs() -> [[u8; 2]; 4096] {
    let mut pairs = [[0; 2]; 4096];
    let mut number = 0;
    while number < pairs.len() {
        pairs[number] = [CHARACTERS[number >> 6], CHARACTERS[number & 0x3f]];
        number += 1;
    }
    pairs
}

/// Appends the base64 text of some bytes.
pub fn encode(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    let (groups, rest) = bytes.as_chunks::<3>();
    let mut texts = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<4>().0.iter_mut();
    for (group, text) in groups.iter().zip(texts.by_ref()) {
        *text = characters(*group);
    }
    if let Some(text) = texts.next() {
        let mut last = [0; 3];
        last.iter_mut().zip(rest).for_each(|(byte, from)| *byte = *from);
        // Behind the bytes that there are stays the padding.
        text.iter_mut().zip(characters(last)).take(rest.len() + 1).for_each(|(text, character)| *text = character);
    }
}

/// The four characters of three bytes.
#[inline(always)]
fn characters([b0, b1, b2]: [u8; 3]) -> [u8; 4] {
    let bits = (u32::from(b0) << 16) | (u32::from(b1) << 8) | u32::from(b2);
    let ([c0, c1], [c2, c3]) = (pair(bits >> 12), pair(bits & 0xfff));
    [c0, c1, c2, c3]
}

/// The two characters of a number of twelve bits.
#[inline(always)]
fn pair(number: u32) -> [u8; 2] {
    PAIRS.get(number as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn text(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        encode(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_examples_of_rfc_4648() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(text(bytes.as_bytes()), expected);
        }
    }

    #[test]
    fn every_character_of_the_alphabet() {
        let bytes: Vec<u8> = (0..16_u32)
            .flat_map(|group| {
                let sixes = [4 * group, 4 * group + 1, 4 * group + 2, 4 * group + 3];
                let bits = sixes.iter().fold(0, |bits, six| (bits << 6) | six);
                bits.to_be_bytes().into_iter().skip(1)
            })
            .collect();
        assert_eq!(text(&bytes), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    }

    proptest! {
        #[test]
        fn any_bytes_are_written_as_the_library_writes_them(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(text(&bytes), STANDARD.encode(&bytes));
        }
    }
}
