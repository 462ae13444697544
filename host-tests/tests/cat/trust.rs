//! Whose headers are believed at all: `trust_inbound`.

use host_tests::{HeaderMap, Result};

use crate::harness::*;

/// Nobody called: the trip starts here, and nobody is answered.
fn assert_starts_here(setup: Setup, request: &HeaderMap) -> Result<()> {
    let (envoy, exchange) = exchange(setup, request.clone(), response(&[]))?;
    assert_eq!(exchange.upstream.all(ID), [b"UgAAVUBYVlcAAg=="]);
    let expected = format!(r#"["{GUID}",false,"{GUID}","540b93f9"]"#);
    assert_eq!(plain(&exchange.upstream, TRANSACTION), Some(expected));
    assert_eq!(exchange.downstream, response(&[]));
    let expected = [format!("nr.guid={GUID}"), format!("nr.tripId={GUID}"), "nr.pathHash=540b93f9".to_owned()];
    assert_eq!(intrinsics(&transaction(&envoy)), expected);
    Ok(())
}

/// The trip goes on, and the caller is answered.
fn assert_goes_on(setup: Setup, request: &HeaderMap) -> Result<()> {
    let (envoy, exchange) = exchange(setup, request.clone(), response(&[]))?;
    let expected = format!(r#"["{GUID}",false,"9f8e7d6c5b4a3921","abf64d96"]"#);
    assert_eq!(plain(&exchange.upstream, TRANSACTION), Some(expected));
    assert!(exchange.downstream.contains(APP_DATA));
    assert_eq!(text(&transaction(&envoy), "client_cross_process_id").as_deref(), Some(CALLER));
    Ok(())
}

#[test]
fn callers_that_are_never_believed_start_no_trip_and_get_no_answer() -> Result<()> {
    for role in ["inbound", "gateway"] {
        assert_starts_here(Setup::new(role).with(r#""trust_inbound":"never""#), &call())?;
        assert_goes_on(Setup::new(role).with(r#""trust_inbound":"always""#), &call())?;
    }
    Ok(())
}

#[test]
fn internal_callers_are_told_by_the_proxys_own_header() -> Result<()> {
    let setup = || Setup::new("gateway").with(r#""trust_inbound":"internal_only""#);
    assert_starts_here(setup(), &call())?;
    for (value, is_internal) in [("true", true), ("false", false), ("1", false)] {
        let mut request = call();
        request.add("x-envoy-internal", value);
        if is_internal {
            assert_goes_on(setup(), &request)?;
        } else {
            assert_starts_here(setup(), &request)?;
        }
    }
    Ok(())
}

/// Whoever the caller is, its headers do not reach services that may still speak this protocol.
#[test]
fn distributed_tracing_takes_away_the_headers_of_callers_that_are_not_believed() -> Result<()> {
    let setup = Setup::new("gateway").mechanisms(true, false).with(r#""trust_inbound":"never""#);
    let (_, exchange) = exchange(setup, call(), response(&[(APP_DATA, b"theirs")]))?;
    assert!(!exchange.upstream.contains(ID) && !exchange.upstream.contains(TRANSACTION), "{:?}", exchange.upstream);
    assert_eq!(exchange.downstream.all(APP_DATA), [b"theirs"], "what the upstream answers is its own affair");
    Ok(())
}
