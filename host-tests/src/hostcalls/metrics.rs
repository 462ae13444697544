//! Counters, gauges and histograms.

use wasmtime::Linker;

use super::{About, functions};
use crate::abi::{MetricType, Status};
use crate::memory::{Guest, HostResult};
use crate::metrics::Metric;
use crate::state::VmState;

pub(super) fn add_to(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    functions! { linker;
        "proxy_define_metric"(kind: u32, name: u32, name_len: u32, id_at: u32)
            about About::Text(name, name_len) => define;
        "proxy_increment_metric"(id: u32, offset: i64) about About::Metric(id) => increment;
        "proxy_record_metric"(id: u32, value: u64) about About::Metric(id) => record;
        "proxy_get_metric"(id: u32, value_at: u32) about About::Metric(id) => get;
    }
    Ok(())
}

fn define(guest: &mut Guest<'_, '_>, kind: u32, name: u32, name_len: u32, id_at: u32) -> HostResult {
    let name = String::from_utf8_lossy(&guest.read(name, name_len)?).into_owned();
    let kind = MetricType::from_number(kind).ok_or(Status::BadArgument)?;
    let metric = Metric { kind, name };
    guest.process(|process| process.metrics.define(&metric));
    let id = guest.state_mut().metrics.define(metric);
    guest.write_u32(id_at, id)
}

fn increment(guest: &mut Guest<'_, '_>, id: u32, offset: i64) -> HostResult {
    let metric = guest.state().metrics.find(id)?;
    Ok(guest.process(|process| process.metrics.increment(&metric, offset))?)
}

/// An unknown type is not found here, unlike in the two neighbours.
fn record(guest: &mut Guest<'_, '_>, id: u32, value: u64) -> HostResult {
    let metric = guest.state().metrics.find(id).map_err(|_| Status::NotFound)?;
    guest.process(|process| process.metrics.record(&metric, value));
    Ok(())
}

fn get(guest: &mut Guest<'_, '_>, id: u32, value_at: u32) -> HostResult {
    let metric = guest.state().metrics.find(id)?;
    let value = guest.process(|process| process.metrics.read(&metric))?;
    guest.write(value_at, &value.to_le_bytes())
}
