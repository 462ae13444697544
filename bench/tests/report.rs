//! A small run against a real Envoy leads to a report that has what was measured.

use std::io::Write;
use std::path::Path;

use envoy_demo::paths;
use proxy_bench::machine::Machine;
use proxy_bench::report::Report;
use proxy_bench::settings::Settings;
use proxy_bench::tools::Tools;
use proxy_bench::{bench, variant};
use serde_json::Value;

const VARIANTS: &str = "otel-100,filter-inbound-100";

fn settings(out: &Path) -> Settings {
    Settings::read(|name| match name {
        "BENCH_ROUNDS" | "BENCH_SECONDS" => Some("1".to_owned()),
        "BENCH_RETRIES" => Some("0".to_owned()),
        "BENCH_GROUPS" => Some("main".to_owned()),
        "BENCH_VARIANTS" => Some(VARIANTS.to_owned()),
        "BENCH_OUT" => out.to_str().map(str::to_owned),
        _ => None,
    })
    .unwrap()
}

/// Whether Envoy and wrk are here. With `CI` or their own variables they are promised, and installed when missing.
fn is_equipped() -> bool {
    let promised = ["CI", "WRK"].into_iter().any(|name| std::env::var_os(name).is_some());
    let equipped = promised || paths::envoy_at_hand().is_some() && Tools::wrk_at_hand().is_some();
    if !equipped {
        // Written to the stream itself, because the test harness hides what a passing test prints.
        let notice = "SKIPPED: no Envoy or no wrk on this machine; `make bench` installs both\n";
        std::io::stderr().write_all(notice.as_bytes()).unwrap();
    }
    equipped
}

// One thread, as in the program: what is pinned is a thread.
#[tokio::test(flavor = "current_thread")]
async fn a_small_run_is_sound_and_its_report_has_every_variant() {
    if !is_equipped() {
        return;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}", std::process::id()));
    let settings = settings(&dir.join("out"));
    let variants = variant::read_all(&Path::new(proxy_bench::PACKAGE).join("variants")).unwrap();
    let tools = Tools::find().unwrap();
    let machine = Machine::look(&tools);
    let raw = bench::run(&settings, &variants, tools, &dir, &mut |_| {}).await.unwrap();
    let report = Report::new(settings, variants, machine, raw);

    // No request failed, and every span arrived.
    assert_eq!(report.faults, [""; 0]);
    let files = report.write().unwrap();
    let json: Value = serde_json::from_slice(&std::fs::read(&files[0]).unwrap()).unwrap();
    let measured: Vec<&str> =
        json["summaries"].as_array().unwrap().iter().map(|one| one["variant"].as_str().unwrap()).collect();
    assert_eq!(measured, ["bare", "otel-100", "filter-inbound-100"]);
    for one in json["raw"]["measurements"].as_array().unwrap() {
        let reading = &one["reading"];
        assert!(reading["requests"].as_u64().unwrap() > 0, "{one}");
        if one["variant"] != "bare" {
            assert!(reading["delivery"]["exported"].as_u64() > Some(0), "{one}");
        }
    }
    let [markdown, svg] = [&files[1], &files[2]].map(|file| std::fs::read_to_string(file).unwrap());
    for title in ["Envoy alone", "OpenTelemetry tracer, 100 %", "Filter, inbound, 100 %"] {
        assert!(markdown.contains(&format!("| {title} |")), "{title}: {markdown}");
        assert!(title == "Envoy alone" || svg.contains(title), "{title}: {svg}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}
