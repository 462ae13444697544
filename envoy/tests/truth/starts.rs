//! Cases about the start of a proxy, each with an Envoy of its own.

use std::collections::BTreeMap;
use std::path::Path;

use envoy_demo::ports::ReservedPort;
use envoy_demo::process::{EnvoyProcess, Launch};
use host_tests::{Direction, Envoy, Module, Plugin, Profile, Thread};
use tokio::runtime::Runtime;

use crate::model::Recording;
use crate::on_envoy::{self, Line, bootstrap};
use crate::on_host;
use crate::plugins::{self, Form, Spec};

/// A start and whether Envoy survives it.
struct Start {
    name: &'static str,
    plugins: Vec<Spec>,
    starts: bool,
}

fn starts() -> Vec<Start> {
    let plugin = |name: &str, configuration: &str, vm_configuration: &str| Spec {
        plugin: Plugin::new(name)
            .vm_id("shared-vm")
            .configuration(configuration)
            .vm_configuration(vm_configuration)
            .listener(name, Direction::Unspecified),
        form: Form::Text,
        before: None,
        in_cluster: false,
    };
    let with_env = |mut spec: Spec, value: &str| {
        spec.plugin = spec.plugin.env("WHOSE", value);
        spec
    };
    const SHOW: &str = "configure: env WHOSE; shared key; setshared key value 0; register queue |";
    vec![
        Start {
            name: "two plugins of one VM are configured on two workers",
            plugins: vec![with_env(plugin("one", SHOW, ""), "one"), with_env(plugin("two", SHOW, ""), "two")],
            starts: true,
        },
        Start {
            name: "a VM that refuses to start",
            plugins: vec![plugin("one", "", "start: return 0 |")],
            starts: false,
        },
        Start {
            name: "a plugin that refuses its configuration",
            plugins: vec![plugin("one", "configure: return 0 |", "")],
            starts: false,
        },
        Start {
            name: "a module that traps while it is configured",
            plugins: vec![plugin("one", "configure: trap |", "")],
            starts: false,
        },
    ]
}

pub(crate) fn on_host(probe: &Path, profile: Profile) -> Recording {
    let module = Module::from_file(probe).unwrap();
    let play = |start: Start| {
        let mut builder = Envoy::builder(&module).profile(profile).workers(2).node(plugins::node());
        for spec in start.plugins {
            builder = builder.plugin(spec.plugin);
        }
        let started = builder.start();
        let lines = match &started {
            Ok(envoy) => {
                let named = |thread: Thread| match thread {
                    Thread::Worker(worker) => format!("worker {worker}"),
                    Thread::Canary | Thread::Main => "main".to_owned(),
                };
                let lines = on_host::lines(envoy);
                let mut lines: Vec<String> =
                    lines.into_iter().map(|(of, text)| format!("{}: {text}", named(of))).collect();
                // Threads run at the same time in Envoy; each has its own order.
                lines.sort_by(|one, other| one.split(':').next().cmp(&other.split(':').next()));
                lines
            }
            Err(_) => vec!["it does not start".to_owned()],
        };
        assert_eq!(started.is_ok(), start.starts, "{}", start.name);
        (start.name, lines)
    };
    starts().into_iter().map(play).collect()
}

pub(crate) fn on_envoy(probe: &Path, binary: &Path) -> Recording {
    let runtime = Runtime::new().unwrap();
    let _in_runtime = runtime.enter();
    let play = |start: Start| {
        let ports: BTreeMap<String, ReservedPort> =
            start.plugins.iter().map(|spec| (spec.plugin.listener.clone(), ReservedPort::any().unwrap())).collect();
        let listeners = ports.iter().map(|(name, port)| (name.clone(), port.address())).collect();
        let nowhere = ([127, 0, 0, 1], 1).into();
        let config = bootstrap(&start.plugins, probe, &listeners, nowhere, nowhere).to_string();
        let dir = on_envoy::fresh_dir();
        let launch = Launch { binary, config: &config, dir: &dir, env: &[], concurrency: 2 };
        let lines = if start.starts {
            let envoy = runtime.block_on(EnvoyProcess::start(&launch)).unwrap();
            let lines = by_thread(on_envoy::lines(&envoy.log()));
            runtime.block_on(envoy.stop()).unwrap();
            lines
        } else {
            let mut envoy = EnvoyProcess::spawn(&launch).unwrap();
            let status = runtime.block_on(envoy.wait_for_exit()).unwrap();
            assert!(!status.success(), "{}: {}", start.name, envoy.log());
            vec!["it does not start".to_owned()]
        };
        (start.name, lines)
    };
    starts().into_iter().map(play).collect()
}

fn by_thread(lines: Vec<Line>) -> Vec<String> {
    let mut threads: Vec<String> = Vec::new();
    let mut named: Vec<(usize, String)> = Vec::new();
    for line in lines {
        let known = threads.iter().position(|thread| *thread == line.thread);
        let index = known.unwrap_or_else(|| {
            threads.push(line.thread.clone());
            threads.len() - 1
        });
        let name = index.checked_sub(1).map_or_else(|| "main".to_owned(), |worker| format!("worker {worker}"));
        named.push((index, format!("{name}: {}", line.text)));
    }
    named.sort_by_key(|(index, _)| *index);
    named.into_iter().map(|(_, text)| text).collect()
}
