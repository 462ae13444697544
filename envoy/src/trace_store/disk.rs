//! The database: a journal of the spans of open sessions, and the traces that were written.
//!
//! | Table | A row is |
//! |---|---|
//! | `open_sessions` | a session that is open |
//! | `journal` | what one post brought for one session: a line of JSON for each span |
//! | `traces` | a session that was closed, with its summary |
//! | `trace_spans` | the spans of one, as in the journal, compressed by zlib |
//! | `trace_services`, `calls` | a service of one, a call in it |
//! | `hops`, `events` | what was noted of a trace beside its spans |
//!
//! A post is answered when its spans are in the journal, so that a store that is killed has everything it answered for.
//! Closing a session moves its spans from the journal to the traces in one transaction.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Transaction, params};

use super::calls::{Call, NodeKind};
use super::session::{SessionId, Sessions};
use super::span::Span;
use super::summary::{Derived, Summary};

/// Name of the database in the store's directory.
const FILE_NAME: &str = "traces.db";
/// Name of the file that a running store keeps locked.
const LOCK_NAME: &str = "traces.lock";
/// Says in the file that it is a trace store's: "NRTS".
const APPLICATION_ID: i32 = 0x4e52_5453;
/// Says which tables there are. A database of another version is refused.
const VERSION: i32 = 1;
/// How long a reader, or the writer, waits while somebody else has the database for itself.
const BUSY_MAX: Duration = Duration::from_secs(1);
/// Memory for pages of the database, in KiB, of the writer and of each reader.
const CACHE_KIB: i32 = 8_192;
/// Size that the write-ahead log is cut back to, in bytes.
const LOG_BYTES: i64 = 16 << 20;

const COUNT_WRITTEN: &str = "SELECT count(*) FROM traces";
const SCHEMA: &str = "
    CREATE TABLE open_sessions (session INTEGER PRIMARY KEY, trace_id TEXT NOT NULL, late INTEGER NOT NULL) STRICT;
    CREATE TABLE journal (
        seq INTEGER PRIMARY KEY, session INTEGER NOT NULL, received_ms INTEGER NOT NULL, spans BLOB NOT NULL
    ) STRICT;
    CREATE INDEX journal_by_session ON journal (session);
    CREATE TABLE traces (
        session INTEGER PRIMARY KEY, trace_id TEXT NOT NULL, start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL,
        errors INTEGER NOT NULL, spans INTEGER NOT NULL, summary TEXT NOT NULL
    ) STRICT;
    CREATE INDEX traces_by_start ON traces (start_ns, session, duration_ns, errors);
    CREATE INDEX traces_by_trace_id ON traces (trace_id);
    CREATE TABLE trace_spans (session INTEGER PRIMARY KEY, spans BLOB NOT NULL) STRICT;
    CREATE TABLE trace_services (
        session INTEGER NOT NULL, service TEXT NOT NULL, PRIMARY KEY (session, service)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE calls (
        session INTEGER NOT NULL, number INTEGER NOT NULL, caller TEXT, callee TEXT NOT NULL, kind TEXT NOT NULL,
        start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL, served_ns INTEGER NOT NULL, is_error INTEGER NOT NULL,
        PRIMARY KEY (session, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE hops (number INTEGER PRIMARY KEY, trace_id TEXT NOT NULL UNIQUE, hops TEXT NOT NULL) STRICT;
    CREATE TABLE events (number INTEGER PRIMARY KEY, trace_id TEXT NOT NULL, event TEXT NOT NULL) STRICT;
    CREATE INDEX events_by_trace_id ON events (trace_id);
";

/// Why a store's directory cannot be used. Nothing in it was changed.
#[derive(Debug)]
pub enum OpenError {
    /// The directory cannot be made or written to.
    Directory(PathBuf, io::Error),
    /// Another store uses it.
    InUse(PathBuf),
    /// The file is a database of something else.
    Foreign(PathBuf),
    /// The database is of another version of this program.
    Version(PathBuf, i32),
    /// The file is no database, or a damaged one.
    Broken(PathBuf, String),
    /// The database answers with something else.
    Database(PathBuf, rusqlite::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path, error) => write!(f, "cannot use {}: {error}", path.display()),
            Self::InUse(path) => write!(f, "another trace store uses {}", path.display()),
            Self::Foreign(path) => write!(f, "{} is a database of another program", path.display()),
            Self::Version(path, found) => write!(
                f,
                "{} is of version {found}, this program knows version {VERSION}; move the file away to start anew",
                path.display()
            ),
            Self::Broken(path, why) => {
                write!(f, "{} is damaged ({why}); move the file away to start anew", path.display())
            }
            Self::Database(path, error) => write!(f, "cannot open {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

/// What was found in the journal at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Recovered {
    /// Sessions that are open again.
    pub(super) sessions: u64,
    /// Spans that cannot be read.
    pub(super) spans_lost: u64,
}

/// What a trace is written with.
pub(super) struct Closing<'a> {
    pub(super) session: SessionId,
    pub(super) summary: &'a Summary,
    pub(super) derived: &'a Derived,
}

/// The database as its only writer has it.
#[derive(Debug)]
pub(super) struct Disk {
    connection: Connection,
    _lock: File,
}

/// The path of the database in a store's directory.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

impl Disk {
    /// Opens the database in `dir`, or makes one.
    pub(super) fn open(dir: &Path) -> Result<Self, OpenError> {
        let lock = lock(dir)?;
        let path = path(dir);
        let name = |error: rusqlite::Error| explain(&path, error);
        let connection = Connection::open(&path).map_err(name)?;
        connection.busy_timeout(BUSY_MAX).map_err(name)?;
        check(&connection, &path)?;
        settle(&connection).map_err(name)?;
        Ok(Self { connection, _lock: lock })
    }

    /// The name of the next session.
    pub(super) fn next_session(&self) -> rusqlite::Result<SessionId> {
        let sql = "SELECT 1 + max(coalesce((SELECT max(session) FROM traces), 0),
                                  coalesce((SELECT max(session) FROM open_sessions), 0))";
        self.connection.query_row(sql, [], |row| row.get(0))
    }

    /// Opens the sessions of the journal again. One of which nothing can be read is given up.
    pub(super) fn recover(&self, sessions: &mut Sessions) -> rusqlite::Result<Recovered> {
        let (recovered, unreadable) = recover(&self.connection, sessions)?;
        for session in unreadable {
            forget(&self.connection, session)?;
        }
        Ok(recovered)
    }

    /// Begins a change; nothing of it is kept unless it is committed.
    pub(super) fn begin(&mut self) -> rusqlite::Result<Change<'_>> {
        Ok(Change { transaction: self.connection.transaction()? })
    }

    /// Traces that are written.
    pub(super) fn written(&self) -> rusqlite::Result<u64> {
        self.connection.query_row(COUNT_WRITTEN, [], |row| row.get(0))
    }

    /// Bytes of the database that are in use.
    pub(super) fn used_bytes(&self) -> rusqlite::Result<u64> {
        let sql = "SELECT (page_count - freelist_count) * page_size
                   FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
    }

    /// Writes everything that is still in the write-ahead log into the database.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}

/// A change that was begun.
pub(super) struct Change<'a> {
    transaction: Transaction<'a>,
}

impl Change<'_> {
    /// Whether a trace has a session that was written.
    pub(super) fn is_written(&self, trace_id: &str) -> rusqlite::Result<bool> {
        self.transaction.prepare_cached("SELECT 1 FROM traces WHERE trace_id = ? LIMIT 1")?.exists([trace_id])
    }

    pub(super) fn open_session(&self, session: SessionId, trace_id: &str, late: bool) -> rusqlite::Result<()> {
        let sql = "INSERT INTO open_sessions (session, trace_id, late) VALUES (?, ?, ?)";
        self.transaction.prepare_cached(sql)?.execute(params![session, trace_id, late]).map(drop)
    }

    /// Adds lines of spans to the journal.
    pub(super) fn journal(&self, session: SessionId, received_ms: u64, lines: &[u8]) -> rusqlite::Result<()> {
        let sql = "INSERT INTO journal (session, received_ms, spans) VALUES (?, ?, ?)";
        let received_ms = i64::try_from(received_ms).unwrap_or(i64::MAX);
        self.transaction.prepare_cached(sql)?.execute(params![session, received_ms, lines]).map(drop)
    }

    /// Moves a session from the journal to the traces.
    pub(super) fn write(&self, closing: &Closing<'_>) -> rusqlite::Result<()> {
        let Closing { session, summary, derived } = closing;
        let lines = journal_lines(&self.transaction, *session)?;
        let text = serde_json::to_string(summary).map_err(to_sql_error)?;
        let totals = &summary.totals;
        self.transaction
            .prepare_cached(
                "INSERT INTO traces (session, trace_id, start_ns, duration_ns, errors, spans, summary)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                session,
                summary.trace_id,
                signed(derived.start_ns),
                signed(derived.duration_ns),
                totals.errors,
                totals.spans,
                text
            ])?;
        self.transaction
            .prepare_cached("INSERT INTO trace_spans (session, spans) VALUES (?, ?)")?
            .execute(params![session, deflate(&lines).map_err(to_sql_error)?])?;
        for service in &totals.services {
            self.transaction
                .prepare_cached("INSERT INTO trace_services (session, service) VALUES (?, ?)")?
                .execute(params![session, service])?;
        }
        for (number, call) in derived.calls.iter().enumerate() {
            self.write_call(*session, number, call)?;
        }
        forget(&self.transaction, *session)
    }

    fn write_call(&self, session: SessionId, number: usize, call: &Call) -> rusqlite::Result<()> {
        let sql =
            "INSERT INTO calls (session, number, caller, callee, kind, start_ns, duration_ns, served_ns, is_error)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let [start, duration, served] = [call.start_ns, call.duration_ns, call.served_ns].map(signed);
        let values =
            params![session, number, call.from, call.to, call.kind.text(), start, duration, served, call.is_error];
        self.transaction.prepare_cached(sql)?.execute(values).map(drop)
    }

    /// Removes the trace that was written first. Gives the number of its spans.
    pub(super) fn evict(&self) -> rusqlite::Result<Option<u64>> {
        let sql = "SELECT session, trace_id, spans FROM traces ORDER BY session LIMIT 1";
        let first = self
            .transaction
            .prepare_cached(sql)?
            .query_row([], |row| Ok((row.get::<_, SessionId>(0)?, row.get::<_, String>(1)?, row.get::<_, u64>(2)?)));
        let Some((session, trace_id, spans)) = first.optional()? else { return Ok(None) };
        for sql in [
            "DELETE FROM traces WHERE session = ?",
            "DELETE FROM trace_spans WHERE session = ?",
            "DELETE FROM trace_services WHERE session = ?",
            "DELETE FROM calls WHERE session = ?",
        ] {
            self.transaction.prepare_cached(sql)?.execute([session])?;
        }
        if !self.is_written(&trace_id)? {
            self.transaction.prepare_cached("DELETE FROM hops WHERE trace_id = ?")?.execute([&trace_id])?;
            self.transaction.prepare_cached("DELETE FROM events WHERE trace_id = ?")?.execute([&trace_id])?;
        }
        Ok(Some(spans))
    }

    /// The hops noted of a trace, as they were given.
    pub(super) fn hops(&self, trace_id: &str) -> rusqlite::Result<Option<String>> {
        let mut hops = self.transaction.prepare_cached("SELECT hops FROM hops WHERE trace_id = ?")?;
        hops.query_row([trace_id], |row| row.get(0)).optional()
    }

    /// Notes the hops of a trace in place of earlier ones; of other traces the newest `traces_max` keep theirs.
    pub(super) fn set_hops(&self, trace_id: &str, hops: &str, traces_max: u64) -> rusqlite::Result<()> {
        let sql = "INSERT INTO hops (trace_id, hops) VALUES (?, ?)
                   ON CONFLICT (trace_id) DO UPDATE SET hops = excluded.hops";
        self.transaction.prepare_cached(sql)?.execute([trace_id, hops])?;
        let sql = "DELETE FROM hops WHERE number <= (SELECT max(number) FROM hops) - ?";
        self.transaction.prepare_cached(sql)?.execute([traces_max]).map(drop)
    }

    /// Notes an event of a trace; the newest `events_max` are kept.
    pub(super) fn add_event(&self, trace_id: &str, event: &str, events_max: u64) -> rusqlite::Result<()> {
        let sql = "INSERT INTO events (trace_id, event) VALUES (?, ?)";
        self.transaction.prepare_cached(sql)?.execute([trace_id, event])?;
        let sql = "DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?";
        self.transaction.prepare_cached(sql)?.execute([events_max]).map(drop)
    }

    /// Keeps the change.
    pub(super) fn commit(self) -> rusqlite::Result<()> {
        self.transaction.commit()
    }
}

/// A connection that only reads. What it reads between [`begin`](Self::begin) and [`end`](Self::end) belongs together.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) connection: Connection,
}

impl Reader {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_MAX)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        Ok(Self { connection })
    }

    /// Opens the sessions of the journal as they are. `None` when there is no database in `dir`.
    pub(super) fn look(dir: &Path, sessions: &mut Sessions) -> Result<Option<(Self, u64)>, OpenError> {
        let path = path(dir);
        if !path.exists() {
            return Ok(None);
        }
        let name = |error: rusqlite::Error| explain(&path, error);
        let reader = Self::open(&path).map_err(name)?;
        check_marks(&reader.connection, &path)?;
        recover(&reader.connection, sessions).map_err(name)?;
        let written = reader.connection.query_row(COUNT_WRITTEN, [], |row| row.get(0));
        Ok(Some((reader, written.map_err(name)?)))
    }

    /// Everything read from here on is as of now.
    pub(super) fn begin(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN")?;
        // The snapshot is taken by the first read.
        self.connection.query_row("SELECT count(*) FROM (SELECT 1 FROM traces LIMIT 1)", [], |_| Ok(()))
    }

    pub(super) fn end(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch("END")
    }

    /// The spans of a session, open or written.
    pub(super) fn spans(&self, session: SessionId) -> rusqlite::Result<Vec<Span>> {
        let mut written = self.connection.prepare_cached("SELECT spans FROM trace_spans WHERE session = ?")?;
        let blob: Option<Vec<u8>> = written.query_row([session], |row| row.get(0)).optional()?;
        match blob {
            Some(blob) => {
                Ok(lines(&inflate(&blob).map_err(to_sql_error)?).0.into_iter().map(|line| line.span).collect())
            }
            None => Ok(journalled(&self.connection, session)?.0.into_iter().map(|(_, line)| line.span).collect()),
        }
    }

    /// Gives each call of the written traces that began in a span of time, in nanoseconds since 1970.
    pub(super) fn calls(&self, from_ns: u64, to_ns: u64, mut take: impl FnMut(&Call)) -> rusqlite::Result<()> {
        let sql = "SELECT caller, callee, kind, start_ns, duration_ns, served_ns, is_error FROM calls
                   WHERE start_ns BETWEEN ? AND ?";
        let mut calls = self.connection.prepare_cached(sql)?;
        let mut rows = calls.query([signed(from_ns), signed(to_ns)])?;
        while let Some(row) = rows.next()? {
            take(&Call {
                from: row.get(0)?,
                to: row.get(1)?,
                kind: NodeKind::from_text(row.get_ref(2)?.as_str()?).unwrap_or(NodeKind::External),
                start_ns: row.get(3)?,
                duration_ns: row.get(4)?,
                served_ns: row.get(5)?,
                is_error: row.get(6)?,
            });
        }
        Ok(())
    }
}

/// A number of nanoseconds as the database holds it.
pub(super) fn signed(nanoseconds: u64) -> i64 {
    i64::try_from(nanoseconds).unwrap_or(i64::MAX)
}

/// The line of a span.
pub(super) fn line(span: &Span) -> Vec<u8> {
    // Maps with text as keys and numbers that are finite can always be written.
    let mut line = serde_json::to_vec(span).unwrap_or_default();
    line.push(b'\n');
    line
}

/// A line that was read.
struct Line {
    span: Span,
    /// Its length with its end.
    bytes: usize,
}

/// The lines of a text, and how many of them cannot be read.
fn lines(text: &[u8]) -> (Vec<Line>, u64) {
    let mut lost = 0;
    let mut lines = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(span) => lines.push(Line { span, bytes: line.len() + 1 }),
            Err(_) => lost += 1,
        }
    }
    (lines, lost)
}

/// The spans of an open session with the times they came at, and how many cannot be read.
fn journalled(connection: &Connection, session: SessionId) -> rusqlite::Result<(Vec<(u64, Line)>, u64)> {
    let mut journal =
        connection.prepare_cached("SELECT received_ms, spans FROM journal WHERE session = ? ORDER BY seq")?;
    let mut rows = journal.query([session])?;
    let (mut all, mut lost) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let received_ms: u64 = row.get(0)?;
        let (read, unreadable) = lines(row.get_ref(1)?.as_blob()?);
        lost += unreadable;
        all.extend(read.into_iter().map(|line| (received_ms, line)));
    }
    Ok((all, lost))
}

/// Opens the sessions of the journal again. Gives those, too, of which nothing can be read.
fn recover(connection: &Connection, sessions: &mut Sessions) -> rusqlite::Result<(Recovered, Vec<SessionId>)> {
    let mut recovered = Recovered::default();
    let mut unreadable = Vec::new();
    let mut open = connection.prepare("SELECT session, trace_id, late FROM open_sessions ORDER BY session")?;
    let mut rows = open.query([])?;
    while let Some(row) = rows.next()? {
        let (session, trace_id): (SessionId, String) = (row.get(0)?, row.get(1)?);
        let (spans, lost) = journalled(connection, session)?;
        recovered.spans_lost += lost;
        if spans.is_empty() {
            unreadable.push(session);
            continue;
        }
        recovered.sessions += 1;
        let facts = spans.iter().map(|(received_ms, line)| (*received_ms, line.span.facts(), line.bytes));
        sessions.restore(session, &trace_id, row.get(2)?, facts);
    }
    Ok((recovered, unreadable))
}

/// Takes a session out of the journal.
fn forget(connection: &Connection, session: SessionId) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM journal WHERE session = ?")?.execute([session])?;
    connection.prepare_cached("DELETE FROM open_sessions WHERE session = ?")?.execute([session]).map(drop)
}

fn journal_lines(transaction: &Transaction<'_>, session: SessionId) -> rusqlite::Result<Vec<u8>> {
    let mut journal = transaction.prepare_cached("SELECT spans FROM journal WHERE session = ? ORDER BY seq")?;
    let mut rows = journal.query([session])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.extend_from_slice(row.get_ref(0)?.as_blob()?);
    }
    Ok(all)
}

fn deflate(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn inflate(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut inflated = Vec::new();
    ZlibDecoder::new(bytes).read_to_end(&mut inflated)?;
    Ok(inflated)
}

fn to_sql_error(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

/// Keeps other stores away from a directory for as long as the file lives. The system lets go of it when the program
/// ends, however that happens.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let fault = |error| OpenError::Directory(dir.to_owned(), error);
    std::fs::create_dir_all(dir).map_err(fault)?;
    let file = File::options().create(true).write(true).truncate(false).open(dir.join(LOCK_NAME)).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(fault(error)),
    }
}

/// Makes sure that the file is a store's of this version, and sound. A file without any table becomes one.
fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let name = |error: rusqlite::Error| explain(path, error);
    let sql = "SELECT (SELECT count(*) FROM sqlite_schema) = 0 AND application_id = 0 AND user_version = 0
               FROM pragma_application_id, pragma_user_version";
    if connection.query_row(sql, [], |row| row.get(0)).map_err(name)? {
        return create(connection).map_err(name);
    }
    check_marks(connection, path)?;
    let fault: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(name)?;
    if fault == "ok" { Ok(()) } else { Err(OpenError::Broken(path.to_owned(), fault)) }
}

/// Makes sure that the file is a store's of this version.
fn check_marks(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let number = |pragma: &str| {
        connection.query_row(pragma, [], |row| row.get::<_, i32>(0)).map_err(|error| explain(path, error))
    };
    match (number("PRAGMA application_id")?, number("PRAGMA user_version")?) {
        (APPLICATION_ID, VERSION) => Ok(()),
        (APPLICATION_ID, other) => Err(OpenError::Version(path.to_owned(), other)),
        _ => Err(OpenError::Foreign(path.to_owned())),
    }
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    let marks = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};");
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} {marks} COMMIT;"))
}

/// Every commit is on the disk when it returns, also if the machine then loses its power.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.query_row(&format!("PRAGMA journal_size_limit = {LOG_BYTES}"), [], |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn explain(path: &Path, error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Broken(path.to_owned(), error.to_string())
        }
        _ => OpenError::Database(path.to_owned(), error),
    }
}

/// About how large a database with its log is, in bytes.
pub(super) fn file_bytes(path: &Path) -> u64 {
    let log = path.with_extension("db-wal");
    [path, &log].into_iter().filter_map(|path| std::fs::metadata(path).ok()).map(|file| file.len()).sum()
}
