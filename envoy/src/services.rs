//! The demo's services: small programs behind the proxy that know nothing about tracing.
//!
//! They do what an application in a mesh has to do and no more: copy the tracing headers of the
//! request they got to the requests they make. What they saw is kept for the demo to show.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::client;
use crate::tracing_headers::{TracingHeaders, X_NEWRELIC_APP_DATA};

/// Sightings kept until they are taken. Far more than a scenario makes.
const SIGHTINGS_MAX: usize = 10_000;
/// The path that a health check asks for; it ends at the first service.
pub const HEALTH_PATH: &str = "/healthz";
/// A request whose path ends so is declined by the service that would charge the card.
pub const DECLINED: &str = "/declined";
/// A request whose path ends so is answered with [`GARBAGE`] by the service that asks no other one.
pub const GARBLED: &str = "/garbled";
/// The `X-NewRelic-App-Data` of such an answer: neither base64 nor text.
pub const GARBAGE: &[u8] = b"\xff garbage";

/// What a service does with a request that is no health check.
#[derive(Debug, Clone)]
pub enum Work {
    /// Asks the next service and answers what that one answers.
    Ask(Next),
    /// The same, but answers 503 without asking when the path ends in [`DECLINED`].
    AskUnlessDeclined(Next),
    /// Answers after a while.
    Answer {
        /// How long the work takes.
        after: Duration,
    },
}

/// The service that a service asks.
#[derive(Debug, Clone)]
pub struct Next {
    /// Where calls leave: the sidecar's outbound listener.
    pub via: SocketAddr,
    /// Name of the next service, sent as `host`.
    pub host: &'static str,
    /// First segment of the path that is asked for; the rest stays.
    pub path: &'static str,
}

/// One request as a service saw it.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// The service.
    pub service: &'static str,
    /// The request's path.
    pub path: String,
    /// Its tracing headers.
    pub headers: TracingHeaders,
    /// The lines of `X-NewRelic-App-Data` in the answer to the call that the service made for it.
    pub app_data: Vec<Vec<u8>>,
}

/// What all services saw, in the order of arrival.
#[derive(Debug, Clone, Default)]
pub struct Sightings(Arc<Mutex<Vec<Sighting>>>);

impl Sightings {
    /// Takes what was seen since the last time.
    pub fn take(&self) -> Vec<Sighting> {
        std::mem::take(&mut *self.lock())
    }

    fn add(&self, sighting: Sighting) {
        let mut seen = self.lock();
        if seen.len() < SIGHTINGS_MAX {
            seen.push(sighting);
        }
    }

    /// Adds what the service was answered while it served the latest request on that path.
    fn answered(&self, service: &str, path: &str, app_data: Vec<Vec<u8>>) {
        let mut seen = self.lock();
        if let Some(latest) = seen.iter_mut().rfind(|one| one.service == service && one.path == path) {
            latest.app_data = app_data;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sighting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running service. Dropping it ends it.
#[derive(Debug)]
pub struct Service {
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Program {
    name: &'static str,
    work: Work,
    sightings: Sightings,
}

impl Service {
    /// Serves on `listener`.
    pub fn start(name: &'static str, listener: TcpListener, work: Work, sightings: &Sightings) -> Self {
        let program = Arc::new(Program { name, work, sightings: sightings.clone() });
        let routes = Router::new().fallback(handle).with_state(program);
        let server = tokio::spawn(async move {
            // It only ends with the task: `serve` waits out every failed accept.
            drop(axum::serve(listener, routes).await);
        });
        Self { server }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn handle(State(program): State<Arc<Program>>, request: Request) -> Response {
    let lines = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let headers = TracingHeaders::pick(lines);
    let path = request.uri().path().to_owned();
    program.sightings.add(Sighting {
        service: program.name,
        path: path.clone(),
        headers: headers.clone(),
        app_data: Vec::new(),
    });
    if path == HEALTH_PATH {
        return "healthy\n".into_response();
    }
    match &program.work {
        Work::AskUnlessDeclined(_) if path.ends_with(DECLINED) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{}: card declined\n", program.name)).into_response()
        }
        Work::Ask(next) | Work::AskUnlessDeclined(next) => program.ask(next, &path, headers).await.into_response(),
        Work::Answer { after } => {
            tokio::time::sleep(*after).await;
            program.done(&path)
        }
    }
}

impl Program {
    async fn ask(&self, next: &Next, path: &str, headers: TracingHeaders) -> (StatusCode, String) {
        let next_path = replace_first_segment(path, next.path);
        let request = client::Request { headers: headers.lines, ..client::Request::get(next.host, &next_path) };
        match client::send(next.via, &request).await {
            Ok(answer) => {
                let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
                self.sightings.answered(self.name, path, answer.lines(X_NEWRELIC_APP_DATA));
                (status, format!("{}: {}", self.name, answer.text()))
            }
            Err(error) => (StatusCode::BAD_GATEWAY, format!("{}: {error:#}\n", self.name)),
        }
    }

    fn done(&self, path: &str) -> Response {
        let body = format!("{}: done\n", self.name);
        if path.ends_with(GARBLED) {
            ([(X_NEWRELIC_APP_DATA, GARBAGE)], body).into_response()
        } else {
            body.into_response()
        }
    }
}

/// `/checkout/42` with `cart` becomes `/cart/42`.
fn replace_first_segment(path: &str, segment: &str) -> String {
    let rest = path.trim_start_matches('/').split_once('/').map_or("", |(_, rest)| rest);
    format!("/{segment}/{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Request as Call;

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Two services, the first of which asks the second.
    async fn pair(sightings: &Sightings) -> (SocketAddr, [Service; 2]) {
        let (first, address) = listen().await;
        let (second, via) = listen().await;
        let ask = Work::AskUnlessDeclined(Next { via, host: "bank", path: "charge" });
        let bank = Work::Answer { after: Duration::ZERO };
        let first = Service::start("payments", first, ask, sightings);
        (address, [first, Service::start("bank", second, bank, sightings)])
    }

    #[tokio::test]
    async fn tracing_headers_are_copied_and_nothing_else() {
        let sightings = Sightings::default();
        let (address, _services) = pair(&sightings).await;
        let call = Call::get("shop", "/payments/1")
            .header("tracestate", "a=1")
            .header("cookie", "secret")
            .header("tracestate", vec![0xff]);
        assert_eq!(client::send(address, &call).await.unwrap().text(), "payments: bank: done\n");
        let seen = sightings.take();
        assert_eq!(seen.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["/payments/1", "/charge/1"]);
        let copied = [("tracestate".to_owned(), b"a=1".to_vec()), ("tracestate".to_owned(), vec![0xff])];
        assert_eq!(seen[1].headers.lines, copied);
        assert!(sightings.take().is_empty(), "sightings are taken once");
    }

    #[tokio::test]
    async fn a_services_sighting_tells_what_its_own_call_was_answered() {
        let sightings = Sightings::default();
        let (address, _services) = pair(&sightings).await;
        for (path, app_data) in [("/payments/1", vec![]), ("/payments/garbled", vec![GARBAGE.to_vec()])] {
            let answer = client::send(address, &Call::get("shop", path)).await.unwrap();
            assert_eq!((answer.status, answer.header(X_NEWRELIC_APP_DATA)), (200, None), "it is not passed on");
            let seen = sightings.take();
            assert_eq!((&seen[0].app_data, &seen[1].app_data), (&app_data, &vec![]), "{path}");
        }
    }

    #[tokio::test]
    async fn a_declined_payment_and_a_health_check_go_no_further() {
        let sightings = Sightings::default();
        let (address, _services) = pair(&sightings).await;
        for (path, status) in [("/payments/declined", 503), (HEALTH_PATH, 200)] {
            assert_eq!(client::send(address, &Call::get("shop", path)).await.unwrap().status, status);
            assert_eq!(sightings.take().len(), 1, "{path}");
        }
    }
}
