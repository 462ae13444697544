//! Statistics of propagation: New Relic's supportability metrics, and durations by caller. They are published on the
//! timer, so a request by itself makes no host call for them.

use host_tests::{Fault, Status};
use serde_json::json;

use crate::support::{Seen, Setup, TRACEPARENT, encode, finish, request, send, tick};

const STATE: &str = "777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900";

#[test]
fn every_supportability_metric_is_visible_from_the_start() {
    let envoy = Setup::gateway().start();
    let counters = envoy.counters();
    for name in [
        "TraceContext/Accept/Success",
        "TraceContext/Accept/Exception",
        "TraceContext/TraceParent/Parse/Exception",
        "TraceContext/TraceState/Parse/Exception",
        "TraceContext/TraceState/InvalidNrEntry",
        "TraceContext/TraceState/NoNrEntry",
        "TraceContext/Create/Success",
        "TraceContext/Create/Exception",
        "DistributedTrace/AcceptPayload/Success",
        "DistributedTrace/AcceptPayload/Exception",
        "DistributedTrace/AcceptPayload/ParseException",
        "DistributedTrace/AcceptPayload/Ignored/Null",
        "DistributedTrace/AcceptPayload/Ignored/Multiple",
        "DistributedTrace/AcceptPayload/Ignored/CreateBeforeAccept",
        "DistributedTrace/AcceptPayload/Ignored/MajorVersion",
        "DistributedTrace/AcceptPayload/Ignored/UntrustedAccount",
        "DistributedTrace/CreatePayload/Success",
        "DistributedTrace/CreatePayload/Exception",
    ] {
        assert_eq!(counters.get(&format!("newrelic.Supportability/{name}")), Some(&0), "{name}");
    }
}

#[test]
fn counters_add_up_over_requests_and_workers() {
    let mut envoy = Setup::gateway().workers(3).start();
    for number in 0..12 {
        let stream = envoy.stream().worker(number % 3).open();
        let lines = if number % 2 == 0 { vec![("traceparent", TRACEPARENT)] } else { vec![("traceparent", "garbage")] };
        send(&mut envoy, stream, &request(&lines));
        finish(&mut envoy, stream, "200");
    }
    tick(&mut envoy);
    for (name, count) in [
        ("TraceContext/Accept/Success", 6),
        ("TraceContext/TraceParent/Parse/Exception", 6),
        ("TraceContext/TraceState/NoNrEntry", 6),
        ("TraceContext/Create/Success", 12),
        ("DistributedTrace/CreatePayload/Success", 12),
    ] {
        assert_eq!(envoy.counter(&format!("newrelic.Supportability/{name}")), count, "{name}");
    }
    tick(&mut envoy);
    assert_eq!(envoy.counter("newrelic.Supportability/TraceContext/Create/Success"), 12, "nothing is published twice");
}

#[test]
fn headers_that_the_host_refuses_are_counted_as_not_created() {
    for (header, exception, refusals) in [
        ("traceparent", "TraceContext/Create/Exception", 1),
        ("tracestate", "TraceContext/Create/Exception", 1),
        ("newrelic", "DistributedTrace/CreatePayload/Exception", 1),
    ] {
        let mut envoy = Setup::gateway().start();
        envoy.inject(Fault::on("proxy_replace_header_map_value", Status::InternalFailure).about(header));
        let stream = envoy.stream().open();
        send(&mut envoy, stream, &request(&[("traceparent", TRACEPARENT)]));
        finish(&mut envoy, stream, "200");
        tick(&mut envoy);
        let count = |name: &str| envoy.counter(&format!("newrelic.Supportability/{name}"));
        assert_eq!(count(exception), 1, "{header}");
        assert_eq!(envoy.counter("newrelic.host_refused.replace_header_map_value"), refusals, "{header}");
        let success =
            if header == "newrelic" { "DistributedTrace/CreatePayload/Success" } else { "TraceContext/Create/Success" };
        assert_eq!(count(success), 0, "{header}: what failed did not succeed");
    }
}

/// One request with a role, its caller's headers, a status, and the caller's part of the statistics' names.
fn durations(role: &str, lines: &[(&str, &str)], status: &str) -> Seen {
    let mut envoy = Setup::role(role).start();
    let stream = envoy.stream().open();
    let upstream = send(&mut envoy, stream, &request(lines));
    finish(&mut envoy, stream, status);
    Seen::new(envoy, stream, upstream)
}

fn histograms(seen: &Seen, kind: &str, caller: &str) -> [Option<Vec<u64>>; 2] {
    ["all", "allWeb"].map(|scope| seen.envoy.histogram(&format!("newrelic.{kind}/{caller}/{scope}")))
}

fn errors(seen: &Seen, caller: &str) -> [u64; 2] {
    ["all", "allWeb"].map(|scope| seen.envoy.counter(&format!("newrelic.ErrorsByCaller/{caller}/{scope}")))
}

#[test]
fn durations_are_told_by_caller() {
    let payload =
        encode(r#"{"v":[0,1],"d":{"ty":"Mobile","ac":"777","ap":"5","tr":"ab12","id":"x","ti":1749999999900}}"#);
    for (lines, caller, transport_ms) in [
        (vec![], "Unknown/Unknown/Unknown/Unknown", None),
        (vec![("traceparent", TRACEPARENT)], "Unknown/Unknown/Unknown/HTTPS", None),
        (vec![("traceparent", TRACEPARENT), ("tracestate", STATE)], "App/4002/55/HTTPS", Some(223)),
        (vec![("newrelic", &*payload)], "Mobile/777/5/HTTPS", Some(223)),
    ] {
        for role in ["gateway", "inbound"] {
            let seen = durations(role, &lines, "200");
            let both = |value: Option<Vec<u64>>| [value.clone(), value];
            assert_eq!(histograms(&seen, "DurationByCaller", caller), both(Some(vec![40])), "{role} {caller}");
            let transport = both(transport_ms.map(|duration| vec![duration]));
            assert_eq!(histograms(&seen, "TransportDuration", caller), transport, "{role} {caller}");
            assert_eq!(errors(&seen, caller), [0, 0], "{role} {caller}");
        }
    }
}

#[test]
fn errors_are_counted_by_caller() {
    for (status, expected) in [("200", 0), ("302", 0), ("400", 1), ("404", 0), ("500", 1), ("503", 1)] {
        let seen = durations("gateway", &[("traceparent", TRACEPARENT), ("tracestate", STATE)], status);
        assert_eq!(errors(&seen, "App/4002/55/HTTPS"), [expected; 2], "{status}");
        assert_eq!(seen.transaction()["error"], expected == 1, "{status}");
    }
}

#[test]
fn an_outbound_proxy_has_no_durations_by_caller() {
    let seen = durations("outbound", &[("traceparent", TRACEPARENT), ("tracestate", STATE)], "500");
    for caller in ["App/4002/55/HTTPS", "Unknown/Unknown/Unknown/HTTPS", "Unknown/Unknown/Unknown/Unknown"] {
        assert_eq!(histograms(&seen, "DurationByCaller", caller), [None, None]);
        assert_eq!(errors(&seen, caller), [0, 0]);
    }
}

#[test]
fn durations_by_caller_are_part_of_distributed_tracing() {
    let mut envoy = Setup::gateway().with("distributed_tracing.enabled", false).start();
    let stream = envoy.stream().open();
    send(&mut envoy, stream, &request(&[("traceparent", TRACEPARENT), ("tracestate", STATE)]));
    finish(&mut envoy, stream, "500");
    tick(&mut envoy);
    for caller in ["App/4002/55/HTTPS", "Unknown/Unknown/Unknown/Unknown"] {
        assert_eq!(envoy.histogram(&format!("newrelic.DurationByCaller/{caller}/all")), None);
    }
}

#[test]
fn durations_are_told_without_records_and_without_sampling() {
    let setup = Setup::gateway()
        .sampler("always_off")
        .with("transaction_events.enabled", false)
        .with("span_events.enabled", false);
    let seen = setup.exchange(&[("traceparent", TRACEPARENT), ("tracestate", STATE)]);
    assert_eq!(histograms(&seen, "DurationByCaller", "App/4002/55/HTTPS"), [Some(vec![40]), Some(vec![40])]);
}

#[test]
fn names_made_of_a_callers_data_hold_nothing_but_digits_and_known_words() {
    let long = "1".repeat(21);
    let longest = "1".repeat(20);
    let longest_name = format!("App/{longest}/55/HTTPS");
    for (account, app, caller) in [
        ("4002", "Unknown", "App/4002/Unknown/HTTPS"),
        ("4002", "5/5", "App/4002/Unknown/HTTPS"),
        ("40 02", "55", "App/Unknown/55/HTTPS"),
        ("a;b", "c:d", "App/Unknown/Unknown/HTTPS"),
        (&long, "55", "App/Unknown/55/HTTPS"),
        (&longest, "55", &longest_name),
    ] {
        let state = format!("777@nr=0-0-{account}-{app}---1-1.5-1749999999900");
        let seen = durations("gateway", &[("traceparent", TRACEPARENT), ("tracestate", &state)], "200");
        assert_eq!(histograms(&seen, "DurationByCaller", caller)[0], Some(vec![40]), "{account} {app}");
        assert_eq!(seen.transaction()["parent.account"], account, "records keep what came");
    }
    let json = json!({ "v": [0, 1], "d": {
        "ty": "Toaster/../", "ac": "777", "ap": "5", "tr": "ab", "id": "x", "ti": 1_749_999_999_900_u64,
    } });
    let seen = durations("gateway", &[("newrelic", &encode(json.to_string()))], "200");
    assert_eq!(histograms(&seen, "DurationByCaller", "Unknown/777/5/HTTPS")[0], Some(vec![40]));
}

#[test]
fn at_most_64_callers_have_names_of_their_own_in_one_process() {
    let mut envoy = Setup::gateway().workers(2).start();
    for number in 0..200 {
        let stream = envoy.stream().worker(number % 2).open();
        let state = format!("777@nr=0-0-{}-55---1-1.5-1749999999900", 5000 + number);
        send(&mut envoy, stream, &request(&[("traceparent", TRACEPARENT), ("tracestate", &state)]));
        finish(&mut envoy, stream, "200");
    }
    tick(&mut envoy);
    let name = |account: usize| format!("newrelic.DurationByCaller/App/{account}/55/HTTPS/all");
    let named: Vec<_> = (5000..5200).filter_map(|account| envoy.histogram(&name(account))).collect();
    assert_eq!(named.len(), 64);
    let rest = envoy.histogram("newrelic.DurationByCaller/Other/all").map_or(0, |values| values.len());
    assert_eq!(named.iter().map(Vec::len).sum::<usize>() + rest, 200, "no request is lost");
}
