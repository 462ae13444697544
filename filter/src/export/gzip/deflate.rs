//! A raw deflate stream (RFC 1951), made for batches of records: the same names and values again and again, and random
//! ids between them.
//!
//! ```text
//! stream = *block            every block but the last has the bit last:0
//! ```
//!
//! A match is looked for where eight bytes stood before. Shorter ones would be found in ids, by accident, and take more
//! bits than the digits themselves.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::bits::Bits;
use super::block::{self, Sequence};

/// The farthest that a match may lie back (RFC 1951, 2).
const DISTANCE_MAX: usize = 32 * 1024;
/// Words of sixteen bytes that a match has at most behind its first eight bytes, and before them eight more: together
/// 256 bytes of the 258 that the format has.
const WORDS_BEHIND_MAX: usize = 15;
/// Words of eight bytes whose latest place is known.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 11;
/// After so many places without a match every second place is tried, and so on: ids have none.
const PATIENCE_BITS: u32 = 3;
/// Shorter matches take as many bits as the bytes themselves, and often stand in the way of longer ones.
const LENGTH_MIN: usize = 10;
/// Matches that tell how far back the same field of an earlier record is.
const LENGTH_OF_PERIOD: usize = 20;
/// Places at the start of a match that later matches may refer to, and the distance of further ones inside it: a later
/// record may differ from this one anywhere, and finds one of them at every phase of that skipping.
const PLACES_AT_START: usize = 6;
const SPACING: usize = 16;
/// Matches in one block.
const MATCHES_MAX: usize = 1536;
/// Bytes of the body in one block, one match more or less.
const BLOCK_BYTES_MAX: usize = 256 * 1024;
/// The same of the first block. It has all names and values that come again and again, as literals; behind it nearly all
/// literals are digits, and need codes of their own. A block that is stored takes five bytes more than its own, for
/// which a body of this length has room.
const FIRST_BLOCK_BYTES_MAX: usize = 5 * 1024;

/// The state of one stream.
#[derive(Debug)]
pub(super) struct Deflate {
    /// Where a word was seen last, by its hash: the low 16 bits of its place, below 16 more bits of the hash, by which
    /// most of the words that were never seen are known without a look at the body.
    places: Box<[u32; PLACES]>,
    /// The block so far.
    sequences: Box<[Sequence; MATCHES_MAX]>,
    count: usize,
    /// Where in the body the block begins, where its last match ends, and what is looked at next.
    block: usize,
    literals: usize,
    position: usize,
    /// Places without a match since the last match.
    misses: usize,
    /// How far back the last long match was.
    period: usize,
    bits: Bits,
}

impl Default for Deflate {
    fn default() -> Self {
        Self {
            places: Box::new([0; PLACES]),
            sequences: Box::new([Sequence::default(); MATCHES_MAX]),
            count: 0,
            block: 0,
            literals: 0,
            position: 0,
            misses: 0,
            period: 1,
            bits: Bits::default(),
        }
    }
}

impl Deflate {
    /// Begins a stream.
    pub(super) fn begin(&mut self) {
        // Places of another body would do no harm, but the same body would not always give the same stream.
        self.places.fill(0);
        (self.count, self.block, self.literals, self.position) = (0, 0, 0, 0);
        (self.misses, self.period) = (0, 1);
        self.bits = Bits::default();
    }

    /// Goes through about `bytes` more of the body. `true` when the stream is finished.
    pub(super) fn step(&mut self, body: &[u8], bytes: usize, out: &mut Vec<u8>) -> bool {
        let stop = self.position.saturating_add(bytes).min(body.len());
        loop {
            let block_bytes_max = if self.block == 0 { FIRST_BLOCK_BYTES_MAX } else { BLOCK_BYTES_MAX };
            let block_end = self.block.saturating_add(block_bytes_max);
            self.search(body, stop.min(block_end));
            let is_done = self.position >= body.len();
            if is_done || self.count == MATCHES_MAX || self.position >= block_end {
                self.end_block(body, is_done, out);
            }
            if is_done || self.position >= stop {
                return is_done;
            }
        }
    }

    /// How far it is.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Collects matches until `stop`, or until the block is full.
    fn search(&mut self, body: &[u8], stop: usize) {
        let (mut position, mut misses) = (self.position, self.misses);
        while position < stop && self.count < MATCHES_MAX {
            let Some(word) = word_at(body, position) else {
                position = body.len();
                break;
            };
            let distance = self.replace(word, position);
            // In front of the body there is nothing, and nor is there anything that far behind it.
            let earlier = position.wrapping_sub(distance);
            // In this order: that nothing is known of a word is the usual case.
            let is_match = distance != 0 && word_at(body, earlier) == Some(word) && distance <= DISTANCE_MAX;
            if is_match && self.take(body, position, earlier) {
                position = self.literals;
                misses = 0;
            } else {
                position += 1 + (misses >> PATIENCE_BITS);
                misses += 1;
            }
        }
        (self.position, self.misses) = (position, misses);
    }

    /// How far back a word may have been seen last, and 0 when it was not; now it is here.
    #[inline]
    fn replace(&mut self, word: u64, position: usize) -> usize {
        // The upper bits of a product depend on all bits of the word (Knuth, "The Art of Computer Programming", 6.4).
        let product = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let tag = ((product >> 16) & 0xffff_0000) as u32;
        let here = tag | (position as u64 & 0xffff) as u32;
        let Some(place) = self.places.get_mut((product >> (u64::BITS - PLACE_BITS)) as usize) else { return 0 };
        let was = core::mem::replace(place, here);
        if was & 0xffff_0000 == tag { (here.wrapping_sub(was) & 0xffff) as usize } else { 0 }
    }

    /// Makes a match of eight equal bytes as long as it can be. `false` when it is not worth its bits.
    fn take(&mut self, body: &[u8], position: usize, earlier: usize) -> bool {
        let (earlier, ahead) = self.longer(body, position, earlier);
        let back = equal_before(body, self.literals, position, earlier);
        let (start, distance) = (position - back, position - earlier);
        let length = back + 8 + ahead;
        if length < LENGTH_MIN {
            return false;
        }
        if let Some(sequence) = self.sequences.get_mut(self.count) {
            *sequence = Sequence {
                literals: u32::try_from(start - self.literals).unwrap_or(0),
                length: u16::try_from(length - 3).unwrap_or(0),
                distance: u16::try_from(distance - 1).unwrap_or(0),
            };
            self.count += 1;
        }
        self.literals = start + length;
        if length >= LENGTH_OF_PERIOD {
            self.period = distance;
        }
        self.learn(body, start);
        true
    }

    /// The place where the word stood last, or the one a period back when more bytes are equal there; and how many are
    /// equal behind the word. Fields of a record often go on as in the record that the last field was found in.
    fn longer(&self, body: &[u8], position: usize, earlier: usize) -> (usize, usize) {
        let ahead_of = |place: usize| equal_behind(body, position + 8, place + 8);
        let (ahead, usual) = (ahead_of(earlier), position.wrapping_sub(self.period));
        if usual != earlier && word_at(body, usual) == word_at(body, position) {
            let there = ahead_of(usual);
            if there > ahead {
                return (usual, there);
            }
        }
        (earlier, ahead)
    }

    /// Makes places of the last match, which begins at `start`, known.
    fn learn(&mut self, body: &[u8], start: usize) {
        let (Some(mut word), Some(mut behind)) = (word_at(body, start), word_at(body, start + 8)) else { return };
        for place in start..start + PLACES_AT_START {
            self.replace(word, place);
            word = word >> 8 | behind << 56;
            behind >>= 8;
        }
        let mut place = start + SPACING;
        let inside = body.get(place..self.literals).unwrap_or_default();
        for bytes in inside.as_chunks::<SPACING>().0 {
            if let Some(word) = word_at(bytes, 0) {
                self.replace(word, place);
            }
            place += SPACING;
        }
    }

    fn end_block(&mut self, body: &[u8], is_last: bool, out: &mut Vec<u8>) {
        let end = if is_last { body.len() } else { self.position.min(body.len()) };
        let bytes = body.get(self.block..end).unwrap_or_default();
        let sequences = self.sequences.get(..self.count).unwrap_or_default();
        block::write(bytes, sequences, is_last, &mut self.bits, out);
        (self.count, self.block, self.literals, self.position) = (0, end, end, end);
    }
}

#[inline]
fn word_at(body: &[u8], position: usize) -> Option<u64> {
    body.get(position..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// How many literals in front of a match are part of it, too. Up to eight are found: skipping leaves out no more before
/// 64 places in a row had no match.
#[inline]
fn equal_before(body: &[u8], literals: usize, position: usize, earlier: usize) -> usize {
    let word_before = |position: usize| body.get(..position)?.last_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let (Some(here), Some(there)) = (word_before(position), word_before(earlier)) else { return 0 };
    ((here ^ there).leading_zeros() as usize / 8).min(position - literals)
}

/// How many bytes behind two places are equal, as far as a match can reach.
fn equal_behind(body: &[u8], position: usize, earlier: usize) -> usize {
    let words = |start: usize| body.get(start..).unwrap_or_default().as_chunks::<16>().0.iter();
    let mut equal = 0;
    for (here, there) in words(position).zip(words(earlier)).take(WORDS_BEHIND_MAX) {
        let difference = u128::from_le_bytes(*here) ^ u128::from_le_bytes(*there);
        if difference != 0 {
            return equal + (difference.trailing_zeros() / 8) as usize;
        }
        equal += 16;
    }
    equal
}
