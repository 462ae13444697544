//! Metrics: the values belong to the proxy, the ids to a VM.
//!
//! Source: Envoy `source/extensions/common/wasm/context.cc`, `defineMetric` and its neighbours.

use std::collections::BTreeMap;

use crate::abi::{MetricType, Status};

/// The values of all metrics, by type and name.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    numbers: BTreeMap<(MetricType, String), u64>,
    histograms: BTreeMap<String, Vec<u64>>,
}

impl Metrics {
    pub(crate) fn number(&self, kind: MetricType, name: &str) -> Option<u64> {
        self.numbers.get(&(kind, name.to_owned())).copied()
    }

    pub(crate) fn numbers(&self, kind: MetricType) -> BTreeMap<String, u64> {
        let of_kind = self.numbers.iter().filter(|((k, _), _)| *k == kind);
        of_kind.map(|((_, name), value)| (name.clone(), *value)).collect()
    }

    pub(crate) fn histogram(&self, name: &str) -> Option<Vec<u64>> {
        self.histograms.get(name).cloned()
    }

    pub(crate) fn define(&mut self, metric: &Metric) {
        match metric.kind {
            MetricType::Histogram => drop(self.histograms.entry(metric.name.clone()).or_default()),
            MetricType::Counter | MetricType::Gauge => {
                self.numbers.entry(metric.key()).or_insert(0);
            }
        }
    }

    /// # Errors
    /// `BadArgument` for a histogram, and for a counter that would not grow.
    pub(crate) fn increment(&mut self, metric: &Metric, offset: i64) -> Result<(), Status> {
        let grows = offset > 0;
        match metric.kind {
            MetricType::Counter if grows => {}
            MetricType::Gauge => {}
            MetricType::Counter | MetricType::Histogram => return Err(Status::BadArgument),
        }
        let value = self.numbers.entry(metric.key()).or_insert(0);
        *value = value.wrapping_add_signed(offset);
        Ok(())
    }

    /// A counter adds what is recorded, a gauge is set to it, a histogram collects it.
    pub(crate) fn record(&mut self, metric: &Metric, value: u64) {
        match metric.kind {
            MetricType::Counter => {
                let sum = self.numbers.entry(metric.key()).or_insert(0);
                *sum = sum.wrapping_add(value);
            }
            MetricType::Gauge => drop(self.numbers.insert(metric.key(), value)),
            MetricType::Histogram => self.histograms.entry(metric.name.clone()).or_default().push(value),
        }
    }

    /// # Errors
    /// `BadArgument` for a histogram.
    pub(crate) fn read(&self, metric: &Metric) -> Result<u64, Status> {
        match metric.kind {
            MetricType::Histogram => Err(Status::BadArgument),
            MetricType::Counter | MetricType::Gauge => Ok(self.numbers.get(&metric.key()).copied().unwrap_or(0)),
        }
    }
}

/// One definition of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metric {
    pub(crate) kind: MetricType,
    pub(crate) name: String,
}

impl Metric {
    fn key(&self) -> (MetricType, String) {
        (self.kind, self.name.clone())
    }
}

/// The metric ids of one VM: the type is in the lowest two bits, as in `proxy-wasm-cpp-host`.
///
/// Every definition gets a new id, also of a name defined before; both ids lead to one value.
#[derive(Debug, Default)]
pub(crate) struct MetricIds {
    defined: BTreeMap<u32, Metric>,
}

impl MetricIds {
    pub(crate) fn define(&mut self, metric: Metric) -> u32 {
        let of_kind = self.defined.values().filter(|m| m.kind == metric.kind).count();
        let number = u32::try_from(of_kind + 1).unwrap_or(u32::MAX >> 2);
        let id = (number << 2) | metric.kind as u32;
        self.defined.insert(id, metric);
        id
    }

    pub(crate) fn len(&self) -> usize {
        self.defined.len()
    }

    /// # Errors
    /// `NotFound` for an id never given, `BadArgument` for one whose type does not exist.
    pub(crate) fn find(&self, id: u32) -> Result<Metric, Status> {
        MetricType::from_number(id & 3).ok_or(Status::BadArgument)?;
        self.defined.get(&id).cloned().ok_or(Status::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(kind: MetricType) -> Metric {
        Metric { kind, name: "m".to_owned() }
    }

    #[test]
    fn a_counter_only_grows() {
        let mut metrics = Metrics::default();
        let counter = metric(MetricType::Counter);
        assert_eq!(metrics.increment(&counter, 2), Ok(()));
        for refused in [0, -1] {
            assert_eq!(metrics.increment(&counter, refused), Err(Status::BadArgument), "{refused}");
        }
        metrics.record(&counter, 3);
        assert_eq!(metrics.read(&counter), Ok(5));
    }

    #[test]
    fn a_gauge_moves_both_ways_and_is_set() {
        let mut metrics = Metrics::default();
        let gauge = metric(MetricType::Gauge);
        metrics.record(&gauge, 10);
        assert_eq!(metrics.increment(&gauge, -4), Ok(()));
        assert_eq!(metrics.read(&gauge), Ok(6));
    }

    #[test]
    fn a_histogram_only_records() {
        let mut metrics = Metrics::default();
        let histogram = metric(MetricType::Histogram);
        metrics.record(&histogram, 7);
        assert_eq!(metrics.increment(&histogram, 1), Err(Status::BadArgument));
        assert_eq!(metrics.read(&histogram), Err(Status::BadArgument));
        assert_eq!(metrics.histogram("m"), Some(vec![7]));
    }

    #[test]
    fn an_id_carries_its_type_and_an_unknown_id_is_not_found() {
        let mut ids = MetricIds::default();
        let (first, second) = (ids.define(metric(MetricType::Gauge)), ids.define(metric(MetricType::Gauge)));
        assert_eq!((first & 3, second & 3), (1, 1));
        assert_ne!(first, second);
        assert_eq!(ids.find(second).unwrap(), metric(MetricType::Gauge));
        assert_eq!(ids.find(400), Err(Status::NotFound));
        assert_eq!(ids.find(3), Err(Status::BadArgument));
    }
}
