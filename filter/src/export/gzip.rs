//! The gzip container (RFC 1952) around a raw deflate stream (RFC 1951).
//!
//! ```text
//! member = 1f 8b 08 flags:00 mtime:00000000 xfl:04 os:ff  deflate  crc32:u32le  length:u32le
//! ```

use alloc::boxed::Box;
use alloc::vec::Vec;

use miniz_oxide::deflate::core::{
    CompressionStrategy, CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};

/// `xfl` 4 tells that the fastest algorithm was used, `os` 255 that the system is unknown.
const HEADER: [u8; 10] = [0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 4, 255];
/// Checksum and length.
const TRAILER_BYTES: usize = 8;
/// The fastest level with matches. On 64 KiB of spans the default level takes more than five times as long, to make
/// the body a seventh smaller.
const LEVEL: i32 = 1;
/// Negative: deflate without zlib's header.
const WINDOW_BITS: i32 = -15;

/// A compressor that keeps its tables, about 300 kB, from one body to the next.
pub struct Gzip {
    deflate: Box<CompressorOxide>,
}

impl core::fmt::Debug for Gzip {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Gzip")
    }
}

impl Default for Gzip {
    fn default() -> Self {
        let flags = create_comp_flags_from_zip_params(LEVEL, WINDOW_BITS, CompressionStrategy::Default as i32);
        Self { deflate: Box::new(CompressorOxide::new(flags)) }
    }
}

impl Gzip {
    /// Replaces `out` by the compressed `body`. `false` when that failed, and `out` is of no use.
    #[must_use]
    pub fn compress(&mut self, body: &[u8], out: &mut Vec<u8>) -> bool {
        let Ok(length) = u32::try_from(body.len()) else { return false };
        out.clear();
        out.extend_from_slice(&HEADER);
        out.resize(HEADER.len() + deflate_bytes_max(body.len()), 0);
        self.deflate.reset();
        let Some(room) = out.get_mut(HEADER.len()..) else { return false };
        let (status, _, written) = compress(&mut self.deflate, body, room, TDEFLFlush::Finish);
        if !matches!(status, TDEFLStatus::Done) {
            return false;
        }
        out.truncate(HEADER.len() + written);
        out.extend_from_slice(&crc32(body).to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        true
    }
}

/// Deflate stores what it cannot compress, in blocks of at least 31 kB with five bytes of framing; the compressor
/// writes its tables before it finds out, hence the generous share.
fn deflate_bytes_max(body_bytes: usize) -> usize {
    body_bytes + body_bytes / 8 + 1024 + TRAILER_BYTES
}

/// The CRC of gzip: polynomial `edb88320`, reflected, inverted before and after.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let index = (crc ^ u32::from(*byte)) & 0xff;
        CRC_TABLE.get(index as usize).copied().unwrap_or(0) ^ (crc >> 8)
    })
}

static CRC_TABLE: [u32; 256] = crc_table();

#[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "evaluated by the compiler, below 256")]
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes a gzip member apart, as a receiver does: header, deflate, checksum, length.
    fn gunzip(member: &[u8]) -> Vec<u8> {
        let (header, rest) = member.split_first_chunk::<10>().unwrap();
        assert_eq!(header, &HEADER);
        let (deflate, trailer) = rest.split_last_chunk::<8>().unwrap();
        let body = miniz_oxide::inflate::decompress_to_vec(deflate).unwrap();
        assert_eq!(trailer[..4], crc32(&body).to_le_bytes());
        assert_eq!(trailer[4..], u32::try_from(body.len()).unwrap().to_le_bytes());
        body
    }

    fn member(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(Gzip::default().compress(body, &mut out));
        out
    }

    #[test]
    fn the_checksum_is_the_one_of_rfc_1952() {
        // The check value that every catalogue of CRCs lists for "123456789".
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn bodies_that_cannot_be_compressed_still_fit() {
        let mut state = 1_u64;
        for length in [0, 1, 100, 31_744, 65_536, 300_000] {
            let noise: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .take(length)
            .collect();
            assert_eq!(gunzip(&member(&noise)), noise, "{length}");
        }
    }

    #[test]
    fn one_compressor_serves_body_after_body() {
        let mut gzip = Gzip::default();
        let mut out = Vec::new();
        for body in [&b"first body"[..], b"", b"a third, of another length"] {
            assert!(gzip.compress(body, &mut out));
            assert_eq!(gunzip(&out), body);
        }
    }

    #[test]
    fn spans_shrink_to_a_fraction() {
        let body = br#"{"id":"7a6b5c4d3e2f1001","trace.id":"c0a8017e5d3b4f2226e1d47b08aa3f5c"},"#.repeat(500);
        assert!(member(&body).len() < body.len() / 10);
    }

    proptest! {
        #[test]
        fn any_body_comes_back(body in prop::collection::vec(any::<u8>(), 0..5000)) {
            prop_assert_eq!(gunzip(&member(&body)), body);
        }
    }
}
