//! What both APIs ask of a post before its payload matters.
//!
//! Source of headers, limits and statuses: "Trace API general requirements and limits" and
//! "Introduction to the Event API" in New Relic's documentation. Faults inside a payload are not
//! answered: New Relic reports them later, as `NrIntegrationError` events.

use std::io::Read;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::read::MultiGzDecoder;

/// Largest body as sent, in bytes: 1 MB for both APIs.
pub const BODY_BYTES_MAX: usize = 1_000_000;
/// Largest payload after decompression, in bytes, so that no small body fills the memory.
const PAYLOAD_BYTES_MAX: u64 = 32_000_000;

/// Why a post is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No `Api-Key`, or another one than the receiver's.
    ApiKey,
    /// Not `application/json`.
    ContentType,
    /// Compressed by something else than gzip.
    ContentEncoding,
    /// `Data-Format` and `Data-Format-Version` are not the pair `newrelic` and `1`.
    DataFormat,
    /// More than [`BODY_BYTES_MAX`] bytes, or a body that broke off.
    Body,
}

impl Refusal {
    /// The status that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::ApiKey => StatusCode::FORBIDDEN,
            Self::ContentType | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::DataFormat => StatusCode::BAD_REQUEST,
            Self::Body => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status(), format!("{{\"error\":\"{self:?}\"}}")).into_response()
    }
}

/// A body that passed the checks, still as it was sent.
#[derive(Debug)]
pub(super) struct Payload {
    body: Bytes,
    gzip: bool,
}

impl Payload {
    /// The JSON text.
    pub(super) fn unpack(&self) -> Result<Vec<u8>, String> {
        if !self.gzip {
            return Ok(self.body.to_vec());
        }
        let mut json = Vec::new();
        let mut unpacked = MultiGzDecoder::new(&*self.body).take(PAYLOAD_BYTES_MAX);
        unpacked.read_to_end(&mut json).map_err(|error| format!("the body is no gzip: {error}"))?;
        Ok(json)
    }
}

/// Reads the whole post, then checks it. The headers are given in any case.
pub(super) async fn read(request: Request, license_key: &str) -> (HeaderMap, Result<Payload, Refusal>) {
    let (head, body) = request.into_parts();
    // Read before any refusal, because a sender may only listen once it has sent everything.
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| Refusal::Body);
    let payload = check(&head.headers, license_key).and_then(|gzip| Ok(Payload { body: body?, gzip }));
    (head.headers, payload)
}

/// Checks the headers and tells whether the body is compressed.
fn check(headers: &HeaderMap, license_key: &str) -> Result<bool, Refusal> {
    if text(headers, "api-key") != Some(license_key) {
        return Err(Refusal::ApiKey);
    }
    if !is_json(text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default()) {
        return Err(Refusal::ContentType);
    }
    match (text(headers, "data-format"), text(headers, "data-format-version")) {
        (None, None) | (Some("newrelic"), Some("1")) => {}
        _ => return Err(Refusal::DataFormat),
    }
    match headers.get(header::CONTENT_ENCODING).map(axum::http::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip") => Ok(true),
        Some(_) => Err(Refusal::ContentEncoding),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Parameters such as a character set are allowed.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}
