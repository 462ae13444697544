//! In which order and in which shape variants are measured.

use serde::Serialize;

use crate::settings::{MAIN, PAUSE, SCALING, SOAK, STARTUP, Settings, Topology};
use crate::traffic::HEADERS;
use crate::variant::{BARE, Variant};

/// Variants between two measurements of Envoy alone.
const BETWEEN_BARE: usize = 2;
/// The connections of the usual load.
const CONNECTIONS: u32 = 16;
/// Rounds of a group other than the main one, as a part of all rounds.
const FEWER: u32 = 2;

/// What a measurement varies beside the variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Shape {
    /// Where answers come from.
    pub topology: Topology,
    /// Worker threads of Envoy.
    pub workers: u32,
    /// Connections of the load generator.
    pub connections: u32,
    /// Header lines of a request.
    pub headers: u32,
    /// Routes, of which the last ones match.
    pub routes: u32,
}

impl Shape {
    /// The shape of the main group.
    pub fn usual(topology: Topology) -> Self {
        Self { topology, workers: 1, connections: CONNECTIONS, headers: HEADERS, routes: 1 }
    }

    /// The shapes of the group [`SCALING`]: the usual one, and for each axis others.
    pub fn scaling(topology: Topology) -> Vec<Self> {
        let usual = Self::usual(topology);
        vec![
            usual,
            Self { workers: 2, ..usual },
            Self { workers: 4, ..usual },
            Self { headers: 6, ..usual },
            Self { headers: 40, ..usual },
            Self { routes: 300, ..usual },
            Self { connections: 1, ..usual },
            Self { connections: 128, ..usual },
        ]
    }

    /// How it differs from the usual one, for a reader.
    pub fn label(&self) -> String {
        let usual = Self::usual(self.topology);
        let differs = |one: u32, other: u32, text: &str| (one != other).then(|| format!("{one} {text}"));
        let parts = [
            differs(self.workers, usual.workers, "workers"),
            differs(
                self.connections,
                usual.connections,
                if self.connections == 1 { "connection" } else { "connections" },
            ),
            differs(self.headers, usual.headers, "header lines"),
            differs(self.routes, usual.routes, "routes"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "usual".to_owned() } else { parts.join(", ") }
    }
}

/// One block of a round: variants of one shape, with Envoy alone around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Group that the measurements belong to.
    pub group: String,
    /// Their shape.
    pub shape: Shape,
    /// Rounds in which it is measured.
    pub rounds: u32,
    /// Ids of the variants without [`BARE`].
    pub variants: Vec<String>,
}

impl Block {
    /// Ids in the order of one round; every other round goes backwards.
    pub fn order(&self, round: u32) -> Vec<&str> {
        let mut order = vec![BARE];
        for some in self.variants.chunks(BETWEEN_BARE) {
            order.extend(some.iter().map(String::as_str));
            order.push(BARE);
        }
        if round % 2 == 1 {
            order.reverse();
        }
        order
    }
}

/// The blocks of a run.
pub fn blocks(settings: &Settings, variants: &[Variant]) -> Vec<Block> {
    let mut groups: Vec<&str> = variants.iter().flat_map(|variant| &variant.groups).map(String::as_str).collect();
    groups.sort_unstable();
    groups.dedup();
    groups.retain(|group| settings.wants_group(group) && ![STARTUP, SOAK].contains(group));
    // The main group first: who interrupts a run has it.
    groups.sort_by_key(|group| *group != MAIN);
    groups.into_iter().flat_map(|group| blocks_of(group, settings, variants)).collect()
}

fn blocks_of(group: &str, settings: &Settings, variants: &[Variant]) -> Vec<Block> {
    let chosen = in_group(group, settings, variants);
    let usual = Shape::usual(settings.topology);
    let (shapes, rounds) = match group {
        SCALING => (Shape::scaling(settings.topology), settings.rounds.div_ceil(FEWER)),
        PAUSE => (vec![Shape { connections: 1, ..usual }], settings.rounds.div_ceil(FEWER)),
        _ => (vec![usual], settings.rounds),
    };
    let block = |shape| Block { group: group.to_owned(), shape, rounds, variants: chosen.clone() };
    if chosen.is_empty() { Vec::new() } else { shapes.into_iter().map(block).collect() }
}

/// Ids of the wanted variants of a group without [`BARE`].
pub fn in_group(group: &str, settings: &Settings, variants: &[Variant]) -> Vec<String> {
    let wanted = variants.iter().filter(|variant| {
        !variant.is_bare()
            && variant.groups.iter().any(|name| name == group)
            && settings.wants_variant(&variant.id)
            && (settings.topology == Topology::Proxied || !variant.needs_upstream)
    });
    wanted.map(|variant| variant.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variants() -> Vec<Variant> {
        [(BARE, "'main'"), ("a", "'main', 'scaling'"), ("b", "'main'"), ("c", "'main', 'startup'"), ("d", "'own'")]
            .map(|(id, groups)| Variant::parse(id, &format!("title = 'T'\ngroups = [{groups}]")).unwrap())
            .to_vec()
    }

    fn settings(groups: &str, patterns: &str) -> Settings {
        Settings::read(|name| match name {
            "BENCH_GROUPS" => Some(groups.to_owned()),
            "BENCH_VARIANTS" => Some(patterns.to_owned()),
            _ => None,
        })
        .unwrap()
    }

    #[test]
    fn envoy_alone_is_on_both_sides_of_every_variant_and_rounds_alternate() {
        let blocks = blocks(&settings("main", "*"), &variants());
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].order(0), [BARE, "a", "b", BARE, "c", BARE]);
        assert_eq!(blocks[0].order(1), [BARE, "c", BARE, "b", "a", BARE]);
    }

    #[test]
    fn a_group_of_the_user_is_measured_like_the_main_one_and_after_it() {
        let blocks = blocks(&settings("own,main", "d,b"), &variants());
        let found: Vec<_> = blocks.iter().map(|block| (block.group.as_str(), block.variants.join(","))).collect();
        assert_eq!(found, [("main", "b".to_owned()), ("own", "d".to_owned())]);
    }

    #[test]
    fn scaling_has_a_block_for_each_shape_and_fewer_rounds() {
        let blocks = blocks(&settings("scaling", "*"), &variants());
        assert_eq!(blocks.len(), Shape::scaling(Topology::Proxied).len());
        assert!(blocks.iter().all(|block| block.rounds == 4 && block.variants == ["a"]));
        let labels: Vec<String> = blocks.iter().map(|block| block.shape.label()).collect();
        assert_eq!(labels[0], "usual");
        assert!(labels.contains(&"1 connection".to_owned()) && labels.contains(&"300 routes".to_owned()), "{labels:?}");
    }

    #[test]
    fn what_needs_an_upstream_is_left_out_without_one() {
        let mut variants = variants();
        variants[1].needs_upstream = true;
        let proxied = settings("main", "*");
        let direct = Settings { topology: Topology::Direct, ..proxied.clone() };
        assert_eq!(in_group("main", &proxied, &variants), ["a", "b", "c"]);
        assert_eq!(in_group("main", &direct, &variants), ["b", "c"]);
    }

    #[test]
    fn start_up_is_no_block() {
        assert!(blocks(&settings("startup", "*"), &variants()).is_empty());
    }
}
