//! Which spans belong to one trace: a session per trace, open until no new span has come for a while.
//!
//! Source: "Technical distributed tracing details" in New Relic's documentation, section "Head-based sampling". The
//! first span of a trace opens a session, each new one keeps it open for [`SESSION_MS`] more, and the trace is written
//! when it closes. A span that comes later opens another session of the same trace.
//!
//! There is no clock here: whoever calls says what time it is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::OnceLock;

use super::span::Facts;
use super::summary::Derived;

/// How long a session stays open after its last span, in milliseconds.
pub const SESSION_MS: u64 = 90_000;
/// Spans of one session; further ones are refused. A limit of New Relic's Trace API.
pub const SESSION_SPANS_MAX: usize = 50_000;
/// Bytes of one session's spans on the disk; further spans are refused, so that a single trace can be shown.
pub const SESSION_LINES_MAX: usize = 32 << 20;
/// About what a session takes in memory beside its spans, in bytes: its places in the indexes and what is derived.
const SESSION_BYTES: usize = 1_024;

/// Names one session of this store, in the order they were opened.
pub type SessionId = i64;

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// The trace.
    pub trace_id: Box<str>,
    /// An earlier session of the same trace had been closed.
    pub late: bool,
    /// When its first span came, milliseconds since 1970.
    pub first_seen_ms: u64,
    /// When its latest span came, milliseconds since 1970.
    pub last_seen_ms: u64,
    line_bytes: usize,
    spans: Vec<Facts>,
    ids: HashSet<Box<str>>,
    derived: OnceLock<Derived>,
}

impl Session {
    fn open(trace_id: &str, late: bool, now_ms: u64) -> Self {
        Self {
            trace_id: trace_id.into(),
            late,
            first_seen_ms: now_ms,
            last_seen_ms: now_ms,
            line_bytes: 0,
            spans: Vec::new(),
            ids: HashSet::new(),
            derived: OnceLock::new(),
        }
    }

    /// What its spans amount to, worked out when it is first asked for after a span came.
    pub fn derived(&self) -> &Derived {
        self.derived.get_or_init(|| Derived::of(&self.spans))
    }

    /// The spans, in the order they came.
    pub fn spans(&self) -> &[Facts] {
        &self.spans
    }
}

/// What became of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is the first one of this session.
    Opened(SessionId),
    /// It is one more of this session.
    Joined(SessionId),
    /// The session has a span of this id already. The first one counts.
    Repeated,
    /// The session has [`SESSION_SPANS_MAX`] spans or [`SESSION_LINES_MAX`] bytes.
    TooMany,
}

/// All open sessions, and those whose time is over but which were not removed yet.
#[derive(Debug)]
pub struct Sessions {
    session_ms: u64,
    now_ms: u64,
    next: SessionId,
    bytes: usize,
    line_bytes: usize,
    by_id: BTreeMap<SessionId, Session>,
    /// The newest session of each trace.
    by_trace: HashMap<Box<str>, SessionId>,
    by_last_seen: BTreeSet<(u64, SessionId)>,
}

impl Sessions {
    /// No sessions yet. They will close `session_ms` after their last span, and `next` is the first one's name.
    pub fn new(session_ms: u64, next: SessionId) -> Self {
        Self {
            session_ms,
            now_ms: 0,
            next,
            bytes: 0,
            line_bytes: 0,
            by_id: BTreeMap::new(),
            by_trace: HashMap::new(),
            by_last_seen: BTreeSet::new(),
        }
    }

    /// Takes one span, with the size of what is kept of it on the disk. `was_closed` tells whether the trace has a
    /// session that was written; it is asked when the span opens one.
    pub fn arrive(
        &mut self,
        trace_id: &str,
        (span, line_bytes): (Facts, usize),
        now_ms: u64,
        was_closed: impl FnOnce() -> bool,
    ) -> Arrival {
        let now_ms = self.advance(now_ms);
        if line_bytes > SESSION_LINES_MAX {
            return Arrival::TooMany;
        }
        let newest = self.by_trace.get(trace_id).copied();
        if let Some(id) = newest.filter(|id| !self.is_over(*id)) {
            return self.join(id, (span, line_bytes), now_ms);
        }
        let id = self.next;
        self.next += 1;
        let late = newest.is_some() || was_closed();
        self.insert(id, Session::open(trace_id, late, now_ms));
        self.join(id, (span, line_bytes), now_ms);
        Arrival::Opened(id)
    }

    fn join(&mut self, id: SessionId, (span, line_bytes): (Facts, usize), now_ms: u64) -> Arrival {
        let Some(session) = self.by_id.get_mut(&id) else { return Arrival::Repeated };
        if session.ids.contains(&span.id) {
            return Arrival::Repeated;
        }
        if session.spans.len() >= SESSION_SPANS_MAX || session.line_bytes + line_bytes > SESSION_LINES_MAX {
            return Arrival::TooMany;
        }
        self.bytes += span.bytes();
        self.line_bytes += line_bytes;
        session.line_bytes += line_bytes;
        self.by_last_seen.remove(&(session.last_seen_ms, id));
        session.last_seen_ms = session.last_seen_ms.max(now_ms);
        self.by_last_seen.insert((session.last_seen_ms, id));
        session.ids.insert(span.id.clone());
        session.spans.push(span);
        session.derived = OnceLock::new();
        Arrival::Joined(id)
    }

    /// Puts back a session that was open before a restart: when each span came, the span, and its size on the disk.
    pub fn restore(
        &mut self,
        id: SessionId,
        trace_id: &str,
        late: bool,
        spans: impl IntoIterator<Item = (u64, Facts, usize)>,
    ) {
        let mut spans = spans.into_iter().peekable();
        let Some((first_seen_ms, ..)) = spans.peek() else { return };
        self.next = self.next.max(id + 1);
        self.insert(id, Session::open(trace_id, late, *first_seen_ms));
        for (received_ms, span, line_bytes) in spans {
            self.join(id, (span, line_bytes), received_ms);
        }
    }

    fn insert(&mut self, id: SessionId, session: Session) {
        self.bytes += SESSION_BYTES + session.trace_id.len();
        self.by_trace.insert(session.trace_id.clone(), id);
        self.by_last_seen.insert((session.last_seen_ms, id));
        self.by_id.insert(id, session);
    }

    /// The sessions whose time is over, those first that closed first.
    pub fn over(&mut self, now_ms: u64) -> impl Iterator<Item = SessionId> {
        let now_ms = self.advance(now_ms);
        let session_ms = self.session_ms;
        let is_over = move |last_seen_ms: u64| now_ms - last_seen_ms.min(now_ms) >= session_ms;
        self.by_last_seen.iter().take_while(move |(last, _)| is_over(*last)).map(|(_, id)| *id)
    }

    fn is_over(&self, id: SessionId) -> bool {
        self.by_id.get(&id).is_none_or(|session| self.closes_in_ms(session, self.now_ms) == 0)
    }

    /// How long a session stays open if no span comes, in milliseconds.
    pub fn closes_in_ms(&self, session: &Session, now_ms: u64) -> u64 {
        (session.last_seen_ms + self.session_ms).saturating_sub(now_ms)
    }

    /// When the next session closes if it gets no further span, milliseconds since 1970. `None` without any session.
    pub fn next_close_ms(&self) -> Option<u64> {
        self.by_last_seen.first().map(|(last, _)| last + self.session_ms)
    }

    /// Forgets a session.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.by_id.remove(&id)?;
        let spans: usize = session.spans.iter().map(Facts::bytes).sum();
        self.line_bytes -= session.line_bytes;
        self.bytes -= SESSION_BYTES + session.trace_id.len() + spans;
        self.by_last_seen.remove(&(session.last_seen_ms, id));
        if self.by_trace.get(&session.trace_id) == Some(&id) {
            self.by_trace.remove(&session.trace_id);
        }
        Some(session)
    }

    /// One of them.
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.by_id.get(&id)
    }

    /// All of them, in the order they were opened.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.by_id.iter().map(|(id, session)| (*id, session))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// About how much memory they take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How much their spans take on the disk, in bytes.
    pub fn line_bytes(&self) -> usize {
        self.line_bytes
    }

    /// About how much memory a span of a new trace takes, in bytes.
    pub fn bytes_of(trace_id: &str, span: &Facts) -> usize {
        SESSION_BYTES + trace_id.len() + span.bytes()
    }

    /// Time does not go back here, whatever a clock does.
    fn advance(&mut self, now_ms: u64) -> u64 {
        self.now_ms = self.now_ms.max(now_ms);
        self.now_ms
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::trace_store::classify::tests::facts;

    fn span(id: &str) -> (Facts, usize) {
        (facts(id, None, "shop", 0, json!({})), 100)
    }

    /// The sessions of spans of one trace that come at these times, and when the last one of them closes.
    fn sessions_of(arrivals_ms: &[u64]) -> (Vec<SessionId>, u64) {
        let mut sessions = Sessions::new(SESSION_MS, 1);
        let mut seen = Vec::new();
        for (index, now_ms) in arrivals_ms.iter().enumerate() {
            match sessions.arrive("t", span(&index.to_string()), *now_ms, || false) {
                Arrival::Opened(id) | Arrival::Joined(id) => seen.push(id),
                other @ (Arrival::Repeated | Arrival::TooMany) => panic!("{other:?}"),
            }
        }
        let last = *seen.last().unwrap();
        let closes = (0..1_000_000).step_by(1_000).find(|now_ms| sessions.over(*now_ms).any(|id| id == last)).unwrap();
        (seen, closes)
    }

    #[test]
    fn a_session_closes_90_seconds_after_its_last_span() {
        for (arrivals_ms, sessions, closes) in [
            (&[0][..], &[1][..], 90_000),
            (&[0, 89_999], &[1, 1], 180_000),
            (&[0, 90_000], &[1, 2], 180_000),
            (&[0, 91_000], &[1, 2], 181_000),
            (&[0, 89_000, 178_000], &[1, 1, 1], 268_000),
            (&[0, 89_000, 179_000], &[1, 1, 2], 269_000),
            (&[0, 1, 2, 3], &[1, 1, 1, 1], 91_000),
        ] {
            assert_eq!(sessions_of(arrivals_ms), (sessions.to_vec(), closes), "{arrivals_ms:?}");
        }
    }

    #[test]
    fn a_session_is_over_at_90_seconds_and_not_a_millisecond_before() {
        let mut sessions = Sessions::new(SESSION_MS, 1);
        sessions.arrive("t", span("a"), 5, || false);
        assert_eq!(sessions.over(90_004).count(), 0);
        assert_eq!(sessions.over(90_005).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn those_that_closed_first_are_given_first() {
        let mut sessions = Sessions::new(SESSION_MS, 1);
        for (trace_id, now_ms) in [("a", 0), ("b", 1), ("c", 2)] {
            sessions.arrive(trace_id, span("1"), now_ms, || false);
        }
        sessions.arrive("a", span("2"), 3, || false);
        assert_eq!(sessions.over(200_000).collect::<Vec<_>>(), [2, 3, 1]);
    }

    #[test]
    fn a_late_span_opens_another_session_of_its_trace_that_says_so() {
        let mut sessions = Sessions::new(SESSION_MS, 1);
        sessions.arrive("t", span("a"), 0, || false);
        assert_eq!(sessions.arrive("t", span("a"), 90_000, || false), Arrival::Opened(2), "not removed yet");
        assert!(!sessions.get(1).unwrap().late && sessions.get(2).unwrap().late);
        sessions.remove(1);
        assert_eq!(sessions.arrive("t", span("b"), 90_001, || true), Arrival::Joined(2));
        sessions.remove(2);
        assert_eq!(sessions.arrive("t", span("c"), 90_002, || true), Arrival::Opened(3), "written before");
        assert!(sessions.get(3).unwrap().late);
    }

    #[test]
    fn a_repeated_span_counts_once_and_keeps_no_session_open() {
        let mut sessions = Sessions::new(SESSION_MS, 1);
        sessions.arrive("t", span("a"), 0, || false);
        assert_eq!(sessions.arrive("t", span("a"), 60_000, || false), Arrival::Repeated);
        assert_eq!((sessions.get(1).unwrap().spans().len(), sessions.over(90_000).count()), (1, 1));
    }

    #[test]
    fn a_session_takes_only_so_many_spans() {
        let mut sessions = Sessions::new(SESSION_MS, 1);
        for id in 0..SESSION_SPANS_MAX {
            sessions.arrive("t", span(&id.to_string()), 0, || false);
        }
        assert_eq!(sessions.arrive("t", span("more"), 1, || false), Arrival::TooMany);
        assert_eq!(sessions.arrive("u", span("more"), 1, || false), Arrival::Opened(2));
    }

    #[test]
    fn a_session_takes_only_so_many_bytes() {
        let mut sessions = Sessions::new(SESSION_MS, 1);
        let of_size = |id: &str, bytes| (span(id).0, bytes);
        for (id, bytes, arrival) in [
            ("a", SESSION_LINES_MAX + 1, Arrival::TooMany),
            ("a", SESSION_LINES_MAX - 1, Arrival::Opened(1)),
            ("b", 2, Arrival::TooMany),
            ("c", 1, Arrival::Joined(1)),
        ] {
            assert_eq!(sessions.arrive("t", of_size(id, bytes), 0, || false), arrival, "{id} {bytes}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_closes_nothing_and_splits_nothing() {
        let mut sessions = Sessions::new(SESSION_MS, 1);
        sessions.arrive("t", span("a"), 100_000, || false);
        assert_eq!(sessions.arrive("t", span("b"), 1, || false), Arrival::Joined(1));
        assert_eq!(
            (sessions.over(0).count(), sessions.over(189_999).count(), sessions.over(190_000).count()),
            (0, 0, 1)
        );
    }

    #[test]
    fn memory_is_counted_and_given_back() {
        let mut sessions = Sessions::new(SESSION_MS, 1);
        for trace_id in ["a", "b"] {
            for id in ["1", "2"] {
                sessions.arrive(trace_id, span(id), 0, || false);
            }
        }
        assert!(sessions.bytes() > 4 * size_of::<Facts>());
        assert_eq!(sessions.line_bytes(), 400);
        sessions.remove(1);
        sessions.remove(2);
        assert_eq!((sessions.bytes(), sessions.line_bytes(), sessions.len()), (0, 0, 0));
    }

    #[test]
    fn restored_sessions_close_by_when_their_spans_came() {
        let mut sessions = Sessions::new(SESSION_MS, 1);
        let came = |at_ms, id| (at_ms, span(id).0, 100);
        sessions.restore(7, "t", true, [came(10, "a"), came(20, "b"), came(30, "b")]);
        let session = sessions.get(7).unwrap();
        assert_eq!(
            (session.first_seen_ms, session.last_seen_ms, session.late, session.spans().len()),
            (10, 20, true, 2)
        );
        assert_eq!(sessions.arrive("t", span("c"), 90_019, || false), Arrival::Joined(7));
        assert_eq!(sessions.arrive("u", span("c"), 90_019, || false), Arrival::Opened(8), "names go on");
    }

    #[test]
    fn what_is_derived_follows_the_spans() {
        let mut sessions = Sessions::new(SESSION_MS, 1);
        sessions.arrive("t", span("a"), 0, || false);
        assert_eq!(sessions.get(1).unwrap().derived().totals.spans, 1);
        sessions.arrive("t", span("b"), 0, || false);
        assert_eq!(sessions.get(1).unwrap().derived().totals.spans, 2);
    }
}
