//! Header maps as Envoy keeps them: many lines per name, lower-case names, any bytes as values.
//!
//! Source: Envoy `source/common/http/header_map_impl.cc`.

use std::borrow::Cow;
use std::fmt;

/// Names of which Envoy keeps one line: a second line is joined to the first with a comma.
///
/// The part of Envoy's O(1) headers (`envoy/http/header_map.h`, `INLINE_REQ_RESP_HEADERS` and its
/// kin) that real traffic repeats.
const JOINED: &[&[u8]] = &[
    b":authority",
    b":method",
    b":path",
    b":scheme",
    b":status",
    b"connection",
    b"content-length",
    b"content-type",
    b"expect",
    b"grpc-status",
    b"grpc-message",
    b"te",
    b"transfer-encoding",
    b"upgrade",
    b"user-agent",
    b"via",
    b"x-client-trace-id",
    b"x-envoy-attempt-count",
    b"x-envoy-decorator-operation",
    b"x-envoy-expected-rq-timeout-ms",
    b"x-envoy-force-trace",
    b"x-envoy-internal",
    b"x-envoy-upstream-service-time",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-request-id",
];

/// An ordered multi-map of header lines. Names are lower-case; values are any bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderMap {
    lines: Vec<(Vec<u8>, Vec<u8>)>,
}

impl HeaderMap {
    /// A map without lines.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A map of `lines`, added in order.
    pub fn from_lines<N: AsRef<[u8]>, V: AsRef<[u8]>>(lines: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut map = Self::new();
        for (name, value) in lines {
            map.add(name, value);
        }
        map
    }

    /// The value of the first line with this name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.all(name).into_iter().next()
    }

    /// The value of the first line with this name as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self, name: impl AsRef<[u8]>) -> Option<Cow<'_, str>> {
        self.get(name).map(String::from_utf8_lossy)
    }

    /// The values of all lines with this name, in order.
    pub fn all(&self, name: impl AsRef<[u8]>) -> Vec<&[u8]> {
        let name = name.as_ref().to_ascii_lowercase();
        let lines = self.lines.iter().filter(|(n, _)| *n == name);
        lines.map(|(_, value)| value.as_slice()).collect()
    }

    /// Whether a line has this name.
    pub fn contains(&self, name: impl AsRef<[u8]>) -> bool {
        self.get(name).is_some()
    }

    /// Every line in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|(n, v)| (n.as_slice(), v.as_slice()))
    }

    /// The number of lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The bytes of all names and values, as Envoy counts them.
    #[must_use]
    pub fn byte_size(&self) -> usize {
        self.lines.iter().map(|(n, v)| n.len() + v.len()).sum()
    }

    /// Adds a line. A second line of a header Envoy keeps once is joined to the first with a comma.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (name, value) = (name.as_ref().to_ascii_lowercase(), value.as_ref());
        if JOINED.contains(&name.as_slice())
            && let Some((_, joined)) = self.lines.iter_mut().find(|(n, _)| *n == name)
        {
            joined.push(b',');
            joined.extend_from_slice(value);
            return;
        }
        let at = if name.starts_with(b":") { self.pseudo_len() } else { self.lines.len() };
        self.lines.insert(at, (name, value.to_vec()));
    }

    /// Removes every line with this name, then adds one.
    pub fn replace(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.remove(name.as_ref());
        self.add(name, value);
    }

    /// Removes every line with this name.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) {
        let name = name.as_ref().to_ascii_lowercase();
        self.lines.retain(|(n, _)| *n != name);
    }

    /// The lines of one name joined with commas, as the property `request.headers.<name>` gives them.
    pub(crate) fn joined(&self, name: &[u8]) -> Option<Vec<u8>> {
        let all = self.all(name);
        (!all.is_empty()).then(|| all.join(&b','))
    }

    /// Envoy keeps pseudo headers before all others.
    fn pseudo_len(&self) -> usize {
        self.lines.iter().take_while(|(n, _)| n.starts_with(b":")).count()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> From<&[(N, V)]> for HeaderMap {
    fn from(lines: &[(N, V)]) -> Self {
        Self::from_lines(lines.iter().map(|(n, v)| (n, v)))
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>, const COUNT: usize> From<&[(N, V); COUNT]> for HeaderMap {
    fn from(lines: &[(N, V); COUNT]) -> Self {
        Self::from(lines.as_slice())
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>, const COUNT: usize> From<[(N, V); COUNT]> for HeaderMap {
    fn from(lines: [(N, V); COUNT]) -> Self {
        Self::from_lines(lines)
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> From<Vec<(N, V)>> for HeaderMap {
    fn from(lines: Vec<(N, V)>) -> Self {
        Self::from_lines(lines)
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> From<&Vec<(N, V)>> for HeaderMap {
    fn from(lines: &Vec<(N, V)>) -> Self {
        Self::from(lines.as_slice())
    }
}

impl From<&Self> for HeaderMap {
    fn from(map: &Self) -> Self {
        map.clone()
    }
}

impl fmt::Debug for HeaderMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |(n, v): (&[u8], &[u8])| format!("{}: {}", n.escape_ascii(), v.escape_ascii());
        f.debug_list().entries(self.iter().map(line)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_first_line_and_all_lines_whatever_the_case() {
        let map = HeaderMap::from(&[("TraceState", "a=1"), ("x", "y"), ("tracestate", "b=2")]);
        assert_eq!(map.get("TRACESTATE"), Some(b"a=1".as_slice()));
        assert_eq!(map.all("tracestate"), [b"a=1", b"b=2"]);
        assert_eq!(map.joined(b"tracestate").as_deref(), Some(b"a=1,b=2".as_slice()));
    }

    #[test]
    fn replace_leaves_one_line_at_the_end() {
        let mut map = HeaderMap::from(&[("a", "1"), ("b", "2"), ("a", "3")]);
        map.replace("A", "4");
        assert_eq!(map, HeaderMap::from(&[("b", "2"), ("a", "4")]));
    }

    #[test]
    fn remove_takes_every_line() {
        let mut map = HeaderMap::from(&[("a", "1"), ("b", "2"), ("a", "3")]);
        map.remove("a");
        assert_eq!(map, HeaderMap::from(&[("b", "2")]));
    }

    #[test]
    fn a_header_kept_once_is_joined_with_a_comma() {
        let map = HeaderMap::from(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")]);
        assert_eq!(map.all("x-forwarded-for"), [b"1.1.1.1,2.2.2.2"]);
    }

    #[test]
    fn pseudo_headers_come_first() {
        let mut map = HeaderMap::from(&[(":method", "GET"), ("a", "1")]);
        map.replace(":method", "PUT");
        map.add(":path", "/");
        assert_eq!(map, HeaderMap::from(&[(":method", "PUT"), (":path", "/"), ("a", "1")]));
    }

    #[test]
    fn any_byte_is_a_value() {
        let map = HeaderMap::from(&[("traceparent", [0xff, 0xfe])]);
        assert_eq!(map.get("traceparent"), Some([0xff, 0xfe].as_slice()));
        assert_eq!(format!("{map:?}"), r#"["traceparent: \\xff\\xfe"]"#);
    }
}
