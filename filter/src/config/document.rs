//! The bytes of a configuration: JSON text, or a `google.protobuf.Struct`.

use alloc::string::String;

use super::fault::{Fault, Problem, Rule};
use super::struct_pb;
use crate::json::{self, Object, Value};

/// Bytes of a configuration: far more than anybody writes, far less than the module's memory.
const CONFIGURATION_BYTES_MAX: usize = 1 << 20;

/// Reads the bytes; nothing at all is an empty object.
///
/// # Errors
/// The one fault that the bytes have as a whole.
pub(super) fn decode(bytes: &[u8]) -> Result<Value<'_>, Fault> {
    if bytes.len() > CONFIGURATION_BYTES_MAX {
        let size = format!("{} bytes are too many", bytes.len());
        return Err(whole(size, Rule::Bytes(CONFIGURATION_BYTES_MAX)));
    }
    let text = bytes.trim_ascii_start();
    if text.is_empty() {
        return Ok(Value::Object(Object::new()));
    }
    if bytes.first() == Some(&0x0a) {
        match struct_pb::decode(bytes) {
            Ok(value) => return Ok(value),
            Err(error) if text.first() != Some(&b'{') => {
                return Err(whole(format!("no protobuf Struct, {error}"), Rule::Configuration));
            }
            // A text that begins with a line end.
            Err(_) => {}
        }
    }
    json::parse(bytes).map_err(|error| whole(format!("no JSON, {error}"), Rule::Configuration))
}

fn whole(reason: String, rule: Rule) -> Fault {
    Fault { key: "configuration".into(), problem: Problem::Unreadable(reason), rule }
}
