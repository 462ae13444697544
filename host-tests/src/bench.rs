//! What a request costs.

use std::time::{Duration, Instant};

use crate::envoy::Envoy;
use crate::error::Result;
use crate::headers::HeaderMap;
use crate::stream::{Ending, StreamId};

/// A measurement: many requests, one after the other, while other streams stay open.
///
/// ```no_run
/// use host_tests::{Envoy, Load, Module, Plugin};
///
/// # fn main() -> host_tests::Result<()> {
/// let module = Module::from_file("filter.wasm")?;
/// let mut envoy = Envoy::builder(&module).plugin(Plugin::new("filter")).journal_max(100).start()?;
/// let load = Load { background: 1_000, requests: 10_000 };
/// let cost = load.run(&mut envoy, &[(":path", "/")], &[(":status", "200")])?;
/// assert!(cost.fuel < 50_000, "{cost:?}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Streams that have their request and stay open meanwhile. They end with the measurement.
    pub background: usize,
    /// Requests that are measured, at least one.
    pub requests: u32,
}

/// What one request cost, as an average over all that were measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// WebAssembly instructions, as wasmtime's fuel counts them: the same in every run.
    pub fuel: u64,
    /// Calls of the guest to the host.
    pub host_calls: u64,
    /// Time on this machine, that of the test host included.
    pub time: Duration,
}

impl Load {
    /// Measures exchanges of these headers. Nothing else may be open on the proxy.
    ///
    /// # Errors
    /// What the streams give.
    pub fn run(self, envoy: &mut Envoy, request: impl Into<HeaderMap>, response: impl Into<HeaderMap>) -> Result<Cost> {
        let (request, response) = (request.into(), response.into());
        let mut background = Vec::new();
        for _ in 0..self.background {
            let stream = envoy.stream().open();
            envoy.request_headers(stream, request.clone())?;
            background.push(stream);
        }
        let requests = self.requests.max(1);
        let (mut fuel, mut host_calls, mut time) = (0, 0, Duration::ZERO);
        for _ in 0..requests {
            let began = Instant::now();
            let exchange = envoy.stream().exchange(request.clone(), response.clone())?;
            time += began.elapsed();
            fuel += exchange.callbacks.iter().map(|callback| callback.fuel).sum::<u64>();
            host_calls += exchange.callbacks.iter().map(|callback| callback.host_calls.len() as u64).sum::<u64>();
            envoy.forget(exchange.id);
        }
        for stream in background {
            close(envoy, stream)?;
        }
        let each = u64::from(requests);
        Ok(Cost { fuel: fuel / each, host_calls: host_calls / each, time: time / requests })
    }
}

fn close(envoy: &mut Envoy, stream: StreamId) -> Result<()> {
    envoy.end(stream, Ending::client_abort())?;
    envoy.forget(stream);
    Ok(())
}
