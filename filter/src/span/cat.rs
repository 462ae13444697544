//! A request's part in Cross Application Tracing. An outbound proxy lets the headers pass; it only reads the answer.

use alloc::vec::Vec;

use crate::config::Role;
use crate::headers::{HeaderEdit, HeaderPairs, RequestHeaders};
use crate::id::TransactionId;
use crate::newrelic::cat::{
    Answer, AppData, CrossProcessId, Settings, Trip, X_NEWRELIC_APP_DATA, X_NEWRELIC_ID, X_NEWRELIC_TRANSACTION,
    read_app_data,
};
use crate::span::queue_time::queue_ns;
use crate::url::parse_decimal;

/// What CAT knows of a request.
#[derive(Debug)]
pub(super) struct CatRequest {
    /// None behind the application: the application's own agent makes the trip.
    pub(super) trip: Option<Trip>,
    /// What the callee answered, when it is trusted.
    pub(super) callee: Option<AppData>,
    role: Role,
    transaction_name: Vec<u8>,
    queue_ns: u64,
    content_length: Option<u64>,
}

/// What the statistics of CAT are made of, at the end of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CatCalls {
    /// The caller and the transaction's duration in nanoseconds.
    pub caller: Option<(CrossProcessId, u64)>,
    /// The callee's host, its answer, and the call's duration in nanoseconds.
    pub callee: Option<(Vec<u8>, AppData, u64)>,
}

impl CatRequest {
    /// Reads the caller's headers; those of a caller that is not believed do not count.
    pub(super) fn new(
        role: Role,
        guid: Option<TransactionId>,
        trusts_caller: bool,
        headers: &RequestHeaders<'_>,
        transaction_name: Vec<u8>,
        start_ns: u64,
        settings: &Settings,
    ) -> Self {
        let believed = |line: Option<&'_ [u8]>| line.filter(|_| trusts_caller).map(<[u8]>::to_vec);
        let (id, transaction) = (believed(headers.x_newrelic_id.first), believed(headers.x_newrelic_transaction.first));
        Self {
            trip: guid.map(|guid| Trip::accept(guid, id.as_deref(), transaction.as_deref(), settings)),
            callee: None,
            role,
            transaction_name,
            queue_ns: queue_ns(headers.queue_start, headers.request_start, start_ns).unwrap_or(0),
            content_length: headers.content_length.and_then(parse_decimal),
        }
    }

    /// The headers that the next hop shall see.
    pub(super) fn request_edits(&mut self, settings: &Settings) -> Vec<HeaderEdit> {
        let Some(trip) = &mut self.trip else { return Vec::new() };
        let outbound = trip.outbound(settings, &self.transaction_name);
        vec![
            HeaderEdit::Set(X_NEWRELIC_ID, outbound.id.into_bytes()),
            HeaderEdit::Set(X_NEWRELIC_TRANSACTION, outbound.transaction.into_bytes()),
        ]
    }

    /// Reads the callee's answer and puts ours in its place; a caller that is not trusted gets none.
    pub(super) fn answer_edits(
        &mut self,
        settings: &Settings,
        headers: HeaderPairs<'_>,
        response_time_ns: u64,
    ) -> Vec<HeaderEdit> {
        let lines = || headers.filter(|(name, _)| *name == X_NEWRELIC_APP_DATA.as_bytes()).map(|(_, value)| value);
        if self.role != Role::Inbound {
            self.callee = read_app_data(lines(), settings).ok().flatten();
        }
        let Some(trip) = &mut self.trip else { return Vec::new() };
        let answer = Answer {
            transaction_name: &self.transaction_name,
            queue_time_ns: self.queue_ns,
            response_time_ns,
            request_content_length: self.content_length,
        };
        match trip.answer(settings, &answer) {
            Some(value) => vec![HeaderEdit::Set(X_NEWRELIC_APP_DATA, value.into_bytes())],
            None if lines().next().is_some() => vec![HeaderEdit::Remove(X_NEWRELIC_APP_DATA)],
            None => Vec::new(),
        }
    }
}
