//! JSON text (RFC 8259): read into a tree that borrows from the text, and written piece by piece.
//!
//! ```text
//! text   = ws value ws
//! value  = "null" / "true" / "false" / number / string / array / object
//! array  = "[" ws [ value ws *( "," ws value ws ) ] "]"
//! object = "{" ws [ member ws *( "," ws member ws ) ] "}"
//! member = string ws ":" ws value
//! number = [ "-" ] ( "0" / ( %x31-39 *DIGIT ) ) [ "." 1*DIGIT ] [ ( "e" / "E" ) [ "+" / "-" ] 1*DIGIT ]
//! string = DQUOTE *( %x20-21 / %x23-5B / %x5D-10FFFF / "\" escape ) DQUOTE      ; UTF-8
//! escape = DQUOTE / "\" / "/" / "b" / "f" / "n" / "r" / "t" / "u" 4HEXDIG      ; surrogates in pairs only
//! ws     = *( SP / HTAB / LF / CR )
//! ```
//!
//! The module has a reader of its own because of its size: it keeps numbers as they are written, and objects as
//! lists. What is written is put together by the rooms that know what they write.

mod number;
mod read;
mod write;

use alloc::borrow::Cow;
use alloc::vec::Vec;

pub use number::{Number, push_f64};
pub use read::{Cause, DEPTH_MAX, JsonError, parse};
pub use write::{bool, int, quoted, string, uint};

/// One JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number<'a>),
    /// A string, without its escapes.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(Object<'a>),
}

impl<'a> Value<'a> {
    /// The truth value that this is.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(truth) = self { Some(*truth) } else { None }
    }

    /// The number that this is.
    pub fn as_number(&self) -> Option<&Number<'a>> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    /// The number that this is, as [`Number::as_i64`] tells it.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.as_i64()
    }

    /// The number that this is, as [`Number::as_u64`] tells it.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number()?.as_u64()
    }

    /// The number that this is, as [`Number::as_f64`] tells it.
    pub fn as_f64(&self) -> Option<f64> {
        self.as_number()?.as_f64()
    }

    /// The string that this is.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The array that this is.
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(values) = self { Some(values) } else { None }
    }

    /// The object that this is.
    pub fn as_object(&self) -> Option<&Object<'a>> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// The value that an object has under a key; `None` for anything but an object, too.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?.get(key)
    }
}

/// The members of an object, in the order of the text. A key that the text repeats is in it as often.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Object<'a> {
    /// An object without members.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a key; of several, the last one.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.0.iter().rev().find(|(other, _)| other == key).map(|(_, value)| value)
    }

    /// Takes the value of a key out; of several, the last one.
    pub fn remove(&mut self, key: &str) -> Option<Value<'a>> {
        let at = self.0.iter().rposition(|(other, _)| other == key)?;
        Some(self.0.remove(at).1)
    }

    /// Adds a member behind the others.
    pub fn push(&mut self, key: Cow<'a, str>, value: Value<'a>) {
        self.0.push((key, value));
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| &**key)
    }

    /// How often the text has the key.
    pub fn count(&self, key: &str) -> usize {
        self.keys().filter(|other| *other == key).count()
    }
}
