//! Which traces are recorded.
//!
//! A decision takes the section of the request's [`Parent`] first from full granularity, then, when that says no,
//! from partial granularity, as New Relic's agents do (Python agent `newrelic/core/samplers`, Java agent
//! `tracing/samplers`). Each section has a sampler: adaptive, always on, always off, or by trace id ratio.
//!
//! # One adaptive target for the process
//!
//! Envoy runs one VM per worker thread, and a target of ten traces a minute means ten per proxy. So the state of an
//! adaptive sampler ([`AdaptiveState`]) is in the host's shared data. That is behind a process-wide lock, so a
//! request that is not sampled must not touch it:
//!
//! 1. A worker keeps a *view*: the state as it last saw it, plus its own requests since. A request is decided on the
//!    view first, with one random number. A no is final ([`Verdict::Final`]).
//! 2. A yes is only a [`Verdict::Claim`]. The host reads the shared state, the same random number is decided again on
//!    it ([`Samplers::claim`]), and a yes is stored by compare-and-swap. Whoever comes second reads and decides
//!    again, at most [`CLAIM_TRIES_MAX`] times; then the answer is no.
//! 3. Each claim brings the worker's requests since the last one with it. On each tick a worker publishes those that
//!    no claim has brought ([`Samplers::publications`]).
//!
//! **What is exact.** Every sampled request was counted in the shared state by compare-and-swap, so a first period
//! has exactly `target` sampled requests (when there are as many requests), and no period more than `2 * target`,
//! whatever the number of workers and of plugin instances with the same configuration. The period is the process's:
//! it begins when the first worker claims. One worker alone decides exactly as the algorithm on a single state.
//!
//! **What is approximate.** The numbers of requests, `seen` and `seen_last`, miss what the other workers have not yet
//! published: at most one tick interval of their requests. Late requests of a period that has ended are added to
//! `seen_last`, so from the second tick of a period on it is complete. Where a number is too low by a share `e`, a
//! request's chance is too high by the factor `1 / (1 - e)`: with a tick each second and even load, under 2 % at the
//! beginning of a period and in back-off at its end; more in the first seconds of back-off, where both limits hold
//! nevertheless. A worker's view is older than the shared state, which makes it say yes too often, and the claim
//! corrects that. So an unsampled request costs a read of shared data only when the requests or samples of others
//! since the worker's last look make the difference: in the first period at most once in each worker, and with
//! sixteen workers and 10,000 requests a minute for fewer than one request in ten thousand (`tests/sampling.rs`). In
//! the other direction, a view from before the target was reached may say no where the back-off of the few requests
//! seen so far would say yes; that too ends with the next tick.
//!
//! **When a worker dies** (a trapped VM, a reload), its unpublished requests are lost: `seen` is too low by at most
//! a tick interval of its requests. A claim that it stored and did not use stays spent. The limits hold.
//!
//! **Who shares.** Shared data belongs to a `vm_id`: plugins with another one have targets of their own. Istio gives
//! all plugins of a proxy the same, empty `vm_id`, so keys are prefixed and hold a hash of the identity that the
//! caller passes, of the section and of the target: equally configured instances share, others do not.
//! Envoy deletes shared data when the last VM with the `vm_id` is gone.
//!
//! **Without shared data** (the host refuses) a worker decides alone on its view, and tries the process again on the
//! next tick. The target then holds per worker.

pub mod adaptive;
mod course;
mod decision;
pub mod granularity;
mod ratio;
mod samplers;
pub mod shared;
pub mod usage;
mod worker;

pub use adaptive::AdaptiveState;
pub use decision::{Decision, Granularity, Inbound, Parent};
pub use ratio::RatioSampler;
pub use samplers::{CLAIM_TRIES_MAX, Claim, ClaimStep, Publication, Samplers, Store, Update, Verdict};
