//! What the services saw, handed to the trace store.

use crate::report;
use crate::services::{HEALTH_PATH, Sighting};
use crate::trace_store::{AddError, Hop, HopHeader, TraceStore};
use crate::tracing_headers::SHOWN;

/// Notes the tracing headers of each sighting in the trace that it belongs to, in the order of arrival.
///
/// # Errors
/// The store cannot write them.
pub async fn hand_over(sightings: &[Sighting], store: &TraceStore) -> Result<(), AddError> {
    for (trace_id, hops) in by_trace(sightings) {
        store.add_hops(&trace_id, hops).await?;
    }
    Ok(())
}

/// The hops of each sampled trace. A health check has headers of a trace, too, but is no part of it.
fn by_trace(sightings: &[Sighting]) -> Vec<(String, Vec<Hop>)> {
    let mut traces: Vec<(String, Vec<Hop>)> = Vec::new();
    for seen in sightings.iter().filter(|seen| seen.path != HEALTH_PATH) {
        let Some(traceparent) = seen.headers.traceparent().filter(|traceparent| traceparent.sampled) else {
            continue;
        };
        match traces.iter_mut().find(|(trace_id, _)| *trace_id == traceparent.trace_id) {
            Some((_, hops)) => hops.push(hop(seen)),
            None => traces.push((traceparent.trace_id, vec![hop(seen)])),
        }
    }
    traces
}

fn hop(seen: &Sighting) -> Hop {
    let header = |name: &'static str| {
        seen.headers.values(name).into_iter().map(move |bytes| {
            let value = bytes.escape_ascii().to_string();
            let readable = Some(report::readable(name, bytes)).filter(|readable| *readable != value);
            HopHeader { name: name.to_owned(), value, readable: readable.unwrap_or_default() }
        })
    };
    Hop {
        service: seen.service.to_owned(),
        path: seen.path.clone(),
        headers: SHOWN.into_iter().flat_map(header).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracing_headers::{TracingHeaders, encode_newrelic};

    fn sighting(service: &'static str, path: &str, trace: u8, flags: &str) -> Sighting {
        let traceparent = format!("00-{}-c3d4e5f60718293a-{flags}", format!("{trace:02x}").repeat(16));
        let newrelic = encode_newrelic(&serde_json::json!({ "sa": true }));
        let headers =
            [("newrelic", newrelic.as_bytes()), ("traceparent", traceparent.as_bytes()), ("tracestate", b"a=\xff")];
        Sighting { service, path: path.to_owned(), headers: TracingHeaders::pick(headers), app_data: Vec::new() }
    }

    #[test]
    fn each_sampled_trace_gets_its_hops_in_their_order() {
        let sightings = [
            sighting("storefront", "/checkout/1", 1, "01"),
            sighting("storefront", "/checkout/2", 2, "01"),
            sighting("storefront", "/checkout/3", 3, "00"),
            sighting("storefront", HEALTH_PATH, 4, "01"),
            sighting("cart", "/cart/1", 1, "01"),
        ];
        let found: Vec<(String, Vec<String>)> = by_trace(&sightings)
            .into_iter()
            .map(|(trace_id, hops)| (trace_id, hops.into_iter().map(|hop| hop.service + " " + &hop.path).collect()))
            .collect();
        let expected = [("01", vec!["storefront /checkout/1", "cart /cart/1"]), ("02", vec!["storefront /checkout/2"])];
        let expected = expected.map(|(id, hops)| (id.repeat(16), hops.into_iter().map(str::to_owned).collect()));
        assert_eq!(found, expected);
    }

    #[test]
    fn only_what_needs_it_is_put_in_words() {
        let hop = hop(&sighting("cart", "/cart/1", 1, "01"));
        let headers: Vec<(&str, &str)> =
            hop.headers.iter().map(|header| (header.name.as_str(), header.readable.as_str())).collect();
        assert_eq!(headers, [("traceparent", ""), ("tracestate", ""), ("newrelic", "sa=true")]);
        assert_eq!(hop.headers[1].value, "a=\\xff");
    }
}
