//! Building the module under test.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::{Failure, FailureKind, Result};
use crate::module::Module;

/// The target of every module.
const TARGET: &str = "wasm32-wasip1";

/// Builds the library of a workspace package with the Cargo profile `wasm` for `wasm32-wasip1`, has it
/// call larger functions through its table as the module that ships does, and gives the path of its
/// `.wasm` file. Cargo decides what is out of date; one process asks it once.
///
/// # Errors
/// `Load` when Cargo fails, with what it printed, or when the package has no `cdylib`.
pub fn build(package: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Mutex<HashMap<String, Result<PathBuf>>>> = OnceLock::new();
    let built = BUILT.get_or_init(Mutex::default);
    // The lock is held while Cargo runs, so that tests of one process wait for one build.
    let mut built = built.lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(package.to_owned()).or_insert_with(|| run_cargo(package)).clone()
}

/// Builds a workspace package as [`build`] does, and compiles it.
///
/// # Errors
/// `Load` when either fails.
pub fn module(package: &str) -> Result<Module> {
    Module::from_file(build(package)?)
}

fn run_cargo(package: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Next to a library for other crates Cargo would optimise the module less, and this is about the one that ships.
    let arguments =
        ["rustc", "--profile", "wasm", "--target", TARGET, "--lib", "-p", package, "--crate-type", "cdylib"];
    let mut command = Command::new(cargo);
    command.args(arguments).arg("--message-format=json-render-diagnostics");
    if let Some(directory) = std::env::var_os("CARGO_MANIFEST_DIR") {
        command.current_dir(directory);
    }
    let shown = format!("cargo {}", arguments.join(" "));
    let output = command.output().map_err(|why| failure(&shown, &why.to_string()))?;
    if !output.status.success() {
        return Err(failure(&shown, &String::from_utf8_lossy(&output.stderr)));
    }
    let module =
        artifact(&output, package).ok_or_else(|| failure(&shown, "Cargo made no .wasm file: is there a cdylib?"))?;
    indirect::rewrite_file(&module).map_err(|why| failure(&shown, &format!("{}: {why}", module.display())))
}

fn failure(command: &str, why: &str) -> Failure {
    let detail = format!(
        "`{command}` failed: {}\n`make wasm` does the same; `rustup target add {TARGET}` adds the target",
        why.trim_end()
    );
    Failure::new(FailureKind::Load, detail)
}

/// The file Cargo reports for the package. Its messages are JSON, one object a line, and the file
/// name has no character that JSON escapes.
fn artifact(output: &Output, package: &str) -> Option<PathBuf> {
    let text = String::from_utf8_lossy(&output.stdout);
    let wanted = format!("{}.wasm", package.replace('-', "_"));
    let quoted = text.lines().filter(|line| line.contains(r#""compiler-artifact""#)).flat_map(|line| line.split('"'));
    let mut files = quoted.map(PathBuf::from);
    files.find(|file| file.file_name().is_some_and(|name| name == wanted.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_does_not_exist_is_named_with_the_remedy() {
        let failure = build("no-such-package").unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Load);
        for expected in ["no-such-package", "make wasm", "rustup target add wasm32-wasip1"] {
            assert!(failure.detail().contains(expected), "{expected}: {failure}");
        }
    }
}
