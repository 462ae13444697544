//! Header maps as a guest sees them.

use crate::support::{REQUEST, RESPONSE, envoy, said};
use host_tests::{Ending, HeaderMap, MapType};

#[test]
fn a_value_is_that_of_the_first_line_and_any_bytes_pass() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $bytes (call $get_header (i32.const 0) @"X-Multi" (i32.const 0) (i32.const 4)))
             (call $bytes (call $get_header (i32.const 0) @"absent" (i32.const 0) (i32.const 4)))
             (drop (call $get_header (i32.const 0) @"raw" (i32.const 0) (i32.const 4)))
             (drop (call $add_header (i32.const 0) @"copy"
                     (i32.load (i32.const 0)) (i32.load (i32.const 4))))
             (i32.const 0))"#,
    );
    let mut request = HeaderMap::from(&[("x-multi", "first"), ("x-multi", "second")]);
    request.add("raw", [0xff, 0xfe]);
    let stream = envoy.stream().open();
    let upstream = envoy.request_headers(stream, request).unwrap();
    assert_eq!(said(&envoy), ["first", "status 1"]);
    assert_eq!(upstream.get("copy"), Some([0xff, 0xfe].as_slice()));
}

#[test]
fn add_appends_replace_collapses_and_remove_takes_all() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (drop (call $add_header (i32.const 0) @"added" @"2"))
             (drop (call $replace_header (i32.const 0) @"replaced" @"new"))
             (drop (call $replace_header (i32.const 0) @"made" @""))
             (drop (call $remove_header (i32.const 0) @"removed"))
             (drop (call $replace_header (i32.const 0) @":path" @"/changed"))
             (drop (call $add_header (i32.const 0) @"x-request-id" @"more"))
             (i32.const 0))"#,
    );
    let request = [
        (":path", "/"),
        (":method", "GET"),
        ("added", "1"),
        ("replaced", "a"),
        ("removed", "a"),
        ("replaced", "b"),
        ("removed", "b"),
        ("x-request-id", "id"),
    ];
    let stream = envoy.stream().open();
    let upstream = envoy.request_headers(stream, request).unwrap();
    let expected = [
        (":method", "GET"),
        (":path", "/changed"),
        ("added", "1"),
        ("x-request-id", "id,more"),
        ("added", "2"),
        ("replaced", "new"),
        ("made", ""),
    ];
    assert_eq!(upstream, HeaderMap::from(expected));
}

#[test]
fn pairs_come_in_the_wire_form_and_can_be_set_as_a_whole() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $bytes (call $get_pairs (i32.const 0) (i32.const 0) (i32.const 4)))
             (drop (call $set_pairs (i32.const 0) @"\01\00\00\00\01\00\00\00\02\00\00\00n\00vv\00"))
             (call $number (call $get_size (i32.const 0) (i32.const 0)))
             (i32.const 0))"#,
    );
    let stream = envoy.stream().open();
    let upstream = envoy.request_headers(stream, [("a", "x"), ("a", "")]).unwrap();
    let wire = "\x02\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0a\0x\0a\0\0";
    assert_eq!(said(&envoy), [wire, "3"]);
    assert_eq!(upstream, HeaderMap::from([("n", "vv")]));
}

/// Tries every operation on a map and logs the five answers.
const TRY_MAP: &str = r#"
    (func $try (param $map i32)
      (call $say_status (call $get_header (local.get $map) @"absent" (i32.const 0) (i32.const 4)))
      (call $say_status (call $get_size (local.get $map) (i32.const 0)))
      (call $say_status (call $add_header (local.get $map) @"x-tried" @"1"))
      (call $say_status (call $remove_header (local.get $map) @"x-tried"))
      (call $say_status (call $get_pairs (local.get $map) (i32.const 0) (i32.const 4)))
      (call $say_number (i64.load32_u (i32.const 4))))"#;

/// What [`TRY_MAP`] logs for a map that is open, read-only and empty, closed, or unknown.
const CLOSED: [&str; 6] = ["status 2", "status 2", "status 2", "status 2", "status 0", "0"];
const ABSENT_IN_LOG: [&str; 6] = ["status 1", "status 2", "status 2", "status 2", "status 0", "0"];

fn tried_in(callback: &str, map: MapType) -> Vec<String> {
    let function = match callback {
        "proxy_on_log" => format!(r#"(func (export "{callback}") (param i32) (call $try (i32.const {})))"#, map as u32),
        _ => format!(
            r#"(func (export "{callback}") (param i32 i32 i32) (result i32)
                 (call $try (i32.const {})) (i32.const 0))"#,
            map as u32
        ),
    };
    let mut envoy = envoy(&format!("{TRY_MAP} {function}"));
    envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
    said(&envoy)
}

#[test]
fn a_map_is_open_in_its_own_callback_only() {
    for (callback, open) in
        [("proxy_on_request_headers", MapType::RequestHeaders), ("proxy_on_response_headers", MapType::ResponseHeaders)]
    {
        for map in [MapType::RequestHeaders, MapType::ResponseHeaders, MapType::HttpCallResponseHeaders] {
            let tried = tried_in(callback, map);
            if map == open {
                assert_eq!(tried[..5], ["status 1", "status 0", "status 0", "status 0", "status 0"], "{callback}");
                assert_ne!(tried[5], "0", "{callback}: the pairs are there");
            } else {
                assert_eq!(tried, CLOSED, "{callback} {map:?}");
            }
        }
    }
}

#[test]
fn the_log_phase_reads_and_does_not_change() {
    let request = tried_in("proxy_on_log", MapType::RequestHeaders);
    assert_eq!(request[..5], ABSENT_IN_LOG[..5]);
    assert_ne!(request[5], "0", "the pairs are there");
    for map in [MapType::RequestTrailers, MapType::ResponseTrailers, MapType::HttpCallResponseHeaders] {
        assert_eq!(tried_in("proxy_on_log", map), ABSENT_IN_LOG, "{map:?}");
    }
}

#[test]
fn a_map_of_unknown_number_is_refused_in_every_call() {
    let mut envoy = envoy(&format!(
        r#"{TRY_MAP} (func (export "proxy_on_log") (param i32)
             (i32.store (i32.const 4) (i32.const 7)) (call $try (i32.const 8)))"#
    ));
    envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
    assert_eq!(said(&envoy), ["status 2", "status 2", "status 2", "status 2", "status 2", "7"]);
}

#[test]
fn a_paused_request_stays_open_until_it_continues() {
    let mut envoy = envoy(
        r#"(global $held (mut i32) (i32.const 0))
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $set_tick (i32.const 10))) (i32.const 1))
           (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
             (global.set $held (local.get $id)) (i32.const 1))
           (func (export "proxy_on_tick") (param i32)
             (if (global.get $held) (then
               (drop (call $effective (global.get $held)))
               (call $say_status (call $add_header (i32.const 0) @"late" @"1"))
               (drop (call $continue_stream (i32.const 0)))
               (global.set $held (i32.const 0)))))"#,
    );
    let stream = envoy.stream().open();
    let waiting = envoy.request_headers(stream, REQUEST).unwrap();
    assert!(envoy.is_paused(stream));
    assert!(!waiting.contains("late"));
    envoy.advance(std::time::Duration::from_millis(10)).unwrap();
    assert!(!envoy.is_paused(stream));
    let upstream = envoy.header_map(stream, MapType::RequestHeaders).unwrap();
    assert_eq!(upstream.text("late").as_deref(), Some("1"));
    assert_eq!(said(&envoy), ["status 0"]);
    envoy.end(stream, Ending::complete()).unwrap();
}

#[test]
fn trailers_pass_the_filter() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_response_trailers") (param i32) (param $count i32) (result i32)
             (call $say_number (i64.extend_i32_u (local.get $count)))
             (drop (call $add_header (i32.const 3) @"added" @"1")) (i32.const 0))
           (func (export "proxy_on_log") (param i32)
             (call $bytes (call $get_header (i32.const 3) @"grpc-status" (i32.const 0) (i32.const 4)))
             (call $bytes_as_number (call $get_property @"response\00grpc_status" (i32.const 0) (i32.const 4))))"#,
    );
    let mut stream = envoy.stream().begin();
    stream.request_headers(REQUEST).unwrap();
    stream.response_headers(RESPONSE).unwrap();
    let trailers = stream.response_trailers([("grpc-status", "5")]).unwrap();
    assert_eq!(trailers, HeaderMap::from([("grpc-status", "5"), ("added", "1")]));
    stream.end(Ending::complete()).unwrap();
    assert_eq!(said(&envoy), ["1", "5", "5"]);
}
