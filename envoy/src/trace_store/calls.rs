//! Who calls whom: the calls of a trace, and the map that many of them make.

use std::collections::BTreeMap;

use serde::Serialize;

use super::classify::Class;
use super::span::{Facts, Kind};
use super::summary::milliseconds;

/// What a node of the map is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// Whoever calls the first service of a trace. There is one such node.
    Caller,
    /// A service that records spans.
    Service,
    /// A datastore.
    Datastore,
    /// A host that records none.
    External,
}

impl NodeKind {
    /// The kind in text, as in the node's id.
    pub fn text(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Service => "service",
            Self::Datastore => "datastore",
            Self::External => "external",
        }
    }

    /// The kind with this text.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Caller, Self::Service, Self::Datastore, Self::External].into_iter().find(|kind| kind.text() == text)
    }
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The service that calls; `None` for a caller that records no spans.
    pub from: Option<Box<str>>,
    /// What it calls.
    pub to: Box<str>,
    /// What that is.
    pub kind: NodeKind,
    /// Start, nanoseconds since 1970.
    pub start_ns: u64,
    /// How long the caller waited, in nanoseconds; what the called service took when the caller's view is not there.
    pub duration_ns: u64,
    /// How long the called service took, in nanoseconds; what the caller waited when its view is not there.
    pub served_ns: u64,
    /// It failed for one of the two.
    pub is_error: bool,
}

/// The calls of a trace: each entry into a service, and each exit span that leads to no span of another service.
pub fn of(spans: &[Facts], classes: &[Class]) -> Vec<Call> {
    let mut entries_below = vec![0_usize; spans.len()];
    for class in classes.iter().filter(|class| class.boundary) {
        if let Some(parent) = class.parent {
            entries_below[parent] += 1;
        }
    }
    let mut calls = Vec::new();
    for (at, (span, class)) in std::iter::zip(spans, classes).enumerate() {
        if class.entry {
            let parent = class.parent.map(|parent| (&spans[parent], entries_below[parent]));
            calls.extend(entry(span, parent));
        }
        if class.exit && entries_below[at] == 0 {
            calls.extend(exit(span));
        }
    }
    calls
}

/// The call that entered a service. A parent that leads to several services waited for more than this call.
fn entry(span: &Facts, parent: Option<(&Facts, usize)>) -> Option<Call> {
    let call = Call {
        from: None,
        to: span.service.clone(),
        kind: NodeKind::Service,
        start_ns: span.start_ns,
        duration_ns: span.duration_ns,
        served_ns: span.duration_ns,
        is_error: span.is_error,
    };
    match parent {
        Some((parent, 1)) => Some(Call {
            from: Some(parent.service.clone()),
            duration_ns: parent.duration_ns,
            is_error: span.is_error || parent.is_error,
            ..call
        }),
        Some((parent, _)) => Some(Call { from: Some(parent.service.clone()), ..call }),
        // The first span of a job, or one that lost its parent inside of a service: nobody called it.
        None if matches!(span.kind, Kind::Client | Kind::Producer | Kind::Internal) => None,
        None => Some(call),
    }
}

/// The call to something that records no spans.
fn exit(span: &Facts) -> Option<Call> {
    let to = span.callee.clone()?;
    Some(Call {
        from: Some(span.service.clone()),
        to,
        kind: if span.has_db { NodeKind::Datastore } else { NodeKind::External },
        start_ns: span.start_ns,
        duration_ns: span.duration_ns,
        served_ns: span.duration_ns,
        is_error: span.is_error,
    })
}

/// How many calls there were, how many failed, and how long they took.
#[derive(Debug, Clone, Default)]
struct Tally {
    durations_ns: Vec<u64>,
    errors: usize,
}

impl Tally {
    fn add(&mut self, duration_ns: u64, is_error: bool) {
        self.durations_ns.push(duration_ns);
        self.errors += usize::from(is_error);
    }

    fn rates(mut self, minutes: f64) -> Rates {
        self.durations_ns.sort_unstable();
        let calls = self.durations_ns.len();
        let percentile = |percent: usize| {
            // The nearest rank: the smallest duration that so many percent of the calls did not exceed.
            let rank = (calls * percent).div_ceil(100).max(1);
            milliseconds(self.durations_ns.get(rank - 1).copied().unwrap_or_default())
        };
        Rates {
            errors: self.errors,
            per_minute: calls as f64 / minutes,
            p50_ms: percentile(50),
            p95_ms: percentile(95),
            calls,
        }
    }
}

/// What a map tells of a node or an edge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rates {
    #[serde(skip)]
    calls: usize,
    /// Calls that failed.
    pub errors: usize,
    /// Calls in a minute.
    pub per_minute: f64,
    /// Half of the calls took no longer.
    pub p50_ms: f64,
    /// 95 percent of the calls took no longer.
    pub p95_ms: f64,
}

/// A node of the map.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Kind and name.
    pub id: String,
    /// Name of the service, datastore or host.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// Calls to it.
    pub requests: usize,
    /// What they were like.
    #[serde(flatten)]
    pub rates: Rates,
}

/// An edge of the map.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Edge {
    /// Id of the node that calls.
    pub from: String,
    /// Id of the node that is called.
    pub to: String,
    /// Calls.
    pub calls: usize,
    /// What they were like.
    #[serde(flatten)]
    pub rates: Rates,
}

/// Who calls whom in a span of time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Map {
    /// The time's start, milliseconds since 1970.
    pub from_ms: f64,
    /// The time's end, milliseconds since 1970.
    pub to_ms: f64,
    /// Everything that calls or is called, by kind and name.
    pub nodes: Vec<Node>,
    /// Each pair of them that has calls.
    pub edges: Vec<Edge>,
}

type Name = (NodeKind, Box<str>);

/// Collects calls for a map.
#[derive(Debug, Default)]
pub struct MapBuilder {
    nodes: BTreeMap<Name, Tally>,
    edges: BTreeMap<Name, BTreeMap<Name, Tally>>,
    extent_ns: Option<(u64, u64)>,
}

impl MapBuilder {
    /// Adds one call.
    pub fn add(&mut self, call: &Call) {
        let (start, end) = self.extent_ns.unwrap_or((call.start_ns, call.start_ns));
        self.extent_ns = Some((start.min(call.start_ns), end.max(call.start_ns)));
        let from = match &call.from {
            Some(service) => (NodeKind::Service, service.clone()),
            None => (NodeKind::Caller, "caller".into()),
        };
        let to = (call.kind, call.to.clone());
        self.nodes.entry(to.clone()).or_default().add(call.served_ns, call.is_error);
        self.nodes.entry(from.clone()).or_default();
        self.edges.entry(from).or_default().entry(to).or_default().add(call.duration_ns, call.is_error);
    }

    /// The map. Without given ends the time is that of the calls; rates are taken over a minute at least, so that a
    /// few calls in a short while do not look like many.
    pub fn build(self, from_ms: Option<f64>, to_ms: Option<f64>) -> Map {
        let (start, end) = self.extent_ns.unwrap_or_default();
        let from_ms = from_ms.unwrap_or_else(|| milliseconds(start));
        let to_ms = to_ms.unwrap_or_else(|| milliseconds(end).max(from_ms));
        let minutes = ((to_ms - from_ms) / 60_000.0).max(1.0);
        let node = |(name, tally): (Name, Tally)| {
            let rates = tally.rates(minutes);
            Node { id: id(&name), name: name.1.into(), kind: name.0, requests: rates.calls, rates }
        };
        let edges = self.edges.into_iter().flat_map(|(from, to)| to.into_iter().map(move |to| (id(&from), to)));
        let edge = |(from, (to, tally)): (String, (Name, Tally))| {
            let rates = tally.rates(minutes);
            Edge { from, to: id(&to), calls: rates.calls, rates }
        };
        Map { from_ms, to_ms, nodes: self.nodes.into_iter().map(node).collect(), edges: edges.map(edge).collect() }
    }
}

fn id((kind, name): &Name) -> String {
    if *kind == NodeKind::Caller { kind.text().to_owned() } else { format!("{}:{name}", kind.text()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::trace_store::classify::classify;
    use crate::trace_store::classify::tests::facts;

    /// The edges of a trace: from, to, kind, and whether the call failed.
    fn edges(spans: &[Facts]) -> Vec<(String, String, NodeKind, bool)> {
        let from = |call: &Call| call.from.as_deref().unwrap_or("caller").to_owned();
        of(spans, &classify(spans))
            .iter()
            .map(|call| (from(call), call.to.to_string(), call.kind, call.is_error))
            .collect()
    }

    fn edge(from: &str, to: &str, kind: NodeKind, is_error: bool) -> (String, String, NodeKind, bool) {
        (from.to_owned(), to.to_owned(), kind, is_error)
    }

    #[test]
    fn calls_go_to_services_datastores_and_hosts_that_record_nothing() {
        let client = |url: &str| json!({ "span.kind": "client", "http.url": url });
        let spans = [
            facts("a", Some("c0ffee"), "shop", 0, json!({ "span.kind": "server", "http.statusCode": 200 })),
            facts("b", Some("a"), "shop", 1, client("http://cart:8080/x")),
            facts("c", Some("b"), "cart", 2, json!({ "span.kind": "server", "server.address": "cart" })),
            facts("d", Some("c"), "cart", 3, json!({ "db.system": "redis", "server.address": "cache" })),
            facts(
                "e",
                Some("c"),
                "cart",
                4,
                json!({ "span.kind": "client", "http.url": "https://bank.example/", "error.class": "UT" }),
            ),
            facts("f", Some("c"), "cart", 5, json!({})),
        ];
        let expected = [
            edge("caller", "shop", NodeKind::Service, false),
            edge("shop", "cart", NodeKind::Service, false),
            edge("cart", "redis cache", NodeKind::Datastore, false),
            edge("cart", "bank.example", NodeKind::External, true),
        ];
        assert_eq!(edges(&spans), expected);
    }

    #[test]
    fn nobody_calls_the_first_span_of_a_job() {
        for (kind, called) in [("server", 1), ("consumer", 1), ("", 1), ("client", 0), ("internal", 0), ("producer", 0)]
        {
            let spans = [facts("a", None, "job", 0, json!({ "span.kind": kind }))];
            assert_eq!(edges(&spans).len(), called, "{kind}");
        }
    }

    #[test]
    fn a_call_lasts_as_long_as_its_caller_waits_and_the_service_as_it_works() {
        let of_ms = |span: Facts, duration_ms: u64| Facts { duration_ns: duration_ms * 1_000_000, ..span };
        let call = |parent: &str, id: &str| facts(id, Some(parent), "cart", 2, json!({}));
        let spans = [
            of_ms(facts("a", None, "job", 0, json!({ "span.kind": "internal" })), 50),
            of_ms(call("a", "b"), 30),
            of_ms(call("a", "c"), 20),
        ];
        let durations = |spans: &[Facts]| -> Vec<(u64, u64)> {
            let calls = of(spans, &classify(spans));
            calls.iter().map(|call| (call.duration_ns / 1_000_000, call.served_ns / 1_000_000)).collect()
        };
        assert_eq!(durations(&spans[..2]), [(50, 30)]);
        assert_eq!(durations(&spans), [(30, 30), (20, 20)], "the parent waited for both");
    }

    #[test]
    fn a_map_counts_failures_rates_and_percentiles() {
        let mut map = MapBuilder::default();
        for number in 1..=20_u64 {
            map.add(&Call {
                from: Some("shop".into()),
                to: "cart".into(),
                kind: NodeKind::Service,
                start_ns: number * 9_000_000_000,
                duration_ns: number * 1_000_000,
                served_ns: number * 500_000,
                is_error: number > 17,
            });
        }
        let map = map.build(None, None);
        assert_eq!((map.from_ms, map.to_ms), (9_000.0, 180_000.0));
        let rates = |per_minute, p50_ms, p95_ms| Rates { calls: 20, errors: 3, per_minute, p50_ms, p95_ms };
        let per_minute = 20.0 / 2.85;
        let from_to = ("service:shop".to_owned(), "service:cart".to_owned());
        assert_eq!(
            map.edges,
            [Edge { from: from_to.0, to: from_to.1, calls: 20, rates: rates(per_minute, 10.0, 19.0) }]
        );
        let names: Vec<(&str, usize)> = map.nodes.iter().map(|node| (&*node.name, node.requests)).collect();
        assert_eq!(names, [("cart", 20), ("shop", 0)]);
        assert_eq!(map.nodes[0].rates, rates(per_minute, 5.0, 9.5));
    }

    #[test]
    fn a_few_calls_in_a_short_while_are_not_made_many() {
        let call = Call {
            from: None,
            to: "shop".into(),
            kind: NodeKind::Service,
            start_ns: 0,
            duration_ns: 1,
            served_ns: 1,
            is_error: false,
        };
        let mut map = MapBuilder::default();
        map.add(&call);
        let map = map.build(None, None);
        assert_eq!((map.edges[0].rates.per_minute, &*map.edges[0].from), (1.0, "caller"));
    }

    #[test]
    fn a_map_of_nothing_is_empty() {
        let map = MapBuilder::default().build(None, None);
        assert_eq!((map.nodes.len(), map.edges.len()), (0, 0));
    }
}
