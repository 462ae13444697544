//! Bits as deflate packs them: from the lowest bit of each byte up (RFC 1951, 3.1.1).

use alloc::vec::Vec;

/// Appends bits to bytes. What does not fill a byte waits here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bits {
    bits: u64,
    /// How many, in the low six bits.
    count: u32,
}

impl Bits {
    /// Appends the low `count` bits of a value, whose other bits are zero. A value has up to 26 bits, and 56 fit between two calls of
    /// [`Bits::flush`].
    #[inline]
    pub(super) fn put(&mut self, value: u32, count: u32) {
        self.put_symbol(value << 6 | count);
    }

    /// Appends the bits of a symbol: their number in six bits, below the bits themselves.
    #[inline]
    pub(super) fn put_symbol(&mut self, symbol: u32) {
        self.bits |= u64::from(symbol >> 6) << (self.count & 63);
        // Only the low six bits of the sum mean something.
        self.count = self.count.wrapping_add(symbol);
    }

    /// Writes the whole bytes to where `room` begins, which then begins behind them. The next bytes there are
    /// overwritten, too: without a branch it is faster, and there is room for eight bytes more than needed.
    #[inline]
    pub(super) fn flush(&mut self, room: &mut Room<'_>) {
        room.write(self.bits, (self.count >> 3 & 7) as usize);
        self.bits >>= self.count & 56;
        self.count &= 7;
    }

    /// Writes all bits out, and zeros up to the next whole byte.
    pub(super) fn align(&mut self, out: &mut Vec<u8>) {
        let bytes = self.bits.to_le_bytes();
        out.extend(bytes.iter().take((self.count & 63).div_ceil(8) as usize));
        *self = Self::default();
    }
}

/// Where bytes are written, one behind the other.
pub(super) struct Room<'a> {
    bytes: &'a mut [u8],
    end: usize,
}

impl Room<'_> {
    /// Appends what `write` writes, which is at most `bytes` bytes.
    pub(super) fn behind(out: &mut Vec<u8>, bytes: usize, write: impl FnOnce(&mut Room<'_>)) {
        let start = out.len();
        out.resize(start + bytes + 8, 0);
        let mut room = Room { bytes: out.get_mut(start..).unwrap_or_default(), end: 0 };
        write(&mut room);
        let end = start + room.end;
        out.truncate(end);
    }

    #[inline]
    fn write(&mut self, word: u64, bytes: usize) {
        if let Some(to) = self.bytes.get_mut(self.end..).and_then(<[u8]>::first_chunk_mut) {
            *to = word.to_le_bytes();
            self.end += bytes;
        }
    }
}
