//! Answers that a test or a demo orders in advance, to see what the sender makes of them.

use std::collections::VecDeque;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use newrelic_ingest::Interface;

/// One of New Relic's ingest APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `POST /trace/v1`: spans.
    Trace,
    /// `POST /v1/accounts/{account_id}/events`: Transaction events.
    Event,
    /// `POST /v1/traces`: spans in OpenTelemetry's format.
    Otlp,
}

impl Api {
    pub(super) fn of(interface: &Interface) -> Self {
        match interface {
            Interface::TraceApi => Self::Trace,
            Interface::EventApi { .. } => Self::Event,
            Interface::Otlp => Self::Otlp,
        }
    }
}

/// One scripted answer. The post's records are not kept, whatever the status is.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Value of `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// How long the sender waits for it.
    pub delay: Duration,
}

impl Answer {
    /// An answer that comes at once.
    pub fn status(status: StatusCode) -> Self {
        Self { status, retry_after_s: None, delay: Duration::ZERO }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The answers still to be given.
#[derive(Debug, Default)]
pub(super) struct Script {
    trace: VecDeque<Answer>,
    event: VecDeque<Answer>,
    otlp: VecDeque<Answer>,
}

impl Script {
    pub(super) fn queue(&mut self, api: Api, answers: impl IntoIterator<Item = Answer>) {
        self.of(api).extend(answers);
    }

    pub(super) fn next(&mut self, api: Api) -> Option<Answer> {
        self.of(api).pop_front()
    }

    fn of(&mut self, api: Api) -> &mut VecDeque<Answer> {
        match api {
            Api::Trace => &mut self.trace,
            Api::Event => &mut self.event,
            Api::Otlp => &mut self.otlp,
        }
    }
}
