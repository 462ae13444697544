//! A trace in a terminal: asked of a store that serves, or read from its database, and printed as a tree.
//!
//! - [`Trace`] and [`Span`] are what the store's JSON interface tells of a trace;
//! - [`server`] asks a store for it, [`mod@file`] reads it from the database of a store that does not run;
//! - [`text`] prints it.

pub mod file;
pub mod server;
pub mod text;

use serde::Deserialize;

use crate::trace_store::Hop;
use crate::trace_store::session::SessionId;
use crate::trace_store::summary::Summary;

/// One trace with all its sessions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Trace {
    /// Trace id, as it was sent.
    pub trace_id: String,
    /// Its sessions, in the order they were opened.
    pub sessions: Vec<Summary>,
    /// Its spans, each parent before its children.
    pub spans: Vec<Span>,
    /// What services saw of its requests, where that was noted.
    pub hops: Vec<Hop>,
}

/// One span of a trace.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Span {
    /// Span id.
    pub id: String,
    /// Id of the parent; `None` for the root.
    pub parent_id: Option<String>,
    /// The session it came in.
    pub session: SessionId,
    /// Name.
    pub name: String,
    /// Name of the service that made it.
    pub service: String,
    /// Start, milliseconds since 1970.
    pub start_ms: f64,
    /// How long it took.
    pub duration_ms: f64,
    /// How it is shown: `service`, `external`, `datastore` or `in_process`.
    pub display: String,
    /// Its parent belongs to another service.
    pub boundary: bool,
    /// The failure in words.
    pub error: Option<String>,
    /// It names a parent that is not in the data.
    pub orphan: bool,
}

/// The one trace that all of these sessions belong to; `None` when there are several, or no session.
pub fn only_one(sessions: &[Summary]) -> Option<&str> {
    let (first, others) = sessions.split_first()?;
    others.iter().all(|other| other.trace_id == first.trace_id).then_some(&first.trace_id)
}
