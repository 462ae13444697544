//! The obfuscation as the peers of the filter do it: base64 of the bytes under a repeated key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Obfuscates a text under a key.
pub(crate) fn encode(text: impl AsRef<[u8]>, key: &str) -> String {
    STANDARD.encode(xor(text.as_ref(), key))
}

/// Takes the obfuscation off.
pub(crate) fn decode(value: &[u8], key: &str) -> String {
    let bytes = STANDARD.decode(value).expect("base64 with padding");
    String::from_utf8(xor(&bytes, key)).expect("text under this key")
}

fn xor(bytes: &[u8], key: &str) -> Vec<u8> {
    bytes.iter().zip(key.bytes().cycle()).map(|(byte, key)| byte ^ key).collect()
}

/// The last one is of newrelic/go-agent `v3/internal/cat` and newrelic/newrelic-java-agent `ObfuscatorTest`.
#[test]
fn the_peers_of_these_tests_obfuscate_as_new_relics_agents_do() {
    for (text, key, value) in [
        ("A", "k", "Kg=="),
        ("café", "key", "CAQfqMw="),
        ("4002#55", "f00dcafe1234", "UgAAVkBUUw=="),
        ("4001#90210", "f00dcafe1234", "UgAAVUBYVlcAAg=="),
        ("testString", "BLAHHHH", "NikyPBs8OisiJg=="),
    ] {
        assert_eq!(encode(text, key), value, "{text}");
        assert_eq!(decode(value.as_bytes(), key), text, "{value}");
    }
}
