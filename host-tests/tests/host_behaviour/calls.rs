//! The virtual clock, HTTP calls and gRPC.

use std::time::Duration;

use crate::support::{REQUEST, RESPONSE, envoy, guest, said, said_on};
use host_tests::{Answer, CallState, Ending, Envoy, FailureKind, GrpcState, HeaderMap, Plugin, Thread};

const MS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn ticks_fire_each_period_on_every_thread_with_the_time_they_are_due() {
    let module = guest(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $set_tick (i32.const 100))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32) (call $long (call $now (i32.const 0))))"#,
    );
    let builder = Envoy::builder(&module).plugin(Plugin::new("p")).workers(2).clock_ns(1_000_000_000);
    let mut envoy = builder.start().unwrap();
    envoy.advance(MS(99)).unwrap();
    assert_eq!(said(&envoy), Vec::<String>::new());
    envoy.advance(MS(201)).unwrap();
    for thread in [Thread::Main, Thread::Worker(0), Thread::Worker(1)] {
        assert_eq!(said_on(&envoy, thread), ["1100000000", "1200000000", "1300000000"], "{thread}");
    }
    assert_eq!(said_on(&envoy, Thread::Canary), Vec::<String>::new());
    assert_eq!(envoy.now_ns(), 1_300_000_000);
}

#[test]
fn a_period_set_in_a_tick_counts_from_then_and_zero_stops() {
    let mut envoy = envoy(
        r#"(global $ticks (mut i32) (i32.const 0))
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $set_tick (i32.const 100))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32)
             (global.set $ticks (i32.add (global.get $ticks) (i32.const 1)))
             (call $long (call $clock (i32.const 1) (i64.const 0) (i32.const 0)))
             (if (i32.eq (global.get $ticks) (i32.const 1)) (then (drop (call $set_tick (i32.const 10)))))
             (if (i32.eq (global.get $ticks) (i32.const 3)) (then (drop (call $set_tick (i32.const 0))))))"#,
    );
    envoy.advance(MS(1000)).unwrap();
    assert_eq!(said(&envoy), ["100000000", "110000000", "120000000"]);
}

#[test]
fn the_wall_clock_can_jump_without_firing_timers() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $set_tick (i32.const 100))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32) (call $long (call $now (i32.const 0))))"#,
    );
    envoy.set_wall_clock_ns(5_000_000_000);
    assert_eq!(said(&envoy), Vec::<String>::new());
    envoy.advance(MS(100)).unwrap();
    assert_eq!(said(&envoy), ["5100000000"]);
}

/// Pairs of a complete request: `:path`, `:method` and `:authority`.
const PAIRS: &str = r"\03\00\00\00\05\00\00\00\02\00\00\00\07\00\00\00\04\00\00\00\0a\00\00\00\01\00\00\00:path\00/p\00:method\00POST\00:authority\00h\00";

/// A guest that makes calls with `$send`, and logs every answer: token, counts, status, body.
fn calling(body: &str) -> String {
    format!(
        r#"(func $send (param $cluster i32) (param $len i32) (param $timeout i32)
             (call $number (call $http_call (local.get $cluster) (local.get $len) @"{PAIRS}" @"body"
               (i32.const 0) (i32.const 0) (local.get $timeout) (i32.const 0))))
           (func (export "proxy_on_http_call_response")
             (param $id i32) (param $token i32) (param $headers i32) (param $body i32) (param $trailers i32)
             (call $say @"answer")
             (call $say_number (i64.extend_i32_u (local.get $id)))
             (call $say_number (i64.extend_i32_u (local.get $token)))
             (call $say_number (i64.extend_i32_u (local.get $headers)))
             (call $say_number (i64.extend_i32_u (local.get $trailers)))
             (call $bytes (call $get_header (i32.const 6) @":status" (i32.const 0) (i32.const 4)))
             (call $bytes (call $get_buffer (i32.const 4) (i32.const 0) (local.get $body) (i32.const 0) (i32.const 4)))
             (call $bytes (call $get_header (i32.const 7) @"t" (i32.const 0) (i32.const 4))))
           {body}"#
    )
}

/// Makes a call with every tick of 100 ms, with a timeout of 250 ms.
fn ticking() -> Envoy {
    let mut envoy = envoy(&calling(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $set_tick (i32.const 100))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32) (call $send @"up" (i32.const 250)))"#,
    ));
    envoy.advance(MS(100)).unwrap();
    envoy
}

fn first_call_of_worker(envoy: &Envoy) -> host_tests::HttpCall {
    envoy.http_calls().into_iter().find(|call| call.thread == Thread::Worker(0)).unwrap()
}

#[test]
fn a_call_is_recorded_and_its_answer_is_readable_while_it_is_delivered() {
    let mut envoy = ticking();
    let call = first_call_of_worker(&envoy);
    let headers = [(":path", "/p"), (":method", "POST"), (":authority", "h"), ("content-length", "4")];
    assert_eq!(call.headers, HeaderMap::from(headers));
    assert_eq!((call.cluster.as_str(), call.body.as_slice()), ("up", b"body".as_slice()));
    assert_eq!((call.timeout, call.sent_at_ns), (Some(MS(250)), 1_750_000_000_223_000_000));
    let answer = Answer::status(202).header("x", "1").body("accepted").trailer("t", "2");
    assert!(envoy.answer(call.id, answer).unwrap());
    assert_eq!(said(&envoy), ["4", "answer", "1", "4", "2", "1", "202", "accepted", "2"]);
    assert_eq!(first_call_of_worker(&envoy).state, CallState::Answered);
    assert_eq!(envoy.answer(call.id, Answer::status(200)).unwrap_err().kind(), FailureKind::Usage);
}

#[test]
fn a_call_without_an_answer_times_out_as_a_504() {
    let mut envoy = ticking();
    envoy.clear_journal();
    envoy.advance(MS(249)).unwrap();
    assert_eq!(said(&envoy), ["8", "12"], "the ticks at 200 and 300 ms made calls");
    envoy.advance(MS(1)).unwrap();
    let answer = ["answer", "1", "4", "3", "0", "504", "upstream request timeout", "status 2"];
    assert_eq!(said(&envoy)[2..], answer);
    assert_eq!(first_call_of_worker(&envoy).state, CallState::TimedOut);
}

#[test]
fn a_reset_is_a_503_of_the_proxy_and_a_broken_exchange_has_no_headers() {
    let mut envoy = ticking();
    envoy.advance(MS(100)).unwrap();
    let calls = envoy.pending_calls().into_iter().filter(|call| call.thread == Thread::Worker(0));
    let calls: Vec<_> = calls.map(|call| call.id).collect();
    envoy.clear_journal();
    envoy.answer(calls[0], Answer::reset()).unwrap();
    let text = "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
    assert_eq!(said(&envoy), ["answer", "1", "4", "3", "0", "503", text, "status 2"]);
    envoy.clear_journal();
    envoy.answer(calls[1], Answer::broken()).unwrap();
    assert_eq!(said(&envoy), ["answer", "1", "8", "0", "0", "status 2", "status 1", "status 2"]);
}

#[test]
fn answers_may_come_out_of_order() {
    let mut envoy = ticking();
    envoy.advance(MS(100)).unwrap();
    envoy.clear_journal();
    for call in envoy.pending_calls().iter().rev() {
        envoy.answer(call.id, Answer::status(200)).unwrap();
    }
    let tokens: Vec<_> = said(&envoy).chunks(8).map(|answer| answer[2].clone()).collect();
    assert_eq!(tokens, ["8", "4"]);
}

#[test]
fn a_cluster_can_answer_by_itself_after_a_while() {
    let module = guest(&calling(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $send @"auto" (i32.const 0)) (i32.const 0))"#,
    ));
    let builder = Envoy::builder(&module).plugin(Plugin::new("p"));
    let mut envoy = builder.answering_cluster("auto", Answer::status(204), MS(7)).start().unwrap();
    envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
    assert_eq!(said(&envoy), ["4"]);
    envoy.advance(MS(6)).unwrap();
    assert_eq!(said(&envoy), ["4"]);
    envoy.advance(MS(1)).unwrap();
    assert_eq!(said(&envoy)[1..7], ["answer", "1", "4", "1", "0", "204"]);
}

#[test]
fn a_wrong_call_is_refused_at_once() {
    let envoy = envoy(&calling(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $send @"nowhere" (i32.const 0))
             (call $send @"up" (i32.const -1))
             (call $say_status (call $http_call @"up" @"\00\00\00\00" (i32.const 0) (i32.const 0)
               (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
             (call $send @"up" (i32.const 0)) (i32.const 1))"#,
    ));
    assert_eq!(said(&envoy), ["status 2", "status 2", "status 2", "4"], "refused calls take no token");
}

#[test]
fn a_call_to_a_cluster_without_hosts_fails_at_once() {
    let module = guest(&calling(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $say_status (call $http_call @"empty" @"PAIRS" (i32.const 0) (i32.const 0)
               (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))) (i32.const 1))"#
            .replace("PAIRS", PAIRS)
            .as_str(),
    ));
    let envoy = Envoy::builder(&module).plugin(Plugin::new("p")).empty_cluster("empty").start().unwrap();
    assert_eq!(said(&envoy), ["status 10"]);
    assert_eq!(envoy.http_calls(), []);
}

#[test]
fn calls_of_the_canary_are_sent_and_never_answered() {
    let mut envoy = envoy(&calling(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $send @"up" (i32.const 100)) (i32.const 1))"#,
    ));
    let canary = envoy.http_calls().into_iter().find(|call| call.thread == Thread::Canary).unwrap();
    assert_eq!(canary.state, CallState::Cancelled);
    assert!(!envoy.answer(canary.id, Answer::status(200)).unwrap());
    envoy.advance(MS(100)).unwrap();
    assert_eq!(said_on(&envoy, Thread::Canary), ["4"]);
}

#[test]
fn the_root_context_gets_the_answers_of_its_streams_also_when_they_are_over() {
    let mut envoy = envoy(&calling(r#"(func (export "proxy_on_log") (param i32) (call $send @"up" (i32.const 0)))"#));
    envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
    let call = first_call_of_worker(&envoy);
    assert_eq!(call.context, 2, "the stream made it");
    assert!(envoy.answer(call.id, Answer::status(200)).unwrap());
    assert_eq!(said(&envoy)[1..3], ["answer", "1"], "the root has the number 1");
}

#[test]
fn an_answer_to_a_root_that_is_gone_is_not_delivered() {
    let module = guest(&calling(r#"(func (export "proxy_on_log") (param i32) (call $send @"up" (i32.const 0)))"#));
    let mut envoy = Envoy::builder(&module).plugin(Plugin::new("p")).cluster("up").start().unwrap();
    envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
    envoy.update_plugin(Plugin::new("p").configuration("new")).unwrap();
    let call = first_call_of_worker(&envoy);
    assert_eq!(call.state, CallState::Cancelled);
    assert!(!envoy.answer(call.id, Answer::status(200)).unwrap());
    assert_eq!(said(&envoy), ["4"]);
}

#[test]
fn ticks_timeouts_and_answers_happen_in_the_order_of_their_moments() {
    let module = guest(&calling(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $set_tick (i32.const 30)))
             (call $send @"auto" (i32.const 20)) (call $send @"up" (i32.const 30)) (i32.const 1))
           (func (export "proxy_on_tick") (param i32) (call $say @"tick"))"#,
    ));
    let builder = Envoy::builder(&module).plugin(Plugin::new("p")).cluster("up");
    let mut envoy = builder.answering_cluster("auto", Answer::status(200), MS(10)).start().unwrap();
    envoy.advance(MS(30)).unwrap();
    let told = said(&envoy);
    let order: Vec<_> = told.iter().filter(|line| ["tick", "200", "504"].contains(&line.as_str())).collect();
    assert_eq!(order, ["200", "tick", "504"], "the tick was armed before the call");
}

/// Opens a gRPC call and a stream at the start, and logs what comes back.
const GRPC: &str = r#"
    (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
      (call $number (call $grpc_call @"up" @"pkg.Service" @"Call" @"\00\00\00\00" @"message" (i32.const 1000) (i32.const 0)))
      (call $number (call $grpc_stream @"\0a\04\0a\02up" @"pkg.Service" @"Stream" @"\00\00\00\00" (i32.const 0)))
      (call $say_status (call $grpc_send (i32.load (i32.const 0)) @"one" (i32.const 0)))
      (call $say_status (call $grpc_send (i32.load (i32.const 0)) @"two" (i32.const 1)))
      (call $say_status (call $grpc_send (i32.const 5) @"to a call" (i32.const 0)))
      (call $say_status (call $grpc_cancel (i32.const 400)))
      (i32.const 1))
    (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32)
      (call $bytes (call $get_header (i32.const 4) @"m" (i32.const 0) (i32.const 4))))
    (func (export "proxy_on_grpc_receive_trailing_metadata") (param i32 i32 i32)
      (call $bytes (call $get_header (i32.const 5) @"m" (i32.const 0) (i32.const 4))))
    (func (export "proxy_on_grpc_receive") (param i32 i32) (param $len i32)
      (call $bytes (call $get_buffer (i32.const 5) (i32.const 0) (local.get $len) (i32.const 0) (i32.const 4))))
    (func (export "proxy_on_grpc_close") (param i32) (param $token i32) (param $status i32)
      (call $say_number (i64.extend_i32_u (local.get $token)))
      (call $say_number (i64.extend_i32_u (local.get $status)))
      (call $bytes (call $get_status (i32.const 8) (i32.const 0) (i32.const 4)))
      (call $say_number (i64.load32_u (i32.const 8))))"#;

fn grpc() -> (Envoy, [host_tests::GrpcCall; 2]) {
    let mut envoy = envoy(GRPC);
    let calls = envoy.grpc_calls().into_iter().filter(|call| call.thread == Thread::Worker(0));
    let calls: Vec<_> = calls.collect();
    assert_eq!(said(&envoy), ["5", "6", "status 0", "status 0", "status 2", "status 1"]);
    envoy.clear_journal();
    (envoy, calls.try_into().unwrap())
}

#[test]
fn grpc_calls_and_streams_are_recorded() {
    let (_, [call, stream]) = grpc();
    assert_eq!((call.cluster.as_str(), call.service.as_str(), call.method.as_str()), ("up", "pkg.Service", "Call"));
    assert_eq!((call.messages, call.timeout), (vec![b"message".to_vec()], Some(MS(1000))));
    assert_eq!((stream.cluster.as_str(), stream.method.as_str(), stream.streaming), ("up", "Stream", true));
    assert_eq!(stream.messages, [b"one", b"two"]);
    assert_eq!(stream.state, GrpcState::HalfClosed);
}

#[test]
fn a_grpc_call_ends_with_its_message_or_its_status_or_its_timeout() {
    let (mut envoy, [call, _]) = grpc();
    assert!(envoy.grpc_message(call.id, "answer").unwrap());
    assert_eq!(said(&envoy), ["answer"]);
    assert_eq!(envoy.grpc_message(call.id, "again").unwrap_err().kind(), FailureKind::Usage);
    let (mut envoy, [call, _]) = grpc();
    assert!(envoy.grpc_close(call.id, 7, "no access").unwrap());
    assert_eq!(said(&envoy), ["5", "7", "no access", "7"]);
    let (mut envoy, _) = grpc();
    envoy.advance(MS(1000)).unwrap();
    assert_eq!(said(&envoy), ["5", "4", "stream timeout", "4"]);
}

#[test]
fn a_grpc_stream_gives_metadata_messages_and_its_status() {
    let (mut envoy, [_, stream]) = grpc();
    assert!(envoy.grpc_initial_metadata(stream.id, [("m", "first")]).unwrap());
    assert!(envoy.grpc_message(stream.id, "a").unwrap());
    assert!(envoy.grpc_message(stream.id, "b").unwrap());
    assert!(envoy.grpc_trailing_metadata(stream.id, [("m", "last")]).unwrap());
    assert!(envoy.grpc_close(stream.id, 0, "").unwrap());
    assert_eq!(said(&envoy), ["first", "a", "b", "last", "6", "0", "", "0"]);
}

#[test]
fn grpc_to_an_unknown_cluster_is_refused() {
    let envoy = envoy(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $say_status (call $grpc_call @"nope" @"s" @"m" @"\00\00\00\00" @"x" (i32.const 0) (i32.const 0)))
             (call $say_status
               (call $grpc_call @"\0a\06\0a\04nope" @"s" @"m" @"\00\00\00\00" @"x" (i32.const 0) (i32.const 0)))
             (i32.const 1))
           (func (export "proxy_on_grpc_close") (param i32 i32) (param $status i32)
             (call $say_number (i64.extend_i32_u (local.get $status)))
             (call $bytes (call $get_status (i32.const 8) (i32.const 0) (i32.const 4))))"#,
    );
    assert_eq!(said(&envoy), ["status 4", "status 10", "14", "Cluster not available"]);
}

#[test]
fn a_stream_can_wait_for_an_answer() {
    let mut envoy = envoy(
        r#"(global $waiting (mut i32) (i32.const 0))
           (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
             (global.set $waiting (local.get $id))
             (drop (call $http_call @"up"
               @"\03\00\00\00\05\00\00\00\01\00\00\00\07\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:path\00/\00:method\00G\00:authority\00h\00"
               (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
             (i32.const 1))
           (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
             (drop (call $effective (global.get $waiting)))
             (drop (call $replace_header (i32.const 0) @"x-user" @"u1"))
             (drop (call $continue_stream (i32.const 0))))"#,
    );
    let stream = envoy.stream().open();
    envoy.request_headers(stream, REQUEST).unwrap();
    assert_eq!(envoy.request_body(stream, "body", true).unwrap(), b"", "it waits as well");
    assert_eq!(envoy.answer_all(&Answer::status(200)).unwrap(), 1);
    let upstream = envoy.header_map(stream, host_tests::MapType::RequestHeaders).unwrap();
    assert_eq!(upstream.text("x-user").as_deref(), Some("u1"));
    assert_eq!(envoy.upstream_body(stream).unwrap(), b"body");
    envoy.end(stream, Ending::client_abort()).unwrap();
}
