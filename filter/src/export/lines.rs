//! What the operator should read in the proxy's log: collected here, written by the host.

use alloc::string::String;
use alloc::vec::Vec;

use crate::config::LogLevel;

/// Lines that wait for the host; further ones are left out, and the last line says how many.
const LINES_MAX: usize = 64;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How urgent it is.
    pub level: LogLevel,
    /// The text, without a line break.
    pub text: String,
}

/// The lines since the host last took them.
#[derive(Debug, Default)]
pub struct Lines {
    lines: Vec<Line>,
    left_out: u32,
}

impl Lines {
    /// Adds a line.
    pub fn push(&mut self, level: LogLevel, text: String) {
        if self.lines.len() < LINES_MAX {
            self.lines.push(Line { level, text });
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    /// Hands the lines out.
    pub fn take(&mut self) -> Vec<Line> {
        let mut lines = core::mem::take(&mut self.lines);
        let left_out = core::mem::take(&mut self.left_out);
        if left_out > 0 {
            lines.push(Line {
                level: LogLevel::Warn,
                text: format!("{left_out} further lines about exporters left out"),
            });
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_say_what_is_missing() {
        let mut lines = Lines::default();
        for number in 0..LINES_MAX + 3 {
            lines.push(LogLevel::Error, number.to_string());
        }
        let taken = lines.take();
        assert_eq!(taken.len(), LINES_MAX + 1);
        assert_eq!(taken.last().unwrap().text, "3 further lines about exporters left out");
        assert_eq!(lines.take(), []);
    }
}
