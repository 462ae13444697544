//! How much of a record goes out: New Relic's limits, applied once for every format.

use crate::record::{Attribute, Name, Value};

/// Characters of a text value; the rest is cut off (New Relic's data dictionary and OTLP attribute limits).
pub const VALUE_CHARS_MAX: usize = 4095;
/// Characters of a text value, when the record is too large with [`VALUE_CHARS_MAX`]; what New Relic's agents send.
pub const SHORT_VALUE_CHARS_MAX: usize = 255;
/// Bytes of an attribute name; an attribute with a longer one is left out.
pub const KEY_BYTES_MAX: usize = 255;
/// Attributes of a record, the common ones of its request included; the rest is left out.
pub const ATTRIBUTES_MAX: usize = 200;
/// Attributes of the operator's own on one record; the rest is left out.
pub const USER_ATTRIBUTES_MAX: usize = 64;
/// Names that an operator's attribute cannot have: New Relic removes the first two, takes a record with one of the
/// next three for another entity's, and the rest would write a field of the record a second time.
pub const RESERVED: [&str; 12] = [
    "guid",
    "entityGuid",
    "entity.guid",
    "entity.name",
    "entity.type",
    "name",
    "duration.ms",
    "parent.id",
    "eventType",
    "timestamp",
    "duration",
    "appName",
];

/// How much one record may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Characters of a text value.
    pub value_chars_max: usize,
    /// Attributes, fields of the record that the format writes as attributes included.
    pub attributes_max: usize,
    /// Bytes of the encoded record.
    pub bytes_max: usize,
}

impl Limits {
    /// Whether a record of so many bytes may go out.
    ///
    /// # Errors
    /// [`TooLarge`] when it may not.
    pub fn check(&self, bytes: usize) -> Result<(), TooLarge> {
        if bytes > self.bytes_max { Err(TooLarge) } else { Ok(()) }
    }
}

/// A record that is larger than any request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// Whose names a format writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// New Relic's.
    NewRelic,
    /// OpenTelemetry's; an attribute that has a field of its own there, or no use, is left out.
    OpenTelemetry,
}

/// An attribute that goes out.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// Its name there.
    pub name: &'a str,
    /// [`Key::member`](crate::record::Key::member), when the name is one of New Relic's.
    pub member: Option<&'static str>,
    /// Its value.
    pub value: Value<'a>,
}

/// The attributes that go out, in order, at most `room` of them.
pub fn kept<'a>(attributes: &'a [Attribute<'a>], naming: Naming, room: usize) -> impl Iterator<Item = Kept<'a>> {
    let mut user_room = USER_ATTRIBUTES_MAX;
    let keep = move |attribute: &Attribute<'a>| {
        if matches!(attribute.value, Value::Float(value) if !value.is_finite()) {
            return None;
        }
        let (name, member) = match attribute.name {
            Name::Known(key) if naming == Naming::NewRelic => (key.new_relic, Some(key.member)),
            Name::Known(key) => (key.otlp?, None),
            Name::User(name) => {
                if name.len() > KEY_BYTES_MAX || RESERVED.contains(&name) {
                    return None;
                }
                user_room = user_room.checked_sub(1)?;
                (name, None)
            }
        };
        Some(Kept { name, member, value: attribute.value })
    };
    attributes.iter().filter_map(keep).take(room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::keys;

    fn user<'a>(name: &'a str, value: Value<'static>) -> Attribute<'a> {
        Attribute { name: Name::User(name), value }
    }

    fn names<'a>(attributes: &'a [Attribute<'a>], naming: Naming, room: usize) -> Vec<&'a str> {
        kept(attributes, naming, room).map(|kept| kept.name).collect()
    }

    #[test]
    fn leaves_out_what_no_receiver_takes() {
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        let longest = "k".repeat(KEY_BYTES_MAX);
        let attributes = [
            user(&long, Value::Bool(true)),
            user(&longest, Value::Bool(true)),
            user("nan", Value::Float(f64::NAN)),
            user("infinite", Value::Float(f64::NEG_INFINITY)),
            user("entity.guid", Value::Text(b"x")),
            user("number", Value::Float(1.5)),
        ];
        assert_eq!(names(&attributes, Naming::NewRelic, 9), [longest.as_str(), "number"]);
    }

    #[test]
    fn the_operators_attributes_do_not_crowd_out_our_own() {
        let own: Vec<String> = (0..100).map(|number| format!("user.{number}")).collect();
        let mut attributes: Vec<_> = own.iter().map(|name| user(name, Value::Int(1))).collect();
        attributes.push(Attribute { name: Name::Known(&keys::HTTP_METHOD), value: Value::Text(b"GET") });
        let kept = names(&attributes, Naming::NewRelic, ATTRIBUTES_MAX);
        assert_eq!(kept.len(), USER_ATTRIBUTES_MAX + 1);
        assert_eq!(kept.last(), Some(&"http.method"));
    }

    #[test]
    fn stops_at_the_room_there_is() {
        let attributes = [user("a", Value::Int(1)), user("b", Value::Int(1)), user("c", Value::Int(1))];
        assert_eq!(names(&attributes, Naming::NewRelic, 2), ["a", "b"]);
    }

    #[test]
    fn opentelemetry_has_its_own_names_and_leaves_out_its_own_fields() {
        let attributes = [
            Attribute { name: Name::Known(&keys::SPAN_KIND), value: Value::Text(b"server") },
            Attribute { name: Name::Known(&keys::REQUEST_URI), value: Value::Text(b"/") },
            user("mine", Value::Int(1)),
        ];
        assert_eq!(names(&attributes, Naming::OpenTelemetry, 9), ["url.path", "mine"]);
    }
}
