//! A trace as text: what each session amounts to, then the tree.

use std::fmt::Write as _;

use super::{Span, Trace};
use crate::paint::Paint;
use crate::trace_store::summary::{State, Summary};
use crate::tree::{self, Item, clean};

/// Width of the column with what a line is about.
const LABEL_WIDTH: usize = 11;

/// One trace: id, sessions, tree. `now_ms` is the time, milliseconds since 1970.
pub fn trace(trace: &Trace, now_ms: f64, paint: Paint) -> String {
    let mut text = format!("{}\n", paint.bold(&format!("trace {}", clean(&trace.trace_id))));
    for summary in &trace.sessions {
        text += &session(summary, now_ms, paint);
    }
    text.push('\n');
    text += &tree::print(&items(trace), paint);
    if trace.spans.iter().any(|span| span.boundary) {
        text += &format!("{}\n", paint.dim("═ enters another process"));
    }
    text
}

fn items(trace: &Trace) -> Vec<Item<'_>> {
    let first = trace.sessions.first().map(|summary| summary.session);
    let note = |span: &Span| {
        let later = Some(span.session).filter(|session| first.is_some_and(|first| first != *session));
        let notes = [span.orphan.then(|| "orphan".to_owned()), later.map(|session| format!("session {session}"))];
        notes.into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    let kind = |display: &str| match display {
        "in_process" => "in-process",
        "datastore" => "datastore",
        "external" => "external",
        _ => "service",
    };
    let shown = trace.spans.iter().map(|span| Item {
        id: &span.id,
        parent_id: span.parent_id.as_deref(),
        start_ms: span.start_ms,
        name: &span.name,
        kind: kind(&span.display),
        service: &span.service,
        duration_ms: span.duration_ms,
        error: span.error.clone(),
        boundary: span.boundary,
        note: note(span),
    });
    shown.collect()
}

/// What one session amounts to: a line for the whole, then one for each thing worth knowing.
fn session(summary: &Summary, now_ms: f64, paint: Paint) -> String {
    let totals = &summary.totals;
    let late = if summary.late { ", late" } else { "" };
    let mut text = format!(
        "session {}, {}{late}: {} in {:.1} ms, started {}\n",
        summary.session,
        state(summary),
        counted(totals.spans, "span"),
        totals.duration_ms,
        ago(now_ms - totals.start_ms),
    );
    let mut line = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        writeln!(text, "  {} {value}", paint.dim(&format!("{label:<LABEL_WIDTH$}"))).unwrap_or_default();
    };
    if let Some(root) = &totals.root {
        line("root", &format!("{}, {}", clean(&root.name), clean(&root.service)));
    }
    let services: Vec<String> = totals.services.iter().map(|service| clean(service)).collect();
    line("services", &services.join(", "));
    let boundaries = counted(totals.process_boundaries, "process boundary").replace("ys", "ies");
    line(
        "spans",
        &format!(
            "{} entry, {} exit, {} in-process; {boundaries}",
            totals.entry_spans, totals.exit_spans, totals.in_process_spans
        ),
    );
    line("calls", &format!("{} external, {} datastore", totals.external_spans, totals.datastore_spans));
    if totals.errors > 0 {
        line("errors", &paint.red(&totals.errors.to_string()));
    }
    if totals.missing_root {
        line("no root", "every span names a parent; the earliest orphan stands for the root");
    }
    if totals.orphans > 0 {
        line("incomplete", &format!("the parent of {} is not in the data", counted(totals.orphans, "span")));
    }
    text
}

fn state(summary: &Summary) -> String {
    match (summary.state, summary.closes_in_ms) {
        (State::Written, _) => "written".to_owned(),
        (State::Open, Some(ms)) => format!("open, closes in {} s", ms.div_ceil(1_000)),
        (State::Open, None) => "not written yet".to_owned(),
    }
}

/// One line for a trace among several.
pub fn candidate(summary: &Summary, now_ms: f64) -> String {
    let totals = &summary.totals;
    let root = totals.root.as_ref().map_or_else(String::new, |root| clean(&root.name));
    let errors = if totals.errors > 0 { ", with errors" } else { "" };
    format!(
        "{}  {root}, {}{errors}, {}",
        clean(&summary.trace_id),
        counted(totals.spans, "span"),
        ago(now_ms - totals.start_ms)
    )
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A time that has passed, in its largest unit.
fn ago(ms: f64) -> String {
    let units = [(86_400_000.0, "d"), (3_600_000.0, "h"), (60_000.0, "min")];
    match units.into_iter().find(|(unit, _)| ms >= *unit) {
        Some((unit, name)) => format!("{:.0} {name} ago", (ms / unit).floor()),
        None => format!("{:.0} s ago", (ms / 1_000.0).floor().max(0.0)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn span(id: &str, parent_id: Option<&str>, service: &str, more: &[(&str, serde_json::Value)]) -> serde_json::Value {
        let mut span = json!({
            "id": id, "parent_id": parent_id, "session": 1, "name": format!("span {id}"), "service": service,
            "start_ms": 1_000.0, "duration_ms": 2.5, "display": "service", "boundary": false, "error": null,
            "orphan": false,
        });
        for (name, value) in more {
            span[name] = value.clone();
        }
        span
    }

    fn summary(session: i64, more: &[(&str, serde_json::Value)]) -> serde_json::Value {
        let mut summary = json!({
            "session": session, "trace_id": "c0ffee", "state": "written",
            "root": { "span_id": "a", "name": "span a", "service": "shop" }, "start_ms": 1_000.0, "duration_ms": 20.25,
            "backend_duration_ms": 20.25, "spans": 4, "entry_spans": 2, "exit_spans": 1, "in_process_spans": 1,
            "datastore_spans": 0, "external_spans": 1, "process_boundaries": 1, "errors": 0,
            "services": ["shop", "cart"], "orphans": 0, "missing_root": false, "late": false, "first_seen_ms": 0,
            "last_seen_ms": 0, "closes_in_ms": null,
        });
        for (name, value) in more {
            summary[name] = value.clone();
        }
        summary
    }

    fn printed(sessions: &[serde_json::Value], spans: &[serde_json::Value]) -> String {
        let all = json!({ "trace_id": "c0ffee", "sessions": sessions, "spans": spans, "hops": [] });
        trace(&serde_json::from_value(all).unwrap(), 13_000.0, Paint::plain())
    }

    #[test]
    fn kinds_services_errors_and_process_boundaries_are_seen() {
        let spans = [
            span("a", None, "shop", &[]),
            span("b", Some("a"), "shop", &[("display", json!("external"))]),
            span("c", Some("b"), "cart", &[("boundary", json!(true)), ("error", json!("503"))]),
            span("d", Some("c"), "cart", &[("display", json!("in_process"))]),
            span("e", Some("c"), "cart", &[("display", json!("datastore"))]),
        ];
        let sessions = [summary(1, &[("state", json!("open")), ("closes_in_ms", json!(77_001)), ("errors", json!(1))])];
        let expected = "trace c0ffee\n\
            session 1, open, closes in 78 s: 4 spans in 20.2 ms, started 12 s ago\n\
            \x20 root        span a, shop\n\
            \x20 services    shop, cart\n\
            \x20 spans       2 entry, 1 exit, 1 in-process; 1 process boundary\n\
            \x20 calls       1 external, 0 datastore\n\
            \x20 errors      1\n\
            \n\
            span a           service     shop       2.5 ms\n\
            └─ span b        external    shop       2.5 ms\n\
            \x20  ╘═ span c     service     cart       2.5 ms  error 503\n\
            \x20     ├─ span d  in-process  cart       2.5 ms\n\
            \x20     └─ span e  datastore   cart       2.5 ms\n\
            ═ enters another process\n";
        assert_eq!(printed(&sessions, &spans), expected);
    }

    #[test]
    fn a_fragment_says_what_is_missing() {
        let orphan = [span("b", Some("lost"), "shop", &[("orphan", json!(true))])];
        let text = printed(&[summary(1, &[("orphans", json!(1)), ("missing_root", json!(true))])], &orphan);
        for line in [
            "  no root     every span names a parent; the earliest orphan stands for the root\n",
            "  incomplete  the parent of 1 span is not in the data\n",
            "\nlost, not recorded here\n└─ span b  service  shop       2.5 ms  orphan\n",
        ] {
            assert!(text.contains(line), "no {line:?} in {text}");
        }
    }

    #[test]
    fn spans_of_a_later_session_name_it() {
        let sessions = [summary(1, &[]), summary(4, &[("late", json!(true)), ("state", json!("open"))])];
        let spans = [span("a", None, "shop", &[]), span("b", Some("a"), "shop", &[("session", json!(4))])];
        let text = printed(&sessions, &spans);
        for line in [
            "session 1, written: 4 spans in 20.2 ms",
            "session 4, not written yet, late: 4 spans",
            "span a     service  shop       2.5 ms\n",
            "└─ span b  service  shop       2.5 ms  session 4\n",
        ] {
            assert!(text.contains(line), "no {line:?} in {text}");
        }
    }

    #[test]
    fn ages_are_told_in_their_largest_unit() {
        for (ms, text) in [
            (-5.0, "0 s ago"),
            (59_999.0, "59 s ago"),
            (60_000.0, "1 min ago"),
            (7_199_999.0, "1 h ago"),
            (172_800_000.0, "2 d ago"),
        ] {
            assert_eq!(ago(ms), text);
        }
    }
}
