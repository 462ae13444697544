//! Patterns in which an asterisk stands for any run of bytes.
//!
//! ```text
//! pattern = *( "*" / byte )      ; "*" any run, also an empty one; every other byte stands for itself
//! ```
//!
//! The texts come from callers, so matching takes time linear in the text: the pieces between asterisks are searched
//! for from left to right, each with Knuth, Morris and Pratt's table, and no piece is ever searched for twice.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A pattern, ready for matching.
#[derive(Clone)]
pub struct Glob {
    /// What stands between the asterisks: the first piece is anchored at the start, the last one at the end.
    pieces: Box<[Piece]>,
    ignore_case: bool,
}

#[derive(Clone)]
struct Piece {
    text: Box<[u8]>,
    /// For each prefix of `text`, the length of its longest border: how much still matches after a mismatch.
    borders: Box<[usize]>,
}

impl Glob {
    /// A pattern that tells `A` from `a`. Every text is a pattern.
    pub fn case_sensitive(pattern: &str) -> Self {
        Self::new(pattern, false)
    }

    /// A pattern for which `A` and `a` are the same; other letters than those of ASCII are not folded.
    pub fn ignoring_case(pattern: &str) -> Self {
        Self::new(&pattern.to_ascii_lowercase(), true)
    }

    fn new(pattern: &str, ignore_case: bool) -> Self {
        Self { pieces: pattern.split('*').map(|piece| Piece::new(piece.as_bytes())).collect(), ignore_case }
    }

    /// Whether the pattern covers the whole text.
    pub fn matches(&self, text: &[u8]) -> bool {
        match &*self.pieces {
            [] => text.is_empty(),
            [whole] => whole.text.len() == text.len() && self.starts_with(text, whole),
            [first, middle @ .., last] => {
                let Some(rest) = self.without_ends(text, first, last) else { return false };
                middle.iter().try_fold(rest, |rest, piece| self.after(rest, piece)).is_some()
            }
        }
    }

    /// The text between the anchored pieces, when both are there and do not overlap.
    fn without_ends<'t>(&self, text: &'t [u8], first: &Piece, last: &Piece) -> Option<&'t [u8]> {
        if !self.starts_with(text, first) {
            return None;
        }
        let (_, rest) = text.split_at_checked(first.text.len())?;
        let (rest, end) = rest.split_at_checked(rest.len().checked_sub(last.text.len())?)?;
        self.starts_with(end, last).then_some(rest)
    }

    fn starts_with(&self, text: &[u8], piece: &Piece) -> bool {
        text.len() >= piece.text.len()
            && text.iter().zip(&*piece.text).all(|(byte, wanted)| self.fold(*byte) == *wanted)
    }

    /// What follows the first place where the piece stands.
    fn after<'t>(&self, text: &'t [u8], piece: &Piece) -> Option<&'t [u8]> {
        let mut matched = 0;
        for (at, byte) in text.iter().enumerate() {
            if matched == piece.text.len() {
                return text.get(at..);
            }
            matched = advance(&piece.text, &piece.borders, matched, self.fold(*byte));
        }
        (matched == piece.text.len()).then_some(&[])
    }

    fn fold(&self, byte: u8) -> u8 {
        if self.ignore_case { byte.to_ascii_lowercase() } else { byte }
    }
}

impl Piece {
    fn new(text: &[u8]) -> Self {
        let mut borders = Vec::with_capacity(text.len());
        let mut border = 0;
        for (at, byte) in text.iter().enumerate() {
            if at > 0 {
                border = advance(text, &borders, border, *byte);
            }
            borders.push(border);
        }
        Self { text: text.into(), borders: borders.into() }
    }
}

/// How many bytes of the piece match up to and with `byte`, when `matched` did before it.
fn advance(piece: &[u8], borders: &[usize], mut matched: usize, byte: u8) -> usize {
    loop {
        if piece.get(matched) == Some(&byte) {
            return matched + 1;
        }
        let Some(shorter) = matched.checked_sub(1).and_then(|last| borders.get(last)) else { return 0 };
        matched = *shorter;
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pieces: Vec<_> = self.pieces.iter().map(|piece| String::from_utf8_lossy(&piece.text)).collect();
        write!(formatter, "{:?}", pieces.join("*"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_asterisk_stands_for_any_run_and_everything_else_for_itself() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything/at all", true),
            ("**", "", true),
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/", false),
            ("/healthz", "/health", false),
            ("/api/*", "/api/", true),
            ("/api/*", "/api", false),
            ("*.json", "/a/b.json", true),
            ("*.json", "json", false),
            ("/a*a", "/a", false),
            ("/a*a", "/aa", true),
            ("/*/b/*/d", "/a/b/c/d", true),
            ("/*/b/*/d", "/a/b/d", false),
            ("a*b*b", "abb", true),
            ("a*b*b", "ab", false),
            ("*aab*", "aaaab", true),
            ("*abab*c", "abaababac", true),
            ("/Cart", "/cart", false),
            ("a?c", "abc", false),
            ("a.c", "abc", false),
            ("[ab]", "a", false),
        ] {
            assert_eq!(Glob::case_sensitive(pattern).matches(text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn case_is_ignored_on_both_sides_when_asked() {
        for (pattern, text, expected) in [
            ("*.Example.COM", "api.eXample.com", true),
            ("ES-*-PROD", "es-7-prod", true),
            ("example.com", "EXAMPLE.COM.", false),
            ("\u{c4}", "\u{e4}", false),
        ] {
            assert_eq!(Glob::ignoring_case(pattern).matches(text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn matches_bytes_that_are_no_utf8() {
        assert!(Glob::case_sensitive("/a*").matches(b"/a\xff\xfe"));
        assert!(!Glob::case_sensitive("/a*b").matches(b"/a\xff\xfe"));
    }

    #[test]
    fn a_pattern_prints_as_it_was_written() {
        assert_eq!(format!("{:?}", Glob::case_sensitive("/a*/**b")), r#""/a*/**b""#);
    }

    /// The meaning of a pattern in its plainest form, exponential in the number of asterisks.
    fn plainly_matches(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', pattern @ ..] => (0..=text.len()).any(|at| plainly_matches(pattern, &text[at..])),
            [byte, pattern @ ..] => text.first() == Some(byte) && plainly_matches(pattern, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_definition(pattern in "[ab*]{0,8}", text in "[ab]{0,12}") {
            prop_assert_eq!(
                Glob::case_sensitive(&pattern).matches(text.as_bytes()),
                plainly_matches(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
