//! `trace_id_ratio_based`: the trace id alone decides, so every process with the same ratio agrees.
//!
//! OpenTelemetry's form (`TraceIdRatioBased`, as its Python SDK computes it): the low 64 bits of the trace id, as
//! an unsigned number, are below `round(ratio * 2^64)`.

use crate::id::TraceId;

/// 2^64, which a double holds exactly.
const TWO_TO_THE_64: f64 = 18_446_744_073_709_551_616.0;

/// The share of trace ids that is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatioSampler {
    /// 0 to 2^64.
    bound: u128,
}

impl RatioSampler {
    /// The sampler of a ratio; what is outside 0 to 1 counts as the nearer end, NaN as 0.
    pub fn new(ratio: f64) -> Self {
        // `clamp` leaves NaN alone, and the conversion makes 0 of it.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=2^64")]
        let bound = round(ratio.clamp(0.0, 1.0) * TWO_TO_THE_64) as u128;
        Self { bound }
    }

    /// The sampler of partial granularity behind one of full granularity: the same trace id has already failed the
    /// first test, so the second ratio goes on top of the first.
    pub fn behind(full: f64, partial: f64) -> Self {
        Self::new(full + partial)
    }

    /// Whether the trace is sampled.
    pub fn samples(self, trace_id: TraceId) -> bool {
        u128::from(trace_id.low64()) < self.bound
    }
}

/// Rounds for a conversion that cuts. Numbers from 2^52 on are whole.
fn round(number: f64) -> f64 {
    const TWO_TO_THE_52: f64 = 4_503_599_627_370_496.0;
    if number < TWO_TO_THE_52 { number + 0.5 } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::RandomPool;

    /// Reads an id as a `newrelic` header may spell it: any case, shorter than 32 digits.
    fn trace_id(text: &str) -> TraceId {
        u128::from_str_radix(text, 16).ok().and_then(TraceId::from_u128).unwrap()
    }

    #[test]
    fn the_bound_is_the_ratio_of_two_to_the_64() {
        for (ratio, bound) in [
            (0.1, 1_844_674_407_370_955_264),
            (0.25, 4_611_686_018_427_387_904),
            (0.5, 9_223_372_036_854_775_808),
            (1.0, 18_446_744_073_709_551_616),
            (0.0, 0),
            (1e-18, 18),
            (7.0, 18_446_744_073_709_551_616),
            (-1.0, 0),
            (f64::NAN, 0),
        ] {
            assert_eq!(RatioSampler::new(ratio).bound, bound, "{ratio}");
        }
        assert_eq!(RatioSampler::new(0.1).bound, 0x1999_9999_9999_9a00);
    }

    #[test]
    fn the_low_half_of_the_trace_id_decides() {
        const RATIOS: [f64; 5] = [0.1, 0.2, 0.5, 0.6, 1.0];
        for (id, expected) in [
            ("c0a8017e5d3b4f2226e1d47b08aa3f5c", [false, true, true, true, true]),
            ("0f1e2d3c4b5a69788796a5b4c3d2e1f0", [false, false, false, true, true]),
            ("4Ad91cE07b35F268", [false, false, true, true, true]),
            ("00000000000000008000000000000000", [false, false, false, true, true]),
            ("00000000000000007fffffffffffffff", [false, false, true, true, true]),
            ("ffffffffffffffff0000000000000000", [true, true, true, true, true]),
        ] {
            assert_eq!(RATIOS.map(|ratio| RatioSampler::new(ratio).samples(trace_id(id))), expected, "{id}");
        }
    }

    #[test]
    fn the_layered_ratio_is_the_sum_and_at_most_one() {
        assert_eq!(RatioSampler::behind(0.4, 0.25), RatioSampler::new(0.65));
        assert_eq!(RatioSampler::behind(0.7, 0.7), RatioSampler::new(1.0));
    }

    #[test]
    fn the_share_of_random_ids_is_the_ratio_within_three_standard_deviations() {
        const IDS: u32 = 100_000;
        for (seed, ratio) in [(1, 0.001), (2, 0.1), (3, 0.25), (4, 0.5), (5, 0.9)] {
            let mut random = RandomPool::new(seed);
            let sampler = RatioSampler::new(ratio);
            let sampled = (0..IDS).filter(|_| sampler.samples(random.trace_id())).count() as f64;
            let expected = f64::from(IDS) * ratio;
            let deviation = (expected * (1.0 - ratio)).sqrt();
            assert!((sampled - expected).abs() <= 3.0 * deviation, "{sampled} of {IDS} at {ratio}");
        }
    }
}
