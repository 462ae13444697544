//! One request through a proxy whose records go to its log, or in a post to a receiver.

use std::time::Duration;

use host_tests::{Answer, Ending, Envoy, HeaderMap, HttpCall, StreamBuilder, StreamId};
use serde_json::{Value, json};

use crate::support::{CLUSTER, NOW_MS, REQUEST, Seen, Setup};

/// The time that a request spends in the proxy and behind it.
pub(crate) const SERVED: Duration = Duration::from_millis(40);

/// A gateway whose every trace is sampled.
pub(crate) fn gateway() -> Setup {
    Setup::gateway().sampler("always_on")
}

/// A stream as it opens unless a test wants more.
pub(crate) fn plain(stream: StreamBuilder<'_>) -> StreamId {
    stream.open()
}

/// A request, what the upstream answers, and how it ends.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) request: HeaderMap,
    /// None when the upstream sends nothing.
    pub(crate) response: Option<HeaderMap>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) ending: Ending,
}

impl Exchange {
    /// A request that is answered with this status.
    pub(crate) fn answered(status: &str) -> Self {
        Self {
            request: HeaderMap::from(&REQUEST),
            response: Some(HeaderMap::from(&[(":status", status)])),
            trailers: None,
            ending: Ending::complete(),
        }
    }

    /// A request that no upstream answers.
    pub(crate) fn failed(ending: Ending) -> Self {
        Self { response: None, ending, ..Self::answered("200") }
    }

    /// Adds lines to the request, or changes some.
    pub(crate) fn request<N: AsRef<[u8]>, V: AsRef<[u8]>>(mut self, lines: &[(N, V)]) -> Self {
        for (name, value) in lines {
            self.request.replace(name, value);
        }
        self
    }

    /// Adds lines to the answer.
    pub(crate) fn response<N: AsRef<[u8]>, V: AsRef<[u8]>>(mut self, lines: &[(N, V)]) -> Self {
        let response = self.response.get_or_insert_with(HeaderMap::new);
        for (name, value) in lines {
            response.replace(name, value);
        }
        self
    }

    /// Sends it through a proxy that is just started.
    pub(crate) fn run(&self, setup: &Setup) -> Seen {
        self.run_on(setup, plain)
    }

    /// The same, on a stream that the test describes.
    pub(crate) fn run_on(&self, setup: &Setup, open: impl FnOnce(StreamBuilder<'_>) -> StreamId) -> Seen {
        self.run_with(setup, open, |_, _| {})
    }

    /// The same, with something that happens behind the filter.
    pub(crate) fn run_with(
        &self,
        setup: &Setup,
        open: impl FnOnce(StreamBuilder<'_>) -> StreamId,
        behind: impl FnOnce(&mut Envoy, StreamId),
    ) -> Seen {
        let mut envoy = setup.start();
        let stream = open(envoy.stream());
        let upstream = self.send(&mut envoy, stream, behind);
        Seen::new(envoy, stream, upstream)
    }

    /// Sends it on a stream that is open already.
    pub(crate) fn send(
        &self,
        envoy: &mut Envoy,
        stream: StreamId,
        behind: impl FnOnce(&mut Envoy, StreamId),
    ) -> HeaderMap {
        let upstream = envoy.request_headers(stream, self.request.clone()).expect("the filter does not trap");
        behind(envoy, stream);
        envoy.advance(SERVED).expect("no tick traps");
        if let Some(response) = &self.response {
            envoy.response_headers(stream, response.clone()).expect("the filter does not trap");
        }
        if let Some(trailers) = &self.trailers {
            envoy.response_trailers(stream, trailers.clone()).expect("the filter does not trap");
        }
        envoy.end(stream, self.ending.clone()).expect("the filter does not trap");
        upstream
    }
}

/// The exporters of a proxy whose posts a test reads.
pub(crate) fn posting(exporters: &[&str]) -> Value {
    let key = json!({ "value": "test-key" });
    let settings = |name: &str| match name {
        "otlp" => json!({ "cluster": CLUSTER, "headers": { "api-key": key }, "gzip": false, "encoding": "json" }),
        _ => json!({ "cluster": CLUSTER, "api_key": key, "gzip": false }),
    };
    Value::Object(exporters.iter().map(|name| ((*name).to_owned(), settings(name))).collect())
}

/// Lets the next flush come, and gives its posts in the order made.
pub(crate) fn flush(envoy: &mut Envoy) -> Vec<HttpCall> {
    envoy.advance(Duration::from_secs(6)).expect("no tick traps");
    let posts = envoy.pending_calls();
    envoy.answer_all(&Answer::status(202)).expect("no answer traps");
    posts
}

/// The body of the only post.
pub(crate) fn only_body(envoy: &mut Envoy) -> Vec<u8> {
    let mut posts = flush(envoy);
    assert_eq!(posts.len(), 1, "{posts:?}");
    posts.remove(0).body
}

/// The attributes of a record, as far as they are named here; null for one that it does not have.
pub(crate) fn pick(record: &Value, names: &[&str]) -> Value {
    let attributes = record.get("attributes").unwrap_or(record);
    Value::Object(names.iter().map(|name| ((*name).to_owned(), attributes[*name].clone())).collect())
}

/// Asserts that a record has all of these attributes, and none that is null here.
pub(crate) fn assert_has(record: &Value, expected: &Value, case: &str) {
    let expected = expected.as_object().expect("attributes are an object");
    let names: Vec<&str> = expected.keys().map(String::as_str).collect();
    let found = pick(record, &names);
    assert_eq!(found, Value::Object(expected.clone()), "{case}");
}

/// When the test began, Unix milliseconds.
pub(crate) fn start_ms() -> Value {
    json!(NOW_MS)
}
