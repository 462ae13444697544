//! One measurement: a fresh Envoy under load.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use envoy_demo::client::{self, Request};
use envoy_demo::process::EnvoyProcess;
use serde::Serialize;

use crate::delivery::Delivery;
use crate::meter::{Meter, Programs};
use crate::plan::Shape;
use crate::procfs;
use crate::settings::Topology;
use crate::site::{Site, ask};
use crate::variant::Variant;

/// Load before a measurement, in which connections open and caches fill.
const WARM_UP: Duration = Duration::from_secs(1);
/// Pause between two looks at the statistics while records are delivered.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long a delivery may take after the load. The filter's default interval is 5 seconds.
const DELIVERY_MAX: Duration = Duration::from_secs(20);
/// Pause between two looks at an Envoy that starts.
const START_LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How long an Envoy may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// How long after its start an Envoy's memory is read: everything is mapped then.
const START_SETTLES: Duration = Duration::from_millis(300);
/// Length of one part of a soak, in which memory is read every [`SOAK_LOOK_AGAIN`].
const SOAK_PART: Duration = Duration::from_secs(10);
/// Pause between two looks at the memory of a soak.
const SOAK_LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Use of one processor by other programs above which a measurement is disturbed.
pub const OTHERS_MAX: f64 = 0.06;

/// What one measurement found. Counts are Envoy's own, of the time in which load was sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    /// Requests.
    pub requests: u64,
    /// Processor time of the whole Envoy process, in microseconds per request; until all records are delivered.
    pub cpu_us: f64,
    /// Requests a second.
    pub requests_per_second: f64,
    /// Half of the answers took at most so long, in microseconds.
    pub p50_us: u64,
    /// 99 % of the answers.
    pub p99_us: u64,
    /// 99.9 % of the answers.
    pub p999_us: u64,
    /// The slowest answer.
    pub max_us: u64,
    /// The most memory that was resident, in KiB.
    pub rss_peak_kib: u64,
    /// Resident memory at the end.
    pub rss_end_kib: u64,
    /// What became of the records.
    pub delivery: Option<Delivery>,
    /// Use of one processor by other programs.
    pub others: f64,
    /// Why this does not count.
    pub faults: Vec<String>,
}

/// What one start found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Start {
    /// From the start of the process until it is ready, in milliseconds.
    pub ready_ms: f64,
    /// Resident memory without load, in KiB.
    pub rss_kib: u64,
    /// Resident memory after a second of load, in KiB.
    pub rss_loaded_kib: u64,
}

/// What one soak found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Soak {
    /// Requests in all.
    pub requests: u64,
    /// Resident memory in KiB, once a second.
    pub rss_kib: Vec<u64>,
    /// What became of the records.
    pub delivery: Option<Delivery>,
    /// Why this does not count.
    pub faults: Vec<String>,
}

/// What the measured Envoy has counted since its start.
struct Counts {
    requests: u64,
    /// Requests that it answered itself although it should not have.
    failed: u64,
}

impl Site {
    /// Measures a variant once.
    ///
    /// # Errors
    /// Envoy or the load generator cannot be started, or ends too early.
    pub async fn measure(&mut self, variant: &Variant, shape: Shape, length: Duration) -> Result<Reading> {
        let requests = self.requests_file(variant.caller, shape.headers)?;
        let (sink_before, refused_before) = (self.sink(variant).await?, self.refused_by_the_app().await?);
        let mut envoy = self.spawn(variant, shape, self.processor_of_envoy(shape))?;
        envoy.wait_until_ready().await?;
        let generator = self.generator(&requests, shape);
        generator.run(WARM_UP).await?;
        let watch = Watch { site: self, envoy: &envoy, variant, sink_before, refused_before };
        watch.delivered(None).await?;

        let before = watch.counts(shape.topology).await?;
        let programs = Programs::now(&envoy, self.backend())?;
        let mut meter = Meter::start(envoy.pid())?;
        let load = generator.run(length).await?;
        let others = Programs::now(&envoy, self.backend())?.others_since(&programs);
        let delivery = watch.delivered(Some(&mut meter)).await?;
        meter.pause()?;
        let after = watch.counts(shape.topology).await?;
        let memory = procfs::memory(envoy.pid())?;

        let requests = after.requests.saturating_sub(before.requests);
        ensure!(requests > 0, "{}: Envoy received no request; its log:\n{}", variant.id, envoy.log());
        Ok(Reading {
            requests,
            cpu_us: meter.counted_ns as f64 / 1e3 / requests as f64,
            requests_per_second: load.requests_per_second(),
            p50_us: load.p50_us,
            p99_us: load.p99_us,
            p999_us: load.p999_us,
            max_us: load.max_us,
            rss_peak_kib: memory.peak_kib,
            rss_end_kib: memory.resident_kib,
            others,
            faults: faults(variant, load.failed_sockets, &after, delivery.as_ref()),
            delivery,
        })
    }

    /// Starts a variant once, waits until it is ready, and then sends it a little load.
    ///
    /// # Errors
    /// It does not get ready; the message ends with its log. Or the load generator fails.
    pub async fn start_up(&mut self, variant: &Variant, workers: u32) -> Result<Start> {
        let shape = Shape { workers, ..Shape::usual(Topology::Proxied) };
        let requests = self.requests_file(variant.caller, shape.headers)?;
        let started = Instant::now();
        // On all processors: compiling the module is what takes the time, and nothing else runs.
        let envoy = self.spawn(variant, shape, None)?;
        while !is_ready(&envoy).await {
            ensure!(started.elapsed() < START_MAX, "{} does not start; its log:\n{}", variant.id, envoy.log());
            tokio::time::sleep(START_LOOK_AGAIN).await;
        }
        let ready_ms = started.elapsed().as_secs_f64() * 1e3;
        tokio::time::sleep(START_SETTLES).await;
        let rss_kib = procfs::memory(envoy.pid())?.resident_kib;
        self.generator(&requests, shape).run(WARM_UP).await?;
        Ok(Start { ready_ms, rss_kib, rss_loaded_kib: procfs::memory(envoy.pid())?.resident_kib })
    }

    /// Sends a variant many requests and watches its memory.
    ///
    /// # Errors
    /// As for [`Self::measure`].
    pub async fn soak(&mut self, variant: &Variant, topology: Topology, least: u64) -> Result<Soak> {
        let shape = Shape::usual(topology);
        let requests = self.requests_file(variant.caller, shape.headers)?;
        let (sink_before, refused_before) = (self.sink(variant).await?, self.refused_by_the_app().await?);
        let mut envoy = self.spawn(variant, shape, self.processor_of_envoy(shape))?;
        envoy.wait_until_ready().await?;
        let watch = Watch { site: self, envoy: &envoy, variant, sink_before, refused_before };
        let generator = self.generator(&requests, shape);
        let mut soak = Soak { requests: 0, rss_kib: Vec::new(), delivery: None, faults: Vec::new() };
        let mut failed_sockets = 0;
        while soak.requests < least {
            let mut part = Box::pin(generator.run(SOAK_PART));
            let load = loop {
                tokio::select! {
                    load = &mut part => break load?,
                    () = tokio::time::sleep(SOAK_LOOK_AGAIN) => {
                        soak.rss_kib.push(procfs::memory(envoy.pid())?.resident_kib);
                    }
                }
            };
            ensure!(load.requests > 0, "{}: no request was answered", variant.id);
            soak.requests += load.requests;
            failed_sockets += load.failed_sockets;
        }
        soak.delivery = watch.delivered(None).await?;
        soak.faults = faults(variant, failed_sockets, &watch.counts(topology).await?, soak.delivery.as_ref());
        Ok(soak)
    }
}

/// An Envoy that is measured, and what must become of its records.
struct Watch<'a> {
    site: &'a Site,
    envoy: &'a EnvoyProcess,
    variant: &'a Variant,
    /// What the backend had counted before.
    sink_before: [u64; 2],
    refused_before: u64,
}

impl Watch<'_> {
    /// Waits until all records have arrived, or it takes too long. What Envoy does meanwhile counts; that it is
    /// asked does not.
    async fn delivered(&self, mut meter: Option<&mut Meter>) -> Result<Option<Delivery>> {
        let Some(delivers) = &self.variant.delivers else {
            return Ok(None);
        };
        let deadline = Instant::now() + DELIVERY_MAX;
        loop {
            if let Some(meter) = &mut meter {
                meter.pause()?;
            }
            let sink = self.site.sink(self.variant).await?;
            let received = [0, 1].map(|at: usize| sink[at].saturating_sub(self.sink_before[at]));
            let delivery = Delivery::of(delivers, &ask(self.envoy).await?, received);
            if let Some(meter) = &mut meter {
                meter.resume()?;
            }
            if delivery.is_done(delivers) || Instant::now() >= deadline {
                return Ok(Some(delivery));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn counts(&self, topology: Topology) -> Result<Counts> {
        let stats = ask(self.envoy).await?;
        let requests = stats.value("http.measured.downstream_rq_total");
        let failed = match topology {
            Topology::Direct => requests.saturating_sub(stats.value("http.measured.rq_direct_response")),
            // What the application refuses comes through; more than that is the proxy's own.
            Topology::Proxied => {
                let refused = self.site.refused_by_the_app().await?.saturating_sub(self.refused_before);
                stats.value("http.measured.downstream_rq_5xx").saturating_sub(refused)
            }
        };
        Ok(Counts { requests, failed })
    }
}

async fn is_ready(envoy: &EnvoyProcess) -> bool {
    let Ok(address) = envoy.admin_address() else {
        return false;
    };
    client::send(address, &Request::get("admin", "/ready")).await.is_ok_and(|answer| answer.text() == "LIVE\n")
}

fn faults(variant: &Variant, failed_sockets: u64, after: &Counts, delivery: Option<&Delivery>) -> Vec<String> {
    let mut faults = Vec::new();
    if failed_sockets > 0 {
        faults.push(format!("{failed_sockets} failed connections or requests"));
    }
    if after.failed > 0 {
        faults.push(format!("{} requests refused by the measured Envoy", after.failed));
    }
    if let (Some(delivers), Some(delivery)) = (&variant.delivers, delivery) {
        faults.extend(delivery.faults(delivers));
    }
    faults
}
