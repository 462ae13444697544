//! The store as a whole, with a clock that only moves when a test moves it.

use std::path::PathBuf;
use std::sync::atomic::AtomicU32;

use newrelic_ingest::{Event, Span as Received};
use serde_json::{Value, json};

use super::query::{Cursor, Filter};
use super::summary::{State, Summary};
use super::*;

/// A directory of its own for each test, which goes when the test ends.
pub(super) struct Dir(pub(super) PathBuf);

impl Dir {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("trace-store-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// A store whose time is in the test's hands.
struct Site {
    dir: Dir,
    now_ms: Arc<AtomicU64>,
    store: TraceStore,
}

impl Site {
    fn with(limit: impl FnOnce(&mut Options)) -> Self {
        let dir = Dir::new();
        let now_ms = Arc::new(AtomicU64::new(1_000_000));
        let mut options = Self::options(&now_ms);
        limit(&mut options);
        let store = TraceStore::open(&dir.0, options).unwrap();
        Self { dir, now_ms, store }
    }

    fn new() -> Self {
        Self::with(|_| {})
    }

    fn options(now_ms: &Arc<AtomicU64>) -> Options {
        let now_ms = Arc::clone(now_ms);
        Options { clock: Clock::new(move || now_ms.load(Ordering::Relaxed)), ..Options::default() }
    }

    /// The store as it is after it was ended and started again.
    async fn restarted(self) -> Self {
        self.store.close().await;
        let store = TraceStore::open(&self.dir.0, Self::options(&self.now_ms)).unwrap();
        Self { store, ..self }
    }

    async fn add(&self, spans: impl IntoIterator<Item = Received>) {
        self.store.add(spans.into_iter().collect()).await.unwrap();
    }

    /// Lets time pass, and waits until the store has done what is due.
    async fn pass(&self, ms: u64, due: impl Fn(&Status) -> bool) -> Status {
        let mut news = self.store.news();
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
        loop {
            let status = self.store.status();
            if due(&status) {
                return status;
            }
            tokio::time::timeout(Duration::from_secs(30), news.changed()).await.expect("nothing changed").unwrap();
        }
    }

    fn list(&self, filter: &Filter) -> Vec<Summary> {
        self.store.list(filter, None, 200).unwrap().traces
    }

    fn trace(&self, trace_id: &str) -> Value {
        json!(self.store.trace(trace_id).unwrap())
    }
}

fn span(trace_id: &str, id: &str, parent: Option<&str>, start_ms: u64, attributes: Value) -> Received {
    Received {
        trace_id: trace_id.to_owned(),
        id: id.to_owned(),
        parent_id: parent.map(str::to_owned),
        name: Some(format!("span {id}")),
        start_ns: Some(start_ms * 1_000_000),
        duration_ms: Some(10.0),
        attributes: serde_json::from_value(attributes).unwrap(),
    }
}

fn of(service: &str) -> Value {
    json!({ "service.name": service })
}

fn ids(trace: &Value) -> Vec<&str> {
    trace["spans"].as_array().unwrap().iter().map(|span| span["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_trace_is_open_until_90_seconds_after_its_last_span_and_then_written() {
    let site = Site::new();
    site.add([span("t", "a", None, 5, of("shop")), span("t", "b", Some("a"), 6, of("cart"))]).await;
    let open = site.list(&Filter::default());
    assert_eq!((open[0].state, open[0].closes_in_ms, open[0].totals.spans), (State::Open, Some(90_000), 2));
    let before = site.trace("t");
    site.pass(89_999, |status| status.open == 1).await;
    assert_eq!(site.list(&Filter::default())[0].closes_in_ms, Some(1));
    let status = site.pass(1, |status| status.written == 1).await;
    assert_eq!((status.open, status.spans_received), (0, 2));
    let written = site.list(&Filter::default());
    let expected = Summary { state: State::Written, closes_in_ms: None, ..open[0].clone() };
    assert_eq!(written, [expected], "closing changes nothing else");
    assert_eq!(site.trace("t")["spans"], before["spans"]);
}

#[tokio::test]
async fn it_is_told_when_the_next_trace_closes() {
    let site = Site::new();
    assert_eq!(site.store.status().next_close_in_ms, None);
    site.add([span("t", "a", None, 5, of("shop"))]).await;
    site.pass(20_000, |_| true).await;
    site.add([span("u", "a", None, 5, of("shop"))]).await;
    assert_eq!(site.store.status().next_close_in_ms, Some(70_000));
    site.pass(10_000, |_| true).await;
    site.add([span("t", "b", Some("a"), 6, of("shop"))]).await;
    assert_eq!(site.store.status().next_close_in_ms, Some(80_000), "the span keeps its trace open");
    let site = site.restarted().await;
    assert_eq!(site.store.status().next_close_in_ms, Some(80_000));
    assert_eq!(site.pass(80_000, |status| status.written == 1).await.next_close_in_ms, Some(10_000));
    assert_eq!(site.pass(10_000, |status| status.written == 2).await.next_close_in_ms, None);
}

#[tokio::test]
async fn a_late_span_makes_a_second_session_of_the_same_trace() {
    let site = Site::new();
    site.add([span("t", "a", None, 5, of("shop"))]).await;
    site.pass(90_000, |status| status.written == 1).await;
    site.add([span("t", "b", Some("a"), 6, of("shop"))]).await;
    site.pass(90_000, |status| status.written == 2).await;
    site.add([span("t", "a", None, 5, of("shop"))]).await;
    let mut sessions = site.list(&Filter::default());
    sessions.sort_by_key(|summary| summary.session);
    let told: Vec<_> = sessions.iter().map(|s| (s.late, s.state, s.totals.orphans, s.totals.missing_root)).collect();
    let expected = [(false, State::Written, 0, false), (true, State::Written, 1, true), (true, State::Open, 0, false)];
    assert_eq!(told, expected, "a session knows only its own spans");
    let trace = site.trace("t");
    assert_eq!(ids(&trace), ["a", "b"], "the repeated span is shown once");
    assert_eq!(trace["spans"][1]["orphan"], false, "its parent is in the earlier session");
    assert_eq!((&trace["spans"][0]["session"], &trace["spans"][1]["session"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn what_was_taken_survives_a_restart_and_goes_on() {
    let site = Site::new();
    site.add([span("old", "a", None, 5, of("shop"))]).await;
    site.pass(90_000, |status| status.written == 1).await;
    site.add([span("t", "a", None, 5, of("shop"))]).await;
    site.pass(60_000, |_| true).await;
    let site = site.restarted().await;
    let status = site.store.status();
    assert_eq!((status.open, status.written, status.sessions_recovered, status.spans_lost), (1, 1, 1, 0));
    site.add([span("t", "a", None, 5, of("shop")), span("t", "b", Some("a"), 6, of("shop"))]).await;
    assert_eq!((site.store.status().spans_repeated, ids(&site.trace("t"))), (1, vec!["a", "b"]));
    let site = site.restarted().await;
    site.pass(90_000, |status| status.written == 2).await;
    assert_eq!(ids(&site.trace("t")), ["a", "b"]);
    let summary = &site.list(&Filter { id: Some("t".to_owned()), ..Filter::default() })[0];
    assert_eq!((summary.session, summary.last_seen_ms - summary.first_seen_ms), (2, 60_000));
}

#[tokio::test]
async fn a_session_whose_time_passed_while_the_store_was_down_closes_at_the_start() {
    let site = Site::new();
    site.add([span("t", "a", None, 5, of("shop"))]).await;
    site.store.close().await;
    site.now_ms.fetch_add(90_000, Ordering::Relaxed);
    let site = site.restarted().await;
    let status = site.pass(0, |status| status.written == 1).await;
    assert_eq!((status.open, status.sessions_recovered), (0, 1));
}

#[tokio::test]
async fn what_cannot_be_recovered_is_counted_as_lost() {
    let site = Site::new();
    for (trace_id, id) in [("t", "a"), ("t", "b"), ("u", "a")] {
        site.add([span(trace_id, id, None, 5, of("shop"))]).await;
    }
    site.store.close().await;
    let database = rusqlite::Connection::open(disk::path(&site.dir.0)).unwrap();
    database.execute("UPDATE journal SET spans = x'0a7b0a' WHERE seq IN (2, 3)", []).unwrap();
    drop(database);
    let site = site.restarted().await;
    let status = site.store.status();
    assert_eq!((status.sessions_recovered, status.spans_lost, status.open), (1, 2, 1));
    assert_eq!((ids(&site.trace("t")), site.trace("u")), (vec!["a"], Value::Null));
}

#[tokio::test]
async fn what_a_store_has_kept_can_be_looked_at_while_it_does_not_run() {
    let site = Site::new();
    site.add([span("t", "a", None, 5, of("shop"))]).await;
    site.pass(90_000, |status| status.written == 1).await;
    site.add([span("u", "a", None, 6, of("cart"))]).await;
    let (list, trace) = (site.list(&Filter::default()), site.trace("t"));
    site.store.close().await;
    site.now_ms.fetch_add(200_000, Ordering::Relaxed);
    let seen = TraceStore::look_at(&site.dir.0, Site::options(&site.now_ms)).unwrap().unwrap();
    let expected = [Summary { closes_in_ms: Some(0), ..list[0].clone() }, list[1].clone()];
    assert_eq!(seen.list(&Filter::default(), None, 200).unwrap().traces, expected);
    assert_eq!((json!(seen.trace("t").unwrap()), seen.services().unwrap().len()), (trace, 2));
    assert_eq!((seen.status().open, seen.status().written, seen.status().next_close_in_ms), (1, 1, Some(0)));
    assert_eq!(seen.add(vec![span("v", "a", None, 5, of("shop"))]).await, Err(AddError::Unavailable));
    let site = site.restarted().await;
    assert_eq!(site.store.status().sessions_recovered, 1, "nothing was changed");
    assert!(TraceStore::look_at(&Dir::new().0, Options::default()).unwrap().is_none());
}

#[tokio::test]
async fn every_filter_finds_its_traces_open_and_written() {
    let site = Site::new();
    let failed = json!({ "service.name": "cart", "error.class": "503" });
    let slow = Received { duration_ms: Some(500.25), ..span("aa2", "a", None, 2_000, of("shop")) };
    site.add([
        span("aa1", "a", None, 1_000, of("shop")),
        span("aa1", "b", Some("a"), 1_001, failed),
        slow,
        span("b3", "a", None, 3_000, of("cart")),
    ])
    .await;
    let all = Filter::default;
    let cases = [
        (all(), vec!["b3", "aa2", "aa1"]),
        (Filter { id: Some("aa1".to_owned()), ..all() }, vec!["aa1"]),
        (Filter { id: Some("aa".to_owned()), ..all() }, vec!["aa2", "aa1"]),
        (Filter { id: Some("a%".to_owned()), ..all() }, vec![]),
        (Filter { services: vec!["cart".to_owned()], ..all() }, vec!["b3", "aa1"]),
        (Filter { services: vec!["cart".to_owned(), "shop".to_owned()], ..all() }, vec!["aa1"]),
        (Filter { services: vec!["car".to_owned()], ..all() }, vec![]),
        (Filter { error: Some(true), ..all() }, vec!["aa1"]),
        (Filter { error: Some(false), ..all() }, vec!["b3", "aa2"]),
        (Filter { min_ms: Some(500.25), ..all() }, vec!["aa2"]),
        (Filter { min_ms: Some(500.26), ..all() }, vec![]),
        (Filter { max_ms: Some(11.0), ..all() }, vec!["b3", "aa1"]),
        (Filter { max_ms: Some(10.0), ..all() }, vec!["b3"]),
        (Filter { from_ms: Some(2_000.0), ..all() }, vec!["b3", "aa2"]),
        (Filter { to_ms: Some(2_000.0), ..all() }, vec!["aa2", "aa1"]),
        (Filter { from_ms: Some(1_000.5), to_ms: Some(2_999.5), ..all() }, vec!["aa2"]),
        (Filter { services: vec!["cart".to_owned()], error: Some(false), ..all() }, vec!["b3"]),
    ];
    for state in [State::Open, State::Written] {
        for (filter, expected) in &cases {
            let found = site.list(filter);
            let ids: Vec<&str> = found.iter().map(|summary| summary.trace_id.as_str()).collect();
            assert_eq!(&ids, expected, "{state:?} {filter:?}");
            let of_state = |state| site.list(&Filter { state: Some(state), ..filter.clone() }).len();
            let other = if state == State::Open { State::Written } else { State::Open };
            assert_eq!((of_state(state), of_state(other)), (expected.len(), 0), "{filter:?}");
        }
        site.pass(90_000, |status| status.written == 3).await;
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let site = Site::new();
    let trace = |number: u64| format!("t{number}");
    // Three traces start at the same time, so that the start alone does not tell them apart.
    for number in 0..4 {
        site.add([span(&trace(number), "a", None, number / 3, of("shop"))]).await;
    }
    site.pass(90_000, |status| status.written == 4).await;
    for number in 4..7 {
        site.add([span(&trace(number), "a", None, number / 3, of("shop"))]).await;
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = site.store.list(&Filter::default(), before, 2).unwrap();
        assert!(page.traces.len() <= 2);
        seen.extend(page.traces.into_iter().map(|summary| summary.trace_id));
        let Some(next) = page.next else { break };
        before = Some(Cursor::parse(&next).unwrap());
    }
    assert_eq!(seen, ["t6", "t5", "t4", "t3", "t2", "t1", "t0"]);
}

#[tokio::test]
async fn the_latest_trace_is_the_one_that_started_last() {
    let site = Site::new();
    assert!(site.store.latest().unwrap().is_none() && site.store.trace("t").unwrap().is_none());
    site.add([span("new", "a", None, 9, of("shop"))]).await;
    site.add([span("old", "a", None, 5, of("shop"))]).await;
    assert_eq!(json!(site.store.latest().unwrap())["trace_id"], "new");
}

#[tokio::test]
async fn services_and_calls_of_open_and_written_traces_are_on_the_map() {
    let site = Site::new();
    let server = |service: &str| json!({ "service.name": service, "span.kind": "server" });
    let client = |service: &str| json!({ "service.name": service, "span.kind": "client", "http.url": "http://cart/" });
    for (trace_id, start_ms) in [("t", 1_000), ("u", 2_000)] {
        site.add([
            span(trace_id, "a", None, start_ms, server("shop")),
            span(trace_id, "b", Some("a"), start_ms, client("shop")),
            span(trace_id, "c", Some("b"), start_ms, server("cart")),
        ])
        .await;
        site.pass(60_000, |_| true).await;
    }
    site.pass(0, |status| (status.open, status.written) == (1, 1)).await;
    assert_eq!(site.store.services().unwrap(), ["cart", "shop"]);
    let edges = |from_ms, to_ms| {
        let map = site.store.map(from_ms, to_ms).unwrap();
        map.edges.into_iter().map(|edge| (edge.from, edge.to, edge.calls)).collect::<Vec<_>>()
    };
    let expected = |calls| {
        [("caller", "service:shop"), ("service:shop", "service:cart")]
            .map(|(from, to)| (from.to_owned(), to.to_owned(), calls))
    };
    assert_eq!(edges(None, None), expected(2));
    assert_eq!(edges(Some(1_500.0), None), expected(1));
    assert_eq!(edges(None, Some(1_500.0)), expected(1));
    assert_eq!(edges(Some(3_000.0), None), []);
}

#[tokio::test]
async fn the_first_traces_written_make_room_for_further_ones() {
    let site = Site::with(|options| options.traces_max = 2);
    for trace_id in ["a", "b", "c", "d"] {
        site.add([span(trace_id, "1", None, 5, of(trace_id)), span(trace_id, "2", None, 5, of(trace_id))]).await;
        site.store.add_hops(trace_id, vec![hop("1")]).await.unwrap();
        site.pass(1_000, |_| true).await;
    }
    let status = site.pass(90_000, |status| status.spans_evicted == 4 && status.written == 2).await;
    assert_eq!(status.open, 0);
    assert_eq!(site.store.services().unwrap(), ["c", "d"]);
    assert_eq!((site.trace("a"), ids(&site.trace("d"))), (Value::Null, vec!["1", "2"]));
    assert_eq!(site.store.map(None, None).unwrap().nodes.len(), 3);
    let database = rusqlite::Connection::open(disk::path(&site.dir.0)).unwrap();
    let hops: u64 = database.query_row("SELECT count(*) FROM hops", [], |row| row.get(0)).unwrap();
    assert_eq!(hops, 2);
}

#[tokio::test]
async fn a_database_does_not_grow_beyond_its_size() {
    let site = Site::with(|options| options.database_bytes_max = 400_000);
    let random = |seed: u64| {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let digit = |state: &mut u64| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            format!("{:016x}", *state)
        };
        (0..125).map(|_| digit(&mut state)).collect::<String>()
    };
    for number in 0..200 {
        let text = json!({ "service.name": "shop", "text": random(number) });
        site.add([span(&number.to_string(), "a", None, number, text)]).await;
    }
    let database = rusqlite::Connection::open(disk::path(&site.dir.0)).unwrap();
    let used_bytes = || -> u64 {
        let sql = "SELECT (page_count - freelist_count) * page_size
                   FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        database.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let status = site.pass(90_000, |status| status.open == 0 && used_bytes() <= 400_000).await;
    assert!(status.spans_evicted > 0 && status.written > 50, "{status:?}");
    assert_eq!(status.spans_evicted + status.written, 200);
    assert_eq!((ids(&site.trace("199")), site.trace("0")), (vec!["a"], Value::Null));
}

#[tokio::test]
async fn posts_are_refused_while_there_is_no_room_and_taken_again_later() {
    for limit in [(|options| options.open_bytes_max = 4_000) as fn(&mut Options), |options: &mut Options| {
        options.journal_bytes_max = 300
    }] {
        let site = Site::with(limit);
        site.add([span("a", "1", None, 5, of("shop"))]).await;
        site.pass(30_000, |_| true).await;
        let many: Vec<Received> = (0..4).map(|id| span("b", &id.to_string(), None, 5, of("shop"))).collect();
        let full = AddError::Full { retry_after_s: 60 };
        assert_eq!(site.store.add(many.clone()).await, Err(full));
        let status = site.store.status();
        assert_eq!((status.open, status.spans_received, status.spans_refused), (1, 1, 4), "all or nothing");
        site.pass(60_000, |status| status.written == 1).await;
        site.add(many.into_iter().take(1)).await;
        assert_eq!(site.store.status().open, 1);
    }
}

#[tokio::test]
async fn while_the_disk_is_at_fault_nothing_is_taken_and_afterwards_it_goes_on() {
    let site = Site::new();
    site.add([span("t", "a", None, 5, of("shop"))]).await;
    let blocking = rusqlite::Connection::open(disk::path(&site.dir.0)).unwrap();
    blocking.execute_batch("BEGIN IMMEDIATE").unwrap();
    let second = || vec![span("t", "b", Some("a"), 6, of("shop")), span("u", "a", None, 6, of("shop"))];
    assert_eq!(site.store.add(second()).await, Err(AddError::Unavailable));
    let status = site.store.status();
    assert_eq!((status.open, status.spans_refused, status.fault.is_some()), (1, 2, true));
    assert_eq!(ids(&site.trace("t")), ["a"], "what was not taken is not shown");
    blocking.execute_batch("ROLLBACK").unwrap();
    site.add(second()).await;
    let status = site.store.status();
    assert_eq!((status.open, status.spans_repeated, status.fault), (2, 0, None));
    assert_eq!(ids(&site.trace("t")), ["a", "b"]);
    site.pass(90_000, |status| status.written == 2).await;
}

#[tokio::test]
async fn a_trace_keeps_its_hops_and_events() {
    let site = Site::new();
    site.add([span("t", "a", None, 5, of("shop"))]).await;
    site.store.add_hops("t", vec![hop("1")]).await.unwrap();
    site.store.add_hops("t", vec![hop("2"), hop("3")]).await.unwrap();
    let event = |trace_id: &str| Event {
        account_id: "1".to_owned(),
        event_type: "Transaction".to_owned(),
        timestamp_ms: Some(7),
        attributes: serde_json::from_value(json!({ "traceId": trace_id, "name": "pay" })).unwrap(),
    };
    site.store.add_events(vec![event("t"), event("u")]).await.unwrap();
    let site = site.restarted().await;
    let trace = site.trace("t");
    assert_eq!(trace["hops"], json!([hop("1"), hop("2"), hop("3")]));
    assert_eq!(trace["events"], json!([{ "eventType": "Transaction", "timestamp": 7, "traceId": "t", "name": "pay" }]));
}

#[tokio::test]
async fn hops_are_limited_in_number_and_size() {
    let site = Site::new();
    site.add([span("t", "a", None, 5, of("shop")), span("u", "a", None, 5, of("shop"))]).await;
    site.store.add_hops("t", (0..HOPS_MAX + 1).map(|number| hop(&number.to_string())).collect()).await.unwrap();
    let large = Hop { path: "x".repeat(HOPS_BYTES_MAX / 2), ..hop("1") };
    site.store.add_hops("u", vec![large.clone(), large]).await.unwrap();
    let count = |trace_id| site.trace(trace_id)["hops"].as_array().unwrap().len();
    assert_eq!((count("t"), count("u")), (HOPS_MAX, 1));
}

fn hop(path: &str) -> Hop {
    let header = |name: &str| HopHeader { name: name.to_owned(), value: "v".to_owned(), readable: String::new() };
    Hop { service: "shop".to_owned(), path: path.to_owned(), headers: vec![header("traceparent")] }
}

#[tokio::test]
async fn a_file_that_is_not_this_versions_is_refused_by_name_and_left_as_it_is() {
    let sql =
        |text: &'static str| move |path: &Path| rusqlite::Connection::open(path).unwrap().execute_batch(text).unwrap();
    let damage = |path: &Path| {
        let site = TraceStore::open(path.parent().unwrap(), Options::default()).unwrap();
        drop(site);
        std::fs::write(path, vec![0x5a; 8_192]).unwrap();
    };
    type Make<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Make<'_>); 4] = [
        ("no database", &|path| std::fs::write(path, "this is a letter, and quite a long one at that").unwrap()),
        ("damaged", &damage),
        ("another program's", &sql("CREATE TABLE letters (text TEXT)")),
        ("another version's", &sql("PRAGMA application_id = 0x4e525453; PRAGMA user_version = 99; CREATE TABLE x (y)")),
    ];
    for (what, make) in cases {
        let dir = Dir::new();
        std::fs::create_dir_all(&dir.0).unwrap();
        let path = disk::path(&dir.0);
        make(&path);
        let before = std::fs::read(&path).unwrap();
        let error = loop {
            match TraceStore::open(&dir.0, Options::default()) {
                Err(OpenError::InUse(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                outcome => break outcome.unwrap_err(),
            }
        };
        assert!(error.to_string().contains(path.to_str().unwrap()), "{what}: {error}");
        let names_itself = match what {
            "another program's" => matches!(error, OpenError::Foreign(_)),
            "another version's" => matches!(error, OpenError::Version(_, 99)),
            _ => matches!(error, OpenError::Broken(..)),
        };
        assert!(names_itself, "{what}: {error:?}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{what}");
    }
}

#[tokio::test]
async fn two_stores_do_not_share_a_directory() {
    let site = Site::new();
    let second = TraceStore::open(&site.dir.0, Options::default());
    assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
}

#[tokio::test]
async fn a_closed_store_takes_nothing_more() {
    let site = Site::new();
    site.store.close().await;
    assert_eq!(site.store.add(vec![span("t", "a", None, 5, of("shop"))]).await, Err(AddError::Unavailable));
}
