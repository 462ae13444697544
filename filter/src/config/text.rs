//! The texts that a configuration may hold: one rule for each kind.
//!
//! ```text
//! digits           = 1*20DIGIT
//! application-id   = digits / "Unknown"
//! cross-process-id = 1*DIGIT "#" 1*DIGIT               ; at most 63 bytes
//! header-name      = token                             ; RFC 9110 §5.6.2
//! host             = ( name / IPv4 / "[" IPv6 "]" ) [ ":" port ]
//! path             = "/" *visible                      ; without "#", "{" and "}"
//! variable-name    = ( ALPHA / "_" ) *( ALPHA / DIGIT / "_" )
//! ```

use alloc::string::String;
use core::fmt;

/// What a text has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextRule {
    /// Not empty, at most so many bytes, no control characters.
    Plain(usize),
    /// Decimal digits.
    Digits,
    /// Decimal digits, or `Unknown`.
    ApplicationId,
    /// `{account}#{application}`.
    CrossProcessId,
    /// The value of an attribute, or empty.
    AttributeText,
    /// The name of an attribute.
    AttributeName,
    /// The name of an attribute, or the beginning of one and an asterisk.
    AttributePattern,
    /// The name of a header, in any case.
    HeaderName,
    /// A header value, or a key to make one.
    Printable,
    /// The name of an environment variable.
    VariableName,
    /// A host, with a port if need be.
    Host,
    /// A request path, with a query if need be.
    Path,
    /// A request path in which `{account_id}` stands for the account id.
    AccountPath,
    /// One segment of a host property's path.
    PropertySegment,
}

/// Digits of an account or application id: 64-bit numbers.
const DIGITS_MAX: usize = 20;
/// Bytes of a name of anything; New Relic drops attributes with longer names, DNS knows no longer hosts.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of an attribute's value, where New Relic cuts it, and of a header value.
const VALUE_BYTES_MAX: usize = 4095;
/// Bytes of a path with query.
const PATH_BYTES_MAX: usize = 1024;
/// New Relic's agents refuse cross process ids of 64 bytes and more.
const CROSS_PROCESS_ID_BYTES_MAX: usize = 63;
/// License keys are 40 letters and digits, other keys of New Relic 32 or more.
const KEY_BYTES_MIN: usize = 32;
impl TextRule {
    /// Whether the text is one.
    pub fn accepts(self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let plain = |bytes_max| within(bytes, bytes_max) && !text.chars().any(char::is_control);
        match self {
            Self::Plain(bytes_max) => plain(bytes_max),
            Self::Digits => is_digits(text, DIGITS_MAX),
            Self::ApplicationId => text == "Unknown" || is_digits(text, DIGITS_MAX),
            Self::CrossProcessId => is_cross_process_id(text),
            Self::AttributeText => bytes.len() <= VALUE_BYTES_MAX,
            Self::AttributeName => plain(NAME_BYTES_MAX),
            Self::AttributePattern => plain(NAME_BYTES_MAX) && text.find('*').is_none_or(|at| at + 1 == text.len()),
            Self::HeaderName => within(bytes, NAME_BYTES_MAX) && bytes.iter().all(is_token),
            Self::Printable => within(bytes, VALUE_BYTES_MAX) && bytes.iter().all(|byte| matches!(byte, b' '..=b'~')),
            Self::VariableName => is_variable_name(bytes),
            Self::Host => within(bytes, NAME_BYTES_MAX) && is_host(text),
            Self::Path => is_path(bytes),
            Self::AccountPath => is_path(fill_account_id(text, "0").0.as_bytes()),
            Self::PropertySegment => within(bytes, NAME_BYTES_MAX) && !bytes.contains(&0),
        }
    }
}

fn within(bytes: &[u8], bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&bytes.len())
}

fn is_digits(text: &str, digits_max: usize) -> bool {
    within(text.as_bytes(), digits_max) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_cross_process_id(text: &str) -> bool {
    let is_id = |id| is_digits(id, CROSS_PROCESS_ID_BYTES_MAX);
    text.len() <= CROSS_PROCESS_ID_BYTES_MAX
        && text.split_once('#').is_some_and(|(account, application)| is_id(account) && is_id(application))
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// A key in the place of its variable's name is refused here, before it could be printed as the name of a variable
/// that is not set.
fn is_variable_name(bytes: &[u8]) -> bool {
    within(bytes, NAME_BYTES_MAX)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        && !bytes.first().is_some_and(u8::is_ascii_digit)
        && (bytes.len() < KEY_BYTES_MIN || bytes.contains(&b'_'))
}

fn is_host(text: &str) -> bool {
    let (host, port) = split_port(text);
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let in_address = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let is_host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|inside| !inside.is_empty() && inside.bytes().all(in_address)),
        None => !host.is_empty() && host.bytes().all(in_name),
    };
    is_host && port.is_none_or(|port| is_digits(port, 5) && port.parse::<u16>().is_ok_and(|number| number > 0))
}

/// Takes the port off a host; colons within brackets belong to the address.
pub(super) fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    }
}

/// Writes the digits in the place of each `{account_id}`, and tells how many there are.
pub(super) fn fill_account_id(path: &str, digits: &str) -> (String, usize) {
    let mut filled = String::new();
    let mut places = 0;
    for (at, part) in path.split('{').enumerate() {
        match part.strip_prefix("account_id}") {
            Some(rest) if at > 0 => {
                filled.push_str(digits);
                filled.push_str(rest);
                places += 1;
            }
            _ => {
                filled.push_str(if at > 0 { "{" } else { "" });
                filled.push_str(part);
            }
        }
    }
    (filled, places)
}

/// Braces would be a placeholder that nobody fills.
fn is_path(bytes: &[u8]) -> bool {
    within(bytes, PATH_BYTES_MAX)
        && bytes.first() == Some(&b'/')
        && bytes.iter().all(|byte| byte.is_ascii_graphic() && !b"#{}".contains(byte))
}

impl fmt::Display for TextRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Plain(bytes_max) => {
                return write!(formatter, "text of 1 to {bytes_max} bytes without control characters");
            }
            Self::Digits => "a string of 1 to 20 digits, in quotes",
            Self::ApplicationId => "a string of 1 to 20 digits, in quotes, or \"Unknown\"",
            Self::CrossProcessId => "\"account#application\", both of digits, at most 63 bytes",
            Self::AttributeText => "text of at most 4095 bytes",
            Self::AttributeName => "a name of 1 to 255 bytes without control characters",
            Self::AttributePattern => "a name of 1 to 255 bytes, an asterisk only at its end",
            Self::HeaderName => "a header name: 1 to 255 letters, digits and !#$%&'*+-.^_`|~",
            Self::Printable => "a string of 1 to 4095 printable ASCII characters",
            Self::VariableName => {
                "the name of an environment variable: letters, digits and underscores, no digit first, and not a key"
            }
            Self::Host => "a host name or address, with a port if need be, without scheme and path",
            Self::Path => "a path that begins with a slash: at most 1024 visible ASCII characters without #, { and }",
            Self::AccountPath => {
                "a path that begins with a slash: at most 1024 visible ASCII characters without #, { and }, except \
                 {account_id}"
            }
            Self::PropertySegment => "a string of 1 to 255 bytes without NUL",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_text_has_its_limits() {
        let long = |bytes: usize| "1".repeat(bytes);
        let (digits, id, name, value) = (long(20), format!("1#{}", long(61)), "n".repeat(255), "v".repeat(4095));
        for (rule, accepted, refused) in [
            (TextRule::Plain(3), vec!["a", "äc"], vec!["", "abcd", "a\n", "\u{7f}"]),
            (TextRule::Digits, vec!["0", &digits], vec!["", "12a", "+1", " 1", "١"]),
            (TextRule::ApplicationId, vec!["Unknown", "77"], vec!["unknown", "", "app"]),
            (TextRule::CrossProcessId, vec!["4001#90210", &id], vec!["4001", "#1", "1#", "1#2#3", "a#1"]),
            (TextRule::AttributeText, vec!["", "a\nb", &value], vec![]),
            (TextRule::AttributeName, vec!["a.b", &name], vec!["", "a\tb"]),
            (TextRule::AttributePattern, vec!["*", "http.*", "http"], vec!["", "*.x", "a**"]),
            (TextRule::HeaderName, vec!["X-Team", "a_b"], vec!["", ":path", "a b", "ä", "a:"]),
            (TextRule::Printable, vec!["a b", &value], vec!["", "a\r\nb", "a\0", "\t", "ä"]),
            (TextRule::VariableName, vec!["A", "_a1", "NEW_RELIC_LICENSE_KEY"], vec!["", "1A", "A-B", "A B"]),
            (TextRule::PropertySegment, vec!["route_name", "a.b"], vec!["", "a\0b"]),
        ] {
            for text in accepted {
                assert!(rule.accepts(text), "{rule:?} {text:?}");
            }
            for text in refused {
                assert!(!rule.accepts(text), "{rule:?} {text:?}");
            }
        }
        assert!(!TextRule::Digits.accepts(&long(21)));
        assert!(!TextRule::CrossProcessId.accepts(&format!("1#{}", long(62))));
        assert!(!TextRule::AttributeName.accepts(&"n".repeat(256)));
        assert!(!TextRule::AttributeText.accepts(&"v".repeat(4096)));
    }

    #[test]
    fn a_key_is_no_name_of_a_variable() {
        assert!(!TextRule::VariableName.accepts("eu01xxabcdefabcdefabcdefabcdefabcdefNRAL"));
        assert!(TextRule::VariableName.accepts("A_VARIABLE_WITH_A_VERY_LONG_NAME_INDEED"));
    }

    #[test]
    fn a_host_has_no_scheme_and_no_path() {
        for host in ["trace-api.newrelic.com", "collector:4318", "10.0.0.1", "[::1]", "[2001:db8::1]:443", "my_host"] {
            assert!(TextRule::Host.accepts(host), "{host}");
        }
        for host in
            ["", "https://a.b", "a.b/c", "a b", ":80", "a:", "a:0", "a:65536", "a:+1", "::1", "[]", "[::1", "[x]"]
        {
            assert!(!TextRule::Host.accepts(host), "{host}");
        }
    }

    #[test]
    fn a_path_begins_with_a_slash_and_holds_no_placeholder() {
        for path in ["/", "/trace/v1", "/v1/traces?tenant=a%20b"] {
            assert!(TextRule::Path.accepts(path), "{path}");
        }
        for path in ["", "trace/v1", "/a b", "/a#b", "/v1/{account_id}", "/ä", "/a\r\n"] {
            assert!(!TextRule::Path.accepts(path), "{path}");
        }
        assert!(TextRule::AccountPath.accepts("/v1/accounts/{account_id}/events"));
        assert!(!TextRule::AccountPath.accepts("/v1/accounts/{account}/events"));
    }

    #[test]
    fn the_account_id_is_written_in_each_of_its_places() {
        for (path, expected) in [
            ("/a", ("/a", 0)),
            ("/{account_id}/b/{account_id}", ("/7/b/7", 2)),
            ("account_id}/{account/{{account_id}", ("account_id}/{account/{7", 1)),
        ] {
            assert_eq!(fill_account_id(path, "7"), (expected.0.to_owned(), expected.1));
        }
    }

    #[test]
    fn the_port_is_what_follows_the_last_colon_outside_brackets() {
        for (text, expected) in [
            ("a", ("a", None)),
            ("a:1", ("a", Some("1"))),
            ("[::1]", ("[::1]", None)),
            ("[::1]:8", ("[::1]", Some("8"))),
        ] {
            assert_eq!(split_port(text), expected);
        }
    }
}
