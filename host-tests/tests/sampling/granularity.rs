//! What is recorded of a partial trace.

use std::collections::BTreeMap;
use std::time::Duration;

use host_tests::{Ending, Envoy, HeaderMap, StreamId};
use serde_json::{Map, Value, json};

use crate::harness::{builder, configuration, entry, records, request, root, send, with};

const TYPES: [&str; 3] = ["reduced", "essential", "compact"];
/// How long the upstream takes.
const LATENCY: Duration = Duration::from_millis(160);

/// Every request is recorded at this granularity.
fn at(partial_type: Option<&str>) -> Value {
    match partial_type {
        None => json!({ "root": "always_on", "remote_parent_sampled": "always_on" }),
        Some(name) => {
            let partial = json!({
                "enabled": true, "type": name, "root": "always_on", "remote_parent_sampled": "always_on",
            });
            json!({ "full_granularity": { "enabled": false }, "partial_granularity": partial })
        }
    }
}

/// A gateway that records attributes of every kind.
fn start(sampler: &Value) -> Envoy {
    let span_events = json!({
        "custom_attributes": { "tier": { "value": "gold" }, "server.address.own": { "value": "x" } },
        "request_headers": { "x-tenant": "tenant" },
    });
    let more = json!({ "span_events": span_events, "datastores": [{ "host": "search.*", "system": "elasticsearch" }] });
    builder(&with(&configuration(sampler), &more)).start().unwrap()
}

/// A request that brings along everything that spans tell of.
fn full_request() -> HeaderMap {
    let mut lines = entry("01", "1", "1.5");
    lines[1].1 += ",other=1";
    lines.push(("x-tenant", "t1".to_owned()));
    lines.push(("user-agent", "curl/8".to_owned()));
    request(&lines)
}

/// The attributes of entry and exit span.
fn spans(envoy: &Envoy) -> [Map<String, Value>; 2] {
    let spans = records(&envoy.logs(), "span ").into_iter();
    let attributes = spans.map(|span| span["attributes"].as_object().unwrap().clone());
    attributes.collect::<Vec<_>>().try_into().unwrap()
}

fn open(envoy: &mut Envoy) -> StreamId {
    let stream = envoy.stream().upstream("cart", "10.0.0.3:9090").open();
    envoy.request_headers(stream, full_request()).unwrap();
    envoy.advance(LATENCY).unwrap();
    stream
}

/// The upstream answers with an error.
fn answered(sampler: &Value) -> [Map<String, Value>; 2] {
    let mut envoy = start(sampler);
    let stream = open(&mut envoy);
    envoy.response_headers(stream, [(":status", "503"), ("content-type", "text/html")]).unwrap();
    envoy.end(stream, Ending::complete()).unwrap();
    spans(&envoy)
}

/// The upstream cannot be reached.
fn unreachable(sampler: &Value) -> [Map<String, Value>; 2] {
    let mut envoy = start(sampler);
    let stream = open(&mut envoy);
    envoy.end(stream, Ending::connect_failure()).unwrap();
    spans(&envoy)
}

fn names(attributes: &Map<String, Value>) -> Vec<&str> {
    attributes.keys().map(String::as_str).collect()
}

/// Intrinsics that both spans have.
const INTRINSICS: [&str; 8] =
    ["category", "duration.ms", "name", "parent.id", "priority", "sampled", "span.kind", "transactionId"];

fn sorted<'a>(lists: &[&[&'a str]]) -> Vec<&'a str> {
    let mut names = lists.concat();
    names.sort_unstable();
    names
}

#[test]
fn a_full_trace_has_attributes_of_every_kind_and_no_mark() {
    let [entry, exit] = answered(&at(None));
    for name in ["tier", "tenant", "request.method", "parent.type", "http.statusCode", "error.class", "nr.entryPoint"] {
        assert!(entry.contains_key(name), "{name}: {entry:?}");
    }
    for name in ["http.url", "http.method", "http.statusCode", "envoy.upstream_cluster", "server.address"] {
        assert!(exit.contains_key(name), "{name}: {exit:?}");
    }
    for name in ["nr.pg", "nr.durations", "nr.ids"] {
        assert!(!entry.contains_key(name) && !exit.contains_key(name), "{name}");
    }
}

#[test]
fn reduced_keeps_every_attribute() {
    for trace in [answered, unreachable] {
        let [full_entry, full_exit] = trace(&at(None));
        let [mut entry, mut exit] = trace(&at(Some("reduced")));
        assert_eq!(entry.remove("nr.pg"), Some(json!(true)));
        for (span, full) in [(&mut entry, full_entry), (&mut exit, full_exit)] {
            assert_eq!(span.insert("priority".to_owned(), json!(3)), Some(json!(2)));
            assert_eq!(without_ids(span), without_ids(&full));
        }
    }
}

/// The same without what differs from one trace to the next.
fn without_ids(attributes: &Map<String, Value>) -> Map<String, Value> {
    let mut rest = attributes.clone();
    rest.remove("transactionId");
    if rest["span.kind"] == json!("client") {
        rest.remove("parent.id");
    }
    rest
}

#[test]
fn essential_and_compact_keep_intrinsics_the_entity_and_the_error() {
    const ENTRY: [&str; 5] = ["nr.entryPoint", "nr.pg", "tracingVendors", "transaction.name", "trustedParentId"];
    const ERROR: [&str; 2] = ["error.class", "error.message"];
    const ENTITY: [&str; 3] = ["http.url", "server.address", "server.port"];
    for partial_type in ["essential", "compact"] {
        let durations: &[&str] = if partial_type == "compact" { &["nr.durations"] } else { &[] };
        let [entry, exit] = answered(&at(Some(partial_type)));
        assert_eq!(names(&entry), sorted(&[&INTRINSICS, &ENTRY, &ERROR]), "{partial_type}");
        assert_eq!(names(&exit), sorted(&[&INTRINSICS, &["component"], &ENTITY, durations]), "{partial_type}");

        let [entry, exit] = unreachable(&at(Some(partial_type)));
        assert_eq!(names(&entry), sorted(&[&INTRINSICS, &ENTRY, &ERROR]), "{partial_type}");
        let expected = sorted(&[&INTRINSICS, &["component"], &ENTITY, &ERROR, durations]);
        assert_eq!(names(&exit), expected, "{partial_type}");
        assert_eq!(exit["error.class"], json!("UF"), "{partial_type}");
    }
}

#[test]
fn what_is_kept_has_the_values_of_the_full_trace() {
    let full = answered(&at(None));
    for partial_type in ["essential", "compact"] {
        for (thinned, full) in answered(&at(Some(partial_type))).iter().zip(&full) {
            let (thinned, full) = (without_ids(thinned), without_ids(full));
            for (name, value) in thinned.iter().filter(|(name, _)| !name.starts_with("nr.") && *name != "priority") {
                assert_eq!(Some(value), full.get(name), "{partial_type} {name}");
            }
        }
    }
}

#[test]
fn a_datastore_span_keeps_what_names_the_datastore() {
    let sampler = at(Some("essential"));
    let mut envoy = start(&sampler);
    let mut headers = full_request();
    headers.replace(":authority", "search.internal:9200");
    let stream = envoy.stream().upstream("search", "10.0.0.3:9200").open();
    envoy.request_headers(stream, headers).unwrap();
    envoy.response_headers(stream, [(":status", "200")]).unwrap();
    envoy.end(stream, Ending::complete()).unwrap();
    let [_, exit] = spans(&envoy);
    assert_eq!((&exit["db.system"], &exit["category"]), (&json!("elasticsearch"), &json!("datastore")));
    for name in ["peer.hostname", "server.address", "server.port", "component"] {
        assert!(exit.contains_key(name), "{name}: {exit:?}");
    }
    for name in ["db.operation", "db.collection", "peer.address", "http.statusCode"] {
        assert!(!exit.contains_key(name), "{name}: {exit:?}");
    }
}

#[test]
fn a_compact_exit_span_tells_the_time_it_stands_for() {
    for trace in [answered, unreachable] {
        let [entry, exit] = trace(&at(Some("compact")));
        assert_eq!((&exit["nr.durations"], &exit["duration.ms"]), (&json!(0.16), &json!(160.0)));
        assert!(!entry.contains_key("nr.durations") && !exit.contains_key("nr.ids"), "{exit:?}");
    }
}

#[test]
fn essential_is_the_type_unless_another_is_named() {
    let mut sampler = at(Some("essential"));
    sampler["partial_granularity"].as_object_mut().unwrap().remove("type");
    let essential = answered(&at(Some("essential")));
    for (found, expected) in answered(&sampler).iter().zip(&essential) {
        assert_eq!(names(found), names(expected));
    }
}

#[test]
fn transactions_are_never_thinned() {
    let transaction = |sampler: &Value| {
        let mut envoy = start(sampler);
        let stream = open(&mut envoy);
        envoy.response_headers(stream, [(":status", "503")]).unwrap();
        envoy.end(stream, Ending::complete()).unwrap();
        let mut transaction = records(&envoy.logs(), "transaction ").remove(0);
        transaction["guid"].take();
        transaction["priority"].take();
        transaction
    };
    let full = transaction(&at(None));
    assert_eq!(full["request.method"], json!("GET"));
    for partial_type in TYPES {
        assert_eq!(transaction(&at(Some(partial_type))), full, "{partial_type}");
    }
}

/// The statistics of partial granularity that are not zero.
fn counted(envoy: &mut Envoy) -> BTreeMap<String, u64> {
    envoy.advance(Duration::from_secs(1)).unwrap();
    let counters = envoy.counters().into_iter();
    counters
        .filter(|(name, count)| name.contains("/PartialGranularity/") && name.contains("/Span/") && *count > 0)
        .collect()
}

#[test]
fn the_spans_of_partial_traces_are_counted_by_type() {
    for (partial_type, name) in [("reduced", "Reduced"), ("essential", "Essential"), ("compact", "Compact")] {
        let mut envoy = start(&at(Some(partial_type)));
        for _ in 0..3 {
            send(&mut envoy, &root());
        }
        let prefix = format!("newrelic.Supportability/DistributedTrace/PartialGranularity/{name}/Span/");
        let expected = ["Instrumented", "Kept"].map(|what| (format!("{prefix}{what}"), 6));
        assert_eq!(counted(&mut envoy), BTreeMap::from(expected), "{partial_type}");
    }
    let mut envoy = start(&at(None));
    send(&mut envoy, &root());
    assert_eq!(counted(&mut envoy), BTreeMap::new());
}
