//! What can be asked of a store: lists of traces, one trace, the map.
//!
//! Everything here waits for the disk; call it where that does no harm.

use std::collections::HashSet;

use rusqlite::types::Value as Parameter;
use serde::Serialize;
use serde_json::value::RawValue;

use super::calls::{Map, MapBuilder};
use super::classify::{Client, Display, Role, classify, tree_order};
use super::disk::{Reader, signed};
use super::session::{Session, SessionId, Sessions};
use super::span::{Attributes, Facts, Span};
use super::summary::{State, Summary, milliseconds};
use super::{Hop, TraceStore};

/// Traces on a page of a list, unless it asks for another number.
pub const PAGE_DEFAULT: usize = 50;
/// Traces on a page of a list, at most.
pub const PAGE_MAX: usize = 200;
/// How far a start in milliseconds, as a floating-point number, may be from the one in nanoseconds.
const ROUNDING_NS: u64 = 500;

/// Which traces a list shall have. All conditions must hold; no condition means all traces.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// The trace id begins with this.
    pub id: Option<String>,
    /// All of these services take part in it.
    pub services: Vec<String>,
    /// It has spans that failed, or none.
    pub error: Option<bool>,
    /// Its duration is at least this many milliseconds.
    pub min_ms: Option<f64>,
    /// Its duration is at most this many milliseconds.
    pub max_ms: Option<f64>,
    /// It started then or later, milliseconds since 1970.
    pub from_ms: Option<f64>,
    /// It started then or earlier, milliseconds since 1970.
    pub to_ms: Option<f64>,
    /// It is open, or written.
    pub state: Option<State>,
}

/// Where a page of a list ends: start and session of its last trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    start_ns: u64,
    session: SessionId,
}

impl Cursor {
    /// Reads what [`Display`](std::fmt::Display) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (start_ns, session) = text.split_once('-')?;
        Some(Self { start_ns: start_ns.parse().ok()?, session: session.parse().ok()? })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.start_ns, self.session)
    }
}

/// A page of a list, the traces that started last first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Page {
    /// The traces. One that has several sessions is there several times.
    pub traces: Vec<Summary>,
    /// What the next page is to be asked with; `None` when there is none.
    pub next: Option<String>,
}

/// One span as it is shown.
#[derive(Debug, Serialize)]
pub struct SpanView {
    id: String,
    parent_id: Option<String>,
    session: SessionId,
    name: String,
    service: String,
    start_ms: f64,
    duration_ms: f64,
    roles: Vec<Role>,
    client: Option<Client>,
    display: Display,
    boundary: bool,
    error: Option<String>,
    orphan: bool,
    span_kind: Option<String>,
    attributes: Attributes,
}

/// One trace as it is shown.
#[derive(Debug, Serialize)]
pub struct TraceView {
    trace_id: String,
    sessions: Vec<Summary>,
    spans: Vec<SpanView>,
    hops: Vec<Hop>,
    events: Vec<Box<RawValue>>,
}

/// A session as it is shown at `now_ms`.
pub(super) fn summarize(sessions: &Sessions, id: SessionId, session: &Session, state: State, now_ms: u64) -> Summary {
    Summary {
        session: id,
        trace_id: session.trace_id.to_string(),
        state,
        totals: session.derived().totals.clone(),
        late: session.late,
        first_seen_ms: session.first_seen_ms,
        last_seen_ms: session.last_seen_ms,
        closes_in_ms: (state == State::Open).then(|| sessions.closes_in_ms(session, now_ms)),
    }
}

impl TraceStore {
    /// A page of the traces that pass `filter`, those behind `before` only.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn list(&self, filter: &Filter, before: Option<Cursor>, limit: usize) -> rusqlite::Result<Page> {
        let now_ms = self.shared.now_ms();
        let (mut found, reader) = self.look(|sessions| {
            let open = sessions.iter().filter(|(id, session)| filter.passes(*id, session, before));
            let mut open: Vec<(Cursor, SessionId)> = open.map(|(id, session)| (cursor(id, session), id)).collect();
            open.sort_unstable_by(|one, other| other.cmp(one));
            let summary = |(cursor, id): &(Cursor, SessionId)| {
                let session = sessions.get(*id)?;
                Some((*cursor, summarize(sessions, *id, session, State::Open, now_ms)))
            };
            open.iter().take(limit + 1).filter_map(summary).collect::<Vec<_>>()
        })?;
        if filter.state != Some(State::Open) {
            found.extend(reader.list(filter, before, limit + 1)?);
        }
        self.give_back(reader)?;
        found.sort_by(|(one, _), (other, _)| other.cmp(one));
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| has_more).map(|(cursor, _)| cursor.to_string());
        Ok(Page { traces: found.into_iter().map(|(_, summary)| summary).collect(), next })
    }

    /// One trace with all its sessions; `None` when there is no such trace.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn trace(&self, trace_id: &str) -> rusqlite::Result<Option<TraceView>> {
        let now_ms = self.shared.now_ms();
        let (open, reader) = self.look(|sessions| {
            let of_trace = sessions.iter().filter(|(_, session)| *session.trace_id == *trace_id);
            of_trace.map(|(id, session)| summarize(sessions, id, session, State::Open, now_ms)).collect::<Vec<_>>()
        })?;
        let mut sessions = reader.summaries(trace_id)?;
        sessions.extend(open);
        let view = if sessions.is_empty() { None } else { Some(reader.view(trace_id, sessions)?) };
        self.give_back(reader)?;
        Ok(view)
    }

    /// The trace that started last.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn latest(&self) -> rusqlite::Result<Option<TraceView>> {
        let page = self.list(&Filter::default(), None, 1)?;
        page.traces.first().map_or(Ok(None), |summary| self.trace(&summary.trace_id))
    }

    /// The names of all services, in alphabetical order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn services(&self) -> rusqlite::Result<Vec<String>> {
        let (mut services, reader) = self.look(|sessions| {
            let services = sessions.iter().flat_map(|(_, session)| &session.derived().totals.services);
            let names: HashSet<&String> = services.collect();
            names.into_iter().cloned().collect::<Vec<_>>()
        })?;
        services.extend(reader.services()?);
        self.give_back(reader)?;
        services.sort_unstable();
        services.dedup();
        Ok(services)
    }

    /// Who called whom in a span of time, milliseconds since 1970; without ends, in all that is kept.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn map(&self, from_ms: Option<f64>, to_ms: Option<f64>) -> rusqlite::Result<Map> {
        let (from_ns, to_ns) = (lower(from_ms), upper(to_ms));
        let (mut map, reader) = self.look(|sessions| {
            let mut map = MapBuilder::default();
            let calls = sessions.iter().flat_map(|(_, session)| &session.derived().calls);
            calls.filter(|call| (from_ns..=to_ns).contains(&call.start_ns)).for_each(|call| map.add(call));
            map
        })?;
        reader.calls(from_ns, to_ns, |call| map.add(call))?;
        self.give_back(reader)?;
        Ok(map.build(from_ms, to_ms))
    }

    /// Looks at the open sessions, and gives a reader of the database as it was then.
    fn look<T>(&self, look: impl FnOnce(&Sessions) -> T) -> rusqlite::Result<(T, Reader)> {
        let reader = self.shared.readers().pop();
        let reader = reader.map_or_else(|| Reader::open(&self.shared.path), Ok)?;
        let sessions = self.shared.sessions();
        reader.begin()?;
        Ok((look(&sessions), reader))
    }

    /// A reader that met a fault is not given back, but closed.
    fn give_back(&self, reader: Reader) -> rusqlite::Result<()> {
        reader.end()?;
        self.shared.readers().push(reader);
        Ok(())
    }
}

impl Filter {
    fn passes(&self, id: SessionId, session: &Session, before: Option<Cursor>) -> bool {
        let derived = session.derived();
        let totals = &derived.totals;
        let has = |service: &String| totals.services.contains(service);
        self.state != Some(State::Written)
            && self.id.as_ref().is_none_or(|prefix| session.trace_id.starts_with(prefix.as_str()))
            && self.services.iter().all(has)
            && self.error.is_none_or(|error| (totals.errors > 0) == error)
            && (lower_duration(self.min_ms)..=upper_duration(self.max_ms)).contains(&derived.duration_ns)
            && (lower(self.from_ms)..=upper(self.to_ms)).contains(&derived.start_ns)
            && before.is_none_or(|before| cursor(id, session) < before)
    }

    /// The conditions in SQL, and their parameters.
    fn sql(&self, before: Option<Cursor>) -> (String, Vec<Parameter>) {
        let mut conditions = vec!["duration_ns BETWEEN ? AND ?", "start_ns BETWEEN ? AND ?"];
        let bounds = [lower_duration(self.min_ms), upper_duration(self.max_ms), lower(self.from_ms), upper(self.to_ms)];
        let mut parameters: Vec<Parameter> = bounds.into_iter().map(|bound| signed(bound).into()).collect();
        if let Some(prefix) = &self.id {
            conditions.push("trace_id >= ? AND trace_id < ? || char(0x10ffff)");
            parameters.extend([prefix.clone().into(), prefix.clone().into()]);
        }
        for service in &self.services {
            conditions.push("EXISTS (SELECT 1 FROM trace_services AS s WHERE s.session = t.session AND s.service = ?)");
            parameters.push(service.clone().into());
        }
        conditions.extend(self.error.map(|error| if error { "errors > 0" } else { "errors = 0" }));
        if let Some(before) = before {
            conditions.push("(start_ns, session) < (?, ?)");
            parameters.extend([signed(before.start_ns).into(), before.session.into()]);
        }
        (conditions.join(" AND "), parameters)
    }
}

fn cursor(session: SessionId, open: &Session) -> Cursor {
    Cursor { start_ns: open.derived().start_ns, session }
}

fn nanoseconds(milliseconds: f64) -> u64 {
    // The conversion ends at the ends of the type.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "this is what it is used for")]
    let nanoseconds = (milliseconds * 1e6).round() as u64;
    nanoseconds
}

fn lower(milliseconds: Option<f64>) -> u64 {
    milliseconds.map_or(0, |ms| nanoseconds(ms).saturating_sub(ROUNDING_NS))
}

fn upper(milliseconds: Option<f64>) -> u64 {
    milliseconds.map_or(u64::MAX, |ms| nanoseconds(ms).saturating_add(ROUNDING_NS))
}

fn lower_duration(milliseconds: Option<f64>) -> u64 {
    milliseconds.map_or(0, nanoseconds)
}

fn upper_duration(milliseconds: Option<f64>) -> u64 {
    milliseconds.map_or(u64::MAX, nanoseconds)
}

impl Reader {
    fn list(&self, filter: &Filter, before: Option<Cursor>, limit: usize) -> rusqlite::Result<Vec<(Cursor, Summary)>> {
        let (conditions, mut parameters) = filter.sql(before);
        parameters.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
        // The rows are chosen in the index alone, as summaries are long.
        let sql = format!(
            "SELECT start_ns, session, summary FROM traces WHERE session IN (
                 SELECT session FROM traces AS t WHERE {conditions} ORDER BY start_ns DESC, session DESC LIMIT ?)"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let cursor = Cursor { start_ns: row.get(0)?, session: row.get(1)? };
            found.push((cursor, parse(row.get_ref(2)?.as_str()?)?));
        }
        Ok(found)
    }

    /// The written sessions of a trace, in the order they were opened.
    fn summaries(&self, trace_id: &str) -> rusqlite::Result<Vec<Summary>> {
        let sql = "SELECT summary FROM traces WHERE trace_id = ? ORDER BY session";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([trace_id])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(parse(row.get_ref(0)?.as_str()?)?);
        }
        Ok(found)
    }

    fn services(&self) -> rusqlite::Result<Vec<String>> {
        let mut statement = self.connection.prepare_cached("SELECT DISTINCT service FROM trace_services")?;
        statement.query_map([], |row| row.get(0))?.collect()
    }

    fn view(&self, trace_id: &str, sessions: Vec<Summary>) -> rusqlite::Result<TraceView> {
        let mut spans: Vec<(SessionId, Span)> = Vec::new();
        let mut ids = HashSet::new();
        for summary in &sessions {
            // A span that came again in a later session is shown where it came first.
            let of_session = self.spans(summary.session)?.into_iter().filter(|span| ids.insert(span.id.clone()));
            spans.extend(of_session.map(|span| (summary.session, span)));
        }
        Ok(TraceView {
            trace_id: trace_id.to_owned(),
            sessions,
            spans: views(spans),
            hops: self.hops(trace_id)?,
            events: self.events(trace_id)?,
        })
    }

    fn hops(&self, trace_id: &str) -> rusqlite::Result<Vec<Hop>> {
        let mut statement = self.connection.prepare_cached("SELECT hops FROM hops WHERE trace_id = ?")?;
        let mut rows = statement.query([trace_id])?;
        rows.next()?.map_or_else(|| Ok(Vec::new()), |row| parse(row.get_ref(0)?.as_str()?))
    }

    fn events(&self, trace_id: &str) -> rusqlite::Result<Vec<Box<RawValue>>> {
        let sql = "SELECT event FROM events WHERE trace_id = ? ORDER BY number";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([trace_id])?;
        let mut events = Vec::new();
        while let Some(row) = rows.next()? {
            events.push(parse(row.get_ref(0)?.as_str()?)?);
        }
        Ok(events)
    }
}

/// The spans as they are shown, each parent before its children.
fn views(spans: Vec<(SessionId, Span)>) -> Vec<SpanView> {
    let facts: Vec<Facts> = spans.iter().map(|(_, span)| span.facts()).collect();
    let classes = classify(&facts);
    let mut spans: Vec<Option<(SessionId, Span)>> = spans.into_iter().map(Some).collect();
    let order = tree_order(&facts, &classes);
    let view = |at: usize| {
        let (session, span) = spans.get_mut(at)?.take()?;
        let class = &classes[at];
        Some(SpanView {
            session,
            service: span.service().to_owned(),
            start_ms: milliseconds(span.start_ns),
            duration_ms: milliseconds(span.duration_ns),
            roles: class.roles(),
            client: class.client(),
            display: class.display(),
            boundary: class.boundary,
            error: span.error(),
            orphan: class.orphan,
            span_kind: Some(span.text("span.kind").to_owned()).filter(|kind| !kind.is_empty()),
            id: span.id,
            parent_id: span.parent_id,
            name: span.name,
            attributes: span.attributes,
        })
    };
    order.into_iter().filter_map(view).collect()
}

/// Reads JSON that this store wrote.
fn parse<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
