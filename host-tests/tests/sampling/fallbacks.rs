//! Samplers that cannot be used: the shared adaptive sampler takes their place, and the operator reads of it.

use host_tests::LogLevel;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{builder, configuration, lines_of, payload, plugin, root, sampled_of, w3c, with};

const FULL: &str = "newrelic.Supportability/Envoy/FullGranularity/";
const PARTIAL: &str = "newrelic.Supportability/Envoy/PartialGranularity/";

/// Everything that is no sampler.
fn unusable() -> Vec<Value> {
    let ratio = |ratio: Value| json!({ "trace_id_ratio_based": { "ratio": ratio } });
    let target = |target: Value| json!({ "adaptive": { "sampling_target": target } });
    vec![
        json!("sometimes"),
        json!("ALWAYS_ON"),
        json!(""),
        json!(7),
        json!(null),
        json!(["always_on"]),
        json!({}),
        json!({ "sometimes": {} }),
        json!({ "always_on": {}, "always_off": {} }),
        json!("trace_id_ratio_based"),
        json!({ "trace_id_ratio_based": {} }),
        json!({ "trace_id_ratio_based": 0.5 }),
        ratio(json!(0)),
        ratio(json!(-0.5)),
        ratio(json!(1.000_001)),
        ratio(json!("0.5")),
        ratio(json!(null)),
        target(json!(0)),
        target(json!(121)),
        target(json!(-3)),
        target(json!("5")),
        target(json!(2.5)),
    ]
}

/// What every name of a usage statistic counts.
fn usage(envoy: &host_tests::Envoy) -> BTreeMap<String, u64> {
    let counters = envoy.counters().into_iter();
    counters.filter(|(name, count)| name.contains("Granularity/") && !name.contains("/Span/") && *count > 0).collect()
}

#[test]
fn a_sampler_that_cannot_be_used_is_the_shared_adaptive_one() {
    for sampler in unusable() {
        let tree = json!({ "adaptive_sampling_target": 2, "root": sampler });
        let mut envoy = builder(&configuration(&tree)).start().unwrap();
        assert_eq!(sampled_of(&mut envoy, 1, &root()), 1, "{sampler}");
        assert_eq!(sampled_of(&mut envoy, 5, &w3c("01")), 1, "{sampler}: another section has used up the target");
        assert_eq!(sampled_of(&mut envoy, 5, &root()), 0, "{sampler}");
        envoy.advance(Duration::from_secs(2)).unwrap();
        assert!(usage(&envoy).contains_key(&format!("{FULL}Root/Adaptive/Shared")), "{sampler}");
    }
}

#[test]
fn every_section_falls_back_for_itself() {
    let trace = payload("0000000000000000f000000000000000", &Value::Null, &Value::Null);
    for (section, caller) in
        [("root", trace), ("remote_parent_sampled", w3c("01")), ("remote_parent_not_sampled", w3c("00"))]
    {
        let others = json!({ "root": "always_off", "remote_parent_sampled": "always_off", "remote_parent_not_sampled": "always_off" });
        let wrong = json!({ section: "sometimes" });
        let partial = with(&others, &with(&wrong, &json!({ "enabled": true })));
        for (layer, tree) in [
            ("", with(&others, &wrong)),
            ("partial_granularity.", with(&others, &json!({ "partial_granularity": partial }))),
        ] {
            let tree = with(&tree, &json!({ "adaptive_sampling_target": 2 }));
            let mut envoy = builder(&configuration(&tree)).start().unwrap();
            let warnings = lines_of(&envoy, LogLevel::Warn);
            let key = format!("distributed_tracing.sampler.{layer}{section}");
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].contains(&format!("{key}: ")), "{warnings:?}");
            assert_eq!(sampled_of(&mut envoy, 5, &caller), 2, "{key}");
        }
    }
}

#[test]
fn a_fall_back_is_logged_once_in_the_process_and_never_again() {
    let ratio = json!({ "trace_id_ratio_based": { "ratio": 7 } });
    let tree = json!({ "root": "sometimes", "remote_parent_sampled": ratio, "adaptive_sampling_target": 500 });
    let mut envoy = builder(&configuration(&tree)).workers(2).start().unwrap();
    let warnings = lines_of(&envoy, LogLevel::Warn);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for (key, value) in [("root", "sometimes"), ("remote_parent_sampled", ""), ("adaptive_sampling_target", "500")] {
        let key = format!("distributed_tracing.sampler.{key}: ");
        let about = warnings.iter().filter(|line| line.contains(&key) && line.contains(value));
        assert_eq!(about.count(), 1, "{warnings:?}");
    }
    envoy.clear_journal();
    for worker in 0..2 {
        for _ in 0..20 {
            let headers = crate::harness::request(&w3c("01"));
            envoy.stream().worker(worker).exchange(headers, [(":status", "200")]).unwrap();
        }
    }
    envoy.advance(Duration::from_secs(90)).unwrap();
    assert!(!envoy.logged(LogLevel::Warn, ""), "{}", envoy.transcript());
}

#[test]
fn usable_samplers_warn_of_nothing() {
    for sampler in [
        json!("default"),
        json!("adaptive"),
        json!("always_on"),
        json!("always_off"),
        json!({ "adaptive": {} }),
        json!({ "adaptive": { "sampling_target": 1 } }),
        json!({ "adaptive": { "sampling_target": 120 } }),
        json!({ "trace_id_ratio_based": { "ratio": 1 } }),
        json!({ "trace_id_ratio_based": { "ratio": 1e-9 } }),
    ] {
        let partial = json!({ "enabled": true, "root": sampler });
        let tree = json!({ "root": sampler, "partial_granularity": partial, "adaptive_sampling_target": 120 });
        let envoy = builder(&configuration(&tree)).start().unwrap();
        assert!(!envoy.logged(LogLevel::Warn, ""), "{sampler}: {}", envoy.transcript());
    }
}

#[test]
fn a_global_target_that_cannot_be_used_is_ten() {
    for target in [json!(0), json!(121), json!(-1), json!("20"), json!(2.5), json!(null), json!([20])] {
        let mut envoy = builder(&configuration(&json!({ "adaptive_sampling_target": target }))).start().unwrap();
        let warnings = lines_of(&envoy, LogLevel::Warn);
        assert_eq!(warnings.len(), 1, "{target}: {warnings:?}");
        assert!(warnings[0].contains("distributed_tracing.sampler.adaptive_sampling_target: "), "{warnings:?}");
        assert_eq!(sampled_of(&mut envoy, 25, &root()), 10, "{target}");
    }
    for target in [1_usize, 120] {
        let mut envoy = builder(&configuration(&json!({ "adaptive_sampling_target": target }))).start().unwrap();
        assert!(!envoy.logged(LogLevel::Warn, ""), "{}", envoy.transcript());
        assert_eq!(sampled_of(&mut envoy, 130, &root()), target);
    }
}

#[test]
fn the_usage_of_every_section_is_counted_once_in_the_process() {
    let sections = json!({
        "root": { "adaptive": { "sampling_target": 5 } },
        "remote_parent_sampled": "always_on",
        "remote_parent_not_sampled": { "trace_id_ratio_based": { "ratio": 0.5 } },
    });
    let full = ["Root/Adaptive", "RemoteParentSampled/AlwaysOn", "RemoteParentNotSampled/TraceIdRatioBased"];
    let partial = json!({ "enabled": true, "root": "always_off" });
    let behind = ["Root/AlwaysOff", "RemoteParentSampled/Adaptive/Shared", "RemoteParentNotSampled/Adaptive/Shared"];
    let named = |layer: &str, names: &[&str]| names.iter().map(|name| format!("{layer}{name}")).collect::<Vec<_>>();
    let layered = with(&sections, &json!({ "partial_granularity": partial }));
    let off = json!({ "full_granularity": { "enabled": false } });
    for (tree, expected) in [
        (sections, named(FULL, &full)),
        (layered.clone(), [named(FULL, &full), named(PARTIAL, &behind)].concat()),
        (with(&layered, &off), named(PARTIAL, &behind)),
        (off, Vec::new()),
    ] {
        let mut envoy = builder(&configuration(&tree)).workers(2).start().unwrap();
        for _ in 0..3 {
            envoy.advance(Duration::from_secs(1)).unwrap();
            sampled_of(&mut envoy, 2, &root());
        }
        let counts: BTreeMap<_, _> = expected.into_iter().map(|name| (name, 1)).collect();
        assert_eq!(usage(&envoy), counts, "{tree}");
    }
}

#[test]
fn without_distributed_tracing_no_sampler_is_in_use() {
    let disabled = with(&configuration(&json!({})), &json!({ "distributed_tracing": { "enabled": false } }));
    let mut envoy = host_tests::Envoy::builder(crate::harness::module()).plugin(plugin(&disabled)).start().unwrap();
    envoy.advance(Duration::from_secs(2)).unwrap();
    assert_eq!(usage(&envoy), BTreeMap::new());
}
