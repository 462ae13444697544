//! The keys of the configuration with their defaults, and the rules that span several keys.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::document;
use super::exporters::{exporters, infinite_tracing};
use super::fault::{Faults, Rule};
use super::reader::{Findings, Place};
use super::sampling::sampler;
use super::span_events::{SAMPLES_A_MINUTE_MAX, span_events};
use super::text::TextRule;
use super::{
    Account, Config, CrossApplicationTracing, Datastore, DistributedTracing, ExcludeRule, NameRule, Role, RoleSetting,
    Secret, StatusCodes, TransactionEvents, TrustInbound,
};
use crate::glob::Glob;

/// Entries of each list of rules; some are tried on every request.
pub(super) const RULES_MAX: usize = 256;
/// Bytes of a pattern, a name or an Envoy cluster.
pub(super) const TEXT_BYTES_MAX: usize = 255;
/// Text for names and patterns.
pub(super) const PLAIN: TextRule = TextRule::Plain(TEXT_BYTES_MAX);

/// Keys of the whole configuration.
const KEYS: &[&str] = &[
    "account_id",
    "trusted_account_key",
    "primary_application_id",
    "app_name",
    "role",
    "trust_inbound",
    "distributed_tracing",
    "span_events",
    "transaction_events",
    "error_collector",
    "transaction_name",
    "exclude",
    "datastores",
    "application_logging",
    "infinite_tracing",
    "cross_application_tracer",
    "exporters",
];

/// Reads a plugin configuration: JSON text, or the protobuf bytes of a `google.protobuf.Struct`, which Envoy hands
/// over for that type. Nothing at all is the configuration of defaults. `environment` tells the value of a variable.
///
/// # Errors
/// Every fault of the configuration at once, each with its key, the value and what is allowed.
pub fn parse(configuration: &[u8], environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Faults> {
    let value = document::decode(configuration)?;
    let mut findings = Findings::new(environment);
    let mut config = config(&Place::root(&value), &mut findings);
    if let Some(faults) = Faults::new(findings.faults) {
        return Err(faults);
    }
    config.warnings = findings.warnings;
    Ok(config)
}

fn config(root: &Place<'_>, findings: &mut Findings<'_>) -> Config {
    root.object(KEYS, findings);
    let role = role(&root.at("role"), findings);
    let distributed_tracing = distributed_tracing(&root.at("distributed_tracing"), findings);
    let account = account(root, findings);
    let mut config = Config {
        app_name: root.at("app_name").text(PLAIN, findings).map(Into::into),
        role,
        trust_inbound: trust_inbound(&root.at("trust_inbound"), role, findings),
        cross_application_tracing: cross_application_tracing(
            &root.at("cross_application_tracer"),
            distributed_tracing.enabled,
            findings,
        ),
        distributed_tracing,
        span_events: span_events(&root.at("span_events"), findings),
        transaction_events: transaction_events(&root.at("transaction_events"), findings),
        ignore_status_codes: ignore_status_codes(&root.at("error_collector"), findings),
        transaction_name_rules: transaction_name_rules(&root.at("transaction_name"), findings),
        exclude: exclude(&root.at("exclude"), findings),
        datastores: datastores(&root.at("datastores"), findings),
        local_decorating: local_decorating(&root.at("application_logging"), findings),
        infinite_tracing: infinite_tracing(&root.at("infinite_tracing"), findings),
        exporters: exporters(&root.at("exporters"), &root.at("account_id"), findings),
        account,
        warnings: Vec::new(),
    };
    settle_infinite_tracing(&mut config, root, findings);
    config
}

/// A trace observer takes whole traces of spans, and takes them alone.
fn settle_infinite_tracing(config: &mut Config, root: &Place<'_>, findings: &mut Findings<'_>) {
    if config.infinite_tracing.is_none() {
        return;
    }
    if !config.distributed_tracing.enabled || !config.span_events.enabled {
        let text = "off, because distributed_tracing.enabled or span_events.enabled is false";
        root.at("infinite_tracing").warn(text, findings);
        config.infinite_tracing = None;
        return;
    }
    if config.exporters.trace_api.take().is_some() {
        let text = "gets no spans, because they all go to infinite_tracing, and New Relic would hold them twice";
        root.at("exporters").at("trace_api").warn(text, findings);
    }
    if config.distributed_tracing.sampler.partial.take().is_some() {
        let text = "off, because infinite_tracing takes every span whole";
        root.at("distributed_tracing").at("sampler").at("partial_granularity").warn(text, findings);
    }
}

fn account(root: &Place<'_>, findings: &mut Findings<'_>) -> Option<Account> {
    let [own, trusted, application] =
        ["account_id", "trusted_account_key", "primary_application_id"].map(|key| root.at(key));
    let account_id = own.text(TextRule::Digits, findings);
    let trusted_account_key = trusted.text(TextRule::Digits, findings);
    let application_id = application.text(TextRule::ApplicationId, findings);
    if !own.is_written() {
        for place in [trusted, application].iter().filter(|place| place.is_written()) {
            place.warn("has no effect without account_id", findings);
        }
    }
    let account_id = account_id?;
    Some(Account {
        account_id: account_id.into(),
        trusted_account_key: trusted_account_key.unwrap_or(account_id).into(),
        primary_application_id: application_id.unwrap_or("Unknown").into(),
    })
}

fn role(place: &Place<'_>, findings: &mut Findings<'_>) -> RoleSetting {
    match place.choice(&["auto", "inbound", "outbound", "gateway"], findings) {
        Some("inbound") => RoleSetting::Fixed(Role::Inbound),
        Some("outbound") => RoleSetting::Fixed(Role::Outbound),
        Some("gateway") => RoleSetting::Fixed(Role::Gateway),
        _ => RoleSetting::Auto,
    }
}

fn trust_inbound(place: &Place<'_>, role: RoleSetting, findings: &mut Findings<'_>) -> TrustInbound {
    let trust = match place.choice(&["always", "never", "internal_only"], findings) {
        Some("never") => TrustInbound::Never,
        Some("internal_only") => TrustInbound::InternalOnly,
        _ => TrustInbound::Always,
    };
    if trust != TrustInbound::Always && role == RoleSetting::Fixed(Role::Outbound) {
        let text = "has no effect with role outbound: the caller is the application behind the proxy";
        place.warn(text, findings);
    }
    trust
}

fn distributed_tracing(place: &Place<'_>, findings: &mut Findings<'_>) -> DistributedTracing {
    const KEYS: &[&str] =
        &["enabled", "exclude_newrelic_header", "tracestate_span_id", "propagate_random_flag", "sampler"];
    place.object(KEYS, findings);
    DistributedTracing {
        enabled: place.at("enabled").boolean(true, findings),
        exclude_newrelic_header: place.at("exclude_newrelic_header").boolean(false, findings),
        tracestate_span_id: place.at("tracestate_span_id").boolean(false, findings),
        propagate_random_flag: place.at("propagate_random_flag").boolean(false, findings),
        sampler: sampler(&place.at("sampler"), findings),
    }
}

fn transaction_events(place: &Place<'_>, findings: &mut Findings<'_>) -> TransactionEvents {
    const MAX_SAMPLES_STORED: u32 = 1200;
    place.object(&["enabled", "max_samples_stored"], findings);
    let limit = place.at("max_samples_stored");
    TransactionEvents {
        enabled: place.at("enabled").boolean(true, findings),
        max_samples_stored: limit.integer(1, SAMPLES_A_MINUTE_MAX, MAX_SAMPLES_STORED, findings),
    }
}

fn ignore_status_codes(place: &Place<'_>, findings: &mut Findings<'_>) -> StatusCodes {
    place.object(&["ignore_status_codes"], findings);
    let list = place.at("ignore_status_codes");
    if !list.is_written() {
        return StatusCodes(vec![(404, 404)]);
    }
    let mut codes = StatusCodes::default();
    for item in list.items(RULES_MAX, findings) {
        match status_codes(&item) {
            Some(range) => add(&mut codes.0, range),
            None => item.refuse(Rule::StatusCodes, findings),
        }
    }
    codes
}

/// A code, or two of them with a dash between.
fn status_codes(place: &Place<'_>) -> Option<(u16, u16)> {
    let code = |text: &str| {
        let is_code = text.len() == 3 && matches!(text.bytes().next(), Some(b'1'..=b'5'));
        is_code.then(|| text.parse::<u16>().ok()).flatten()
    };
    if let Some(number) = place.whole(100, 599) {
        let number = u16::try_from(number).ok()?;
        return Some((number, number));
    }
    let text = place.value?.as_str()?;
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    Some((code(low)?, code(high)?)).filter(|(low, high)| low <= high)
}

/// Adds a range to sorted ones, joins those that touch, and leaves out what is no error anyway.
fn add(ranges: &mut Vec<(u16, u16)>, (low, high): (u16, u16)) {
    const ERROR_MIN: u16 = 400;
    if high < ERROR_MIN {
        return;
    }
    let (mut low, mut high) = (low.max(ERROR_MIN), high);
    ranges.retain(|(other_low, other_high)| {
        let is_apart = *other_low > high + 1 || low > *other_high + 1;
        if !is_apart {
            (low, high) = (low.min(*other_low), high.max(*other_high));
        }
        is_apart
    });
    let at = ranges.iter().take_while(|(other, _)| *other < low).count();
    ranges.insert(at, (low, high));
}

fn transaction_name_rules(place: &Place<'_>, findings: &mut Findings<'_>) -> Vec<NameRule> {
    place.object(&["rules"], findings);
    let rule = |item: &Place<'_>, findings: &mut Findings<'_>| {
        let (path, name) = pair(item, &["path", "name"], findings)?;
        Some(NameRule { path: Glob::case_sensitive(path), name: name.into() })
    };
    let rules = place.at("rules");
    let items = rules.items(RULES_MAX, findings);
    items.iter().filter_map(|item| rule(item, findings)).collect()
}

fn datastores(place: &Place<'_>, findings: &mut Findings<'_>) -> Vec<Datastore> {
    let datastore = |item: &Place<'_>, findings: &mut Findings<'_>| {
        let (host, system) = pair(item, &["host", "system"], findings)?;
        Some(Datastore { host: Glob::ignoring_case(host), system: system.into() })
    };
    let items = place.items(RULES_MAX, findings);
    items.iter().filter_map(|item| datastore(item, findings)).collect()
}

/// Two texts that are both required.
fn pair<'a>(
    place: &'a Place<'a>,
    keys: &'static [&'static str; 2],
    findings: &mut Findings<'_>,
) -> Option<(&'a str, &'a str)> {
    if !place.object(keys, findings) {
        return None;
    }
    let [first, second] = keys.map(|key| place.at(key).required(PLAIN, findings));
    Some((first?, second?))
}

fn exclude(place: &Place<'_>, findings: &mut Findings<'_>) -> Vec<ExcludeRule> {
    let items = place.items(RULES_MAX, findings);
    items.iter().filter_map(|item| exclude_rule(item, findings)).collect()
}

fn exclude_rule(place: &Place<'_>, findings: &mut Findings<'_>) -> Option<ExcludeRule> {
    let header = place.at("header");
    if header.is_written() {
        place.object(&["header", "value"], findings);
        let name = header.text(TextRule::HeaderName, findings);
        let value = place.at("value").required(PLAIN, findings);
        return Some(ExcludeRule::Header(name?.to_ascii_lowercase().into(), Glob::case_sensitive(value?)));
    }
    match place.one_key(&["path", "host", "header"], findings)? {
        ("path", path) => path.text(PLAIN, findings).map(|path| ExcludeRule::Path(Glob::case_sensitive(path))),
        (_, host) => host.text(PLAIN, findings).map(|host| ExcludeRule::Host(Glob::ignoring_case(host))),
    }
}

fn local_decorating(place: &Place<'_>, findings: &mut Findings<'_>) -> bool {
    let decorating = place.at("local_decorating");
    place.object(&["local_decorating"], findings);
    decorating.object(&["enabled"], findings);
    decorating.at("enabled").boolean(false, findings)
}

fn cross_application_tracing(
    place: &Place<'_>,
    is_distributed_tracing: bool,
    findings: &mut Findings<'_>,
) -> Option<CrossApplicationTracing> {
    place.object(&["enabled", "cross_process_id", "encoding_key", "trusted_account_ids"], findings);
    let is_enabled = place.at("enabled").boolean(false, findings);
    let cross_process_id = place.at("cross_process_id").unless_empty();
    let encoding_key = place.at("encoding_key").secret().unless_empty();
    let cross_process_id_text = cross_process_id.text(TextRule::CrossProcessId, findings);
    let encoding_key_text = encoding_key.text_or_sourced(TextRule::Printable, findings);
    let trusted = place.at("trusted_account_ids");
    let items = trusted.items(RULES_MAX, findings);
    let trusted_account_ids: Vec<Box<str>> =
        items.iter().filter_map(|item| item.text(TextRule::Digits, findings)).map(Into::into).collect();
    if !is_enabled {
        return None;
    }
    let off = if is_distributed_tracing {
        Some("off, because distributed_tracing.enabled is true")
    } else if !cross_process_id.is_written() {
        Some("off, because cross_process_id is missing")
    } else if !encoding_key.is_written() {
        Some("off, because encoding_key is missing")
    } else {
        None
    };
    if let Some(text) = off {
        place.warn(text, findings);
        return None;
    }
    if trusted_account_ids.is_empty() {
        trusted.warn("is empty, so no caller is believed", findings);
    }
    Some(CrossApplicationTracing {
        cross_process_id: cross_process_id_text?.into(),
        encoding_key: Secret::new(&encoding_key_text?),
        trusted_account_ids,
    })
}
