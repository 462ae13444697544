//! Whether the test host is like Envoy: the same traffic passes a probe on both, and what the probe
//! saw must be the same.
//!
//! A case is data: what the probe does at which callback, what the client sends, and what becomes of
//! the request. `on_host` plays it on the test host, `on_envoy` through a real Envoy with a client
//! and services. Both give lines of text; a line that differs is a fault of the host, or stands with
//! its reason in `differences`.

mod cases;
mod differences;
mod model;
mod on_envoy;
mod on_host;
mod plugins;
mod services;
mod starts;
mod versions;

use std::path::Path;

use host_tests::{Profile, guest};
use model::Recording;
use versions::Version;

/// The package of the module that records.
const PROBE: &str = "proxy-probe";

#[test]
fn the_host_is_like_envoy_1_40() {
    compare(Version { minor: 40, release: "1.40.0" });
}

#[test]
fn the_host_is_like_envoy_1_36() {
    compare(Version { minor: 36, release: "1.36.2" });
}

fn compare(version: Version) {
    let Some(binary) = versions::envoy_or_skip(version) else { return };
    let probe = guest::build(PROBE).unwrap();
    let profile = Profile::envoy_1(version.minor).unwrap();
    let mut on_host = on_host::record(&probe, profile);
    on_host.extend(starts::on_host(&probe, profile));
    let mut on_envoy = on_envoy::record(&probe, &binary);
    on_envoy.extend(starts::on_envoy(&probe, &binary));
    assert!(on_envoy.len() >= 40, "only {} cases were recorded", on_envoy.len());
    assert_same(&on_host, &on_envoy, &binary);
}

fn assert_same(on_host: &Recording, on_envoy: &Recording, binary: &Path) {
    let names = |recording: &Recording| recording.keys().copied().collect::<Vec<_>>();
    assert_eq!(names(on_host), names(on_envoy));
    let mut complaints = String::new();
    for (case, envoy) in on_envoy {
        let host = &differences::as_in_envoy(case, &on_host[case], &mut complaints);
        if host != envoy {
            complaints += &format!("\n{case}\n{}", first_difference(host, envoy));
        }
    }
    assert!(complaints.is_empty(), "the host is not like {}:\n{complaints}", binary.display());
}

/// Both recordings from shortly before the first line that differs.
fn first_difference(host: &[String], envoy: &[String]) -> String {
    const CONTEXT: usize = 3;
    const SHOWN: usize = 12;
    let at = host.iter().zip(envoy).take_while(|(host, envoy)| host == envoy).count();
    let part = |lines: &[String]| {
        let shown: Vec<_> =
            lines.iter().skip(at.saturating_sub(CONTEXT)).take(SHOWN).map(|l| format!("    {l}")).collect();
        shown.join("\n")
    };
    format!("  host, {} lines:\n{}\n  Envoy, {} lines:\n{}\n", host.len(), part(host), envoy.len(), part(envoy))
}
