//! The path hash: names the way that a call took through applications and transactions.
//!
//! ```text
//! hash = rotate-left( referring, 1 ) XOR low32( MD5( app-name ";" transaction-name ) )
//! text = 8( "0"-"9" / "a"-"f" )
//! ```
//! The referring hash is 0 unless it is exactly eight hex digits (newrelic/node-newrelic `lib/util/hashes.js`).

use alloc::string::String;

use super::md5;

/// A path hash: 32 bits, eight lower-case hex digits on the wire, ordered like its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathHash(u32);

impl PathHash {
    /// The hash of a transaction. `referring` is the caller's hash as it arrived, whatever it holds;
    /// `transaction_name` is the full name.
    pub fn new(referring: Option<&str>, app_name: &str, transaction_name: &str) -> Self {
        let digest = md5::digest([app_name, ";", transaction_name].concat().as_bytes());
        let low = digest.last_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let referring = referring.and_then(referring_hash).unwrap_or(0);
        Self(referring.rotate_left(1) ^ low)
    }

    /// Eight lower-case hex digits.
    pub fn to_hex(self) -> String {
        let digit = |shift: u32| char::from_digit((self.0 >> shift) & 15, 16).unwrap_or('0');
        [28, 24, 20, 16, 12, 8, 4, 0].map(digit).iter().collect()
    }
}

/// The value of exactly eight hex digits of either case.
fn referring_hash(text: &str) -> Option<u32> {
    let digits = <&[u8; 8]>::try_from(text.as_bytes()).ok()?;
    digits.iter().try_fold(0, |value: u32, digit| Some((value << 4) | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOCK: &str = "WebTransaction/Envoy/GET /stock";

    #[test]
    fn hashes_the_caller_the_application_and_the_transaction() {
        for (referring, app_name, transaction_name, expected) in [
            (None, "storefront", "WebTransaction/Custom/checkout", "fffeef37"),
            (Some("fffeef37"), "inventory", STOCK, "abf64d96"),
            (Some("c0ffee11"), "inventory", STOCK, "d5f44fda"),
            (Some("C0FFEE11"), "inventory", STOCK, "d5f44fda"),
            (Some("fffeef37"), "inventory", "WebTransaction/Uri/stock", "ffd41306"),
            (None, "Café", "WebTransaction/Uri/日", "d950c857"),
        ] {
            assert_eq!(PathHash::new(referring, app_name, transaction_name).to_hex(), expected, "{transaction_name}");
        }
    }

    #[test]
    fn a_referring_hash_that_is_not_eight_hex_digits_counts_as_none() {
        for referring in ["zz", "", "0", "c0ffee1", "c0ffee111", "+0ffee11", "c0ffee1g", " c0ffee1", "é0ffee1", "ééée"]
        {
            assert_eq!(PathHash::new(Some(referring), "inventory", STOCK).to_hex(), "540b93f9", "{referring}");
        }
    }

    #[test]
    fn the_digest_is_that_of_both_names_in_full() {
        for (app_name, transaction_name, expected) in [
            ("storefront", "WebTransaction/Custom/checkout", "9b8d873d5b73249f72a877c2fffeef37"),
            ("inventory", STOCK, "ac2cdfa945f3cf7a8d629f2f540b93f9"),
            ("Café", "WebTransaction/Uri/日", "0f11fb04d25937ec3f839711d950c857"),
        ] {
            let digest = md5::digest(format!("{app_name};{transaction_name}").as_bytes());
            assert_eq!(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
        }
    }

    #[test]
    fn the_referring_hash_is_rotated_by_one_bit() {
        let none = PathHash::new(None, "a", "t").0;
        for (referring, rotated) in
            [("fffeef37", 0xfffd_de6f_u32), ("c0ffee11", 0x81ff_dc23), ("80000000", 1), ("00000001", 2)]
        {
            assert_eq!(PathHash::new(Some(referring), "a", "t").0, none ^ rotated, "{referring}");
        }
    }

    #[test]
    fn leading_zeros_are_printed() {
        assert_eq!(PathHash(0x0000_0a0f).to_hex(), "00000a0f");
    }
}
