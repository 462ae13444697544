//! Checks a plugin configuration offline, with the code that the filter itself runs.
//!
//! ```text
//! validate FILE        ; JSON text, or the bytes of a google.protobuf.Struct; "-" reads the standard input
//! ```
//!
//! Exit status 0: valid, and the standard output tells what is in force. 1: the standard error tells every fault, one
//! line each. 2: the file cannot be read, or there is not exactly one argument.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use newrelic_tracing::config::{
    Config, Exporters, Faults, HttpExporter, OtlpEncoding, Problem, RoleSetting, SamplerKind, SamplerSections,
    SpanLimit, parse,
};

/// Stands for the value of a variable that is not set where the check runs: any text that every rule accepts.
const PLACEHOLDER: &str = "value-of-the-proxy";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(file), None) = (arguments.next(), arguments.next()) else {
        return fail(2, "usage: validate FILE (a plugin configuration as JSON; - is the standard input)");
    };
    let configuration = match read(&file) {
        Ok(bytes) => bytes,
        Err(error) => return fail(2, &format!("{}: {error}", file.display())),
    };
    let variables = Variables::default();
    match parse(&configuration, &|name| Some(variables.value(name))) {
        Ok(config) => succeed(&report(&config, &variables.names.into_inner())),
        Err(faults) => fail(1, &complaint(&faults, &configuration)),
    }
}

fn read(file: &std::ffi::OsStr) -> std::io::Result<Vec<u8>> {
    if file != "-" {
        return std::fs::read(file);
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn succeed(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(2, &error.to_string()),
    }
}

fn fail(status: u8, text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(status)
}

/// The variables that a configuration names. They belong to the proxy, so they need not be set here.
#[derive(Default)]
struct Variables {
    names: RefCell<BTreeSet<String>>,
}

impl Variables {
    /// The value here, else a placeholder.
    fn value(&self, name: &str) -> String {
        self.names.borrow_mut().insert(name.into());
        std::env::var(name).ok().filter(|value| !value.trim().is_empty()).unwrap_or_else(|| PLACEHOLDER.into())
    }
}

/// The faults, and a word on what the file may be instead.
fn complaint(faults: &Faults, configuration: &[u8]) -> String {
    let is_unreadable = faults.iter().any(|fault| matches!(fault.problem, Problem::Unreadable(_)));
    let begins_as_json = configuration.trim_ascii_start().first() == Some(&b'{');
    if is_unreadable && !begins_as_json {
        let hint = "Is this YAML? Only the plugin's own configuration is checked, and as JSON: the text of the \
                    StringValue, or the value of the Struct, from the Envoy or Istio configuration.";
        return format!("{faults}\n{hint}");
    }
    faults.to_string()
}

fn report(config: &Config, variables: &BTreeSet<String>) -> String {
    let mut lines = vec!["The configuration is valid. In force:".to_owned()];
    lines.push(format!("  account: {}", account(config)));
    lines.push(format!("  role: {}; callers' headers are believed: {}", role(config), name(&config.trust_inbound)));
    lines.push(format!("  tracing: {}", tracing(config)));
    lines.push(format!("  records: {}", records(config)));
    lines.extend(exporters(&config.exporters).iter().map(|line| format!("  exporter: {line}")));
    if exporters(&config.exporters).is_empty() && config.infinite_tracing.is_none() {
        lines.push("  exporter: none, records go nowhere".into());
    }
    if let Some(infinite) = &config.infinite_tracing {
        lines.push(format!("  trace observer: {}", target(&infinite.observer)));
    }
    lines.extend(config.warnings.iter().map(|warning| format!("warning: {warning}")));
    for variable in variables {
        lines.push(format!(
            "note: the proxy needs the environment variable {variable} (vm_config.environment_variables)"
        ));
    }
    lines.join("\n") + "\n"
}

fn account(config: &Config) -> String {
    match &config.account {
        None => "none, so only W3C headers are written".into(),
        Some(account) => format!(
            "{}, trusted account key {}, application id {}",
            account.account_id, account.trusted_account_key, account.primary_application_id
        ),
    }
}

fn role(config: &Config) -> String {
    match config.role {
        RoleSetting::Auto => "auto".into(),
        RoleSetting::Fixed(role) => name(&role),
    }
}

/// The name of a variant as a configuration spells it: `InternalOnly` is `internal_only`.
fn name(variant: &impl core::fmt::Debug) -> String {
    let mut name = String::new();
    for character in format!("{variant:?}").chars() {
        if character.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(character.to_ascii_lowercase());
    }
    name
}

fn tracing(config: &Config) -> String {
    if config.cross_application_tracing.is_some() {
        return "Cross Application Tracing".into();
    }
    if !config.distributed_tracing.enabled {
        return "off".into();
    }
    let sampler = &config.distributed_tracing.sampler;
    let root = |sections: SamplerSections| match sections.root {
        SamplerKind::AdaptiveShared => format!("adaptive, {} a minute", sampler.adaptive_sampling_target),
        SamplerKind::Adaptive(target) => format!("adaptive of its own, {target} a minute"),
        SamplerKind::AlwaysOn => "always_on".into(),
        SamplerKind::AlwaysOff => "always_off".into(),
        SamplerKind::TraceIdRatioBased(ratio) => format!("{ratio} of all"),
    };
    let full = sampler.full.map(|sections| format!("new traces {}", root(sections)));
    let partial = sampler.partial.map(|(kind, sections)| format!("new {} traces {}", name(&kind), root(sections)));
    [Some("distributed tracing".to_owned()), full, partial].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn records(config: &Config) -> String {
    let spans = match config.span_events.max_samples_stored {
        _ if !config.span_events.enabled || !config.distributed_tracing.enabled => "no spans".to_owned(),
        SpanLimit::Unlimited => "spans without limit".into(),
        SpanLimit::PerMinute(limit) => format!("{limit} spans a minute"),
    };
    let transactions = match config.transaction_events.enabled {
        true => format!("{} transactions a minute", config.transaction_events.max_samples_stored),
        false => "no transactions".into(),
    };
    format!("{spans}, {transactions}")
}

fn exporters(exporters: &Exporters) -> Vec<String> {
    let otlp = |(encoding, exporter): &(OtlpEncoding, HttpExporter)| {
        format!("otlp ({}) to {}", name(encoding), target(exporter))
    };
    [
        exporters.log.map(|log| format!("log at level {}", name(&log.level))),
        exporters.trace_api.as_ref().map(|exporter| format!("trace_api to {}", target(exporter))),
        exporters.event_api.as_ref().map(|exporter| format!("event_api to {}", target(exporter))),
        exporters.otlp.as_ref().map(otlp),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn target(exporter: &HttpExporter) -> String {
    let HttpExporter { cluster, host, path, flush_interval_ms, .. } = exporter;
    format!("{host}{path} by cluster {cluster}, every {flush_interval_ms} ms")
}
