//! Every host call of the filter, on bytes. A call returns what the host refused instead of trapping: the status of
//! a call can depend on what a caller sends, and a trap would end the worker's VM for every request.
#![expect(unsafe_code, reason = "host calls pass raw pointers; every one of them is wrapped here")]

use alloc::string::String;
use alloc::vec::Vec;
use core::alloc::Layout;

use super::abi::{self, Buffer, Map, MetricType, Status};
use super::thread::OfThread;
use crate::config::LogLevel;
use crate::headers::HeaderEdit;

/// Names of the calls whose refusals are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    CurrentTime,
    SetTickPeriod,
    GetProperty,
    SetProperty,
    GetBuffer,
    GetHeaders,
    ReplaceHeader,
    RemoveHeader,
    GetSharedData,
    SetSharedData,
    Post,
    DefineMetric,
    IncrementMetric,
    RecordMetric,
    Random,
    Environment,
    Done,
    /// No call of ours: the host called us while it was still answering.
    Reentry,
}

impl Call {
    const ALL: [Self; 18] = [
        Self::CurrentTime,
        Self::SetTickPeriod,
        Self::GetProperty,
        Self::SetProperty,
        Self::GetBuffer,
        Self::GetHeaders,
        Self::ReplaceHeader,
        Self::RemoveHeader,
        Self::GetSharedData,
        Self::SetSharedData,
        Self::Post,
        Self::DefineMetric,
        Self::IncrementMetric,
        Self::RecordMetric,
        Self::Random,
        Self::Environment,
        Self::Done,
        Self::Reentry,
    ];

    /// The statistic that counts its refusals.
    fn statistic(self) -> &'static str {
        match self {
            Self::CurrentTime => "newrelic.host_refused.get_current_time",
            Self::SetTickPeriod => "newrelic.host_refused.set_tick_period",
            Self::GetProperty => "newrelic.host_refused.get_property",
            Self::SetProperty => "newrelic.host_refused.set_property",
            Self::GetBuffer => "newrelic.host_refused.get_buffer",
            Self::GetHeaders => "newrelic.host_refused.get_header_map_pairs",
            Self::ReplaceHeader => "newrelic.host_refused.replace_header_map_value",
            Self::RemoveHeader => "newrelic.host_refused.remove_header_map_value",
            Self::GetSharedData => "newrelic.host_refused.get_shared_data",
            Self::SetSharedData => "newrelic.host_refused.set_shared_data",
            Self::Post => "newrelic.host_refused.http_call",
            Self::DefineMetric => "newrelic.host_refused.define_metric",
            Self::IncrementMetric => "newrelic.host_refused.increment_metric",
            Self::RecordMetric => "newrelic.host_refused.record_metric",
            Self::Random => "newrelic.host_refused.random_get",
            Self::Environment => "newrelic.host_refused.environ_get",
            Self::Done => "newrelic.host_refused.done",
            Self::Reentry => "newrelic.host_refused.reentry",
        }
    }
}

/// Refusals since the last publication, and which were logged.
struct Refusals {
    counts: [u64; Call::ALL.len()],
    logged: [bool; Call::ALL.len()],
}

static REFUSALS: OfThread<Refusals> =
    OfThread::new(Refusals { counts: [0; Call::ALL.len()], logged: [false; Call::ALL.len()] });

/// Counts a refusal, and logs the first of each call.
pub(super) fn refused(call: Call, status: Status) {
    let is_first = REFUSALS.borrow_mut().is_some_and(|mut refusals| {
        if let Some(count) = refusals.counts.get_mut(call as usize) {
            *count += 1;
        }
        refusals.logged.get_mut(call as usize).is_some_and(|logged| !core::mem::replace(logged, true))
    });
    if is_first {
        let number = status.number();
        let name = call.statistic().trim_start_matches("newrelic.host_refused.");
        log(LogLevel::Warn, &["the host refused ", name, " with status ", itoa::Buffer::new().format(number)].concat());
    }
}

/// Takes the refusals to publish: statistic and number.
pub(super) fn take_refusals(mut publish: impl FnMut(&'static str, u64)) {
    let counts = REFUSALS.borrow_mut().map(|mut refusals| core::mem::take(&mut refusals.counts)).unwrap_or_default();
    for (call, count) in Call::ALL.iter().zip(counts) {
        if count > 0 {
            publish(call.statistic(), count);
        }
    }
}

/// Counts a refusal and gives up the error.
fn accepted(call: Call, status: u32) -> bool {
    match Status::check(status) {
        Ok(()) => true,
        Err(status) => {
            refused(call, status);
            false
        }
    }
}

/// Gives the host memory to answer in; null when there is none, which the host takes for an error.
pub(super) fn allocate(length: usize) -> *mut u8 {
    match Layout::array::<u8>(length) {
        // SAFETY: the layout is not empty.
        Ok(layout) if length > 0 => unsafe { alloc::alloc::alloc(layout) },
        _ => core::ptr::null_mut(),
    }
}

/// An answer in memory from [`allocate`].
struct Answer {
    start: *mut u8,
    length: usize,
}

impl Answer {
    const NONE: Self = Self { start: core::ptr::null_mut(), length: 0 };

    fn into_vec(self) -> Vec<u8> {
        if self.start.is_null() || self.length == 0 {
            return Vec::new();
        }
        // SAFETY: the host got the memory from `allocate` with exactly this length, filled it, and hands it over.
        unsafe { Vec::from_raw_parts(self.start, self.length, self.length) }
    }
}

/// Writes a log line.
pub(super) fn log(level: LogLevel, text: &str) {
    log_bytes(level, text.as_bytes());
}

/// Writes a log line of UTF-8 bytes.
pub(super) fn log_bytes(level: LogLevel, text: &[u8]) {
    // SAFETY: the pointer and length are those of a live text. There is nobody to tell when logging fails.
    let _status = unsafe { abi::proxy_log(level as u32, text.as_ptr(), text.len()) };
}

/// Unix nanoseconds; 0 when the host has no clock.
pub(super) fn now_ns() -> u64 {
    let mut time = 0;
    // SAFETY: the pointer is to a live number.
    let status = unsafe { abi::proxy_get_current_time_nanoseconds(&raw mut time) };
    if accepted(Call::CurrentTime, status) { time } else { 0 }
}

/// Has the host call us back regularly.
pub(super) fn set_tick_period(period_ms: u32) {
    // SAFETY: no pointers.
    let status = unsafe { abi::proxy_set_tick_period_milliseconds(period_ms) };
    accepted(Call::SetTickPeriod, status);
}

/// Fills a buffer with random bytes; false when the host has none.
pub(super) fn fill_random(buffer: &mut [u8]) -> bool {
    // SAFETY: pointer and length are those of a live buffer.
    let status = unsafe { abi::random_get(buffer.as_mut_ptr(), buffer.len()) };
    accepted(Call::Random, status)
}

/// An environment variable of the VM; `None` when it is not set, or not UTF-8.
pub(super) fn variable(name: &str) -> Option<String> {
    let (mut count, mut length) = (0, 0);
    // SAFETY: the pointers are to live numbers.
    let status = unsafe { abi::environ_sizes_get(&raw mut count, &raw mut length) };
    if !accepted(Call::Environment, status) {
        return None;
    }
    let mut starts = vec![core::ptr::null_mut(); count];
    let mut lines = vec![0; length];
    // SAFETY: both buffers are as large as the host has just asked for.
    let status = unsafe { abi::environ_get(starts.as_mut_ptr(), lines.as_mut_ptr()) };
    if !accepted(Call::Environment, status) {
        return None;
    }
    let value_of = |line: &[u8]| line.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec);
    String::from_utf8(lines.split(|byte| *byte == 0).find_map(value_of)?).ok()
}

/// A host property; `None` when it has no value now.
pub(super) fn property(path: &[u8]) -> Option<Vec<u8>> {
    let mut answer = Answer::NONE;
    // SAFETY: the pointers are to live bytes and places.
    let status =
        unsafe { abi::proxy_get_property(path.as_ptr(), path.len(), &raw mut answer.start, &raw mut answer.length) };
    match Status::check(status) {
        Ok(()) => Some(answer.into_vec()),
        Err(Status::NotFound) => None,
        Err(status) => {
            refused(Call::GetProperty, status);
            None
        }
    }
}

/// A host property that is a number of eight bytes.
pub(super) fn number_property(path: &[u8]) -> Option<i64> {
    property(path)?.try_into().ok().map(i64::from_le_bytes)
}

/// A function that the host has beyond the ABI; `None` when it has none of that name, or refuses.
///
/// No refusal is counted: each of these functions has another way round it.
pub(super) fn foreign(name: &str, argument: &[u8]) -> Option<Vec<u8>> {
    let mut answer = Answer::NONE;
    // SAFETY: the pointers are to live bytes and places.
    let status = unsafe {
        abi::proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            argument.as_ptr(),
            argument.len(),
            &raw mut answer.start,
            &raw mut answer.length,
        )
    };
    Status::check(status).ok().map(|()| answer.into_vec())
}

/// Sets filter state of the current stream.
pub(super) fn set_property(path: &[u8], value: &[u8]) {
    // SAFETY: the pointers are to live bytes.
    let status = unsafe { abi::proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) };
    accepted(Call::SetProperty, status);
}

/// The beginning of a buffer, at most `length` bytes; empty when there is none.
pub(super) fn buffer(buffer: Buffer, length: usize) -> Vec<u8> {
    let mut answer = Answer::NONE;
    // SAFETY: the pointers are to live places.
    let status =
        unsafe { abi::proxy_get_buffer_bytes(buffer as u32, 0, length, &raw mut answer.start, &raw mut answer.length) };
    match Status::check(status) {
        Ok(()) => answer.into_vec(),
        Err(Status::NotFound | Status::BadArgument) => Vec::new(),
        Err(status) => {
            refused(Call::GetBuffer, status);
            Vec::new()
        }
    }
}

/// All lines of a header map, serialized; empty when the map does not exist.
pub(super) fn header_map(map: Map) -> Vec<u8> {
    let mut answer = Answer::NONE;
    // SAFETY: the pointers are to live places.
    let status = unsafe { abi::proxy_get_header_map_pairs(map as u32, &raw mut answer.start, &raw mut answer.length) };
    match Status::check(status) {
        Ok(()) => answer.into_vec(),
        // No answer arrived, or the codec refused the request.
        Err(Status::NotFound | Status::BadArgument) => Vec::new(),
        Err(status) => {
            refused(Call::GetHeaders, status);
            Vec::new()
        }
    }
}

/// Changes a message's headers; false when the host refuses.
pub(super) fn edit_header(map: Map, edit: &HeaderEdit) -> bool {
    let map = map as u32;
    match edit {
        HeaderEdit::Set(name, value) => {
            // SAFETY: the pointers are to live bytes.
            let status = unsafe {
                abi::proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
            };
            accepted(Call::ReplaceHeader, status)
        }
        HeaderEdit::Remove(name) => {
            // SAFETY: the pointer is to live bytes.
            let status = unsafe { abi::proxy_remove_header_map_value(map, name.as_ptr(), name.len()) };
            accepted(Call::RemoveHeader, status)
        }
    }
}

/// A value of the process and the number to compare when it is stored again.
#[derive(Debug)]
pub(super) struct SharedValue {
    /// The bytes.
    pub(super) bytes: Vec<u8>,
    /// The host's number of this version.
    pub(super) cas: u32,
}

/// Reads shared data.
///
/// # Errors
/// The host's status, when it has no shared data to offer; an absent value is none.
pub(super) fn shared_data(key: &[u8]) -> Result<Option<SharedValue>, Status> {
    let mut answer = Answer::NONE;
    let mut cas = 0;
    // SAFETY: the pointers are to live bytes and places.
    let status = unsafe {
        abi::proxy_get_shared_data(key.as_ptr(), key.len(), &raw mut answer.start, &raw mut answer.length, &raw mut cas)
    };
    match Status::check(status) {
        Ok(()) => Ok(Some(SharedValue { bytes: answer.into_vec(), cas })),
        Err(Status::NotFound) => Ok(None),
        Err(status) => {
            refused(Call::GetSharedData, status);
            Err(status)
        }
    }
}

/// Stores shared data when nobody changed it since.
///
/// # Errors
/// [`Status::CasMismatch`] when somebody did; any other status when the host refuses.
pub(super) fn set_shared_data(key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
    // SAFETY: the pointers are to live bytes.
    let status = unsafe { abi::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) };
    Status::check(status).inspect_err(|status| {
        if *status != Status::CasMismatch {
            refused(Call::SetSharedData, *status);
        }
    })
}

/// Starts a call to a cluster and returns the host's number for it.
///
/// # Errors
/// The host's status; [`Status::BadArgument`] for an unknown cluster.
pub(super) fn http_call(cluster: &str, headers: &[u8], body: &[u8], timeout_ms: u32) -> Result<u32, Status> {
    const NO_TRAILERS: [u8; 4] = [0; 4];
    let mut token = 0;
    // SAFETY: the pointers are to live bytes and places.
    let status = unsafe {
        abi::proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            NO_TRAILERS.as_ptr(),
            NO_TRAILERS.len(),
            timeout_ms,
            &raw mut token,
        )
    };
    Status::check(status).map(|()| token).inspect_err(|status| refused(Call::Post, *status))
}

/// The host's number for a metric, which it makes when it is new.
pub(super) fn define_metric(metric_type: MetricType, name: &str) -> Option<u32> {
    let mut metric = 0;
    // SAFETY: the pointers are to live bytes and places.
    let status = unsafe { abi::proxy_define_metric(metric_type as u32, name.as_ptr(), name.len(), &raw mut metric) };
    accepted(Call::DefineMetric, status).then_some(metric)
}

/// Adds to a counter or a gauge.
pub(super) fn increment_metric(metric: u32, by: i64) {
    // SAFETY: no pointers.
    let status = unsafe { abi::proxy_increment_metric(metric, by) };
    accepted(Call::IncrementMetric, status);
}

/// Records a histogram's value or sets a gauge.
pub(super) fn record_metric(metric: u32, value: u64) {
    // SAFETY: no pointers.
    let status = unsafe { abi::proxy_record_metric(metric, value) };
    accepted(Call::RecordMetric, status);
}

/// Tells the host that a plugin that asked for time in `proxy_on_done` needs no more.
pub(super) fn done(context: u32) {
    // SAFETY: no pointers.
    let status = unsafe { abi::proxy_set_effective_context(context) };
    if accepted(Call::Done, status) {
        // SAFETY: no pointers.
        let status = unsafe { abi::proxy_done() };
        accepted(Call::Done, status);
    }
}

/// Runs the module's constructors.
pub(super) fn call_constructors() {
    // SAFETY: `_initialize` calls this once, before anything else.
    unsafe { abi::__wasm_call_ctors() }
}
