//! What the store serves: the interfaces that take posts, the JSON interface, news of changes, and the page.
//!
//! | Path | Answer |
//! |---|---|
//! | `GET /api/traces` | a page of the list |
//! | `GET /api/traces/latest`, `/api/traces/{trace_id}` | one trace |
//! | `GET /api/services`, `/api/map`, `/api/status` | the names of all services, who calls whom, how the store is doing |
//! | `GET /api/events` | news of changes, as an event stream |
//! | `GET /`, `/assets/{name}` | the page |
//! | `POST /trace/v1`, `/v1/accounts/{account_id}/events`, `/v1/traces` | see the crate `newrelic-ingest` |

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream::{self, Stream};
use newrelic_ingest::{Contents, Key, Refusal};
use serde::Serialize;
use tokio::sync::watch;

use super::assets::{self, Asset};
use super::query::{Cursor, Filter, PAGE_DEFAULT, PAGE_MAX};
use super::summary::State as TraceState;
use super::{AddError, News, TraceStore};
use crate::receiver::ingest::{self, Incoming, Intake};

/// Shortest time between two pieces of news.
const NEWS_EVERY: Duration = Duration::from_millis(500);
/// Time between two signs of life while there is no news.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
/// The page loads what the store serves, and nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Everything that shows traces: the JSON interface, news, and the page.
pub fn routes(store: TraceStore) -> Router {
    let api = Router::new()
        .route("/api/traces", get(traces))
        .route("/api/traces/latest", get(latest))
        .route("/api/traces/{trace_id}", get(trace))
        .route("/api/services", get(services))
        .route("/api/map", get(map))
        .route("/api/status", get(status))
        .route("/api/events", get(events))
        .layer(map_response(|response| async { with_header(response, header::CACHE_CONTROL, "no-store") }));
    let page = Router::new()
        .route("/", get(async || file(&assets::INDEX)))
        .route("/assets/{name}", get(asset))
        .layer(map_response(|response| async { with_header(response, header::CACHE_CONTROL, "no-cache") }));
    api.merge(page).layer(map_response(harden)).with_state(store)
}

/// Everything the store serves on its own. It takes posts that carry a key which `key` accepts.
pub fn server(store: TraceStore, key: Key) -> Router {
    serving(store, Intake::with_key(key))
}

fn serving(store: TraceStore, intake: Intake) -> Router {
    Router::new()
        .route("/trace/v1", post(take))
        .route("/v1/accounts/{account_id}/events", post(take))
        .route("/v1/traces", post(take))
        .with_state((store.clone(), Arc::new(intake)))
        .merge(routes(store))
}

/// Takes one post.
async fn take(State((store, intake)): State<(TraceStore, Arc<Intake>)>, request: Request) -> Response {
    let Incoming { interface, outcome, turn: _turn, .. } = intake.read(request).await;
    let Some(interface) = interface else {
        return ingest::refused(None, Refusal::Path);
    };
    match outcome {
        Err(refusal) => ingest::refused(Some(&interface), refusal),
        Ok((form, contents)) => match keep(&store, contents).await {
            Ok(()) => ingest::accepted(&interface, form, &store.next_request_id()),
            Err(error) => refused(error),
        },
    }
}

/// Puts what a post carries into a store.
///
/// # Errors
/// There is no room, or the disk is at fault.
pub(crate) async fn keep(store: &TraceStore, contents: Contents) -> Result<(), AddError> {
    store.add(contents.spans).await?;
    store.add_events(contents.events).await?;
    store.note_problems(contents.problems.len());
    Ok(())
}

/// The answer to a post that the store does not take.
pub(crate) fn refused(error: AddError) -> Response {
    let AddError::Full { retry_after_s } = error else {
        return ingest::error(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    };
    let mut response = ingest::error(StatusCode::TOO_MANY_REQUESTS, error.to_string());
    response.headers_mut().insert(header::RETRY_AFTER, retry_after_s.into());
    response
}

/// Parameters of a request, in their order; names may repeat.
type Parameters = Query<Vec<(String, String)>>;

async fn traces(State(store): State<TraceStore>, Query(parameters): Parameters) -> Response {
    let (mut filter, mut before, mut limit) = (Filter::default(), None, PAGE_DEFAULT);
    for (name, value) in parameters {
        let fits = match name.as_str() {
            "before" => set(&mut before, Cursor::parse(&value)),
            "limit" => {
                let number = value.parse().ok().filter(|number| (1..=PAGE_MAX).contains(number));
                limit = number.unwrap_or(limit);
                number.is_some()
            }
            name => match condition(&mut filter, name, &value) {
                Some(fits) => fits,
                None => return unknown(name),
            },
        };
        if !fits {
            return misfit(&name, &value);
        }
    }
    answer(store, move |store| store.list(&filter, before, limit).map(Some)).await
}

/// Adds a condition to a filter, and tells whether its value fits; `None` for a name that is no condition's.
fn condition(filter: &mut Filter, name: &str, value: &str) -> Option<bool> {
    let truth = || match value {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    };
    let state = || match value {
        "open" => Some(TraceState::Open),
        "written" => Some(TraceState::Written),
        _ => None,
    };
    Some(match name {
        "id" => set(&mut filter.id, Some(value.to_owned())),
        "service" => {
            filter.services.push(value.to_owned());
            true
        }
        "error" => set(&mut filter.error, truth()),
        "min_ms" => set(&mut filter.min_ms, milliseconds(value)),
        "max_ms" => set(&mut filter.max_ms, milliseconds(value)),
        "from_ms" => set(&mut filter.from_ms, milliseconds(value)),
        "to_ms" => set(&mut filter.to_ms, milliseconds(value)),
        "state" => set(&mut filter.state, state()),
        _ => return None,
    })
}

fn set<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let fits = value.is_some();
    *place = value;
    fits
}

fn milliseconds(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

async fn latest(State(store): State<TraceStore>) -> Response {
    answer(store, TraceStore::latest).await
}

async fn trace(State(store): State<TraceStore>, Path(trace_id): Path<String>) -> Response {
    answer(store, move |store| store.trace(&trace_id)).await
}

async fn services(State(store): State<TraceStore>) -> Response {
    #[derive(Serialize)]
    struct Services {
        services: Vec<String>,
    }
    answer(store, |store| store.services().map(|services| Some(Services { services }))).await
}

async fn map(State(store): State<TraceStore>, Query(parameters): Parameters) -> Response {
    let (mut from_ms, mut to_ms) = (None, None);
    for (name, value) in parameters {
        let end = match name.as_str() {
            "from_ms" => &mut from_ms,
            "to_ms" => &mut to_ms,
            _ => return unknown(&name),
        };
        if !set(end, milliseconds(&value)) {
            return misfit(&name, &value);
        }
    }
    answer(store, move |store| store.map(from_ms, to_ms).map(Some)).await
}

async fn status(State(store): State<TraceStore>) -> Response {
    answer(store, |store| Ok(Some(store.status()))).await
}

/// Asks the store where waiting for the disk does no harm, and answers in JSON.
async fn answer<T: Serialize + Send + 'static>(
    store: TraceStore,
    ask: impl FnOnce(&TraceStore) -> rusqlite::Result<Option<T>> + Send + 'static,
) -> Response {
    let shared = Arc::clone(&store.shared);
    let _turn = shared.questions.acquire().await;
    let asking = move || match ask(&store) {
        Ok(found) => found.map(|found| serde_json::to_string(&found)).transpose().map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let found = tokio::task::spawn_blocking(asking).await;
    let found = found.unwrap_or_else(|_| Err("the question could not be answered".to_owned()));
    match found {
        Ok(Some(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Ok(None) => ingest::error(StatusCode::NOT_FOUND, "there is no such trace"),
        Err(error) => ingest::error(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

fn unknown(name: &str) -> Response {
    ingest::error(StatusCode::BAD_REQUEST, format!("there is no parameter {name}"))
}

fn misfit(name: &str, value: &str) -> Response {
    let expected = match name {
        "before" => "the value of next in another answer",
        "limit" => "a number from 1 to 200",
        "error" => "true or false",
        "state" => "open or written",
        _ => "a number of milliseconds, not below 0",
    };
    ingest::error(StatusCode::BAD_REQUEST, format!("the parameter {name} is {value:?} instead of {expected}"))
}

async fn events(State(store): State<TraceStore>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(news(store.news())).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_EVERY))
}

/// The state of now, then each change; several that come close together are one.
fn news(mut changes: watch::Receiver<News>) -> impl Stream<Item = Result<Event, Infallible>> {
    changes.mark_changed();
    stream::unfold((changes, Duration::ZERO), async |(mut changes, pause)| {
        tokio::time::sleep(pause).await;
        changes.changed().await.ok()?;
        let news = *changes.borrow_and_update();
        let data = serde_json::json!(news).to_string();
        Some((Ok(Event::default().event("changed").data(data)), (changes, NEWS_EVERY)))
    })
}

async fn asset(Path(name): Path<String>) -> Response {
    assets::find(&name).map_or_else(|| StatusCode::NOT_FOUND.into_response(), file)
}

fn file(asset: &'static Asset) -> Response {
    ([(header::CONTENT_TYPE, asset.content_type)], asset.bytes).into_response()
}

/// What keeps a page from being led astray by what it shows.
async fn harden(response: Response) -> Response {
    let response = with_header(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    with_header(response, header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY)
}

fn with_header(mut response: Response, name: HeaderName, value: &'static str) -> Response {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

#[cfg(test)]
mod tests;
