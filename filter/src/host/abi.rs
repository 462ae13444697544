//! The proxy-wasm ABI 0.2.1 as Envoy implements it: imports and numbers. Nothing here decides anything.
#![expect(unsafe_code, reason = "importing host functions is what this file is for")]

/// What a host call answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Nothing of that name.
    NotFound,
    /// An argument is wrong, or the thing asked for does not exist in this phase.
    BadArgument,
    /// Somebody else changed the value first.
    CasMismatch,
    /// Any other refusal, by its number.
    Other(u32),
}

impl Status {
    /// `Ok` for 0.
    pub(super) fn check(status: u32) -> Result<(), Self> {
        match status {
            0 => Ok(()),
            1 => Err(Self::NotFound),
            2 => Err(Self::BadArgument),
            8 => Err(Self::CasMismatch),
            other => Err(Self::Other(other)),
        }
    }

    /// The number of the ABI.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::NotFound => 1,
            Self::BadArgument => 2,
            Self::CasMismatch => 8,
            Self::Other(number) => number,
        }
    }
}

/// Header maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    /// Headers of the request.
    Request = 0,
    /// Headers of the answer.
    Response = 2,
    /// Headers of the answer to a call of ours.
    HttpCallResponse = 6,
}

/// Metric types of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricType {
    /// Only grows.
    Counter = 0,
    /// Goes up and down.
    Gauge = 1,
    /// Distribution of values.
    Histogram = 2,
}

/// Buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Buffer {
    /// Body of the answer to a call of ours.
    HttpCallResponse = 4,
    /// The plugin's configuration.
    PluginConfiguration = 7,
}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    pub(super) fn proxy_log(level: u32, text: *const u8, length: usize) -> u32;
    pub(super) fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    pub(super) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    pub(super) fn proxy_get_property(
        path: *const u8,
        length: usize,
        value: *mut *mut u8,
        value_length: *mut usize,
    ) -> u32;
    pub(super) fn proxy_set_property(path: *const u8, length: usize, value: *const u8, value_length: usize) -> u32;
    pub(super) fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        length: usize,
        value: *mut *mut u8,
        value_length: *mut usize,
    ) -> u32;
    pub(super) fn proxy_get_header_map_pairs(map: u32, value: *mut *mut u8, value_length: *mut usize) -> u32;
    pub(super) fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_length: usize,
        value: *const u8,
        value_length: usize,
    ) -> u32;
    pub(super) fn proxy_remove_header_map_value(map: u32, name: *const u8, name_length: usize) -> u32;
    pub(super) fn proxy_get_shared_data(
        key: *const u8,
        key_length: usize,
        value: *mut *mut u8,
        value_length: *mut usize,
        cas: *mut u32,
    ) -> u32;
    pub(super) fn proxy_set_shared_data(
        key: *const u8,
        key_length: usize,
        value: *const u8,
        value_length: usize,
        cas: u32,
    ) -> u32;
    pub(super) fn proxy_http_call(
        cluster: *const u8,
        cluster_length: usize,
        headers: *const u8,
        headers_length: usize,
        body: *const u8,
        body_length: usize,
        trailers: *const u8,
        trailers_length: usize,
        timeout_ms: u32,
        token: *mut u32,
    ) -> u32;
    pub(super) fn proxy_define_metric(metric_type: u32, name: *const u8, length: usize, metric: *mut u32) -> u32;
    pub(super) fn proxy_increment_metric(metric: u32, offset: i64) -> u32;
    pub(super) fn proxy_record_metric(metric: u32, value: u64) -> u32;
    pub(super) fn proxy_call_foreign_function(
        name: *const u8,
        name_length: usize,
        argument: *const u8,
        argument_length: usize,
        result: *mut *mut u8,
        result_length: *mut usize,
    ) -> u32;
    pub(super) fn proxy_set_effective_context(context: u32) -> u32;
    pub(super) fn proxy_done() -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    pub(super) fn random_get(buffer: *mut u8, length: usize) -> u32;
    pub(super) fn environ_sizes_get(count: *mut usize, length: *mut usize) -> u32;
    pub(super) fn environ_get(starts: *mut *mut u8, lines: *mut u8) -> u32;
}

unsafe extern "C" {
    /// The constructors of the module, defined by the linker.
    pub(super) fn __wasm_call_ctors();
}
