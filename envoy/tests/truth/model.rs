//! What a case is.

use std::collections::BTreeMap;

/// The lines of each case.
pub(crate) type Recording = BTreeMap<&'static str, Vec<String>>;

/// One case: traffic, and what the probe does meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// What the case shows.
    pub(crate) name: &'static str,
    /// The listener it is sent to, see `plugins`.
    pub(crate) listener: &'static str,
    /// The script of the probe, without line breaks.
    pub(crate) script: String,
    /// The request.
    pub(crate) request: Request,
    /// What becomes of it.
    pub(crate) fate: Fate,
    /// The last line of the recording, without the names in front. Nothing comes after it.
    pub(crate) last: &'static str,
}

/// A request of HTTP/1.1.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) headers: Vec<(&'static str, &'static [u8])>,
    pub(crate) body: Body,
}

/// A body and how it is sent.
#[derive(Debug, Clone, Default)]
pub(crate) enum Body {
    /// No body and no length.
    #[default]
    None,
    /// In one piece, with its length before it.
    Whole(&'static str),
    /// In pieces with pauses between them, then trailers.
    Chunks(&'static [&'static str], &'static [(&'static str, &'static str)]),
}

/// A response of the upstream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, &'static [u8])>,
    pub(crate) body: Body,
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// The upstream answers.
    Answer(Response),
    /// The upstream answers 503, and then this to a second attempt.
    Retry(Response),
    /// As `Retry`, by way of a cluster with a filter of its own.
    Attempts(Response),
    /// As `Timeout`, by way of that cluster.
    Unanswered,
    /// Nothing listens where the upstream should be.
    Refused,
    /// The cluster of the upstream has no host.
    NoHost,
    /// No route matches.
    NoRoute,
    /// The route leads to a cluster that does not exist.
    NoCluster,
    /// The upstream does not answer in time.
    Timeout,
    /// The upstream closes the connection instead of answering.
    Reset,
    /// The route answers by itself.
    Direct,
    /// The client goes away while it waits.
    Abort,
    /// A filter before the probe answers.
    Earlier,
    /// The request cannot be parsed.
    Malformed,
    /// The request names no host.
    Nameless,
    /// The upstream switches protocols, and both sides send one message.
    Upgrade,
    /// The probe answers, so that the upstream never hears of it.
    Probe,
}

impl Fate {
    /// The path that leads to this fate.
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Self::Answer(_)
            | Self::Reset
            | Self::Abort
            | Self::Probe
            | Self::Earlier
            | Self::Malformed
            | Self::Nameless => "/up/shop?item=1",
            Self::Retry(_) => "/retry",
            Self::Attempts(_) => "/attempts",
            Self::Unanswered => "/unanswered",
            Self::Refused => "/refused",
            Self::NoHost => "/empty",
            Self::NoRoute => "/none",
            Self::NoCluster => "/nocluster",
            Self::Timeout => "/timeout",
            Self::Direct => "/direct",
            Self::Upgrade => "/upgrade",
        }
    }

    /// The name of the route that matches, which is the path without its slash.
    pub(crate) fn route(&self) -> &'static str {
        self.path()[1..].split('/').next().unwrap_or_default()
    }
}

impl Request {
    /// The method that fits the body.
    pub(crate) fn method(&self) -> &'static str {
        if matches!(self.body, Body::None) { "GET" } else { "POST" }
    }
}

/// Names that only the proxy or the transport adds are left out where both ends are compared.
pub(crate) fn is_compared(name: &str) -> bool {
    name.starts_with("x-") && name != "x-script" && !name.starts_with("x-forwarded") && !name.starts_with("x-envoy")
}
