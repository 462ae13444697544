//! The equation that holds at every quiet moment: recorded = exported + dropped + queued, for spans and for
//! transactions, in each worker and in sum.

use host_tests::{Answer, Ending, Envoy, Fault, HttpCall, Status, Thread};
use serde_json::{Value, json};

use crate::harness::{
    Books, FLUSH_S, Target, and, assert_settled, drops, otlp, plain, posts_for_streams, records_of, requests, serve,
    serve_all, setup, unlimited,
};
use crate::support::{CLUSTER, REQUEST, Setup, records};

const WORKERS: usize = 4;

fn server(status: u16) -> Answer {
    Answer::status(status).header("server", "ingest")
}

fn both() -> Value {
    json!({ "trace_api": plain(), "event_api": plain() })
}

/// The receiver of each worker: one fails in its own way for so many posts, then works.
fn mood(worker: usize, call: &HttpCall, seen: usize) -> Option<Answer> {
    match worker {
        _ if seen > 6 => Some(server(202)),
        0 => Some(server(202)),
        1 => Some(server(503)),
        2 if records_of(call).len() > 2 => Some(server(413)),
        2 => Some(server(if seen.is_multiple_of(3) { 400 } else { 202 })),
        _ => None,
    }
}

fn worker_of(call: &HttpCall) -> usize {
    match call.thread {
        Thread::Worker(worker) => worker,
        Thread::Main | Thread::Canary => panic!("only workers have something to send: {call:?}"),
    }
}

/// Runs the receivers of all workers for some seconds.
fn run(envoy: &mut Envoy, seconds: u64) {
    let mut seen = [0; WORKERS];
    let mut known = Vec::new();
    serve(envoy, seconds, |call, _| {
        let worker = worker_of(call);
        if !known.contains(&call.id) {
            known.push(call.id);
            seen[worker] += 1;
        }
        mood(worker, call, seen[worker])
    });
}

#[test]
fn the_books_of_each_worker_balance_whatever_its_receiver_does() {
    let mut envoy = setup(both()).workers(WORKERS).start();
    for worker in 0..WORKERS {
        let earlier = ["spans", "transactions"].map(|records| Books::of(&envoy, records));
        requests(&mut envoy, worker, 30);
        // The other workers have nothing: all that changes is this one's.
        run(&mut envoy, 400);
        for (records, earlier) in ["spans", "transactions"].into_iter().zip(earlier) {
            let books = Books::of(&envoy, records).since(earlier);
            assert!(books.balance(), "worker {worker}, {records}: {books:?}");
            assert_eq!((books.recorded, books.queued), (30, 0), "worker {worker}, {records}: {books:?}");
        }
    }
    assert_settled(&envoy);
}

#[test]
fn the_sum_over_all_workers_balances_at_every_moment() {
    let mut envoy = setup(both()).workers(WORKERS).start();
    for second in 0..150 {
        if second < 60 {
            for worker in 0..WORKERS {
                requests(&mut envoy, worker, worker + 1);
            }
        }
        run(&mut envoy, 1);
        // What happened since the last tick is not published yet, neither in the counters nor in the gauges.
        for records in ["spans", "transactions"] {
            let books = Books::of(&envoy, records);
            assert!(books.balance(), "{second}, {records}: {books:?}");
        }
    }
    serve_all(&mut envoy, 200, &server(202));
    for records in ["spans", "transactions"] {
        assert_eq!(Books::of(&envoy, records).recorded, 600);
    }
    assert_settled(&envoy);
}

#[test]
fn a_record_offered_to_several_exporters_counts_once_for_each() {
    let mut envoy = setup(json!({
        "log": {}, "trace_api": plain(), "event_api": plain(), "otlp": otlp(plain()),
    }))
    .start();
    requests(&mut envoy, 0, 4);
    serve(&mut envoy, FLUSH_S + 1, |call, _| {
        let path = call.headers.text(":path").unwrap_or_default().into_owned();
        Some(if path == Target::Otlp.path() { server(400) } else { server(200) })
    });
    assert_eq!(Books::of(&envoy, "spans"), Books { recorded: 12, exported: 8, dropped: 4, queued: 0 });
    assert_eq!(drops(&envoy, "spans"), [("rejected", 4)].into());
    assert_eq!(Books::of(&envoy, "transactions"), Books { recorded: 8, exported: 8, dropped: 0, queued: 0 });
    assert_eq!((records(&envoy, "span").len(), records(&envoy, "transaction").len()), (4, 4));
    assert_settled(&envoy);
}

#[test]
fn one_exporters_trouble_is_not_the_others() {
    let mut envoy = setup(json!({ "trace_api": plain(), "event_api": plain(), "otlp": otlp(plain()) })).start();
    for _ in 0..20 {
        requests(&mut envoy, 0, 1);
        serve(&mut envoy, FLUSH_S, |call, _| {
            let path = call.headers.text(":path").unwrap_or_default().into_owned();
            match path.as_str() {
                "/trace/v1" => None,
                "/v1/traces" => Some(server(429).header("retry-after", "300")),
                _ => Some(server(200)),
            }
        });
    }
    serve(&mut envoy, 1, |_, _| None);
    assert_eq!(Books::of(&envoy, "transactions"), Books { recorded: 20, exported: 20, dropped: 0, queued: 0 });
    let spans = Books::of(&envoy, "spans");
    assert!(spans.balance() && spans.queued > 0, "{spans:?}");
}

#[test]
fn started_counts_what_was_opened_and_recorded_what_was_offered() {
    let mut envoy = Setup::gateway().sampler("always_on").with("exporters", both()).start();
    let routed = envoy.stream().open();
    envoy.request_headers(routed, REQUEST).expect("no trap");
    envoy.end(routed, Ending::direct_response(200)).expect("no trap");
    requests(&mut envoy, 0, 1);
    serve_all(&mut envoy, FLUSH_S + 1, &server(202));
    assert_eq!(envoy.counter("newrelic.spans.started"), 4);
    assert_eq!(Books::of(&envoy, "spans").recorded, 3, "an answer of the proxy's own has no exit span");
    assert_eq!(envoy.counter("newrelic.transactions.started"), 2);
    assert_eq!(Books::of(&envoy, "transactions").recorded, 2);
    assert_settled(&envoy);
}

#[test]
fn a_trace_that_is_not_sampled_has_a_transaction_but_no_span() {
    let mut envoy = setup(both()).sampler("always_off").start();
    requests(&mut envoy, 0, 3);
    serve_all(&mut envoy, FLUSH_S + 1, &server(202));
    assert_eq!((Books::of(&envoy, "spans").recorded, Books::of(&envoy, "transactions").recorded), (0, 3));
    assert_eq!(envoy.counter("newrelic.spans.started"), 0);
    assert_settled(&envoy);
}

#[test]
fn no_kind_of_record_is_made_that_nobody_takes() {
    for (exporters, kinds) in [
        (json!({ "trace_api": plain() }), [true, false]),
        (json!({ "event_api": plain() }), [false, true]),
        (json!({ "log": {} }), [true, true]),
        (json!({}), [false, false]),
    ] {
        let mut envoy = setup(exporters.clone()).start();
        requests(&mut envoy, 0, 1);
        serve_all(&mut envoy, FLUSH_S + 1, &server(202));
        let made = ["spans", "transactions"].map(|records| Books::of(&envoy, records).recorded > 0);
        assert_eq!(made, kinds, "{exporters}");
    }
}

#[test]
fn a_switch_turns_a_kind_of_record_off() {
    for (switch, kinds) in [
        ("span_events.enabled", [false, true]),
        ("transaction_events.enabled", [true, false]),
        ("distributed_tracing.enabled", [false, true]),
    ] {
        let mut envoy = setup(both()).with(switch, false).start();
        requests(&mut envoy, 0, 1);
        serve_all(&mut envoy, FLUSH_S + 1, &server(202));
        let made = ["spans", "transactions"].map(|records| Books::of(&envoy, records).recorded > 0);
        assert_eq!(made, kinds, "{switch}");
        assert_settled(&envoy);
    }
}

#[test]
fn nothing_is_posted_while_a_stream_is_served() {
    let mut envoy = unlimited(json!({
        "trace_api": and(plain(), "flush_interval_ms", 100), "event_api": plain(), "otlp": otlp(plain()),
    }))
    .start();
    for _ in 0..20 {
        requests(&mut envoy, 0, 100);
        serve_all(&mut envoy, 1, &server(202));
        assert_eq!(posts_for_streams(&envoy), 0);
        envoy.clear_journal();
    }
    assert!(envoy.http_calls().len() > 20);
}

#[test]
fn without_shared_data_the_books_balance_all_the_same() {
    let mut envoy = setup(both()).workers(2).start();
    for call in ["proxy_get_shared_data", "proxy_set_shared_data"] {
        envoy.inject(Fault::on(call, Status::InternalFailure));
    }
    for worker in 0..2 {
        requests(&mut envoy, worker, 200);
    }
    serve_all(&mut envoy, FLUSH_S + 10, &server(202));
    assert_eq!(Books::of(&envoy, "spans").exported, 2 * 166, "each worker has the budget to itself");
    assert_eq!(Books::of(&envoy, "transactions").exported, 2 * 100);
    assert_settled(&envoy);
}

#[test]
fn the_statistics_exist_before_the_first_request() {
    let envoy = setup(both()).start();
    let counters = envoy.counters();
    for records in ["spans", "transactions"] {
        for name in ["started", "recorded", "exported"] {
            assert!(counters.contains_key(&format!("newrelic.{records}.{name}")), "{records}.{name}");
        }
        assert_eq!(envoy.gauge(&format!("newrelic.queue.{records}")), Some(0));
    }
}

#[test]
fn the_log_takes_no_more_than_the_minutes_budget() {
    let mut envoy = setup(json!({ "log": {} }))
        .with("span_events.max_samples_stored", 300)
        .with("transaction_events.max_samples_stored", 240)
        .start();
    for _ in 0..30 {
        requests(&mut envoy, 0, 20);
        serve(&mut envoy, 1, |_, _| None);
    }
    let (spans, transactions) = (Books::of(&envoy, "spans"), Books::of(&envoy, "transactions"));
    assert_eq!((spans.recorded, spans.exported, transactions.exported), (600, 300, 240));
    assert_eq!(drops(&envoy, "spans"), [("reservoir", 300)].into());
    assert_eq!(records(&envoy, "span").len(), 300);
    assert_settled(&envoy);
}

#[test]
fn exporters_may_go_to_different_clusters() {
    let elsewhere = and(plain(), "cluster", "elsewhere");
    let plugin = setup(json!({ "trace_api": plain(), "event_api": elsewhere })).plugin();
    let mut envoy = Envoy::builder(&crate::support::module())
        .plugin(plugin)
        .cluster(CLUSTER)
        .cluster("elsewhere")
        .start()
        .expect("the proxy starts");
    requests(&mut envoy, 0, 1);
    serve_all(&mut envoy, FLUSH_S + 1, &server(202));
    let mut targets: Vec<_> = envoy.http_calls().into_iter().map(|call| call.cluster).collect();
    targets.sort();
    assert_eq!(targets, ["elsewhere", CLUSTER]);
    assert_settled(&envoy);
}
