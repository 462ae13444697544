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
    crc: Box<Crc>,
}

impl core::fmt::Debug for Gzip {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Gzip")
    }
}

impl Default for Gzip {
    fn default() -> Self {
        let flags = create_comp_flags_from_zip_params(LEVEL, WINDOW_BITS, CompressionStrategy::Default as i32);
        Self { deflate: Box::new(CompressorOxide::new(flags)), crc: Box::new(Crc::new()) }
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
        out.extend_from_slice(&self.crc.of(body).to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        true
    }
}

/// Deflate stores what it cannot compress, in blocks of at least 31 kB with five bytes of framing; the compressor
/// writes its tables before it finds out, hence the generous share.
fn deflate_bytes_max(body_bytes: usize) -> usize {
    body_bytes + body_bytes / 8 + 1024 + TRAILER_BYTES
}

/// The CRC of gzip: polynomial `edb88320`, reflected, inverted before and after. Eight bytes at a time, since byte by
/// byte it would take as long as the matches (Kounavis and Berry, "Novel Table Lookup-Based Algorithms for
/// High-Performance CRC Generation", 2008).
#[derive(Debug)]
struct Crc {
    /// What a byte adds to the checksum, by how many bytes stand behind it.
    tables: [[u32; 256]; 8],
}

impl Crc {
    fn new() -> Self {
        let mut tables = [[0; 256]; 8];
        let mut table: [u32; 256] = core::array::from_fn(|byte| byte as u32);
        for entry in &mut table {
            *entry = (0..8).fold(*entry, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 });
        }
        let first = table;
        for next in &mut tables {
            *next = table;
            for entry in &mut table {
                *entry = (*entry >> 8) ^ look_up(&first, *entry);
            }
        }
        Self { tables }
    }

    fn of(&self, bytes: &[u8]) -> u32 {
        let [t0, t1, t2, t3, t4, t5, t6, t7] = &self.tables;
        let (words, rest) = bytes.as_chunks::<8>();
        let crc = words.iter().fold(u32::MAX, |crc, word| {
            let [b0, b1, b2, b3, b4, b5, b6, b7] = *word;
            let low = crc ^ u32::from_le_bytes([b0, b1, b2, b3]);
            let high = u32::from_le_bytes([b4, b5, b6, b7]);
            look_up(t7, low)
                ^ look_up(t6, low >> 8)
                ^ look_up(t5, low >> 16)
                ^ look_up(t4, low >> 24)
                ^ look_up(t3, high)
                ^ look_up(t2, high >> 8)
                ^ look_up(t1, high >> 16)
                ^ look_up(t0, high >> 24)
        });
        !rest.iter().fold(crc, |crc, byte| look_up(t0, crc ^ u32::from(*byte)) ^ (crc >> 8))
    }
}

/// The entry of a number's lowest byte.
fn look_up(table: &[u32; 256], number: u32) -> u32 {
    table.get((number & 0xff) as usize).copied().unwrap_or(0)
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
        assert_eq!(trailer[..4], Crc::new().of(&body).to_le_bytes());
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
        let crc = Crc::new();
        assert_eq!(crc.of(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc.of(b""), 0);
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
