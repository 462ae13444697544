//! The results as Markdown.

use std::fmt::Write;

use crate::bench::{OTHERS_NOTE, START_WORKERS};
use crate::report::{NAME, Report};
use crate::settings::{MAIN, PAUSE, SCALING, Topology};
use crate::summary::{Ratio, Spread, Summary};
use crate::targets::{Bound, Target};
use crate::variant::BARE;

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut page = "# What the filter costs\n\n".to_owned();
    page += &machine(report);
    if !report.faults.is_empty() {
        page += "\n## Faults\n\nMeasurements with a fault do not count.\n\n";
        page.extend(report.faults.iter().map(|fault| format!("- {fault}\n")));
    }
    page += "\n## Targets\n\n";
    page += &targets(&report.targets);
    for group in groups(report) {
        let rows: Vec<&Summary> = report.summaries.iter().filter(|one| one.group == group).collect();
        write!(page, "\n## {}\n\n", heading(group)).unwrap_or_default();
        page += &match group {
            SCALING => scaling(&rows),
            PAUSE => pause(&rows),
            _ => costs(&rows),
        };
    }
    for (heading, table) in [("Start and memory", starts(report)), ("Memory over many requests", soaks(report))] {
        if !table.is_empty() {
            write!(page, "\n## {heading}\n\n{table}").unwrap_or_default();
        }
    }
    page
}

/// The plot, the tables of the main group and of starts, and the machine.
pub(super) fn short(report: &Report) -> String {
    let rows: Vec<&Summary> = report.summaries.iter().filter(|one| one.group == MAIN).collect();
    let plot = format!("![Processor time over Envoy alone](bench/results/{NAME}.svg)");
    let parts = [plot, costs(&rows), starts(report), soaks(report), machine(report)];
    let parts: Vec<&str> = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
    parts.join("\n\n")
}

fn groups(report: &Report) -> Vec<&str> {
    let mut groups: Vec<&str> = Vec::new();
    for one in &report.summaries {
        if !groups.contains(&one.group.as_str()) {
            groups.push(&one.group);
        }
    }
    groups
}

fn heading(group: &str) -> &str {
    match group {
        MAIN => "Under load, one worker",
        SCALING => "Workers, header lines, routes and connections",
        PAUSE => "Latency with one connection",
        other => other,
    }
}

fn machine(report: &Report) -> String {
    let (machine, settings) = (&report.machine, &report.settings);
    let disturbed: usize = report.summaries.iter().map(|one| one.disturbed).sum();
    let disturbed = match disturbed {
        0 => String::new(),
        some => format!(" In {some} measurements {OTHERS_NOTE}"),
    };
    format!(
        "{date} UTC, {processor}, {processors} processors, Linux {kernel}; Envoy {envoy}, wrk {wrk}, {rustc}; commit \
         {commit}, module of {bytes} bytes. `{command}`: {rounds} rounds of {seconds} s, {topology}.{disturbed}\n",
        date = machine.date,
        processor = machine.processor,
        processors = machine.processors,
        kernel = machine.kernel,
        envoy = machine.envoy,
        wrk = machine.wrk,
        rustc = machine.rustc,
        commit = machine.commit,
        bytes = machine.filter_bytes,
        command = machine.command,
        rounds = settings.rounds,
        seconds = settings.seconds,
        topology = match settings.topology {
            Topology::Proxied => "with an upstream",
            Topology::Direct => "with direct responses",
        },
    )
}

fn targets(targets: &[Target]) -> String {
    let mut table =
        "| Target | Bound | Median (quartiles; extremes) | Of the medians | |\n|---|---|---|---|---|\n".to_owned();
    for target in targets {
        let side = match target.side {
            Bound::AtMost => "≤",
            Bound::AtLeast => "≥",
        };
        let goal = target.goal.map_or_else(String::new, |goal| format!(", goal {goal}"));
        let places = if target.unit == "×" { 2 } else { 1 };
        let (measured, verdict) = match (target.measured, target.is_met()) {
            (Some(measured), Some(met)) => (full(&measured, places), if met { "met" } else { "**missed**" }),
            _ => ("not in this run".to_owned(), ""),
        };
        let of_medians = target.of_medians.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let Target { what, bound, unit, .. } = target;
        writeln!(table, "| {what} | {side} {bound} {unit}{goal} | {measured} | {of_medians} | {verdict} |")
            .unwrap_or_default();
    }
    table
}

/// One row for each variant: what it costs, and what comes with that.
fn costs(rows: &[&Summary]) -> String {
    let Some(bare) = rows.iter().find(|row| row.variant == BARE) else {
        return String::new();
    };
    let mut table = format!(
        "Envoy alone: {} µs of processor time a request, {:.0} requests/s.\n\n\
         | Variant | µs over Envoy alone | ÷ reference | requests/s ÷ alone | p50 µs | p99 µs | peak MiB | bytes a record |\n\
         |---|---|---|---|---|---|---|---|\n",
        short_spread(&bare.cpu_us, 1),
        bare.requests_per_second.median
    );
    for row in rows {
        writeln!(
            table,
            "| {} | {} | {} | {:.2} | {:.0} | {:.0} | {:.0} | {} |",
            row.title,
            if row.variant == BARE { "0".to_owned() } else { short_spread(&row.over_bare_us, 1) },
            references(row, rows),
            row.throughput_ratio.median,
            row.p50_us.median,
            row.p99_us.median,
            row.rss_peak_mib.median,
            row.bytes_per_record.map_or_else(String::new, |bytes| format!("{:.0}", bytes.median)),
        )
        .unwrap_or_default();
    }
    table
        + "\nMedians, in brackets the quartiles. A reference is the variant that is named; its ratio is taken in \
             each round. A record's bytes are those of compressed bodies, with heads for Envoy's tracer.\n"
}

fn references(row: &Summary, rows: &[&Summary]) -> String {
    let title = |id: &str| rows.iter().find(|row| row.variant == id).map_or(id, |row| row.title.as_str()).to_owned();
    let one = |(id, ratio): (&String, &Ratio)| {
        let title = title(id);
        let name = title.split(':').next().unwrap_or(&title);
        format!("{} × {name}", short_spread(&ratio.by_round, 2))
    };
    row.against.iter().map(one).collect::<Vec<_>>().join("<br>")
}

fn scaling(rows: &[&Summary]) -> String {
    let mut table =
        "| Shape | Variant | µs over Envoy alone | requests/s | requests/s ÷ alone | p99 µs | peak MiB |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        writeln!(
            table,
            "| {} | {} | {} | {:.0} | {:.2} | {:.0} | {:.0} |",
            row.shape.label(),
            row.title,
            if row.variant == BARE {
                format!("(alone: {})", short_spread(&row.cpu_us, 1))
            } else {
                short_spread(&row.over_bare_us, 1)
            },
            row.requests_per_second.median,
            row.throughput_ratio.median,
            row.p99_us.median,
            row.rss_peak_mib.median,
        )
        .unwrap_or_default();
    }
    table
}

fn pause(rows: &[&Summary]) -> String {
    let mut table =
        "| Variant | p50 µs | p99 µs | p99.9 µs | slowest answer µs | µs over Envoy alone |\n|---|---|---|---|---|---|\n".to_owned();
    for row in rows {
        writeln!(
            table,
            "| {} | {:.0} | {} | {} | {} | {} |",
            row.title,
            row.p50_us.median,
            short_spread(&row.p99_us, 0),
            short_spread(&row.p999_us, 0),
            short_spread(&row.max_us, 0),
            short_spread(&row.over_bare_us, 1),
        )
        .unwrap_or_default();
    }
    table
}

fn starts(report: &Report) -> String {
    if report.starts.is_empty() {
        return String::new();
    }
    let [one, .., most] = START_WORKERS;
    let mut table = format!(
        "| Variant | ready after ms | ms over Envoy alone | MiB over Envoy alone, {one} worker | MiB for each further worker, up to {most} | the same after load |\n\
         |---|---|---|---|---|---|\n"
    );
    for row in &report.starts {
        writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} |",
            row.title,
            short_spread(&row.ready_ms, 0),
            short_spread(&row.extra_ms, 0),
            short_spread(&row.first_mib, 1),
            short_spread(&row.further_mib, 2),
            short_spread(&row.further_loaded_mib, 2),
        )
        .unwrap_or_default();
    }
    table
}

fn soaks(report: &Report) -> String {
    if report.soaks.is_empty() {
        return String::new();
    }
    let mut table =
        "| Variant | million requests | mean MiB in each quarter of the time | peak MiB |\n|---|---|---|---|\n"
            .to_owned();
    for row in &report.soaks {
        let quarters = row.quarters_mib.map(|mib| format!("{mib:.1}")).join(", ");
        writeln!(table, "| {} | {:.1} | {quarters} | {:.1} |", row.title, row.requests as f64 / 1e6, row.peak_mib)
            .unwrap_or_default();
    }
    table
}

/// Median and quartiles.
fn short_spread(spread: &Spread, places: usize) -> String {
    format!("{:.places$} ({:.places$}–{:.places$})", spread.median, spread.q1, spread.q3)
}

/// Median, quartiles and extremes.
fn full(spread: &Spread, places: usize) -> String {
    let Spread { median, q1, q3, min, max, .. } = spread;
    format!("{median:.places$} ({q1:.places$}–{q3:.places$}; {min:.places$}–{max:.places$})")
}
