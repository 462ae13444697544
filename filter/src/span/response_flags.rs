//! Envoy's response flags: why a request got no answer of its upstream (Envoy, `stream_info.h`, and the access log's
//! `%RESPONSE_FLAGS%`).

use alloc::string::String;
use alloc::vec::Vec;

/// The short names by bit, as `response.flags` numbers them.
const NAMES: [&str; 30] = [
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX", "SI", "IH",
    "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO", "DR", "UDO",
];

/// The flags of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags(pub u64);

impl ResponseFlags {
    /// The request was on its way to a cluster, and no answer arrived: `UH UT LR UR UF UC UO URX SI UMSDR DT UPE DF`.
    const UPSTREAM_FAILURE: u64 = bit(1)
        | bit(2)
        | bit(3)
        | bit(4)
        | bit(5)
        | bit(6)
        | bit(7)
        | bit(15)
        | bit(16)
        | bit(19)
        | bit(22)
        | bit(23)
        | bit(26);

    /// Set on every end of an upgraded connection, also on an orderly one: `UC DC SI DR`.
    const ENDS_OF_UPGRADE: u64 = bit(6) | bit(14) | bit(16) | bit(28);

    /// Whether the request failed on its way to a cluster.
    pub fn is_upstream_failure(self) -> bool {
        self.0 & Self::UPSTREAM_FAILURE != 0
    }

    /// The flags without those that an upgraded connection has at its end in any case.
    #[must_use]
    pub fn of_upgrade(self) -> Self {
        Self(self.0 & !Self::ENDS_OF_UPGRADE)
    }

    /// The short names, joined by commas; empty for no flag. Bits that this table does not know are left out.
    pub fn names(self) -> String {
        let set = |position: &usize| self.0 & bit(*position) != 0;
        let names: Vec<&str> =
            (0..NAMES.len()).filter(set).filter_map(|position| NAMES.get(position).copied()).collect();
        names.join(",")
    }

    /// The short name of the upstream failure: the first such flag, the retry limit last, since it comes with the
    /// reason of the last try.
    pub fn upstream_failure(self) -> Option<&'static str> {
        const RETRY_LIMIT: usize = 15;
        let failures = self.0 & Self::UPSTREAM_FAILURE;
        let first = |flags: u64| NAMES.get(usize::try_from(flags.trailing_zeros()).ok()?).copied();
        first(failures & !bit(RETRY_LIMIT)).or_else(|| first(failures))
    }
}

const fn bit(position: usize) -> u64 {
    1 << position
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers were read from a real Envoy.
    #[test]
    fn flags_have_envoys_short_names() {
        for (flags, names) in [
            (0, ""),
            (4, "UT"),
            (32, "UF"),
            (64, "UC"),
            (256, "NR"),
            (16384, "DC"),
            (262_144, "DPE"),
            (16_777_216, "NC"),
            (32 | 32768, "UF,URX"),
            (1 << 40, ""),
        ] {
            assert_eq!(ResponseFlags(flags).names(), names, "{flags}");
        }
    }

    #[test]
    fn only_failures_behind_the_router_count_as_upstream_failures() {
        for (flags, failure) in [
            (32, Some("UF")),
            (32 | 32768, Some("UF")),
            (32768, Some("URX")),
            (256, None),
            (16_777_216, None),
            (16384, None),
        ] {
            assert_eq!(ResponseFlags(flags).upstream_failure(), failure, "{flags}");
            assert_eq!(ResponseFlags(flags).is_upstream_failure(), failure.is_some(), "{flags}");
        }
    }

    #[test]
    fn the_orderly_end_of_an_upgrade_is_no_failure() {
        assert_eq!(ResponseFlags(64).of_upgrade(), ResponseFlags(0));
        assert_eq!(ResponseFlags(32).of_upgrade(), ResponseFlags(32));
    }
}
