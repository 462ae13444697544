//! The end of a plugin instance: a dynamic update, or the end of the proxy.

use host_tests::{Answer, Ending, Envoy, LogLevel, Thread};
use serde_json::{Value, json};

use crate::harness::{
    Books, FLUSH_S, and, assert_settled, drops, ids_of, plain, request_id, requests, serve, serve_all, setup, unlimited,
};
use crate::support::{REQUEST, Setup};

fn server(status: u16) -> Answer {
    Answer::status(status).header("server", "ingest")
}

fn exporting() -> Setup {
    setup(json!({ "trace_api": plain(), "event_api": plain() }))
}

/// The same plugin with another name for the service.
fn renamed(setup: &Setup) -> host_tests::Plugin {
    setup.clone().with("app_name", "renamed").plugin()
}

/// Root contexts on the first worker.
fn instances(envoy: &Envoy) -> usize {
    envoy.contexts(Thread::Worker(0))
}

fn service_of(body: &[u8]) -> Value {
    let body: Value = serde_json::from_slice(body).expect("the body is JSON");
    body[0]["common"]["attributes"]["service.name"].clone()
}

#[test]
fn an_update_flushes_the_old_instance_and_the_new_one_goes_on() {
    let setup = exporting();
    let mut envoy = setup.start();
    requests(&mut envoy, 0, 3);
    envoy.update_plugin(renamed(&setup)).expect("the update is accepted");
    assert_eq!(instances(&envoy), 2, "the old instance waits for its answers");
    let last_posts = envoy.pending_calls();
    assert_eq!(last_posts.len(), 2, "spans and transactions go out at once");
    requests(&mut envoy, 0, 2);
    for call in &last_posts {
        envoy.answer(call.id, server(202)).expect("no trap");
    }
    assert_eq!(instances(&envoy), 1, "the old instance is gone with its last answer");
    assert_eq!(Books::of(&envoy, "spans").exported, 3, "and its books are published");
    serve_all(&mut envoy, FLUSH_S + 1, &server(202));
    assert_eq!(Books::of(&envoy, "spans"), Books { recorded: 5, exported: 5, dropped: 0, queued: 0 });
    let services: Vec<Value> = envoy
        .http_calls()
        .iter()
        .filter(|call| call.headers.text(":path").as_deref() == Some("/trace/v1"))
        .map(|call| service_of(&call.body))
        .collect();
    assert_eq!(services, ["edge", "renamed"]);
    assert_settled(&envoy);
}

#[test]
fn an_instance_without_anything_to_send_goes_at_once() {
    let setup = exporting();
    let mut envoy = setup.start();
    envoy.update_plugin(renamed(&setup)).expect("the update is accepted");
    assert_eq!(instances(&envoy), 1);
    assert!(envoy.http_calls().is_empty());
}

#[test]
fn an_old_instance_stays_for_the_streams_that_it_serves() {
    let setup = exporting();
    let mut envoy = setup.start();
    let stream = envoy.stream().open();
    envoy.request_headers(stream, REQUEST).expect("no trap");
    envoy.update_plugin(renamed(&setup)).expect("the update is accepted");
    serve_all(&mut envoy, 20, &server(202));
    envoy.response_headers(stream, [(":status", "200")]).expect("no trap");
    envoy.end(stream, Ending::complete()).expect("no trap");
    assert_eq!(envoy.pending_calls().len(), 2, "its record goes out when the stream has ended");
    assert_eq!(service_of(&envoy.pending_calls()[0].body), "edge");
    envoy.answer_all(&server(202)).expect("no trap");
    assert_eq!(instances(&envoy), 1);
    assert_settled(&envoy);
}

#[test]
fn a_last_flush_may_take_many_posts() {
    let exporter = and(and(plain(), "flush_interval_ms", 60_000), "max_queue_bytes", 8 << 20);
    let setup = unlimited(json!({ "trace_api": exporter }))
        .with("span_events.custom_attributes", json!({ "wide": { "value": "w".repeat(4000) } }));
    let mut envoy = setup.start();
    requests(&mut envoy, 0, 1100);
    envoy.update_plugin(renamed(&setup)).expect("the update is accepted");
    assert!(envoy.pending_calls().len() > 16, "{} posts at once", envoy.pending_calls().len());
    let mut arrived: Vec<String> = envoy.pending_calls().iter().flat_map(ids_of).collect();
    arrived.sort();
    arrived.dedup();
    assert_eq!(arrived.len(), 1100);
    envoy.answer_all(&server(202)).expect("no trap");
    assert_eq!(instances(&envoy), 1);
    assert_eq!(Books::of(&envoy, "spans").exported, 1100);
    assert_settled(&envoy);
}

#[test]
fn a_post_that_waits_for_its_next_try_goes_out_with_the_last_flush_under_the_same_id() {
    let setup = exporting();
    let mut envoy = setup.start();
    requests(&mut envoy, 0, 2);
    let mut refused = Vec::new();
    serve(&mut envoy, FLUSH_S, |call, _| {
        refused.push((request_id(call), call.body.clone()));
        Some(server(429).header("retry-after", "200"))
    });
    envoy.update_plugin(renamed(&setup)).expect("the update is accepted");
    let mut again: Vec<_> = envoy.pending_calls().iter().map(|call| (request_id(call), call.body.clone())).collect();
    refused.sort();
    again.sort();
    assert_eq!(again, refused);
    envoy.answer_all(&server(202)).expect("no trap");
    assert_eq!(instances(&envoy), 1);
    assert_settled(&envoy);
}

#[test]
fn the_answer_to_a_post_made_before_the_end_still_counts() {
    let setup = exporting();
    let mut envoy = setup.start();
    requests(&mut envoy, 0, 2);
    serve(&mut envoy, FLUSH_S, |_, _| None);
    let flying = envoy.pending_calls();
    envoy.update_plugin(renamed(&setup)).expect("the update is accepted");
    assert_eq!(envoy.pending_calls(), flying, "what is in flight is not sent twice");
    envoy.answer_all(&server(202)).expect("no trap");
    assert_eq!(instances(&envoy), 1);
    assert_eq!(Books::of(&envoy, "spans"), Books { recorded: 2, exported: 2, dropped: 0, queued: 0 });
    assert_settled(&envoy);
}

#[test]
fn an_old_instance_goes_however_its_receiver_ends() {
    type Receiver = fn() -> Option<Answer>;
    let receivers: [(&str, Receiver, &str); 5] = [
        ("rejects", || Some(server(403)), "rejected"),
        ("fails", || Some(server(503)), "retries_exhausted"),
        ("cannot be reached", || Some(Answer::reset()), "retries_exhausted"),
        ("hangs", || None, "retries_exhausted"),
        ("breaks off", || Some(Answer::broken()), "retries_exhausted"),
    ];
    for (what, receiver, reason) in receivers {
        let setup = exporting();
        let mut envoy = setup.start();
        requests(&mut envoy, 0, 2);
        envoy.update_plugin(renamed(&setup)).expect("the update is accepted");
        serve(&mut envoy, 600, |_, _| receiver());
        assert_eq!(instances(&envoy), 1, "a receiver that {what}");
        for records in ["spans", "transactions"] {
            assert_eq!(drops(&envoy, records), [(reason, 2)].into(), "a receiver that {what}");
        }
        assert_settled(&envoy);
    }
}

#[test]
fn an_old_instance_whose_cluster_is_gone_goes_too() {
    let setup = setup(json!({ "trace_api": and(plain(), "cluster", "gone") }));
    let mut envoy = setup.start();
    requests(&mut envoy, 0, 2);
    envoy.update_plugin(renamed(&setup)).expect("the update is accepted");
    serve(&mut envoy, 600, |_, _| None);
    assert_eq!(drops(&envoy, "spans"), [("retries_exhausted", 2)].into());
    assert_eq!(instances(&envoy), 1);
    assert_settled(&envoy);
}

#[test]
fn updates_in_a_row_leave_nothing_behind() {
    let setup = exporting();
    let mut envoy = setup.start();
    for number in 0..10 {
        requests(&mut envoy, 0, 2);
        let plugin = setup.clone().with("app_name", format!("edge-{number}")).plugin();
        envoy.update_plugin(plugin).expect("the update is accepted");
        serve_all(&mut envoy, 2, &server(202));
    }
    assert_eq!(instances(&envoy), 1);
    assert_eq!(Books::of(&envoy, "spans"), Books { recorded: 20, exported: 20, dropped: 0, queued: 0 });
    assert_settled(&envoy);
}

#[test]
fn a_refused_update_changes_nothing() {
    let setup = exporting();
    let mut envoy = setup.start();
    requests(&mut envoy, 0, 2);
    let wrong = setup.with("role", "sideways").plugin();
    assert!(envoy.update_plugin(wrong).is_err());
    requests(&mut envoy, 0, 1);
    serve_all(&mut envoy, FLUSH_S + 1, &server(202));
    assert_eq!(Books::of(&envoy, "spans").exported, 3);
    assert_settled(&envoy);
}

#[test]
fn at_the_end_of_the_proxy_every_worker_posts_what_it_has() {
    let mut envoy = exporting().workers(3).start();
    for worker in 0..3 {
        requests(&mut envoy, worker, 2);
    }
    envoy.shutdown().expect("no trap");
    let posts = envoy.pending_calls();
    for worker in 0..3 {
        let own = posts.iter().filter(|call| call.thread == Thread::Worker(worker));
        assert_eq!(own.map(|call| ids_of(call).len()).collect::<Vec<_>>(), [2, 2], "spans, then transactions");
    }
    assert_eq!(posts.len(), 6, "the main thread has nothing to post");
}

#[test]
fn an_answer_that_comes_after_the_end_still_counts() {
    let mut envoy = exporting().start();
    requests(&mut envoy, 0, 2);
    envoy.shutdown().expect("no trap");
    assert_eq!(envoy.answer_all(&server(202)).expect("no trap"), 2);
    assert_settled(&envoy);
    assert_eq!(Books::of(&envoy, "spans").exported, 2);
    assert!(!envoy.logged(LogLevel::Error, ""), "{:?}", envoy.logs());
}
