//! A local stand-in for New Relic's ingest: takes posts to its interfaces and keeps what arrived.
//!
//! One file per idea: `ingest` takes posts off the wire, `store` keeps the records in memory, `script` makes the
//! receiver fail on purpose. With a [`TraceStore`] the receiver also is the place to look at traces.

pub(crate) mod ingest;
mod script;
mod store;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use newrelic_ingest::{Contents, Interface, Key};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use newrelic_ingest::{BODY_BYTES_MAX, Refusal};
pub use script::{Answer, Api};
pub use store::{Attributes, IntegrationError, Post, SpanRecord, Store, Transaction};

use crate::trace_store::{self, TraceStore};
use ingest::{Incoming, Intake};
use script::Script;

/// A running receiver. Dropping it ends it.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// What the request handlers share.
#[derive(Debug)]
struct Shared {
    intake: Intake,
    traces: Option<TraceStore>,
    store: watch::Sender<Store>,
    script: Mutex<Script>,
}

impl Receiver {
    /// Serves on `listener` and takes posts that carry `license_key`.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn start(listener: TcpListener, license_key: &str) -> Result<Self> {
        Self::serve(listener, license_key, None)
    }

    /// Serves as [`start`](Self::start) does, puts what it takes into `traces`, too, and shows it: the page, and what
    /// the page asks for.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn with_trace_store(listener: TcpListener, license_key: &str, traces: TraceStore) -> Result<Self> {
        Self::serve(listener, license_key, Some(traces))
    }

    fn serve(listener: TcpListener, license_key: &str, traces: Option<TraceStore>) -> Result<Self> {
        let address = listener.local_addr()?;
        let shown = traces.clone().map_or_else(Router::new, trace_store::routes);
        let shared = Arc::new(Shared {
            intake: Intake::with_key(Key::Exactly(license_key.to_owned())),
            traces,
            store: watch::Sender::default(),
            script: Mutex::default(),
        });
        let routes = Router::new()
            .route("/trace/v1", post(take))
            .route("/v1/accounts/{account_id}/events", post(take))
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&shared))
            .merge(shown);
        let server = tokio::spawn(async move {
            // It only ends with the task: `serve` waits out every failed accept.
            drop(axum::serve(listener, routes).await);
        });
        Ok(Self { address, shared, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Looks at what has arrived.
    pub fn read<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.shared.store.borrow())
    }

    /// Waits until the store is as `reached` wants it; false when that does not happen in time.
    pub async fn wait_until(&self, within: Duration, reached: impl FnMut(&Store) -> bool) -> bool {
        let mut store = self.shared.store.subscribe();
        tokio::time::timeout(within, store.wait_for(reached)).await.is_ok_and(|outcome| outcome.is_ok())
    }

    /// Gives the next posts to one API these answers, one each, before it works normally again.
    pub fn answer_next(&self, api: Api, answers: impl IntoIterator<Item = Answer>) {
        self.shared.script().queue(api, answers);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one post: as scripted, refused for its form, or accepted. Faults inside of an accepted one are noted, as
    /// New Relic does after its answer.
    async fn take(&self, request: Request) -> Response {
        let api = Interface::of_path(request.uri().path()).as_ref().map(Api::of);
        let scripted = api.and_then(|api| self.script().next(api));
        let Incoming { headers, interface, outcome, turn: _turn } = self.intake.read(request).await;
        let (Some(interface), Some(api)) = (interface, api) else {
            return ingest::refused(None, Refusal::Path);
        };
        let note = |status| self.store.send_modify(|store| store.note(Post { api, headers, status }));
        if let Some(answer) = scripted {
            tokio::time::sleep(answer.delay).await;
            note(answer.status);
            return answer.into_response();
        }
        let (form, contents) = match outcome {
            Ok(accepted) => accepted,
            Err(refusal) => {
                note(ingest::status(refusal.status(Some(&interface))));
                return ingest::refused(Some(&interface), refusal);
            }
        };
        if let Some(traces) = &self.traces
            && let Err(refusal) = trace_store::keep(traces, contents.clone()).await
        {
            let answer = trace_store::refused(refusal);
            note(answer.status());
            return answer;
        }
        note(ingest::status(interface.success()));
        ingest::accepted(&interface, form, &self.accept(contents))
    }

    /// Keeps what an accepted post carries, and gives the id to answer it with.
    fn accept(&self, contents: Contents) -> String {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now_ms = u64::try_from(now_ms).unwrap_or(u64::MAX);
        let mut request_id = String::new();
        self.store.send_modify(|store| {
            request_id = store.next_request_id();
            store.keep(contents, now_ms, &request_id);
        });
        request_id
    }
}

async fn take(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared.take(request).await
}

#[cfg(test)]
mod tests;
