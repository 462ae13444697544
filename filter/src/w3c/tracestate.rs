//! The `tracestate` header (W3C Trace Context, section 3.3; keys by the more generous Level 2).
//!
//! ```text
//! list        = list-member 0*31( OWS "," OWS list-member )
//! list-member = [ key "=" value ]            ; empty members are skipped
//! key         = ( lcalpha / DIGIT ) 0*255( lcalpha / DIGIT / "_" / "-" / "*" / "/" / "@" )
//! value       = 0*255(chr) nblk-chr
//! chr         = %x20 / nblk-chr
//! nblk-chr    = %x21-2B / %x2D-3C / %x3E-7E  ; printable, neither "," nor "="
//! ```

use alloc::vec::Vec;

use crate::headers::trim_ows;
use crate::swar;

/// List members of one header, at most.
pub const MEMBERS_MAX: usize = 32;

/// Bytes that we send on at most. W3C asks for 512 at least; whole members are left out beyond this.
pub const BYTES_MAX: usize = 8192;

/// Longer members are the first to be left out (W3C, section 3.3.1.5).
const LONG_MEMBER_BYTES: usize = 128;

const PART_BYTES_MAX: usize = 256;

/// Foreign list members in order: slices of the header, `key=value`.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    /// At most [`MEMBERS_MAX`].
    list: Vec<&'a [u8]>,
}

impl<'a> Members<'a> {
    /// No member.
    pub const EMPTY: Self = Self { list: Vec::new() };

    /// The members.
    pub fn as_slice(&self) -> &[&'a [u8]] {
        &self.list
    }

    /// The members' keys.
    pub fn keys(&self) -> impl Iterator<Item = &'a [u8]> {
        self.as_slice().iter().map(|member| key_of(member))
    }

    fn push(&mut self, member: &'a [u8]) {
        if self.list.len() < MEMBERS_MAX {
            self.list.push(member);
        }
    }

    fn has_key(&self, key: &[u8]) -> bool {
        self.keys().any(|present| present == key)
    }
}

/// What the `tracestate` lines of a request hold.
#[derive(Clone, Debug)]
pub struct Tracestate<'a> {
    /// The value of the left-most member with the own key. A value that breaks the grammar reads as empty, which
    /// no New Relic entry is.
    pub own: Option<&'a [u8]>,
    /// Every other member; none when the list breaks the grammar.
    pub foreign: Members<'a>,
    /// Whether a member breaks the grammar, or there are more than 32.
    pub malformed: bool,
}

/// Reads all lines of a request in order, as if joined by commas. `own_key` is the key of the member that is ours.
///
/// A list with a malformed member loses all foreign members (W3C: it is discarded as a whole), but a well-formed
/// member of our own still counts: another vendor's mistake shall not cost the link to the caller.
pub fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>, own_key: Option<&[u8]>) -> Tracestate<'a> {
    let mut state = Tracestate { own: None, foreign: Members::EMPTY, malformed: false };
    let mut count = 0;
    for line in lines {
        let mut rest = Some(line);
        while let Some(list) = rest {
            // An empty member; nothing but commas shall cost little.
            if let Some(behind) = list.strip_prefix(b",") {
                rest = Some(behind);
                continue;
            }
            let (member, behind) = match swar::split_once(list, b',') {
                Some((member, behind)) => (member, Some(behind)),
                None => (list, None),
            };
            rest = behind;
            let member = trim_ows(member);
            if member.is_empty() {
                continue;
            }
            count += 1;
            state.malformed |= count > MEMBERS_MAX;
            state.add(member, own_key);
        }
    }
    if state.malformed {
        state.foreign = Members::EMPTY;
    }
    state
}

impl<'a> Tracestate<'a> {
    fn add(&mut self, member: &'a [u8], own_key: Option<&[u8]>) {
        if self.malformed && !own_key.is_some_and(|own_key| member.starts_with(own_key)) {
            // No foreign member counts any more: a long list shall cost no more than to look for our own.
            return;
        }
        let key = key_of(member);
        let value = member.get(key.len() + 1..).filter(|value| is_value(value));
        if own_key == Some(key) {
            self.malformed |= value.is_none();
            self.own = self.own.or_else(|| Some(value.unwrap_or_default()));
        } else if value.is_none() || !is_key(key) {
            self.malformed = true;
        } else if !self.malformed && !self.foreign.has_key(key) {
            self.foreign.push(member);
        }
    }
}

/// The member up to its first `=`, or all of it.
fn key_of(member: &[u8]) -> &[u8] {
    swar::find(member, b'=').and_then(|end| member.get(..end)).unwrap_or(member)
}

fn is_key(key: &[u8]) -> bool {
    let is_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= PART_BYTES_MAX
        && key.first().is_some_and(is_first)
        && key.iter().all(|byte| is_first(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@'))
}

fn is_value(value: &[u8]) -> bool {
    value.len() <= PART_BYTES_MAX
        && value.last().is_some_and(|last| *last != b' ')
        && swar::all(value, |word| swar::printable(word) & !swar::equal(word, b',') & !swar::equal(word, b'='))
}

/// The header to send on: our own member, when there is one, left of the foreign ones; empty when there is none.
///
/// At most 32 members and [`BYTES_MAX`] bytes: members of more than 128 bytes go first, then the right-most.
pub fn join(own: &[u8], foreign: &[&[u8]]) -> Vec<u8> {
    let room = MEMBERS_MAX - usize::from(!own.is_empty());
    let bytes_max = BYTES_MAX.saturating_sub(own.len());
    let shortened;
    let kept = if foreign.len() <= room && joined_bytes(foreign) <= bytes_max {
        foreign
    } else {
        shortened = shorten(foreign, room, bytes_max);
        &shortened
    };
    let mut out = Vec::with_capacity(own.len() + joined_bytes(kept));
    out.extend_from_slice(own);
    for member in kept {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(member);
    }
    out
}

/// Bytes of the members, each with a comma.
fn joined_bytes(members: &[&[u8]]) -> usize {
    members.iter().map(|member| member.len() + 1).sum()
}

/// Leaves members out, from the right and long ones first, until the rest fits.
fn shorten<'a>(members: &[&'a [u8]], count_max: usize, bytes_max: usize) -> Vec<&'a [u8]> {
    let mut kept: Vec<&[u8]> = members.iter().take(count_max).copied().collect();
    let mut bytes = joined_bytes(&kept);
    for limit in [LONG_MEMBER_BYTES, 0] {
        let mut position = kept.len();
        while bytes > bytes_max && position > 0 {
            position -= 1;
            let length = kept.get(position).map_or(0, |member| member.len());
            if length > limit {
                bytes -= length + 1;
                if let Some(tail) = kept.get_mut(position..) {
                    tail.rotate_left(1);
                    kept.pop();
                }
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(lines: &[&'a str]) -> Tracestate<'a> {
        parse(lines.iter().map(|line| line.as_bytes()), Some(b"777@nr"))
    }

    fn foreign(lines: &[&str]) -> String {
        String::from_utf8(join(b"", read(lines).foreign.as_slice())).unwrap()
    }

    #[test]
    fn joins_lines_and_skips_empty_members() {
        for (lines, expected) in [
            (vec!["a=1", "b=2"], "a=1,b=2"),
            (vec!["a=1 ,\t b=2"], "a=1,b=2"),
            (vec!["a=1,,b=2,"], "a=1,b=2"),
            (vec!["", " ", "a=1"], "a=1"),
            (vec![], ""),
            (vec!["a= 1"], "a= 1"),
        ] {
            assert_eq!(foreign(&lines), expected, "{lines:?}");
            assert!(!read(&lines).malformed, "{lines:?}");
        }
    }

    #[test]
    fn accepts_level_2_keys() {
        for member in ["foo@=1", "foo@@bar=2", "t*2/4@v=1", "0a=1", "a_-*/@0=1"] {
            assert_eq!(foreign(&[member]), member);
        }
        let longest = format!("{}={}", "k".repeat(256), "v".repeat(256));
        assert_eq!(foreign(&[&longest]), longest);
    }

    #[test]
    fn a_malformed_member_costs_every_foreign_one_but_not_our_own() {
        let long_key = format!("{}=1", "k".repeat(257));
        let long_value = format!("k={}", "v".repeat(257));
        for member in [
            "@foo=1",
            "FOO=1",
            "foo.bar=1",
            "foo =1",
            "foo",
            "foo=",
            "=1",
            "a=b=c",
            "a=\u{7f}",
            "a=é",
            &long_key,
            &long_value,
        ] {
            let line = format!("x=1,777@nr=entry,{member},y=2");
            let state = read(&[&line]);
            assert!(state.malformed, "{member}");
            assert_eq!(state.own, Some(&b"entry"[..]), "{member}");
            assert!(state.foreign.as_slice().is_empty(), "{member}");
        }
    }

    #[test]
    fn the_left_most_of_repeated_keys_counts() {
        assert_eq!(foreign(&["a=1,b=2,a=3"]), "a=1,b=2");
        let state = read(&["777@nr=first,a=1", "777@nr=second"]);
        assert_eq!(state.own, Some(&b"first"[..]));
        assert_eq!(join(b"", state.foreign.as_slice()), b"a=1");
    }

    #[test]
    fn our_own_member_with_a_malformed_value_reads_as_empty() {
        let state = read(&["777@nr=0=1,a=1"]);
        assert_eq!(state.own, Some(&b""[..]));
        assert!(state.malformed);
    }

    #[test]
    fn without_an_own_key_every_member_is_foreign() {
        let state = parse([&b"777@nr=0-0,a=1"[..]].into_iter(), None);
        assert_eq!((state.own, state.foreign.as_slice().len()), (None, 2));
    }

    #[test]
    fn more_than_32_members_are_malformed() {
        let list = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(read(&[&list(32)]).foreign.as_slice().len(), 32);
        assert!(!read(&[&list(32)]).malformed);
        let line = list(33);
        let state = parse([line.as_bytes()].into_iter(), None);
        assert!(state.malformed && state.foreign.as_slice().is_empty());
    }

    #[test]
    fn sends_our_member_and_31_foreign_ones() {
        let list = (0..32).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        let sent = join(b"777@nr=x", read(&[&list]).foreign.as_slice());
        let sent = String::from_utf8(sent).unwrap();
        assert_eq!(sent.split(',').count(), 32);
        assert!(sent.starts_with("777@nr=x,k0=v,") && sent.ends_with(",k30=v"));
    }

    #[test]
    fn beyond_the_bound_long_members_go_first_then_the_right_most() {
        // 31 members of 258 bytes are 8028 with their commas; one of 300 more does not fit.
        let long = |n: usize, bytes: usize| format!("k{n}={}", "v".repeat(bytes));
        let list =
            (10..40).map(|n| long(n, 250)).chain(["short=1".into(), long(40, 250)]).collect::<Vec<_>>().join(",");
        let own = format!("777@nr={}", "x".repeat(249));
        let sent = String::from_utf8(join(own.as_bytes(), read(&[&list]).foreign.as_slice())).unwrap();
        assert!(sent.len() <= BYTES_MAX, "{}", sent.len());
        assert!(sent.contains(",short=1"), "the short member outlives long ones to its left");
        assert!(sent.contains(&long(10, 250)), "long members go from the right");
        assert!(sent.len() > BYTES_MAX - 300, "no more than needed is left out");
    }
}
