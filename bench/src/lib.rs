//! What the filter costs a real Envoy, next to Envoy alone and to Envoy's own tracer.
//!
//! In reading order:
//!
//! - [`settings`]: what the environment asks for; [`variant`]: what there is to measure, a file each;
//! - [`plan`]: in which order it is measured, and in which [`shape`](plan::Shape);
//! - [`traffic`] and [`load`]: the requests and who sends them; [`bootstrap`]: the two Envoys;
//! - [`site`]: the processes and files of a run; [`measure`]: one measurement of a fresh Envoy, with what [`procfs`]
//!   tells of it and what its [`delivery`] was;
//! - [`mod@bench`]: the whole run;
//! - [`summary`]: what the measurements say together; [`targets`]: what they shall say;
//! - [`report`]: the files and the part of the README that show it; [`machine`]: where it was measured.

/// This package's folder in the source tree.
pub const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

pub mod bench;
pub mod bootstrap;
pub mod delivery;
pub mod load;
pub mod machine;
pub mod measure;
mod meter;
pub mod plan;
pub mod procfs;
pub mod report;
pub mod settings;
pub mod site;
pub mod summary;
pub mod targets;
pub mod tools;
pub mod traffic;
pub mod variant;
