//! Sampling decisions, and the targets of a process with many workers, on a stand-in for the host's shared data.

use newrelic_tracing::config::{PartialType, SamplerKind, SamplerSections, SamplerSettings};
use newrelic_tracing::id::TraceId;
use newrelic_tracing::newrelic::priority::Priority;
use newrelic_tracing::random::{RandomPool, scale};
use newrelic_tracing::record::Origin;
use newrelic_tracing::sampler::adaptive::{PERIOD_NS, back_off_threshold};
use newrelic_tracing::sampler::shared::{CAS_OF_ABSENT, account_hash};
use newrelic_tracing::sampler::{
    AdaptiveState, CLAIM_TRIES_MAX, Claim, ClaimStep, Decision, Granularity, Inbound, Parent, Samplers, Store, Verdict,
};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::collections::{BTreeMap, HashMap};

const SECOND_NS: u64 = 1_000_000_000;
/// Any time of day: the samplers must not care.
const NOON_NS: u64 = 1_750_000_000 * SECOND_NS;

// ------------------------------------------------------------------------------------------------ the stand-in host

/// Shared data as Envoy keeps it (proxy-wasm-cpp-host `src/shared_data.cc`).
#[derive(Default)]
struct SharedData {
    values: HashMap<Vec<u8>, (Vec<u8>, u32)>,
    last_cas: u32,
    calls: usize,
    refuses_to_load: bool,
    refuses_to_store: bool,
    always_mismatches: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    CasMismatch,
    Other,
}

impl SharedData {
    fn load(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, Refusal> {
        self.calls += 1;
        if self.refuses_to_load { Err(Refusal::Other) } else { Ok(self.values.get(key).cloned()) }
    }

    fn store(&mut self, key: &[u8], value: Vec<u8>, cas: u32) -> Result<(), Refusal> {
        self.calls += 1;
        if self.refuses_to_store {
            return Err(Refusal::Other);
        }
        let found = self.values.get(key).map(|(_, cas)| *cas);
        if self.always_mismatches || (cas != 0 && found.is_some_and(|found| found != cas)) {
            return Err(Refusal::CasMismatch);
        }
        self.last_cas += 1;
        self.values.insert(key.to_vec(), (value, self.last_cas));
        Ok(())
    }

    fn states(&self) -> Vec<AdaptiveState> {
        self.values.values().filter_map(|(value, _)| AdaptiveState::from_bytes(value)).collect()
    }
}

/// One plugin instance in one worker.
struct Vm {
    samplers: Samplers,
    random: RandomPool,
}

impl Vm {
    fn new(settings: &SamplerSettings, seed: u64) -> Self {
        Self { samplers: Samplers::new(settings, b"account and application", false), random: RandomPool::new(seed) }
    }

    /// Decides a request as the host's side does.
    fn decide(&mut self, inbound: &Inbound, data: &mut SharedData, now_ns: u64) -> Decision {
        let mut verdict = self.samplers.decide(inbound, now_ns, &mut self.random);
        loop {
            verdict = match verdict {
                Verdict::Final(decision) => return decision,
                Verdict::Claim(claim) => self.claim(claim, data, now_ns),
            }
        }
    }

    fn claim(&mut self, claim: Claim, data: &mut SharedData, now_ns: u64) -> Verdict {
        let Ok(found) = data.load(claim.key()) else {
            return self.samplers.claim_local(claim, now_ns, &mut self.random);
        };
        let value = found.as_ref().map(|(value, _)| value.as_slice());
        match self.samplers.claim(claim, value, now_ns, &mut self.random) {
            ClaimStep::Settled(verdict) => verdict,
            ClaimStep::Store(store) => self.store(store, found.map_or(CAS_OF_ABSENT, |(_, cas)| cas), data, now_ns),
        }
    }

    fn store(&mut self, store: Store, cas: u32, data: &mut SharedData, now_ns: u64) -> Verdict {
        match data.store(store.key(), store.bytes(), cas) {
            Ok(()) => Verdict::Final(self.samplers.stored(store, &mut self.random)),
            Err(Refusal::CasMismatch) => self.samplers.mismatched(store, now_ns, &mut self.random),
            Err(Refusal::Other) => self.samplers.claim_local(store.into_claim(), now_ns, &mut self.random),
        }
    }

    fn tick(&mut self, data: &mut SharedData, now_ns: u64) {
        for publication in self.samplers.publications() {
            let Ok(found) = data.load(publication.key()) else {
                continue;
            };
            let value = found.as_ref().map(|(value, _)| value.as_slice());
            let Some(update) = self.samplers.publish(publication, value, now_ns) else {
                continue;
            };
            if data.store(publication.key(), update.bytes(), found.map_or(CAS_OF_ABSENT, |(_, cas)| cas)).is_ok() {
                self.samplers.published(&update);
            }
        }
    }

    /// Decides root requests one after the other; how many are sampled.
    fn sampled_of(&mut self, requests: usize, data: &mut SharedData, now_ns: u64) -> usize {
        (0..requests).filter(|_| self.samples_root(data, now_ns)).count()
    }

    fn samples_root(&mut self, data: &mut SharedData, now_ns: u64) -> bool {
        self.decide(&root(), data, now_ns).sampled
    }
}

fn trace_id(text: &str) -> TraceId {
    u128::from_str_radix(text, 16).ok().and_then(TraceId::from_u128).unwrap()
}

fn root() -> Inbound {
    Inbound::root(trace_id("c0a8017e5d3b4f2226e1d47b08aa3f5c"))
}

fn priority(text: &str) -> Priority {
    Priority::parse(text.as_bytes()).unwrap()
}

/// Failing seeds go into `sampling.seeds` beside this file.
fn committed_seeds() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        ..ProptestConfig::default()
    }
}

// ------------------------------------------------------------------------------------------------ the decision table

use SamplerKind::{Adaptive, AdaptiveShared, AlwaysOff, AlwaysOn, TraceIdRatioBased};

fn everywhere(kind: SamplerKind) -> SamplerSections {
    SamplerSections { root: kind, remote_parent_sampled: kind, remote_parent_not_sampled: kind }
}

fn settings(full: Option<SamplerKind>, partial: Option<SamplerKind>) -> SamplerSettings {
    SamplerSettings {
        adaptive_sampling_target: 10,
        full: full.map(everywhere),
        partial: partial.map(|kind| (PartialType::Essential, everywhere(kind))),
    }
}

fn adaptive(target: u16) -> SamplerSettings {
    SamplerSettings { adaptive_sampling_target: target, ..settings(Some(AdaptiveShared), None) }
}

/// A pool whose next priorities are 0.25.
fn quarter() -> RandomPool {
    let mut random = RandomPool::new(0);
    for bytes in random.buffer_mut().chunks_exact_mut(4) {
        bytes.copy_from_slice(&0x4000_0000_u32.to_be_bytes());
    }
    random.refilled();
    random
}

fn decide_once(settings: &SamplerSettings, inbound: &Inbound) -> Decision {
    let mut vm = Vm { random: quarter(), ..Vm::new(settings, 0) };
    vm.decide(inbound, &mut SharedData::default(), NOON_NS)
}

fn remote(parent: Parent, sampled: Option<bool>, rank: Option<&str>) -> Inbound {
    Inbound { parent, sampled, priority: rank.map(priority), caller: 77, ..root() }
}

#[test]
fn the_samplers_of_full_granularity_decide_as_the_table_says() {
    use Parent::{RemoteNotSampled, RemoteSampled, Root};
    let by_section = SamplerSections {
        root: AlwaysOff,
        remote_parent_sampled: AlwaysOn,
        remote_parent_not_sampled: TraceIdRatioBased(0.5),
    };
    let by_section = SamplerSettings { full: Some(by_section), ..settings(None, None) };
    let default = &settings(Some(AdaptiveShared), None);
    let private = &settings(Some(Adaptive(5)), None);
    let on = &settings(Some(AlwaysOn), None);
    let off = &settings(Some(AlwaysOff), None);
    let most = &settings(Some(TraceIdRatioBased(0.2)), None);
    let few = &settings(Some(TraceIdRatioBased(0.1)), None);
    let (caller, local) = (Origin::Caller(77), Origin::Local);
    for (why, settings, inbound, sampled, rank, origin, sampler_ran) in [
        ("inherited yes", default, remote(RemoteSampled, Some(true), Some("1.7")), true, "1.7", caller, false),
        (
            "the entry beats flag 00",
            default,
            remote(RemoteNotSampled, Some(true), Some("1.7")),
            true,
            "1.7",
            caller,
            false,
        ),
        (
            "the entry beats flag 01",
            default,
            remote(RemoteSampled, Some(false), Some("1.4")),
            false,
            "1.4",
            caller,
            false,
        ),
        ("no without a priority", default, remote(RemoteNotSampled, Some(false), None), false, "0.25", caller, false),
        ("yes without a priority", default, remote(RemoteSampled, Some(true), None), true, "2.25", caller, false),
        (
            "own target, inherited",
            private,
            remote(RemoteSampled, Some(false), Some("1.4")),
            false,
            "1.4",
            caller,
            false,
        ),
        ("only a priority", default, remote(RemoteSampled, None, Some("0.6")), true, "0.6", caller, true),
        ("W3C only", default, remote(RemoteNotSampled, None, None), true, "2.25", local, true),
        ("new trace", default, root(), true, "2.25", local, true),
        ("payload without sa", default, remote(Root, None, Some("0.6")), true, "0.6", caller, true),
        ("own target, new trace", private, root(), true, "2.25", local, true),
        ("always on", on, root(), true, "3", local, true),
        ("always on, caller's no", on, remote(RemoteNotSampled, Some(false), Some("0.1")), true, "3", caller, true),
        ("always off", off, root(), false, "0", local, true),
        ("always off, caller's yes", off, remote(RemoteSampled, Some(true), Some("1.9")), false, "0", caller, true),
        ("ratio", most, root(), true, "2.25", local, true),
        ("ratio, caller's no", most, remote(RemoteNotSampled, Some(false), Some("0.1")), true, "2.25", caller, true),
        ("ratio, caller's yes", few, remote(RemoteSampled, Some(true), Some("1.9")), false, "0.25", caller, true),
        ("section root", &by_section, root(), false, "0", local, true),
        ("section sampled", &by_section, remote(RemoteSampled, None, None), true, "3", caller, true),
        ("section not sampled", &by_section, remote(RemoteNotSampled, None, None), true, "2.25", caller, true),
        ("both disabled", &settings_off(), root(), false, "0.25", local, false),
        (
            "both disabled, caller's yes",
            &settings_off(),
            remote(RemoteSampled, Some(true), Some("1.9")),
            false,
            "0.25",
            caller,
            false,
        ),
    ] {
        let granularity = if sampled { Granularity::Full } else { Granularity::None };
        let expected = Decision { sampled, priority: priority(rank), granularity, origin, sampler_ran };
        assert_eq!(decide_once(settings, &inbound), expected, "{why}");
    }
}

fn settings_off() -> SamplerSettings {
    settings(None, None)
}

#[test]
fn partial_granularity_decides_after_full_on_the_original_inbound_values() {
    let caller_yes = remote(Parent::RemoteSampled, Some(true), Some("1.7"));
    let caller_no = remote(Parent::RemoteNotSampled, Some(false), Some("1.4"));
    for (why, full, partial, inbound, expected, rank, sampler_ran) in [
        ("full wins", Some(AlwaysOn), Some(AlwaysOn), root(), 2, "3", true),
        ("always on after always off", Some(AlwaysOff), Some(AlwaysOn), root(), 1, "2", true),
        ("caller's yes after always off", Some(AlwaysOff), Some(AdaptiveShared), caller_yes, 1, "1.7", true),
        ("caller's no inherited twice", Some(AdaptiveShared), Some(AdaptiveShared), caller_no, 0, "1.4", false),
        ("always on after a caller's no", Some(AdaptiveShared), Some(AlwaysOn), caller_no, 1, "2", true),
        (
            "ratios 0.1 and 0.4 make 0.5",
            Some(TraceIdRatioBased(0.1)),
            Some(TraceIdRatioBased(0.4)),
            root(),
            1,
            "1.25",
            true,
        ),
        (
            "ratios 0.1 and 0.05 make 0.15",
            Some(TraceIdRatioBased(0.1)),
            Some(TraceIdRatioBased(0.05)),
            root(),
            0,
            "0.25",
            true,
        ),
        (
            "ratios 0.1 and 0.1 make 0.2",
            Some(TraceIdRatioBased(0.1)),
            Some(TraceIdRatioBased(0.1)),
            root(),
            1,
            "1.25",
            true,
        ),
        ("a ratio alone stays as configured", None, Some(TraceIdRatioBased(0.1)), root(), 0, "0.25", true),
        ("a ratio after always off stays too", Some(AlwaysOff), Some(TraceIdRatioBased(0.1)), root(), 0, "0.25", true),
        ("partial alone", None, Some(AdaptiveShared), root(), 1, "1.25", true),
        ("always off twice", Some(AlwaysOff), Some(AlwaysOff), root(), 0, "0", true),
    ] {
        let decision = decide_once(&settings(full, partial), &inbound);
        let granularities = [Granularity::None, Granularity::Partial(PartialType::Essential), Granularity::Full];
        assert_eq!(decision.granularity, granularities[expected], "{why}");
        assert_eq!(decision.sampled, expected > 0, "{why}");
        assert_eq!((decision.priority, decision.sampler_ran), (priority(rank), sampler_ran), "{why}");
    }
}

#[test]
fn ratios_are_layered_section_by_section() {
    let sections =
        |root, other| SamplerSections { root, remote_parent_sampled: other, remote_parent_not_sampled: other };
    let settings = SamplerSettings {
        adaptive_sampling_target: 10,
        full: Some(sections(AlwaysOff, TraceIdRatioBased(0.1))),
        partial: Some((PartialType::Compact, sections(TraceIdRatioBased(0.1), TraceIdRatioBased(0.1)))),
    };
    assert!(!decide_once(&settings, &root()).sampled);
    for parent in [Parent::RemoteSampled, Parent::RemoteNotSampled] {
        let decision = decide_once(&settings, &remote(parent, None, None));
        assert_eq!(decision.granularity, Granularity::Partial(PartialType::Compact), "{parent:?}");
    }
}

#[test]
fn infinite_tracing_switches_partial_granularity_off() {
    let settings = settings(Some(AlwaysOff), Some(AlwaysOn));
    let mut samplers = Samplers::new(&settings, b"", true);
    let Verdict::Final(decision) = samplers.decide(&root(), NOON_NS, &mut quarter()) else { panic!("no claim") };
    assert_eq!((decision.sampled, decision.granularity), (false, Granularity::None));
}

#[test]
fn a_caller_answers_for_the_number_of_its_requests_that_are_not_sampled() {
    let mut data = SharedData::default();
    let mut vm = Vm::new(&adaptive(1), 0);
    let caller = remote(Parent::RemoteSampled, None, None);
    let decisions = [caller, caller, root()].map(|inbound| vm.decide(&inbound, &mut data, NOON_NS));
    assert_eq!(decisions.map(|decision| decision.sampled), [true, false, false]);
    assert_eq!(decisions.map(|decision| decision.origin), [Origin::Local, Origin::Caller(77), Origin::Local]);
}

#[test]
fn callers_accounts_have_different_numbers() {
    let hashes = [&b"4002"[..], b"4003", b"1", b""].map(account_hash);
    assert_eq!(hashes.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
}

// --------------------------------------------------------------------------------------- targets of the whole process

/// What happened in one process.
struct Run {
    /// Sampled requests in each period.
    sampled: Vec<usize>,
    /// Claims that were refused: shared-data calls for requests that are not sampled.
    reads_for_nothing: usize,
}

/// Sends `requests` root requests in each period to `vms` instances in turns (or all to the first), with a tick of
/// every VM each second.
fn run(vms: usize, even: bool, settings: &SamplerSettings, periods: u64, requests: u64, seed: u64) -> Run {
    let mut data = SharedData::default();
    let mut vms: Vec<_> = (0..vms as u64).map(|vm| Vm::new(settings, seed * 1000 + vm)).collect();
    let busy = if even { vms.len() } else { 1 };
    let mut turns = (0..busy).cycle();
    let mut result = Run { sampled: Vec::new(), reads_for_nothing: 0 };
    // The first request is the first of the first period.
    let mut next_tick_ns = NOON_NS + SECOND_NS / 2;
    for period in 0..periods {
        let mut sampled = 0;
        for request in 0..requests {
            let now_ns = NOON_NS + period * PERIOD_NS + request * PERIOD_NS / requests;
            while next_tick_ns <= now_ns {
                vms.iter_mut().for_each(|vm| vm.tick(&mut data, next_tick_ns));
                next_tick_ns += SECOND_NS;
            }
            let before = data.calls;
            let yes = vms[turns.next().unwrap()].samples_root(&mut data, now_ns);
            sampled += usize::from(yes);
            result.reads_for_nothing += usize::from(!yes && data.calls > before);
        }
        result.sampled.push(sampled);
    }
    result
}

#[test]
fn the_target_is_that_of_the_process_for_any_number_of_workers() {
    for workers in [1, 4, 16] {
        for instances in [1, 2] {
            for even in [true, false] {
                for target in [1, 10, 120] {
                    let vms = workers * instances;
                    let run = run(vms, even, &adaptive(target), 6, 10_000, u64::from(target));
                    let case = format!("{vms} instances, even: {even}, target {target}: {:?}", run.sampled);
                    assert_eq!(run.sampled[0], usize::from(target), "{case}");
                    assert!(run.sampled.iter().all(|sampled| *sampled <= 2 * usize::from(target)), "{case}");
                    assert!(run.sampled.iter().skip(1).sum::<usize>() > 0, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_burst_at_the_beginning_of_every_period_keeps_to_the_limits_without_any_tick() {
    for vms in [1, 4, 16] {
        let mut data = SharedData::default();
        let mut vms: Vec<_> = (0..vms).map(|vm| Vm::new(&adaptive(10), vm)).collect();
        for period in 0..20 {
            let at = NOON_NS + period * PERIOD_NS;
            let sampled = (0..2000).filter(|request| {
                let vm = request % vms.len();
                vms[vm].samples_root(&mut data, at + *request as u64)
            });
            let sampled = sampled.count();
            assert!(sampled <= 20 && (period > 0 || sampled == 10), "{sampled} in period {period}");
        }
    }
}

#[test]
fn a_request_that_is_not_sampled_makes_no_shared_data_call() {
    let mut data = SharedData::default();
    let mut vm = Vm::new(&adaptive(10), 1);
    assert_eq!(vm.sampled_of(10, &mut data, NOON_NS), 10);
    let calls = data.calls;
    assert_eq!(vm.sampled_of(10_000, &mut data, NOON_NS + 1), 0);
    assert_eq!(data.calls, calls, "the target is used up, and the worker knows");
    // In later periods a lone worker knows everything, so only what is sampled is claimed.
    assert_eq!(run(1, true, &adaptive(10), 10, 10_000, 7).reads_for_nothing, 0);
}

#[test]
fn with_many_workers_a_claim_is_seldom_for_nothing() {
    for (vms, even) in [(4, true), (16, true), (16, false)] {
        let run = run(vms, even, &adaptive(10), 20, 10_000, 3);
        let limit = if even { 2 * vms } else { 0 };
        assert!(run.reads_for_nothing <= limit, "{vms} workers: {} of 200000 requests", run.reads_for_nothing);
    }
}

#[test]
fn other_identities_targets_and_sections_count_for_themselves() {
    let mut data = SharedData::default();
    let exhausted = |samplers: Samplers, data: &mut SharedData, inbound: &Inbound| {
        let mut vm = Vm { samplers, random: RandomPool::new(0) };
        (0..500).filter(|_| vm.decide(inbound, data, NOON_NS).sampled).count()
    };
    let parent = remote(Parent::RemoteSampled, None, None);
    let private = SamplerSections {
        root: Adaptive(7),
        remote_parent_sampled: Adaptive(7),
        remote_parent_not_sampled: AdaptiveShared,
    };
    let private = SamplerSettings { full: Some(private), ..adaptive(10) };
    for (why, settings, identity, inbound, sampled) in [
        ("the first", adaptive(10), "one", root(), 10),
        ("the same again", adaptive(10), "one", root(), 0),
        ("another application", adaptive(10), "two", root(), 10),
        ("another target", adaptive(11), "one", root(), 11),
        ("a section of its own", private.clone(), "one", root(), 7),
        ("another section of its own", private.clone(), "one", parent, 7),
        ("the shared one, used up", private, "one", remote(Parent::RemoteNotSampled, None, None), 0),
    ] {
        let samplers = Samplers::new(&settings, identity.as_bytes(), false);
        assert_eq!(exhausted(samplers, &mut data, &inbound), sampled, "{why}");
    }
}

#[test]
fn full_and_partial_granularity_share_the_shared_sampler() {
    let mut data = SharedData::default();
    let mut vm = Vm::new(&settings(Some(AdaptiveShared), Some(AdaptiveShared)), 1);
    let decisions: Vec<_> = (0..100).map(|_| vm.decide(&root(), &mut data, NOON_NS).granularity).collect();
    assert!(decisions.iter().take(10).all(|granularity| *granularity == Granularity::Full));
    assert!(decisions.iter().skip(10).all(|granularity| *granularity == Granularity::None));
    // Each refused request was asked about twice.
    vm.tick(&mut data, NOON_NS);
    assert_eq!(data.states()[0].seen, 10 + 2 * 90);
}

#[test]
fn two_targets_are_used_up_one_after_the_other() {
    let mut data = SharedData::default();
    let settings = settings(Some(Adaptive(3)), Some(Adaptive(4)));
    let mut vms = [Vm::new(&settings, 1), Vm::new(&settings, 2)];
    let partial = Granularity::Partial(PartialType::Essential);
    for granularity in [[Granularity::Full; 3].as_slice(), &[partial; 4], &[Granularity::None; 5]].concat() {
        let vm = vms.first_mut().unwrap();
        assert_eq!(vm.decide(&root(), &mut data, NOON_NS).granularity, granularity);
        vms.reverse();
    }
}

// ------------------------------------------------------------------------------------------------------ interleavings

/// A claim between its load and its store.
struct Loaded {
    store: Store,
    cas: u32,
}

/// What one VM is in the middle of.
enum Doing {
    Nothing,
    Claiming(Claim),
    Storing(Loaded),
}

/// One step of one VM: a request begins, a claim is loaded, or a claim is stored. Returns the period of a sampled
/// request: the one that the stored state counts it in.
fn step(vm: &mut Vm, doing: &mut Doing, data: &mut SharedData, now_ns: u64) -> Option<u64> {
    let verdict = match core::mem::replace(doing, Doing::Nothing) {
        Doing::Nothing => vm.samplers.decide(&root(), now_ns, &mut vm.random),
        Doing::Claiming(claim) => {
            let found = data.load(claim.key()).unwrap();
            let value = found.as_ref().map(|(value, _)| value.as_slice());
            match vm.samplers.claim(claim, value, now_ns, &mut vm.random) {
                ClaimStep::Settled(verdict) => verdict,
                ClaimStep::Store(store) => {
                    *doing = Doing::Storing(Loaded { store, cas: found.map_or(CAS_OF_ABSENT, |(_, cas)| cas) });
                    return None;
                }
            }
        }
        Doing::Storing(Loaded { store, cas }) => {
            let bytes = store.bytes();
            let period = AdaptiveState::from_bytes(&bytes).unwrap().period_start_ns;
            if data.store(store.key(), bytes, cas).is_ok() {
                assert!(vm.samplers.stored(store, &mut vm.random).sampled);
                return Some(period);
            }
            vm.samplers.mismatched(store, now_ns, &mut vm.random)
        }
    };
    match verdict {
        Verdict::Claim(claim) => *doing = Doing::Claiming(claim),
        Verdict::Final(decision) => assert!(!decision.sampled, "nothing is sampled without a stored claim"),
    }
    None
}

proptest! {
    #![proptest_config(committed_seeds())]

    #[test]
    fn no_order_of_steps_breaks_the_limits(
        vms in 1_usize..8,
        target in 1_u16..12,
        seed in 0_u64..1000,
        steps in proptest::collection::vec((0_usize..8, 0_u64..100, 0_u64..10), 1..1500),
    ) {
        let mut data = SharedData::default();
        let mut vms: Vec<_> =
            (0..vms as u64).map(|vm| (Vm::new(&adaptive(target), seed + vm), Doing::Nothing)).collect();
        let mut sampled: BTreeMap<u64, usize> = BTreeMap::new();
        let mut now_ns = NOON_NS;
        let mut in_first_period = 0;
        for (vm, pause, tick) in steps {
            // Mostly nothing, sometimes seconds, seldom minutes.
            now_ns += match pause { 99 => 70 * SECOND_NS, 90..99 => 2 * SECOND_NS, _ => 1 };
            let index = vm % vms.len();
            let (vm, doing) = &mut vms[index];
            if tick == 0 && matches!(doing, Doing::Nothing) {
                vm.tick(&mut data, now_ns);
            }
            in_first_period += usize::from(now_ns < NOON_NS + PERIOD_NS);
            if let Some(period) = step(vm, doing, &mut data, now_ns) {
                *sampled.entry(period).or_default() += 1;
            }
        }
        let target = usize::from(target);
        let first = sampled.first_key_value().map_or(0, |(_, sampled)| *sampled);
        prop_assert!(first <= target, "{sampled:?}");
        prop_assert!(sampled.values().all(|sampled| *sampled <= 2 * target), "{sampled:?}");
        // A sampled request takes three steps, and a step is lost only to another claim's success.
        if in_first_period >= 3 * (target + vms.len()) * (target + vms.len()) {
            prop_assert_eq!(first, target, "{:?}", sampled);
        }
    }
}

// --------------------------------------------------------------------------------------- the algorithm on one state

/// The algorithm as New Relic describes it, on plain variables.
struct Reference {
    target: u64,
    period_start: u64,
    first_period: bool,
    seen: u64,
    seen_last: u64,
    sampled_count: u64,
}

impl Reference {
    fn new(target: u64, now_ns: u64) -> Self {
        Self { target, period_start: now_ns, first_period: true, seen: 0, seen_last: 0, sampled_count: 0 }
    }

    fn decide(&mut self, now_ns: u64, random: &mut RandomPool) -> bool {
        let n = (now_ns - self.period_start) / PERIOD_NS;
        if n >= 1 {
            self.period_start += n * PERIOD_NS;
            self.seen_last = if n == 1 { self.seen } else { 0 };
            self.seen = 0;
            self.sampled_count = 0;
            self.first_period = false;
        }
        let yes = if self.first_period {
            self.sampled_count < self.target
        } else if self.sampled_count < self.target {
            self.seen_last == 0 || random.below(self.seen_last) < self.target
        } else if self.sampled_count >= 2 * self.target {
            false
        } else {
            (scale(random.next_u64(), self.seen) as f64) < back_off_threshold(self.target, self.sampled_count)
        };
        self.seen += 1;
        self.sampled_count += u64::from(yes);
        // The samplers draw the priority next.
        random.next_u32();
        yes
    }
}

proptest! {
    #![proptest_config(committed_seeds())]

    #[test]
    fn a_lone_worker_decides_as_the_algorithm_whether_or_not_it_has_shared_data(
        target in 1_u16..20,
        seed: u64,
        requests in proptest::collection::vec((0_u64..300, 0_u64..10, 0_u64..50), 1..800),
    ) {
        let mut data = SharedData::default();
        let mut vm = Vm::new(&adaptive(target), seed);
        let mut random = RandomPool::new(seed);
        let mut reference = Reference::new(u64::from(target), NOON_NS);
        let mut now_ns = NOON_NS;
        for (pause, tick, refusal) in requests {
            match refusal {
                0 => data.refuses_to_load = !data.refuses_to_load,
                1 => data.refuses_to_store = !data.refuses_to_store,
                _ => {}
            }
            prop_assert_eq!(vm.samples_root(&mut data, now_ns), reference.decide(now_ns, &mut random));
            now_ns += match pause { 299 => 130 * SECOND_NS, 295..299 => 40 * SECOND_NS, _ => pause * SECOND_NS / 300 };
            if tick == 0 {
                vm.tick(&mut data, now_ns);
            }
        }
    }
}

/// Mean and standard deviation of the mean.
fn mean(values: &[usize]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<usize>() as f64 / count;
    let variance = values.iter().map(|value| (*value as f64 - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, (variance / count).sqrt())
}

#[test]
fn the_mean_of_later_periods_is_that_of_the_algorithm_for_any_number_of_workers() {
    const PERIODS: u64 = 250;
    for (target, requests) in [(10_u16, 1000), (10, 4000), (50, 2000)] {
        let mut reference = Reference::new(u64::from(target), NOON_NS);
        let mut random = RandomPool::new(99);
        let direct: Vec<_> = (0..PERIODS)
            .map(|period| {
                let at = |request| NOON_NS + period * PERIOD_NS + request * PERIOD_NS / requests;
                (0..requests).filter(|request| reference.decide(at(*request), &mut random)).count()
            })
            .collect();
        let (expected, expected_error) = mean(&direct[1..]);
        for vms in [1, 4, 16] {
            let run = run(vms, true, &adaptive(target), PERIODS, requests, 5);
            let (found, error) = mean(&run.sampled[1..]);
            // Three standard deviations of the difference, and what late numbers of requests may add: 2 %.
            let range = 3.0 * (expected_error.powi(2) + error.powi(2)).sqrt() + 0.02 * expected;
            assert!(
                (found - expected).abs() <= range,
                "{vms} workers, target {target} of {requests}: {found}, expected {expected} within {range}"
            );
        }
    }
}

// ------------------------------------------------------------------------------------------------------- what may fail

#[test]
fn a_worker_that_dies_takes_only_its_own_count_along() {
    let mut data = SharedData::default();
    let mut survivor = Vm::new(&adaptive(10), 1);
    let mut casualty = Vm::new(&adaptive(10), 2);
    for request in 0..1000 {
        casualty.samples_root(&mut data, NOON_NS + request);
        survivor.samples_root(&mut data, NOON_NS + request);
    }
    survivor.tick(&mut data, NOON_NS + SECOND_NS);
    drop(casualty);
    let state = data.states()[0];
    assert_eq!(state.sampled_count, 10);
    assert!((1000..=1020).contains(&state.seen), "{state:?}");
    // Its successor does not start over.
    let mut successor = Vm::new(&adaptive(10), 3);
    assert_eq!(successor.sampled_of(100, &mut data, NOON_NS + 2 * SECOND_NS), 0);
}

#[test]
fn requests_published_after_their_period_count_for_the_next_one() {
    let mut data = SharedData::default();
    let mut vms = [Vm::new(&adaptive(10), 1), Vm::new(&adaptive(10), 2)];
    let [first, second] = &mut vms;
    assert_eq!(first.sampled_of(500, &mut data, NOON_NS), 10);
    assert_eq!(second.sampled_of(500, &mut data, NOON_NS), 0);
    first.tick(&mut data, NOON_NS + PERIOD_NS);
    assert!(data.states()[0].seen_last < 1000);
    second.tick(&mut data, NOON_NS + PERIOD_NS + SECOND_NS);
    assert_eq!((data.states()[0].seen_last, data.states()[0].seen), (1000, 0));
}

#[test]
fn a_state_that_cannot_be_read_starts_again_from_what_the_worker_knows() {
    let mut data = SharedData::default();
    let mut vm = Vm::new(&adaptive(10), 1);
    assert_eq!(vm.sampled_of(500, &mut data, NOON_NS), 10);
    for (value, _) in data.values.values_mut() {
        *value = b"written by somebody else".to_vec();
    }
    vm.tick(&mut data, NOON_NS);
    let state = AdaptiveState { seen: 500, sampled_count: 10, ..AdaptiveState::new(NOON_NS) };
    assert_eq!(data.states(), [state]);

    for (value, _) in data.values.values_mut() {
        value[3] ^= 0xff;
    }
    let mut newcomer = Vm::new(&adaptive(10), 2);
    let sampled = newcomer.sampled_of(500, &mut data, NOON_NS + 1);
    assert_eq!(sampled, 10, "a worker that knows nothing begins a first period");
}

#[test]
fn a_refused_worker_asks_once_a_tick_and_comes_back_with_what_it_counted() {
    let mut data = SharedData { refuses_to_load: true, ..SharedData::default() };
    let mut vm = Vm::new(&adaptive(10), 1);
    assert_eq!((vm.sampled_of(500, &mut data, NOON_NS), data.calls), (10, 1));
    vm.tick(&mut data, NOON_NS);
    assert_eq!(data.calls, 2);
    data.refuses_to_load = false;
    vm.tick(&mut data, NOON_NS);
    let mut other = Vm::new(&adaptive(10), 2);
    assert_eq!(other.sampled_of(100, &mut data, NOON_NS), 0, "the target is used up");
    // Refused in the middle of a period that others know of, its own samples are added to theirs.
    let next_ns = NOON_NS + 2 * PERIOD_NS;
    assert!(other.samples_root(&mut data, next_ns));
    data.refuses_to_store = true;
    assert_eq!(vm.sampled_of(3, &mut data, next_ns), 3);
    data.refuses_to_store = false;
    vm.tick(&mut data, next_ns);
    assert_eq!((data.states()[0].sampled_count, data.states()[0].seen), (4, 4));
    assert!(vm.samples_root(&mut data, next_ns));
    assert_eq!(data.states()[0].sampled_count, 5, "it claims again");
}

#[test]
fn a_claim_that_always_comes_second_is_given_up() {
    let mut data = SharedData::default();
    let mut vm = Vm::new(&adaptive(10), 1);
    assert!(vm.samples_root(&mut data, NOON_NS));
    (data.always_mismatches, data.calls) = (true, 0);
    assert!(!vm.samples_root(&mut data, NOON_NS));
    assert_eq!(data.calls, 2 * usize::from(CLAIM_TRIES_MAX));
    data.always_mismatches = false;
    assert!(vm.samples_root(&mut data, NOON_NS), "the next one is not given up");
    assert_eq!((data.states()[0].sampled_count, data.states()[0].seen), (2, 3));
}

#[test]
fn a_clock_set_back_stops_no_worker_for_long() {
    let mut data = SharedData::default();
    let mut vms = [Vm::new(&adaptive(10), 1), Vm::new(&adaptive(10), 2)];
    for (day, sampled) in [(3, 10), (1, 10), (2, 10)] {
        // A day later, or earlier, the period before was not the neighbour, or had as many requests.
        let now_ns = NOON_NS + day * 86_400 * SECOND_NS;
        let yes = (0..12).filter(|request| vms[request % 2].samples_root(&mut data, now_ns)).count();
        assert!(yes >= sampled / 2, "{yes} on day {day}");
        assert!(yes <= 2 * sampled, "{yes} on day {day}");
    }
}
