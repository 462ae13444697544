//! What belongs to each of the host's contexts, by context id: a small table with open addressing.

use alloc::vec::Vec;

/// Places of the first table.
const PLACES_MIN: usize = 16;

/// Values by context id. The host bounds their number: it tells of each context's end.
///
/// An id's home is the upper bits of its product with an odd number (Knuth, The Art of Computer Programming, vol. 3,
/// 6.4), since ids are consecutive numbers: their lower bits alone would put all long-lived contexts side by side.
/// What finds its home taken goes to the next free place; at least half of the places are free.
#[derive(Debug)]
pub struct Contexts<T> {
    /// None at all, or a power of two.
    places: Vec<Option<(u32, T)>>,
    taken: usize,
}

impl<T> Default for Contexts<T> {
    fn default() -> Self {
        Self { places: Vec::new(), taken: 0 }
    }
}

impl<T> Contexts<T> {
    /// Adds a value, or puts it in the place of the one that the id has.
    pub fn insert(&mut self, id: u32, value: T) {
        if (self.taken + 1) * 2 > self.places.len() {
            self.grow();
        }
        let at = self.find(id);
        if let Some(place) = self.places.get_mut(at) {
            self.taken += usize::from(place.is_none());
            *place = Some((id, value));
        }
    }

    /// The value of an id.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let at = self.find(id);
        self.places.get_mut(at)?.as_mut().map(|(_, value)| value)
    }

    /// Takes the value of an id out.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        let mut hole = self.find(id);
        let (_, value) = self.places.get_mut(hole)?.take()?;
        self.taken -= 1;
        // What stands behind must stay reachable from its home without a gap.
        let mut at = self.next(hole);
        while let Some(Some((other, _))) = self.places.get(at) {
            if self.distance(self.home(*other), at) >= self.distance(hole, at) {
                let moved = self.places.get_mut(at).and_then(Option::take);
                if let Some(place) = self.places.get_mut(hole) {
                    *place = moved;
                }
                hole = at;
            }
            at = self.next(at);
        }
        Some(value)
    }

    /// Where the id is, or where it would go.
    fn find(&self, id: u32) -> usize {
        let mut at = self.home(id);
        while let Some(Some((other, _))) = self.places.get(at) {
            if *other == id {
                break;
            }
            at = self.next(at);
        }
        at
    }

    fn home(&self, id: u32) -> usize {
        const GOLDEN: u32 = 0x9e37_79b9;
        let bits = self.places.len().checked_ilog2().unwrap_or(0);
        (u64::from(id.wrapping_mul(GOLDEN)) << bits >> u32::BITS) as usize
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & self.places.len().wrapping_sub(1)
    }

    /// How many places further on `to` is.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.places.len().wrapping_sub(1)
    }

    fn grow(&mut self) {
        let places = (self.places.len() * 2).max(PLACES_MIN);
        let mut empty = Vec::with_capacity(places);
        empty.resize_with(places, || None);
        let old = core::mem::replace(&mut self.places, empty);
        for (id, value) in old.into_iter().flatten() {
            let at = self.find(id);
            if let Some(place) = self.places.get_mut(at) {
                *place = Some((id, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn an_empty_table_holds_nothing() {
        let mut contexts = Contexts::<u8>::default();
        assert_eq!(contexts.get_mut(1), None);
        assert_eq!(contexts.remove(1), None);
    }

    #[test]
    fn a_value_is_found_until_it_is_taken_out() {
        let mut contexts = Contexts::default();
        contexts.insert(7, "a");
        contexts.insert(7, "b");
        assert_eq!(contexts.get_mut(7), Some(&mut "b"));
        assert_eq!([contexts.remove(7), contexts.remove(7)], [Some("b"), None]);
        assert_eq!(contexts.get_mut(7), None);
    }

    #[test]
    fn the_table_does_not_grow_with_contexts_that_come_and_go() {
        let mut contexts = Contexts::default();
        for id in 0..100_000 {
            contexts.insert(id, id);
            if id >= 100 {
                assert_eq!(contexts.remove(id - 100), Some(id - 100));
            }
        }
        assert_eq!((contexts.taken, contexts.places.len()), (100, 256));
    }

    proptest! {
        #[test]
        fn does_what_a_map_of_the_standard_library_does(
            // Few ids, so that most of them meet others on the way.
            steps in prop::collection::vec((0_u8..3, prop_oneof![0_u32..40, any::<u32>()]), 0..300),
        ) {
            let (mut contexts, mut expected) = (Contexts::default(), HashMap::new());
            for (at, (step, id)) in steps.into_iter().enumerate() {
                match step {
                    0 => prop_assert_eq!(contexts.remove(id), expected.remove(&id)),
                    _ => {
                        contexts.insert(id, at);
                        expected.insert(id, at);
                    }
                }
                prop_assert_eq!(contexts.taken, expected.len());
            }
            for (id, value) in &mut expected {
                prop_assert_eq!(contexts.get_mut(*id), Some(value));
            }
        }
    }
}
