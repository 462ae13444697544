//! What ends a test: the kind, the detail, and what the guest logged and called before.

use std::fmt;

/// Why an operation of the host failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The file could not be read or is not a WebAssembly module.
    Load,
    /// The module imports a function that this version of Envoy does not have.
    Import,
    /// The module lacks an export Envoy needs.
    Export,
    /// The builder's settings contradict each other.
    Setup,
    /// `proxy_on_vm_start` or `proxy_on_configure` answered false: Envoy would not start.
    Configuration,
    /// The guest trapped: its VM is dead.
    Trap,
    /// The guest used what this library does not play. The detail names it.
    Unsupported,
    /// The stream, call or plugin does not exist or is in another state.
    Usage,
}

/// An error of this library. It prints its cause, then the last log lines and host calls of the
/// guest, so that a failed `unwrap` in a test tells the story.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    kind: FailureKind,
    detail: String,
    transcript: String,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), transcript: String::new() }
    }

    pub(crate) fn with_transcript(self, transcript: String) -> Self {
        Self { transcript, ..self }
    }

    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// One sentence on what happened, without the transcript.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.detail)?;
        if !self.transcript.is_empty() {
            write!(f, "\n{}", self.transcript)?;
        }
        Ok(())
    }
}

/// The same text as `Display`, since `unwrap` and a test that returns `Result` print this one.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

/// The result of an operation of the host.
pub type Result<T> = std::result::Result<T, Failure>;
