//! Where and with what a run was made.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::procfs;
use crate::tools::Tools;

/// The machine and the versions. What cannot be found out is `unknown`.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Processors that the run may use.
    pub processors: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Kernel.
    pub kernel: String,
    /// Release of Envoy.
    pub envoy: String,
    /// Release of wrk.
    pub wrk: String,
    /// Release of the compiler.
    pub rustc: String,
    /// The commit, with `-dirty` when files differ from it.
    pub commit: String,
    /// Size of the filter's module, in bytes.
    pub filter_bytes: u64,
    /// Size of the floor's module, in bytes.
    pub floor_bytes: u64,
    /// Time of the end of the run, in UTC.
    pub date: String,
    /// The command that was given.
    pub command: String,
}

impl Machine {
    /// Asks the kernel and the programs.
    pub fn look(tools: &Tools) -> Self {
        let bytes = |file: &Path| fs::metadata(file).map_or(0, |metadata| metadata.len());
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            processor: value(&cpuinfo, "model name").unwrap_or_else(unknown),
            processors: procfs::processors().map_or(0, |processors| processors.len()),
            memory_mib: value(&meminfo, "MemTotal")
                .and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok())
                .map_or(0, |kib| kib / 1024),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |text| text.trim().into()),
            envoy: output(Command::new(&tools.envoy).arg("--version"))
                .map_or_else(unknown, |text| envoy_release(&text)),
            wrk: output(Command::new(&tools.wrk).arg("--version")).map_or_else(unknown, |text| wrk_release(&text)),
            rustc: output(Command::new("rustc").arg("--version")).unwrap_or_else(unknown),
            commit: output(
                Command::new("git")
                    .args(["describe", "--always", "--dirty", "--abbrev=10"])
                    .current_dir(crate::PACKAGE),
            )
            .unwrap_or_else(unknown),
            filter_bytes: bytes(&tools.filter),
            floor_bytes: bytes(&tools.floor),
            date: output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M"])).unwrap_or_else(unknown),
            command: command(),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The first line that a program prints, on either stream.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let streams = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let mut lines = streams.iter().flat_map(|text| text.lines()).map(str::trim);
    lines.find(|line| !line.is_empty()).map(str::to_owned)
}

/// `name : value`, as in `/proc/cpuinfo` and `/proc/meminfo`.
fn value(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// `1.40.0` of `/usr/bin/envoy  version: 9e5580…/1.40.0/Clean/RELEASE/BoringSSL`.
fn envoy_release(version: &str) -> String {
    let (_, release) = version.split_once("version:").unwrap_or(("", version));
    release.split('/').nth(1).unwrap_or(release).to_owned()
}

/// `debian/4.1.0-3+b2` of `wrk debian/4.1.0-3+b2 [epoll] Copyright …`.
fn wrk_release(version: &str) -> String {
    version.split_ascii_whitespace().nth(1).unwrap_or(version).to_owned()
}

/// `make bench` with the settings that differ from the defaults. Paths of programs say nothing to others.
fn command() -> String {
    let mut settings: Vec<String> = std::env::vars()
        .filter(|(name, _)| name.starts_with("BENCH_") && !["BENCH_FLOOR_WASM", "BENCH_OUT"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    settings.sort();
    settings.push("make bench".to_owned());
    settings.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_found_in_what_programs_print() {
        assert_eq!(envoy_release("/usr/bin/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL"), "1.40.0");
        assert_eq!(wrk_release("wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012"), "debian/4.1.0-3+b2");
        assert_eq!(wrk_release("unknown"), "unknown");
    }

    #[test]
    fn values_of_the_kernel_are_found_by_name() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC 7571\nmodel name\t: second\n";
        assert_eq!(value(cpuinfo, "model name").as_deref(), Some("AMD EPYC 7571"));
        assert_eq!(value(cpuinfo, "flags"), None);
    }
}
