//! How versions of Envoy differ as a guest sees them.
//!
//! Sources: the Envoy changelogs of 1.29.0 and 1.33.0 (attributes), `proxy-wasm-cpp-host`
//! `include/proxy-wasm/exports.h` at the commit each Envoy release pins (imports), and runs of
//! Envoy 1.36.2 and 1.40.0 (VM sharing).

/// A version of Envoy, 1.28 to 1.40.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Profile {
    minor: u32,
}

/// WASI functions of Envoy 1.28 to 1.31.
const WASI_FIRST: &[&str] = &[
    "fd_write",
    "fd_read",
    "fd_seek",
    "fd_close",
    "fd_fdstat_get",
    "environ_get",
    "environ_sizes_get",
    "args_get",
    "args_sizes_get",
    "clock_time_get",
    "random_get",
    "proc_exit",
    "path_open",
    "fd_prestat_get",
    "fd_prestat_dir_name",
];

/// WASI functions Envoy 1.32 added.
const WASI_SECOND: &[&str] = &["fd_fdstat_set_flags", "sched_yield", "poll_oneoff"];

/// Functions of the module `env`: the ABI 0.2.1 and what `proxy-wasm-cpp-host` adds to it.
const ENV: &[&str] = &[
    "proxy_log",
    "proxy_get_log_level",
    "proxy_get_status",
    "proxy_get_property",
    "proxy_set_property",
    "proxy_send_local_response",
    "proxy_continue_stream",
    "proxy_close_stream",
    "proxy_get_shared_data",
    "proxy_set_shared_data",
    "proxy_register_shared_queue",
    "proxy_resolve_shared_queue",
    "proxy_dequeue_shared_queue",
    "proxy_enqueue_shared_queue",
    "proxy_get_header_map_value",
    "proxy_add_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_remove_header_map_value",
    "proxy_get_header_map_pairs",
    "proxy_set_header_map_pairs",
    "proxy_get_header_map_size",
    "proxy_get_buffer_status",
    "proxy_get_buffer_bytes",
    "proxy_set_buffer_bytes",
    "proxy_http_call",
    "proxy_grpc_call",
    "proxy_grpc_stream",
    "proxy_grpc_close",
    "proxy_grpc_cancel",
    "proxy_grpc_send",
    "proxy_set_tick_period_milliseconds",
    "proxy_get_current_time_nanoseconds",
    "proxy_define_metric",
    "proxy_increment_metric",
    "proxy_record_metric",
    "proxy_get_metric",
    "proxy_set_effective_context",
    "proxy_done",
    "proxy_call_foreign_function",
];

impl Profile {
    /// The newest version this library knows.
    pub const NEWEST: Self = Self { minor: 40 };
    /// The oldest version this library knows.
    pub const OLDEST: Self = Self { minor: 28 };

    /// Envoy 1.`minor`. `None` outside 28 to 40.
    #[must_use]
    pub fn envoy_1(minor: u32) -> Option<Self> {
        (Self::OLDEST.minor..=Self::NEWEST.minor).contains(&minor).then_some(Self { minor })
    }

    /// Every known version, oldest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (Self::OLDEST.minor..=Self::NEWEST.minor).map(|minor| Self { minor })
    }

    /// Whether this version has the function `name` of the module `module`.
    #[must_use]
    pub fn imports(self, module: &str, name: &str) -> bool {
        match module {
            "env" => ENV.contains(&name),
            "wasi_snapshot_preview1" | "wasi_unstable" => {
                WASI_FIRST.contains(&name) || (self.minor >= 32 && WASI_SECOND.contains(&name))
            }
            _ => false,
        }
    }

    /// Whether the attributes without `xds.`, such as `node.id` and `listener_direction`, exist.
    #[must_use]
    pub fn has_legacy_attributes(self) -> bool {
        self.minor < 33
    }

    /// Whether plugins with the same code but another environment get a VM of their own.
    ///
    /// Measured: not in 1.36.2, so in 1.40.0. Versions between are taken to be like 1.36.
    #[must_use]
    pub fn separates_environments(self) -> bool {
        self.minor >= 40
    }

    /// Whether `request.headers_bytes` and `response.headers_bytes` exist.
    ///
    /// Measured: not in 1.36.2, but in 1.40.0. Versions between are taken to be like 1.36.
    #[must_use]
    pub fn has_headers_bytes(self) -> bool {
        self.minor >= 40
    }

    /// Whether `failure_policy: FAIL_RELOAD` exists.
    #[must_use]
    pub fn has_fail_reload(self) -> bool {
        self.minor >= 33
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::NEWEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_imports_grew_in_1_32() {
        for (minor, name, known) in
            [(28, "fd_write", true), (31, "sched_yield", false), (32, "sched_yield", true), (40, "sock_send", false)]
        {
            let profile = Profile::envoy_1(minor).unwrap();
            assert_eq!(profile.imports("wasi_snapshot_preview1", name), known, "1.{minor} {name}");
        }
        assert!(!Profile::NEWEST.imports("somewhere", "fd_write"));
    }

    #[test]
    fn versions_outside_the_range_are_unknown() {
        assert_eq!(Profile::envoy_1(27), None);
        assert_eq!(Profile::envoy_1(41), None);
        assert_eq!(Profile::all().count(), 13);
    }
}
