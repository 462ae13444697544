//! The configured samplers, and the decision procedure over them.

use alloc::vec::Vec;

use super::adaptive::{AdaptiveState, Draw};
use super::course::{Course, Layer};
use super::decision::{Decision, Granularity, Inbound, Parent};
use super::ratio::RatioSampler;
use super::shared::SharedKey;
use super::worker::{Answer, Claimed, WorkerSampler};
use crate::config::{PartialType, SamplerKind, SamplerSections, SamplerSettings};
use crate::newrelic::priority::Priority;
use crate::random::RandomPool;

/// How often a claim is decided again after other workers were faster. Each time one of them got through, so only a
/// host with far more busy workers than this could make a claim lose for good, and then as a request not sampled.
pub const CLAIM_TRIES_MAX: u8 = 32;

/// Marks our adaptive samplers among the keys of shared data.
const PURPOSE: &[u8; 16] = b"newrelic-sampler";

/// A decision, or what is missing for one.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// Decided.
    Final(Decision),
    /// The process's state of an adaptive sampler has to be asked: [`Samplers::claim`].
    Claim(Claim),
}

/// A request that is sampled if the process's state agrees.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    course: Course,
    layer: Layer,
    worker: usize,
    key: SharedKey,
    draw: Draw,
    tries: u8,
}

impl Claim {
    /// Where the process's state is in shared data.
    pub fn key(&self) -> &[u8] {
        self.key.as_bytes()
    }
}

/// What to do with a claim.
#[derive(Debug)]
pub enum ClaimStep {
    /// Sampled, if this can be stored: by compare-and-swap, with [`super::shared::CAS_OF_ABSENT`] when there was no
    /// value. Then one of [`Samplers::stored`], [`Samplers::mismatched`] and, when the host refuses,
    /// [`Samplers::claim_local`].
    Store(Store),
    /// Nothing to store: this sampler says no, and the verdict is that of what comes after it.
    Settled(Verdict),
}

/// A claim with the state that makes it true.
#[derive(Debug)]
pub struct Store {
    claim: Claim,
    state: AdaptiveState,
}

impl Store {
    /// Where the state goes.
    pub fn key(&self) -> &[u8] {
        self.claim.key()
    }

    /// What to store there.
    pub fn bytes(&self) -> Vec<u8> {
        self.state.to_bytes()
    }

    /// The claim alone.
    pub fn into_claim(self) -> Claim {
        self.claim
    }
}

/// Names one adaptive sampler with requests that the process does not know of.
#[derive(Clone, Copy, Debug)]
pub struct Publication {
    worker: usize,
    key: SharedKey,
}

impl Publication {
    /// Where the process's state is in shared data.
    pub fn key(&self) -> &[u8] {
        self.key.as_bytes()
    }
}

/// A state to publish.
#[derive(Debug)]
pub struct Update {
    worker: usize,
    state: AdaptiveState,
}

impl Update {
    /// What to store under the publication's key, by compare-and-swap as for a claim.
    pub fn bytes(&self) -> Vec<u8> {
        self.state.to_bytes()
    }
}

/// The samplers of one plugin instance in one worker.
#[derive(Debug)]
pub struct Samplers {
    full: Option<Sections>,
    partial: Option<(PartialType, Sections)>,
    /// At most one for each section, and the shared one.
    adaptive: Vec<WorkerSampler>,
}

/// What one sampler says.
enum Run {
    Decided(bool),
    Claim(Claim),
}

impl Samplers {
    /// Builds the samplers of a configuration. `identity` is what distinguishes plugin instances that shall not share
    /// their targets: account, application. With Infinite Tracing there is no partial granularity, as the observer
    /// wants whole traces.
    pub fn new(settings: &SamplerSettings, identity: &[u8], infinite_tracing: bool) -> Self {
        let mut build = Build { settings, identity, adaptive: Vec::new(), shared: None };
        let full = settings.full.map(|kinds| build.sections("full", kinds, None));
        let partial = settings.partial.filter(|_| !infinite_tracing);
        let partial =
            partial.map(|(partial_type, kinds)| (partial_type, build.sections("partial", kinds, settings.full)));
        Self { full, partial, adaptive: build.adaptive }
    }

    /// Decides a request, or says what is missing. Makes no use of the host.
    ///
    /// Takes from `random`, in this order and only when needed: 8 bytes for the draw of an adaptive sampler, 4 bytes
    /// for a priority, and 8 bytes for the draw of a second adaptive sampler.
    pub fn decide(&mut self, inbound: &Inbound, now_ns: u64, random: &mut RandomPool) -> Verdict {
        self.run_from(Some(Layer::Full), Course::new(inbound), now_ns, random)
    }

    /// Decides a claim on the process's state as just read from shared data; `None` when there is none yet.
    pub fn claim(&mut self, claim: Claim, stored: Option<&[u8]>, now_ns: u64, random: &mut RandomPool) -> ClaimStep {
        let mut claim = claim;
        let answer = match self.adaptive.get_mut(claim.worker) {
            Some(worker) => worker.claim(stored, &mut claim.draw, now_ns, random),
            None => Claimed::No,
        };
        match answer {
            Claimed::Yes(state) => ClaimStep::Store(Store { claim, state }),
            Claimed::No => ClaimStep::Settled(self.settle(claim, false, now_ns, random)),
        }
    }

    /// The decision after [`Store::bytes`] was stored: always sampled.
    #[expect(clippy::needless_pass_by_value, reason = "a claim is stored once")]
    pub fn stored(&mut self, store: Store, random: &mut RandomPool) -> Decision {
        let Store { mut claim, state } = store;
        if let Some(worker) = self.adaptive.get_mut(claim.worker) {
            worker.stored(state);
        }
        claim.course.count(true, claim.layer, random);
        claim.course.finish(self.granularity(claim.layer), random)
    }

    /// What to do after another worker stored something first: the same claim again, or no when there were too many
    /// tries.
    #[expect(clippy::needless_pass_by_value, reason = "a claim is stored once")]
    pub fn mismatched(&mut self, store: Store, now_ns: u64, random: &mut RandomPool) -> Verdict {
        let mut claim = store.claim;
        claim.tries += 1;
        if claim.tries < CLAIM_TRIES_MAX {
            return Verdict::Claim(claim);
        }
        if let Some(worker) = self.adaptive.get_mut(claim.worker) {
            worker.lose();
        }
        self.settle(claim, false, now_ns, random)
    }

    /// Decides a claim without the process, when the host refuses shared data. This worker then decides alone until a
    /// publication succeeds.
    pub fn claim_local(&mut self, claim: Claim, now_ns: u64, random: &mut RandomPool) -> Verdict {
        let mut claim = claim;
        let yes = match self.adaptive.get_mut(claim.worker) {
            Some(worker) => worker.claim_alone(&mut claim.draw, now_ns, random),
            None => false,
        };
        self.settle(claim, yes, now_ns, random)
    }

    /// The adaptive samplers that have something to tell the process; to be published on each tick. Empty for a
    /// worker without requests since the last one.
    pub fn publications(&self) -> Vec<Publication> {
        let with_news = self.adaptive.iter().enumerate().filter(|(_, sampler)| sampler.has_unpublished());
        with_news.map(|(worker, sampler)| Publication { worker, key: sampler.key }).collect()
    }

    /// The process's state, as just read from shared data, with this worker's requests. After a failed
    /// compare-and-swap it is made again, at once or on the next tick; nothing is lost.
    pub fn publish(&mut self, publication: Publication, stored: Option<&[u8]>, now_ns: u64) -> Option<Update> {
        let state = self.adaptive.get_mut(publication.worker)?.publish(stored, now_ns);
        Some(Update { worker: publication.worker, state })
    }

    /// Notes that an update was stored. Nothing may be decided between [`Samplers::publish`] and this.
    pub fn published(&mut self, update: &Update) {
        if let Some(worker) = self.adaptive.get_mut(update.worker) {
            worker.stored(update.state);
        }
    }

    /// Asks the layers from `first` on.
    fn run_from(&mut self, first: Option<Layer>, course: Course, now_ns: u64, random: &mut RandomPool) -> Verdict {
        let (mut next, mut course) = (first, course);
        while let Some(layer) = next {
            next = layer.next();
            let Some(sampler) = self.sampler(layer, course.inbound.parent) else {
                continue;
            };
            match self.run(sampler, layer, &mut course, now_ns, random) {
                Run::Decided(true) => {
                    return Verdict::Final(course.finish(self.granularity(layer), random));
                }
                Run::Decided(false) => {}
                Run::Claim(claim) => return Verdict::Claim(claim),
            }
        }
        Verdict::Final(course.finish(Granularity::None, random))
    }

    /// Asks one sampler.
    fn run(
        &mut self,
        sampler: Sampler,
        layer: Layer,
        course: &mut Course,
        now_ns: u64,
        random: &mut RandomPool,
    ) -> Run {
        let sampled = match (sampler, course.inbound.sampled) {
            (Sampler::AlwaysOn, _) => {
                course.fix(layer.always_on());
                true
            }
            (Sampler::AlwaysOff, _) => {
                course.fix(Priority::ZERO);
                false
            }
            (Sampler::Ratio(ratio), _) => {
                let sampled = ratio.samples(course.inbound.trace_id);
                course.rank(sampled, layer, random);
                sampled
            }
            (Sampler::Adaptive(_), Some(sampled)) => {
                course.inherit(sampled, layer, random);
                sampled
            }
            (Sampler::Adaptive(worker), None) => {
                return self.ask_worker(worker, layer, course, now_ns, random);
            }
        };
        Run::Decided(sampled)
    }

    /// Asks an adaptive sampler, as far as this worker knows it.
    fn ask_worker(
        &mut self,
        worker: usize,
        layer: Layer,
        course: &mut Course,
        now_ns: u64,
        random: &mut RandomPool,
    ) -> Run {
        let Some(sampler) = self.adaptive.get_mut(worker) else {
            return Run::Decided(false);
        };
        let mut draw = Draw::default();
        let sampled = match sampler.decide(&mut draw, now_ns, random) {
            Answer::Claim => {
                let key = sampler.key;
                return Run::Claim(Claim { course: *course, layer, worker, key, draw, tries: 0 });
            }
            Answer::Yes => true,
            Answer::No => false,
        };
        course.count(sampled, layer, random);
        Run::Decided(sampled)
    }

    /// Goes on where a claim interrupted the procedure.
    fn settle(&mut self, claim: Claim, sampled: bool, now_ns: u64, random: &mut RandomPool) -> Verdict {
        let Claim { mut course, layer, .. } = claim;
        course.count(sampled, layer, random);
        if sampled {
            return Verdict::Final(course.finish(self.granularity(layer), random));
        }
        self.run_from(layer.next(), course, now_ns, random)
    }

    fn sampler(&self, layer: Layer, parent: Parent) -> Option<Sampler> {
        let sections = match layer {
            Layer::Full => self.full,
            Layer::Partial => self.partial.map(|(_, sections)| sections),
        };
        sections.map(|sections| sections.of(parent))
    }

    fn granularity(&self, layer: Layer) -> Granularity {
        match (layer, self.partial) {
            (Layer::Partial, Some((partial_type, _))) => Granularity::Partial(partial_type),
            _ => Granularity::Full,
        }
    }
}

/// A sampler ready to run.
#[derive(Clone, Copy, Debug)]
enum Sampler {
    /// An index into [`Samplers::adaptive`].
    Adaptive(usize),
    AlwaysOn,
    AlwaysOff,
    Ratio(RatioSampler),
}

#[derive(Clone, Copy, Debug)]
struct Sections {
    root: Sampler,
    remote_parent_sampled: Sampler,
    remote_parent_not_sampled: Sampler,
}

impl Sections {
    fn of(self, parent: Parent) -> Sampler {
        match parent {
            Parent::Root => self.root,
            Parent::RemoteSampled => self.remote_parent_sampled,
            Parent::RemoteNotSampled => self.remote_parent_not_sampled,
        }
    }
}

/// Makes samplers of settings.
struct Build<'a> {
    settings: &'a SamplerSettings,
    identity: &'a [u8],
    adaptive: Vec<WorkerSampler>,
    /// Where the shared adaptive sampler is, once a section has asked for it.
    shared: Option<usize>,
}

impl Build<'_> {
    /// The samplers of one layer, behind those of another.
    fn sections(&mut self, layer: &str, kinds: SamplerSections, before: Option<SamplerSections>) -> Sections {
        let SamplerSections { root, remote_parent_sampled, remote_parent_not_sampled } = kinds;
        Sections {
            root: self.sampler(&[layer, "root"], root, before.map(|before| before.root)),
            remote_parent_sampled: self.sampler(
                &[layer, "remote_parent_sampled"],
                remote_parent_sampled,
                before.map(|before| before.remote_parent_sampled),
            ),
            remote_parent_not_sampled: self.sampler(
                &[layer, "remote_parent_not_sampled"],
                remote_parent_not_sampled,
                before.map(|before| before.remote_parent_not_sampled),
            ),
        }
    }

    fn sampler(&mut self, section: &[&str], kind: SamplerKind, before: Option<SamplerKind>) -> Sampler {
        match (kind, before) {
            (SamplerKind::AlwaysOn, _) => Sampler::AlwaysOn,
            (SamplerKind::AlwaysOff, _) => Sampler::AlwaysOff,
            (SamplerKind::TraceIdRatioBased(ratio), Some(SamplerKind::TraceIdRatioBased(before))) => {
                Sampler::Ratio(RatioSampler::behind(before, ratio))
            }
            (SamplerKind::TraceIdRatioBased(ratio), _) => Sampler::Ratio(RatioSampler::new(ratio)),
            (SamplerKind::Adaptive(target), _) => Sampler::Adaptive(self.adaptive(section, target)),
            (SamplerKind::AdaptiveShared, _) => Sampler::Adaptive(self.shared()),
        }
    }

    fn shared(&mut self) -> usize {
        if let Some(index) = self.shared {
            return index;
        }
        let index = self.adaptive(&["shared"], self.settings.adaptive_sampling_target);
        self.shared = Some(index);
        index
    }

    fn adaptive(&mut self, section: &[&str], target: u16) -> usize {
        let name = section.join(".");
        let key = SharedKey::new(PURPOSE, &[self.identity, name.as_bytes(), &target.to_be_bytes()]);
        self.adaptive.push(WorkerSampler::new(u32::from(target), key));
        self.adaptive.len() - 1
    }
}
