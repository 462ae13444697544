//! The files that show a run: JSON with everything, a Markdown page, a plot, and a part of the README.

mod markdown;
mod plot;
mod readme;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::bench::Raw;
use crate::machine::Machine;
use crate::settings::Settings;
use crate::summary::{self, SoakSummary, StartSummary, Summary};
use crate::targets::{self, Target};
use crate::variant::Variant;

/// Name of the files without what tells their kind.
const NAME: &str = "latest";

/// A run and what it says.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where it was made.
    pub machine: Machine,
    /// What was asked for.
    pub settings: Settings,
    /// What there was to measure.
    pub variants: Vec<Variant>,
    /// What the measurements say together.
    pub summaries: Vec<Summary>,
    /// What starts say together.
    pub starts: Vec<StartSummary>,
    /// What soaks say.
    pub soaks: Vec<SoakSummary>,
    /// What the figures shall be, and are.
    pub targets: Vec<Target>,
    /// What went wrong, a line each.
    pub faults: Vec<String>,
    /// The measurements themselves.
    pub raw: Raw,
}

impl Report {
    /// Draws the conclusions.
    pub fn new(settings: Settings, variants: Vec<Variant>, machine: Machine, raw: Raw) -> Self {
        let summaries = summary::summarize(&raw, &variants);
        let starts = summary::summarize_starts(&raw, &variants);
        let soaks = summary::summarize_soaks(&raw, &variants);
        let targets = targets::judge(&summaries, &starts, &soaks);
        let faults = raw.faults();
        Self { machine, settings, variants, summaries, starts, soaks, targets, faults, raw }
    }

    /// The page in Markdown.
    pub fn markdown(&self) -> String {
        markdown::page(self)
    }

    /// Writes the files into the folder that the settings name, and gives their paths.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self) -> Result<Vec<PathBuf>> {
        let out = &self.settings.out;
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let mut written = Vec::new();
        let mut write = |extension: &str, text: &str| {
            let file = out.join(format!("{NAME}.{extension}"));
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            written.push(file);
            anyhow::Ok(())
        };
        write("json", &(serde_json::to_string_pretty(self)? + "\n"))?;
        write("md", &self.markdown())?;
        if let Some(svg) = plot::svg(self)? {
            write("svg", &svg)?;
        }
        Ok(written)
    }

    /// Puts the short form into a README, between its markers.
    ///
    /// # Errors
    /// The file cannot be read or written, or lacks the markers.
    pub fn update_readme(&self, file: &Path) -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let updated = readme::replace(&text, &markdown::short(self)).with_context(|| format!("{}", file.display()))?;
        fs::write(file, updated).with_context(|| format!("cannot write {}", file.display()))
    }
}
