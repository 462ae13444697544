//! Property paths and values in the encodings of Envoy.
//!
//! Source: Envoy `source/extensions/common/wasm/context.cc`, `serializeValue`.

use crate::headers::HeaderMap;
use crate::pairs;

/// The value of a property.
///
/// | Variant | Bytes the guest reads |
/// |---|---|
/// | `Text`, `Bytes`, `Message` | as they are |
/// | `Int`, `Uint`, `Double` | 8 bytes, little-endian |
/// | `Bool` | 1 byte |
/// | `Timestamp` (since 1970), `Duration` | nanoseconds in 8 bytes, little-endian |
/// | `Map`, `List` | the layout of header pairs; a list has empty values |
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// A truth value.
    Bool(bool),
    /// Nanoseconds since 1970.
    Timestamp(i64),
    /// Nanoseconds.
    Duration(i64),
    /// A protobuf message in wire form.
    Message(Vec<u8>),
    /// Keys and values.
    Map(Vec<(Vec<u8>, Self)>),
    /// Values.
    List(Vec<Self>),
}

impl Value {
    /// The bytes a guest reads.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Bytes(bytes) | Self::Message(bytes) => bytes.clone(),
            Self::Int(n) | Self::Timestamp(n) | Self::Duration(n) => n.to_le_bytes().to_vec(),
            Self::Uint(n) => n.to_le_bytes().to_vec(),
            Self::Double(n) => n.to_le_bytes().to_vec(),
            Self::Bool(b) => vec![u8::from(*b)],
            Self::Map(map) => pairs::encode(map.iter().map(|(k, v)| (k.clone(), v.encode()))),
            Self::List(list) => pairs::encode(list.iter().map(|v| (v.encode(), Vec::new()))),
        }
    }

    pub(crate) fn of_headers(headers: &HeaderMap) -> Self {
        let mut map: Vec<(Vec<u8>, Self)> = Vec::new();
        for (name, _) in headers.iter() {
            if !map.iter().any(|(known, _)| known == name) {
                map.push((name.to_vec(), Self::Bytes(headers.joined(name).unwrap_or_default())));
            }
        }
        Self::Map(map)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Uint(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// The path of a property: one or more segments.
///
/// A `&str` is split at its dots (`"request.path"`); an array or slice of `&str` is taken as it is,
/// for keys that have dots of their own (`["xds", "node", "metadata", "LABELS", "app.io/name"]`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Vec<Vec<u8>>);

impl Path {
    /// Splits the wire form: segments joined by zero bytes.
    pub(crate) fn from_wire(bytes: &[u8]) -> Self {
        Self(bytes.split(|b| *b == 0).map(<[u8]>::to_vec).collect())
    }

    /// The segments as byte strings.
    pub(crate) fn segments(&self) -> Vec<&[u8]> {
        self.0.iter().map(Vec::as_slice).collect()
    }
}

impl From<&str> for Path {
    fn from(dotted: &str) -> Self {
        Self(dotted.split('.').map(|s| s.as_bytes().to_vec()).collect())
    }
}

impl From<&[&str]> for Path {
    fn from(segments: &[&str]) -> Self {
        Self(segments.iter().map(|s| s.as_bytes().to_vec()).collect())
    }
}

impl<const COUNT: usize> From<[&str; COUNT]> for Path {
    fn from(segments: [&str; COUNT]) -> Self {
        Self::from(segments.as_slice())
    }
}

impl<const COUNT: usize> From<&[&str; COUNT]> for Path {
    fn from(segments: &[&str; COUNT]) -> Self {
        Self::from(segments.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_the_encoding_of_envoy() {
        for (value, bytes) in [
            (Value::from("GET"), b"GET".to_vec()),
            (Value::Int(-2), vec![0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            (Value::Uint(258), vec![2, 1, 0, 0, 0, 0, 0, 0]),
            (Value::Double(1.0), vec![0, 0, 0, 0, 0, 0, 0xf0, 0x3f]),
            (Value::Bool(true), vec![1]),
            (Value::Timestamp(1), vec![1, 0, 0, 0, 0, 0, 0, 0]),
            (Value::Duration(1), vec![1, 0, 0, 0, 0, 0, 0, 0]),
            (Value::Message(vec![8, 1]), vec![8, 1]),
            (Value::List(vec![Value::from("a")]), vec![1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'a', 0, 0]),
            (
                Value::Map(vec![(b"k".to_vec(), Value::Bool(true))]),
                vec![1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, b'k', 0, 1, 0],
            ),
        ] {
            assert_eq!(value.encode(), bytes, "{value:?}");
        }
    }

    #[test]
    fn a_text_is_split_at_its_dots_and_a_list_is_not() {
        assert_eq!(Path::from("a.b"), Path::from(["a", "b"]));
        assert_ne!(Path::from(["a.b"]), Path::from(["a", "b"]));
        assert_eq!(Path::from_wire(b"a\0b.c"), Path::from(["a", "b.c"]));
    }
}
