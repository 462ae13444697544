//! What must hold for the spans and transactions that the receiver got.

use std::collections::HashSet;

use serde_json::Value;

use super::{Check, Evidence, Finding, check, expect, expect_equal};
use crate::receiver::SpanRecord;
use crate::scenario::{ExpectedTrace, Step};
use crate::tree::{self, Item, Row};

pub(super) fn judge(evidence: &Evidence, expected: &ExpectedTrace) -> Vec<Check> {
    let items: Vec<Item<'_>> = evidence.spans.iter().map(Item::from).collect();
    let rows = tree::assemble(&items);
    vec![
        check("every parent id exists", parents_exist(&evidence.spans, expected)),
        check("the spans form the expected chain", forms_chain(&rows, &evidence.spans, expected.chain)),
        check(
            "the first span knows its caller",
            first_span_as_expected(rows.first().map(|row| &evidence.spans[row.at]), expected),
        ),
        check("the error is on the services' spans and nowhere else", errors_as_expected(&evidence.spans, expected)),
        check("each service has its transaction", transactions_as_expected(evidence, expected)),
    ]
}

fn parents_exist(spans: &[SpanRecord], expected: &ExpectedTrace) -> Finding {
    let ids: HashSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    expect(ids.len() == spans.len(), || "two spans have the same id".to_owned())?;
    let caller = expected.caller.as_ref().map(|(_, span_id)| *span_id);
    let tops = spans.iter().map(SpanRecord::parent_id).filter(|parent| parent.is_none_or(|id| !ids.contains(id)));
    expect_equal(tops.collect::<Vec<_>>().as_slice(), &[caller])
}

fn forms_chain(rows: &[Row], spans: &[SpanRecord], chain: &[Step]) -> Finding {
    let roots = rows.iter().filter(|row| row.depth == 0).count();
    expect(roots == 1, || format!("{roots} roots instead of one"))?;
    let aside = rows.iter().enumerate().find(|(place, row)| row.depth != *place);
    expect(aside.is_none(), || format!("{aside:?} is not below the span before it"))?;
    let found: Vec<(&str, &str)> = rows.iter().map(|row| (spans[row.at].service(), spans[row.at].kind())).collect();
    expect_equal(found.as_slice(), chain)
}

fn first_span_as_expected(first: Option<&SpanRecord>, expected: &ExpectedTrace) -> Finding {
    let Some(first) = first else {
        return Err("there is no span".to_owned());
    };
    let attributes = &first.attributes;
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
