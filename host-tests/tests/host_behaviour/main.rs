//! What the host does, shown with small guests. Expectations without another source were measured on
//! Envoy 1.40.0 with a module that logs what it gets.

mod calls;
mod failure;
mod headers;
#[cfg(feature = "newrelic")]
mod receiver;
mod streams;
mod support;
mod topology;
