//! One worker's part in an adaptive sampler of the whole process; the module above tells the story.

use super::adaptive::{AdaptiveState, Draw, PERIOD_NS};
use super::shared::SharedKey;
use crate::random::RandomPool;

/// What a worker can say about a request by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Sampled; only a worker without shared data says so.
    Yes,
    /// Not sampled.
    No,
    /// Perhaps sampled: the process's state decides.
    Claim,
}

/// What the process's state says about a claim.
#[derive(Clone, Copy, Debug)]
pub(super) enum Claimed {
    /// Sampled, once this state is stored.
    Yes(AdaptiveState),
    /// Not sampled; nothing to store.
    No,
}

/// Requests that this worker decided and that the process's state does not contain yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unpublished {
    /// In the view's period.
    seen: u64,
    /// In the period before.
    seen_last: u64,
    /// Sampled in the view's period, without asking the process.
    sampled_count: u64,
}

impl Unpublished {
    const NONE: Self = Self { seen: 0, seen_last: 0, sampled_count: 0 };

    /// The same requests, seen from a later period.
    fn moved(self, from_start_ns: u64, to_start_ns: u64) -> Self {
        match to_start_ns.checked_sub(from_start_ns) {
            Some(0) => self,
            Some(PERIOD_NS) => Self { seen_last: self.seen, ..Self::NONE },
            // Older periods count for nothing.
            _ => Self::NONE,
        }
    }
}

/// An adaptive sampler as one worker knows it.
#[derive(Debug)]
pub(super) struct WorkerSampler {
    target: u32,
    pub(super) key: SharedKey,
    /// The process's state when this worker last saw it, and this worker's own decisions since.
    view: Option<AdaptiveState>,
    unpublished: Unpublished,
    /// Whether shared data was refused: the view then is all there is, until a publication succeeds.
    standalone: bool,
}

impl WorkerSampler {
    pub(super) fn new(target: u32, key: SharedKey) -> Self {
        Self { target, key, view: None, unpublished: Unpublished::NONE, standalone: false }
    }

    /// Decides without the process, when the answer is no anyway.
    pub(super) fn decide(&mut self, draw: &mut Draw, now_ns: u64, random: &mut RandomPool) -> Answer {
        self.roll(now_ns);
        let Some(view) = &self.view else {
            return Answer::Claim;
        };
        let sampled = view.says_yes(self.target, draw, random);
        if sampled && !self.standalone {
            return Answer::Claim;
        }
        self.count(sampled);
        if sampled { Answer::Yes } else { Answer::No }
    }

    /// Decides a claim on the process's state, as just read.
    pub(super) fn claim(
        &mut self,
        stored: Option<&[u8]>,
        draw: &mut Draw,
        now_ns: u64,
        random: &mut RandomPool,
    ) -> Claimed {
        self.roll(now_ns);
        let mut process = self.merged(stored, now_ns);
        if process.says_yes(self.target, draw, random) {
            process.count(true);
            return Claimed::Yes(process);
        }
        self.look_at(process);
        self.count(false);
        Claimed::No
    }

    /// Decides a claim without the process, whose state cannot be had.
    pub(super) fn claim_alone(&mut self, draw: &mut Draw, now_ns: u64, random: &mut RandomPool) -> bool {
        self.standalone = true;
        self.roll(now_ns);
        let view = *self.view.get_or_insert_with(|| AdaptiveState::new(now_ns));
        let sampled = view.says_yes(self.target, draw, random);
        self.count(sampled);
        sampled
    }

    /// Gives up a claim: other workers were faster each time.
    pub(super) fn lose(&mut self) {
        self.count(false);
    }

    /// Whether a publication would tell the process anything.
    pub(super) fn has_unpublished(&self) -> bool {
        self.unpublished != Unpublished::NONE || self.standalone
    }

    /// The process's state with this worker's requests.
    pub(super) fn publish(&mut self, stored: Option<&[u8]>, now_ns: u64) -> AdaptiveState {
        self.roll(now_ns);
        self.merged(stored, now_ns)
    }

    /// Notes that a state of [`WorkerSampler::claim`] or [`WorkerSampler::publish`] is now the process's.
    pub(super) fn stored(&mut self, process: AdaptiveState) {
        self.view = Some(process);
        self.unpublished = Unpublished::NONE;
        self.standalone = false;
    }

    /// Ends the view's periods that are over.
    fn roll(&mut self, now_ns: u64) {
        if let Some(mut view) = self.view {
            view.roll(now_ns);
            self.look_at(view);
        }
    }

    /// Takes over a view, also one of another period.
    fn look_at(&mut self, view: AdaptiveState) {
        self.unpublished = self.unpublished_in(&view);
        self.view = Some(view);
    }

    fn unpublished_in(&self, view: &AdaptiveState) -> Unpublished {
        self.view.map_or(Unpublished::NONE, |from| self.unpublished.moved(from.period_start_ns, view.period_start_ns))
    }

    /// The process's state and what it does not contain yet. What is missing, damaged or of another version starts
    /// again from this worker's view; a worker without one starts a first period.
    fn merged(&self, stored: Option<&[u8]>, now_ns: u64) -> AdaptiveState {
        let Some(mut process) = stored.and_then(AdaptiveState::from_bytes) else {
            return self.view.unwrap_or_else(|| AdaptiveState::new(now_ns));
        };
        process.roll(now_ns);
        let unpublished = self.unpublished_in(&process);
        process.seen = process.seen.saturating_add(unpublished.seen);
        process.seen_last = process.seen_last.saturating_add(unpublished.seen_last);
        process.sampled_count = process.sampled_count.saturating_add(unpublished.sampled_count);
        process
    }

    fn count(&mut self, sampled: bool) {
        if let Some(view) = &mut self.view {
            view.count(sampled);
        }
        self.unpublished.seen = self.unpublished.seen.saturating_add(1);
        self.unpublished.sampled_count = self.unpublished.sampled_count.saturating_add(u64::from(sampled));
    }
}
