//! The wire form of header pairs.
//!
//! ```text
//! pairs = count:u32 (name_len:u32 value_len:u32)*count (name NUL value NUL)*count
//! ```
//! Numbers are little-endian. Source: `proxy-wasm-cpp-host`, `src/pairs_util.cc`.

/// Envoy refuses a larger buffer from a guest (`include/proxy-wasm/limits.h`).
const PAIRS_BYTES_MAX: usize = 1024 * 1024;
/// Envoy refuses more pairs from a guest (`include/proxy-wasm/limits.h`).
const PAIRS_MAX: u32 = 1024;

/// Writes pairs.
pub(crate) fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (N, V)>) -> Vec<u8> {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let mut bytes = word(pairs.len()).to_vec();
    for (name, value) in &pairs {
        bytes.extend(word(name.as_ref().len()));
        bytes.extend(word(value.as_ref().len()));
    }
    for (name, value) in &pairs {
        for part in [name.as_ref(), value.as_ref()] {
            bytes.extend_from_slice(part);
            bytes.push(0);
        }
    }
    bytes
}

fn word(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

/// One pair as a guest wrote it.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// Reads pairs. Bytes that do not hold what they promise give no pairs, as in Envoy.
pub(crate) fn decode(bytes: &[u8]) -> Vec<Pair> {
    read(bytes).unwrap_or_default()
}

fn read(bytes: &[u8]) -> Option<Vec<Pair>> {
    if bytes.len() > PAIRS_BYTES_MAX {
        return None;
    }
    let mut rest = bytes;
    let count = take_word(&mut rest)?;
    if count > PAIRS_MAX {
        return None;
    }
    let mut sizes = Vec::new();
    for _ in 0..count {
        sizes.push((take_word(&mut rest)?, take_word(&mut rest)?));
    }
    let take = |(name, value)| Some((take_text(&mut rest, name)?, take_text(&mut rest, value)?));
    sizes.into_iter().map(take).collect()
}

fn take_word(rest: &mut &[u8]) -> Option<u32> {
    let (word, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_le_bytes(*word))
}

fn take_text(rest: &mut &[u8], len: u32) -> Option<Vec<u8>> {
    let (text, tail) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    let (nul, tail) = tail.split_first()?;
    *rest = tail;
    (*nul == 0).then(|| text.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let pairs = vec![(b"a".to_vec(), b"\xff\0".to_vec()), (b"".to_vec(), b"x".to_vec())];
        assert_eq!(decode(&encode(pairs.clone())), pairs);
    }

    #[test]
    fn writes_lengths_first_and_ends_every_text_with_nul() {
        assert_eq!(encode([("k", "vv")]), b"\x01\0\0\0\x01\0\0\0\x02\0\0\0k\0vv\0");
    }

    #[test]
    fn broken_bytes_give_no_pairs() {
        let mut no_end = encode([("k", "v")]);
        no_end.pop();
        for broken in [vec![], vec![1, 0, 0], vec![9, 0, 0, 0], no_end, vec![0, 4, 0, 1]] {
            assert_eq!(decode(&broken), vec![], "{broken:?}");
        }
        assert_eq!(decode(&encode(vec![("k", "v"); 1025])), vec![], "more than 1024 pairs");
    }
}
