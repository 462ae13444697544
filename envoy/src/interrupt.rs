//! How a program of this package is told to end.

use tokio::signal::unix::{SignalKind, signal};

/// Returns when this program shall end: on Ctrl-C, on `kill`, or when its terminal is closed.
pub async fn interrupted() {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = signals else {
        // Without handlers a signal ends the program right away, and the guard ends Envoy.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
