//! A proxy with the filter in the mode of Cross Application Tracing, and how to read what it did.

use std::sync::OnceLock;
use std::time::Duration;

use host_tests::{Envoy, Exchange, HeaderMap, Module, Plugin, Result, Thread, guest};

pub(crate) use crate::obfuscation::{decode, encode};

/// The key of all applications here.
pub(crate) const KEY: &str = "f00dcafe1234";
/// The filter's transaction guid, once [`SCRIPT`] is its first random bytes.
pub(crate) const GUID: &str = "1122334455667788";
/// The id of the caller here: the storefront.
pub(crate) const CALLER: &str = "4002#55";
/// The transaction of the caller.
pub(crate) const CALLER_TRANSACTION: &str = r#"["9f8e7d6c5b4a3921",false,"9f8e7d6c5b4a3921","fffeef37"]"#;
/// When the proxy starts.
pub(crate) const START_NS: u64 = 1_750_000_000_250_000_000;

pub(crate) const ID: &str = "x-newrelic-id";
pub(crate) const TRANSACTION: &str = "x-newrelic-transaction";
pub(crate) const APP_DATA: &str = "x-newrelic-app-data";

/// Random bytes of the first request: the trace id that nobody asked for, then the transaction guid.
const SCRIPT: [u8; 24] = [
    0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0x11, 0x22, 0x33,
    0x44, 0x55, 0x66, 0x77, 0x88,
];

/// The attributes of a Transaction record that belong to Cross Application Tracing.
const INTRINSICS: [&str; 7] = [
    "nr.guid",
    "nr.tripId",
    "nr.pathHash",
    "nr.referringPathHash",
    "nr.referringTransactionGuid",
    "nr.alternatePathHashes",
    "client_cross_process_id",
];

fn module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| guest::module("newrelic-tracing").expect("the module builds"))
}

/// The configuration of one proxy. It is the inventory unless told otherwise.
pub(crate) struct Setup {
    role: &'static str,
    app_name: &'static str,
    cross_process_id: &'static str,
    encoding_key: String,
    distributed: bool,
    cross_application: bool,
    more: String,
    script: [u8; 24],
    workers: usize,
}

impl Setup {
    pub(crate) fn new(role: &'static str) -> Self {
        Self {
            role,
            app_name: "inventory",
            cross_process_id: "4001#90210",
            encoding_key: format!(r#"{{"value":"{KEY}"}}"#),
            distributed: false,
            cross_application: true,
            more: String::new(),
            script: SCRIPT,
            workers: 1,
        }
    }

    pub(crate) fn application(self, cross_process_id: &'static str, app_name: &'static str) -> Self {
        Self { cross_process_id, app_name, ..self }
    }

    /// The encoding key as JSON.
    pub(crate) fn encoding_key(self, json: &str) -> Self {
        Self { encoding_key: json.to_owned(), ..self }
    }

    /// Which of the two mechanisms are switched on.
    pub(crate) fn mechanisms(self, distributed: bool, cross_application: bool) -> Self {
        Self { distributed, cross_application, ..self }
    }

    /// Further members of the configuration, as JSON.
    pub(crate) fn with(mut self, member: &str) -> Self {
        self.more.push(',');
        self.more.push_str(member);
        self
    }

    /// Names every transaction.
    pub(crate) fn transaction_name(self, name: &str) -> Self {
        self.with(&format!(r#""transaction_name":{{"rules":[{{"path":"*","name":"{name}"}}]}}"#))
    }

    pub(crate) fn guid(mut self, guid: u64) -> Self {
        self.script[16..].copy_from_slice(&guid.to_be_bytes());
        self
    }

    pub(crate) fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    fn configuration(&self) -> String {
        format!(
            r#"{{"role":"{}","app_name":"{}","distributed_tracing":{{"enabled":{}}},"cross_application_tracer":{{
                "enabled":{},"cross_process_id":"{}","encoding_key":{},"trusted_account_ids":["4001","4002"]}}{}}}"#,
            self.role,
            self.app_name,
            self.distributed,
            self.cross_application,
            self.cross_process_id,
            self.encoding_key,
            self.more
        )
    }

    pub(crate) fn plugin(&self) -> Plugin {
        Plugin::new("tracing").configuration(self.configuration())
    }

    pub(crate) fn start(self) -> Result<Envoy> {
        let plugin = self.plugin();
        self.start_with(plugin)
    }

    pub(crate) fn start_with(self, plugin: Plugin) -> Result<Envoy> {
        let builder = Envoy::builder(module()).plugin(plugin).workers(self.workers).clock_ns(START_NS);
        builder.random(Thread::Worker(0), self.script).start()
    }
}

/// A request for the stock with these header lines besides.
pub(crate) fn request(lines: &[(&str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::from(&[
        (":method", "GET"),
        (":path", "/stock"),
        (":authority", "inventory.test"),
        (":scheme", "http"),
    ]);
    lines.iter().for_each(|(name, value)| headers.add(name, value));
    headers
}

/// A response with these header lines besides.
pub(crate) fn response(lines: &[(&str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::from(&[(":status", "200")]);
    lines.iter().for_each(|(name, value)| headers.add(name, value));
    headers
}

/// A request of the caller, as its agent writes it.
pub(crate) fn call() -> HeaderMap {
    call_of(CALLER, Some(CALLER_TRANSACTION))
}

/// A request with these two headers; the texts are obfuscated here.
pub(crate) fn call_of(id: &str, transaction: Option<&str>) -> HeaderMap {
    let mut headers = request(&[(ID, encode(id, KEY).as_bytes())]);
    if let Some(transaction) = transaction {
        headers.add(TRANSACTION, encode(transaction, KEY));
    }
    headers
}

/// One exchange with a proxy made for it.
pub(crate) fn exchange(
    setup: Setup,
    request: impl Into<HeaderMap>,
    response: impl Into<HeaderMap>,
) -> Result<(Envoy, Exchange)> {
    let mut envoy = setup.start()?;
    let exchange = envoy.stream().exchange(request, response)?;
    Ok((envoy, exchange))
}

/// A header's only value without its obfuscation; `None` when there is no line.
pub(crate) fn plain(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.all(name);
    assert!(lines.len() < 2, "{name} is there more than once: {headers:?}");
    lines.first().map(|value| decode(value, KEY))
}

/// The objects of the Transaction records in the log.
pub(crate) fn transactions(envoy: &Envoy) -> Vec<String> {
    records(envoy, "transaction ")
}

/// The objects of the spans in the log.
pub(crate) fn spans(envoy: &Envoy) -> Vec<String> {
    records(envoy, "span ")
}

fn records(envoy: &Envoy, kind: &str) -> Vec<String> {
    envoy.logs().iter().filter_map(|line| line.message.strip_prefix(kind)).map(str::to_owned).collect()
}

/// The only Transaction record in the log.
pub(crate) fn transaction(envoy: &Envoy) -> String {
    let mut records = transactions(envoy);
    assert_eq!(records.len(), 1, "{records:?}\n{}", envoy.transcript());
    records.remove(0)
}

/// The text of a member of a record.
pub(crate) fn text(record: &str, name: &str) -> Option<String> {
    let record: serde_json::Value = serde_json::from_str(record).expect("a record is JSON");
    Some(record.get(name)?.as_str().expect("the member is a text").to_owned())
}

/// What a Transaction record holds of Cross Application Tracing, as `name=value`.
pub(crate) fn intrinsics(record: &str) -> Vec<String> {
    INTRINSICS.iter().filter_map(|name| Some(format!("{name}={}", text(record, name)?))).collect()
}

/// The statistics of Cross Application Tracing, published, with their values in milliseconds.
pub(crate) fn statistics(envoy: &mut Envoy, names: &[&str]) -> Result<Vec<Option<Vec<u64>>>> {
    tick(envoy)?;
    Ok(names.iter().map(|name| envoy.histogram(name)).collect())
}

/// Lets the filter publish its statistics.
pub(crate) fn tick(envoy: &mut Envoy) -> Result<()> {
    envoy.advance(Duration::from_secs(2))
}

/// Whether the filter defined any statistic whose name begins so.
pub(crate) fn has_statistic(envoy: &Envoy, prefix: &str) -> bool {
    let calls = envoy.callbacks().into_iter().flat_map(|callback| callback.host_calls);
    let mut defined = calls.filter(|call| call.name == "proxy_define_metric").map(|call| call.about);
    defined.any(|name| name.starts_with(prefix))
}
