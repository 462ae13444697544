//! What a sampling decision costs, by kind of sampler, in WebAssembly instructions (wasmtime's fuel).
//!
//! A request is sent through the real module until its headers go upstream. Only the sampler differs between the
//! lines, so the difference to a request under `always_off`, the simplest sampler, is what the decision costs more,
//! with the host calls that it makes; some hundred instructions of it are the digits of the priority, which
//! `always_off` does not draw. The numbers are the same on every machine.

use std::io::Write;

use host_tests::{Callback, Ending, Envoy, Module, Plugin, StreamId, guest};
use serde_json::{Value, json};

/// Requests of one measurement.
const REQUESTS: usize = 200;
/// Random bytes are fetched about once in a hundred requests; that is not the decision's cost.
const REFILL: &str = "random_get";

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
    vec![
        kind("always_off", json!({ "root": "always_off", "remote_parent_sampled": "always_off" }), false),
        kind("none, both granularities disabled", json!({ "full_granularity": { "enabled": false } }), false),
        kind("always_on", json!({ "root": "always_on" }), true),
        kind("trace_id_ratio_based, no", ratio(1e-12), false),
        kind("trace_id_ratio_based, yes", ratio(1.0), true),
        kind("always_off, then partial always_off", partial(json!("always_off")), false),
        kind("always_off, then partial always_on", partial(json!("always_on")), true),
        Kind { caller: Some(("01", "1")), ..kind("adaptive, inherited yes", adaptive(10), true) },
        Kind { caller: Some(("01", "0")), ..kind("adaptive, inherited no", adaptive(10), false) },
        Kind { before: 20, ..kind("adaptive, first period, target used up", adaptive(10), false) },
        Kind { before: 500, periods_later: 1, ..kind("adaptive, later period, no", adaptive(1), false) },
        Kind { before: 0, ..kind("adaptive, first period, claimed", adaptive(120), true) },
    ]
}

/// The average of the requests that were decided as expected.
struct Cost {
    fuel: u64,
    shared_data_calls: f64,
    /// All but those and the clock.
    other_host_calls: f64,
}

fn measure(module: &Module, kind: &Kind) -> host_tests::Result<Cost> {
    let mut envoy = start(module, &kind.sampler)?;
    for _ in 0..kind.before {
        request(&mut envoy, kind)?;
    }
    let later_ns = kind.periods_later * 60_000_000_000;
    envoy.set_wall_clock_ns(envoy.now_ns() + later_ns);
    let mut measured = Vec::new();
    for _ in 0..REQUESTS {
        envoy.clear_journal();
        let (stream, sampled) = request(&mut envoy, kind)?;
        let callback = headers_callback(&envoy, stream);
        measured.extend(callback.filter(|callback| sampled == kind.sampled && callback.count(REFILL) == 0));
    }
    assert!(!measured.is_empty(), "no request was decided as expected: {}", kind.name);
    let count = measured.len() as f64;
    let calls = |counts: &dyn Fn(&str) -> bool| {
        let all = measured.iter().flat_map(|callback| &callback.host_calls);
        all.filter(|call| counts(call.name)).count() as f64 / count
    };
    let shared_data = |name: &str| name.contains("shared_data");
    Ok(Cost {
        fuel: measured.iter().map(|callback| callback.fuel).sum::<u64>() / measured.len() as u64,
        shared_data_calls: calls(&shared_data),
        other_host_calls: calls(&|name| !shared_data(name) && !name.contains("time")),
    })
}

/// An inbound proxy that records nothing, so that what is sampled costs no more than what is not.
fn start(module: &Module, sampler: &Value) -> host_tests::Result<Envoy> {
    let configuration = json!({
        "account_id": "4001",
        "app_name": "edge",
        "role": "inbound",
        "distributed_tracing": { "sampler": sampler },
        "exporters": {},
    });
    Envoy::builder(module).plugin(Plugin::new("newrelic-tracing").configuration(configuration.to_string())).start()
}

/// Sends a request, and tells whether it was sampled.
fn request(envoy: &mut Envoy, kind: &Kind) -> host_tests::Result<(StreamId, bool)> {
    let mut headers = vec![(":method", "GET".to_owned()), (":authority", "shop".to_owned()), (":path", "/".to_owned())];
    if let Some((flags, sampled)) = kind.caller {
        let trace = format!("00-0f1e2d3c4b5a69788796a5b4c3d2e1f0-c3d4e5f60718293a-{flags}");
        let entry = format!("4001@nr=0-0-4001-7-c3d4e5f60718293a-1122334455667788-{sampled}-1.5-1750000000000");
        headers.extend([("traceparent", trace), ("tracestate", entry)]);
    }
    let stream = envoy.stream().open();
    let upstream = envoy.request_headers(stream, headers)?;
    envoy.end(stream, Ending::complete())?;
    Ok((stream, upstream.text("traceparent").is_some_and(|value| value.ends_with("-01"))))
}

fn headers_callback(envoy: &Envoy, stream: StreamId) -> Option<Callback> {
    envoy.callbacks_of(stream).into_iter().find(|callback| callback.name == "proxy_on_request_headers")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let module = guest::module("newrelic-tracing")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:40} {:>10} {:>10} {:>12} {:>11}", "sampler", "fuel", "difference", "shared data", "other calls")?;
    let mut baselines = [None, None];
    for kind in kinds() {
        let cost = measure(&module, &kind)?;
        // A caller's headers cost more to read than none, whatever is decided.
        let baseline = &mut baselines[usize::from(kind.caller.is_some())];
        let simplest = match *baseline {
            Some(fuel) => fuel,
            None => *baseline.insert(with_the_simplest(&module, kind.caller)?),
        };
        let more = i128::from(cost.fuel) - i128::from(simplest);
        let Cost { fuel, shared_data_calls, other_host_calls } = cost;
        let name = kind.name;
        writeln!(out, "{name:40} {fuel:>10} {more:>10} {shared_data_calls:>12.2} {other_host_calls:>11.2}")?;
    }
    Ok(())
}

/// Fuel of a request under `always_off`.
fn with_the_simplest(module: &Module, caller: Option<(&'static str, &'static str)>) -> host_tests::Result<u64> {
    let always_off = kinds().swap_remove(0);
    Ok(measure(module, &Kind { caller, ..always_off })?.fuel)
}
