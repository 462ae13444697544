//! Which records go out when there are more than a flush interval or a minute may hold.

use std::collections::BTreeMap;
use std::time::Duration;

use host_tests::{Answer, Builder, Direction, Envoy, Plugin};
use serde_json::{Value, json};

use crate::harness::{
    Lines, TRACE_ID, builder, configuration, entry, entry_of, module, plugin, request, root, w3c, with,
};

/// Everything is sampled, and goes to the Trace API.
fn tracing(more: &Value) -> Value {
    let sampler = json!({ "root": "always_on" });
    let exporters = json!({ "trace_api": { "cluster": "receiver", "gzip": false } });
    let base = json!({ "role": "inbound", "exporters": exporters });
    with(&with(&configuration(&sampler), &base), more)
}

/// At most so many spans a minute.
fn limited(per_minute: u64) -> Value {
    tracing(&json!({ "span_events": { "max_samples_stored": per_minute } }))
}

fn start(configuration: &Value, workers: usize) -> Envoy {
    let accepted = Answer::status(202);
    let start = builder(configuration).workers(workers);
    start.answering_cluster("receiver", accepted, Duration::from_millis(10)).start().unwrap()
}

/// A whole request that leaves nothing behind.
fn send(envoy: &mut Envoy, worker: usize, caller: &Lines) {
    let exchange = envoy.stream().worker(worker).exchange(request(caller), [(":status", "200")]).unwrap();
    envoy.forget(exchange.id);
    envoy.clear_journal();
}

/// What a receiver got since the last time, in order.
fn received(envoy: &mut Envoy, after: Duration) -> Vec<Value> {
    let before = envoy.http_calls().len();
    envoy.advance(after).unwrap();
    let bodies = envoy.http_calls().split_off(before).into_iter();
    bodies.flat_map(|call| records(&serde_json::from_slice(&call.body).unwrap())).collect()
}

/// The attributes of the records in a request to the Trace API or the Event API.
fn records(body: &Value) -> Vec<Value> {
    match body[0]["spans"].as_array() {
        Some(spans) => {
            spans.iter().map(|span| with(&span["attributes"], &json!({ "trace": span["trace.id"] }))).collect()
        }
        None => body.as_array().unwrap().clone(),
    }
}

const FLUSH: Duration = Duration::from_secs(6);

/// Millionths, which is what priorities are made of.
fn priorities(records: &[Value]) -> Vec<f64> {
    records.iter().map(|record| (record["priority"].as_f64().unwrap() * 1e6).round()).collect()
}

/// A caller's priority: `1.000000` to `1.000999`, each once in a thousand.
fn rank(number: u64) -> String {
    format!("1.000{:03}", number * 37 % 1000)
}

/// The highest of the first `offered` ranks, highest first.
fn best(offered: u64, kept: usize) -> Vec<f64> {
    let mut ranks: Vec<u64> = (0..offered).map(|number| 1_000_000 + number * 37 % 1000).collect();
    ranks.sort_unstable_by(|one, other| other.cmp(one));
    ranks.truncate(kept);
    ranks.into_iter().map(|rank| f64::from(u32::try_from(rank).unwrap())).collect()
}

fn books(envoy: &Envoy, kind: &str) -> [u64; 3] {
    ["recorded", "exported", "dropped.reservoir"].map(|what| envoy.counter(&format!("newrelic.{kind}.{what}")))
}

#[test]
fn a_flush_interval_keeps_its_part_of_the_minute_and_the_highest_priorities() {
    let short = |flush_interval_ms: u64| json!({ "trace_api": { "cluster": "receiver", "gzip": false, "flush_interval_ms": flush_interval_ms } });
    for (why, configuration, offered, kept) in [
        ("2000 in twelve parts", tracing(&json!({})), 300, 166),
        ("6000 in twelve parts", limited(6000), 600, 500),
        ("never below 100", tracing(&json!({ "exporters": short(100) })), 150, 100),
        ("unless the minute has no more", limited(40), 150, 40),
        ("one a minute", limited(1), 20, 1),
        ("all that there are", tracing(&json!({})), 50, 50),
    ] {
        let mut envoy = start(&configuration, 1);
        for number in 0..offered {
            send(&mut envoy, 0, &entry("01", "1", &rank(number)));
        }
        let records = received(&mut envoy, FLUSH);
        assert_eq!(priorities(&records), best(offered, kept), "{why}");
        envoy.advance(Duration::from_secs(1)).unwrap();
        assert_eq!(books(&envoy, "spans"), [offered, kept as u64, offered - kept as u64], "{why}");
        assert_eq!(envoy.gauge("newrelic.queue.spans"), Some(0), "{why}");
    }
}

#[test]
fn of_equal_priorities_the_older_ones_stay() {
    let mut envoy = start(&limited(50), 1);
    for number in 1..=80 {
        let trace = entry("01", "1", "1.5").into_iter();
        let numbered = trace.map(|(name, value)| (name, value.replace(TRACE_ID, &format!("{number:032x}"))));
        send(&mut envoy, 0, &numbered.collect());
    }
    let kept: Vec<_> =
        received(&mut envoy, FLUSH).iter().map(|record| record["trace"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kept, (1..=50).map(|number| format!("{number:032x}")).collect::<Vec<_>>());
}

#[test]
fn the_minutes_limit_is_that_of_all_workers() {
    for workers in [1, 2, 4] {
        let mut envoy = start(&limited(100), workers);
        for number in 0..240 {
            send(&mut envoy, number % workers, &root());
        }
        assert_eq!(received(&mut envoy, FLUSH).len(), 100, "{workers} workers");
        // Later in the same minute there is nothing left.
        for number in 0..20 {
            send(&mut envoy, number % workers, &root());
        }
        assert_eq!(received(&mut envoy, FLUSH).len(), 0, "{workers} workers");
        envoy.advance(Duration::from_secs(60)).unwrap();
        for number in 0..20 {
            send(&mut envoy, number % workers, &root());
        }
        assert_eq!(received(&mut envoy, FLUSH).len(), 20, "{workers} workers, the next minute");
        envoy.advance(Duration::from_secs(1)).unwrap();
        assert_eq!(books(&envoy, "spans"), [280, 120, 160], "{workers} workers");
    }
}

#[test]
fn a_steady_stream_gets_the_minutes_limit_in_every_minute() {
    let mut envoy = start(&limited(100), 4);
    // The budget's minutes begin with the first flush, so that each has twelve flushes of one of these.
    for minute in 0..3 {
        let mut exported = 0;
        for second in 0..60 {
            for number in 0..4 {
                send(&mut envoy, (second + number) % 4, &root());
            }
            exported += received(&mut envoy, Duration::from_secs(1)).len();
        }
        assert_eq!(exported, 100, "minute {minute}");
    }
}

#[test]
fn plugin_instances_that_are_alike_share_the_minutes_limit() {
    let instance = |name: &str, configuration: &Value| {
        let plugin = plugin(configuration).listener(name, Direction::Inbound);
        Plugin { name: name.to_owned(), ..plugin }
    };
    let renamed = with(&limited(60), &json!({ "app_name": "another" }));
    for (second, expected) in [(limited(60), 60), (renamed, 100)] {
        let plugins = [instance("first", &limited(60)), instance("second", &second)];
        let start = plugins.into_iter().fold(Envoy::builder(module()), Builder::plugin).workers(2);
        let mut envoy = start.answering_cluster("receiver", Answer::status(202), Duration::ZERO).start().unwrap();
        for number in 0..100 {
            let stream = envoy.stream().worker(number % 2).listener(["first", "second"][number / 50]);
            stream.exchange(request(&root()), [(":status", "200")]).unwrap();
        }
        assert_eq!(received(&mut envoy, FLUSH).len(), expected, "{second}");
    }
}

#[test]
fn a_worker_that_is_not_granted_all_sends_its_best() {
    let mut envoy = start(&limited(100), 2);
    for number in 0..140 {
        // The second worker's are all higher than the first one's, which flushes first all the same.
        let worker = if number < 70 { 0 } else { 1 };
        send(&mut envoy, worker, &entry("01", "1", &format!("{worker}.000{:03}", number * 37 % 100)));
    }
    let records = received(&mut envoy, FLUSH);
    let (first, second): (Vec<_>, Vec<_>) = priorities(&records).into_iter().partition(|priority| *priority < 1e6);
    assert_eq!((first.len(), second.len()), (70, 30));
    let mut ranks: Vec<_> = (70..140).map(|number| f64::from(1_000_000 + number * 37 % 100)).collect();
    ranks.sort_by(|one, other| other.total_cmp(one));
    assert_eq!(second, ranks[..30]);
}

/// How many records of each origin were kept: of what starts here, of each account, and of callers without one.
fn by_origin(records: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        let starts_here = record["parent.id"].is_null();
        let caller = record["parent.account"].as_str().unwrap_or("W3C");
        let origin = if starts_here { "here" } else { caller };
        *counts.entry(origin.to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn a_flood_of_high_priorities_leaves_the_others_their_share() {
    let flood = || ("5001", entry_of("5001", "01", "1", "999999"));
    let caller = || ("4002", entry("01", "1", "1.5"));
    let here = || ("here", root());
    let w3c_flood = || ("W3C", w3c("01"));
    for (why, origins, kept) in [
        ("nobody else", vec![flood()], vec![200]),
        ("a quarter for what starts here", vec![flood(), here()], vec![150, 50]),
        ("a part for another account", vec![flood(), caller()], vec![175, 25]),
        ("both", vec![flood(), here(), caller()], vec![125, 50, 25]),
        ("a flood without New Relic's entry", vec![w3c_flood(), here()], vec![150, 50]),
        ("what starts here is no flood either", vec![here(), caller()], vec![150, 50]),
    ] {
        // A flag alone samples only what the operator says it samples.
        let followed = if origins[0].0 == "W3C" { "always_on" } else { "default" };
        let sampler = json!({ "root": "always_on", "remote_parent_sampled": followed });
        let configuration = with(&limited(2400), &json!({ "distributed_tracing": { "sampler": sampler } }));
        let mut envoy = start(&configuration, 1);
        for (_, lines) in &origins {
            (0..300).for_each(|_| send(&mut envoy, 0, lines));
        }
        let counts = by_origin(&received(&mut envoy, FLUSH));
        let expected = origins.iter().map(|(name, _)| (*name).to_owned()).zip(kept).collect();
        assert_eq!(counts, expected, "{why}");
    }
}

#[test]
fn the_adaptive_target_survives_a_flood_before_and_after() {
    let configuration = with(&limited(2400), &json!({ "distributed_tracing": {} }));
    let mut envoy = start(&configuration, 1);
    let flood = entry_of("5001", "01", "1", "999999");
    for _ in 0..500 {
        send(&mut envoy, 0, &flood);
    }
    for _ in 0..30 {
        send(&mut envoy, 0, &root());
    }
    for _ in 0..500 {
        send(&mut envoy, 0, &flood);
    }
    let counts = by_origin(&received(&mut envoy, FLUSH));
    assert_eq!(counts, BTreeMap::from([("5001".to_owned(), 190), ("here".to_owned(), 10)]));
    envoy.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(books(&envoy, "spans"), [1010, 200, 810]);
}

#[test]
fn made_up_accounts_do_not_push_out_what_starts_here() {
    let mut envoy = start(&limited(2400), 1);
    for number in 0..1000 {
        send(&mut envoy, 0, &entry_of(&format!("9{number:05}"), "01", "1", "999999"));
    }
    for _ in 0..100 {
        send(&mut envoy, 0, &root());
    }
    let counts = by_origin(&received(&mut envoy, FLUSH));
    assert_eq!(counts.values().sum::<usize>(), 200);
    assert_eq!(counts["here"], 50);
}

#[test]
fn transactions_have_a_reservoir_of_their_own_sampled_or_not() {
    let event_api = json!({ "event_api": { "cluster": "receiver", "gzip": false } });
    let more = json!({ "exporters": event_api, "transaction_events": { "max_samples_stored": 100 } });
    let mut envoy = start(&tracing(&more), 2);
    for number in 0..150 {
        send(&mut envoy, 0, &entry("00", "0", &rank(number)));
    }
    let records = received(&mut envoy, FLUSH);
    assert_eq!(priorities(&records), best(150, 100));
    assert!(records.iter().all(|record| record["sampled"] == json!(false)));
    send(&mut envoy, 1, &root());
    assert_eq!(received(&mut envoy, FLUSH).len(), 0, "the minute's limit is that of all workers");
    assert_eq!(books(&envoy, "transactions"), [151, 100, 51]);
}

#[test]
fn without_a_limit_only_the_queue_has_one() {
    let unlimited = |queue_bytes: u64| {
        let trace_api = json!({ "cluster": "receiver", "gzip": false, "max_queue_bytes": queue_bytes });
        tracing(
            &json!({ "exporters": { "trace_api": trace_api }, "span_events": { "max_samples_stored": "unlimited" } }),
        )
    };
    let mut envoy = start(&unlimited(4 << 20), 1);
    for _ in 0..2500 {
        send(&mut envoy, 0, &root());
    }
    assert_eq!(received(&mut envoy, FLUSH).len(), 2500);
    envoy.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(books(&envoy, "spans"), [2500, 2500, 0]);

    let mut envoy = start(&unlimited(20_000), 1);
    for _ in 0..500 {
        send(&mut envoy, 0, &root());
    }
    let kept = received(&mut envoy, FLUSH).len() as u64;
    assert!((10..100).contains(&kept), "{kept}");
    envoy.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(books(&envoy, "spans"), [500, kept, 0]);
    assert_eq!(envoy.counter("newrelic.spans.dropped.queue_bytes"), 500 - kept);
}

#[test]
fn log_lines_keep_to_the_minutes_limit_of_all_workers() {
    // Lines are claimed in chunks of a hundred-and-twentieth; a worker's last chunk may not be used up.
    const CHUNK: usize = 5;
    const LIMIT: usize = 600;
    let to_the_log = tracing(&json!({ "exporters": { "log": {} }, "span_events": { "max_samples_stored": LIMIT } }));
    for workers in [1, 4] {
        let mut envoy = start(&to_the_log, workers);
        let mut lines = 0;
        for _ in 0..20 {
            for number in 0..150 {
                let stream = envoy.stream().worker(number % workers);
                stream.exchange(request(&root()), [(":status", "200")]).unwrap();
            }
            envoy.advance(Duration::from_secs(1)).unwrap();
            lines += envoy.logs().iter().filter(|line| line.message.starts_with("span ")).count();
            envoy.clear_journal();
        }
        assert!((LIMIT - workers * CHUNK..=LIMIT).contains(&lines), "{lines} lines of {workers} workers");
        let [recorded, exported, dropped] = books(&envoy, "spans");
        assert_eq!((recorded, exported, dropped), (20 * 150, lines as u64, 20 * 150 - lines as u64));
    }
}
