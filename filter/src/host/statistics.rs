//! The host's statistics: metrics are defined when the plugin is configured, so that every counter is visible from the
//! start, and changes are published on each tick.

use alloc::vec::Vec;

use super::abi::MetricType;
use super::calls;
use crate::stats::{Counter, Fixed, Gauge, Kind, Stats, Update};

/// The host's numbers for the statistics with fixed names.
#[derive(Debug)]
pub(super) struct Statistics {
    counters: Vec<Option<u32>>,
    gauges: Vec<Option<u32>>,
}

/// The gauge that says that a wrong configuration is passed over.
pub(super) const CONFIG_INVALID: &str = "newrelic.config_invalid";

impl Statistics {
    /// Defines all of them.
    pub(super) fn define() -> Self {
        Self {
            counters: Counter::ALL.iter().map(|counter| define_fixed(Fixed::Counter(*counter))).collect(),
            gauges: Gauge::ALL.iter().map(|gauge| define_fixed(Fixed::Gauge(*gauge))).collect(),
        }
    }

    /// Publishes what changed. What the host has no number for yet waits for the next time.
    pub(super) fn publish(&mut self, stats: &mut Stats) {
        calls::take_refusals(|name, count| stats.add_named(name, count));
        stats.take_fixed(|fixed, by| {
            let metric = match fixed {
                Fixed::Counter(counter) => self.counters.get_mut(counter as usize),
                Fixed::Gauge(gauge) => self.gauges.get_mut(gauge as usize),
            };
            let Some(metric) = metric else { return false };
            if metric.is_none() {
                *metric = define_fixed(fixed);
            }
            let Some(metric) = *metric else { return false };
            calls::increment_metric(metric, by);
            true
        });
        stats.take_named(define, publish);
    }
}

fn define_fixed(fixed: Fixed) -> Option<u32> {
    match fixed {
        Fixed::Counter(counter) => calls::define_metric(MetricType::Counter, counter.name()),
        Fixed::Gauge(gauge) => calls::define_metric(MetricType::Gauge, gauge.name()),
    }
}

/// The host's number for a metric with a computed name.
pub(super) fn define(name: &str, kind: Kind) -> Option<u32> {
    let metric_type = match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Histogram => MetricType::Histogram,
    };
    calls::define_metric(metric_type, name)
}

/// Passes one change on.
pub(super) fn publish(metric: u32, update: Update) {
    match update {
        Update::Add(by) => calls::increment_metric(metric, by),
        Update::Record(value) => calls::record_metric(metric, value),
    }
}

/// Says whether a wrong configuration is passed over.
pub(super) fn set_config_invalid(is_invalid: bool) {
    if let Some(metric) = calls::define_metric(MetricType::Gauge, CONFIG_INVALID) {
        calls::record_metric(metric, u64::from(is_invalid));
    }
}
