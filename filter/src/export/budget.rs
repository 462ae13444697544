//! How many records of one kind an exporter may take in a minute: one number for the whole process.
//!
//! Each worker has a reservoir of its own, as large as the whole budget for one flush interval, so that a burst on
//! one worker finds room. What the workers may send together is settled when a reservoir is emptied: the worker
//! claims as many records as it holds, and drops those of lowest priority that are not granted.
//!
//! The state is in the host's shared data, changed by compare-and-swap like an adaptive sampler's (see
//! [`crate::sampler`], also on who shares). A minute begins with the first claim after the one before has ended,
//! so no minute of the budget grants more than the limit; sixty seconds across its turn may hold up to two.

use alloc::vec::Vec;

use crate::sampler::shared::{self, SharedKey};

/// Length of the budget's period in nanoseconds.
pub const MINUTE_NS: u64 = 60_000_000_000;

/// Marks our budgets among the keys of shared data.
const PURPOSE: &[u8; 16] = b"newrelic-budget.";

/// Version of the bytes in shared data.
const VERSION: u8 = 1;

/// The place in shared data of one exporter's budget for one kind of record. `identity` is what distinguishes plugin
/// instances that shall not share it.
pub fn key(identity: &[u8], exporter: &str, records: &str, limit_per_minute: u32) -> SharedKey {
    SharedKey::new(PURPOSE, &[identity, exporter.as_bytes(), records.as_bytes(), &limit_per_minute.to_be_bytes()])
}

/// What a claim gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Records that may be sent, at most as many as wanted.
    pub granted: u32,
    /// What to store by compare-and-swap, with [`shared::CAS_OF_ABSENT`] when there was no value, before the records
    /// may be sent; `None` when nothing was granted, and nothing changes.
    pub state: Option<Vec<u8>>,
}

/// Claims records on the state as just read from shared data; `None` when there is none yet. A state that is damaged,
/// or of another version, starts again.
pub fn claim(stored: Option<&[u8]>, now_ns: u64, limit_per_minute: u32, wanted: u32) -> Grant {
    let mut spent = stored.and_then(Spent::from_bytes).unwrap_or_else(|| Spent::new(now_ns));
    let granted = spent.claim(now_ns, limit_per_minute, wanted);
    Grant { granted, state: (granted > 0).then(|| spent.to_bytes()) }
}

/// A budget of one worker, while the host refuses shared data. The limit then holds per worker.
#[derive(Debug, Default)]
pub struct LocalBudget {
    spent: Option<Spent>,
}

impl LocalBudget {
    /// Claims records; returns how many may be sent.
    pub fn claim(&mut self, now_ns: u64, limit_per_minute: u32, wanted: u32) -> u32 {
        self.spent.get_or_insert_with(|| Spent::new(now_ns)).claim(now_ns, limit_per_minute, wanted)
    }
}

/// How much of a minute's budget is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spent {
    minute_start_ns: u64,
    records: u64,
}

impl Spent {
    fn new(now_ns: u64) -> Self {
        Self { minute_start_ns: now_ns, records: 0 }
    }

    fn claim(&mut self, now_ns: u64, limit_per_minute: u32, wanted: u32) -> u32 {
        // A clock set back by more than a minute starts a new one too, which would else be long in coming.
        if now_ns.abs_diff(self.minute_start_ns) >= MINUTE_NS {
            *self = Self::new(now_ns);
        }
        let left = u64::from(limit_per_minute).saturating_sub(self.records);
        let granted = wanted.min(u32::try_from(left).unwrap_or(u32::MAX));
        self.records = self.records.saturating_add(u64::from(granted));
        granted
    }

    fn to_bytes(self) -> Vec<u8> {
        shared::seal(VERSION, &[&self.minute_start_ns.to_be_bytes(), &self.records.to_be_bytes()])
    }

    fn from_bytes(value: &[u8]) -> Option<Self> {
        let mut numbers = shared::open(VERSION, value)?;
        let spent = Self { minute_start_ns: shared::take_u64(&mut numbers)?, records: shared::take_u64(&mut numbers)? };
        numbers.is_empty().then_some(spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn a_minute_grants_its_limit_and_the_next_one_again() {
        let mut stored: Option<Vec<u8>> = None;
        for (second, wanted, granted) in [
            (100, 166, 166),
            (105, 1000, 1000),
            (110, 1000, 834),
            (115, 1, 0),
            (159, 1, 0),
            (160, 5000, 2000),
            (219, 1, 0),
            (1000, 7, 7),
            (1001, 0, 0),
        ] {
            let grant = claim(stored.as_deref(), second * SECOND_NS, 2000, wanted);
            assert_eq!(grant.granted, granted, "at {second} s");
            assert_eq!(grant.state.is_some(), granted > 0, "at {second} s");
            stored = grant.state.or(stored);
        }
    }

    #[test]
    fn what_cannot_be_read_starts_a_new_minute() {
        let stored = claim(None, 0, 10, 10).state.unwrap();
        assert_eq!(claim(Some(&stored), 0, 10, 10).granted, 0);
        let mut damaged = stored.clone();
        damaged[3] ^= 1;
        for other in [&damaged[..], &stored[1..], b""] {
            assert_eq!(claim(Some(other), 0, 10, 10).granted, 10, "{other:?}");
        }
    }

    #[test]
    fn a_clock_set_back_starts_a_new_minute_only_when_set_back_far() {
        let stored = claim(None, 600 * SECOND_NS, 10, 10).state.unwrap();
        assert_eq!(claim(Some(&stored), 590 * SECOND_NS, 10, 10).granted, 0);
        assert_eq!(claim(Some(&stored), 100 * SECOND_NS, 10, 10).granted, 10);
    }

    #[test]
    fn a_lowered_limit_grants_nothing_more() {
        let stored = claim(None, 0, 100, 80).state.unwrap();
        assert_eq!(claim(Some(&stored), 1, 50, 10).granted, 0);
    }

    #[test]
    fn a_worker_without_shared_data_keeps_the_limit_by_itself() {
        let mut budget = LocalBudget::default();
        let grants = [0, 1, 2, 60, 61].map(|second| budget.claim(second * SECOND_NS, 100, 70));
        assert_eq!(grants, [70, 30, 0, 70, 30]);
    }

    #[test]
    fn exporters_kinds_and_limits_have_budgets_of_their_own() {
        let keys = [
            key(b"1", "otlp", "spans", 2000),
            key(b"2", "otlp", "spans", 2000),
            key(b"1", "trace_api", "spans", 2000),
            key(b"1", "otlp", "transactions", 2000),
            key(b"1", "otlp", "spans", 1000),
        ];
        assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), keys.len());
    }
}
