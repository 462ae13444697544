//! One block of a deflate stream (RFC 1951, 3.2.3 to 3.2.7).
//!
//! ```text
//! block   = last:1 type:2  ( stored | dynamic )            never the fixed codes: they suit texts of a few bytes
//! stored  = pad to a byte  length:u16le  !length:u16le  bytes
//! dynamic = literals:5 distances:5 sent:4  sent*( length:3 )  code lengths  *( literal | length distance )  end
//! ```

use alloc::vec::Vec;

use super::bits::{Bits, Room};
use super::huffman::{Code, LENGTH_MAX};

/// Bytes of a stored block (RFC 1951, 3.2.4).
const STORED_BYTES_MAX: usize = 65_535;
/// The symbol behind a block's last.
const END_OF_BLOCK: usize = 256;
/// Symbols of literals and lengths, and of distances.
const LITERALS: usize = 286;
const DISTANCES: usize = 30;
/// Symbols that code lengths are written with, in the order in which theirs are sent (RFC 1951, 3.2.7).
const LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// The longest code of those symbols.
const LENGTH_CODE_MAX: usize = 7;

/// Bytes as they are, and a match behind them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sequence {
    /// Bytes.
    pub(super) literals: u32,
    /// Of the match, in bytes, less three.
    pub(super) length: u16,
    /// How far back the match is, in bytes, less one.
    pub(super) distance: u16,
}

/// Appends a block: its bytes, which are those of the sequences and then literals. What needs more bits than the bytes
/// themselves is stored.
pub(super) fn write(bytes: &[u8], sequences: &[Sequence], is_last: bool, bits: &mut Bits, out: &mut Vec<u8>) {
    let counts = Counts::of(bytes, sequences);
    let codes = Codes::new(&counts);
    let cost_bytes = (codes.cost(&counts) / 8) as usize;
    if cost_bytes < bytes.len() + 4 {
        bits.put(u32::from(is_last) | 2 << 1, 3);
        Room::behind(out, cost_bytes + 8, |room| {
            codes.header.write(bits, room);
            write_sequences(&codes, bytes, sequences, bits, room);
        });
    } else {
        write_stored(bytes, is_last, bits, out);
    }
    if is_last {
        bits.align(out);
    }
}

/// A symbol of a length or a distance, and the bits behind it.
#[derive(Clone, Copy)]
struct Symbol {
    symbol: usize,
    extra: u32,
    extra_bits: u32,
}

impl Symbol {
    /// Four symbols for each doubling (RFC 1951, 3.2.5); `value` is the length less three, up to 254.
    #[inline]
    fn of_length(value: u32) -> Self {
        Self::of::<2>(value, END_OF_BLOCK + 1)
    }

    /// Two symbols for each doubling; `value` is the distance less one.
    #[inline]
    fn of_distance(value: u32) -> Self {
        Self::of::<1>(value, 0)
    }

    /// The leading one tells the doubling, the next `PARTS` bits which part of it, and the rest are extra.
    #[inline]
    fn of<const PARTS: u32>(value: u32, first: usize) -> Self {
        let extra_bits = (31 - PARTS).saturating_sub((value | 1).leading_zeros());
        let symbol = (extra_bits << PARTS) + (value >> extra_bits);
        Self { symbol: first + symbol as usize, extra: value & ((1 << extra_bits) - 1), extra_bits }
    }
}

/// How often each symbol occurs in a block.
struct Counts {
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
    extra_bits: u32,
}

impl Counts {
    fn of(bytes: &[u8], sequences: &[Sequence]) -> Self {
        let mut counts = Self { literals: [0; LITERALS], distances: [0; DISTANCES], extra_bits: 0 };
        let mut bytes = bytes;
        for sequence in sequences {
            let (literals, rest) = bytes.split_at_checked(sequence.literals as usize).unwrap_or_default();
            counts.add(literals);
            bytes = rest.get(usize::from(sequence.length) + 3..).unwrap_or_default();
            let length = Symbol::of_length(u32::from(sequence.length));
            let distance = Symbol::of_distance(u32::from(sequence.distance));
            increment(&mut counts.literals, length.symbol);
            increment(&mut counts.distances, distance.symbol);
            counts.extra_bits += length.extra_bits + distance.extra_bits;
        }
        counts.add(bytes);
        increment(&mut counts.literals, END_OF_BLOCK);
        counts
    }

    fn add(&mut self, literals: &[u8]) {
        for literal in literals {
            increment(&mut self.literals, usize::from(*literal));
        }
    }
}

#[inline]
fn increment(counts: &mut [u32], symbol: usize) {
    if let Some(count) = counts.get_mut(symbol) {
        *count += 1;
    }
}

/// The codes of a block, and how it tells them.
struct Codes {
    literals: Code<LITERALS>,
    distances: Code<DISTANCES>,
    header: Header,
}

impl Codes {
    fn new(counts: &Counts) -> Self {
        let literals = Code::new(&counts.literals, LENGTH_MAX);
        let distances = Code::new(&counts.distances, LENGTH_MAX);
        let header = Header::new(&literals.lengths, &distances.lengths);
        Self { literals, distances, header }
    }

    /// Bits of the whole block but for its first three.
    fn cost(&self, counts: &Counts) -> u32 {
        let symbols = self.literals.cost(&counts.literals) + self.distances.cost(&counts.distances);
        symbols + counts.extra_bits + self.header.cost()
    }
}

/// The code lengths of a block, themselves in a code (RFC 1951, 3.2.7).
struct Header {
    literals: usize,
    distances: usize,
    symbols: [Symbol; LITERALS + DISTANCES],
    count: usize,
    code: Code<19>,
    counts: [u32; 19],
}

impl Header {
    fn new(literals: &[u8; LITERALS], distances: &[u8; DISTANCES]) -> Self {
        let used = |lengths: &[u8]| lengths.iter().rposition(|length| *length > 0).map_or(0, |last| last + 1);
        let none = Symbol { symbol: 0, extra: 0, extra_bits: 0 };
        let mut header = Self {
            literals: used(literals),
            distances: used(distances).max(1),
            symbols: [none; LITERALS + DISTANCES],
            count: 0,
            code: Code::new(&[0; 19], LENGTH_CODE_MAX),
            counts: [0; 19],
        };
        let literals = literals.iter().take(header.literals);
        let distances = distances.iter().take(header.distances);
        let mut lengths = [0; LITERALS + DISTANCES];
        lengths.iter_mut().zip(literals.chain(distances)).for_each(|(to, length)| *to = *length);
        let lengths = lengths.get(..header.literals + header.distances).unwrap_or_default();
        lengths.chunk_by(|a, b| a == b).for_each(|run| header.run(run));
        header.code = Code::new(&header.counts, LENGTH_CODE_MAX);
        header
    }

    /// Equal lengths, in as few symbols as they need.
    fn run(&mut self, run: &[u8]) {
        let Some((length, mut rest)) = run.split_first() else { return };
        let length = usize::from(*length);
        if length > 0 {
            self.push(length, 0, 0);
        } else {
            rest = run;
        }
        while !rest.is_empty() {
            let (symbol, least, most, extra_bits) = match (length, rest.len()) {
                (_, ..3) => (length, 1, 1, 0),
                (0, 11..) => (18, 11, 138, 7),
                (0, _) => (17, 3, 10, 3),
                _ => (16, 3, 6, 2),
            };
            let taken = rest.len().min(most);
            self.push(symbol, taken - least, extra_bits);
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    fn push(&mut self, symbol: usize, extra: usize, extra_bits: u32) {
        increment(&mut self.counts, symbol);
        if let Some(slot) = self.symbols.get_mut(self.count) {
            *slot = Symbol { symbol, extra: u32::try_from(extra).unwrap_or(0), extra_bits };
            self.count += 1;
        }
    }

    fn symbols(&self) -> &[Symbol] {
        self.symbols.get(..self.count).unwrap_or_default()
    }

    fn sent(&self) -> usize {
        let is_used = |symbol: &usize| self.counts.get(*symbol).is_some_and(|count| *count > 0);
        LENGTH_ORDER.iter().rposition(is_used).map_or(4, |last| (last + 1).max(4))
    }

    fn cost(&self) -> u32 {
        let extra: u32 = self.symbols().iter().map(|symbol| symbol.extra_bits).sum();
        14 + u32::try_from(self.sent()).unwrap_or(0) * 3 + self.code.cost(&self.counts) + extra
    }

    fn write(&self, bits: &mut Bits, room: &mut Room<'_>) {
        let sent = self.sent();
        for (count, least, width) in [(self.literals, 257, 5), (self.distances, 1, 5), (sent, 4, 4)] {
            bits.put(u32::try_from(count - least).unwrap_or(0), width);
        }
        bits.flush(room);
        for symbol in LENGTH_ORDER.iter().take(sent) {
            bits.put(self.code.lengths.get(*symbol).copied().unwrap_or(0).into(), 3);
            bits.flush(room);
        }
        for symbol in self.symbols() {
            put(&self.code, *symbol, bits);
            bits.flush(room);
        }
    }
}

#[inline]
fn put<const SYMBOLS: usize>(code: &Code<SYMBOLS>, symbol: Symbol, bits: &mut Bits) {
    bits.put_symbol(code.symbol(symbol.symbol));
    bits.put(symbol.extra, symbol.extra_bits);
}

fn write_sequences(codes: &Codes, bytes: &[u8], sequences: &[Sequence], state: &mut Bits, room: &mut Room<'_>) {
    let (mut bytes, mut bits) = (bytes, *state);
    for sequence in sequences {
        let (literals, rest) = bytes.split_at_checked(sequence.literals as usize).unwrap_or_default();
        write_literals(codes, literals, &mut bits, room);
        bytes = rest.get(usize::from(sequence.length) + 3..).unwrap_or_default();
        put(&codes.literals, Symbol::of_length(u32::from(sequence.length)), &mut bits);
        put(&codes.distances, Symbol::of_distance(u32::from(sequence.distance)), &mut bits);
        bits.flush(room);
    }
    write_literals(codes, bytes, &mut bits, room);
    bits.put_symbol(codes.literals.symbol(END_OF_BLOCK));
    bits.flush(room);
    *state = bits;
}

#[inline]
fn write_literals(codes: &Codes, literals: &[u8], bits: &mut Bits, room: &mut Room<'_>) {
    let literal = |literal: u8| codes.literals.symbol(usize::from(literal));
    // Four codes, and what is left of a byte, fit in 64 bits.
    let (chunks, rest) = literals.as_chunks();
    for [a, b, c, d] in chunks {
        bits.put_symbol(literal(*a));
        bits.put_symbol(literal(*b));
        bits.put_symbol(literal(*c));
        bits.put_symbol(literal(*d));
        bits.flush(room);
    }
    rest.iter().for_each(|rest| bits.put_symbol(literal(*rest)));
    bits.flush(room);
}

fn write_stored(bytes: &[u8], is_last: bool, bits: &mut Bits, out: &mut Vec<u8>) {
    let mut rest = bytes;
    loop {
        let (chunk, behind) = rest.split_at_checked(STORED_BYTES_MAX).unwrap_or((rest, &[]));
        bits.put(u32::from(is_last && behind.is_empty()), 3);
        bits.align(out);
        let length = u16::try_from(chunk.len()).unwrap_or(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(chunk);
        rest = behind;
        if rest.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_distances_have_the_symbols_of_the_tables() {
        // RFC 1951, 3.2.5: symbol, extra bits, first and last length or distance.
        for (symbol, extra_bits, first, last) in [
            (257, 0, 3, 3),
            (264, 0, 10, 10),
            (265, 1, 11, 12),
            (269, 2, 19, 22),
            (281, 5, 131, 162),
            (284, 5, 227, 257),
        ] {
            for length in [first, last] {
                let found = Symbol::of_length(length - 3);
                assert_eq!(
                    (found.symbol, found.extra_bits, found.extra),
                    (symbol, extra_bits, length - first),
                    "{length}"
                );
            }
        }
        for (symbol, extra_bits, first, last) in [
            (0, 0, 1, 1),
            (3, 0, 4, 4),
            (4, 1, 5, 6),
            (9, 3, 25, 32),
            (28, 13, 16_385, 24_576),
            (29, 13, 24_577, 32_768),
        ] {
            for distance in [first, last] {
                let found = Symbol::of_distance(distance - 1);
                assert_eq!(
                    (found.symbol, found.extra_bits, found.extra),
                    (symbol, extra_bits, distance - first),
                    "{distance}"
                );
            }
        }
    }

    #[test]
    fn code_lengths_are_sent_in_runs() {
        let mut literals = [0; LITERALS];
        literals[..9].fill(7);
        literals[256] = 3;
        let header = Header::new(&literals, &[0; DISTANCES]);
        let symbols: Vec<_> = header.symbols().iter().map(|symbol| (symbol.symbol, symbol.extra)).collect();
        // Nine sevens: the first, six more, and two that are too few for a run. Then 247 zeros, 138 and 109; a three;
        // and the length of the one distance that has to be told.
        assert_eq!(symbols, [(7, 0), (16, 3), (7, 0), (7, 0), (18, 127), (18, 98), (3, 0), (0, 0)]);
        assert_eq!((header.literals, header.distances), (257, 1));
    }
}
