//! How long a request waited in front of the proxy (New Relic agents' queue time).

use crate::url::parse_decimal;

/// 2000-01-01 and 2050-01-01 in Unix nanoseconds: the unit of a time stamp is the one that falls between.
const EARLIEST_NS: u128 = 946_684_800_000_000_000;
const LATEST_NS: u128 = 2_524_608_000_000_000_000;

const NANO: u128 = 1_000_000_000;

/// Nanoseconds from the first usable time stamp of `X-Queue-Start` and `X-Request-Start` to the start of the request.
pub(super) fn queue_ns(queue_start: Option<&[u8]>, request_start: Option<&[u8]>, start_ns: u64) -> Option<u64> {
    let queued_at = [queue_start, request_start].into_iter().flatten().find_map(timestamp_ns)?;
    Some(start_ns.saturating_sub(queued_at))
}

/// Reads `t=<number>` or `<number>`, in microseconds, milliseconds or seconds.
fn timestamp_ns(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    let value = value.strip_prefix(b"t=").unwrap_or(value);
    // A billionth of the unit, so that fractions stay exact.
    let billionths = billionths(value)?;
    [1_000_u128, 1_000_000, NANO]
        .into_iter()
        .map(|unit_ns| billionths * unit_ns / NANO)
        .find(|ns| (EARLIEST_NS..LATEST_NS).contains(ns))
        .and_then(|ns| u64::try_from(ns).ok())
}

/// Reads a decimal number, in billionths; digits behind the ninth do not count.
fn billionths(number: &[u8]) -> Option<u128> {
    let mut halves = number.splitn(2, |byte| *byte == b'.');
    let whole = parse_decimal(halves.next()?)?;
    let mut fraction = 0;
    if let Some(digits) = halves.next() {
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let padded = digits.iter().copied().chain(core::iter::repeat(b'0')).take(9);
        fraction = padded.fold(0, |value, digit| value * 10 + u128::from(digit - b'0'));
    }
    Some(u128::from(whole) * NANO + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_750_000_000_250_000_000;

    #[test]
    fn finds_the_unit_by_the_date_that_it_yields() {
        for (value, expected) in [
            ("t=1750000000000000", Some(250_000_000)),
            ("1750000000000", Some(250_000_000)),
            ("t=1750000000", Some(250_000_000)),
            ("1750000000.125", Some(125_000_000)),
            ("t=1750000000000.5", Some(249_500_000)),
            ("t=1750000001000000", Some(0)),
            ("17", None),
            ("t=", None),
            ("-1750000000", None),
            ("1750000000.x", None),
            ("99999999999999999999999", None),
            ("\u{fe}", None),
        ] {
            assert_eq!(queue_ns(Some(value.as_bytes()), None, START), expected, "{value}");
        }
    }

    #[test]
    fn the_first_usable_header_wins() {
        let (queue, request) = (Some(&b"t=1750000000000000"[..]), Some(&b"1750000000.125"[..]));
        assert_eq!(queue_ns(queue, request, START), Some(250_000_000));
        assert_eq!(queue_ns(Some(b"soon"), request, START), Some(125_000_000));
        assert_eq!(queue_ns(None, None, START), None);
    }
}
