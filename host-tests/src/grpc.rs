//! gRPC calls and streams of the guest.

use std::time::Duration;

use crate::headers::HeaderMap;
use crate::journal::Thread;

/// Names one gRPC call or stream of the proxy, in the order they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrpcId(pub(crate) usize);

/// How far a gRPC exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcState {
    /// Open on both sides.
    Open,
    /// The guest sent its last message; the other side may still answer.
    HalfClosed,
    /// The other side ended it.
    Closed,
    /// The guest cancelled it, or its context is gone.
    Cancelled,
}

/// One gRPC call, or one stream, as it left the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcCall {
    /// The name to answer it by.
    pub id: GrpcId,
    /// The thread it was made on.
    pub thread: Thread,
    /// The cluster it was sent to.
    pub cluster: String,
    /// The full name of the service.
    pub service: String,
    /// The name of the method.
    pub method: String,
    /// The initial metadata.
    pub metadata: HeaderMap,
    /// The messages the guest sent, in order.
    pub messages: Vec<Vec<u8>>,
    /// The timeout of a call; `None` for a stream and for 0.
    pub timeout: Option<Duration>,
    /// Whether it is a stream.
    pub streaming: bool,
    /// How far it is.
    pub state: GrpcState,
    pub(crate) vm: usize,
    pub(crate) root: u32,
    pub(crate) token: u32,
    pub(crate) deadline_ns: Option<u64>,
    pub(crate) armed: u64,
}

impl GrpcCall {
    /// Whether the other side may still answer.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.state, GrpcState::Open | GrpcState::HalfClosed)
    }
}

/// The cluster name in a serialized `envoy.config.core.v3.GrpcService` with an `envoy_grpc` target:
/// field 1 holding field 1, both length-delimited and shorter than 128 bytes.
pub(crate) fn cluster_of_service(bytes: &[u8]) -> Option<&str> {
    let field_one = |bytes: &'_ [u8]| -> Option<std::ops::Range<usize>> {
        let [0x0a, len, ..] = bytes else { return None };
        let end = 2 + usize::from(*len);
        (*len < 0x80 && end <= bytes.len()).then_some(2..end)
    };
    let inner = &bytes[field_one(bytes)?];
    std::str::from_utf8(&inner[field_one(inner)?]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_cluster_in_a_serialized_service() {
        assert_eq!(cluster_of_service(b"\x0a\x06\x0a\x04otel"), Some("otel"));
        for other in [b"otel".as_slice(), b"", b"\x0a\x06\x0a\x09otel", b"\x0a"] {
            assert_eq!(cluster_of_service(other), None, "{other:?}");
        }
    }
}
