//! Reading of single values: each reader notes what is wrong and goes on with a default, so that one pass finds
//! all faults. The readers are kept out of line: they run once, each has many callers, and the module's size matters.

use alloc::string::String;
use alloc::vec::Vec;

use super::fault::{Fault, Problem, Rule, quoted, shortened};
use super::text::TextRule;
use crate::json::Value;

/// Shown in the place of anything that may be a secret.
const REDACTED: &str = "[redacted]";

/// Bytes of a name that is written out in a key; longer ones are quoted, which shortens them.
const PLAIN_NAME_BYTES_MAX: usize = 64;

/// What reading found out so far.
pub(super) struct Findings<'e> {
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<String>,
    environment: &'e dyn Fn(&str) -> Option<String>,
}

impl<'e> Findings<'e> {
    pub(super) fn new(environment: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self { faults: Vec::new(), warnings: Vec::new(), environment }
    }

    fn note(&mut self, key: String, problem: Problem, rule: Rule) {
        let key = if key.is_empty() { "configuration".into() } else { key };
        self.faults.push(Fault { key, problem, rule });
    }
}

/// A place in the configuration: how to get there and what is written there. Its key is spelt only for a fault.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    parent: Option<&'a Self>,
    part: Part<'a>,
    pub(super) value: Option<&'a Value<'a>>,
    is_secret: bool,
}

/// The last part of a key.
#[derive(Clone, Copy)]
enum Part<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    /// The whole configuration.
    pub(super) fn root(value: &'a Value<'a>) -> Self {
        Self { parent: None, part: Part::Name(""), value: Some(value), is_secret: false }
    }

    /// The same place, of which no value is ever shown, nor of the places below.
    pub(super) fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    /// The same place; nothing is written there when it is an empty text.
    pub(super) fn unless_empty(self) -> Self {
        Self { value: self.value.filter(|value| value.as_str() != Some("")), ..self }
    }

    /// The place below a key; nothing is written there when this is no object.
    #[inline(never)]
    pub(super) fn at(&'a self, name: &'a str) -> Self {
        let value = self.value.and_then(|value| value.get(name));
        self.below(Part::Name(name), value)
    }

    fn below(&'a self, part: Part<'a>, value: Option<&'a Value<'a>>) -> Self {
        Self { parent: Some(self), part, value, is_secret: self.is_secret }
    }

    /// The full path of the key. A name that would be mistaken for more than one is quoted.
    pub(super) fn key(&self) -> String {
        let Some(parent) = self.parent else { return String::new() };
        let mut key = parent.key();
        let name = match self.part {
            Part::Index(index) => {
                key.push_str(&format!("[{index}]"));
                return key;
            }
            Part::Name(name) => name,
        };
        if !key.is_empty() {
            key.push('.');
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        match (1..=PLAIN_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain) {
            true => key.push_str(name),
            false => key.push_str(&quoted(name)),
        }
        key
    }

    pub(super) fn is_written(&self) -> bool {
        self.value.is_some()
    }

    /// Notes that what is written here, or that nothing is, breaks a rule.
    #[inline(never)]
    pub(super) fn refuse(&self, rule: Rule, findings: &mut Findings<'_>) {
        findings.note(self.key(), self.problem(), rule);
    }

    /// As [`Self::refuse`], with something else to show than what is written here.
    pub(super) fn refuse_text(&self, shown: &str, rule: Rule, findings: &mut Findings<'_>) {
        findings.note(self.key(), Problem::Value(shown.into()), rule);
    }

    /// Notes that the last part of this place's key breaks a rule.
    pub(super) fn check_name(&self, name: &str, rule: TextRule, findings: &mut Findings<'_>) {
        if !rule.accepts(name) {
            self.refuse_text(&quoted(name), Rule::Text(rule), findings);
        }
    }

    /// Notes something odd that is no fault.
    #[inline(never)]
    pub(super) fn warn(&self, text: &str, findings: &mut Findings<'_>) {
        findings.warnings.push(format!("{}: {text}", self.key()));
    }

    /// What is written here, for a line of text.
    #[inline(never)]
    pub(super) fn shown(&self) -> String {
        match self.value {
            Some(_) if self.is_secret => REDACTED.into(),
            // Anything may stand in a list or an object, a secret too.
            Some(Value::Array(_)) => "a list".into(),
            Some(Value::Object(_)) => "an object".into(),
            Some(Value::String(text)) => quoted(text),
            Some(Value::Number(number)) => shortened(number.as_str()),
            Some(Value::Bool(true)) => "true".into(),
            Some(Value::Bool(false)) => "false".into(),
            Some(Value::Null) | None => "null".into(),
        }
    }

    fn problem(&self) -> Problem {
        if self.is_written() { Problem::Value(self.shown()) } else { Problem::Missing }
    }

    /// Notes the keys that are not known, and anything but an object. Whether there is an object.
    #[inline(never)]
    pub(super) fn object(&self, known: &'static [&'static str], findings: &mut Findings<'_>) -> bool {
        match self.value {
            None => return false,
            Some(Value::Object(map)) => {
                for name in map.keys().filter(|name| !known.contains(name)) {
                    let place = self.below(Part::Name(name), None);
                    // In the place of a secret the key itself may be one.
                    let key = if self.is_secret { format!("{}.{REDACTED}", self.key()) } else { place.key() };
                    findings.note(key, Problem::UnknownKey, Rule::Keys(known));
                }
                for name in known.iter().filter(|name| map.count(name) > 1) {
                    findings.note(self.at(name).key(), Problem::Repeated, Rule::Once);
                }
                return true;
            }
            // Whoever writes a text in the place of an exporter may have written its key.
            Some(Value::String(_)) => self.refuse_text("a string", Rule::Object, findings),
            Some(_) => self.refuse(Rule::Object, findings),
        }
        false
    }

    /// The one of these keys that is written, and its place. `None` is noted, also for nothing at all.
    #[inline(never)]
    pub(super) fn one_key(
        &'a self,
        known: &'static [&'static str],
        findings: &mut Findings<'_>,
    ) -> Option<(&'static str, Self)> {
        let map = self.value.and_then(Value::as_object);
        let mut written = known.iter().filter(|name| map.is_some_and(|map| map.get(name).is_some()));
        match (written.next(), written.next()) {
            (Some(name), None) => self.object(known, findings).then(|| (*name, self.at(name))),
            // Without any known key the unknown ones are enough to complain of.
            (None, _) if map.is_some_and(|map| !map.is_empty()) => {
                self.object(known, findings);
                None
            }
            _ => {
                self.refuse(Rule::OneKey(known), findings);
                None
            }
        }
    }

    /// The entries of an object with keys of the operator's choice.
    #[inline(never)]
    pub(super) fn entries(&'a self, most: usize, findings: &mut Findings<'_>) -> Vec<(&'a str, Self)> {
        match self.value {
            None => Vec::new(),
            Some(Value::Object(map)) if map.len() <= most => {
                let mut entries: Vec<(&str, Self)> = Vec::with_capacity(map.len());
                for name in map.keys() {
                    let place = self.at(name);
                    if entries.iter().any(|(earlier, _)| *earlier == name) {
                        findings.note(place.key(), Problem::Repeated, Rule::Once);
                    } else {
                        entries.push((name, place));
                    }
                }
                entries
            }
            Some(_) => {
                self.refuse(Rule::Map(most), findings);
                Vec::new()
            }
        }
    }

    /// The entries of a list.
    #[inline(never)]
    pub(super) fn items(&'a self, most: usize, findings: &mut Findings<'_>) -> Vec<Self> {
        match self.value {
            None => Vec::new(),
            Some(Value::Array(values)) if values.len() <= most => {
                let item = |(index, value)| self.below(Part::Index(index), Some(value));
                values.iter().enumerate().map(item).collect()
            }
            Some(_) => {
                self.refuse(Rule::List(most), findings);
                Vec::new()
            }
        }
    }

    #[inline(never)]
    pub(super) fn boolean(&self, default: bool, findings: &mut Findings<'_>) -> bool {
        match self.value {
            None => default,
            Some(Value::Bool(value)) => *value,
            Some(_) => {
                self.refuse(Rule::Bool, findings);
                default
            }
        }
    }

    /// A whole number, when that is what is written here, and it is within the bounds.
    #[inline(never)]
    pub(super) fn whole(&self, least: u32, most: u32) -> Option<u32> {
        let number = self.value?.as_f64()?;
        if !(f64::from(least)..=f64::from(most)).contains(&number) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two u32")]
        let whole = number as u32;
        (number - f64::from(whole) == 0.0).then_some(whole)
    }

    #[inline(never)]
    pub(super) fn integer(&self, least: u32, most: u32, default: u32, findings: &mut Findings<'_>) -> u32 {
        if !self.is_written() {
            return default;
        }
        self.whole(least, most).unwrap_or_else(|| {
            self.refuse(Rule::Integer(least, most), findings);
            default
        })
    }

    /// A text that obeys the rule; `None` also when nothing is written.
    #[inline(never)]
    pub(super) fn text(&self, rule: TextRule, findings: &mut Findings<'_>) -> Option<&'a str> {
        let value = self.value?;
        let text = value.as_str().filter(|text| rule.accepts(text));
        if text.is_none() {
            self.refuse(Rule::Text(rule), findings);
        }
        text
    }

    /// As [`Self::text`], but nothing is a fault.
    #[inline(never)]
    pub(super) fn required(&self, rule: TextRule, findings: &mut Findings<'_>) -> Option<&'a str> {
        if !self.is_written() {
            self.refuse(Rule::Text(rule), findings);
        }
        self.text(rule, findings)
    }

    /// One of the texts, when one is written.
    #[inline(never)]
    pub(super) fn choice(&self, names: &'static [&'static str], findings: &mut Findings<'_>) -> Option<&'static str> {
        let value = self.value?;
        let name = names.iter().find(|name| value.as_str() == Some(**name)).copied();
        if name.is_none() {
            self.refuse(Rule::OneOf(names), findings);
        }
        name
    }

    /// The text that `{"env": NAME}` or `{"value": TEXT}` stands for.
    #[inline(never)]
    pub(super) fn sourced(&self, rule: TextRule, findings: &mut Findings<'_>) -> Option<String> {
        let (name, place) = self.one_key(&["env", "value"], findings)?;
        match name {
            "env" => place.named_variable(rule, findings),
            _ => place.text(rule, findings).map(String::from),
        }
    }

    /// As [`Self::sourced`], or simply the text.
    #[inline(never)]
    pub(super) fn text_or_sourced(&self, rule: TextRule, findings: &mut Findings<'_>) -> Option<String> {
        match self.value? {
            Value::Object(_) => self.sourced(rule, findings),
            Value::String(_) => self.text(rule, findings).map(String::from),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                self.refuse(Rule::TextOrSource, findings);
                None
            }
        }
    }

    /// The value of the environment variable whose name is written here.
    pub(super) fn named_variable(&self, rule: TextRule, findings: &mut Findings<'_>) -> Option<String> {
        let name = self.text(TextRule::VariableName, findings)?;
        self.variable(name, rule, findings)
    }

    /// The value of an environment variable, without the line end that a file of one line brings along.
    #[inline(never)]
    pub(super) fn variable(&self, name: &str, rule: TextRule, findings: &mut Findings<'_>) -> Option<String> {
        let value = (findings.environment)(name).unwrap_or_default();
        let value = value.trim();
        if value.is_empty() {
            findings.note(self.key(), Problem::UnsetVariable(name.into()), Rule::SetVariable);
            return None;
        }
        if !rule.accepts(value) {
            findings.note(self.key(), Problem::VariableValue(name.into()), Rule::Text(rule));
            return None;
        }
        Some(value.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::json::parse;

    fn read<T>(value: &serde_json::Value, reader: impl FnOnce(&Place<'_>, &mut Findings<'_>) -> T) -> (T, Vec<String>) {
        let text = value.to_string();
        let value = parse(text.as_bytes()).unwrap();
        let environment = |name: &str| (name == "SET").then(|| " text\n".to_owned());
        let mut findings = Findings::new(&environment);
        let result = reader(&Place::root(&value).at("k"), &mut findings);
        (result, findings.faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_key_is_written_so_that_it_can_be_found() {
        let value = parse(br#"{"a": {"x y": {"b": [0, {"c": 1}]}}}"#).unwrap();
        let mut findings = Findings::new(&|_| None);
        let root = Place::root(&value);
        let [a, quoted] = [root.at("a"), root.at("")];
        let odd = a.at("x y");
        let list = odd.at("b");
        let items = list.items(2, &mut findings);
        assert_eq!(items.last().unwrap().at("c").key(), r#"a."x y".b[1].c"#);
        assert_eq!(quoted.key(), r#""""#);
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction_of_zero() {
        for (value, expected) in [
            (json!({"k": 7}), Some(7)),
            (json!({"k": 7.0}), Some(7)),
            (json!({"k": 7.5}), None),
            (json!({"k": 11}), None),
            (json!({"k": -1}), None),
            (json!({"k": "7"}), None),
            (json!({"k": u64::MAX}), None),
        ] {
            let (result, faults) = read(&value, |place, findings| place.integer(0, 10, 3, findings));
            assert_eq!(result, expected.unwrap_or(3), "{value}");
            assert_eq!(faults.len(), usize::from(expected.is_none()), "{value}");
        }
    }

    #[test]
    fn a_variable_counts_without_blanks_and_line_ends_around_it() {
        let (text, faults) =
            read(&json!({"k": {"env": "SET"}}), |place, findings| place.sourced(TextRule::Printable, findings));
        assert_eq!((text.as_deref(), faults), (Some("text"), Vec::new()));
    }

    #[test]
    fn exactly_one_source_of_a_text_is_wanted() {
        const ONE: &str = "an object with exactly one of env, value";
        for (value, expected) in [
            (json!({}), format!("k: missing: {ONE}")),
            (json!({"k": {}}), format!("k: an object is not allowed: {ONE}")),
            (json!({"k": {"env": "SET", "value": "x"}}), format!("k: an object is not allowed: {ONE}")),
            (json!({"k": ["SET"]}), format!("k: a list is not allowed: {ONE}")),
            (json!({"k": {"vaule": "x"}}), "k.vaule: unknown key: known here: env, value".to_owned()),
            (json!({"k": {"value": "x", "n": 1}}), "k.n: unknown key: known here: env, value".to_owned()),
        ] {
            let (_, faults) = read(&value, |place, findings| place.sourced(TextRule::Printable, findings));
            assert_eq!(faults, [expected], "{value}");
        }
    }

    #[test]
    fn a_secret_place_shows_nothing_that_is_written_below_it() {
        for value in [
            json!("s3cret\n"),
            json!({"value": "s3cret\n"}),
            json!(["s3cret"]),
            json!({"env": "s3cret-"}),
            json!({"s3cret": ""}),
        ] {
            let value = json!({ "k": value });
            let (_, faults) =
                read(&value, |place, findings| place.secret().text_or_sourced(TextRule::Printable, findings));
            assert_eq!(faults.len(), 1, "{value}");
            assert!(!faults.concat().contains("s3cret"), "{faults:?}");
        }
    }
}
