//! Names of transactions and spans, from a bounded set whatever callers send.

use alloc::vec::Vec;

use crate::url;

/// What every transaction name made here begins with.
pub(super) const WEB_TRANSACTION_PREFIX: &str = "WebTransaction/Envoy/";

/// Longer names are cut.
const NAME_BYTES_MAX: usize = 255;

/// Longer path segments are taken for ids.
const SEGMENT_BYTES_MAX: usize = 32;

/// Segments of so many hex digits, with or without dashes, are taken for ids.
const HEX_SEGMENT_BYTES_MIN: usize = 8;

/// The methods that names show; a client can invent others (OpenTelemetry's rule and replacement).
const METHODS: [&[u8]; 9] = [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"PATCH", b"OPTIONS", b"CONNECT", b"TRACE"];

/// The method as names show it.
pub(super) fn method(method: &[u8]) -> &[u8] {
    if METHODS.contains(&method) { method } else { b"_OTHER" }
}

/// `WebTransaction/Envoy/{route}`, or `WebTransaction/Envoy/{method} {path}` with ids in the path replaced by `*`.
///
/// `route_name` counts unless it is empty or `default`, as Istio calls every route. `path` comes without its query.
pub(super) fn transaction(route_name: &[u8], request_method: &[u8], path: &[u8]) -> Vec<u8> {
    let mut name = WEB_TRANSACTION_PREFIX.as_bytes().to_vec();
    if route_name.is_empty() || route_name == b"default" {
        name.extend_from_slice(method(request_method));
        name.push(b' ');
        for (position, segment) in path.split(|byte| *byte == b'/').enumerate() {
            if position > 0 {
                name.push(b'/');
            }
            name.extend_from_slice(if is_id(segment) { b"*" } else { segment });
        }
    } else {
        name.extend_from_slice(route_name);
    }
    cut(name)
}

/// The name cut to its longest length, on a character boundary.
fn cut(mut name: Vec<u8>) -> Vec<u8> {
    let is_inside = |end: &usize| name.get(*end).is_some_and(|byte| byte & 0xc0 == 0x80);
    if name.len() > NAME_BYTES_MAX {
        let end = (0..=NAME_BYTES_MAX).rev().find(|end| !is_inside(end)).unwrap_or(NAME_BYTES_MAX);
        name.truncate(end);
    }
    name
}

/// A segment that names a thing rather than a kind of things.
fn is_id(segment: &[u8]) -> bool {
    let is_hex = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    segment.len() > SEGMENT_BYTES_MAX
        || segment.iter().any(u8::is_ascii_digit)
        || (segment.len() >= HEX_SEGMENT_BYTES_MIN && segment.iter().all(is_hex))
}

/// The part of a transaction name that OpenTelemetry uses as the span's name.
pub(super) fn without_prefix(name: &[u8]) -> &[u8] {
    name.strip_prefix(WEB_TRANSACTION_PREFIX.as_bytes()).unwrap_or(name)
}

/// `host[:port]` in lower case as external names show it: without the scheme's own port, `unknown` when empty.
pub(super) fn external_host(scheme: &[u8], authority: &[u8]) -> Vec<u8> {
    let authority = url::without_userinfo(authority);
    let own_port = match scheme {
        b"http" => Some(80),
        b"https" => Some(443),
        _ => None,
    };
    let (host, port) = url::split_port(authority);
    let shown = if port.is_some() && port == own_port { host } else { authority };
    if shown.is_empty() { b"unknown".to_vec() } else { shown.to_ascii_lowercase() }
}

/// `External/{host}/envoy/{method}`.
pub(super) fn external(host: &[u8], request_method: &[u8]) -> Vec<u8> {
    let name = [b"External/", host, b"/envoy/", method(request_method)].concat();
    cut(name)
}

/// `Datastore/operation/{product}/{method}`.
pub(super) fn datastore(product: &str, request_method: &[u8]) -> Vec<u8> {
    let name = [b"Datastore/operation/", product.as_bytes(), b"/", method(request_method)].concat();
    cut(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: Vec<u8>) -> String {
        String::from_utf8(name).unwrap()
    }

    #[test]
    fn ids_in_paths_become_asterisks() {
        for (path, expected) in [
            ("/cart/17", "GET /cart/*"),
            ("/cart/item", "GET /cart/item"),
            ("/", "GET /"),
            ("", "GET "),
            ("/v1/users", "GET /*/users"),
            ("/deadbeef/x", "GET /*/x"),
            ("/facade/x", "GET /facade/x"),
            ("/6f1c1f9e-2f7b-4a55-9f0e-0a1b2c3d4e5f", "GET /*"),
            ("/this-segment-is-longer-than-thirty-two/x", "GET /*/x"),
        ] {
            assert_eq!(
                text(transaction(b"", b"GET", path.as_bytes())),
                format!("WebTransaction/Envoy/{expected}"),
                "{path}"
            );
        }
    }

    #[test]
    fn a_route_name_wins_unless_it_says_nothing() {
        assert_eq!(text(transaction(b"checkout", b"GET", b"/a")), "WebTransaction/Envoy/checkout");
        assert_eq!(text(transaction(b"default", b"GET", b"/a")), "WebTransaction/Envoy/GET /a");
    }

    #[test]
    fn invented_methods_do_not_make_new_names() {
        assert_eq!(text(transaction(b"", b"BREW", b"/a")), "WebTransaction/Envoy/_OTHER /a");
        assert_eq!(text(external(b"shop", b"brew")), "External/shop/envoy/_OTHER");
    }

    #[test]
    fn external_hosts_leave_out_the_schemes_own_port() {
        for (scheme, authority, expected) in [
            ("http", "payments:8443", "payments:8443"),
            ("http", "Payments:80", "payments"),
            ("https", "payments:443", "payments"),
            ("https", "payments:80", "payments:80"),
            ("http", "u:p@payments", "payments"),
            ("http", "[::1]:80", "[::1]"),
            ("http", "", "unknown"),
        ] {
            let host = external_host(scheme.as_bytes(), authority.as_bytes());
            assert_eq!(text(host), expected, "{scheme} {authority}");
        }
    }

    #[test]
    fn names_have_a_longest_length() {
        assert_eq!(transaction(&[b'r'; 4000], b"GET", b"/").len(), NAME_BYTES_MAX);
        assert_eq!(external(&[b'h'; 4000], b"GET").len(), NAME_BYTES_MAX);
        let name = transaction("ä".repeat(4000).as_bytes(), b"GET", b"/");
        assert!(core::str::from_utf8(&name).is_ok() && name.len() > NAME_BYTES_MAX - 2, "{}", name.len());
    }
}
