//! What each span of a trace is to the others.
//!
//! The terms are those of "Technical distributed tracing details" in New Relic's documentation, section "How trace
//! data is structured":
//!
//! ```text
//! entry      = no parent in the data, or the parent belongs to another entity
//! datastore  = an attribute begins with "db."
//! external   = an attribute begins with "http.", or a child belongs to another entity
//! exit       = the parent of another entity's entry span, or an attribute begins with "http." or "db."
//! in-process = neither entry nor exit
//! shown as   = entry: service; else datastore; else external; else in-process
//! ```
//!
//! By these words the entry span of a web request is an exit span, too, as it has an `http.` attribute with its
//! status. It is still shown as a service.

use std::collections::HashMap;

use serde::Serialize;

use super::span::Facts;

/// A part that a span plays in its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The first span in a process.
    Entry,
    /// A call out of the process.
    Exit,
    /// Neither.
    InProcess,
}

/// What a client span calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Client {
    /// A datastore.
    Datastore,
    /// Another service, known or not.
    External,
}

/// How a span is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Display {
    /// Where a service was entered.
    Service,
    /// A call of a datastore.
    Datastore,
    /// A call of another service.
    External,
    /// Work inside of a service.
    InProcess,
}

/// What one span is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Class {
    /// Index of the parent, when it is in the data.
    pub parent: Option<usize>,
    /// The parent is named, but not in the data.
    pub orphan: bool,
    /// The parent belongs to another entity: between the two is a process boundary.
    pub boundary: bool,
    /// The first span in a process.
    pub entry: bool,
    /// A call out of the process.
    pub exit: bool,
    /// Has an attribute of a datastore.
    pub datastore: bool,
    /// Has an attribute of an HTTP call, or leads into another entity.
    pub external: bool,
}

impl Class {
    /// The parts it plays, one at least.
    pub fn roles(&self) -> Vec<Role> {
        match (self.entry, self.exit) {
            (true, true) => vec![Role::Entry, Role::Exit],
            (true, false) => vec![Role::Entry],
            (false, true) => vec![Role::Exit],
            (false, false) => vec![Role::InProcess],
        }
    }

    /// What it calls; a datastore when it has the marks of both.
    pub fn client(&self) -> Option<Client> {
        match (self.datastore, self.external) {
            (true, _) => Some(Client::Datastore),
            (false, true) => Some(Client::External),
            (false, false) => None,
        }
    }

    /// How it is shown.
    pub fn display(&self) -> Display {
        match (self.entry, self.client()) {
            (true, _) => Display::Service,
            (false, Some(Client::Datastore)) => Display::Datastore,
            (false, Some(Client::External)) => Display::External,
            (false, None) => Display::InProcess,
        }
    }
}

/// Classifies the spans of a trace, each at its index. No two have the same id.
pub fn classify(spans: &[Facts]) -> Vec<Class> {
    let index: HashMap<&str, usize> = spans.iter().enumerate().map(|(at, span)| (&*span.id, at)).collect();
    let mut classes: Vec<Class> = spans.iter().enumerate().map(|(at, span)| alone(at, span, &index)).collect();
    for (at, span) in spans.iter().enumerate() {
        let Some(parent) = classes[at].parent else { continue };
        if !span.is_same_entity(&spans[parent]) {
            (classes[at].boundary, classes[at].entry) = (true, true);
            (classes[parent].exit, classes[parent].external) = (true, true);
        }
    }
    classes
}

/// What a span is without a look at its relatives. One that names itself as its parent has none.
fn alone(at: usize, span: &Facts, index: &HashMap<&str, usize>) -> Class {
    let named = span.parent_id.as_deref();
    let parent = named.and_then(|parent| index.get(parent)).copied().filter(|parent| *parent != at);
    Class {
        parent,
        orphan: named.is_some() && parent.is_none(),
        boundary: false,
        entry: parent.is_none(),
        exit: span.has_db || span.has_http,
        datastore: span.has_db,
        external: span.has_http,
    }
}

/// Indexes of all spans, each parent before its children and siblings by their start: first what hangs together with
/// a root, then the orphans with those below them.
pub fn tree_order(spans: &[Facts], classes: &[Class]) -> Vec<usize> {
    let mut by_start: Vec<usize> = (0..spans.len()).collect();
    by_start.sort_by_key(|at| (spans[*at].start_ns, *at));
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    for at in &by_start {
        if let Some(parent) = classes[*at].parent {
            children[parent].push(*at);
        }
    }
    let of_rank = |rank: u8| by_start.iter().copied().filter(move |at| root_rank(&classes[*at]) == rank);
    // Spans that name each other as parents are below no root; the first of them is taken for one.
    let mut order = Vec::with_capacity(spans.len());
    let mut placed = vec![false; spans.len()];
    for root in of_rank(0).chain(of_rank(1)).chain(of_rank(2)) {
        let mut waiting = vec![root];
        while let Some(at) = waiting.pop() {
            if !std::mem::replace(&mut placed[at], true) {
                order.push(at);
                waiting.extend(children[at].iter().rev());
            }
        }
    }
    order
}

fn root_rank(class: &Class) -> u8 {
    match (class.parent, class.orphan) {
        (None, false) => 0,
        (None, true) => 1,
        (Some(_), _) => 2,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::trace_store::span::Span;

    /// Facts of the span `id` of a service that starts at `start_ms` and takes 10 ms.
    pub(in crate::trace_store) fn facts(
        id: &str,
        parent: Option<&str>,
        service: &str,
        start_ms: u64,
        more: Value,
    ) -> Facts {
        let mut attributes: super::super::span::Attributes = serde_json::from_value(more).unwrap();
        attributes.insert("service.name".to_owned(), json!(service));
        let span = Span {
            id: id.to_owned(),
            parent_id: parent.map(str::to_owned),
            name: format!("span {id}"),
            start_ns: start_ms * 1_000_000,
            duration_ns: 10_000_000,
            attributes,
        };
        span.facts()
    }

    fn plain(id: &str, parent: Option<&str>, service: &str, start_ms: u64) -> Facts {
        facts(id, parent, service, start_ms, json!({}))
    }

    #[test]
    fn each_rule_finds_its_spans() {
        use Role::{Entry, Exit, InProcess};
        let http = || json!({ "http.url": "http://cart/" });
        let database = || json!({ "db.statement": "select" });
        let both = || json!({ "db.system": "redis", "http.method": "GET" });
        let spans = [
            facts("root", None, "shop", 0, json!({ "http.statusCode": 200 })),
            plain("work", Some("root"), "shop", 1),
            facts("call", Some("work"), "shop", 2, http()),
            plain("cart", Some("call"), "cart", 3),
            facts("query", Some("cart"), "cart", 4, database()),
            facts("search", Some("cart"), "cart", 5, both()),
            plain("send", Some("cart"), "cart", 6),
            plain("bank", Some("send"), "bank", 7),
            plain("lost", Some("nowhere"), "cart", 8),
            facts("out", Some("lost"), "cart", 9, http()),
        ];
        let classes = classify(&spans);
        let seen: Vec<_> = std::iter::zip(&spans, &classes)
            .map(|(span, class)| (&*span.id, class.roles(), class.client(), class.display(), class.boundary))
            .collect();
        let (datastore, external) = (Some(Client::Datastore), Some(Client::External));
        let expected = [
            ("root", vec![Entry, Exit], external, Display::Service, false),
            ("work", vec![InProcess], None, Display::InProcess, false),
            ("call", vec![Exit], external, Display::External, false),
            ("cart", vec![Entry], None, Display::Service, true),
            ("query", vec![Exit], datastore, Display::Datastore, false),
            ("search", vec![Exit], datastore, Display::Datastore, false),
            ("send", vec![Exit], external, Display::External, false),
            ("bank", vec![Entry], None, Display::Service, true),
            ("lost", vec![Entry], None, Display::Service, false),
            ("out", vec![Exit], external, Display::External, false),
        ];
        assert_eq!(seen, expected);
        let orphans: Vec<&str> =
            std::iter::zip(&spans, &classes).filter(|(_, c)| c.orphan).map(|(s, _)| &*s.id).collect();
        assert_eq!(orphans, ["lost"]);
    }

    #[test]
    fn only_the_beginning_of_an_attributes_name_counts() {
        for (attributes, client) in [
            (json!({ "db.x": 1 }), Some(Client::Datastore)),
            (json!({ "http.x": 1 }), Some(Client::External)),
            (json!({ "db": 1, "dbx": 1, "http": 1, "https.url": 1, "x.http.url": 1, "url.full": "http://a/" }), None),
        ] {
            let class = classify(&[facts("a", None, "shop", 0, attributes.clone())])[0];
            assert_eq!((class.client(), class.exit), (client, client.is_some()), "{attributes}");
        }
    }

    #[test]
    fn an_entity_is_told_by_its_guid_and_else_by_the_services_name() {
        let guid = |guid: &str| json!({ "entity.guid": guid });
        for (parent, child, boundary) in [
            (("shop", json!({})), ("shop", json!({})), false),
            (("shop", json!({})), ("cart", json!({})), true),
            (("shop", guid("1")), ("cart", guid("1")), false),
            (("shop", guid("1")), ("shop", guid("2")), true),
            (("shop", guid("1")), ("shop", json!({})), false),
            (("shop", guid("1")), ("cart", json!({})), true),
            (("shop", guid("")), ("shop", guid("2")), false),
        ] {
            let what = format!("{parent:?} {child:?}");
            let spans = [facts("a", None, parent.0, 0, parent.1), facts("b", Some("a"), child.0, 0, child.1)];
            let classes = classify(&spans);
            assert_eq!((classes[1].boundary, classes[1].entry), (boundary, boundary), "{what}");
            assert_eq!((classes[0].exit, classes[0].external), (boundary, boundary), "{what}");
        }
    }

    #[test]
    fn a_parent_comes_before_its_children_whatever_the_order_of_arrival() {
        let spans = [
            plain("e", Some("lost"), "shop", 0),
            plain("d", Some("b"), "shop", 3),
            plain("c", Some("a"), "shop", 5),
            plain("b", Some("a"), "shop", 2),
            plain("a", None, "shop", 1),
            plain("f", Some("e"), "shop", 1),
        ];
        assert_eq!(order(&spans), ["a", "b", "d", "c", "e", "f"], "orphans are at the end");
    }

    #[test]
    fn a_circle_of_parents_loses_no_span() {
        let spans = [
            plain("a", Some("b"), "shop", 1),
            plain("b", Some("a"), "shop", 2),
            plain("c", Some("c"), "shop", 3),
            plain("d", Some("b"), "shop", 4),
        ];
        assert_eq!(order(&spans), ["c", "a", "b", "d"]);
        assert!(classify(&spans)[2].orphan, "a span is not its own parent");
    }

    fn order(spans: &[Facts]) -> Vec<&str> {
        tree_order(spans, &classify(spans)).into_iter().map(|at| &*spans[at].id).collect()
    }

    #[test]
    fn a_trace_of_one_long_chain_needs_no_deep_stack() {
        let parent = |at: usize| at.checked_sub(1).map(|parent| parent.to_string());
        let chain: Vec<Facts> =
            (0..50_000).map(|at| plain(&at.to_string(), parent(at).as_deref(), "shop", 0)).collect();
        assert_eq!(tree_order(&chain, &classify(&chain)), (0..50_000).collect::<Vec<_>>());
    }
}
