//! A local stand-in for New Relic's ingest: takes Trace API and Event API posts and keeps what arrived.
//!
//! One file per idea: `ingest` checks what both APIs ask of a post, `trace_api` and `event_api` read
//! the payloads, `store` keeps the records, `script` makes the receiver fail on purpose.

mod event_api;
mod ingest;
mod script;
mod store;
mod trace_api;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use ingest::{BODY_BYTES_MAX, Refusal};
pub use script::{Answer, Api};
pub use store::{Attributes, IntegrationError, Post, SpanRecord, Store, Transaction};

use ingest::Payload;
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
    license_key: String,
    store: watch::Sender<Store>,
    script: Mutex<Script>,
}

impl Receiver {
    /// Serves on `listener` and takes posts that carry `license_key`.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn start(listener: TcpListener, license_key: &str) -> Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            license_key: license_key.to_owned(),
            store: watch::Sender::default(),
            script: Mutex::default(),
        });
        let routes = Router::new()
            .route("/trace/v1", post(trace_api))
            .route("/v1/accounts/{account_id}/events", post(event_api))
            .with_state(Arc::clone(&shared));
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

    /// Takes one post to `api`: as scripted, refused for its form, or accepted. Accepted payloads
    /// go to `keep`, which may still find them faulty, as New Relic does after its answer.
    async fn take(&self, api: Api, request: Request, keep: fn(&mut Store, &[u8]) -> Result<(), String>) -> Response {
        let scripted = self.script().next(api);
        let (headers, payload) = ingest::read(request, &self.license_key).await;
        if let Some(answer) = scripted {
            tokio::time::sleep(answer.delay).await;
            self.note(api, headers, answer.status);
            return answer.into_response();
        }
        let payload = match payload {
            Ok(payload) => payload,
            Err(refusal) => {
                self.note(api, headers, refusal.status());
                return refusal.into_response();
            }
        };
        self.note(api, headers, api.success());
        self.accept(api, &payload, keep)
    }

    fn note(&self, api: Api, headers: axum::http::HeaderMap, status: StatusCode) {
        self.store.send_modify(|store| store.note(Post { api, headers, status }));
    }

    fn accept(&self, api: Api, payload: &Payload, keep: fn(&mut Store, &[u8]) -> Result<(), String>) -> Response {
        let mut request_id = String::new();
        self.store.send_modify(|store| {
            request_id = store.next_request_id();
            if let Err(message) = payload.unpack().and_then(|json| keep(store, &json)) {
                store.complain(IntegrationError { request_id: request_id.clone(), message });
            }
        });
        (api.success(), api.success_body(&request_id)).into_response()
    }
}

async fn trace_api(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared.take(Api::Trace, request, trace_api::keep).await
}

async fn event_api(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared.take(Api::Event, request, event_api::keep).await
}

#[cfg(test)]
mod tests;
