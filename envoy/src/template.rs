//! Fills the `${NAME}` placeholders of an Envoy configuration.

use anyhow::{Context, Result, bail};

/// Replaces every `${NAME}` in `template` by what `value_of` gives for `NAME`.
///
/// # Errors
/// A placeholder that `value_of` does not know, or one without its closing brace: a half-filled
/// configuration would fail in Envoy with a message about something else.
pub fn render(template: &str, value_of: impl Fn(&str) -> Option<String>) -> Result<String> {
    let mut rendered = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').context("a placeholder lacks its closing brace")?;
        let Some(value) = value_of(name) else {
            bail!("the template has an unknown placeholder ${{{name}}}");
        };
        rendered.push_str(before);
        rendered.push_str(&value);
        rest = after;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str) -> Option<String> {
        (name == "PORT").then(|| "8080".to_owned())
    }

    #[test]
    fn fills_every_placeholder_and_keeps_the_rest() {
        let rendered = render("a: ${PORT}\nb: [${PORT}] # $5 {x}", port).unwrap();
        assert_eq!(rendered, "a: 8080\nb: [8080] # $5 {x}");
    }

    #[test]
    fn names_the_placeholder_it_does_not_know() {
        let error = render("a: ${PROT}", port).unwrap_err();
        assert!(error.to_string().contains("${PROT}"), "{error}");
    }

    #[test]
    fn refuses_a_placeholder_without_an_end() {
        assert!(render("a: ${PORT", port).is_err());
    }
}
