//! A variant: one thing to measure, a small file in `bench/variants/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The variant that everything is measured over: Envoy alone.
pub const BARE: &str = "bare";

/// What a file in `bench/variants/` says. An unknown key is an error.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Name of the file without `.toml`.
    #[serde(skip_deserializing)]
    pub id: String,
    /// Name in tables and plots.
    pub title: String,
    /// Place in the run and in tables; those with the same place are in the order of their ids. Variants that are
    /// compared should stand side by side.
    #[serde(default = "last_place")]
    pub place: u32,
    /// The groups that it is measured in.
    pub groups: Vec<String>,
    /// Ids of variants of the same group that its cost is divided by.
    #[serde(default)]
    pub against: Vec<String>,
    /// What the caller decided on the traces of the requests.
    #[serde(default)]
    pub caller: Caller,
    /// Direction of the listener.
    #[serde(default)]
    pub traffic_direction: Direction,
    /// Whether it does its work only for requests that are sent on, so that it is left out where none are.
    #[serde(default)]
    pub needs_upstream: bool,
    /// YAML of `tracing` in the connection manager.
    pub tracing: Option<String>,
    /// YAML list of HTTP filters in front of the router.
    pub http_filters: Option<String>,
    /// A wasm module as the only HTTP filter in front of the router: `newrelic-tracing`, `floor`, or a path.
    pub module: Option<String>,
    /// Plugin configuration of the module, as JSON text.
    pub configuration: Option<String>,
    /// Envoy's runtime values.
    #[serde(default)]
    pub runtime: BTreeMap<String, toml::Value>,
    /// What must arrive somewhere.
    pub delivers: Option<Delivers>,
}

/// Behind those that say where they stand.
fn last_place() -> u32 {
    1000
}

/// What the caller decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Caller {
    /// Every trace is sampled.
    #[default]
    Sampled,
    /// No trace is sampled.
    NotSampled,
    /// Nothing: no tracing headers, so that every trace begins here.
    Nothing,
}

/// `traffic_direction` of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Direction {
    /// Requests to a service.
    #[default]
    Inbound,
    /// Requests that a service makes.
    Outbound,
    /// An edge.
    Unspecified,
}

impl Direction {
    /// As Envoy's configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "INBOUND",
            Self::Outbound => "OUTBOUND",
            Self::Unspecified => "UNSPECIFIED",
        }
    }
}

/// Which records a variant makes and where they must arrive.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Delivers {
    /// Who sends them.
    pub exporter: Exporter,
    /// Their kind, as the filter's statistics name it.
    #[serde(default)]
    pub records: Records,
    /// How many records each request must make, all of which must arrive. Without it any number may be made
    /// and dropped, if the accounting balances.
    pub per_request: Option<u64>,
    /// Records that may still wait for a full batch when the measurement ends.
    #[serde(default)]
    pub left_over_max: u64,
}

/// Who sends records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exporter {
    /// The filter, to the Trace API.
    TraceApi,
    /// The filter, to the Event API.
    EventApi,
    /// The filter, to an OTLP receiver.
    Otlp,
    /// The filter, to Envoy's log.
    Log,
    /// Envoy's OpenTelemetry tracer, to an OTLP receiver.
    Opentelemetry,
}

impl Exporter {
    /// As the filter's statistics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TraceApi => "trace_api",
            Self::EventApi => "event_api",
            Self::Otlp => "otlp",
            Self::Log => "log",
            Self::Opentelemetry => "opentelemetry",
        }
    }

    /// The listener that receives what it sends.
    pub fn sink(self) -> Option<&'static str> {
        match self {
            Self::TraceApi => Some("sink_trace_api"),
            Self::EventApi => Some("sink_event_api"),
            Self::Otlp | Self::Opentelemetry => Some("sink_otlp"),
            Self::Log => None,
        }
    }
}

/// Kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Records {
    /// Spans.
    #[default]
    Spans,
    /// Transaction events.
    Transactions,
}

impl Records {
    /// As the filter's statistics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Transactions => "transactions",
        }
    }
}

impl Variant {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// It is no TOML, has an unknown key, lacks a key, or its keys contradict each other.
    pub fn parse(id: &str, text: &str) -> Result<Self> {
        let mut variant: Self = toml::from_str(text)?;
        id.clone_into(&mut variant.id);
        ensure!(!variant.groups.is_empty(), "groups is empty, so that it would never be measured");
        ensure!(
            variant.module.is_none() || variant.http_filters.is_none(),
            "module and http_filters exclude each other; a module is an HTTP filter"
        );
        if let Some(configuration) = &variant.configuration {
            ensure!(variant.module.is_some(), "configuration is that of a module, and there is none");
            serde_json::from_str::<serde_json::Value>(configuration).context("configuration is no JSON")?;
        }
        Ok(variant)
    }

    /// Whether it is Envoy alone.
    pub fn is_bare(&self) -> bool {
        self.id == BARE
    }
}

/// Every variant of a folder, in the order of their places.
///
/// # Errors
/// A file that is no variant; the message names it. A folder without the variant [`BARE`], or a variant that
/// compares itself with one that does not exist.
pub fn read_all(dir: &Path) -> Result<Vec<Variant>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut variants = files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>()?;
    variants.sort_by_key(|variant| variant.place);
    check_references(&variants)?;
    Ok(variants)
}

fn read(file: &Path) -> Result<Variant> {
    let id = file.file_stem().and_then(|stem| stem.to_str()).with_context(|| format!("{}", file.display()))?;
    let text = fs::read_to_string(file)?;
    Variant::parse(id, &text).with_context(|| format!("{}", file.display()))
}

fn check_references(variants: &[Variant]) -> Result<()> {
    let known = |id: &str| variants.iter().any(|variant| variant.id == id);
    ensure!(known(BARE), "there is no {BARE}.toml, over which everything is measured");
    for variant in variants {
        if let Some(unknown) = variant.against.iter().find(|id| !known(id)) {
            bail!("{}.toml: against names {unknown:?}, which is no variant", variant.id);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "title = 'A'\ngroups = ['main']\n";

    #[test]
    fn a_title_and_a_group_are_enough() {
        let variant = Variant::parse("a", LEAST).unwrap();
        assert_eq!(
            (variant.id.as_str(), variant.caller, variant.traffic_direction.as_str()),
            ("a", Caller::Sampled, "INBOUND")
        );
    }

    #[test]
    fn a_file_that_cannot_be_right_is_refused_with_a_reason() {
        for (text, why) in [
            ("modul = 'floor'", "unknown field `modul`"),
            ("[delivers]\nexporter = 'trace_api'\nper_reqest = 1", "unknown field `per_reqest`"),
            ("[delivers]\nexporter = 'zipkin'", "unknown variant `zipkin`"),
            ("configuration = '{}'", "there is none"),
            ("module = 'floor'\nhttp_filters = '- name: x'", "exclude each other"),
            ("module = 'floor'\nconfiguration = '{'", "no JSON"),
            ("traffic_direction = 'inbound'", "unknown variant `inbound`"),
        ] {
            let error = Variant::parse("a", &format!("{LEAST}{text}")).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{text}: {error:#}");
        }
        assert!(Variant::parse("a", "title = 'A'\ngroups = []").is_err());
        assert!(Variant::parse("a", "groups = ['main']").is_err());
    }

    #[test]
    fn a_reference_must_exist() {
        let bare = Variant::parse(BARE, LEAST).unwrap();
        let other = Variant::parse("a", &format!("{LEAST}against = ['b']")).unwrap();
        assert!(check_references(&[bare.clone(), other.clone()]).unwrap_err().to_string().contains("\"b\""));
        assert!(check_references(&[other]).is_err());
        assert!(check_references(&[bare]).is_ok());
    }

    #[test]
    fn every_variant_of_the_repository_can_be_read() {
        let variants = read_all(&Path::new(crate::PACKAGE).join("variants")).unwrap();
        assert!(variants.len() > 10, "{}", variants.len());
    }
}
