//! One target for the whole process, whatever its workers and plugin instances.

use std::time::Duration;

use host_tests::{Builder, Direction, Ending, Envoy, FailurePolicy, Fault, Plugin, Status, StreamId, Thread};
use serde_json::{Value, json};

use crate::harness::{configuration, counted_decisions, is_sampled, module, plugin, request, root, with};

const TARGET: usize = 10;
/// Root requests of a busy minute.
const REQUESTS: usize = 10_000;
const PERIOD: Duration = Duration::from_mins(1);
/// The listeners of two plugin instances.
const LISTENERS: [&str; 2] = ["first", "second"];

/// An inbound proxy that makes nothing but spans.
fn spans_only(sampler: &Value) -> Value {
    let more = json!({ "role": "inbound", "transaction_events": { "enabled": false } });
    with(&configuration(sampler), &more)
}

/// How requests reach the process in one period.
#[derive(Debug, Clone, Copy)]
struct Load {
    workers: usize,
    instances: usize,
    /// On all workers in turns, or all on one.
    even: bool,
    requests: usize,
    /// All in the same moment, or spread over the period.
    at_once: bool,
}

impl Load {
    fn start(self) -> Envoy {
        let plugins = LISTENERS.iter().take(self.instances).map(|listener| instance(listener, &json!({})));
        let start = plugins.fold(Envoy::builder(module()), Builder::plugin).workers(self.workers);
        start.seed(self.workers as u64).start().unwrap()
    }

    /// Sends root requests until the period is over.
    fn run(self, envoy: &mut Envoy) -> Period {
        let mut period = Period::default();
        let pause = if self.at_once { Duration::ZERO } else { PERIOD / u32::try_from(self.requests).unwrap() };
        for number in 0..self.requests {
            let worker = if self.even { number % self.workers } else { self.workers / 2 };
            // Each worker serves both listeners.
            let listener = LISTENERS[number / self.workers % self.instances];
            let Decided { sampled, shared_data_calls } = decide(envoy, worker, listener);
            period.sampled += usize::from(sampled);
            period.asked_in_vain += usize::from(shared_data_calls > 0 && !sampled);
            envoy.advance(pause).unwrap();
        }
        if self.at_once {
            envoy.advance(PERIOD).unwrap();
        }
        period
    }
}

/// A plugin on a listener of its own.
fn instance(listener: &str, sampler: &Value) -> Plugin {
    let plugin = plugin(&spans_only(sampler)).listener(listener, Direction::Inbound);
    Plugin { name: listener.to_owned(), ..plugin }
}

/// What happened in a period.
#[derive(Debug, Default)]
struct Period {
    sampled: usize,
    /// Requests that were not sampled, but only after a look at shared data.
    asked_in_vain: usize,
}

/// What became of one request.
struct Decided {
    sampled: bool,
    shared_data_calls: usize,
}

/// Sends a root request, which leaves nothing behind.
fn decide(envoy: &mut Envoy, worker: usize, listener: &str) -> Decided {
    let stream = envoy.stream().worker(worker).listener(listener).open();
    let upstream = envoy.request_headers(stream, request(&root())).unwrap();
    envoy.end(stream, Ending::complete()).unwrap();
    let decided = Decided { sampled: is_sampled(&upstream), shared_data_calls: calls_of_shared_data(envoy, stream) };
    envoy.forget(stream);
    envoy.clear_journal();
    decided
}

/// Of the decision alone: the log claims its budget when the stream ends.
fn calls_of_shared_data(envoy: &Envoy, stream: StreamId) -> usize {
    let callbacks = envoy.callbacks_of(stream);
    let deciding = callbacks.iter().filter(|callback| callback.name == "proxy_on_request_headers");
    deciding.flat_map(|callback| &callback.host_calls).filter(|call| call.name.contains("shared_data")).count()
}

/// How many of so many root requests, one after the other, are sampled.
fn sampled_of(envoy: &mut Envoy, requests: usize, worker: usize, listener: &str) -> usize {
    (0..requests).filter(|_| decide(envoy, worker, listener).sampled).count()
}

/// Two periods with 10,000 requests each.
fn check_busy_minutes(workers: usize, instances: usize) {
    for even in [true, false] {
        let load = Load { workers, instances, even, requests: REQUESTS, at_once: false };
        let mut envoy = load.start();
        let first = load.run(&mut envoy);
        assert_eq!(first.sampled, TARGET, "{load:?}");
        let busy = if even { workers } else { 1 };
        assert!(first.asked_in_vain <= busy * instances, "{load:?}: {first:?}");
        let second = load.run(&mut envoy);
        assert!((1..=2 * TARGET).contains(&second.sampled), "{load:?}: {second:?}");
        assert!(second.asked_in_vain <= busy * instances, "{load:?}: {second:?}");

        let sampled = (first.sampled + second.sampled) as u64;
        let [yes, no] = counted_decisions(&mut envoy);
        assert_eq!((yes, yes + no), (sampled, 2 * REQUESTS as u64), "{load:?}");
        assert_eq!(envoy.counter("newrelic.spans.recorded"), sampled, "{load:?}");
    }
}

#[test]
fn one_worker_samples_the_target_and_never_more_than_twice() {
    check_busy_minutes(1, 1);
    check_busy_minutes(1, 2);
}

#[test]
fn four_workers_share_one_target() {
    check_busy_minutes(4, 1);
}

#[test]
fn four_workers_with_two_plugin_instances_share_one_target() {
    check_busy_minutes(4, 2);
}

#[test]
fn sixteen_workers_share_one_target() {
    check_busy_minutes(16, 1);
}

#[test]
fn sixteen_workers_with_two_plugin_instances_share_one_target() {
    check_busy_minutes(16, 2);
}

#[test]
fn bursts_keep_to_the_target_before_any_tick() {
    for (workers, instances) in [(1, 1), (4, 2), (16, 1), (16, 2)] {
        let load = Load { workers, instances, even: true, requests: 500, at_once: true };
        let mut envoy = load.start();
        assert_eq!(load.run(&mut envoy).sampled, TARGET, "{load:?}");
        for _ in 0..4 {
            let later = load.run(&mut envoy);
            assert!((1..=2 * TARGET).contains(&later.sampled), "{load:?}: {later:?}");
        }
    }
}

#[test]
fn instances_share_a_target_only_with_their_like() {
    let own = |target: u64| json!({ "adaptive_sampling_target": target });
    let first = || instance("first", &own(4));
    let second = || instance("second", &own(4));
    let renamed = {
        let other = with(&spans_only(&own(4)), &json!({ "app_name": "another" }));
        Plugin { configuration: other.to_string().into_bytes(), ..second() }
    };
    for (why, second, expected) in [
        ("the same", second(), 0),
        ("the same in a VM of its own", second().vm_configuration("other"), 0),
        ("another namespace of shared data", second().vm_id("other"), 4),
        ("another application", renamed, 4),
        ("another target", instance("second", &own(5)), 5),
    ] {
        let mut envoy = Envoy::builder(module()).plugin(first()).plugin(second).workers(2).start().unwrap();
        assert_eq!(sampled_of(&mut envoy, 20, 0, "first"), 4, "{why}");
        assert_eq!(sampled_of(&mut envoy, 20, 1, "second"), expected, "{why}");
        assert_eq!(sampled_of(&mut envoy, 20, 1, "first"), 0, "{why}");
    }
}

#[test]
fn a_new_configuration_does_not_start_the_period_again() {
    let mut envoy = Envoy::builder(module()).plugin(instance("first", &json!({}))).workers(2).start().unwrap();
    assert_eq!(sampled_of(&mut envoy, 6, 0, "first"), 6);
    let more = with(&spans_only(&json!({})), &json!({ "exclude": [{ "path": "/health" }] }));
    let updated = Plugin { configuration: more.to_string().into_bytes(), ..instance("first", &json!({})) };
    envoy.update_plugin(updated).unwrap();
    assert_eq!(sampled_of(&mut envoy, 20, 1, "first"), 4);
}

#[test]
fn a_worker_that_dies_neither_gives_its_samples_back_nor_takes_the_target_along() {
    let plugin = instance("first", &json!({})).failure_policy(FailurePolicy::Reload);
    let start = Envoy::builder(module()).plugin(plugin).workers(2).fuel_max(5_000_000);
    let mut envoy = start.start().unwrap();
    assert_eq!(sampled_of(&mut envoy, 6, 0, "first"), 6);
    // Far more lines than Envoy lets through, so that the worker's VM runs out of the test host's fuel.
    let lines = (0..300_000).map(|number| ("x-line", number.to_string())).collect();
    let stream = envoy.stream().listener("first").open();
    assert!(envoy.request_headers(stream, request(&lines)).is_err());
    assert!(envoy.is_dead(Thread::Worker(0)));
    envoy.advance(Duration::from_secs(2)).unwrap();
    assert_eq!(sampled_of(&mut envoy, 20, 0, "first"), 4, "the new VM goes on where the old one was");
    assert_eq!(sampled_of(&mut envoy, 20, 1, "first"), 0);
}

#[test]
fn whoever_comes_second_asks_again() {
    let mut envoy = Envoy::builder(module()).plugin(instance("first", &json!({}))).start().unwrap();
    envoy.inject(Fault::on("proxy_set_shared_data", Status::CasMismatch).times(3));
    let decided = decide(&mut envoy, 0, "first");
    assert!(decided.sampled);
    assert_eq!(decided.shared_data_calls, 4 * 2, "each try reads and stores");

    envoy.inject(Fault::on("proxy_set_shared_data", Status::CasMismatch));
    let decided = decide(&mut envoy, 0, "first");
    assert!(!decided.sampled, "there is an end to the tries");
    assert!(decided.shared_data_calls <= 100, "{}", decided.shared_data_calls);
    envoy.clear_faults();
    assert_eq!(sampled_of(&mut envoy, 20, 0, "first"), 9);
}

#[test]
fn without_shared_data_each_worker_has_the_target_and_asks_no_more() {
    for refused in ["proxy_get_shared_data", "proxy_set_shared_data"] {
        let start = Envoy::builder(module()).plugin(instance("first", &json!({}))).workers(2);
        let mut envoy = start.inject(Fault::on(refused, Status::InternalFailure)).start().unwrap();
        for worker in [0, 1] {
            let first = decide(&mut envoy, worker, "first");
            assert!(first.sampled && first.shared_data_calls > 0, "{refused}");
            for _ in 0..20 {
                assert_eq!(decide(&mut envoy, worker, "first").shared_data_calls, 0, "{refused}");
            }
        }
        assert_eq!(counted_decisions(&mut envoy), [20, 22], "{refused}");
        let statistic = refused.replace("proxy_", "newrelic.host_refused.");
        assert!(envoy.counter(&statistic) > 0, "{refused}: {:?}", envoy.counters());
        envoy.clear_faults();
        envoy.advance(Duration::from_secs(1)).unwrap();
        assert_eq!(sampled_of(&mut envoy, 5, 0, "first"), 0, "{refused}: the process is over its target");
    }
}

#[test]
fn every_key_in_shared_data_says_whose_it_is() {
    let mut envoy = Envoy::builder(module()).plugin(instance("first", &json!({}))).start().unwrap();
    for _ in 0..20 {
        envoy.stream().listener("first").exchange(request(&root()), [(":status", "200")]).unwrap();
    }
    envoy.advance(Duration::from_secs(6)).unwrap();
    let calls: Vec<_> = envoy.callbacks().into_iter().flat_map(|callback| callback.host_calls).collect();
    let keys: Vec<_> = calls.iter().filter(|call| call.name.contains("shared_data")).map(|call| &call.about).collect();
    assert!(!keys.is_empty());
    assert!(keys.iter().all(|key| key.starts_with("newrelic-")), "{keys:?}");
}
