//! The reader: the grammar of [`super`], rule by rule.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{Number, Object, Value};
use crate::id::hex_digit;

/// Arrays and objects within each other. Each level takes a part of the stack.
pub const DEPTH_MAX: u32 = 127;

/// Why a text is no JSON, and where reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// The broken rule.
    pub cause: Cause,
    /// The line, from 1.
    pub line: usize,
    /// The byte in the line, from 1.
    pub column: usize,
}

impl JsonError {
    fn new(cause: Cause, text: &[u8], rest: &[u8]) -> Self {
        let read = text.get(..text.len() - rest.len()).unwrap_or_default();
        let mut lines = read.rsplit(|byte| *byte == b'\n');
        let column = lines.next().map_or(0, <[u8]>::len) + 1;
        Self { cause, line: lines.count() + 1, column }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, line, column } = self;
        write!(formatter, "{cause} at line {line} column {column}")
    }
}

impl core::error::Error for JsonError {}

/// A rule of the grammar that a text breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The text ends within a value.
    End,
    /// No value begins here.
    Value,
    /// No key begins here.
    Key,
    /// No colon follows the key.
    Colon,
    /// Neither a comma nor the closing bracket follows the value.
    Comma,
    /// A digit is missing in a number.
    Digit,
    /// A string holds a control character.
    Control,
    /// A string is not UTF-8.
    Utf8,
    /// No escape of JSON.
    Escape,
    /// Half of a surrogate pair.
    Surrogate,
    /// More arrays and objects within each other than [`DEPTH_MAX`].
    Depth,
    /// Something follows the value.
    Trailing,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::End => "the text ends too early",
            Self::Value => "a value is missing",
            Self::Key => "a key in quotes is missing",
            Self::Colon => "a colon is missing",
            Self::Comma => "a comma or the closing bracket is missing",
            Self::Digit => "a digit is missing",
            Self::Control => "a control character is not escaped",
            Self::Utf8 => "a string is not UTF-8",
            Self::Escape => "an escape is unknown",
            Self::Surrogate => "half of a surrogate pair is missing",
            Self::Depth => "values nest too deeply",
            Self::Trailing => "something follows the value",
        })
    }
}

/// Reads a text that is one JSON value.
///
/// # Errors
/// The first broken rule and where it is broken.
pub fn parse(text: &[u8]) -> Result<Value<'_>, JsonError> {
    let mut reader = Reader { rest: text, depth: 0 };
    reader.text().map_err(|cause| JsonError::new(cause, text, reader.rest))
}

struct Reader<'a> {
    rest: &'a [u8],
    depth: u32,
}

impl<'a> Reader<'a> {
    fn text(&mut self) -> Result<Value<'a>, Cause> {
        let value = self.value()?;
        self.skip_spaces();
        if self.rest.is_empty() { Ok(value) } else { Err(Cause::Trailing) }
    }

    fn value(&mut self) -> Result<Value<'a>, Cause> {
        self.skip_spaces();
        match self.rest.first().ok_or(Cause::End)? {
            b'n' => self.word(b"null", Value::Null),
            b't' => self.word(b"true", Value::Bool(true)),
            b'f' => self.word(b"false", Value::Bool(false)),
            b'"' => self.string().map(Value::String),
            b'[' => self.nested(Self::array),
            b'{' => self.nested(Self::object),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(Cause::Value),
        }
    }

    fn word(&mut self, word: &[u8], value: Value<'a>) -> Result<Value<'a>, Cause> {
        self.rest = self.rest.strip_prefix(word).ok_or(Cause::Value)?;
        Ok(value)
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value<'a>, Cause>) -> Result<Value<'a>, Cause> {
        if self.depth == DEPTH_MAX {
            return Err(Cause::Depth);
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn array(&mut self) -> Result<Value<'a>, Cause> {
        let mut values = Vec::new();
        if self.is_empty(b']')? {
            return Ok(Value::Array(values));
        }
        loop {
            values.push(self.value()?);
            if self.is_last(b']')? {
                return Ok(Value::Array(values));
            }
        }
    }

    fn object(&mut self) -> Result<Value<'a>, Cause> {
        let mut object = Object::new();
        if self.is_empty(b'}')? {
            return Ok(Value::Object(object));
        }
        loop {
            self.skip_spaces();
            let key = match self.rest.first().ok_or(Cause::End)? {
                b'"' => self.string()?,
                _ => return Err(Cause::Key),
            };
            self.skip_spaces();
            match self.rest.split_first().ok_or(Cause::End)? {
                (b':', rest) => self.rest = rest,
                _ => return Err(Cause::Colon),
            }
            object.push(key, self.value()?);
            if self.is_last(b'}')? {
                return Ok(Value::Object(object));
            }
        }
    }

    /// Takes the opening bracket; whether the closing one follows at once.
    fn is_empty(&mut self, closing: u8) -> Result<bool, Cause> {
        self.next()?;
        self.skip_spaces();
        if self.rest.is_empty() { Err(Cause::End) } else { Ok(self.take(closing)) }
    }

    /// Takes what follows a value in an array or an object; whether it is the closing bracket.
    fn is_last(&mut self, closing: u8) -> Result<bool, Cause> {
        self.skip_spaces();
        match self.rest.split_first().ok_or(Cause::End)? {
            (b',', rest) => {
                self.rest = rest;
                Ok(false)
            }
            _ if self.take(closing) => Ok(true),
            _ => Err(Cause::Comma),
        }
    }

    fn number(&mut self) -> Result<Value<'a>, Cause> {
        let start = self.rest;
        self.take(b'-');
        // Nothing follows a leading zero.
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _is_signed = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let text = start.get(..start.len() - self.rest.len()).unwrap_or_default();
        Ok(Value::Number(Number(Cow::Borrowed(utf8(text)?))))
    }

    /// Takes one digit at least.
    fn digits(&mut self) -> Result<(), Cause> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Err(if self.rest.is_empty() { Cause::End } else { Cause::Digit });
        }
        self.skip(digits);
        Ok(())
    }

    /// Reads a string; it is borrowed unless there are escapes in it.
    fn string(&mut self) -> Result<Cow<'a, str>, Cause> {
        self.next()?;
        let plain = self.plain()?;
        if self.take(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = String::from(plain);
        while !self.take(b'"') {
            text.push(self.escape()?);
            text.push_str(self.plain()?);
        }
        Ok(Cow::Owned(text))
    }

    /// Takes the characters that stand for themselves.
    fn plain(&mut self) -> Result<&'a str, Cause> {
        let is_plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | 0..=0x1f);
        let plain = self.rest.iter().take_while(is_plain).count();
        let text = utf8(self.rest.get(..plain).unwrap_or_default())?;
        self.skip(plain);
        Ok(text)
    }

    fn escape(&mut self) -> Result<char, Cause> {
        if !self.take(b'\\') {
            return Err(if self.rest.is_empty() { Cause::End } else { Cause::Control });
        }
        Ok(match self.rest.split_first().ok_or(Cause::End)? {
            (b'u', _) => return self.unicode(),
            (character @ (b'"' | b'\\' | b'/'), rest) => self.escaped(char::from(*character), rest),
            (b'b', rest) => self.escaped('\u{8}', rest),
            (b'f', rest) => self.escaped('\u{c}', rest),
            (b'n', rest) => self.escaped('\n', rest),
            (b'r', rest) => self.escaped('\r', rest),
            (b't', rest) => self.escaped('\t', rest),
            _ => return Err(Cause::Escape),
        })
    }

    fn escaped(&mut self, character: char, rest: &'a [u8]) -> char {
        self.rest = rest;
        character
    }

    /// The character that one UTF-16 code unit stands for, or two of them.
    fn unicode(&mut self) -> Result<char, Cause> {
        let first = self.code_unit()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first).ok_or(Cause::Surrogate);
        }
        if !self.take(b'\\') || self.rest.first() != Some(&b'u') {
            return Err(Cause::Surrogate);
        }
        let second = self.code_unit()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(Cause::Surrogate);
        }
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(Cause::Surrogate)
    }

    /// Takes the `u` and the four digits of a code unit.
    fn code_unit(&mut self) -> Result<u32, Cause> {
        self.next()?;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.rest.first().ok_or(Cause::End)?.to_ascii_lowercase();
            unit = unit << 4 | u32::from(hex_digit(digit).ok_or(Cause::Escape)?);
            self.skip(1);
        }
        Ok(unit)
    }

    fn skip_spaces(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn next(&mut self) -> Result<(), Cause> {
        (_, self.rest) = self.rest.split_first().ok_or(Cause::End)?;
        Ok(())
    }

    /// Takes the byte if it is the next one.
    fn take(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Cause> {
    core::str::from_utf8(bytes).map_err(|_| Cause::Utf8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value as Theirs;

    fn cause(text: &[u8]) -> Cause {
        parse(text).unwrap_err().cause
    }

    #[test]
    fn reads_every_kind_of_value() {
        let text = br#" { "n" : null, "t":true,"f":false ,"d":-1.50e+2,"s":"","a":[ ],"o":{ },"l":[1, [2,{"k":3}]]}"#;
        let value = parse(text).unwrap();
        let object = value.as_object().unwrap();
        assert_eq!(object.keys().collect::<Vec<_>>(), ["n", "t", "f", "d", "s", "a", "o", "l"]);
        assert_eq!((value.get("n"), value.get("x")), (Some(&Value::Null), None));
        assert_eq!([value.get("t"), value.get("f")].map(|truth| truth.unwrap().as_bool()), [Some(true), Some(false)]);
        assert_eq!(value.get("d").unwrap().as_number().unwrap().as_str(), "-1.50e+2");
        assert_eq!((value.get("s").unwrap().as_str(), value.get("a").unwrap().as_array()), (Some(""), Some(&[][..])));
        assert!(value.get("o").unwrap().as_object().unwrap().is_empty());
        let [one, inner] = value.get("l").unwrap().as_array().unwrap() else { panic!("{value:?}") };
        assert_eq!((one.as_i64(), inner.as_array().unwrap()[1].get("k").unwrap().as_u64()), (Some(1), Some(3)));
    }

    #[test]
    fn of_a_repeated_key_the_last_one_counts_and_all_are_counted() {
        let value = parse(br#"{"a":1,"b":2,"a":3}"#).unwrap();
        let mut object = value.as_object().unwrap().clone();
        assert_eq!((object.len(), object.count("a"), object.count("b"), object.count("c")), (3, 2, 1, 0));
        assert_eq!(object.get("a").unwrap().as_i64(), Some(3));
        assert_eq!(object.remove("a").unwrap().as_i64(), Some(3));
        assert_eq!(object.get("a").unwrap().as_i64(), Some(1));
    }

    #[test]
    fn each_refusal_names_its_own_rule_and_its_place() {
        use Cause as C;
        for (text, why, line, column) in [
            (&b""[..], C::End, 1, 1),
            (b" \n", C::End, 2, 1),
            (b"[", C::End, 1, 2),
            (b"[1", C::End, 1, 3),
            (b"[1,", C::End, 1, 4),
            (b"{", C::End, 1, 2),
            (b"{\"a\"", C::End, 1, 5),
            (b"{\"a\":", C::End, 1, 6),
            (b"{\"a\":1,", C::End, 1, 8),
            (b"\"a", C::End, 1, 3),
            (b"\"a\\", C::End, 1, 4),
            (b"\"\\u00", C::End, 1, 6),
            (b"-", C::End, 1, 2),
            (b"1.", C::End, 1, 3),
            (b"x", C::Value, 1, 1),
            (b"nul", C::Value, 1, 1),
            (b"True", C::Value, 1, 1),
            (b"+1", C::Value, 1, 1),
            (b".5", C::Value, 1, 1),
            (b"\xef\xbb\xbf{}", C::Value, 1, 1),
            (b"[1,]", C::Value, 1, 4),
            (b"[,1]", C::Value, 1, 2),
            (b"{\n\"a\":\n}", C::Value, 3, 1),
            (b"{1:2}", C::Key, 1, 2),
            (b"{\"a\":1,}", C::Key, 1, 8),
            (b"{\"a\" 1}", C::Colon, 1, 6),
            (b"[1 2]", C::Comma, 1, 4),
            (b"[1}", C::Comma, 1, 3),
            (b"{\"a\":1]", C::Comma, 1, 7),
            (b"[01]", C::Comma, 1, 3),
            (b"[1.]", C::Digit, 1, 4),
            (b"[-]", C::Digit, 1, 3),
            (b"[1e]", C::Digit, 1, 4),
            (b"[1e+]", C::Digit, 1, 5),
            (b"\"a\nb\"", C::Control, 1, 3),
            (b"\"\0\"", C::Control, 1, 2),
            (b"\"a\xff\"", C::Utf8, 1, 2),
            (b"\"\xed\xa0\x80\"", C::Utf8, 1, 2),
            (b"\"\\x\"", C::Escape, 1, 3),
            (b"\"\\u00g0\"", C::Escape, 1, 6),
            (b"\"\\u+123\"", C::Escape, 1, 4),
            (b"\"\\ud800\"", C::Surrogate, 1, 8),
            (b"\"\\ud800\\n\"", C::Surrogate, 1, 9),
            (b"\"\\ud800\\u0041\"", C::Surrogate, 1, 14),
            (b"\"\\udc00\"", C::Surrogate, 1, 8),
            (b"{} {}", C::Trailing, 1, 4),
            (b"null\n\nx", C::Trailing, 3, 1),
            (b"1 2", C::Trailing, 1, 3),
        ] {
            let expected = JsonError { cause: why, line, column };
            assert_eq!(parse(text), Err(expected), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn an_error_is_one_clause_with_its_place() {
        assert_eq!(
            parse(b"[1\n2]").unwrap_err().to_string(),
            "a comma or the closing bracket is missing at line 2 column 1"
        );
    }

    #[test]
    fn escapes_become_their_characters_and_other_strings_are_borrowed() {
        for (text, expected) in [
            (r#""plain / grün \u007f""#, "plain / grün \u{7f}"),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r#""\u0000\u00e9\uFFFF\ud83d\uDE00""#, "\0é\u{ffff}😀"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap().as_str(), Some(expected));
        }
        let Ok(Value::String(Cow::Borrowed(text))) = parse("\"grün\"".as_bytes()) else { panic!("not borrowed") };
        assert_eq!(text, "grün");
    }

    #[test]
    fn values_nest_as_deeply_as_allowed_and_no_deeper() {
        for (open, close) in [("[", "]"), ("{\"k\":", "}")] {
            let nested = |depth: usize| [open.repeat(depth), "1".into(), close.repeat(depth)].concat();
            let deepest = DEPTH_MAX as usize;
            assert!(parse(nested(deepest).as_bytes()).is_ok());
            assert_eq!(cause(nested(deepest + 1).as_bytes()), Cause::Depth);
        }
        let beside = format!("[{}1]", "[],".repeat(1000));
        assert!(parse(beside.as_bytes()).is_ok(), "what lies side by side is not deep");
    }

    /// Whether both readers found the same.
    fn same(ours: &Value<'_>, theirs: &Theirs) -> bool {
        match (ours, theirs) {
            (Value::Null, Theirs::Null) => true,
            (Value::Bool(ours), Theirs::Bool(theirs)) => ours == theirs,
            (Value::String(ours), Theirs::String(theirs)) => ours == theirs,
            (Value::Number(ours), Theirs::Number(theirs)) => same_number(ours, theirs),
            (Value::Array(ours), Theirs::Array(theirs)) => {
                ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| same(ours, theirs))
            }
            (Value::Object(ours), Theirs::Object(theirs)) => {
                ours.keys().all(|key| theirs.contains_key(key))
                    && theirs.iter().all(|(key, theirs)| ours.get(key).is_some_and(|ours| same(ours, theirs)))
            }
            _ => false,
        }
    }

    fn same_number(ours: &Number<'_>, theirs: &serde_json::Number) -> bool {
        let (Some(our_double), Some(their_double)) = (ours.as_f64(), theirs.as_f64()) else { return false };
        // Their integers have no minus zero.
        let is_same_integer =
            ours.as_str() == "-0" || (ours.as_i64(), ours.as_u64()) == (theirs.as_i64(), theirs.as_u64());
        is_same_integer && (our_double - their_double).abs() <= their_double.abs() * 1e-14
    }

    /// Whether every number is within the range of doubles: the other reader refuses others at once.
    fn is_in_range(value: &Value<'_>) -> bool {
        match value {
            Value::Number(number) => number.as_f64().is_some(),
            Value::Array(values) => values.iter().all(is_in_range),
            Value::Object(object) => object.keys().all(|key| object.get(key).is_some_and(is_in_range)),
            Value::Null | Value::Bool(_) | Value::String(_) => true,
        }
    }

    fn document() -> impl Strategy<Value = Theirs> {
        let leaf = prop_oneof![
            Just(Theirs::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            (-1e6..1e6).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
            "[ -~]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map("[a-c\\\\\"é]{0,2}", inner, 0..6)
                    .prop_map(|members| Theirs::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Puts bytes that mean something to JSON, and others, into the place of some.
    fn mutated(document: &Theirs, changes: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
        const TELLING: &[u8] = b"{}[]\",:\\/u0123456789abcdefnrt.+-eE \n\t\0\x7f\xc3\xa9\xed\xff";
        let mut text = document.to_string().into_bytes();
        for (at, what, how) in changes {
            let byte = TELLING[usize::from(*what) % TELLING.len()];
            let at = at.index(text.len() + 1);
            match how % 3 {
                0 => text.insert(at, byte),
                1 if at < text.len() => text[at] = byte,
                2 if at < text.len() => drop(text.remove(at)),
                _ => text.truncate(at),
            }
        }
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn what_is_written_reads_back_the_same(document in document()) {
            for text in [serde_json::to_string(&document).unwrap(), serde_json::to_string_pretty(&document).unwrap()] {
                let value = parse(text.as_bytes());
                prop_assert!(value.as_ref().is_ok_and(|value| same(value, &document)), "{text}: {value:?}");
            }
        }

        #[test]
        fn both_readers_take_and_refuse_the_same(
            document in document(),
            changes in prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 1..4),
        ) {
            let text = mutated(&document, &changes);
            match (parse(&text), serde_json::from_slice::<Theirs>(&text)) {
                (Ok(ours), Ok(theirs)) => prop_assert!(same(&ours, &theirs), "{ours:?} is not {theirs}"),
                (Ok(ours), Err(why)) => prop_assert!(!is_in_range(&ours), "{ours:?} is taken, but {why}"),
                (Err(why), Ok(theirs)) => prop_assert!(false, "{theirs} is refused: {why}"),
                (Err(_), Err(_)) => {}
            }
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let ours = parse(&bytes).is_ok();
            prop_assert_eq!(ours, serde_json::from_slice::<Theirs>(&bytes).is_ok());
        }
    }
}
