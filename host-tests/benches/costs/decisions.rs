//! Sampling decisions, by kind of sampler.
//!
//! Only the sampler differs between the lines, so the difference to a request under `always_off`, the simplest sampler,
//! is what the decision costs more; some hundred instructions of it are the digits of the priority, which `always_off`
//! does not draw. Nothing is recorded, so that what is sampled costs no more than what is not.

use std::time::Duration;

use host_tests::{Callback, Cost, Ending, Envoy, Result, StreamId};
use serde_json::{Value, json};

use super::{JOURNAL_MAX, Measured};
use crate::support::Setup;

/// Requests of one measurement.
const REQUESTS: u32 = 200;
/// Random bytes are fetched about once in a hundred requests; that is not the decision's cost.
const REFILL: &str = "random_get";
/// The callback in which a request is decided.
const CALLBACK: &str = "proxy_on_request_headers";

/// One line of the table.
struct Kind {
    name: &'static str,
    sampler: Value,
    /// `traceparent` flags and the sampled field of New Relic's tracestate entry, if the caller sends them.
    caller: Option<(&'static str, &'static str)>,
    /// Requests before the measurement, which bring the sampler into its state.
    before: usize,
    /// The measurement begins so many periods later.
    periods_later: u64,
    sampled: bool,
}

fn kind(name: &'static str, sampler: Value, sampled: bool) -> Kind {
    Kind { name, sampler, caller: None, before: 2, periods_later: 0, sampled }
}

fn kinds() -> Vec<Kind> {
    let ratio = |ratio: f64| json!({ "root": { "trace_id_ratio_based": { "ratio": ratio } } });
    let partial =
        |sampler: Value| json!({ "root": "always_off", "partial_granularity": { "enabled": true, "root": sampler } });
    let adaptive = |target: u64| json!({ "adaptive_sampling_target": target });
    let off = || json!({ "root": "always_off", "remote_parent_sampled": "always_off" });
    vec![
        kind("always_off", off(), false),
        kind("none, both granularities disabled", json!({ "full_granularity": { "enabled": false } }), false),
        kind("always_on", json!({ "root": "always_on" }), true),
        kind("trace_id_ratio_based, no", ratio(1e-12), false),
        kind("trace_id_ratio_based, yes", ratio(1.0), true),
        kind("always_off, then partial always_off", partial(json!("always_off")), false),
        kind("always_off, then partial always_on", partial(json!("always_on")), true),
        Kind { caller: Some(("01", "1")), ..kind("always_off, with a caller", off(), false) },
        Kind { caller: Some(("01", "1")), ..kind("adaptive, inherited yes", adaptive(10), true) },
        Kind { caller: Some(("01", "0")), ..kind("adaptive, inherited no", adaptive(10), false) },
        Kind { before: 20, ..kind("adaptive, first period, target used up", adaptive(10), false) },
        Kind { before: 500, periods_later: 1, ..kind("adaptive, later period, no", adaptive(1), false) },
        Kind { before: 0, ..kind("adaptive, first period, claimed", adaptive(120), true) },
    ]
}

pub(super) fn measure() -> Result<Vec<Measured>> {
    kinds().iter().map(|kind| Ok(Measured::new(format!("decision, {}", kind.name), cost(kind)?))).collect()
}

/// The mean of the requests that were decided as expected.
fn cost(kind: &Kind) -> Result<Cost> {
    let mut envoy = start(&kind.sampler)?;
    for _ in 0..kind.before {
        request(&mut envoy, kind)?;
    }
    let later_ns = kind.periods_later * 60_000_000_000;
    envoy.set_wall_clock_ns(envoy.now_ns() + later_ns);
    let (mut sum, mut count) = (Cost::default(), 0);
    for _ in 0..REQUESTS {
        envoy.clear_journal();
        let (stream, sampled) = request(&mut envoy, kind)?;
        let callback = headers_callback(&envoy, stream);
        if let Some(callback) = callback.filter(|callback| sampled == kind.sampled && callback.count(REFILL) == 0) {
            let time = envoy.guest_times().get(CALLBACK).copied().unwrap_or(Duration::ZERO);
            sum += Cost { fuel: callback.fuel, host_calls: callback.host_calls.len() as u64, time };
            count += 1;
        }
    }
    assert!(count > 0, "no request was decided as expected: {}", kind.name);
    let each = u64::from(count);
    Ok(Cost { fuel: sum.fuel / each, host_calls: sum.host_calls / each, time: sum.time / count })
}

fn start(sampler: &Value) -> Result<Envoy> {
    let setup = Setup::role("inbound").with("distributed_tracing.sampler", sampler.clone());
    setup.with("exporters", json!({})).builder().journal_max(JOURNAL_MAX).start()
}

/// Sends a request, and tells whether it was sampled.
fn request(envoy: &mut Envoy, kind: &Kind) -> Result<(StreamId, bool)> {
    let mut headers = vec![(":method", "GET".to_owned()), (":authority", "shop".to_owned()), (":path", "/".to_owned())];
    if let Some((flags, sampled)) = kind.caller {
        let trace = format!("00-0f1e2d3c4b5a69788796a5b4c3d2e1f0-c3d4e5f60718293a-{flags}");
        let entry = format!("777@nr=0-0-4001-7-c3d4e5f60718293a-1122334455667788-{sampled}-1.5-1750000000000");
        headers.extend([("traceparent", trace), ("tracestate", entry)]);
    }
    let stream = envoy.stream().open();
    let upstream = envoy.request_headers(stream, headers)?;
    envoy.end(stream, Ending::complete())?;
    Ok((stream, upstream.text("traceparent").is_some_and(|value| value.ends_with("-01"))))
}

fn headers_callback(envoy: &Envoy, stream: StreamId) -> Option<Callback> {
    envoy.callbacks_of(stream).into_iter().find(|callback| callback.name == CALLBACK)
}
