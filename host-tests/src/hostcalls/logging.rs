//! Log lines.

use wasmtime::Linker;

use super::{About, functions};
use crate::abi::{LogLevel, Status};
use crate::journal::LogLine;
use crate::memory::{Guest, HostResult};
use crate::state::VmState;

pub(super) fn add_to(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    functions! { linker;
        "proxy_log"(level: u32, message: u32, message_len: u32) about About::Nothing => log;
        "proxy_get_log_level"(level_at: u32) about About::Nothing => level;
    }
    Ok(())
}

fn log(guest: &mut Guest<'_, '_>, level: u32, message: u32, message_len: u32) -> HostResult {
    let level = LogLevel::from_number(level).ok_or(Status::BadArgument)?;
    let message = guest.read(message, message_len)?;
    write(guest, level, &message);
    Ok(())
}

/// Keeps a line unless its level is below the one configured.
pub(super) fn write(guest: &Guest<'_, '_>, level: LogLevel, message: &[u8]) {
    let state = guest.state();
    let message = String::from_utf8_lossy(message).into_owned();
    let line = LogLine { thread: state.thread, context: state.context_id(), level, message };
    guest.process(|process| {
        if level >= process.log_level {
            process.journal.log(line);
        }
    });
}

fn level(guest: &mut Guest<'_, '_>, level_at: u32) -> HostResult {
    let level = guest.process(|process| process.log_level);
    guest.write_u32(level_at, level as u32)
}
