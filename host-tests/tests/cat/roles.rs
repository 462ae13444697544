//! What each role does: `inbound` and `gateway` take part in the trip, `outbound` lets the application's headers pass.

use host_tests::{Direction, Envoy, HeaderMap, Result};

use crate::harness::*;

const CALLEE: &str = r#"["4001#7","WebTransaction/Go/GET /stock",0,0.1,-1,"aaaaaaaaaaaaaaaa",false]"#;

fn callees_answer() -> HeaderMap {
    response(&[(APP_DATA, encode(CALLEE, KEY).as_bytes())])
}

fn counts_callee(envoy: &mut Envoy) -> Result<bool> {
    tick(envoy)?;
    Ok(envoy.histogram("newrelic.ExternalApp/inventory.test/4001#7/all").is_some())
}

#[test]
fn an_outbound_proxy_changes_nothing_and_counts_the_callees_answer() -> Result<()> {
    for request in
        [call(), request(&[]), call_of("4003#1", None), request(&[(ID, b"\xff*"), (TRANSACTION, b""), (ID, b"again")])]
    {
        let setup = Setup::new("outbound").with(r#""trust_inbound":"never""#);
        let (mut envoy, exchange) = exchange(setup, request.clone(), callees_answer())?;
        assert_eq!(exchange.upstream, request);
        assert_eq!(exchange.downstream, callees_answer());
        assert_eq!(transactions(&envoy), [""; 0], "the transaction is the application's");
        assert!(counts_callee(&mut envoy)?, "{request:?}");
        assert!(!has_statistic(&envoy, "newrelic.ClientApplication"));
    }
    let (mut envoy, exchange) = exchange(Setup::new("outbound"), call(), response(&[]))?;
    assert_eq!(exchange.downstream, response(&[]));
    assert!(!counts_callee(&mut envoy)?);
    Ok(())
}

/// The application behind an inbound proxy is no callee of another service.
#[test]
fn an_inbound_proxy_does_not_count_the_applications_answer() -> Result<()> {
    let (mut envoy, _) = exchange(Setup::new("inbound"), call(), callees_answer())?;
    assert!(!counts_callee(&mut envoy)?);
    assert!(has_statistic(&envoy, "newrelic.ClientApplication/4002#55/all"));
    Ok(())
}

#[test]
fn a_gateway_counts_both_its_caller_and_its_callee() -> Result<()> {
    let (mut envoy, _) = exchange(Setup::new("gateway"), call(), callees_answer())?;
    assert!(counts_callee(&mut envoy)?);
    assert!(has_statistic(&envoy, "newrelic.ClientApplication/4002#55/all"));
    Ok(())
}

#[test]
fn no_role_makes_spans() -> Result<()> {
    for (role, records) in [("inbound", 1), ("outbound", 0), ("gateway", 1)] {
        let (mut envoy, _) = exchange(Setup::new(role), call(), callees_answer())?;
        tick(&mut envoy)?;
        assert_eq!(spans(&envoy), [""; 0], "{role}");
        assert_eq!((envoy.counter("newrelic.spans.started"), transactions(&envoy).len()), (0, records), "{role}");
        let counters = envoy.counters();
        let decisions = counters.iter().filter(|(name, value)| name.contains("sampler") && **value > 0);
        assert_eq!(decisions.count(), 0, "{role}: {counters:?}");
    }
    Ok(())
}

/// The headers of distributed tracing mean nothing in this mode.
#[test]
fn headers_of_distributed_tracing_pass_untouched_and_start_nothing() -> Result<()> {
    let lines = [
        ("traceparent", &b"00-c0a8017e5d3b4f2226e1d47b08aa3f5c-b7d20c4e19f86a35-01"[..]),
        ("tracestate", b"vend1=p0"),
        ("newrelic", b"*"),
    ];
    for role in ["inbound", "outbound", "gateway"] {
        let (envoy, exchange) = exchange(Setup::new(role), request(&lines), response(&[]))?;
        for (name, value) in lines {
            assert_eq!(exchange.upstream.all(name), [value], "{role} {name}");
        }
        for record in transactions(&envoy) {
            for name in ["traceId", "parentId", "parentSpanId", "parent.type", "guid"] {
                assert_eq!(text(&record, name), None, "{role} {name}: {record}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_listeners_direction_chooses_the_role() -> Result<()> {
    for (direction, takes_part, counts) in
        [(Direction::Inbound, true, false), (Direction::Outbound, false, true), (Direction::Unspecified, true, true)]
    {
        let setup = Setup::new("auto");
        let plugin = setup.plugin().listener("main", direction);
        let mut envoy = setup.start_with(plugin)?;
        let exchange = envoy.stream().exchange(call(), callees_answer())?;
        assert_eq!(exchange.upstream != call(), takes_part, "{direction:?}");
        assert_eq!(exchange.downstream != callees_answer(), takes_part, "{direction:?}");
        assert_eq!(counts_callee(&mut envoy)?, counts, "{direction:?}");
    }
    Ok(())
}

/// Gateway, then the service's inbound and outbound proxies with an application between them that copies headers, then
/// the next service's inbound proxy.
#[test]
fn a_trip_through_four_proxies_keeps_its_id_and_adds_up_its_path() -> Result<()> {
    let mut gateway = Setup::new("gateway").application("4001#1", "edge").guid(0x1111).start()?;
    let mut cart = Setup::new("inbound").application("4001#2", "cart").guid(0x2222).start()?;
    let mut cart_out = Setup::new("outbound").application("4001#2", "cart").start()?;
    let mut stock = Setup::new("inbound").application("4001#3", "stock").guid(0x3333).start()?;

    let [s1, s2, s3, s4] = [&mut gateway, &mut cart, &mut cart_out, &mut stock].map(|envoy| envoy.stream().open());
    let at_cart = gateway.request_headers(s1, call())?;
    let in_cart = cart.request_headers(s2, at_cart.clone())?;
    let to_stock = cart_out.request_headers(s3, in_cart.clone())?;
    let in_stock = stock.request_headers(s4, to_stock.clone())?;
    assert_eq!(in_cart, to_stock);

    let from_stock = stock.response_headers(s4, response(&[]))?;
    let to_cart = cart_out.response_headers(s3, from_stock.clone())?;
    assert_eq!(from_stock, to_cart);
    let from_cart = cart.response_headers(s2, to_cart)?;
    let to_client = gateway.response_headers(s1, from_cart.clone())?;
    for (envoy, stream) in [(&mut gateway, s1), (&mut cart, s2), (&mut cart_out, s3), (&mut stock, s4)] {
        envoy.end(stream, host_tests::Ending::complete())?;
    }

    let answered = |headers: &HeaderMap| plain(headers, APP_DATA).unwrap_or_default();
    assert!(answered(&from_stock).starts_with(r#"["4001#3","#), "{}", answered(&from_stock));
    assert!(answered(&from_cart).starts_with(r#"["4001#2","#), "{}", answered(&from_cart));
    assert!(answered(&to_client).starts_with(r#"["4001#1","#), "{}", answered(&to_client));

    // Each hop refers to the one before, and the hashes are those that went over the wire.
    let hops = [(&gateway, &at_cart, "dc59854d"), (&cart, &in_cart, "b6fd755b"), (&stock, &in_stock, "962b331f")];
    let mut referring = ("9f8e7d6c5b4a3921".to_owned(), "fffeef37".to_owned());
    for (envoy, sent, path_hash) in hops {
        let record = transaction(envoy);
        let get = |name: &str| text(&record, name).expect("the trip is recorded");
        assert_eq!(get("nr.tripId"), "9f8e7d6c5b4a3921");
        assert_eq!(get("nr.referringTransactionGuid"), referring.0);
        assert_eq!(get("nr.referringPathHash"), referring.1);
        assert_eq!(get("nr.pathHash"), path_hash);
        referring = (get("nr.guid"), get("nr.pathHash"));
        let array = format!(r#"["{}",false,"9f8e7d6c5b4a3921","{}"]"#, referring.0, referring.1);
        assert_eq!(plain(sent, TRANSACTION), Some(array));
    }
    assert_eq!(referring.0, "0000000000003333");
    tick(&mut gateway)?;
    tick(&mut cart_out)?;
    assert!(gateway.histogram("newrelic.ExternalApp/inventory.test/4001#2/all").is_some());
    assert!(cart_out.histogram("newrelic.ExternalApp/inventory.test/4001#3/all").is_some());
    Ok(())
}
