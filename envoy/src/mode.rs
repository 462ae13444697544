//! Which of New Relic's two tracing systems the demo shows.

use anyhow::{Result, bail};

/// The environment variable that chooses.
pub const VARIABLE: &str = "DEMO_MODE";

/// A tracing system. The filter speaks one of them at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Distributed tracing: W3C and `newrelic` headers, spans and transactions.
    DistributedTracing,
    /// Cross Application Tracing, its predecessor: `X-NewRelic-…` headers, transactions only.
    CrossApplicationTracing,
}

impl Mode {
    /// The mode that the environment variable asks for; unset it is distributed tracing.
    ///
    /// # Errors
    /// Another word than `dt` and `cat`; the message names both.
    pub fn parse(variable: Option<&str>) -> Result<Self> {
        match variable {
            None | Some("dt") => Ok(Self::DistributedTracing),
            Some("cat") => Ok(Self::CrossApplicationTracing),
            Some(other) => bail!(
                "{VARIABLE} is {other:?}, but it is dt (distributed tracing, the default) or cat (Cross Application Tracing)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_distributed_tracing_unless_said_otherwise() {
        for (variable, mode) in [
            (None, Mode::DistributedTracing),
            (Some("dt"), Mode::DistributedTracing),
            (Some("cat"), Mode::CrossApplicationTracing),
        ] {
            assert_eq!(Mode::parse(variable).unwrap(), mode, "{variable:?}");
        }
    }

    #[test]
    fn another_word_is_an_error_that_names_the_right_ones() {
        for word in ["", "CAT", "w3c"] {
            let error = Mode::parse(Some(word)).unwrap_err().to_string();
            assert!(error.starts_with("DEMO_MODE is ") && error.contains("dt") && error.contains("cat"), "{error}");
        }
    }
}
