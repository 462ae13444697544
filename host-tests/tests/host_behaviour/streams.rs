//! The life of streams: callbacks, bodies, local replies, endings and properties.

use std::time::Duration;

use crate::support::{REQUEST, RESPONSE, callbacks, envoy, guest, said};
use host_tests::{
    CallbackOrder, Ending, Envoy, FailureKind, HeaderMap, Load, MapType, Phase, Plugin, Profile, StreamBuilder,
    StreamId, Thread, Value, count_host_calls,
};

/// Exports every callback of a stream.
const ALL_CALLBACKS: &str = r#"
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (i32.const 0))
    (func (export "proxy_on_request_trailers") (param i32 i32) (result i32) (i32.const 0))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 0))
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (i32.const 0))
    (func (export "proxy_on_response_trailers") (param i32 i32) (result i32) (i32.const 0))
    (func (export "proxy_on_log") (param i32))
    (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
    (func (export "proxy_on_delete") (param i32))"#;

fn names(envoy: &Envoy, stream: StreamId) -> Vec<&'static str> {
    envoy.callbacks_of(stream).iter().map(|callback| callback.name).collect()
}

#[test]
fn the_callbacks_of_a_whole_exchange_come_in_the_order_of_envoy() {
    let mut envoy = envoy(ALL_CALLBACKS);
    let stream = envoy.stream().open();
    envoy.request_headers(stream, REQUEST).unwrap();
    assert_eq!(envoy.request_body(stream, "in", false).unwrap(), b"in");
    envoy.request_trailers(stream, [("t", "1")]).unwrap();
    envoy.response_headers(stream, RESPONSE).unwrap();
    assert_eq!(envoy.response_body(stream, "out", false).unwrap(), b"out");
    envoy.response_trailers(stream, [("t", "1")]).unwrap();
    envoy.end(stream, Ending::complete()).unwrap();
    let expected = [
        "proxy_on_context_create",
        "proxy_on_request_headers",
        "proxy_on_request_body",
        "proxy_on_request_trailers",
        "proxy_on_response_headers",
        "proxy_on_response_body",
        "proxy_on_response_trailers",
        "proxy_on_log",
        "proxy_on_done",
        "proxy_on_delete",
    ];
    assert_eq!(names(&envoy, stream), expected);
    assert_eq!(envoy.contexts(Thread::Worker(0)), 1, "only the root is left");
}

#[test]
fn the_order_of_the_specification_can_be_chosen() {
    let builder = Envoy::builder(&guest(ALL_CALLBACKS)).plugin(Plugin::new("p"));
    let mut envoy = builder.callback_order(CallbackOrder::Specification).start().unwrap();
    let exchange = envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
    assert_eq!(names(&envoy, exchange.id)[3..], ["proxy_on_done", "proxy_on_log", "proxy_on_delete"]);
}

#[test]
fn a_callback_that_is_not_exported_is_not_called() {
    let mut envoy = envoy("");
    let exchange = envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
    assert_eq!(exchange.callbacks, []);
    assert_eq!(exchange.upstream, HeaderMap::from(REQUEST));
    assert_eq!(exchange.downstream, HeaderMap::from(RESPONSE));
}

#[test]
fn steps_out_of_order_are_errors_of_the_test() {
    let mut envoy = envoy(ALL_CALLBACKS);
    let stream = envoy.stream().open();
    let kinds = [
        envoy.response_headers(stream, RESPONSE).unwrap_err().kind(),
        envoy.request_body(stream, "x", true).unwrap_err().kind(),
        envoy.request_headers(stream, REQUEST).and_then(|_| envoy.request_headers(stream, REQUEST)).unwrap_err().kind(),
        envoy.end(stream, Ending::complete()).and_then(|()| envoy.end(stream, Ending::complete())).unwrap_err().kind(),
        envoy.stream().worker(9).exchange(REQUEST, RESPONSE).unwrap_err().kind(),
        envoy.stream().listener("none").exchange(REQUEST, RESPONSE).unwrap_err().kind(),
    ];
    assert_eq!(kinds, [FailureKind::Usage; 6]);
}

#[test]
fn a_buffered_body_collects_until_the_filter_lets_it_go() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_request_body") (param i32) (param $len i32) (param $end i32) (result i32)
             (call $say_number (i64.extend_i32_u (local.get $len)))
             (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
             (call $bytes (call $get_buffer (i32.const 0) (i32.const 1) (i32.const 100) (i32.const 0) (i32.const 4)))
             (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) @"<"))
             (drop (call $set_buffer (i32.const 0) (i32.const 999) (i32.const 0) @">"))
             (call $say_status (call $set_buffer (i32.const 0) (i32.const 1) (i32.const 1) @"x"))
             (i32.const 0))"#,
    );
    let stream = envoy.stream().open();
    envoy.request_headers(stream, REQUEST).unwrap();
    assert_eq!(envoy.request_body(stream, "abc", false).unwrap(), b"");
    assert_eq!(envoy.request_body(stream, "defg", true).unwrap(), b"<abcdefg>");
    assert_eq!(said(&envoy), ["3", "7", "bcdefg", "status 2"]);
}

#[test]
fn a_held_body_goes_with_the_trailers() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (i32.const 1))
           (func (export "proxy_on_request_trailers") (param i32 i32) (result i32)
             (call $bytes (call $get_buffer (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4)))
             (i32.const 0))"#,
    );
    let stream = envoy.stream().open();
    envoy.request_headers(stream, REQUEST).unwrap();
    envoy.request_body(stream, "abc", false).unwrap();
    assert_eq!(envoy.upstream_body(stream).unwrap(), b"");
    envoy.request_trailers(stream, [("t", "1")]).unwrap();
    assert_eq!(said(&envoy), ["abc"]);
    assert_eq!(envoy.upstream_body(stream).unwrap(), b"abc");
}

#[test]
fn buffers_that_do_not_exist_are_empty_or_not_found() {
    let mut envoy = envoy(
        r#"(func $try (param $buffer i32)
             (call $say_status (call $buffer_status (local.get $buffer) (i32.const 0) (i32.const 4)))
             (i32.store (i32.const 4) (i32.const 7))
             (call $say_status (call $get_buffer (local.get $buffer) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4)))
             (call $say_number (i64.load32_u (i32.const 4))))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $try (i32.const 0)) (call $try (i32.const 4)) (call $try (i32.const 7)) (call $try (i32.const 9))
             (i32.const 0))"#,
    );
    envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
    let (empty, missing) = (["status 0", "status 0", "0"], ["status 1", "status 1", "7"]);
    assert_eq!(said(&envoy), [empty, missing, missing, ["status 2", "status 2", "7"]].concat());
}

#[test]
fn a_local_reply_takes_the_place_of_the_response_and_passes_the_filter() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $say_status (call $send_local_response (i32.const 403) @"my details" @"no"
               @"\01\00\00\00\03\00\00\00\01\00\00\00x-a\001\00" (i32.const -1)))
             (i32.const 1))
           (func (export "proxy_on_response_headers") (param i32 i32) (param $end i32) (result i32)
             (call $bytes (call $get_header (i32.const 2) @":status" (i32.const 0) (i32.const 4)))
             (call $say_number (i64.extend_i32_u (local.get $end)))
             (i32.const 0))
           (func (export "proxy_on_log") (param i32)
             (call $bytes (call $get_property @"response\00code_details" (i32.const 0) (i32.const 4)))
             (call $say_status (call $get_property @"upstream\00address" (i32.const 0) (i32.const 4))))"#,
    );
    let stream = envoy.stream().open();
    envoy.request_headers(stream, REQUEST).unwrap();
    assert_eq!(envoy.downstream_body(stream).unwrap(), b"no");
    let reply = envoy.local_reply(stream).unwrap();
    assert_eq!((reply.status, reply.body.as_slice(), reply.grpc_status), (403, b"no".as_slice(), None));
    let expected = [(":status", "403"), ("x-a", "1"), ("content-length", "2"), ("content-type", "text/plain")];
    assert_eq!(reply.headers, HeaderMap::from(expected));
    assert!(envoy.response_headers(stream, RESPONSE).is_err(), "the response has begun");
    envoy.end(stream, Ending::complete()).unwrap();
    assert_eq!(said(&envoy), ["status 0", "403", "0", "my_details", "status 1"]);
}

#[test]
fn a_filter_can_reset_the_stream() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $say_status (call $close_stream (i32.const 7)))
             (call $say_status (call $close_stream (i32.const 0))) (i32.const 1))"#,
    );
    let stream = envoy.stream().open();
    envoy.request_headers(stream, REQUEST).unwrap();
    assert!(envoy.is_reset(stream));
    assert_eq!(said(&envoy), ["status 2", "status 0"]);
}

/// Logs a property in the three callbacks of a stream, prefixed by nothing.
fn seen(path: &str, show: &str, build: impl FnOnce(StreamBuilder<'_>) -> StreamBuilder<'_>) -> Vec<String> {
    let wire = path.replace('.', r"\00");
    let mut envoy = envoy(&format!(
        r#"(func $show (call ${show} (call $get_property @"{wire}" (i32.const 0) (i32.const 4))))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $show) (i32.const 0))
           (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $show) (i32.const 0))
           (func (export "proxy_on_log") (param i32) (call $show))"#
    ));
    let stream = build(envoy.stream()).open();
    let added = [("x", "1"), ("x", "2"), ("user-agent", "curl")];
    let request = [REQUEST, added.as_slice()].concat();
    envoy.request_headers(stream, request).unwrap();
    envoy.request_body(stream, "body", true).unwrap();
    envoy.advance(Duration::from_millis(3)).unwrap();
    envoy.response_headers(stream, RESPONSE).unwrap();
    envoy.response_body(stream, "out", true).unwrap();
    envoy.advance(Duration::from_millis(2)).unwrap();
    envoy.end(stream, Ending::complete().attempts(2)).unwrap();
    said(&envoy)
}

const ABSENT: &str = "status 1";

#[test]
fn attributes_exist_in_the_phases_in_which_envoy_has_them() {
    for (path, show, expected) in [
        ("request.path", "bytes", ["/a?b=c#d", ABSENT, "/a?b=c#d"]),
        ("request.url_path", "bytes", ["/a", ABSENT, "/a"]),
        ("request.query", "bytes", ["b=c", ABSENT, "b=c"]),
        ("request.host", "bytes", ["shop", ABSENT, "shop"]),
        ("request.scheme", "bytes", ["http", ABSENT, "http"]),
        ("request.method", "bytes", ["GET", ABSENT, "GET"]),
        ("request.useragent", "bytes", ["curl", ABSENT, "curl"]),
        ("request.id", "bytes", [ABSENT; 3]),
        ("request.headers.x", "bytes", ["1,2", ABSENT, "1,2"]),
        ("request.protocol", "bytes", ["HTTP/1.1"; 3]),
        ("request.time", "bytes_as_number", ["1750000000123000000"; 3]),
        ("request.duration", "bytes_as_number", [ABSENT, ABSENT, "5000000"]),
        ("request.size", "bytes_as_number", ["0", "4", "4"]),
        ("request.headers_bytes", "bytes_as_number", ["66", "0", "66"]),
        ("request.total_size", "bytes_as_number", ["66", "4", "70"]),
        ("response.code", "bytes_as_number", [ABSENT, "200", "200"]),
        ("response.code_details", "bytes", [ABSENT, "via_upstream", "via_upstream"]),
        ("response.flags", "bytes_as_number", ["0"; 3]),
        ("response.grpc_status", "bytes_as_number", [ABSENT, "2", "2"]),
        ("response.size", "bytes_as_number", ["0", "0", "3"]),
        ("response.backend_latency", "bytes_as_number", [ABSENT, ABSENT, "3000000"]),
        ("response.headers.x-up", "bytes", [ABSENT, "1,2", "1,2"]),
        ("upstream.address", "bytes", [ABSENT, "10.0.0.3:9090", "10.0.0.3:9090"]),
        ("upstream.port", "bytes_as_number", [ABSENT, "9090", "9090"]),
        ("upstream.request_attempt_count", "bytes_as_number", ["0", "1", "2"]),
        ("source.address", "bytes", ["10.0.0.1:40000"; 3]),
        ("destination.port", "bytes_as_number", ["8080"; 3]),
        ("xds.cluster_name", "bytes", ["backend"; 3]),
        ("xds.route_name", "bytes", ["default"; 3]),
        ("xds.virtual_host_name", "bytes", ["default"; 3]),
        ("plugin_name", "bytes", ["plugin"; 3]),
        ("request", "bytes", ["status 3"; 3]),
        ("unheard.of", "bytes", [ABSENT; 3]),
        ("node.id", "bytes", [ABSENT; 3]),
    ] {
        assert_eq!(seen(path, show, |stream| stream), expected, "{path}");
    }
}

#[test]
fn a_test_can_set_shift_and_remove_properties() {
    let path = "metadata.filter_metadata.k";
    assert_eq!(seen(path, "bytes", |stream| stream.property(path, "v")), ["v"; 3]);
    assert_eq!(
        seen(path, "bytes_as_number", |stream| stream.property_from(Phase::Response, path, Value::Int(7))),
        [ABSENT, "7", "7"]
    );
    assert_eq!(seen("xds.route_name", "bytes", |stream| stream.without_property("xds.route_name")), [ABSENT; 3]);
    assert_eq!(seen("xds.route_name", "bytes", |stream| stream.unrouted()), [ABSENT; 3]);
    assert_eq!(seen("xds.cluster_name", "bytes", |stream| stream.unrouted()), [ABSENT; 3]);
    assert_eq!(seen("xds.cluster_name", "bytes", |stream| stream.upstream("c", "1.1.1.1:1")), ["c"; 3]);
}

#[test]
fn a_property_the_guest_sets_becomes_filter_state() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $say_status (call $get_property @"mine" (i32.const 0) (i32.const 4)))
             (call $say_status (call $set_property @"mine" @"v1"))
             (call $bytes (call $get_property @"mine" (i32.const 0) (i32.const 4)))
             (call $bytes (call $get_property @"filter_state\00wasm.mine" (i32.const 0) (i32.const 4)))
             (i32.const 0))"#,
    );
    let exchange = envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
    assert_eq!(said(&envoy), ["status 1", "status 0", "v1", "v1"]);
    assert_eq!(envoy.filter_state(exchange.id, "wasm.mine").as_deref(), Some(b"v1".as_slice()));
}

/// Logs code, flags, details, upstream address and attempts of the stream, and the status line of
/// the response headers when it sees them.
const ENDING: &str = r#"
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_response_headers") (param i32) (param $count i32) (param $end i32) (result i32)
      (call $bytes (call $get_header (i32.const 2) @":status" (i32.const 0) (i32.const 4)))
      (call $say_number (i64.extend_i32_u (local.get $count))) (i32.const 0))
    (func (export "proxy_on_log") (param i32)
      (call $say @"log")
      (call $bytes_as_number (call $get_property @"response\00code" (i32.const 0) (i32.const 4)))
      (call $bytes_as_number (call $get_property @"response\00flags" (i32.const 0) (i32.const 4)))
      (call $bytes (call $get_property @"response\00code_details" (i32.const 0) (i32.const 4)))
      (call $bytes (call $get_property @"upstream\00address" (i32.const 0) (i32.const 4)))
      (call $bytes_as_number
        (call $get_property @"upstream\00request_attempt_count" (i32.const 0) (i32.const 4))))"#;

#[test]
fn every_ending_shows_its_attributes_and_its_reply() {
    const HOST: &str = "10.0.0.3:9090";
    let refused = "upstream_reset_before_response_started\
                   {remote_connection_failure|delayed_connect_error:_Connection_refused}";
    let reset = "upstream_reset_before_response_started{connection_termination}";
    for (ending, expected) in [
        (Ending::connect_failure(), vec!["503", "3", "log", "503", "32", refused, HOST, "1"]),
        (Ending::upstream_reset().attempts(3), vec!["503", "3", "log", "503", "64", reset, HOST, "3"]),
        (Ending::upstream_timeout(), vec!["504", "3", "log", "504", "4", "response_timeout", HOST, "1"]),
        (Ending::no_healthy_upstream(), vec!["503", "3", "log", "503", "2", "no_healthy_upstream", ABSENT, "1"]),
        (Ending::no_route(), vec!["404", "1", "log", "404", "256", "route_not_found", ABSENT, "0"]),
        (Ending::no_cluster(), vec!["503", "1", "log", "503", "16777216", "cluster_not_found", ABSENT, "0"]),
        (Ending::direct_response(418), vec!["418", "1", "log", "418", "0", "direct_response", ABSENT, "0"]),
        (Ending::client_abort(), vec!["log", ABSENT, "16384", "downstream_remote_disconnect", HOST, "1"]),
    ] {
        let mut envoy = envoy(ENDING);
        let stream = envoy.stream().open();
        envoy.request_headers(stream, REQUEST).unwrap();
        envoy.end(stream, ending.clone()).unwrap();
        assert_eq!(said(&envoy), expected, "{ending:?}");
    }
}

#[test]
fn a_stream_the_filter_never_saw_is_created_and_logged_only() {
    for (ending, code, flags, details) in [
        (Ending::earlier_filter_replied(403, "rbac_access_denied"), "403", "0", "rbac_access_denied"),
        (Ending::codec_error(), "400", "262144", "http1.codec_error"),
    ] {
        let mut envoy = envoy(ENDING);
        let stream = envoy.stream().open();
        envoy.end(stream, ending).unwrap();
        assert_eq!(names(&envoy, stream), ["proxy_on_context_create", "proxy_on_log"]);
        assert_eq!(said(&envoy), ["log", code, flags, details, ABSENT, "0"]);
    }
}

#[test]
fn the_log_shows_headers_that_were_received_but_not_filtered() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_log") (param i32)
             (call $bytes (call $get_header (i32.const 0) @":path" (i32.const 0) (i32.const 4)))
             (call $bytes (call $get_header (i32.const 2) @":status" (i32.const 0) (i32.const 4))))"#,
    );
    let stream = envoy.stream().received([(":path", "/health")]).open();
    envoy.end(stream, Ending::earlier_filter_replied(401, "jwt_authn_access_denied")).unwrap();
    assert_eq!(said(&envoy), ["/health", "401"]);
}

#[test]
fn a_websocket_lives_until_its_connection_closes() {
    let mut envoy = envoy(ENDING);
    let mut stream = envoy.stream().begin();
    stream.request_headers([(":method", "GET"), ("upgrade", "websocket")]).unwrap();
    stream.response_headers([(":status", "101")]).unwrap();
    stream.envoy().advance(Duration::from_secs(3600)).unwrap();
    stream.end(Ending::websocket_closed()).unwrap();
    assert_eq!(said(&envoy), ["101", "1", "log", "101", "64", WEBSOCKET_CLOSED, "10.0.0.3:9090", "1"]);
}

/// What Envoy says of a WebSocket whose upstream closed it.
const WEBSOCKET_CLOSED: &str = "upstream_reset_after_response_started{connection_termination}";

#[test]
fn what_the_router_changes_shows_in_the_log() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_log") (param i32)
             (call $bytes (call $get_property @"request\00path" (i32.const 0) (i32.const 4))))"#,
    );
    let stream = envoy.stream().open();
    envoy.request_headers(stream, REQUEST).unwrap();
    envoy.change_request_headers(stream, |headers| headers.replace(":path", "/rewritten")).unwrap();
    envoy.end(stream, Ending::client_abort()).unwrap();
    assert_eq!(said(&envoy), ["/rewritten"]);
}

#[test]
fn streams_on_several_workers_are_open_at_the_same_time() {
    let module = guest(ALL_CALLBACKS);
    let mut envoy = Envoy::builder(&module).plugin(Plugin::new("p")).workers(2).start().unwrap();
    let streams: Vec<_> = (0..4).map(|index| envoy.stream().worker(index % 2).open()).collect();
    for stream in &streams {
        envoy.request_headers(*stream, REQUEST).unwrap();
    }
    assert_eq!([0, 1].map(|worker| envoy.contexts(Thread::Worker(worker))), [3, 3]);
    for stream in streams.iter().rev() {
        envoy.end(*stream, Ending::client_abort()).unwrap();
    }
    assert_eq!([0, 1].map(|worker| envoy.contexts(Thread::Worker(worker))), [1, 1]);
}

#[test]
fn the_journal_tells_fuel_memory_and_host_calls_per_callback() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (drop (call $get_property @"request\00id" (i32.const 0) (i32.const 4)))
             (drop (call $add_header (i32.const 0) @"x-a" @"1"))
             (drop (memory.grow (i32.const 2)))
             (i32.const 0))
           (func (export "proxy_on_log") (param i32))"#,
    );
    let exchange = envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
    let [request, log] = exchange.callbacks.as_slice() else { panic!("{:?}", exchange.callbacks) };
    let calls: Vec<_> = request.host_calls.iter().map(|c| (c.name, c.about.as_str(), c.status as u32)).collect();
    assert_eq!(calls, [("proxy_get_property", "request.id", 1), ("proxy_add_header_map_value", "x-a", 0)]);
    assert_eq!(request.count("proxy_get_property"), 1);
    assert_eq!(request.memory_bytes, 18 * 65536);
    assert_eq!(envoy.memory_bytes(Thread::Worker(0)), 18 * 65536);
    assert!(log.fuel < request.fuel, "{} < {}", log.fuel, request.fuel);
    assert_eq!(envoy.fuel_of(exchange.id), request.fuel + log.fuel);
    assert_eq!(envoy.host_calls_of(exchange.id), count_host_calls([request]));
    assert_eq!(envoy.host_calls_of(exchange.id).len(), 2);
}

#[test]
fn the_same_work_burns_the_same_fuel() {
    let fuel = || {
        let mut envoy = envoy(ALL_CALLBACKS);
        let exchange = envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
        envoy.fuel_of(exchange.id)
    };
    assert_eq!(fuel(), fuel());
}

#[test]
fn a_hundred_thousand_requests_leave_no_context_and_no_memory_behind() {
    let module = guest(ALL_CALLBACKS);
    let builder = Envoy::builder(&module).plugin(Plugin::new("p")).journal_max(10);
    let mut envoy = builder.start().unwrap();
    let before = envoy.memory_bytes(Thread::Worker(0));
    for _ in 0..100_000 {
        let stream = envoy.stream().open();
        envoy.request_headers(stream, [(":path", "/")]).unwrap();
        envoy.end(stream, Ending::client_abort()).unwrap();
        envoy.forget(stream);
    }
    assert_eq!(envoy.contexts(Thread::Worker(0)), 1);
    assert_eq!(envoy.memory_bytes(Thread::Worker(0)), before);
    assert!(callbacks(&envoy, Thread::Worker(0)).len() <= 10);
}

/// Adds `x-trace: filter`, and logs what the header was before.
const TRACER: &str = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (call $bytes (call $get_property @"request\00headers\00x-trace" (i32.const 0) (i32.const 4)))
      (drop (call $add_header (i32.const 0) @"x-trace" @"filter"))
      (i32.const 0))"#;

#[test]
fn the_tracer_of_the_proxy_overwrites_what_the_filter_wrote() {
    let mut envoy = envoy(TRACER);
    let builder = envoy.stream().native_tracer([("x-trace", "proxy"), ("x-span", "1")]);
    let exchange = builder.exchange(REQUEST, RESPONSE).unwrap();
    assert_eq!(exchange.upstream.all("x-trace"), [b"proxy"]);
    assert_eq!(exchange.upstream.all("x-span"), [b"1"]);
}

/// Tells in each callback of a stream what it knows of the response, and marks every request.
const IN_CLUSTER: &str = r#"
    (func $tell
      (call $bytes_as_number (call $get_property @"response\00code" (i32.const 0) (i32.const 4)))
      (call $bytes (call $get_property @"response\00code_details" (i32.const 0) (i32.const 4)))
      (call $bytes_as_number
        (call $get_property @"upstream\00request_attempt_count" (i32.const 0) (i32.const 4))))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (call $say @"request") (call $tell)
      (call $bytes (call $get_property @"upstream\00address" (i32.const 0) (i32.const 4)))
      (call $bytes (call $get_header (i32.const 0) @"x-trace" (i32.const 0) (i32.const 4)))
      (drop (call $replace_header (i32.const 0) @"x-trace" @"filter"))
      (drop (call $add_header (i32.const 0) @"x-mark" @"1"))
      (i32.const 0))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
      (call $say @"response") (call $tell) (i32.const 0))
    (func (export "proxy_on_log") (param i32) (call $say @"log"))
    (func (export "proxy_on_done") (param i32) (result i32) (call $say @"done") (call $tell) (i32.const 1))"#;

#[test]
fn a_filter_of_the_cluster_has_a_context_for_each_attempt_and_no_log() {
    let mut envoy = envoy(IN_CLUSTER);
    let first = envoy.stream().upstream_filter().open();
    envoy.request_headers(first, REQUEST).unwrap();
    envoy.response_headers(first, [(":status", "503")]).unwrap();
    let second = envoy.next_attempt(first).unwrap();
    let upstream = envoy.header_map(second, MapType::RequestHeaders).unwrap();
    assert_eq!(upstream.all("x-mark"), [b"1", b"1"], "an attempt has what the filter wrote into the one before");
    envoy.response_headers(second, [(":status", "200")]).unwrap();
    envoy.end(second, Ending::complete()).unwrap();
    let absent = "status 1";
    assert_eq!(
        said(&envoy),
        [
            &["request", absent, absent, "1", "10.0.0.3:9090", absent][..],
            &["response", absent, "via_upstream", "1"],
            &["done", absent, "via_upstream", "1"],
            &["request", absent, "via_upstream", "2", "10.0.0.3:9090", "filter"],
            &["response", absent, "via_upstream", "2"],
            // Only the response that the client got has a code, and only after it was sent.
            &["done", "200", "via_upstream", "2"],
        ]
        .concat()
    );
    assert_eq!(envoy.contexts(Thread::Worker(0)), 1, "only the root is left");
    assert_eq!(envoy.next_attempt(second).unwrap_err().kind(), FailureKind::Usage);
}

#[test]
fn an_attempt_without_an_answer_is_done_whatever_the_reason() {
    for ending in [Ending::upstream_timeout(), Ending::connect_failure(), Ending::client_abort()] {
        let mut envoy = envoy(IN_CLUSTER);
        let attempt = envoy.stream().upstream_filter().open();
        envoy.request_headers(attempt, REQUEST).unwrap();
        envoy.clear_journal();
        envoy.end(attempt, ending).unwrap();
        assert_eq!(said(&envoy), ["done", "status 1", "status 1", "1"]);
    }
}

#[test]
fn what_a_filter_of_the_cluster_writes_outlives_the_tracer_of_the_proxy() {
    let mut envoy = envoy(IN_CLUSTER);
    let builder = envoy.stream().native_tracer([("x-trace", "proxy")]).upstream_filter();
    let exchange = builder.exchange(REQUEST, RESPONSE).unwrap();
    assert_eq!(said(&envoy)[5], "proxy", "the filter sees what the tracer wrote");
    assert_eq!(exchange.upstream.all("x-trace"), [b"filter"]);
}

#[test]
fn a_stream_of_the_listener_has_no_next_attempt() {
    let mut envoy = envoy(IN_CLUSTER);
    let stream = envoy.stream().open();
    envoy.request_headers(stream, REQUEST).unwrap();
    assert_eq!(envoy.next_attempt(stream).unwrap_err().kind(), FailureKind::Usage);
    envoy.end(stream, Ending::client_abort()).unwrap();
    assert!(said(&envoy).contains(&"log".to_owned()));
}

#[test]
fn what_leaves_one_proxy_enters_the_next() {
    let [mut first, mut second] = [envoy(TRACER), envoy(TRACER)];
    let hop = first.stream().exchange(REQUEST, RESPONSE).unwrap();
    let next = second.stream().exchange(hop.upstream, RESPONSE).unwrap();
    assert_eq!(said(&second), ["filter"]);
    assert_eq!(next.upstream.all("x-trace"), [b"filter", b"filter"]);
    assert_ne!(said(&first), said(&second), "each proxy has a journal of its own");
}

#[test]
fn a_snapshot_is_the_story_of_a_stream_as_text() {
    let story = || {
        let mut envoy = envoy(TRACER);
        let exchange = envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
        envoy.snapshot(exchange.id)
    };
    let lines = story();
    assert_eq!(lines, story());
    let calls: Vec<&str> = lines.lines().map(str::trim).filter(|line| !line.starts_with("proxy_log")).collect();
    let [callback, property, header] = calls.as_slice() else { panic!("{lines}") };
    assert_eq!(*callback, "proxy_on_request_headers");
    assert!(property.starts_with("proxy_get_property request.headers.x-trace -> "), "{lines}");
    assert!(header.starts_with("proxy_add_header_map_value x-trace -> "), "{lines}");
}

#[test]
fn a_load_tells_what_one_request_costs_while_others_are_open() {
    let module = guest(TRACER);
    let mut envoy = Envoy::builder(&module).plugin(Plugin::new("p")).start().unwrap();
    let alone = Load { background: 0, requests: 1 }.run(&mut envoy, REQUEST, RESPONSE).unwrap();
    let crowded = Load { background: 20, requests: 3 }.run(&mut envoy, REQUEST, RESPONSE).unwrap();
    assert_eq!((alone.fuel, alone.host_calls), (crowded.fuel, crowded.host_calls));
    assert!(alone.fuel > 0 && alone.host_calls >= 2, "{alone:?}");
    assert_eq!(envoy.contexts(Thread::Worker(0)), 1, "the background is closed");
}

#[test]
fn the_length_of_the_headers_is_an_attribute_of_new_versions_only() {
    let module = guest(
        r#"(func (export "proxy_on_log") (param i32)
             (call $say_status (call $get_property @"request\00headers_bytes" (i32.const 0) (i32.const 4))))"#,
    );
    for (minor, status) in [(36, "status 1"), (40, "status 0")] {
        let builder = Envoy::builder(&module).profile(Profile::envoy_1(minor).unwrap());
        let mut envoy = builder.plugin(Plugin::new("p")).start().unwrap();
        envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
        assert_eq!(said(&envoy), [status], "1.{minor}");
    }
}

#[test]
fn attempts_are_known_from_the_response_on() {
    let attempts = "upstream.request_attempt_count";
    assert_eq!(
        seen(attempts, "bytes_as_number", |stream| stream.attempts(3)),
        ["0", "3", "2"],
        "the ending says how many there were at last"
    );
}
