//! Which tracing headers of a caller count, and which go on to the next hop.
//!
//! The order of precedence is New Relic's: the mere presence of `traceparent` disables the `newrelic` header, and an
//! invalid `traceparent` starts a new trace. New Relic's own data comes from the `tracestate` member of the trusted
//! account, or from the `newrelic` header.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::config::{Account, Config};
use crate::headers::{HeaderEdit, RequestHeaders, trim_ows};
use crate::id::{ParentId, SpanId, TraceId, TraceIdentity};
use crate::newrelic::CallerType;
use crate::newrelic::list_member::{self, Entry, OwnEntry};
use crate::newrelic::payload::{self, OwnPayload, Payload, PayloadError, PayloadWriter};
use crate::newrelic::priority::Priority;
use crate::sampler;
use crate::stats::Counter;
use crate::w3c::traceparent::{self, TraceFlags, Traceparent, TraceparentError};
use crate::w3c::tracestate::{self, Members};

/// What a request says of the trace that it belongs to.
#[cfg_attr(
    not(target_family = "wasm"),
    expect(clippy::large_enum_variant, reason = "it lives on the stack of a request; a box would be an allocation")
)]
#[derive(Clone, Debug)]
pub enum Inbound<'a> {
    /// Nothing: a new trace starts here.
    Absent,
    /// Something that does not count: a new trace starts here.
    Refused(Refusal),
    /// The request continues a trace.
    Parent(Parent<'a>),
}

/// Why a caller's headers do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `traceparent` broke a rule.
    Traceparent(TraceparentError),
    /// `newrelic` broke a rule.
    Payload(PayloadError),
}

/// The trace that a request continues.
#[derive(Clone, Debug)]
pub struct Parent<'a> {
    /// The trace.
    pub trace: TraceIdentity,
    /// The calling span.
    pub parent_id: Option<ParentId>,
    /// For the choice of the sampler.
    pub section: sampler::Parent,
    /// Bit 1 of the caller's flags.
    pub random_flag: bool,
    /// What New Relic's headers tell of the caller.
    pub caller: Option<Caller<'a>>,
    /// Other vendors' `tracestate` members.
    pub foreign: Members<'a>,
}

/// New Relic's data on a caller. Texts are a peer's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// Kind of entity.
    pub caller_type: CallerType,
    /// Its account.
    pub account_id: Cow<'a, [u8]>,
    /// Its application.
    pub app_id: Cow<'a, [u8]>,
    /// Guid of its transaction.
    pub transaction_id: Option<Cow<'a, [u8]>>,
    /// Its last New Relic span, from `tracestate`.
    pub trusted_parent_id: Option<Cow<'a, [u8]>>,
    /// Its sampling decision.
    pub sampled: Option<bool>,
    /// The trace's priority.
    pub priority: Option<Priority>,
    /// When it wrote the headers, Unix milliseconds.
    pub timestamp_ms: i64,
}

impl<'a> From<Entry<'a>> for Caller<'a> {
    fn from(entry: Entry<'a>) -> Self {
        Self {
            caller_type: entry.parent_type,
            account_id: entry.account_id.into(),
            app_id: entry.app_id.into(),
            transaction_id: entry.transaction_id.map(Into::into),
            trusted_parent_id: entry.span_id.map(Into::into),
            sampled: entry.sampled,
            priority: entry.priority,
            timestamp_ms: entry.timestamp_ms,
        }
    }
}

impl Caller<'_> {
    /// The same, without the request's headers.
    pub fn into_owned(self) -> Caller<'static> {
        let owned = |text: Cow<'_, [u8]>| Cow::Owned(text.into_owned());
        Caller {
            account_id: owned(self.account_id),
            app_id: owned(self.app_id),
            transaction_id: self.transaction_id.map(owned),
            trusted_parent_id: self.trusted_parent_id.map(owned),
            ..self
        }
    }

    /// Bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        let optional = [&self.transaction_id, &self.trusted_parent_id];
        let optional_bytes: usize = optional.into_iter().flatten().map(|text| text.len()).sum();
        self.account_id.len() + self.app_id.len() + optional_bytes
    }
}

impl From<Payload> for Parent<'_> {
    fn from(payload: Payload) -> Self {
        let bytes = |text: Box<str>| Cow::Owned(text.into_string().into_bytes());
        Self {
            trace: payload.trace,
            parent_id: payload.span_id.map(ParentId::Text),
            section: payload.sampled.map_or(sampler::Parent::Root, remote_parent),
            random_flag: false,
            caller: Some(Caller {
                caller_type: payload.caller_type,
                account_id: bytes(payload.account_id),
                app_id: bytes(payload.app_id),
                transaction_id: payload.transaction_id.map(bytes),
                trusted_parent_id: None,
                sampled: payload.sampled,
                priority: payload.priority,
                timestamp_ms: payload.timestamp_ms,
            }),
            foreign: Members::EMPTY,
        }
    }
}

/// What goes on to the next hop.
#[derive(Clone, Copy, Debug)]
pub struct Outbound<'a> {
    /// The trace.
    pub trace: &'a TraceIdentity,
    /// The span that the next hop's entry span hangs under.
    pub span_id: SpanId,
    /// Guid of the transaction, when there is one.
    pub transaction_id: Option<&'a [u8]>,
    /// The decision.
    pub sampled: bool,
    /// The priority.
    pub priority: Priority,
    /// Bit 1 of the caller's flags, for a trace that is continued.
    pub random_flag: bool,
    /// Now, Unix milliseconds.
    pub timestamp_ms: u64,
}

/// The settings of propagation.
#[derive(Clone, Debug)]
pub struct Propagator {
    account: Option<Account>,
    own_key: Option<Box<[u8]>>,
    /// None without an account, or when the header is excluded.
    payloads: Option<PayloadWriter>,
    writes_entry_span_id: bool,
    propagates_random_flag: bool,
    span_events: bool,
    transaction_events: bool,
}

impl From<&Config> for Propagator {
    fn from(config: &Config) -> Self {
        let account = config.account.as_ref();
        let own_key = |account: &Account| [account.trusted_account_key.as_bytes(), b"@nr"].concat().into();
        let payloads = |account: &Account| {
            PayloadWriter::new(&account.account_id, &account.primary_application_id, &account.trusted_account_key)
        };
        Self {
            own_key: account.map(own_key),
            payloads: account.filter(|_| !config.distributed_tracing.exclude_newrelic_header).map(payloads),
            account: account.cloned(),
            writes_entry_span_id: config.distributed_tracing.tracestate_span_id,
            propagates_random_flag: config.distributed_tracing.propagate_random_flag,
            span_events: config.span_events.enabled,
            transaction_events: config.transaction_events.enabled,
        }
    }
}

impl Propagator {
    /// Reads the caller's tracing headers and counts what was found.
    pub fn extract<'a>(&self, headers: &RequestHeaders<'a>, count: &mut dyn FnMut(Counter)) -> Inbound<'a> {
        match headers.traceparent.first {
            // A blank line is like none.
            Some(value) if headers.traceparent.lines > 1 || !trim_ows(value).is_empty() => {
                self.extract_w3c(headers, value, count)
            }
            _ => match headers.newrelic.first {
                Some(value) => self.extract_newrelic(value, count),
                None => Inbound::Absent,
            },
        }
    }

    fn extract_w3c<'a>(
        &self,
        headers: &RequestHeaders<'a>,
        value: &'a [u8],
        count: &mut dyn FnMut(Counter),
    ) -> Inbound<'a> {
        let parsed =
            if headers.traceparent.lines > 1 { Err(TraceparentError::Repeated) } else { traceparent::parse(value) };
        match parsed {
            Ok(traceparent) => {
                count(Counter::W3cAccepted);
                Inbound::Parent(self.continue_w3c(headers, &traceparent, count))
            }
            Err(why) => {
                count(Counter::TraceparentInvalid);
                Inbound::Refused(Refusal::Traceparent(why))
            }
        }
    }

    fn continue_w3c<'a>(
        &self,
        headers: &RequestHeaders<'a>,
        traceparent: &Traceparent,
        count: &mut dyn FnMut(Counter),
    ) -> Parent<'a> {
        let state = match headers.tracestate.first {
            Some(line) if headers.tracestate.lines == 1 => {
                tracestate::parse([line].into_iter(), self.own_key.as_deref())
            }
            _ => tracestate::parse(headers.lines(b"tracestate"), self.own_key.as_deref()),
        };
        if state.malformed {
            count(Counter::TracestateInvalid);
        }
        let entry = state.own.map(list_member::parse);
        match &entry {
            None => count(Counter::NoNrEntry),
            Some(Err(_)) => count(Counter::InvalidNrEntry),
            Some(Ok(_)) => {}
        }
        Parent {
            trace: traceparent.trace_id.into(),
            parent_id: Some(ParentId::Span(traceparent.parent_id)),
            section: remote_parent(traceparent.flags.sampled),
            random_flag: traceparent.flags.random,
            caller: entry.and_then(Result::ok).map(Into::into),
            foreign: state.foreign,
        }
    }

    fn extract_newrelic<'a>(&self, value: &[u8], count: &mut dyn FnMut(Counter)) -> Inbound<'a> {
        let trusted_account_key = self.account.as_ref().map(|account| &*account.trusted_account_key);
        match payload::parse(value, trusted_account_key) {
            Ok(payload) => {
                count(Counter::PayloadAccepted);
                Inbound::Parent(payload.into())
            }
            Err(why) => {
                count(match why {
                    PayloadError::Null => Counter::PayloadNull,
                    PayloadError::Parse => Counter::PayloadParseException,
                    PayloadError::MajorVersion => Counter::PayloadMajorVersion,
                    PayloadError::UntrustedAccount => Counter::PayloadUntrusted,
                });
                Inbound::Refused(Refusal::Payload(why))
            }
        }
    }

    /// The changes that make the next hop see exactly one of each tracing header, all of them ours.
    pub fn inject(&self, outbound: &Outbound<'_>, foreign: &[&[u8]], headers: &RequestHeaders<'_>) -> Vec<HeaderEdit> {
        let mut edits = Vec::with_capacity(3);
        edits.push(HeaderEdit::Set("traceparent", self.traceparent(outbound)));
        set_or_remove(&mut edits, "tracestate", self.tracestate(outbound, foreign), headers.tracestate.is_present());
        let payload = self.payload(outbound).unwrap_or_default();
        set_or_remove(&mut edits, "newrelic", payload, headers.newrelic.is_present());
        edits
    }

    fn traceparent(&self, outbound: &Outbound<'_>) -> Vec<u8> {
        let random = outbound.random_flag && self.propagates_random_flag;
        let flags = TraceFlags { sampled: outbound.sampled, random };
        Traceparent { trace_id: outbound.trace.id, parent_id: outbound.span_id, flags }.to_bytes()
    }

    /// The `tracestate` that goes on; empty when there is nothing to say.
    pub fn tracestate(&self, outbound: &Outbound<'_>, foreign: &[&[u8]]) -> Vec<u8> {
        tracestate::join(&self.entry(outbound).unwrap_or_default(), foreign)
    }

    /// Our `tracestate` member; none without an account.
    fn entry(&self, outbound: &Outbound<'_>) -> Option<Vec<u8>> {
        let account = self.account.as_ref()?;
        let span_id = outbound.span_id.to_hex();
        let entry = OwnEntry {
            trusted_account_key: &account.trusted_account_key,
            account_id: &account.account_id,
            app_id: &account.primary_application_id,
            span_id: (self.writes_entry_span_id && self.span_events).then_some(&span_id),
            transaction_id: outbound.transaction_id.filter(|_| self.transaction_events),
            sampled: outbound.sampled,
            priority: outbound.priority,
            timestamp_ms: outbound.timestamp_ms,
        };
        Some(entry.to_bytes())
    }

    /// The `newrelic` header; none without an account, when excluded, or with neither a span nor a transaction to name.
    fn payload(&self, outbound: &Outbound<'_>) -> Option<Vec<u8>> {
        let payloads = self.payloads.as_ref()?;
        if !self.span_events && outbound.transaction_id.is_none() {
            return None;
        }
        let payload = OwnPayload {
            span_id: self.span_events.then_some(outbound.span_id),
            transaction_id: outbound.transaction_id,
            trace: outbound.trace,
            priority: outbound.priority,
            sampled: outbound.sampled,
            timestamp_ms: outbound.timestamp_ms,
        };
        Some(payloads.write(&payload))
    }
}

/// What the sampler decides by: the parent, when there is one, and the trace that is continued or new.
pub fn sampler_input(parent: Option<&Parent<'_>>, trace_id: TraceId) -> sampler::Inbound {
    let caller = parent.and_then(|parent| parent.caller.as_ref());
    sampler::Inbound {
        parent: parent.map_or(sampler::Parent::Root, |parent| parent.section),
        sampled: caller.and_then(|caller| caller.sampled),
        priority: caller.and_then(|caller| caller.priority),
        trace_id,
        caller: caller.map_or(0, |caller| sampler::shared::account_hash(&caller.account_id)),
    }
}

fn remote_parent(sampled: bool) -> sampler::Parent {
    if sampled { sampler::Parent::RemoteSampled } else { sampler::Parent::RemoteNotSampled }
}

/// Writes a value; an empty one only takes away what the caller sent.
fn set_or_remove(edits: &mut Vec<HeaderEdit>, name: &'static str, value: Vec<u8>, is_present: bool) {
    if !value.is_empty() {
        edits.push(HeaderEdit::Set(name, value));
    } else if is_present {
        edits.push(HeaderEdit::Remove(name));
    }
}

/// One transaction's order of accepting and creating headers, for carriers that allow any order: the first accept
/// counts, and none after headers were created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    accepted: bool,
    created: bool,
}

impl Sequence {
    /// Whether headers may still be accepted; counts the refusal otherwise.
    pub fn may_accept(&self, count: &mut dyn FnMut(Counter)) -> bool {
        match (self.created, self.accepted) {
            (true, _) => count(Counter::PayloadCreateBeforeAccept),
            (false, true) => count(Counter::PayloadMultiple),
            (false, false) => return true,
        }
        false
    }

    /// Notes what an accept found: only a trace that is continued ends the search.
    pub fn note_accept(&mut self, inbound: &Inbound<'_>) {
        self.accepted |= matches!(inbound, Inbound::Parent(_));
    }

    /// Notes that headers were created.
    pub fn note_create(&mut self) {
        self.created = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_accept_and_an_accept_after_create_are_ignored() {
        let mut seen = Vec::new();
        let mut sequence = Sequence::default();
        assert!(sequence.may_accept(&mut |counter| seen.push(counter)));
        sequence.note_accept(&Inbound::Absent);
        assert!(sequence.may_accept(&mut |counter| seen.push(counter)), "nothing was accepted yet");
        let trace = TraceId::from_u128(1).unwrap().into();
        sequence.note_accept(&Inbound::Parent(Parent {
            trace,
            parent_id: None,
            section: sampler::Parent::Root,
            random_flag: false,
            caller: None,
            foreign: Members::EMPTY,
        }));
        assert!(!sequence.may_accept(&mut |counter| seen.push(counter)));
        sequence.note_create();
        assert!(!sequence.may_accept(&mut |counter| seen.push(counter)));
        assert_eq!(seen, [Counter::PayloadMultiple, Counter::PayloadCreateBeforeAccept]);
    }
}
