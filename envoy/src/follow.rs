//! Shows traces and trips as they arrive, for a demo that stays up.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::Result;

use crate::cat::scenario::ExpectedTrip;
use crate::receiver::{Receiver, SpanRecord, Store, Transaction};
use crate::scenario::Expected;

/// A trace that has not grown for this long is shown. Longer than the flush interval of the proxies.
const QUIET: Duration = Duration::from_secs(1);

/// A record that belongs together with others.
pub trait Followed: Clone + 'static {
    /// All that the receiver keeps.
    fn all(store: &Store) -> impl Iterator<Item = &Self>;

    /// What the records that belong together have in common; empty for one that belongs to none.
    fn group(&self) -> &str;

    /// A text attribute; empty when it has none of that name.
    fn text(&self, name: &str) -> &str;
}

/// Spans belong to a trace.
impl Followed for SpanRecord {
    fn all(store: &Store) -> impl Iterator<Item = &Self> {
        store.spans()
    }

    fn group(&self) -> &str {
        &self.trace_id
    }

    fn text(&self, name: &str) -> &str {
        self.text(name)
    }
}

/// Transactions belong to a trip of Cross Application Tracing.
impl Followed for Transaction {
    fn all(store: &Store) -> impl Iterator<Item = &Self> {
        store.transactions()
    }

    fn group(&self) -> &str {
        self.text(ExpectedTrip::TRANSACTION_KEY)
    }

    fn text(&self, name: &str) -> &str {
        self.text(name)
    }
}

/// Shows each trace or trip once, when it has stopped growing. Those that are there at the start are not shown.
///
/// # Errors
/// What `show` answers.
pub async fn follow<R: Followed>(receiver: &Receiver, mut show: impl FnMut(&[R]) -> Result<()>) -> Result<Infallible> {
    let mut follower = Follower::default();
    // Two looks make what is there now seem finished and given.
    for _ in 0..2 {
        receiver.read(|store| follower.look::<R>(store));
    }
    loop {
        tokio::time::sleep(QUIET).await;
        for records in receiver.read(|store| follower.look::<R>(store)) {
            show(&records)?;
        }
    }
}

/// What is remembered of a trace or trip between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It had so many records, and was not shown yet.
    Growing(usize),
    Shown,
}

#[derive(Debug, Default)]
struct Follower {
    groups: HashMap<String, Seen>,
}

impl Follower {
    /// The groups that have as many records as at the last look and were not given yet.
    fn look<R: Followed>(&mut self, store: &Store) -> Vec<Vec<R>> {
        let mut sizes: HashMap<&str, usize> = HashMap::new();
        let mut in_order = Vec::new();
        for group in R::all(store).map(R::group).filter(|group| !group.is_empty()) {
            let size = sizes.entry(group).or_default();
            *size += 1;
            if *size == 1 {
                in_order.push(group);
            }
        }
        // What the store has forgotten need not be remembered here.
        self.groups.retain(|group, _| sizes.contains_key(group.as_str()));
        in_order.retain(|group| self.is_ripe(group, sizes[group]));
        let records = |group| R::all(store).filter(|record| record.group() == group).cloned().collect();
        in_order.into_iter().map(records).collect()
    }

    fn is_ripe(&mut self, group: &str, size: usize) -> bool {
        match self.groups.get(group) {
            Some(Seen::Shown) => false,
            Some(Seen::Growing(before)) if *before == size => {
                self.groups.insert(group.to_owned(), Seen::Shown);
                true
            }
            _ => {
                self.groups.insert(group.to_owned(), Seen::Growing(size));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_given_once_and_only_when_it_has_stopped_growing() {
        let mut follower = Follower::default();
        let looks: Vec<bool> = [1, 3, 3, 3, 4].into_iter().map(|size| follower.is_ripe("t", size)).collect();
        assert_eq!(looks, [false, false, true, false, false]);
    }
}
