//! A small local backend for traces, where people can look at them without an account: it takes what New Relic's
//! interfaces take, assembles traces by New Relic's rules, keeps them on disk and shows them.
//!
//! In reading order:
//!
//! - the rules, which touch neither clock nor disk: [`span`] (a span, its limits), [`classify`] (entry, exit, client
//!   spans, boundaries), [`session`] (when a trace is complete), [`summary`] (what it amounts to), [`calls`] (who calls
//!   whom);
//! - `disk` (the database: a journal of what is open, and the written traces), `writer` (the one thread that changes
//!   it), [`query`] (what can be asked);
//! - `http` (the routes: ingest, the JSON interface, events), `assets` (the page).
//!
//! A post is answered after its spans were committed to the journal. Whatever was answered for is still there when the
//! store is killed and started again: sessions that were open go on, and close by when their last span came.

pub mod calls;
pub mod classify;
pub mod query;
pub mod session;
pub mod span;
pub mod summary;

mod assets;
mod disk;
mod http;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot, watch};

use disk::{Disk, Reader};
use session::Sessions;
use writer::{Command, Prepared};

pub use disk::OpenError;
pub(crate) use http::{keep, refused};
pub use http::{routes, server};

/// Hops kept of one trace; later ones are left out.
pub const HOPS_MAX: usize = 64;
/// Bytes of the hops of one trace, as JSON; what does not fit is left out.
pub const HOPS_BYTES_MAX: usize = 256 * 1024;

/// Questions that are answered at once; each takes a connection to the database, and a large trace its memory.
const QUESTIONS_MAX: usize = 4;

/// Tells the time, milliseconds since 1970.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// Any other clock.
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// How a store keeps traces.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a session stays open after its last span.
    pub session: Duration,
    /// Written traces; the first ones written make room for further ones.
    pub traces_max: u64,
    /// Bytes of the database; the first traces written make room for further ones.
    pub database_bytes_max: u64,
    /// About how much memory open sessions may take, in bytes. Posts beyond it are refused.
    pub open_bytes_max: usize,
    /// Bytes of the spans of open sessions on the disk. Posts beyond it are refused.
    pub journal_bytes_max: usize,
    /// The clock that sessions go by.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            session: Duration::from_millis(session::SESSION_MS),
            traces_max: 50_000,
            database_bytes_max: 1 << 30,
            open_bytes_max: 128 << 20,
            journal_bytes_max: 256 << 20,
            clock: Clock::system(),
        }
    }
}

impl Options {
    fn session_ms(&self) -> u64 {
        u64::try_from(self.session.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Why spans were not taken. None of the post was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddError {
    /// The open sessions take all the room there is for them.
    Full {
        /// When there will be some, in seconds.
        retry_after_s: u64,
    },
    /// The database cannot be written to, or the store was closed.
    Unavailable,
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { .. } => f.write_str("the open traces take all the room there is for them"),
            Self::Unavailable => f.write_str("the database cannot be written to"),
        }
    }
}

impl std::error::Error for AddError {}

/// What a service saw of a request that belongs to a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The service.
    pub service: String,
    /// The request's path.
    pub path: String,
    /// Headers that are worth a look.
    pub headers: Vec<HopHeader>,
}

/// A header as a service saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopHeader {
    /// Its name.
    pub name: String,
    /// Its value as it came.
    pub value: String,
    /// The value in words; empty when it needs none.
    pub readable: String,
}

/// How a store is doing. Everything that is counted is counted from its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Sessions that are open.
    pub open: u64,
    /// When the next one of them closes if it gets no further span, in milliseconds; `None` when none is open.
    pub next_close_in_ms: Option<u64>,
    /// Sessions that were written, and are still there.
    pub written: u64,
    /// Spans that were taken.
    pub spans_received: u64,
    /// Spans that came again while their session was open.
    pub spans_repeated: u64,
    /// Spans that were refused: no room for them, or too many in their trace.
    pub spans_refused: u64,
    /// Spans of traces that made room for others.
    pub spans_evicted: u64,
    /// Sessions that were open when the store was ended before, and are open again.
    pub sessions_recovered: u64,
    /// Spans of such sessions that cannot be read.
    pub spans_lost: u64,
    /// Events that were taken.
    pub events_received: u64,
    /// Faults found in posts after they had been accepted.
    pub integration_errors: u64,
    /// Size of the database.
    pub database_bytes: u64,
    /// Why the database cannot be written to, when that is so.
    pub fault: Option<String>,
}

/// What is told to those who wait for news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct News {
    /// Sessions that are open.
    pub open: u64,
    /// Sessions that were written.
    pub written: u64,
    /// When the next session closes if it gets no further span, milliseconds since 1970; `None` when none is open.
    #[serde(skip)]
    pub next_close_ms: Option<u64>,
    /// Counts changes, so that two of the same sums are two pieces of news.
    #[serde(skip)]
    pub change: u64,
}

impl News {
    fn of(sessions: &Sessions, written: u64) -> Self {
        Self { open: sessions.len() as u64, written, next_close_ms: sessions.next_close_ms(), change: 0 }
    }
}

/// Counted from the store's start.
#[derive(Debug, Default)]
struct Counters {
    spans_received: AtomicU64,
    spans_repeated: AtomicU64,
    spans_refused: AtomicU64,
    spans_evicted: AtomicU64,
    sessions_recovered: AtomicU64,
    spans_lost: AtomicU64,
    events_received: AtomicU64,
    integration_errors: AtomicU64,
    posts: AtomicU64,
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// What the writer and those who ask share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    options: Options,
    sessions: RwLock<Sessions>,
    counters: Counters,
    news: watch::Sender<News>,
    fault: Mutex<Option<String>>,
    readers: Mutex<Vec<Reader>>,
    /// Turns for questions from outside.
    questions: Semaphore,
}

impl Shared {
    fn with(path: &Path, sessions: Sessions, options: Options) -> Self {
        Self {
            path: path.to_owned(),
            options,
            sessions: RwLock::new(sessions),
            counters: Counters::default(),
            news: watch::Sender::default(),
            fault: Mutex::default(),
            readers: Mutex::default(),
            questions: Semaphore::new(QUESTIONS_MAX),
        }
    }

    fn now_ms(&self) -> u64 {
        self.options.clock.now_ms()
    }

    fn sessions(&self) -> RwLockReadGuard<'_, Sessions> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions_mut(&self) -> RwLockWriteGuard<'_, Sessions> {
        self.sessions.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> MutexGuard<'_, Option<String>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store. Clones of it are the same store; it ends when the last one is dropped, or by [`close`](Self::close).
#[derive(Debug, Clone)]
pub struct TraceStore {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl TraceStore {
    /// Opens the store in a directory, or makes one there. Sessions that were open go on.
    ///
    /// # Errors
    /// The directory is not usable, or what is in it is not this version's; see [`OpenError`].
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let disk = Disk::open(dir)?;
        let path = disk::path(dir);
        let shared = Arc::new(Shared::with(&path, Sessions::new(0, 0), options));
        let commands = writer::start(disk, &shared).map_err(|error| OpenError::Database(path, error))?;
        Ok(Self { shared, commands })
    }

    /// Opens what a store has kept in a directory, to look at it while the store does not run. Nothing is changed
    /// there, no session closes, and nothing is taken. `None` when no store was ever there.
    ///
    /// # Errors
    /// What is in the directory is not this version's; see [`OpenError`].
    pub fn look_at(dir: &Path, options: Options) -> Result<Option<Self>, OpenError> {
        let mut sessions = Sessions::new(options.session_ms(), 0);
        let Some((reader, written)) = Reader::look(dir, &mut sessions)? else { return Ok(None) };
        let news = News::of(&sessions, written);
        let shared = Arc::new(Shared::with(&disk::path(dir), sessions, options));
        shared.news.send_replace(news);
        shared.readers().push(reader);
        // Nobody is at the other end: whatever comes is refused.
        let (commands, _) = mpsc::channel();
        Ok(Some(Self { shared, commands }))
    }

    /// Takes spans; they are on disk when this returns.
    ///
    /// # Errors
    /// There is no room, or the disk is at fault; none of the spans was taken.
    pub async fn add(&self, spans: Vec<newrelic_ingest::Span>) -> Result<(), AddError> {
        if spans.is_empty() {
            return Ok(());
        }
        let now_ms = self.shared.now_ms();
        // Half a megabyte of spans takes a while to write as text.
        let prepare = move || spans.into_iter().map(|span| Prepared::of(span, now_ms)).collect();
        let spans = tokio::task::spawn_blocking(prepare).await.map_err(|_| AddError::Unavailable)?;
        self.ask(|reply| Command::Spans { spans, now_ms, reply }).await
    }

    /// Notes hops of a trace, after those noted before. They are shown with the trace, and go when it goes.
    ///
    /// # Errors
    /// The disk is at fault.
    pub async fn add_hops(&self, trace_id: &str, hops: Vec<Hop>) -> Result<(), AddError> {
        let trace_id = trace_id.to_owned();
        self.ask(|reply| Command::Hops { trace_id, hops, reply }).await
    }

    /// Takes events. Those that belong to a trace are shown with it.
    ///
    /// # Errors
    /// The disk is at fault.
    pub async fn add_events(&self, events: Vec<newrelic_ingest::Event>) -> Result<(), AddError> {
        if events.is_empty() {
            return Ok(());
        }
        let events = events.iter().map(writer::prepare_event).collect();
        self.ask(|reply| Command::Events { events, reply }).await
    }

    /// Notes how many faults were found in a post that had been accepted.
    pub fn note_problems(&self, problems: usize) {
        count(&self.shared.counters.integration_errors, problems as u64);
    }

    /// Ends the store: everything is in the database's file when this returns. Nothing is taken any more.
    pub async fn close(&self) {
        // An answer that never comes means that the writer has ended already.
        self.ask(|reply| Command::Close { reply }).await.unwrap_or_default();
    }

    /// How the store is doing.
    pub fn status(&self) -> Status {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let News { open, written, next_close_ms, .. } = *self.shared.news.borrow();
        let now_ms = self.shared.now_ms();
        Status {
            open,
            next_close_in_ms: next_close_ms.map(|close_ms| close_ms.saturating_sub(now_ms)),
            written,
            spans_received: read(&counters.spans_received),
            spans_repeated: read(&counters.spans_repeated),
            spans_refused: read(&counters.spans_refused),
            spans_evicted: read(&counters.spans_evicted),
            sessions_recovered: read(&counters.sessions_recovered),
            spans_lost: read(&counters.spans_lost),
            events_received: read(&counters.events_received),
            integration_errors: read(&counters.integration_errors),
            database_bytes: disk::file_bytes(&self.shared.path),
            fault: self.shared.fault().clone(),
        }
    }

    /// Tells of changes from now on.
    pub fn news(&self) -> watch::Receiver<News> {
        self.shared.news.subscribe()
    }

    /// An id for an accepted post, unique since the store was opened, in the form of a UUID.
    fn next_request_id(&self) -> String {
        let number = 1 + self.shared.counters.posts.fetch_add(1, Ordering::Relaxed);
        format!("00000000-0000-4000-8000-{number:012x}")
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), AddError>>) -> Command,
    ) -> Result<(), AddError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| AddError::Unavailable)?;
        answer.await.unwrap_or(Err(AddError::Unavailable))
    }
}

#[cfg(test)]
mod tests;
