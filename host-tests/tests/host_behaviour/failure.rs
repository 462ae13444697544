//! Traps, failure policies, injected faults, and what this library does not play.

use std::time::Duration;

use crate::support::{REQUEST, RESPONSE, envoy, guest, said};
use host_tests::{Ending, Envoy, FailureKind, FailurePolicy, Fault, Plugin, Profile, Status, StreamId, Thread};

/// Traps when the request has the header `boom`.
const TRAPPING: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (call $say @"request")
      (if (i32.eqz (call $get_header (i32.const 0) @"boom" (i32.const 0) (i32.const 4))) (then unreachable))
      (drop (call $add_header (i32.const 0) @"x-seen" @"1"))
      (i32.const 0))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $say @"response") (i32.const 0))
    (func (export "proxy_on_log") (param i32) (call $say @"log"))"#;

/// A proxy whose first stream made its worker trap.
fn after_a_trap(policy: FailurePolicy) -> (Envoy, StreamId) {
    let builder = Envoy::builder(&guest(TRAPPING)).plugin(Plugin::new("p").failure_policy(policy));
    let mut envoy = builder.workers(2).start().unwrap();
    let stream = envoy.stream().open();
    let failure = envoy.request_headers(stream, [("boom", "1")]).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Trap);
    assert!(failure.detail().contains("unreachable"), "{failure}");
    assert!(failure.to_string().contains("proxy_get_header_map_value boom -> Ok"), "{failure}");
    envoy.end(stream, Ending::complete()).unwrap();
    assert!(envoy.is_dead(Thread::Worker(0)));
    assert!(!envoy.is_dead(Thread::Worker(1)));
    (envoy, stream)
}

fn status(envoy: &Envoy, stream: StreamId) -> Option<u16> {
    envoy.local_reply(stream).map(|reply| reply.status)
}

/// What a later request on the same worker gets: the status of a reply, and whether the filter saw it.
fn later(envoy: &mut Envoy) -> (Option<u16>, bool) {
    let stream = envoy.stream().open();
    let upstream = envoy.request_headers(stream, REQUEST).unwrap();
    envoy.end(stream, Ending::complete()).unwrap();
    (status(envoy, stream), upstream.contains("x-seen"))
}

#[test]
fn each_policy_decides_for_the_stream_that_trapped_and_for_later_ones() {
    for (policy, trapped, after) in [
        (FailurePolicy::Closed, Some(503), (Some(503), false)),
        (FailurePolicy::Open, Some(503), (None, false)),
        (FailurePolicy::Reload, Some(503), (Some(503), false)),
        (FailurePolicy::LegacyFailOpen, None, (None, false)),
    ] {
        let (mut envoy, stream) = after_a_trap(policy);
        assert_eq!(status(&envoy, stream), trapped, "{policy:?}");
        assert_eq!(later(&mut envoy), after, "{policy:?}");
        assert_eq!(said(&envoy), ["request"], "{policy:?}: a dead VM is not called");
        let other = envoy.stream().worker(1).exchange(REQUEST, RESPONSE).unwrap();
        assert!(other.upstream.contains("x-seen"), "{policy:?}: the other worker lives");
    }
}

#[test]
fn the_reply_for_a_failed_filter_has_the_details_of_envoy() {
    let (envoy, stream) = after_a_trap(FailurePolicy::Closed);
    assert_eq!(envoy.local_reply(stream).unwrap().details, "wasm_fail_stream");
}

#[test]
fn a_reload_makes_a_new_vm_after_the_back_off() {
    let (mut envoy, _) = after_a_trap(FailurePolicy::Reload);
    envoy.advance(Duration::from_millis(999)).unwrap();
    assert_eq!(later(&mut envoy), (Some(503), false));
    envoy.advance(Duration::from_millis(1)).unwrap();
    assert_eq!(later(&mut envoy), (None, true));
    assert!(!envoy.is_dead(Thread::Worker(0)));
    assert_eq!(envoy.vm_count(Thread::Worker(0)), 1);
}

#[test]
fn the_back_off_of_a_reload_counts_from_when_the_vm_was_made() {
    let plugin = Plugin::new("p").failure_policy(FailurePolicy::Reload);
    let mut envoy = Envoy::builder(&guest(TRAPPING)).plugin(plugin).start().unwrap();
    envoy.advance(Duration::from_secs(1)).unwrap();
    let culprit = envoy.stream().open();
    envoy.request_headers(culprit, [("boom", "1")]).unwrap_err();
    assert_eq!(later(&mut envoy), (None, true), "a VM of that age is made anew at once");
}

#[test]
fn an_old_envoy_has_no_reload() {
    let plugin = Plugin::new("p").failure_policy(FailurePolicy::Reload);
    let builder = Envoy::builder(&guest("")).plugin(plugin).profile(Profile::envoy_1(32).unwrap());
    assert_eq!(builder.start().unwrap_err().kind(), FailureKind::Setup);
}

#[test]
fn streams_that_were_open_when_the_vm_died_fail_with_their_next_step() {
    let mut envoy = envoy(TRAPPING);
    let (bystander, culprit) = (envoy.stream().open(), envoy.stream().open());
    envoy.request_headers(bystander, REQUEST).unwrap();
    envoy.request_headers(culprit, [("boom", "1")]).unwrap_err();
    envoy.response_headers(bystander, RESPONSE).unwrap();
    assert_eq!(status(&envoy, bystander), Some(503));
    envoy.end(bystander, Ending::complete()).unwrap();
    assert_eq!(said(&envoy), ["request", "request"]);
}

#[test]
fn a_trap_in_a_tick_is_an_error_and_stops_the_ticks() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $set_tick (i32.const 10))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32) unreachable)"#,
    );
    let failures: Vec<_> = (0..3).map(|_| envoy.advance(Duration::from_millis(10))).collect();
    let kinds: Vec<_> = failures.iter().map(|f| f.as_ref().err().map(host_tests::Failure::kind)).collect();
    assert_eq!(kinds, [Some(FailureKind::Trap), Some(FailureKind::Trap), None], "main thread, worker, silence");
}

#[test]
fn a_loop_without_end_runs_out_of_fuel() {
    let module = guest(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (loop $l (br $l)) (i32.const 0))"#,
    );
    let mut envoy = Envoy::builder(&module).plugin(Plugin::new("p")).fuel_max(100_000).start().unwrap();
    let failure = envoy.stream().exchange(REQUEST, RESPONSE).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Trap);
    assert!(failure.detail().contains("fuel"), "{failure}");
}

#[test]
fn proc_exit_is_a_trap() {
    let module = host_tests::Module::from_bytes(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
             (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
             (func (export "malloc") (param i32) (result i32) (i32.const 64))
             (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $exit (i32.const 3)) (i32.const 1)))"#,
    )
    .unwrap();
    let failure = Envoy::builder(&module).plugin(Plugin::new("p")).start().unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Trap);
    assert!(failure.detail().contains("proc_exit(3)"), "{failure}");
}

#[test]
fn a_pointer_outside_the_memory_is_an_answer_and_not_a_trap() {
    let envoy = envoy(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $say_status (call $log (i32.const 2) (i32.const -1) (i32.const 2)))
             (call $say_status (call $get_property (i32.const -8) (i32.const 99) (i32.const 0) (i32.const 4)))
             (call $say_status (call $now (i32.const -4)))
             (call $say_status (call $random (i32.const -4) (i32.const 8)))
             (i32.const 1))"#,
    );
    assert_eq!(said(&envoy), ["status 6", "status 6", "status 6", "status 21"]);
}

#[test]
fn a_fault_answers_instead_of_the_host() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $say_status (call $add_header (i32.const 0) @"a" @"1"))
             (call $say_status (call $add_header (i32.const 0) @"b" @"1"))
             (i32.const 0))"#,
    );
    for (fault, expected) in [
        (Fault::on("proxy_add_header_map_value", Status::InternalFailure), ["status 10", "status 10"]),
        (Fault::on("proxy_add_header_map_value", Status::BadArgument).nth(2), ["status 0", "status 2"]),
        (Fault::on("proxy_add_header_map_value", Status::NotFound).times(1), ["status 1", "status 0"]),
        (Fault::on("proxy_add_header_map_value", Status::NotFound).about("b"), ["status 0", "status 1"]),
        (Fault::on("proxy_get_property", Status::NotFound), ["status 0", "status 0"]),
    ] {
        envoy.clear_journal();
        envoy.clear_faults();
        envoy.inject(fault.clone());
        let upstream = envoy.stream().exchange(REQUEST, RESPONSE).unwrap().upstream;
        assert_eq!(said(&envoy), expected, "{fault:?}");
        let done = ["a", "b"].map(|name| upstream.contains(name));
        assert_eq!(done, expected.map(|status| status == "status 0"), "{fault:?}: the call is not made");
    }
}

#[test]
fn a_fault_can_meet_the_start() {
    let module = guest(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (i32.eqz (call $get_buffer (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4))))"#,
    );
    let builder = Envoy::builder(&module).plugin(Plugin::new("p"));
    let builder = builder.inject(Fault::on("proxy_get_buffer_bytes", Status::InternalFailure));
    assert_eq!(builder.start().unwrap_err().kind(), FailureKind::Configuration);
}

#[test]
fn a_foreign_function_is_the_tests_own_or_unknown_or_not_played() {
    let body = |name: &str| {
        format!(
            r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
                 (local $status i32)
                 (local.set $status (call $foreign @"{name}" @"abc" (i32.const 8) (i32.const 12)))
                 (i64.store (i32.const 0) (i64.load (i32.const 8)))
                 (call $bytes (local.get $status)) (i32.const 1))"#
        )
    };
    let module = guest(&body("reverse"));
    let builder = Envoy::builder(&module).plugin(Plugin::new("p"));
    let reversed = |argument: &[u8]| Ok(argument.iter().rev().copied().collect());
    assert_eq!(said(&builder.foreign_function("reverse", reversed).start().unwrap()), ["cba"]);
    assert_eq!(said(&envoy(&body("reverse"))), ["status 1"]);
    assert_eq!(said(&envoy(&body("clear_route_cache"))), [""]);
    let failure = Envoy::builder(&guest(&body("compress"))).plugin(Plugin::new("p")).start().unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Unsupported);
    assert!(failure.detail().contains("compress"), "{failure}");
}

#[test]
fn hostile_headers_are_passed_on_unharmed() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_request_headers") (param i32) (param $count i32) (param i32) (result i32)
             (call $say_number (i64.extend_i32_u (local.get $count)))
             (call $say_status (call $get_pairs (i32.const 0) (i32.const 0) (i32.const 4)))
             (i32.const 0))"#,
    );
    let mut request = host_tests::HeaderMap::from(REQUEST);
    for number in 0..1000 {
        request.add(format!("x-{number}"), [0x80, 0xff, b'\n']);
    }
    request.add("tracestate", vec![b'a'; 60 * 1024]);
    let exchange = envoy.stream().exchange(&request, RESPONSE).unwrap();
    assert_eq!(exchange.upstream, request);
    assert_eq!(said(&envoy), ["1005", "status 0"]);
}
