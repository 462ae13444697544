//! The module as Envoy loads it: what it imports, what it exports, and how large it is.

mod support;

use std::collections::BTreeSet;

use host_tests::{Envoy, Profile};

use support::{Seen, Setup, finish, module, request, send};

/// V8 compiles the whole module before the proxy is ready, which takes about 0.75 s of CPU time for each megabyte.
const BYTES_MAX: usize = 300 * 1024;

#[test]
fn every_version_of_envoy_has_what_the_module_imports() {
    for profile in Profile::all() {
        assert_eq!(module().imports_outside(profile), Vec::<String>::new(), "{profile:?}");
    }
}

#[test]
fn the_module_imports_only_what_the_filter_needs() {
    let imports: BTreeSet<_> = module().imports().into_iter().collect();
    let allowed = BTreeSet::from(
        [
            // Envoy's part of the ABI.
            "env.proxy_call_foreign_function",
            "env.proxy_define_metric",
            "env.proxy_done",
            "env.proxy_get_buffer_bytes",
            "env.proxy_get_current_time_nanoseconds",
            "env.proxy_get_header_map_pairs",
            "env.proxy_get_property",
            "env.proxy_get_shared_data",
            "env.proxy_http_call",
            "env.proxy_increment_metric",
            "env.proxy_log",
            "env.proxy_record_metric",
            "env.proxy_remove_header_map_value",
            "env.proxy_replace_header_map_value",
            "env.proxy_set_effective_context",
            "env.proxy_set_property",
            "env.proxy_set_shared_data",
            "env.proxy_set_tick_period_milliseconds",
            // Environment variables, random bytes, and what Rust's library needs to end a program.
            "wasi_snapshot_preview1.environ_get",
            "wasi_snapshot_preview1.environ_sizes_get",
            "wasi_snapshot_preview1.fd_write",
            "wasi_snapshot_preview1.proc_exit",
            "wasi_snapshot_preview1.random_get",
        ]
        .map(str::to_owned),
    );
    assert_eq!(imports.difference(&allowed).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn the_module_exports_the_callbacks_that_do_something_and_no_other() {
    let mut exports = module().exports();
    exports.sort();
    let expected = [
        "_initialize",
        "memory",
        "proxy_abi_version_0_2_1",
        "proxy_on_configure",
        "proxy_on_context_create",
        "proxy_on_delete",
        "proxy_on_done",
        "proxy_on_http_call_response",
        "proxy_on_log",
        "proxy_on_memory_allocate",
        "proxy_on_request_headers",
        "proxy_on_response_headers",
        "proxy_on_tick",
    ];
    assert_eq!(exports, expected, "each callback that Envoy calls in vain costs every request 0.1 us");
}

#[test]
fn the_module_is_small() {
    let bytes = module().bytes_len();
    assert!(bytes <= BYTES_MAX, "the module has {bytes} bytes, at most {BYTES_MAX} are allowed");
}

#[test]
fn the_oldest_envoy_runs_the_module() {
    for profile in [Profile::OLDEST, Profile::NEWEST] {
        let plugin = Setup::gateway().sampler("always_on").plugin();
        let mut envoy = Envoy::builder(&module()).plugin(plugin).profile(profile).start().expect("the proxy starts");
        let stream = envoy.stream().open();
        let upstream = send(&mut envoy, stream, &request::<&str, &str>(&[]));
        finish(&mut envoy, stream, "200");
        let seen = Seen::new(envoy, stream, upstream);
        assert_eq!((seen.spans().len(), seen.transactions().len()), (2, 1), "{profile:?}");
    }
}
