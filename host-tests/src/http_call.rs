//! HTTP calls of the guest and the answers a test gives.

use std::time::Duration;

use crate::headers::HeaderMap;
use crate::journal::Thread;

/// Names one HTTP call of the proxy, in the order they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub(crate) usize);

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallState {
    /// Sent, not answered.
    Pending,
    /// An answer was delivered to the guest.
    Answered,
    /// The timeout passed; the guest was given `:status 504`.
    TimedOut,
    /// The context that made the call is gone; nothing was or will be delivered.
    Cancelled,
}

/// One HTTP call as it left the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCall {
    /// The name to answer it by.
    pub id: CallId,
    /// The thread it was made on.
    pub thread: Thread,
    /// The cluster it was sent to.
    pub cluster: String,
    /// The headers, as the guest gave them, with the `content-length` Envoy adds for a body.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: HeaderMap,
    /// The timeout; `None` when the guest gave 0.
    pub timeout: Option<Duration>,
    /// When it was sent, in nanoseconds since 1970.
    pub sent_at_ns: u64,
    /// How far it is.
    pub state: CallState,
    /// The context the guest made it from.
    pub context: u32,
    pub(crate) vm: usize,
    pub(crate) root: u32,
    pub(crate) token: u32,
    pub(crate) deadline_ns: Option<u64>,
    pub(crate) armed: u64,
}

/// The answer to an HTTP call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The headers; none at all means the exchange broke off.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: HeaderMap,
}

impl Answer {
    /// An answer with this status code and an empty body.
    #[must_use]
    pub fn status(code: u16) -> Self {
        Self { headers: HeaderMap::from(&[(":status", code.to_string())]), ..Self::default() }
    }

    /// The upstream closed the connection before it answered: Envoy makes up a 503.
    #[must_use]
    pub fn reset() -> Self {
        Self::local(
            503,
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        )
    }

    /// The upstream refused the connection: Envoy makes up a 503.
    #[must_use]
    pub fn refused() -> Self {
        Self::local(
            503,
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
        )
    }

    /// The upstream took too long: Envoy makes up a 504. The virtual clock delivers this by itself.
    #[must_use]
    pub fn timeout() -> Self {
        Self::local(504, "upstream request timeout")
    }

    /// The exchange broke off while the answer was arriving: the guest is called without headers.
    #[must_use]
    pub fn broken() -> Self {
        Self::default()
    }

    fn local(code: u16, text: &str) -> Self {
        let length = text.len().to_string();
        Self::status(code).header("content-length", length).header("content-type", "text/plain").body(text)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        Self { body: body.as_ref().to_vec(), ..self }
    }

    /// Adds a trailer.
    #[must_use]
    pub fn trailer(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.trailers.add(name, value);
        self
    }
}
