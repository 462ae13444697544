//! The checksum of gzip (RFC 1952, 8): polynomial `edb88320`, reflected, inverted before and after.
//!
//! A table byte by byte takes as long as the matches. But a checksum does not change when bytes are added (exclusive
//! or) at places whose polynomial is a multiple of its own, and this is one, in bytes:
//!
//! ```text
//! y^300 + y^155 + y^117 + y^89 + 1        y = x^8
//! ```
//!
//! So each byte can be moved on to the places 145, 183, 211 and 300 behind it, sixteen at a time, until only the last few
//! hundred are left for the table (Stephan and others describe such moves: "Chorba: A novel CRC32 implementation", 2024).

use alloc::boxed::Box;

/// How far each byte is moved on.
const MOVES: [usize; 4] = [145, 183, 211, 300];
/// The farthest.
const REACH: usize = 300;
/// Bytes moved at once: fewer than the shortest move.
const GROUP: usize = 144;
/// Groups that follow each other without the last ones being brought back to the start.
const GROUPS: usize = 14;

/// The checksum of a body, in steps.
#[derive(Debug)]
pub(super) struct Crc {
    /// What a byte adds to the checksum.
    table: Box<[u32; 256]>,
    /// The last bytes that were moved on, each with all that was moved to its place before; the last is in front of
    /// `end`.
    moved: Box<[u8; REACH + GROUP * GROUPS]>,
    end: usize,
    /// How many bytes of the body have been moved on.
    position: usize,
}

impl Default for Crc {
    fn default() -> Self {
        let mut table = Box::new([0; 256]);
        for (byte, entry) in (0..).zip(table.iter_mut()) {
            *entry = (0..8).fold(byte, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 });
        }
        Self { table, moved: Box::new([0; REACH + GROUP * GROUPS]), end: REACH, position: 0 }
    }
}

impl Crc {
    /// Begins a body.
    pub(super) fn begin(&mut self) {
        self.moved.fill(0);
        self.end = REACH;
        self.position = 0;
    }

    /// Goes on, but not beyond `stop`.
    pub(super) fn advance(&mut self, body: &[u8], stop: usize) {
        // Nothing may move beyond the end.
        let stop = stop.min(body.len().saturating_sub(REACH));
        let behind = body.get(self.position..stop).unwrap_or_default();
        for group in behind.as_chunks::<GROUP>().0 {
            if self.end == self.moved.len() {
                self.moved.copy_within(GROUP * GROUPS.., 0);
                self.end = REACH;
            }
            if self.move_on(group).is_none() {
                return;
            }
        }
    }

    fn move_on(&mut self, group: &[u8; GROUP]) -> Option<()> {
        let (before, behind) = self.moved.split_at_mut_checked(self.end)?;
        let back = |distance| before.get(before.len().checked_sub(distance)?..)?.first_chunk::<GROUP>();
        let [a, b, c, d] = MOVES.map(back);
        let to = behind.first_chunk_mut::<GROUP>()?;
        let froms = words(group).zip(words(a?)).zip(words(b?)).zip(words(c?)).zip(words(d?));
        for (to, ((((group, a), b), c), d)) in to.as_chunks_mut::<16>().0.iter_mut().zip(froms) {
            *to = (group ^ a ^ b ^ c ^ d).to_le_bytes();
        }
        if self.position == 0 {
            // The inversion before.
            to.iter_mut().take(4).for_each(|byte| *byte = !*byte);
        }
        self.position += GROUP;
        self.end += GROUP;
        Some(())
    }

    /// The checksum, once everything in front of `body`'s last bytes has gone through [`Crc::advance`].
    pub(super) fn finish(&self, body: &[u8]) -> u32 {
        let moved = self.moved.get(..self.end).unwrap_or_default();
        let start = if self.position == 0 { u32::MAX } else { 0 };
        let rest = body.get(self.position..).unwrap_or_default();
        !(self.end..).zip(rest).fold(start, |crc, (place, byte)| {
            let arrived = MOVES.iter().filter_map(|distance| moved.get(place - distance));
            let byte = arrived.fold(*byte, |sum, byte| sum ^ byte);
            self.table.get(((crc ^ u32::from(byte)) & 0xff) as usize).copied().unwrap_or(0) ^ (crc >> 8)
        })
    }
}

#[inline]
fn words(group: &[u8; GROUP]) -> impl Iterator<Item = u128> {
    group.as_chunks::<16>().0.iter().map(|word| u128::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(body: &[u8], step: usize) -> u32 {
        let mut crc = Crc::default();
        (0..=body.len()).step_by(step).chain([body.len()]).for_each(|stop| crc.advance(body, stop));
        crc.finish(body)
    }

    /// Bit by bit, as the polynomial is defined.
    fn by_definition(body: &[u8]) -> u32 {
        !body.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        })
    }

    #[test]
    fn the_checksum_is_the_one_of_rfc_1952() {
        // The check value that every catalogue of CRCs lists for "123456789".
        assert_eq!(of(b"123456789", 1), 0xcbf4_3926);
        assert_eq!(of(b"", 1), 0);
    }

    proptest! {
        #[test]
        fn bytes_moved_on_count_as_where_they_were(body in prop::collection::vec(any::<u8>(), 0..9000), step in 1..5000_usize) {
            prop_assert_eq!(of(&body, step), by_definition(&body));
        }
    }
}
