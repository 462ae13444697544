//! New Relic's `tracestate` list member (New Relic agents' W3C entry).
//!
//! ```text
//! {trusted account key}@nr={version}-{parent type}-{account}-{app}-{span id}-{transaction id}-{sampled}-{priority}-{timestamp}
//! ```
//! Nine fields; span id, transaction id, sampled and priority may be empty. A later version may add fields.

use alloc::vec::Vec;

use super::priority::{self, Priority};
use super::{CallerType, parse_integer};
use crate::swar;

/// Longer ids count as missing, as in the `newrelic` header that they go on in.
const ID_BYTES_MAX: usize = 128;

/// A valid entry; fields are slices of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Field 1.
    pub parent_type: CallerType,
    /// Field 2.
    pub account_id: &'a [u8],
    /// Field 3.
    pub app_id: &'a [u8],
    /// Field 4: the last New Relic span upstream.
    pub span_id: Option<&'a [u8]>,
    /// Field 5: guid of the caller's transaction.
    pub transaction_id: Option<&'a [u8]>,
    /// Field 6; anything but `0` and `1` is absent.
    pub sampled: Option<bool>,
    /// Field 7; what is no number in `[0, 1000000)` is absent.
    pub priority: Option<Priority>,
    /// Field 8: creation time, Unix milliseconds.
    pub timestamp_ms: i64,
}

/// The rule that an entry breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// Fewer than nine fields.
    FieldCount,
    /// Not a whole number.
    Version,
    /// Neither `0`, `1` nor `2`.
    ParentType,
    /// Empty.
    AccountId,
    /// Empty.
    AppId,
    /// Not a whole number.
    Timestamp,
}

impl core::fmt::Display for EntryError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Self::FieldCount => "fewer than nine fields",
            Self::Version => "version is not a whole number",
            Self::ParentType => "parent type is neither 0, 1 nor 2",
            Self::AccountId => "account id is empty",
            Self::AppId => "application id is empty",
            Self::Timestamp => "timestamp is not a whole number",
        })
    }
}

/// Reads the value of a list member.
///
/// # Errors
/// The variant names the broken rule.
pub fn parse(value: &[u8]) -> Result<Entry<'_>, EntryError> {
    use EntryError as E;
    let mut fields = [&[][..]; 9];
    let (last, others) = fields.split_last_mut().ok_or(E::FieldCount)?;
    let mut rest = value;
    for field in others {
        (*field, rest) = swar::split_once(rest, b'-').ok_or(E::FieldCount)?;
    }
    // A later version may have more.
    *last = swar::split_once(rest, b'-').map_or(rest, |(field, _)| field);
    let [version, parent_type, account_id, app_id, span_id, transaction_id, sampled, priority, timestamp] = fields;
    if version.is_empty() || !version.iter().all(u8::is_ascii_digit) {
        return Err(E::Version);
    }
    Ok(Entry {
        parent_type: parent_type_of(parent_type).ok_or(E::ParentType)?,
        account_id: not_empty(account_id).ok_or(E::AccountId)?,
        app_id: not_empty(app_id).ok_or(E::AppId)?,
        span_id: not_empty(span_id),
        transaction_id: not_empty(transaction_id).filter(|id| id.len() <= ID_BYTES_MAX),
        sampled: sampled_of(sampled),
        priority: Priority::parse(priority),
        timestamp_ms: parse_integer(timestamp).ok_or(E::Timestamp)?,
    })
}

fn not_empty(field: &[u8]) -> Option<&[u8]> {
    (!field.is_empty()).then_some(field)
}

fn parent_type_of(field: &[u8]) -> Option<CallerType> {
    match field {
        b"0" => Some(CallerType::App),
        b"1" => Some(CallerType::Browser),
        b"2" => Some(CallerType::Mobile),
        _ => None,
    }
}

fn sampled_of(field: &[u8]) -> Option<bool> {
    match field {
        b"1" => Some(true),
        b"0" => Some(false),
        _ => None,
    }
}

/// What we write of ourselves.
#[derive(Clone, Copy, Debug)]
pub struct OwnEntry<'a> {
    /// The trusted account key, without `@nr`.
    pub trusted_account_key: &'a str,
    /// Own account.
    pub account_id: &'a str,
    /// Own application.
    pub app_id: &'a str,
    /// The span id of `traceparent`, for receivers that still read it here.
    pub span_id: Option<&'a [u8]>,
    /// Guid of the transaction; left empty when it would break the entry.
    pub transaction_id: Option<&'a [u8]>,
    /// The decision.
    pub sampled: bool,
    /// The priority.
    pub priority: Priority,
    /// Creation time, Unix milliseconds.
    pub timestamp_ms: u64,
}

/// Bytes of an entry beside the texts it is given: key suffix, dashes, flags, priority, timestamp.
const FIXED_BYTES: usize = 16 + priority::TEXT_BYTES_MAX + 20;

impl OwnEntry<'_> {
    /// The list member, key included.
    pub fn to_bytes(&self) -> Vec<u8> {
        let span_id = self.span_id.unwrap_or_default();
        let transaction_id = self.transaction_id.filter(|id| is_field(id)).unwrap_or_default();
        let texts = 2 * self.trusted_account_key.len() + self.app_id.len() + span_id.len() + transaction_id.len();
        let mut out = Vec::with_capacity(texts + FIXED_BYTES);
        out.extend_from_slice(self.trusted_account_key.as_bytes());
        out.extend_from_slice(b"@nr=0-0-");
        for field in [self.account_id.as_bytes(), self.app_id.as_bytes(), span_id, transaction_id] {
            out.extend_from_slice(field);
            out.push(b'-');
        }
        out.extend_from_slice(if self.sampled { b"1-" } else { b"0-" });
        self.priority.write(&mut out);
        out.push(b'-');
        out.extend_from_slice(itoa::Buffer::new().format(self.timestamp_ms).as_bytes());
        out
    }
}

/// Whether a peer's text may stand in a field: printable, without the separators of field, list and member.
fn is_field(text: &[u8]) -> bool {
    let separators = |word| swar::equal(word, b'-') | swar::equal(word, b',') | swar::equal(word, b'=');
    text.len() <= ID_BYTES_MAX
        && swar::find(text, b' ').is_none()
        && swar::all(text, |word| swar::printable(word) & !separators(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use EntryError as E;

    #[test]
    fn reads_every_field() {
        let entry = parse(b"0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-2.0381479-1749999999900").unwrap();
        assert_eq!(
            entry,
            Entry {
                parent_type: CallerType::App,
                account_id: b"4002",
                app_id: b"55",
                span_id: Some(b"aa11bb22cc33dd44"),
                transaction_id: Some(b"1122334455667788"),
                sampled: Some(true),
                priority: Priority::from_micros(2_038_148),
                timestamp_ms: 1_749_999_999_900,
            }
        );
    }

    #[test]
    fn optional_fields_may_be_empty_or_odd() {
        for (value, sampled, priority) in [
            ("0-2-4002-55-----1749999999900", None, None),
            ("0-2-4002-Unknown---x-y-1749999999900", None, None),
            ("0-1-4002-55---0-0.25-1749999999900", Some(false), Priority::from_micros(250_000)),
            ("1-1-4002-55---0-1000000-1749999999900-new-fields", Some(false), None),
        ] {
            let entry = parse(value.as_bytes()).unwrap();
            assert_eq!((entry.sampled, entry.priority), (sampled, priority), "{value}");
        }
    }

    #[test]
    fn each_refusal_names_its_own_rule() {
        for (value, why) in [
            ("", E::FieldCount),
            ("0-0-4002-55----1749999999900", E::FieldCount),
            ("-0-4002-55-----1749999999900", E::Version),
            ("x-0-4002-55-----1749999999900", E::Version),
            ("0-3-4002-55-----1749999999900", E::ParentType),
            ("0--4002-55-----1749999999900", E::ParentType),
            ("0-0--55-----1749999999900", E::AccountId),
            ("0-0-4002------1749999999900", E::AppId),
            ("0-0-4002-55-----", E::Timestamp),
            ("0-0-4002-55-----notanumber", E::Timestamp),
            ("0-0-4002-55-----99999999999999999999", E::Timestamp),
            ("0-0-4002-55-----1.5", E::Timestamp),
        ] {
            assert_eq!(parse(value.as_bytes()), Err(why), "{value}");
        }
    }

    #[test]
    fn writes_what_it_reads_and_leaves_out_ids_that_would_break_it() {
        let own = OwnEntry {
            trusted_account_key: "777",
            account_id: "4001",
            app_id: "90210",
            span_id: None,
            transaction_id: Some(b"9f8e7d6c5b4a3921"),
            sampled: false,
            priority: Priority::ZERO,
            timestamp_ms: 1_750_000_000_123,
        };
        assert_eq!(own.to_bytes(), b"777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-0-0-1750000000123");
        for broken in ["a-b", "a,b", "a=b", "a b", "é", "\u{1}"] {
            let own = OwnEntry { transaction_id: Some(broken.as_bytes()), sampled: true, ..own };
            assert_eq!(own.to_bytes(), b"777@nr=0-0-4001-90210---1-0-1750000000123", "{broken}");
        }
    }
}
