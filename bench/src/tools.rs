//! The programs and modules of a run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use envoy_demo::paths;

use crate::variant::Variant;

/// The module that a variant calls `newrelic-tracing`.
pub const FILTER: &str = "newrelic-tracing";
/// The module that a variant calls `floor`.
pub const FLOOR: &str = "floor";
/// The variable that names the floor's file.
const FLOOR_VARIABLE: &str = "BENCH_FLOOR_WASM";

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Envoy.
    pub envoy: PathBuf,
    /// The load generator.
    pub wrk: PathBuf,
    /// The filter's module.
    pub filter: PathBuf,
    /// The module that does the least.
    pub floor: PathBuf,
}

impl Tools {
    /// Finds everything; installs and builds what is missing.
    ///
    /// # Errors
    /// Something is not there and cannot be installed or built; the message says how to supply it.
    pub fn find() -> Result<Self> {
        Ok(Self { envoy: paths::envoy()?, wrk: wrk(&[])?, filter: paths::wasm_module()?, floor: floor()? })
    }

    /// The load generator, but only when it is on this machine already.
    pub fn wrk_at_hand() -> Option<PathBuf> {
        wrk(&["--at-hand"]).ok()
    }

    /// The file that a variant's module stands for; a relative path is one below `bench/variants/`.
    ///
    /// # Errors
    /// The file does not exist.
    pub fn module(&self, variant: &Variant) -> Result<Option<PathBuf>> {
        let path = match variant.module.as_deref() {
            None => return Ok(None),
            Some(FILTER) => self.filter.clone(),
            Some(FLOOR) => self.floor.clone(),
            Some(path) => Path::new(crate::PACKAGE).join("variants").join(path),
        };
        match path.canonicalize() {
            Ok(path) => Ok(Some(path)),
            Err(_) => bail!("the module of {} is {}, which does not exist", variant.id, path.display()),
        }
    }
}

fn wrk(arguments: &[&str]) -> Result<PathBuf> {
    let script = Path::new(crate::PACKAGE).join("find-wrk.sh");
    let output = Command::new(&script)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(output.status.success(), "there is no wrk to run");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

/// `$BENCH_FLOOR_WASM`, or built by cargo as `make wasm` builds the filter.
fn floor() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(FLOOR_VARIABLE) {
        let path = Path::new(&named);
        return path.canonicalize().with_context(|| format!("{FLOOR_VARIABLE} is {}", path.display()));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["rustc", "--quiet", "--locked", "--profile=wasm", "--target=wasm32-wasip1", "--lib"])
        .args(["--package=bench-floor", "--crate-type=cdylib", "--manifest-path"])
        .arg(Path::new(crate::PACKAGE).join("../Cargo.toml"))
        .status()
        .context("cannot run cargo to build the floor's module")?;
    ensure!(status.success(), "cargo cannot build the floor's module");
    Ok(paths::target_dir().join("wasm32-wasip1/wasm/bench_floor.wasm"))
}
