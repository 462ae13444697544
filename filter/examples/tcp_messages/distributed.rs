//! Distributed tracing between the storefront and the inventory.

use std::fs::File;
use std::io::Read as _;
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use newrelic_tracing::carrier::{Carrier as _, DistributedTracing, Extracted, Inputs, TRACEPARENT, Transaction};
use newrelic_tracing::config;
use newrelic_tracing::id::{ParentId, SpanId};
use newrelic_tracing::random::RandomPool;
use newrelic_tracing::stats::{Counter, Stats};

use crate::message::Message;
use crate::{Outcome, tell};

/// One application with all that its transactions share.
struct Application {
    tracing: DistributedTracing,
    random: RandomPool,
    stats: Stats,
}

impl Application {
    /// The keys are those of the filter's configuration. Both accounts belong to one customer, hence the trusted key.
    fn new(account_id: &str, application_id: &str) -> Outcome<Self> {
        let configuration = format!(
            r#"{{"account_id": "{account_id}", "trusted_account_key": "777",
                "primary_application_id": "{application_id}"}}"#
        );
        let config = config::parse(configuration.as_bytes(), &|_| None).map_err(|faults| faults.to_string())?;
        let tracing = DistributedTracing::new(&config).ok_or("distributed tracing is switched off")?;
        Ok(Self { tracing, random: RandomPool::new(0), stats: Stats::default() })
    }

    /// A new transaction. The pool lasts for many of them; this is where it is filled again.
    fn begin(&mut self) -> Outcome<Transaction> {
        if self.random.needs_refill() {
            File::open("/dev/urandom")?.read_exact(self.random.buffer_mut())?;
            self.random.refilled();
        }
        Ok(Transaction::new(self.random.span_id(), self.random.trace_id()))
    }

    fn inputs(&mut self) -> Outcome<(&mut DistributedTracing, Inputs<'_>)> {
        let now_ns = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
        Ok((&mut self.tracing, Inputs { now_ns, random: &mut self.random, stats: &mut self.stats }))
    }
}

/// The storefront: begins a trace, sends a request, reads the answer.
pub(crate) fn call(stream: &mut TcpStream) -> Outcome {
    let mut storefront = Application::new("4002", "55")?;
    let mut transaction = storefront.begin()?;
    let span_id = storefront.random.span_id();

    let mut request = Message::new("how many are left?");
    let (tracing, inputs) = storefront.inputs()?;
    tracing.inject_request(&mut transaction, span_id, &mut request.metadata, inputs);
    let decision = transaction.decision().ok_or("a request was sent, so that there is a decision")?;
    let traceparent = request.metadata.values(TRACEPARENT).next().unwrap_or_default();
    tell(
        "storefront",
        &[
            ("mode", &"distributed"),
            ("trace_id", &text(&transaction.trace().id.to_hex())),
            ("transaction_id", &span_text(transaction.guid())),
            ("span_id", &span_text(span_id)),
            ("sampled", &decision.sampled),
            ("priority", &decision.priority.as_f64()),
            ("sent.traceparent", &text(traceparent)),
        ],
    )?;
    request.send(stream)?;

    let response = Message::receive(stream)?;
    tell("storefront", &[("answer", &text(&response.body))])
}

/// The inventory: continues the caller's trace and answers.
pub(crate) fn serve(stream: &mut TcpStream) -> Outcome {
    let mut inventory = Application::new("4001", "90210")?;
    let request = Message::receive(stream)?;

    let mut transaction = inventory.begin()?;
    let extracted = inventory.tracing.extract_request(&mut transaction, &request.metadata, &mut inventory.stats);
    if let Extracted::Refused(why) = extracted {
        tell("inventory", &[("refused", &format!("{why:?}"))])?;
    }
    // Any later metadata of the same transaction is ignored, and counted.
    let second = inventory.tracing.extract_request(&mut transaction, &request.metadata, &mut inventory.stats);
    let (tracing, inputs) = inventory.inputs()?;
    let decision = tracing.sample(&mut transaction, inputs);

    tell(
        "inventory",
        &[
            ("trace_id", &text(&transaction.trace().id.to_hex())),
            ("transaction_id", &span_text(transaction.guid())),
            ("sampled", &decision.sampled),
            ("priority", &decision.priority.as_f64()),
            ("second_accept", &format!("{second:?}")),
            ("ignored", &inventory.stats.pending(Counter::PayloadMultiple)),
        ],
    )?;
    tell_parent(&inventory.tracing, &transaction)?;

    Message::new("17 are left").send(stream)?;
    Ok(())
}

/// What the records of the callee's transaction say of the caller.
fn tell_parent(tracing: &DistributedTracing, transaction: &Transaction) -> Outcome {
    let Some(parent) = tracing.parent(transaction) else {
        return tell("inventory", &[("parent", &"none")]);
    };
    let span_id = match &parent.parent_id {
        Some(ParentId::Span(id)) => span_text(*id),
        Some(ParentId::Text(id)) => id.to_string(),
        None => "none".to_owned(),
    };
    tell("inventory", &[("parent.span_id", &span_id)])?;
    let Some(caller) = parent.caller else { return Ok(()) };
    tell(
        "inventory",
        &[
            ("parent.transaction_id", &text(caller.transaction_id.as_deref().unwrap_or_default())),
            ("parent.type", &caller.caller_type.as_str()),
            ("parent.account", &text(&caller.account_id)),
            ("parent.app", &text(&caller.app_id)),
        ],
    )
}

fn span_text(id: SpanId) -> String {
    text(&id.to_hex())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
