//! What must hold for the spans and transactions that the receiver got.

use std::collections::HashSet;

use serde_json::Value;

use super::{Check, Evidence, Finding, check, expect, expect_equal};
use crate::receiver::SpanRecord;
use crate::scenario::{ExpectedTrace, Step};
use crate::tree::{self, Node};

pub(super) fn judge(evidence: &Evidence, expected: &ExpectedTrace) -> Vec<Check> {
    let roots = tree::assemble(&evidence.spans);
    vec![
        check("every parent id exists", parents_exist(&evidence.spans, expected)),
        check("the spans form the expected chain", forms_chain(&roots, expected.chain)),
        check("the first span knows its caller", first_span_as_expected(&roots, expected)),
        check("the error is on the services' spans and nowhere else", errors_as_expected(&evidence.spans, expected)),
        check("each service has its transaction", transactions_as_expected(evidence, expected)),
    ]
}

fn parents_exist(spans: &[SpanRecord], expected: &ExpectedTrace) -> Finding {
    let ids: HashSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    expect(ids.len() == spans.len(), || "two spans have the same id".to_owned())?;
    let caller = expected.caller.map(|(_, span_id)| span_id);
    let tops = spans.iter().map(SpanRecord::parent_id).filter(|parent| parent.is_none_or(|id| !ids.contains(id)));
    expect_equal(tops.collect::<Vec<_>>().as_slice(), &[caller])
}

fn forms_chain(roots: &[Node<'_>], chain: &[Step]) -> Finding {
    let [root] = roots else {
        return Err(format!("{} roots instead of one", roots.len()));
    };
    let mut node = Some(root);
    let mut found = Vec::new();
    while let Some(one) = node {
        found.push((one.span.service(), one.span.kind()));
        expect(one.children.len() < 2, || format!("{} has {} children", one.span.text("name"), one.children.len()))?;
        node = one.children.first();
    }
    expect_equal(found.as_slice(), chain)
}

fn first_span_as_expected(roots: &[Node<'_>], expected: &ExpectedTrace) -> Finding {
    let Some(root) = roots.first() else {
        return Err("there is no span".to_owned());
    };
    let attributes = &root.span.attributes;
    for (name, value) in &expected.first_span {
        let found = attributes.get(*name);
        expect(found == Some(value), || format!("{name} is {found:?} instead of {value}"))?;
    }
    let surplus = expected.first_span_lacks.iter().find(|name| attributes.contains_key(**name));
    expect(surplus.is_none(), || format!("it has {surplus:?}"))
}

fn errors_as_expected(spans: &[SpanRecord], expected: &ExpectedTrace) -> Finding {
    let wrong = spans.iter().find(|span| span.error().is_some() != (expected.failed && span.kind() == "server"));
    wrong.map_or(Ok(()), |span| Err(format!("{} {}: error {:?}", span.service(), span.kind(), span.error())))
}

fn transactions_as_expected(evidence: &Evidence, expected: &ExpectedTrace) -> Finding {
    let mut wanted: Vec<(&str, bool)> = expected
        .chain
        .iter()
        .filter(|(_, kind)| *kind == "server")
        .map(|(service, _)| (*service, expected.failed))
        .collect();
    let mut found: Vec<(&str, bool)> = evidence
        .transactions
        .iter()
        .map(|one| (one.text("appName"), one.attributes.get("error") == Some(&Value::Bool(true))))
        .collect();
    wanted.sort_unstable();
    found.sort_unstable();
    expect_equal(&found, &wanted)
}
