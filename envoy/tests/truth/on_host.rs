//! The cases on the test host.

use std::path::Path;
use std::time::Duration;

use host_tests::{
    Answer, Ending, Envoy, FailureKind, GrpcState, HeaderMap, HttpCall, LogLevel, MapType, Module, Profile, StreamId,
    Thread,
};

use crate::cases;
use crate::model::{Body, Case, Fate, Recording, Response, is_compared};
use crate::plugins;

/// Longer than the period of the tick that makes calls.
const A_WHILE: Duration = Duration::from_millis(300);

/// Plays all cases.
pub(crate) fn record(probe: &Path, profile: Profile) -> Recording {
    let module = Module::from_file(probe).unwrap();
    let mut builder = Envoy::builder(&module).profile(profile).node(plugins::node()).journal_max(100_000);
    for cluster in ["up", "refused"] {
        builder = builder.cluster(cluster);
    }
    builder = builder.empty_cluster("empty");
    for spec in plugins::all() {
        builder = builder.plugin(spec.plugin);
    }
    let mut host = Host { envoy: builder.start().unwrap(), profile };
    host.envoy.advance(A_WHILE).unwrap();
    host.answer_calls(true);
    let at_start = lines(&host.envoy);
    let mut recording: Recording = cases::all().into_iter().map(|case| (case.name, host.play(&case))).collect();
    for (name, plugin, with_main) in cases::AT_START {
        let of = |main: bool| {
            let thread = if main { "main: " } else { "worker: " };
            let lines = at_start.iter().filter(move |(of, _)| main != matches!(of, Thread::Worker(_)));
            lines
                .filter(|(_, text)| text.split(' ').next() == Some(plugin))
                .map(move |(_, text)| format!("{thread}{text}"))
        };
        recording.insert(name, of(true).filter(|_| *with_main).chain(of(false)).collect());
    }
    recording
}

/// What the modules logged, in the form both recordings have.
pub(crate) fn lines(envoy: &Envoy) -> Vec<(Thread, String)> {
    let shown = |level: LogLevel, message: &str| match message.strip_prefix("probe|") {
        Some(of_probe) => of_probe.replacen('|', " ", 2),
        None => format!("logged {} {message}", level_name(level)),
    };
    envoy.logs().into_iter().map(|line| (line.thread, shown(line.level, &line.message))).collect()
}

/// The name of a level in Envoy's log.
fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warning",
        LogLevel::Error => "error",
        LogLevel::Critical => "critical",
    }
}

/// What Envoy 1.36 replies when a connection is refused.
const REFUSED_AND_WHY: &str = "upstream connect error or disconnect/reset before headers. reset reason: remote \
    connection failure, transport failure reason: delayed connect error: Connection refused";

struct Host {
    envoy: Envoy,
    profile: Profile,
}

impl Host {
    fn play(&mut self, case: &Case) -> Vec<String> {
        self.envoy.clear_journal();
        let mut stream = self.open(case);
        let unseen = matches!(case.fate, Fate::Earlier | Fate::Malformed | Fate::Nameless);
        if !unseen {
            self.send_request(stream, case);
            self.answer_calls(false);
        }
        let replied = self.envoy.local_reply(stream).is_some();
        let mut arrived = Vec::new();
        if replied {
            self.end(stream, Ending::complete());
        } else {
            if matches!(case.fate, Fate::Answer(_) | Fate::Retry(_)) {
                arrived = self.arrived(stream);
            }
            if matches!(case.fate, Fate::Attempts(_)) {
                stream = self.retry(stream);
            }
            self.meet(stream, &case.fate);
        }
        self.envoy.advance(A_WHILE).unwrap();
        self.answer_calls(true);
        let mut recording: Vec<String> =
            lines(&self.envoy).into_iter().filter(|(of, _)| *of == Thread::Worker(0)).map(|(_, text)| text).collect();
        recording.extend(arrived);
        if !matches!(case.fate, Fate::Abort) {
            recording.extend(self.got(stream));
        }
        recording
    }

    fn open(&mut self, case: &Case) -> StreamId {
        let cluster = if matches!(case.fate, Fate::Refused) {
            "refused"
        } else if matches!(case.fate, Fate::NoHost) {
            "empty"
        } else if matches!(case.fate, Fate::Attempts(_) | Fate::Unanswered) {
            "attempt"
        } else {
            "up"
        };
        let mut builder = self
            .envoy
            .stream()
            .listener(case.listener)
            .source("127.0.0.1:1")
            .destination("127.0.0.1:1")
            .route(case.fate.route())
            .upstream(cluster, "127.0.0.1:1")
            .attempts(if matches!(case.fate, Fate::Retry(_)) { 2 } else { 1 });
        if matches!(case.fate, Fate::Attempts(_) | Fate::Unanswered) {
            builder = builder.upstream_filter();
        }
        if matches!(case.fate, Fate::NoRoute) {
            builder = builder.unrouted();
        }
        if matches!(case.fate, Fate::Earlier | Fate::Nameless) {
            builder = builder.received(request_headers(case));
        }
        builder.open()
    }

    /// A trap is for the failure policy to answer; what it does shows in the recording.
    fn tolerate<T>(&self, step: host_tests::Result<T>) {
        if let Err(failure) = step {
            assert_eq!(failure.kind(), FailureKind::Trap, "{failure}");
        }
    }

    fn end(&mut self, stream: StreamId, ending: Ending) {
        let ended = self.envoy.end(stream, ending);
        self.tolerate(ended);
    }

    fn send_request(&mut self, stream: StreamId, case: &Case) {
        let ends = matches!(case.request.body, Body::None) && !matches!(case.fate, Fate::Upgrade);
        let sent = self.envoy.request_headers_with(stream, request_headers(case), ends);
        self.tolerate(sent);
        for (piece, last) in pieces(&case.request.body) {
            if self.envoy.local_reply(stream).is_none() {
                let sent = self.envoy.request_body(stream, piece, last);
                self.tolerate(sent);
            }
        }
        if let Body::Chunks(_, [_, ..]) = case.request.body {
            let sent = self.envoy.request_trailers(stream, trailers(&case.request.body));
            self.tolerate(sent);
        }
    }

    fn respond(&mut self, stream: StreamId, response: &Response) {
        let ends = matches!(response.body, Body::None);
        let sent = self.envoy.response_headers_with(stream, response_headers(response), ends);
        self.tolerate(sent);
        for (piece, last) in pieces(&response.body) {
            if self.envoy.local_reply(stream).is_none() {
                let sent = self.envoy.response_body(stream, piece, last);
                self.tolerate(sent);
            }
        }
        if let Body::Chunks(_, [_, ..]) = response.body {
            let sent = self.envoy.response_trailers(stream, trailers(&response.body));
            self.tolerate(sent);
        }
    }

    /// The upstream of an attempt answers 503, so that the router makes another one.
    fn retry(&mut self, stream: StreamId) -> StreamId {
        self.respond(stream, &Response { status: 503, ..Response::default() });
        self.envoy.next_attempt(stream).unwrap()
    }

    fn meet(&mut self, stream: StreamId, fate: &Fate) {
        let ending = match fate {
            Fate::Answer(response) | Fate::Attempts(response) => {
                self.respond(stream, response);
                Ending::complete()
            }
            Fate::Retry(response) => {
                self.respond(stream, response);
                Ending::complete().attempts(2)
            }
            Fate::Upgrade => return self.upgrade(stream),
            Fate::Refused => self.refused(),
            Fate::NoHost => Ending::no_healthy_upstream(),
            Fate::NoRoute => Ending::no_route(),
            Fate::NoCluster => Ending::no_cluster(),
            Fate::Timeout | Fate::Unanswered => Ending::upstream_timeout(),
            Fate::Reset => Ending::upstream_reset(),
            Fate::Direct => Ending::direct_response(418).body("direct"),
            Fate::Abort => Ending::client_abort(),
            Fate::Earlier => {
                const FAULT_INJECTED: u64 = 0x400;
                Ending { flags: FAULT_INJECTED, ..Ending::earlier_filter_replied(403, "fault_filter_abort") }
                    .body("fault filter abort")
            }
            Fate::Malformed => Ending::codec_error(),
            Fate::Nameless => Ending::earlier_filter_replied(400, "missing_host_header"),
            Fate::Probe => Ending::complete(),
        };
        self.end(stream, ending);
    }

    /// Whether the client is told why a connection failed. Envoy 1.36 did so.
    fn tells_why(&self) -> bool {
        Profile::envoy_1(36).is_some_and(|old| self.profile <= old)
    }

    fn refused(&self) -> Ending {
        let ending = Ending::connect_failure();
        if self.tells_why() { ending.body(REFUSED_AND_WHY) } else { ending }
    }

    fn refused_call(&self) -> Answer {
        if !self.tells_why() {
            return Answer::refused();
        }
        let length = REFUSED_AND_WHY.len().to_string();
        let answer = Answer::status(503).header("content-length", length).header("content-type", "text/plain");
        answer.body(REFUSED_AND_WHY)
    }

    fn upgrade(&mut self, stream: StreamId) {
        let headers = [(":status", "101"), ("upgrade", "websocket"), ("connection", "upgrade"), ("date", "today")];
        // The codec flushes an empty piece after each head, and when the upstream closes.
        let step = self.envoy.request_body(stream, "", false);
        self.tolerate(step);
        let step = self.envoy.response_headers(stream, headers);
        self.tolerate(step);
        let step = self.envoy.response_body(stream, "", false);
        self.tolerate(step);
        let step = self.envoy.request_body(stream, "ping", false);
        self.tolerate(step);
        for piece in ["pong", ""] {
            let step = self.envoy.response_body(stream, piece, false);
            self.tolerate(step);
        }
        self.end(stream, Ending::websocket_closed());
    }

    /// Answers the calls of the worker as the callee does; late ones only when it is late.
    fn answer_calls(&mut self, late: bool) {
        loop {
            let ready = |call: &HttpCall| call.thread == Thread::Worker(0) && (late || !is_late(call));
            let Some(call) = self.envoy.pending_calls().into_iter().find(ready) else { break };
            let answer = match (call.cluster.as_str(), path_of(&call)) {
                ("refused", _) => self.refused_call(),
                (_, "/close") => Answer::reset(),
                (_, "/slow") => {
                    let timeout = call.timeout.unwrap();
                    self.envoy.advance(timeout).unwrap();
                    continue;
                }
                (_, "/late") => from_callee("late"),
                _ => from_callee("answer"),
            };
            self.envoy.answer(call.id, answer).unwrap();
        }
        for call in self.envoy.grpc_calls() {
            if matches!(call.state, GrpcState::Open | GrpcState::HalfClosed) {
                const UNAVAILABLE: u32 = 14;
                let ending = self.refused();
                let text = format!("{}{{{}}}", ending.body, ending.details.unwrap_or_default());
                self.envoy.grpc_close(call.id, UNAVAILABLE, text).unwrap();
            }
        }
    }

    /// What the upstream got.
    fn arrived(&self, stream: StreamId) -> Vec<String> {
        let headers = self.envoy.header_map(stream, MapType::RequestHeaders).unwrap();
        let mut lines = compared(&headers, "upstream");
        let path = headers.text(":path").unwrap_or_default().into_owned();
        let body = self.envoy.upstream_body(stream).unwrap();
        lines.push(format!("upstream got {path} {}", body.escape_ascii()));
        lines
    }

    /// What the client got.
    fn got(&self, stream: StreamId) -> Vec<String> {
        let headers = self.envoy.header_map(stream, MapType::ResponseHeaders).unwrap();
        let Some(status) = headers.text(":status") else { return Vec::new() };
        let mut lines = vec![format!("client got {status}")];
        lines.extend(compared(&headers, "client"));
        let body = self.envoy.downstream_body(stream).unwrap();
        lines.push(format!("client got {}", body.escape_ascii()));
        lines
    }
}

fn compared(headers: &HeaderMap, who: &str) -> Vec<String> {
    let lines = headers.iter().map(|(name, value)| (name.escape_ascii().to_string(), value.escape_ascii()));
    lines.filter(|(name, _)| is_compared(name)).map(|(name, value)| format!("{who} got {name}: {value}")).collect()
}

fn path_of(call: &HttpCall) -> &str {
    call.headers.get(":path").map_or("", |path| std::str::from_utf8(path).unwrap())
}

fn is_late(call: &HttpCall) -> bool {
    path_of(call) == "/late"
}

fn from_callee(text: &str) -> Answer {
    let length = text.len().to_string();
    let answer =
        Answer::status(202).header("x-from", "callee").header("date", "today").header("content-length", length);
    answer.header("x-envoy-upstream-service-time", "#").body(text)
}

/// The request headers as the connection manager hands them to the filters.
fn request_headers(case: &Case) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !matches!(case.fate, Fate::Nameless) {
        headers.add(":authority", "shop");
    }
    headers.add(":path", case.fate.path());
    headers.add(":method", case.request.method());
    headers.add(":scheme", "http");
    if !case.script.is_empty() {
        headers.add("x-script", &case.script);
    }
    for (name, value) in &case.request.headers {
        headers.add(name, value);
    }
    // The codec takes `transfer-encoding: chunked` away from a request.
    if let Body::Whole(text) = case.request.body {
        headers.add("content-length", text.len().to_string());
    }
    if !matches!(case.fate, Fate::Nameless) {
        headers.add("x-forwarded-proto", "http");
    }
    headers
}

fn response_headers(response: &Response) -> HeaderMap {
    let mut headers = HeaderMap::from(&[(":status", response.status.to_string())]);
    for (name, value) in &response.headers {
        headers.add(name, value);
    }
    headers.add("date", "today");
    match response.body {
        // The codec takes the length away from a response that cannot have a body.
        Body::None if response.status == 204 => {}
        Body::None => headers.add("content-length", "0"),
        Body::Whole(text) => headers.add("content-length", text.len().to_string()),
        Body::Chunks(..) => headers.add("transfer-encoding", "chunked"),
    }
    headers
}

/// The pieces in which the HTTP/1 codec gives a body: the end comes after the last one, alone.
fn pieces(body: &Body) -> Vec<(&'static str, bool)> {
    let end = [("", true)];
    match body {
        Body::None => Vec::new(),
        Body::Whole(text) => [(*text, false)].into_iter().chain(end).collect(),
        Body::Chunks(chunks, []) => chunks.iter().map(|chunk| (*chunk, false)).chain(end).collect(),
        Body::Chunks(chunks, _) => chunks.iter().map(|chunk| (*chunk, false)).collect(),
    }
}

fn trailers(body: &Body) -> HeaderMap {
    match body {
        Body::Chunks(_, trailers) => HeaderMap::from_lines(trailers.iter().copied()),
        Body::None | Body::Whole(_) => HeaderMap::new(),
    }
}
