//! Ticks and the clock.

use wasmtime::Linker;

use super::{About, functions};
use crate::memory::{Guest, HostResult};
use crate::state::{Timer, VmState};

pub(super) fn add_to(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    functions! { linker;
        "proxy_set_tick_period_milliseconds"(period_ms: u32) about About::Nothing => set_tick_period;
        "proxy_get_current_time_nanoseconds"(time_at: u32) about About::Nothing => current_time;
    }
    Ok(())
}

/// One timer per plugin and VM; 0 stops it, another period starts it anew.
fn set_tick_period(guest: &mut Guest<'_, '_>, period_ms: u32) -> HostResult {
    let key = (guest.state().index, guest.state().root_id());
    let period_ns = u64::from(period_ms) * 1_000_000;
    guest.process(|process| {
        process.timers.remove(&key);
        if period_ns > 0 {
            let due_ns = process.clock.elapsed_ns().saturating_add(period_ns);
            let armed = process.arm();
            process.timers.insert(key, Timer { period_ns, due_ns, armed });
        }
    });
    Ok(())
}

fn current_time(guest: &mut Guest<'_, '_>, time_at: u32) -> HostResult {
    let now = guest.process(|process| process.clock.wall_ns());
    guest.write(time_at, &now.to_le_bytes())
}
