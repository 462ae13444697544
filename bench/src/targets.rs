//! What the measurements shall say: the figures that a release must keep.

use serde::Serialize;

use crate::plan::Shape;
use crate::settings::MAIN;
use crate::summary::{Ratio, SoakSummary, Spread, StartSummary, Summary};

/// Growth of the memory between the second and the last quarter of a soak that is still called flat, in MiB. Before
/// the second quarter buffers grow to their size.
const SOAK_GROWTH_MAX_MIB: f64 = 2.0;

/// Which side of its bound a figure shall be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// At most the bound.
    AtMost,
    /// At least the bound.
    AtLeast,
}

/// One figure and its bound.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// What is measured.
    pub what: String,
    /// Which side of the bound the figure shall be on.
    pub side: Bound,
    /// The bound.
    pub bound: f64,
    /// What one would like to reach beyond it.
    pub goal: Option<f64>,
    /// Unit of bound and figure.
    pub unit: &'static str,
    /// What was measured; `None` when this run did not.
    pub measured: Option<Spread>,
    /// For a quotient of two costs, that of their medians.
    pub of_medians: Option<f64>,
}

impl Target {
    fn at_most(what: &str, bound: f64, unit: &'static str, measured: Option<Spread>) -> Self {
        Self { what: what.to_owned(), side: Bound::AtMost, bound, goal: None, unit, measured, of_medians: None }
    }

    fn at_least(what: &str, bound: f64, unit: &'static str, measured: Option<Spread>) -> Self {
        Self { side: Bound::AtLeast, ..Self::at_most(what, bound, unit, measured) }
    }

    fn ratio(what: &str, bound: f64, ratio: Option<Ratio>) -> Self {
        let of_medians = ratio.map(|ratio| ratio.of_medians);
        Self { of_medians, ..Self::at_most(what, bound, "×", ratio.map(|ratio| ratio.by_round)) }
    }

    fn with_goal(self, goal: f64) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// Whether the median is on its side of the bound; `None` when it was not measured.
    pub fn is_met(&self) -> Option<bool> {
        self.measured.map(|measured| match self.side {
            Bound::AtMost => measured.median <= self.bound,
            Bound::AtLeast => measured.median >= self.bound,
        })
    }
}

/// Every target, with what this run says to it.
pub fn judge(summaries: &[Summary], starts: &[StartSummary], soaks: &[SoakSummary]) -> Vec<Target> {
    let main = |id: &str| {
        let usual = |one: &&Summary| one.group == MAIN && one.shape == Shape::usual(one.shape.topology);
        summaries.iter().filter(usual).find(|one| one.variant == id)
    };
    let against = |id: &str, other: &str| main(id)?.against.get(other).copied();
    let start = |id: &str| starts.iter().find(|one| one.variant == id);
    let (sampled, unsampled, defaults) = ("filter-inbound-100", "filter-inbound-0", "filter-inbound-defaults");
    let mut targets = vec![
        Target::ratio("sampled, inbound: cost ÷ OpenTelemetry tracer", 0.6, against(sampled, "otel-100"))
            .with_goal(0.5),
        Target::ratio(
            "sampled, gateway: cost ÷ OpenTelemetry tracer with upstream spans",
            0.9,
            against("filter-gateway-100", "otel-100-upstream"),
        ),
        Target::ratio("not sampled, inbound: cost ÷ floor", 1.2, against(unsampled, "floor")),
        Target::ratio("not sampled, inbound: cost ÷ OpenTelemetry tracer at 0 %", 1.0, against(unsampled, "otel-0")),
        Target::at_least(
            "defaults, inbound: throughput ÷ Envoy alone",
            0.93,
            "×",
            main(defaults).map(|one| one.throughput_ratio),
        ),
        Target::at_most(
            "gzipped body of an exported span, inbound",
            90.0,
            "bytes",
            main(sampled).and_then(|one| one.bytes_per_record),
        ),
        Target::at_most(
            "gzipped body of an exported span, gateway",
            90.0,
            "bytes",
            main("filter-gateway-100").and_then(|one| one.bytes_per_record),
        ),
        Target::at_most("memory of a further worker", 2.0, "MiB", start(defaults).map(|one| one.further_mib)),
        Target::at_most(
            "memory of a further worker, after load",
            2.0,
            "MiB",
            start(defaults).map(|one| one.further_loaded_mib),
        ),
        Target::at_most("additional start-up", 120.0, "ms", start(defaults).map(|one| one.extra_ms)),
    ];
    targets.extend(soaks.iter().map(|soak| {
        let [_, second, _, last] = soak.quarters_mib;
        let what = format!("growth of memory over {:.1} million requests: {}", soak.requests as f64 / 1e6, soak.title);
        Target::at_most(&what, SOAK_GROWTH_MAX_MIB, "MiB", Spread::of([last - second]))
    }));
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_has_a_side_and_its_own_value_is_inside() {
        let of = |value| Spread::of([value]);
        for (target, met) in [
            (Target::at_most("a", 0.6, "×", of(0.6)), Some(true)),
            (Target::at_most("a", 0.6, "×", of(0.61)), Some(false)),
            (Target::at_least("a", 0.93, "×", of(0.93)), Some(true)),
            (Target::at_least("a", 0.93, "×", of(0.92)), Some(false)),
            (Target::at_least("a", 0.93, "×", None), None),
        ] {
            assert_eq!(target.is_met(), met, "{target:?}");
        }
    }

    #[test]
    fn memory_is_flat_when_it_does_not_grow_after_the_first_quarter() {
        let soak = |last| SoakSummary {
            variant: "a".to_owned(),
            title: "A".to_owned(),
            requests: 10_000_000,
            quarters_mib: [60.0, 90.0, 90.5, last],
            peak_mib: 95.0,
        };
        let met = |last| judge(&[], &[], &[soak(last)]).last().and_then(Target::is_met);
        assert_eq!((met(91.0), met(93.0)), (Some(true), Some(false)));
    }
}
