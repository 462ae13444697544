//! Statistics by caller: `DurationByCaller`, `TransportDuration` and `ErrorsByCaller` (New Relic agents' names).
//!
//! Names are made of a peer's data, so they are bounded: a caller's account and application count only when they are
//! digits or `Unknown` of at most 20 characters, and 64 callers have names of their own in one Envoy process; the rest
//! share `Other`. Values wait in the module; the next tick asks the process-wide list for the names and publishes.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::newrelic::CallerType;
use crate::propagation::Caller;
use crate::stats::{Kind, Update};

/// Callers with statistics of their own, in one process and so in each worker.
pub const CALLERS_MAX: usize = 64;

/// Longer accounts and applications are `Unknown`.
const ID_BYTES_MAX: usize = 20;

/// Values that wait at most; the host layer publishes early from [`PUBLISH_AT`] on.
const VALUES_MAX: usize = 4096;

/// From so many waiting values on, publication shall not wait for the tick.
pub const PUBLISH_AT: usize = 1024;

/// The slot of all callers without a name of their own.
const OTHER: usize = 0;

/// How a request came (New Relic's `parent.transportType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
    /// Neither is known.
    Unknown,
}

impl Transport {
    /// By the scheme of the request.
    pub fn of_scheme(scheme: &[u8]) -> Self {
        match scheme {
            b"http" => Self::Http,
            b"https" => Self::Https,
            _ => Self::Unknown,
        }
    }

    /// The value of `parent.transportType`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::Unknown => "Unknown",
        }
    }
}

/// An account or application, or `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ShortId {
    text: [u8; ID_BYTES_MAX],
    length: u8,
}

impl ShortId {
    const UNKNOWN: &'static [u8] = b"Unknown";

    fn new(id: &[u8]) -> Self {
        let usable = id.len() <= ID_BYTES_MAX && !id.is_empty() && id.iter().all(u8::is_ascii_digit);
        let id = if usable { id } else { Self::UNKNOWN };
        let mut text = [0; ID_BYTES_MAX];
        text.iter_mut().zip(id).for_each(|(to, from)| *to = *from);
        Self { text, length: u8::try_from(id.len()).unwrap_or(0) }
    }

    fn as_str(&self) -> &str {
        self.text.get(..usize::from(self.length)).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("Unknown")
    }
}

/// What a caller is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    caller_type: CallerType,
    account: ShortId,
    app: ShortId,
    transport: Transport,
}

impl Key {
    fn new(caller: Option<&Caller<'_>>, transport: Transport) -> Self {
        let id = |id: Option<&[u8]>| ShortId::new(id.unwrap_or_default());
        Self {
            caller_type: caller.map_or(CallerType::Unknown, |caller| caller.caller_type),
            account: id(caller.map(|caller| &*caller.account_id)),
            app: id(caller.map(|caller| &*caller.app_id)),
            transport,
        }
    }

    fn name(&self) -> String {
        [self.caller_type.as_str(), self.account.as_str(), self.app.as_str(), self.transport.as_str()].join("/")
    }
}

/// What is told of one caller's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Duration,
    Transport,
    Error,
}

impl Measure {
    const ALL: [Self; 3] = [Self::Duration, Self::Transport, Self::Error];

    fn names(self, caller: &str) -> [String; 2] {
        let prefix = match self {
            Self::Duration => "newrelic.DurationByCaller/",
            Self::Transport => "newrelic.TransportDuration/",
            Self::Error => "newrelic.ErrorsByCaller/",
        };
        // Every transaction of a proxy is a web transaction.
        ["/all", "/allWeb"].map(|suffix| [prefix, caller, suffix].concat())
    }

    fn kind(self) -> Kind {
        match self {
            Self::Duration | Self::Transport => Kind::Histogram,
            Self::Error => Kind::Counter,
        }
    }
}

/// One caller and the host's numbers for its statistics, once they are defined.
#[derive(Debug)]
struct Slot {
    /// `None` for the callers without a name of their own.
    key: Option<Key>,
    /// Whether the process-wide list has the name; `None` until asked.
    is_listed: Option<bool>,
    metrics: [[Option<u32>; 2]; Measure::ALL.len()],
}

impl Slot {
    fn new(key: Option<Key>) -> Self {
        let is_listed = key.is_none().then_some(true);
        Self { key, is_listed, metrics: [[None; 2]; Measure::ALL.len()] }
    }
}

/// The caller of one request, as noted at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerSlot(u8);

/// The statistics by caller of one plugin instance in one VM.
#[derive(Debug)]
pub struct CallerMetrics {
    slots: Vec<Slot>,
    values: Vec<(CallerSlot, Measure, u64)>,
}

impl Default for CallerMetrics {
    fn default() -> Self {
        Self { slots: vec![Slot::new(None)], values: Vec::new() }
    }
}

impl CallerMetrics {
    /// Finds or makes the caller's slot.
    pub fn slot(&mut self, caller: Option<&Caller<'_>>, transport: Transport) -> CallerSlot {
        let key = Key::new(caller, transport);
        let found = self.slots.iter().position(|slot| slot.key == Some(key));
        let position = found.unwrap_or_else(|| {
            if self.slots.len() > CALLERS_MAX {
                return OTHER;
            }
            self.slots.push(Slot::new(Some(key)));
            self.slots.len() - 1
        });
        CallerSlot(u8::try_from(position).unwrap_or(0))
    }

    /// Notes a finished transaction; durations in nanoseconds.
    pub fn observe(&mut self, slot: CallerSlot, duration_ns: u64, transport_ns: Option<u64>, is_error: bool) {
        const MILLI: u64 = 1_000_000;
        self.push(slot, Measure::Duration, duration_ns / MILLI);
        if let Some(transport_ns) = transport_ns {
            self.push(slot, Measure::Transport, transport_ns / MILLI);
        }
        if is_error {
            self.push(slot, Measure::Error, 1);
        }
    }

    fn push(&mut self, slot: CallerSlot, measure: Measure, value: u64) {
        if self.values.len() < VALUES_MAX {
            self.values.push((slot, measure, value));
        }
    }

    /// How many values wait.
    pub fn waiting(&self) -> usize {
        self.values.len()
    }

    /// Hands everything out. `list` asks the process whether a name may have statistics of its own (see [`admit`]),
    /// `define` asks the host for a metric's number, `publish` passes a value on.
    pub fn publish(
        &mut self,
        list: &mut dyn FnMut(&str) -> bool,
        define: &mut dyn FnMut(&str, Kind) -> Option<u32>,
        publish: &mut dyn FnMut(u32, Update),
    ) {
        for (slot, measure, value) in core::mem::take(&mut self.values) {
            let position = self.listed(usize::from(slot.0), list);
            for metric in self.metrics(position, measure, define).into_iter().flatten() {
                publish(
                    metric,
                    match measure.kind() {
                        Kind::Counter => Update::Add(i64::try_from(value).unwrap_or(i64::MAX)),
                        Kind::Histogram => Update::Record(value),
                    },
                );
            }
        }
    }

    /// The position itself, or that of the others when the process has no room for the name.
    fn listed(&mut self, position: usize, list: &mut dyn FnMut(&str) -> bool) -> usize {
        let Some(slot) = self.slots.get_mut(position) else { return OTHER };
        let key = slot.key;
        let is_listed = slot.is_listed.get_or_insert_with(|| key.is_some_and(|key| list(&key.name())));
        if *is_listed { position } else { OTHER }
    }

    fn metrics(
        &mut self,
        position: usize,
        measure: Measure,
        define: &mut dyn FnMut(&str, Kind) -> Option<u32>,
    ) -> [Option<u32>; 2] {
        let Some(slot) = self.slots.get_mut(position) else { return [None; 2] };
        let caller = || slot.key.map_or_else(|| "Other".to_owned(), |key| key.name());
        let Some(metrics) = slot.metrics.get_mut(measure as usize) else { return [None; 2] };
        if metrics.iter().any(Option::is_none) {
            *metrics = measure.names(&caller()).map(|name| define(&name, measure.kind()));
        }
        *metrics
    }
}

/// Looks for a name in the process-wide list, whose bytes in shared data are each name followed by a line feed.
pub fn admit(list: &[u8], name: &str, names_max: usize) -> Admission {
    let mut count = 0;
    for listed in list.split(|byte| *byte == b'\n').filter(|listed| !listed.is_empty()) {
        if listed == name.as_bytes() {
            return Admission::Listed;
        }
        count += 1;
    }
    if count >= names_max {
        return Admission::Full;
    }
    Admission::Store([list, name.as_bytes(), b"\n"].concat())
}

/// What [`admit`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The name has a place.
    Listed,
    /// The name gets a place when these bytes are stored.
    Store(Vec<u8>),
    /// There is no place left.
    Full,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(account: &'static str, app: &'static str) -> Caller<'static> {
        Caller {
            caller_type: CallerType::App,
            account_id: account.as_bytes().into(),
            app_id: app.as_bytes().into(),
            transaction_id: None,
            trusted_parent_id: None,
            sampled: None,
            priority: None,
            timestamp_ms: 0,
        }
    }

    fn published(metrics: &mut CallerMetrics, list: &mut dyn FnMut(&str) -> bool) -> Vec<(String, Update)> {
        let mut names = Vec::new();
        let mut seen = Vec::new();
        metrics.publish(
            list,
            &mut |name, _| {
                names.push(name.to_owned());
                u32::try_from(names.len() - 1).ok()
            },
            &mut |metric, update| seen.push((metric, update)),
        );
        seen.into_iter().map(|(metric, update)| (names[metric as usize].clone(), update)).collect()
    }

    #[test]
    fn a_known_caller_has_new_relics_names() {
        let mut metrics = CallerMetrics::default();
        let slot = metrics.slot(Some(&caller("4002", "55")), Transport::Https);
        metrics.observe(slot, 42_000_000, Some(223_000_000), true);
        let expected = [
            ("newrelic.DurationByCaller/App/4002/55/HTTPS/all", Update::Record(42)),
            ("newrelic.DurationByCaller/App/4002/55/HTTPS/allWeb", Update::Record(42)),
            ("newrelic.TransportDuration/App/4002/55/HTTPS/all", Update::Record(223)),
            ("newrelic.TransportDuration/App/4002/55/HTTPS/allWeb", Update::Record(223)),
            ("newrelic.ErrorsByCaller/App/4002/55/HTTPS/all", Update::Add(1)),
            ("newrelic.ErrorsByCaller/App/4002/55/HTTPS/allWeb", Update::Add(1)),
        ]
        .map(|(name, update)| (name.to_owned(), update));
        assert_eq!(published(&mut metrics, &mut |_| true), expected);
    }

    #[test]
    fn odd_ids_and_no_data_are_unknown() {
        let mut metrics = CallerMetrics::default();
        let odd = metrics.slot(Some(&caller("a;b", "123456789012345678901")), Transport::Http);
        metrics.observe(odd, 0, None, false);
        let unknown = metrics.slot(None, Transport::Unknown);
        metrics.observe(unknown, 0, None, false);
        let names: Vec<_> = published(&mut metrics, &mut |_| true).into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"newrelic.DurationByCaller/App/Unknown/Unknown/HTTP/all".to_owned()), "{names:?}");
        assert!(
            names.contains(&"newrelic.DurationByCaller/Unknown/Unknown/Unknown/Unknown/all".to_owned()),
            "{names:?}"
        );
    }

    #[test]
    fn callers_beyond_the_bound_share_other() {
        let mut metrics = CallerMetrics::default();
        for app in 0..200 {
            let app: &'static str = Box::leak(app.to_string().into_boxed_str());
            let slot = metrics.slot(Some(&caller("1", app)), Transport::Http);
            metrics.observe(slot, 0, None, false);
        }
        // The process has room for two of this worker's callers.
        let mut room = 2;
        let seen = published(&mut metrics, &mut |_| {
            room -= 1;
            room >= 0
        });
        let own: std::collections::BTreeSet<_> =
            seen.iter().map(|(name, _)| name).filter(|name| !name.contains("/Other/")).collect();
        assert_eq!(own.len(), 4, "two callers, all and allWeb: {own:?}");
        assert_eq!(seen.len(), 400, "no value is lost");
    }

    #[test]
    fn the_list_of_the_process_has_a_bound() {
        let Admission::Store(list) = admit(b"", "a", 2) else { panic!("the list has room") };
        assert_eq!(admit(&list, "a", 2), Admission::Listed);
        let Admission::Store(list) = admit(&list, "b", 2) else { panic!("the list has room") };
        assert_eq!(admit(&list, "c", 2), Admission::Full);
        assert_eq!(list, b"a\nb\n");
    }
}
