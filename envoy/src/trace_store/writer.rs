//! The one thread that changes the sessions and the database.
//!
//! Posts that wait together are committed together, because a commit waits for the disk. Whoever asks sees either
//! none or all of a change: it is made while nobody reads the sessions, and readers take their snapshot of the
//! database while they hold the sessions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use tokio::sync::oneshot;

use super::disk::{self, Change, Closing, Disk};
use super::query::summarize;
use super::session::{Arrival, SessionId, Sessions};
use super::span::{Facts, Span};
use super::summary::State;
use super::{AddError, HOPS_BYTES_MAX, HOPS_MAX, Hop, News, Options, Shared, count};

/// Commands that are committed together.
const BATCH_MAX: usize = 64;
/// Sessions that are written together. Posts wait meanwhile.
const CLOSED_MAX: usize = 256;
/// Traces that are removed together.
const EVICTED_MAX: u64 = 64;
/// Traces that are removed together when the database is too large.
const EVICTED_FOR_SIZE: u64 = 16;
/// How long the writer waits for a command before it looks whether a session is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Traces whose hops are kept.
const HOPS_TRACES_MAX: u64 = 10_000;
/// Events that are kept.
const EVENTS_MAX: u64 = 20_000;
/// Longest time that a sender is asked to wait, in seconds: by then every session of now may have closed.
const RETRY_AFTER_S_MAX: u64 = 90;

type Reply = oneshot::Sender<Result<(), AddError>>;

/// A span ready to be kept.
#[derive(Debug)]
pub(super) struct Prepared {
    trace_id: String,
    facts: Facts,
    line: Vec<u8>,
}

impl Prepared {
    pub(super) fn of(span: newrelic_ingest::Span, now_ms: u64) -> Self {
        let (trace_id, span) = Span::take(span, now_ms);
        Self { trace_id, facts: span.facts(), line: disk::line(&span) }
    }
}

/// An event ready to be kept: the trace it belongs to, and its text.
pub(super) type PreparedEvent = (Option<String>, String);

/// The trace that an event belongs to is named as agents name it in Transaction events.
pub(super) fn prepare_event(event: &newrelic_ingest::Event) -> PreparedEvent {
    let text = |name: &str| event.attributes.get(name).and_then(serde_json::Value::as_str);
    let trace_id = text("traceId").or_else(|| text("trace.id")).map(str::to_owned);
    let mut all = event.attributes.clone();
    all.insert("eventType".to_owned(), event.event_type.clone().into());
    all.extend(event.timestamp_ms.map(|timestamp_ms| ("timestamp".to_owned(), timestamp_ms.into())));
    (trace_id, serde_json::json!(all).to_string())
}

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Command {
    Spans { spans: Vec<Prepared>, now_ms: u64, reply: Reply },
    Hops { trace_id: String, hops: Vec<Hop>, reply: Reply },
    Events { events: Vec<PreparedEvent>, reply: Reply },
    Close { reply: Reply },
}

impl Command {
    fn reply(self, outcome: Result<(), AddError>) {
        let (Self::Spans { reply, .. } | Self::Hops { reply, .. } | Self::Events { reply, .. } | Self::Close { reply }) =
            self;
        // Nobody waits for the answer when a connection broke meanwhile.
        reply.send(outcome).unwrap_or_default();
    }

    fn spans(&self) -> u64 {
        if let Self::Spans { spans, .. } = self { spans.len() as u64 } else { 0 }
    }
}

/// Opens the sessions of the journal again, and starts the writer.
pub(super) fn start(disk: Disk, shared: &Arc<Shared>) -> rusqlite::Result<Sender<Command>> {
    let mut writer = Writer { disk, shared: Arc::clone(shared), is_stale: false, written: 0 };
    let recovered = writer.load()?;
    count(&shared.counters.sessions_recovered, recovered.sessions);
    count(&shared.counters.spans_lost, recovered.spans_lost);
    writer.tell();
    let (commands, received) = mpsc::channel();
    std::thread::spawn(move || writer.run(&received));
    Ok(commands)
}

/// How many spans became what.
#[derive(Debug, Default)]
struct Tally {
    received: u64,
    repeated: u64,
    refused: u64,
    events: u64,
}

struct Writer {
    disk: Disk,
    shared: Arc<Shared>,
    /// The sessions in memory may not be those on the disk.
    is_stale: bool,
    written: u64,
}

impl Writer {
    /// Until the store is closed, or nobody has it any more.
    fn run(mut self, commands: &Receiver<Command>) {
        let mut wait = Duration::ZERO;
        loop {
            let mut batch = match commands.recv_timeout(wait) {
                Ok(command) => vec![command],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return self.checkpoint(),
            };
            batch.extend(commands.try_iter().take(BATCH_MAX - batch.len()));
            let end = batch.iter().position(|command| matches!(command, Command::Close { .. }));
            let rest = end.map(|at| batch.split_off(at));
            self.take(batch);
            if let Some(rest) = rest {
                return self.close(rest);
            }
            wait = if self.look() { Duration::ZERO } else { LOOK_EVERY };
        }
    }

    /// Answers what came after the order to end, and ends.
    fn close(self, rest: Vec<Command>) {
        self.checkpoint();
        // Whoever waits for the end may want to open the directory again.
        drop(self);
        for command in rest {
            let is_close = matches!(command, Command::Close { .. });
            command.reply(if is_close { Ok(()) } else { Err(AddError::Unavailable) });
        }
    }

    /// What remains in the log is read from there the next time.
    fn checkpoint(&self) {
        if let Err(error) = self.disk.checkpoint() {
            *self.shared.fault() = Some(error.to_string());
        }
    }

    /// Puts the journal's sessions in place of those in memory.
    fn load(&mut self) -> rusqlite::Result<disk::Recovered> {
        let mut sessions = Sessions::new(self.shared.options.session_ms(), self.disk.next_session()?);
        let recovered = self.disk.recover(&mut sessions)?;
        self.written = self.disk.written()?;
        *self.shared.sessions_mut() = sessions;
        self.is_stale = false;
        Ok(recovered)
    }

    /// Carries out commands, and answers them when the disk has what they brought.
    fn take(&mut self, batch: Vec<Command>) {
        if batch.is_empty() {
            return;
        }
        match self.try_take(&batch) {
            Ok((outcomes, tally)) => {
                let counters = &self.shared.counters;
                count(&counters.spans_received, tally.received);
                count(&counters.spans_repeated, tally.repeated);
                count(&counters.spans_refused, tally.refused);
                count(&counters.events_received, tally.events);
                *self.shared.fault() = None;
                self.tell();
                std::iter::zip(batch, outcomes).for_each(|(command, outcome)| command.reply(outcome));
            }
            Err(error) => {
                self.fail(&error);
                count(&self.shared.counters.spans_refused, batch.iter().map(Command::spans).sum());
                batch.into_iter().for_each(|command| command.reply(Err(AddError::Unavailable)));
            }
        }
    }

    /// What was begun in memory is not on the disk: the sessions are read from there again, now or later.
    fn fail(&mut self, error: &rusqlite::Error) {
        *self.shared.fault() = Some(error.to_string());
        self.is_stale = true;
        if self.refresh().is_ok() {
            self.tell();
        }
    }

    fn refresh(&mut self) -> rusqlite::Result<()> {
        if self.is_stale { self.load().map(drop) } else { Ok(()) }
    }

    fn try_take(&mut self, batch: &[Command]) -> rusqlite::Result<(Vec<Result<(), AddError>>, Tally)> {
        self.refresh()?;
        let shared = Arc::clone(&self.shared);
        let mut sessions = shared.sessions_mut();
        let mut tally = Tally::default();
        let change = self.disk.begin()?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for command in batch {
            let mut outcome = Ok(());
            match command {
                Command::Spans { spans, now_ms, .. } => {
                    outcome = room(&shared.options, &sessions, spans, *now_ms);
                    match outcome {
                        Ok(()) => take_spans(&change, &mut sessions, spans, *now_ms, &mut tally)?,
                        Err(_) => tally.refused += spans.len() as u64,
                    }
                }
                Command::Hops { trace_id, hops, .. } => take_hops(&change, trace_id, hops)?,
                Command::Events { events, .. } => {
                    tally.events += events.len() as u64;
                    take_events(&change, events)?;
                }
                Command::Close { .. } => {}
            }
            outcomes.push(outcome);
        }
        change.commit()?;
        Ok((outcomes, tally))
    }

    /// Writes some of the sessions that are over, and makes room for them. Tells whether there may be more to do.
    fn look(&mut self) -> bool {
        let done = self.refresh().and_then(|()| Ok((self.write_some()?, self.evict()?)));
        match done {
            Ok((0, 0)) => false,
            Ok((closed, evicted)) => {
                self.tell();
                closed == CLOSED_MAX || evicted > 0
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// Writes some of the sessions that are over. Gives their number.
    fn write_some(&mut self) -> rusqlite::Result<usize> {
        let shared = Arc::clone(&self.shared);
        let now_ms = shared.now_ms();
        let over: Vec<SessionId> = shared.sessions_mut().over(now_ms).take(CLOSED_MAX).collect();
        if over.is_empty() {
            return Ok(0);
        }
        let change = self.disk.begin()?;
        {
            let sessions = shared.sessions();
            for session in &over {
                let Some(open) = sessions.get(*session) else { continue };
                let summary = summarize(&sessions, *session, open, State::Written, now_ms);
                change.write(&Closing { session: *session, summary: &summary, derived: open.derived() })?;
            }
        }
        let mut sessions = shared.sessions_mut();
        change.commit()?;
        for session in &over {
            sessions.remove(*session);
        }
        self.written += over.len() as u64;
        Ok(over.len())
    }

    /// Removes some of the traces that were written first, if there are too many. Gives their number.
    fn evict(&mut self) -> rusqlite::Result<u64> {
        let options = &self.shared.options;
        let excess = self.written.saturating_sub(options.traces_max);
        let some = match excess {
            0 if self.disk.used_bytes()? <= options.database_bytes_max => return Ok(0),
            0 => EVICTED_FOR_SIZE,
            excess => excess.min(EVICTED_MAX),
        };
        let change = self.disk.begin()?;
        let (mut traces, mut spans) = (0, 0);
        while traces < some
            && let Some(evicted) = change.evict()?
        {
            traces += 1;
            spans += evicted;
        }
        change.commit()?;
        self.written -= traces;
        count(&self.shared.counters.spans_evicted, spans);
        Ok(traces)
    }

    fn tell(&self) {
        let seen = News::of(&self.shared.sessions(), self.written);
        self.shared.news.send_modify(|news| *news = News { change: news.change + 1, ..seen });
    }
}

/// Whether spans fit in beside those of the open sessions, in memory and on the disk.
fn room(options: &Options, sessions: &Sessions, spans: &[Prepared], now_ms: u64) -> Result<(), AddError> {
    let memory: usize = spans.iter().map(|span| Sessions::bytes_of(&span.trace_id, &span.facts)).sum();
    let lines: usize = spans.iter().map(|span| span.line.len()).sum();
    let has_memory = sessions.bytes() + memory <= options.open_bytes_max;
    if has_memory && sessions.line_bytes() + lines <= options.journal_bytes_max {
        return Ok(());
    }
    let next_close_in_ms = sessions.next_close_ms().unwrap_or_default().saturating_sub(now_ms);
    let retry_after_s = next_close_in_ms.div_ceil(1_000).clamp(1, RETRY_AFTER_S_MAX);
    Err(AddError::Full { retry_after_s })
}

/// Puts the spans of a post into their sessions and the journal.
fn take_spans(
    change: &Change<'_>,
    sessions: &mut Sessions,
    spans: &[Prepared],
    now_ms: u64,
    tally: &mut Tally,
) -> rusqlite::Result<()> {
    let mut lines: BTreeMap<SessionId, Vec<u8>> = BTreeMap::new();
    for span in spans {
        let mut was_closed = Ok(false);
        let arrival = sessions.arrive(&span.trace_id, (span.facts.clone(), span.line.len()), now_ms, || {
            was_closed = change.is_written(&span.trace_id);
            *was_closed.as_ref().unwrap_or(&false)
        });
        was_closed?;
        let session = match arrival {
            Arrival::Opened(session) => {
                let late = sessions.get(session).is_some_and(|open| open.late);
                change.open_session(session, &span.trace_id, late)?;
                session
            }
            Arrival::Joined(session) => session,
            Arrival::Repeated => {
                tally.repeated += 1;
                continue;
            }
            Arrival::TooMany => {
                tally.refused += 1;
                continue;
            }
        };
        tally.received += 1;
        lines.entry(session).or_default().extend_from_slice(&span.line);
    }
    for (session, lines) in lines {
        change.journal(session, now_ms, &lines)?;
    }
    Ok(())
}

/// Puts hops behind those noted of the trace before.
fn take_hops(change: &Change<'_>, trace_id: &str, hops: &[Hop]) -> rusqlite::Result<()> {
    let noted = change.hops(trace_id)?.and_then(|text| serde_json::from_str(&text).ok());
    let mut all: Vec<Hop> = noted.unwrap_or_default();
    all.extend_from_slice(hops);
    all.truncate(HOPS_MAX);
    let mut text = serde_json::json!(all).to_string();
    while text.len() > HOPS_BYTES_MAX {
        all.pop();
        text = serde_json::json!(all).to_string();
    }
    change.set_hops(trace_id, &text, HOPS_TRACES_MAX)
}

/// Keeps the events that belong to a trace.
fn take_events(change: &Change<'_>, events: &[PreparedEvent]) -> rusqlite::Result<()> {
    for (trace_id, event) in events {
        if let Some(trace_id) = trace_id {
            change.add_event(trace_id, event, EVENTS_MAX)?;
        }
    }
    Ok(())
}
