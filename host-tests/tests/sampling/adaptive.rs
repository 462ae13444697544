//! The adaptive sampler of one worker, draw by draw.

use host_tests::{Envoy, Thread};
use serde_json::{Value, json};

use crate::harness::Recorded::Full;
use crate::harness::{
    Decision, PERIOD_NS, SECOND_NS, START_NS, builder, configuration, entry, is_sampled, payload, root, sampled_of,
    send, w3c, with,
};

/// Random bytes for new traces at an inbound proxy, in the order in which it draws them.
#[derive(Default)]
struct Script(Vec<u8>);

impl Script {
    /// Ids of the next request: trace, transaction and entry span.
    fn ids(mut self) -> Self {
        self.0.extend([0x11; 16 + 8 + 8]);
        self
    }

    /// The next request draws `value` of `range` numbers.
    fn draw(mut self, value: u64, range: u64) -> Self {
        let draw = u64::try_from((u128::from(value) << 64).div_ceil(u128::from(range))).unwrap();
        self.0.extend(draw.to_be_bytes());
        self
    }

    /// Its priority before anything is added is so many quarters.
    fn base_quarters(mut self, quarters: u8) -> Self {
        self.0.extend([quarters << 6, 0, 0, 0]);
        self
    }

    /// A request without a draw.
    fn undrawn(self) -> Self {
        self.ids().base_quarters(1)
    }

    /// A request with one.
    fn drawn(self, value: u64, range: u64) -> Self {
        self.ids().draw(value, range).base_quarters(1)
    }
}

fn inbound(target: u16, script: &Script) -> Envoy {
    let sampler = json!({ "adaptive_sampling_target": target });
    let configuration = with(&configuration(&sampler), &json!({ "role": "inbound" }));
    builder(&configuration).random(Thread::Worker(0), &script.0).start().unwrap()
}

/// Whether a request so many seconds after the start is sampled, and its priority. No timer fires on the way.
fn decide(envoy: &mut Envoy, second: u64) -> (bool, String) {
    envoy.set_wall_clock_ns(START_NS + second * SECOND_NS);
    let seen = send(envoy, &root());
    let tracestate = seen.upstream.text("tracestate").unwrap();
    (is_sampled(&seen.upstream), tracestate.split('-').nth(7).unwrap().to_owned())
}

fn yes() -> (bool, String) {
    (true, "2.25".to_owned())
}

fn no() -> (bool, String) {
    (false, "0.25".to_owned())
}

#[test]
fn the_first_period_takes_the_first_requests_and_the_next_one_draws() {
    let script = (0..5).fold(Script::default(), |script, _| script.undrawn());
    let script = script.drawn(2, 5).drawn(4, 5).drawn(3, 5);
    // Idle for a whole period: a yes that needs no draw, as the numbers for the priority come right after the ids.
    let script = script.ids().base_quarters(3);
    let mut envoy = inbound(3, &script);
    let first: Vec<_> = (0..5).map(|second| decide(&mut envoy, second)).collect();
    assert_eq!(first, [yes(), yes(), yes(), no(), no()]);
    let second: Vec<_> = (0..3).map(|_| decide(&mut envoy, 61)).collect();
    assert_eq!(second, [yes(), no(), no()]);
    assert_eq!(decide(&mut envoy, 200), (true, "2.75".to_owned()));
}

/// A proxy with target 10 that has seen 40 requests in its second period and sampled 10 of them.
fn in_back_off(last: impl FnOnce(Script) -> Script) -> Envoy {
    let mut script = (0..10).fold(Script::default(), |script, _| script.undrawn());
    // Ten requests in the first period make every draw of the second one a yes, until the target is reached.
    script = (0..10).fold(script, |script, _| script.drawn(9, 10));
    script = (10..40).fold(script, |script, seen| script.drawn(seen - 1, seen));
    let mut envoy = inbound(10, &last(script));
    let first: Vec<_> = (0..10).map(|_| decide(&mut envoy, 0)).collect();
    assert_eq!(first, vec![yes(); 10]);
    let second: Vec<_> = (0..40).map(|_| decide(&mut envoy, 60)).collect();
    assert_eq!(second, [vec![yes(); 10], vec![no(); 30]].concat());
    envoy
}

#[test]
fn beyond_the_target_the_threshold_falls_with_every_sample() {
    // The threshold is 6.8377 after ten samples and 4.9490 after eleven.
    for (draws, expected) in [([6, 5], [yes(), no()]), ([7, 6], [no(), yes()]), ([6, 4], [yes(), yes()])] {
        let mut envoy = in_back_off(|script| script.drawn(draws[0], 40).drawn(draws[1], 41));
        assert_eq!([decide(&mut envoy, 61), decide(&mut envoy, 119)], expected, "draws {draws:?}");
    }
}

#[test]
fn back_off_ends_at_twice_the_target() {
    let always_the_least = |script| (40..140).fold(script, |script: Script, seen| script.drawn(0, seen));
    // More random bytes than one refill has are no problem: a draw of 0 is all zeros at any place.
    let mut envoy = in_back_off(|script| {
        let mut script: Script = always_the_least(script);
        script.0.truncate(4000);
        script.0.resize(64 << 10, 0);
        script
    });
    let sampled = (0..100).filter(|_| decide(&mut envoy, 61).0).count();
    assert_eq!(sampled, 10);
}

#[test]
fn inherited_decisions_leave_the_target_alone() {
    let mut envoy = builder(&configuration(&json!({ "adaptive_sampling_target": 2 }))).start().unwrap();
    assert_eq!(sampled_of(&mut envoy, 5, &entry("01", "1", "1.7")), 5);
    assert_eq!(sampled_of(&mut envoy, 5, &entry("00", "0", "0.7")), 0);
    assert_eq!(sampled_of(&mut envoy, 5, &payload("ab", &json!(true), &Value::Null)), 5);
    assert_eq!(sampled_of(&mut envoy, 5, &root()), 2);
    assert_eq!(send(&mut envoy, &entry("00", "1", "1.7")).decision(), Decision::new(true, "1.7", Full));
}

#[test]
fn sections_share_a_target_unless_they_have_their_own() {
    let own = |target: u16| json!({ "adaptive": { "sampling_target": target } });
    let partial = json!({ "enabled": true, "root": own(4), "remote_parent_sampled": "adaptive" });
    let sampler = json!({
        "adaptive_sampling_target": 3,
        "root": own(2),
        "remote_parent_sampled": { "adaptive": {} },
        "remote_parent_not_sampled": "default",
        "partial_granularity": partial,
    });
    let mut envoy = builder(&configuration(&sampler)).start().unwrap();
    // Two at full granularity, and four at partial granularity behind it.
    assert_eq!(sampled_of(&mut envoy, 20, &root()), 6);
    assert_eq!(sampled_of(&mut envoy, 2, &w3c("00")), 2);
    // One is left of three, and partial granularity has no other target here.
    assert_eq!(sampled_of(&mut envoy, 20, &w3c("01")), 1);
    assert_eq!(sampled_of(&mut envoy, 20, &w3c("00")), 0);
    // A minute later everybody has a new target.
    envoy.set_wall_clock_ns(START_NS + 3 * PERIOD_NS);
    assert!((3..=12).contains(&sampled_of(&mut envoy, 20, &root())));
}
