//! Every way in which a request can end, and what its spans and its transaction say of it.

use host_tests::{Ending, flags};
use serde_json::{Value, json};

use crate::harness::{Exchange, assert_has, gateway, only_body, plain, posting};
use crate::support::{Seen, refused_stream};

/// What a request's records say of its end. In the order of the fields: the entry span, the exit span unless there is
/// none, whether the transaction failed.
struct Case {
    name: &'static str,
    exchange: Exchange,
    entry: Value,
    exit: Option<Value>,
    failed: bool,
}

fn check(case: &Case) -> Seen {
    let seen = case.exchange.run(&gateway());
    assert_records(&seen, case);
    seen
}

fn assert_records(seen: &Seen, case: &Case) {
    assert_has(&seen.entry_span(), &case.entry, case.name);
    match &case.exit {
        Some(exit) => assert_has(&seen.exit_span(), exit, case.name),
        None => assert_eq!(seen.spans().len(), 1, "{}: no exit span", case.name),
    }
    let transaction = seen.transaction();
    let calls = if case.exit.is_some() { json!(1) } else { Value::Null };
    assert_eq!(
        (&transaction["error"], &transaction["externalCallCount"]),
        (&json!(case.failed), &calls),
        "{}",
        case.name
    );
    assert_eq!(transaction["http.statusCode"], case.entry["http.statusCode"], "{}", case.name);
}

/// An entry span without an error.
fn fine(status: u16) -> Value {
    json!({ "http.statusCode": status, "error.class": null, "error.message": null, "envoy.response_flags": null,
        "envoy.response_code_details": null })
}

/// An entry span whose status is an error.
fn failed(status: u16, message: &str) -> Value {
    with(fine(status), &json!({ "error.class": status.to_string(), "error.message": message }))
}

/// What the proxy tells in addition when the answer is its own.
fn told(entry: Value, flags: impl Into<Value>, details: &str) -> Value {
    with(entry, &json!({ "envoy.response_flags": flags.into(), "envoy.response_code_details": details }))
}

fn with(base: Value, more: &Value) -> Value {
    let mut merged = base;
    let members = more.as_object().expect("attributes are an object").clone();
    merged.as_object_mut().expect("attributes are an object").extend(members);
    merged
}

/// An exit span with an answer of the upstream.
fn answered(status: u16) -> Value {
    json!({ "http.statusCode": status, "error.class": null, "error.message": null })
}

/// An exit span without one.
fn unanswered(flag: &str, details: &str) -> Value {
    json!({ "http.statusCode": null, "error.class": flag, "error.message": details })
}

fn answers() -> Vec<Case> {
    let case = |name, status: u16, entry: Value, failed| Case {
        name,
        exchange: Exchange::answered(&status.to_string()),
        entry,
        exit: Some(answered(status)),
        failed,
    };
    vec![
        case("200", 200, fine(200), false),
        case("204", 204, fine(204), false),
        case("302", 302, fine(302), false),
        case("304", 304, fine(304), false),
        case("400", 400, failed(400, "Bad Request"), true),
        case("404 is ignored", 404, fine(404), false),
        case("429", 429, failed(429, "Too Many Requests"), true),
        case("500", 500, failed(500, "Internal Server Error"), true),
        case("503 of the upstream's", 503, failed(503, "Service Unavailable"), true),
    ]
}

/// The proxy's own answers and what it makes of an upstream that gives none. Flags and details are those of a real
/// Envoy.
fn failures() -> Vec<Case> {
    const UF: &str =
        "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}";
    const UC: &str = "upstream_reset_before_response_started{connection_termination}";
    let case =
        |name, ending, entry, exit, failed| Case { name, exchange: Exchange::failed(ending), entry, exit, failed };
    let unavailable = || failed(503, "Service Unavailable");
    vec![
        case("no route", Ending::no_route(), told(fine(404), "NR", "route_not_found"), None, false),
        case("no cluster", Ending::no_cluster(), told(unavailable(), "NC", "cluster_not_found"), None, true),
        case(
            "no healthy upstream",
            Ending::no_healthy_upstream(),
            told(unavailable(), "UH", "no_healthy_upstream"),
            Some(unanswered("UH", "no_healthy_upstream")),
            true,
        ),
        case(
            "connect failure",
            Ending::connect_failure(),
            told(unavailable(), "UF", UF),
            Some(unanswered("UF", UF)),
            true,
        ),
        case(
            "reset before the answer",
            Ending::upstream_reset(),
            told(unavailable(), "UC", UC),
            Some(unanswered("UC", UC)),
            true,
        ),
        case(
            "timeout",
            Ending::upstream_timeout(),
            told(failed(504, "Gateway Timeout"), "UT", "response_timeout"),
            Some(unanswered("UT", "response_timeout")),
            true,
        ),
        case(
            "redirect of the route's",
            Ending::direct_response(301),
            told(fine(301), Value::Null, "direct_response"),
            None,
            false,
        ),
        case(
            "direct response",
            Ending::direct_response(503),
            told(unavailable(), Value::Null, "direct_response"),
            None,
            true,
        ),
    ]
}

#[test]
fn an_answer_of_the_upstream_shows_on_both_spans_and_an_error_on_the_entry_span_alone() {
    for case in answers() {
        check(&case);
    }
}

#[test]
fn an_answer_of_the_proxys_own_says_why() {
    for case in failures() {
        check(&case);
    }
}

#[test]
fn an_open_circuit_breaker_is_a_failed_call() {
    let overflow = Ending {
        flags: flags::UPSTREAM_OVERFLOW,
        details: Some("upstream_reset_before_response_started{overflow}".to_owned()),
        reached_upstream: false,
        ..Ending::upstream_reset()
    };
    check(&Case {
        name: "UO",
        exchange: Exchange::failed(overflow),
        entry: told(failed(503, "Service Unavailable"), "UO", "upstream_reset_before_response_started{overflow}"),
        exit: Some(unanswered("UO", "upstream_reset_before_response_started{overflow}")),
        failed: true,
    });
}

#[test]
fn a_reset_after_the_answer_began_keeps_the_status_and_tells_the_failure() {
    const DETAILS: &str = "upstream_reset_after_response_started{connection_termination}";
    let reset = Ending {
        flags: flags::UPSTREAM_CONNECTION_TERMINATION,
        details: Some(DETAILS.to_owned()),
        ..Ending::complete()
    };
    check(&Case {
        name: "reset after the answer began",
        exchange: Exchange { ending: reset, ..Exchange::answered("200") },
        entry: told(fine(200), "UC", DETAILS),
        exit: Some(json!({ "http.statusCode": 200, "error.class": "UC", "error.message": DETAILS })),
        failed: false,
    });
}

#[test]
fn a_client_that_goes_away_is_nobodys_error() {
    let seen = check(&Case {
        name: "client abort",
        exchange: Exchange::failed(Ending::client_abort()),
        entry: json!({ "http.statusCode": null, "error.class": null, "error.message": null,
            "envoy.response_flags": "DC", "envoy.response_code_details": "downstream_remote_disconnect" }),
        exit: Some(json!({ "http.statusCode": null, "error.class": null, "error.message": null })),
        failed: false,
    });
    assert_eq!(seen.entry_span()["attributes"]["duration.ms"], 40.0);
}

#[test]
fn a_client_that_goes_away_during_the_answer_leaves_the_status() {
    let abort = Ending { details: Some("downstream_remote_disconnect".to_owned()), ..Ending::client_abort() };
    check(&Case {
        name: "client abort during the answer",
        exchange: Exchange { ending: abort, ..Exchange::answered("200") },
        entry: told(fine(200), "DC", "downstream_remote_disconnect"),
        exit: Some(json!({ "error.class": null, "error.message": null })),
        failed: false,
    });
}

#[test]
fn a_websocket_that_is_closed_is_no_error() {
    let upgrade = Exchange { ending: Ending::websocket_closed(), ..Exchange::answered("101") }
        .request(&[("connection", "upgrade"), ("upgrade", "websocket")]);
    for end_flags in [flags::UPSTREAM_CONNECTION_TERMINATION, flags::DOWNSTREAM_CONNECTION_TERMINATION, 0] {
        for details in ["via_upstream", "upstream_reset_after_response_started{connection_termination}"] {
            let ending = Ending { flags: end_flags, details: Some(details.to_owned()), ..Ending::websocket_closed() };
            let seen = Exchange { ending, ..upgrade.clone() }.run(&gateway());
            let case = format!("{end_flags} {details}");
            let expected = json!({ "http.statusCode": 101, "error.class": null, "error.message": null,
                "envoy.response_flags": null });
            assert_has(&seen.entry_span(), &expected, &case);
            assert_has(&seen.exit_span(), &expected, &case);
            assert_eq!(seen.transaction()["error"], false, "{case}");
        }
    }
}

#[test]
fn a_websocket_whose_upstream_cannot_be_reached_is_an_error() {
    let exchange =
        Exchange::failed(Ending::connect_failure()).request(&[("connection", "upgrade"), ("upgrade", "websocket")]);
    let seen = exchange.run(&gateway());
    assert_has(&seen.exit_span(), &json!({ "error.class": "UF" }), "UF");
    assert_eq!(seen.transaction()["error"], true);
}

#[test]
fn a_request_that_an_earlier_filter_answered_is_recorded_without_a_call() {
    for (ending, entry) in [
        (
            Ending::earlier_filter_replied(403, "rbac_access_denied_matched_policy[none]"),
            told(failed(403, "Forbidden"), Value::Null, "rbac_access_denied_matched_policy[none]"),
        ),
        (
            Ending {
                flags: flags::UNAUTHORIZED_EXTERNAL_SERVICE,
                ..Ending::earlier_filter_replied(401, "ext_authz_denied")
            },
            told(failed(401, "Unauthorized"), "UAEX", "ext_authz_denied"),
        ),
        (Ending::codec_error(), told(failed(400, "Bad Request"), "DPE", "http1.codec_error")),
    ] {
        let case = format!("{ending:?}");
        let mut envoy = gateway().start();
        let stream = refused_stream::<&str, &str>(&mut envoy, &[], ending);
        let seen = Seen::new(envoy, stream, host_tests::HeaderMap::new());
        assert_eq!(seen.spans().len(), 1, "{case}");
        assert_has(&seen.entry_span(), &entry, &case);
        assert_has(&seen.entry_span(), &json!({ "request.method": "GET", "request.uri": "/cart/17" }), &case);
        assert_eq!(seen.transaction()["error"], true, "{case}");
    }
}

#[test]
fn of_a_request_without_any_header_there_is_nothing_to_tell() {
    let mut envoy = gateway().start();
    let stream = envoy.stream().open();
    envoy.end(stream, Ending::codec_error()).expect("no trap");
    let seen = Seen::new(envoy, stream, host_tests::HeaderMap::new());
    assert_eq!((seen.spans().len(), seen.transactions().len()), (0, 0));
}

#[test]
fn retries_are_counted_on_the_exit_span() {
    for (attempts, expected) in [(0, Value::Null), (1, Value::Null), (2, json!(1)), (4, json!(3))] {
        let exchange = Exchange { ending: Ending::complete().attempts(attempts), ..Exchange::answered("200") };
        let seen = exchange.run(&gateway());
        assert_has(&seen.exit_span(), &json!({ "retry.count": expected }), &format!("{attempts} attempts"));
        assert_has(&seen.entry_span(), &json!({ "retry.count": null }), "the entry span");
    }
}

#[test]
fn the_last_failure_is_told_before_the_retry_limit() {
    let ending = Ending { flags: flags::UPSTREAM_CONNECTION_FAILURE | 0x8000, ..Ending::connect_failure() }.attempts(3);
    let seen = Exchange::failed(ending).run(&gateway());
    assert_has(&seen.exit_span(), &json!({ "error.class": "UF", "retry.count": 2 }), "UF,URX");
    assert_has(&seen.entry_span(), &json!({ "envoy.response_flags": "UF,URX" }), "UF,URX");
}

#[test]
fn the_operator_chooses_which_statuses_are_errors() {
    let setup = gateway().with("error_collector.ignore_status_codes", json!([401, "410-499", 503]));
    for (status, is_error) in
        [("400", true), ("401", false), ("404", true), ("410", false), ("499", false), ("500", true), ("503", false)]
    {
        let seen = Exchange::answered(status).run(&setup);
        assert_eq!(seen.transaction()["error"], is_error, "{status}");
        assert_eq!(seen.entry_span()["attributes"]["error.class"].is_null(), !is_error, "{status}");
    }
}

#[test]
fn an_ignored_status_hides_no_failure_of_the_call() {
    let setup = gateway().with("error_collector.ignore_status_codes", json!([503]));
    let seen = Exchange::failed(Ending::connect_failure()).run(&setup);
    assert_eq!(seen.transaction()["error"], false);
    assert_has(&seen.exit_span(), &json!({ "error.class": "UF" }), "UF");
}

#[test]
fn an_outbound_proxy_has_one_span_and_it_tells_everything() {
    let setup = crate::support::Setup::role("outbound").sampler("always_on");
    let seen = Exchange::failed(Ending::connect_failure()).run(&setup);
    assert_eq!((seen.spans().len(), seen.transactions().len()), (1, 0));
    let expected = json!({ "error.class": "UF", "envoy.response_flags": "UF", "http.statusCode": null });
    assert_has(&seen.exit_span(), &expected, "outbound");
    let direct = Exchange::failed(Ending::direct_response(200)).run(&setup);
    assert_eq!(direct.spans().len(), 0, "the proxy called nobody");
}

#[test]
fn an_inbound_proxy_has_one_span_and_a_transaction() {
    let setup = crate::support::Setup::role("inbound").sampler("always_on");
    let seen = Exchange::answered("500").run(&setup);
    assert_eq!(seen.spans().len(), 1);
    assert_has(&seen.entry_span(), &failed(500, "Internal Server Error"), "inbound");
    assert_eq!(seen.transaction()["externalCallCount"], Value::Null);
}

/// `status.code` and `status.message` of the spans that OTLP gets: entry, exit.
fn otlp_statuses(exchange: &Exchange) -> Vec<(Value, Value)> {
    let mut envoy = gateway().with("exporters", posting(&["otlp"])).start();
    let stream = envoy.stream().open();
    exchange.send(&mut envoy, stream, |_, _| {});
    let body: Value = serde_json::from_slice(&only_body(&mut envoy)).expect("JSON");
    let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("a list").clone();
    spans.iter().map(|span| (span["status"]["code"].clone(), span["status"]["message"].clone())).collect()
}

#[test]
fn opentelemetrys_status_follows_its_http_conventions() {
    let (unset, error) = ((Value::Null, Value::Null), (json!(2), Value::Null));
    let failed = |details: &str| (json!(2), json!(details));
    for (exchange, expected) in [
        (Exchange::answered("200"), vec![unset.clone(), unset.clone()]),
        (Exchange::answered("400"), vec![unset.clone(), error.clone()]),
        (Exchange::answered("404"), vec![unset.clone(), error.clone()]),
        (Exchange::answered("500"), vec![error.clone(), error.clone()]),
        (Exchange::failed(Ending::no_route()), vec![unset.clone()]),
        (Exchange::failed(Ending::upstream_timeout()), vec![error.clone(), failed("response_timeout")]),
        (Exchange::failed(Ending::no_healthy_upstream()), vec![error, failed("no_healthy_upstream")]),
        (Exchange::failed(Ending::client_abort()), vec![unset.clone(), unset]),
    ] {
        assert_eq!(otlp_statuses(&exchange), expected, "{exchange:?}");
    }
}

#[test]
fn no_error_attribute_is_ever_empty() {
    for case in answers().into_iter().chain(failures()) {
        for span in case.exchange.run_on(&gateway(), plain).spans() {
            let attributes = span["attributes"].as_object().expect("attributes are an object");
            let empty = attributes.iter().find(|(_, value)| **value == json!("") || value.is_null());
            assert_eq!(empty, None, "{}", case.name);
        }
    }
}
