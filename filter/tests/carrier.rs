//! Carriers that are not HTTP: distributed tracing between two applications, hostile metadata, and the example
//! program, which does it between two processes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use newrelic_tracing::carrier::{
    Carrier, DistributedTracing, Extracted, Inputs, NEWRELIC, TRACEPARENT, TRACESTATE, TRACESTATE_BYTES_MAX,
    Transaction, VALUE_BYTES_MAX,
};
use newrelic_tracing::config;
use newrelic_tracing::id::{ParentId, SpanId, TraceId};
use newrelic_tracing::newrelic::payload::PayloadError;
use newrelic_tracing::propagation::Refusal;
use newrelic_tracing::random::RandomPool;
use newrelic_tracing::sampler::Decision;
use newrelic_tracing::stats::{Counter, Stats};
use newrelic_tracing::w3c::traceparent::TraceparentError;
use proptest::prelude::*;

type Message = Vec<(String, Vec<u8>)>;

const NOW_NS: u64 = 1_750_000_000_123_000_000;
const OWN: &str = r#""account_id": "4001", "trusted_account_key": "777", "primary_application_id": "90210""#;

const PARENT: &str = "00-c0a8017e5d3b4f2226e1d47b08aa3f5c-b7d20c4e19f86a35-01";
const STATE: &str =
    "vend1=q9/Zx.7,777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-2.0381479-1749999999900 , zeta=4*k";
const PAYLOAD: &str = r#"{"v":[0,1],"d":{"ty":"App","ac":"4002","ap":"55","id":"AA11bb22cc33dd44","tx":"1122334455667788","tr":"4Ad91cE07b35F268","pr":1.5,"sa":true,"ti":1749999999900,"tk":"777"}}"#;

/// One application with a clock that stands still.
struct Application {
    tracing: DistributedTracing,
    random: RandomPool,
    stats: Stats,
}

impl Application {
    fn new(members: &str) -> Self {
        let config = config::parse(format!("{{{members}}}").as_bytes(), &|_| None).unwrap();
        let tracing = DistributedTracing::new(&config).unwrap();
        Self { tracing, random: RandomPool::new(7), stats: Stats::default() }
    }

    fn extract(&mut self, transaction: &mut Transaction, request: &Message) -> Extracted {
        self.tracing.extract_request(transaction, request, &mut self.stats)
    }

    fn inject(&mut self, transaction: &mut Transaction, request: &mut Message) {
        let inputs = Inputs { now_ns: NOW_NS, random: &mut self.random, stats: &mut self.stats };
        self.tracing.inject_request(transaction, span_id(), request, inputs);
    }

    fn sample(&mut self, transaction: &mut Transaction) -> Decision {
        let inputs = Inputs { now_ns: NOW_NS, random: &mut self.random, stats: &mut self.stats };
        self.tracing.sample(transaction, inputs)
    }
}

fn transaction() -> Transaction {
    let guid = SpanId::from_hex(b"9f8e7d6c5b4a3921").unwrap();
    Transaction::new(guid, TraceId::from_hex(b"0f1e2d3c4b5a69788796a5b4c3d2e1f0").unwrap())
}

fn span_id() -> SpanId {
    SpanId::from_hex(b"c3d4e5f60718293a").unwrap()
}

fn message(pairs: &[(&str, &str)]) -> Message {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

/// All values under a name, as text.
fn values(message: &Message, name: &str) -> Vec<String> {
    message.values(name).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

#[test]
fn a_new_trace_is_written_in_both_forms() {
    let mut storefront =
        Application::new(&format!(r#"{OWN}, "distributed_tracing": {{"sampler": {{"root": "always_on"}}}}"#));
    let (mut calling, mut request) = (transaction(), Message::new());
    storefront.inject(&mut calling, &mut request);
    assert_eq!(values(&request, TRACEPARENT), ["00-0f1e2d3c4b5a69788796a5b4c3d2e1f0-c3d4e5f60718293a-01"]);
    assert_eq!(values(&request, TRACESTATE), ["777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-1-3-1750000000123"]);
    let payload = values(&request, NEWRELIC);
    assert_eq!(
        payload,
        [
            "eyJ2IjpbMCwxXSwiZCI6eyJ0eSI6IkFwcCIsImFjIjoiNDAwMSIsImFwIjoiOTAyMTAiLCJpZCI6ImMzZDRlNWY2MDcxODI5M2EiLCJ0eCI6IjlmOGU3ZDZjNWI0YTM5MjEiLCJ0ciI6IjBmMWUyZDNjNGI1YTY5Nzg4Nzk2YTViNGMzZDJlMWYwIiwicHIiOjMsInNhIjp0cnVlLCJ0aSI6MTc1MDAwMDAwMDEyMywidGsiOiI3NzcifX0="
        ]
    );
    assert_eq!(request.len(), 3);
    for (counter, expected) in [(Counter::W3cCreated, 1), (Counter::PayloadCreated, 1), (Counter::DecisionsSampled, 1)]
    {
        assert_eq!(storefront.stats.pending(counter), expected, "{counter:?}");
    }
}

#[test]
fn a_continued_trace_keeps_its_id_its_priority_and_other_vendors() {
    let mut inventory = Application::new(OWN);
    let mut called = transaction();
    let request = message(&[(TRACEPARENT, PARENT), (TRACESTATE, STATE), (NEWRELIC, PAYLOAD)]);
    assert_eq!(inventory.extract(&mut called, &request), Extracted::Parent);

    let parent = inventory.tracing.parent(&called).unwrap();
    assert_eq!(parent.parent_id, Some(ParentId::Span(SpanId::from_hex(b"b7d20c4e19f86a35").unwrap())));
    let caller = parent.caller.unwrap();
    assert_eq!((&*caller.account_id, &*caller.app_id), (&b"4002"[..], &b"55"[..]));
    assert_eq!(caller.transaction_id.as_deref(), Some(&b"1122334455667788"[..]));
    assert_eq!(caller.trusted_parent_id.as_deref(), Some(&b"aa11bb22cc33dd44"[..]));

    let mut onward = Message::new();
    inventory.inject(&mut called, &mut onward);
    assert_eq!(values(&onward, TRACEPARENT), ["00-c0a8017e5d3b4f2226e1d47b08aa3f5c-c3d4e5f60718293a-01"]);
    assert_eq!(
        values(&onward, TRACESTATE),
        ["777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-1-2.038148-1750000000123,vend1=q9/Zx.7,zeta=4*k"]
    );
    assert_eq!(inventory.stats.pending(Counter::W3cAccepted), 1);
    assert_eq!(inventory.stats.pending(Counter::DecisionsSampled), 0, "the decision is the caller's");
}

#[test]
fn a_trace_of_new_relics_own_form_keeps_its_spelling() {
    let mut inventory = Application::new(OWN);
    let mut called = transaction();
    assert_eq!(inventory.extract(&mut called, &message(&[("NewRelic", PAYLOAD)])), Extracted::Parent);
    assert_eq!(called.trace().received.as_deref(), Some("4Ad91cE07b35F268"));
    let parent = inventory.tracing.parent(&called).unwrap();
    assert_eq!(parent.parent_id, Some(ParentId::Text("AA11bb22cc33dd44".into())));

    let mut onward = Message::new();
    inventory.inject(&mut called, &mut onward);
    assert_eq!(values(&onward, TRACEPARENT), ["00-00000000000000004ad91ce07b35f268-c3d4e5f60718293a-01"]);
    assert_eq!(
        values(&onward, NEWRELIC),
        [
            "eyJ2IjpbMCwxXSwiZCI6eyJ0eSI6IkFwcCIsImFjIjoiNDAwMSIsImFwIjoiOTAyMTAiLCJpZCI6ImMzZDRlNWY2MDcxODI5M2EiLCJ0eCI6IjlmOGU3ZDZjNWI0YTM5MjEiLCJ0ciI6IjRBZDkxY0UwN2IzNUYyNjgiLCJwciI6MS41LCJzYSI6dHJ1ZSwidGkiOjE3NTAwMDAwMDAxMjMsInRrIjoiNzc3In19"
        ]
    );
}

#[test]
fn metadata_that_was_copied_from_elsewhere_is_replaced() {
    let mut storefront = Application::new(r#""distributed_tracing": {"exclude_newrelic_header": true}"#);
    let mut request = message(&[
        ("TraceParent", PARENT),
        ("tracestate", STATE),
        ("traceparent", PARENT),
        ("other", "stays"),
        ("NEWRELIC", PAYLOAD),
    ]);
    storefront.inject(&mut transaction(), &mut request);
    assert_eq!(values(&request, TRACEPARENT).len(), 1);
    assert_ne!(values(&request, TRACEPARENT), [PARENT]);
    assert_eq!(values(&request, TRACESTATE), [""; 0], "there is no account to write an entry for");
    assert_eq!(values(&request, NEWRELIC), [""; 0]);
    assert_eq!(values(&request, "other"), ["stays"]);
}

#[test]
fn what_is_absent_and_what_is_refused_do_not_look_alike() {
    let own_trace = transaction().trace().clone();
    for (request, expected, counter) in [
        (message(&[]), Extracted::Absent, None),
        (message(&[(TRACESTATE, STATE)]), Extracted::Absent, None),
        (message(&[(TRACEPARENT, " ")]), Extracted::Absent, None),
        (
            message(&[(TRACEPARENT, "00-0-0-01"), (NEWRELIC, PAYLOAD)]),
            Extracted::Refused(Refusal::Traceparent(TraceparentError::TraceId)),
            Some(Counter::TraceparentInvalid),
        ),
        (
            message(&[(TRACEPARENT, PARENT), ("Traceparent", PARENT)]),
            Extracted::Refused(Refusal::Traceparent(TraceparentError::Repeated)),
            Some(Counter::TraceparentInvalid),
        ),
        (
            message(&[(NEWRELIC, &PAYLOAD.replace("777", "778"))]),
            Extracted::Refused(Refusal::Payload(PayloadError::UntrustedAccount)),
            Some(Counter::PayloadUntrusted),
        ),
        (
            message(&[(NEWRELIC, "{")]),
            Extracted::Refused(Refusal::Payload(PayloadError::Parse)),
            Some(Counter::PayloadParseException),
        ),
    ] {
        let mut inventory = Application::new(OWN);
        let mut called = transaction();
        assert_eq!(inventory.extract(&mut called, &request), expected, "{request:?}");
        assert_eq!(called.trace(), &own_trace, "{request:?}");
        assert!(inventory.tracing.parent(&called).is_none(), "{request:?}");
        if let Some(counter) = counter {
            assert_eq!(inventory.stats.pending(counter), 1, "{request:?}");
        }
        let request = message(&[(TRACEPARENT, PARENT)]);
        assert_eq!(inventory.extract(&mut called, &request), Extracted::Parent, "the next one may count");
    }
}

#[test]
fn the_first_accept_counts_and_none_after_a_request_was_sent() {
    let mut inventory = Application::new(OWN);
    let other = PARENT.replace("c0a8", "ffff");
    let (first, second) = (message(&[(TRACEPARENT, PARENT)]), message(&[(TRACEPARENT, &other)]));

    let mut called = transaction();
    assert_eq!(inventory.extract(&mut called, &first), Extracted::Parent);
    assert_eq!(inventory.extract(&mut called, &second), Extracted::Multiple);
    assert_eq!(called.trace().id.to_hex(), *b"c0a8017e5d3b4f2226e1d47b08aa3f5c");
    assert_eq!(inventory.stats.pending(Counter::PayloadMultiple), 1);

    let mut calling = transaction();
    inventory.inject(&mut calling, &mut Message::new());
    assert_eq!(inventory.extract(&mut calling, &first), Extracted::CreateBeforeAccept);
    assert_eq!(calling.trace(), transaction().trace());
    assert_eq!(inventory.stats.pending(Counter::PayloadCreateBeforeAccept), 1);
    assert_eq!(inventory.stats.pending(Counter::W3cAccepted), 1, "what is ignored is not read");
}

#[test]
fn a_transaction_is_decided_once_and_every_request_tells_the_same() {
    let mut storefront = Application::new(OWN);
    let mut calling = transaction();
    assert_eq!(calling.decision(), None);
    let decision = storefront.sample(&mut calling);
    let mut requests = [Message::new(), Message::new()];
    requests.iter_mut().for_each(|request| storefront.inject(&mut calling, request));
    assert_eq!(requests[0], requests[1]);
    assert_eq!(storefront.sample(&mut calling), decision);
    assert_eq!(storefront.stats.pending(Counter::DecisionsSampled), 1);
}

#[test]
fn a_caller_decides_also_when_the_transaction_had_decided_for_itself() {
    let mut inventory = Application::new(OWN);
    let mut called = transaction();
    assert!(inventory.sample(&mut called).sampled, "the first trace of a period is sampled");
    let unsampled = STATE.replace("-1-2.0381479-", "-0-0.25-");
    let request = message(&[(TRACEPARENT, &PARENT.replace("-01", "-00")), (TRACESTATE, &unsampled)]);
    assert_eq!(inventory.extract(&mut called, &request), Extracted::Parent);
    assert_eq!(called.decision(), None);
    let decision = inventory.sample(&mut called);
    assert_eq!((decision.sampled, decision.priority.as_micros()), (false, 250_000));
}

#[test]
fn the_adaptive_target_holds_without_a_proxy() {
    let mut storefront = Application::new(OWN);
    let sampled = (0..1000).filter(|_| storefront.sample(&mut transaction()).sampled).count();
    assert_eq!(sampled, 10);
    assert_eq!(storefront.stats.pending(Counter::DecisionsSampled), 10);
    assert_eq!(storefront.stats.pending(Counter::DecisionsNotSampled), 990);
}

#[test]
fn there_is_nothing_to_carry_when_distributed_tracing_is_switched_off() {
    let config = config::parse(br#"{"distributed_tracing": {"enabled": false}}"#, &|_| None).unwrap();
    assert!(DistributedTracing::new(&config).is_none());
}

#[test]
fn values_are_read_up_to_a_bound() {
    let mut inventory = Application::new(OWN);
    let refused = |request: &Message, inventory: &mut Application| inventory.extract(&mut transaction(), request);

    let long = format!("{PARENT}{}", "x".repeat(2 * VALUE_BYTES_MAX));
    let request = message(&[(TRACEPARENT, &long)]);
    let why = Refusal::Traceparent(TraceparentError::TrailingData);
    assert_eq!(refused(&request, &mut inventory), Extracted::Refused(why));

    let long = PAYLOAD.replace("{\"v\"", &format!("{{\"x\":\"{}\",\"v\"", "x".repeat(2 * VALUE_BYTES_MAX)));
    let request = message(&[(NEWRELIC, &long)]);
    assert_eq!(refused(&request, &mut inventory), Extracted::Refused(Refusal::Payload(PayloadError::Parse)));

    // The line that does not fit is left out whole; those around it stay.
    let huge = format!("huge={}", "x".repeat(TRACESTATE_BYTES_MAX));
    let request = message(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=1"), (TRACESTATE, &huge), (TRACESTATE, "b=2")]);
    let mut called = transaction();
    assert_eq!(inventory.extract(&mut called, &request), Extracted::Parent);
    let parent = inventory.tracing.parent(&called).unwrap();
    assert_eq!(parent.foreign.as_slice(), [&b"a=1"[..], b"b=2"]);
}

fn hostile_name() -> impl Strategy<Value = String> {
    prop_oneof![Just("traceparent".to_owned()), Just("tracestate".into()), Just("newrelic".into()), Just("x".into())]
}

fn hostile_value() -> impl Strategy<Value = Vec<u8>> {
    let near = |text: &'static str| {
        (any::<usize>(), any::<u8>()).prop_map(move |(at, byte)| {
            let mut value = text.as_bytes().to_vec();
            let at = at % value.len();
            value[at] = byte;
            value
        })
    };
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        near(PARENT),
        near(STATE),
        near(PAYLOAD),
        Just(PARENT.as_bytes().to_vec()),
        Just(STATE.as_bytes().to_vec()),
    ]
}

proptest! {
    /// Whatever came in, what goes on can be read again, names the same trace, and stays within its alphabet.
    #[test]
    fn any_metadata_leads_to_metadata_that_can_be_read(
        request in proptest::collection::vec((hostile_name(), hostile_value()), 0..6),
    ) {
        let mut inventory = Application::new(OWN);
        let mut called = transaction();
        let extracted = inventory.extract(&mut called, &request);
        let is_own = called.trace() == transaction().trace();
        prop_assert!(extracted == Extracted::Parent || is_own, "{:?}", extracted);

        let mut onward = request;
        inventory.inject(&mut called, &mut onward);
        for name in [TRACEPARENT, TRACESTATE, NEWRELIC] {
            let values = values(&onward, name);
            prop_assert_eq!(values.len(), 1, "{}", name);
            prop_assert!(values[0].bytes().all(|byte| matches!(byte, b' '..=b'~')), "{:?}", values);
        }
        let mut next = transaction();
        prop_assert_eq!(inventory.extract(&mut next, &onward), Extracted::Parent);
        prop_assert_eq!(next.trace().id, called.trace().id);
        let newrelic_only: Message = onward.into_iter().filter(|(name, _)| name == NEWRELIC).collect();
        let mut next = transaction();
        prop_assert_eq!(inventory.extract(&mut next, &newrelic_only), Extracted::Parent);
        prop_assert_eq!(next.trace().id, called.trace().id);
    }
}

/// What the example printed: for each mode, the values of each application's facts, in order.
type Told = BTreeMap<(String, String), Vec<String>>;

/// Cargo builds the examples together with all tests, in the folder next to theirs; not for `--test carrier` alone.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let example = profile.join("examples").join(format!("tcp_messages{}", std::env::consts::EXE_SUFFIX));
    assert!(example.is_file(), "{} is missing: `cargo build --example tcp_messages` makes it", example.display());
    example
}

fn run_example() -> BTreeMap<String, Told> {
    let output = Command::new(example()).output().unwrap();
    let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{errors}");
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    let mut mode = String::new();
    for line in text.lines() {
        let (application, fact) = line.split_once(' ').unwrap();
        let (name, value) = fact.trim_start().split_once(' ').unwrap();
        if name == "mode" {
            mode = value.trim().to_owned();
        }
        let facts = told.entry(mode.clone()).or_default();
        facts.entry((application.to_owned(), name.to_owned())).or_default().push(value.trim().to_owned());
    }
    told
}

fn fact<'a>(told: &'a Told, application: &str, name: &str) -> &'a str {
    let key = (application.to_owned(), name.to_owned());
    match told.get(&key).map(Vec::as_slice) {
        Some([value]) => value,
        other => panic!("{application} told {other:?} of {name}: {told:#?}"),
    }
}

#[test]
fn the_example_carries_a_trace_from_process_to_process() {
    let told = run_example();
    let of = |application, name| fact(&told["distributed"], application, name);

    let trace_id = of("storefront", "trace_id");
    assert_eq!(trace_id.len(), 32);
    assert_eq!(of("inventory", "trace_id"), trace_id);
    assert_eq!(of("inventory", "parent.span_id"), of("storefront", "span_id"));
    assert_eq!(of("inventory", "parent.transaction_id"), of("storefront", "transaction_id"));
    assert_ne!(of("inventory", "transaction_id"), of("storefront", "transaction_id"));
    assert_eq!((of("inventory", "parent.account"), of("inventory", "parent.app")), ("4002", "55"));
    for name in ["sampled", "priority"] {
        assert_eq!(of("inventory", name), of("storefront", name), "{name}");
    }
    let span_id = of("storefront", "span_id");
    assert_eq!(of("storefront", "sent.traceparent"), format!("00-{trace_id}-{span_id}-01"));
    assert_eq!((of("inventory", "second_accept"), of("inventory", "ignored")), ("Multiple", "1"));
    assert_eq!(of("storefront", "answer"), "17 are left");
}

#[test]
fn the_example_carries_a_trip_from_process_to_process_and_the_answer_back() {
    let told = run_example();
    let of = |application, name| fact(&told["cross-application"], application, name);

    let trip_id = of("storefront", "nr.tripId");
    assert_eq!(trip_id.len(), 16);
    assert_eq!(trip_id, of("storefront", "nr.guid"), "the trip begins there");
    assert_eq!(of("inventory", "nr.tripId"), trip_id);
    assert_eq!(of("inventory", "nr.referringTransactionGuid"), of("storefront", "nr.guid"));
    assert_eq!(of("inventory", "nr.referringPathHash"), of("storefront", "nr.pathHash"));
    assert_eq!((of("storefront", "nr.pathHash"), of("inventory", "nr.pathHash")), ("c5b24084", "ea1ec219"));
    assert_eq!(of("inventory", "client_cross_process_id"), "4002#55");

    assert_eq!(of("inventory", "tells_the_caller"), "true");
    assert_eq!(of("storefront", "answered.by"), "4001#90210");
    assert_eq!(of("storefront", "answered.transaction"), "OtherTransaction/Custom/stock");
    assert_eq!(of("storefront", "answered.guid"), of("inventory", "nr.guid"));
    assert_eq!(of("storefront", "answered.content_length"), "18");
    assert_eq!(of("storefront", "answer"), "17 are left");
}
