//! What an interface checks before it accepts a post, and how it opens the body.

use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;

use crate::{BODY_BYTES_MAX, Contents, INFLATED_BYTES_MAX, Interface, Problem, Refusal, event_api, otlp, trace_api};

/// Name of the query parameter that may carry the key instead of the header.
const KEY_PARAMETER: &str = "Api-Key";

/// The keys an interface accepts.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// This one.
    Exactly(String),
    /// Any that is not empty.
    Any,
}

/// Shows no key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Any { "Any" } else { "Exactly([redacted])" })
    }
}

/// What the interfaces look at before they look at a body. What is absent is empty.
#[derive(Debug, Clone)]
pub struct Head<'a> {
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    api_key: Option<Cow<'a, str>>,
    content_type: String,
    content_encoding: Cow<'a, str>,
    data_format: Cow<'a, str>,
    data_format_version: Cow<'a, str>,
}

impl<'a> Head<'a> {
    /// Takes what matters out of a request: `path` with its query, and `header` by lowercase names.
    pub fn read(
        method: impl Into<Cow<'a, str>>,
        path: impl Into<Cow<'a, str>>,
        header: impl Fn(&str) -> Option<Cow<'a, str>>,
    ) -> Self {
        let text = |name| header(name).unwrap_or_default();
        Self {
            method: method.into(),
            path: path.into(),
            api_key: header("api-key"),
            content_type: media_type(&text("content-type")),
            content_encoding: text("content-encoding"),
            data_format: text("data-format"),
            data_format_version: text("data-format-version"),
        }
    }

    fn key_parameter(&self) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(name, _)| *name == KEY_PARAMETER).map(|(_, value)| value)
    }
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// JSON; otherwise protobuf.
    pub json: bool,
    /// Compressed by gzip.
    pub gzip: bool,
}

impl Interface {
    /// Checks a post whose body has this many bytes.
    ///
    /// # Errors
    /// The first rule it breaks, in the order of [`Refusal`]'s variants.
    pub fn check(&self, head: &Head<'_>, body_bytes: usize, key: &Key) -> Result<Form, Refusal> {
        if head.method != "POST" {
            return Err(Refusal::Method);
        }
        self.check_key(head, key)?;
        if body_bytes == 0 {
            return Err(Refusal::Length);
        }
        if body_bytes > BODY_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let json = self.is_json(head)?;
        let gzip = match &*head.content_encoding {
            "" | "identity" => false,
            "gzip" => true,
            _ => return Err(Refusal::ContentEncoding),
        };
        self.check_format(head)?;
        Ok(Form { json, gzip })
    }

    /// The Trace API also takes the key as a parameter of the query; two must be equal.
    fn check_key(&self, head: &Head<'_>, key: &Key) -> Result<(), Refusal> {
        let parameter = if *self == Self::TraceApi { head.key_parameter() } else { None };
        let sent = match (head.api_key.as_deref(), parameter) {
            (Some(header), Some(parameter)) if header != parameter => return Err(Refusal::WrongKey),
            (header, parameter) => header.or(parameter).ok_or(Refusal::MissingKey)?,
        };
        match key {
            Key::Exactly(key) if sent != key => Err(Refusal::WrongKey),
            Key::Any if sent.is_empty() => Err(Refusal::MissingKey),
            Key::Exactly(_) | Key::Any => Ok(()),
        }
    }

    fn is_json(&self, head: &Head<'_>) -> Result<bool, Refusal> {
        match (head.content_type.as_str(), self) {
            ("application/json", _) => Ok(true),
            ("application/x-protobuf", Self::Otlp) => Ok(false),
            _ => Err(Refusal::ContentType),
        }
    }

    /// The format and its version come together, or not at all, which means `newrelic`.
    fn check_format(&self, head: &Head<'_>) -> Result<(), Refusal> {
        match (&*head.data_format, &*head.data_format_version) {
            _ if *self != Self::TraceApi => Ok(()),
            ("newrelic", "1") | ("", "") => Ok(()),
            _ => Err(Refusal::DataFormat),
        }
    }

    /// Reads a body that has passed the checks.
    ///
    /// # Errors
    /// [`Refusal::Body`], from OTLP alone: the others tell of a faulty body by a [`Problem`].
    pub fn decode(&self, form: Form, body: &[u8]) -> Result<Contents, Refusal> {
        let inflated = inflate(form, body);
        let late = |problem| Ok(Contents { problems: vec![problem], ..Contents::default() });
        match (self, inflated) {
            (Self::Otlp, None) => Err(Refusal::Body),
            (Self::Otlp, Some(body)) => {
                let spans = if form.json { otlp::from_json(&body) } else { otlp::from_protobuf(&body) };
                Ok(Contents { spans: spans.ok_or(Refusal::Body)?, ..Contents::default() })
            }
            (_, None) => late(Problem::Gzip),
            (Self::TraceApi, Some(body)) => trace_api::decode(&body).map_or_else(|| late(Problem::Shape), Ok),
            (Self::EventApi { account_id }, Some(body)) => {
                event_api::decode(&body, account_id).map_or_else(|| late(Problem::Shape), Ok)
            }
        }
    }
}

/// The body as it was before compression; `None` when it is no gzip, or larger than [`INFLATED_BYTES_MAX`].
fn inflate(form: Form, body: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !form.gzip {
        return Some(Cow::Borrowed(body));
    }
    let mut inflated = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(body).take(INFLATED_BYTES_MAX + 1);
    decoder.read_to_end(&mut inflated).ok()?;
    (inflated.len() as u64 <= INFLATED_BYTES_MAX).then_some(Cow::Owned(inflated))
}

/// The media type without its parameters, in lower case.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: (&str, &str) = ("content-type", "application/json");
    const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
    const KEY: (&str, &str) = ("api-key", "k");

    fn check(path: &str, headers: &[(&str, &str)], body_bytes: usize) -> Result<Form, Refusal> {
        let header = |name: &str| {
            let line = headers.iter().find(|(header, _)| *header == name);
            line.map(|(_, value)| Cow::Owned((*value).to_owned()))
        };
        let interface = Interface::of_path(path).ok_or(Refusal::Path)?;
        interface.check(&Head::read("POST", path, header), body_bytes, &Key::Exactly("k".to_owned()))
    }

    #[test]
    fn the_key_is_taken_from_the_header_or_by_the_trace_api_from_the_query() {
        for (path, headers, outcome) in [
            ("/trace/v1", &[KEY, JSON][..], Ok(())),
            ("/trace/v1?Api-Key=k", &[JSON], Ok(())),
            ("/trace/v1?x=1&Api-Key=k", &[KEY, JSON], Ok(())),
            ("/trace/v1?Api-Key=other", &[KEY, JSON], Err(Refusal::WrongKey)),
            ("/trace/v1?Api-Key=other", &[JSON], Err(Refusal::WrongKey)),
            ("/trace/v1?api-key=k", &[JSON], Err(Refusal::MissingKey)),
            ("/v1/traces?Api-Key=k", &[JSON], Err(Refusal::MissingKey)),
            ("/v1/accounts/1/events?Api-Key=k", &[JSON], Err(Refusal::MissingKey)),
        ] {
            assert_eq!(check(path, headers, 1).map(|_| ()), outcome, "{path} {headers:?}");
        }
    }

    #[test]
    fn a_receiver_of_any_key_still_wants_one() {
        let interface = Interface::TraceApi;
        for (key, outcome) in
            [(None, Err(Refusal::MissingKey)), (Some(""), Err(Refusal::MissingKey)), (Some("x"), Ok(()))]
        {
            let header = |name: &str| match name {
                "api-key" => key.map(Cow::Borrowed),
                "content-type" => Some(Cow::Borrowed("application/json")),
                _ => None,
            };
            let form = interface.check(&Head::read("POST", "/trace/v1", header), 1, &Key::Any);
            assert_eq!(form.map(|_| ()), outcome, "{key:?}");
        }
    }

    #[test]
    fn the_form_of_a_body_is_told_by_its_headers() {
        for (path, headers, form) in [
            ("/trace/v1", &[KEY, JSON][..], Ok((true, false))),
            ("/trace/v1", &[KEY, ("content-type", "Application/JSON; charset=utf-8")], Ok((true, false))),
            ("/trace/v1", &[KEY, JSON, ("content-encoding", "gzip")], Ok((true, true))),
            ("/trace/v1", &[KEY, JSON, ("content-encoding", "identity")], Ok((true, false))),
            ("/trace/v1", &[KEY, JSON, ("content-encoding", "br")], Err(Refusal::ContentEncoding)),
            ("/trace/v1", &[KEY, PROTOBUF], Err(Refusal::ContentType)),
            ("/v1/traces", &[KEY, PROTOBUF], Ok((false, false))),
            ("/v1/traces", &[KEY, JSON, ("data-format", "zipkin")], Ok((true, false))),
            ("/trace/v1", &[KEY, JSON, ("data-format", "zipkin")], Err(Refusal::DataFormat)),
            ("/v1/accounts/x/events", &[KEY, JSON], Err(Refusal::Path)),
        ] {
            let outcome = check(path, headers, 1).map(|form| (form.json, form.gzip));
            assert_eq!(outcome, form, "{path} {headers:?}");
        }
    }

    #[test]
    fn a_small_body_cannot_become_a_huge_one() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let inflated = usize::try_from(INFLATED_BYTES_MAX).unwrap() + 1;
        std::io::Write::write_all(&mut encoder, &vec![b' '; inflated]).unwrap();
        let body = encoder.finish().unwrap();
        assert!(body.len() < BODY_BYTES_MAX);
        let gzip = Form { json: true, gzip: true };
        assert_eq!(Interface::TraceApi.decode(gzip, &body).unwrap().problems, [Problem::Gzip]);
        assert_eq!(Interface::Otlp.decode(gzip, &body), Err(Refusal::Body));
    }
}
