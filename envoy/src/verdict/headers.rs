//! What must hold for the tracing headers that the services saw.

use serde_json::Value;

use super::{Check, Evidence, Finding, check, expect, expect_equal};
use crate::receiver::SpanRecord;
use crate::scenario::{ExpectedTrace, Step, TRUSTED_ACCOUNT_KEY};
use crate::services::Sighting;
use crate::tracing_headers::{COPIED, SHOWN, TracingHeaders};

pub(super) fn judge(evidence: &Evidence, expected: &ExpectedTrace) -> Vec<Check> {
    let every = |finding: &dyn Fn(&Sighting) -> Finding| {
        evidence
            .sightings
            .iter()
            .try_for_each(|seen| finding(seen).map_err(|fault| format!("{}: {fault}", seen.service)))
    };
    vec![
        check("each service sees one line of each header", every(&|seen| one_line_each(&seen.headers))),
        check("one trace id from end to end", every(&|seen| same_trace(&seen.headers, &trace_id(evidence)))),
        check("the caller's trace goes on", continues_caller(evidence, expected)),
        check("each service hangs below its proxy's span", every(&|seen| parent_is_proxy(seen, &evidence.spans))),
        check("sampled is agreed everywhere", sampled_agreed(evidence)),
        check("priority is agreed everywhere", priority_agreed(evidence)),
        check("other vendors' entries arrive as sent", every(&|seen| foreign_kept(&seen.headers, expected))),
    ]
}

/// The trace id that the first service saw.
fn trace_id(evidence: &Evidence) -> Option<String> {
    Some(evidence.sightings.first()?.headers.traceparent()?.trace_id)
}

fn one_line_each(headers: &TracingHeaders) -> Finding {
    SHOWN.into_iter().try_for_each(|name| {
        let lines = headers.values(name).len();
        expect(lines == 1, || format!("{lines} lines of {name}"))
    })
}

fn same_trace(headers: &TracingHeaders, trace_id: &Option<String>) -> Finding {
    let in_traceparent = headers.traceparent().map(|traceparent| traceparent.trace_id);
    let in_newrelic = headers.newrelic().and_then(|data| Some(data["tr"].as_str()?.to_owned()));
    expect(trace_id.is_some(), || "no traceparent at the first service".to_owned())?;
    expect_equal(&in_traceparent, trace_id)?;
    expect_equal(&in_newrelic, trace_id)
}

fn continues_caller(evidence: &Evidence, expected: &ExpectedTrace) -> Finding {
    let trace_id = trace_id(evidence);
    match &expected.caller {
        Some((caller_trace_id, _)) => expect_equal(&trace_id.as_deref(), &Some(caller_trace_id.as_str())),
        None => expect(trace_id.is_some(), || "no trace was started".to_owned()),
    }
}

/// Whose span a service must see as its parent: that of the proxy in front of it. The bank has
/// none, and sees the call of the proxy that sent the request.
fn proxy_of(service: &str) -> Step {
    match service {
        "storefront" => ("storefront", "server"),
        "cart" => ("cart", "server"),
        "payments" => ("payments", "server"),
        _ => ("payments", "client"),
    }
}

fn parent_is_proxy(seen: &Sighting, spans: &[SpanRecord]) -> Finding {
    let parent_id = seen.headers.traceparent().map(|traceparent| traceparent.parent_id);
    let in_newrelic = seen.headers.newrelic().and_then(|data| Some(data["id"].as_str()?.to_owned()));
    expect_equal(&in_newrelic, &parent_id)?;
    let parent = spans.iter().find(|span| Some(&span.id) == parent_id.as_ref());
    expect_equal(&parent.map(|span| (span.service(), span.kind())), &Some(proxy_of(seen.service)))
}

fn sampled_agreed(evidence: &Evidence) -> Finding {
    let of_headers = evidence.sightings.iter().flat_map(|seen| {
        let entry = seen.headers.newrelic_entry(TRUSTED_ACCOUNT_KEY).map(|fields| fields[6] == "1");
        let in_newrelic = seen.headers.newrelic().and_then(|data| data["sa"].as_bool());
        [seen.headers.traceparent().map(|traceparent| traceparent.sampled), entry, in_newrelic]
    });
    let of_spans = evidence.spans.iter().map(|span| span.attributes.get("sampled").and_then(Value::as_bool));
    all_equal(of_headers.chain(of_spans), &Some(true))
}

fn priority_agreed(evidence: &Evidence) -> Finding {
    let of_headers = evidence.sightings.iter().flat_map(|seen| {
        let entry = seen.headers.newrelic_entry(TRUSTED_ACCOUNT_KEY).and_then(|fields| fields[7].parse().ok());
        [entry, seen.headers.newrelic().and_then(|data| data["pr"].as_f64())]
    });
    let of_spans = evidence.spans.iter().map(|span| span.attributes.get("priority").and_then(Value::as_f64));
    // Compared as text, because equality of floats means something else.
    let all: Vec<Option<String>> =
        of_headers.chain(of_spans).map(|priority| priority.map(|number: f64| number.to_string())).collect();
    let first = all.first().cloned().flatten();
    expect(first.is_some(), || "the first service saw no priority".to_owned())?;
    all_equal(all.into_iter(), &first)
}

fn all_equal<T: PartialEq + std::fmt::Debug>(mut found: impl Iterator<Item = T>, wanted: &T) -> Finding {
    found.try_for_each(|one| expect(one == *wanted, || format!("{one:?} instead of {wanted:?}")))
}

fn foreign_kept(headers: &TracingHeaders, expected: &ExpectedTrace) -> Finding {
    let wanted: Vec<&str> = expected.foreign_members.iter().map(String::as_str).collect();
    expect_equal(&headers.foreign_members(TRUSTED_ACCOUNT_KEY), &wanted)
}

/// Compares what was sent with what arrived, line by line; `x-request-id` is Envoy's own.
pub(crate) fn untouched<T>(evidence: &Evidence<T>) -> Finding {
    let sent = &evidence.scenario.request.headers;
    evidence.sightings.iter().try_for_each(|seen| {
        COPIED.into_iter().filter(|name| *name != "x-request-id").try_for_each(|name| {
            let sent: Vec<&[u8]> =
                sent.iter().filter(|(line, _)| line == name).map(|(_, value)| value.as_slice()).collect();
            let arrived = seen.headers.values(name);
            expect(arrived == sent, || format!("{} changed before {}", name, seen.service))
        })
    })
}
