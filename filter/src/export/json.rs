//! Attributes as JSON text.

use alloc::vec::Vec;

use super::limits::{Kept, Limits, TooLarge};
pub use crate::json::{bool, int, push_f64 as float, quoted, string, uint};
use crate::record::Value;

/// Appends the value of an attribute, text cut to `chars_max` characters.
pub fn value(out: &mut Vec<u8>, value: Value<'_>, chars_max: usize) {
    match value {
        Value::Text(text) => string(out, text, chars_max),
        Value::Int(number) => int(out, number),
        Value::Float(number) => float(out, number),
        Value::Priority(priority) => priority.write(out),
        Value::Bool(truth) => bool(out, truth),
    }
}

/// Appends `"name":`.
pub fn name(out: &mut Vec<u8>, name: &str) {
    string(out, name.as_bytes(), usize::MAX);
    out.push(b':');
}

/// Appends attributes to an object that has members already.
///
/// # Errors
/// [`TooLarge`] as soon as more than `limits.bytes_max` bytes have come together behind `start`.
pub fn members<'a>(
    out: &mut Vec<u8>,
    start: usize,
    attributes: impl Iterator<Item = Kept<'a>>,
    limits: &Limits,
) -> Result<(), TooLarge> {
    for attribute in attributes {
        match attribute.member {
            Some(member) => out.extend_from_slice(member.as_bytes()),
            None => {
                out.push(b',');
                name(out, attribute.name);
            }
        }
        value(out, attribute.value, limits.value_chars_max);
        limits.check(out.len() - start)?;
    }
    Ok(())
}
