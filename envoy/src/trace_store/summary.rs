//! What the spans of a session amount to.
//!
//! Source: "Technical distributed tracing details" in New Relic's documentation, section "How trace data is
//! structured", for the terms and the trace duration; "Understand and use the distributed tracing UI" for what is shown
//! of fragmented traces. There a trace also has a back-end duration, which is not explained; here it is the time from
//! the first start to the last end of the spans that no browser and no mobile app made.

use serde::{Deserialize, Serialize};

use super::calls::{self, Call};
use super::classify::{Class, Client, classify, tree_order};
use super::session::SessionId;
use super::span::Facts;

/// The span at the top of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Its id.
    pub span_id: String,
    /// Its name.
    pub name: String,
    /// The service it belongs to.
    pub service: String,
}

/// Sums over the spans of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// The span that starts first of those without a parent; when every span names one, of those whose parent is not
    /// there.
    pub root: Option<Root>,
    /// Start of the earliest span, milliseconds since 1970.
    pub start_ms: f64,
    /// From the start of the earliest span to the end of the latest one.
    pub duration_ms: f64,
    /// The same for the spans of services alone.
    pub backend_duration_ms: f64,
    /// Spans.
    pub spans: usize,
    /// First spans in a process.
    pub entry_spans: usize,
    /// Calls out of a process.
    pub exit_spans: usize,
    /// Spans that are neither.
    pub in_process_spans: usize,
    /// Client spans that call a datastore.
    pub datastore_spans: usize,
    /// The other client spans.
    pub external_spans: usize,
    /// Spans whose parent belongs to another entity.
    pub process_boundaries: usize,
    /// Spans that failed.
    pub errors: usize,
    /// The services, in the order of their first span's start; of those that start together the caller is first.
    pub services: Vec<String>,
    /// Spans that name a parent which is not there.
    pub orphans: usize,
    /// Every span names a parent.
    pub missing_root: bool,
}

/// Everything that is worked out from the spans of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// Start of the earliest span, nanoseconds since 1970.
    pub start_ns: u64,
    /// From there to the end of the latest span, in nanoseconds.
    pub duration_ns: u64,
    /// The sums.
    pub totals: Totals,
    /// Who calls whom.
    pub calls: Vec<Call>,
}

impl Derived {
    /// Works it out.
    pub fn of(spans: &[Facts]) -> Self {
        let classes = classify(spans);
        let order = tree_order(spans, &classes);
        let (start_ns, duration_ns) = extent(spans.iter());
        let (_, backend_ns) = extent(spans.iter().filter(|span| !span.is_front_end));
        let count = |holds: fn(&Class) -> bool| classes.iter().filter(|class| holds(class)).count();
        let totals = Totals {
            root: order.first().map(|top| root(&spans[*top])),
            start_ms: milliseconds(start_ns),
            duration_ms: milliseconds(duration_ns),
            backend_duration_ms: milliseconds(backend_ns),
            spans: spans.len(),
            entry_spans: count(|class| class.entry),
            exit_spans: count(|class| class.exit),
            in_process_spans: count(|class| !class.entry && !class.exit),
            datastore_spans: count(|class| class.client() == Some(Client::Datastore)),
            external_spans: count(|class| class.client() == Some(Client::External)),
            process_boundaries: count(|class| class.boundary),
            errors: spans.iter().filter(|span| span.is_error).count(),
            services: services(spans, order),
            orphans: count(|class| class.orphan),
            missing_root: !spans.iter().any(|span| span.parent_id.is_none()),
        };
        Self { start_ns, duration_ns, totals, calls: calls::of(spans, &classes) }
    }
}

/// Whether a trace may still get spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It may.
    Open,
    /// It was closed and written.
    Written,
}

/// A session as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The session.
    pub session: SessionId,
    /// The trace.
    pub trace_id: String,
    /// Whether it is still open.
    pub state: State,
    /// Sums over its spans.
    #[serde(flatten)]
    pub totals: Totals,
    /// An earlier session of the same trace had been closed.
    pub late: bool,
    /// When its first span came, milliseconds since 1970.
    pub first_seen_ms: u64,
    /// When its latest span came, milliseconds since 1970.
    pub last_seen_ms: u64,
    /// How long it stays open if no span comes, in milliseconds; only for an open one.
    pub closes_in_ms: Option<u64>,
}

/// Start and length of what some spans cover, in nanoseconds.
fn extent<'a>(spans: impl Iterator<Item = &'a Facts> + Clone) -> (u64, u64) {
    let start = spans.clone().map(|span| span.start_ns).min().unwrap_or_default();
    let end = spans.map(Facts::end_ns).max().unwrap_or(start);
    (start, end - start)
}

/// The first span of the tree as its root. A span below another one never is, even if clocks that differ let it start
/// earlier, unless the spans name each other in a circle.
fn root(top: &Facts) -> Root {
    let text = |text: &str| text.to_owned();
    Root { span_id: text(&top.id), name: text(&top.name), service: text(&top.service) }
}

/// `order` is the one of the tree: starts are often whole milliseconds, which several services share.
fn services(spans: &[Facts], mut order: Vec<usize>) -> Vec<String> {
    order.sort_by_key(|at| spans[*at].start_ns);
    let mut services: Vec<String> = Vec::new();
    for span in order.into_iter().map(|at| &spans[at]) {
        if !services.iter().any(|service| **service == *span.service) {
            services.push(span.service.to_string());
        }
    }
    services
}

/// Nanoseconds as milliseconds.
pub fn milliseconds(nanoseconds: u64) -> f64 {
    // In two parts, as a floating-point number cannot hold the nanoseconds since 1970.
    (nanoseconds / 1_000_000) as f64 + (nanoseconds % 1_000_000) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::trace_store::classify::tests::facts;

    fn totals(spans: &[Facts]) -> Totals {
        Derived::of(spans).totals
    }

    fn lasting(span: Facts, duration_ms: u64) -> Facts {
        Facts { duration_ns: duration_ms * 1_000_000, ..span }
    }

    fn root_of(totals: &Totals) -> &str {
        totals.root.as_ref().map_or("", |root| root.span_id.as_str())
    }

    #[test]
    fn every_count_has_its_spans() {
        let failed = |more: Value| {
            let mut attributes = json!({ "error.class": "503" });
            attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            attributes
        };
        let spans = [
            facts("a", None, "shop", 1_000, json!({})),
            facts("b", Some("a"), "shop", 1_001, json!({})),
            facts("c", Some("b"), "shop", 1_002, failed(json!({ "http.url": "http://cart/" }))),
            lasting(facts("d", Some("c"), "cart", 1_004, failed(json!({}))), 30),
            facts("e", Some("d"), "cart", 1_003, json!({ "db.system": "redis" })),
            facts("f", Some("gone"), "bank", 999, json!({})),
        ];
        let totals = totals(&spans);
        let counts = [
            totals.spans,
            totals.entry_spans,
            totals.exit_spans,
            totals.in_process_spans,
            totals.datastore_spans,
            totals.external_spans,
            totals.process_boundaries,
            totals.errors,
            totals.orphans,
        ];
        assert_eq!(counts, [6, 3, 2, 1, 1, 1, 1, 2, 1]);
        assert_eq!((totals.start_ms, totals.duration_ms), (999.0, 35.0));
        assert_eq!(totals.services, ["bank", "shop", "cart"]);
        assert_eq!((root_of(&totals), totals.missing_root), ("a", false));
    }

    #[test]
    fn a_trace_lasts_from_its_earliest_start_to_its_latest_end() {
        for (spans, start_ms, duration_ms) in [
            (&[(5, 10)][..], 5.0, 10.0),
            (&[(5, 10), (7, 1)], 5.0, 10.0),
            (&[(5, 10), (14, 10)], 5.0, 19.0),
            (&[(50, 1), (5, 1)], 5.0, 46.0),
            (&[(5, 0)], 5.0, 0.0),
        ] {
            let facts: Vec<Facts> = spans
                .iter()
                .enumerate()
                .map(|(at, (start, long))| lasting(facts(&at.to_string(), None, "shop", *start, json!({})), *long))
                .collect();
            let totals = totals(&facts);
            assert_eq!((totals.start_ms, totals.duration_ms), (start_ms, duration_ms), "{spans:?}");
        }
    }

    #[test]
    fn what_a_browser_or_an_app_measured_is_not_part_of_the_backend_duration() {
        for front_end in ["browserApp.name", "mobileApp.name"] {
            let spans = [
                lasting(facts("a", None, "page", 0, json!({ front_end: "shop" })), 100),
                lasting(facts("b", Some("a"), "shop", 20, json!({})), 30),
                lasting(facts("c", Some("b"), "cart", 40, json!({})), 20),
            ];
            let of_all = totals(&spans);
            assert_eq!((of_all.duration_ms, of_all.backend_duration_ms), (100.0, 40.0), "{front_end}");
            assert_eq!((totals(&spans[..1]).spans, totals(&spans[..1]).backend_duration_ms), (1, 0.0), "{front_end}");
        }
    }

    #[test]
    fn without_a_root_the_earliest_orphan_is_shown_in_its_place() {
        let spans = [
            facts("b", Some("a"), "shop", 2, json!({})),
            facts("c", Some("b"), "shop", 3, json!({})),
            facts("d", Some("x"), "shop", 1, json!({})),
        ];
        let totals = totals(&spans);
        assert_eq!((root_of(&totals), totals.missing_root, totals.orphans), ("d", true, 2));
    }

    #[test]
    fn only_a_span_without_its_parent_here_stands_for_the_root() {
        let called = facts("c", Some("b"), "cart", 5, json!({}));
        let caller = facts("b", Some("gone"), "shop", 5, json!({}));
        let skewed = facts("c", Some("b"), "cart", 4, json!({}));
        let other = facts("d", Some("lost"), "bank", 5, json!({}));
        for (spans, root) in [
            (vec![called.clone(), caller.clone()], "b"),
            (vec![skewed, caller.clone()], "b"),
            (vec![called.clone(), other.clone(), caller.clone()], "d"),
            (vec![called.clone(), caller, other], "b"),
            (vec![called, facts("b", Some("c"), "shop", 5, json!({}))], "c"),
        ] {
            let totals = totals(&spans);
            assert_eq!((root_of(&totals), totals.missing_root), (root, true), "{spans:?}");
        }
    }

    #[test]
    fn of_services_that_start_at_the_same_time_the_caller_comes_first() {
        let spans = [
            facts("e", Some("d"), "bank", 6, json!({})),
            facts("d", Some("c"), "payments", 5, json!({})),
            facts("c", Some("b"), "cart", 5, json!({})),
            facts("b", Some("a"), "shop", 5, json!({})),
            facts("a", None, "gateway", 5, json!({})),
            facts("f", Some("gone"), "audit", 5, json!({})),
            facts("g", Some("f"), "early", 4, json!({})),
        ];
        let services = ["early", "gateway", "shop", "cart", "payments", "audit", "bank"];
        assert_eq!(totals(&spans).services, services, "time first, and among equals the tree");
    }

    #[test]
    fn of_several_roots_the_earliest_one_is_the_root() {
        let spans = [facts("b", None, "shop", 2, json!({})), facts("a", None, "shop", 1, json!({}))];
        assert_eq!(root_of(&totals(&spans)), "a");
    }
}
