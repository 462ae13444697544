//! Delivery through a real Envoy: a receiver that fails for a while, and an Envoy that ends, drains or gets another
//! configuration. Without an Envoy on this machine the tests are skipped with a notice, but with `CI` or `ENVOY` set
//! they fail.
//!
//! What `docs/shutdown.md` says was measured by the tests in `lifecycle`, and can be measured again:
//!
//! ```sh
//! cargo test -p envoy-demo --test delivery -- --ignored --nocapture measure
//! ```

#[path = "../real_envoy/harness.rs"]
#[expect(dead_code, reason = "the harness of the other tests is used in part")]
mod harness;

mod lifecycle;
mod recovery;
mod site;
