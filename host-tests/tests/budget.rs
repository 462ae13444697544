//! What the filter's work may cost: each thing that the benchmark `module_cost` measures has a line in `budget.json`.
//!
//! The numbers are the same on every machine, so that a slower change is seen in review, as a changed line. A gain has
//! to be recorded too: what a later change may spend again unseen was no gain.

#[path = "../benches/costs/mod.rs"]
mod costs;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use costs::{Measured, SECTIONS, Section};

const BUDGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/budget.json");
/// Records the budget anew.
const RECORD: &str = "UPDATE_BUDGET=1 cargo test -p host-tests --test budget";
/// A number may be so many percent above its budget.
const MORE_PERCENT_MAX: u64 = 2;
/// A number may be so many percent below its budget.
const LESS_PERCENT_MAX: u64 = 10;
/// And so much more to either side, for what is cheap: an unrelated change may move a few instructions.
const SLACK: u64 = 20;

#[test]
fn everything_costs_what_the_budget_says() {
    let measured = measure(&SECTIONS);
    let names: BTreeSet<_> = measured.iter().map(|thing| &thing.name).collect();
    assert_eq!(names.len(), measured.len(), "no two things have the same name");
    if std::env::var_os("UPDATE_BUDGET").is_some() {
        return std::fs::write(BUDGET, text(&measured)).expect("the budget can be written");
    }
    let text = std::fs::read_to_string(BUDGET).unwrap_or_else(|why| panic!("{BUDGET}: {why}\nrecord it: {RECORD}"));
    let budget = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{BUDGET}: {why}\nrecord it anew: {RECORD}"));
    let faults = faults(&budget, &measured);
    assert!(
        faults.is_empty(),
        "the module does not cost what {BUDGET} says:\n{}\nwhen that is as it should be, record the budget anew: {RECORD}",
        faults.join("\n")
    );
}

#[test]
fn the_same_is_measured_in_any_order() {
    let cheap = |title: &str| SECTIONS.into_iter().filter(|section| section.title == title).collect::<Vec<_>>();
    let sections = [cheap("one header"), cheap("one record, by exporter"), cheap("the plugin itself")].concat();
    assert_eq!(sections.len(), 3, "the sections are there");
    let numbers = |sections: &[Section]| {
        let measured = measure(sections).into_iter();
        measured.map(|thing| (thing.name, thing.number)).collect::<BTreeMap<_, _>>()
    };
    let backwards: Vec<_> = sections.iter().copied().rev().collect();
    assert_eq!(numbers(&sections), numbers(&backwards));
}

fn measure(sections: &[Section]) -> Vec<Measured> {
    let measured = sections.iter().map(|section| section.measure().unwrap_or_else(|why| panic!("{why}")));
    measured.flatten().collect()
}

/// The budget file: one line for each thing.
fn text(measured: &[Measured]) -> String {
    let lines: Vec<_> = measured.iter().map(|thing| format!("  {:?}: {}", thing.name, thing.number)).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

/// A line for each thing that does not cost what its budget says.
fn faults(budget: &BTreeMap<String, u64>, measured: &[Measured]) -> Vec<String> {
    let named: BTreeSet<_> = measured.iter().map(|thing| thing.name.as_str()).collect();
    let unmeasured = budget.keys().filter(|name| !named.contains(name.as_str()));
    let unmeasured = unmeasured.map(|name| format!("{name}: nothing of this name is measured"));
    let compared = measured.iter().filter_map(|thing| match budget.get(&thing.name) {
        None => Some(format!("{}: measured {}, but it has no budget", thing.name, thing.number)),
        Some(budgeted) => compare(thing, *budgeted),
    });
    compared.chain(unmeasured).collect()
}

fn compare(Measured { name, number, .. }: &Measured, budgeted: u64) -> Option<String> {
    let more_max = budgeted + budgeted * MORE_PERCENT_MAX / 100 + SLACK;
    let less_max = (budgeted - budgeted * LESS_PERCENT_MAX / 100).saturating_sub(SLACK);
    let change = if *number > more_max {
        "too much"
    } else if *number < less_max {
        "a gain to record"
    } else {
        return None;
    };
    let percent = 100.0 * (*number as f64 - budgeted as f64) / (budgeted as f64).max(1.0);
    Some(format!("{name}: measured {number}, budgeted {budgeted} ({percent:+.1} %), {change}"))
}

#[test]
fn both_sides_of_each_bound_are_told_apart() {
    let thing = |number| Measured { name: "thing".to_owned(), number, time: Duration::ZERO };
    let budget = |number| BTreeMap::from([("thing".to_owned(), number)]);
    for (budgeted, measured, fault) in [
        (10_000, 10_000, None),
        (10_000, 10_220, None),
        (10_000, 10_221, Some("thing: measured 10221, budgeted 10000 (+2.2 %), too much")),
        (10_000, 8_980, None),
        (10_000, 8_979, Some("thing: measured 8979, budgeted 10000 (-10.2 %), a gain to record")),
        (0, 20, None),
        (0, 21, Some("thing: measured 21, budgeted 0 (+2100.0 %), too much")),
        (15, 0, None),
    ] {
        let expected: Vec<_> = fault.into_iter().collect();
        assert_eq!(faults(&budget(budgeted), &[thing(measured)]), expected, "{budgeted} {measured}");
    }
}

#[test]
fn a_thing_without_a_line_and_a_line_without_a_thing_are_faults() {
    let thing = Measured { name: "new".to_owned(), number: 7, time: Duration::ZERO };
    let budget = BTreeMap::from([("old".to_owned(), 7)]);
    let expected = ["new: measured 7, but it has no budget", "old: nothing of this name is measured"];
    assert_eq!(faults(&budget, &[thing]), expected);
}

#[test]
fn the_recorded_text_is_read_back_as_it_was_measured() {
    let measured = [("first, of \"two\"", 1), ("second", 22)].map(|(name, number)| Measured {
        name: name.to_owned(),
        number,
        time: Duration::ZERO,
    });
    let read: BTreeMap<String, u64> = serde_json::from_str(&text(&measured)).expect("the text is JSON");
    assert_eq!(read, BTreeMap::from([("first, of \"two\"".to_owned(), 1), ("second".to_owned(), 22)]));
    assert_eq!(text(&measured).lines().count(), 4, "a line for each, and the brackets");
}
