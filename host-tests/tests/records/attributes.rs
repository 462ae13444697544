//! Where attributes come from, which of them the operator lets through, and how long they may be.

use std::collections::BTreeSet;

use host_tests::{Envoy, HeaderMap, Value as Property};
use serde_json::{Map, Value, json};

use crate::harness::{Exchange, assert_has, gateway, plain};
use crate::support::{CLUSTER, NOW_MS, Seen, Setup, module};

fn names(record: &Value) -> BTreeSet<String> {
    record["attributes"].as_object().expect("attributes are an object").keys().cloned().collect()
}

#[test]
fn the_entry_span_tells_the_request_and_the_answer() {
    let exchange = Exchange::answered("200")
        .request(&[
            (":method", "POST"),
            ("accept", "text/html"),
            ("content-type", "application/json"),
            ("content-length", "17"),
            ("user-agent", "curl/8"),
            ("referer", "https://u:p@shop.example/list;s=1?page=2#top"),
        ])
        .response(&[("content-type", "text/html"), ("content-length", "1234")]);
    let seen = exchange.run(&gateway());
    let expected = json!({
        "request.method": "POST", "request.uri": "/cart/17", "request.headers.host": "shop.example",
        "request.headers.accept": "text/html", "request.headers.contentType": "application/json",
        "request.headers.contentLength": 17, "request.headers.userAgent": "curl/8",
        "request.headers.referer": "https://shop.example/list", "http.statusCode": 200,
        "response.headers.contentType": "text/html", "response.headers.contentLength": 1234,
    });
    assert_has(&seen.entry_span(), &expected, "entry span");
    assert_has(&seen.transaction(), &expected, "transaction");
}

#[test]
fn what_is_not_there_is_left_out() {
    let seen = Exchange::answered("200").request(&[("content-length", "seventeen")]).run(&gateway());
    for name in ["request.headers.accept", "request.headers.contentLength", "request.headers.referer", "queueDuration"]
    {
        assert_has(&seen.entry_span(), &json!({ name: null }), name);
    }
}

#[test]
fn no_other_header_is_recorded_unasked() {
    let secrets = [("cookie", "secret-1"), ("authorization", "secret-2"), ("x-api-key", "secret-3")];
    let seen = Exchange::answered("200").request(&secrets).response(&[("set-cookie", "secret-4")]).run(&gateway());
    let logged = seen.envoy.logs().into_iter().find(|line| line.message.contains("secret"));
    assert_eq!(logged, None);
}

#[test]
fn the_exit_span_tells_the_call_as_it_was_sent() {
    let rewrite = |envoy: &mut Envoy, stream| {
        let routed = |headers: &mut HeaderMap| {
            headers.replace(":authority", "u:p@payments:8443");
            headers.replace(":path", "/v2/pay;v=1?card=1#x");
        };
        envoy.change_request_headers(stream, routed).expect("the stream is there");
    };
    let open = |stream: host_tests::StreamBuilder<'_>| stream.upstream("payments|v2", "10.0.0.9:8443").open();
    let seen = Exchange::answered("200").run_with(&gateway(), open, rewrite);
    let expected = json!({
        "name": "External/payments:8443/envoy/GET", "http.url": "http://payments:8443/v2/pay", "http.method": "GET",
        "http.statusCode": 200, "server.address": "payments", "server.port": 8443, "component": "envoy",
        "category": "http", "envoy.upstream_cluster": "payments|v2",
    });
    assert_has(&seen.exit_span(), &expected, "exit span");
    let entry = json!({ "request.uri": "/cart/17", "request.headers.host": "shop.example", "name": "WebTransaction/Envoy/GET /cart/*" });
    assert_has(&seen.entry_span(), &entry, "the entry span tells the request as it came");
}

#[test]
fn an_encrypted_call_is_https() {
    for (tls, url, port) in
        [(Some("TLSv1.3"), "https://shop.example/cart/17", 443), (None, "http://shop.example/cart/17", 80)]
    {
        let open = |stream: host_tests::StreamBuilder<'_>| match tls {
            Some(version) => stream.property("upstream.tls_version", version).open(),
            None => stream.open(),
        };
        let seen = Exchange::answered("200").run_on(&gateway(), open);
        let expected = json!({ "http.url": url, "server.port": port, "name": "External/shop.example/envoy/GET" });
        assert_has(&seen.exit_span(), &expected, url);
    }
}

#[test]
fn authorities_of_every_kind_have_an_address_and_a_port() {
    for (authority, address, port, name) in [
        ("shop.example", json!("shop.example"), json!(80), "External/shop.example/envoy/GET"),
        ("Shop.Example:80", json!("Shop.Example"), json!(80), "External/shop.example/envoy/GET"),
        ("shop.example:8080", json!("shop.example"), json!(8080), "External/shop.example:8080/envoy/GET"),
        ("[::1]:9000", json!("[::1]"), json!(9000), "External/[::1]:9000/envoy/GET"),
        ("10.1.2.3", json!("10.1.2.3"), json!(80), "External/10.1.2.3/envoy/GET"),
        ("", Value::Null, Value::Null, "External/unknown/envoy/GET"),
    ] {
        let seen = Exchange::answered("200").request(&[(":authority", authority)]).run(&gateway());
        let expected = json!({ "server.address": address, "server.port": port, "name": name });
        assert_has(&seen.exit_span(), &expected, authority);
    }
}

#[test]
fn secrets_in_urls_are_not_recorded() {
    for (path, uri) in [
        ("/a/b;v=1?x=1#f", "/a/b"),
        ("/a?token=secret", "/a"),
        ("/a#secret", "/a"),
        ("/a;jsessionid=secret", "/a"),
        ("/a/b?x=y@z", "/a/b"),
        ("/", "/"),
    ] {
        let seen = Exchange::answered("200").request(&[(":path", path)]).run(&gateway());
        assert_has(&seen.entry_span(), &json!({ "request.uri": uri }), path);
        assert_has(&seen.exit_span(), &json!({ "http.url": format!("http://shop.example{uri}") }), path);
        let text = format!("{:?}", seen.spans());
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn a_call_to_a_datastore_is_a_datastore_span() {
    let setup = gateway().with(
        "datastores",
        json!([{ "host": "*.search.internal", "system": "Elasticsearch" }, { "host": "ch:8123", "system": "ClickHouse" }]),
    );
    for (authority, system) in [
        ("a.search.internal:9200", Some("Elasticsearch")),
        ("A.Search.Internal", Some("Elasticsearch")),
        ("ch:8123", Some("ClickHouse")),
        ("ch:9000", None),
        ("search.internal", None),
    ] {
        let seen = Exchange::answered("200").request(&[(":authority", authority)]).run(&setup);
        let (exit, transaction) = (seen.exit_span(), seen.transaction());
        match system {
            Some(system) => {
                let expected = json!({
                    "name": format!("Datastore/operation/{system}/GET"), "category": "datastore", "component": system,
                    "span.kind": "client", "db.system": system, "db.operation": "GET", "http.statusCode": 200,
                });
                assert_has(&exit, &expected, authority);
                let call = &exit["attributes"];
                let peer = format!("{}:{}", call["server.address"].as_str().unwrap_or_default(), call["server.port"]);
                assert_eq!(call["peer.address"].as_str(), Some(&*peer), "{authority}");
                let totals = json!({ "databaseCallCount": 1, "externalCallCount": null });
                assert_has(&transaction, &totals, authority);
                assert!(transaction["databaseDuration"].as_f64().is_some_and(|seconds| seconds > 0.0));
            }
            None => {
                assert_has(&exit, &json!({ "category": "http", "db.system": null }), authority);
                assert_has(&transaction, &json!({ "databaseCallCount": null, "externalCallCount": 1 }), authority);
            }
        }
    }
}

/// A proxy with this plugin configuration and environment, and one request through it.
fn with_env(setup: &Setup, env: &[(&str, &str)], exchange: &Exchange) -> Seen {
    let plugin = env.iter().fold(setup.plugin(), |plugin, (name, value)| plugin.env(*name, *value));
    let builder = Envoy::builder(&module()).plugin(plugin).cluster(CLUSTER).clock_ns(NOW_MS * 1_000_000);
    let mut envoy = builder.start().expect("the proxy starts");
    let stream = envoy.stream().open();
    let upstream = exchange.send(&mut envoy, stream, |_, _| {});
    Seen::new(envoy, stream, upstream)
}

#[test]
fn the_operators_own_attributes_are_on_the_span_of_the_service() {
    let custom = json!({
        "team": { "value": "checkout" }, "weight": { "value": 2.5 }, "count": { "value": 3 },
        "canary": { "value": true }, "zone": { "env": "ZONE" },
    });
    let setup = gateway().with("span_events.custom_attributes", custom);
    let seen = with_env(&setup, &[("ZONE", "eu-west-1a")], &Exchange::answered("200"));
    let expected = json!({ "team": "checkout", "weight": 2.5, "canary": true, "zone": "eu-west-1a" });
    assert_has(&seen.entry_span(), &expected, "entry span");
    assert_eq!(seen.entry_span()["attributes"]["count"].as_f64(), Some(3.0));
    let outbound = Setup::role("outbound").sampler("always_on");
    let outbound = outbound.with("span_events.custom_attributes", json!({ "team": { "value": "checkout" } }));
    let seen = Exchange::answered("200").run(&outbound);
    assert_has(&seen.exit_span(), &json!({ "team": "checkout" }), "an outbound proxy has only this span");
}

#[test]
fn a_property_of_each_type_is_recorded_as_what_it_is() {
    for (what, property, expected) in [
        ("text", Property::from("blue"), json!("blue")),
        ("eight characters", Property::from("abcdefgh"), json!("abcdefgh")),
        ("text that is no ASCII", Property::from("größe"), json!("größe")),
        ("a number", Property::Int(1234), json!(1234)),
        ("a negative number", Property::Int(-1), json!(-1)),
        ("zero", Property::Int(0), json!(0)),
        ("an unsigned number", Property::Uint(7), json!(7)),
        ("true", Property::Bool(true), json!(true)),
        ("false", Property::Bool(false), json!(false)),
        ("a duration", Property::Duration(1_500_000), json!(1_500_000)),
        ("a time", Property::Timestamp(1_750_000_000_123_000_000), json!(1_750_000_000_123_000_000_u64)),
        ("a fraction", Property::Double(0.5), json!(0.5)),
        ("a whole number of metadata", Property::Double(3.0), json!(3.0)),
        ("a negative fraction", Property::Double(-12.25), json!(-12.25)),
        ("nothing", Property::from(""), Value::Null),
        ("a map", Property::Map(vec![(b"a".to_vec(), Property::from("b"))]), Value::Null),
    ] {
        let setup =
            gateway().with("span_events.custom_attributes", json!({ "mine": { "property": ["some", "thing"] } }));
        let open = |stream: host_tests::StreamBuilder<'_>| stream.property(["some", "thing"], property.clone()).open();
        let seen = Exchange::answered("200").run_on(&setup, open);
        let found = &seen.entry_span()["attributes"]["mine"];
        assert!(*found == expected || found.is_number() && found.as_f64() == expected.as_f64(), "{what}: {found}");
    }
}

#[test]
fn a_property_that_exists_only_at_the_end_is_read_then() {
    let setup = gateway().with(
        "span_events.custom_attributes",
        json!({ "bytes": { "property": ["response", "size"] }, "late": { "property": ["upstream", "address"] },
            "absent": { "property": ["no", "such"] } }),
    );
    let seen = Exchange::answered("200").run(&setup);
    let expected = json!({ "bytes": 0, "late": "10.0.0.3:9090", "absent": null });
    assert_has(&seen.entry_span(), &expected, "entry span");
}

#[test]
fn request_headers_become_attributes_when_the_operator_names_them() {
    let setup = gateway().with("span_events.request_headers", json!({ "X-Tenant": "tenant", "x-absent": "absent" }));
    let seen = Exchange::answered("200").request(&[("x-tenant", "blue")]).run(&setup);
    assert_has(&seen.entry_span(), &json!({ "tenant": "blue", "absent": null }), "entry span");
    assert_has(&seen.exit_span(), &json!({ "tenant": null }), "the exit span is not the service's");
}

#[test]
fn include_and_exclude_choose_among_all_but_the_intrinsic_attributes() {
    let intrinsic = [
        "name",
        "duration.ms",
        "span.kind",
        "category",
        "nr.entryPoint",
        "transaction.name",
        "transactionId",
        "priority",
        "sampled",
    ];
    let custom = json!({ "team": { "value": "checkout" }, "team.lead": { "value": "x" } });
    for (include, exclude, kept) in [
        (json!([]), json!(["*"]), &[][..]),
        (json!(["request.method"]), json!([]), &["request.method"][..]),
        (json!(["request.*"]), json!(["request.headers.*"]), &["request.method", "request.uri"][..]),
        (json!(["team*"]), json!(["team"]), &["team.lead"][..]),
        (json!(["http.statusCode", "team"]), json!(["http.*"]), &["team"][..]),
        (json!([]), json!(["name", "priority", "request.*", "http.*", "team*", "error.*"]), &[][..]),
    ] {
        let setup = gateway()
            .with("span_events.custom_attributes", custom.clone())
            .with("span_events.attributes", json!({ "include": include, "exclude": exclude }));
        let seen = Exchange::answered("500").run(&setup);
        let expected: BTreeSet<String> = intrinsic.iter().chain(kept).map(|name| (*name).to_owned()).collect();
        assert_eq!(names(&seen.entry_span()), expected, "include {include}, exclude {exclude}");
    }
}

#[test]
fn the_time_in_a_queue_is_recorded_in_seconds() {
    // The clock begins at 1750000000.123.
    for (lines, expected) in [
        (&[("x-request-start", "t=1750000000000000")][..], json!(0.123)),
        (&[("x-request-start", "1750000000.100")], json!(0.023)),
        (&[("x-queue-start", "t=1750000000023"), ("x-request-start", "t=1750000000000")], json!(0.1)),
        (&[("x-queue-start", "soon"), ("x-request-start", "t=1750000000000")], json!(0.123)),
        (&[("x-request-start", "t=1750000009")], json!(0.0)),
        (&[("x-request-start", "t=12")], Value::Null),
        (&[("x-request-start", "yesterday")], Value::Null),
        (&[], Value::Null),
    ] {
        let seen = Exchange::answered("200").request(lines).run(&gateway());
        for record in [seen.entry_span()["attributes"].clone(), seen.transaction()] {
            let found = &record["queueDuration"];
            assert!(found.as_f64() == expected.as_f64(), "{lines:?}: {found}");
        }
    }
}

#[test]
fn a_value_is_cut_on_a_character_boundary() {
    let setup = gateway().with("span_events.request_headers", json!({ "x-long": "long" }));
    for (value, expected) in [
        ("a".repeat(5000), "a".repeat(4095)),
        ("é".repeat(5000), "é".repeat(4095)),
        ("🦀".repeat(4096), "🦀".repeat(4095)),
        ("b".repeat(4095), "b".repeat(4095)),
    ] {
        let seen = Exchange::answered("200").request(&[("x-long", &value)]).run(&setup);
        let entry = seen.entry_span();
        let found = entry["attributes"]["long"].as_str().expect("the value is text");
        assert!(found == expected, "{} characters of {:?}", found.chars().count(), value.chars().next());
    }
}

#[test]
fn a_value_that_is_no_text_becomes_text_without_a_fault() {
    let setup = gateway().with("span_events.request_headers", json!({ "x-raw": "raw" }));
    let seen = Exchange::answered("200").request(&[("x-raw", b"a\xff\xfe\"\\\x07z".as_slice())]).run(&setup);
    let entry = seen.entry_span();
    let found = entry["attributes"]["raw"].as_str().expect("the value is text");
    assert!(found.starts_with('a') && found.ends_with('z') && found.contains("\"\\"), "{found:?}");
    assert!(found.contains('\u{fffd}'), "{found:?}");
}

#[test]
fn a_user_may_add_64_attributes_and_no_more() {
    let many = |count: usize| -> Value {
        let entry = |number| (format!("user.{number:02}"), json!({ "value": number }));
        Value::Object((0..count).map(entry).collect::<Map<_, _>>())
    };
    let seen = Exchange::answered("200").run(&gateway().with("span_events.custom_attributes", many(64)));
    let recorded = names(&seen.entry_span());
    assert_eq!(recorded.iter().filter(|name| name.starts_with("user.")).count(), 64);
    assert!(recorded.contains("http.statusCode"));
    let refused = Envoy::builder(&module()).plugin(gateway().with("span_events.custom_attributes", many(65)).plugin());
    let refusal = refused.start().expect_err("65 are refused").to_string();
    assert!(refusal.contains("span_events.custom_attributes") && refusal.contains("64"), "{refusal}");
}

#[test]
fn an_attribute_name_may_have_255_bytes() {
    let named = |name: String| gateway().with("span_events.custom_attributes", json!({ name: { "value": 1 } }));
    let longest = "k".repeat(255);
    let seen = Exchange::answered("200").run(&named(longest.clone()));
    assert!(names(&seen.entry_span()).contains(&longest));
    let refused = Envoy::builder(&module()).plugin(named("k".repeat(256)).plugin()).start();
    assert!(refused.is_err(), "a longer name could never be recorded");
}

#[test]
fn an_excluded_request_leaves_no_record_and_keeps_its_headers() {
    let setup = gateway().with(
        "exclude",
        json!([{ "path": "/health*" }, { "host": "*.METRICS" }, { "header": "x-probe", "value": "k8s*" }]),
    );
    for (lines, is_excluded) in [
        (&[(":path", "/healthz?x=1")][..], true),
        (&[(":authority", "node.metrics")], true),
        (&[("x-probe", "k8s-live")], true),
        (&[("x-probe", "other")], false),
        (&[(":path", "/x/health")], false),
    ] {
        let given = [lines, &[("traceparent", "as it was"), ("newrelic", "x")]].concat();
        let exchange = Exchange::answered("200").request(&given);
        let seen = exchange.run(&setup);
        assert_eq!(seen.spans().is_empty() && seen.transactions().is_empty(), is_excluded, "{lines:?}");
        assert_eq!(seen.upstream == exchange.request, is_excluded, "{lines:?}");
    }
}

#[test]
fn records_of_one_request_share_their_transaction_and_their_trace() {
    let seen = Exchange::answered("200").run_on(&gateway(), plain);
    let (entry, exit, transaction) = (seen.entry_span(), seen.exit_span(), seen.transaction());
    assert_eq!(entry["trace.id"], exit["trace.id"]);
    assert_eq!(entry["trace.id"], transaction["traceId"]);
    assert_eq!(entry["attributes"]["transactionId"], transaction["guid"]);
    assert_eq!(exit["attributes"]["transactionId"], transaction["guid"]);
    assert_eq!(exit["attributes"]["parent.id"], entry["id"]);
    assert_eq!(seen.traceparent().split('-').nth(2).map(Value::from), Some(exit["id"].clone()));
}
