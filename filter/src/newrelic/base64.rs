//! Base64 text of the standard alphabet, with padding (RFC 4648, section 4), as New Relic's headers carry it.
//!
//! Every request that goes on gets a `newrelic` header. The characters are computed eight at a time: a table of pairs
//! takes as many instructions, but 8 KiB of the caches that the proxy needs for itself. What peers send is decoded by
//! the `base64` crate.

use alloc::vec::Vec;

use crate::swar::{HIGHS, ONES};

/// Appends the text of `bytes`.
pub fn encode(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    let (groups, rest) = bytes.as_chunks::<6>();
    let (texts, last) = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<8>();
    for (group, text) in groups.iter().zip(texts.iter_mut()) {
        *text = characters(*group);
    }
    let mut group = [0; 6];
    group.iter_mut().zip(rest).for_each(|(byte, from)| *byte = *from);
    let characters = characters(group);
    // Behind the characters that there are stays the padding.
    let count = (rest.len() * 4).div_ceil(3);
    let last = texts.get_mut(groups.len()).map_or(last, |text| text.as_mut_slice());
    last.iter_mut().zip(characters).take(count).for_each(|(text, character)| *text = character);
}

/// The same mask for both groups of three bytes.
const fn both(mask: u64) -> u64 {
    (mask << 32) | mask
}

/// Eight characters of six bytes.
#[inline(always)]
fn characters([b0, b1, b2, b3, b4, b5]: [u8; 6]) -> [u8; 8] {
    let word = u64::from_le_bytes([b0, b1, b2, b3, b4, b5, 0, 0]);
    // Three bytes in each half; then a byte for each six bits, the first ones lowest.
    let halves = (word & 0x00ff_ffff) | ((word << 8) & (0x00ff_ffff << 32));
    let sixes = ((halves >> 2) & both(0x3f))
        | ((halves << 12) & both(0x3000))
        | ((halves >> 4) & both(0x0f00))
        | ((halves << 10) & both(0x003c_0000))
        | ((halves >> 6) & both(0x0003_0000))
        | ((halves << 8) & both(0x3f00_0000));
    // A one in each byte that is at least `first`: the sum reaches the byte's high bit.
    let from = |first: u64| ((sixes + ONES * (0x80 - first)) & HIGHS) >> 7;
    // From one run of the alphabet to the next: Z to a, z to 0, 9 to +, + to /.
    let up = sixes + ONES * u64::from(b'A') + from(26) * 6 + from(63) * 3;
    (up - from(52) * 75 - from(62) * 15).to_le_bytes()
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
