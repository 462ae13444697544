//! Shows traces as they arrive, for a demo that stays up.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::Result;

use crate::receiver::{Receiver, SpanRecord, Store};

/// A trace that has not grown for this long is shown. Longer than the flush interval of the proxies.
const QUIET: Duration = Duration::from_secs(1);

/// Shows each trace once, when it has stopped growing. Traces that are there at the start are not shown.
///
/// # Errors
/// What `show` answers.
pub async fn new_traces(receiver: &Receiver, mut show: impl FnMut(&[SpanRecord]) -> Result<()>) -> Result<Infallible> {
    let mut follower = Follower::default();
    // Two looks make what is there now seem finished and given.
    for _ in 0..2 {
        receiver.read(|store| follower.look(store));
    }
    loop {
        tokio::time::sleep(QUIET).await;
        for spans in receiver.read(|store| follower.look(store)) {
            show(&spans)?;
        }
    }
}

/// What is remembered of a trace between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It had so many spans, and was not shown yet.
    Growing(usize),
    Shown,
}

#[derive(Debug, Default)]
struct Follower {
    traces: HashMap<String, Seen>,
}

impl Follower {
    /// The traces that have as many spans as at the last look and were not given yet.
    fn look(&mut self, store: &Store) -> Vec<Vec<SpanRecord>> {
        let mut sizes: HashMap<&str, usize> = HashMap::new();
        let mut in_order = Vec::new();
        for span in store.spans() {
            let size = sizes.entry(&span.trace_id).or_default();
            *size += 1;
            if *size == 1 {
                in_order.push(span.trace_id.as_str());
            }
        }
        // What the store has forgotten need not be remembered here.
        self.traces.retain(|trace_id, _| sizes.contains_key(trace_id.as_str()));
        in_order.retain(|trace_id| self.is_ripe(trace_id, sizes[trace_id]));
        in_order.into_iter().map(|trace_id| store.trace(trace_id).cloned().collect()).collect()
    }

    fn is_ripe(&mut self, trace_id: &str, spans: usize) -> bool {
        match self.traces.get(trace_id) {
            Some(Seen::Shown) => false,
            Some(Seen::Growing(before)) if *before == spans => {
                self.traces.insert(trace_id.to_owned(), Seen::Shown);
                true
            }
            _ => {
                self.traces.insert(trace_id.to_owned(), Seen::Growing(spans));
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
        let looks: Vec<bool> = [1, 3, 3, 3, 4].into_iter().map(|spans| follower.is_ripe("t", spans)).collect();
        assert_eq!(looks, [false, false, true, false, false]);
    }
}
