//! Threads, VMs, root contexts and what they share.

use std::time::Duration;

use crate::support::{REQUEST, RESPONSE, callbacks, envoy, guest, said, said_on};
use host_tests::{Direction, Ending, Envoy, FailureKind, Module, Node, Plugin, Profile, Status, Thread};

/// Logs its configurations.
const CONFIGURED: &str = r#"
    (func (export "proxy_on_vm_start") (param i32) (param $len i32) (result i32)
      (call $bytes (call $get_buffer (i32.const 6) (i32.const 0) (local.get $len) (i32.const 0) (i32.const 4)))
      (call $say_status (call $get_buffer (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4)))
      (i32.const 1))
    (func (export "proxy_on_configure") (param i32) (param $len i32) (result i32)
      (call $bytes (call $get_buffer (i32.const 7) (i32.const 0) (local.get $len) (i32.const 0) (i32.const 4)))
      (i32.const 1))"#;

#[test]
fn canary_main_thread_and_every_worker_are_started_and_configured_once() {
    let plugin = Plugin::new("p").configuration("plugin text").vm_configuration("vm text");
    let envoy = Envoy::builder(&guest(CONFIGURED)).plugin(plugin).workers(3).start().unwrap();
    for thread in [Thread::Canary, Thread::Main, Thread::Worker(0), Thread::Worker(1), Thread::Worker(2)] {
        assert_eq!(said_on(&envoy, thread), ["vm text", "status 1", "plugin text"], "{thread}");
        assert_eq!(callbacks(&envoy, thread), ["proxy_on_vm_start", "proxy_on_configure"], "{thread}");
    }
    assert_eq!(envoy.vm_count(Thread::Canary), 0);
}

#[test]
fn a_refused_configuration_stops_the_start_and_shows_the_log() {
    for refusing in ["proxy_on_vm_start", "proxy_on_configure"] {
        let module = guest(&format!(
            r#"(func (export "{refusing}") (param i32 i32) (result i32)
                 (call $say @"no such key: colour") (i32.const 0))"#
        ));
        let failure = Envoy::builder(&module).plugin(Plugin::new("p")).start().unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Configuration, "{refusing}");
        assert!(failure.detail().contains(refusing), "{failure}");
        assert!(failure.to_string().contains("no such key: colour"), "{failure}");
    }
}

#[test]
fn a_module_is_refused_for_what_it_imports_and_does_not_export() {
    let no_abi = Module::from_bytes(r#"(module (memory (export "memory") 1))"#).unwrap();
    let unknown = Module::from_bytes(r#"(module (import "env" "proxy_brew_tea" (func)))"#).unwrap();
    for (module, kind, name) in
        [(no_abi, FailureKind::Export, "proxy_abi_version"), (unknown, FailureKind::Import, "env.proxy_brew_tea")]
    {
        let failure = Envoy::builder(&module).plugin(Plugin::new("p")).start().unwrap_err();
        assert_eq!(failure.kind(), kind);
        assert!(failure.detail().contains(name), "{failure}");
    }
}

#[test]
fn an_old_envoy_refuses_an_import_a_new_one_has() {
    let module = Module::from_bytes(
        r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
             (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
             (func (export "malloc") (param i32) (result i32) (i32.const 64)))"#,
    )
    .unwrap();
    for (minor, loads) in [(31, false), (32, true)] {
        let builder = Envoy::builder(&module).plugin(Plugin::new("p"));
        let started = builder.profile(Profile::envoy_1(minor).unwrap()).start();
        assert_eq!(started.is_ok(), loads, "1.{minor}");
    }
}

#[test]
fn only_logging_environment_clock_and_random_are_allowed_while_the_module_initializes() {
    let allowed = r#"(func (export "_initialize")
        (call $say @"starting")
        (drop (call $random (i32.const 0) (i32.const 8)))
        (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 0)))
        (drop (call $environ_sizes (i32.const 0) (i32.const 4))))"#;
    assert_eq!(said(&envoy(allowed)), ["starting"]);
    let module = guest(r#"(func (export "_initialize") (drop (call $now (i32.const 0))))"#);
    let failure = Envoy::builder(&module).plugin(Plugin::new("p")).start().unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Trap);
    assert!(failure.detail().contains("proxy_get_current_time_nanoseconds"), "{failure}");
}

#[test]
fn start_is_called_only_without_initialize() {
    let both = r#"(func (export "_start") (call $say @"start")) (func (export "_initialize") (call $say @"init"))"#;
    assert_eq!(said(&envoy(both)), ["init"]);
    assert_eq!(said(&envoy(r#"(func (export "_start") (call $say @"start"))"#)), ["start"]);
}

/// Counts in shared data how often it is configured, and logs what was there before.
const SHARING: &str = r#"
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (call $bytes (call $get_shared @"key" (i32.const 0) (i32.const 4) (i32.const 8)))
      (call $say_status (call $set_shared @"key" @"value" (i32.const 0)))
      (i32.const 1))"#;

#[test]
fn shared_data_is_seen_by_all_vms_with_the_same_id_and_no_other() {
    let module = guest(SHARING);
    let builder = Envoy::builder(&module).plugin(Plugin::new("a").vm_id("one"));
    let envoy = builder.plugin(Plugin::new("b").vm_id("two")).start().unwrap();
    assert_eq!(said_on(&envoy, Thread::Canary), ["status 1", "status 0", "status 1", "status 0"]);
    assert_eq!(said(&envoy), ["value", "status 0", "value", "status 0"]);
    assert_eq!(envoy.shared_data("one", "key").as_deref(), Some(b"value".as_slice()));
    assert_eq!(envoy.shared_data("three", "key"), None);
}

#[test]
fn a_stale_compare_and_swap_token_is_refused() {
    let envoy = envoy(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $set_shared @"k" @"1" (i32.const 0)))
             (drop (call $get_shared @"k" (i32.const 0) (i32.const 4) (i32.const 8)))
             (call $say_status (call $set_shared @"k" @"2" (i32.load (i32.const 8))))
             (call $say_status (call $set_shared @"k" @"3" (i32.load (i32.const 8))))
             (call $bytes (call $get_shared @"k" (i32.const 0) (i32.const 4) (i32.const 8)))
             (i32.const 1))"#,
    );
    assert_eq!(said(&envoy), ["status 0", "status 8", "2"]);
}

#[test]
fn a_queue_is_announced_on_the_thread_that_registered_it_last() {
    let module = guest(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $register_queue @"q" (i32.const 0))) (i32.const 1))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $say_status (call $resolve_queue @"" @"other" (i32.const 0)))
             (call $say_status (call $resolve_queue @"" @"q" (i32.const 0)))
             (call $say_status (call $enqueue (i32.load (i32.const 0)) @"item")) (i32.const 0))
           (func (export "proxy_on_queue_ready") (param i32) (param $token i32)
             (call $bytes (call $dequeue (local.get $token) (i32.const 0) (i32.const 4)))
             (call $bytes (call $dequeue (local.get $token) (i32.const 0) (i32.const 4))))"#,
    );
    let mut envoy = Envoy::builder(&module).plugin(Plugin::new("p")).workers(2).start().unwrap();
    envoy.stream().worker(0).exchange(REQUEST, RESPONSE).unwrap();
    assert_eq!(said_on(&envoy, Thread::Worker(0)), ["status 1", "status 0", "status 0"]);
    assert_eq!(said_on(&envoy, Thread::Worker(1)), ["item", "status 7"], "Empty is 7");
}

/// Counts in a global of the module, which only plugins of the same VM share.
const COUNTING: &str = r#"
    (global $count (mut i64) (i64.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (global.set $count (i64.add (global.get $count) (i64.const 1)))
      (call $say_number (global.get $count)) (i32.const 1))"#;

#[test]
fn plugins_with_the_same_code_and_vm_settings_share_a_vm() {
    let module = guest(COUNTING);
    let start = |second: Plugin| Envoy::builder(&module).plugin(Plugin::new("a")).plugin(second).start().unwrap();
    for (second, shared) in [
        (Plugin::new("b"), true),
        (Plugin::new("b").vm_id("own"), false),
        (Plugin::new("b").vm_configuration("own"), false),
    ] {
        let envoy = start(second.clone());
        assert_eq!(said(&envoy), ["1", if shared { "2" } else { "1" }], "{second:?}");
        assert_eq!(envoy.vm_count(Thread::Worker(0)), if shared { 1 } else { 2 });
    }
}

#[test]
fn plugins_with_the_same_settings_share_the_root_context() {
    let module = guest(COUNTING);
    let builder = Envoy::builder(&module).plugin(Plugin::new("a")).plugin(Plugin::new("a"));
    assert_eq!(said(&builder.start().unwrap()), ["1"]);
}

#[test]
fn another_environment_is_another_vm_since_1_40_and_the_first_ones_before() {
    let module = guest(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $environ_sizes (i32.const 0) (i32.const 4)))
             (drop (call $environ (i32.const 16) (i32.const 1024)))
             (call $say (i32.load (i32.const 16)) (i32.load (i32.const 4))) (i32.const 1))"#,
    );
    for (minor, second) in [(36, "K=1\0"), (40, "K=2\0")] {
        let builder = Envoy::builder(&module).profile(Profile::envoy_1(minor).unwrap());
        let builder = builder.plugin(Plugin::new("a").env("K", "1")).plugin(Plugin::new("b").env("K", "2"));
        assert_eq!(said(&builder.start().unwrap()), ["K=1\0", second], "1.{minor}");
    }
}

#[test]
fn a_request_passes_the_plugins_of_its_listener_in_order_and_the_response_in_reverse() {
    let module = guest(
        r#"(func $tell (call $bytes (call $get_property @"plugin_name" (i32.const 0) (i32.const 4))))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $tell) (i32.const 0))
           (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $tell) (i32.const 0))
           (func (export "proxy_on_log") (param i32)
             (call $tell)
             (call $bytes_as_number
               (call $get_property @"xds\00listener_direction" (i32.const 0) (i32.const 4))))"#,
    );
    let mut envoy = Envoy::builder(&module)
        .plugin(Plugin::new("a").listener("in", Direction::Inbound))
        .plugin(Plugin::new("b").listener("in", Direction::Inbound))
        .plugin(Plugin::new("c").listener("out", Direction::Outbound))
        .start()
        .unwrap();
    envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
    assert_eq!(said(&envoy), ["a", "b", "b", "a", "a", "1", "b", "1"]);
    envoy.clear_journal();
    envoy.stream().listener("out").exchange(REQUEST, RESPONSE).unwrap();
    assert_eq!(said(&envoy), ["c", "c", "c", "2"]);
}

#[test]
fn random_bytes_differ_between_vms_repeat_with_the_seed_and_can_be_given() {
    let module = guest(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $random (i32.const 0) (i32.const 8))) (call $long (i32.const 0)) (i32.const 1))"#,
    );
    let start = |seed| {
        let builder = Envoy::builder(&module).plugin(Plugin::new("p")).workers(2).seed(seed);
        let envoy = builder.random(Thread::Main, [1, 0, 0, 0, 0, 0, 0, 0]).start().unwrap();
        [Thread::Main, Thread::Worker(0), Thread::Worker(1)].map(|thread| said_on(&envoy, thread))
    };
    let [main, first, second] = start(7);
    assert_eq!(main, ["1"]);
    assert_ne!(first, second);
    assert_eq!(start(7)[1..], [first.clone(), second]);
    assert_ne!(start(8)[1], first);
}

#[test]
fn a_module_gets_no_more_than_64_kib_of_random_bytes_and_only_two_clocks() {
    let envoy = envoy(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $say_status (call $random (i32.const 65536) (i32.const 65536)))
             (call $say_status (call $random (i32.const 65536) (i32.const 65537)))
             (call $long (call $clock (i32.const 0) (i64.const 0) (i32.const 0)))
             (call $long (call $clock (i32.const 1) (i64.const 0) (i32.const 0)))
             (call $say_status (call $clock (i32.const 2) (i64.const 0) (i32.const 0)))
             (i32.const 1))"#,
    );
    assert_eq!(said(&envoy), ["status 0", "status 28", "1750000000123000000", "0", "status 58"]);
}

#[test]
fn standard_output_is_logged_as_info_and_standard_error_as_error() {
    let envoy = envoy(
        r#"(func $write (param $fd i32) (param $text i32) (param $len i32)
             (i32.store (i32.const 16) (local.get $text)) (i32.store (i32.const 20) (local.get $len))
             (call $say_status (call $fd_write (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 24))))
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $write (i32.const 1) @"out\0a") (call $write (i32.const 2) @"err")
             (call $write (i32.const 3) @"file") (i32.const 1))"#,
    );
    let lines = envoy.logs().into_iter().filter(|line| line.thread == Thread::Main);
    let lines: Vec<_> = lines.map(|line| (format!("{:?}", line.level), line.message)).collect();
    let expected =
        [("Info", "out"), ("Info", "status 0"), ("Error", "err"), ("Info", "status 0"), ("Info", "status 8")];
    assert_eq!(lines, expected.map(|(level, text)| (level.to_owned(), text.to_owned())));
}

#[test]
fn lines_below_the_log_level_are_dropped_and_the_guest_can_ask_for_it() {
    let module = guest(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $log (i32.const 2) @"info")) (drop (call $log (i32.const 4) @"error"))
             (call $say_status (call $log (i32.const 6) @"beyond"))
             (drop (call $log_level (i32.const 0)))
             (drop (call $log (i32.const 5) (call $digits (i64.load32_u (i32.const 0))) (i32.const 1)))
             (i32.const 1))"#,
    );
    let builder = Envoy::builder(&module).plugin(Plugin::new("p"));
    let envoy = builder.log_level(host_tests::LogLevel::Warn).start().unwrap();
    assert_eq!(said(&envoy), ["error", "3"]);
}

#[test]
fn metric_values_belong_to_the_proxy_and_ids_to_the_definition() {
    let module = guest(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (local $first i32)
             (call $number (call $define (i32.const 0) @"requests" (i32.const 0)))
             (local.set $first (i32.load (i32.const 0)))
             (call $number (call $define (i32.const 0) @"requests" (i32.const 0)))
             (call $say_status (call $increment (local.get $first) (i64.const 5)))
             (call $say_status (call $increment (i32.load (i32.const 0)) (i64.const 0)))
             (call $say_status (call $increment (i32.const 4000) (i64.const 1)))
             (call $say_status (call $record (i32.const 4003) (i64.const 1)))
             (call $say_status (call $get_metric (i32.const 4003) (i32.const 0)))
             (call $say_status (call $define (i32.const 3) @"requests" (i32.const 0)))
             (i32.const 1))"#,
    );
    let envoy = Envoy::builder(&module).plugin(Plugin::new("p")).workers(2).start().unwrap();
    let expected = ["4", "8", "status 0", "status 2", "status 1", "status 1", "status 2", "status 2"];
    assert_eq!(said(&envoy), expected);
    assert_eq!(envoy.counter("requests"), 20, "canary, main thread and two workers");
    assert_eq!(envoy.metric_definitions(Thread::Worker(0)), 2);
    assert_eq!(envoy.counter("other"), 0);
}

#[test]
fn a_replaced_configuration_serves_new_streams_while_old_ones_end_on_the_old() {
    let module = guest(&format!(
        r#"{CONFIGURED}
           (func (export "proxy_on_context_create") (param $id i32) (param $root i32)
             (if (local.get $root) (then (call $say_number (i64.extend_i32_u (local.get $root))))))
           (func (export "proxy_on_done") (param $id i32) (result i32)
             (call $say @"done") (call $say_number (i64.extend_i32_u (local.get $id))) (i32.const 1))"#
    ));
    let mut envoy = Envoy::builder(&module).plugin(Plugin::new("p").configuration("old")).start().unwrap();
    let old = envoy.stream().open();
    envoy.request_headers(old, REQUEST).unwrap();
    envoy.clear_journal();
    envoy.update_plugin(Plugin::new("p").configuration("new")).unwrap();
    assert_eq!(said_on(&envoy, Thread::Canary), ["", "status 1", "new"]);
    assert_eq!(said_on(&envoy, Thread::Main), ["", "status 1", "new", "done", "1"], "no stream holds the old root");
    let new = envoy.stream().open();
    envoy.request_headers(new, REQUEST).unwrap();
    envoy.clear_journal();
    envoy.end(old, Ending::complete()).unwrap();
    assert_eq!(said(&envoy), ["done", "2", "done", "1"], "the old root ends with its last stream");
    assert_eq!(envoy.contexts(Thread::Worker(0)), 2, "the new root and its stream");
}

#[test]
fn a_refused_update_leaves_the_old_configuration() {
    let module = guest(
        r#"(func (export "proxy_on_configure") (param i32) (param $len i32) (result i32)
             (i32.ne (local.get $len) (i32.const 3)))"#,
    );
    let mut envoy = Envoy::builder(&module).plugin(Plugin::new("p")).start().unwrap();
    let failure = envoy.update_plugin(Plugin::new("p").configuration("bad")).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Configuration);
    assert_eq!(envoy.contexts(Thread::Worker(0)), 1);
    envoy.stream().exchange(REQUEST, RESPONSE).unwrap();
}

#[test]
fn shutdown_tells_the_workers_and_then_the_main_thread() {
    let module = guest(
        r#"(func (export "proxy_on_done") (param i32) (result i32) (call $say @"done") (i32.const 1))
           (func (export "proxy_on_delete") (param i32) (call $say @"delete"))"#,
    );
    let mut envoy = Envoy::builder(&module).plugin(Plugin::new("p")).workers(2).start().unwrap();
    envoy.shutdown().unwrap();
    let order: Vec<_> = envoy.logs().into_iter().map(|line| (line.thread, line.message)).collect();
    let both = |thread| [(thread, "done".to_owned()), (thread, "delete".to_owned())];
    assert_eq!(order, [both(Thread::Worker(0)), both(Thread::Worker(1)), both(Thread::Main)].concat());
}

#[test]
fn a_root_that_asks_for_time_is_deleted_when_it_says_done() {
    let mut envoy = envoy(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $say_status (call $done)) (drop (call $set_tick (i32.const 10))) (i32.const 1))
           (global $asked (mut i32) (i32.const 0))
           (func (export "proxy_on_done") (param i32) (result i32)
             (global.set $asked (i32.const 1)) (i32.const 0))
           (func (export "proxy_on_tick") (param i32)
             (if (global.get $asked) (then (call $say_status (call $done)))))
           (func (export "proxy_on_delete") (param i32) (call $say @"delete"))"#,
    );
    envoy.shutdown().unwrap();
    assert_eq!(said(&envoy), ["status 1"], "nothing was being ended yet");
    envoy.advance(Duration::from_millis(10)).unwrap();
    assert_eq!(said(&envoy), ["status 1", "status 0", "delete"]);
}

#[test]
fn the_node_is_readable_everywhere_and_the_listener_in_streams_only() {
    let module = guest(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $bytes (call $get_property @"xds\00node\00id" (i32.const 0) (i32.const 4)))
             (call $bytes (call $get_property @"xds\00node\00metadata\00LABELS\00app.io/name" (i32.const 0) (i32.const 4)))
             (call $say_status (call $get_property @"xds\00listener_direction" (i32.const 0) (i32.const 4)))
             (call $say_status (call $get_property @"node\00id" (i32.const 0) (i32.const 4)))
             (call $say_status (call $set_property @"k" @"v"))
             (i32.const 1))"#,
    );
    let node = Node::new("node-1", "c").metadata(&["LABELS", "app.io/name"], "shop");
    for (minor, legacy) in [(32, Status::Ok), (33, Status::NotFound)] {
        let builder = Envoy::builder(&module).plugin(Plugin::new("p")).node(node.clone());
        let envoy = builder.profile(Profile::envoy_1(minor).unwrap()).start().unwrap();
        let legacy = format!("status {}", legacy as u32);
        assert_eq!(said(&envoy), ["node-1", "shop", "status 1", legacy.as_str(), "status 1"], "1.{minor}");
    }
}
