//! The part of WASI preview 1 that Envoy has (`proxy-wasm-cpp-host`, `src/exports.cc`).

use wasmtime::{Caller, Linker};

use super::{About, enter, leave, logging};
use crate::abi::{LogLevel, Status};
use crate::memory::{Guest, HostResult, Stop};
use crate::state::VmState;

const BADF: u32 = 8;
const FAULT: u32 = 21;
const INVAL: u32 = 28;
const NOSYS: u32 = 52;
const NOTSUP: u32 = 58;

/// `proxy-wasm-cpp-host` gives at most this many random bytes at once.
const RANDOM_BYTES_MAX: u32 = 64 * 1024;

/// Defines WASI functions under both of their module names.
macro_rules! wasi {
    ($linker:expr; $($name:literal ($($argument:ident: $type:ty),*) => $work:expr;)*) => {$(
        for module in ["wasi_snapshot_preview1", "wasi_unstable"] {
            $linker.func_wrap(
                module,
                $name,
                |mut caller: Caller<'_, VmState>, $($argument: $type),*| -> wasmtime::Result<u32> {
                    call(&mut caller, $name, |guest| $work(guest, $($argument),*))
                },
            )?;
        }
    )*};
}

pub(super) fn add_to(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    wasi! { linker;
        "fd_write"(fd: u32, iovs: u32, iovs_len: u32, written_at: u32) => fd_write;
        "fd_read"(_fd: u32, _iovs: u32, _iovs_len: u32, _read_at: u32) => |_: &mut Guest<'_, '_>, _, _, _, _| Ok(NOSYS);
        "fd_seek"(_fd: u32, _offset: i64, _whence: u32, _at: u32) =>
            |guest: &mut Guest<'_, '_>, _, _, _, _| fails(guest, "fd_seek");
        "fd_close"(_fd: u32) => |guest: &mut Guest<'_, '_>, _| fails(guest, "fd_close");
        "fd_fdstat_get"(fd: u32, stat_at: u32) => fd_fdstat_get;
        "fd_fdstat_set_flags"(_fd: u32, _flags: u32) => |_: &mut Guest<'_, '_>, _, _| Ok(NOSYS);
        "fd_prestat_get"(_fd: u32, _prestat_at: u32) => |_: &mut Guest<'_, '_>, _, _| Ok(BADF);
        "fd_prestat_dir_name"(_fd: u32, _path: u32, _len: u32) => |_: &mut Guest<'_, '_>, _, _, _| Ok(NOSYS);
        "environ_get"(pointers_at: u32, bytes_at: u32) => environ_get;
        "environ_sizes_get"(count_at: u32, size_at: u32) => environ_sizes_get;
        "args_get"(_argv: u32, _argv_buf: u32) => |_: &mut Guest<'_, '_>, _, _| Ok(0);
        "args_sizes_get"(count_at: u32, size_at: u32) => args_sizes_get;
        "clock_time_get"(clock: u32, _precision: u64, time_at: u32) => clock_time_get;
        "random_get"(bytes_at: u32, len: u32) => random_get;
        "sched_yield"() => |_: &mut Guest<'_, '_>| Ok(0);
        "poll_oneoff"(_in: u32, _out: u32, _count: u32, _events_at: u32) => |_: &mut Guest<'_, '_>, _, _, _, _| Ok(NOSYS);
        "path_open"(
            _fd: u32, _dirflags: u32, _path: u32, _path_len: u32, _oflags: u32,
            _rights: u64, _inheriting: u64, _fdflags: u32, _opened_at: u32
        ) => |_: &mut Guest<'_, '_>, _, _, _, _, _, _, _, _, _| Ok(NOSYS);
    }
    for module in ["wasi_snapshot_preview1", "wasi_unstable"] {
        linker.func_wrap(
            module,
            "proc_exit",
            |mut caller: Caller<'_, VmState>, code: u32| -> wasmtime::Result<()> {
                enter(&mut Guest::new(&mut caller), "proc_exit", About::Nothing)?;
                Err(wasmtime::Error::msg(format!("the guest called proc_exit({code})")))
            },
        )?;
    }
    Ok(())
}

/// Makes one WASI call: a pointer outside the memory becomes `EFAULT`.
fn call(
    caller: &mut Caller<'_, VmState>,
    name: &'static str,
    work: impl FnOnce(&mut Guest<'_, '_>) -> HostResult<u32>,
) -> wasmtime::Result<u32> {
    let mut guest = Guest::new(caller);
    let entry = enter(&mut guest, name, About::Nothing)?;
    let errno = match work(&mut guest) {
        Ok(errno) => errno,
        Err(Stop::Status(_)) => FAULT,
        Err(Stop::Trap(trap)) => return Err(trap),
    };
    leave(&mut guest, &entry, if errno == 0 { Status::Ok } else { Status::InternalFailure });
    Ok(errno)
}

/// Envoy ends the VM on these two.
fn fails(_guest: &mut Guest<'_, '_>, name: &str) -> HostResult<u32> {
    Err(Stop::Trap(wasmtime::Error::msg(format!("Envoy does not allow {name}"))))
}

/// Standard output and error become log lines, without their last line break.
fn fd_write(guest: &mut Guest<'_, '_>, fd: u32, iovs: u32, iovs_len: u32, written_at: u32) -> HostResult<u32> {
    let level = match fd {
        1 => LogLevel::Info,
        2 => LogLevel::Error,
        _ => return Ok(BADF),
    };
    let mut text = Vec::new();
    for index in 0..iovs_len {
        let iov = iovs.wrapping_add(index.wrapping_mul(8));
        let (pointer, len) = (guest.read_u32(iov)?, guest.read_u32(iov.wrapping_add(4))?);
        text.extend(guest.read(pointer, len)?);
    }
    if !text.is_empty() {
        logging::write(guest, level, text.strip_suffix(b"\n").unwrap_or(&text));
    }
    guest.write_u32(written_at, u32::try_from(text.len()).unwrap_or(u32::MAX))?;
    Ok(0)
}

fn fd_fdstat_get(guest: &mut Guest<'_, '_>, fd: u32, stat_at: u32) -> HostResult<u32> {
    if fd != 1 && fd != 2 {
        return Ok(BADF);
    }
    // Only the right to write is set: `fs_rights_base` is the second of three words of 64 bits.
    let words = [0u64, 64, 0].map(u64::to_le_bytes);
    guest.write(stat_at, words.as_flattened())?;
    Ok(0)
}

fn variables(guest: &Guest<'_, '_>) -> Vec<Vec<u8>> {
    let all = guest.state().environment.iter();
    all.map(|(name, value)| format!("{name}={value}\0").into_bytes()).collect()
}

fn environ_get(guest: &mut Guest<'_, '_>, pointers_at: u32, bytes_at: u32) -> HostResult<u32> {
    let (mut pointer_at, mut byte_at) = (pointers_at, bytes_at);
    for variable in variables(guest) {
        guest.write_u32(pointer_at, byte_at)?;
        guest.write(byte_at, &variable)?;
        pointer_at = pointer_at.wrapping_add(4);
        byte_at = byte_at.wrapping_add(u32::try_from(variable.len()).unwrap_or(u32::MAX));
    }
    Ok(0)
}

fn environ_sizes_get(guest: &mut Guest<'_, '_>, count_at: u32, size_at: u32) -> HostResult<u32> {
    let all = variables(guest);
    let size: usize = all.iter().map(Vec::len).sum();
    guest.write_u32(count_at, u32::try_from(all.len()).unwrap_or(u32::MAX))?;
    guest.write_u32(size_at, u32::try_from(size).unwrap_or(u32::MAX))?;
    Ok(0)
}

fn args_sizes_get(guest: &mut Guest<'_, '_>, count_at: u32, size_at: u32) -> HostResult<u32> {
    guest.write_u32(count_at, 0)?;
    guest.write_u32(size_at, 0)?;
    Ok(0)
}

/// Clock 0 is the wall clock, clock 1 the monotonic one. Envoy has no other.
fn clock_time_get(guest: &mut Guest<'_, '_>, clock: u32, _precision: u64, time_at: u32) -> HostResult<u32> {
    let now = match clock {
        0 => guest.process(|process| process.clock.wall_ns()),
        1 => guest.process(|process| process.clock.elapsed_ns()),
        _ => return Ok(NOTSUP),
    };
    guest.write(time_at, &now.to_le_bytes())?;
    Ok(0)
}

fn random_get(guest: &mut Guest<'_, '_>, bytes_at: u32, len: u32) -> HostResult<u32> {
    if len > RANDOM_BYTES_MAX {
        return Ok(INVAL);
    }
    let bytes = guest.state_mut().random.take(len as usize);
    guest.write(bytes_at, &bytes)?;
    Ok(0)
}
