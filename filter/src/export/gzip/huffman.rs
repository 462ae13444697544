//! Prefix codes: lengths from frequencies, and the codes that belong to lengths (RFC 1951, 3.2.2).

/// The longest code of literals, lengths and distances. The format allows 15; 14 costs nothing to speak of, and four
/// fit in 56 bits.
pub(super) const LENGTH_MAX: usize = 14;

/// The code of one alphabet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code<const SYMBOLS: usize> {
    /// Of each symbol, in bits; 0 for a symbol that has no code.
    pub(super) lengths: [u8; SYMBOLS],
    /// Each symbol's bits in the order in which they are sent, above six bits with their number.
    entries: [u32; SYMBOLS],
}

impl<const SYMBOLS: usize> Code<SYMBOLS> {
    /// The code with which symbols that occur so often take the fewest bits, or nearly so when a code would be longer
    /// than `length_max`. Frequencies are below 2^23.
    pub(super) fn new(frequencies: &[u32; SYMBOLS], length_max: usize) -> Self {
        let lengths = lengths(frequencies, length_max);
        Self { lengths, entries: entries(&lengths) }
    }

    /// A symbol's bits, as [`Bits::put_symbol`](super::bits::Bits::put_symbol) takes them.
    #[inline]
    pub(super) fn symbol(&self, symbol: usize) -> u32 {
        self.entries.get(symbol).copied().unwrap_or(0)
    }

    /// The bits that symbols take which occur so often.
    pub(super) fn cost(&self, frequencies: &[u32; SYMBOLS]) -> u32 {
        self.lengths.iter().zip(frequencies).map(|(length, frequency)| u32::from(*length) * frequency).sum()
    }
}

/// The bits of a symbol's number beside its frequency, while they are sorted.
const SYMBOL_BITS: u32 = 9;

fn lengths<const SYMBOLS: usize>(frequencies: &[u32; SYMBOLS], length_max: usize) -> [u8; SYMBOLS] {
    let mut sorted = [0; SYMBOLS];
    let mut used = 0;
    for ((symbol, frequency), slot) in (0..).zip(frequencies).filter(|(_, frequency)| **frequency > 0).zip(&mut sorted)
    {
        *slot = (frequency << SYMBOL_BITS) | symbol;
        used += 1;
    }
    let sorted = sorted.get_mut(..used).unwrap_or_default();
    sorted.sort_unstable();
    let mut counts = depths::<SYMBOLS>(sorted, length_max);
    shorten(&mut counts, length_max);
    let mut lengths = [0; SYMBOLS];
    // The rarest have the longest codes.
    let longest_first =
        counts.iter().enumerate().rev().flat_map(|(length, count)| core::iter::repeat_n(length, *count));
    for (entry, length) in sorted.iter().zip(longest_first) {
        if let Some(slot) = lengths.get_mut((entry & ((1 << SYMBOL_BITS) - 1)) as usize) {
            *slot = u8::try_from(length).unwrap_or(0);
        }
    }
    lengths
}

/// Builds Huffman's tree over frequencies in rising order, and counts its leaves by depth; those deeper than
/// `length_max` count as if they were there.
fn depths<const SYMBOLS: usize>(sorted: &[u32], length_max: usize) -> [usize; LENGTH_MAX + 1] {
    let mut counts = [0; LENGTH_MAX + 1];
    let leaves = sorted.len();
    // A code of one symbol has one bit all the same.
    if leaves < 2 {
        counts[1] = leaves;
        return counts;
    }
    // Leaves first, then inner nodes as they are made: both in rising order, so that the two lightest nodes without a
    // parent are the next leaf or the next inner node each time.
    let mut nodes = [[Node::default(); SYMBOLS]; 2];
    let nodes = nodes.as_flattened_mut();
    for (node, entry) in nodes.iter_mut().zip(sorted) {
        node.weight = entry >> SYMBOL_BITS;
    }
    let (mut leaf, mut inner) = (0, leaves);
    for parent in leaves..2 * leaves - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let weight_of = |node: usize| nodes.get(node).map_or(0, |node| node.weight);
            let is_leaf = leaf < leaves && (inner == parent || weight_of(leaf) <= weight_of(inner));
            let lightest = if is_leaf { &mut leaf } else { &mut inner };
            if let Some(child) = nodes.get_mut(*lightest) {
                weight += child.weight;
                child.parent = parent;
            }
            *lightest += 1;
        }
        if let Some(node) = nodes.get_mut(parent) {
            node.weight = weight;
        }
    }
    // From the root down, each node knows its depth before its children ask.
    for node in (0..2 * leaves - 2).rev() {
        let parent = nodes.get(node).map_or(0, |node| node.parent);
        let depth = nodes.get(parent).map_or(0, |parent| parent.depth) + 1;
        if let Some(node) = nodes.get_mut(node) {
            node.depth = depth;
        }
        if node < leaves
            && let Some(count) = counts.get_mut(depth.min(length_max))
        {
            *count += 1;
        }
    }
    counts
}

/// A node of Huffman's tree.
#[derive(Clone, Copy, Default)]
struct Node {
    weight: u32,
    parent: usize,
    depth: usize,
}

/// Makes codes longer until all of them exist: in units of the longest code, a code of one bit less takes up twice the
/// room, and there is room for 2^`length_max` (Kraft's inequality).
fn shorten(counts: &mut [usize; LENGTH_MAX + 1], length_max: usize) {
    let room = 1_usize << length_max;
    let mut taken: usize = (0..)
        .zip(counts.iter())
        .skip(1)
        .map(|(length, count): (usize, _)| count << length_max.saturating_sub(length))
        .sum();
    while taken > room {
        // The longest of the shorter codes becomes one bit longer, and makes room beside it for one of the longest.
        let Some(length) = (1..length_max).rev().find(|length| counts.get(*length).is_some_and(|count| *count > 0))
        else {
            return;
        };
        for (at, change) in [(length, -1), (length + 1, 2), (length_max, -1)] {
            if let Some(count) = counts.get_mut(at) {
                *count = count.wrapping_add_signed(change);
            }
        }
        taken -= 1;
    }
}

/// Codes of one length are consecutive numbers in the order of the symbols, and those of shorter codes come first.
fn entries<const SYMBOLS: usize>(lengths: &[u8; SYMBOLS]) -> [u32; SYMBOLS] {
    let mut next = [0_u32; LENGTH_MAX + 2];
    for length in lengths.iter().filter(|length| **length > 0) {
        if let Some(count) = next.get_mut(usize::from(*length) + 1) {
            *count += 1;
        }
    }
    let mut code = 0;
    for next in &mut next {
        code = (code + *next) << 1;
        *next = code;
    }
    let mut entries = [0; SYMBOLS];
    for (entry, length) in entries.iter_mut().zip(lengths) {
        if let Some(code) = next.get_mut(usize::from(*length)).filter(|_| *length > 0) {
            let length = u32::from(*length);
            *entry = (code.reverse_bits() >> (32 - length) << 6) | length;
            *code += 1;
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2^`length_max` when every sequence of bits means something.
    fn room_taken<const SYMBOLS: usize>(code: &Code<SYMBOLS>, length_max: usize) -> usize {
        let used = code.lengths.iter().filter(|length| **length > 0);
        used.map(|length| 1 << (length_max - usize::from(*length))).sum()
    }

    #[test]
    fn codes_belong_to_lengths_as_in_the_example() {
        // RFC 1951, 3.2.2: the alphabet ABCDEFGH.
        let entries = entries(&[3, 3, 3, 3, 3, 2, 4, 4]);
        let codes = entries.map(|entry| ((entry >> 6).reverse_bits() >> (32 - (entry & 63)), entry & 63));
        assert_eq!(codes, [(2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (0, 2), (14, 4), (15, 4)]);
    }

    #[test]
    fn frequent_symbols_have_short_codes() {
        assert_eq!(Code::new(&[1, 0, 8, 1, 4], LENGTH_MAX).lengths, [3, 0, 1, 3, 2]);
        assert_eq!(Code::new(&[0, 5, 0], LENGTH_MAX).lengths, [0, 1, 0]);
        assert_eq!(Code::new(&[0; 3], LENGTH_MAX).lengths, [0; 3]);
    }

    #[test]
    fn no_code_is_longer_than_allowed() {
        // Frequencies like these make Huffman's tree a list, 24 deep.
        let (mut a, mut b) = (1, 1);
        let frequencies: [u32; 25] = core::array::from_fn(|_| {
            (a, b) = (b, a + b);
            a
        });
        for length_max in [5, 7, LENGTH_MAX] {
            let code = Code::new(&frequencies, length_max);
            assert_eq!(room_taken(&code, length_max), 1 << length_max, "{length_max}");
            assert!(code.lengths.is_sorted_by(|rarer, more_frequent| rarer >= more_frequent), "{length_max}");
        }
    }

    proptest! {
        #[test]
        fn every_code_is_complete(frequencies in prop::collection::vec(prop_oneof![Just(0), 1..9_u32, 0..1_u32 << 18], 286)) {
            let frequencies: [u32; 286] = frequencies.try_into().unwrap();
            let code = Code::new(&frequencies, LENGTH_MAX);
            for (length, frequency) in code.lengths.iter().zip(frequencies) {
                prop_assert_eq!(*length > 0, frequency > 0);
            }
            if frequencies.iter().filter(|frequency| **frequency > 0).count() > 1 {
                prop_assert_eq!(room_taken(&code, LENGTH_MAX), 1 << LENGTH_MAX);
            }
        }
    }
}
