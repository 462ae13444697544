//! The operations of a script: each calls the host and tells what it answered.

use crate::state::{Call, state};
use crate::{abi, text};

/// Words of one operation.
struct Words<'a>(Vec<&'a str>);

impl Words<'_> {
    fn text(&self, at: usize) -> &str {
        self.0.get(at).copied().unwrap_or("")
    }
    fn bytes(&self, at: usize) -> Vec<u8> {
        text::bytes(self.text(at))
    }
    fn number<T: std::str::FromStr + Default>(&self, at: usize) -> T {
        self.text(at).parse().unwrap_or_default()
    }
    /// `name=value,name=value` from the word at `at`.
    fn pairs(&self, at: usize) -> Vec<u8> {
        let lines: Vec<(Vec<u8>, Vec<u8>)> = self
            .text(at)
            .split(',')
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (text::bytes(name), text::bytes(value)))
            .collect();
        let borrowed: Vec<(&[u8], &[u8])> = lines.iter().map(|(name, value)| (&**name, &**value)).collect();
        abi::pairs(&borrowed)
    }
}

/// What an operation asks of the callback that runs it.
pub(crate) enum Wish {
    /// Nothing but to log this.
    Said(String),
    /// To answer the host with this number.
    Return(u32),
}

/// Does one operation of a script for a context.
pub(crate) fn run(context: u32, script: &str, operation: &str) -> Wish {
    let words = Words(operation.split_whitespace().collect());
    let said = match words.text(0) {
        "return" => return Wish::Return(words.number(1)),
        "trap" => std::process::abort(),
        "get" | "pairs" | "size" | "add" | "replace" | "remove" | "set" => of_headers(&words),
        "prop" | "shape" | "setprop" => of_properties(&words),
        "buffer" | "bufferstatus" | "setbuffer" => of_buffers(&words),
        "call" | "grpc" | "status" | "resume" => of_calls(context, script, &words),
        "shared" | "setshared" | "register" | "resolve" | "enqueue" | "dequeue" => of_sharing(&words),
        "define" | "increment" | "record" | "metric" => of_metrics(&words),
        _ => of_the_rest(&words),
    };
    Wish::Said(said)
}

fn shown((status, bytes): abi::Bytes) -> String {
    format!("{status} {}", bytes.escape_ascii())
}

fn of_headers(words: &Words<'_>) -> String {
    let map = words.number(1);
    match words.text(0) {
        "get" => shown(abi::header(map, &words.bytes(2))),
        "pairs" => {
            let (status, form) = abi::header_pairs(map);
            if form.is_empty() { status.to_string() } else { format!("{status} {}", text::pairs(&form)) }
        }
        "size" => {
            let (status, size) = abi::header_size(map);
            format!("{status} {}", size > 0)
        }
        "add" => abi::add_header(map, &words.bytes(2), &words.bytes(3)).to_string(),
        "replace" => abi::replace_header(map, &words.bytes(2), &words.bytes(3)).to_string(),
        "remove" => abi::remove_header(map, &words.bytes(2)).to_string(),
        _ => abi::set_header_pairs(map, &words.pairs(2)).to_string(),
    }
}

fn of_properties(words: &Words<'_>) -> String {
    let path: Vec<u8> = words.bytes(1).iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect();
    match words.text(0) {
        "prop" => shown(abi::property(&path)),
        "shape" => {
            let (status, value) = abi::property(&path);
            format!("{status} {}", text::shape(&value))
        }
        _ => abi::set_property(&path, &words.bytes(2)).to_string(),
    }
}

fn of_buffers(words: &Words<'_>) -> String {
    let kind = words.number(1);
    match words.text(0) {
        "buffer" => shown(abi::buffer(kind, words.number(2), words.number(3))),
        "bufferstatus" => format!("{:?}", abi::buffer_status(kind)),
        _ => abi::set_buffer(kind, words.number(2), words.number(3), &words.bytes(4)).to_string(),
    }
}

/// `call <label> <cluster> <path> <timeout in ms>`; the label stands for the token, which may differ.
fn of_calls(context: u32, script: &str, words: &Words<'_>) -> String {
    let (status, token) = match words.text(0) {
        "status" => {
            let (status, code, message) = abi::status();
            return format!("{status} {code} {}", message.escape_ascii());
        }
        "resume" => {
            let caller = state().caller;
            let effective = abi::set_effective_context(caller);
            return format!("{effective} {}", abi::continue_stream(words.number(1)));
        }
        "grpc" => abi::grpc_call(&words.bytes(2), words.number(3)),
        _ => {
            let path = words.bytes(3);
            let headers: [(&[u8], &[u8]); 3] = [(b":method", b"POST"), (b":path", &path), (b":authority", b"callee")];
            // A path that begins with `!` stands for a call without the headers every call must have.
            let lines = if path.starts_with(b"!") { &headers[..1] } else { &headers };
            abi::http_call(&words.bytes(2), &abi::pairs(lines), b"question", words.number(4))
        }
    };
    let call = Call { label: words.text(1).to_owned(), context, script: script.to_owned() };
    state().calls.insert(u32::try_from(token).unwrap_or_default(), call);
    status.to_string()
}

fn of_sharing(words: &Words<'_>) -> String {
    match words.text(0) {
        "shared" => {
            let (status, value, cas) = abi::shared(&words.bytes(1));
            let before = std::mem::replace(&mut state().cas, cas);
            let known = if cas == 0 {
                "none"
            } else if cas == before {
                "same"
            } else {
                "new"
            };
            format!("{status} {} {known}", value.escape_ascii())
        }
        "setshared" => {
            let cas = if words.text(3) == "last" { state().cas } else { words.number(3) };
            abi::set_shared(&words.bytes(1), &words.bytes(2), cas).to_string()
        }
        "register" => queue(abi::register_queue(&words.bytes(1))),
        "resolve" => queue(abi::resolve_queue(&words.bytes(1), &words.bytes(2))),
        // A number that no queue has can be named; without one it is the latest queue.
        "enqueue" => abi::enqueue(words.text(2).parse().unwrap_or_else(|_| state_queue()), &words.bytes(1)).to_string(),
        _ => shown(abi::dequeue(words.text(1).parse().unwrap_or_else(|_| state_queue()))),
    }
}

fn queue((status, queue): abi::Number) -> String {
    if status == 0 {
        state().queue = u32::try_from(queue).unwrap_or_default();
    }
    status.to_string()
}

fn state_queue() -> u32 {
    state().queue
}

fn of_metrics(words: &Words<'_>) -> String {
    let latest = state().metric;
    match words.text(0) {
        "define" => {
            let (status, id) = abi::define_metric(words.number(1), &words.bytes(2));
            state().metric = u32::try_from(id).unwrap_or_default();
            status.to_string()
        }
        "increment" => abi::increment_metric(words.text(2).parse().unwrap_or(latest), words.number(1)).to_string(),
        "record" => abi::record_metric(words.text(2).parse().unwrap_or(latest), words.number(1)).to_string(),
        _ => format!("{:?}", abi::metric(words.text(1).parse().unwrap_or(latest))),
    }
}

fn of_the_rest(words: &Words<'_>) -> String {
    match words.text(0) {
        "foreign" => shown(abi::foreign(&words.bytes(1), &words.bytes(2))),
        "evaluate" => shown(evaluate(&words.bytes(1))),
        "reply" => {
            let grpc = words.text(5).parse().unwrap_or(-1);
            let headers = words.pairs(4);
            abi::local_response(words.number(1), &words.bytes(2), &words.bytes(3), &headers, grpc).to_string()
        }
        "continue" => abi::continue_stream(words.number(1)).to_string(),
        "close" => abi::close_stream(words.number(1)).to_string(),
        "effective" => abi::set_effective_context(words.number(1)).to_string(),
        "tick" => abi::set_tick_period(words.number(1)).to_string(),
        "done" => abi::done().to_string(),
        "level" => format!("{:?}", abi::log_level()),
        "log" => abi::log(words.number(1), words.text(2).as_bytes()).to_string(),
        "env" => format!("{:?}", std::env::var(words.text(1)).ok()),
        "time" => {
            let (status, now_ns) = abi::time_ns();
            // The system clock is asked through WASI; both show the same moment.
            let system = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
            format!("{status} {}", u128::from(now_ns).abs_diff(system) < 60_000_000_000)
        }
        unknown => format!("no such operation: {unknown}"),
    }
}

/// The value of an expression, which the host then forgets: its numbers depend on what ran before.
fn evaluate(expression: &[u8]) -> abi::Bytes {
    let (status, token) = abi::foreign(b"expr_create", expression);
    if status != 0 {
        return (status, token);
    }
    let value = abi::foreign(b"expr_evaluate", &token);
    abi::foreign(b"expr_delete", &token);
    value
}
