//! What a receiver's answer means for the batch that it answers: New Relic's telemetry SDK specification
//! (`communication.md`) for the Trace API and the Event API, the OTLP specification ("OTLP/HTTP Response") for OTLP.

/// `Retry-After` is honoured up to so many seconds.
const RETRY_AFTER_SECONDS_MAX: u64 = 300;
const SECOND_NS: u64 = 1_000_000_000;

/// An answer, or the lack of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// `:status`; `None` when the call ended without an answer.
    pub status: Option<u16>,
    /// `retry-after`, when it is a whole number of seconds; nanoseconds, at most five minutes.
    pub retry_after_ns: Option<u64>,
    /// Whether the proxy itself made the answer.
    pub local: bool,
    /// The body. Only that of a successful OTLP answer is read, which may tell of rejected spans.
    pub body: &'a [u8],
}

impl<'a> Response<'a> {
    /// Reads the header lines of an answer; without any, the call failed.
    pub fn new<'b>(pairs: impl Iterator<Item = (&'b [u8], &'b [u8])>, body: &'a [u8]) -> Self {
        let mut response = Self { local: true, body, ..Self::default() };
        for (name, value) in pairs {
            match name {
                b":status" => response.status = decimal(value).and_then(|status| u16::try_from(status).ok()),
                b"retry-after" => response.retry_after_ns = retry_after_ns(value),
                _ => {}
            }
            response.local &= is_of_local_reply(name);
        }
        response
    }
}

/// Whether Envoy's answer for a receiver that it did not reach can have such a line.
///
/// Envoy's asynchronous client makes up a status, a text and its length, and its router may add `x-envoy-overloaded`
/// and the like (Envoy `source/common/http/async_client_impl.cc`, `utility.cc`). What a receiver sent has a `server`
/// or a `date`, and in any case the time that the router measured for it.
fn is_of_local_reply(name: &[u8]) -> bool {
    matches!(name, b":status" | b"content-length" | b"content-type")
        || name.starts_with(b"x-envoy-") && name != b"x-envoy-upstream-service-time"
}

fn retry_after_ns(value: &[u8]) -> Option<u64> {
    decimal(value).map(|seconds| seconds.min(RETRY_AFTER_SECONDS_MAX) * SECOND_NS)
}

/// Digits only; a number that is too large for its type is as good as the largest.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0_u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

/// The part of the statistic's name that tells how a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `2xx`.
    Success,
    /// `429`.
    RateLimited,
    /// `4xx`.
    ClientError,
    /// `5xx`; also what is no proper answer to a request, 1xx and 3xx.
    ServerError,
    /// `timeout`: the proxy waited in vain.
    Timeout,
    /// `unreachable`: the proxy found no receiver.
    Unreachable,
}

impl Class {
    /// As in the statistic's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::RateLimited => "429",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
        }
    }

    /// The class of an answer.
    pub fn of(response: &Response<'_>) -> Self {
        match (response.status, response.local) {
            (None, _) | (Some(503), true) => Self::Unreachable,
            (Some(504), true) => Self::Timeout,
            (Some(200..=299), _) => Self::Success,
            (Some(429), _) => Self::RateLimited,
            (Some(400..=499), _) => Self::ClientError,
            (Some(_), _) => Self::ServerError,
        }
    }
}

/// What happens to the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Accepted,
    /// It can never succeed.
    Rejected,
    /// It may succeed in smaller parts.
    Split,
    /// It may succeed later: after so many nanoseconds when the receiver said so, else by the backoff.
    Retry(Option<u64>),
}

/// The rules that a receiver goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// New Relic's own APIs: what is not listed is tried again.
    NewRelic,
    /// OTLP: what is not listed is dropped.
    Otlp,
}

impl Rules {
    /// What an answer means.
    pub fn judge(self, response: &Response<'_>) -> Verdict {
        let Some(status) = response.status else { return Verdict::Retry(None) };
        match (status, self) {
            (200..=299, _) => Verdict::Accepted,
            (413, _) => Verdict::Split,
            (429, _) => Verdict::Retry(response.retry_after_ns),
            (400 | 401 | 403..=405 | 409..=411 | 414 | 415 | 431, Self::NewRelic) => Verdict::Rejected,
            (502..=504, Self::Otlp) => Verdict::Retry(None),
            (_, Self::NewRelic) => Verdict::Retry(None),
            (_, Self::Otlp) => Verdict::Rejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(pairs: &[(&str, &str)]) -> Response<'static> {
        Response::new(pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), b"")
    }

    fn status(status: u16) -> Response<'static> {
        Response { status: Some(status), ..Response::default() }
    }

    #[test]
    fn new_relics_apis_retry_whatever_they_do_not_rule_out() {
        for code in 100..=599 {
            let expected = match code {
                200..=299 => Verdict::Accepted,
                413 => Verdict::Split,
                400 | 401 | 403 | 404 | 405 | 409 | 410 | 411 | 414 | 415 | 431 => Verdict::Rejected,
                _ => Verdict::Retry(None),
            };
            assert_eq!(Rules::NewRelic.judge(&status(code)), expected, "{code}");
        }
    }

    #[test]
    fn otlp_receivers_rule_out_whatever_they_do_not_list() {
        for code in 100..=599 {
            let expected = match code {
                200..=299 => Verdict::Accepted,
                413 => Verdict::Split,
                429 | 502 | 503 | 504 => Verdict::Retry(None),
                _ => Verdict::Rejected,
            };
            assert_eq!(Rules::Otlp.judge(&status(code)), expected, "{code}");
        }
    }

    #[test]
    fn no_answer_is_tried_again() {
        for rules in [Rules::NewRelic, Rules::Otlp] {
            assert_eq!(rules.judge(&response(&[])), Verdict::Retry(None));
        }
        assert_eq!(Class::of(&response(&[])), Class::Unreachable);
    }

    #[test]
    fn retry_after_counts_in_whole_seconds_up_to_five_minutes() {
        for (value, expected) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("300", Some(300)),
            ("301", Some(300)),
            ("99999999999999999999999999", Some(300)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ] {
            let read = response(&[(":status", "429"), ("retry-after", value)]);
            let expected = expected.map(|seconds| seconds * SECOND_NS);
            assert_eq!(Rules::NewRelic.judge(&read), Verdict::Retry(expected), "{value}");
            assert_eq!(Rules::Otlp.judge(&read), Verdict::Retry(expected), "{value}");
        }
    }

    #[test]
    fn retry_after_counts_for_429_alone() {
        let read = response(&[(":status", "503"), ("retry-after", "7"), ("server", "x")]);
        assert_eq!(Rules::NewRelic.judge(&read), Verdict::Retry(None));
    }

    #[test]
    fn the_proxys_own_503_and_504_are_told_from_the_receivers() {
        let local = [("content-length", "91"), ("content-type", "text/plain")];
        for (code, more, expected) in [
            ("503", &local[..], Class::Unreachable),
            ("504", &local[..], Class::Timeout),
            ("503", &[("x-envoy-overloaded", "true")], Class::Unreachable),
            ("503", &[], Class::Unreachable),
            ("503", &[("content-length", "2"), ("x-envoy-upstream-service-time", "3")], Class::ServerError),
            ("504", &[("server", "envoy")], Class::ServerError),
            ("504", &[("date", "Wed, 21 Oct 2026 07:28:00 GMT")], Class::ServerError),
            ("500", &local, Class::ServerError),
            ("302", &local, Class::ServerError),
            ("202", &[], Class::Success),
            ("429", &local, Class::RateLimited),
            ("404", &[("server", "x")], Class::ClientError),
            ("x", &[], Class::Unreachable),
        ] {
            let pairs: Vec<_> = [(":status", code)].iter().chain(more).copied().collect();
            assert_eq!(Class::of(&response(&pairs)), expected, "{pairs:?}");
        }
    }
}
