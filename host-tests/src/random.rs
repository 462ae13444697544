//! Random bytes a test can repeat: a seeded generator, preceded by exact bytes a test pushed.

use std::collections::VecDeque;

/// The random source of one VM.
#[derive(Debug)]
pub(crate) struct Random {
    script: VecDeque<u8>,
    state: u64,
}

impl Random {
    pub(crate) fn from_seed(seed: u64, vm: u64) -> Self {
        // An odd multiplier keeps the streams of neighbouring VMs apart.
        let state = seed ^ (vm + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { script: VecDeque::new(), state }
    }

    /// Bytes that come before any generated one.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.script.extend(bytes);
    }

    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.script.pop_front().unwrap_or_else(|| self.generate())).collect()
    }

    /// One byte of SplitMix64 (Steele, Lea and Flood, 2014).
    fn generate(&mut self) -> u8 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_vm_gives_others() {
        let bytes = |seed, vm| Random::from_seed(seed, vm).take(16);
        assert_eq!(bytes(7, 0), bytes(7, 0));
        assert_ne!(bytes(7, 0), bytes(7, 1));
        assert_ne!(bytes(7, 0), bytes(8, 0));
    }

    #[test]
    fn pushed_bytes_come_first() {
        let mut random = Random::from_seed(1, 0);
        random.push(&[1, 2]);
        let taken = random.take(4);
        assert_eq!(taken[..2], [1, 2]);
        assert_eq!(taken[2..], Random::from_seed(1, 0).take(2));
    }
}
