//! The adaptive sampler's algorithm, on state that may be one worker's or the whole process's.
//!
//! New Relic's agents sample `target` traces in each period. The first period takes the first `target` requests.
//! Each later one spreads them by the number of requests in the period before, and once `target` is reached lets
//! through ever fewer, down to none at `2 * target` (Ruby agent `adaptive_sampler.rb`, Java agent
//! `tracing/samplers/AdaptiveSampler`; here with the exact threshold and an explicit end).

use alloc::vec::Vec;

use super::shared;
use crate::random::{RandomPool, scale};

/// Length of a sampling period in nanoseconds: a minute, as the agents have it.
pub const PERIOD_NS: u64 = 60_000_000_000;

/// Version of the bytes in shared data.
const VERSION: u8 = 1;

/// What the sampler remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveState {
    /// Start of the current period, Unix nanoseconds.
    pub period_start_ns: u64,
    /// Whether no period has ended yet.
    pub first_period: bool,
    /// Requests decided in the current period.
    pub seen: u64,
    /// Requests decided in the period before; 0 also when that period was skipped altogether.
    pub seen_last: u64,
    /// Requests sampled in the current period.
    pub sampled_count: u64,
}

/// The random number of one decision: drawn when first needed, and the same one from then on. A decision that is
/// made again on fresher state has then no second chance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Draw(Option<u64>);

impl Draw {
    fn below(&mut self, n: u64, random: &mut RandomPool) -> u64 {
        scale(*self.0.get_or_insert_with(|| random.next_u64()), n)
    }
}

impl AdaptiveState {
    /// The state at the beginning of the first period.
    pub fn new(now_ns: u64) -> Self {
        Self { period_start_ns: now_ns, first_period: true, seen: 0, seen_last: 0, sampled_count: 0 }
    }

    /// Ends the periods that are over.
    ///
    /// A clock set back by less than a period prolongs the current one; set back further, it starts a new one there,
    /// as the old one would not end for a long time.
    pub fn roll(&mut self, now_ns: u64) {
        let (start, seen_last) = match now_ns.checked_sub(self.period_start_ns) {
            Some(elapsed) if elapsed >= PERIOD_NS => {
                let periods = elapsed / PERIOD_NS;
                (self.period_start_ns + periods * PERIOD_NS, if periods == 1 { self.seen } else { 0 })
            }
            None if self.period_start_ns - now_ns > PERIOD_NS => (now_ns, self.seen),
            _ => return,
        };
        *self = Self { period_start_ns: start, first_period: false, seen: 0, seen_last, sampled_count: 0 };
    }

    /// Whether the next request is sampled.
    pub(super) fn says_yes(&self, target: u32, draw: &mut Draw, random: &mut RandomPool) -> bool {
        let (target, sampled) = (u64::from(target), self.sampled_count);
        if sampled < target {
            return self.first_period || self.seen_last == 0 || draw.below(self.seen_last, random) < target;
        }
        if self.first_period || sampled >= 2 * target {
            return false;
        }
        // No threshold reaches the target, which spares most requests the powers.
        let drawn = draw.below(self.seen, random);
        drawn < target && (drawn as f64) < back_off_threshold(target, sampled)
    }

    /// Counts a decided request.
    pub fn count(&mut self, sampled: bool) {
        self.seen = self.seen.saturating_add(1);
        self.sampled_count = self.sampled_count.saturating_add(u64::from(sampled));
    }

    /// The state as shared data holds it.
    pub fn to_bytes(self) -> Vec<u8> {
        let first_period = [u8::from(self.first_period)];
        let numbers = [self.period_start_ns, self.seen, self.seen_last, self.sampled_count].map(u64::to_be_bytes);
        shared::seal(VERSION, &[&first_period, numbers.as_flattened()])
    }

    /// Reads the state from shared data; `None` when it is damaged or of another version.
    pub fn from_bytes(value: &[u8]) -> Option<Self> {
        let (first_period, mut numbers) = shared::open(VERSION, value)?.split_first()?;
        let state = Self {
            first_period: *first_period != 0,
            period_start_ns: shared::take_u64(&mut numbers)?,
            seen: shared::take_u64(&mut numbers)?,
            seen_last: shared::take_u64(&mut numbers)?,
            sampled_count: shared::take_u64(&mut numbers)?,
        };
        numbers.is_empty().then_some(state)
    }
}

/// The limit of a draw in back-off, when `sampled` of a period's `target` traces are used up: it falls from
/// `target - sqrt(target)` at the target to 0 at twice the target.
pub fn back_off_threshold(target: u64, sampled: u64) -> f64 {
    // Both are small: targets end at 120, and the threshold is not asked for from twice the target on.
    let (target, sampled) = (target as f64, sampled as f64);
    power(target, target / sampled) - power(target, 0.5)
}

/// A number from 1 on to the power of one from 0 to 1, to 12 digits. `core` has no powers.
fn power(base: f64, exponent: f64) -> f64 {
    exp(ln(base) * exponent)
}

/// The natural logarithm: `x = 2^n * m` and `ln m = 2 artanh((m - 1) / (m + 1))`, whose series converges fast near 1.
fn ln(number: f64) -> f64 {
    let (mut mantissa, mut halvings) = (number, 0.0);
    while mantissa > 1.5 {
        mantissa /= 2.0;
        halvings += 1.0;
    }
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let series = (0..10).rev().fold(0.0, |sum, n| sum * z * z + 1.0 / f64::from(2 * n + 1));
    halvings * core::f64::consts::LN_2 + 2.0 * z * series
}

/// The exponential: `e^x = (e^(x / 2^8))^(2^8)`, and the series of the smaller power.
fn exp(number: f64) -> f64 {
    let part = number / 256.0;
    let series = (1..10).rev().fold(1.0, |sum, n| 1.0 + sum * part / f64::from(n));
    (0..8).fold(series, |power, _| power * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    /// A pool whose numbers make the draws `(value, range)` come true, one after the other.
    fn drawing(draws: &[(u64, u64)]) -> RandomPool {
        let mut random = RandomPool::new(0);
        for ((value, range), bytes) in draws.iter().zip(random.buffer_mut().chunks_exact_mut(8)) {
            let draw = u64::try_from((u128::from(*value) << 64).div_ceil(u128::from(*range))).unwrap();
            bytes.copy_from_slice(&draw.to_be_bytes());
        }
        random.refilled();
        random
    }

    fn decide(state: &mut AdaptiveState, target: u32, now_ns: u64, random: &mut RandomPool) -> bool {
        state.roll(now_ns);
        let sampled = state.says_yes(target, &mut Draw::default(), random);
        state.count(sampled);
        sampled
    }

    #[test]
    fn thresholds_match_the_table_to_four_decimals() {
        for (target, sampled, expected) in [
            (10, 10, 6.8377),
            (10, 11, 4.9490),
            (10, 12, 3.6506),
            (10, 13, 2.7157),
            (10, 14, 2.0172),
            (10, 15, 1.4793),
            (10, 16, 1.0547),
            (10, 17, 0.7124),
            (10, 18, 0.4315),
            (10, 19, 0.1975),
            (10, 20, 0.0),
            (1, 1, 0.0),
            (120, 120, 109.0455),
            (120, 180, 13.3744),
            (120, 240, 0.0),
        ] {
            let threshold = back_off_threshold(target, sampled);
            assert!((threshold - expected).abs() < 0.000_05, "target {target}, {sampled} sampled: {threshold}");
        }
    }

    #[test]
    fn powers_are_those_of_the_standard_library_to_ten_digits() {
        for base in [1.0, 2.0, 10.0, 119.0, 120.0, 1e6_f64] {
            for exponent in [0.0, 0.5, 10.0 / 19.0, 120.0 / 121.0, 1.0] {
                let expected = base.powf(exponent);
                assert!((power(base, exponent) - expected).abs() <= expected * 1e-10, "{base} to the {exponent}");
            }
        }
    }

    #[test]
    fn first_and_second_period_with_target_3_and_then_an_idle_one() {
        let mut state = AdaptiveState::new(0);
        let mut random = drawing(&[(2, 5), (4, 5), (3, 5)]);
        let first: Vec<_> = (0..5).map(|second| decide(&mut state, 3, second * SECOND_NS, &mut random)).collect();
        assert_eq!(first, [true, true, true, false, false]);
        let second: Vec<_> = (0..3).map(|_| decide(&mut state, 3, 61 * SECOND_NS, &mut random)).collect();
        assert_eq!((second, state.seen_last), (vec![true, false, false], 5));

        let mut no_more_draws = RandomPool::new(7);
        assert!(decide(&mut state, 3, 200 * SECOND_NS, &mut no_more_draws));
        assert_eq!((state.seen_last, state.period_start_ns), (0, 180 * SECOND_NS));
        assert_eq!(no_more_draws.next_u64(), RandomPool::new(7).next_u64(), "the yes needed no draw");
    }

    #[test]
    fn back_off_with_target_10() {
        let at = |sampled_count, seen| AdaptiveState {
            period_start_ns: 0,
            first_period: false,
            seen,
            seen_last: 500,
            sampled_count,
        };
        for (sampled_count, seen, draw, expected) in
            [(10, 40, 6, true), (10, 40, 7, false), (11, 41, 5, false), (11, 41, 4, true), (20, 41, 0, false)]
        {
            let mut state = at(sampled_count, seen);
            let sampled = decide(&mut state, 10, 1, &mut drawing(&[(draw, seen)]));
            assert_eq!(sampled, expected, "{sampled_count} sampled, draw {draw} of {seen}");
            assert_eq!(state.sampled_count, sampled_count + u64::from(expected));
        }
    }

    #[test]
    fn the_first_period_takes_exactly_the_first_requests() {
        for target in [1, 10, 120] {
            let mut state = AdaptiveState::new(5);
            let mut random = RandomPool::new(1);
            let sampled: Vec<_> = (0..1000).map(|at| decide(&mut state, target, 5 + at, &mut random)).collect();
            assert!(sampled.iter().enumerate().all(|(at, yes)| *yes == (at < target as usize)), "target {target}");
        }
    }

    #[test]
    fn no_period_ever_samples_more_than_twice_the_target() {
        for target in [1, 2, 10, 120] {
            let mut state = AdaptiveState::new(0);
            let mut random = RandomPool::new(u64::from(target));
            for period in 1..50 {
                let requests = if period % 2 == 0 { 10_000 } else { 10 };
                let sampled =
                    (0..requests).filter(|at| decide(&mut state, target, period * PERIOD_NS + at, &mut random)).count();
                assert!(sampled <= 2 * target as usize, "target {target}: {sampled}");
            }
        }
    }

    #[test]
    fn a_target_of_0_samples_nothing() {
        let mut state = AdaptiveState::new(0);
        let mut random = RandomPool::new(0);
        assert!(!(0..3).any(|period| decide(&mut state, 0, period * PERIOD_NS, &mut random)));
    }

    #[test]
    fn a_period_ends_at_its_last_nanosecond_and_starts_on_the_grid() {
        let counted = AdaptiveState { seen: 8, sampled_count: 3, ..AdaptiveState::new(1000) };
        for (now_ns, period_start_ns, seen_last) in [
            (1000 + PERIOD_NS, 1000 + PERIOD_NS, 8),
            (1000 + 2 * PERIOD_NS - 1, 1000 + PERIOD_NS, 8),
            (1000 + 2 * PERIOD_NS, 1000 + 2 * PERIOD_NS, 0),
            (u64::MAX, u64::MAX - (u64::MAX - 1000) % PERIOD_NS, 0),
        ] {
            let mut state = counted;
            state.roll(now_ns);
            let expected = AdaptiveState { period_start_ns, first_period: false, seen: 0, seen_last, sampled_count: 0 };
            assert_eq!(state, expected, "at {now_ns}");
        }
        let mut state = counted;
        state.roll(1000 + PERIOD_NS - 1);
        assert_eq!(state, counted);
    }

    #[test]
    fn a_clock_set_back_neither_restarts_a_period_at_once_nor_keeps_it_for_days() {
        let counted = AdaptiveState { seen: 8, sampled_count: 3, ..AdaptiveState::new(10 * PERIOD_NS) };
        let mut a_little = counted;
        a_little.roll(9 * PERIOD_NS);
        assert_eq!(a_little, counted);
        let mut a_lot = counted;
        a_lot.roll(PERIOD_NS);
        assert_eq!((a_lot.period_start_ns, a_lot.seen_last, a_lot.first_period), (PERIOD_NS, 8, false));
    }

    #[test]
    fn the_state_survives_shared_data_and_damage_is_noticed() {
        let state =
            AdaptiveState { period_start_ns: u64::MAX, first_period: true, seen: 1, seen_last: 2, sampled_count: 3 };
        let bytes = state.to_bytes();
        assert_eq!(AdaptiveState::from_bytes(&bytes), Some(state));
        let longer = shared::seal(VERSION, &[&bytes[1..bytes.len() - 4], &[0]]);
        let newer = shared::seal(VERSION + 1, &[&bytes[1..bytes.len() - 4]]);
        for damaged in [&bytes[1..], &bytes[..bytes.len() - 1], b"", b"something of another plugin", &longer, &newer] {
            assert_eq!(AdaptiveState::from_bytes(damaged), None, "{damaged:?}");
        }
    }
}
