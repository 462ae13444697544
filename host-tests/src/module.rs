//! A compiled module: compile once, instantiate for every VM.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use wasmtime::{Config, Engine, Linker};

use crate::error::{Failure, FailureKind, Result};
use crate::hostcalls;
use crate::profile::Profile;
use crate::state::VmState;

/// A WebAssembly module in machine code. Cloning is cheap.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    compiled: wasmtime::Module,
    linker: Linker<VmState>,
    bytes_len: usize,
    identity: u64,
}

impl Module {
    /// Compiles a `.wasm` or `.wat` file. A file that has not changed is compiled once per process.
    ///
    /// # Errors
    /// `Load` when the file cannot be read or is not a module.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let version = FileVersion::of(path).map_err(|why| load_failure(path, &why))?;
        let mut known = compiled_files().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = known.get(&version) {
            return Ok(module.clone());
        }
        let bytes = std::fs::read(path).map_err(|why| load_failure(path, &why))?;
        let module = Self::from_bytes(&bytes)?;
        known.insert(version, module.clone());
        Ok(module)
    }

    /// Compiles the binary form, or the text form of WebAssembly.
    ///
    /// # Errors
    /// `Load` when the bytes are not a module.
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Result<Self> {
        let (bytes, engine) = (bytes.as_ref(), engine()?);
        let compiled = wasmtime::Module::new(engine, bytes)
            .map_err(|why| Failure::new(FailureKind::Load, format!("not a WebAssembly module: {why:#}")))?;
        let mut linker = Linker::new(engine);
        hostcalls::add_to(&mut linker).map_err(|why| Failure::new(FailureKind::Load, format!("{why:#}")))?;
        let inner = Inner { compiled, linker, bytes_len: bytes.len(), identity: fnv1a(bytes) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The size of the file in bytes.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.inner.bytes_len
    }

    /// The imports as `module.name`, in the module's order.
    #[must_use]
    pub fn imports(&self) -> Vec<String> {
        self.inner.compiled.imports().map(|i| format!("{}.{}", i.module(), i.name())).collect()
    }

    /// The names of the exports, in the module's order.
    #[must_use]
    pub fn exports(&self) -> Vec<String> {
        self.inner.compiled.exports().map(|e| e.name().to_owned()).collect()
    }

    /// The imports this version of Envoy does not have, as `module.name`. One is enough for the
    /// module not to load.
    #[must_use]
    pub fn imports_outside(&self, profile: Profile) -> Vec<String> {
        let all = self.inner.compiled.imports();
        let outside = all.filter(|import| !profile.imports(import.module(), import.name()));
        outside.map(|import| format!("{}.{}", import.module(), import.name())).collect()
    }

    pub(crate) fn compiled(&self) -> &wasmtime::Module {
        &self.inner.compiled
    }

    pub(crate) fn linker(&self) -> &Linker<VmState> {
        &self.inner.linker
    }

    /// Tells modules with different bytes apart.
    pub(crate) fn identity(&self) -> u64 {
        self.inner.identity
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("bytes_len", &self.inner.bytes_len).finish_non_exhaustive()
    }
}

/// What must be the same for a compiled file to be used again.
#[derive(PartialEq, Eq, Hash)]
struct FileVersion {
    path: PathBuf,
    modified: SystemTime,
    len: u64,
}

impl FileVersion {
    fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self { path: path.canonicalize()?, modified: metadata.modified()?, len: metadata.len() })
    }
}

fn load_failure(path: &Path, why: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Load, format!("{}: {why}", path.display()))
}

/// A cache only: what a test sees never depends on it.
fn compiled_files() -> &'static Mutex<HashMap<FileVersion, Module>> {
    static FILES: OnceLock<Mutex<HashMap<FileVersion, Module>>> = OnceLock::new();
    FILES.get_or_init(Mutex::default)
}

/// The compiler. It has settings but no state, so all tests of a process share it.
fn engine() -> Result<&'static Engine> {
    static ENGINE: OnceLock<std::result::Result<Engine, String>> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.consume_fuel(true);
        Engine::new(&config).map_err(|why| format!("{why:#}"))
    });
    engine.as_ref().map_err(|why| Failure::new(FailureKind::Load, why.clone()))
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo).
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_imports_that_an_old_envoy_lacks() {
        let module = Module::from_bytes(
            r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
                       (import "env" "proxy_log" (func (param i32 i32 i32) (result i32))))"#,
        )
        .unwrap();
        assert_eq!(module.imports_outside(Profile::OLDEST), ["wasi_snapshot_preview1.sched_yield"]);
        assert_eq!(module.imports_outside(Profile::NEWEST), Vec::<String>::new());
    }

    #[test]
    fn a_file_that_is_missing_or_no_module_does_not_load() {
        let missing = Module::from_file("/nowhere/filter.wasm").unwrap_err();
        assert_eq!(missing.kind(), FailureKind::Load);
        assert!(missing.detail().contains("/nowhere/filter.wasm"), "{missing}");
        assert_eq!(Module::from_bytes(b"\0asm").unwrap_err().kind(), FailureKind::Load);
    }
}
