//! The traffic that a demo makes while it stays up: about a request a second, so that there is always something to see.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::time::MissedTickBehavior;

use crate::client::{self, Request};
use crate::scenario::SHOP;

/// The environment variable that turns it off.
pub const VARIABLE: &str = "DEMO_TRICKLE";
/// The `user-agent` of its requests, by which their records are told from those of other requests.
pub const USER_AGENT: &str = "envoy-demo-trickle";
/// The attribute in which the records of the gateway have it.
pub const USER_AGENT_KEY: &str = "request.headers.userAgent";
/// Time between two requests.
const PACE: Duration = Duration::from_secs(1);
/// Requests of one demo, almost three hours of them: one that is forgotten comes to rest.
pub const REQUESTS_MAX: u64 = 10_000;
/// The path of a scenario's request that may as well have another path.
const PLAIN_PATH: &str = "/checkout/42";
/// First segments of the paths, each a transaction name of its own.
const SECTIONS: [&str; 3] = ["checkout", "basket", "wishlist"];
/// Different last segments; all of them are the same transaction name.
const ITEMS: u64 = 60;

/// Whether the variable asks for it; unset it does.
///
/// # Errors
/// Another value than 0 and 1.
pub fn is_wanted(variable: Option<&str>) -> Result<bool> {
    match variable {
        None | Some("1") => Ok(true),
        Some("0") => Ok(false),
        Some(other) => bail!("{VARIABLE} is {other:?}, but it is 0 (no traffic of its own) or 1 (a request a second)"),
    }
}

/// What was sent so far.
#[derive(Debug, Default)]
pub struct Trickle {
    sent: Cell<u64>,
    unanswered: Cell<u64>,
}

impl Trickle {
    /// Requests sent.
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Those of them that nobody answered.
    pub fn unanswered(&self) -> u64 {
        self.unanswered.get()
    }

    /// Sends requests until there were [`REQUESTS_MAX`] of them, one at a time. `scenarios` gives the requests of all
    /// scenarios anew.
    ///
    /// # Errors
    /// What `scenarios` answers, or it gives none.
    pub async fn run(&self, gateway: SocketAddr, scenarios: impl Fn() -> Result<Vec<Request>>) -> Result<Infallible> {
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0..REQUESTS_MAX {
            pace.tick().await;
            let request = request(number, scenarios()?)?;
            if client::send(gateway, &request).await.is_err() {
                self.unanswered.set(self.unanswered.get() + 1);
            }
            self.sent.set(number + 1);
        }
        std::future::pending().await
    }
}

/// Every second request is one without tracing headers, the others are those of the scenarios in turn.
fn request(number: u64, scenarios: Vec<Request>) -> Result<Request> {
    ensure!(!scenarios.is_empty(), "there is no scenario");
    let turn = usize::try_from(number / 2)? % scenarios.len();
    let of_scenario = scenarios.into_iter().nth(turn).filter(|_| number % 2 == 1);
    let request = of_scenario.unwrap_or_else(|| Request::get(SHOP, PLAIN_PATH));
    let path = if request.path == PLAIN_PATH { varied_path(number) } else { request.path.clone() };
    Ok(Request { path, ..request }.header("user-agent", USER_AGENT))
}

fn varied_path(number: u64) -> String {
    let section = SECTIONS.iter().cycle().nth(usize::try_from(number / 2).unwrap_or(0) % SECTIONS.len());
    format!("/{}/{}", section.copied().unwrap_or_default(), 1 + number * 7 % ITEMS)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::scenario;
    use crate::services::{DECLINED, HEALTH_PATH};

    fn scenarios() -> Vec<Request> {
        scenario::all(1_750_000_000_000).into_iter().map(|scenario| scenario.request).collect()
    }

    #[test]
    fn the_trickle_is_on_unless_it_is_turned_off() {
        for (variable, wanted) in [(None, true), (Some("1"), true), (Some("0"), false)] {
            assert_eq!(is_wanted(variable).unwrap(), wanted, "{variable:?}");
        }
        for word in ["", "no", "2"] {
            let error = is_wanted(Some(word)).unwrap_err().to_string();
            assert!(error.starts_with("DEMO_TRICKLE is "), "{error}");
        }
    }

    #[test]
    fn every_scenario_has_its_turn_among_plain_requests() {
        let requests: Vec<Request> = (0..28).map(|number| request(number, scenarios()).unwrap()).collect();
        let plain = requests.iter().filter(|request| request.headers.len() == 1 && !request.path.ends_with(DECLINED));
        assert_eq!(plain.count(), 16, "every second one, and the scenario without headers");
        let mut paths: HashMap<&str, usize> = HashMap::new();
        for request in &requests {
            *paths.entry(&request.path).or_default() += 1;
        }
        assert_eq!(paths.get(HEALTH_PATH), Some(&2));
        assert_eq!(paths.get("/checkout/declined"), Some(&2));
        let names: HashSet<&str> = paths.keys().filter_map(|path| path.split('/').nth(1)).collect();
        assert_eq!(names.len(), SECTIONS.len() + 1, "{names:?}");
        for request in &requests {
            assert_eq!(request.headers.last().map(|(name, _)| name.as_str()), Some("user-agent"), "{request:?}");
        }
    }

    #[test]
    fn two_requests_never_belong_to_one_trace() {
        let requests = (0..56).map(|number| request(number, scenarios()).unwrap());
        let brought: Vec<Vec<u8>> = requests
            .flat_map(|request| request.headers)
            .filter(|(name, _)| name == "traceparent" || name == "newrelic")
            .map(|(_, value)| value)
            .collect();
        assert_eq!(brought.iter().collect::<HashSet<_>>().len(), brought.len());
        assert_eq!(brought.len(), 4 * 6, "four turns of six headers: the health check has two of them");
    }
}
