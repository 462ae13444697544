//! The form of what workers keep for each other in the host's shared data.
//!
//! ```text
//! key   = 16 bytes that name the purpose, 16 lower-case hex digits of a hash
//! value = version:u8 payload checksum:u32be        checksum = FNV-1a over version and payload
//! ```
//!
//! Envoy keeps shared data for each `vm_id`, and Istio gives every plugin of a proxy the same empty one: hence the
//! prefix, so that our keys meet nobody else's, and the hash, so that differently configured instances do not
//! meet each other. The value is checked, because whoever shares the `vm_id` can write to it.

use alloc::vec::Vec;

use crate::id::SpanId;

/// The number to pass with the first write of a key that was absent.
///
/// With 0 Envoy writes whatever is there (proxy-wasm-cpp-host `src/shared_data.cc`), so the second of two workers
/// that both found nothing would erase the claim of the first. Any other number is compared, but only when there
/// is a value; Envoy counts its numbers up from 1, so this one matches none.
pub const CAS_OF_ABSENT: u32 = u32::MAX;

/// Length of a key in bytes.
const KEY_BYTES: usize = 32;

/// A key in the host's shared data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedKey([u8; KEY_BYTES]);

impl SharedKey {
    /// The key of one purpose for one set of `parts`; sets that differ in any part get different keys, apart from
    /// collisions of a 64-bit hash.
    pub fn new(purpose: &[u8; 16], parts: &[&[u8]]) -> Self {
        let hash = parts.iter().fold(Fnv64::default(), |hash, part| {
            // The length keeps two neighbours from passing bytes to each other.
            hash.with(&(part.len() as u64).to_be_bytes()).with(part)
        });
        let digits = SpanId::from_u64(hash.0).map_or([b'0'; 16], SpanId::to_hex);
        let mut key = [0; KEY_BYTES];
        for (byte, from) in key.iter_mut().zip(purpose.iter().chain(&digits)) {
            *byte = *from;
        }
        Self(key)
    }

    /// The bytes to hand to the host.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv): short, and nothing here needs more.
#[derive(Clone, Copy, Debug)]
struct Fnv64(u64);

impl Default for Fnv64 {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv64 {
    fn with(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)))
    }
}

/// A short number for a caller's account, to tell callers apart in [`crate::record::Origin::Caller`].
pub fn account_hash(account: &[u8]) -> u32 {
    fold(Fnv64::default().with(account))
}

/// Both halves of a hash in 32 bits.
fn fold(hash: Fnv64) -> u32 {
    let [a, b, c, d, e, f, g, h] = hash.0.to_be_bytes();
    u32::from_be_bytes([a, b, c, d]) ^ u32::from_be_bytes([e, f, g, h])
}

/// Puts version and checksum around a payload.
pub(crate) fn seal(version: u8, payload: &[&[u8]]) -> Vec<u8> {
    let mut value = vec![version];
    for part in payload {
        value.extend_from_slice(part);
    }
    let checksum = fold(Fnv64::default().with(&value));
    value.extend_from_slice(&checksum.to_be_bytes());
    value
}

/// The payload, when version and checksum are right.
pub(crate) fn open(version: u8, value: &[u8]) -> Option<&[u8]> {
    let (sealed, checksum) = value.split_last_chunk::<4>()?;
    let (found, payload) = sealed.split_first()?;
    let intact = fold(Fnv64::default().with(sealed)) == u32::from_be_bytes(*checksum);
    (*found == version && intact).then_some(payload)
}

/// Takes a big-endian number off the front of a payload.
pub(crate) fn take_u64(payload: &mut &[u8]) -> Option<u64> {
    let (bytes, rest) = payload.split_first_chunk::<8>()?;
    *payload = rest;
    Some(u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        for (text, hash) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(Fnv64::default().with(text.as_bytes()).0, hash, "{text}");
        }
    }

    #[test]
    fn keys_differ_with_purpose_and_every_part() {
        let keys = [
            SharedKey::new(b"newrelic-sampler", &[b"ab", b"c"]),
            SharedKey::new(b"newrelic-sampler", &[b"a", b"bc"]),
            SharedKey::new(b"newrelic-sampler", &[b"abc"]),
            SharedKey::new(b"newrelic-sampler", &[b"ab", b"d"]),
            SharedKey::new(b"newrelic-budget.", &[b"ab", b"c"]),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert!(keys.iter().all(|key| key.as_bytes().starts_with(b"newrelic-")), "{keys:?}");
        assert_eq!(SharedKey::new(b"newrelic-sampler", &[b"ab", b"c"]), keys[0]);
    }

    #[test]
    fn any_damage_to_a_value_is_noticed() {
        let value = seal(3, &[b"pay", b"load"]);
        assert_eq!(open(3, &value), Some(&b"payload"[..]));
        assert_eq!(open(4, &value), None, "another version");
        for position in 0..value.len() {
            let mut damaged = value.clone();
            damaged[position] ^= 0x10;
            assert_eq!(open(3, &damaged), None, "byte {position}");
            assert_eq!(open(3, &value[..position]), None, "cut at {position}");
        }
        assert_eq!(open(3, b""), None);
    }
}
