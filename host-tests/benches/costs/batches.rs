//! Flushes: 448 spans wait, and are posted and answered. Everything that the plugin does on its timer and with the
//! answers counts. With and without compression the same is done, so that the difference is compressing.

use std::time::Duration;

use host_tests::{Answer, Cost, Ending, Envoy, Result};
use serde_json::{Value, json};

use super::{JOURNAL_MAX, Measured, of_worker, otlp};
use crate::support::{CLUSTER, Setup, trace_api};

/// Spans of one flush. Their records are made before it, 64 in a row.
const SPANS: u64 = 448;
/// Steps of the clock, so that no step sees more than one tick.
const STEP: Duration = Duration::from_millis(5);
/// The flush interval, and until the statistics are published once more.
const FLUSHED_AFTER: Duration = Duration::from_millis(6500);

/// What a flush costs.
struct Flush {
    whole: Cost,
    /// The step of the clock that costs most, one with a tick: requests wait so long.
    longest: Cost,
    /// Bodies as sent.
    bytes: usize,
}

pub(super) fn measure() -> Result<Vec<Measured>> {
    let mut all = Vec::new();
    for (name, exporter, target, limit) in [
        ("trace_api", "trace_api", trace_api(), json!(10_000)),
        ("trace_api, unlimited", "trace_api", trace_api(), json!("unlimited")),
        ("otlp, protobuf", "otlp", otlp("protobuf"), json!(10_000)),
        ("otlp, json", "otlp", otlp("json"), json!(10_000)),
    ] {
        let flush = |gzip: bool| {
            let mut target = target.clone();
            target["gzip"] = gzip.into();
            second_flush(exporter, &target, &limit)
        };
        let (plain, compressed) = (flush(false)?, flush(true)?);
        all.extend([
            Measured::new(format!("flush to {name}, without gzip"), plain.whole),
            Measured::new(format!("flush to {name}, what gzip adds"), compressed.whole - plain.whole),
            Measured::new(format!("flush to {name}, longest tick"), compressed.longest),
            Measured::bytes(format!("flush to {name}, bytes without gzip"), plain.bytes),
            Measured::bytes(format!("flush to {name}, bytes with gzip"), compressed.bytes),
        ]);
    }
    Ok(all)
}

/// The second flush of a proxy: the memory that it takes is there.
fn second_flush(exporter: &str, target: &Value, limit: &Value) -> Result<Flush> {
    let setup = Setup::role("inbound").sampler("always_on").with("span_events.max_samples_stored", limit.clone());
    let setup = setup.with("exporters", json!({ exporter: target }));
    let accepting = setup.builder().answering_cluster(CLUSTER, Answer::status(202), STEP);
    let mut envoy = accepting.journal_max(JOURNAL_MAX).start()?;
    flush(&mut envoy)?;
    let second = flush(&mut envoy)?;
    let exported = envoy.counter("newrelic.spans.exported");
    assert_eq!(exported, 2 * SPANS, "every span arrives\n{}", envoy.transcript());
    Ok(second)
}

fn flush(envoy: &mut Envoy) -> Result<Flush> {
    fill(envoy)?;
    let calls_before = envoy.http_calls().len();
    let mut flush = Flush { whole: Cost::default(), longest: Cost::default(), bytes: 0 };
    for _ in 0..FLUSHED_AFTER.as_millis() / STEP.as_millis() {
        envoy.clear_journal();
        envoy.advance(STEP)?;
        let step = of_worker(envoy);
        flush.whole += step;
        if step.fuel > flush.longest.fuel {
            flush.longest = step;
        }
    }
    flush.bytes = envoy.http_calls().iter().skip(calls_before).map(|call| call.body.len()).sum();
    Ok(flush)
}

/// What a shop's traffic leaves: traces of their own, a few paths, some of them with a number.
fn fill(envoy: &mut Envoy) -> Result<()> {
    for number in 0..SPANS {
        let path = match number % 4 {
            0 => "/".to_owned(),
            1 => format!("/cart/{}?coupon={}", number * 7919 % 1000, number % 3),
            2 => format!("/products/{}", number * 104_729 % 10_000),
            _ => "/checkout".to_owned(),
        };
        let status = if number % 50 == 0 { "503" } else { "200" };
        let stream = envoy.stream().open();
        let host = [(":method", "GET"), (":scheme", "https"), (":authority", "shop.example"), ("user-agent", "test")];
        envoy.request_headers(stream, [&host[..], &[(":path", &path)]].concat())?;
        envoy.response_headers(stream, [(":status", status), ("content-type", "text/html")])?;
        envoy.end(stream, Ending::complete())?;
        envoy.forget(stream);
    }
    Ok(())
}
