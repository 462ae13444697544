//! What is recorded of a partial trace.
//!
//! A proxy's transaction is one entry span and at most one exit span, and every type keeps both: the entry span always
//! is, and the exit span is the only one to its callee. So a type only thins out attributes and adds its marks
//! (Python agent `newrelic/core/node_mixin.py`). Of New Relic's `nr.ids`, the ids of other spans that one span
//! stands for, there are none.

use crate::config::PartialType;
use crate::record::{Attribute, Class, Key, Name, SpanKind, Value, keys};

/// Attributes that tell which entity a span called.
const ENTITY: [&str; 12] = [
    "cloud.account.id",
    "cloud.platform",
    "cloud.region",
    "cloud.resource_id",
    "db.instance",
    "db.system",
    "http.url",
    "messaging.destination.name",
    "messaging.system",
    "peer.hostname",
    "server.address",
    "server.port",
];

/// Attributes that tell why a span failed.
const ERROR: [&str; 3] = ["error.class", "error.message", "error.expected"];

/// Whether an attribute of a partial trace's span is recorded.
pub fn keeps_attribute(partial_type: PartialType, name: Name<'_>) -> bool {
    match (partial_type, name.class()) {
        (PartialType::Reduced, _) | (_, Class::Intrinsic) => true,
        (PartialType::Essential | PartialType::Compact, Class::Agent) => {
            let name = name.new_relic();
            ENTITY.contains(&name) || ERROR.contains(&name)
        }
        (PartialType::Essential | PartialType::Compact, Class::User) => false,
    }
}

/// The attribute that a partial trace's span carries on top: `nr.pg` marks the entry span, and `nr.durations` on an
/// exit span of a compact trace is the time of all spans it stands for, in seconds: here its own.
pub fn mark(partial_type: PartialType, kind: SpanKind, duration_ns: u64) -> Option<Attribute<'static>> {
    match (kind, partial_type) {
        (SpanKind::Server, _) => Some(attribute(&keys::PARTIAL_GRANULARITY, Value::Bool(true))),
        (SpanKind::Client, PartialType::Compact) => {
            Some(attribute(&keys::DURATIONS, Value::Float(duration_ns as f64 / 1e9)))
        }
        (SpanKind::Client, PartialType::Reduced | PartialType::Essential) => None,
    }
}

fn attribute(key: &'static Key, value: Value<'static>) -> Attribute<'static> {
    Attribute { name: Name::Known(key), value }
}

/// The statistics of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanMetrics {
    /// Counts the spans that a partial trace would have at full granularity.
    pub instrumented: &'static str,
    /// Counts those that are recorded; the same number for a proxy.
    pub kept: &'static str,
}

/// The names of a type's statistics.
pub fn span_metrics(partial_type: PartialType) -> SpanMetrics {
    macro_rules! names {
        ($type:literal) => {
            SpanMetrics {
                instrumented: concat!(
                    "newrelic.Supportability/DistributedTrace/PartialGranularity/",
                    $type,
                    "/Span/Instrumented"
                ),
                kept: concat!("newrelic.Supportability/DistributedTrace/PartialGranularity/", $type, "/Span/Kept"),
            }
        };
    }
    match partial_type {
        PartialType::Reduced => names!("Reduced"),
        PartialType::Essential => names!("Essential"),
        PartialType::Compact => names!("Compact"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPES: [PartialType; 3] = [PartialType::Reduced, PartialType::Essential, PartialType::Compact];

    #[test]
    fn each_type_keeps_its_attributes() {
        for (name, thinned) in [
            (Name::Known(&keys::SPAN_KIND), true),
            (Name::Known(&keys::TRANSACTION_NAME), true),
            (Name::Known(&keys::PRIORITY), true),
            (Name::Known(&keys::HTTP_URL), true),
            (Name::Known(&keys::SERVER_ADDRESS), true),
            (Name::Known(&keys::SERVER_PORT), true),
            (Name::Known(&keys::PEER_HOSTNAME), true),
            (Name::Known(&keys::DB_SYSTEM), true),
            (Name::Known(&keys::ERROR_CLASS), true),
            (Name::Known(&keys::ERROR_MESSAGE), true),
            (Name::Known(&keys::HTTP_STATUS_CODE), false),
            (Name::Known(&keys::HTTP_METHOD), false),
            (Name::Known(&keys::REQUEST_URI), false),
            (Name::Known(&keys::DB_OPERATION), false),
            (Name::Known(&keys::PARENT_ACCOUNT), false),
            (Name::Known(&keys::RESPONSE_FLAGS), false),
            (Name::User("tier"), false),
            (Name::User("server.address"), false),
        ] {
            let kept = TYPES.map(|partial_type| keeps_attribute(partial_type, name));
            assert_eq!(kept, [true, thinned, thinned], "{name:?}");
        }
    }

    #[test]
    fn the_entry_span_is_marked_and_a_compact_exit_span_tells_its_time() {
        let marks = |kind| {
            TYPES.map(|partial_type| {
                mark(partial_type, kind, 160_000_000).map(|mark| (mark.name.new_relic(), mark.value))
            })
        };
        assert_eq!(marks(SpanKind::Server), [Some(("nr.pg", Value::Bool(true))); 3]);
        assert_eq!(marks(SpanKind::Client), [None, None, Some(("nr.durations", Value::Float(0.16)))]);
    }

    #[test]
    fn the_metrics_name_the_type() {
        for (partial_type, kept) in TYPES.into_iter().zip([
            "newrelic.Supportability/DistributedTrace/PartialGranularity/Reduced/Span/Kept",
            "newrelic.Supportability/DistributedTrace/PartialGranularity/Essential/Span/Kept",
            "newrelic.Supportability/DistributedTrace/PartialGranularity/Compact/Span/Kept",
        ]) {
            let metrics = span_metrics(partial_type);
            assert_eq!(metrics.kept, kept);
            assert_eq!(metrics.instrumented, kept.replace("Kept", "Instrumented"));
        }
    }
}
