//! The path hash: which applications and transactions a request has come through, in 32 bits.
//!
//! ```text
//! path-hash = ( referring rotated left by one bit ) XOR ( last four bytes of MD5( app-name ";" transaction-name ) )
//! ```
//! Source: newrelic/go-agent `v3/internal/cat/path_hash.go`.

/// The hash of a transaction as eight hex digits. What is no hash counts as none.
pub fn path_hash(referring: Option<&str>, app_name: &str, transaction_name: &str) -> String {
    let referring = referring.filter(|hash| is_hash(hash)).and_then(|hash| u32::from_str_radix(hash, 16).ok());
    let md5::Digest([.., a, b, c, d]) = md5::compute(format!("{app_name};{transaction_name}"));
    format!("{:08x}", referring.unwrap_or(0).rotate_left(1) ^ u32::from_be_bytes([a, b, c, d]))
}

fn is_hash(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of New Relic's cross-agent tests, `cat/path_hashing.json`.
    #[test]
    fn hashes_are_those_of_new_relics_agents() {
        for (referring, app_name, transaction_name, hash) in [
            (None, "application A", "transaction A", "5e17050e"),
            (None, "my application", "transaction 13", "097ca5e1"),
            (Some("95f2f716"), "app2", "txn2", "ef72c2e6"),
            (Some("077634eb"), "app3", "txn3", "bfd6587f"),
            (Some("95f2f716"), "app1", "Доверяй, но проверяй", "b7ad900e"),
            (Some("80000000"), "app1", "txn1", "95f2f717"),
            (Some("00000001"), "app1", "txn1", "95f2f714"),
        ] {
            assert_eq!(path_hash(referring, app_name, transaction_name), hash, "{referring:?} {app_name}");
        }
    }

    #[test]
    fn what_is_no_hash_counts_as_none() {
        for text in ["", "zz", "95f2f7160", "+5f2f716"] {
            assert_eq!(path_hash(Some(text), "app2", "txn2"), path_hash(None, "app2", "txn2"), "{text}");
        }
    }
}
