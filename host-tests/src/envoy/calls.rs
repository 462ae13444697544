//! Time and the answers of other servers.

use std::time::Duration;

use super::{Envoy, nanoseconds};
use crate::abi::Status;
use crate::error::Result;
use crate::grpc::{GrpcCall, GrpcId, GrpcState};
use crate::headers::HeaderMap;
use crate::http_call::{Answer, CallId, CallState};
use crate::state::{Delivery, Process};

/// gRPC's `DEADLINE_EXCEEDED`.
const DEADLINE_EXCEEDED: u32 = 4;
/// gRPC's `UNAVAILABLE`.
const UNAVAILABLE: u32 = 14;

/// Something that happens at a moment.
#[derive(Debug, Clone)]
enum Event {
    Tick { vm: usize, root: u32 },
    Timeout(usize),
    GrpcTimeout(usize),
    Answer { call: usize, answer: Answer },
}

impl Envoy {
    /// Lets time pass. Ticks, timeouts and scheduled answers happen in the order of their moments;
    /// at one moment, what was armed first happens first.
    ///
    /// # Errors
    /// `Trap` or `Unsupported` when a guest fails meanwhile. Time stops at that moment.
    pub fn advance(&mut self, by: Duration) -> Result<()> {
        let passed = self.pass(nanoseconds(by));
        self.told(passed)
    }

    fn pass(&mut self, by_ns: u64) -> Result<()> {
        let end_ns = self.process.lock().clock.elapsed_ns().saturating_add(by_ns);
        self.settle()?;
        while let Some(event) = self.next_event(end_ns) {
            self.happen(event)?;
            self.settle()?;
        }
        self.process.lock().clock.advance_to(end_ns);
        Ok(())
    }

    /// Takes the first event up to `end_ns` and sets the clock to its moment.
    fn next_event(&mut self, end_ns: u64) -> Option<Event> {
        let mut process = self.process.lock();
        let (due_ns, _, event) = events(&process).min_by_key(|(due_ns, armed, _)| (*due_ns, *armed))?;
        if due_ns > end_ns {
            return None;
        }
        process.clock.advance_to(due_ns);
        if let Event::Answer { call, .. } = &event {
            process.scheduled.retain(|scheduled| scheduled.call != *call);
        }
        Some(event)
    }

    fn happen(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Tick { vm, root } => self.tick(vm, root),
            Event::Timeout(call) => self.deliver(call, &Answer::timeout(), CallState::TimedOut).map(drop),
            Event::GrpcTimeout(call) => {
                let message = "stream timeout".to_owned();
                self.close_grpc(GrpcId(call), DEADLINE_EXCEEDED, message).map(drop)
            }
            Event::Answer { call, answer } => self.deliver(call, &answer, CallState::Answered).map(drop),
        }
    }

    /// The timer is armed again after the callback, from then on.
    fn tick(&mut self, vm: usize, root: u32) -> Result<()> {
        if self.has_context(vm, root) {
            self.invoke(vm, "proxy_on_tick", root, &[], Delivery::default())?;
        }
        let mut process = self.process.lock();
        let (now_ns, armed) = (process.clock.elapsed_ns(), process.arm());
        if let Some(timer) = process.timers.get_mut(&(vm, root)) {
            timer.due_ns = now_ns.saturating_add(timer.period_ns);
            timer.armed = armed;
        }
        Ok(())
    }

    /// Answers an HTTP call now. `false` when the guest did not get it: its context or VM is gone.
    ///
    /// # Errors
    /// `Usage` when the call was answered before, `Trap` or `Unsupported` when the guest fails.
    pub fn answer(&mut self, call: CallId, answer: impl Into<Answer>) -> Result<bool> {
        let delivered = self.answer_now(call, &answer.into());
        self.told(delivered)
    }

    fn answer_now(&mut self, call: CallId, answer: &Answer) -> Result<bool> {
        let state = self.process.lock().http_calls.get(call.0).map(|call| call.state);
        match state {
            Some(CallState::Pending) => {
                let delivered = self.deliver(call.0, answer, CallState::Answered)?;
                self.settle()?;
                Ok(delivered)
            }
            Some(CallState::Cancelled) => Ok(false),
            Some(CallState::Answered | CallState::TimedOut) => Err(Self::usage("the call was answered before")),
            None => Err(Self::usage("there is no such call")),
        }
    }

    /// Answers every call that waits, oldest first, and tells how many there were.
    ///
    /// # Errors
    /// `Trap` or `Unsupported` when a guest fails meanwhile.
    pub fn answer_all(&mut self, answer: &Answer) -> Result<usize> {
        let waiting = self.pending_calls();
        for call in &waiting {
            self.answer(call.id, answer.clone())?;
        }
        Ok(waiting.len())
    }

    fn deliver(&mut self, position: usize, answer: &Answer, state: CallState) -> Result<bool> {
        let (vm, root, token) = {
            let mut process = self.process.lock();
            process.scheduled.retain(|scheduled| scheduled.call != position);
            let Some(call) = process.http_calls.get_mut(position) else {
                return Ok(false);
            };
            call.state = state;
            (call.vm, call.root, call.token)
        };
        if !self.has_context(vm, root) {
            return Ok(false);
        }
        let (delivery, counts) = http_delivery(answer);
        let [headers, body, trailers] = counts;
        let arguments = [token, headers, body, trailers];
        self.invoke(vm, "proxy_on_http_call_response", root, &arguments, delivery)?;
        Ok(true)
    }

    /// Gives the guest the initial metadata of a gRPC stream. `false` when the guest did not get it.
    ///
    /// # Errors
    /// `Usage` when the exchange is over, `Trap` or `Unsupported` when the guest fails.
    pub fn grpc_initial_metadata(&mut self, call: GrpcId, metadata: impl Into<HeaderMap>) -> Result<bool> {
        let metadata = metadata.into();
        let count = count(metadata.len());
        let delivery = Delivery { grpc_initial: Some(metadata), ..Delivery::default() };
        self.grpc_event(call, "proxy_on_grpc_receive_initial_metadata", count, delivery)
    }

    /// Gives the guest the trailing metadata of a gRPC stream. `false` when the guest did not get it.
    ///
    /// # Errors
    /// `Usage` when the exchange is over, `Trap` or `Unsupported` when the guest fails.
    pub fn grpc_trailing_metadata(&mut self, call: GrpcId, metadata: impl Into<HeaderMap>) -> Result<bool> {
        let metadata = metadata.into();
        let count = count(metadata.len());
        let delivery = Delivery { grpc_trailing: Some(metadata), ..Delivery::default() };
        self.grpc_event(call, "proxy_on_grpc_receive_trailing_metadata", count, delivery)
    }

    /// Gives the guest a message. A call (not a stream) is over with it. `false` when the guest did
    /// not get it.
    ///
    /// # Errors
    /// `Usage` when the exchange is over, `Trap` or `Unsupported` when the guest fails.
    pub fn grpc_message(&mut self, call: GrpcId, message: impl AsRef<[u8]>) -> Result<bool> {
        let message = message.as_ref().to_vec();
        let count = count(message.len());
        let delivery = Delivery { grpc_message: Some(message), ..Delivery::default() };
        let delivered = self.grpc_event(call, "proxy_on_grpc_receive", count, delivery)?;
        let mut process = self.process.lock();
        if let Some(call) = process.grpc_calls.get_mut(call.0).filter(|call| !call.streaming) {
            call.state = GrpcState::Closed;
        }
        Ok(delivered)
    }

    /// Ends a gRPC exchange with a status. `false` when the guest was not told.
    ///
    /// # Errors
    /// `Usage` when the exchange is over, `Trap` or `Unsupported` when the guest fails.
    pub fn grpc_close(&mut self, call: GrpcId, status: u32, message: impl Into<String>) -> Result<bool> {
        let closed = self.close_grpc(call, status, message.into());
        self.told(closed)
    }

    fn close_grpc(&mut self, call: GrpcId, status: u32, message: String) -> Result<bool> {
        let delivery = Delivery { status: Some((status, message)), ..Delivery::default() };
        let delivered = self.grpc_event(call, "proxy_on_grpc_close", status, delivery);
        if let Some(call) = self.process.lock().grpc_calls.get_mut(call.0) {
            call.state = GrpcState::Closed;
        }
        delivered
    }

    /// Tells the guest that a gRPC exchange it just began goes to no known cluster.
    pub(super) fn refuse_grpc(&mut self, vm: usize, root: u32, token: u32) -> Result<()> {
        let status = Some((UNAVAILABLE, "Cluster not available".to_owned()));
        let delivery = Delivery { status, ..Delivery::default() };
        self.invoke(vm, "proxy_on_grpc_close", root, &[token, UNAVAILABLE], delivery).map(drop)
    }

    fn grpc_event(&mut self, call: GrpcId, name: &'static str, argument: u32, delivery: Delivery) -> Result<bool> {
        let found = self.process.lock().grpc_calls.get(call.0).cloned();
        let found = found.ok_or_else(|| Self::usage("there is no such gRPC exchange"))?;
        match found.state {
            GrpcState::Open | GrpcState::HalfClosed => {}
            GrpcState::Cancelled => return Ok(false),
            GrpcState::Closed => return Err(Self::usage("the gRPC exchange is over")),
        }
        if !self.has_context(found.vm, found.root) {
            return Ok(false);
        }
        let called = self.invoke(found.vm, name, found.root, &[found.token, argument], delivery);
        self.told(called)?;
        let settled = self.settle();
        self.told(settled)?;
        Ok(true)
    }
}

impl From<&Self> for Answer {
    fn from(answer: &Self) -> Self {
        answer.clone()
    }
}

/// Everything that will happen: its moment, its place among others of that moment, and what it is.
fn events(process: &Process) -> impl Iterator<Item = (u64, u64, Event)> {
    let ticks = process.timers.iter().map(|(&(vm, root), timer)| (timer.due_ns, timer.armed, Event::Tick { vm, root }));
    let timeouts = process.http_calls.iter().enumerate().filter_map(|(position, call)| {
        let due_ns = call.deadline_ns.filter(|_| call.state == CallState::Pending)?;
        Some((due_ns, call.armed, Event::Timeout(position)))
    });
    let grpc = process.grpc_calls.iter().enumerate().filter_map(|(position, call)| {
        let due_ns = call.deadline_ns.filter(|_| GrpcCall::is_live(call))?;
        Some((due_ns, call.armed, Event::GrpcTimeout(position)))
    });
    let answers = process.scheduled.iter().map(|scheduled| {
        let event = Event::Answer { call: scheduled.call, answer: scheduled.answer.clone() };
        (scheduled.due_ns, scheduled.armed, event)
    });
    ticks.chain(timeouts).chain(grpc).chain(answers)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// What the guest may read of an answer, and the three numbers it is told.
fn http_delivery(answer: &Answer) -> (Delivery, [u32; 3]) {
    if answer.headers.is_empty() {
        let status = Some((Status::BrokenConnection as u32, "reset".to_owned()));
        return (Delivery { status, ..Delivery::default() }, [0; 3]);
    }
    let delivery = Delivery {
        headers: Some(answer.headers.clone()),
        body: Some(answer.body.clone()),
        trailers: Some(answer.trailers.clone()).filter(|trailers| !trailers.is_empty()),
        ..Delivery::default()
    };
    let counts = [answer.headers.len(), answer.body.len(), answer.trailers.len()].map(count);
    (delivery, counts)
}
