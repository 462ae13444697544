//! One request on its way through the layers of the decision.

use super::decision::{Decision, Granularity, Inbound, Parent};
use crate::newrelic::priority::Priority;
use crate::random::RandomPool;
use crate::record::Origin;

/// The two layers, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    Full,
    Partial,
}

impl Layer {
    /// The layer that is asked when this one says no.
    pub(super) fn next(self) -> Option<Self> {
        match self {
            Self::Full => Some(Self::Partial),
            Self::Partial => None,
        }
    }

    /// What a positive decision adds to the priority.
    fn increment(self) -> u32 {
        match self {
            Self::Full => 2,
            Self::Partial => 1,
        }
    }

    /// The fixed priority of `always_on`.
    pub(super) fn always_on(self) -> Priority {
        Priority::from_whole(self.increment() + 1)
    }
}

/// What is known about one request so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    pub(super) inbound: Inbound,
    /// The random part of the priority, once drawn.
    base: Option<Priority>,
    /// The priority that the last sampler left.
    priority: Option<Priority>,
    origin: Origin,
    sampler_ran: bool,
}

impl Course {
    pub(super) fn new(inbound: &Inbound) -> Self {
        Self { inbound: *inbound, base: None, priority: None, origin: origin(inbound), sampler_ran: false }
    }

    /// Takes over the caller's decision.
    pub(super) fn inherit(&mut self, sampled: bool, layer: Layer, random: &mut RandomPool) {
        self.priority = Some(self.inherited_priority(sampled, layer, random));
        self.origin = Origin::Caller(self.inbound.caller);
    }

    /// Takes over the decision of an adaptive sampler.
    pub(super) fn count(&mut self, sampled: bool, layer: Layer, random: &mut RandomPool) {
        self.priority = Some(self.inherited_priority(sampled, layer, random));
        self.sampler_ran = true;
        self.origin = match (self.inbound.priority, sampled) {
            (Some(_), _) => Origin::Caller(self.inbound.caller),
            (None, true) => Origin::Local,
            (None, false) => origin(&self.inbound),
        };
    }

    /// Takes over the decision of a ratio sampler, which makes a priority of its own.
    pub(super) fn rank(&mut self, sampled: bool, layer: Layer, random: &mut RandomPool) {
        let priority = self.own_priority(sampled, layer, random);
        self.fix(priority);
    }

    /// Takes over the decision of a sampler with a fixed priority.
    pub(super) fn fix(&mut self, priority: Priority) {
        self.priority = Some(priority);
        self.sampler_ran = true;
        self.origin = origin(&self.inbound);
    }

    pub(super) fn finish(mut self, granularity: Granularity, random: &mut RandomPool) -> Decision {
        Decision {
            sampled: granularity != Granularity::None,
            priority: self.priority.unwrap_or_else(|| self.base(random)),
            granularity,
            origin: self.origin,
            sampler_ran: self.sampler_ran,
        }
    }

    fn inherited_priority(&mut self, sampled: bool, layer: Layer, random: &mut RandomPool) -> Priority {
        self.inbound.priority.unwrap_or_else(|| self.own_priority(sampled, layer, random))
    }

    fn own_priority(&mut self, sampled: bool, layer: Layer, random: &mut RandomPool) -> Priority {
        let base = self.base(random);
        if sampled { base.raised_by(layer.increment()) } else { base }
    }

    fn base(&mut self, random: &mut RandomPool) -> Priority {
        *self.base.get_or_insert_with(|| Priority::from_random(random.next_u32()))
    }
}

/// Who decides how many such requests there are.
fn origin(inbound: &Inbound) -> Origin {
    match inbound.parent {
        Parent::Root => Origin::Local,
        Parent::RemoteSampled | Parent::RemoteNotSampled => Origin::Caller(inbound.caller),
    }
}
