//! Pauses between the tries of one request: none before the first retry, then doubled from one to the next
//! (New Relic's telemetry SDK specification, `communication.md`).

use crate::config::Retry;

const MILLISECOND_NS: u64 = 1_000_000;
/// The share of a pause that chance may add, so that workers and proxies do not return all at once.
const JITTER_DIVISOR: u64 = 10;

/// Nanoseconds before the next try of a request that has been tried again `retries` times already. `chance` adds up
/// to a tenth.
pub fn pause_ns(retry: &Retry, retries: u32, chance: u32) -> u64 {
    let Some(doublings) = retries.checked_sub(1) else { return 0 };
    let factor = u64::from(retry.factor_ms);
    let pause_ms = factor.saturating_mul(1_u64.checked_shl(doublings).unwrap_or(u64::MAX)).min(u64::from(retry.max_ms));
    let pause = pause_ms * MILLISECOND_NS;
    // The pause is below 2^53 ns and its tenth is scaled by 32 bits, so the product needs more than 64.
    let jitter = (u128::from(pause / JITTER_DIVISOR) * u128::from(chance)) >> 32;
    pause + u64::try_from(jitter).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(factor_ms: u32, max_ms: u32, retries: u32) -> Vec<u64> {
        let retry = Retry { factor_ms, max_ms, attempts: retries };
        (0..retries).map(|retry_number| pause_ns(&retry, retry_number, 0) / 1_000_000_000).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!(seconds(1000, 16_000, 7), [0, 1, 2, 4, 8, 16, 16]);
        assert_eq!(seconds(5000, 80_000, 8), [0, 5, 10, 20, 40, 80, 80, 80]);
    }

    proptest! {
        #[test]
        fn chance_adds_at_most_a_tenth(factor_ms: u32, max_ms: u32, retries: u32, chance: u32) {
            let retry = Retry { factor_ms, max_ms, attempts: u32::MAX };
            let least = pause_ns(&retry, retries, 0);
            let pause = pause_ns(&retry, retries, chance);
            prop_assert!((least..=least + least / 10).contains(&pause));
            prop_assert!(least <= u64::from(max_ms) * MILLISECOND_NS);
        }
    }
}
