//! A real Envoy with the filter, small services behind it, and a receiver of what it records.
//!
//! The program `envoy-demo` shows what the filter does and judges it; the tests in `tests/` use the
//! same parts one by one. In reading order:
//!
//! - [`demo`]: the whole of it, running: [`ports`], the [`template`] of `envoy.yaml`, the [`process`]
//!   that is Envoy (its [`paths`], its [`stats`]), the [`services`] and the [`receiver`];
//! - [`scenario`]: the requests, sent by [`client`], which can also send what no decent client sends;
//! - [`tracing_headers`] and [`tree`]: what the services saw and the receiver got, made readable;
//! - [`verdict`]: what must hold for all that; [`report`] and [`paint`]: how it is printed;
//! - [`stay`]: what is done while the demo stays up, with [`follow`], [`trickle`] and [`progress`], until
//!   [`interrupt`];
//! - [`trace_store`]: the place to look at traces; [`hops`] gives it what the services saw, and [`trace_view`] is the
//!   same for a terminal;
//! - [`cat`]: the same for Cross Application Tracing, when the [`mode`] asks for it.

pub mod cat;
pub mod client;
pub mod demo;
pub mod follow;
pub mod hops;
pub mod interrupt;
pub mod mode;
pub mod paint;
pub mod paths;
pub mod ports;
pub mod process;
pub mod progress;
pub mod receiver;
pub mod report;
pub mod scenario;
pub mod services;
pub mod stats;
pub mod stay;
pub mod template;
pub mod trace_store;
pub mod trace_view;
pub mod tracing_headers;
pub mod tree;
pub mod trickle;
pub mod verdict;
