//! Whose tracing headers are believed, and which requests tracing leaves alone.

use serde_json::{Value, json};

use crate::support::{
    Draws, EXIT_ID, GUID, NEW_TRACE, PARENT, Seen, Setup, TRACE, TRACEPARENT, counted, encode, finish, request, send,
    texts, tick,
};

const STATE: &str = "a=1,777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900";
const PAYLOAD: &str =
    r#"{"v":[0,1],"d":{"ty":"App","ac":"777","ap":"5","tr":"ab12","id":"x","pr":1.25,"sa":true,"ti":1749999999900}}"#;

/// Every header that a caller's trace may come in.
fn callers_lines() -> Vec<(&'static str, String)> {
    vec![
        ("traceparent", TRACEPARENT.to_owned()),
        ("tracestate", STATE.to_owned()),
        ("newrelic", encode(PAYLOAD)),
        ("x-newrelic-id", "MTIzNA==".to_owned()),
        ("x-newrelic-transaction", "WyJhIl0=".to_owned()),
        ("x-newrelic-id", "again".to_owned()),
    ]
}

fn exchange(setup: &Setup, extra: &[(&'static str, &str)]) -> Seen {
    let extra = extra.iter().map(|(name, value)| (*name, (*value).to_owned()));
    setup.exchange(&callers_lines().into_iter().chain(extra).collect::<Vec<_>>())
}

fn assert_believed(seen: &Seen) {
    assert_eq!(seen.traceparent(), format!("00-{TRACE}-{EXIT_ID}-01"));
    assert_eq!(seen.transaction()["parentSpanId"], PARENT);
    assert_eq!(seen.supportability().get("TraceContext/Accept/Success"), Some(&1));
    assert_eq!(texts(&seen.upstream, "x-newrelic-id"), ["MTIzNA==", "again"], "CAT's headers are not ours to change");
    assert_eq!(texts(&seen.upstream, "x-newrelic-transaction"), ["WyJhIl0="]);
}

/// The caller's headers are gone, CAT's too, and nothing of them is recorded or counted.
fn assert_not_believed(seen: &Seen) {
    assert_eq!(seen.traceparent(), format!("00-{NEW_TRACE}-{EXIT_ID}-01"));
    assert_eq!(seen.tracestate(), Some(format!("777@nr=0-0-4001-90210--{GUID}-1-2.25-1750000000123")));
    assert_eq!(seen.payload().unwrap_or_default()["d"]["tr"], NEW_TRACE);
    assert_eq!(texts(&seen.upstream, "x-newrelic-id"), Vec::<String>::new());
    assert_eq!(texts(&seen.upstream, "x-newrelic-transaction"), Vec::<String>::new());
    let transaction = seen.transaction();
    let caller = transaction.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with("parent"));
    assert_eq!(caller.collect::<Vec<_>>(), []);
    let entry = seen.entry_span();
    for key in ["parent.id", "parent.type", "parent.transportType", "trustedParentId", "tracingVendors"] {
        assert_eq!(entry["attributes"].get(key), None, "{key}");
    }
    let expected = ["TraceContext/Create/Success", "DistributedTrace/CreatePayload/Success"];
    assert_eq!(seen.supportability(), counted(&expected));
}

fn new_trace() -> Draws {
    Draws::new_trace().priority(250_000)
}

#[test]
fn everybody_is_believed_by_default() {
    assert_believed(&exchange(&Setup::gateway().draws(Draws::gateway()), &[]));
    assert_believed(&exchange(&Setup::gateway().with("trust_inbound", "always").draws(Draws::gateway()), &[]));
}

#[test]
fn nobody_is_believed_when_the_operator_says_so() {
    let setup = || Setup::gateway().with("trust_inbound", "never").draws(new_trace());
    assert_not_believed(&exchange(&setup(), &[]));
    assert_not_believed(&exchange(&setup(), &[("x-envoy-internal", "true")]));
    let seen = setup().exchange(&[("traceparent", "garbage"), ("newrelic", "garbage")]);
    assert_not_believed(&seen);
}

#[test]
fn internal_requests_are_believed_when_the_operator_says_so() {
    let setup = || Setup::gateway().with("trust_inbound", "internal_only");
    assert_believed(&exchange(&setup().draws(Draws::gateway()), &[("x-envoy-internal", "true")]));
    for value in [None, Some("false"), Some(""), Some("TRUE"), Some("true,true"), Some("1")] {
        let extra: Vec<_> = value.into_iter().map(|value| ("x-envoy-internal", value)).collect();
        assert_not_believed(&exchange(&setup().draws(new_trace()), &extra));
    }
}

#[test]
fn an_inbound_proxy_need_not_believe_its_caller_either() {
    let seen = exchange(&Setup::role("inbound").with("trust_inbound", "never"), &[]);
    assert!(!seen.traceparent().contains(TRACE));
    assert_eq!(texts(&seen.upstream, "x-newrelic-id"), Vec::<String>::new());
}

#[test]
fn the_application_behind_an_outbound_proxy_is_always_believed() {
    for trust in ["always", "never", "internal_only"] {
        let setup = Setup::role("outbound").with("trust_inbound", trust).draws(Draws::default().hex(EXIT_ID));
        let seen = exchange(&setup, &[]);
        assert_eq!(seen.traceparent(), format!("00-{TRACE}-{EXIT_ID}-01"), "{trust}");
        assert_eq!(seen.exit_span()["attributes"]["parent.id"], PARENT, "{trust}");
        assert_eq!(texts(&seen.upstream, "x-newrelic-id"), ["MTIzNA==", "again"], "{trust}");
        assert_eq!(texts(&seen.upstream, "x-newrelic-transaction"), ["WyJhIl0="], "{trust}");
    }
}

/// A request's path, host and one more header, and whether the rules of [`excluding`] leave it alone.
type Asked = (&'static str, &'static str, Option<(&'static str, &'static str)>, bool);

const REQUESTS: [Asked; 21] = [
    ("/healthz", "shop.example", None, true),
    ("/healthz?verbose=1", "shop.example", None, true),
    ("/healthz/", "shop.example", None, false),
    ("/Healthz", "shop.example", None, false),
    ("/x/healthz", "shop.example", None, false),
    ("/metrics/prometheus", "shop.example", None, true),
    ("/metrics/", "shop.example", None, true),
    ("/metrics", "shop.example", None, false),
    ("/a/static/b.css", "shop.example", None, true),
    ("/", "internal.example", None, true),
    ("/", "INTERNAL.example", None, true),
    ("/", "internal.example:8080", None, false),
    ("/", "a.probe.example", None, true),
    ("/", "probe.example", None, false),
    ("/", "shop.example", Some(("user-agent", "kube-probe/1.30")), true),
    ("/", "shop.example", Some(("user-agent", "Kube-probe/1.30")), false),
    ("/", "shop.example", Some(("x-synthetic", "yes")), true),
    ("/", "shop.example", Some(("X-Synthetic", "yes")), true),
    ("/", "shop.example", Some(("x-synthetic", "yes, very")), false),
    ("/", "shop.example", Some(("x-other", "yes")), false),
    ("/", "shop.example", None, false),
];

fn excluding() -> Setup {
    let rules = json!([
        { "path": "/healthz" },
        { "path": "/metrics/*" },
        { "path": "/*/static/*" },
        { "host": "Internal.example" },
        { "host": "*.probe.example" },
        { "header": "User-Agent", "value": "kube-probe/*" },
        { "header": "x-synthetic", "value": "yes" },
    ]);
    Setup::gateway().with("exclude", rules)
}

#[test]
fn an_excluded_request_passes_untouched_and_unrecorded() {
    for (path, host, header, is_excluded) in REQUESTS {
        let mut envoy = excluding().sampler("always_on").start();
        let request: Vec<_> = [(":method", "GET"), (":scheme", "https"), (":path", path), (":authority", host)]
            .into_iter()
            .chain(header)
            .chain([("traceparent", TRACEPARENT), ("tracestate", STATE), ("tracestate", "b="), ("newrelic", "garbage")])
            .chain([("x-newrelic-id", "a"), ("x-newrelic-id", "b")])
            .collect();
        let request = host_tests::HeaderMap::from(&request);
        let stream = envoy.stream().open();
        let upstream = send(&mut envoy, stream, &request);
        finish(&mut envoy, stream, "500");
        let seen = Seen::new(envoy, stream, upstream);
        let what = format!("{path} {host} {header:?}");
        assert_eq!(seen.upstream == request, is_excluded, "{what}");
        assert_eq!(seen.spans().is_empty() && seen.transactions().is_empty(), is_excluded, "{what}");
        assert_eq!(seen.supportability().is_empty(), is_excluded, "{what}");
        assert_eq!(seen.envoy.counter("newrelic.spans.started") == 0, is_excluded, "{what}");
        assert_eq!(seen.envoy.counter("newrelic.sampler.decisions.sampled") == 0, is_excluded, "{what}");
        let durations = seen.envoy.histogram("newrelic.DurationByCaller/App/4002/55/HTTPS/all");
        assert_eq!(durations.unwrap_or_default().is_empty(), is_excluded, "{what}");
    }
}

#[test]
fn an_excluded_request_uses_up_neither_the_sampling_target_nor_random_ids() {
    let setup = excluding().with("distributed_tracing.sampler.adaptive_sampling_target", 1).draws(new_trace());
    let mut envoy = setup.start();
    for _ in 0..20 {
        let stream = envoy.stream().open();
        let mut health_check = request::<&str, &str>(&[]);
        health_check.replace(":path", "/healthz");
        send(&mut envoy, stream, &health_check);
        finish(&mut envoy, stream, "200");
    }
    let stream = envoy.stream().open();
    let upstream = send(&mut envoy, stream, &request::<&str, &str>(&[]));
    assert_eq!(upstream.text("traceparent").unwrap_or_default(), format!("00-{NEW_TRACE}-{EXIT_ID}-01"));
    finish(&mut envoy, stream, "200");
    tick(&mut envoy);
    assert_eq!(envoy.counter("newrelic.sampler.decisions.sampled"), 1);
    assert_eq!(envoy.counter("newrelic.sampler.decisions.not_sampled"), 0);
}

#[test]
fn an_excluded_request_that_an_earlier_filter_answers_is_not_recorded_either() {
    let mut envoy = excluding().sampler("always_on").start();
    let mut health_check = request(&[("traceparent", TRACEPARENT)]);
    health_check.replace(":path", "/healthz");
    let stream = envoy.stream().received(&health_check).open();
    envoy.end(stream, host_tests::Ending::earlier_filter_replied(403, "rbac_access_denied")).expect("no trap");
    tick(&mut envoy);
    assert_eq!(crate::support::records(&envoy, "span"), Vec::<Value>::new());
    assert_eq!(crate::support::records(&envoy, "transaction"), Vec::<Value>::new());
}
