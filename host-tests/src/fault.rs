//! Fault injection: a test says which host call answers what.

use crate::abi::Status;

/// A rule that makes host calls answer a status instead of doing their work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    name: String,
    status: Status,
    skip: u64,
    times: u64,
    about: Option<String>,
}

impl Fault {
    /// Every call of `name` answers `status`.
    #[must_use]
    pub fn on(name: impl Into<String>, status: Status) -> Self {
        Self { name: name.into(), status, skip: 0, times: u64::MAX, about: None }
    }

    /// Only the `nth` call (counted from 1, since the rule was made) answers so.
    #[must_use]
    pub fn nth(self, nth: u64) -> Self {
        Self { skip: nth.saturating_sub(1), times: 1, ..self }
    }

    /// Only the next `times` calls answer so.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// Only calls about this header, property, key, metric or cluster answer so.
    #[must_use]
    pub fn about(self, about: impl Into<String>) -> Self {
        Self { about: Some(about.into()), ..self }
    }
}

/// The rules of a proxy, tried in order.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<Fault>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.rules.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    /// The status this call answers instead of being done, if a rule says so.
    pub(crate) fn answer(&mut self, name: &str, about: &str) -> Option<Status> {
        let applies = |rule: &&mut Fault| {
            rule.name == name && rule.times > 0 && rule.about.as_ref().is_none_or(|wanted| wanted == about)
        };
        let rule = self.rules.iter_mut().find(applies)?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nth_call_fails() {
        let mut faults = Faults::default();
        faults.add(Fault::on("f", Status::InternalFailure).nth(2));
        let answers: Vec<_> = (0..3).map(|_| faults.answer("f", "")).collect();
        assert_eq!(answers, [None, Some(Status::InternalFailure), None]);
    }

    #[test]
    fn a_rule_minds_the_name_and_what_the_call_is_about() {
        let mut faults = Faults::default();
        faults.add(Fault::on("f", Status::NotFound).about("x"));
        assert_eq!(faults.answer("g", "x"), None);
        assert_eq!(faults.answer("f", "y"), None);
        assert_eq!(faults.answer("f", "x"), Some(Status::NotFound));
    }
}
