//! Names of the statistics that name a caller or a callee.
//!
//! ```text
//! newrelic.ClientApplication/{caller}/all                         a callee's transaction
//! newrelic.ExternalApp/{host}/{callee}/all                        a caller's external call
//! newrelic.ExternalTransaction/{host}/{callee}/{transaction}      the same
//! ```
//! They are New Relic's names of the metrics. Peers choose their parts, and a proxy never forgets a statistic, so
//! every part is cut and the names beyond a bound go by `Other`.

use alloc::string::String;

use super::{AppData, BoundedNames, CrossProcessId};

/// Distinct callers, and distinct pairs of host and callee, that have statistics of their own.
pub const PEERS_MAX: usize = 64;
/// Distinct transactions of callees, over all callees, that have statistics of their own.
pub const CALLEE_TRANSACTIONS_MAX: usize = 4 * PEERS_MAX;
/// The longest host and the longest transaction name in a name, in bytes.
pub const NAME_PART_BYTES_MAX: usize = 255;

/// More digits of an account or application than this are no number that New Relic gives out.
const ID_DIGITS_MAX: usize = 20;
const UNKNOWN: &str = "Unknown";
const OTHER: &str = "Other";

/// A list of names that the workers of a process share. Names in it have no control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameList {
    /// Callers.
    Callers,
    /// Pairs of host and callee.
    Callees,
    /// Triples of host, callee and transaction.
    CalleeTransactions,
}

impl NameList {
    /// How many names the list has at most, in a process as in each worker.
    pub fn names_max(self) -> usize {
        match self {
            Self::Callers | Self::Callees => PEERS_MAX,
            Self::CalleeTransactions => CALLEE_TRANSACTIONS_MAX,
        }
    }
}

/// Asks the process whether a name has, or gets, a place in one of its lists. A program of one worker answers true:
/// the worker's own bound is then that of the process.
pub type AskProcess<'a> = dyn FnMut(NameList, &str) -> bool + 'a;

/// The callers that have statistics of their own.
#[derive(Debug)]
pub struct Callers(BoundedNames);

impl Default for Callers {
    fn default() -> Self {
        Self(BoundedNames::new(NameList::Callers.names_max()))
    }
}

impl Callers {
    /// The name of the statistic of a transaction that this caller asked for.
    pub fn metric(&mut self, caller: &CrossProcessId, process: &mut AskProcess<'_>) -> String {
        let caller = peer(caller);
        let is_admitted = self.0.admit(&caller, |name| process(NameList::Callers, name));
        let caller = if is_admitted { caller.as_str() } else { OTHER };
        ["newrelic.ClientApplication/", caller, "/all"].concat()
    }
}

/// The callees that have statistics of their own.
#[derive(Debug)]
pub struct Callees {
    /// `{host}/{callee}`.
    applications: BoundedNames,
    /// `{host}/{callee}/{transaction}`.
    transactions: BoundedNames,
}

impl Default for Callees {
    fn default() -> Self {
        Self {
            applications: BoundedNames::new(NameList::Callees.names_max()),
            transactions: BoundedNames::new(NameList::CalleeTransactions.names_max()),
        }
    }
}

impl Callees {
    /// The names of the two statistics of a call to `host` that this callee answered: by application, and by
    /// transaction.
    pub fn metrics(&mut self, host: &[u8], answer: &AppData, process: &mut AskProcess<'_>) -> [String; 2] {
        let host = name_part(&String::from_utf8_lossy(host));
        let callee = [host.as_str(), "/", &peer(&answer.cross_process_id)].concat();
        if !self.applications.admit(&callee, |name| process(NameList::Callees, name)) {
            return [application_metric(OTHER), transaction_metric(OTHER)];
        }
        let transaction = [callee.as_str(), "/", &name_part(&answer.transaction_name)].concat();
        if self.transactions.admit(&transaction, |name| process(NameList::CalleeTransactions, name)) {
            return [application_metric(&callee), transaction_metric(&transaction)];
        }
        let others = [callee.as_str(), "/", OTHER].concat();
        [application_metric(&callee), transaction_metric(&others)]
    }
}

fn application_metric(callee: &str) -> String {
    ["newrelic.ExternalApp/", callee, "/all"].concat()
}

fn transaction_metric(transaction: &str) -> String {
    ["newrelic.ExternalTransaction/", transaction].concat()
}

/// A cross process id of bounded parts.
fn peer(id: &CrossProcessId) -> String {
    let bounded = |digits| if str::len(digits) <= ID_DIGITS_MAX { digits } else { UNKNOWN };
    [bounded(id.account()), "#", bounded(id.application())].concat()
}

/// A text cut to [`NAME_PART_BYTES_MAX`] on a character boundary. Control characters become `_`: a line break in a
/// name would forge lines in the proxy's text output.
fn name_part(text: &str) -> String {
    let mut part = String::new();
    for character in text.chars().map(|character| if character.is_control() { '_' } else { character }) {
        if part.len() + character.len_utf8() > NAME_PART_BYTES_MAX {
            break;
        }
        part.push(character);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> CrossProcessId {
        CrossProcessId::parse(text).unwrap()
    }

    fn answer(callee: &str, transaction_name: &str) -> AppData {
        AppData {
            cross_process_id: id(callee),
            transaction_name: transaction_name.into(),
            queue_time_s: 0.0,
            response_time_s: 0.0,
            content_length: None,
            guid: None,
        }
    }

    /// A program of one worker.
    fn alone(_: NameList, _: &str) -> bool {
        true
    }

    #[test]
    fn a_callers_statistic_has_its_cross_process_id() {
        let metric = Callers::default().metric(&id("4002#55"), &mut alone);
        assert_eq!(metric, "newrelic.ClientApplication/4002#55/all");
    }

    #[test]
    fn callers_beyond_the_bound_go_by_other() {
        let mut callers = Callers::default();
        let mut metric = |number: usize| callers.metric(&id(&format!("4002#{number}")), &mut alone);
        for number in 0..PEERS_MAX {
            assert_eq!(metric(number), format!("newrelic.ClientApplication/4002#{number}/all"));
        }
        assert_eq!(metric(64), "newrelic.ClientApplication/Other/all");
        assert_eq!(metric(63), "newrelic.ClientApplication/4002#63/all");
    }

    #[test]
    fn names_without_a_place_in_the_process_go_by_other() {
        let metric = Callers::default().metric(&id("4002#55"), &mut |list, _| list != NameList::Callers);
        assert_eq!(metric, "newrelic.ClientApplication/Other/all");
        let metrics =
            |missing| Callees::default().metrics(b"h", &answer("4001#1", "x"), &mut |list, _| list != missing);
        assert_eq!(
            metrics(NameList::Callees),
            ["newrelic.ExternalApp/Other/all", "newrelic.ExternalTransaction/Other"]
        );
        assert_eq!(
            metrics(NameList::CalleeTransactions),
            ["newrelic.ExternalApp/h/4001#1/all", "newrelic.ExternalTransaction/h/4001#1/Other"]
        );
    }

    #[test]
    fn accounts_and_applications_of_more_than_twenty_digits_are_unknown() {
        let mut callers = Callers::default();
        let (longest, longer) = ("1".repeat(20), "1".repeat(21));
        for (caller, expected) in [
            (format!("{longest}#{longest}"), format!("{longest}#{longest}")),
            (format!("{longer}#1"), "Unknown#1".to_owned()),
            (format!("1#{longer}"), "1#Unknown".to_owned()),
        ] {
            let expected = format!("newrelic.ClientApplication/{expected}/all");
            assert_eq!(callers.metric(&id(&caller), &mut alone), expected);
        }
    }

    #[test]
    fn a_callees_statistics_have_host_application_and_transaction() {
        let metrics = Callees::default().metrics(
            b"stock.test:8080",
            &answer("4001#90210", "WebTransaction/Go/GET /stock"),
            &mut alone,
        );
        assert_eq!(
            metrics,
            [
                "newrelic.ExternalApp/stock.test:8080/4001#90210/all",
                "newrelic.ExternalTransaction/stock.test:8080/4001#90210/WebTransaction/Go/GET /stock",
            ]
        );
    }

    #[test]
    fn callees_beyond_the_bound_go_by_other() {
        let mut callees = Callees::default();
        for number in 0..PEERS_MAX {
            let host = format!("host{number}");
            let [application, _] = callees.metrics(host.as_bytes(), &answer("4001#1", "x"), &mut alone);
            assert_eq!(application, format!("newrelic.ExternalApp/{host}/4001#1/all"));
        }
        assert_eq!(
            callees.metrics(b"host64", &answer("4001#1", "x"), &mut alone),
            ["newrelic.ExternalApp/Other/all", "newrelic.ExternalTransaction/Other"]
        );
        assert_eq!(
            callees.metrics(b"host63", &answer("4001#1", "x"), &mut alone)[1],
            "newrelic.ExternalTransaction/host63/4001#1/x"
        );
    }

    #[test]
    fn a_callees_transactions_beyond_the_bound_go_by_other() {
        let mut callees = Callees::default();
        for number in 0..CALLEE_TRANSACTIONS_MAX {
            let [_, transaction] = callees.metrics(b"h", &answer("4001#1", &number.to_string()), &mut alone);
            assert_eq!(transaction, format!("newrelic.ExternalTransaction/h/4001#1/{number}"));
        }
        assert_eq!(
            callees.metrics(b"h", &answer("4001#1", "one more"), &mut alone),
            ["newrelic.ExternalApp/h/4001#1/all", "newrelic.ExternalTransaction/h/4001#1/Other"]
        );
    }

    #[test]
    fn parts_are_cut_on_a_character_boundary() {
        let long = "é".repeat(200);
        let cut = "é".repeat(127);
        let [application, transaction] =
            Callees::default().metrics(long.as_bytes(), &answer("4001#1", &long), &mut alone);
        assert_eq!(application, format!("newrelic.ExternalApp/{cut}/4001#1/all"));
        assert_eq!(transaction, format!("newrelic.ExternalTransaction/{cut}/4001#1/{cut}"));
        let [_, transaction] = Callees::default().metrics(b"h", &answer("4001#1", &"x".repeat(300)), &mut alone);
        assert_eq!(transaction, format!("newrelic.ExternalTransaction/h/4001#1/{}", "x".repeat(255)));
    }

    #[test]
    fn a_peer_cannot_forge_lines_or_break_the_encoding() {
        let [application, transaction] =
            Callees::default().metrics(b"h\xff\x01", &answer("4001#1", "a\nb: 1\0\u{85}"), &mut alone);
        assert_eq!(application, "newrelic.ExternalApp/h\u{fffd}_/4001#1/all");
        assert_eq!(transaction, "newrelic.ExternalTransaction/h\u{fffd}_/4001#1/a_b: 1__");
    }
}
