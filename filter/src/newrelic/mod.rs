//! New Relic's own formats: the `newrelic` header, its `tracestate` list member, priorities, and CAT.

pub mod base64;
pub mod cat;
pub mod list_member;
pub mod payload;
pub mod priority;

/// What kind of entity a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallerType {
    /// A service.
    App,
    /// A web page.
    Browser,
    /// A mobile application.
    Mobile,
    /// A kind that New Relic's documents do not name.
    Unknown,
}

impl CallerType {
    /// The value of `parent.type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "App",
            Self::Browser => "Browser",
            Self::Mobile => "Mobile",
            Self::Unknown => "Unknown",
        }
    }
}

/// Reads decimal digits that fit a signed 64-bit number.
fn parse_integer(digits: &[u8]) -> Option<i64> {
    crate::url::parse_decimal(digits).and_then(|value| i64::try_from(value).ok())
}
