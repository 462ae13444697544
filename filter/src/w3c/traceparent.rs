//! The `traceparent` header (W3C Trace Context, section 3.2).
//!
//! ```text
//! traceparent = version "-" trace-id "-" parent-id "-" trace-flags
//! version     = 2HEXDIGLC     ; "ff" is forbidden; after a later version than "00" more may follow behind "-"
//! trace-id    = 32HEXDIGLC    ; not all zero
//! parent-id   = 16HEXDIGLC    ; not all zero
//! trace-flags = 2HEXDIGLC     ; bit field
//! ```

use alloc::vec::Vec;

use crate::headers::trim_ows;
use crate::id::{SpanId, TraceId, hex_byte};

/// A valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace.
    pub trace_id: TraceId,
    /// The calling span.
    pub parent_id: SpanId,
    /// What the caller says of the trace.
    pub flags: TraceFlags,
}

/// The trace flags that we know: `sampled` and, of Level 2, `random`. Others are read as zero, as W3C asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFlags {
    /// Bit 0: the caller may have recorded the trace.
    pub sampled: bool,
    /// Bit 1 (Level 2): the right-most 7 bytes of the trace id are random.
    pub random: bool,
}

impl TraceFlags {
    /// Keeps the bits that are defined.
    fn from_bits(bits: u8) -> Self {
        Self { sampled: bits & 1 != 0, random: bits & 2 != 0 }
    }

    /// The flags on the wire: two hex digits.
    pub fn to_hex(self) -> [u8; 2] {
        [b'0', b'0' + u8::from(self.sampled) + 2 * u8::from(self.random)]
    }
}

/// The rule that a `traceparent` breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceparentError {
    /// More than one header line.
    Repeated,
    /// Not two lower-case hex digits, or `ff`.
    Version,
    /// Not 32 lower-case hex digits, or all zero.
    TraceId,
    /// Not 16 lower-case hex digits, or all zero.
    ParentId,
    /// Not two lower-case hex digits.
    Flags,
    /// Something behind the flags that the version does not allow.
    TrailingData,
}

impl core::fmt::Display for TraceparentError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Self::Repeated => "more than one traceparent line",
            Self::Version => "version is not two lower-case hex digits, or is ff",
            Self::TraceId => "trace-id is not 32 lower-case hex digits, or is all zero",
            Self::ParentId => "parent-id is not 16 lower-case hex digits, or is all zero",
            Self::Flags => "trace-flags are not two lower-case hex digits",
            Self::TrailingData => "data behind the flags",
        })
    }
}

/// Bytes of a version `00` header.
pub const BYTES: usize = 55;

/// Reads one header value; blanks and tabs around it do not count.
///
/// # Errors
/// The variant names the broken rule.
pub fn parse(value: &[u8]) -> Result<Traceparent, TraceparentError> {
    use TraceparentError as E;
    let (version, rest) = trim_ows(value).split_first_chunk::<2>().ok_or(E::Version)?;
    let version = hex_byte(version).filter(|version| *version != 0xff).ok_or(E::Version)?;
    if rest.first() != Some(&b'-') {
        return Err(E::Version);
    }
    let (trace_id, rest) = dash_then::<32>(rest).ok_or(E::TraceId)?;
    let trace_id = TraceId::from_hex(trace_id).ok_or(E::TraceId)?;
    let (parent_id, rest) = dash_then::<16>(rest).ok_or(E::ParentId)?;
    let parent_id = SpanId::from_hex(parent_id).ok_or(E::ParentId)?;
    let (flags, rest) = dash_then::<2>(rest).ok_or(E::Flags)?;
    let mut flags = hex_byte(flags).map(TraceFlags::from_bits).ok_or(E::Flags)?;
    // Of a later version's flags only `sampled` is known to mean what it says.
    flags.random &= version == 0;
    match (version, rest) {
        (_, []) => {}
        // A later version may add fields, but only behind another dash.
        (1.., [b'-', ..]) => {}
        _ => return Err(E::TrailingData),
    }
    Ok(Traceparent { trace_id, parent_id, flags })
}

/// The next field of `N` bytes, behind its dash.
fn dash_then<const N: usize>(text: &[u8]) -> Option<(&[u8; N], &[u8])> {
    text.strip_prefix(b"-")?.split_first_chunk::<N>()
}

impl Traceparent {
    /// The header value, always of version `00`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        out.extend_from_slice(b"00-");
        out.extend_from_slice(&self.trace_id.to_hex());
        out.push(b'-');
        out.extend_from_slice(&self.parent_id.to_hex());
        out.push(b'-');
        out.extend_from_slice(&self.flags.to_hex());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TraceparentError as E;

    const T: &str = "c0a8017e5d3b4f2226e1d47b08aa3f5c";
    const P: &str = "b7d20c4e19f86a35";

    #[test]
    fn reads_every_version_but_ff() {
        for (header, sampled, random) in [
            (format!("00-{T}-{P}-01"), true, false),
            (format!("  00-{T}-{P}-01\t"), true, false),
            (format!("00-{T}-{P}-00"), false, false),
            (format!("00-{T}-{P}-02"), false, true),
            (format!("00-{T}-{P}-fe"), false, true),
            (format!("00-{T}-{P}-03"), true, true),
            (format!("cc-{T}-{P}-01"), true, false),
            (format!("cc-{T}-{P}-01-what-the-future"), true, false),
            (format!("cc-{T}-{P}-01-"), true, false),
        ] {
            let parsed = parse(header.as_bytes()).unwrap();
            assert_eq!(parsed.flags, TraceFlags { sampled, random }, "{header}");
            assert_eq!(&parsed.trace_id.to_hex(), T.as_bytes(), "{header}");
            assert_eq!(&parsed.parent_id.to_hex(), P.as_bytes(), "{header}");
        }
    }

    #[test]
    fn each_refusal_names_its_own_rule() {
        for (header, why) in [
            (format!("00-{T}-{P}-01."), E::TrailingData),
            (format!("00-{T}-{P}-01-"), E::TrailingData),
            (format!("00-{T}-{P}-01-x"), E::TrailingData),
            (format!("00-{T}-{P}-001"), E::TrailingData),
            (format!("cc-{T}-{P}-01.what"), E::TrailingData),
            (format!("cc-{T}-{P}-01what"), E::TrailingData),
            (format!("ff-{T}-{P}-01"), E::Version),
            (format!(".0-{T}-{P}-01"), E::Version),
            (format!("0.-{T}-{P}-01"), E::Version),
            (format!("0-{T}-{P}-01"), E::Version),
            (format!("000-{T}-{P}-01"), E::Version),
            (String::new(), E::Version),
            (format!("00-{}-{P}-01", "0".repeat(32)), E::TraceId),
            (format!("00-{}-{P}-01", &T[1..]), E::TraceId),
            (format!("00-{}-{P}-01", T.to_uppercase()), E::TraceId),
            (format!("00-.{}-{P}-01", &T[1..]), E::TraceId),
            (format!("00-+{}-{P}-01", &T[1..]), E::TraceId),
            (format!("00-{T}0-{P}-01"), E::ParentId),
            (format!("00-{T}-{}-01", "0".repeat(16)), E::ParentId),
            (format!("00-{T}-{}-01", &P[1..]), E::ParentId),
            (format!("00-{T}-{}-01", P.to_uppercase()), E::ParentId),
            (format!("00-{T}-{P}0-01"), E::Flags),
            (format!("00-{T}-{P}"), E::Flags),
            (format!("00-{T}-{P}-"), E::Flags),
            (format!("00-{T}-{P}-1"), E::Flags),
            (format!("00-{T}-{P}-.0"), E::Flags),
            (format!("00-{T}-{P}-0."), E::Flags),
        ] {
            assert_eq!(parse(header.as_bytes()), Err(why), "{header}");
        }
        assert_eq!(parse(b"\xff\xfe"), Err(E::Version));
    }

    #[test]
    fn prints_version_00_whatever_came() {
        let parsed = parse(format!("cc-{T}-{P}-03-more").as_bytes()).unwrap();
        assert_eq!(parsed.to_bytes(), format!("00-{T}-{P}-01").as_bytes());
    }
}
