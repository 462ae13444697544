//! Supportability metrics that tell New Relic which samplers are in use.

use alloc::string::String;
use alloc::vec::Vec;

use crate::config::{SamplerKind, SamplerSections, SamplerSettings};

/// The statistics that a configuration counts once, when it starts: one name for each section of an enabled
/// granularity.
///
/// ```text
/// newrelic.Supportability/Envoy/<Full|Partial>Granularity/<section>/<sampler>
/// ```
pub fn metric_names(settings: &SamplerSettings) -> Vec<String> {
    let full = settings.full.map(|sections| ("Full", sections));
    let partial = settings.partial.map(|(_, sections)| ("Partial", sections));
    full.into_iter().chain(partial).flat_map(|(layer, sections)| layer_names(layer, &sections)).collect()
}

fn layer_names(layer: &str, sections: &SamplerSections) -> [String; 3] {
    [
        ("Root", sections.root),
        ("RemoteParentSampled", sections.remote_parent_sampled),
        ("RemoteParentNotSampled", sections.remote_parent_not_sampled),
    ]
    .map(|(section, kind)| {
        ["newrelic.Supportability/Envoy/", layer, "Granularity/", section, "/", sampler_name(kind)].concat()
    })
}

fn sampler_name(kind: SamplerKind) -> &'static str {
    match kind {
        SamplerKind::AdaptiveShared => "Adaptive/Shared",
        SamplerKind::Adaptive(_) => "Adaptive",
        SamplerKind::AlwaysOn => "AlwaysOn",
        SamplerKind::AlwaysOff => "AlwaysOff",
        SamplerKind::TraceIdRatioBased(_) => "TraceIdRatioBased",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PartialType;

    #[test]
    fn every_section_of_an_enabled_granularity_is_named() {
        let full = SamplerSections {
            root: SamplerKind::AdaptiveShared,
            remote_parent_sampled: SamplerKind::AlwaysOn,
            remote_parent_not_sampled: SamplerKind::AlwaysOff,
        };
        let partial = SamplerSections {
            root: SamplerKind::Adaptive(5),
            remote_parent_sampled: SamplerKind::TraceIdRatioBased(0.5),
            remote_parent_not_sampled: SamplerKind::AdaptiveShared,
        };
        let settings = |full, partial| SamplerSettings { adaptive_sampling_target: 10, full, partial };
        let full_names = [
            "newrelic.Supportability/Envoy/FullGranularity/Root/Adaptive/Shared",
            "newrelic.Supportability/Envoy/FullGranularity/RemoteParentSampled/AlwaysOn",
            "newrelic.Supportability/Envoy/FullGranularity/RemoteParentNotSampled/AlwaysOff",
        ];
        let partial_names = [
            "newrelic.Supportability/Envoy/PartialGranularity/Root/Adaptive",
            "newrelic.Supportability/Envoy/PartialGranularity/RemoteParentSampled/TraceIdRatioBased",
            "newrelic.Supportability/Envoy/PartialGranularity/RemoteParentNotSampled/Adaptive/Shared",
        ];
        let partial = Some((PartialType::Compact, partial));
        assert_eq!(metric_names(&settings(Some(full), None)), full_names);
        assert_eq!(metric_names(&settings(None, partial)), partial_names);
        assert_eq!(metric_names(&settings(Some(full), partial)), [full_names, partial_names].concat());
        assert!(metric_names(&settings(None, None)).is_empty());
    }
}
