//! Cross Application Tracing (CAT), the predecessor of distributed tracing: request headers name the caller, a
//! response header names the one who answered.
//!
//! ```text
//! X-NewRelic-ID          = obfuscated( cross-process-id )
//! X-NewRelic-Transaction = obfuscated( "[" guid "," record-tt "," trip-id "," path-hash "]" )
//! X-NewRelic-App-Data    = obfuscated( "[" cross-process-id "," transaction-name "," queue-time "," response-time ","
//!                                      content-length "," guid "," record-tt "]" )
//! cross-process-id       = 1*DIGIT "#" 1*DIGIT          ; account "#" application
//! ```
//!
//! Sources: New Relic's public agents, chiefly newrelic/go-agent `v3/internal/cat`, newrelic/newrelic-php-agent
//! `axiom/nr_header.c`, newrelic/newrelic-java-agent `InboundHeaderState` and `CrossProcessTransactionStateImpl`.
//! Where they differ, the rule taken is written at the place.
//!
//! Reading order: [`EncodingKey`], [`CrossProcessId`], [`CallerTransaction`], [`PathHash`], [`AppData`], then
//! [`Trip`], the state of one transaction, and [`Callers`] and [`Callees`], the names of its
//! statistics.

mod app_data;
mod bounded_names;
mod cross_process_id;
mod json;
mod md5;
mod metrics;
mod obfuscation;
mod path_hash;
mod settings;
mod transaction;
mod trip;

pub use app_data::{Answer, AppData, AppDataError, CANDIDATES_MAX, read_app_data};
pub use bounded_names::BoundedNames;
pub use cross_process_id::{CROSS_PROCESS_ID_BYTES_MAX, CrossProcessId, CrossProcessIdError};
pub use metrics::{AskProcess, CALLEE_TRANSACTIONS_MAX, Callees, Callers, NAME_PART_BYTES_MAX, NameList, PEERS_MAX};
pub use obfuscation::{EncodingKey, ObfuscationError, VALUE_BYTES_MAX};
pub use path_hash::PathHash;
pub use settings::{Settings, SettingsError};
pub use transaction::{CallerTransaction, ID_BYTES_MAX, TransactionError};
pub use trip::{ALTERNATE_PATH_HASHES_MAX, Accepted, Intrinsics, Outbound, Refusal, Trip, TripIntrinsics};

/// HTTP request header: who calls. Lower-case, as the proxy spells names.
pub const X_NEWRELIC_ID: &str = "x-newrelic-id";
/// HTTP request header: the calling transaction.
pub const X_NEWRELIC_TRANSACTION: &str = "x-newrelic-transaction";
/// HTTP response header: who answered.
pub const X_NEWRELIC_APP_DATA: &str = "x-newrelic-app-data";

/// [`X_NEWRELIC_ID`] on carriers that are not HTTP.
pub const NEWRELIC_ID: &str = "NewRelicID";
/// [`X_NEWRELIC_TRANSACTION`] on carriers that are not HTTP.
pub const NEWRELIC_TRANSACTION: &str = "NewRelicTransaction";
/// [`X_NEWRELIC_APP_DATA`] on carriers that are not HTTP.
pub const NEWRELIC_APP_DATA: &str = "NewRelicAppData";
