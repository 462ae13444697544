//! A worker with exporters, a clock that the test moves, and a host that the test answers for.

use newrelic_tracing::config::{
    AttributeFilter, Config, DistributedTracing, Exporters as ExporterSettings, HttpExporter, PartialType, Retry,
    RoleSetting, SamplerKind, SamplerSections, SamplerSettings, Secret, SpanEvents, SpanLimit, StatusCodes,
    TransactionEvents, TrustInbound,
};
use newrelic_tracing::export::common::Common;
use newrelic_tracing::export::ledger::Kind;
use newrelic_tracing::export::response::Response;
use newrelic_tracing::export::{BudgetRequest, Destination, Exporters, Refusal};
use newrelic_tracing::id::{SpanId, TraceId, TraceIdentity};
use newrelic_tracing::newrelic::priority::Priority;
use newrelic_tracing::record::{
    Attribute, Name, Origin, OtlpStatus, SpanKind, SpanRecord, TransactionRecord, Value, keys,
};
use newrelic_tracing::stats::{Counter, Gauge, Stats};

pub(crate) const SECOND: u64 = 1_000_000_000;
/// 2026-01-01, when every test begins.
pub(crate) const START: u64 = 1_767_225_600 * SECOND;

/// The defaults of an exporter, with the receiver `receiver.test`.
pub(crate) fn http() -> HttpExporter {
    HttpExporter {
        cluster: "receiver".into(),
        host: "receiver.test".into(),
        path: "/v1/x".into(),
        headers: vec![("api-key".into(), Secret::new("hunter2"))],
        flush_interval_ms: 5000,
        timeout_ms: 10_000,
        gzip: false,
        max_queue_bytes: 4 << 20,
        retry: Retry { factor_ms: 5000, max_ms: 80_000, attempts: 8 },
    }
}

/// Everything on, without an exporter.
pub(crate) fn config() -> Config {
    let sections = SamplerSections {
        root: SamplerKind::AdaptiveShared,
        remote_parent_sampled: SamplerKind::AdaptiveShared,
        remote_parent_not_sampled: SamplerKind::AdaptiveShared,
    };
    Config {
        account: None,
        app_name: None,
        role: RoleSetting::Auto,
        trust_inbound: TrustInbound::Always,
        distributed_tracing: DistributedTracing {
            enabled: true,
            exclude_newrelic_header: false,
            tracestate_span_id: false,
            propagate_random_flag: false,
            sampler: SamplerSettings {
                adaptive_sampling_target: 10,
                full: Some(sections),
                partial: Some((PartialType::Essential, sections)),
            },
        },
        span_events: SpanEvents {
            enabled: true,
            max_samples_stored: SpanLimit::PerMinute(2000),
            attributes: AttributeFilter::default(),
            request_headers: Vec::new(),
            custom_attributes: Vec::new(),
        },
        transaction_events: TransactionEvents { enabled: true, max_samples_stored: 1200 },
        ignore_status_codes: StatusCodes::default(),
        transaction_name_rules: Vec::new(),
        exclude: Vec::new(),
        datastores: Vec::new(),
        local_decorating: false,
        infinite_tracing: None,
        cross_application_tracing: None,
        exporters: ExporterSettings::default(),
        warnings: Vec::new(),
    }
}

/// Spans to the Trace API.
pub(crate) fn trace_api(http: HttpExporter) -> Config {
    Config { exporters: ExporterSettings { trace_api: Some(http), ..ExporterSettings::default() }, ..config() }
}

/// Spans to the Trace API, without a reservoir.
pub(crate) fn unlimited(http: HttpExporter) -> Config {
    let mut config = trace_api(http);
    config.span_events.max_samples_stored = SpanLimit::Unlimited;
    config
}

/// Transactions to the Event API.
pub(crate) fn event_api(http: HttpExporter) -> Config {
    Config { exporters: ExporterSettings { event_api: Some(http), ..ExporterSettings::default() }, ..config() }
}

pub(crate) fn common() -> Common {
    Common { service_name: "edge-proxy".into(), host: Some("proxy-1".into()), ..Common::default() }
}

/// A request as the host got it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) call_id: u32,
    pub(crate) exporter: Destination,
    pub(crate) cluster: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) timeout_ms: u32,
    /// When it was made, nanoseconds since the start of the test.
    pub(crate) at: u64,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.iter().filter(|(found, _)| found == name);
        let line = lines.next().map(|(_, value)| std::str::from_utf8(value).unwrap());
        assert_eq!(lines.next(), None, "{name} is there twice");
        line
    }

    pub(crate) fn request_id(&self) -> &str {
        self.header("x-request-id").unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The ids of the spans in a Trace API body, or the guids in an Event API body.
    pub(crate) fn ids(&self) -> Vec<String> {
        let body = self.json();
        let (records, key) = match body[0].get("spans") {
            Some(spans) => (spans.as_array().unwrap(), "id"),
            None => (body.as_array().unwrap(), "guid"),
        };
        records.iter().map(|record| record[key].as_str().unwrap().to_owned()).collect()
    }
}

/// One worker.
pub(crate) struct Worker {
    pub(crate) exporters: Exporters,
    pub(crate) stats: Stats,
    pub(crate) now: u64,
    pub(crate) log: Vec<String>,
    /// What the process's budget gives; `None` when the host has no shared data.
    pub(crate) budget: fn(&BudgetRequest) -> Option<u32>,
    pub(crate) random: u128,
    next_call: u32,
    next_span: u64,
}

impl Worker {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            exporters: Exporters::new(config, &common(), START),
            stats: Stats::default(),
            now: START,
            log: Vec::new(),
            budget: |request| Some(request.records),
            random: 0,
            next_call: 0,
            next_span: 0,
        }
    }

    /// Offers spans that differ in their ids alone, and returns their ids.
    pub(crate) fn offer(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.offer_span(Span::default())).collect()
    }

    pub(crate) fn offer_span(&mut self, span: Span) -> String {
        self.next_span += 1;
        let id = SpanId::from_u64(self.next_span).unwrap();
        let trace = TraceIdentity::from(TraceId::from_u128(7).unwrap());
        let url = vec![b'u'; span.url_bytes];
        let attributes = [
            Attribute { name: Name::Known(&keys::SPAN_KIND), value: Value::Text(b"client") },
            Attribute { name: Name::Known(&keys::HTTP_URL), value: Value::Text(&url) },
        ];
        let record = SpanRecord {
            kind: SpanKind::Client,
            trace: &trace,
            span_id: id,
            parent: None,
            name: b"External/a/envoy/GET",
            otlp_name: b"GET",
            start_ns: self.now,
            duration_ns: 1_000_000,
            priority: span.priority,
            sampled: span.sampled,
            origin: Origin::Local,
            otlp_status: OtlpStatus::Unset,
            trace_state: b"",
            attributes: &attributes,
        };
        if span.sampled {
            self.claim_for_log(Kind::Spans);
        }
        let line = self.exporters.offer_span(&record, &mut self.stats);
        let line = line.map(|line| String::from_utf8(line.text.to_vec()).unwrap());
        self.log.extend(line);
        self.check();
        String::from_utf8(id.to_hex().to_vec()).unwrap()
    }

    pub(crate) fn offer_transaction(&mut self, priority: Priority) -> String {
        self.next_span += 1;
        let id = SpanId::from_u64(self.next_span).unwrap().to_hex();
        let attributes = [Attribute { name: Name::Known(&keys::GUID), value: Value::Text(&id) }];
        let record = TransactionRecord {
            name: b"WebTransaction/Envoy/GET /",
            start_ns: self.now,
            duration_ns: 1_000_000,
            priority,
            origin: Origin::Local,
            attributes: &attributes,
        };
        self.claim_for_log(Kind::Transactions);
        let line = self.exporters.offer_transaction(&record, &mut self.stats);
        let line = line.map(|line| String::from_utf8(line.text.to_vec()).unwrap());
        self.log.extend(line);
        self.check();
        String::from_utf8(id.to_vec()).unwrap()
    }

    /// What the host does before it offers a record.
    fn claim_for_log(&mut self, kind: Kind) {
        if let Some(request) = self.exporters.log_budget_request(kind, self.now) {
            let granted = (self.budget)(&request);
            self.exporters.grant(&request, granted, self.now, &mut self.stats);
        }
    }

    /// What the host does on a tick: flushes, and makes every call there is.
    pub(crate) fn tick(&mut self) -> Vec<Call> {
        self.tick_with(|_| None)
    }

    /// A tick on which the host refuses some calls.
    pub(crate) fn tick_with(&mut self, refuse: impl Fn(&Call) -> Option<Refusal>) -> Vec<Call> {
        let mut calls = Vec::new();
        while let Some(request) = self.exporters.budget_request(self.now) {
            let granted = (self.budget)(&request);
            self.exporters.grant(&request, granted, self.now, &mut self.stats);
            self.check();
        }
        while let Some((call, token)) = self.next_call() {
            match refuse(&call) {
                Some(refusal) => self.exporters.refused(token, refusal, self.now, &mut self.stats),
                None => {
                    self.exporters.sent(token, call.call_id, &mut self.stats);
                    calls.push(call);
                }
            }
            self.check();
        }
        self.read_lines();
        calls
    }

    fn next_call(&mut self) -> Option<(Call, newrelic_tracing::export::RequestToken)> {
        let at = self.now - START;
        // Another number for every request, as a host's generator gives.
        let random = self.random ^ (u128::from(self.next_call) << 64);
        let request = self.exporters.next_request(self.now, random, &mut self.stats)?;
        assert!(request.body.len() <= 256 * 1024, "{} bytes", request.body.len());
        let headers = request.headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec()));
        let call = Call {
            call_id: self.next_call,
            exporter: request.token.exporter(),
            cluster: request.cluster.to_owned(),
            headers: headers.collect(),
            body: request.body.to_vec(),
            timeout_ms: request.timeout_ms,
            at,
        };
        self.next_call += 1;
        Some((call, request.token))
    }

    /// A flush interval passes, and a tick comes.
    pub(crate) fn flush(&mut self) -> Vec<Call> {
        self.now += 5 * SECOND;
        self.tick()
    }

    pub(crate) fn answer(&mut self, call: &Call, headers: &[(&str, &str)]) {
        let response = response(headers);
        assert!(self.exporters.answered(call.call_id, &response, self.now, &mut self.stats));
        self.check();
        self.read_lines();
    }

    /// An answer of the receiver itself.
    pub(crate) fn answer_status(&mut self, call: &Call, status: u16) {
        self.answer(call, &[(":status", &status.to_string()), ("server", "receiver")]);
    }

    /// Answers every call at once, moving the clock to each next step, until nothing is left to do. Returns all calls.
    pub(crate) fn drain(&mut self, mut status: impl FnMut(&Call) -> u16) -> Vec<Call> {
        let mut all = Vec::new();
        while let Some(wakeup) = self.exporters.next_wakeup_ns() {
            self.now = self.now.max(wakeup);
            for call in self.tick() {
                let status = status(&call);
                self.answer_status(&call, status);
                all.push(call);
            }
        }
        all
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.stats.pending(counter)
    }

    pub(crate) fn named(&self, name: &str) -> u64 {
        self.stats.pending_named(name)
    }

    /// Log lines since the last time.
    pub(crate) fn take_log(&mut self) -> Vec<String> {
        self.read_lines();
        std::mem::take(&mut self.log)
    }

    pub(crate) fn read_lines(&mut self) {
        let lines = self.exporters.take_lines();
        self.log.extend(lines.into_iter().map(|line| format!("{:?} {}", line.level, line.text)));
    }

    /// What was recorded was exported, dropped, or is still there.
    pub(crate) fn check(&self) {
        let dropped = |prefix: &str| {
            let counters = Counter::ALL.iter().filter(|counter| counter.name().starts_with(prefix));
            counters.map(|counter| self.count(*counter)).sum::<u64>()
        };
        let queued = |gauge| u64::try_from(self.stats.pending_gauge(gauge)).expect("a gauge is never negative");
        for (recorded, exported, prefix, gauge) in [
            (Counter::SpansRecorded, Counter::SpansExported, "newrelic.spans.dropped.", Gauge::QueueSpans),
            (
                Counter::TransactionsRecorded,
                Counter::TransactionsExported,
                "newrelic.transactions.dropped.",
                Gauge::QueueTransactions,
            ),
        ] {
            let accounted = self.count(exported) + dropped(prefix) + queued(gauge);
            assert_eq!(self.count(recorded), accounted, "{prefix}");
        }
        let queued_records = queued(Gauge::QueueSpans) + queued(Gauge::QueueTransactions);
        assert_eq!(self.exporters.queued_records() as u64, queued_records);
        assert_eq!(queued(Gauge::QueueBytes) == 0, queued_records == 0, "bytes without records, or the other way");
    }
}

pub(crate) fn response(headers: &[(&str, &str)]) -> Response<'static> {
    Response::new(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), b"")
}

/// What matters of an offered span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) priority: Priority,
    pub(crate) sampled: bool,
    pub(crate) url_bytes: usize,
}

impl Default for Span {
    fn default() -> Self {
        Self { priority: Priority::from_whole(1), sampled: true, url_bytes: 20 }
    }
}
