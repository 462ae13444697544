//! A set of names that peers choose, which stops growing.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Names seen, at most so many. Statistics are never forgotten by a proxy, so the names must be bounded: in each
/// worker by this set, and in the process by a list that the workers share.
#[derive(Debug)]
pub struct BoundedNames {
    /// Sorted, each with the answer of the process's list.
    names: Vec<(Box<str>, bool)>,
    max: usize,
}

impl BoundedNames {
    /// An empty set for at most `max` distinct names.
    pub fn new(max: usize) -> Self {
        Self { names: Vec::new(), max }
    }

    /// Whether the name may be used. `list` asks the process, once for each name that finds room here.
    pub fn admit(&mut self, name: &str, list: impl FnOnce(&str) -> bool) -> bool {
        match self.names.binary_search_by(|(known, _)| (**known).cmp(name)) {
            Ok(place) => self.names.get(place).is_some_and(|(_, is_listed)| *is_listed),
            Err(_) if self.names.len() >= self.max => false,
            Err(place) => {
                let is_listed = list(name);
                self.names.insert(place, (name.into(), is_listed));
                is_listed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_set_still_knows_its_names_and_takes_no_other() {
        let mut names = BoundedNames::new(2);
        for (name, expected) in [("b", true), ("a", true), ("b", true), ("c", false), ("a", true), ("", false)] {
            assert_eq!(names.admit(name, |_| true), expected, "{name}");
        }
    }

    #[test]
    fn the_process_is_asked_once_for_each_name() {
        let mut names = BoundedNames::new(2);
        let mut asked = Vec::new();
        for name in ["a", "b", "a", "b", "c"] {
            let is_admitted = names.admit(name, |name| {
                asked.push(name.to_owned());
                name == "b"
            });
            assert_eq!(is_admitted, name == "b", "{name}");
        }
        assert_eq!(asked, ["a", "b"]);
    }
}
