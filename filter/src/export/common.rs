//! What all records of one proxy share: the entity that they belong to, and who made them.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// The value of `instrumentation.provider`, New Relic's name for who measured; and the scope's name in OTLP.
pub const PROVIDER: &str = "envoy-newrelic-filter";
/// What is measured.
pub const INSTRUMENTED: &str = "envoy";
/// The filter's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The `user-agent` of the exporters' requests.
pub const USER_AGENT: &str = concat!("envoy-newrelic-filter/", env!("CARGO_PKG_VERSION"));

/// Further attributes are left out: with them a batch would be mostly repetition.
const EXTRA_MAX: usize = 32;
/// Characters of each value, which repeats with every request.
pub const COMMON_VALUE_CHARS_MAX: usize = 255;

/// The entity, and where it runs. Values are cut to 255 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Common {
    /// `service.name`, which decides the entity; `appName` of a Transaction event. Not empty.
    pub service_name: Box<str>,
    /// The proxy's host name.
    pub host: Option<Box<str>>,
    /// `service.instance.id`.
    pub instance_id: Option<Box<str>>,
    /// Workload attributes of Kubernetes and Istio: name, value. At most 32 are sent.
    pub extra: Vec<(Box<str>, Box<str>)>,
}

impl Common {
    /// The attributes of the Trace API's `common` block, in order.
    pub fn new_relic(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entity("host").chain([
            ("instrumentation.provider", PROVIDER),
            ("instrumentation.name", INSTRUMENTED),
            ("instrumentation.version", VERSION),
            ("collector.name", PROVIDER),
            ("collector.version", VERSION),
        ])
    }

    /// The attributes of OTLP's resource, in order.
    pub fn open_telemetry(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entity("host.name").chain([
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.name", PROVIDER),
            ("telemetry.sdk.version", VERSION),
        ])
    }

    fn entity<'a>(&'a self, host: &'static str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let extra = self.extra.iter().filter(|(name, _)| name.len() <= COMMON_VALUE_CHARS_MAX).take(EXTRA_MAX);
        [
            ("service.name", Some(&self.service_name)),
            (host, self.host.as_ref()),
            ("service.instance.id", self.instance_id.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, &**value?)))
        .chain(extra.map(|(name, value)| (&**name, &**value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_its_own_name_for_the_host() {
        let common = Common { service_name: "shop".into(), host: Some("proxy-1".into()), ..Common::default() };
        assert!(common.new_relic().any(|attribute| attribute == ("host", "proxy-1")));
        assert!(common.open_telemetry().any(|attribute| attribute == ("host.name", "proxy-1")));
        assert!(!common.open_telemetry().any(|(name, _)| name == "instrumentation.provider"));
    }

    #[test]
    fn workload_attributes_are_bounded() {
        let extra = (0..100).map(|number| (format!("k8s.{number}").into(), "x".into())).collect();
        let common = Common { service_name: "shop".into(), extra, ..Common::default() };
        assert_eq!(common.new_relic().filter(|(name, _)| name.starts_with("k8s.")).count(), EXTRA_MAX);
    }
}
