//! Records on their way together: what one request carries.

use alloc::vec::Vec;

/// Records in one request (New Relic's telemetry SDKs send batches of this order).
pub const BATCH_RECORDS_MAX: usize = 500;
/// Bytes of one request's body before compression; the APIs take a million. A request costs the proxy some hundred
/// microseconds whatever it carries, and to compress so much takes about two hundred.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one record.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Encoded records, one behind the other, each with the separator that its format puts behind it.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records' bytes.
    pub records: Vec<u8>,
    /// Where each record ends.
    ends: Vec<u32>,
    /// `x-request-id`, made for the first try and kept, so that the receiver can tell a retry from a new request.
    pub request_id: Option<RequestId>,
    /// Retries made so far.
    pub retries: u32,
    /// The next try is not before this time, Unix nanoseconds; a new batch is due at once.
    pub due_ns: u64,
    /// A random number for the pause after the current try.
    pub chance: u32,
}

impl Batch {
    /// How many records it has.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether one more record of so many bytes makes it larger than `bytes_max` or than 500 records.
    pub fn is_full_for(&self, record_bytes: usize, bytes_max: usize) -> bool {
        !self.is_empty() && (self.len() >= BATCH_RECORDS_MAX || self.records.len() + record_bytes > bytes_max)
    }

    /// Takes the batch, and leaves an empty one with room for as much: it will fill up, too, and shall not be moved
    /// again and again on the way.
    pub fn take_full(&mut self) -> Self {
        let next = Self {
            records: Vec::with_capacity(self.records.len()),
            ends: Vec::with_capacity(self.ends.len()),
            ..Self::default()
        };
        core::mem::replace(self, next)
    }

    /// Appends a record.
    pub fn push(&mut self, record: &[u8]) {
        self.records.extend_from_slice(record);
        // A batch is bounded far below 4 GiB.
        self.ends.push(u32::try_from(self.records.len()).unwrap_or(u32::MAX));
    }

    /// Takes the second half of the records off, for a request of its own. `None` when there is nothing to halve.
    ///
    /// Both halves are requests that were never tried.
    pub fn split(&mut self) -> Option<Self> {
        let half = self.len() / 2;
        let end = *self.ends.get(half.checked_sub(1)?)?;
        let at = usize::try_from(end).ok().filter(|at| *at <= self.records.len())?;
        let behind = Self {
            records: self.records.split_off(at),
            ends: self.ends.split_off(half).into_iter().map(|later| later.saturating_sub(end)).collect(),
            ..Self::default()
        };
        self.request_id = None;
        self.retries = 0;
        Some(behind)
    }
}

/// A UUID of version 4 (RFC 9562) in text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId([u8; 36]);

impl RequestId {
    /// Makes one of 122 random bits.
    pub fn from_random(random: u128) -> Self {
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0x3 << 62;
        let value = random & !VERSION & !VARIANT | 0x4 << 76 | 0x2 << 62;
        let mut text = [b'-'; 36];
        let mut shift = 128_u32;
        for (position, place) in text.iter_mut().enumerate() {
            if matches!(position, 8 | 13 | 18 | 23) {
                continue;
            }
            shift = shift.saturating_sub(4);
            let digit = u8::try_from(value >> shift & 0xf).unwrap_or(0);
            *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        }
        Self(text)
    }

    /// 36 characters.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_uuid_of_version_4() {
        for (random, expected) in [
            (0, "00000000-0000-4000-8000-000000000000"),
            (u128::MAX, "ffffffff-ffff-4fff-bfff-ffffffffffff"),
            (0x0123_4567_89ab_cdef_0123_4567_89ab_cdef, "01234567-89ab-4def-8123-456789abcdef"),
        ] {
            assert_eq!(RequestId::from_random(random).as_bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn halves_keep_the_records_and_their_order() {
        let mut batch = Batch { request_id: Some(RequestId::from_random(1)), retries: 3, ..Batch::default() };
        for record in ["a", "bb", "ccc", "dddd", "eeeee"] {
            batch.push(record.as_bytes());
        }
        let mut behind = batch.split().unwrap();
        assert_eq!((&batch.records[..], batch.len()), (&b"abb"[..], 2));
        assert_eq!((&behind.records[..], behind.len()), (&b"cccddddeeeee"[..], 3));
        assert_eq!((batch.request_id, batch.retries), (None, 0));
        let last = behind.split().unwrap();
        assert_eq!((&behind.records[..], &last.records[..]), (&b"ccc"[..], &b"ddddeeeee"[..]));
        assert!(behind.split().is_none());
    }

    #[test]
    fn a_batch_is_full_by_bytes_or_by_records_but_takes_one_record_of_any_size() {
        let mut batch = Batch::default();
        assert!(!batch.is_full_for(1000, 100));
        batch.push(&[0; 90]);
        assert!(!batch.is_full_for(10, 100));
        assert!(batch.is_full_for(11, 100));
        let mut batch = Batch::default();
        for _ in 0..BATCH_RECORDS_MAX {
            assert!(!batch.is_full_for(1, 10_000));
            batch.push(b"x");
        }
        assert!(batch.is_full_for(1, 10_000));
    }
}
