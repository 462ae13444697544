//! Tests through a real Envoy. Without one on this machine they are skipped with a notice, but with
//! `CI` or `ENVOY` set they fail.

mod cat;
mod configuration;
mod end_to_end;
mod harness;
mod hostile_requests;
mod process;
