//! Takes posts to New Relic's interfaces off the wire.
//!
//! What is checked and how bodies are read is in the crate `newrelic-ingest`; here it meets the server.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header, request};
use axum::response::{IntoResponse, Response};
use newrelic_ingest::{BODY_BYTES_MAX, Contents, Form, Head, Interface, Key, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Posts that are worked on at once, from their decoding to their answer. A small body may become a large one; this
/// bounds how many large ones there are.
const POSTS_MAX: usize = 4;
/// How long a body may take to arrive, unless a test wants another time.
const BODY_READ_MAX: Duration = Duration::from_secs(30);

/// What posts are taken by.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) key: Key,
    pub(crate) body_read_max: Duration,
    pub(crate) posts: Arc<Semaphore>,
}

/// A post, read and checked.
pub(crate) struct Incoming {
    pub(crate) headers: HeaderMap,
    /// Where it went; `None` when there is no such interface.
    pub(crate) interface: Option<Interface>,
    /// What it carries, or why it is refused.
    pub(crate) outcome: Result<(Form, Contents), Refusal>,
    /// Kept until the post is answered.
    pub(crate) turn: Option<OwnedSemaphorePermit>,
}

impl Intake {
    pub(crate) fn with_key(key: Key) -> Self {
        Self { key, body_read_max: BODY_READ_MAX, posts: Arc::new(Semaphore::new(POSTS_MAX)) }
    }

    /// Reads the whole post, then checks it, then decodes it.
    pub(crate) async fn read(&self, request: Request) -> Incoming {
        let (head, body) = request.into_parts();
        // Read before any refusal, because a sender may only listen once it has sent everything.
        let reading = axum::body::to_bytes(body, BODY_BYTES_MAX);
        let body = match tokio::time::timeout(self.body_read_max, reading).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(Refusal::TooLarge),
            Err(_) => Err(Refusal::Slow),
        };
        let interface = Interface::of_path(head.uri.path());
        let turn = Arc::clone(&self.posts).acquire_owned().await.ok();
        let outcome = match &interface {
            None => Err(Refusal::Path),
            Some(interface) => self.open(&head, interface, body).await,
        };
        Incoming { headers: head.headers, interface, outcome, turn }
    }

    async fn open(
        &self,
        head: &request::Parts,
        interface: &Interface,
        body: Result<Bytes, Refusal>,
    ) -> Result<(Form, Contents), Refusal> {
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        let line = |name: &str| head.headers.get(name).map(HeaderValue::as_bytes).map(String::from_utf8_lossy);
        let checked = Head::read(head.method.as_str(), path, line);
        // A body that is too large or too slow is told after what is told of any body.
        let body_bytes = body.as_ref().map_or(1, Bytes::len);
        let form = interface.check(&checked, body_bytes, &self.key)?;
        let (body, interface) = (body?, interface.clone());
        let decoding = tokio::task::spawn_blocking(move || interface.decode(form, &body));
        let contents = decoding.await.unwrap_or(Err(Refusal::Body))?;
        Ok((form, contents))
    }
}

/// The answer to an accepted post.
pub(crate) fn accepted(interface: &Interface, form: Form, request_id: &str) -> Response {
    let content_type = if form.json { "application/json" } else { "application/x-protobuf" };
    let body = interface.success_body(form, request_id);
    (status(interface.success()), [(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// The answer to a refused post: the status that New Relic gives, and the broken rule.
pub(crate) fn refused(interface: Option<&Interface>, refusal: Refusal) -> Response {
    error(status(refusal.status(interface)), refusal.to_string())
}

/// An answer that names what is wrong.
pub(crate) fn error(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Response {
    let text = serde_json::json!({ "error": text.into() });
    (status, [(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response()
}

pub(crate) fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
