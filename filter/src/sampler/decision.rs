//! What the sampler is asked, and what it answers.

use crate::config::PartialType;
use crate::id::TraceId;
use crate::newrelic::priority::Priority;
use crate::random::RandomPool;
use crate::record::Origin;

/// Where a request's trace comes from: it chooses the configured section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// No context accepted, or a `newrelic` header without `sa`.
    Root,
    /// `traceparent` with bit 0 set, or `sa` true.
    RemoteSampled,
    /// `traceparent` with bit 0 clear, or `sa` false.
    RemoteNotSampled,
}

/// The sampling side of what a request brought along.
#[derive(Clone, Copy, Debug)]
pub struct Inbound {
    /// Chooses the section.
    pub parent: Parent,
    /// The caller's decision, from New Relic's tracestate entry or the `newrelic` header; not from `traceparent`.
    pub sampled: Option<bool>,
    /// The caller's priority, from the same place.
    pub priority: Option<Priority>,
    /// The trace.
    pub trace_id: TraceId,
    /// Tells the callers' accounts apart, see [`super::shared::account_hash`]; 0 when no account is known.
    pub caller: u32,
}

impl Inbound {
    /// A trace that starts here.
    pub fn root(trace_id: TraceId) -> Self {
        Self { parent: Parent::Root, sampled: None, priority: None, trace_id, caller: 0 }
    }
}

/// How much of a trace is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// Every span with all attributes.
    Full,
    /// A thinned trace, see [`super::granularity`].
    Partial(PartialType),
    /// Nothing: the trace is not sampled.
    None,
}

/// The decision about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the trace is recorded; goes out in the headers.
    pub sampled: bool,
    /// Ranks the request's records; goes out in the headers.
    pub priority: Priority,
    /// `None` exactly when not sampled.
    pub granularity: Granularity,
    /// Whose share of a reservoir the request's records use.
    ///
    /// `Local` when the caller could influence neither the number of such requests nor their rank: the trace starts
    /// here, or an adaptive sampler took it into its target; and the priority is our own. `Caller` else, also when a
    /// sampler of ours said yes because of the caller's flag or trace id.
    pub origin: Origin,
    /// Whether a sampler decided. False for a decision inherited from the caller, and when both granularities are
    /// disabled.
    pub sampler_ran: bool,
}

impl Decision {
    /// The decision where there is no distributed tracing: nothing is sampled. Takes 4 bytes for a priority.
    pub fn unsampled(random: &mut RandomPool) -> Self {
        Self {
            sampled: false,
            priority: Priority::from_random(random.next_u32()),
            granularity: Granularity::None,
            origin: Origin::Local,
            sampler_ran: false,
        }
    }
}
