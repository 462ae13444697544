//! What a run does, as the environment says it.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use serde::Serialize;

/// The groups that have their own way to measure; every other group is measured like [`MAIN`].
pub const STARTUP: &str = "startup";
/// Several workers, header counts, routes and connections.
pub const SCALING: &str = "scaling";
/// One connection, for the latency of a flush.
pub const PAUSE: &str = "pause";
/// Memory over millions of requests.
pub const SOAK: &str = "soak";
/// The table of the README.
pub const MAIN: &str = "main";

/// Where the measured Envoy takes its answers from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// A second Envoy behind it, as in production.
    Proxied,
    /// Its own configuration. There is less noise, but nothing is sent on: a tracer writes no header, and no
    /// role makes an exit span.
    Direct,
}

/// Everything that a user can choose.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// How often everything is measured.
    pub rounds: u32,
    /// Length of one measurement, in seconds.
    pub seconds: u32,
    /// How often a measurement is repeated that other programs have disturbed.
    pub retries: u32,
    /// Patterns of the ids of variants; `*` is any run of characters.
    pub variants: Vec<String>,
    /// Groups of variants to measure; `all` is every group.
    pub groups: Vec<String>,
    /// Where answers come from.
    pub topology: Topology,
    /// Requests of one soak.
    pub soak_requests: u64,
    /// Folder for the results.
    pub out: PathBuf,
    /// Whether the table goes into the README too.
    pub update_readme: bool,
}

impl Settings {
    /// Reads `BENCH_…`; what is not set has its default.
    ///
    /// # Errors
    /// A value outside its range; the message names the variable.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let number = |name: &str, default: u32| match variable(name) {
            None => Ok(default),
            Some(text) => match text.trim().parse() {
                Ok(number) => Ok(number),
                Err(_) => bail!("{name} is {text:?}, but it is a number"),
            },
        };
        let list = |name: &str, default: &str| -> Vec<String> {
            let text = variable(name).unwrap_or_else(|| default.to_owned());
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let (rounds, seconds) = (number("BENCH_ROUNDS", 7)?, number("BENCH_SECONDS", 4)?);
        ensure!(rounds > 0, "BENCH_ROUNDS is 0, but there is at least one round");
        ensure!(seconds > 0, "BENCH_SECONDS is 0, but a measurement takes at least a second");
        let topology = match variable("BENCH_TOPOLOGY").as_deref() {
            None | Some("proxied") => Topology::Proxied,
            Some("direct") => Topology::Direct,
            Some(other) => bail!("BENCH_TOPOLOGY is {other:?}, but it is proxied or direct"),
        };
        let soak_requests = variable("BENCH_SOAK_REQUESTS").map_or(Ok(10_000_000), |text| text.trim().parse());
        let Ok(soak_requests) = soak_requests else {
            bail!("BENCH_SOAK_REQUESTS is no number");
        };
        Ok(Self {
            rounds,
            seconds,
            retries: number("BENCH_RETRIES", 2)?,
            variants: list("BENCH_VARIANTS", "*"),
            groups: list("BENCH_GROUPS", "main,startup"),
            topology,
            soak_requests,
            out: variable("BENCH_OUT").map_or_else(|| PathBuf::from(crate::PACKAGE).join("results"), PathBuf::from),
            update_readme: variable("BENCH_UPDATE_README").is_some_and(|value| value == "1"),
        })
    }

    /// Whether a group is to be measured.
    pub fn wants_group(&self, group: &str) -> bool {
        self.groups.iter().any(|wanted| wanted == group || wanted == "all")
    }

    /// Whether a variant is to be measured, if one of its groups is.
    pub fn wants_variant(&self, id: &str) -> bool {
        self.variants.iter().any(|pattern| matches(pattern, id))
    }
}

/// Whether a pattern matches the whole of a text; `*` is any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => text.strip_prefix(before).is_some_and(|text| {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Settings> {
        Settings::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        let settings = from(&[]).unwrap();
        assert_eq!((settings.rounds, settings.seconds, settings.topology), (7, 4, Topology::Proxied));
        assert!(settings.wants_group(MAIN) && settings.wants_group(STARTUP) && !settings.wants_group(SOAK));
        assert!(settings.wants_variant("anything"));
    }

    #[test]
    fn a_value_out_of_range_is_an_error_with_its_variable() {
        for (name, value) in [
            ("BENCH_ROUNDS", "0"),
            ("BENCH_ROUNDS", "seven"),
            ("BENCH_SECONDS", "0"),
            ("BENCH_RETRIES", "-1"),
            ("BENCH_TOPOLOGY", "mesh"),
            ("BENCH_SOAK_REQUESTS", "many"),
        ] {
            let error = from(&[(name, value)]).unwrap_err();
            assert!(error.to_string().contains(name), "{name}={value}: {error}");
        }
    }

    #[test]
    fn variants_are_chosen_by_patterns() {
        let settings = from(&[("BENCH_VARIANTS", "otel-*, *-0"), ("BENCH_GROUPS", "all")]).unwrap();
        for (id, wanted) in
            [("otel-100", true), ("filter-inbound-0", true), ("filter-inbound-100", false), ("-0", true)]
        {
            assert_eq!(settings.wants_variant(id), wanted, "{id}");
        }
        assert!(settings.wants_group("a user's own"));
    }
}
