//! The numbers of the Proxy-Wasm ABI 0.2.1.
//!
//! Source: `proxy-wasm/spec`, `abi-versions/v0.2.1/README.md`, and the enumerations of
//! `proxy-wasm-cpp-host`, `include/proxy-wasm/wasm_api_impl.h`.

use std::fmt;

/// What a host call answers (`proxy_status_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Status {
    /// The call did what was asked.
    Ok = 0,
    /// The key, token, map entry or property does not exist.
    NotFound = 1,
    /// An argument is out of range, or the map does not exist in this phase.
    BadArgument = 2,
    /// A value could not be written in the wire form of the ABI.
    SerializationFailure = 3,
    /// A serialized argument could not be read.
    ParseFailure = 4,
    /// An expression is not valid.
    BadExpression = 5,
    /// A pointer leads outside the guest's memory.
    InvalidMemoryAccess = 6,
    /// The queue holds nothing.
    Empty = 7,
    /// The compare-and-swap token is stale.
    CasMismatch = 8,
    /// A result has another type than was asked for.
    ResultMismatch = 9,
    /// The host failed for a reason of its own.
    InternalFailure = 10,
    /// A connection broke.
    BrokenConnection = 11,
    /// The host does not have this function.
    Unimplemented = 12,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Which header map a call means (`proxy_map_type_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum MapType {
    /// Headers of the request.
    RequestHeaders = 0,
    /// Trailers of the request.
    RequestTrailers = 1,
    /// Headers of the response.
    ResponseHeaders = 2,
    /// Trailers of the response.
    ResponseTrailers = 3,
    /// Initial metadata of a gRPC answer.
    GrpcInitialMetadata = 4,
    /// Trailing metadata of a gRPC answer.
    GrpcTrailingMetadata = 5,
    /// Headers of the answer to an HTTP call.
    HttpCallResponseHeaders = 6,
    /// Trailers of the answer to an HTTP call.
    HttpCallResponseTrailers = 7,
}

impl MapType {
    /// `None` for a number the ABI does not know.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            4 => Self::GrpcInitialMetadata,
            5 => Self::GrpcTrailingMetadata,
            6 => Self::HttpCallResponseHeaders,
            7 => Self::HttpCallResponseTrailers,
            _ => return None,
        })
    }
}

/// Which buffer a call means (`proxy_buffer_type_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum BufferType {
    /// Body of the request.
    HttpRequestBody = 0,
    /// Body of the response.
    HttpResponseBody = 1,
    /// Bytes from the downstream of a TCP connection.
    DownstreamData = 2,
    /// Bytes from the upstream of a TCP connection.
    UpstreamData = 3,
    /// Body of the answer to an HTTP call.
    HttpCallResponseBody = 4,
    /// A gRPC message.
    GrpcReceiveBuffer = 5,
    /// The configuration of the VM.
    VmConfiguration = 6,
    /// The configuration of the plugin.
    PluginConfiguration = 7,
    /// Arguments of a foreign call.
    CallData = 8,
}

impl BufferType {
    /// `None` for a number the ABI does not know.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::HttpRequestBody,
            1 => Self::HttpResponseBody,
            2 => Self::DownstreamData,
            3 => Self::UpstreamData,
            4 => Self::HttpCallResponseBody,
            5 => Self::GrpcReceiveBuffer,
            6 => Self::VmConfiguration,
            7 => Self::PluginConfiguration,
            8 => Self::CallData,
            _ => return None,
        })
    }
}

/// How urgent a log line is (`proxy_log_level_t`), in Envoy's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum LogLevel {
    /// Finest detail.
    Trace = 0,
    /// Detail for who debugs.
    Debug = 1,
    /// Normal news.
    Info = 2,
    /// Something is wrong, and is coped with.
    Warn = 3,
    /// Something failed.
    Error = 4,
    /// The proxy cannot go on.
    Critical = 5,
}

impl LogLevel {
    /// `None` for a number the ABI does not know.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            5 => Self::Critical,
            _ => return None,
        })
    }
}

/// What a metric is (`proxy_metric_type_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum MetricType {
    /// Goes up only.
    Counter = 0,
    /// Goes up and down.
    Gauge = 1,
    /// Collects values.
    Histogram = 2,
}

impl MetricType {
    /// `None` for a number the ABI does not know.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Counter,
            1 => Self::Gauge,
            2 => Self::Histogram,
            _ => return None,
        })
    }
}

/// Which side of a stream a call means (`proxy_stream_type_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum StreamType {
    /// The request of an HTTP stream.
    Request = 0,
    /// The response of an HTTP stream.
    Response = 1,
    /// The downstream side of a TCP connection.
    Downstream = 2,
    /// The upstream side of a TCP connection.
    Upstream = 3,
}

impl StreamType {
    /// `None` for a number the ABI does not know.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Request,
            1 => Self::Response,
            2 => Self::Downstream,
            3 => Self::Upstream,
            _ => return None,
        })
    }
}
