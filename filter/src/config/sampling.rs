//! `distributed_tracing.sampler`. As in New Relic's agents, a sampler that cannot be used is no fault: the shared
//! adaptive sampler takes its place, and a warning names the key.

use super::reader::{Findings, Place};
use super::{PartialType, SamplerKind, SamplerSections, SamplerSettings};
use crate::json::Value;

/// Traces a minute that an adaptive sampler may aim at, and what it aims at by default.
const TARGET_MAX: u32 = 120;
const TARGET_DEFAULT: u16 = 10;

pub(super) fn sampler(place: &Place<'_>, findings: &mut Findings<'_>) -> SamplerSettings {
    const KEYS: &[&str] = &[
        "adaptive_sampling_target",
        "root",
        "remote_parent_sampled",
        "remote_parent_not_sampled",
        "full_granularity",
        "partial_granularity",
    ];
    place.object(KEYS, findings);
    let full = place.at("full_granularity");
    full.object(&["enabled"], findings);
    let full_is_enabled = full.at("enabled").boolean(true, findings);
    let full_sections = sections(place, findings);
    let settings = SamplerSettings {
        adaptive_sampling_target: global_target(&place.at("adaptive_sampling_target"), findings),
        full: full_is_enabled.then_some(full_sections),
        partial: partial(&place.at("partial_granularity"), findings),
    };
    if settings.full.is_none() && settings.partial.is_none() {
        place.warn("no trace is sampled, because full_granularity and partial_granularity are both off", findings);
    }
    settings
}

fn partial(place: &Place<'_>, findings: &mut Findings<'_>) -> Option<(PartialType, SamplerSections)> {
    const KEYS: &[&str] = &["enabled", "type", "root", "remote_parent_sampled", "remote_parent_not_sampled"];
    place.object(KEYS, findings);
    let partial_type = match place.at("type").choice(&["reduced", "essential", "compact"], findings) {
        Some("reduced") => PartialType::Reduced,
        Some("compact") => PartialType::Compact,
        _ => PartialType::Essential,
    };
    let sections = sections(place, findings);
    place.at("enabled").boolean(false, findings).then_some((partial_type, sections))
}

fn sections(place: &Place<'_>, findings: &mut Findings<'_>) -> SamplerSections {
    SamplerSections {
        root: section(&place.at("root"), findings),
        remote_parent_sampled: section(&place.at("remote_parent_sampled"), findings),
        remote_parent_not_sampled: section(&place.at("remote_parent_not_sampled"), findings),
    }
}

fn section(place: &Place<'_>, findings: &mut Findings<'_>) -> SamplerKind {
    if !place.is_written() {
        return SamplerKind::AdaptiveShared;
    }
    kind(place, findings).unwrap_or_else(|| {
        let text = format!("{} is no usable sampler, the shared adaptive sampler decides instead", place.shown());
        place.warn(&text, findings);
        SamplerKind::AdaptiveShared
    })
}

/// The sampler that is written here, by its name or as an object with its name as the only key.
fn kind(place: &Place<'_>, findings: &mut Findings<'_>) -> Option<SamplerKind> {
    let value = place.value?;
    if let Value::String(name) = value {
        return named(name);
    }
    let map = value.as_object().filter(|map| map.len() == 1)?;
    match map.keys().next()? {
        "adaptive" => adaptive(&place.at("adaptive"), findings),
        "trace_id_ratio_based" => ratio_based(&place.at("trace_id_ratio_based"), findings),
        _ => None,
    }
}

fn named(name: &str) -> Option<SamplerKind> {
    match name {
        "default" | "adaptive" => Some(SamplerKind::AdaptiveShared),
        "always_on" => Some(SamplerKind::AlwaysOn),
        "always_off" => Some(SamplerKind::AlwaysOff),
        _ => None,
    }
}

fn adaptive(place: &Place<'_>, findings: &mut Findings<'_>) -> Option<SamplerKind> {
    place.value?.as_object()?;
    place.object(&["sampling_target"], findings);
    let target = place.at("sampling_target");
    if target.is_written() { target_of(&target).map(SamplerKind::Adaptive) } else { Some(SamplerKind::AdaptiveShared) }
}

fn ratio_based(place: &Place<'_>, findings: &mut Findings<'_>) -> Option<SamplerKind> {
    place.value?.as_object()?;
    place.object(&["ratio"], findings);
    let ratio = place.at("ratio").value?.as_f64()?;
    (ratio > 0.0 && ratio <= 1.0).then_some(SamplerKind::TraceIdRatioBased(ratio))
}

fn global_target(place: &Place<'_>, findings: &mut Findings<'_>) -> u16 {
    let target = target_of(place);
    if target.is_none() && place.is_written() {
        let text = format!("{} is no whole number from 1 to 120, 10 is used instead", place.shown());
        place.warn(&text, findings);
    }
    target.unwrap_or(TARGET_DEFAULT)
}

fn target_of(place: &Place<'_>) -> Option<u16> {
    place.whole(1, TARGET_MAX).and_then(|target| u16::try_from(target).ok())
}
