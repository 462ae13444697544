//! What the host does otherwise, on purpose.

/// A line of the host that stands for another line of Envoy.
struct Difference {
    case: &'static str,
    host: &'static str,
    envoy: &'static str,
    #[expect(dead_code, reason = "it is for the reader")]
    why: &'static str,
}

/// Every known difference. One that is not found any more is a complaint.
const DIFFERENCES: &[Difference] = &[Difference {
    case: "changing the path",
    host: "main stream   prop xds/route_name -> 0 up",
    envoy: "main stream   prop xds/route_name -> 0 changed",
    why: "the host knows no routes; a test tells it which one a request takes",
}];

/// The host's lines with the known differences undone.
pub(crate) fn as_in_envoy(case: &str, lines: &[String], complaints: &mut String) -> Vec<String> {
    let mut lines = lines.to_vec();
    for known in DIFFERENCES.iter().filter(|known| known.case == case) {
        match lines.iter_mut().find(|line| *line == known.host) {
            Some(line) => known.envoy.clone_into(line),
            None => *complaints += &format!("\n{case}: the host does not say any more: {}\n", known.host),
        }
    }
    lines
}
