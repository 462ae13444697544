//! What an application must know to take part in CAT.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{CrossProcessId, CrossProcessIdError, EncodingKey};

/// Why CAT stays off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsError {
    /// The own cross process id breaks the rule named.
    CrossProcessId(CrossProcessIdError),
    /// The encoding key is empty.
    EncodingKey,
}

impl core::fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::CrossProcessId(why) => why.fmt(formatter),
            Self::EncodingKey => formatter.write_str("the encoding key is empty"),
        }
    }
}

/// What New Relic's agents get when they connect, and a proxy from its operator. Made once, used for every request.
#[derive(Clone, Debug)]
pub struct Settings {
    cross_process_id: CrossProcessId,
    encoding_key: EncodingKey,
    trusted_account_ids: Vec<Box<str>>,
    app_name: Box<str>,
    /// The own id, obfuscated: the same in every request.
    obfuscated_id: Box<str>,
}

impl Settings {
    /// Checks what was configured.
    ///
    /// `cross_process_id` is the own `{account}#{application}`, `encoding_key` any bytes, `trusted_account_ids` the
    /// accounts whose headers are believed, decimal digits. Of several application names joined by `;`, as agents
    /// take them, the first counts in path hashes.
    ///
    /// # Errors
    /// [`SettingsError`] names what is missing or broken; CAT is then off.
    pub fn new(
        cross_process_id: &str,
        encoding_key: &[u8],
        trusted_account_ids: &[Box<str>],
        app_name: &str,
    ) -> Result<Self, SettingsError> {
        let cross_process_id = CrossProcessId::parse(cross_process_id).map_err(SettingsError::CrossProcessId)?;
        let encoding_key = EncodingKey::new(encoding_key).ok_or(SettingsError::EncodingKey)?;
        Ok(Self {
            obfuscated_id: encoding_key.encode(cross_process_id.as_str().as_bytes()).into(),
            cross_process_id,
            encoding_key,
            trusted_account_ids: trusted_account_ids.to_vec(),
            app_name: app_name.split(';').next().unwrap_or(app_name).trim().into(),
        })
    }

    /// The own id.
    pub fn cross_process_id(&self) -> &CrossProcessId {
        &self.cross_process_id
    }

    /// The own id as requests carry it.
    pub fn obfuscated_id(&self) -> &str {
        &self.obfuscated_id
    }

    /// The key of every value.
    pub fn encoding_key(&self) -> &EncodingKey {
        &self.encoding_key
    }

    /// The name that path hashes are made of.
    pub fn app_name(&self) -> &str {
        &self.app_name
    }

    /// Whether the account of an id is one of the trusted ones.
    pub fn trusts(&self, id: &CrossProcessId) -> bool {
        self.trusted_account_ids.iter().any(|account| **account == *id.account())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> [Box<str>; 2] {
        ["4001".into(), "4002".into()]
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        for (id, key, why) in [
            ("", "k", SettingsError::CrossProcessId(CrossProcessIdError::Separator)),
            ("4001#", "k", SettingsError::CrossProcessId(CrossProcessIdError::Application)),
            ("4001#90210", "", SettingsError::EncodingKey),
        ] {
            assert_eq!(Settings::new(id, key.as_bytes(), &trusted(), "inventory").err(), Some(why), "{id} {key}");
        }
    }

    #[test]
    fn the_whole_account_must_be_trusted() {
        let settings = Settings::new("4001#90210", b"k", &trusted(), "inventory").unwrap();
        for (id, expected) in [("4002#1", true), ("400#1", false), ("40020#1", false), ("1#4002", false)] {
            assert_eq!(settings.trusts(&CrossProcessId::parse(id).unwrap()), expected, "{id}");
        }
    }

    #[test]
    fn the_first_of_several_application_names_counts() {
        for (configured, expected) in [("inventory", "inventory"), ("inventory; all shops", "inventory"), ("", "")] {
            let settings = Settings::new("4001#90210", b"k", &[], configured).unwrap();
            assert_eq!(settings.app_name(), expected);
        }
    }

    #[test]
    fn debug_output_has_no_key() {
        let settings = Settings::new("4001#90210", b"f00dcafe1234", &trusted(), "inventory").unwrap();
        assert!(!format!("{settings:?}").contains("f00dcafe"));
    }
}
