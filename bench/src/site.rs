//! The machine's part in a run: the Envoys, the load generator, their ports, processors and files.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use envoy_demo::client::{self, Request};
use envoy_demo::ports::ReservedPort;
use envoy_demo::process::{EnvoyProcess, Launch};
use envoy_demo::stats::Stats;

use crate::bootstrap::{self, Addresses};
use crate::load::Generator;
use crate::plan::Shape;
use crate::procfs::{self, pinned};
use crate::tools::Tools;
use crate::traffic;
use crate::variant::{Caller, Variant};

/// Statistics that a measurement asks for.
const STATS: &str = "/stats?filter=newrelic%7Copentelemetry%7Cdownstream_rq%7Cdownstream_cx_rx%7Crq_direct%7Ccluster.sink_otlp.upstream";
/// The listeners of both Envoys.
const LISTENERS: usize = 5;

/// The machine's part in a run: the backend, which lives as long as this value, ports and folders.
#[derive(Debug)]
pub struct Site {
    tools: Tools,
    backend: EnvoyProcess,
    addresses: Addresses,
    dir: PathBuf,
    /// For Envoy with one worker, and for everything else, if there are two.
    processors: Option<[usize; 2]>,
    requests: HashMap<(Caller, u32), PathBuf>,
    _ports: Vec<ReservedPort>,
    _lock: File,
}

impl Site {
    /// Starts what is behind the measured Envoy.
    ///
    /// # Errors
    /// A port, a folder or Envoy cannot be had, or another run uses the folder.
    pub async fn start(tools: Tools, dir: &Path) -> Result<Self> {
        let lock = lock(dir)?;
        let ports = (0..LISTENERS).map(|_| ReservedPort::any()).collect::<Result<Vec<_>>>()?;
        let addresses = addresses(&ports)?;
        let processors = match procfs::processors()?.as_slice() {
            [first, second, ..] => Some([*first, *second]),
            _ => None,
        };
        let config = bootstrap::backend(addresses)?;
        let backend_dir = dir.join("backend");
        let launch = launch(&tools.envoy, &config, &backend_dir, 1);
        let mut backend = pinned(processors.map(|[_, others]| others), || EnvoyProcess::spawn(&launch))?;
        backend.wait_until_ready().await?;
        let dir = dir.to_owned();
        Ok(Self { tools, backend, addresses, dir, processors, requests: HashMap::new(), _ports: ports, _lock: lock })
    }

    /// Starts an Envoy with a variant, on one processor or on all.
    pub(crate) fn spawn(&self, variant: &Variant, shape: Shape, processor: Option<usize>) -> Result<EnvoyProcess> {
        let config = self.config(variant, shape)?;
        let dir = self.dir.join("measured");
        pinned(processor, || EnvoyProcess::spawn(&launch(&self.tools.envoy, &config, &dir, shape.workers)))
    }

    /// The processor of an Envoy under load. More workers than one need more processors than one.
    pub(crate) fn processor_of_envoy(&self, shape: Shape) -> Option<usize> {
        self.processors.filter(|_| shape.workers == 1).map(|[envoy, _]| envoy)
    }

    /// The Envoy that is not measured.
    pub(crate) fn backend(&self) -> &EnvoyProcess {
        &self.backend
    }

    fn config(&self, variant: &Variant, shape: Shape) -> Result<String> {
        let module = self.tools.module(variant)?;
        bootstrap::measured(variant, module.as_deref(), self.addresses, shape.topology, shape.routes)
            .with_context(|| format!("the variant {}", variant.id))
    }

    /// The load generator as a shape wants it.
    pub(crate) fn generator<'a>(&'a self, requests: &'a Path, shape: Shape) -> Generator<'a> {
        let processor = self.processors.filter(|_| shape.workers == 1).map(|[_, others]| others);
        let port = self.addresses.measured;
        Generator { wrk: &self.tools.wrk, processor, requests, connections: shape.connections, port }
    }

    /// The file with requests of one kind, which is written once.
    pub(crate) fn requests_file(&mut self, caller: Caller, headers: u32) -> Result<PathBuf> {
        if let Some(file) = self.requests.get(&(caller, headers)) {
            return Ok(file.clone());
        }
        let file = self.dir.join(format!("requests-{caller:?}-{headers}"));
        fs::write(&file, traffic::file(caller, headers))?;
        self.requests.insert((caller, headers), file.clone());
        Ok(file)
    }

    /// 5xx answers of the application.
    pub(crate) async fn refused_by_the_app(&self) -> Result<u64> {
        Ok(ask(&self.backend).await?.value("http.app.downstream_rq_5xx"))
    }

    /// Answered requests and bytes of the receiver of a variant's records.
    pub(crate) async fn sink(&self, variant: &Variant) -> Result<[u64; 2]> {
        let Some(sink) = variant.delivers.as_ref().and_then(|delivers| delivers.exporter.sink()) else {
            return Ok([0; 2]);
        };
        let stats = ask(&self.backend).await?;
        let value = |name: &str| stats.value(&format!("http.{sink}.{name}"));
        Ok([value("downstream_rq_2xx"), value("downstream_cx_rx_bytes_total")])
    }
}

fn addresses(ports: &[ReservedPort]) -> Result<Addresses> {
    let ports: Vec<u16> = ports.iter().map(|port| port.address().port()).collect();
    let [measured, app, trace_api, event_api, otlp] = ports[..] else {
        bail!("there are {} ports for {LISTENERS} listeners", ports.len());
    };
    Ok(Addresses { measured, app, trace_api, event_api, otlp })
}

/// Keeps a folder for this run: two at once would measure each other.
fn lock(dir: &Path) -> Result<File> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let file = File::create(dir.join("lock"))?;
    file.try_lock().with_context(|| format!("another run uses {}", dir.display()))?;
    Ok(file)
}

fn launch<'a>(envoy: &'a Path, config: &'a str, dir: &'a Path, workers: u32) -> Launch<'a> {
    Launch { binary: envoy, config, dir, env: &[], concurrency: workers }
}

/// The statistics of an Envoy that a measurement needs.
pub(crate) async fn ask(envoy: &EnvoyProcess) -> Result<Stats> {
    Ok(Stats::parse(&client::send(envoy.admin_address()?, &Request::get("admin", STATS)).await?.text()))
}
