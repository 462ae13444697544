//! The line at the end of a terminal that tells what a demo does while it stays up.
//!
//! It is drawn in place by the control sequences of ECMA-48 and DEC's terminals, which all terminals of today know:
//! back to the start of the line, erase it, and do not wrap what is too long for it.

use std::cell::RefCell;

use crate::paint::Paint;
use crate::trickle::REQUESTS_MAX;

/// Back to the start of the line, and erase it (EL 2).
const ERASE: &str = "\r\x1b[2K";
/// Do not wrap, so that a line stays one line (DECAWM).
const NO_WRAP: &str = "\x1b[?7l";
/// Wrap again.
const WRAP: &str = "\x1b[?7h";

/// What the line tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Requests of its own that the demo sent; `None` when it sends none.
    pub sent: Option<u64>,
    /// Those of them that nobody answered.
    pub unanswered: u64,
    /// The trace store, where there is one.
    pub traces: Option<Traces>,
}

/// How the trace store is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// Traces that are open.
    pub open: u64,
    /// When the first of them closes unless it gets another span, in seconds.
    pub next_close_s: Option<u64>,
    /// Traces that are written.
    pub written: u64,
    /// Why the database cannot be written to.
    pub fault: Option<String>,
    /// Where the page is.
    pub page: String,
}

impl State {
    /// The line, short enough for a terminal of 80 columns as long as the numbers are.
    pub fn line(&self, paint: Paint) -> String {
        let mut parts = vec![match self.sent {
            None => "nothing sent".to_owned(),
            Some(sent) if sent < REQUESTS_MAX => format!("{sent} sent"),
            Some(sent) => format!("{sent} sent, which is all"),
        }];
        if self.unanswered > 0 {
            parts.push(paint.red(&format!("{} not answered", self.unanswered)));
        }
        if let Some(traces) = &self.traces {
            let close = traces.next_close_s.map(|seconds| format!(", next closes in {seconds} s"));
            parts.push(format!("{} open{}", traces.open, close.unwrap_or_default()));
            parts.push(format!("{} written", traces.written));
            parts.extend(traces.fault.as_ref().map(|fault| paint.red(fault)));
            parts.push(traces.page.clone());
        }
        parts.join(&paint.dim(" · "))
    }
}

/// What goes to a terminal so that one line stays below everything else. Elsewhere there is no such line.
#[derive(Debug)]
pub struct Progress {
    in_place: bool,
    line: RefCell<String>,
}

impl Progress {
    /// `in_place` tells whether the output can be drawn over.
    pub fn new(in_place: bool) -> Self {
        Self { in_place, line: RefCell::default() }
    }

    /// Whether there is such a line.
    pub fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// What to write when the line changes.
    pub fn change(&self, line: String) -> String {
        if !self.in_place {
            return String::new();
        }
        *self.line.borrow_mut() = line;
        self.above("")
    }

    /// What to write to have whole lines of text above the line.
    pub fn above(&self, text: &str) -> String {
        if !self.in_place {
            return text.to_owned();
        }
        format!("{ERASE}{text}{NO_WRAP}{}{WRAP}", self.line.borrow())
    }

    /// What to write when the line has come to its end.
    pub fn end(&self) -> &'static str {
        if self.in_place { ERASE } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_what_was_sent_and_how_the_traces_are_doing() {
        let traces = Traces {
            open: 12,
            next_close_s: Some(42),
            written: 7,
            fault: None,
            page: "http://127.0.0.1:18082/".to_owned(),
        };
        for (state, line) in [
            (State { sent: Some(1), ..State::default() }, "1 sent"),
            (
                State { sent: Some(13), traces: Some(traces.clone()), ..State::default() },
                "13 sent · 12 open, next closes in 42 s · 7 written · http://127.0.0.1:18082/",
            ),
            (
                State { traces: Some(Traces { page: "p".to_owned(), ..Traces::default() }), ..State::default() },
                "nothing sent · 0 open · 0 written · p",
            ),
            (
                State {
                    sent: Some(REQUESTS_MAX),
                    unanswered: 2,
                    traces: Some(Traces { fault: Some("disk full".to_owned()), ..traces }),
                },
                "10000 sent, which is all · 2 not answered · 12 open, next closes in 42 s · 7 written · disk full · \
                 http://127.0.0.1:18082/",
            ),
        ] {
            assert_eq!(state.line(Paint::plain()), line);
        }
    }

    #[test]
    fn text_goes_above_the_line_which_is_drawn_again() {
        let progress = Progress::new(true);
        assert_eq!(progress.change("one".to_owned()), "\r\x1b[2K\x1b[?7lone\x1b[?7h");
        assert_eq!(progress.above("a tree\n"), "\r\x1b[2Ka tree\n\x1b[?7lone\x1b[?7h");
        assert_eq!(progress.end(), "\r\x1b[2K");
    }

    #[test]
    fn without_a_terminal_there_is_only_the_text() {
        let progress = Progress::new(false);
        assert_eq!(progress.change("one".to_owned()) + &progress.above("a tree\n") + progress.end(), "a tree\n");
    }
}
