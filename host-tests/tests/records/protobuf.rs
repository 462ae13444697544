//! Reads protobuf messages without knowing their types: enough to compare what was sent with what was meant.
//!
//! ```text
//! field = varint(number << 3 | wire-type) value       wire types: 0 varint, 1 64-bit, 2 length-delimited, 5 32-bit
//! ```
//! (Protocol Buffers, "Encoding".)

use std::collections::BTreeMap;

/// The value of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Vec<u8>),
}

/// A message: the values of each field, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message(BTreeMap<u64, Vec<Field>>);

impl Message {
    /// Reads a whole message.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut message = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let tag = varint(&mut rest);
            let value = match tag & 7 {
                0 => Field::Varint(varint(&mut rest)),
                1 => Field::Fixed64(u64::from_le_bytes(take(&mut rest, 8).try_into().expect("eight bytes"))),
                2 => {
                    let length = usize::try_from(varint(&mut rest)).expect("a length");
                    Field::Bytes(take(&mut rest, length).to_vec())
                }
                5 => Field::Fixed32(u32::from_le_bytes(take(&mut rest, 4).try_into().expect("four bytes"))),
                other => panic!("wire type {other} in {bytes:?}"),
            };
            message.0.entry(tag >> 3).or_default().push(value);
        }
        message
    }

    fn all(&self, number: u64) -> &[Field] {
        self.0.get(&number).map_or(&[], Vec::as_slice)
    }

    fn only(&self, number: u64) -> Option<&Field> {
        assert!(self.all(number).len() <= 1, "field {number} is there twice: {self:?}");
        self.all(number).first()
    }

    /// The messages of a repeated field.
    pub(crate) fn messages(&self, number: u64) -> Vec<Self> {
        let message = |field: &Field| match field {
            Field::Bytes(bytes) => Self::parse(bytes),
            Field::Varint(_) | Field::Fixed64(_) | Field::Fixed32(_) => panic!("field {number} is no message"),
        };
        self.all(number).iter().map(message).collect()
    }

    /// The message of a field that is there once.
    pub(crate) fn message(&self, number: u64) -> Self {
        let mut messages = self.messages(number);
        assert_eq!(messages.len(), 1, "field {number}");
        messages.remove(0)
    }

    /// Bytes; empty when the field is absent.
    pub(crate) fn bytes(&self, number: u64) -> Vec<u8> {
        match self.only(number) {
            None => Vec::new(),
            Some(Field::Bytes(bytes)) => bytes.clone(),
            Some(other) => panic!("field {number} is {other:?}"),
        }
    }

    /// Text; empty when the field is absent.
    pub(crate) fn text(&self, number: u64) -> String {
        String::from_utf8(self.bytes(number)).expect("text is UTF-8")
    }

    /// A number of any width; `None` when the field is absent.
    pub(crate) fn number(&self, number: u64) -> Option<u64> {
        match self.only(number)? {
            Field::Varint(value) | Field::Fixed64(value) => Some(*value),
            Field::Fixed32(value) => Some((*value).into()),
            Field::Bytes(_) => panic!("field {number} is no number"),
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at_checked(length).expect("the message is whole");
    *rest = left;
    taken
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take(rest, 1) else { unreachable!("one byte was taken") };
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint has at most ten bytes")
}
