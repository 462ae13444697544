//! Colours for a terminal, and none for anything else.

use std::io::IsTerminal;

/// Colours of services, told apart by name; none of them is the red of an error.
const SERVICE_COLOURS: [u8; 6] = [36, 35, 34, 33, 94, 96];

/// Writes text in colour, or as it is.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    coloured: bool,
}

impl Paint {
    /// For the standard output: coloured when that is a terminal and `NO_COLOR` is not set.
    pub fn for_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { coloured: wanted && std::io::stdout().is_terminal() }
    }

    /// Without colours.
    pub fn plain() -> Self {
        Self { coloured: false }
    }

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.code(1, text)
    }

    /// Something that may be overlooked.
    pub fn dim(self, text: &str) -> String {
        self.code(2, text)
    }

    /// Something that went well.
    pub fn green(self, text: &str) -> String {
        self.code(32, text)
    }

    /// Something that failed.
    pub fn red(self, text: &str) -> String {
        self.code(31, text)
    }

    /// A service's name in that service's colour, filled up with blanks to `width`.
    pub fn service(self, name: &str, width: usize) -> String {
        let hash = name.bytes().fold(0, |hash: u32, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let colour = SERVICE_COLOURS[hash as usize % SERVICE_COLOURS.len()];
        self.code(colour, &format!("{name:<width$}"))
    }

    fn code(self, code: u8, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_has_no_codes() {
        let paint = Paint::plain();
        assert_eq!(paint.red("x") + &paint.bold("y") + &paint.service("cart", 6), "xycart  ");
    }

    #[test]
    fn the_services_of_the_demos_traces_have_a_colour_each() {
        let names = ["edge-gateway", "storefront", "cart", "payments"];
        let painted = names.map(|name| Paint { coloured: true }.service(name, 0).replace(name, ""));
        assert_eq!(painted.iter().collect::<std::collections::HashSet<_>>().len(), names.len(), "{painted:?}");
    }

    #[test]
    fn colours_do_not_change_the_width() {
        let painted = Paint { coloured: true }.service("cart", 6);
        assert!(painted.starts_with("\x1b[") && painted.contains("cart  \x1b[0m"), "{painted:?}");
    }
}
