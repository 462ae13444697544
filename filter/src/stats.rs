//! Statistics: counted in the module without a host call, published on the next tick.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// At most this many statistics have names made of a peer's data; see [`Stats::observe`].
const NAMED_MAX: usize = 1024;
/// At most this many histogram values wait for the next tick; further ones are not recorded.
const HISTOGRAM_VALUES_MAX: usize = 4096;

macro_rules! counters {
    ($($(#[$meta:meta])* $variant:ident = $name:literal;)*) => {
        /// A counter with a fixed name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Counter {
            $($(#[$meta])* $variant,)*
        }

        impl Counter {
            /// Every counter, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Envoy's name of the statistic, below `wasmcustom.`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

counters! {
    /// `traceparent` was valid.
    W3cAccepted = "newrelic.Supportability/TraceContext/Accept/Success";
    /// W3C headers could not be accepted for another reason. There is none here; dashboards made for agents ask for it.
    W3cAcceptException = "newrelic.Supportability/TraceContext/Accept/Exception";
    /// `traceparent` was there, but invalid.
    TraceparentInvalid = "newrelic.Supportability/TraceContext/TraceParent/Parse/Exception";
    /// `tracestate` broke its grammar.
    TracestateInvalid = "newrelic.Supportability/TraceContext/TraceState/Parse/Exception";
    /// The trusted list member was there, but invalid.
    InvalidNrEntry = "newrelic.Supportability/TraceContext/TraceState/InvalidNrEntry";
    /// No trusted list member beside a valid `traceparent`.
    NoNrEntry = "newrelic.Supportability/TraceContext/TraceState/NoNrEntry";
    /// W3C headers written.
    W3cCreated = "newrelic.Supportability/TraceContext/Create/Success";
    /// W3C headers could not be written: the host refused.
    W3cCreateException = "newrelic.Supportability/TraceContext/Create/Exception";
    /// A `newrelic` header was accepted.
    PayloadAccepted = "newrelic.Supportability/DistributedTrace/AcceptPayload/Success";
    /// A `newrelic` header could not be accepted for another reason; as [`Counter::W3cAcceptException`].
    PayloadException = "newrelic.Supportability/DistributedTrace/AcceptPayload/Exception";
    /// A `newrelic` header could not be read.
    PayloadParseException = "newrelic.Supportability/DistributedTrace/AcceptPayload/ParseException";
    /// A `newrelic` header was empty or `null`.
    PayloadNull = "newrelic.Supportability/DistributedTrace/AcceptPayload/Ignored/Null";
    /// A second accept in one transaction.
    PayloadMultiple = "newrelic.Supportability/DistributedTrace/AcceptPayload/Ignored/Multiple";
    /// An accept after headers were written.
    PayloadCreateBeforeAccept = "newrelic.Supportability/DistributedTrace/AcceptPayload/Ignored/CreateBeforeAccept";
    /// A `newrelic` header of a newer major version.
    PayloadMajorVersion = "newrelic.Supportability/DistributedTrace/AcceptPayload/Ignored/MajorVersion";
    /// A `newrelic` header of an account outside the trusted group.
    PayloadUntrusted = "newrelic.Supportability/DistributedTrace/AcceptPayload/Ignored/UntrustedAccount";
    /// A `newrelic` header written.
    PayloadCreated = "newrelic.Supportability/DistributedTrace/CreatePayload/Success";
    /// A `newrelic` header could not be written: the host refused.
    PayloadCreateException = "newrelic.Supportability/DistributedTrace/CreatePayload/Exception";
    /// A sampler ran and said yes.
    DecisionsSampled = "newrelic.sampler.decisions.sampled";
    /// A sampler ran and said no.
    DecisionsNotSampled = "newrelic.sampler.decisions.not_sampled";
    /// A span was opened.
    SpansStarted = "newrelic.spans.started";
    /// Spans offered to a queue.
    SpansRecorded = "newrelic.spans.recorded";
    /// Spans accepted by a receiver.
    SpansExported = "newrelic.spans.exported";
    /// Spans that found no place among those of higher priority.
    SpansDroppedReservoir = "newrelic.spans.dropped.reservoir";
    /// Spans that found no place in a queue bounded in bytes.
    SpansDroppedQueueBytes = "newrelic.spans.dropped.queue_bytes";
    /// Spans that found no place in a queue bounded in spans.
    SpansDroppedQueueSize = "newrelic.spans.dropped.queue_size";
    /// Spans that a receiver refused for good.
    SpansDroppedRejected = "newrelic.spans.dropped.rejected";
    /// Spans too large for any request.
    SpansDroppedTooLarge = "newrelic.spans.dropped.too_large";
    /// Spans given up after the last retry.
    SpansDroppedRetriesExhausted = "newrelic.spans.dropped.retries_exhausted";
    /// Spans that could not be encoded. There are none: no encoder fails but for the size.
    SpansDroppedEncoding = "newrelic.spans.dropped.encoding";
    /// Spans still queued when the plugin went away.
    SpansDroppedShutdown = "newrelic.spans.dropped.shutdown";
    /// A transaction was opened.
    TransactionsStarted = "newrelic.transactions.started";
    /// Transactions offered to a queue.
    TransactionsRecorded = "newrelic.transactions.recorded";
    /// Transactions accepted by a receiver.
    TransactionsExported = "newrelic.transactions.exported";
    /// Transactions that found no place among those of higher priority.
    TransactionsDroppedReservoir = "newrelic.transactions.dropped.reservoir";
    /// Transactions that found no place in a queue bounded in bytes.
    TransactionsDroppedQueueBytes = "newrelic.transactions.dropped.queue_bytes";
    /// Transactions that a receiver refused for good.
    TransactionsDroppedRejected = "newrelic.transactions.dropped.rejected";
    /// Transactions too large for any request.
    TransactionsDroppedTooLarge = "newrelic.transactions.dropped.too_large";
    /// Transactions given up after the last retry.
    TransactionsDroppedRetriesExhausted = "newrelic.transactions.dropped.retries_exhausted";
    /// Transactions that could not be encoded. There are none: no encoder fails but for the size.
    TransactionsDroppedEncoding = "newrelic.transactions.dropped.encoding";
    /// Transactions still queued when the plugin went away.
    TransactionsDroppedShutdown = "newrelic.transactions.dropped.shutdown";
}

/// A gauge of the process: every worker adds and subtracts its own share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// Spans accepted, but neither exported nor dropped yet.
    QueueSpans,
    /// Transactions accepted, but neither exported nor dropped yet.
    QueueTransactions,
    /// Bytes of encoded records that wait or are in flight.
    QueueBytes,
}

impl Gauge {
    /// Every gauge, in declaration order.
    pub const ALL: &[Self] = &[Self::QueueSpans, Self::QueueTransactions, Self::QueueBytes];

    /// Envoy's name of the statistic, below `wasmcustom.`.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueSpans => "newrelic.queue.spans",
            Self::QueueTransactions => "newrelic.queue.transactions",
            Self::QueueBytes => "newrelic.queue.bytes",
        }
    }
}

/// The kind of a statistic with a computed name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Values, here always milliseconds.
    Histogram,
}

/// A statistic with a computed name, and what came since the last publication.
#[derive(Debug)]
struct Named {
    name: Box<str>,
    kind: Kind,
    /// The host's number of the metric, once defined.
    metric: Option<u32>,
    count: u64,
    values: Vec<u64>,
}

/// What to tell the host about one statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Add to a counter or a gauge.
    Add(i64),
    /// Record a histogram value.
    Record(u64),
}

/// The statistics of one plugin instance in one VM, since the last publication.
#[derive(Debug)]
pub struct Stats {
    counters: [u64; Counter::ALL.len()],
    gauges: [i64; Gauge::ALL.len()],
    /// Sorted by name. A vector, since a second kind of tree would be kilobytes of code for some dozen names.
    named: Vec<Named>,
    histogram_values: usize,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            counters: [0; Counter::ALL.len()],
            gauges: [0; Gauge::ALL.len()],
            named: Vec::new(),
            histogram_values: 0,
        }
    }
}

impl Stats {
    /// Adds one.
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `amount`.
    pub fn add(&mut self, counter: Counter, amount: u64) {
        if let Some(value) = self.counters.get_mut(counter as usize) {
            *value += amount;
        }
    }

    /// Adds to or subtracts from this worker's share of a gauge.
    pub fn change(&mut self, gauge: Gauge, by: i64) {
        if let Some(value) = self.gauges.get_mut(gauge as usize) {
            *value += by;
        }
    }

    /// Adds to a counter with a computed name. Beyond a bound on distinct names nothing is counted: whoever makes
    /// names of a peer's data bounds them first.
    pub fn add_named(&mut self, name: &str, amount: u64) {
        if let Some(named) = self.named(name, Kind::Counter) {
            named.count += amount;
        }
    }

    /// Records a histogram value, milliseconds, under a computed name; bounded as [`Stats::add_named`].
    pub fn observe(&mut self, name: &str, value_ms: u64) {
        if self.histogram_values >= HISTOGRAM_VALUES_MAX {
            return;
        }
        if let Some(named) = self.named(name, Kind::Histogram) {
            named.values.push(value_ms);
            self.histogram_values += 1;
        }
    }

    fn named(&mut self, name: &str, kind: Kind) -> Option<&mut Named> {
        let position = self.named.binary_search_by(|named| (*named.name).cmp(name)).or_else(|position| {
            if self.named.len() >= NAMED_MAX {
                return Err(());
            }
            self.named.insert(position, Named { name: name.into(), kind, metric: None, count: 0, values: Vec::new() });
            Ok(position)
        });
        self.named.get_mut(position.ok()?).filter(|named| named.kind == kind)
    }

    /// The increase of a counter since the last publication.
    pub fn pending(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).copied().unwrap_or(0)
    }

    /// The change of a gauge since the last publication.
    pub fn pending_gauge(&self, gauge: Gauge) -> i64 {
        self.gauges.get(gauge as usize).copied().unwrap_or(0)
    }

    /// The increase of a counter with a computed name since the last publication.
    pub fn pending_named(&self, name: &str) -> u64 {
        self.named.iter().find(|named| &*named.name == name).map_or(0, |named| named.count)
    }

    /// Values of histograms that wait.
    pub fn waiting_values(&self) -> usize {
        self.histogram_values
    }

    /// Takes the changes of the counters and gauges with fixed names; what `publish` refuses stays for the next time.
    pub fn take_fixed(&mut self, mut publish: impl FnMut(Fixed, i64) -> bool) {
        for (counter, value) in Counter::ALL.iter().zip(self.counters.iter_mut()) {
            let amount = i64::try_from(*value).unwrap_or(i64::MAX);
            if amount > 0 && publish(Fixed::Counter(*counter), amount) {
                *value = 0;
            }
        }
        for (gauge, value) in Gauge::ALL.iter().zip(self.gauges.iter_mut()) {
            if *value != 0 && publish(Fixed::Gauge(*gauge), *value) {
                *value = 0;
            }
        }
    }

    /// Takes the changes of the statistics with computed names. `define` asks the host for a metric's number;
    /// while it has none, the changes stay for the next time.
    pub fn take_named(
        &mut self,
        mut define: impl FnMut(&str, Kind) -> Option<u32>,
        mut publish: impl FnMut(u32, Update),
    ) {
        for named in &mut self.named {
            if named.count == 0 && named.values.is_empty() {
                continue;
            }
            if named.metric.is_none() {
                named.metric = define(&named.name, named.kind);
            }
            let Some(metric) = named.metric else { continue };
            let count = core::mem::take(&mut named.count);
            if count > 0 {
                publish(metric, Update::Add(i64::try_from(count).unwrap_or(i64::MAX)));
            }
            self.histogram_values = self.histogram_values.saturating_sub(named.values.len());
            for value in named.values.drain(..) {
                publish(metric, Update::Record(value));
            }
        }
    }
}

/// A statistic with a fixed name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// A counter.
    Counter(Counter),
    /// A gauge.
    Gauge(Gauge),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_handed_out_once_and_kept_until_they_are_taken() {
        let mut stats = Stats::default();
        stats.count(Counter::SpansStarted);
        stats.add(Counter::SpansStarted, 2);
        stats.change(Gauge::QueueSpans, -4);
        let mut seen = Vec::new();
        stats.take_fixed(|_, _| false);
        stats.take_fixed(|fixed, by| {
            seen.push((fixed, by));
            true
        });
        assert_eq!(seen, [(Fixed::Counter(Counter::SpansStarted), 3), (Fixed::Gauge(Gauge::QueueSpans), -4)]);
        stats.take_fixed(|_, _| panic!("nothing is left"));
    }

    #[test]
    fn a_named_statistic_waits_until_the_host_has_a_number_for_it() {
        let mut stats = Stats::default();
        stats.add_named("newrelic.export.requests.trace_api.2xx", 2);
        stats.observe("newrelic.export.latency_ms.trace_api", 17);
        stats.take_named(|_, _| None, |_, _| panic!("no number yet"));
        let mut seen = Vec::new();
        stats.take_named(
            |name, _| Some(u32::from(name.contains("latency"))),
            |metric, update| seen.push((metric, update)),
        );
        assert_eq!(seen, [(1, Update::Record(17)), (0, Update::Add(2))]);
    }

    #[test]
    fn names_and_histogram_values_are_bounded() {
        let mut stats = Stats::default();
        for number in 0..2 * NAMED_MAX {
            stats.add_named(&number.to_string(), 1);
        }
        assert_eq!(stats.named.len(), NAMED_MAX);
        let mut stats = Stats::default();
        for _ in 0..2 * HISTOGRAM_VALUES_MAX {
            stats.observe("newrelic.x", 1);
        }
        assert_eq!(stats.histogram_values, HISTOGRAM_VALUES_MAX);
    }
}
