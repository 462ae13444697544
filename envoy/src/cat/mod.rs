//! The demo in Cross Application Tracing, the predecessor of distributed tracing: request headers name the caller, a
//! response header names the one who answered, and only transactions are recorded.
//!
//! In reading order: [`wire`], the headers as a bystander reads them; [`path_hash`]; [`scenario`], the requests;
//! [`verdict`], what must hold; [`report`], how it is printed. None of it asks the filter how it does things.

pub mod path_hash;
pub mod report;
pub mod scenario;
pub mod verdict;
pub mod wire;
