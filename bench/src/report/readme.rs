//! The part of a README between two markers.

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// The text with `part` between the markers, and everything else as it was.
pub(super) fn replace(text: &str, part: &str) -> Result<String> {
    let missing = || format!("there is no {BEGIN} with {END} after it");
    let (before, rest) = text.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", part.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes_and_twice_is_as_once() {
        let text = "# A\n\n<!-- bench:begin -->\nold\n<!-- bench:end -->\n\n## B\n";
        let once = replace(text, "| new |\n").unwrap();
        assert_eq!(once, "# A\n\n<!-- bench:begin -->\n\n| new |\n\n<!-- bench:end -->\n\n## B\n");
        assert_eq!(replace(&once, "| new |\n").unwrap(), once);
    }

    #[test]
    fn a_text_without_both_markers_in_order_is_refused() {
        for text in ["", BEGIN, END, "<!-- bench:end -->\n<!-- bench:begin -->"] {
            assert!(replace(text, "new").is_err(), "{text}");
        }
    }
}
