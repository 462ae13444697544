//! The Envoy process itself: it never outlives the one who started it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use envoy_demo::process::{EnvoyProcess, Launch};

use crate::harness::{envoy_or_skip, fresh_dir};

/// Only a fault meets this deadline.
const END_MAX: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const ADMIN_ONLY: &str = "admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }\n";

/// Names the folder to the program that is killed below.
const DIR_VARIABLE: &str = "ENVOY_DIR_OF_A_PROGRAM_TO_KILL";

/// Whether a process runs. A dead one that nobody has waited for does not.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

async fn start(binary: &Path, dir: &Path) -> EnvoyProcess {
    EnvoyProcess::start(&Launch { binary, config: ADMIN_ONLY, dir, env: &[], concurrency: 1 }).await.unwrap()
}

#[tokio::test]
async fn a_dropped_envoy_is_gone() {
    let Some(envoy) = envoy_or_skip() else { return };
    let process = start(&envoy, &fresh_dir()).await;
    let pid = process.pid();
    assert!(is_alive(pid));
    drop(process);
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_stopped_envoy_is_gone() {
    let Some(envoy) = envoy_or_skip() else { return };
    let process = start(&envoy, &fresh_dir()).await;
    let pid = process.pid();
    process.stop().await.unwrap();
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn an_envoy_that_cannot_start_is_an_error_with_its_log() {
    let Some(envoy) = envoy_or_skip() else { return };
    let launch = Launch { binary: &envoy, config: "no: config", dir: &fresh_dir(), env: &[], concurrency: 1 };
    let error = EnvoyProcess::start(&launch).await.unwrap_err().to_string();
    assert!(error.contains("instead of starting") && error.contains("unknown fields"), "{error}");
}

/// Not a test: the program that the next test starts and kills.
#[tokio::test]
#[ignore = "it waits until it is killed"]
async fn starts_an_envoy_and_waits() {
    let (Some(dir), Some(envoy)) = (std::env::var_os(DIR_VARIABLE), envoy_or_skip()) else {
        return;
    };
    let dir = Path::new(&dir);
    let process = start(&envoy, dir).await;
    std::fs::write(dir.join("pid.new"), process.pid().to_string()).unwrap();
    std::fs::rename(dir.join("pid.new"), dir.join("pid")).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn envoy_ends_with_a_program_that_is_killed() {
    if envoy_or_skip().is_none() {
        return;
    }
    let dir = fresh_dir();
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::starts_an_envoy_and_waits", "--ignored"])
        .env(DIR_VARIABLE, &dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = loop {
        assert_eq!(program.try_wait().unwrap(), None, "the program waits to be killed");
        match std::fs::read_to_string(dir.join("pid")) {
            Ok(pid) => break pid.parse().unwrap(),
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    };
    assert!(is_alive(pid));
    program.kill().unwrap();
    program.wait().unwrap();
    tokio::time::timeout(END_MAX, async {
        while is_alive(pid) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await
    .expect("Envoy ends");
}
