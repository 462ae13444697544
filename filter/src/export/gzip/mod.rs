//! The gzip container (RFC 1952) around a raw deflate stream (RFC 1951).
//!
//! ```text
//! member = 1f 8b 08 flags:00 mtime:00000000 xfl:04 os:ff  deflate  crc32:u32le  length:u32le
//! ```
//!
//! Both are our own, made for batches of records: a general compressor spends most of its time and of its output on
//! the random ids, and brings tables of hundreds of kilobytes, which push the proxy's own data out of the caches.

mod bits;
mod block;
mod crc;
mod deflate;
mod huffman;

use alloc::vec::Vec;

use crc::Crc;
use deflate::Deflate;

/// `xfl` 4 tells that the fastest algorithm was used, `os` 255 that the system is unknown.
const HEADER: [u8; 10] = [0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 4, 255];

/// A compressor of about 24 kB, which are kept from one body to the next.
///
/// A member has at most 23 bytes more than the body, and one more byte for each KiB of it.
#[derive(Debug, Default)]
pub struct Gzip {
    deflate: Deflate,
    crc: Crc,
}

impl Gzip {
    /// Replaces `out` by the compressed `body`. `false` when the body is so long that the trailer cannot tell its
    /// length.
    #[must_use]
    pub fn compress(&mut self, body: &[u8], out: &mut Vec<u8>) -> bool {
        self.begin(out);
        while !self.step(body, body.len(), out) {}
        u32::try_from(body.len()).is_ok()
    }

    /// Begins a body: replaces `out` by the header. What was left of another body is forgotten.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        self.deflate.begin();
        self.crc.begin();
        out.clear();
        out.extend_from_slice(&HEADER);
    }

    /// Goes through about `bytes` more of the body and appends to `out` what is finished, which comes in blocks of up
    /// to 256 KiB of the body. `true` when the whole member is written. The steps' lengths do not change the result.
    ///
    /// Every step of a body needs the same `body` and the same `out`; otherwise what comes out is of no use.
    #[must_use]
    pub fn step(&mut self, body: &[u8], bytes: usize, out: &mut Vec<u8>) -> bool {
        let is_done = self.deflate.step(body, bytes.max(1), out);
        self.crc.advance(body, self.deflate.position());
        if is_done {
            out.extend_from_slice(&self.crc.finish(body).to_le_bytes());
            // Modulo 2^32, says the format.
            let length = (body.len() as u64 & 0xffff_ffff) as u32;
            out.extend_from_slice(&length.to_le_bytes());
        }
        is_done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;
    use proptest::prelude::*;

    /// Takes a gzip member apart, as a receiver does: header, deflate, checksum, length.
    fn gunzip(member: &[u8]) -> Vec<u8> {
        let (header, rest) = member.split_first_chunk::<10>().unwrap();
        assert_eq!(header, &HEADER);
        let (deflate, trailer) = rest.split_last_chunk::<8>().unwrap();
        let body = miniz_oxide::inflate::decompress_to_vec(deflate).unwrap();
        assert_eq!(trailer[..4], Crc::default().finish(&body).to_le_bytes());
        assert_eq!(trailer[4..], u32::try_from(body.len()).unwrap().to_le_bytes());
        body
    }

    fn member(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(Gzip::default().compress(body, &mut out));
        assert!(out.len() <= body.len() + body.len() / 1024 + 23, "{} bytes of {}", out.len(), body.len());
        out
    }

    /// Random numbers that are the same in every run (an LCG of Knuth's).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0.rotate_left(32) ^ self.0 >> 7
        }

        fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
            from[usize::try_from(self.next()).unwrap() % from.len()]
        }
    }

    /// A body of the Trace API with the entry spans of a small shop.
    fn spans(count: usize) -> Vec<u8> {
        let mut random = Random(1);
        let mut out =
            r#"[{"common":{"attributes":{"service.name":"shop","collector.name":"envoy"}},"spans":["#.to_owned();
        for number in 0..count {
            let [id, trace, trace_end, parent, transaction, trusted] = core::array::from_fn(|_| random.next());
            let path = format!("/cart/items/{}", random.next() % 20);
            let agent = random.pick(&["Mozilla/5.0 (X11; Linux x86_64) wrk", "okhttp/4.12.0", "Go-http-client/1.1"]);
            let [duration, priority] = core::array::from_fn(|_| random.next() % 1_000_000);
            write!(
                out,
                concat!(
                    r#"{}{{"id":"{:016x}","trace.id":"{:016x}{:016x}","timestamp":{},"attributes":{{"#,
                    r#""name":"WebTransaction/Envoy/GET /cart/items/*","duration.ms":{}.{:03},"parent.id":"{:016x}","#,
                    r#""span.kind":"server","category":"generic","transactionId":"{:016x}","priority":1.{:06},"#,
                    r#""sampled":true,"nr.entryPoint":true,"transaction.name":"WebTransaction/Envoy/GET /cart/items/*","#,
                    r#""trustedParentId":"{:016x}","tracingVendors":"vend1","request.method":"GET","#,
                    r#""request.uri":"{}","request.headers.host":"shop.example","request.headers.accept":"*/*","#,
                    r#""request.headers.userAgent":"{}","http.statusCode":200,"parent.type":"App","#,
                    r#""parent.account":"4002","parent.app":"55","parent.transportType":"HTTP"}}}}"#,
                ),
                if number > 0 { "," } else { "" },
                id,
                trace,
                trace_end,
                1_795_000_000_000 + number,
                duration / 100_000,
                duration % 1000,
                parent,
                transaction,
                priority,
                trusted,
                path,
                agent
            )
            .unwrap();
        }
        out.push_str("]}]");
        out.into_bytes()
    }

    #[test]
    fn spans_shrink_to_little_more_than_their_ids() {
        // Each has 96 random hexadecimal digits, which are 48 bytes, and a dozen other digits.
        for (count, bytes_max) in [(100, 89), (350, 84)] {
            let body = spans(count);
            let member = member(&body);
            assert_eq!(gunzip(&member), body);
            assert!(member.len() <= count * bytes_max, "{} bytes of {} for {count} spans", member.len(), body.len());
        }
    }

    #[test]
    fn bodies_that_cannot_be_compressed_grow_by_little() {
        let mut random = Random(1);
        for length in [0, 1, 100, 2561, 5119, 5120, 5121, 5200, 31_744, 65_535, 65_536, 300_000] {
            let noise: Vec<u8> = core::iter::repeat_with(|| random.next().to_be_bytes()[0]).take(length).collect();
            assert_eq!(gunzip(&member(&noise)), noise, "{length}");
        }
    }

    #[test]
    fn one_compressor_serves_body_after_body() {
        let mut gzip = Gzip::default();
        let mut out = Vec::new();
        for body in [&spans(9)[..], b"", b"a third, of another length", &spans(9)] {
            assert!(gzip.compress(body, &mut out));
            assert_eq!(out, member(body));
            assert_eq!(gunzip(&out), body);
        }
    }

    #[test]
    fn a_body_that_changes_between_steps_does_no_harm() {
        let mut random = Random(1);
        let bodies = [spans(700), Vec::new(), vec![7; 70_000], spans(40)];
        for _ in 0..50 {
            let mut gzip = Gzip::default();
            let mut out = Vec::new();
            gzip.begin(&mut out);
            for _ in 0..50 {
                let body = &bodies[usize::try_from(random.next()).unwrap() % 4];
                if gzip.step(body, usize::try_from(random.next() % 90_000).unwrap(), &mut out) {
                    gzip.begin(&mut out);
                }
            }
        }
    }

    /// Bytes with parts that repeat at any distance, and runs.
    fn bodies() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..600),
            (prop::collection::vec(any::<u8>(), 1..40), 0..2000_usize).prop_map(|(bytes, times)| bytes.repeat(times)),
            (1..90_usize).prop_map(spans),
        ];
        let parts = prop::collection::vec(part, 1..6);
        (parts, prop::collection::vec(0..6_usize, 0..6)).prop_map(|(parts, order)| {
            let repeated = order.iter().filter_map(|part| parts.get(*part));
            let mut body = parts.iter().chain(repeated).flatten().copied().collect::<Vec<_>>();
            body.truncate(200_000);
            body
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_body_comes_back(body in bodies()) {
            prop_assert_eq!(gunzip(&member(&body)), body);
        }

        #[test]
        fn steps_of_any_length_give_the_same(body in bodies(), bytes in prop_oneof![0..3000_usize, 0..200_000_usize]) {
            let mut gzip = Gzip::default();
            let mut out = Vec::new();
            gzip.begin(&mut out);
            while !gzip.step(&body, bytes, &mut out) {}
            prop_assert_eq!(out, member(&body));
        }
    }
}
