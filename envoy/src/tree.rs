//! The spans of one trace as a tree.

use std::collections::{HashMap, HashSet};

use crate::paint::Paint;
use crate::receiver::SpanRecord;

/// Levels that are drawn. What hangs further down is counted.
const LEVELS_MAX: usize = 64;
/// Characters of a name or an error that are shown, so that one of them does not push all columns away.
const CHARS_MAX: usize = 100;
/// Width of the column with the kinds, unless one is longer.
const KIND_WIDTH: usize = 6;

/// One span as a tree shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Item<'a> {
    /// Span id.
    pub id: &'a str,
    /// Id of the parent. `None` marks the root of a trace.
    pub parent_id: Option<&'a str>,
    /// Start, milliseconds since 1970.
    pub start_ms: f64,
    /// Name.
    pub name: &'a str,
    /// What kind of span it is.
    pub kind: &'a str,
    /// Name of the service that made it.
    pub service: &'a str,
    /// How long it took.
    pub duration_ms: f64,
    /// The failure in words.
    pub error: Option<String>,
    /// Its parent belongs to another service; it is drawn with a double line.
    pub boundary: bool,
    /// What else there is to say; empty for nothing.
    pub note: String,
}

impl<'a> From<&'a SpanRecord> for Item<'a> {
    fn from(span: &'a SpanRecord) -> Self {
        Self {
            id: &span.id,
            parent_id: span.parent_id(),
            start_ms: span.timestamp_ms as f64,
            name: span.text("name"),
            kind: span.kind(),
            service: span.service(),
            duration_ms: span.duration_ms(),
            error: span.error(),
            boundary: false,
            note: String::new(),
        }
    }
}

/// The place of one span in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Index of the span.
    pub at: usize,
    /// How many spans are above it.
    pub depth: usize,
    /// Whether the span names a parent that is not among the spans.
    pub parent_missing: bool,
    /// Whether it is the last child of its parent.
    pub is_last: bool,
}

/// Puts spans together: each parent before its children, siblings by their start. Every span has its place: one whose
/// parent is not there becomes a root.
///
/// Spans that name each other as parents would be below no root; they are cut at the first of them.
pub fn assemble(items: &[Item<'_>]) -> Vec<Row> {
    let ids: HashSet<&str> = items.iter().map(|item| item.id).collect();
    let mut by_start: Vec<usize> = (0..items.len()).collect();
    by_start.sort_by(|one, other| items[*one].start_ms.total_cmp(&items[*other].start_ms));
    let mut children: HashMap<&str, Vec<usize>> = HashMap::new();
    for at in &by_start {
        if let Some(parent) = items[*at].parent_id {
            children.entry(parent).or_default().push(*at);
        }
    }
    let is_missing = |at: usize| items[at].parent_id.is_some_and(|parent| !ids.contains(parent));
    let roots = by_start.iter().copied().filter(|at| items[*at].parent_id.is_none() || is_missing(*at));
    let mut placed = vec![false; items.len()];
    let mut rows = Vec::with_capacity(items.len());
    // A trace may be one long chain, so that nothing here calls itself.
    for root in roots.chain(by_start.iter().copied()) {
        let mut waiting = vec![Row { at: root, depth: 0, parent_missing: is_missing(root), is_last: true }];
        while let Some(row) = waiting.pop() {
            if std::mem::replace(&mut placed[row.at], true) {
                continue;
            }
            rows.push(row);
            // Whoever has a span's id first has its children.
            let below = children.remove(items[row.at].id).unwrap_or_default();
            let below: Vec<usize> = below.into_iter().filter(|at| !placed[*at]).collect();
            let last = below.last().copied();
            let child = |at| Row { at, depth: row.depth + 1, parent_missing: false, is_last: Some(at) == last };
            waiting.extend(below.into_iter().rev().map(child));
        }
    }
    rows
}

/// One line of the printed tree, before the columns are aligned. What is no span has a line, too, but no columns.
struct Line<'a> {
    name: String,
    item: Option<&'a Item<'a>>,
}

/// The tree as text: name, kind, service, duration and error of each span, in aligned columns.
pub fn print(items: &[Item<'_>], paint: Paint) -> String {
    let lines = draw(items);
    let width = |of: fn(&Line<'_>) -> usize| lines.iter().map(of).max().unwrap_or(0);
    let columns = Columns {
        name: width(|line| if line.item.is_some() { chars(&line.name) } else { 0 }),
        kind: width(|line| line.item.map_or(0, |item| chars(item.kind))).max(KIND_WIDTH),
        service: width(|line| line.item.map_or(0, |item| chars(&clean(item.service)))),
    };
    lines.iter().map(|line| columns.print(line, paint)).collect()
}

fn draw<'a>(items: &'a [Item<'a>]) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    // What is drawn in front of the children of the spans above, from the root on.
    let mut indents: Vec<&str> = Vec::new();
    let mut too_deep = 0;
    for row in assemble(items) {
        let item = &items[row.at];
        if row.depth > LEVELS_MAX {
            too_deep += 1;
            continue;
        }
        lines.extend(uncounted(&mut too_deep));
        indents.truncate(row.depth);
        let (corner, indent) = match (row.depth, row.parent_missing) {
            (0, false) => ("", ""),
            (0, true) => {
                let parent = clean(item.parent_id.unwrap_or_default());
                lines.push(Line { name: format!("{parent}, not recorded here"), item: None });
                ("└─ ", "   ")
            }
            _ => branch(row.is_last, item.boundary),
        };
        lines.push(Line { name: format!("{}{corner}{}", indents.concat(), clean(item.name)), item: Some(item) });
        indents.push(indent);
    }
    lines.extend(uncounted(&mut too_deep));
    lines
}

/// What is drawn in front of a span, and in front of those below it.
fn branch(is_last: bool, boundary: bool) -> (&'static str, &'static str) {
    match (is_last, boundary) {
        (true, false) => ("└─ ", "   "),
        (false, false) => ("├─ ", "│  "),
        (true, true) => ("╘═ ", "   "),
        (false, true) => ("╞═ ", "│  "),
    }
}

/// Tells of spans that are too deep to be drawn, if there are any.
fn uncounted(too_deep: &mut usize) -> Option<Line<'static>> {
    let count = std::mem::take(too_deep);
    (count > 0).then(|| Line { name: format!("… {count} spans below are too deep to be drawn"), item: None })
}

struct Columns {
    name: usize,
    kind: usize,
    service: usize,
}

impl Columns {
    fn print(&self, line: &Line<'_>, paint: Paint) -> String {
        let Some(item) = line.item else {
            return format!("{}\n", paint.dim(&line.name));
        };
        let error = item.error.as_deref().map(|error| paint.red(&format!("  error {}", clean(error))));
        let note = Some(&item.note).filter(|note| !note.is_empty()).map(|note| paint.dim(&format!("  {note}")));
        format!(
            "{:<name$}  {:<kind$}  {}  {:>8.1} ms{}{}\n",
            line.name,
            item.kind,
            paint.service(&clean(item.service), self.service),
            item.duration_ms,
            error.unwrap_or_default(),
            note.unwrap_or_default(),
            name = self.name,
            kind = self.kind,
        )
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// Text as it may go to a terminal, whoever wrote it: control characters would be orders to the terminal.
pub fn clean(text: &str) -> String {
    let mut cleaned = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == CHARS_MAX {
            cleaned.push('…');
            break;
        }
        if character.is_control() {
            cleaned.extend(character.escape_default());
        } else {
            cleaned.push(character);
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item<'a>(id: &'a str, parent_id: Option<&'a str>, start_ms: f64) -> Item<'a> {
        Item {
            id,
            parent_id,
            start_ms,
            name: id,
            kind: "server",
            service: "cart",
            duration_ms: 1.25,
            error: None,
            boundary: false,
            note: String::new(),
        }
    }

    fn ids<'a>(items: &[Item<'a>]) -> Vec<&'a str> {
        assemble(items).into_iter().map(|row| items[row.at].id).collect()
    }

    #[test]
    fn children_follow_their_parent_by_time_whatever_the_order_of_arrival() {
        let items =
            [item("d", Some("b"), 3.0), item("c", Some("a"), 5.0), item("b", Some("a"), 2.0), item("a", None, 1.0)];
        let depths: Vec<(&str, usize, bool)> =
            assemble(&items).into_iter().map(|row| (items[row.at].id, row.depth, row.is_last)).collect();
        assert_eq!(depths, [("a", 0, true), ("b", 1, false), ("d", 2, true), ("c", 1, true)]);
    }

    #[test]
    fn a_span_without_its_parent_becomes_a_root_that_says_so() {
        let rows = assemble(&[item("a", None, 1.0), item("b", Some("lost"), 2.0)]);
        let found: Vec<(usize, bool)> = rows.into_iter().map(|row| (row.depth, row.parent_missing)).collect();
        assert_eq!(found, [(0, false), (0, true)]);
    }

    #[test]
    fn a_callers_span_is_shown_above_those_it_caused() {
        let text = print(&[item("b", Some("c0ffee"), 2.0), item("c", Some("b"), 3.0)], Paint::plain());
        let starts: Vec<&str> = text.lines().map(|line| line.split("  server").next().unwrap()).collect();
        assert_eq!(starts, ["c0ffee, not recorded here", "└─ b   ", "   └─ c"]);
    }

    #[test]
    fn a_circle_of_parents_loses_no_span() {
        let items = [item("a", Some("b"), 1.0), item("b", Some("a"), 2.0), item("c", Some("c"), 3.0)];
        assert_eq!(ids(&items), ["a", "b", "c"]);
    }

    #[test]
    fn two_spans_of_the_same_id_are_both_shown() {
        let items = [item("a", None, 1.0), item("a", None, 2.0), item("b", Some("a"), 3.0)];
        assert_eq!(ids(&items), ["a", "b", "a"]);
    }

    #[test]
    fn a_trace_of_one_long_chain_is_drawn_as_far_as_it_can_be() {
        let names: Vec<String> = (0..50_000).map(|at| at.to_string()).collect();
        let parent = |at: usize| at.checked_sub(1).map(|parent| names[parent].as_str());
        let items: Vec<Item<'_>> = names.iter().enumerate().map(|(at, id)| item(id, parent(at), at as f64)).collect();
        let text = print(&items, Paint::plain());
        assert_eq!(text.lines().count(), LEVELS_MAX + 2);
        let left = 50_000 - LEVELS_MAX - 1;
        assert!(text.ends_with(&format!("… {left} spans below are too deep to be drawn\n")), "{text}");
    }

    #[test]
    fn columns_are_aligned_and_errors_boundaries_and_notes_shown() {
        let failed = Item { error: Some("503 Service Unavailable".to_owned()), ..item("b", Some("a"), 2.0) };
        let entry = Item { boundary: true, kind: "in-process", note: "late".to_owned(), ..item("c", Some("b"), 3.0) };
        let items = [item("a", None, 1.0), failed, entry, item("d", Some("a"), 4.0)];
        let text = print(&items, Paint::plain());
        let expected = "a        server      cart       1.2 ms\n\
            ├─ b     server      cart       1.2 ms  error 503 Service Unavailable\n\
            │  ╘═ c  in-process  cart       1.2 ms  late\n\
            └─ d     server      cart       1.2 ms\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_others_wrote_gives_the_terminal_no_orders() {
        let long = "n".repeat(CHARS_MAX + 1);
        for (text, shown) in [
            ("a\x1b[2Jb\nc", "a\\u{1b}[2Jb\\nc".to_owned()),
            ("├ü", "├ü".to_owned()),
            (&long, format!("{}…", &long[1..])),
        ] {
            assert_eq!(clean(text), shown);
        }
    }
}
