//! Random numbers from bytes that the host filled in advance.
//!
//! One host call fills a pool that lasts for dozens of requests. Numbers are read from it in order, most
//! significant byte first, so a test that knows the bytes knows every id and every draw.

use alloc::boxed::Box;

use crate::id::{SpanId, TraceId};

/// Size of the pool in bytes: one host call for about sixty requests.
pub const POOL_BYTES: usize = 4096;

/// The last bytes of the pool are never handed out: they seed the mixer that takes over from a dry pool.
const SEED_BYTES: usize = 8;

/// What a request may need, in bytes, with room to spare: a trace id (16), two span ids and a transaction id
/// (24), a draw for each granularity (16), and a priority (4).
pub const RESERVE_BYTES: usize = 128;

/// A pool of random bytes.
///
/// When it runs dry between two refills it does not stop: numbers then come from SplitMix64, seeded with the
/// pool's last eight bytes. Those are unique enough for ids and draws, but, unlike the host's bytes, whoever sees
/// one of them could compute the next.
#[derive(Debug)]
pub struct RandomPool {
    bytes: Box<[u8; POOL_BYTES]>,
    used: usize,
    mixer: u64,
}

impl RandomPool {
    /// An empty pool. `seed` is used only until the first refill: the time, say, so that two workers whose host
    /// refuses random bytes do not make the same ids.
    pub fn new(seed: u64) -> Self {
        Self { bytes: Box::new([0; POOL_BYTES]), used: POOL_BYTES, mixer: seed }
    }

    /// Whether what is left might not last for another request.
    pub fn needs_refill(&self) -> bool {
        self.used + RESERVE_BYTES > POOL_BYTES - SEED_BYTES
    }

    /// Where the host's bytes go; [`RandomPool::refilled`] puts them to use.
    pub fn buffer_mut(&mut self) -> &mut [u8; POOL_BYTES] {
        &mut self.bytes
    }

    /// Starts over at the first byte, after the whole buffer was filled.
    pub fn refilled(&mut self) {
        self.used = 0;
        if let Some(seed) = self.bytes.last_chunk::<SEED_BYTES>() {
            self.mixer ^= u64::from_be_bytes(*seed);
        }
    }

    /// The next four bytes.
    pub fn next_u32(&mut self) -> u32 {
        match self.take::<4>() {
            Some(bytes) => u32::from_be_bytes(bytes),
            None => (self.mix() >> 32) as u32,
        }
    }

    /// The next eight bytes.
    pub fn next_u64(&mut self) -> u64 {
        match self.take::<8>() {
            Some(bytes) => u64::from_be_bytes(bytes),
            None => self.mix(),
        }
    }

    /// The next sixteen bytes.
    pub fn next_u128(&mut self) -> u128 {
        match self.take::<16>() {
            Some(bytes) => u128::from_be_bytes(bytes),
            None => (u128::from(self.mix()) << 64) | u128::from(self.mix()),
        }
    }

    /// A whole number in `0..n`, from eight bytes; 0 when `n` is 0. See [`scale`].
    pub fn below(&mut self, n: u64) -> u64 {
        scale(self.next_u64(), n)
    }

    /// A new trace id, from sixteen bytes. Zeros are skipped; there is an end to them, as a dry pool mixes.
    pub fn trace_id(&mut self) -> TraceId {
        loop {
            if let Some(id) = TraceId::from_u128(self.next_u128()) {
                return id;
            }
        }
    }

    /// A new span or transaction id, from eight bytes; zeros are skipped as in [`RandomPool::trace_id`].
    pub fn span_id(&mut self) -> SpanId {
        loop {
            if let Some(id) = SpanId::from_u64(self.next_u64()) {
                return id;
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (fresh, _) = self.bytes.split_at_checked(POOL_BYTES - SEED_BYTES)?;
        let bytes = fresh.get(self.used..)?.first_chunk::<N>()?;
        self.used += N;
        Some(*bytes)
    }

    /// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    fn mix(&mut self) -> u64 {
        self.mixer = self.mixer.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.mixer ^ (self.mixer >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Maps 64 random bits to `0..n` by a multiplication instead of a division.
///
/// Some results come up once more than others out of 2^64 draws: the bias is below `n / 2^64`.
pub fn scale(draw: u64, n: u64) -> u64 {
    // The product of two 64-bit numbers has its high half in 64 bits.
    ((u128::from(draw) * u128::from(n)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripted(script: &[u8]) -> RandomPool {
        let mut pool = RandomPool::new(0);
        pool.buffer_mut()[..script.len()].copy_from_slice(script);
        pool.refilled();
        pool
    }

    #[test]
    fn bytes_come_in_order_most_significant_first() {
        let mut pool = scripted(&(1..=60).collect::<Vec<u8>>());
        assert_eq!(pool.trace_id().as_u128(), 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        assert_eq!(pool.span_id().as_u64(), 0x1112_1314_1516_1718);
        assert_eq!(pool.next_u32(), 0x191a_1b1c);
        assert_eq!(pool.next_u64(), 0x1d1e_1f20_2122_2324);
        assert_eq!(pool.next_u128(), 0x2526_2728_292a_2b2c_2d2e_2f30_3132_3334);
    }

    #[test]
    fn draws_are_spread_over_their_range() {
        for (draw, n, expected) in [
            (0, 5, 0),
            (u64::MAX, 5, 4),
            (1 << 63, 5, 2),
            (1 << 63, 2, 1),
            ((1 << 63) - 1, 2, 0),
            (u64::MAX, u64::MAX, u64::MAX - 1),
            (u64::MAX, 1, 0),
            (u64::MAX, 0, 0),
        ] {
            assert_eq!(scale(draw, n), expected, "{draw:#x} of {n}");
        }
    }

    #[test]
    fn a_refill_is_asked_for_while_one_request_is_still_served() {
        let mut pool = scripted(&[7; POOL_BYTES]);
        let mut served = 0;
        while !pool.needs_refill() {
            for _ in 0..RESERVE_BYTES / 8 {
                assert_eq!(pool.next_u64(), 0x0707_0707_0707_0707);
            }
            served += RESERVE_BYTES;
        }
        assert!(served > POOL_BYTES * 9 / 10, "{served} bytes were used");
    }

    #[test]
    fn a_dry_pool_goes_on_without_repeating_itself() {
        let mut pool = RandomPool::new(42);
        assert!(pool.needs_refill());
        let ids: std::collections::BTreeSet<u64> = (0..10_000).map(|_| pool.next_u64()).collect();
        assert_eq!(ids.len(), 10_000);
        let mut other = RandomPool::new(43);
        assert!(!ids.contains(&other.next_u64()), "another seed makes other numbers");
    }

    #[test]
    fn what_follows_a_dry_pool_depends_on_the_bytes_that_were_in_it() {
        let after_dry = |last: u8| {
            let mut pool = RandomPool::new(0);
            pool.buffer_mut()[POOL_BYTES - 1] = last;
            pool.refilled();
            (0..POOL_BYTES / 8).map(|_| pool.next_u64()).last()
        };
        assert_ne!(after_dry(1), after_dry(2));
    }

    #[test]
    fn a_host_that_gives_only_zeros_still_gets_ids() {
        let mut pool = scripted(&[]);
        assert_ne!(pool.trace_id().as_u128(), 0);
        assert_ne!(pool.span_id().as_u64(), 0);
        assert!(pool.needs_refill(), "the zeros are used up");
    }
}
