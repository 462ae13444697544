//! What the filter's work costs, thing by thing: measured on the test host through the real module.
//!
//! Instructions are counted by wasmtime's fuel, which also counts each byte that is copied in bulk as one; they are the
//! same on every machine and in every run. Times are of this machine, and of wasmtime's compiler rather than Envoy's:
//! they show what a thing costs beside another. Both leave out what the host does in its calls.

mod batches;
mod decisions;
mod headers;
mod plugin;
mod records;
mod requests;
mod scaling;

use std::time::Duration;

use host_tests::{Cost, Envoy, HeaderMap, Load, Result, Thread};
use serde_json::{Value, json};

use crate::support::{CLUSTER, Setup, trace_api};

/// Requests whose mean is taken; as many go before them. The filter makes the records of 64 requests in a row, or those
/// that wait when its timer fires, which it does not do so early.
const REQUESTS: u32 = 128;

/// Places of reservoirs, a minute: enough for every record of a measurement.
const PLACES: u32 = 10_000;

/// Callbacks that are kept: those of a few requests.
const JOURNAL_MAX: usize = 64;

/// The caller's New Relic member and another vendor's.
const TRACESTATE: &str = "vend1=q9/Zx.7,777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900";

/// The payload of the same caller, as its agent writes it.
const PAYLOAD: &str = r#"{"v":[0,1],"d":{"ty":"App","ac":"4002","ap":"55","id":"aa11bb22cc33dd44","tx":"1122334455667788","tr":"c0a8017e5d3b4f2226e1d47b08aa3f5c","pr":1.5,"sa":true,"ti":1749999999900,"tk":"777"}}"#;

/// The answer to every request.
const RESPONSE: [(&str, &str); 3] =
    [(":status", "200"), ("content-type", "application/json"), ("content-length", "512")];

/// A thing with its cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measured {
    /// What it is; no two things have the same name.
    pub(crate) name: String,
    /// WebAssembly instructions, or bytes where the name says so: the same in every run.
    pub(crate) number: u64,
    /// Time of the guest's own code on this machine; zero for bytes.
    pub(crate) time: Duration,
}

impl Measured {
    fn new(name: impl Into<String>, cost: Cost) -> Self {
        Self { name: name.into(), number: cost.fuel, time: cost.time }
    }

    fn bytes(name: impl Into<String>, bytes: usize) -> Self {
        Self { name: name.into(), number: bytes as u64, time: Duration::ZERO }
    }
}

/// Things of one kind, measured together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    /// What the things are.
    pub(crate) title: &'static str,
    measure: fn() -> Result<Vec<Measured>>,
}

impl Section {
    /// Measures every thing, each in a proxy of its own.
    ///
    /// # Errors
    /// What the proxies give.
    pub(crate) fn measure(self) -> Result<Vec<Measured>> {
        (self.measure)()
    }
}

/// Everything that is measured.
pub(crate) const SECTIONS: [Section; 7] = [
    Section { title: "one request, by role and outcome, callback by callback", measure: requests::measure },
    Section { title: "one request's headers, by sampler", measure: decisions::measure },
    Section { title: "one header", measure: headers::measure },
    Section { title: "one record, by exporter", measure: records::measure },
    Section { title: "448 spans, from the queue to the receiver's answer", measure: batches::measure },
    Section { title: "one request, by headers and open streams", measure: scaling::measure },
    Section { title: "the plugin itself", measure: plugin::measure },
];

/// A proxy that exports spans to the Trace API and takes the same decision for every request.
fn setup(role: &str, sampler: &str) -> Setup {
    let exporting = Setup::role(role).sampler(sampler).with("exporters", json!({ "trace_api": trace_api() }));
    exporting.with("span_events.max_samples_stored", PLACES)
}

/// `exporters.otlp`, with what its receiver asks for.
fn otlp(encoding: &str) -> Value {
    json!({ "cluster": CLUSTER, "headers": { "api-key": { "value": "test-key" } }, "encoding": encoding })
}

/// What a request costs a proxy that has served others before.
fn request_cost(setup: &Setup, request: impl Into<HeaderMap>) -> Result<Cost> {
    let request = request.into();
    let mut envoy = setup.builder().journal_max(JOURNAL_MAX).start()?;
    let load = Load { background: 0, requests: REQUESTS };
    load.run(&mut envoy, &request, RESPONSE)?;
    load.run(&mut envoy, &request, RESPONSE)
}

/// What the worker did since the journal was cleared. The time is that of all threads.
fn of_worker(envoy: &Envoy) -> Cost {
    let mut cost = Cost { time: envoy.guest_times().into_values().sum(), ..Cost::default() };
    for callback in envoy.callbacks().iter().filter(|callback| callback.thread == Thread::Worker(0)) {
        cost.fuel += callback.fuel;
        cost.host_calls += callback.host_calls.len() as u64;
    }
    cost
}
