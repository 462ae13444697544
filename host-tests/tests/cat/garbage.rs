//! Garbage in each header changes nothing but what that header would have told.

use host_tests::{Exchange, HeaderMap, Result, Thread};

use crate::harness::*;

/// Values that no agent writes.
fn garbage() -> Vec<Vec<u8>> {
    let obfuscated = |text: &[u8]| encode(text, KEY).into_bytes();
    vec![
        b"".to_vec(),
        b" \t".to_vec(),
        b"\xff\xfe\x80".to_vec(),
        (1..=0xff).filter(|byte| !matches!(byte, b'\r' | b'\n')).collect(),
        b"====".to_vec(),
        b"A".repeat(100_000),
        b"A,".repeat(10_000),
        obfuscated(&[0xff; 40]),
        obfuscated(&b"[".repeat(10_000)),
        obfuscated(&[b"[".repeat(100), b"]".repeat(100)].concat()),
        obfuscated(br#"["9f8e",false,"7d6c","fffeef37"#),
        obfuscated(br#"[1e999,-0,{"a":[null]},"\ud800"]"#),
        obfuscated(b"4294967296#"),
        obfuscated(b"\0#\0"),
    ]
}

/// What the two sides and the operator see.
#[derive(Debug, PartialEq)]
struct Seen {
    upstream: HeaderMap,
    downstream: HeaderMap,
    records: Vec<String>,
}

fn seen(role: &'static str, request: HeaderMap, response: HeaderMap) -> Result<Seen> {
    let (mut envoy, exchange) = exchange(Setup::new(role), request, response)?;
    tick(&mut envoy)?;
    assert!(!envoy.is_dead(Thread::Worker(0)));
    assert_eq!(envoy.counters().iter().find(|(name, _)| name.contains("host_refused")), None);
    let Exchange { upstream, downstream, .. } = exchange;
    Ok(Seen { upstream, downstream, records: transactions(&envoy) })
}

/// A request with lines that are nobody's business.
fn with(lines: &[(&str, &[u8])]) -> HeaderMap {
    let mut headers = request(&[("x-other", b"\xff"), ("cookie", b"a=1")]);
    lines.iter().for_each(|(name, value)| headers.add(name, value));
    headers
}

fn shown(value: &[u8]) -> String {
    value[..value.len().min(60)].escape_ascii().to_string()
}

#[test]
fn an_id_of_garbage_is_as_good_as_none() -> Result<()> {
    let transaction = encode(CALLER_TRANSACTION, KEY);
    for role in ["inbound", "gateway"] {
        let expected = seen(role, with(&[]), response(&[]))?;
        for value in garbage() {
            let request = with(&[(ID, &value), (TRANSACTION, transaction.as_bytes()), (ID, &value)]);
            assert_eq!(seen(role, request, response(&[]))?, expected, "{role} {}", shown(&value));
        }
    }
    Ok(())
}

#[test]
fn a_transaction_of_garbage_is_as_good_as_none() -> Result<()> {
    let id = encode(CALLER, KEY);
    for role in ["inbound", "gateway"] {
        let expected = seen(role, with(&[(ID, id.as_bytes())]), response(&[]))?;
        assert!(expected.downstream.contains(APP_DATA), "the caller is known all the same");
        for value in garbage() {
            let request = with(&[(ID, id.as_bytes()), (TRANSACTION, &value), (TRANSACTION, &value)]);
            assert_eq!(seen(role, request, response(&[]))?, expected, "{role} {}", shown(&value));
        }
    }
    Ok(())
}

#[test]
fn an_upstreams_answer_of_garbage_is_as_good_as_none() -> Result<()> {
    for role in ["inbound", "gateway"] {
        for request in [call(), with(&[])] {
            let expected = seen(role, request.clone(), response(&[("x-other", b"\xff")]))?;
            for value in garbage() {
                let answer = response(&[(APP_DATA, &value), ("x-other", b"\xff"), (APP_DATA, &value)]);
                assert_eq!(seen(role, request.clone(), answer)?, expected, "{role} {}", shown(&value));
            }
        }
    }
    Ok(())
}

#[test]
fn an_outbound_proxy_lets_garbage_pass() -> Result<()> {
    for value in garbage() {
        let (request, answer) = (with(&[(ID, &value), (TRANSACTION, &value)]), response(&[(APP_DATA, &value)]));
        let seen = seen("outbound", request.clone(), answer.clone())?;
        let expected = Seen { upstream: request, downstream: answer, records: Vec::new() };
        assert_eq!(seen, expected, "{}", shown(&value));
    }
    Ok(())
}

/// One proxy that gets all of it, and then a caller that knows the protocol.
#[test]
fn a_proxy_works_on_after_garbage() -> Result<()> {
    let mut envoy = Setup::new("gateway").start()?;
    for value in garbage() {
        let request = with(&[(ID, &value), (TRANSACTION, &value)]);
        envoy.stream().exchange(request, response(&[(APP_DATA, &value)]))?;
    }
    let exchange = envoy.stream().exchange(call(), response(&[]))?;
    let answer = plain(&exchange.downstream, APP_DATA).expect("a trusted caller gets an answer");
    assert!(answer.starts_with(r#"["4001#90210","WebTransaction/Envoy/GET /stock",0,0,-1,""#), "{answer}");
    Ok(())
}
