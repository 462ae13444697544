//! How a request's cost grows with its headers, and with the streams that are open beside it.

use host_tests::{Cost, Load, Result};

use super::requests::traced;
use super::{JOURNAL_MAX, Measured, RESPONSE, request_cost, setup};

/// Number of headers, and bytes of each value.
const SHAPES: [(usize, usize); 7] = [(5, 20), (12, 20), (40, 20), (100, 20), (12, 0), (12, 200), (12, 2000)];

/// Streams that are open meanwhile.
const OPEN: [usize; 3] = [1, 1000, 10_000];
/// Requests whose mean is taken beside them.
const REQUESTS_BESIDE: u32 = 64;

pub(super) fn measure() -> Result<Vec<Measured>> {
    let mut all = Vec::new();
    for (outcome, sampler) in [("unsampled", "always_off"), ("sampled", "always_on")] {
        let setup = setup("inbound", sampler);
        for (headers, bytes) in SHAPES {
            let name = format!("{outcome}, {headers} headers, bytes of a value: {bytes}");
            all.push(Measured::new(name, request_cost(&setup, padded(headers, bytes))?));
        }
        for open in OPEN {
            all.push(Measured::new(format!("{outcome}, open streams: {open}"), beside(sampler, open)?));
        }
    }
    Ok(all)
}

/// The four pseudo headers, and others that tracing does not read.
fn padded(headers: usize, bytes: usize) -> Vec<(String, String)> {
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":path", "/cart/17"), (":authority", "shop.example")];
    let mut lines: Vec<_> = pseudo.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    lines.extend((pseudo.len()..headers).map(|number| (format!("x-header-{number:03}"), "v".repeat(bytes))));
    lines
}

fn beside(sampler: &str, open: usize) -> Result<Cost> {
    let mut envoy = setup("inbound", sampler).builder().journal_max(JOURNAL_MAX).start()?;
    Load { background: open, requests: REQUESTS_BESIDE }.run(&mut envoy, traced(), RESPONSE)
}
