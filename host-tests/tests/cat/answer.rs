//! The response side: what the caller is told, and what an upstream tells.

use std::time::Duration;

use host_tests::{Ending, HeaderMap, MapType, Phase};

use crate::harness::*;

const TRANSACTION_NAME: [&str; 5] =
    ["xds", "route_metadata", "filter_metadata", "newrelic.tracing", "transaction_name"];

/// An upstream's answer, obfuscated.
fn app_data(array: &str) -> String {
    encode(array, KEY)
}

fn answer_to(request: HeaderMap) -> host_tests::Result<String> {
    let (_, exchange) = exchange(Setup::new("inbound"), request, response(&[]))?;
    Ok(plain(&exchange.downstream, APP_DATA).expect("a trusted caller gets an answer"))
}

#[test]
fn the_answer_tells_the_length_of_the_request_and_its_time_in_queues() -> host_tests::Result<()> {
    for (line, queue_time, content_length) in [
        (("x-other", "1"), "0", "-1"),
        (("content-length", "0"), "0", "0"),
        (("content-length", "17"), "0", "17"),
        (("content-length", "many"), "0", "-1"),
        (("content-length", "-1"), "0", "-1"),
        (("x-queue-start", "t=1750000000235000"), "0.015", "-1"),
        (("x-request-start", "1750000000.125"), "0.125", "-1"),
        (("x-queue-start", "soon"), "0", "-1"),
        (("x-queue-start", "t=1750000001000000"), "0", "-1"),
    ] {
        let mut request = call();
        request.add(line.0, line.1);
        let expected = format!(
            r#"["4001#90210","WebTransaction/Envoy/GET /stock",{queue_time},0,{content_length},"{GUID}",false]"#
        );
        assert_eq!(answer_to(request)?, expected, "{line:?}");
    }
    Ok(())
}

#[test]
fn the_answer_tells_the_time_from_the_start_until_it_is_written() -> host_tests::Result<()> {
    for (millis, expected) in [(0, "0"), (1, "0.001"), (250, "0.25"), (61_000, "61")] {
        let mut envoy = Setup::new("gateway").start()?;
        let stream = envoy.stream().open();
        envoy.request_headers(stream, call())?;
        envoy.advance(Duration::from_millis(millis))?;
        let downstream = envoy.response_headers(stream, response(&[]))?;
        let answer = plain(&downstream, APP_DATA).expect("a trusted caller gets an answer");
        let expected = format!(r#"["4001#90210","WebTransaction/Envoy/GET /stock",0,{expected},-1,"{GUID}",false]"#);
        assert_eq!(answer, expected, "{millis} ms");
    }
    Ok(())
}

#[test]
fn the_answer_freezes_the_transactions_name() -> host_tests::Result<()> {
    let mut envoy = Setup::new("inbound").start()?;
    let late = "WebTransaction/Custom/late";
    let stream = envoy.stream().route("checkout").property_from(Phase::Log, TRANSACTION_NAME, late).open();
    let upstream = envoy.request_headers(stream, call())?;
    let downstream = envoy.response_headers(stream, response(&[]))?;
    envoy.end(stream, Ending::complete())?;
    let answer = plain(&downstream, APP_DATA).expect("a trusted caller gets an answer");
    assert!(answer.starts_with(r#"["4001#90210","WebTransaction/Envoy/checkout","#), "{answer}");

    let record = transaction(&envoy);
    assert_eq!(text(&record, "name").as_deref(), Some("WebTransaction/Envoy/checkout"));
    let sent = plain(&upstream, TRANSACTION).unwrap_or_default();
    let hash = text(&record, "nr.pathHash").expect("the trip is recorded");
    assert!(sent.contains(&hash), "{sent} {hash}");
    assert_eq!(text(&record, "nr.alternatePathHashes"), None);
    Ok(())
}

/// Without an answer the name may change until the end.
#[test]
fn a_name_that_nobody_was_told_changes_with_the_route() -> host_tests::Result<()> {
    let mut envoy = Setup::new("inbound").start()?;
    let stream = envoy.stream().property_from(Phase::Log, TRANSACTION_NAME, "WebTransaction/Uri/stock").open();
    let upstream = envoy.request_headers(stream, request(&[]))?;
    envoy.response_headers(stream, response(&[]))?;
    envoy.end(stream, Ending::complete())?;
    let sent = plain(&upstream, TRANSACTION).unwrap_or_default();
    assert_eq!(sent, format!(r#"["{GUID}",false,"{GUID}","540b93f9"]"#));
    let record = transaction(&envoy);
    assert_eq!(text(&record, "name").as_deref(), Some("WebTransaction/Uri/stock"));
    assert_eq!(text(&record, "nr.alternatePathHashes").as_deref(), Some("540b93f9"));
    assert_ne!(text(&record, "nr.pathHash").as_deref(), Some("540b93f9"));
    Ok(())
}

/// An agent behind the proxy answers the proxy, which is its caller. The caller gets one answer: the proxy's.
#[test]
fn the_upstreams_answer_is_replaced() -> host_tests::Result<()> {
    let theirs = app_data(r#"["4001#7","WebTransaction/Go/GET /stock",0,0.1,-1,"aaaaaaaaaaaaaaaa",false]"#);
    for role in ["inbound", "gateway"] {
        let mut answer = response(&[(APP_DATA, theirs.as_bytes())]);
        answer.add(APP_DATA, "garbage");
        let (_, exchange) = exchange(Setup::new(role), call(), answer)?;
        let expected = format!(r#"["4001#90210","WebTransaction/Envoy/GET /stock",0,0,-1,"{GUID}",false]"#);
        assert_eq!(plain(&exchange.downstream, APP_DATA), Some(expected), "{role}");
    }
    Ok(())
}

/// Neither the proxy's answer nor that of the application behind it, which answered the proxy.
#[test]
fn who_did_not_ask_or_is_not_trusted_gets_no_answer() -> host_tests::Result<()> {
    let theirs = app_data(r#"["4001#7","WebTransaction/Go/GET /stock",0,0.1,-1,"aaaaaaaaaaaaaaaa",false]"#);
    for role in ["inbound", "gateway"] {
        for request in [request(&[]), call_of("4003#1", Some(CALLER_TRANSACTION)), request(&[(ID, b"*")])] {
            for answer in [response(&[]), response(&[(APP_DATA, theirs.as_bytes())])] {
                let (_, exchange) = exchange(Setup::new(role), request.clone(), answer)?;
                assert_eq!(exchange.downstream, response(&[]), "{role} {request:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn an_answer_of_the_proxys_own_names_it_too() -> host_tests::Result<()> {
    for (ending, status) in [(Ending::direct_response(403), "403"), (Ending::connect_failure(), "503")] {
        let mut envoy = Setup::new("gateway").start()?;
        let stream = envoy.stream().open();
        envoy.request_headers(stream, call())?;
        envoy.end(stream, ending)?;
        let headers = envoy.header_map(stream, MapType::ResponseHeaders)?;
        assert_eq!(headers.text(":status").as_deref(), Some(status));
        let answer = plain(&headers, APP_DATA).expect("a trusted caller gets an answer");
        assert!(answer.starts_with(r#"["4001#90210","#), "{answer}");
    }
    Ok(())
}

#[test]
fn an_excluded_request_is_left_alone_in_both_directions() -> host_tests::Result<()> {
    let setup = Setup::new("gateway").with(r#""exclude":[{"path":"/stock"}]"#);
    let answer = response(&[(APP_DATA, b"theirs")]);
    let (envoy, exchange) = exchange(setup, call(), answer.clone())?;
    assert_eq!((exchange.upstream, exchange.downstream), (call(), answer));
    assert_eq!(transactions(&envoy), [""; 0]);
    Ok(())
}

/// Whether a gateway believes what its upstream told, by the statistic of the upstream's application.
fn is_read(lines: &[String]) -> host_tests::Result<bool> {
    let mut answer = response(&[]);
    lines.iter().for_each(|line| answer.add(APP_DATA, line));
    let (mut envoy, exchange) = exchange(Setup::new("gateway"), call(), answer)?;
    let own = plain(&exchange.downstream, APP_DATA).unwrap_or_default();
    assert!(own.starts_with(r#"["4001#90210","#), "whatever the upstream told, the caller hears us: {own}");
    tick(&mut envoy)?;
    Ok(has_statistic(&envoy, "newrelic.ExternalApp/"))
}

#[test]
fn every_form_of_an_upstreams_answer_is_read() -> host_tests::Result<()> {
    for (array, expected) in [
        (r#"["4002#55","x",0.015,0.25,-1,"1122",false]"#, true),
        (r#"["4002#55","x",0.015,0.25,-1,"1122",true,"more",{}]"#, true),
        (r#"["4002#55","x",0,0,17,"1122"]"#, true),
        (r#"["4002#55","x",0,0,17]"#, true),
        (r#"["4002#55","x",1e-3,-1,17.5]"#, true),
        (r#"["4002#55","x",0,0]"#, false),
        (r#"["4002#55","x",0,0,17,1122]"#, false),
        (r#"["4002#55","x",0,0,17,"1122",0]"#, false),
        (r#"["4002#55","x",0,0,"17"]"#, false),
        (r#"["4002#55","x",0,null,17]"#, false),
        (r#"["4002#55","x","0",0,17]"#, false),
        (r#"["4002#55",null,0,0,17]"#, false),
        (r#"[4002,"x",0,0,17]"#, false),
        (r#"["4002","x",0,0,17]"#, false),
        // An account that is not trusted.
        (r#"["4003#55","x",0,0,17,"1122",false]"#, false),
        ("{}", false),
        ("", false),
    ] {
        assert_eq!(is_read(&[app_data(array)])?, expected, "{array}");
    }
    Ok(())
}

#[test]
fn the_first_of_several_answers_that_can_be_decoded_counts() -> host_tests::Result<()> {
    let answer = |application: &str| app_data(&format!(r#"["{application}","x",0,0,-1,"1122",false]"#));
    let (first, second, stranger) = (answer("4002#1"), answer("4002#2"), answer("4003#1"));
    for (lines, expected) in [
        (vec![first.clone(), second.clone()], Some("4002#1")),
        (vec![format!("{first},{second}")], Some("4002#1")),
        (vec!["garbage".to_owned(), second.clone()], Some("4002#2")),
        (vec![format!("garbage , , {second},{first}")], Some("4002#2")),
        (vec![String::new(), first.clone()], Some("4002#1")),
        (vec![stranger, first], None),
    ] {
        let mut upstream = response(&[]);
        lines.iter().for_each(|line| upstream.add(APP_DATA, line));
        let (mut envoy, _) = exchange(Setup::new("gateway"), request(&[]), upstream)?;
        tick(&mut envoy)?;
        for application in ["4002#1", "4002#2", "4003#1"] {
            let is_counted = has_statistic(&envoy, &format!("newrelic.ExternalApp/inventory.test/{application}/"));
            assert_eq!(is_counted, expected == Some(application), "{lines:?} {application}");
        }
    }
    Ok(())
}
