//! `span_events`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::fault::{Rule, quoted};
use super::reader::{Findings, Place};
use super::schema::RULES_MAX;
use super::text::TextRule;
use super::{AttributeFilter, CustomValue, NamePattern, SpanEvents, SpanLimit};
use crate::json::Value;
use crate::record::{Class, keys};

/// Records a minute that the agents store at most.
pub(super) const SAMPLES_A_MINUTE_MAX: u32 = 10_000;
/// User attributes of one span, as in most of the agents.
const USER_ATTRIBUTES_MAX: usize = 64;
/// Segments of a host property's path.
const PROPERTY_SEGMENTS_MAX: usize = 16;
/// What the envelopes of the exporters write beside the attributes, and what New Relic keeps for itself.
const RESERVED_NAMES: &[&str] = &[
    "appName",
    "duration",
    "duration.ms",
    "entity.guid",
    "entity.name",
    "entity.type",
    "entityGuid",
    "eventType",
    "id",
    "name",
    "parent.id",
    "service.name",
    "timestamp",
    "trace.id",
    "type",
];

pub(super) fn span_events(place: &Place<'_>, findings: &mut Findings<'_>) -> SpanEvents {
    const KEYS: &[&str] = &["enabled", "max_samples_stored", "attributes", "request_headers", "custom_attributes"];
    place.object(KEYS, findings);
    let [headers, custom] = ["request_headers", "custom_attributes"].map(|key| place.at(key));
    let mut names = Names::new();
    let events = SpanEvents {
        enabled: place.at("enabled").boolean(true, findings),
        max_samples_stored: span_limit(&place.at("max_samples_stored"), findings),
        attributes: attribute_filter(&place.at("attributes"), findings),
        request_headers: request_headers(&headers, &mut names, findings),
        custom_attributes: custom_attributes(&custom, &mut names, findings),
    };
    if names.len() > USER_ATTRIBUTES_MAX {
        let total = format!("a total of {}", names.len());
        custom.refuse_text(&total, Rule::UserAttributes(USER_ATTRIBUTES_MAX), findings);
    }
    events
}

fn span_limit(place: &Place<'_>, findings: &mut Findings<'_>) -> SpanLimit {
    const DEFAULT: SpanLimit = SpanLimit::PerMinute(2000);
    let Some(value) = place.value else { return DEFAULT };
    if value.as_str() == Some("unlimited") {
        return SpanLimit::Unlimited;
    }
    place.whole(1, SAMPLES_A_MINUTE_MAX).map(SpanLimit::PerMinute).unwrap_or_else(|| {
        place.refuse(Rule::IntegerOrUnlimited(1, SAMPLES_A_MINUTE_MAX), findings);
        DEFAULT
    })
}

fn attribute_filter(place: &Place<'_>, findings: &mut Findings<'_>) -> AttributeFilter {
    place.object(&["include", "exclude"], findings);
    AttributeFilter {
        include: patterns(&place.at("include"), findings),
        exclude: patterns(&place.at("exclude"), findings),
    }
}

fn patterns(place: &Place<'_>, findings: &mut Findings<'_>) -> Vec<NamePattern> {
    let items = place.items(RULES_MAX, findings);
    items.iter().filter_map(|item| pattern(item, findings)).collect()
}

fn pattern(place: &Place<'_>, findings: &mut Findings<'_>) -> Option<NamePattern> {
    let text = place.text(TextRule::AttributePattern, findings)?;
    if keys::ALL.iter().any(|key| key.class == Class::Intrinsic && key.new_relic == text) {
        place.warn("has no effect: this attribute belongs to every record", findings);
    }
    let beginning = text.strip_suffix('*');
    Some(NamePattern { text: beginning.unwrap_or(text).into(), prefix: beginning.is_some() })
}

/// The names of user attributes so far: none may stand twice in one record.
type Names<'a> = Vec<&'a str>;

fn request_headers<'a>(
    place: &'a Place<'a>,
    names: &mut Names<'a>,
    findings: &mut Findings<'_>,
) -> Vec<(Box<str>, Box<str>)> {
    let mut headers = Vec::new();
    for (name, attribute) in place.entries(USER_ATTRIBUTES_MAX, findings) {
        attribute.check_name(name, TextRule::HeaderName, findings);
        if let Some(text) = attribute.required(TextRule::AttributeName, findings) {
            take(text, &attribute, names, findings);
            headers.push((name.to_ascii_lowercase().into(), text.into()));
        }
    }
    headers
}

fn custom_attributes<'a>(
    place: &'a Place<'a>,
    names: &mut Names<'a>,
    findings: &mut Findings<'_>,
) -> Vec<(Box<str>, CustomValue)> {
    let mut attributes = Vec::new();
    for (name, source) in place.entries(USER_ATTRIBUTES_MAX, findings) {
        source.check_name(name, TextRule::AttributeName, findings);
        take(name, &source, names, findings);
        if let Some(value) = custom_value(&source, findings) {
            attributes.push((name.into(), value));
        }
    }
    attributes
}

fn take<'a>(name: &'a str, place: &Place<'_>, names: &mut Names<'a>, findings: &mut Findings<'_>) {
    let is_known = keys::ALL.iter().any(|key| key.new_relic == name || key.otlp == Some(name));
    if is_known || RESERVED_NAMES.contains(&name) || names.contains(&name) {
        place.refuse_text(&quoted(name), Rule::FreeAttributeName, findings);
    }
    names.push(name);
}

fn custom_value(place: &Place<'_>, findings: &mut Findings<'_>) -> Option<CustomValue> {
    match place.one_key(&["value", "env", "property"], findings)? {
        ("value", value) => literal(&value, findings),
        ("env", name) => {
            let text = name.named_variable(TextRule::AttributeText, findings)?;
            Some(CustomValue::Text(text.into()))
        }
        (_, path) => property(&path, findings),
    }
}

fn literal(place: &Place<'_>, findings: &mut Findings<'_>) -> Option<CustomValue> {
    match place.value? {
        Value::String(text) if TextRule::AttributeText.accepts(text) => Some(CustomValue::Text((**text).into())),
        Value::Number(number) if number.as_f64().is_some() => number.as_f64().map(CustomValue::Number),
        Value::Bool(value) => Some(CustomValue::Bool(*value)),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            place.refuse(Rule::AttributeValue, findings);
            None
        }
    }
}

fn property(place: &Place<'_>, findings: &mut Findings<'_>) -> Option<CustomValue> {
    let segments = place.items(PROPERTY_SEGMENTS_MAX, findings);
    if place.value.and_then(Value::as_array).is_some_and(<[_]>::is_empty) {
        place.refuse(Rule::PropertyPath(PROPERTY_SEGMENTS_MAX), findings);
    }
    let segments = segments.iter().filter_map(|segment| segment.text(TextRule::PropertySegment, findings));
    Some(CustomValue::Property(segments.map(Into::into).collect()))
}
