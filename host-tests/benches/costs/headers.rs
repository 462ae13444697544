//! Single headers: the difference that one makes to a request that is not sampled.

use host_tests::{Cost, Result};

use super::requests::plain;
use super::{Measured, PAYLOAD, request_cost, setup};
use crate::support::{Setup, TRACEPARENT, encode};

pub(super) fn measure() -> Result<Vec<Measured>> {
    Ok([parsed()?, written()?].concat())
}

/// What a caller sends: reading it, and what follows from it, such as passing members on.
fn parsed() -> Result<Vec<Measured>> {
    let setup = setup("inbound", "always_off");
    let cost = |lines: &[(&'static str, String)]| with(&setup, lines);
    let traceparent = ("traceparent", TRACEPARENT.to_owned());
    let untraced = cost(&[])?;
    let alone = cost(std::slice::from_ref(&traceparent))?;
    let mut all = vec![
        Measured::new("parsed traceparent, instead of a new trace", alone - untraced),
        Measured::new("parsed newrelic, instead of a new trace", cost(&[("newrelic", encode(PAYLOAD))])? - untraced),
    ];
    for members in [1, 2, 32] {
        let lines = [traceparent.clone(), ("tracestate", tracestate(members))];
        all.push(Measured::new(format!("parsed tracestate, members: {members}"), cost(&lines)? - alone));
    }
    Ok(all)
}

/// What goes on. Without an account the filter writes `traceparent` alone.
fn written() -> Result<Vec<Measured>> {
    let account = ["account_id", "trusted_account_key", "primary_application_id"];
    let anonymous = account.into_iter().fold(setup("inbound", "always_off"), Setup::without);
    let off = anonymous.clone().with("distributed_tracing.enabled", false);
    let excluding = setup("inbound", "always_off").with("distributed_tracing.exclude_newrelic_header", true);
    let traceparent = with(&anonymous, &[])?;
    let tracestate = with(&excluding, &[])?;
    let newrelic = with(&setup("inbound", "always_off"), &[])?;
    Ok(vec![
        Measured::new("new trace, decided and written as traceparent", traceparent - with(&off, &[])?),
        Measured::new("written tracestate", tracestate - traceparent),
        Measured::new("written newrelic", newrelic - tracestate),
    ])
}

fn with(setup: &Setup, lines: &[(&'static str, String)]) -> Result<Cost> {
    request_cost(setup, [plain(), lines.to_vec()].concat())
}

/// New Relic's member, then others.
fn tracestate(members: usize) -> String {
    let own = "777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-1.5-1749999999900".to_owned();
    let others = (1..members).map(|number| format!("vend{number}=q9Zx{number}"));
    std::iter::once(own).chain(others).collect::<Vec<_>>().join(",")
}
