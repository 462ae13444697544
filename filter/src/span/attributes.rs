//! The attributes of one record, as the operator's lists and the trace's granularity let them through.

use alloc::vec::Vec;

use crate::config::{AttributeFilter, NamePattern};
use crate::record::{Attribute, Class, Key, Name, SpanKind, Value};
use crate::sampler::Granularity;
use crate::sampler::granularity::{keeps_attribute, mark};

/// Room for the attributes of a usual record.
const USUAL_COUNT: usize = 40;

/// Attributes of a record in the making.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    list: Vec<Attribute<'a>>,
    filter: &'a AttributeFilter,
    granularity: Granularity,
    /// Whether neither of them leaves anything out, as usual.
    takes_all: bool,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(filter: &'a AttributeFilter, granularity: Granularity) -> Self {
        let is_unfiltered = filter.include.is_empty() && filter.exclude.is_empty();
        let takes_all = is_unfiltered && !matches!(granularity, Granularity::Partial(_));
        Self { list: Vec::with_capacity(USUAL_COUNT), filter, granularity, takes_all }
    }

    pub(super) fn as_slice(&self) -> &[Attribute<'a>] {
        &self.list
    }

    /// Adds the mark of a partial trace's span.
    pub(super) fn add_mark(&mut self, kind: SpanKind, duration_ns: u64) {
        if let Granularity::Partial(partial_type) = self.granularity {
            self.list.extend(mark(partial_type, kind, duration_ns));
        }
    }

    /// Adds an attribute with one of our names.
    pub(super) fn add(&mut self, key: &'static Key, value: Value<'a>) {
        self.push(Name::Known(key), value);
    }

    /// Adds a text that is there and not empty.
    pub(super) fn add_text(&mut self, key: &'static Key, text: Option<&'a [u8]>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.add(key, Value::Text(text));
        }
    }

    /// Adds a duration, given in nanoseconds, as seconds.
    pub(super) fn add_seconds(&mut self, key: &'static Key, duration_ns: Option<u64>) {
        if let Some(duration_ns) = duration_ns {
            self.add(key, Value::Float(seconds(duration_ns)));
        }
    }

    /// Adds an attribute that the operator named.
    pub(super) fn add_user(&mut self, name: &'a str, value: Value<'a>) {
        self.push(Name::User(name), value);
    }

    /// Adds an attribute.
    pub(super) fn push(&mut self, name: Name<'a>, value: Value<'a>) {
        if self.takes_all {
            return self.list.push(Attribute { name, value });
        }
        let passes = name.class() == Class::Intrinsic || is_recorded(self.filter, name.new_relic());
        let keeps = match self.granularity {
            Granularity::Partial(partial_type) => keeps_attribute(partial_type, name),
            Granularity::Full | Granularity::None => true,
        };
        if passes && keeps {
            self.list.push(Attribute { name, value });
        }
    }
}

/// Nanoseconds as seconds, to the microsecond that a double shows without noise.
pub(super) fn seconds(duration_ns: u64) -> f64 {
    // Below 2^53 microseconds (285 years) a double is exact.
    (duration_ns / 1_000) as f64 / 1e6
}

/// The operator's lists: exclude wins; an include list that is not empty names all that is recorded.
fn is_recorded(filter: &AttributeFilter, name: &str) -> bool {
    let matches = |patterns: &[NamePattern]| {
        patterns.iter().any(
            |pattern| {
                if pattern.prefix { name.starts_with(&*pattern.text) } else { name == &*pattern.text }
            },
        )
    };
    !matches(&filter.exclude) && (filter.include.is_empty() || matches(&filter.include))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::keys;

    fn pattern(text: &str) -> NamePattern {
        let prefix = text.ends_with('*');
        NamePattern { text: text.trim_end_matches('*').into(), prefix }
    }

    fn names(include: &[&str], exclude: &[&str]) -> Vec<&'static str> {
        let filter = AttributeFilter {
            include: include.iter().map(|text| pattern(text)).collect(),
            exclude: exclude.iter().map(|text| pattern(text)).collect(),
        };
        let mut attributes = Attributes::new(&filter, Granularity::Full);
        attributes.add(&keys::SPAN_KIND, Value::Text(b"server"));
        attributes.add(&keys::REQUEST_METHOD, Value::Text(b"GET"));
        attributes.add(&keys::REQUEST_URI, Value::Text(b"/"));
        attributes.add_user("tenant", Value::Text(b"a"));
        attributes
            .list
            .iter()
            .map(|attribute| match attribute.name {
                Name::Known(key) => key.new_relic,
                Name::User(_) => "tenant",
            })
            .collect()
    }

    #[test]
    fn the_operators_lists_spare_intrinsics() {
        assert_eq!(names(&[], &[]), ["span.kind", "request.method", "request.uri", "tenant"]);
        assert_eq!(names(&[], &["*"]), ["span.kind"]);
        assert_eq!(names(&["request.*"], &["request.uri"]), ["span.kind", "request.method"]);
        assert_eq!(names(&["tenant"], &[]), ["span.kind", "tenant"]);
    }

    #[test]
    fn durations_are_seconds_without_noise() {
        assert_eq!(seconds(223_000_000).to_string(), "0.223");
        assert_eq!(seconds(40_500_999).to_string(), "0.0405");
    }
}
