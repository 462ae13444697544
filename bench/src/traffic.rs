//! The requests of the load: a mix of callers, paths and outcomes as an ordinary shop has it.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::variant::Caller;

/// Requests that differ, each in a trace of its own.
const REQUESTS: u64 = 1000;
/// The header lines of the usual mix.
pub const HEADERS: u32 = 12;
/// Ends a request in the file for the load generator.
const END: u8 = 30;

const HOSTS: [&str; 4] = ["shop.example", "api.shop.example", "m.shop.example", "partner.example:8443"];
const USER_AGENTS: [&str; 5] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5",
    "okhttp/4.12.0",
    "Go-http-client/1.1",
    "python-requests/2.32.3",
];

/// A random number generator (splitmix64): the same mix in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let len = from.len() as u64;
        usize::try_from(self.next() % len).ok().and_then(|at| from.get(at).copied()).unwrap_or_default()
    }
}

/// The answers of the application as Envoy's routes: most succeed, some do not.
pub fn answers() -> Value {
    let answer = |prefix: &str, status: u16, body: &str| {
        json!({
            "match": { "prefix": prefix },
            "direct_response": { "status": status, "body": { "inline_string": body } },
        })
    };
    json!([
        answer("/api/v1/orders", 201, r#"{"order":"b6b1f6c2","state":"accepted"}"#),
        answer("/api/v1/profiles/", 404, r#"{"error":"no such profile"}"#),
        answer("/api/v1/payments", 503, r#"{"error":"try again later"}"#),
        answer("/", 200, r#"{"items":[{"id":17,"name":"kettle","price":"24.90"}],"next":null}"#),
    ])
}

/// The file for the load generator: whole requests, each followed by the byte 30.
pub fn file(caller: Caller, headers: u32) -> Vec<u8> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() * 1000);
    let mut random = Random(7);
    let mut file = Vec::new();
    for number in 0..REQUESTS {
        file.extend_from_slice(request(&mut random, number, caller, headers, now_ms).as_bytes());
        file.push(END);
    }
    file
}

/// 1 % fail, 4 % do not find, 10 % are orders, the rest reads.
fn line(random: &mut Random, number: u64) -> (&'static str, String) {
    match number % 100 {
        0 => ("POST", "/api/v1/payments".to_owned()),
        1..5 => ("GET", format!("/api/v1/profiles/{}", random.next() % 5000)),
        5..15 => ("POST", "/api/v1/orders?source=web".to_owned()),
        15..45 => ("GET", format!("/api/v1/products/{}", random.next() % 800)),
        45..70 => ("GET", "/api/v1/products?category=kitchen&page=2".to_owned()),
        70..90 => ("GET", format!("/api/v1/carts/{:08x}", random.next() % 0xffff_ffff)),
        _ => ("GET", "/".to_owned()),
    }
}

fn request(random: &mut Random, number: u64, caller: Caller, headers: u32, now_ms: u64) -> String {
    let (method, path) = line(random, number);
    let mut lines = vec![
        format!("host: {}", random.pick(&HOSTS)),
        format!("user-agent: {}", random.pick(&USER_AGENTS)),
        "accept: application/json, text/plain, */*".to_owned(),
    ];
    lines.extend(tracing(random, caller, now_ms));
    lines.extend([
        "accept-encoding: gzip, deflate, br".to_owned(),
        "accept-language: en-GB,en;q=0.9,de;q=0.7".to_owned(),
        format!("cookie: session={:016x}{:016x}; consent=1; ab=b17", random.next(), random.next()),
        format!("referer: https://shop.example/c/{}", random.next() % 40),
        "content-type: application/json".to_owned(),
        "cache-control: no-cache".to_owned(),
    ]);
    // A proxied request without a length, and with a method that has bodies, would wait for its body.
    lines.extend((0..).map(|extra| format!("x-shop-option-{extra}: {:016x}", number + extra)).take(1000));
    lines.truncate(headers as usize);
    if method == "POST" {
        lines.push("content-length: 0".to_owned());
    }
    format!("{method} {path} HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"))
}

/// The three headers that an instrumented caller sends, or others in their place.
fn tracing(random: &mut Random, caller: Caller, now_ms: u64) -> [String; 3] {
    let (trace_id, span_id, transaction_id) =
        (format!("{:016x}{:016x}", random.next(), random.next()), random.next(), random.next());
    let sampled = caller == Caller::Sampled;
    let (flag, priority) = if sampled { (1, 1.0 + unit(random)) } else { (0, unit(random)) };
    let payload = json!({ "v": [0, 1], "d": {
        "ty": "App", "ac": "4001", "ap": "502", "id": format!("{span_id:016x}"), "tr": trace_id,
        "tx": format!("{transaction_id:016x}"), "pr": priority, "sa": sampled, "ti": now_ms,
    } });
    if caller == Caller::Nothing {
        // As many lines of the same length, since Envoy alone gets the others.
        let text = STANDARD.encode(payload.to_string());
        return [
            format!("x-shop-visit: 00.{trace_id}.{span_id:016x}.00"),
            format!("x-shop-user: {}", text.chars().take(100).collect::<String>()),
            format!("x-shop-options: {text}"),
        ];
    }
    [
        format!("traceparent: 00-{trace_id}-{span_id:016x}-0{flag}"),
        format!(
            "tracestate: 4001@nr=0-0-4001-502-{span_id:016x}-{transaction_id:016x}-{flag}-{priority:.6}-{now_ms},\
             vendor=7:{:016x}",
            random.next()
        ),
        format!("newrelic: {}", STANDARD.encode(payload.to_string())),
    ]
}

/// A number from 0 to 1 with six digits.
fn unit(random: &mut Random) -> f64 {
    (random.next() % 1_000_000) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn requests(caller: Caller, headers: u32) -> Vec<String> {
        let text = String::from_utf8(file(caller, headers)).unwrap();
        text.split(char::from(END)).filter(|request| !request.is_empty()).map(str::to_owned).collect()
    }

    fn value<'a>(request: &'a str, name: &str) -> &'a str {
        let lines = request.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(line, _)| *line == name).unwrap_or_else(|| panic!("{name} in {request}")).1
    }

    #[test]
    fn every_request_is_whole_and_has_a_trace_of_its_own() {
        let requests = requests(Caller::Sampled, HEADERS);
        let traces: HashSet<&str> = requests.iter().map(|request| value(request, "traceparent")).collect();
        assert_eq!((requests.len(), traces.len()), (1000, 1000));
        for request in &requests {
            assert!(request.contains(" HTTP/1.1\r\n") && request.ends_with("\r\n\r\n"), "{request}");
        }
    }

    #[test]
    fn a_caller_that_decides_nothing_sends_other_headers_of_about_the_same_size() {
        let bytes = |caller| requests(caller, HEADERS).concat().len();
        for request in requests(Caller::Nothing, HEADERS) {
            let lower = request.to_lowercase();
            assert!(["traceparent", "tracestate", "newrelic"].iter().all(|name| !lower.contains(name)), "{request}");
        }
        let (nothing, sampled) = (bytes(Caller::Nothing), bytes(Caller::Sampled));
        assert!(nothing.abs_diff(sampled) < sampled / 50, "{nothing} bytes instead of {sampled}");
    }

    #[test]
    fn all_three_headers_tell_the_same_decision() {
        for (caller, flag, sampled) in [(Caller::Sampled, "-01", true), (Caller::NotSampled, "-00", false)] {
            for request in requests(caller, HEADERS) {
                assert!(value(&request, "traceparent").ends_with(flag), "{request}");
                let entry = value(&request, "tracestate").split(',').next().unwrap();
                assert_eq!(entry.split('-').nth(6), Some(if sampled { "1" } else { "0" }), "{request}");
                let payload = STANDARD.decode(value(&request, "newrelic")).unwrap();
                let payload: Value = serde_json::from_slice(&payload).unwrap();
                assert_eq!(payload["d"]["sa"], json!(sampled), "{request}");
            }
        }
    }

    #[test]
    fn the_number_of_header_lines_is_as_wished_and_includes_the_tracing_headers() {
        for headers in [6, HEADERS, 40] {
            for request in requests(Caller::Sampled, headers) {
                let lines = request.lines().filter(|line| line.contains(": ") && !line.starts_with("content-length"));
                assert_eq!(lines.count(), headers as usize, "{request}");
                value(&request, "newrelic");
            }
        }
    }
}
