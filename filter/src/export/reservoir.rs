//! A bounded buffer that keeps the records of highest priority, and no less than a share for every origin.
//!
//! New Relic's agents keep the records of a harvest period in a reservoir: when it is full, a record takes the place of
//! the one with the lowest priority, if its own is higher; of two with the same priority the older stays.
//!
//! # Who may push out whom
//!
//! A caller chooses the priority of what it sends, so by priority alone one caller could fill the whole reservoir.
//! Therefore a part of the places is reserved:
//!
//! - a quarter for traces that start here ([`Origin::Local`]);
//! - a quarter for callers ([`Origin::Caller`]), in equal parts for those that have sent something in this harvest
//!   period. At most [`CALLERS_MAX`] accounts are told apart; those that come later share the last part.
//!
//! The other half, and what is reserved but not used, goes to the highest priorities, whosever they are. When the
//! reservoir is full, an origin below its part always gets in, and the lowest priority among the origins above
//! theirs goes. Any other record gets in if it beats the lowest priority among those and among its own origin.
//!
//! A peer that makes up account numbers can take every part of the callers' quarter. Traces that start here keep
//! theirs nevertheless.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::newrelic::priority::Priority;
use crate::record::Origin;
use alloc::collections::BinaryHeap;
use core::cmp::{Ordering, Reverse};

/// At most this many groups of callers are told apart in one harvest period.
pub const CALLERS_MAX: usize = 16;

/// One place in so many is reserved for traces that start here, and as many for all callers.
const RESERVED_PART: usize = 4;

/// What became of an offered record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Whether the reservoir took the record.
    pub stored: bool,
    /// The length in bytes of the record that had to make room, if one had to.
    pub evicted: Option<usize>,
}

/// The records of one harvest period.
#[derive(Debug)]
pub struct Reservoir {
    capacity: usize,
    /// The first is that of traces that start here, the others are those of callers, in order of appearance.
    groups: Vec<Group>,
    len: usize,
    bytes: usize,
    events_seen: u64,
}

/// The records of one origin.
#[derive(Debug)]
struct Group {
    /// The first origin that came here; the last group also takes those that found no group of their own.
    origin: Origin,
    /// The next record to go is on top.
    heap: BinaryHeap<Entry>,
}

#[derive(Debug)]
struct Entry {
    rank: Rank,
    encoded: Box<[u8]>,
}

/// Lowest priority first, among equals the youngest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    priority: Priority,
    /// How many were offered before.
    age: Reverse<u64>,
}

impl Ord for Entry {
    /// The heap has its greatest element on top, which is the one to go.
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank.cmp(&self.rank)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Entry {}

/// What an offer finds.
enum Place {
    Free,
    /// In place of the lowest record of a group.
    Of(usize),
    None,
}

impl Reservoir {
    /// An empty reservoir for at most `capacity` records. Memory is taken as records come.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, groups: vec![Group::new(Origin::Local)], len: 0, bytes: 0, events_seen: 0 }
    }

    /// Offers an encoded record.
    pub fn offer(&mut self, priority: Priority, origin: Origin, encoded: Box<[u8]>) -> Offer {
        self.offer_with(priority, origin, || encoded)
    }

    /// Offers a record that is encoded only if it gets in.
    pub fn offer_with(&mut self, priority: Priority, origin: Origin, encode: impl FnOnce() -> Box<[u8]>) -> Offer {
        let group = self.group_of(origin);
        let rank = Rank { priority, age: Reverse(self.events_seen) };
        self.events_seen += 1;
        let evicted = match self.place(group, rank) {
            Place::None => {
                return Offer { stored: false, evicted: None };
            }
            Place::Free => None,
            Place::Of(victim) => self.evict(victim),
        };
        self.insert(group, Entry { rank, encoded: encode() });
        Offer { stored: true, evicted }
    }

    /// Whether a record would find no place now. It is then counted as seen.
    pub fn refuses(&mut self, priority: Priority, origin: Origin) -> bool {
        let refuses = self.would_refuse(priority, origin);
        self.events_seen += u64::from(refuses);
        refuses
    }

    /// Whether a record would find no place now.
    pub fn would_refuse(&self, priority: Priority, origin: Origin) -> bool {
        let rank = Rank { priority, age: Reverse(self.events_seen) };
        // With a caller that has no group yet everybody's part would be another.
        let group = self.groups.iter().position(|group| group.origin == origin);
        group.is_some_and(|group| matches!(self.place(group, rank), Place::None))
    }

    /// Takes all records, the highest priority first and the older first among equals, and starts a new period.
    pub fn harvest(&mut self) -> Vec<Box<[u8]>> {
        let groups = core::mem::replace(&mut self.groups, vec![Group::new(Origin::Local)]);
        (self.len, self.bytes, self.events_seen) = (0, 0, 0);
        let mut entries: Vec<Entry> = groups.into_iter().flat_map(|group| group.heap).collect();
        entries.sort_unstable();
        entries.into_iter().map(|entry| entry.encoded).collect()
    }

    /// Records offered since the last harvest.
    pub fn events_seen(&self) -> u64 {
        self.events_seen
    }

    /// Records held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no record is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most records that are held.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of the records held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn group_of(&mut self, origin: Origin) -> usize {
        if let Some(index) = self.groups.iter().position(|group| group.origin == origin) {
            return index;
        }
        // The first group is not a caller's.
        if self.groups.len() <= CALLERS_MAX {
            self.groups.push(Group::new(origin));
        }
        self.groups.len() - 1
    }

    fn place(&self, group: usize, rank: Rank) -> Place {
        if self.len < self.capacity {
            return Place::Free;
        }
        let below_part = self.groups.get(group).is_some_and(|own| own.heap.len() < self.part(own));
        let victim = self.lowest(|index, other| other.heap.len() > self.part(other) || (index == group && !below_part));
        match victim {
            Some((index, lowest)) if below_part || lowest < rank.priority => Place::Of(index),
            _ => Place::None,
        }
    }

    /// How many places are reserved for a group.
    fn part(&self, group: &Group) -> usize {
        let reserved = self.capacity / RESERVED_PART;
        match group.origin {
            Origin::Local => reserved,
            Origin::Caller(_) => reserved.checked_div(self.groups.len() - 1).unwrap_or(0),
        }
    }

    /// The lowest record among groups, and its group.
    fn lowest(&self, eligible: impl Fn(usize, &Group) -> bool) -> Option<(usize, Priority)> {
        let groups = self.groups.iter().enumerate().filter(|(index, group)| eligible(*index, group));
        let tops = groups.filter_map(|(index, group)| Some((index, group.heap.peek()?.rank)));
        tops.min_by_key(|(_, rank)| *rank).map(|(index, rank)| (index, rank.priority))
    }

    fn evict(&mut self, group: usize) -> Option<usize> {
        let entry = self.groups.get_mut(group)?.heap.pop()?;
        let length = entry.encoded.len();
        self.len -= 1;
        self.bytes -= length;
        Some(length)
    }

    fn insert(&mut self, group: usize, entry: Entry) {
        let Some(group) = self.groups.get_mut(group) else {
            return;
        };
        self.len += 1;
        self.bytes += entry.encoded.len();
        group.heap.push(entry);
    }
}

impl Group {
    fn new(origin: Origin) -> Self {
        Self { origin, heap: BinaryHeap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOCAL: Origin = Origin::Local;

    fn priority(text: &str) -> Priority {
        Priority::parse(text.as_bytes()).unwrap()
    }

    fn offer(reservoir: &mut Reservoir, rank: &str, origin: Origin) -> Offer {
        reservoir.offer(priority(rank), origin, rank.as_bytes().into())
    }

    fn harvest(reservoir: &mut Reservoir) -> Vec<String> {
        reservoir.harvest().into_iter().map(|encoded| String::from_utf8(encoded.into()).unwrap()).collect()
    }

    /// Fills a reservoir with what `origins` offer in turns, at these priorities, and counts what each keeps.
    fn compete(capacity: usize, offers: usize, origins: &[(Origin, &str)]) -> Vec<usize> {
        let mut reservoir = Reservoir::new(capacity);
        for _ in 0..offers {
            for (position, (origin, rank)) in origins.iter().enumerate() {
                reservoir.offer(priority(rank), *origin, [u8::try_from(position).unwrap()].into());
            }
        }
        let kept = reservoir.harvest();
        (0..origins.len())
            .map(|origin| kept.iter().filter(|encoded| usize::from(encoded[0]) == origin).count())
            .collect()
    }

    #[test]
    fn the_highest_priorities_are_kept_and_the_older_of_equals() {
        let mut reservoir = Reservoir::new(2);
        let stored = ["0.3", "0.9", "0.3", "1.5", "0.8"].map(|rank| offer(&mut reservoir, rank, LOCAL).stored);
        assert_eq!(stored, [true, true, false, true, false]);
        assert_eq!(reservoir.events_seen(), 5);
        assert_eq!(harvest(&mut reservoir), ["1.5", "0.9"]);
    }

    #[test]
    fn of_equal_records_the_youngest_goes_first() {
        let mut reservoir = Reservoir::new(3);
        for name in ["a", "b", "c"] {
            reservoir.offer(priority("0.5"), LOCAL, name.as_bytes().into());
        }
        reservoir.offer(priority("0.6"), LOCAL, b"d"[..].into());
        assert_eq!(harvest(&mut reservoir), ["d", "a", "b"]);
    }

    #[test]
    fn records_and_bytes_are_accounted_for() {
        let mut reservoir = Reservoir::new(2);
        assert_eq!(offer(&mut reservoir, "0.125", LOCAL), Offer { stored: true, evicted: None });
        assert_eq!(offer(&mut reservoir, "0.25", LOCAL), Offer { stored: true, evicted: None });
        assert_eq!((reservoir.len(), reservoir.bytes()), (2, 9));
        assert_eq!(offer(&mut reservoir, "0.5", LOCAL), Offer { stored: true, evicted: Some(5) });
        assert_eq!(offer(&mut reservoir, "0.0625", LOCAL), Offer { stored: false, evicted: None });
        assert_eq!((reservoir.len(), reservoir.bytes(), reservoir.events_seen()), (2, 7, 4));
        assert_eq!(harvest(&mut reservoir), ["0.5", "0.25"]);
        assert_eq!((reservoir.len(), reservoir.bytes(), reservoir.events_seen()), (0, 0, 0));
        assert!(reservoir.is_empty());
    }

    #[test]
    fn it_tells_in_advance_what_an_offer_would_find() {
        let mut reservoir = Reservoir::new(2);
        assert!(!reservoir.would_refuse(priority("0"), LOCAL), "there is room");
        offer(&mut reservoir, "0.5", LOCAL);
        offer(&mut reservoir, "0.7", LOCAL);
        for (rank, refuses) in [("0.4", true), ("0.5", true), ("0.6", false)] {
            assert_eq!(reservoir.would_refuse(priority(rank), LOCAL), refuses, "{rank}");
        }
        assert!(!reservoir.would_refuse(priority("0.4"), Origin::Caller(1)), "a new caller has a part of its own");
        assert_eq!(reservoir.events_seen(), 2);
        assert!(reservoir.refuses(priority("0.4"), LOCAL) && !reservoir.refuses(priority("0.6"), LOCAL));
        assert_eq!(reservoir.events_seen(), 3, "what is refused was seen");
    }

    #[test]
    fn a_record_that_is_refused_is_not_encoded() {
        let mut reservoir = Reservoir::new(1);
        offer(&mut reservoir, "2", LOCAL);
        let refused = reservoir.offer_with(priority("1"), LOCAL, || panic!("encoded for nothing"));
        assert!(!refused.stored);
    }

    #[test]
    fn a_reservoir_without_places_takes_nothing() {
        let mut reservoir = Reservoir::new(0);
        assert!(!offer(&mut reservoir, "3", LOCAL).stored);
        assert!(!offer(&mut reservoir, "3", Origin::Caller(1)).stored);
        assert_eq!((reservoir.events_seen(), reservoir.len()), (2, 0));
    }

    #[test]
    fn a_flood_of_high_priorities_leaves_every_origin_its_part() {
        let flood = (Origin::Caller(1), "999999");
        for (origins, kept) in [
            (vec![flood], vec![2000]),
            (vec![flood, (LOCAL, "2.5")], vec![1500, 500]),
            (vec![flood, (Origin::Caller(2), "2.5")], vec![1750, 250]),
            (vec![flood, (LOCAL, "0.1"), (Origin::Caller(2), "0.2")], vec![1250, 500, 250]),
            // Nobody's flood: the part of those that start here is no more than a part.
            (vec![(LOCAL, "3"), (Origin::Caller(2), "2")], vec![1500, 500]),
        ] {
            assert_eq!(compete(2000, 10_000, &origins), kept, "{origins:?}");
        }
    }

    #[test]
    fn a_part_is_kept_also_for_those_who_come_late_and_holds_their_best() {
        let mut reservoir = Reservoir::new(100);
        for _ in 0..10_000 {
            offer(&mut reservoir, "999999", Origin::Caller(1));
        }
        for rank in 0..100_u64 {
            let encoded = Box::from(rank.to_string().as_bytes());
            reservoir.offer(Priority::from_micros(rank).unwrap(), LOCAL, encoded);
        }
        let kept = harvest(&mut reservoir);
        let local: Vec<_> = kept.iter().filter(|encoded| *encoded != "999999").map(String::as_str).collect();
        let best: Vec<_> = (75..100).rev().map(|rank| rank.to_string()).collect();
        assert_eq!(local, best);
    }

    #[test]
    fn what_an_origin_does_not_use_goes_to_the_others() {
        let mut reservoir = Reservoir::new(100);
        for _ in 0..3 {
            offer(&mut reservoir, "0.1", LOCAL);
        }
        for _ in 0..200 {
            offer(&mut reservoir, "2", Origin::Caller(7));
        }
        let kept = harvest(&mut reservoir);
        assert_eq!(kept.iter().filter(|rank| *rank == "0.1").count(), 3);
        assert_eq!(kept.len(), 100);
    }

    #[test]
    fn made_up_accounts_take_no_memory_and_not_the_part_of_traces_that_start_here() {
        let mut reservoir = Reservoir::new(100);
        for account in 0..10_000 {
            offer(&mut reservoir, "999999", Origin::Caller(account));
        }
        for _ in 0..100 {
            offer(&mut reservoir, "0.1", LOCAL);
        }
        assert_eq!(reservoir.groups.len(), 1 + CALLERS_MAX);
        assert_eq!(harvest(&mut reservoir).iter().filter(|rank| *rank == "0.1").count(), 25);
    }

    proptest! {
        #[test]
        fn one_origin_keeps_exactly_its_best(
            capacity in 0_usize..20,
            ranks in proptest::collection::vec(0_u64..10, 0..60),
        ) {
            let mut reservoir = Reservoir::new(capacity);
            for (position, rank) in ranks.iter().enumerate() {
                let encoded = Box::from([u8::try_from(position).unwrap()]);
                reservoir.offer(Priority::from_micros(*rank).unwrap(), Origin::Caller(5), encoded);
            }
            let mut best: Vec<_> = ranks.iter().enumerate().collect();
            best.sort_by_key(|(_, rank)| Reverse(**rank));
            let best: Vec<_> = best.into_iter().take(capacity).map(|(position, _)| position).collect();
            let kept: Vec<_> = reservoir.harvest().into_iter().map(|encoded| usize::from(encoded[0])).collect();
            prop_assert_eq!(kept, best);
        }

        #[test]
        fn every_origin_keeps_its_part_of_what_it_offered(
            capacity in 1_usize..60,
            offers in proptest::collection::vec((0_u32..6, 0_u64..100), 0..300),
        ) {
            let origin = |number| if number == 0 { LOCAL } else { Origin::Caller(number) };
            let mut reservoir = Reservoir::new(capacity);
            for (number, rank) in &offers {
                let encoded = Box::from([u8::try_from(*number).unwrap()]);
                reservoir.offer(Priority::from_micros(*rank).unwrap(), origin(*number), encoded);
                prop_assert!(reservoir.len() <= capacity);
            }
            prop_assert_eq!(reservoir.len(), offers.len().min(capacity));
            prop_assert_eq!(reservoir.bytes(), reservoir.len());
            let offered = |number| offers.iter().filter(|(other, _)| *other == number).count();
            let callers = (1..6).filter(|number| offered(*number) > 0).count();
            let kept = reservoir.harvest();
            for number in 0..6 {
                let part = if number == 0 { capacity / 4 } else { capacity / 4 / callers.max(1) };
                let held = kept.iter().filter(|encoded| u32::from(encoded[0]) == number).count();
                prop_assert!(held >= part.min(offered(number)), "{number}: {held} of {part}");
            }
        }
    }
}
