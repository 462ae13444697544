//! Request headers as the proxy hands them over, and the changes that tracing asks for.
//!
//! ```text
//! pairs = count:u32le count*( name-length:u32le value-length:u32le ) count*( name NUL value NUL )
//! ```
//! (proxy-wasm ABI, `proxy_get_header_map_pairs`.) Names are lower-case; a name may occur on several lines;
//! values are any bytes without NUL, CR and LF.

use alloc::vec::Vec;

/// The header lines of one message, in order of appearance. A cut-off buffer simply ends early.
#[derive(Clone, Copy, Debug)]
pub struct HeaderPairs<'a> {
    lengths: &'a [u8],
    data: &'a [u8],
}

impl<'a> HeaderPairs<'a> {
    /// Views a serialized header map.
    pub fn new(buffer: &'a [u8]) -> Self {
        let empty = Self { lengths: &[], data: &[] };
        let Some((count, rest)) = buffer.split_first_chunk::<4>() else { return empty };
        let Some(bytes) = usize::try_from(u32::from_le_bytes(*count)).ok().and_then(|count| count.checked_mul(8))
        else {
            return empty;
        };
        match rest.split_at_checked(bytes) {
            Some((lengths, data)) => Self { lengths, data },
            None => empty,
        }
    }
}

impl<'a> Iterator for HeaderPairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_length, rest) = self.lengths.split_first_chunk::<4>()?;
        let (value_length, rest) = rest.split_first_chunk::<4>()?;
        self.lengths = rest;
        let name = take_terminated(&mut self.data, *name_length)?;
        let value = take_terminated(&mut self.data, *value_length)?;
        Some((name, value))
    }
}

/// Takes `length` bytes and the NUL behind them.
fn take_terminated<'a>(data: &mut &'a [u8], length: [u8; 4]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
    let (text, rest) = data.split_at_checked(length)?;
    *data = rest.split_first()?.1;
    Some(text)
}

/// Serializes header lines the way the host does; for tests and for outgoing calls.
pub fn serialize_pairs<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Vec<u8> {
    let length = |text: &[u8]| u32::try_from(text.len()).unwrap_or(0).to_le_bytes();
    let count = u32::try_from(pairs.clone().count()).unwrap_or(0);
    let mut out = count.to_le_bytes().to_vec();
    for (name, value) in pairs.clone() {
        out.extend_from_slice(&length(name));
        out.extend_from_slice(&length(value));
    }
    for (name, value) in pairs {
        for text in [name, value] {
            out.extend_from_slice(text);
            out.push(0);
        }
    }
    out
}

/// A header of which only one line counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field<'a> {
    /// The first line, when there is one.
    pub first: Option<&'a [u8]>,
    /// How many lines there are.
    pub lines: u32,
}

impl<'a> Field<'a> {
    fn add(&mut self, value: &'a [u8]) {
        self.first.get_or_insert(value);
        self.lines += 1;
    }

    /// Whether any line is there.
    pub fn is_present(self) -> bool {
        self.lines > 0
    }
}

/// The header lines that tracing looks at, found in one pass over the map.
#[derive(Clone, Copy, Debug)]
pub struct RequestHeaders<'a> {
    /// All lines, for the names that an operator configures and for repeated `tracestate` lines.
    pub pairs: HeaderPairs<'a>,
    /// W3C.
    pub traceparent: Field<'a>,
    /// W3C; further lines are in `pairs`.
    pub tracestate: Field<'a>,
    /// New Relic.
    pub newrelic: Field<'a>,
    /// Cross Application Tracing.
    pub x_newrelic_id: Field<'a>,
    /// Cross Application Tracing.
    pub x_newrelic_transaction: Field<'a>,
    /// `:method`.
    pub method: &'a [u8],
    /// `:path`, with the query.
    pub path: &'a [u8],
    /// `:authority`.
    pub authority: &'a [u8],
    /// `:scheme`.
    pub scheme: &'a [u8],
    /// `accept`.
    pub accept: Option<&'a [u8]>,
    /// `content-type`.
    pub content_type: Option<&'a [u8]>,
    /// `content-length`.
    pub content_length: Option<&'a [u8]>,
    /// `user-agent`.
    pub user_agent: Option<&'a [u8]>,
    /// `referer`.
    pub referer: Option<&'a [u8]>,
    /// `x-queue-start`.
    pub queue_start: Option<&'a [u8]>,
    /// `x-request-start`.
    pub request_start: Option<&'a [u8]>,
    /// `x-envoy-internal`.
    pub envoy_internal: Option<&'a [u8]>,
}

impl<'a> RequestHeaders<'a> {
    /// Reads a serialized header map.
    pub fn new(buffer: &'a [u8]) -> Self {
        let mut headers = Self {
            pairs: HeaderPairs::new(buffer),
            traceparent: Field::default(),
            tracestate: Field::default(),
            newrelic: Field::default(),
            x_newrelic_id: Field::default(),
            x_newrelic_transaction: Field::default(),
            method: b"",
            path: b"",
            authority: b"",
            scheme: b"",
            accept: None,
            content_type: None,
            content_length: None,
            user_agent: None,
            referer: None,
            queue_start: None,
            request_start: None,
            envoy_internal: None,
        };
        for (name, value) in headers.pairs {
            headers.note(name, value);
        }
        headers
    }

    fn note(&mut self, name: &'a [u8], value: &'a [u8]) {
        match name {
            b":method" => self.method = value,
            b":path" => self.path = value,
            b":authority" => self.authority = value,
            b":scheme" => self.scheme = value,
            b"traceparent" => self.traceparent.add(value),
            b"tracestate" => self.tracestate.add(value),
            b"newrelic" => self.newrelic.add(value),
            b"x-newrelic-id" => self.x_newrelic_id.add(value),
            b"x-newrelic-transaction" => self.x_newrelic_transaction.add(value),
            b"accept" => first(&mut self.accept, value),
            b"content-type" => first(&mut self.content_type, value),
            b"content-length" => first(&mut self.content_length, value),
            b"user-agent" => first(&mut self.user_agent, value),
            b"referer" => first(&mut self.referer, value),
            b"x-queue-start" => first(&mut self.queue_start, value),
            b"x-request-start" => first(&mut self.request_start, value),
            b"x-envoy-internal" => first(&mut self.envoy_internal, value),
            _ => {}
        }
    }

    /// The first line with this lower-case name.
    pub fn line(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.lines(name).next()
    }

    /// Every line with this lower-case name, in order.
    pub fn lines<'b>(&self, name: &'b [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, 'b> {
        self.pairs.filter(move |(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The path without query, fragment and matrix parameters.
    pub fn path_only(&self) -> &'a [u8] {
        crate::url::path_only(self.path)
    }
}

fn first<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8]) {
    slot.get_or_insert(value);
}

/// Removes blanks and tabs (`OWS`) on both sides.
pub fn trim_ows(text: &[u8]) -> &[u8] {
    let is_ows = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !is_ows(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_ows(byte)).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

/// One change of the message that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit {
    /// The header has exactly this one line afterwards.
    Set(&'static str, Vec<u8>),
    /// The header has no line afterwards.
    Remove(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(pairs: &[(&str, &[u8])]) -> Vec<u8> {
        serialize_pairs(pairs.iter().map(|(name, value)| (name.as_bytes(), *value)))
    }

    #[test]
    fn reads_every_line_in_order_with_any_bytes() {
        let buffer = buffer(&[("tracestate", b"a=1"), ("x", b"\xff\xfe"), ("tracestate", b"b=2")]);
        let headers = RequestHeaders::new(&buffer);
        assert_eq!(headers.tracestate, Field { first: Some(b"a=1"), lines: 2 });
        assert_eq!(headers.lines(b"tracestate").collect::<Vec<_>>(), [b"a=1", b"b=2"]);
        assert_eq!(headers.line(b"x"), Some(&b"\xff\xfe"[..]));
    }

    #[test]
    fn a_cut_off_buffer_ends_early_and_never_panics() {
        let whole = buffer(&[(":path", b"/a"), ("traceparent", b"00")]);
        for length in 0..whole.len() {
            let cut = whole.get(..length).unwrap();
            assert!(HeaderPairs::new(cut).count() <= 2, "{length}");
        }
        assert_eq!(HeaderPairs::new(&u32::MAX.to_le_bytes()).count(), 0);
    }

    #[test]
    fn trims_blanks_and_tabs_only() {
        for (text, expected) in [("  a b\t", "a b"), ("", ""), (" \t ", ""), ("\na", "\na")] {
            assert_eq!(trim_ows(text.as_bytes()), expected.as_bytes());
        }
    }
}
