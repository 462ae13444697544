//! The whole run.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::measure::{OTHERS_MAX, Reading, Soak, Start};
use crate::plan::{self, Block, Shape};
use crate::settings::{MAIN, SOAK, STARTUP, Settings};
use crate::site::Site;
use crate::tools::Tools;
use crate::variant::{BARE, Variant};

/// What a reader shall know of a measurement that other programs disturbed.
pub const OTHERS_NOTE: &str = "other programs used more than 6 % of a processor.";
/// Workers of the group [`STARTUP`].
pub const START_WORKERS: [u32; 3] = [1, 2, 4];

/// One measurement and its place in the run.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// Number of the round, from 0.
    pub round: u32,
    /// Group that it belongs to.
    pub group: String,
    /// Id of the variant.
    pub variant: String,
    /// Its shape.
    pub shape: Shape,
    /// Middle of the measurement, in seconds since the run began.
    pub at_s: f64,
    /// How often it was made; more than once when other programs disturbed it.
    pub attempts: u32,
    /// What it found.
    pub reading: Reading,
}

impl Measurement {
    /// Whether other programs used too much of the machine in the last attempt, too.
    pub fn is_disturbed(&self) -> bool {
        self.reading.others > OTHERS_MAX
    }

    /// Whether it counts.
    pub fn is_sound(&self) -> bool {
        self.reading.faults.is_empty()
    }
}

/// One start and its place in the run.
#[derive(Debug, Clone, Serialize)]
pub struct StartUp {
    /// Number of the round, from 0.
    pub round: u32,
    /// Id of the variant.
    pub variant: String,
    /// Worker threads.
    pub workers: u32,
    /// What it found.
    pub start: Start,
}

/// One soak.
#[derive(Debug, Clone, Serialize)]
pub struct Soaked {
    /// Id of the variant.
    pub variant: String,
    /// What it found.
    pub soak: Soak,
}

/// Everything that a run measured, as it was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Raw {
    /// Under load.
    pub measurements: Vec<Measurement>,
    /// Starts without load.
    pub starts: Vec<StartUp>,
    /// Memory over many requests.
    pub soaks: Vec<Soaked>,
}

impl Raw {
    /// What is wrong with the run, a line each.
    pub fn faults(&self) -> Vec<String> {
        let of_measurements = self.measurements.iter().flat_map(|one| {
            one.reading.faults.iter().map(move |fault| format!("round {}, {}: {fault}", one.round + 1, one.variant))
        });
        let of_soaks = self
            .soaks
            .iter()
            .flat_map(|one| one.soak.faults.iter().map(move |fault| format!("soak, {}: {fault}", one.variant)));
        of_measurements.chain(of_soaks).collect()
    }
}

/// A run in progress.
struct Bench<'a> {
    say: &'a mut dyn FnMut(&str),
    settings: &'a Settings,
    variants: &'a [Variant],
    site: Site,
    raw: Raw,
    began: Instant,
    done: usize,
    steps: usize,
}

/// Measures what the settings ask for. `dir` is for configurations and logs; `say` is told how far the run is, in
/// lines without their end.
///
/// # Errors
/// Nothing is to be measured, or something cannot be started.
pub async fn run(
    settings: &Settings,
    variants: &[Variant],
    tools: Tools,
    dir: &Path,
    say: &mut dyn FnMut(&str),
) -> Result<Raw> {
    let blocks = plan::blocks(settings, variants);
    let group = |name| if settings.wants_group(name) { plan::in_group(name, settings, variants) } else { Vec::new() };
    let (starts, soaks) = (group(STARTUP), group(SOAK));
    let steps = blocks.iter().map(|block| block.order(0).len() * block.rounds as usize).sum::<usize>()
        + if starts.is_empty() { 0 } else { (starts.len() + 1) * START_WORKERS.len() * settings.rounds as usize }
        + soaks.len();
    ensure!(steps > 0, "BENCH_GROUPS and BENCH_VARIANTS leave nothing to measure");
    let site = Site::start(tools, dir).await?;
    let raw = Raw::default();
    let mut bench = Bench { say, settings, variants, site, raw, began: Instant::now(), done: 0, steps };
    let rounds = blocks.iter().map(|block| block.rounds).max().unwrap_or(0);
    for round in 0..rounds {
        for block in blocks.iter().filter(|block| round < block.rounds) {
            bench.block(block, round).await?;
        }
    }
    for round in 0..settings.rounds {
        bench.starts(&starts, round).await?;
    }
    for id in &soaks {
        bench.soak(id).await?;
    }
    Ok(bench.raw)
}

impl Bench<'_> {
    async fn block(&mut self, block: &Block, round: u32) -> Result<()> {
        for id in block.order(round) {
            let measurement = self.measurement(block, round, id).await?;
            let reading = &measurement.reading;
            let marks = [
                measurement.is_disturbed().then(|| format!("others {:.0} %", reading.others * 100.0)),
                (!reading.faults.is_empty()).then(|| format!("FAULT: {}", reading.faults.join("; "))),
            ];
            let marks: Vec<String> = marks.into_iter().flatten().collect();
            self.progress(&format!(
                "round {}/{} {:<28} {:<14} {:6.1} µs/request {:8.0} requests/s {}",
                round + 1,
                block.rounds,
                id,
                if block.group == MAIN { String::new() } else { block.shape.label() },
                reading.cpu_us,
                reading.requests_per_second,
                marks.join(", ")
            ));
            self.raw.measurements.push(measurement);
        }
        Ok(())
    }

    /// Measures until other programs leave the machine alone, or it was tried often enough; the attempt that they
    /// disturbed least is the one that counts.
    async fn measurement(&mut self, block: &Block, round: u32, id: &str) -> Result<Measurement> {
        let variant = variant(self.variants, id)?;
        let length = Duration::from_secs(self.settings.seconds.into());
        let mut best: Option<Measurement> = None;
        for attempts in 1..=self.settings.retries + 1 {
            let begin = self.began.elapsed();
            let reading = self.site.measure(variant, block.shape, length).await?;
            let at_s = f64::midpoint(begin.as_secs_f64(), self.began.elapsed().as_secs_f64());
            let (group, variant) = (block.group.clone(), id.to_owned());
            let one = Measurement { round, group, variant, shape: block.shape, at_s, attempts, reading };
            best = match best {
                Some(best) if best.reading.others <= one.reading.others => Some(Measurement { attempts, ..best }),
                _ => Some(one),
            };
            if best.as_ref().is_some_and(|best| !best.is_disturbed()) {
                break;
            }
        }
        best.context("a measurement is made at least once")
    }

    async fn starts(&mut self, ids: &[String], round: u32) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        for workers in START_WORKERS {
            for id in [BARE].into_iter().chain(ids.iter().map(String::as_str)) {
                let start = self.site.start_up(variant(self.variants, id)?, workers).await?;
                let (ready_ms, rss_mb) = (start.ready_ms, start.rss_kib as f64 / 1024.0);
                self.progress(&format!(
                    "start {}/{} {id:<28} {workers} workers {ready_ms:6.0} ms {rss_mb:6.1} MB",
                    round + 1,
                    self.settings.rounds
                ));
                self.raw.starts.push(StartUp { round, variant: id.to_owned(), workers, start });
            }
        }
        Ok(())
    }

    async fn soak(&mut self, id: &str) -> Result<()> {
        let variant = variant(self.variants, id)?;
        let soak = self.site.soak(variant, self.settings.topology, self.settings.soak_requests).await?;
        self.progress(&format!("soak {id:<28} {} requests", soak.requests));
        self.raw.soaks.push(Soaked { variant: id.to_owned(), soak });
        Ok(())
    }

    fn progress(&mut self, text: &str) {
        self.done += 1;
        let left = self.began.elapsed().as_secs_f64() * (self.steps - self.done) as f64 / self.done as f64;
        (self.say)(&format!(
            "[{}/{}, {:.0} min left] {}",
            self.done,
            self.steps,
            (left / 60.0).ceil(),
            text.trim_end()
        ));
    }
}

fn variant<'a>(variants: &'a [Variant], id: &str) -> Result<&'a Variant> {
    variants.iter().find(|variant| variant.id == id).with_context(|| format!("there is no variant {id}"))
}
