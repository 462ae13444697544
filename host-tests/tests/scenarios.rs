//! The cases of `filter/tests/cases` against the module that ships. `filter/tests/scenarios.rs` runs the same ones in
//! the native core: where the two disagree, what lies between the core and Envoy is at fault.

#[path = "../../filter/tests/cases/mod.rs"]
mod cases;

use cases::{Case, Line};
use host_tests::{Envoy, Module, Plugin, Result, Thread, guest};

#[test]
fn the_module_sends_on_what_each_case_says() -> Result<()> {
    let module = guest::module("newrelic-tracing")?;
    for case in cases::all() {
        case.check(&sent_on(&module, &case)?);
    }
    Ok(())
}

/// The header lines behind the module.
fn sent_on(module: &Module, case: &Case) -> Result<Vec<Line>> {
    let mut envoy = Envoy::builder(module)
        .plugin(Plugin::new("tracing").configuration(case.configuration.clone()))
        .clock_ns(case.now_ns)
        .random(Thread::Worker(0), &case.random)
        .start()?;
    let stream = envoy.stream().open();
    let upstream = envoy.request_headers(stream, case.request.clone())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(upstream.iter().map(|(name, value)| (text(name), text(value))).collect())
}
