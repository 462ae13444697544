//! One plugin instance in one VM: its configuration, samplers, exporters and statistics.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::abi::{Buffer, Map, Status};
use super::expression::Expression;
use super::shared::Change;
use super::stream::{EXIT_VALUES, Ending, RouteNames};
use super::{calls, identity, shared, statistics};
use crate::caller_metrics::{CALLERS_MAX, CallerMetrics, PUBLISH_AT};
use crate::config::{self, Config, CustomValue, LogLevel, Role, SpanLimit};
use crate::export::ledger::Kind;
use crate::export::response::Response;
use crate::export::{BudgetRequest, Exporters, Refusal, RequestToken, budget};
use crate::headers::{HeaderEdit, HeaderPairs, RequestHeaders, serialize_pairs};
use crate::newrelic::cat::{Callees, Callers, NameList};
use crate::random::RandomPool;
use crate::record::{SpanRecord, TransactionRecord};
use crate::sampler::granularity::span_metrics;
use crate::sampler::shared::SharedKey;
use crate::sampler::{Decision, Granularity, Inbound, Samplers, usage};
use crate::span::{CatCalls, OpenRequest, Outcome, Records, Sink, Times, Tracer};
use crate::stats::{Counter, Stats};

/// The plugin's timer: statistics and samplers are published, and exporters looked after, this often.
const TICK_MS: u32 = 1000;

/// The timer of a plugin without a reservoir, whose batches go out as they fill. What a worker records between two ticks
/// waits in its queue: at 30,000 requests a second and two kilobytes each that is a third of the usual queue.
const STREAMING_TICK_MS: u32 = 20;

/// The timer while batches wait that could go out: more than any worker fills.
const BUSY_TICK_MS: u32 = 2;

/// Requests that one tick posts, and bytes before compression from which on it posts no more: to compress and post a
/// full batch takes some tenths of a millisecond of the worker's time, and the requests that it serves wait so long.
const POSTS_PER_TICK: usize = 4;
const POSTED_BYTES_PER_TICK: usize = 64 << 10;

/// Ended requests that wait for their records, and the bytes that they keep, from which on they wait no more.
const ENDED_MAX: usize = 64;
const ENDED_BYTES_MAX: usize = 256 << 10;

/// Nanoseconds in a millisecond.
const MILLI: u64 = 1_000_000;

/// Bytes that are read of a receiver's answer.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Marks configurations among the keys of shared data.
const CONFIGURATION: &[u8; 16] = b"newrelic-config.";

/// The environment variable that makes a wrong configuration pass requests through, and its value.
const INVALID_CONFIG: &str = "NEW_RELIC_INVALID_CONFIG";
const PASS_THROUGH: &str = "pass_through";

/// A root context.
#[derive(Debug, Default)]
pub(super) enum Root {
    /// Not configured, or with a configuration that is passed over.
    #[default]
    Idle,
    /// At work.
    Active(Box<Plugin>),
}

impl Root {
    /// Reads the configuration; false refuses it.
    pub(super) fn configure(&mut self, length: usize, random: &mut RandomPool) -> bool {
        let bytes = calls::buffer(Buffer::PluginConfiguration, length);
        if bytes.len() < length {
            // To go on would mean to run with the defaults instead of what the operator wrote.
            calls::log(LogLevel::Critical, "newrelic: the host does not hand over the configuration");
            return passes_over();
        }
        let configuration = SharedKey::new(CONFIGURATION, &[&bytes]);
        if let Self::Active(plugin) = self {
            if plugin.configuration == configuration {
                return true;
            }
            plugin.done(random);
            plugin.abandon();
        }
        match config::parse(&bytes, &|name| calls::variable(name)) {
            Ok(config) => {
                let mut plugin = Plugin::new(configuration, config);
                // The first instance is Envoy's check of the configuration, which never ticks.
                plugin.publish();
                *self = Self::Active(Box::new(plugin));
                statistics::set_config_invalid(false);
                true
            }
            Err(faults) => {
                for line in faults.to_string().lines() {
                    calls::log(LogLevel::Critical, &["newrelic: ", line].concat());
                }
                *self = Self::Idle;
                passes_over()
            }
        }
    }
}

/// Whether the operator wants a wrong configuration passed over, and then says so in a statistic.
fn passes_over() -> bool {
    let passes_over = calls::variable(INVALID_CONFIG).is_some_and(|value| value == PASS_THROUGH);
    if passes_over {
        statistics::set_config_invalid(true);
    }
    passes_over
}

/// Where a plugin instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Requests come in.
    Working,
    /// The host shall end the instance, and waits for its last flush.
    Flushing,
    /// The last flush is over.
    Ended,
}

/// A plugin instance at work.
#[derive(Debug)]
pub(super) struct Plugin {
    /// A hash of what the operator wrote, to tell a new configuration from the same one.
    configuration: SharedKey,
    tracer: Tracer,
    /// What tells plugin instances apart that shall not share sampling targets and budgets.
    identity: Vec<u8>,
    /// `None` until the first stream tells the listener's direction.
    role: Option<Role>,
    samplers: Samplers,
    exporters: Exporters,
    callers: CallerMetrics,
    cat_callers: Callers,
    cat_callees: Callees,
    /// What an exit span shows of the host's values.
    pub(super) exit_values: Expression,
    /// Requests whose records are still to be made, how many make it worth while, and the bytes that they keep.
    ended: Vec<(Box<OpenRequest>, Ending)>,
    ended_max: usize,
    ended_bytes: usize,
    pub(super) stats: Stats,
    statistics: statistics::Statistics,
    phase: Phase,
    /// Milliseconds between ticks when nothing is urgent.
    tick_ms: u32,
    /// The timer as the host has it.
    timer_ms: u32,
    /// When statistics are due again; ticks in between only export.
    publish_due_ns: u64,
}

impl Plugin {
    fn new(configuration: SharedKey, config: Config) -> Self {
        // Every worker has an instance of its own; the operator wants to read a warning once.
        let is_first = shared::is_first(&configuration);
        for warning in config.warnings.iter().filter(|_| is_first) {
            calls::log(LogLevel::Warn, &["newrelic: ", warning].concat());
        }
        let common = identity::common(config.app_name.as_deref());
        let exporters = Exporters::new(&config, &common, calls::now_ns());
        let records = Records {
            sampled_spans: exporters.wants_spans(),
            all_spans: exporters.wants_unsampled_spans(),
            transactions: exporters.wants_transactions(),
        };
        let identity = sharing_identity(&config, &common.service_name);
        let infinite_tracing = config.infinite_tracing.is_some();
        let mut stats = Stats::default();
        if config.distributed_tracing.enabled && is_first {
            usage::metric_names(&config.distributed_tracing.sampler).iter().for_each(|name| stats.add_named(name, 1));
        }
        let tick_ms = tick_ms(&config);
        // Who reads the log wants the lines of a request beside those of others of the same moment.
        let ended_max = if config.exporters.log.is_some() { 1 } else { ENDED_MAX };
        calls::set_tick_period(tick_ms);
        Self {
            configuration,
            tick_ms,
            timer_ms: tick_ms,
            publish_due_ns: 0,
            samplers: Samplers::new(&config.distributed_tracing.sampler, &identity, infinite_tracing),
            role: identity::role_of_node(config.role),
            tracer: Tracer::new(config, records, &common.service_name),
            identity,
            exporters,
            callers: CallerMetrics::default(),
            cat_callers: Callers::default(),
            cat_callees: Callees::default(),
            exit_values: Expression::new(EXIT_VALUES),
            ended: Vec::new(),
            ended_max,
            ended_bytes: 0,
            stats,
            statistics: statistics::Statistics::define(),
            phase: Phase::Working,
        }
    }

    /// Reads a request and decides on it; `None` for one that tracing leaves alone.
    pub(super) fn open(
        &mut self,
        buffer: &[u8],
        times: Times,
        random: &mut RandomPool,
    ) -> Option<(Box<OpenRequest>, Vec<HeaderEdit>)> {
        let role = *self.role.get_or_insert_with(identity::role_of_listener);
        let headers = RequestHeaders::new(buffer);
        // Without any line the host did not hand over the headers: to change some of them blindly would break the
        // caller's trace.
        headers.pairs.into_iter().next()?;
        let opening = self.tracer.open(role, &headers, random, &mut self.stats)?;
        let decision = self.decide(&opening.sampler_input(), times.now_ns, random);
        let route = if self.tracer.is_cat() { RouteNames::read() } else { RouteNames::default() };
        Some(opening.start(&self.tracer, decision, &headers, &route.as_route(), times, &mut self.callers))
    }

    /// Decides, and counts the decision; without distributed tracing nothing is sampled.
    fn decide(&mut self, inbound: &Inbound, now_ns: u64, random: &mut RandomPool) -> Decision {
        if !self.tracer.is_distributed() {
            return Decision::unsampled(random);
        }
        let verdict = self.samplers.decide(inbound, now_ns, random);
        let decision = shared::decision(&mut self.samplers, verdict, now_ns, random);
        if decision.sampler_ran {
            let sampled = if decision.sampled { Counter::DecisionsSampled } else { Counter::DecisionsNotSampled };
            self.stats.count(sampled);
        }
        decision
    }

    /// Whether there is anything to do for a request.
    pub(super) fn is_active(&self) -> bool {
        self.tracer.is_active()
    }

    /// Whether Cross Application Tracing is in force.
    pub(super) fn is_cat(&self) -> bool {
        self.tracer.is_cat()
    }

    /// Sends the request on with the headers of Cross Application Tracing.
    pub(super) fn forward(&self, open: &mut OpenRequest) {
        for edit in open.forward(&self.tracer) {
            calls::edit_header(Map::Request, &edit);
        }
    }

    /// The changes of an answer's headers that Cross Application Tracing asks for.
    pub(super) fn answer(&self, open: &mut OpenRequest, headers: HeaderPairs<'_>) -> Vec<HeaderEdit> {
        open.answer(&self.tracer, headers, calls::now_ns())
    }

    /// Changes the request's tracing headers, and counts what was written: each format once.
    pub(super) fn edit_request(&mut self, edits: &[HeaderEdit]) {
        let (mut w3c, mut newrelic) = (None, None);
        for edit in edits {
            let is_done = calls::edit_header(Map::Request, edit);
            match edit {
                HeaderEdit::Set("traceparent" | "tracestate", _) => w3c = Some(is_done && w3c != Some(false)),
                HeaderEdit::Set("newrelic", _) => newrelic = Some(is_done),
                HeaderEdit::Set(..) | HeaderEdit::Remove(_) => {}
            }
        }
        self.count_created(w3c, Counter::W3cCreated, Counter::W3cCreateException);
        self.count_created(newrelic, Counter::PayloadCreated, Counter::PayloadCreateException);
    }

    fn count_created(&mut self, created: Option<bool>, success: Counter, exception: Counter) {
        if let Some(created) = created {
            self.stats.count(if created { success } else { exception });
        }
    }

    /// Puts the request's ids where access logs find them.
    pub(super) fn decorate(&self, open: &OpenRequest) {
        if !self.tracer.config().local_decorating {
            return;
        }
        if let Some((trace_id, span_id, sampled)) = open.log_ids() {
            calls::set_property(b"nr_trace_id", &trace_id);
            calls::set_property(b"nr_span_id", &span_id);
            calls::set_property(b"nr_sampled", if sampled { b"true" } else { b"false" });
        }
    }

    /// The values of the custom attributes that are host properties, in the order of the configuration.
    pub(super) fn custom_properties(&self) -> Vec<Vec<u8>> {
        let values = self.tracer.config().span_events.custom_attributes.iter().filter_map(|(_, value)| match value {
            CustomValue::Property(path) => Some(calls::property(path.join("\0").as_bytes()).unwrap_or_default()),
            CustomValue::Text(_) | CustomValue::Number(_) | CustomValue::Bool(_) => None,
        });
        values.collect()
    }

    /// Whether the only record of a request would find no place, so that it need not be made; it is then counted.
    pub(super) fn drops_record(&mut self, open: &OpenRequest, now_ns: u64) -> bool {
        let rank = open.only_transaction();
        rank.is_some_and(|(priority, origin)| {
            self.exporters.refuses_transaction(priority, origin, now_ns, &mut self.stats)
        })
    }

    /// Ends a request whose records may wait for those of others, until the next tick at the latest: made in a row,
    /// they find the module's code in the caches, where one by one each would have to bring it there.
    pub(super) fn finish_later(&mut self, open: Box<OpenRequest>, ending: Ending) {
        self.ended_bytes += open.kept_bytes() + ending.bytes();
        self.ended.push((open, ending));
        let is_full = self.ended.len() >= self.ended_max || self.ended_bytes >= ENDED_BYTES_MAX;
        // The place of a transaction without spans decides whether that of the next one is made at all.
        let is_urgent = self.ended.last().is_some_and(|(open, _)| open.only_transaction().is_some());
        if is_full || is_urgent || self.phase != Phase::Working {
            self.finish_ended();
        }
    }

    /// Makes the records that wait.
    fn finish_ended(&mut self) {
        self.ended_bytes = 0;
        let mut ended = core::mem::take(&mut self.ended);
        for (open, ending) in ended.drain(..) {
            ending.with_outcome(|outcome| self.finish(open, outcome));
        }
        // The room stays for the next ones.
        self.ended = ended;
    }

    /// Ends a request.
    pub(super) fn finish(&mut self, open: Box<OpenRequest>, outcome: &Outcome<'_>) {
        let granularity = open.granularity();
        let mut recorder = Recorder {
            exporters: &mut self.exporters,
            stats: &mut self.stats,
            identity: &self.identity,
            now_ns: outcome.end_ns,
        };
        let totals = open.finish(&self.tracer, outcome, &mut self.callers, &mut recorder);
        if let (Granularity::Partial(partial_type), 1..) = (granularity, totals.spans) {
            let names = span_metrics(partial_type);
            self.stats.add_named(names.instrumented, totals.spans);
            self.stats.add_named(names.kept, totals.spans);
        }
        self.observe_cat(&totals.cat_calls);
    }

    /// Statistics by caller and by callee of Cross Application Tracing.
    fn observe_cat(&mut self, calls: &CatCalls) {
        let mut ask = |list: NameList, name: &str| shared::list_name(shared::cat_key(list), name, list.names_max());
        if let Some((caller, duration_ns)) = &calls.caller {
            self.stats.observe(&self.cat_callers.metric(caller, &mut ask), duration_ns / MILLI);
        }
        if let Some((host, callee, duration_ns)) = &calls.callee {
            for name in self.cat_callees.metrics(host, callee, &mut ask) {
                self.stats.observe(&name, duration_ns / MILLI);
            }
        }
    }

    /// Publishes values of histograms when many wait.
    pub(super) fn publish_early(&mut self) {
        if self.callers.waiting() >= PUBLISH_AT {
            self.publish_callers();
        }
        if self.stats.waiting_values() >= PUBLISH_AT {
            self.statistics.publish(&mut self.stats);
        }
    }

    fn publish_callers(&mut self) {
        let mut list = |name: &str| shared::list_name(shared::CALLERS_KEY, name, CALLERS_MAX);
        self.callers.publish(&mut list, &mut statistics::define, &mut statistics::publish);
    }

    /// Time to publish and to export.
    pub(super) fn tick(&mut self, context: u32, random: &mut RandomPool) {
        let now_ns = calls::now_ns();
        self.export(now_ns, random);
        if now_ns >= self.publish_due_ns {
            self.publish_due_ns = now_ns.saturating_add(u64::from(self.tick_ms) * MILLI);
            shared::publish_samplers(&mut self.samplers, now_ns);
            self.publish();
        }
        self.end_when_flushed(context);
        self.set_timer(now_ns);
    }

    /// Has the next tick come soon while batches wait that could go out.
    fn set_timer(&mut self, now_ns: u64) {
        let timer_ms = if self.exporters.has_due_request(now_ns) { BUSY_TICK_MS } else { self.tick_ms };
        if timer_ms != self.timer_ms {
            self.timer_ms = timer_ms;
            calls::set_tick_period(timer_ms);
        }
    }

    /// Tells the host that the last flush is over, once it is.
    fn end_when_flushed(&mut self, context: u32) {
        if self.phase == Phase::Flushing && self.exporters.queued_records() == 0 {
            self.phase = Phase::Ended;
            self.publish();
            calls::done(context);
        }
    }

    fn publish(&mut self) {
        self.publish_callers();
        self.statistics.publish(&mut self.stats);
    }

    /// Flushes what is due.
    fn export(&mut self, now_ns: u64, random: &mut RandomPool) {
        self.finish_ended();
        while let Some(request) = self.exporters.budget_request(now_ns) {
            let granted = claim_budget(&self.identity, &request, now_ns);
            self.exporters.grant(&request, granted, now_ns, &mut self.stats);
        }
        let (mut posts, mut bytes) = (POSTS_PER_TICK, 0);
        while self.phase == Phase::Flushing || (posts > 0 && bytes < POSTED_BYTES_PER_TICK) {
            let Some(posted) = self.post_next(now_ns, random) else { break };
            posts = posts.saturating_sub(1);
            bytes += posted;
        }
        self.log_lines();
    }

    /// Logs what the operator should read of the exporters.
    fn log_lines(&mut self) {
        for line in self.exporters.take_lines() {
            calls::log(line.level, &["newrelic: ", &line.text].concat());
        }
    }

    /// Posts the next batch, and returns its bytes before compression; `None` when there is none.
    fn post_next(&mut self, now_ns: u64, random: &mut RandomPool) -> Option<usize> {
        let request = self.exporters.next_request(now_ns, random.next_u128(), &mut self.stats)?;
        let plain_bytes = request.plain_bytes;
        let token: RequestToken = request.token;
        let lines = request.headers.iter().map(|(name, value)| (name.as_bytes(), *value));
        match calls::http_call(request.cluster, &serialize_pairs(lines), request.body, request.timeout_ms) {
            Ok(call) => self.exporters.sent(token, call, &mut self.stats),
            Err(status) => {
                let refusal = if status == Status::BadArgument { Refusal::UnknownCluster } else { Refusal::Failed };
                self.exporters.refused(token, refusal, now_ns, &mut self.stats);
            }
        }
        Some(plain_bytes)
    }

    /// A receiver answered, or Envoy did in its place.
    pub(super) fn answered(&mut self, context: u32, call: u32, body_length: usize, random: &mut RandomPool) {
        let now_ns = calls::now_ns();
        let headers = calls::header_map(Map::HttpCallResponse);
        let body = calls::buffer(Buffer::HttpCallResponse, body_length.min(ANSWER_BYTES_MAX));
        let response = Response::new(HeaderPairs::new(&headers), &body);
        self.exporters.answered(call, &response, now_ns, &mut self.stats);
        if self.phase == Phase::Flushing {
            self.export(now_ns, random);
            self.end_when_flushed(context);
        }
    }

    /// The plugin shall end: a last flush. False asks the host to wait for the answers.
    pub(super) fn done(&mut self, random: &mut RandomPool) -> bool {
        self.finish_ended();
        self.phase = Phase::Flushing;
        self.exporters.close();
        self.export(calls::now_ns(), random);
        self.publish();
        if self.exporters.queued_records() == 0 {
            self.phase = Phase::Ended;
        }
        self.phase == Phase::Ended
    }

    /// The plugin is gone: what has no answer yet is counted as dropped.
    pub(super) fn abandon(&mut self) {
        self.finish_ended();
        self.exit_values.delete();
        self.exporters.abandon(&mut self.stats);
        self.log_lines();
        self.publish();
    }
}

/// Often enough for the shortest flush interval, and for batches that go out as they fill.
fn tick_ms(config: &Config) -> u32 {
    let exporters = &config.exporters;
    let is_streaming =
        config.span_events.max_samples_stored == SpanLimit::Unlimited || config.infinite_tracing.is_some();
    let longest = if is_streaming { STREAMING_TICK_MS } else { TICK_MS };
    let http =
        [exporters.trace_api.as_ref(), exporters.event_api.as_ref(), exporters.otlp.as_ref().map(|(_, http)| http)];
    let observer = config.infinite_tracing.as_ref().map(|tracing| &tracing.observer);
    http.into_iter().flatten().chain(observer).map(|http| http.flush_interval_ms).fold(longest, u32::min)
}

/// Instances of the same account, application and name share their targets and budgets.
fn sharing_identity(config: &Config, service_name: &str) -> Vec<u8> {
    let account = config.account.as_ref();
    [
        account.map_or("", |account| &account.account_id),
        account.map_or("", |account| &account.primary_application_id),
        service_name,
    ]
    .join("\0")
    .into_bytes()
}

/// How much of the minute's budget of the process an exporter gets; `None` when the host keeps no shared data.
fn claim_budget(identity: &[u8], request: &BudgetRequest, now_ns: u64) -> Option<u32> {
    let key = budget::key(identity, request.exporter.as_str(), request.kind.noun(2), request.per_minute);
    shared::update(key.as_bytes(), |stored| {
        let grant = budget::claim(stored, now_ns, request.per_minute, request.records);
        match grant.state {
            Some(state) => Change::Store(state, grant.granted),
            None => Change::Keep(grant.granted),
        }
    })
}

/// Passes a request's records to the exporters.
struct Recorder<'a> {
    exporters: &'a mut Exporters,
    stats: &'a mut Stats,
    identity: &'a [u8],
    now_ns: u64,
}

impl Recorder<'_> {
    /// Lines of the log are written at once, so that their budget has to be claimed before.
    fn claim_for_log(&mut self, kind: Kind) {
        if let Some(request) = self.exporters.log_budget_request(kind, self.now_ns) {
            let granted = claim_budget(self.identity, &request, self.now_ns);
            self.exporters.grant(&request, granted, self.now_ns, self.stats);
        }
    }
}

impl Sink for Recorder<'_> {
    fn span(&mut self, record: &SpanRecord<'_>) {
        if record.sampled {
            self.claim_for_log(Kind::Spans);
        }
        if let Some(line) = self.exporters.offer_span(record, self.stats) {
            calls::log_bytes(line.level, line.text);
        }
    }

    fn transaction(&mut self, record: &TransactionRecord<'_>) {
        self.claim_for_log(Kind::Transactions);
        if let Some(line) = self.exporters.offer_transaction(record, self.stats) {
            calls::log_bytes(line.level, line.text);
        }
    }
}
