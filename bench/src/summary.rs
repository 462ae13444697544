//! What the measurements say together.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bench::{Measurement, Raw, START_WORKERS};
use crate::measure::Start;
use crate::plan::Shape;
use crate::variant::{BARE, Variant};

/// Median, quartiles and extremes of some values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the values are at most this.
    pub median: f64,
    /// A quarter of the values is at most this.
    pub q1: f64,
    /// Three quarters of the values are at most this.
    pub q3: f64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// How many values there are.
    pub values: usize,
}

impl Spread {
    /// Of values in any order; `None` without any. Between two values a quantile is interpolated.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&sorted, 2)?,
            q1: quantile(&sorted, 1)?,
            q3: quantile(&sorted, 3)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
            values: sorted.len(),
        })
    }
}

/// So many quarters of the sorted values are at most the result.
fn quantile(sorted: &[f64], quarters: usize) -> Option<f64> {
    let steps = sorted.len().checked_sub(1)? * quarters;
    let (below, part) = (sorted.get(steps / 4)?, (steps % 4) as f64 / 4.0);
    let above = sorted.get(steps / 4 + 1).unwrap_or(below);
    Some(below + (above - below) * part)
}

/// The value at a time, on the line between the last one before it and the first one after it. With one neighbour
/// only it is that one's.
pub fn interpolate(points: &[(f64, f64)], at: f64) -> Option<f64> {
    let before = points.iter().filter(|(time, _)| *time <= at).max_by(|one, other| one.0.total_cmp(&other.0));
    let after = points.iter().filter(|(time, _)| *time > at).min_by(|one, other| one.0.total_cmp(&other.0));
    match (before, after) {
        (Some((time, value)), Some((later, then))) => Some(value + (then - value) * (at - time) / (later - time)),
        (Some((_, value)), None) | (None, Some((_, value))) => Some(*value),
        (None, None) => None,
    }
}

/// What a variant's measurements in one group and shape say together.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Id of the variant.
    pub variant: String,
    /// Name of the variant.
    pub title: String,
    /// Group of the measurements.
    pub group: String,
    /// Their shape.
    pub shape: Shape,
    /// Microseconds of processor time a request.
    pub cpu_us: Spread,
    /// The same over Envoy alone at that time.
    pub over_bare_us: Spread,
    /// Processor time, divided by that of Envoy alone.
    pub cpu_ratio: Spread,
    /// Requests a second.
    pub requests_per_second: Spread,
    /// Requests a second, divided by those of Envoy alone.
    pub throughput_ratio: Spread,
    /// Microseconds that half of the answers took at most.
    pub p50_us: Spread,
    /// The same for 99 % of them.
    pub p99_us: Spread,
    /// The same for 99.9 %.
    pub p999_us: Spread,
    /// The slowest answer of a round, in microseconds.
    pub max_us: Spread,
    /// The most memory that was resident, in MiB.
    pub rss_peak_mib: Spread,
    /// Resident memory at the end, in MiB.
    pub rss_end_mib: Spread,
    /// Bytes of one exported record, when there were any.
    pub bytes_per_record: Option<Spread>,
    /// Exported records a request.
    pub records_per_request: Option<Spread>,
    /// Cost over Envoy alone divided by that of another variant, by its id.
    pub against: BTreeMap<String, Ratio>,
    /// Measurements that other programs disturbed.
    pub disturbed: usize,
}

/// One cost divided by another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    /// The quotients of single rounds.
    pub by_round: Spread,
    /// The quotient of the medians of all rounds, which a small divisor disturbs less.
    pub of_medians: f64,
}

/// A measurement next to what Envoy alone took at that time.
struct Compared<'a> {
    measurement: &'a Measurement,
    bare_cpu_us: f64,
    bare_requests_per_second: f64,
}

impl Compared<'_> {
    fn over_bare_us(&self) -> f64 {
        self.measurement.reading.cpu_us - self.bare_cpu_us
    }
}

/// One for each variant, group and shape, in the order of the measurements' first round.
pub fn summarize(raw: &Raw, variants: &[Variant]) -> Vec<Summary> {
    let compared = compare(&raw.measurements);
    let mut keys: Vec<(&str, Shape, &str)> = Vec::new();
    for one in &raw.measurements {
        let key = (one.group.as_str(), one.shape, one.variant.as_str());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.into_iter().filter_map(|key| summary(key, &compared, variants)).collect()
}

/// The sound measurements, each with its neighbours of Envoy alone in the same round, group and shape.
fn compare(measurements: &[Measurement]) -> Vec<Compared<'_>> {
    let sound = || measurements.iter().filter(|one| one.is_sound());
    let alike = |one: &Measurement, other: &Measurement| {
        (one.round, &one.group, one.shape) == (other.round, &other.group, other.shape)
    };
    let compared = sound().filter_map(|one| {
        let bare = || sound().filter(move |other| other.variant == BARE && alike(one, other));
        let cpu: Vec<(f64, f64)> = bare().map(|other| (other.at_s, other.reading.cpu_us)).collect();
        let throughput: Vec<(f64, f64)> = bare().map(|other| (other.at_s, other.reading.requests_per_second)).collect();
        Some(Compared {
            measurement: one,
            bare_cpu_us: interpolate(&cpu, one.at_s)?,
            bare_requests_per_second: interpolate(&throughput, one.at_s)?,
        })
    });
    compared.collect()
}

fn summary(
    (group, shape, id): (&str, Shape, &str),
    compared: &[Compared<'_>],
    variants: &[Variant],
) -> Option<Summary> {
    let of = |id: &str| -> Vec<&Compared<'_>> {
        let fits = |one: &&Compared<'_>| {
            let measurement = one.measurement;
            (measurement.group.as_str(), measurement.shape, measurement.variant.as_str()) == (group, shape, id)
        };
        compared.iter().filter(fits).collect()
    };
    let mine = of(id);
    let spread = |value: &dyn Fn(&Compared<'_>) -> f64| Spread::of(mine.iter().map(|one| value(one)));
    let some = |value: &dyn Fn(&Compared<'_>) -> Option<f64>| Spread::of(mine.iter().filter_map(|one| value(one)));
    let variant = variants.iter().find(|variant| variant.id == id)?;
    let against = variant.against.iter().filter_map(|other| Some((other.clone(), ratio(&mine, &of(other))?)));
    Some(Summary {
        variant: id.to_owned(),
        title: variant.title.clone(),
        group: group.to_owned(),
        shape,
        cpu_us: spread(&|one| one.measurement.reading.cpu_us)?,
        over_bare_us: spread(&|one| one.over_bare_us())?,
        cpu_ratio: spread(&|one| one.measurement.reading.cpu_us / one.bare_cpu_us)?,
        requests_per_second: spread(&|one| one.measurement.reading.requests_per_second)?,
        throughput_ratio: spread(&|one| one.measurement.reading.requests_per_second / one.bare_requests_per_second)?,
        p50_us: spread(&|one| one.measurement.reading.p50_us as f64)?,
        p99_us: spread(&|one| one.measurement.reading.p99_us as f64)?,
        p999_us: spread(&|one| one.measurement.reading.p999_us as f64)?,
        max_us: spread(&|one| one.measurement.reading.max_us as f64)?,
        rss_peak_mib: spread(&|one| one.measurement.reading.rss_peak_kib as f64 / 1024.0)?,
        rss_end_mib: spread(&|one| one.measurement.reading.rss_end_kib as f64 / 1024.0)?,
        bytes_per_record: some(&|one| one.measurement.reading.delivery.as_ref()?.bytes_per_record()),
        records_per_request: some(&|one| {
            let delivery = one.measurement.reading.delivery.as_ref()?;
            Some(delivery.exported as f64 / delivery.requests.max(1) as f64)
        }),
        against: against.collect(),
        disturbed: mine.iter().filter(|one| one.measurement.is_disturbed()).count(),
    })
}

/// The cost of one variant divided by that of another.
fn ratio(mine: &[&Compared<'_>], others: &[&Compared<'_>]) -> Option<Ratio> {
    let in_round = |round| others.iter().find(|other| other.measurement.round == round);
    let by_round = Spread::of(mine.iter().filter_map(|one| {
        let other = in_round(one.measurement.round)?;
        Some(one.over_bare_us() / other.over_bare_us())
    }))?;
    let median = |some: &[&Compared<'_>]| Spread::of(some.iter().map(|one| one.over_bare_us()));
    Some(Ratio { by_round, of_medians: median(mine)?.median / median(others)?.median })
}

/// What starts say together.
#[derive(Debug, Clone, Serialize)]
pub struct StartSummary {
    /// Id of the variant.
    pub variant: String,
    /// Name of the variant.
    pub title: String,
    /// Until one worker is ready, in milliseconds.
    pub ready_ms: Spread,
    /// The same over Envoy alone, round by round.
    pub extra_ms: Spread,
    /// Memory over Envoy alone with one worker, without load, in MiB.
    pub first_mib: Spread,
    /// Memory over Envoy alone for each further worker, without load, in MiB.
    pub further_mib: Spread,
    /// The same after a little load.
    pub further_loaded_mib: Spread,
}

/// One for each variant that was started.
pub fn summarize_starts(raw: &Raw, variants: &[Variant]) -> Vec<StartSummary> {
    let started = variants.iter().filter(|variant| raw.starts.iter().any(|one| one.variant == variant.id));
    started.filter_map(|variant| start_summary(raw, variant)).collect()
}

fn start_summary(raw: &Raw, variant: &Variant) -> Option<StartSummary> {
    let rounds = raw.starts.iter().map(|one| one.round).max()? + 1;
    let find = |id: &str, round, workers| {
        let fits =
            |one: &&crate::bench::StartUp| (one.variant.as_str(), one.round, one.workers) == (id, round, workers);
        raw.starts.iter().find(fits).map(|one| &one.start)
    };
    let [one, .., most] = START_WORKERS;
    let over_bare = |round, workers, value: fn(&Start) -> f64| {
        Some(value(find(&variant.id, round, workers)?) - value(find(BARE, round, workers)?))
    };
    let each = |value: &dyn Fn(u32) -> Option<f64>| Spread::of((0..rounds).filter_map(value));
    let further = |value: fn(&Start) -> f64| {
        each(&|round| Some((over_bare(round, most, value)? - over_bare(round, one, value)?) / f64::from(most - one)))
    };
    let idle = |start: &Start| start.rss_kib as f64 / 1024.0;
    let loaded = |start: &Start| start.rss_loaded_kib as f64 / 1024.0;
    Some(StartSummary {
        variant: variant.id.clone(),
        title: variant.title.clone(),
        ready_ms: each(&|round| Some(find(&variant.id, round, one)?.ready_ms))?,
        extra_ms: each(&|round| over_bare(round, one, |start| start.ready_ms))?,
        first_mib: each(&|round| over_bare(round, one, idle))?,
        further_mib: further(idle)?,
        further_loaded_mib: further(loaded)?,
    })
}

/// What a soak says.
#[derive(Debug, Clone, Serialize)]
pub struct SoakSummary {
    /// Id of the variant.
    pub variant: String,
    /// Name of the variant.
    pub title: String,
    /// Requests in all.
    pub requests: u64,
    /// Mean resident memory of each quarter of the time, in MiB.
    pub quarters_mib: [f64; 4],
    /// The most that was seen, in MiB.
    pub peak_mib: f64,
}

/// One for each soak.
pub fn summarize_soaks(raw: &Raw, variants: &[Variant]) -> Vec<SoakSummary> {
    let soaks = raw.soaks.iter().filter_map(|one| {
        let values: Vec<f64> = one.soak.rss_kib.iter().map(|kib| *kib as f64 / 1024.0).collect();
        Some(SoakSummary {
            variant: one.variant.clone(),
            title: variants.iter().find(|variant| variant.id == one.variant)?.title.clone(),
            requests: one.soak.requests,
            quarters_mib: quarters(&values)?,
            peak_mib: values.iter().copied().fold(0.0, f64::max),
        })
    });
    soaks.collect()
}

/// Means of the four quarters; `None` for less than four values.
fn quarters(values: &[f64]) -> Option<[f64; 4]> {
    let part = |quarter: usize| {
        let part = values.get(values.len() * quarter / 4..values.len() * (quarter + 1) / 4)?;
        (!part.is_empty()).then(|| part.iter().sum::<f64>() / part.len() as f64)
    };
    Some([part(0)?, part(1)?, part(2)?, part(3)?])
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers are chosen so that the results are exact")]
mod tests {
    use super::*;
    use crate::bench::{Soaked, StartUp};
    use crate::measure::{Reading, Soak};
    use crate::settings::{MAIN, Topology};

    #[test]
    fn quartiles_lie_between_values_when_they_must() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        let all = [spread.min, spread.q1, spread.median, spread.q3, spread.max];
        assert_eq!((all, spread.values), ([1.0, 1.75, 2.5, 3.25, 4.0], 4));
        let odd = Spread::of([5.0, 1.0, 3.0]).unwrap();
        assert_eq!([odd.q1, odd.median, odd.q3], [2.0, 3.0, 4.0]);
        let one = Spread::of([7.0]).unwrap();
        assert_eq!([one.min, one.q1, one.median, one.q3, one.max], [7.0; 5]);
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN, f64::INFINITY]), None);
    }

    #[test]
    fn a_value_between_two_points_lies_on_their_line() {
        let points = [(10.0, 30.0), (0.0, 20.0), (20.0, 50.0)];
        for (at, value) in
            [(0.0, 20.0), (5.0, 25.0), (10.0, 30.0), (15.0, 40.0), (20.0, 50.0), (-1.0, 20.0), (21.0, 50.0)]
        {
            assert_eq!(interpolate(&points, at), Some(value), "{at}");
        }
        assert_eq!(interpolate(&[], 1.0), None);
    }

    fn variants() -> Vec<Variant> {
        [(BARE, ""), ("native", ""), ("ours", "against = ['native']")]
            .map(|(id, keys)| Variant::parse(id, &format!("title = 'T'\ngroups = ['main']\n{keys}")).unwrap())
            .to_vec()
    }

    fn measurement(round: u32, variant: &str, at_s: f64, cpu_us: f64) -> Measurement {
        let reading = Reading {
            requests: 1000,
            cpu_us,
            requests_per_second: 1e6 / cpu_us,
            p50_us: 1,
            p99_us: 2,
            p999_us: 3,
            max_us: 4,
            rss_peak_kib: 1024,
            rss_end_kib: 512,
            delivery: None,
            others: 0.0,
            faults: Vec::new(),
        };
        let shape = Shape::usual(Topology::Proxied);
        Measurement { round, group: MAIN.to_owned(), variant: variant.to_owned(), shape, at_s, attempts: 1, reading }
    }

    /// Envoy alone becomes slower during each round.
    fn rounds() -> Raw {
        let round = |round: u32, begin: f64| {
            [(BARE, 0.0, 30.0), ("native", 1.0, 42.0), ("ours", 2.0, 39.0), (BARE, 4.0, 38.0)]
                .map(|(variant, at, cpu)| measurement(round, variant, begin + at, cpu))
        };
        Raw { measurements: [round(0, 0.0), round(1, 100.0)].concat(), ..Raw::default() }
    }

    fn of<'a>(summaries: &'a [Summary], id: &str) -> &'a Summary {
        summaries.iter().find(|one| one.variant == id).unwrap()
    }

    #[test]
    fn a_cost_is_over_what_envoy_alone_took_at_that_time() {
        let summaries = summarize(&rounds(), &variants());
        assert_eq!(of(&summaries, "native").over_bare_us.median, 10.0);
        assert_eq!(of(&summaries, "ours").over_bare_us.median, 5.0);
        let against = of(&summaries, "ours").against["native"];
        assert_eq!((against.by_round.median, against.of_medians), (0.5, 0.5));
        assert_eq!(of(&summaries, BARE).over_bare_us.max, 0.0);
        // In the middle between 1/30 and 1/38.
        let alone = 0.5 / 30.0 + 0.5 / 38.0;
        assert!((of(&summaries, "ours").throughput_ratio.median - 1.0 / 39.0 / alone).abs() < 1e-9);
    }

    #[test]
    fn a_measurement_with_a_fault_does_not_count() {
        let mut raw = rounds();
        let faulty = &mut raw.measurements[2];
        faulty.reading.cpu_us = 1000.0;
        faulty.reading.faults.push("3 failed".to_owned());
        let summaries = summarize(&raw, &variants());
        assert_eq!(of(&summaries, "ours").over_bare_us.values, 1);
        assert_eq!(of(&summaries, "ours").over_bare_us.median, 5.0);
        assert_eq!(raw.faults(), ["round 1, ours: 3 failed"]);
    }

    #[test]
    fn a_start_is_compared_with_envoy_alone_of_the_same_round_and_workers() {
        let start = |variant: &str, workers, ready_ms, mib: u64| StartUp {
            round: 0,
            variant: variant.to_owned(),
            workers,
            start: Start { ready_ms, rss_kib: mib * 1024, rss_loaded_kib: mib * 2048 },
        };
        let starts = vec![
            start(BARE, 1, 40.0, 60),
            start(BARE, 4, 41.0, 61),
            start("ours", 1, 130.0, 90),
            start("ours", 4, 135.0, 97),
        ];
        let starts = summarize_starts(&Raw { starts, ..Raw::default() }, &variants());
        let ours = starts.iter().find(|one| one.variant == "ours").unwrap();
        assert_eq!([ours.extra_ms.median, ours.first_mib.median], [90.0, 30.0]);
        assert_eq!([ours.further_mib.median, ours.further_loaded_mib.median], [2.0, 4.0]);
    }

    #[test]
    fn a_soak_is_told_in_quarters() {
        let rss_kib = [10, 20, 30, 30, 40, 40, 41, 43].map(|mib| mib * 1024).to_vec();
        let soaks = vec![Soaked {
            variant: "ours".to_owned(),
            soak: Soak { requests: 9, rss_kib, delivery: None, faults: Vec::new() },
        }];
        let soaks = summarize_soaks(&Raw { soaks, ..Raw::default() }, &variants());
        assert_eq!((soaks[0].quarters_mib, soaks[0].peak_mib), ([15.0, 30.0, 40.0, 42.0], 43.0));
        assert_eq!(quarters(&[1.0, 2.0, 3.0]), None);
    }
}
