//! Records in the proxy's log.

use crate::harness::{SECOND, Span, Worker, config};
use newrelic_tracing::config::{Config, Exporters as ExporterSettings, LogExporter, LogLevel, SpanLimit};
use newrelic_tracing::newrelic::priority::Priority;
use newrelic_tracing::stats::Counter;

fn logging() -> Config {
    let log = Some(LogExporter { level: LogLevel::Info });
    Config { exporters: ExporterSettings { log, ..ExporterSettings::default() }, ..config() }
}

#[test]
fn a_record_is_one_line_a_word_and_an_object_as_soon_as_it_ends() {
    let mut worker = Worker::new(&logging());
    let span = worker.offer(1).remove(0);
    let transaction = worker.offer_transaction(Priority::ZERO);
    let log = worker.take_log();
    let (word, object) = log[0].split_once(' ').unwrap();
    let object: serde_json::Value = serde_json::from_str(object).unwrap();
    assert_eq!((word, object["id"].as_str()), ("span", Some(&*span)));
    let (word, object) = log[1].split_once(' ').unwrap();
    let object: serde_json::Value = serde_json::from_str(object).unwrap();
    assert_eq!((word, object["guid"].as_str()), ("transaction", Some(&*transaction)));
    assert_eq!((worker.count(Counter::SpansExported), worker.count(Counter::TransactionsExported)), (1, 1));
}

#[test]
fn spans_that_no_sampler_chose_are_not_logged() {
    let mut worker = Worker::new(&logging());
    worker.offer_span(Span { sampled: false, ..Span::default() });
    assert_eq!(worker.take_log(), Vec::<String>::new());
    assert_eq!(worker.count(Counter::SpansRecorded), 0);
}

#[test]
fn the_minutes_budget_holds_for_lines_too() {
    let mut worker = Worker::new(&logging());
    worker.budget = |_| None;
    for _ in 0..60 {
        worker.offer(100);
        worker.now += SECOND;
        worker.tick();
    }
    let lines = worker.take_log().len() as u64;
    assert!((1985..=2000).contains(&lines), "{lines}");
    assert_eq!(worker.count(Counter::SpansDroppedReservoir), 6000 - lines);
}

#[test]
fn without_a_limit_every_span_is_logged() {
    let mut config = logging();
    config.span_events.max_samples_stored = SpanLimit::Unlimited;
    let mut worker = Worker::new(&config);
    worker.offer(3000);
    assert_eq!(worker.take_log().len(), 3000);
}
