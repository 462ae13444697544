//! What the plugin does besides requests: its start in a worker, and its timer.

use std::time::Duration;

use host_tests::{Cost, Envoy, Load, Result};

use super::requests::traced;
use super::{JOURNAL_MAX, Measured, REQUESTS, RESPONSE, of_worker, setup};

/// The timer's period.
const TICK: Duration = Duration::from_secs(1);

pub(super) fn measure() -> Result<Vec<Measured>> {
    let mut envoy = setup("inbound", "always_off").builder().journal_max(JOURNAL_MAX).start()?;
    let start = without_time(of_worker(&envoy));
    // The first ticks look for what other workers left.
    envoy.advance(10 * TICK)?;
    let idle = tick(&mut envoy)?;
    Load { background: 0, requests: REQUESTS }.run(&mut envoy, traced(), RESPONSE)?;
    let busy = tick(&mut envoy)?;
    Ok(vec![
        Measured::new("start of a worker", start),
        Measured::new("tick without requests", idle),
        Measured::new("tick after a second of requests", busy),
    ])
}

fn tick(envoy: &mut Envoy) -> Result<Cost> {
    envoy.clear_journal();
    envoy.advance(TICK)?;
    Ok(without_time(of_worker(envoy)))
}

/// The main thread and the canary do the same, and their time is not told apart.
fn without_time(cost: Cost) -> Cost {
    Cost { time: Duration::ZERO, ..cost }
}
