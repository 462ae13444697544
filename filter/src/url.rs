//! URLs as they are recorded: no userinfo, no query, no fragment, no matrix parameters; nothing re-encoded.

use alloc::vec::Vec;

/// A path or URL up to its matrix parameters, query or fragment, whichever comes first.
pub fn path_only(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| matches!(byte, b'?' | b'#' | b';')).unwrap_or(text.len());
    text.get(..end).unwrap_or(text)
}

/// Removes what may be secret from a URL, with or without a scheme, or from a path.
///
/// The query is cut first, so that an `@` inside it is not read as the end of a userinfo.
pub fn sanitize(url: &[u8]) -> Vec<u8> {
    let url = path_only(url);
    let start = scheme_bytes(url);
    let (scheme, rest) = url.split_at_checked(start).unwrap_or((&[], url));
    let authority_end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(authority_end).unwrap_or((rest, &[]));
    [scheme, without_userinfo(authority), path].concat()
}

/// Bytes of the scheme with its `://`; 0 when there is none. A later `://` belongs to the path, or to a userinfo.
fn scheme_bytes(url: &[u8]) -> usize {
    let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let end = url.iter().position(|byte| !is_scheme(byte)).unwrap_or(url.len());
    let has_authority = end > 0 && url.get(end..).is_some_and(|rest| rest.starts_with(b"://"));
    if has_authority { end + 3 } else { 0 }
}

/// The authority behind its last `@`.
pub fn without_userinfo(authority: &[u8]) -> &[u8] {
    let start = authority.iter().rposition(|byte| *byte == b'@').map_or(0, |position| position + 1);
    authority.get(start..).unwrap_or(authority)
}

/// Host and port of an authority without userinfo. An IPv6 address keeps its brackets.
pub fn split_port(authority: &[u8]) -> (&[u8], Option<u16>) {
    let Some(colon) = authority.iter().rposition(|byte| *byte == b':') else { return (authority, None) };
    let Some((host, digits)) = authority.split_at_checked(colon) else { return (authority, None) };
    match digits.get(1..).and_then(parse_decimal).and_then(|port| u16::try_from(port).ok()) {
        Some(port) => (host, Some(port)),
        None => (authority, None),
    }
}

/// Reads decimal digits; `None` when there are none, for anything else, and beyond 64 bits.
pub fn parse_decimal(digits: &[u8]) -> Option<u64> {
    // So many digits surely fit; WebAssembly multiplies with a check by a call of a function of 128 bits.
    const FITTING: usize = 19;
    let (first, rest) = digits.split_at_checked(FITTING).unwrap_or((digits, &[]));
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = first.iter().fold(0_u64, |value, digit| value.wrapping_mul(10).wrapping_add(u64::from(digit & 0xf)));
    rest.iter().try_fold(value, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit & 0xf)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// New Relic's rules for recorded URLs (agents' `url_clean` cases follow them).
    #[test]
    fn drops_userinfo_query_fragment_and_matrix_parameters() {
        for (url, expected) in [
            ("https://u:p@shop.test:8443/a/b;v=1?x=1#f", "https://shop.test:8443/a/b"),
            ("shop.test/a?token=1", "shop.test/a"),
            ("bob@shop.test/a", "shop.test/a"),
            ("/a/b?x=y@z", "/a/b"),
            ("http://shop.test", "http://shop.test"),
            ("/a@b/c", "/a@b/c"),
            ("http://a@b@c/d", "http://c/d"),
            ("bob:pw@shop.test/go/http://x", "shop.test/go/http://x"),
            ("", ""),
        ] {
            assert_eq!(sanitize(url.as_bytes()), expected.as_bytes(), "{url}");
        }
    }

    #[test]
    fn splits_a_port_from_its_host() {
        for (authority, host, port) in [
            ("payments:8443", "payments", Some(8443)),
            ("payments", "payments", None),
            ("[::1]:80", "[::1]", Some(80)),
            ("[::1]", "[::1]", None),
            ("payments:", "payments:", None),
            ("payments:99999", "payments:99999", None),
        ] {
            assert_eq!(split_port(authority.as_bytes()), (host.as_bytes(), port), "{authority}");
        }
    }
}
