//! Whatever a receiver and a host do, recorded = exported + dropped + queued, and no span arrives twice as accepted.

use crate::harness::{Call, Span, Worker, config, http, unlimited};
use newrelic_tracing::config::{
    Config, Exporters as ExporterSettings, InfiniteTracing, LogExporter, LogLevel, OtlpEncoding,
};
use newrelic_tracing::export::{Destination, Refusal};
use newrelic_tracing::newrelic::priority::Priority;
use newrelic_tracing::stats::Counter;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// One thing that can happen to a worker.
#[derive(Clone, Debug)]
enum Step {
    Span {
        priority: u32,
        sampled: bool,
        url_bytes: usize,
    },
    Transaction {
        priority: u32,
    },
    Wait {
        milliseconds: u64,
    },
    /// A tick on which the host refuses every call whose number has this remainder by three.
    Tick {
        refuses: u32,
    },
    /// The oldest call that is open gets this answer.
    Answer {
        status: u16,
        retry_after: u64,
    },
    Lost,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop::sample::select(vec![202, 200, 202, 400, 403, 408, 413, 413, 429, 500, 503, 302]);
    prop_oneof![
        6 => (0_u32..4, any::<bool>(), prop::sample::select(vec![10_usize, 100, 4000]))
            .prop_map(|(priority, sampled, url_bytes)| Step::Span { priority, sampled, url_bytes }),
        3 => (0_u32..4).prop_map(|priority| Step::Transaction { priority }),
        3 => (0_u64..12_000).prop_map(|milliseconds| Step::Wait { milliseconds }),
        3 => (0_u32..5).prop_map(|refuses| Step::Tick { refuses }),
        4 => (status, 0_u64..9).prop_map(|(status, retry_after)| Step::Answer { status, retry_after }),
        1 => Just(Step::Lost),
        1 => Just(Step::Close),
    ]
}

/// Several exporters with narrow bounds, so that every reason to drop comes up.
fn narrow(observed: bool) -> Config {
    let mut narrow = http();
    narrow.max_queue_bytes = 6000;
    narrow.retry.attempts = 2;
    narrow.gzip = true;
    let mut config = config();
    config.exporters = ExporterSettings {
        log: Some(LogExporter { level: LogLevel::Info }),
        trace_api: Some(narrow.clone()),
        event_api: Some(narrow.clone()),
        otlp: Some((OtlpEncoding::Protobuf, narrow.clone())),
    };
    config.infinite_tracing = observed.then_some(InfiniteTracing { observer: narrow, queue_size: 5 });
    config
}

fn run(worker: &mut Worker, steps: Vec<Step>) {
    let mut open: Vec<Call> = Vec::new();
    for step in steps {
        match step {
            Step::Span { priority, sampled, url_bytes } => {
                worker.offer_span(Span { priority: Priority::from_whole(priority), sampled, url_bytes });
            }
            Step::Transaction { priority } => {
                worker.offer_transaction(Priority::from_whole(priority));
            }
            Step::Wait { milliseconds } => worker.now += milliseconds * 1_000_000,
            Step::Tick { refuses } => {
                open.extend(worker.tick_with(|call| (call.call_id % 3 == refuses).then_some(Refusal::Failed)));
            }
            Step::Answer { status, retry_after } => {
                if let Some(index) = open.iter().position(|call| call.at < worker.now) {
                    let call = open.remove(index);
                    let headers = [(":status", &*status.to_string()), ("retry-after", &*retry_after.to_string())];
                    let response = crate::harness::response(&headers);
                    // A call that was given up as lost is nobody's.
                    worker.exporters.answered(call.call_id, &response, worker.now, &mut worker.stats);
                }
            }
            Step::Lost => worker.now += 21_000_000_000,
            Step::Close => worker.exporters.close(),
        }
        worker.check();
    }
}

proptest! {
    #[test]
    fn the_books_balance_after_every_step(
        observed: bool,
        has_shared_data: bool,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut worker = Worker::new(&narrow(observed));
        worker.budget = if has_shared_data { |request| Some(request.records / 2) } else { |_| None };
        run(&mut worker, steps);
        worker.exporters.abandon(&mut worker.stats);
        worker.check();
        prop_assert_eq!(worker.exporters.queued_records(), 0);
    }

    #[test]
    fn a_receiver_that_recovers_gets_every_span_that_was_not_dropped_exactly_once(
        answers in prop::collection::vec(prop::sample::select(vec![503_u16, 202, 413, 500, 408, 429]), 0..60),
        offers in prop::collection::vec(0_usize..120, 1..8),
    ) {
        let mut worker = Worker::new(&unlimited(http()));
        let mut answers = answers.into_iter();
        let mut accepted: BTreeMap<String, u32> = BTreeMap::new();
        let mut answer = |worker: &mut Worker, call: &Call| {
            let status = answers.next().unwrap_or(202);
            if status == 202 {
                call.ids().into_iter().for_each(|id| *accepted.entry(id).or_default() += 1);
            }
            worker.answer_status(call, status);
        };
        for count in offers {
            worker.offer(count);
            for call in worker.flush() {
                answer(&mut worker, &call);
            }
        }
        while let Some(wakeup) = worker.exporters.next_wakeup_ns() {
            worker.now = worker.now.max(wakeup);
            for call in worker.tick() {
                answer(&mut worker, &call);
            }
        }
        prop_assert!(accepted.values().all(|times| *times == 1));
        prop_assert_eq!(accepted.len() as u64, worker.count(Counter::SpansExported));
        let dropped = worker.count(Counter::SpansDroppedRetriesExhausted) + worker.count(Counter::SpansDroppedTooLarge);
        prop_assert_eq!(accepted.len() as u64 + dropped, worker.count(Counter::SpansRecorded));
    }
}

#[test]
fn a_span_offered_to_two_exporters_counts_in_each() {
    let mut config = config();
    config.exporters.trace_api = Some(http());
    config.exporters.otlp = Some((OtlpEncoding::Json, http()));
    let mut worker = Worker::new(&config);
    worker.offer(10);
    assert_eq!(worker.count(Counter::SpansRecorded), 20);
    worker.drain(|call| if call.exporter == Destination::Otlp { 400 } else { 202 });
    assert_eq!((worker.count(Counter::SpansExported), worker.count(Counter::SpansDroppedRejected)), (10, 10));
}
