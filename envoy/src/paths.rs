//! Where the things are that a run needs and cargo does not link: Envoy and the wasm module.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

/// This package's folder in the source tree.
pub const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// The command that builds the wasm module, without the name of cargo.
const BUILD: [&str; 9] = [
    "build",
    "--locked",
    "--profile=wasm",
    "--target=wasm32-wasip1",
    "--lib",
    "--package=newrelic-tracing",
    "--message-format=json-render-diagnostics",
    "--manifest-path",
    concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"),
];

/// Cargo's folder for everything that is built.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(PACKAGE).join("../target"), PathBuf::from)
}

/// The Envoy to run, as `find-envoy.sh` finds it; it is installed when there is none.
///
/// # Errors
/// There is none and it cannot be installed; the message says how to supply one.
pub fn envoy() -> Result<PathBuf> {
    find_envoy(&[])
}

/// The Envoy to run, but only when it is on this machine already.
pub fn envoy_at_hand() -> Option<PathBuf> {
    find_envoy(&["--at-hand"]).ok()
}

fn find_envoy(arguments: &[&str]) -> Result<PathBuf> {
    let script = Path::new(PACKAGE).join("find-envoy.sh");
    let output = Command::new(&script)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(output.status.success(), "there is no Envoy to run");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

/// The filter's wasm module: `$NEWRELIC_TRACING_WASM`, or built by cargo, once per process.
///
/// # Errors
/// The named file does not exist, or cargo cannot build the module.
pub fn wasm_module() -> Result<PathBuf> {
    static MODULE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let module = MODULE.get_or_init(|| find_or_build_module().map_err(|error| format!("{error:#}")));
    module.clone().map_err(anyhow::Error::msg)
}

fn find_or_build_module() -> Result<PathBuf> {
    let Some(named) = std::env::var_os("NEWRELIC_TRACING_WASM") else {
        return build_module();
    };
    let path = Path::new(&named);
    path.canonicalize().with_context(|| format!("NEWRELIC_TRACING_WASM is {}; `make wasm` builds it", path.display()))
}

/// Cargo decides whether the module is fresh, and tells where it is.
fn build_module() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(BUILD)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo to build the wasm module")?;
    ensure!(output.status.success(), "cargo cannot build the wasm module; `make wasm` shows why");
    let Some(module) = String::from_utf8(output.stdout)?.lines().find_map(module_of) else {
        bail!("cargo built no wasm module");
    };
    indirect::rewrite_file(&module).with_context(|| format!("cannot rewrite {}", module.display()))
}

/// The module that one line of cargo's JSON messages announces.
fn module_of(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let files = message["filenames"].as_array()?;
    let module = files.iter().filter_map(|file| file.as_str()).find(|file| file.ends_with("newrelic_tracing.wasm"));
    module.map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_found_among_cargos_messages() {
        let messages = [
            r#"{"reason":"compiler-artifact","filenames":["/t/libserde.rlib"]}"#,
            r#"{"reason":"compiler-artifact","filenames":["/t/newrelic_tracing.wasm"]}"#,
            r#"{"reason":"build-finished","success":true}"#,
        ];
        let found: Vec<PathBuf> = messages.into_iter().filter_map(module_of).collect();
        assert_eq!(found, [PathBuf::from("/t/newrelic_tracing.wasm")]);
    }
}
