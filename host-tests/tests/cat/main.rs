//! Cross Application Tracing through the real module: what callers, upstreams and operators see of it.
//!
//! The rules are those of New Relic's public agents (newrelic/go-agent `v3/internal/cat`, newrelic/newrelic-php-agent
//! `axiom/nr_header.c`, newrelic/newrelic-java-agent `InboundHeaderState`), as the filter's documentation states them.

mod answer;
mod garbage;
mod harness;
mod mechanisms;
mod obfuscation;
mod request;
mod roles;
mod statistics;
mod trust;
mod worked_example;
