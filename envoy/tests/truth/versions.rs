//! The two Envoys.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A version of Envoy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version {
    /// The number after `1.`.
    pub(crate) minor: u32,
    /// The release to install.
    pub(crate) release: &'static str,
}

/// The Envoy of this version; `None` when it cannot be had and that may be.
///
/// # Panics
/// It cannot be had although this is a run of `CI`.
pub(crate) fn envoy_or_skip(version: Version) -> Option<PathBuf> {
    let envoy = find(version);
    if envoy.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI is set, but there is no Envoy {}", version.release);
        // Written to the stream itself, because the test harness hides what a passing test prints.
        let notice = format!("SKIPPED: no Envoy {} on this machine, and none could be installed\n", version.release);
        std::io::stderr().write_all(notice.as_bytes()).unwrap();
    }
    envoy
}

/// `$ENVOY` if it is of this version, or what `find-envoy.sh` finds or installs.
fn find(version: Version) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("find-envoy.sh");
    let found = Command::new(script).args(["--version", version.release]).stderr(Stdio::inherit()).output().ok()?;
    let path = PathBuf::from(String::from_utf8(found.stdout).ok()?.trim_end());
    found.status.success().then_some(path)
}
