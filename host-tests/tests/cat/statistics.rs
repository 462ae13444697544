//! The statistics that name a caller or a callee, and their bounds.

use std::collections::BTreeSet;
use std::time::Duration;

use host_tests::{Ending, Envoy, HeaderMap, Result, Value};

use crate::harness::*;

/// Names of each kind that have statistics of their own in one process.
const PEERS_MAX: usize = 64;
/// Names of callees' transactions that have statistics of their own in one process.
const TRANSACTIONS_MAX: usize = 256;

fn answer_of(application: &str, name: &str) -> HeaderMap {
    let array = format!(r#"["{application}","{name}",0,0.1,-1,"aaaaaaaaaaaaaaaa",false]"#);
    response(&[(APP_DATA, encode(array, KEY).as_bytes())])
}

fn request_to(host: &str) -> HeaderMap {
    let mut headers = request(&[]);
    headers.replace(":authority", host);
    headers
}

/// The names that were defined and begin so.
fn defined(envoy: &Envoy, prefix: &str) -> BTreeSet<String> {
    let calls = envoy.callbacks().into_iter().flat_map(|callback| callback.host_calls);
    let defined = calls.filter(|call| call.name == "proxy_define_metric").map(|call| call.about);
    defined.filter(|name| name.starts_with(prefix)).collect()
}

fn count(envoy: &Envoy, name: &str) -> usize {
    envoy.histogram(name).map_or(0, |values| values.len())
}

#[test]
fn a_call_counts_whole_for_the_caller_and_the_upstreams_part_for_the_callee() -> Result<()> {
    let names = ["newrelic.ClientApplication/4002#55/all", "newrelic.ExternalApp/inventory.test/4001#7/all"];
    // An outbound proxy is the caller's side whole: its own share belongs to the call.
    for (role, expected) in [("gateway", [Some(vec![300]), Some(vec![42])]), ("outbound", [None, Some(vec![300])])] {
        let mut envoy = Setup::new(role).start()?;
        let stream = envoy.stream().property("response.backend_latency", Value::Duration(42_000_000)).open();
        envoy.request_headers(stream, call())?;
        envoy.advance(Duration::from_millis(250))?;
        envoy.response_headers(stream, answer_of("4001#7", "x"))?;
        envoy.advance(Duration::from_millis(50))?;
        envoy.end(stream, Ending::complete())?;
        assert_eq!(names.map(|name| envoy.histogram(name)), [None, None], "{role}: published with the tick");
        assert_eq!(statistics(&mut envoy, &names)?, expected, "{role}");
        assert_eq!(statistics(&mut envoy, &names)?, expected, "{role}: once");
    }
    Ok(())
}

#[test]
fn calls_count_also_when_nothing_is_recorded() -> Result<()> {
    let setup = Setup::new("gateway").with(r#""transaction_events":{"enabled":false}"#);
    let (mut envoy, _) = exchange(setup, call(), answer_of("4001#7", "x"))?;
    tick(&mut envoy)?;
    assert_eq!(transactions(&envoy), [""; 0]);
    assert_eq!(count(&envoy, "newrelic.ClientApplication/4002#55/all"), 1);
    assert_eq!(count(&envoy, "newrelic.ExternalApp/inventory.test/4001#7/all"), 1);
    Ok(())
}

#[test]
fn callers_without_trust_have_no_statistics() -> Result<()> {
    let mut envoy = Setup::new("inbound").start()?;
    for request in [request(&[]), call_of("4003#1", None), call_of("4002", None)] {
        envoy.stream().exchange(request, response(&[]))?;
    }
    tick(&mut envoy)?;
    assert!(!has_statistic(&envoy, "newrelic.ClientApplication"));
    Ok(())
}

#[test]
fn callers_beyond_the_bound_share_one_statistic() -> Result<()> {
    let mut envoy = Setup::new("inbound").start()?;
    for _ in 0..2 {
        for number in 0..PEERS_MAX + 6 {
            envoy.stream().exchange(call_of(&format!("4002#{number}"), None), response(&[]))?;
        }
    }
    tick(&mut envoy)?;
    for number in 0..PEERS_MAX {
        assert_eq!(count(&envoy, &format!("newrelic.ClientApplication/4002#{number}/all")), 2, "{number}");
    }
    assert_eq!(count(&envoy, "newrelic.ClientApplication/Other/all"), 12);
    assert_eq!(defined(&envoy, "newrelic.ClientApplication").len(), PEERS_MAX + 1);
    Ok(())
}

/// The bound is that of the process: a statistic has one value in Envoy, whichever worker counts.
#[test]
fn the_workers_share_the_bound() -> Result<()> {
    let mut envoy = Setup::new("inbound").workers(2).start()?;
    for number in 0..40 {
        for worker in [0, 1] {
            let id = format!("4002#{worker}{number:02}");
            envoy.stream().worker(worker).exchange(call_of(&id, None), response(&[]))?;
        }
        // Both workers have this caller.
        envoy.stream().worker(number % 2).exchange(call(), response(&[]))?;
    }
    tick(&mut envoy)?;
    assert_eq!(defined(&envoy, "newrelic.ClientApplication").len(), PEERS_MAX + 1);
    assert_eq!(count(&envoy, "newrelic.ClientApplication/4002#55/all"), 40);
    assert_eq!(count(&envoy, "newrelic.ClientApplication/Other/all"), 80 + 1 - PEERS_MAX);
    Ok(())
}

#[test]
fn an_application_of_more_than_twenty_digits_is_unknown() -> Result<()> {
    let mut envoy = Setup::new("gateway").start()?;
    let (longest, longer) = (format!("4002#{}", "1".repeat(20)), format!("4002#{}", "1".repeat(21)));
    for id in [&longest, &longer] {
        envoy.stream().exchange(call_of(id, None), answer_of(id, "x"))?;
    }
    tick(&mut envoy)?;
    for id in [longest.as_str(), "4002#Unknown"] {
        assert_eq!(count(&envoy, &format!("newrelic.ClientApplication/{id}/all")), 1, "{id}");
        assert_eq!(count(&envoy, &format!("newrelic.ExternalApp/inventory.test/{id}/all")), 1, "{id}");
    }
    Ok(())
}

#[test]
fn callees_beyond_the_bound_share_two_statistics() -> Result<()> {
    for role in ["gateway", "outbound"] {
        let mut envoy = Setup::new(role).start()?;
        for number in 0..PEERS_MAX + 6 {
            let host = format!("host{number}.test");
            envoy.stream().exchange(request_to(&host), answer_of("4001#7", "x"))?;
        }
        tick(&mut envoy)?;
        for number in 0..PEERS_MAX {
            let callee = format!("host{number}.test/4001#7");
            assert_eq!(count(&envoy, &format!("newrelic.ExternalApp/{callee}/all")), 1, "{role} {number}");
            assert_eq!(count(&envoy, &format!("newrelic.ExternalTransaction/{callee}/x")), 1, "{role} {number}");
        }
        assert_eq!(count(&envoy, "newrelic.ExternalApp/Other/all"), 6, "{role}");
        assert_eq!(count(&envoy, "newrelic.ExternalTransaction/Other"), 6, "{role}");
        assert_eq!(defined(&envoy, "newrelic.External").len(), 2 * (PEERS_MAX + 1), "{role}");
    }
    Ok(())
}

#[test]
fn a_callees_transactions_beyond_the_bound_share_one_statistic() -> Result<()> {
    let mut envoy = Setup::new("outbound").start()?;
    for number in 0..TRANSACTIONS_MAX + 6 {
        envoy.stream().exchange(request(&[]), answer_of("4001#7", &format!("WebTransaction/Go/{number}")))?;
    }
    tick(&mut envoy)?;
    let callee = "inventory.test/4001#7";
    assert_eq!(count(&envoy, &format!("newrelic.ExternalApp/{callee}/all")), TRANSACTIONS_MAX + 6);
    assert_eq!(count(&envoy, &format!("newrelic.ExternalTransaction/{callee}/Other")), 6);
    assert_eq!(defined(&envoy, "newrelic.ExternalTransaction").len(), TRANSACTIONS_MAX + 1);
    Ok(())
}

#[test]
fn host_and_transaction_are_cut_and_cleaned() -> Result<()> {
    let long = "é".repeat(200);
    let cut = "é".repeat(127);
    for (host, name, shown_host, shown_name) in [
        ("inventory.test:80", "x", "inventory.test", "x"),
        ("Inventory.test:8080", "x", "inventory.test:8080", "x"),
        ("", "x", "unknown", "x"),
        ("h.test", r"a\nb: 1\u0000", "h.test", "a_b: 1_"),
        ("h.test", long.as_str(), "h.test", cut.as_str()),
        (&"h".repeat(300), "x", &"h".repeat(255), "x"),
    ] {
        let mut envoy = Setup::new("outbound").start()?;
        envoy.stream().exchange(request_to(host), answer_of("4001#7", name))?;
        tick(&mut envoy)?;
        let expected = format!("newrelic.ExternalTransaction/{shown_host}/4001#7/{shown_name}");
        assert_eq!(defined(&envoy, "newrelic.ExternalTransaction"), [expected].into());
    }
    Ok(())
}
