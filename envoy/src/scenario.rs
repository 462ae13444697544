//! The requests of the demo, and what each must lead to.

use std::hash::{BuildHasher, Hasher, RandomState};

use serde_json::{Value, json};

use crate::client::Request;
use crate::services::{DECLINED, HEALTH_PATH};
use crate::tracing_headers::{TracingHeaders, encode_newrelic};
use crate::verdict::Counts;

/// The account group that `envoy.yaml` trusts (`trusted_account_key`).
pub const TRUSTED_ACCOUNT_KEY: &str = "4000";
/// Name of the edge gateway's service in `envoy.yaml`.
pub const GATEWAY_SERVICE: &str = "edge-gateway";

/// Host of the shop, as callers outside know it.
pub const SHOP: &str = "shop.example";
/// The span id that callers bring along.
const CALLER_SPAN_ID: &str = "b7d20c4e19f86a35";
/// The id of the caller's transaction.
const CALLER_TRANSACTION_ID: &str = "1122334455667788";
/// How long ago the caller sent its request, in milliseconds.
const CALLER_AGE_MS: u64 = 30;

/// A span by its service and its kind.
pub type Step = (&'static str, &'static str);

/// The spans of a request that goes all the way, from the first to the last.
const WHOLE_WAY: &[Step; 8] = &[
    (GATEWAY_SERVICE, "server"),
    (GATEWAY_SERVICE, "client"),
    ("storefront", "server"),
    ("storefront", "client"),
    ("cart", "server"),
    ("cart", "client"),
    ("payments", "server"),
    ("payments", "client"),
];
/// The same without the call to the bank.
const UP_TO_PAYMENTS: &[Step] = WHOLE_WAY.first_chunk::<7>().unwrap();
/// The services that such a request reaches. The bank is outside the mesh and has no proxy.
pub(crate) const ALL_SERVICES: &[&str] = &["storefront", "cart", "payments", "bank"];

/// One request and its consequences. `T` is what must be known about the records that it leaves behind.
#[derive(Debug, Clone)]
pub struct Scenario<T = ExpectedTrace> {
    /// What is special about the request.
    pub title: &'static str,
    /// What there is to see.
    pub shows: &'static str,
    /// The request.
    pub request: Request,
    /// Status of the answer.
    pub status: u16,
    /// The services that the request reaches, in order.
    pub services: &'static [&'static str],
    /// Its records; `None` when the request is excluded from tracing.
    pub expected: Option<T>,
}

/// What must be known about the records of one request: a trace, or in Cross Application Tracing a trip.
pub trait Expected {
    /// The attribute by which Transaction events tell what they belong to.
    const TRANSACTION_KEY: &'static str;

    /// The id of the trace or trip, from the headers that a service saw.
    fn id(headers: &TracingHeaders) -> Option<String>;

    /// How many spans and transactions there must be.
    fn records(&self) -> Counts;
}

/// What must be known about a trace.
#[derive(Debug, Clone, Default)]
pub struct ExpectedTrace {
    /// Trace id and span id of the caller, when the trace is the caller's.
    pub caller: Option<(String, &'static str)>,
    /// The spans, each the child of the one before.
    pub chain: &'static [Step],
    /// Whether the entry spans are failed.
    pub failed: bool,
    /// Attributes of the first span.
    pub first_span: Vec<(&'static str, Value)>,
    /// Attributes that the first span must not have.
    pub first_span_lacks: &'static [&'static str],
    /// The `tracestate` members of other vendors, which every service must see.
    pub foreign_members: Vec<String>,
}

impl Expected for ExpectedTrace {
    const TRANSACTION_KEY: &'static str = "traceId";

    fn id(headers: &TracingHeaders) -> Option<String> {
        Some(headers.traceparent()?.trace_id)
    }

    fn records(&self) -> Counts {
        let entries = self.chain.iter().filter(|(_, kind)| *kind == "server");
        Counts { spans: self.chain.len() as u64, transactions: entries.count() as u64 }
    }
}

/// All scenarios, in the order in which they are run. `now_ms` is the time, Unix epoch milliseconds. The trace ids that
/// callers bring along are new ones each time.
///
/// The excluded request is not the last one: the records of the one behind it come out of the same
/// proxies later, so that a record of the excluded request would have arrived by then.
pub fn all(now_ms: u64) -> Vec<Scenario> {
    let sent_ms = now_ms - CALLER_AGE_MS;
    let caller = || Caller { trace_id: new_trace_id(), sent_ms };
    vec![
        no_headers(),
        w3c_with_newrelic_entry(&caller()),
        newrelic_header_only(&caller()),
        foreign_vendor(&caller()),
        untrusted_account(&caller()),
        health_check(&caller()),
        declined_payment(),
    ]
}

/// A trace id that no earlier request had: whoever keeps traces would take two requests for one trace.
fn new_trace_id() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

fn checkout(title: &'static str, shows: &'static str, trace: ExpectedTrace) -> Scenario {
    Scenario {
        title,
        shows,
        request: Request::get(SHOP, "/checkout/42"),
        status: 200,
        services: ALL_SERVICES,
        expected: Some(ExpectedTrace { chain: WHOLE_WAY, ..trace }),
    }
}

impl<T> Scenario<T> {
    /// Adds a header line to the request.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }
}

fn no_headers() -> Scenario {
    checkout(
        "No tracing headers",
        "The gateway starts a trace and samples it; every proxy behind it follows.",
        ExpectedTrace { first_span_lacks: &["parent.type", "tracingVendors"], ..ExpectedTrace::default() },
    )
}

/// An instrumented application outside the mesh that sends a request as part of its own trace.
struct Caller {
    trace_id: String,
    sent_ms: u64,
}

impl Caller {
    fn traceparent(&self) -> String {
        format!("00-{}-{CALLER_SPAN_ID}-01", self.trace_id)
    }

    /// The `tracestate` entry of an application of account 4002, in the account group `key`.
    fn entry(&self, key: &str) -> String {
        format!("{key}@nr=0-0-4002-55-{CALLER_SPAN_ID}-{CALLER_TRANSACTION_ID}-1-1.5-{}", self.sent_ms)
    }

    /// The `newrelic` header of the same application.
    fn newrelic(&self) -> String {
        encode_newrelic(&json!({
            "ty": "App", "ac": "4002", "ap": "55", "id": CALLER_SPAN_ID, "tx": CALLER_TRANSACTION_ID,
            "tr": self.trace_id, "pr": 1.5, "sa": true, "ti": self.sent_ms, "tk": TRUSTED_ACCOUNT_KEY,
        }))
    }

    /// Trace id and span id, which the trace must continue.
    fn ids(&self) -> Option<(String, &'static str)> {
        Some((self.trace_id.clone(), CALLER_SPAN_ID))
    }
}

fn w3c_with_newrelic_entry(caller: &Caller) -> Scenario {
    let trace = ExpectedTrace {
        caller: caller.ids(),
        first_span: vec![
            ("parent.type", json!("App")),
            ("parent.account", json!("4002")),
            ("parent.app", json!("55")),
            ("trustedParentId", json!(CALLER_SPAN_ID)),
            ("priority", json!(1.5)),
        ],
        ..ExpectedTrace::default()
    };
    checkout(
        "W3C headers with a New Relic entry",
        "The caller's trace goes on with the caller's decision and priority, and the caller is known.",
        trace,
    )
    .header("traceparent", &caller.traceparent())
    .header("tracestate", &caller.entry(TRUSTED_ACCOUNT_KEY))
}

fn newrelic_header_only(caller: &Caller) -> Scenario {
    let trace = ExpectedTrace {
        caller: caller.ids(),
        first_span: vec![("parent.account", json!("4002")), ("priority", json!(1.5))],
        ..ExpectedTrace::default()
    };
    checkout(
        "Only the newrelic header",
        "An old agent calls: its trace goes on, and the services get the W3C headers, too.",
        trace,
    )
    .header("newrelic", &caller.newrelic())
}

fn foreign_vendor(caller: &Caller) -> Scenario {
    let members = ["vend1=q9/Zx.7", "zeta=4*k"];
    let trace = ExpectedTrace {
        caller: caller.ids(),
        first_span: vec![("tracingVendors", json!("vend1,zeta"))],
        first_span_lacks: &["parent.account", "trustedParentId"],
        foreign_members: members.map(str::to_owned).to_vec(),
        ..ExpectedTrace::default()
    };
    checkout(
        "Another vendor's tracestate",
        "The trace goes on, and the other vendor's entries reach every service as they were.",
        trace,
    )
    .header("traceparent", &caller.traceparent())
    .header("tracestate", &members.join(","))
}

fn untrusted_account(caller: &Caller) -> Scenario {
    let entry = caller.entry("888");
    let trace = ExpectedTrace {
        caller: caller.ids(),
        first_span: vec![("tracingVendors", json!("888@nr"))],
        first_span_lacks: &["parent.account", "trustedParentId"],
        foreign_members: vec![entry.clone()],
        ..ExpectedTrace::default()
    };
    checkout(
        "A New Relic account that is not trusted",
        "Its entry is passed on like any other vendor's, and nothing in it is believed.",
        trace,
    )
    .header("traceparent", &caller.traceparent())
    .header("tracestate", &entry)
}

fn declined_payment() -> Scenario {
    let trace = ExpectedTrace { chain: UP_TO_PAYMENTS, failed: true, ..ExpectedTrace::default() };
    Scenario {
        title: "An error",
        shows: "Payments answers 503: every service on the way back is marked, and the bank was never asked.",
        request: Request::get(SHOP, &format!("/checkout{DECLINED}")),
        status: 503,
        services: &["storefront", "cart", "payments"],
        expected: Some(trace),
    }
}

fn health_check(caller: &Caller) -> Scenario {
    let excluded = Scenario {
        title: "A health check, excluded by configuration",
        shows: "Its tracing headers pass through every proxy untouched, and nothing is recorded.",
        request: Request::get(SHOP, HEALTH_PATH),
        status: 200,
        services: &["storefront"],
        expected: None,
    };
    excluded
        .header("traceparent", &caller.traceparent())
        .header("tracestate", &caller.entry(TRUSTED_ACCOUNT_KEY))
        .header("newrelic", &caller.newrelic())
}
