//! Several properties with one host call: an expression of Envoy's, in the Common Expression Language.
//!
//! A list of attributes is one value, and the host gives memory for a value once: seven in a list cost less than seven by
//! themselves, five do not. An attribute that is absent fails the whole list. The functions are Envoy's own, and no part
//! of the Proxy-Wasm ABI (`source/extensions/common/wasm/foreign.cc`, `expr_create` and its kin).

use alloc::vec::Vec;

use super::calls;

/// After so many failures in a row the list is left alone for [`PAUSE`] requests: a proxy may answer most of its requests
/// itself, or be too old to have the attributes.
const FAILURES_MAX: u32 = 16;
const PAUSE: u32 = 1000;

/// A list of attributes in one plugin instance.
#[derive(Debug)]
pub(super) struct Expression {
    /// `[attribute, …]`.
    text: &'static str,
    state: State,
    /// Failures since the last success.
    failures: u32,
    /// Requests for which the host is not asked.
    pause: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The host does not know it yet.
    New,
    /// The host knows it under this number.
    Created([u8; 4]),
    /// The host has no expressions, or has forgotten this one.
    Unusable,
}

impl Expression {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text, state: State::New, failures: 0, pause: 0 }
    }

    /// The values of the current stream in the layout of header lines, each a name with an empty value; `None` when one
    /// of them is absent.
    pub(super) fn evaluate(&mut self) -> Option<Vec<u8>> {
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let values = calls::foreign("expr_evaluate", &self.token()?);
        self.failures = if values.is_some() { 0 } else { self.failures + 1 };
        if self.failures >= FAILURES_MAX {
            (self.failures, self.pause) = (0, PAUSE);
        }
        values
    }

    fn token(&mut self) -> Option<[u8; 4]> {
        if self.state == State::New {
            let token = calls::foreign("expr_create", self.text.as_bytes()).and_then(|token| token.try_into().ok());
            self.state = token.map_or(State::Unusable, State::Created);
        }
        match self.state {
            State::Created(token) => Some(token),
            State::New | State::Unusable => None,
        }
    }

    /// Has the host forget it.
    pub(super) fn delete(&mut self) {
        if let State::Created(token) = self.state {
            calls::foreign("expr_delete", &token);
        }
        self.state = State::Unusable;
    }
}
