//! State of the process, in the host's shared data: read, decide in the core, store unless somebody was faster.

use alloc::vec::Vec;

use super::abi::Status;
use super::calls::{self, SharedValue};
use crate::caller_metrics::{Admission, admit};
use crate::newrelic::cat::NameList;
use crate::random::RandomPool;
use crate::sampler::shared::{CAS_OF_ABSENT, SharedKey};
use crate::sampler::{Claim, ClaimStep, Decision, Samplers, Verdict};

/// How often a value is stored again after others were faster; each time one of them was served, so that with Envoy's
/// usual number of workers nobody is ever left out.
const TRIES_MAX: u8 = 32;

/// The names of callers that have statistics of their own, in this process.
pub(super) const CALLERS_KEY: &[u8] = b"newrelic-callers";

/// The lists of names that statistics of Cross Application Tracing are made of.
pub(super) fn cat_key(list: NameList) -> &'static [u8] {
    match list {
        NameList::Callers => b"newrelic-cat-callers",
        NameList::Callees => b"newrelic-cat-callees",
        NameList::CalleeTransactions => b"newrelic-cat-callee-transactions",
    }
}

fn cas_of(value: Option<&SharedValue>) -> u32 {
    value.map_or(CAS_OF_ABSENT, |value| value.cas)
}

fn bytes_of(value: Option<&SharedValue>) -> Option<&[u8]> {
    value.map(|value| &*value.bytes)
}

/// Follows a verdict to its decision, asking the process where it must.
pub(super) fn decision(samplers: &mut Samplers, verdict: Verdict, now_ns: u64, random: &mut RandomPool) -> Decision {
    let mut verdict = verdict;
    loop {
        match verdict {
            Verdict::Final(decision) => return decision,
            Verdict::Claim(claim) => verdict = claim_once(samplers, claim, now_ns, random),
        }
    }
}

fn claim_once(samplers: &mut Samplers, claim: Claim, now_ns: u64, random: &mut RandomPool) -> Verdict {
    let Ok(value) = calls::shared_data(claim.key()) else {
        return samplers.claim_local(claim, now_ns, random);
    };
    match samplers.claim(claim, bytes_of(value.as_ref()), now_ns, random) {
        ClaimStep::Settled(verdict) => verdict,
        ClaimStep::Store(store) => match calls::set_shared_data(store.key(), &store.bytes(), cas_of(value.as_ref())) {
            Ok(()) => Verdict::Final(samplers.stored(store, random)),
            Err(Status::CasMismatch) => samplers.mismatched(store, now_ns, random),
            Err(_) => samplers.claim_local(store.into_claim(), now_ns, random),
        },
    }
}

/// Tells the process of the requests that this worker decided by itself.
pub(super) fn publish_samplers(samplers: &mut Samplers, now_ns: u64) {
    for publication in samplers.publications() {
        let stored = update(publication.key(), |stored| match samplers.publish(publication, stored, now_ns) {
            Some(update) => Change::Store(update.bytes(), Some(update)),
            None => Change::Keep(None),
        });
        if let Some(update) = stored.flatten() {
            samplers.published(&update);
        }
    }
}

/// Whether the process has room for a name in the list under this key: names with statistics of their own.
pub(super) fn list_name(key: &[u8], name: &str, names_max: usize) -> bool {
    let listed = update(key, |list| match admit(list.unwrap_or_default(), name, names_max) {
        Admission::Listed => Change::Keep(true),
        Admission::Full => Change::Keep(false),
        Admission::Store(list) => Change::Store(list, true),
    });
    listed.unwrap_or(false)
}

/// Whether no other instance of the process has asked with this key; true when the host cannot tell.
pub(super) fn is_first(key: &SharedKey) -> bool {
    let is_first = update(key.as_bytes(), |seen| match seen {
        Some(_) => Change::Keep(false),
        None => Change::Store(vec![1], true),
    });
    is_first.unwrap_or(true)
}

/// What becomes of a value of the process.
pub(super) enum Change<T> {
    /// It stays; the result.
    Keep(T),
    /// These bytes take its place; the result once they are stored.
    Store(Vec<u8>, T),
}

/// Changes a value of the process; `None` when the host keeps none, or others were faster every time.
pub(super) fn update<T>(key: &[u8], mut change: impl FnMut(Option<&[u8]>) -> Change<T>) -> Option<T> {
    for _ in 0..TRIES_MAX {
        let value = calls::shared_data(key).ok()?;
        let (bytes, result) = match change(bytes_of(value.as_ref())) {
            Change::Keep(result) => return Some(result),
            Change::Store(bytes, result) => (bytes, result),
        };
        match calls::set_shared_data(key, &bytes, cas_of(value.as_ref())) {
            Ok(()) => return Some(result),
            Err(Status::CasMismatch) => {}
            Err(_) => return None,
        }
    }
    None
}
