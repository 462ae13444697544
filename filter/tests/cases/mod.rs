//! The cases of this folder: a configuration, a request, and the tracing headers that the next hop shall see.
//!
//! They run twice: against the native core (`filter/tests/scenarios.rs`) and against the module that ships
//! (`host-tests/tests/scenarios.rs`), which both include this file. A case is a JSON object, of which every key is read:
//!
//! | Key | What |
//! |---|---|
//! | `name` | a sentence |
//! | `configuration` | as the operator writes it |
//! | `now_ms` | the clock, milliseconds since 1970 |
//! | `random` | what the worker draws, in hex |
//! | `request` | the header lines that come in |
//! | `upstream` | the tracing headers that go on, one line each; `newrelic` as the JSON inside |

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Where the cases are; the same from both packages.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../filter/tests/cases");

/// The headers that tracing may change.
const TRACING: [&str; 5] = ["traceparent", "tracestate", "newrelic", "x-newrelic-id", "x-newrelic-transaction"];

/// A header line.
pub(crate) type Line = (String, String);

/// One case.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) configuration: String,
    pub(crate) now_ns: u64,
    pub(crate) random: Vec<u8>,
    pub(crate) request: Vec<Line>,
    upstream: BTreeMap<String, Value>,
}

/// Every case, in the order of the file names.
pub(crate) fn all() -> Vec<Case> {
    let files = Path::new(FOLDER).read_dir().expect("the folder can be read");
    let paths = files.map(|file| file.expect("the folder can be read").path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    assert!(!paths.is_empty(), "{FOLDER} has no cases");
    paths.sort();
    let text = |path| std::fs::read_to_string(path).expect("a case can be read");
    paths.iter().map(|path| Case::read(&text(path)).unwrap_or_else(|why| panic!("{}: {why}", path.display()))).collect()
}

impl Case {
    /// Reads a case. The error names a key that is missing, has another shape, or that nobody reads.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut keys: Map<String, Value> = serde_json::from_str(text).map_err(|why| why.to_string())?;
        let shape = |key: &str| format!("{key}: another shape");
        let now_ms = take(&mut keys, "now_ms")?.as_u64().ok_or_else(|| shape("now_ms"))?;
        let random: Vec<String> = serde_json::from_value(take(&mut keys, "random")?).map_err(|_| shape("random"))?;
        let case = Self {
            name: serde_json::from_value(take(&mut keys, "name")?).map_err(|_| shape("name"))?,
            configuration: take(&mut keys, "configuration")?.to_string(),
            now_ns: now_ms * 1_000_000,
            random: hex(&random.concat()).ok_or_else(|| shape("random"))?,
            request: serde_json::from_value(take(&mut keys, "request")?).map_err(|_| shape("request"))?,
            upstream: serde_json::from_value(take(&mut keys, "upstream")?).map_err(|_| shape("upstream"))?,
        };
        let unread = keys.keys().chain(case.upstream.keys().filter(|name| !TRACING.contains(&name.as_str()))).next();
        unread.map_or(Ok(()), |key| Err(format!("{key}: nobody reads this key")))?;
        Ok(case)
    }

    /// Asserts that these lines go on: the tracing headers that the case names and no others, and of everything else
    /// what came in.
    pub(crate) fn check(&self, sent: &[Line]) {
        let is_tracing = |line: &&Line| TRACING.contains(&line.0.as_str());
        let others = |lines: &[Line]| lines.iter().filter(|line| !is_tracing(line)).cloned().collect::<Vec<_>>();
        assert_eq!(others(sent), others(&self.request), "{}", self.name);
        let tracing: Vec<_> = sent.iter().filter(is_tracing).map(|line| (line.0.clone(), readable(line))).collect();
        let found: BTreeMap<_, _> = tracing.iter().cloned().collect();
        assert_eq!(tracing.len(), found.len(), "{}: one line each, not {tracing:?}", self.name);
        assert_eq!(found, self.upstream, "{}", self.name);
    }
}

fn take(keys: &mut Map<String, Value>, key: &str) -> Result<Value, String> {
    keys.remove(key).ok_or_else(|| format!("{key}: missing"))
}

/// A line as a case writes it.
fn readable((name, value): &Line) -> Value {
    let payload = || serde_json::from_slice(&STANDARD.decode(value).ok()?).ok();
    if name == "newrelic" { payload().unwrap_or_default() } else { value.as_str().into() }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
