//! A peer's bytes as text: repaired to UTF-8 and cut to a number of characters, without a copy.

/// What takes the place of bytes that are no text (U+FFFD).
const REPLACEMENT: &str = "\u{fffd}";

/// The first `chars_max` characters of `text`, in pieces that belong together.
///
/// Bytes that are not UTF-8 become U+FFFD, one for each maximal broken sequence, and count as one character.
pub fn pieces(text: &[u8], chars_max: usize) -> impl Iterator<Item = &str> {
    // A text has at most as many characters as bytes, so only long ones need counting.
    let counting = text.len() > chars_max;
    let mut room = chars_max;
    text.utf8_chunks().flat_map(move |chunk| {
        if !counting {
            return [chunk.valid(), if chunk.invalid().is_empty() { "" } else { REPLACEMENT }];
        }
        let valid = cut(chunk.valid(), &mut room);
        if chunk.invalid().is_empty() || room == 0 {
            return [valid, ""];
        }
        room -= 1;
        [valid, REPLACEMENT]
    })
}

/// The first `room` characters; takes them off the room.
fn cut<'a>(text: &'a str, room: &mut usize) -> &'a str {
    match text.char_indices().nth(*room) {
        Some((end, _)) => {
            *room = 0;
            text.get(..end).unwrap_or_default()
        }
        None => {
            *room -= text.chars().count();
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: &[u8], chars_max: usize) -> String {
        pieces(bytes, chars_max).collect()
    }

    #[test]
    fn bytes_that_are_no_text_become_replacement_characters() {
        for (input, expected) in [
            (&b"a\xffb"[..], "a\u{fffd}b"),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(text(input, 100), expected, "{input:?}");
        }
    }

    #[test]
    fn cuts_on_a_character_boundary() {
        for (input, chars_max, expected) in [
            (&b"abcdef"[..], 3, "abc"),
            (b"abc", 3, "abc"),
            ("äöü".as_bytes(), 2, "äö"),
            ("äöü".as_bytes(), 3, "äöü"),
            (b"a\xff\xffb", 2, "a\u{fffd}"),
            (b"a\xffbc", 3, "a\u{fffd}b"),
            (b"abc", 0, ""),
        ] {
            assert_eq!(text(input, chars_max), expected, "{input:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_out_as_the_beginning_of_their_repaired_text(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            chars_max in 0_usize..220,
        ) {
            let expected: String = String::from_utf8_lossy(&bytes).chars().take(chars_max).collect();
            prop_assert_eq!(text(&bytes, chars_max), expected);
        }
    }
}
