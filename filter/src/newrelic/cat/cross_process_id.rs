//! The name of one application in all of New Relic.
//!
//! ```text
//! cross-process-id = 1*DIGIT "#" 1*DIGIT          ; account "#" application, below 64 bytes
//! ```

use alloc::boxed::Box;

/// The longest id, in bytes; longer ones are refused by newrelic/newrelic-php-agent too.
pub const CROSS_PROCESS_ID_BYTES_MAX: usize = 63;

/// Why a text is no cross process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossProcessIdError {
    /// Longer than [`CROSS_PROCESS_ID_BYTES_MAX`].
    TooLong,
    /// No `#`.
    Separator,
    /// In front of the `#` are not only digits, or none.
    Account,
    /// Behind the `#` are not only digits, or none.
    Application,
}

impl core::fmt::Display for CrossProcessIdError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Self::TooLong => "the cross process id is longer than 63 bytes",
            Self::Separator => "the cross process id has no number sign",
            Self::Account => "the account in front of the number sign is not a decimal number",
            Self::Application => "the application behind the number sign is not a decimal number",
        })
    }
}

/// Names one application: `{account}#{application}`, both decimal digits, at most
/// [`CROSS_PROCESS_ID_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossProcessId(Box<str>);

impl CrossProcessId {
    /// Reads a decoded id.
    ///
    /// # Errors
    /// The variant names the broken rule.
    pub fn parse(text: &str) -> Result<Self, CrossProcessIdError> {
        if text.len() > CROSS_PROCESS_ID_BYTES_MAX {
            return Err(CrossProcessIdError::TooLong);
        }
        let (account, application) = text.split_once('#').ok_or(CrossProcessIdError::Separator)?;
        if !is_decimal(account) {
            return Err(CrossProcessIdError::Account);
        }
        if !is_decimal(application) {
            return Err(CrossProcessIdError::Application);
        }
        Ok(Self(text.into()))
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digits in front of the `#`.
    pub fn account(&self) -> &str {
        self.0.split_once('#').map_or("", |(account, _)| account)
    }

    /// The digits behind the `#`.
    pub fn application(&self) -> &str {
        self.0.split_once('#').map_or("", |(_, application)| application)
    }
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_account_and_an_application() {
        let id = CrossProcessId::parse("4001#90210").unwrap();
        assert_eq!((id.account(), id.application()), ("4001", "90210"));
        assert_eq!(id.as_str(), "4001#90210");
    }

    #[test]
    fn each_refusal_names_its_own_rule() {
        use CrossProcessIdError as E;
        for (text, why) in [
            ("", E::Separator),
            ("4001", E::Separator),
            ("#", E::Account),
            ("#90210", E::Account),
            ("+4001#90210", E::Account),
            (" 4001#90210", E::Account),
            ("40x1#90210", E::Account),
            ("٤#1", E::Account),
            ("4001#", E::Application),
            ("4001#-1", E::Application),
            ("4001#90210\n", E::Application),
            ("4001#90210#1", E::Application),
        ] {
            assert_eq!(CrossProcessId::parse(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn the_length_is_bounded_from_both_sides() {
        let longest = format!("4001#{}", "1".repeat(58));
        assert_eq!(longest.len(), CROSS_PROCESS_ID_BYTES_MAX);
        assert_eq!(CrossProcessId::parse(&longest).unwrap().as_str(), longest);
        assert_eq!(CrossProcessId::parse(&format!("{longest}1")), Err(CrossProcessIdError::TooLong));
    }
}
