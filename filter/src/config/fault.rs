//! What is wrong with a configuration, in the operator's words.
//!
//! ```text
//! line    = key ": " problem ": " rule
//! key     = part *( "." part / "[" index "]" )
//! problem = value " is not allowed" / "missing" / "unknown key" / "written more than once" / reason
//!         / "the environment variable " name " is not set"
//!         / "the value of the environment variable " name " is not allowed"
//! ```

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::text::TextRule;

/// Characters of a written value that a fault shows.
const SHOWN_CHARACTERS_MAX: usize = 64;

/// Everything that is wrong with one configuration: at least one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `None` without any fault.
    pub(super) fn new(faults: Vec<Fault>) -> Option<Self> {
        (!faults.is_empty()).then_some(Self(faults))
    }

    /// The faults one by one.
    pub fn iter(&self) -> core::slice::Iter<'_, Fault> {
        self.0.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = core::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    /// One line for each fault, without a line end after the last one.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(formatter, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl core::error::Error for Faults {}

/// One fault: the key, what is wrong there, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The full path of the key, such as `exporters.trace_api.retry.attempts` or `exclude[2].path`; `configuration`
    /// for the whole. A part with other characters than letters, digits, underscores and dashes is quoted.
    pub key: String,
    /// What is wrong.
    pub problem: Problem,
    /// What is allowed.
    pub rule: Rule,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, problem, rule } = self;
        write!(formatter, "{key}: {problem}: {rule}")
    }
}

/// What is wrong at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The value as written, shortened; `[redacted]` where a secret belongs; only the kind of a list or an object.
    Value(String),
    /// Nothing is written.
    Missing,
    /// Nothing of this name exists. What is written there is not shown: it may be a misplaced secret.
    UnknownKey,
    /// The key stands in its object more than once. Readers of JSON do not agree on which one counts.
    Repeated,
    /// The environment variable of this name is not set, or is empty.
    UnsetVariable(String),
    /// The value of the environment variable of this name; it is not shown.
    VariableValue(String),
    /// The configuration as a whole cannot be read: why, and for JSON where.
    Unreadable(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(formatter, "{value} is not allowed"),
            Self::Missing => formatter.write_str("missing"),
            Self::UnknownKey => formatter.write_str("unknown key"),
            Self::Repeated => formatter.write_str("written more than once"),
            Self::UnsetVariable(name) => write!(formatter, "the environment variable {name} is not set"),
            Self::VariableValue(name) => {
                write!(formatter, "the value of the environment variable {name} is not allowed")
            }
            Self::Unreadable(reason) => formatter.write_str(reason),
        }
    }
}

/// What is allowed at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The configuration as a whole.
    Configuration,
    /// Bytes of the configuration, at most.
    Bytes(usize),
    /// One of these keys.
    Keys(&'static [&'static str]),
    /// A key that an object has once.
    Once,
    /// An object.
    Object,
    /// An object with exactly one of these keys, and what belongs to it.
    OneKey(&'static [&'static str]),
    /// A list of at most so many entries.
    List(usize),
    /// An object of at most so many keys of the operator's choice.
    Map(usize),
    /// A truth value.
    Bool,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A whole number between these, inclusive.
    Integer(u32, u32),
    /// A whole number between these, inclusive, or `unlimited`.
    IntegerOrUnlimited(u32, u32),
    /// Text of this kind.
    Text(TextRule),
    /// A text, or an object that tells where it comes from.
    TextOrSource,
    /// A status code, or a range of them.
    StatusCodes,
    /// The value of an attribute.
    AttributeValue,
    /// An attribute name that neither the filter nor another user attribute has.
    FreeAttributeName,
    /// User attributes over all, at most.
    UserAttributes(usize),
    /// A list of 1 to so many path segments.
    PropertyPath(usize),
    /// A header name that neither the exporter nor another entry writes.
    FreeHeaderName,
    /// An environment variable that has a value.
    SetVariable,
    /// No port, since the host names one.
    NoSecondPort,
    /// The account id that `{account_id}` in a path stands for.
    AccountIdForPath,
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => {
                formatter.write_str("a JSON object, or the protobuf bytes of a google.protobuf.Struct")
            }
            Self::Bytes(most) => write!(formatter, "at most {most} bytes"),
            Self::Keys(names) => list(formatter, "known here: ", names),
            Self::Once => formatter.write_str("each key once"),
            Self::Object => formatter.write_str("an object"),
            Self::OneKey(names) => list(formatter, "an object with exactly one of ", names),
            Self::List(most) => write!(formatter, "a list of at most {most} entries"),
            Self::Map(most) => write!(formatter, "an object of at most {most} keys"),
            Self::Bool => formatter.write_str("true or false"),
            Self::OneOf(names) => list(formatter, "one of ", names),
            Self::Integer(least, most) => write!(formatter, "a whole number from {least} to {most}"),
            Self::IntegerOrUnlimited(least, most) => {
                write!(formatter, "a whole number from {least} to {most}, or \"unlimited\"")
            }
            Self::Text(rule) => rule.fmt(formatter),
            Self::TextOrSource => formatter.write_str("a string, or an object with exactly one of env, value"),
            Self::StatusCodes => formatter.write_str("a status code from 100 to 599, or a range \"a-b\" of them"),
            Self::AttributeValue => formatter.write_str("text of at most 4095 bytes, a number, true or false"),
            Self::FreeAttributeName => {
                formatter.write_str("an attribute name that is given once and that the filter does not write itself")
            }
            Self::UserAttributes(most) => {
                write!(formatter, "at most {most} user attributes, those of request_headers included")
            }
            Self::PropertyPath(most) => write!(formatter, "a list of 1 to {most} path segments"),
            Self::FreeHeaderName => {
                formatter.write_str("a header name that is given once and that the exporter does not write itself")
            }
            Self::SetVariable => formatter.write_str("a variable that has a value, in vm_config.environment_variables"),
            Self::NoSecondPort => formatter.write_str("nothing, since the host names a port already"),
            Self::AccountIdForPath => formatter.write_str("needed by {account_id} in exporters.event_api.path"),
        }
    }
}

fn list(formatter: &mut fmt::Formatter<'_>, before: &str, names: &[&str]) -> fmt::Result {
    for (at, name) in names.iter().enumerate() {
        let separator = if at == 0 { before } else { ", " };
        write!(formatter, "{separator}{name}")?;
    }
    Ok(())
}

/// A text in quotes, shortened and on one line.
pub(super) fn quoted(text: &str) -> String {
    ["\"", &shortened(text), "\""].concat()
}

/// A text, shortened and on one line.
pub(super) fn shortened(text: &str) -> String {
    let mut shown = String::new();
    for (at, character) in text.chars().enumerate() {
        if at == SHOWN_CHARACTERS_MAX {
            shown.push('…');
            break;
        }
        match character {
            '"' | '\\' => shown.extend(['\\', character]),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            character if character.is_control() => shown.push(char::REPLACEMENT_CHARACTER),
            character => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_with_key_value_and_rule() {
        for (key, problem, rule, expected) in [
            (
                "distributed_tracing.enabled",
                Problem::Value(quoted("yes")),
                Rule::Bool,
                r#"distributed_tracing.enabled: "yes" is not allowed: true or false"#,
            ),
            (
                "exporters.otlp.cluster",
                Problem::Missing,
                Rule::Text(TextRule::Plain(255)),
                "exporters.otlp.cluster: missing: text of 1 to 255 bytes without control characters",
            ),
            ("logs", Problem::UnknownKey, Rule::Keys(&["a", "b"]), "logs: unknown key: known here: a, b"),
            (
                "exporters.trace_api.api_key.env",
                Problem::UnsetVariable("KEY".into()),
                Rule::SetVariable,
                "exporters.trace_api.api_key.env: the environment variable KEY is not set: a variable that has a \
                 value, in vm_config.environment_variables",
            ),
        ] {
            assert_eq!(Fault { key: key.into(), problem, rule }.to_string(), expected);
        }
    }

    #[test]
    fn faults_are_lines_without_a_last_line_end() {
        let fault = |key: &str| Fault { key: key.into(), problem: Problem::Missing, rule: Rule::Object };
        let faults = Faults::new(vec![fault("a"), fault("b")]).unwrap();
        assert_eq!(faults.to_string(), "a: missing: an object\nb: missing: an object");
        assert_eq!(Faults::new(Vec::new()), None);
    }

    #[test]
    fn a_quoted_text_stays_short_and_on_one_line() {
        assert_eq!(quoted("a\"b\\c\r\n\0"), "\"a\\\"b\\\\c\\r\\n\u{fffd}\"");
        assert_eq!(quoted(&"ä".repeat(65)), format!("\"{}…\"", "ä".repeat(64)));
    }
}
