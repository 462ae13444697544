//! The requests of the demo in Cross Application Tracing, and what each must lead to.

use crate::cat::wire::{Caller, CallingTransaction, encode};
use crate::client::Request;
use crate::scenario::{ALL_SERVICES, Expected, GATEWAY_SERVICE, SHOP, Scenario};
use crate::services::{DECLINED, GARBAGE, GARBLED, HEALTH_PATH};
use crate::tracing_headers::{TracingHeaders, X_NEWRELIC_ID, X_NEWRELIC_TRANSACTION};
use crate::verdict::Counts;

/// One application of the mesh, as `envoy.yaml` configures its proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// The application's name.
    pub service: &'static str,
    /// Its cross process id.
    pub cross_process_id: &'static str,
    /// The host that its caller asks for.
    pub host: &'static str,
    /// First segment of the paths that it is asked for.
    pub path: &'static str,
}

/// The way of every request, from the edge to the last application that has a proxy.
pub const WAY: [Hop; 4] = [
    Hop { service: GATEWAY_SERVICE, cross_process_id: "4001#501", host: SHOP, path: "checkout" },
    Hop { service: "storefront", cross_process_id: "4001#502", host: SHOP, path: "checkout" },
    Hop { service: "cart", cross_process_id: "4001#503", host: "cart", path: "cart" },
    Hop { service: "payments", cross_process_id: "4001#504", host: "payments", path: "payments" },
];

/// A caller of an account that `envoy.yaml` trusts.
pub const TRUSTED_CALLER: &str = "4002#55";
/// A caller of an account that it does not trust.
pub const UNTRUSTED_CALLER: &str = "4999#55";

/// Guid of the caller's transaction.
const CALLER_GUID: &str = "9f8e7d6c5b4a3921";
/// Its path hash.
const CALLER_PATH_HASH: &str = "c0ffee11";
/// The trips that callers are on, one for each scenario with such a caller.
const TRIP_IDS: [&str; 5] =
    ["5eed000000000001", "5eed000000000002", "5eed000000000003", "5eed000000000004", "5eed000000000005"];
/// A value in none of the headers' forms.
const NONSENSE: &str = "?? no base64 ??";

/// What must be known about a trip.
#[derive(Debug, Clone)]
pub struct ExpectedTrip {
    /// Cross process id of the caller, when the gateway believes it; the caller is then answered.
    pub client: Option<&'static str>,
    /// The caller's transaction, when the gateway believes it; the trip starts at the gateway otherwise.
    pub caller: Option<CallingTransaction>,
    /// The end of each transaction name: the last segment of the path, `*` for an id.
    pub last_segment: &'static str,
    /// Whether the transactions are failed.
    pub failed: bool,
    /// The answer's app data of the service behind the mesh, which none of its proxies may believe.
    pub answer_of_bank: Option<&'static [u8]>,
}

impl ExpectedTrip {
    /// A trip that starts at the gateway, of a caller that is not believed.
    pub const FROM_GATEWAY: Self =
        Self { client: None, caller: None, last_segment: "*", failed: false, answer_of_bank: None };

    /// The transaction name of a hop.
    pub fn transaction_name(&self, hop: Hop) -> String {
        format!("WebTransaction/Envoy/GET /{}/{}", hop.path, self.last_segment)
    }
}

impl Expected for ExpectedTrip {
    const TRANSACTION_KEY: &'static str = "nr.tripId";

    fn id(headers: &TracingHeaders) -> Option<String> {
        Some(Caller::read(headers)?.transaction.trip_id)
    }

    fn records(&self) -> Counts {
        Counts { spans: 0, transactions: WAY.len() as u64 }
    }
}

/// All scenarios, in the order in which they are run.
///
/// The excluded request is not the last one: the records of the one behind it come out of the same
/// proxies later, so that a record of the excluded request would have arrived by then.
pub fn all() -> Vec<Scenario<ExpectedTrip>> {
    let [trusted, untrusted, garbled_id, health, declined] = TRIP_IDS.map(calling_transaction);
    vec![
        no_headers(),
        trusted_caller(trusted),
        untrusted_caller(&untrusted),
        garbled_id_header(&garbled_id),
        garbled_transaction_header(),
        garbled_app_data(),
        health_check(&health),
        declined_payment(declined),
    ]
}

fn calling_transaction(trip_id: &str) -> CallingTransaction {
    CallingTransaction {
        guid: CALLER_GUID.to_owned(),
        trip_id: trip_id.to_owned(),
        path_hash: CALLER_PATH_HASH.to_owned(),
    }
}

fn checkout(title: &'static str, shows: &'static str, trip: ExpectedTrip) -> Scenario<ExpectedTrip> {
    Scenario {
        title,
        shows,
        request: Request::get(SHOP, "/checkout/42"),
        status: 200,
        services: ALL_SERVICES,
        expected: Some(trip),
    }
}

impl Scenario<ExpectedTrip> {
    fn from(self, cross_process_id: &str, transaction: &str) -> Self {
        self.header(X_NEWRELIC_ID, &encode(cross_process_id)).header(X_NEWRELIC_TRANSACTION, transaction)
    }
}

/// A request without headers of Cross Application Tracing.
pub fn no_headers() -> Scenario<ExpectedTrip> {
    checkout(
        "No CAT headers",
        "The trip starts at the gateway, and every application behind it is part of it.",
        ExpectedTrip::FROM_GATEWAY,
    )
}

fn trusted_caller(caller: CallingTransaction) -> Scenario<ExpectedTrip> {
    let header = caller.write();
    let trip = ExpectedTrip { client: Some(TRUSTED_CALLER), caller: Some(caller), ..ExpectedTrip::FROM_GATEWAY };
    checkout(
        "A trusted caller with CAT headers",
        "The caller's trip goes on, and the answer tells the caller who answered: the gateway.",
        trip,
    )
    .from(TRUSTED_CALLER, &header)
}

fn untrusted_caller(caller: &CallingTransaction) -> Scenario<ExpectedTrip> {
    checkout(
        "A caller of an account that is not trusted",
        "Nothing of its headers is believed, and it is told nothing; the trip starts at the gateway.",
        ExpectedTrip::FROM_GATEWAY,
    )
    .from(UNTRUSTED_CALLER, &caller.write())
}

fn garbled_id_header(caller: &CallingTransaction) -> Scenario<ExpectedTrip> {
    checkout(
        "Garbage in X-NewRelic-ID",
        "Without a caller to trust, the other header counts for nothing: as if none had come.",
        ExpectedTrip::FROM_GATEWAY,
    )
    .header(X_NEWRELIC_ID, NONSENSE)
    .header(X_NEWRELIC_TRANSACTION, &caller.write())
}

fn garbled_transaction_header() -> Scenario<ExpectedTrip> {
    checkout(
        "Garbage in X-NewRelic-Transaction",
        "The caller is known and answered, but the trip starts at the gateway.",
        ExpectedTrip { client: Some(TRUSTED_CALLER), ..ExpectedTrip::FROM_GATEWAY },
    )
    .from(TRUSTED_CALLER, NONSENSE)
}

fn garbled_app_data() -> Scenario<ExpectedTrip> {
    let trip = ExpectedTrip {
        last_segment: GARBLED.trim_start_matches('/'),
        answer_of_bank: Some(GARBAGE),
        ..ExpectedTrip::FROM_GATEWAY
    };
    let scenario = checkout(
        "Garbage in X-NewRelic-App-Data",
        "The bank's answer reaches payments as it is; nobody believes it, and no statistic has the bank.",
        trip,
    );
    Scenario { request: Request::get(SHOP, &format!("/checkout{GARBLED}")), ..scenario }
}

fn health_check(caller: &CallingTransaction) -> Scenario<ExpectedTrip> {
    let excluded = Scenario {
        title: "A health check, excluded by configuration",
        shows: "Its CAT headers pass through every proxy untouched, nobody answers them, and nothing is recorded.",
        request: Request::get(SHOP, HEALTH_PATH),
        status: 200,
        services: &["storefront"],
        expected: None,
    };
    excluded.from(TRUSTED_CALLER, &caller.write())
}

fn declined_payment(caller: CallingTransaction) -> Scenario<ExpectedTrip> {
    let header = caller.write();
    let trip = ExpectedTrip {
        client: Some(TRUSTED_CALLER),
        caller: Some(caller),
        last_segment: DECLINED.trim_start_matches('/'),
        failed: true,
        ..ExpectedTrip::FROM_GATEWAY
    };
    let scenario = checkout(
        "An error",
        "Payments answers 503: every transaction on the way back is marked, and the caller is still answered.",
        trip,
    );
    let scenario = Scenario {
        request: Request::get(SHOP, &format!("/checkout{DECLINED}")),
        status: 503,
        services: &["storefront", "cart", "payments"],
        ..scenario
    };
    scenario.from(TRUSTED_CALLER, &header)
}
