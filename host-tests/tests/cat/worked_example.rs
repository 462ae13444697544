//! A call from a storefront to an inventory and on to a third service, byte-exact.

use std::time::Duration;

use host_tests::{Ending, Fault, Status};

use crate::harness::*;

const ANSWER: &str = "PRIEVFNQRVwBAAIERBwSMwYDMhdQXEBVBURZCw1OIwtHXUobIXVkREwSEgpSWREYVh4AVVZNVksDBx8ZVxwSVVJTVFYCBgcBUwYGU1RZXkcdVFJYFVVt";

/// The inventory's proxy: 15 ms in a queue, 250 ms until the answer.
#[test]
fn the_inventory_continues_the_trip_and_answers() -> host_tests::Result<()> {
    for role in ["inbound", "gateway"] {
        let mut envoy = Setup::new(role).start()?;
        let stream = envoy.stream().open();
        let upstream = envoy.request_headers(
            stream,
            request(&[
                ("X-NewRelic-ID", b"UgAAVkBUUw=="),
                (
                    "X-NewRelic-Transaction",
                    b"PRIJAlsEUQEHUQZWUlEDXVFQRElXU19HAxwSXQVZA1JVBFABBARRV1pTV0cdEFVSAFVVAlBWRDg=",
                ),
                ("X-Queue-Start", b"t=1750000000235000"),
            ]),
        )?;
        assert_eq!(upstream.all(ID), [b"UgAAVUBYVlcAAg=="], "{role}");
        assert_eq!(
            upstream.text(TRANSACTION).as_deref(),
            Some("PRIBVVFTVVYFBgYBUAYHU1tZRElXU19HAxwSXQVZA1JVBFABBARRV1pTV0cdEFJWAAYEAFpXRDg="),
            "{role}"
        );
        assert_eq!(
            plain(&upstream, TRANSACTION).as_deref(),
            Some(r#"["1122334455667788",false,"9f8e7d6c5b4a3921","abf64d96"]"#),
            "{role}"
        );

        envoy.advance(Duration::from_millis(250))?;
        let downstream = envoy.response_headers(stream, response(&[]))?;
        assert_eq!(downstream.text(APP_DATA).as_deref(), Some(ANSWER), "{role}: {:?}", plain(&downstream, APP_DATA));

        envoy.advance(Duration::from_millis(50))?;
        envoy.end(stream, Ending::complete())?;
        let record = transaction(&envoy);
        assert_eq!(text(&record, "name").as_deref(), Some("WebTransaction/Envoy/GET /stock"), "{role}");
        assert_eq!(
            intrinsics(&record),
            [
                "nr.guid=1122334455667788",
                "nr.tripId=9f8e7d6c5b4a3921",
                "nr.pathHash=abf64d96",
                "nr.referringPathHash=fffeef37",
                "nr.referringTransactionGuid=9f8e7d6c5b4a3921",
                "client_cross_process_id=4002#55",
            ],
            "{role}"
        );
        let observed = statistics(&mut envoy, &["newrelic.ClientApplication/4002#55/all"])?;
        assert_eq!(observed, [Some(vec![300])], "{role}");
    }
    Ok(())
}

/// The storefront's proxy: a gateway, because the one that calls must also read who answers.
#[test]
fn the_storefront_begins_the_trip_and_reads_who_answered() -> host_tests::Result<()> {
    let setup = Setup::new("gateway").application("4002#55", "storefront").guid(0x9f8e_7d6c_5b4a_3921);
    let mut envoy = setup.transaction_name("WebTransaction/Custom/checkout").start()?;
    let stream = envoy.stream().property("response.backend_latency", host_tests::Value::Duration(42_000_000)).open();
    let upstream = envoy.request_headers(stream, request(&[]))?;
    assert_eq!(upstream.all(ID), [b"UgAAVkBUUw=="]);
    assert_eq!(
        upstream.text(TRANSACTION).as_deref(),
        Some("PRIJAlsEUQEHUQZWUlEDXVFQRElXU19HAxwSXQVZA1JVBFABBARRV1pTV0cdEFVSAFVVAlBWRDg=")
    );
    envoy.advance(Duration::from_millis(60))?;
    let downstream = envoy.response_headers(stream, response(&[(APP_DATA, ANSWER.as_bytes())]))?;
    assert!(!downstream.contains(APP_DATA), "the client did not ask: {downstream:?}");
    envoy.end(stream, Ending::complete())?;

    assert_eq!(
        intrinsics(&transaction(&envoy)),
        ["nr.guid=9f8e7d6c5b4a3921", "nr.tripId=9f8e7d6c5b4a3921", "nr.pathHash=fffeef37"]
    );
    let observed = statistics(
        &mut envoy,
        &[
            "newrelic.ExternalApp/inventory.test/4001#90210/all",
            "newrelic.ExternalTransaction/inventory.test/4001#90210/WebTransaction/Envoy/GET /stock",
        ],
    )?;
    assert_eq!(observed, [Some(vec![42]), Some(vec![42])]);
    assert!(!has_statistic(&envoy, "newrelic.ClientApplication"));
    Ok(())
}

/// The route names the transaction first, and is gone at the end, so that the name is made of the request.
#[test]
fn a_hash_sent_under_an_earlier_name_is_recorded_as_an_alternate() -> host_tests::Result<()> {
    const NAME: &str = "xds.route_metadata.filter_metadata.newrelic.tracing.transaction_name";
    let mut envoy = Setup::new("inbound").start()?;
    envoy.inject(Fault::on("proxy_get_property", Status::NotFound).about(NAME).nth(2));
    let path = ["xds", "route_metadata", "filter_metadata", "newrelic.tracing", "transaction_name"];
    let stream = envoy.stream().property(path, "WebTransaction/Uri/stock").open();
    let upstream = envoy.request_headers(stream, call())?;
    assert_eq!(
        plain(&upstream, TRANSACTION).as_deref(),
        Some(r#"["1122334455667788",false,"9f8e7d6c5b4a3921","ffd41306"]"#)
    );
    // No answer was written that would have frozen the name.
    envoy.end(stream, Ending::client_abort())?;
    let record = transaction(&envoy);
    assert_eq!(text(&record, "name").as_deref(), Some("WebTransaction/Envoy/GET /stock"));
    assert_eq!(text(&record, "nr.alternatePathHashes").as_deref(), Some("ffd41306"));
    assert_eq!(text(&record, "nr.pathHash").as_deref(), Some("abf64d96"));
    Ok(())
}
