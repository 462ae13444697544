//! Bytes looked at eight at a time, in a number of 64 bits ("SIMD within a register"): what a request brings and what
//! its records show is gone through several times, and byte by byte that would be most of this filter's own work.
//!
//! A test of a word answers with the high bit of each byte that passes (Warren, "Hacker's Delight", 2nd edition, 6-1).

/// One in each byte.
pub const ONES: u64 = u64::from_ne_bytes([1; 8]);
/// The high bit of each byte.
pub const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// The bytes of a word that are this one.
#[inline]
pub fn equal(word: u64, byte: u8) -> u64 {
    let difference = word ^ (ONES * u64::from(byte));
    // The sum's high bit tells of seven bits that are not all zero; no byte's sum reaches the next byte.
    !(((difference & !HIGHS) + !HIGHS) | difference) & HIGHS
}

/// The bytes of a word that are neither control characters nor beyond ASCII.
#[inline]
pub fn printable(word: u64) -> u64 {
    let low = word & !HIGHS;
    // From the blank on, and not up to DEL.
    (low + ONES * (0x80 - 0x20)) & !(low + ONES) & !word & HIGHS
}

/// Where a text has this byte first.
pub fn find(text: &[u8], byte: u8) -> Option<usize> {
    let (words, rest) = text.as_chunks::<8>();
    for (position, word) in words.iter().enumerate() {
        let found = equal(u64::from_le_bytes(*word), byte);
        if found != 0 {
            return Some(position * 8 + (found.trailing_zeros() / 8) as usize);
        }
    }
    rest.iter().position(|other| *other == byte).map(|position| words.len() * 8 + position)
}

/// The text in front of the first such byte and the one behind it; `None` without such a byte.
#[inline]
pub fn split_once(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let (before, behind) = text.split_at_checked(find(text, byte)?)?;
    Some((before, behind.split_first()?.1))
}

/// Whether every byte of a text passes a test of words. The test has to hold for a blank.
#[inline]
pub fn all(text: &[u8], test: impl Fn(u64) -> u64) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    // The end of a longer text is looked at as a whole word, too; some of its bytes for the second time.
    let end = text.last_chunk::<8>().copied().unwrap_or_else(|| {
        let mut end = [b' '; 8];
        end.iter_mut().zip(rest).for_each(|(byte, from)| *byte = *from);
        end
    });
    let passing = words.iter().fold(test(u64::from_le_bytes(end)), |all, word| all & test(u64::from_le_bytes(*word)));
    passing & HIGHS == HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_test_of_a_word_tells_each_byte_apart() {
        for byte in 0..=u8::MAX {
            for neighbour in [0, 1, b' ', b',', b'-', 0x7f, 0x80, 0xff] {
                let word = u64::from_le_bytes([neighbour, neighbour, byte, neighbour, neighbour, 0, 0xff, byte]);
                let marks = |test: &dyn Fn(u8) -> bool| {
                    word.to_le_bytes().iter().rev().fold(0, |marks, byte| (marks << 8) | u64::from(test(*byte)) << 7)
                };
                assert_eq!(equal(word, b','), marks(&|byte| byte == b','), "{word:x}");
                assert_eq!(printable(word), marks(&|byte| (0x20..0x7f).contains(&byte)), "{word:x}");
            }
        }
    }

    proptest! {
        #[test]
        fn finds_what_a_search_byte_by_byte_finds(text in prop::collection::vec(0_u8..4, 0..40)) {
            let position = text.iter().position(|byte| *byte == 3);
            prop_assert_eq!(find(&text, 3), position);
            let halves = position.map(|at| (&text[..at], &text[at + 1..]));
            prop_assert_eq!(split_once(&text, 3), halves);
        }

        #[test]
        fn every_byte_of_a_text_is_tested(text in prop::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..40)) {
            let is_printable = |byte: &u8| (0x20..0x7f).contains(byte);
            prop_assert_eq!(all(&text, printable), text.iter().all(is_printable));
        }
    }
}
