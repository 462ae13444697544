//! The cases of `cases/` against the native core. `host-tests/tests/scenarios.rs` runs the same ones in the module.

mod cases;

use cases::{Case, Line};
use newrelic_tracing::caller_metrics::CallerMetrics;
use newrelic_tracing::config::{self, Role, RoleSetting};
use newrelic_tracing::headers::{HeaderEdit, RequestHeaders, serialize_pairs};
use newrelic_tracing::random::RandomPool;
use newrelic_tracing::sampler::{Decision, Inbound, Samplers, Verdict};
use newrelic_tracing::span::{Records, Route, Times, Tracer};
use newrelic_tracing::stats::Stats;

#[test]
fn the_core_sends_on_what_each_case_says() {
    for case in cases::all() {
        case.check(&sent_on(&case));
    }
}

#[test]
fn a_case_with_a_key_that_nobody_reads_is_refused() {
    const KEYS: &str = r#""name":"n","configuration":{},"now_ms":1,"random":["00"],"request":[[":path","/"]]"#;
    let read = |rest: &str| Case::read(&format!("{{{KEYS},{rest}}}")).map(|case| case.name);
    assert_eq!(read(r#""upstream":{}"#), Ok("n".to_owned()));
    for (rest, key) in [(r#""upstream":{},"comment":"c""#, "comment"), (r#""upstream":{"x-other":"1"}"#, "x-other")] {
        assert_eq!(read(rest), Err(format!("{key}: nobody reads this key")));
    }
    assert_eq!(read(r#""upstreams":{}"#), Err("upstream: missing".to_owned()));
    assert_eq!(read(r#""upstream":[]"#), Err("upstream: another shape".to_owned()));
}

/// The header lines behind the core.
fn sent_on(case: &Case) -> Vec<Line> {
    let config = config::parse(case.configuration.as_bytes(), &|_| None).expect("the configuration is valid");
    let RoleSetting::Fixed(role) = config.role else { panic!("{}: the role is fixed", case.name) };
    let samplers = Samplers::new(&config.distributed_tracing.sampler, b"", false);
    let records = Records { sampled_spans: true, all_spans: false, transactions: true };
    let app_name = config.app_name.as_deref().unwrap_or_default().to_owned();
    let edits = edits(&Tracer::new(config, records, &app_name), samplers, role, case);
    edits.into_iter().fold(case.request.clone(), edited)
}

/// The changes the core asks for, as the host's side puts them together.
fn edits(tracer: &Tracer, mut samplers: Samplers, role: Role, case: &Case) -> Vec<HeaderEdit> {
    let buffer = serialize_pairs(case.request.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let headers = RequestHeaders::new(&buffer);
    let mut random = RandomPool::new(0);
    random.buffer_mut()[..case.random.len()].copy_from_slice(&case.random);
    random.refilled();
    let Some(opening) = tracer.open(role, &headers, &mut random, &mut Stats::default()) else { return Vec::new() };
    let decision = if tracer.is_distributed() {
        decide(&mut samplers, &opening.sampler_input(), case.now_ns, &mut random)
    } else {
        Decision::unsampled(&mut random)
    };
    let times = Times { start_ns: case.now_ns, now_ns: case.now_ns };
    let callers = &mut CallerMetrics::default();
    let (mut open, mut edits) = opening.start(tracer, decision, &headers, &Route::default(), times, callers);
    edits.extend(open.forward(tracer));
    edits
}

/// Decides with the worker's own state: what the workers share does not matter to a first request.
fn decide(samplers: &mut Samplers, inbound: &Inbound, now_ns: u64, random: &mut RandomPool) -> Decision {
    let mut verdict = samplers.decide(inbound, now_ns, random);
    loop {
        verdict = match verdict {
            Verdict::Final(decision) => return decision,
            Verdict::Claim(claim) => samplers.claim_local(claim, now_ns, random),
        }
    }
}

fn edited(mut lines: Vec<Line>, edit: HeaderEdit) -> Vec<Line> {
    let (HeaderEdit::Set(name, _) | HeaderEdit::Remove(name)) = &edit;
    lines.retain(|(line, _)| line != name);
    if let HeaderEdit::Set(name, value) = edit {
        lines.push((name.to_owned(), String::from_utf8(value).expect("headers are ASCII")));
    }
    lines
}
