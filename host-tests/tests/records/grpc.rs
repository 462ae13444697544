//! gRPC: its status is in trailers, or in headers when there is nothing else; plain HTTP has none, whatever the host
//! says.

use host_tests::{Ending, HeaderMap};
use serde_json::{Value, json};

use crate::harness::{Exchange, assert_has, gateway};
use crate::support::Seen;

fn call(content_type: &str, response: &[(&str, &str)], trailers: &[(&str, &str)]) -> Seen {
    let exchange = Exchange::answered("200")
        .request(&[(":method", "POST"), ("content-type", content_type), ("te", "trailers")])
        .response(response);
    let trailers = (!trailers.is_empty()).then(|| HeaderMap::from_lines(trailers.iter().copied()));
    Exchange { trailers, ..exchange }.run(&gateway())
}

fn assert_status(seen: &Seen, status: impl Into<Value>, error: Option<(&str, &str)>, case: &str) {
    let status = status.into();
    let (class, message) = error.map_or((Value::Null, Value::Null), |(class, message)| (json!(class), json!(message)));
    let entry = json!({ "grpc.statusCode": status, "error.class": class, "error.message": message });
    assert_has(&seen.entry_span(), &entry, case);
    assert_has(&seen.exit_span(), &json!({ "grpc.statusCode": status, "error.class": null }), case);
    assert_eq!(seen.transaction()["error"], error.is_some(), "{case}");
}

#[test]
fn the_status_of_a_call_is_in_its_trailers() {
    for (status, number, error) in [
        ("0", 0, None),
        ("5", 5, None),
        ("14", 14, Some(("14", "UNAVAILABLE"))),
        ("13", 13, Some(("13", "INTERNAL"))),
        ("2", 2, Some(("2", "UNKNOWN"))),
    ] {
        let seen = call("application/grpc", &[], &[("grpc-status", status)]);
        assert_status(&seen, number, error, status);
    }
}

#[test]
fn a_call_that_fails_at_once_has_its_status_in_the_headers() {
    let seen = call("application/grpc+proto", &[("grpc-status", "7"), ("grpc-message", "no")], &[]);
    assert_status(&seen, 7, Some(("7", "PERMISSION_DENIED")), "trailers-only");
}

#[test]
fn a_status_without_a_name_is_an_error_without_a_message() {
    let seen = call("application/grpc", &[], &[("grpc-status", "42")]);
    let expected = json!({ "grpc.statusCode": 42, "error.class": "42", "error.message": null });
    assert_has(&seen.entry_span(), &expected, "42");
    assert_eq!(seen.transaction()["error"], true);
}

#[test]
fn plain_http_has_no_grpc_status() {
    for content_type in ["application/json", "text/plain", "application/x-grpc", "application/grpcx"] {
        for status in ["200", "404", "503"] {
            let exchange = Exchange::answered(status).request(&[("content-type", content_type)]);
            let seen = exchange.run(&gateway());
            for span in seen.spans() {
                assert_has(&span, &json!({ "grpc.statusCode": null }), &format!("{content_type} {status}"));
            }
            assert_eq!(seen.transaction()["error"], status == "503", "{content_type} {status}");
        }
    }
}

#[test]
fn grpc_for_browsers_has_its_status_in_the_body_where_no_proxy_looks() {
    for content_type in ["application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"] {
        let seen = call(content_type, &[("content-type", content_type)], &[]);
        assert_status(&seen, Value::Null, None, content_type);
    }
}

#[test]
fn a_call_that_the_proxy_answers_itself_has_the_status_that_the_proxy_gives() {
    let exchange = Exchange::failed(Ending::no_healthy_upstream())
        .request(&[(":method", "POST"), ("content-type", "application/grpc")]);
    let seen = exchange.run(&gateway());
    assert_has(&seen.exit_span(), &json!({ "error.class": "UH", "http.statusCode": null }), "UH");
    assert_eq!(seen.transaction()["error"], true);
}

#[test]
fn a_call_that_its_client_gives_up_has_no_status() {
    let exchange =
        Exchange::failed(Ending::client_abort()).request(&[(":method", "POST"), ("content-type", "application/grpc")]);
    let seen = exchange.run(&gateway());
    assert_status(&seen, Value::Null, None, "client abort");
}
