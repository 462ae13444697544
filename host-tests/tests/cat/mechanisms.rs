//! Cross Application Tracing beside distributed tracing: at most one of them is in force.

use host_tests::{HeaderMap, LogLevel, Result};

use crate::harness::*;

const CALLEE: &str = r#"["4001#7","WebTransaction/Go/GET /stock",0,0.1,-1,"aaaaaaaaaaaaaaaa",false]"#;

fn callees_answer() -> HeaderMap {
    response(&[(APP_DATA, encode(CALLEE, KEY).as_bytes()), (APP_DATA, b"\xff")])
}

fn callers_request() -> HeaderMap {
    let mut request = call();
    request.add(ID, b"again \xff");
    request
}

/// Nothing of Cross Application Tracing happens: neither on the wire nor in records and statistics.
fn assert_off(setup: Setup, case: &str) -> Result<()> {
    let (mut envoy, exchange) = exchange(setup, callers_request(), callees_answer())?;
    for name in [ID, TRANSACTION] {
        assert_eq!(exchange.upstream.all(name), callers_request().all(name), "{case} {name}");
    }
    assert_eq!(exchange.downstream, callees_answer(), "{case}");
    tick(&mut envoy)?;
    for record in transactions(&envoy).iter().chain(&spans(&envoy)) {
        assert_eq!(intrinsics(record), [""; 0], "{case}");
    }
    for prefix in ["newrelic.ClientApplication", "newrelic.ExternalApp", "newrelic.ExternalTransaction"] {
        assert!(!has_statistic(&envoy, prefix), "{case} {prefix}");
    }
    Ok(())
}

#[test]
fn distributed_tracing_leaves_the_headers_of_this_protocol_alone() -> Result<()> {
    for role in ["inbound", "outbound", "gateway"] {
        for is_configured in [true, false] {
            let setup = Setup::new(role).mechanisms(true, is_configured);
            assert_off(setup, &format!("{role} {is_configured}"))?;
        }
    }
    let (envoy, exchange) = exchange(Setup::new("inbound").mechanisms(true, true), call(), response(&[]))?;
    assert!(exchange.upstream.contains("traceparent"), "distributed tracing is in force");
    assert!(text(&transaction(&envoy), "traceId").is_some());
    let warning = "cross_application_tracer: off, because distributed_tracing.enabled is true";
    assert!(envoy.logged(LogLevel::Warn, warning), "{}", envoy.transcript());
    Ok(())
}

#[test]
fn with_neither_every_header_passes_untouched() -> Result<()> {
    for role in ["inbound", "outbound", "gateway"] {
        let setup = || Setup::new(role).mechanisms(false, false);
        assert_off(setup(), role)?;
        let mut request = callers_request();
        request.add("traceparent", "00-c0a8017e5d3b4f2226e1d47b08aa3f5c-b7d20c4e19f86a35-01");
        request.add("tracestate", "vend1=p0");
        request.add("newrelic", "*");
        let (_, exchange) = exchange(setup(), request.clone(), callees_answer())?;
        assert_eq!(exchange.upstream, request, "{role}");
    }
    Ok(())
}

#[test]
fn without_an_id_or_a_key_it_is_off() -> Result<()> {
    for role in ["inbound", "outbound", "gateway"] {
        assert_off(Setup::new(role).application("", "inventory"), "no cross process id")?;
        assert_off(Setup::new(role).encoding_key(r#""""#), "no key")?;
    }
    Ok(())
}
