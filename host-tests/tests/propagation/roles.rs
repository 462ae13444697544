//! Which spans one request makes, and whose ids go on: the roles `inbound`, `outbound` and `gateway`.

use host_tests::{Direction, Envoy, Node, Profile, Thread};
use serde_json::{Value, json};

use crate::support::{
    Draws, ENTRY_ID, EXIT_ID, GUID, NEW_TRACE, PARENT, Seen, Setup, TRACE, TRACEPARENT, encode, finish, module,
    request, send,
};

const STATE: &str = "a=1,777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900";

/// What the draws of each role name.
fn inbound_draws() -> Draws {
    Draws::default().hex(GUID).hex(ENTRY_ID)
}

fn outbound_draws() -> Draws {
    Draws::default().hex(EXIT_ID)
}

fn kinds(seen: &Seen) -> Vec<String> {
    seen.spans().iter().map(|span| span["attributes"]["span.kind"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn an_inbound_proxy_sends_its_entry_span_on() {
    let seen =
        Setup::role("inbound").draws(inbound_draws()).exchange(&[("traceparent", TRACEPARENT), ("tracestate", STATE)]);
    assert_eq!(seen.traceparent(), format!("00-{TRACE}-{ENTRY_ID}-01"));
    assert_eq!(seen.tracestate(), Some(format!("777@nr=0-0-4001-90210--{GUID}-1-1.5-1750000000123,a=1")));
    let data = &seen.payload().unwrap_or_default()["d"];
    assert_eq!((&data["id"], &data["tx"]), (&json!(ENTRY_ID), &json!(GUID)));
    assert_eq!(kinds(&seen), ["server"]);
    let entry = seen.entry_span();
    assert_eq!((&entry["id"], &entry["attributes"]["parent.id"]), (&json!(ENTRY_ID), &json!(PARENT)));
    assert_eq!(seen.transaction()["guid"], GUID);
}

#[test]
fn an_inbound_proxy_starts_a_trace() {
    let draws = Draws::default().hex(NEW_TRACE).then(&inbound_draws()).priority(125_000);
    let seen = Setup::role("inbound").draws(draws).exchange::<&str, &str>(&[]);
    assert_eq!(seen.traceparent(), format!("00-{NEW_TRACE}-{ENTRY_ID}-01"));
    assert_eq!(seen.tracestate(), Some(format!("777@nr=0-0-4001-90210--{GUID}-1-2.125-1750000000123")));
}

#[test]
fn an_outbound_proxy_sends_its_exit_span_on_and_the_applications_transaction() {
    let seen = Setup::role("outbound")
        .draws(outbound_draws())
        .exchange(&[("traceparent", TRACEPARENT), ("tracestate", STATE)]);
    assert_eq!(seen.traceparent(), format!("00-{TRACE}-{EXIT_ID}-01"));
    assert_eq!(seen.tracestate(), Some("777@nr=0-0-4001-90210--1122334455667788-1-1.5-1750000000123,a=1".to_owned()));
    let data = &seen.payload().unwrap_or_default()["d"];
    assert_eq!((&data["id"], &data["tx"]), (&json!(EXIT_ID), &json!("1122334455667788")));
    assert_eq!(kinds(&seen), ["client"]);
    let exit = seen.exit_span();
    assert_eq!((&exit["id"], &exit["attributes"]["parent.id"]), (&json!(EXIT_ID), &json!(PARENT)));
    assert_eq!(exit["attributes"]["transactionId"], "1122334455667788");
    assert_eq!(exit["attributes"].get("nr.entryPoint"), None);
    assert_eq!(seen.transactions(), Vec::<Value>::new());
}

#[test]
fn an_outbound_proxy_reads_the_applications_newrelic_header() {
    let payload = r#"{"v":[0,1],"d":{"ty":"App","ac":"777","ap":"5","tr":"AB12","id":"Span","tx":"Guid","pr":1.25,"sa":true,"ti":1749999999900}}"#;
    let seen = Setup::role("outbound").draws(outbound_draws()).exchange(&[("newrelic", encode(payload))]);
    assert_eq!(seen.traceparent(), format!("00-0000000000000000000000000000ab12-{EXIT_ID}-01"));
    assert_eq!(seen.tracestate(), Some("777@nr=0-0-4001-90210--Guid-1-1.25-1750000000123".to_owned()));
    let data = &seen.payload().unwrap_or_default()["d"];
    assert_eq!((&data["tx"], &data["tr"]), (&json!("Guid"), &json!("AB12")));
    assert_eq!(seen.exit_span()["attributes"]["parent.id"], "Span");
}

#[test]
fn a_transaction_id_that_would_break_the_entry_is_left_out_of_it() {
    for guid in ["a-b", "a,b", "a=b", "ä", "a\\u0001b", " "] {
        let payload = format!(
            r#"{{"v":[0,1],"d":{{"ty":"App","ac":"777","ap":"5","tr":"ab12","id":"x","tx":"{guid}","pr":1,"sa":true,"ti":1}}}}"#
        );
        let seen = Setup::role("outbound").draws(outbound_draws()).exchange(&[("newrelic", encode(&payload))]);
        let state = seen.tracestate().unwrap_or_default();
        // Read by the next hop, the entry is valid.
        let lines = [("traceparent", seen.traceparent()), ("tracestate", state.clone())];
        let next = Setup::gateway().exchange(&lines);
        assert_eq!(next.transaction()["parent.account"], "4001", "{guid}: {state}");
        assert_eq!(next.supportability().get("TraceContext/TraceState/Parse/Exception"), None, "{guid}: {state}");
    }
}

#[test]
fn an_outbound_proxy_without_a_transaction_from_the_application_names_none() {
    for (lines, draws, trace) in [
        (vec![], Draws::default().hex(NEW_TRACE).then(&outbound_draws()), NEW_TRACE),
        (vec![("traceparent", TRACEPARENT)], outbound_draws(), TRACE),
        (
            vec![("traceparent", TRACEPARENT), ("tracestate", "777@nr=0-0-4002-55---1-1.5-1749999999900")],
            outbound_draws(),
            TRACE,
        ),
    ] {
        let setup = || Setup::role("outbound").sampler("always_on").draws(draws.clone());
        let seen = setup().exchange(&lines);
        assert_eq!(seen.traceparent(), format!("00-{trace}-{EXIT_ID}-01"), "{lines:?}");
        assert_eq!(seen.tracestate(), Some("777@nr=0-0-4001-90210---1-3-1750000000123".to_owned()), "{lines:?}");
        let data = &seen.payload().unwrap_or_default()["d"];
        assert_eq!((data.get("tx"), &data["id"]), (None, &json!(EXIT_ID)), "{lines:?}");
        assert_eq!(seen.exit_span()["attributes"].get("transactionId"), None, "{lines:?}");

        let seen = setup().with("span_events.enabled", false).exchange(&lines);
        assert_eq!(seen.payload(), None, "a newrelic header needs an id or a tx: {lines:?}");
        assert_eq!(seen.traceparent(), format!("00-{trace}-{EXIT_ID}-01"), "{lines:?}");
    }
}

#[test]
fn an_outbound_proxy_without_span_events_still_sends_the_applications_transaction() {
    let setup = Setup::role("outbound").with("span_events.enabled", false).draws(outbound_draws());
    let seen = setup.exchange(&[("traceparent", TRACEPARENT), ("tracestate", STATE)]);
    let data = &seen.payload().unwrap_or_default()["d"];
    assert_eq!((data.get("id"), &data["tx"]), (None, &json!("1122334455667788")));
}

#[test]
fn a_gateway_makes_both_spans_and_sends_the_exit_span_on() {
    let seen =
        Setup::gateway().draws(Draws::gateway()).exchange(&[("traceparent", TRACEPARENT), ("tracestate", STATE)]);
    assert_eq!(seen.traceparent(), format!("00-{TRACE}-{EXIT_ID}-01"));
    let mut kinds = kinds(&seen);
    kinds.sort();
    assert_eq!(kinds, ["client", "server"]);
    assert_eq!(seen.exit_span()["attributes"]["parent.id"], ENTRY_ID);
    assert_eq!(seen.exit_span()["attributes"]["transactionId"], GUID);
    assert_eq!(seen.entry_span()["attributes"]["parent.id"], PARENT);
    assert_eq!(seen.transaction()["guid"], GUID);
}

#[test]
fn the_role_follows_the_listener_and_istios_node_id_unless_configured() {
    use Direction::{Inbound, Outbound, Unspecified};
    const BOTH: &[&str] = &["client", "server"];
    for (role, node_id, direction, expected) in [
        ("auto", "sidecar~10.0.0.1~shop.default~default.svc", Inbound, &["server"][..]),
        ("auto", "sidecar~10.0.0.1~shop.default~default.svc", Outbound, &["client"]),
        ("auto", "sidecar~10.0.0.1~shop.default~default.svc", Unspecified, BOTH),
        ("auto", "router~10.0.0.1~gateway.istio-system~svc", Outbound, BOTH),
        ("auto", "router~10.0.0.1~gateway.istio-system~svc", Inbound, BOTH),
        ("auto", "waypoint~10.0.0.1~waypoint.default~svc", Inbound, BOTH),
        ("auto", "waypoint~10.0.0.1~waypoint.default~svc", Outbound, BOTH),
        ("auto", "my-router~1", Outbound, &["client"]),
        ("auto", "routers", Inbound, &["server"]),
        ("inbound", "router~10.0.0.1~gateway.istio-system~svc", Outbound, &["server"]),
        ("outbound", "edge", Unspecified, &["client"]),
        ("gateway", "sidecar~10.0.0.1~shop.default~default.svc", Inbound, BOTH),
    ] {
        let setup = Setup::role(role).node(Node::new(node_id, "cluster")).direction(direction).sampler("always_on");
        let mut seen = kinds(&setup.exchange::<&str, &str>(&[]));
        seen.sort();
        assert_eq!(seen, expected, "{role} {node_id} {direction:?}");
    }
}

#[test]
fn the_role_is_found_in_every_version_of_envoy() {
    for profile in Profile::all() {
        for (direction, expected) in [(Direction::Inbound, "server"), (Direction::Outbound, "client")] {
            let plugin = Setup::role("auto").sampler("always_on").direction(direction).plugin();
            let mut envoy =
                Envoy::builder(&module()).plugin(plugin).profile(profile).start().expect("the proxy starts");
            let stream = envoy.stream().open();
            let upstream = send(&mut envoy, stream, &request::<&str, &str>(&[]));
            finish(&mut envoy, stream, "200");
            assert_eq!(kinds(&Seen::new(envoy, stream, upstream)), [expected], "{profile:?}");
        }
    }
}

#[test]
fn listeners_of_one_proxy_have_roles_of_their_own() {
    let plugin = |name: &str, direction| {
        let mut plugin = Setup::role("auto").sampler("always_on").plugin();
        name.clone_into(&mut plugin.name);
        plugin.listener(name, direction)
    };
    let mut envoy = Envoy::builder(&module())
        .plugin(plugin("in", Direction::Inbound))
        .plugin(plugin("out", Direction::Outbound))
        .start()
        .expect("the proxy starts");
    for (listener, expected) in [("in", "server"), ("out", "client"), ("in", "server")] {
        envoy.clear_journal();
        let stream = envoy.stream().listener(listener).open();
        send(&mut envoy, stream, &request::<&str, &str>(&[]));
        finish(&mut envoy, stream, "200");
        let spans = crate::support::records(&envoy, "span");
        assert_eq!(spans.len(), 1, "{listener}");
        assert_eq!(spans[0]["attributes"]["span.kind"], expected, "{listener}");
    }
    assert!(!envoy.is_dead(Thread::Worker(0)));
}
