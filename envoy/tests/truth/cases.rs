//! The cases. The script of each is the text a request carries to the probe, see `host-tests/probe`.

use crate::model::{Body, Case, Fate, Request, Response};

/// What plugins log by themselves at the start: the case, the plugin, and whether the main thread,
/// with the canary, is compared too.
pub(crate) const AT_START: &[(&str, &str, bool)] = &[
    ("a root context at its start", "root", true),
    ("no configuration", "absent", true),
    ("a configuration of bytes", "bytes", true),
    ("a configuration as a struct", "struct", true),
    ("calls of a tick", "calls", false),
];

/// The end of the last line a plugin logs at the start.
pub(crate) fn last_at_start(plugin: &str) -> &'static str {
    match plugin {
        "calls" | "root" => "  level -> (0, 2)",
        _ => "",
    }
}

/// Attributes whose value is the same in every run.
const STABLE: &[&str] = &[
    "request/path",
    "request/url_path",
    "request/query",
    "request/host",
    "request/scheme",
    "request/method",
    "request/useragent",
    "request/referer",
    "request/id",
    "request/protocol",
    "request/size",
    "request/headers/x-one",
    "response/code",
    "response/code_details",
    "response/flags",
    "response/grpc_status",
    "response/size",
    "response/headers/x-up",
    "response/trailers/x-end",
    "connection/mtls",
    "connection/requested_server_name",
    "connection/tls_version",
    "connection/termination_details",
    "upstream/request_attempt_count",
    "upstream/transport_failure_reason",
    "xds/cluster_name",
    "xds/route_name",
    "xds/virtual_host_name",
    "xds/filter_chain_name",
    "xds/listener_direction",
    "xds/route_metadata",
    "xds/cluster_metadata",
    "plugin_name",
    "plugin_root_id",
    "plugin_vm_id",
    "node/id",
    "listener_direction",
    "cluster_name",
    "route_name",
    "request",
    "nothing",
];

/// Attributes of which only the form is the same.
const SHAPED: &[&str] = &[
    "request/time",
    "request/duration",
    "request/total_size",
    "request/headers_bytes",
    "response/total_size",
    "response/headers_bytes",
    "response/backend_latency",
    "connection/id",
    "connection_id",
    "source/address",
    "source/port",
    "destination/address",
    "destination/port",
    "upstream/address",
    "upstream/port",
    "upstream/local_address",
    "upstream/cx_pool_ready_duration",
];

/// Reads all attributes.
fn attributes() -> String {
    let stable = STABLE.iter().map(|path| format!("prop {path}; "));
    let shaped = SHAPED.iter().map(|path| format!("shape {path}; "));
    stable.chain(shaped).collect()
}

/// The attributes that tell how a stream ended, and the reply if there is one.
fn ending() -> String {
    const WHAT: &[&str] = &[
        "response/code",
        "response/code_details",
        "response/flags",
        "response/grpc_status",
        "response/size",
        "upstream/request_attempt_count",
        "upstream/transport_failure_reason",
        "xds/cluster_name",
        "xds/route_name",
        "connection/termination_details",
    ];
    let what: String = WHAT.iter().map(|path| format!("prop {path}; ")).collect();
    let shaped = "shape upstream/address; shape upstream/local_address; shape response/backend_latency; \
        shape request/duration; ";
    format!(
        "response_headers: pairs 2; {what} | response_body: buffer 1 0 200 | log: get 0 :path; get 2 :status; {what} {shaped} |"
    )
}

fn get(name: &'static str, script: impl Into<String>) -> Case {
    Case {
        name,
        listener: "main",
        script: script.into(),
        request: Request::default(),
        fate: Fate::Answer(fine()),
        last: "stream delete",
    }
}

fn post(name: &'static str, script: impl Into<String>, body: Body) -> Case {
    Case { request: Request { headers: Vec::new(), body }, ..get(name, script) }
}

fn ended(name: &'static str, fate: Fate) -> Case {
    Case { fate, ..get(name, ending()) }
}

/// What a filter of a cluster knows in each callback, the changes it makes, and that nothing is logged.
fn in_cluster(name: &'static str, fate: Fate) -> Case {
    const KNOWN: &str = "prop response/code; prop response/code_details; prop response/flags; shape upstream/address; \
        prop upstream/request_attempt_count; prop xds/cluster_name; prop xds/route_name; prop xds/listener_direction; \
        prop request/path; shape request/duration";
    let script = format!(
        "request_headers: {KNOWN}; pairs 0; add 0 x-mark 1 | response_headers: {KNOWN}; get 2 :status | \
        log: pairs 0 | done: {KNOWN}"
    );
    Case { listener: "attempt", fate, ..get(name, script) }
}

fn fine() -> Response {
    Response { status: 200, headers: vec![("x-up", b"one"), ("x-up", b"two")], body: Body::Whole("hello") }
}

fn grpc(status: &'static [(&'static str, &'static str)]) -> Response {
    Response {
        status: 200,
        headers: vec![("content-type", b"application/grpc")],
        body: Body::Chunks(&["message"], status),
    }
}

/// All cases but those of the start.
pub(crate) fn all() -> Vec<Case> {
    [
        callbacks(),
        header_maps(),
        properties(),
        endings(),
        bodies(),
        replies(),
        calls(),
        sharing(),
        the_rest(),
        failures(),
    ]
    .concat()
}

fn callbacks() -> Vec<Case> {
    vec![
        get("callbacks of a request without a body", ""),
        post("callbacks of a request with a body", "x: |", Body::Whole("question")),
        post(
            "callbacks of chunks and trailers",
            "request_trailers: pairs 1; get 1 x-end; add 1 x-more 2; pairs 1 |",
            Body::Chunks(&["abc", "defg"], &[("x-end", "1")]),
        ),
        Case {
            fate: Fate::Answer(Response { body: Body::Chunks(&["abc", "defg"], &[("x-end", "1")]), ..fine() }),
            ..get(
                "callbacks of response trailers",
                "response_trailers: pairs 3; pairs 2; replace 3 x-end 2; pairs 3 | log: pairs 3; prop response/trailers/x-end |",
            )
        },
        Case {
            listener: "first",
            last: "second stream delete",
            ..get("two filters in a chain", "request_headers: add 0 x-by me |")
        },
        Case {
            listener: "inbound",
            ..get("an inbound listener", "request_headers: prop xds/listener_direction; prop listener_direction |")
        },
        Case {
            fate: Fate::Upgrade,
            request: Request { headers: vec![("connection", b"upgrade"), ("upgrade", b"websocket")], body: Body::None },
            ..get(
                "a WebSocket",
                "request_headers: pairs 0 | response_headers: pairs 2 | request_body: buffer 0 0 9 | \
                 response_body: buffer 1 0 9 | log: prop response/code; prop response/flags; prop response/code_details |",
            )
        },
    ]
}

fn header_maps() -> Vec<Case> {
    let many = |name, script: &str| Case {
        request: Request {
            headers: vec![
                ("x-one", b"a"),
                ("X-Two", b""),
                ("x-one", b"b"),
                ("x-raw", b"\xff\xfe\xc3("),
                ("cookie", b"a=1"),
                ("cookie", b"b=2"),
            ],
            body: Body::None,
        },
        ..get(name, script)
    };
    vec![
        many(
            "reading headers",
            "request_headers: pairs 0; size 0; get 0 x-one; get 0 X-One; get 0 x-two; get 0 x-raw; get 0 x-none; get 0 ''; \
             get 0 cookie; prop request/headers/x-one; prop request/headers/x-raw; prop request/headers/cookie |",
        ),
        many(
            "adding headers",
            "request_headers: add 0 x-one c; add 0 x-new 1; add 0 x-new 2; add 0 x-raw %fe; add 0 x-empty ''; \
             add 0 X-Upper 1; add 0 user-agent one; add 0 user-agent two; pairs 0; get 0 x-new; get 0 user-agent |",
        ),
        many(
            "replacing headers",
            "request_headers: replace 0 x-one z; replace 0 x-new 1; replace 0 x-two 2; replace 0 x-raw ''; pairs 0 |",
        ),
        many("removing headers", "request_headers: remove 0 x-one; remove 0 x-none; remove 0 x-raw; pairs 0; size 0 |"),
        many(
            "setting all headers",
            "request_headers: set 0 :authority=shop,:path=/changed,:method=GET,:scheme=http,x-forwarded-proto=http,x-a=1,x-a=2; pairs 0; get 0 x-one; size 0 |",
        ),
        get(
            "changing the path",
            "request_headers: replace 0 :path /changed/now; prop request/path; prop request/url_path | log: prop request/path; prop xds/route_name |",
        ),
        get(
            "changing response headers",
            "response_headers: pairs 2; add 2 x-up three; replace 2 x-new 1; remove 2 x-none; get 2 x-up; \
             prop response/headers/x-up; replace 2 :status 201; pairs 2 | log: pairs 2; prop response/code |",
        ),
        get(
            "maps that are not open",
            "request_headers: pairs 1; pairs 2; pairs 3; pairs 4; pairs 6; get 1 x; get 2 x; get 6 x; add 1 x-n 1; \
             add 2 x-n 1; replace 2 x-n 1; remove 2 x-n; set 2 x-n=1; size 2; size 1; size 6 | \
             response_headers: pairs 0; get 0 :path; add 0 x-n 1; replace 0 x-n 1; remove 0 :path; pairs 3; size 0 |",
        ),
        get(
            "maps of unknown number",
            "request_headers: pairs 8; get 8 x; add 8 x 1; replace 8 x 1; remove 8 x; set 8 x=1; size 8; size 99 |",
        ),
        get(
            "the log phase reads and does not change",
            "log: get 0 :path; get 2 x-up; pairs 1; pairs 3; add 0 x-n 1; replace 0 x-n 1; remove 0 x-script; \
             set 0 x=1; add 2 x-n 1; pairs 0; size 0; size 2 |",
        ),
        get(
            "the end of a stream has no maps",
            "done: pairs 0; get 2 x-up; prop response/code | delete: pairs 0; prop request/path |",
        ),
    ]
}

fn properties() -> Vec<Case> {
    let asked = |name, at: &str| Case {
        request: Request {
            headers: vec![("x-one", b"a"), ("x-one", b"b"), ("user-agent", b"agent"), ("referer", b"ref")],
            body: Body::None,
        },
        ..get(name, format!("{at}: {} |", attributes()))
    };
    vec![
        asked("attributes in the request headers", "request_headers"),
        asked("attributes in the response headers", "response_headers"),
        asked("attributes in the response body", "response_body"),
        asked("attributes in the log", "log"),
        post(
            "sizes of a request with a body",
            "request_body: prop request/size; prop request/total_size | log: prop request/size; shape request/total_size |",
            Body::Chunks(&["abc", "de"], &[]),
        ),
        get(
            "properties that the module sets",
            "request_headers: prop mine; setprop mine one; prop mine; prop filter_state/wasm.mine; setprop mine two; \
             prop mine; setprop request/path /no; prop request/path; setprop a/b x; prop a/b | log: prop mine; setprop mine three; prop mine |",
        ),
        get(
            "paths that lead nowhere",
            "request_headers: prop ''; prop request/nothing; prop request/path/more; prop request/headers/x-one/more; prop xds; \
             prop xds/nothing; prop source; prop connection; prop upstream; prop response; prop metadata; \
             prop filter_state; prop filter_state/none; prop xds/node/metadata/NONE; prop %ff |",
        ),
    ]
}

fn endings() -> Vec<Case> {
    vec![
        ended("an upstream that refuses connections", Fate::Refused),
        ended("a cluster without hosts", Fate::NoHost),
        ended("no route", Fate::NoRoute),
        ended("no cluster", Fate::NoCluster),
        ended("an upstream that takes too long", Fate::Timeout),
        ended("an upstream that closes the connection", Fate::Reset),
        ended("a route that answers by itself", Fate::Direct),
        ended("a client that goes away", Fate::Abort),
        ended("a second attempt", Fate::Retry(fine())),
        in_cluster("attempts as a filter of the cluster sees them", Fate::Attempts(fine())),
        in_cluster("an attempt that is not answered in time", Fate::Unanswered),
        ended("a whole exchange", Fate::Answer(fine())),
        ended(
            "a response without a body",
            Fate::Answer(Response { status: 204, headers: vec![("x-up", b"1")], body: Body::None }),
        ),
        Case { listener: "earlier", script: String::new(), fate: Fate::Earlier, ..get("a filter before replied", "") },
        Case { script: String::new(), fate: Fate::Malformed, ..get("a request that cannot be parsed", "") },
        ended("a request without a host", Fate::Nameless),
        ended("a gRPC status in the trailers", Fate::Answer(grpc(&[("grpc-status", "5"), ("grpc-message", "none")]))),
        ended(
            "a gRPC status in the headers",
            Fate::Answer(Response {
                headers: vec![("content-type", b"application/grpc"), ("grpc-status", b"7")],
                body: Body::None,
                status: 200,
            }),
        ),
        ended("a server error", Fate::Answer(Response { status: 500, ..fine() })),
    ]
}

fn bodies() -> Vec<Case> {
    vec![
        post(
            "reading a body",
            "request_body: buffer 0 0 99; buffer 0 1 2; buffer 0 99 1; buffer 0 0 0; bufferstatus 0; bufferstatus 1; \
             buffer 1 0 9; bufferstatus 4; buffer 4 0 9; buffer 9 0 9; bufferstatus 9 |",
            Body::Whole("question"),
        ),
        post(
            "a request body that is held back",
            "request_body: buffer 0 0 99; return 1 | request_trailers: buffer 0 0 99 |",
            Body::Chunks(&["abc", "defg"], &[("x-end", "1")]),
        ),
        post(
            "replacing a body",
            "request_headers: remove 0 content-length | request_body: setbuffer 0 0 99 changed; buffer 0 0 99 |",
            Body::Whole("question"),
        ),
        post(
            "changing parts of a body",
            "request_headers: remove 0 content-length | request_body: setbuffer 0 0 0 before-; buffer 0 0 99; \
             setbuffer 0 7 3 MID; buffer 0 0 99; setbuffer 0 99 0 -after; buffer 0 0 99; setbuffer 1 0 1 x |",
            Body::Whole("question"),
        ),
        get(
            "changing a response body",
            "response_headers: remove 2 content-length | response_body: buffer 1 0 99; setbuffer 1 0 99 changed |",
        ),
        get(
            "bodies outside their callbacks",
            "request_headers: buffer 0 0 9; bufferstatus 0; setbuffer 0 0 1 x | log: buffer 0 0 9; buffer 1 0 9; bufferstatus 1 |",
        ),
    ]
}

fn replies() -> Vec<Case> {
    let reply = |name, script: &str| Case { fate: Fate::Probe, ..get(name, script) };
    let log = "log: prop response/code; prop response/code_details; prop response/flags; prop upstream/request_attempt_count; prop xds/cluster_name |";
    vec![
        reply(
            "a reply to the request headers",
            &format!(
                "request_headers: reply 403 no-entry denied x-why=closed,x-why=now; return 1 | response_headers: pairs 2 | {log}"
            ),
        ),
        reply(
            "a reply without anything",
            &format!("request_headers: reply 204 '' '' ''; return 1 | response_headers: pairs 2 | {log}"),
        ),
        reply("a reply although the filter goes on", &format!("request_headers: reply 401 d b ''; return 0 | {log}")),
        Case {
            request: Request { headers: Vec::new(), body: Body::Whole("question") },
            ..reply(
                "a reply to the request body",
                &format!("request_body: reply 413 large too-large ''; return 1 | response_headers: pairs 2 | {log}"),
            )
        },
        get(
            "a reply to the response headers",
            format!("response_headers: reply 502 bad broken x-why=bad; return 1 | {log}"),
        ),
    ]
}

fn calls() -> Vec<Case> {
    let called = |name, cluster: &str, path: &str, timeout: u32| {
        get(
            name,
            format!(
                "request_headers: call it {cluster} {path} {timeout}; return 1 | \
                 call_response: pairs 6; pairs 7; buffer 4 0 200; status; resume 0; add 0 x-late 1 |"
            ),
        )
    };
    let refused = |name, cluster: &str, path: &str| {
        get(name, format!("request_headers: call it {cluster} {path} 500; add 0 x-went on |"))
    };
    vec![
        called("a call that is answered", "up", "/answer", 1000),
        called("a call that is refused", "refused", "/answer", 1000),
        refused("a call to a cluster without hosts", "empty", "/answer"),
        called("a call whose connection closes", "up", "/close", 1000),
        called("a call that takes too long", "up", "/slow", 100),
        refused("a call to a cluster that does not exist", "nowhere", "/answer"),
        refused("a call without its headers", "up", "!"),
        Case {
            last: "  prop request/path -> 1 ",
            ..get(
                "an answer to a stream that is gone",
                "request_headers: call it up /late 2000 | call_response: get 6 :status; pairs 0; prop plugin_name; resume 0; prop request/path |",
            )
        },
        Case {
            last: "  prop plugin_name -> 0 main",
            ..get(
                "a call from the log",
                "log: call it up /late 2000 | call_response: get 6 :status; prop plugin_name |",
            )
        },
    ]
}

fn sharing() -> Vec<Case> {
    vec![
        get(
            "shared data",
            "request_headers: shared none; setshared key one 0; shared key; setshared key two last; shared key; \
             setshared key three 99999; shared key; setshared key four 0; shared key; setshared key '' 0; shared key; \
             setshared '' x 0; shared ''; setshared new x 7; shared new |",
        ),
        get(
            "shared queues",
            "request_headers: resolve main none; dequeue 999; enqueue x 999; register work; dequeue; enqueue one; enqueue two; \
             dequeue; dequeue; dequeue; resolve main work; resolve other work |",
        ),
        get(
            "metrics",
            "request_headers: define 0 c; increment 3; increment -1; increment 0; metric; record 9; metric; define 0 c; metric; \
             define 1 g; record 5; increment -2; metric; increment 4; metric; define 2 h; record 5; increment 1; metric; \
             define 9 x; metric 4000; increment 1 4000; record 1 4000; metric 4003; increment 1 4003 |",
        ),
    ]
}

fn the_rest() -> Vec<Case> {
    vec![
        get("foreign functions", "request_headers: foreign nothing x; foreign '' '' |"),
        get(
            "lists of attributes",
            "request_headers: evaluate [request.path,request.host,request.method]; evaluate [upstream.request_attempt_count]; \
             evaluate [response.code]; evaluate [nothing.x]; evaluate [request.path,request.x]; \
             foreign expr_evaluate %ff%ff%ff%7f; foreign expr_evaluate ab; foreign expr_delete %ff%ff%ff%7f | \
             log: evaluate [response.code_details,xds.route_name,xds.cluster_name,request.path,request.host]; \
             evaluate [response.code,upstream.request_attempt_count,connection.mtls]; evaluate [upstream.tls_version] |",
        ),
        get(
            "log levels",
            "request_headers: log 0 trace; log 1 debug; log 2 info; log 3 warn; log 4 error; log 5 critical; level |",
        ),
        get("time and status", "request_headers: time; status; env PATH; env HOME |"),
        get("contexts that do not exist", "request_headers: effective 99; done; continue 9; close 9 |"),
        get("a script of the plugin", ""),
    ]
    .into_iter()
    .map(|case| if case.name == "a script of the plugin" { Case { fate: Fate::NoRoute, ..case } } else { case })
    .collect()
}

fn failures() -> Vec<Case> {
    let trapped = |name, listener| Case {
        listener,
        last: "stream request_headers 6 1",
        fate: Fate::Answer(fine()),
        ..get(name, "request_headers: trap |")
    };
    let later = |name, listener| Case { listener, last: "", ..get(name, "request_headers: pairs 0 |") };
    vec![
        trapped("a trap with the policy closed", "closed"),
        later("after a trap with the policy closed", "closed"),
        trapped("a trap with the policy open", "open"),
        later("after a trap with the policy open", "open"),
        trapped("a trap with the policy reload", "reload"),
        later("after a trap with the policy reload", "reload"),
        trapped("a trap with the old fail_open", "legacy"),
        later("after a trap with the old fail_open", "legacy"),
    ]
}
