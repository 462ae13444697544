//! The spans of one trace as a tree.

use std::collections::HashSet;

use crate::paint::Paint;
use crate::receiver::SpanRecord;

/// One span and those below it, the earliest first.
#[derive(Debug, PartialEq)]
pub struct Node<'a> {
    /// The span.
    pub span: &'a SpanRecord,
    /// Whether the span names a parent that is not among the spans.
    pub parent_missing: bool,
    /// The spans that name this one as their parent.
    pub children: Vec<Self>,
}

impl<'a> Node<'a> {
    /// The span and all below it, each before its children.
    pub fn walk(&self) -> Vec<&'a SpanRecord> {
        let below = self.children.iter().flat_map(Self::walk);
        std::iter::once(self.span).chain(below).collect()
    }
}

/// Puts spans together. Every span has its place: one whose parent is not there becomes a root.
///
/// Spans that name each other as parents would be below no root; they are cut at the first of them.
pub fn assemble(spans: &[SpanRecord]) -> Vec<Node<'_>> {
    let ids: HashSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    let is_root = |span: &&SpanRecord| span.parent_id().is_none_or(|parent| !ids.contains(parent));
    let mut left: Vec<&SpanRecord> = spans.iter().collect();
    left.sort_by_key(|span| span.timestamp_ms);
    let mut roots = Vec::new();
    while let Some(first) = left.iter().position(is_root).or_else(|| (!left.is_empty()).then_some(0)) {
        let root = left.remove(first);
        roots.push(grow(root, root.parent_id().is_some(), &mut left));
    }
    roots
}

/// Takes the spans below `span` out of `left`.
fn grow<'a>(span: &'a SpanRecord, parent_missing: bool, left: &mut Vec<&'a SpanRecord>) -> Node<'a> {
    let (below, others): (Vec<_>, Vec<_>) =
        left.iter().copied().partition(|other| other.parent_id() == Some(span.id.as_str()));
    *left = others;
    let children = below.into_iter().map(|child| grow(child, false, left)).collect();
    Node { span, parent_missing, children }
}

/// One line of the printed tree, before the columns are aligned. A caller's span that is not among
/// the spans has a line, too, but no columns.
struct Line<'a> {
    name: String,
    span: Option<&'a SpanRecord>,
}

/// The tree as text: name, kind, service, duration and error of each span, in aligned columns.
pub fn print(roots: &[Node<'_>], paint: Paint) -> String {
    let mut lines = Vec::new();
    for root in roots {
        match root.span.parent_id().filter(|_| root.parent_missing) {
            None => draw(root, "", "", &mut lines),
            Some(parent) => {
                lines.push(Line { name: format!("{parent}, not recorded here"), span: None });
                draw(root, "└─ ", "   ", &mut lines);
            }
        }
    }
    let name_width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let services = lines.iter().filter_map(|line| line.span).map(|span| span.service().len());
    let service_width = services.max().unwrap_or(0);
    lines.iter().map(|line| print_line(line, name_width, service_width, paint)).collect()
}

/// Adds the lines of a subtree; `branch` is drawn before its first line, `indent` before the others.
fn draw<'a>(node: &Node<'a>, branch: &str, indent: &str, lines: &mut Vec<Line<'a>>) {
    lines.push(Line { name: format!("{branch}{}", node.span.text("name")), span: Some(node.span) });
    let last = node.children.len().saturating_sub(1);
    for (index, child) in node.children.iter().enumerate() {
        let (corner, below) = if index == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        draw(child, &format!("{indent}{corner}"), &format!("{indent}{below}"), lines);
    }
}

fn print_line(line: &Line<'_>, name_width: usize, service_width: usize, paint: Paint) -> String {
    let Some(span) = line.span else {
        return format!("{}\n", paint.dim(&line.name));
    };
    let error = span.error().map(|error| paint.red(&format!("  error {error}"))).unwrap_or_default();
    let columns = format!(
        "{:<name_width$}  {:<6}  {}  {:>8.1} ms",
        line.name,
        span.kind(),
        paint.service(span.service(), service_width),
        span.duration_ms(),
    );
    format!("{columns}{error}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn span(id: &str, parent_id: Option<&str>, timestamp_ms: u64) -> SpanRecord {
        let attributes = json!({
            "parent.id": parent_id, "name": format!("span {id}"), "service.name": "cart",
            "span.kind": "server", "duration.ms": 1.25,
        });
        SpanRecord {
            id: id.to_owned(),
            trace_id: "t".to_owned(),
            timestamp_ms,
            attributes: attributes.as_object().cloned().unwrap_or_default(),
        }
    }

    fn ids(roots: &[Node<'_>]) -> Vec<String> {
        roots.iter().flat_map(Node::walk).map(|span| span.id.clone()).collect()
    }

    #[test]
    fn children_follow_their_parent_by_time_whatever_the_order_of_arrival() {
        let spans = [span("d", Some("b"), 3), span("c", Some("a"), 5), span("b", Some("a"), 2), span("a", None, 1)];
        let roots = assemble(&spans);
        assert_eq!((roots.len(), ids(&roots)), (1, ["a", "b", "d", "c"].map(str::to_owned).to_vec()));
        assert!(!roots[0].parent_missing);
    }

    #[test]
    fn a_span_without_its_parent_becomes_a_root_that_says_so() {
        let spans = [span("a", None, 1), span("b", Some("lost"), 2)];
        let missing: Vec<bool> = assemble(&spans).iter().map(|root| root.parent_missing).collect();
        assert_eq!(missing, [false, true]);
    }

    #[test]
    fn a_callers_span_is_shown_above_those_it_caused() {
        let text = print(&assemble(&[span("b", Some("c0ffee"), 2)]), Paint::plain());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines[1].starts_with("└─ span b")), ("c0ffee, not recorded here", true));
    }

    #[test]
    fn a_circle_of_parents_loses_no_span() {
        let spans = [span("a", Some("b"), 1), span("b", Some("a"), 2), span("c", Some("c"), 3)];
        assert_eq!(ids(&assemble(&spans)), ["a", "b", "c"]);
    }

    #[test]
    fn columns_are_aligned_and_errors_shown() {
        let mut failed = span("b", Some("a"), 2);
        failed.attributes.insert("error.class".to_owned(), json!("503"));
        failed.attributes.insert("error.message".to_owned(), json!("Service Unavailable"));
        let spans = [span("a", None, 1), failed, span("c", Some("b"), 3), span("d", Some("a"), 4)];
        let text = print(&assemble(&spans), Paint::plain());
        let expected = "span a        server  cart       1.2 ms\n\
            ├─ span b     server  cart       1.2 ms  error 503 Service Unavailable\n\
            │  └─ span c  server  cart       1.2 ms\n\
            └─ span d     server  cart       1.2 ms\n";
        assert_eq!(text, expected);
    }
}
