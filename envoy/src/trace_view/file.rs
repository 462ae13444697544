//! Reads what a trace store that does not run has kept, and changes nothing in it.

use std::path::Path;

use anyhow::{Context, Result};

use super::Trace;
use crate::trace_store::query::Filter;
use crate::trace_store::summary::Summary;
use crate::trace_store::{Options, TraceStore};

/// What a store has kept.
#[derive(Debug)]
pub struct TraceFile {
    store: TraceStore,
}

impl TraceFile {
    /// Opens what is in a store's directory; `None` when no store was ever there.
    ///
    /// # Errors
    /// It cannot be read, or is not a trace store's of this version.
    pub fn open(dir: &Path) -> Result<Option<Self>> {
        let store = TraceStore::look_at(dir, Options::default()).context("cannot read the traces")?;
        Ok(store.map(|store| Self { store }))
    }

    /// Sessions of traces whose ids begin with `prefix`, the one that started last first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn list(&self, prefix: &str, limit: usize) -> Result<Vec<Summary>> {
        let filter = Filter { id: Some(prefix.to_owned()), ..Filter::default() };
        let page = self.store.list(&filter, None, limit)?;
        Ok(page.traces.into_iter().map(at_rest).collect())
    }

    /// One trace; `None` when the database does not have it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn trace(&self, trace_id: &str) -> Result<Option<Trace>> {
        let Some(view) = self.store.trace(trace_id)? else { return Ok(None) };
        // By way of JSON, so that a trace is told here as a store that serves tells it.
        let trace: Trace = serde_json::from_value(serde_json::to_value(view)?)?;
        Ok(Some(Trace { sessions: trace.sessions.into_iter().map(at_rest).collect(), ..trace }))
    }
}

/// A session does not close while its store does not run.
fn at_rest(summary: Summary) -> Summary {
    Summary { closes_in_ms: None, ..summary }
}
