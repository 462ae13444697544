//! Prints what the filter's work costs: instructions (wasmtime's fuel) and time, thing by thing.
//!
//! `cargo bench -p host-tests --bench module_cost --profile dev`; a word behind `--` chooses the sections whose title has
//! it. The instructions are those of `budget.json`, which the test `budget` compares.

#[path = "../tests/support/mod.rs"]
mod support;

mod costs;

use std::io::Write;
use std::time::Duration;

use costs::{Measured, SECTIONS, Section};

/// Each section is measured so often; the table has the median of the times.
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_chosen =
        |section: &Section| words.is_empty() || words.iter().any(|word| section.title.contains(word.as_str()));
    let mut out = std::io::stdout().lock();
    for section in SECTIONS.into_iter().filter(is_chosen) {
        writeln!(out, "\n{:66} {:>12} {:>10}", section.title, "instructions", "us")?;
        for Measured { name, number, time } in measure(section)? {
            let us = if time.is_zero() { String::new() } else { format!("{:.2}", time.as_secs_f64() * 1e6) };
            writeln!(out, "{name:66} {number:>12} {us:>10}")?;
        }
    }
    Ok(())
}

/// Measures a section several times.
fn measure(section: Section) -> host_tests::Result<Vec<Measured>> {
    let rounds: Vec<_> = (0..ROUNDS).map(|_| section.measure()).collect::<Result<_, _>>()?;
    let Some(first) = rounds.first() else { return Ok(Vec::new()) };
    let median = |index: usize| {
        let mut times: Vec<_> = rounds.iter().filter_map(|round| Some(round.get(index)?.time)).collect();
        times.sort();
        times.get(ROUNDS / 2).copied().unwrap_or(Duration::ZERO)
    };
    let things = first.iter().enumerate();
    Ok(things.map(|(index, thing)| Measured { time: median(index), ..thing.clone() }).collect())
}
