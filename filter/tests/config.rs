//! The configuration as an operator writes it: what every key takes, what it refuses and how it says so.

use std::io::Write as _;
use std::process::{Command, Stdio};

use newrelic_tracing::config::{
    Config, CustomValue, ExcludeRule, Fault, Faults, HttpExporter, LogExporter, LogLevel, NamePattern, OtlpEncoding,
    PartialType, Problem, Retry, Role, RoleSetting, Rule, SamplerKind, SamplerSections, SpanLimit, StatusCodes,
    TextRule, TrustInbound, parse,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const LICENSE_KEY: &str = "0123456789abcdef0123456789abcdefd0e1NRAL";

fn environment(name: &str) -> Option<String> {
    match name {
        "NEW_RELIC_LICENSE_KEY" => Some(LICENSE_KEY.into()),
        "REGION" => Some("eu\n".into()),
        "EMPTY" => Some(" \n".into()),
        "TWO_LINES" => Some("a\r\nb".into()),
        _ => None,
    }
}

fn read(value: &Value) -> Result<Config, Faults> {
    parse(value.to_string().as_bytes(), &environment)
}

fn valid(value: &Value) -> Config {
    read(value).unwrap_or_else(|faults| panic!("{value}\n{faults}"))
}

fn refused(value: &Value) -> Vec<Fault> {
    read(value).expect_err(&value.to_string()).iter().cloned().collect()
}

fn warnings(value: &Value) -> Vec<String> {
    valid(value).warnings
}

/// A configuration in which every object that requires something has it.
fn base() -> Value {
    json!({
        "account_id": "1",
        "exporters": {"trace_api": {"cluster": "c"}, "event_api": {"cluster": "c"}, "otlp": {"cluster": "c"}},
        "infinite_tracing": {"cluster": "c", "host": "h"},
    })
}

/// The configuration with a value written at a path.
fn with(mut configuration: Value, path: &str, value: &Value) -> Value {
    let mut place = &mut configuration;
    for key in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[key];
    }
    *place = value.clone();
    configuration
}

/// A key, what it takes, what it refuses, and the rule that the refusal names.
type Row = (&'static str, Vec<Value>, Vec<Value>, Rule);

const fn text(rule: TextRule) -> Rule {
    Rule::Text(rule)
}

const PLAIN: Rule = Rule::Text(TextRule::Plain(255));

fn boolean(key: &'static str) -> Row {
    (key, vec![json!(true), json!(false)], vec![json!("true"), json!(1), json!(null), json!([])], Rule::Bool)
}

fn integer(key: &'static str, least: u32, most: u32) -> Row {
    let refused = vec![
        json!(i64::from(least) - 1),
        json!(i64::from(most) + 1),
        json!(1e300),
        json!(f64::from(least) + 0.5),
        json!(least.to_string()),
        json!(null),
    ];
    (key, vec![json!(least), json!(most), json!(f64::from(most))], refused, Rule::Integer(least, most))
}

fn choice(key: &'static str, names: &'static [&'static str]) -> Row {
    let refused = vec![json!("other"), json!(names[0].to_ascii_uppercase()), json!(1), json!(null), json!("")];
    (key, names.iter().map(|name| json!(name)).collect(), refused, Rule::OneOf(names))
}

fn list(key: &'static str) -> Row {
    (key, vec![json!([])], vec![json!("x"), json!({}), json!(null), json!(vec![1; 257])], Rule::List(256))
}

fn object(key: &'static str) -> Row {
    (key, vec![], vec![json!("x"), json!([]), json!(null), json!(true)], Rule::Object)
}

fn digits(key: &'static str) -> Row {
    let refused = vec![json!(4001), json!(""), json!("40 01"), json!("1".repeat(21)), json!(null), json!(["1"])];
    (key, vec![json!("4001"), json!("1".repeat(20))], refused, text(TextRule::Digits))
}

fn plain(key: &'static str) -> Row {
    let refused = vec![json!(""), json!("a\nb"), json!(7), json!("x".repeat(256)), json!(null)];
    (key, vec![json!("text"), json!("ä b")], refused, PLAIN)
}

fn source(key: &'static str) -> Row {
    let accepted = vec![json!({"env": "REGION"}), json!({"value": "text"})];
    let refused = vec![json!("text"), json!({"env": "REGION", "value": "x"}), json!({}), json!(null), json!(7)];
    (key, accepted, refused, Rule::OneKey(&["env", "value"]))
}

fn source_text(key: &'static str) -> Row {
    let refused = vec![json!(""), json!("a\r\nb"), json!("a\0"), json!("ä"), json!(7), json!(null)];
    (key, vec![json!("text")], refused, text(TextRule::Printable))
}

fn variable(key: &'static str) -> Row {
    let refused = vec![json!(""), json!("A-B"), json!(7), json!(LICENSE_KEY), json!(null)];
    (key, vec![json!("REGION")], refused, text(TextRule::VariableName))
}

fn host(key: &'static str) -> Row {
    let refused = vec![json!("https://h"), json!("h/p"), json!(""), json!("h:x"), json!(1), json!(null)];
    (key, vec![json!("h"), json!("h.example"), json!("10.0.0.1:80"), json!("[::1]:80")], refused, text(TextRule::Host))
}

fn path(key: &'static str, rule: TextRule) -> Row {
    let refused = vec![json!("p"), json!(""), json!("/a b"), json!("/{tenant}"), json!(1), json!(null)];
    (key, vec![json!("/"), json!("/p?q=1")], refused, text(rule))
}

/// The keys that every exporter to a cluster has.
macro_rules! shared {
    ($place:literal) => {
        vec![
            object($place),
            plain(concat!($place, ".cluster")),
            host(concat!($place, ".host")),
            integer(concat!($place, ".flush_interval_ms"), 100, 60_000),
            integer(concat!($place, ".timeout_ms"), 1, 600_000),
            boolean(concat!($place, ".gzip")),
            integer(concat!($place, ".max_queue_bytes"), 1024, 268_435_456),
            object(concat!($place, ".retry")),
            integer(concat!($place, ".retry.factor_ms"), 0, 600_000),
            integer(concat!($place, ".retry.max_ms"), 0, 3_600_000),
            integer(concat!($place, ".retry.attempts"), 0, 100),
        ]
    };
}

/// The license key of an exporter.
macro_rules! api_key {
    ($place:literal) => {
        vec![
            source(concat!($place, ".api_key")),
            source_text(concat!($place, ".api_key.value")),
            variable(concat!($place, ".api_key.env")),
        ]
    };
}

/// Every key of the configuration whose refusals name the key itself.
fn rows() -> Vec<Row> {
    let mut rows = vec![
        digits("account_id"),
        digits("trusted_account_key"),
        (
            "primary_application_id",
            vec![json!("77"), json!("Unknown")],
            vec![json!(77), json!("app"), json!(""), json!(null)],
            text(TextRule::ApplicationId),
        ),
        plain("app_name"),
        choice("role", &["auto", "inbound", "outbound", "gateway"]),
        choice("trust_inbound", &["always", "never", "internal_only"]),
        object("distributed_tracing"),
        boolean("distributed_tracing.enabled"),
        boolean("distributed_tracing.exclude_newrelic_header"),
        boolean("distributed_tracing.tracestate_span_id"),
        boolean("distributed_tracing.propagate_random_flag"),
        object("distributed_tracing.sampler"),
        object("distributed_tracing.sampler.full_granularity"),
        boolean("distributed_tracing.sampler.full_granularity.enabled"),
        object("distributed_tracing.sampler.partial_granularity"),
        boolean("distributed_tracing.sampler.partial_granularity.enabled"),
        choice("distributed_tracing.sampler.partial_granularity.type", &["reduced", "essential", "compact"]),
        object("span_events"),
        boolean("span_events.enabled"),
        (
            "span_events.max_samples_stored",
            vec![json!(1), json!(10_000), json!("unlimited")],
            vec![json!(0), json!(10_001), json!("100"), json!("Unlimited"), json!(1.5), json!(null)],
            Rule::IntegerOrUnlimited(1, 10_000),
        ),
        object("span_events.attributes"),
        list("span_events.attributes.include"),
        list("span_events.attributes.exclude"),
        (
            "span_events.request_headers",
            vec![json!({}), json!({"X-Team": "team"})],
            vec![json!([]), json!("x"), json!(null)],
            Rule::Map(64),
        ),
        (
            "span_events.custom_attributes",
            vec![json!({}), json!({"a": {"value": 1}})],
            vec![json!([]), json!("x"), json!(null)],
            Rule::Map(64),
        ),
        (
            "span_events.custom_attributes.a",
            vec![json!({"value": "x"}), json!({"env": "REGION"}), json!({"property": ["route_name"]})],
            vec![json!("x"), json!({}), json!({"value": 1, "env": "REGION"}), json!(null)],
            Rule::OneKey(&["value", "env", "property"]),
        ),
        (
            "span_events.custom_attributes.a.value",
            vec![json!(""), json!("x"), json!(-1.5), json!(true), json!("x".repeat(4095))],
            vec![json!(null), json!([]), json!({}), json!("x".repeat(4096))],
            Rule::AttributeValue,
        ),
        variable("span_events.custom_attributes.a.env"),
        (
            "span_events.custom_attributes.a.property",
            vec![json!(["xds", "route_name"]), json!(vec!["x"; 16])],
            vec![json!("x"), json!(null), json!(vec!["x"; 17])],
            Rule::List(16),
        ),
        object("transaction_events"),
        boolean("transaction_events.enabled"),
        integer("transaction_events.max_samples_stored", 1, 10_000),
        object("error_collector"),
        list("error_collector.ignore_status_codes"),
        object("transaction_name"),
        list("transaction_name.rules"),
        list("exclude"),
        list("datastores"),
        object("application_logging"),
        object("application_logging.local_decorating"),
        boolean("application_logging.local_decorating.enabled"),
        integer("infinite_tracing.port", 1, 65_535),
        integer("infinite_tracing.queue_size", 1, 100_000),
        object("cross_application_tracer"),
        boolean("cross_application_tracer.enabled"),
        (
            "cross_application_tracer.cross_process_id",
            vec![json!("4001#90210"), json!("")],
            vec![json!("4001"), json!("a#1"), json!(4001), json!(format!("1#{}", "2".repeat(62))), json!(null)],
            text(TextRule::CrossProcessId),
        ),
        (
            "cross_application_tracer.encoding_key",
            vec![json!("f00dcafe1234"), json!(""), json!({"env": "REGION"}), json!({"value": "x"})],
            vec![json!(7), json!(["x"]), json!(null)],
            Rule::TextOrSource,
        ),
        source_text("cross_application_tracer.encoding_key.value"),
        variable("cross_application_tracer.encoding_key.env"),
        list("cross_application_tracer.trusted_account_ids"),
        object("exporters"),
        object("exporters.log"),
        choice("exporters.log.level", &["trace", "debug", "info", "warn", "error", "critical"]),
        path("exporters.trace_api.path", TextRule::Path),
        path("exporters.event_api.path", TextRule::AccountPath),
        path("exporters.otlp.path", TextRule::Path),
        choice("exporters.otlp.encoding", &["protobuf", "json"]),
        (
            "exporters.otlp.headers",
            vec![json!({}), json!({"X-Key": "k", "y": {"env": "REGION"}, "z": {"value": "v"}})],
            vec![json!([]), json!("x"), json!(null)],
            Rule::Map(32),
        ),
        (
            "exporters.otlp.headers.x-key",
            vec![json!("a b")],
            vec![json!(7), json!(true), json!(["x"]), json!(null)],
            Rule::TextOrSource,
        ),
        source_text("exporters.otlp.headers.x-key.value"),
        variable("exporters.otlp.headers.x-key.env"),
    ];
    for more in [
        shared!("infinite_tracing"),
        shared!("exporters.trace_api"),
        shared!("exporters.event_api"),
        shared!("exporters.otlp"),
        api_key!("infinite_tracing"),
        api_key!("exporters.trace_api"),
        api_key!("exporters.event_api"),
    ] {
        rows.extend(more);
    }
    rows
}

#[test]
fn every_key_takes_its_values_and_refuses_others_by_its_rule() {
    for (key, accepted, bad, rule) in rows() {
        for value in accepted {
            valid(&with(base(), key, &value));
        }
        for value in bad {
            let faults = refused(&with(base(), key, &value));
            let [fault] = faults.as_slice() else { panic!("{key} {value}: {faults:?}") };
            assert_eq!((fault.key.as_str(), fault.rule), (key, rule), "{value}");
            assert!(matches!(fault.problem, Problem::Value(_)), "{fault}");
        }
    }
}

/// The keys of fixed objects, and of the samplers, which never refuse.
const SAMPLERS: [&str; 6] = [
    "distributed_tracing.sampler.root",
    "distributed_tracing.sampler.remote_parent_sampled",
    "distributed_tracing.sampler.remote_parent_not_sampled",
    "distributed_tracing.sampler.partial_granularity.root",
    "distributed_tracing.sampler.partial_granularity.remote_parent_sampled",
    "distributed_tracing.sampler.partial_granularity.remote_parent_not_sampled",
];

#[test]
fn the_table_leaves_no_key_out_and_every_object_refuses_unknown_keys() {
    let rows = rows();
    let objects = rows.iter().filter(|row| row.3 == Rule::Object).map(|row| row.0);
    for place in objects.chain([""]) {
        let prefix = if place.is_empty() { String::new() } else { format!("{place}.") };
        let unknown = format!("{prefix}unknown");
        let faults = refused(&with(base(), &unknown, &json!("s3cret")));
        let [Fault { key, problem: Problem::UnknownKey, rule: Rule::Keys(known) }] = faults.as_slice() else {
            panic!("{place}: {faults:?}")
        };
        assert_eq!(*key, unknown);
        for name in *known {
            let key = format!("{prefix}{name}");
            let is_known = rows.iter().any(|row| row.0 == key)
                || SAMPLERS.contains(&key.as_str())
                || key == "distributed_tracing.sampler.adaptive_sampling_target";
            assert!(is_known, "{key} is missing in the table");
        }
    }
}

#[test]
fn entries_of_lists_and_maps_are_refused_by_their_own_key() {
    const CODES: Rule = Rule::StatusCodes;
    const ONE: Rule = Rule::OneKey(&["path", "host", "header"]);
    let codes = "error_collector.ignore_status_codes";
    let rules = "transaction_name.rules";
    let headers = "span_events.request_headers";
    let custom = "span_events.custom_attributes";
    for (path, value, key, rule) in [
        (codes, json!([404, 99]), "error_collector.ignore_status_codes[1]", CODES),
        (codes, json!([600]), "error_collector.ignore_status_codes[0]", CODES),
        (codes, json!(["500-400"]), "error_collector.ignore_status_codes[0]", CODES),
        (codes, json!(["4xx"]), "error_collector.ignore_status_codes[0]", CODES),
        (codes, json!(["400-"]), "error_collector.ignore_status_codes[0]", CODES),
        (codes, json!(["+40"]), "error_collector.ignore_status_codes[0]", CODES),
        (codes, json!([null]), "error_collector.ignore_status_codes[0]", CODES),
        (rules, json!([{"path": "/a"}]), "transaction_name.rules[0].name", PLAIN),
        (rules, json!([{"name": "a"}]), "transaction_name.rules[0].path", PLAIN),
        (rules, json!([{"path": "/a", "name": ""}]), "transaction_name.rules[0].name", PLAIN),
        (
            rules,
            json!([{"path": "/a", "name": "a", "x": 1}]),
            "transaction_name.rules[0].x",
            Rule::Keys(&["path", "name"]),
        ),
        (rules, json!(["/a"]), "transaction_name.rules[0]", Rule::Object),
        ("datastores", json!([{"host": "es"}]), "datastores[0].system", PLAIN),
        ("datastores", json!([{"system": "x"}]), "datastores[0].host", PLAIN),
        ("exclude", json!([{}]), "exclude[0]", ONE),
        ("exclude", json!(["/healthz"]), "exclude[0]", ONE),
        ("exclude", json!([{"path": "/a", "host": "b"}]), "exclude[0]", ONE),
        ("exclude", json!([{"path": "/a"}, {"path": ""}]), "exclude[1].path", PLAIN),
        ("exclude", json!([{"host": 7}]), "exclude[0].host", PLAIN),
        ("exclude", json!([{"header": "x"}]), "exclude[0].value", PLAIN),
        ("exclude", json!([{"header": ":path", "value": "*"}]), "exclude[0].header", text(TextRule::HeaderName)),
        (
            "exclude",
            json!([{"header": "x", "value": "*", "path": "/"}]),
            "exclude[0].path",
            Rule::Keys(&["header", "value"]),
        ),
        ("exclude", json!([{"paths": "/"}]), "exclude[0].paths", ONE_KEYS),
        (
            "span_events.attributes.exclude",
            json!(["http.*", "*.url"]),
            "span_events.attributes.exclude[1]",
            text(TextRule::AttributePattern),
        ),
        (
            "span_events.attributes.include",
            json!([7]),
            "span_events.attributes.include[0]",
            text(TextRule::AttributePattern),
        ),
        (headers, json!({"x y": "a"}), r#"span_events.request_headers."x y""#, text(TextRule::HeaderName)),
        (headers, json!({"x": ""}), "span_events.request_headers.x", text(TextRule::AttributeName)),
        (headers, json!({"x": 1}), "span_events.request_headers.x", text(TextRule::AttributeName)),
        (headers, json!({"x": "a", "y": "a"}), "span_events.request_headers.y", Rule::FreeAttributeName),
        (headers, json!({"x": "http.url"}), "span_events.request_headers.x", Rule::FreeAttributeName),
        (headers, json!({"x": "service.name"}), "span_events.request_headers.x", Rule::FreeAttributeName),
        (custom, json!({"": {"value": 1}}), r#"span_events.custom_attributes."""#, text(TextRule::AttributeName)),
        (custom, json!({"guid": {"value": 1}}), "span_events.custom_attributes.guid", Rule::FreeAttributeName),
        (custom, json!({"a.b": {"value": null}}), r#"span_events.custom_attributes."a.b".value"#, Rule::AttributeValue),
        (custom, json!({"a": {"property": []}}), "span_events.custom_attributes.a.property", Rule::PropertyPath(16)),
        (
            custom,
            json!({"a": {"property": ["x", ""]}}),
            "span_events.custom_attributes.a.property[1]",
            text(TextRule::PropertySegment),
        ),
        (
            custom,
            json!({"a": {"property": ["x\0y"]}}),
            "span_events.custom_attributes.a.property[0]",
            text(TextRule::PropertySegment),
        ),
        ("exporters.otlp.headers", json!({"a b": "x"}), r#"exporters.otlp.headers."a b""#, text(TextRule::HeaderName)),
        (
            "exporters.otlp.headers",
            json!({"Content-Type": "x"}),
            "exporters.otlp.headers.Content-Type",
            Rule::FreeHeaderName,
        ),
        ("exporters.otlp.headers", json!({"A": "x", "a": "y"}), "exporters.otlp.headers.a", Rule::FreeHeaderName),
        ("exporters.otlp.headers", json!({"a": "x\r\ny"}), "exporters.otlp.headers.a", text(TextRule::Printable)),
        (
            "cross_application_tracer.trusted_account_ids",
            json!(["1", 2]),
            "cross_application_tracer.trusted_account_ids[1]",
            text(TextRule::Digits),
        ),
    ] {
        let faults = refused(&with(base(), path, &value));
        let [fault] = faults.as_slice() else { panic!("{path} {value}: {faults:?}") };
        assert_eq!((fault.key.as_str(), fault.rule), (key, rule), "{value}");
    }
}

const ONE_KEYS: Rule = Rule::Keys(&["path", "host", "header"]);

#[test]
fn what_an_exporter_cannot_do_without_is_missing_when_it_is_not_written() {
    let cluster = |key| (key, PLAIN);
    for (value, expected) in [
        (json!({"exporters": {"trace_api": {}}}), vec![cluster("exporters.trace_api.cluster")]),
        (json!({"exporters": {"otlp": {}}}), vec![cluster("exporters.otlp.cluster")]),
        (
            json!({"exporters": {"event_api": {}}}),
            vec![cluster("exporters.event_api.cluster"), ("account_id", Rule::AccountIdForPath)],
        ),
        (
            json!({"infinite_tracing": {}}),
            vec![cluster("infinite_tracing.cluster"), ("infinite_tracing.host", text(TextRule::Host))],
        ),
    ] {
        let faults = refused(&value);
        assert!(faults.iter().all(|fault| fault.problem == Problem::Missing), "{faults:?}");
        assert_eq!(faults.iter().map(|fault| (fault.key.as_str(), fault.rule)).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn variables_that_are_not_set_or_of_no_use_are_named() {
    let unset = |name: &str| Problem::UnsetVariable(name.into());
    let bad = |name: &str| Problem::VariableValue(name.into());
    for (path, value, key, problem) in [
        ("exporters.trace_api.api_key", json!({"env": "MY_KEY"}), "exporters.trace_api.api_key.env", unset("MY_KEY")),
        ("exporters.trace_api.api_key", json!({"env": "EMPTY"}), "exporters.trace_api.api_key.env", unset("EMPTY")),
        ("exporters.otlp.headers.k", json!({"env": "TWO_LINES"}), "exporters.otlp.headers.k.env", bad("TWO_LINES")),
        (
            "cross_application_tracer.encoding_key",
            json!({"env": "K"}),
            "cross_application_tracer.encoding_key.env",
            unset("K"),
        ),
        ("span_events.custom_attributes.a", json!({"env": "A"}), "span_events.custom_attributes.a.env", unset("A")),
    ] {
        let faults = refused(&with(base(), path, &value));
        assert_eq!(faults.len(), 1);
        assert_eq!((faults[0].key.as_str(), &faults[0].problem), (key, &problem));
    }
}

#[test]
fn the_license_key_variable_is_wanted_by_default() {
    let configuration = base().to_string();
    let faults = parse(configuration.as_bytes(), &|_| None).unwrap_err();
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "infinite_tracing.api_key",
            "exporters.trace_api.api_key",
            "exporters.event_api.api_key",
            "exporters.otlp.headers"
        ]
    );
    let unset = Problem::UnsetVariable("NEW_RELIC_LICENSE_KEY".into());
    assert!(faults.iter().all(|fault| fault.problem == unset && fault.rule == Rule::SetVariable));
    assert!(parse(b"{}", &|_| None).is_ok());
}

#[test]
fn all_faults_are_told_at_once_one_line_each() {
    let faults = read(&json!({
        "acount_id": "1",
        "role": "sidecar",
        "distributed_tracing": {"enabled": "yes"},
        "exporters": {"trace_api": {"cluster": "", "flush_interval_ms": 50}},
    }))
    .unwrap_err();
    let text = faults.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("acount_id: unknown key: known here: account_id, trusted_account_key, "), "{text}");
    assert_eq!(
        lines[1..],
        [
            r#"role: "sidecar" is not allowed: one of auto, inbound, outbound, gateway"#,
            r#"distributed_tracing.enabled: "yes" is not allowed: true or false"#,
            r#"exporters.trace_api.cluster: "" is not allowed: text of 1 to 255 bytes without control characters"#,
            "exporters.trace_api.flush_interval_ms: 50 is not allowed: a whole number from 100 to 60000",
        ]
    );
}

#[test]
fn no_key_is_needed() {
    for bytes in [&b""[..], b" \n", b"\n", b"{}", b"\n{ }\n"] {
        let config = parse(bytes, &|_| None).unwrap();
        assert!(config.account.is_none());
        assert_eq!(config.app_name, None);
        assert_eq!(config.role, RoleSetting::Auto);
        assert_eq!(config.trust_inbound, TrustInbound::Always);
        let tracing = &config.distributed_tracing;
        assert!(tracing.enabled);
        assert!(!tracing.exclude_newrelic_header && !tracing.tracestate_span_id && !tracing.propagate_random_flag);
        assert_eq!(tracing.sampler.adaptive_sampling_target, 10);
        let shared = SamplerKind::AdaptiveShared;
        let sections =
            SamplerSections { root: shared, remote_parent_sampled: shared, remote_parent_not_sampled: shared };
        assert_eq!((tracing.sampler.full, tracing.sampler.partial), (Some(sections), None));
        assert!(config.span_events.enabled);
        assert_eq!(config.span_events.max_samples_stored, SpanLimit::PerMinute(2000));
        assert!(config.span_events.attributes.include.is_empty() && config.span_events.attributes.exclude.is_empty());
        assert!(config.span_events.request_headers.is_empty() && config.span_events.custom_attributes.is_empty());
        assert!(config.transaction_events.enabled);
        assert_eq!(config.transaction_events.max_samples_stored, 1200);
        assert_eq!(config.ignore_status_codes, StatusCodes(vec![(404, 404)]));
        assert!(config.transaction_name_rules.is_empty() && config.exclude.is_empty() && config.datastores.is_empty());
        assert!(!config.local_decorating);
        assert!(config.infinite_tracing.is_none() && config.cross_application_tracing.is_none());
        assert_eq!(config.exporters.log, Some(LogExporter { level: LogLevel::Info }));
        let exporters = &config.exporters;
        assert!(exporters.trace_api.is_none() && exporters.event_api.is_none() && exporters.otlp.is_none());
        assert_eq!(config.warnings, [""; 0]);
    }
}

#[test]
fn explicit_exporters_replace_the_log() {
    let none = valid(&json!({"exporters": {}})).exporters;
    assert!(none.log.is_none() && none.trace_api.is_none() && none.event_api.is_none() && none.otlp.is_none());
    let log = valid(&json!({"exporters": {"log": {}}})).exporters.log;
    assert_eq!(log, Some(LogExporter { level: LogLevel::Info }));
}

#[test]
fn the_account_is_known_by_its_id_and_fills_the_rest() {
    let account = |value: Value| {
        let account = valid(&value).account?;
        Some([account.account_id, account.trusted_account_key, account.primary_application_id])
    };
    let ids = |ids: [&str; 3]| Some(ids.map(Box::from));
    assert_eq!(account(json!({"account_id": "4001"})), ids(["4001", "4001", "Unknown"]));
    let all = json!({"account_id": "4001", "trusted_account_key": "33", "primary_application_id": "77"});
    assert_eq!(account(all), ids(["4001", "33", "77"]));
    let no_id = json!({"trusted_account_key": "33", "primary_application_id": "77"});
    assert_eq!(account(no_id.clone()), None);
    assert_eq!(
        warnings(&no_id),
        [
            "trusted_account_key: has no effect without account_id",
            "primary_application_id: has no effect without account_id"
        ]
    );
}

#[test]
fn an_account_id_that_is_refused_is_not_missed_too() {
    let faults = refused(&json!({"account_id": 1, "exporters": {"event_api": {"cluster": "c"}}}));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].to_string(), "account_id: 1 is not allowed: a string of 1 to 20 digits, in quotes");
}

#[test]
fn every_plain_value_is_taken_over() {
    let config = valid(&json!({
        "app_name": "edge",
        "role": "gateway",
        "trust_inbound": "internal_only",
        "distributed_tracing": {"exclude_newrelic_header": true, "tracestate_span_id": true, "propagate_random_flag": true},
        "span_events": {
            "enabled": false,
            "max_samples_stored": "unlimited",
            "attributes": {"include": ["http.*", "*"], "exclude": ["http.url"]},
            "request_headers": {"X-Team": "team", "x-b": "b"},
            "custom_attributes": {
                "text": {"value": "t"}, "number": {"value": 1.5}, "flag": {"value": true},
                "region": {"env": "REGION"}, "route": {"property": ["xds", "route_name"]},
            },
        },
        "transaction_events": {"enabled": false, "max_samples_stored": 7},
        "application_logging": {"local_decorating": {"enabled": true}},
        "exporters": {"log": {"level": "debug"}},
    }));
    assert_eq!(config.app_name.as_deref(), Some("edge"));
    assert_eq!(config.role, RoleSetting::Fixed(Role::Gateway));
    assert_eq!(config.trust_inbound, TrustInbound::InternalOnly);
    let tracing = &config.distributed_tracing;
    assert!(tracing.exclude_newrelic_header && tracing.tracestate_span_id && tracing.propagate_random_flag);
    assert!(!config.span_events.enabled);
    assert_eq!(config.span_events.max_samples_stored, SpanLimit::Unlimited);
    let pattern = |text: &str, prefix| NamePattern { text: text.into(), prefix };
    assert_eq!(config.span_events.attributes.include, [pattern("http.", true), pattern("", true)]);
    assert_eq!(config.span_events.attributes.exclude, [pattern("http.url", false)]);
    let header = |name: &str, attribute: &str| (name.into(), attribute.into());
    assert_eq!(config.span_events.request_headers, [header("x-team", "team"), header("x-b", "b")]);
    let attribute = |name: &str, value| (name.into(), value);
    assert_eq!(
        config.span_events.custom_attributes,
        [
            attribute("flag", CustomValue::Bool(true)),
            attribute("number", CustomValue::Number(1.5)),
            attribute("region", CustomValue::Text("eu".into())),
            attribute("route", CustomValue::Property(vec!["xds".into(), "route_name".into()])),
            attribute("text", CustomValue::Text("t".into())),
        ]
    );
    assert!(!config.transaction_events.enabled);
    assert_eq!(config.transaction_events.max_samples_stored, 7);
    assert!(config.local_decorating);
    assert_eq!(config.exporters.log, Some(LogExporter { level: LogLevel::Debug }));
}

#[test]
fn ignored_status_codes_are_sorted_joined_and_errors_only() {
    for (list, expected) in [
        (json!([]), vec![]),
        (json!([404]), vec![(404, 404)]),
        (json!(["404"]), vec![(404, 404)]),
        (json!([503, "400-404", 401, "405-410"]), vec![(400, 410), (503, 503)]),
        (json!(["200-308", "300-404", 100]), vec![(400, 404)]),
        (json!(["100-599"]), vec![(400, 599)]),
    ] {
        let config = valid(&json!({"error_collector": {"ignore_status_codes": list}}));
        assert_eq!(config.ignore_status_codes, StatusCodes(expected), "{list}");
    }
}

#[test]
fn rules_keep_their_order_and_match_case_as_paths_and_hosts_do() {
    let config = valid(&json!({
        "transaction_name": {"rules": [{"path": "/Cart/*", "name": "WebTransaction/Custom/cart"}, {"path": "*", "name": "rest"}]},
        "exclude": [{"path": "/healthz"}, {"host": "*.Internal"}, {"header": "X-Probe", "value": "Kube*"}],
        "datastores": [{"host": "ES-*", "system": "elasticsearch"}],
    }));
    let [cart, rest] = config.transaction_name_rules.as_slice() else { panic!() };
    assert!(cart.path.matches(b"/Cart/1") && !cart.path.matches(b"/cart/1") && rest.path.matches(b"/cart/1"));
    assert_eq!((&*cart.name, &*rest.name), ("WebTransaction/Custom/cart", "rest"));
    let [ExcludeRule::Path(path), ExcludeRule::Host(host), ExcludeRule::Header(name, value)] =
        config.exclude.as_slice()
    else {
        panic!("{:?}", config.exclude)
    };
    assert!(path.matches(b"/healthz") && !path.matches(b"/Healthz"));
    assert!(host.matches(b"API.internal") && !host.matches(b"internal"));
    assert_eq!(&**name, "x-probe");
    assert!(value.matches(b"Kubelet") && !value.matches(b"kubelet"));
    assert!(config.datastores[0].host.matches(b"es-7") && &*config.datastores[0].system == "elasticsearch");
}

fn headers(exporter: &HttpExporter) -> Vec<(&str, &str)> {
    exporter.headers.iter().map(|(name, value)| (&**name, value.reveal())).collect()
}

#[test]
fn exporters_need_nothing_but_a_cluster() {
    let config = valid(&json!({
        "account_id": "4001",
        "exporters": {"trace_api": {"cluster": "t"}, "event_api": {"cluster": "e"}, "otlp": {"cluster": "o"}},
    }));
    let (encoding, otlp) = config.exporters.otlp.as_ref().unwrap();
    assert_eq!(*encoding, OtlpEncoding::Protobuf);
    assert_eq!(config.exporters.log, None);
    for (exporter, cluster, host, path) in [
        (config.exporters.trace_api.as_ref().unwrap(), "t", "trace-api.newrelic.com", "/trace/v1"),
        (
            config.exporters.event_api.as_ref().unwrap(),
            "e",
            "insights-collector.newrelic.com",
            "/v1/accounts/4001/events",
        ),
        (otlp, "o", "otlp.nr-data.net", "/v1/traces"),
    ] {
        assert_eq!((&*exporter.cluster, &*exporter.host, &*exporter.path), (cluster, host, path));
        assert_eq!(headers(exporter), [("api-key", LICENSE_KEY)]);
        assert_eq!((exporter.flush_interval_ms, exporter.timeout_ms, exporter.gzip), (5000, 10_000, true));
        assert_eq!(exporter.max_queue_bytes, 4 << 20);
        assert_eq!(exporter.retry, Retry { factor_ms: 5000, max_ms: 80_000, attempts: 8 });
    }
}

#[test]
fn an_exporter_does_as_it_is_told() {
    let fields = json!({
        "cluster": "outbound|443||c", "host": "c:8443", "path": "/p/{account_id}/{account_id}", "flush_interval_ms": 100,
        "timeout_ms": 1, "gzip": false, "max_queue_bytes": 2048, "api_key": {"value": "k"},
        "retry": {"factor_ms": 1, "max_ms": 2, "attempts": 3},
    });
    let config = valid(&json!({"account_id": "7", "exporters": {"event_api": fields}}));
    let exporter = config.exporters.event_api.unwrap();
    assert_eq!((&*exporter.cluster, &*exporter.host, &*exporter.path), ("outbound|443||c", "c:8443", "/p/7/7"));
    assert_eq!(headers(&exporter), [("api-key", "k")]);
    assert_eq!((exporter.flush_interval_ms, exporter.timeout_ms, exporter.gzip), (100, 1, false));
    assert_eq!(exporter.max_queue_bytes, 2048);
    assert_eq!(exporter.retry, Retry { factor_ms: 1, max_ms: 2, attempts: 3 });
}

#[test]
fn the_event_api_needs_no_account_id_when_its_path_names_none() {
    let config = valid(&json!({"exporters": {"event_api": {"cluster": "c", "path": "/events"}}}));
    assert_eq!(&*config.exporters.event_api.unwrap().path, "/events");
}

#[test]
fn otlp_headers_replace_the_license_key() {
    let otlp = |fields: Value| {
        let (encoding, exporter) = valid(&json!({"exporters": {"otlp": fields}})).exporters.otlp.unwrap();
        let owned: Vec<_> = headers(&exporter).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        (encoding, owned)
    };
    assert_eq!(otlp(json!({"cluster": "c", "headers": {}})), (OtlpEncoding::Protobuf, vec![]));
    let three = json!({"X-A": "plain text", "b": {"env": "REGION"}, "c": {"value": "v"}});
    assert_eq!(
        otlp(json!({"cluster": "c", "encoding": "json", "headers": three})),
        (OtlpEncoding::Json, vec!["x-a=plain text".into(), "b=eu".into(), "c=v".into()])
    );
}

#[test]
fn a_trace_observer_is_addressed_by_host_and_port() {
    for (fields, host) in [
        (json!({"cluster": "c", "host": "o.example"}), "o.example"),
        (json!({"cluster": "c", "host": "o.example", "port": 443}), "o.example:443"),
        (json!({"cluster": "c", "host": "o.example:8443"}), "o.example:8443"),
        (json!({"cluster": "c", "host": "[::1]", "port": 8443}), "[::1]:8443"),
    ] {
        let infinite = valid(&json!({ "infinite_tracing": fields })).infinite_tracing.unwrap();
        assert_eq!(&*infinite.observer.host, host);
        assert_eq!((&*infinite.observer.path, infinite.observer.flush_interval_ms), ("/trace/v1", 1000));
        assert_eq!(headers(&infinite.observer), [("api-key", LICENSE_KEY)]);
        assert_eq!(infinite.queue_size, 10_000);
    }
    let twice = json!({"infinite_tracing": {"cluster": "c", "host": "o:1", "port": 2}});
    let faults = refused(&twice);
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0].key.as_str(), faults[0].rule), ("infinite_tracing.port", Rule::NoSecondPort));
}

#[test]
fn infinite_tracing_keeps_its_spans_from_the_trace_api_and_whole() {
    let partial = json!({"partial_granularity": {"enabled": true}});
    let configuration = with(base(), "distributed_tracing.sampler", &partial);
    let config = valid(&configuration);
    assert!(config.infinite_tracing.is_some() && config.exporters.trace_api.is_none());
    assert!(config.exporters.otlp.is_some() && config.exporters.event_api.is_some());
    assert_eq!(config.distributed_tracing.sampler.partial, None);
    let [trace_api, granularity] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert!(trace_api.starts_with("exporters.trace_api: "), "{trace_api}");
    assert!(granularity.starts_with("distributed_tracing.sampler.partial_granularity: "), "{granularity}");
}

#[test]
fn infinite_tracing_is_off_without_spans() {
    for key in ["distributed_tracing.enabled", "span_events.enabled"] {
        let config = valid(&with(base(), key, &json!(false)));
        assert!(config.infinite_tracing.is_none() && config.exporters.trace_api.is_some());
        assert_eq!(config.warnings.len(), 1);
        assert!(config.warnings[0].starts_with("infinite_tracing: off, "), "{:?}", config.warnings);
    }
}

#[test]
fn each_sampler_is_understood() {
    for (value, expected) in [
        (json!("default"), SamplerKind::AdaptiveShared),
        (json!("adaptive"), SamplerKind::AdaptiveShared),
        (json!({"adaptive": {}}), SamplerKind::AdaptiveShared),
        (json!({"adaptive": {"sampling_target": 120}}), SamplerKind::Adaptive(120)),
        (json!("always_on"), SamplerKind::AlwaysOn),
        (json!("always_off"), SamplerKind::AlwaysOff),
        (json!({"trace_id_ratio_based": {"ratio": 0.25}}), SamplerKind::TraceIdRatioBased(0.25)),
        (json!({"trace_id_ratio_based": {"ratio": 1}}), SamplerKind::TraceIdRatioBased(1.0)),
    ] {
        for key in SAMPLERS {
            let on = with(json!({}), "distributed_tracing.sampler.partial_granularity.enabled", &json!(true));
            let config = valid(&with(on, key, &value));
            assert_eq!(config.warnings, [""; 0], "{key} {value}");
            let sampler = config.distributed_tracing.sampler;
            let kinds =
                sampler.full.into_iter().chain(sampler.partial.map(|(_, sections)| sections)).flat_map(|sections| {
                    [sections.root, sections.remote_parent_sampled, sections.remote_parent_not_sampled]
                });
            let at = |index| SAMPLERS.get(index) == Some(&key);
            for (index, kind) in kinds.enumerate() {
                assert_eq!(kind, if at(index) { expected } else { SamplerKind::AdaptiveShared }, "{key} {value}");
            }
        }
    }
}

#[test]
fn a_sampler_of_no_use_gives_way_to_the_shared_one_with_a_warning() {
    for value in [
        json!("sometimes"),
        json!("trace_id_ratio_based"),
        json!({"trace_id_ratio_based": {}}),
        json!({"trace_id_ratio_based": {"ratio": 0}}),
        json!({"trace_id_ratio_based": {"ratio": 1.01}}),
        json!({"trace_id_ratio_based": {"ratio": "0.5"}}),
        json!({"adaptive": {"sampling_target": 0}}),
        json!({"adaptive": {"sampling_target": 121}}),
        json!({"adaptive": {"sampling_target": "10"}}),
        json!({"adaptive": 10}),
        json!({"jaeger_remote": {}}),
        json!({"adaptive": {}, "always_on": {}}),
        json!({}),
        json!(1),
        json!(null),
    ] {
        for key in SAMPLERS {
            let config = valid(&with(json!({}), key, &value));
            assert_eq!(config.warnings.len(), 1, "{key} {value}");
            assert!(config.warnings[0].starts_with(&format!("{key}: ")), "{:?}", config.warnings);
            assert_eq!(config.distributed_tracing.sampler.full.unwrap().root, SamplerKind::AdaptiveShared);
        }
    }
}

#[test]
fn an_unknown_key_below_a_sampler_is_a_fault_all_the_same() {
    for (value, key) in [
        (json!({"adaptive": {"target": 1}}), "distributed_tracing.sampler.root.adaptive.target"),
        (
            json!({"trace_id_ratio_based": {"ratio": 1, "x": 1}}),
            "distributed_tracing.sampler.root.trace_id_ratio_based.x",
        ),
    ] {
        let faults = refused(&with(json!({}), "distributed_tracing.sampler.root", &value));
        assert_eq!((faults.len(), faults[0].key.as_str()), (1, key));
        assert_eq!(faults[0].problem, Problem::UnknownKey);
    }
}

#[test]
fn the_shared_target_is_10_when_it_is_of_no_use() {
    let key = "distributed_tracing.sampler.adaptive_sampling_target";
    for (value, expected, warned) in [
        (json!(1), 1, 0),
        (json!(120), 120, 0),
        (json!(0), 10, 1),
        (json!(121), 10, 1),
        (json!(10.5), 10, 1),
        (json!("20"), 10, 1),
    ] {
        let config = valid(&with(json!({}), key, &value));
        assert_eq!(config.distributed_tracing.sampler.adaptive_sampling_target, expected, "{value}");
        assert_eq!(config.warnings.len(), warned, "{value}");
        assert!(config.warnings.iter().all(|line| line.starts_with(key)));
    }
}

#[test]
fn granularities_are_switched_and_typed() {
    let sampler = |value: Value| valid(&json!({"distributed_tracing": {"sampler": value}}));
    for (name, expected) in [
        (None, PartialType::Essential),
        (Some("essential"), PartialType::Essential),
        (Some("reduced"), PartialType::Reduced),
        (Some("compact"), PartialType::Compact),
    ] {
        let mut partial = json!({"enabled": true});
        if let Some(name) = name {
            partial["type"] = json!(name);
        }
        let config = sampler(json!({"full_granularity": {"enabled": false}, "partial_granularity": partial}));
        assert!(config.distributed_tracing.sampler.full.is_none() && config.warnings.is_empty());
        assert_eq!(config.distributed_tracing.sampler.partial.unwrap().0, expected);
    }
    let none = sampler(json!({"full_granularity": {"enabled": false}}));
    assert!(none.warnings[0].starts_with("distributed_tracing.sampler: no trace is sampled"), "{:?}", none.warnings);
}

#[test]
fn cross_application_tracing_wants_its_keys_and_no_distributed_tracing() {
    let all = json!({
        "distributed_tracing": {"enabled": false},
        "cross_application_tracer": {
            "enabled": true, "cross_process_id": "4001#90210", "encoding_key": "f00d", "trusted_account_ids": ["4001", "4002"],
        },
    });
    let config = valid(&all);
    let cat = config.cross_application_tracing.unwrap();
    assert_eq!((&*cat.cross_process_id, cat.encoding_key.reveal()), ("4001#90210", "f00d"));
    assert_eq!(cat.trusted_account_ids, ["4001".into(), "4002".into()]);
    assert_eq!(config.warnings, [""; 0]);
    for (key, value, warning) in [
        (
            "distributed_tracing.enabled",
            json!(true),
            "cross_application_tracer: off, because distributed_tracing.enabled is true",
        ),
        (
            "cross_application_tracer.cross_process_id",
            json!(""),
            "cross_application_tracer: off, because cross_process_id is missing",
        ),
        (
            "cross_application_tracer.encoding_key",
            json!(""),
            "cross_application_tracer: off, because encoding_key is missing",
        ),
    ] {
        let config = valid(&with(all.clone(), key, &value));
        assert!(config.cross_application_tracing.is_none());
        assert_eq!(config.warnings, [warning]);
    }
    let off = valid(&with(all.clone(), "cross_application_tracer.enabled", &json!(false)));
    assert!(off.cross_application_tracing.is_none() && off.warnings.is_empty());
    let nobody = valid(&with(all, "cross_application_tracer.trusted_account_ids", &json!([])));
    assert!(nobody.cross_application_tracing.is_some());
    assert!(nobody.warnings[0].starts_with("cross_application_tracer.trusted_account_ids: "), "{:?}", nobody.warnings);
}

#[test]
fn settings_without_effect_are_warned_of() {
    for (value, key) in [
        (json!({"role": "outbound", "trust_inbound": "never"}), "trust_inbound: "),
        (json!({"span_events": {"attributes": {"exclude": ["guid"]}}}), "span_events.attributes.exclude[0]: "),
    ] {
        let warnings = warnings(&value);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with(key), "{warnings:?}");
    }
}

#[test]
fn user_attributes_are_at_most_64_together() {
    let names = |count: usize, prefix: &str| -> Vec<String> { (0..count).map(|at| format!("{prefix}{at}")).collect() };
    let configuration = |headers: usize, custom: usize| {
        let headers: Map<_, _> = names(headers, "h").into_iter().map(|name| (name.clone(), json!(name))).collect();
        let custom: Map<_, _> = names(custom, "c").into_iter().map(|name| (name, json!({"value": 1}))).collect();
        json!({"span_events": {"request_headers": headers, "custom_attributes": custom}})
    };
    valid(&configuration(32, 32));
    for (headers, custom, key, rule) in [
        (32, 33, "span_events.custom_attributes", Rule::UserAttributes(64)),
        (65, 0, "span_events.request_headers", Rule::Map(64)),
        (0, 65, "span_events.custom_attributes", Rule::Map(64)),
    ] {
        let faults = refused(&configuration(headers, custom));
        assert_eq!((faults.len(), faults[0].key.as_str(), faults[0].rule), (1, key, rule));
    }
}

#[test]
fn bytes_that_cannot_be_read_are_one_fault_that_tells_where() {
    for (bytes, part) in [
        (&b"role: inbound"[..], "no JSON, a value is missing at line 1 column 1"),
        (b"{\n  \"role\": }", "no JSON, a value is missing at line 2 column 11"),
        (b"{} {}", "no JSON, something follows the value at line 1 column 4"),
        (b"\n{\"a\"", "no JSON, the text ends too early at line 2 column 5"),
        (b"{\"a\": \"\xff\"}", "no JSON, a string is not UTF-8 at line 1 column 8"),
        (b"\x0a\x05\x0a", "no protobuf Struct, a field is longer than its message"),
        (&b"[".repeat(100_000), "no JSON, values nest too deeply at line 1 column 128"),
        (&b" ".repeat((1 << 20) + 1), "1048577 bytes are too many"),
    ] {
        let faults = parse(bytes, &environment).unwrap_err();
        let [fault] = faults.iter().as_slice() else { panic!("{faults}") };
        assert_eq!((fault.key.as_str(), &fault.problem), ("configuration", &Problem::Unreadable(part.into())));
    }
    for value in [json!([]), json!("x"), json!(1), json!(null)] {
        let faults = refused(&value);
        assert_eq!((faults.len(), faults[0].key.as_str(), faults[0].rule), (1, "configuration", Rule::Object));
    }
}

#[test]
fn a_repeated_key_is_a_fault_since_readers_disagree_on_which_one_counts() {
    for (text, expected) in [
        (r#"{"role": "auto", "role": "inbound"}"#, vec!["role"]),
        (r#"{"span_events": {"enabled": true, "enabled": true, "enabled": true}}"#, vec!["span_events.enabled"]),
        (
            r#"{"span_events": {"custom_attributes": {"a": {"value": 1}, "b": {"value": 1}, "a": {"value": 2}}}}"#,
            vec!["span_events.custom_attributes.a"],
        ),
        (r#"{"role": "auto", "\u0072ole": "auto", "app_name": "a", "app_name": "b"}"#, vec!["app_name", "role"]),
    ] {
        let faults = parse(text.as_bytes(), &environment).unwrap_err();
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, expected, "{text}");
        assert!(faults.iter().all(|fault| (&fault.problem, fault.rule) == (&Problem::Repeated, Rule::Once)), "{text}");
        assert!(faults.to_string().starts_with(&format!("{}: written more than once: each key once", expected[0])));
    }
}

#[test]
fn an_attribute_beyond_the_range_of_numbers_is_a_fault() {
    let text = r#"{"span_events": {"custom_attributes": {"a": {"value": 1e999}}}}"#;
    let faults = parse(text.as_bytes(), &environment).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "span_events.custom_attributes.a.value: 1e999 is not allowed: text of at most 4095 bytes, a number, true or \
         false"
    );
}

/// The bytes of a `google.protobuf.Struct` with this content.
fn struct_bytes(value: &Value) -> Vec<u8> {
    let entry = |(key, value): (&String, &Value)| {
        let parts = [field(0x0a, key.as_bytes()), field(0x12, &value_bytes(value))];
        field(0x0a, &parts.concat())
    };
    value.as_object().into_iter().flatten().flat_map(entry).collect()
}

fn value_bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => vec![0x08, 0],
        Value::Bool(value) => vec![0x20, u8::from(*value)],
        Value::Number(number) => [&[0x11], &number.as_f64().unwrap().to_le_bytes()[..]].concat(),
        Value::String(text) => field(0x1a, text.as_bytes()),
        Value::Array(values) => {
            field(0x32, &values.iter().flat_map(|value| field(0x0a, &value_bytes(value))).collect::<Vec<_>>())
        }
        Value::Object(_) => field(0x2a, &struct_bytes(value)),
    }
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(content);
    out
}

/// What reading gives, secrets included, for comparison.
fn outcome(bytes: &[u8]) -> String {
    match parse(bytes, &environment) {
        Ok(config) => {
            let otlp = config.exporters.otlp.as_ref().map(|(_, exporter)| exporter);
            let infinite = config.infinite_tracing.as_ref().map(|infinite| &infinite.observer);
            let http = [config.exporters.trace_api.as_ref(), config.exporters.event_api.as_ref(), otlp, infinite];
            let keys: Vec<_> = http.into_iter().flatten().map(headers).collect();
            format!("{config:?} {keys:?}")
        }
        Err(faults) => faults.to_string(),
    }
}

#[test]
fn a_struct_says_the_same_as_its_json() {
    for (key, accepted, bad, _) in rows() {
        for value in accepted.iter().chain(&bad) {
            let configuration = with(base(), key, value);
            let json = outcome(configuration.to_string().as_bytes());
            // A Struct knows only one kind of number and prints a whole one without its fraction.
            if value.is_f64() && value.as_f64().is_some_and(|number| number.fract() == 0.0) {
                continue;
            }
            assert_eq!(outcome(&struct_bytes(&configuration)), json, "{key} {value}");
        }
    }
}

#[test]
fn secrets_are_never_printed() {
    const SECRET: &str = "s3cret";
    let shapes = [
        json!(SECRET),
        json!({"value": SECRET}),
        json!({"value": format!("{SECRET}\r\n")}),
        json!({"env": format!("{SECRET}-")}),
        json!({"env": "SECRET"}),
        json!({"env": "SECRET_LINES"}),
        json!({"value": [SECRET]}),
        json!({"value": {"value": SECRET}}),
        json!({"vaule": SECRET}),
        json!({SECRET: SECRET}),
        json!([SECRET]),
        json!([{"value": SECRET}]),
    ];
    let environment = |name: &str| match name {
        "SECRET" => Some(SECRET.into()),
        "SECRET_LINES" => Some(format!("{SECRET}\r\n{SECRET}")),
        name => environment(name),
    };
    let mut valid = 0;
    for place in [
        "exporters.trace_api.api_key",
        "exporters.event_api.api_key",
        "exporters.otlp.headers",
        "exporters.otlp.headers.x-key",
        "infinite_tracing.api_key",
        "cross_application_tracer.encoding_key",
    ] {
        for shape in &shapes {
            // Header names are no secrets.
            if place == "exporters.otlp.headers" && shape.get(SECRET).is_some() {
                continue;
            }
            let mut configuration = with(base(), place, shape);
            if place.starts_with("cross") {
                configuration = with(configuration, "cross_application_tracer.enabled", &json!(true));
                configuration = with(configuration, "cross_application_tracer.cross_process_id", &json!("1#1"));
                configuration = with(configuration, "distributed_tracing.enabled", &json!(false));
            }
            let printed = match parse(configuration.to_string().as_bytes(), &environment) {
                Ok(config) => {
                    valid += 1;
                    format!("{config:?} {:?}", config.warnings)
                }
                Err(faults) => format!("{faults} {faults:?}"),
            };
            assert!(!printed.contains(SECRET), "{place} {shape}: {printed}");
        }
    }
    assert!(valid >= 12, "{valid}");
}

#[test]
fn a_key_in_the_place_of_an_exporter_or_of_an_unknown_name_is_not_printed() {
    for (path, value) in [
        ("exporters.trace_api", json!(LICENSE_KEY)),
        ("exporters.otlp", json!([LICENSE_KEY])),
        ("api_key", json!(LICENSE_KEY)),
        ("exporters.trace_api.apikey", json!({"value": LICENSE_KEY})),
        ("exporters.trace_api.api_key", json!({"env": LICENSE_KEY})),
        ("exporters.trace_api.api_key", json!({"env": LICENSE_KEY.replace("0123", "eu01xx")})),
    ] {
        let faults = read(&with(base(), path, &value)).unwrap_err();
        assert!(!format!("{faults} {faults:?}").contains("56789abcdef0123456789abcdef"), "{faults}");
    }
}

/// Runs `validate` on a text: exit status, standard output, standard error.
fn validate(text: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_validate"));
    command.arg("-").env_remove("NEW_RELIC_LICENSE_KEY");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("validate runs");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn validate_tells_what_is_in_force_and_what_the_proxy_has_to_provide() {
    let configuration = json!({
        "account_id": "4001",
        "trust_inbound": "internal_only",
        "distributed_tracing": {"sampler": {"root": "sometimes"}},
        "exporters": {"trace_api": {"cluster": "newrelic"}},
    });
    let (status, output, errors) = validate(&configuration.to_string());
    assert_eq!((status, errors.as_str()), (Some(0), ""));
    for part in [
        "account: 4001, trusted account key 4001, application id Unknown",
        "role: auto; callers' headers are believed: internal_only",
        "trace_api to trace-api.newrelic.com/trace/v1 by cluster newrelic",
        "warning: distributed_tracing.sampler.root: \"sometimes\"",
        "note: the proxy needs the environment variable NEW_RELIC_LICENSE_KEY",
    ] {
        assert!(output.contains(part), "{part}\n{output}");
    }
}

#[test]
fn validate_exits_with_1_and_the_faults() {
    let (status, output, errors) = validate(r#"{"role": "sidecar", "span_events": 7}"#);
    assert_eq!((status, output.as_str()), (Some(1), ""));
    assert_eq!(
        errors,
        "role: \"sidecar\" is not allowed: one of auto, inbound, outbound, gateway\n\
         span_events: 7 is not allowed: an object\n"
    );
}

#[test]
fn validate_asks_for_json_when_it_is_given_yaml() {
    let (status, _, errors) = validate("distributed_tracing:\n  enabled: true\n");
    assert_eq!(status, Some(1));
    assert!(errors.contains("configuration: no JSON, a value is missing at line 1 column 1"), "{errors}");
    assert!(errors.contains("Is this YAML?"), "{errors}");
    let (_, _, errors) = validate("{\"role\": }");
    assert!(!errors.contains("YAML"), "{errors}");
}

#[test]
fn validate_exits_with_2_without_a_file_to_read() {
    for arguments in [&["/no/such/file"][..], &[], &["a", "b"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_validate")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// Any value of which an object has some of the configuration's own keys.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-10_i32..70_000).prop_map(Value::from),
        (1_u32..1000).prop_map(|thousandths| Value::from(f64::from(thousandths) / 1000.0)),
        prop::sample::select(vec!["auto", "1", "c", "unlimited", "REGION", "always_on", "*", "400-410", "h:1"])
            .prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "account_id",
            "role",
            "distributed_tracing",
            "enabled",
            "sampler",
            "root",
            "adaptive",
            "sampling_target",
            "span_events",
            "attributes",
            "include",
            "custom_attributes",
            "request_headers",
            "value",
            "env",
            "property",
            "exclude",
            "path",
            "host",
            "header",
            "exporters",
            "log",
            "trace_api",
            "otlp",
            "headers",
            "cluster",
            "api_key",
            "infinite_tracing",
            "port",
            "cross_application_tracer",
            "encoding_key",
            "retry",
            "error_collector",
            "ignore_status_codes",
            "transaction_name",
            "rules",
            "name",
            "datastores",
        ])
        .prop_map(String::from),
        "\\PC{0,4}",
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = outcome(&bytes);
        let as_struct = outcome(&[&b"\x0a"[..], &bytes].concat());
        prop_assert!(!text.is_empty() && !as_struct.is_empty());
    }

    #[test]
    fn a_broken_struct_is_read_without_panic(value in any_value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = struct_bytes(&json!({"exporters": value, "span_events": {"enabled": true}}));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        prop_assert!(!outcome(&bytes).is_empty());
        prop_assert!(!outcome(&bytes[..at]).is_empty());
    }

    #[test]
    fn any_configuration_gives_the_same_in_both_forms_and_one_line_for_each_fault(value in any_value()) {
        let configuration = with(json!({"account_id": "1"}), "distributed_tracing", &value);
        let configuration = with(configuration, "exporters", &value);
        let json = configuration.to_string();
        prop_assert_eq!(outcome(json.as_bytes()), outcome(&struct_bytes(&configuration)));
        if let Err(faults) = parse(json.as_bytes(), &environment) {
            prop_assert_eq!(faults.to_string().lines().count(), faults.iter().count());
        }
    }
}
