//! What a request costs.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Sub};
use std::time::Duration;

use crate::envoy::Envoy;
use crate::error::Result;
use crate::headers::HeaderMap;
use crate::stream::{Ending, StreamId};

/// Virtual time between the request headers and the response headers of a measured request.
const RESPONSE_TIME: Duration = Duration::from_micros(50);

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
    /// Requests that are measured, at least one. Each is answered after 50 microseconds; what the plugin does
    /// meanwhile, such as a tick, is no part of the request.
    pub requests: u32,
}

/// What one request cost, as an average over all that were measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// WebAssembly instructions, as wasmtime's fuel counts them: the same in every run. Each byte that `memory.copy`
    /// and its kin move counts as one.
    pub fuel: u64,
    /// Calls of the guest to the host.
    pub host_calls: u64,
    /// Time of the guest's own code on this machine, its host calls left out.
    pub time: Duration,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.fuel += other.fuel;
        self.host_calls += other.host_calls;
        self.time += other.time;
    }
}

/// What the first costs more than the second; zero where it costs less.
impl Sub for Cost {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            fuel: self.fuel.saturating_sub(other.fuel),
            host_calls: self.host_calls.saturating_sub(other.host_calls),
            time: self.time.saturating_sub(other.time),
        }
    }
}

impl Load {
    /// Measures exchanges of these headers. Nothing else may be open on the proxy. The journal is cleared.
    ///
    /// # Errors
    /// What the streams give.
    pub fn run(self, envoy: &mut Envoy, request: impl Into<HeaderMap>, response: impl Into<HeaderMap>) -> Result<Cost> {
        let mut whole = Cost::default();
        for cost in self.run_by_callback(envoy, request, response)?.into_values() {
            whole += cost;
        }
        Ok(whole)
    }

    /// The same, callback by callback.
    ///
    /// # Errors
    /// What the streams give.
    pub fn run_by_callback(
        self,
        envoy: &mut Envoy,
        request: impl Into<HeaderMap>,
        response: impl Into<HeaderMap>,
    ) -> Result<BTreeMap<&'static str, Cost>> {
        let (request, response) = (request.into(), response.into());
        let background = self.open_background(envoy, &request)?;
        let mut costs: BTreeMap<&'static str, Cost> = BTreeMap::new();
        let requests = self.requests.max(1);
        for _ in 0..requests {
            envoy.clear_journal();
            let stream = exchange(envoy, &request, &response)?;
            let times = envoy.guest_times();
            for callback in envoy.callbacks_of(stream) {
                let (fuel, host_calls) = (callback.fuel, callback.host_calls.len() as u64);
                let time = times.get(callback.name).copied().unwrap_or_default();
                *costs.entry(callback.name).or_default() += Cost { fuel, host_calls, time };
            }
            envoy.forget(stream);
        }
        for stream in background {
            close(envoy, stream)?;
        }
        let each = u64::from(requests);
        let mean =
            |sum: Cost| Cost { fuel: sum.fuel / each, host_calls: sum.host_calls / each, time: sum.time / requests };
        Ok(costs.into_iter().map(|(name, sum)| (name, mean(sum))).collect())
    }

    fn open_background(self, envoy: &mut Envoy, request: &HeaderMap) -> Result<Vec<StreamId>> {
        let open = |_| {
            let stream = envoy.stream().open();
            envoy.request_headers(stream, request)?;
            Ok(stream)
        };
        (0..self.background).map(open).collect()
    }
}

fn exchange(envoy: &mut Envoy, request: &HeaderMap, response: &HeaderMap) -> Result<StreamId> {
    let stream = envoy.stream().open();
    envoy.request_headers(stream, request)?;
    envoy.advance(RESPONSE_TIME)?;
    envoy.response_headers(stream, response)?;
    envoy.end(stream, Ending::complete())?;
    Ok(stream)
}

fn close(envoy: &mut Envoy, stream: StreamId) -> Result<()> {
    envoy.end(stream, Ending::client_abort())?;
    envoy.forget(stream);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::Module;
    use crate::plugin::Plugin;

    /// Reads a header with each request, and loops in each tick.
    const GUEST: &str = r#"
        (module
          (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
          (import "env" "proxy_set_tick_period_milliseconds" (func $set_tick (param i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) ":path")
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "malloc") (param i32) (result i32) (i32.const 1024))
          (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $set_tick (i32.const 1))) (i32.const 1))
          (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $get (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 64) (i32.const 68)))
            (i32.const 0))
          (func (export "proxy_on_log") (param i32))
          (func (export "proxy_on_tick") (param i32) (local $n i32)
            (local.set $n (i32.const 1000))
            (loop $again
              (local.set $n (i32.sub (local.get $n) (i32.const 1)))
              (br_if $again (local.get $n)))))"#;

    fn start() -> Envoy {
        let module = Module::from_bytes(GUEST).unwrap();
        Envoy::builder(&module).plugin(Plugin::new("guest")).start().unwrap()
    }

    #[test]
    fn callbacks_are_told_apart_and_add_up_to_the_request_without_the_timer() {
        let mut envoy = start();
        let load = Load { background: 2, requests: 30 };
        let costs = load.run_by_callback(&mut envoy, [(":path", "/")], [(":status", "200")]).unwrap();
        assert_eq!(costs.keys().copied().collect::<Vec<_>>(), ["proxy_on_log", "proxy_on_request_headers"]);
        let host_calls: Vec<_> = costs.values().map(|cost| cost.host_calls).collect();
        assert_eq!(host_calls, [0, 1]);
        let whole = load.run(&mut envoy, [(":path", "/")], [(":status", "200")]).unwrap();
        assert_eq!(whole.fuel, costs.values().map(|cost| cost.fuel).sum::<u64>());
        assert!(whole.fuel < 100, "the ticks meanwhile do not count: {whole:?}");
    }

    #[test]
    fn times_are_told_by_callback_until_the_journal_is_cleared() {
        let mut envoy = start();
        envoy.advance(Duration::from_millis(10)).unwrap();
        let names: Vec<_> = envoy.guest_times().into_keys().collect();
        assert_eq!(names, ["proxy_on_configure", "proxy_on_tick"]);
        envoy.clear_journal();
        assert!(envoy.guest_times().is_empty());
    }

    #[test]
    fn a_difference_stops_at_zero() {
        let cost = |fuel, host_calls, time_ns| Cost { fuel, host_calls, time: Duration::from_nanos(time_ns) };
        assert_eq!(cost(5, 1, 30) - cost(2, 3, 10), cost(3, 0, 20));
    }
}
