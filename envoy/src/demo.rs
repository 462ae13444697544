//! The demo as a whole: everything started, requests sent, evidence collected, everything stopped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::cat::wire::ENCODING_KEY;
use crate::client;
use crate::hops;
use crate::mode::Mode;
use crate::paths;
use crate::ports::{self, Place, Ports};
use crate::process::{EnvoyProcess, Launch};
use crate::receiver::{Receiver, SpanRecord, Store, Transaction};
use crate::scenario::{self, Expected, Scenario};
use crate::services::{Next, Service, Sighting, Sightings, Work};
use crate::stats::Stats;
use crate::template;
use crate::trace_store::{AddError, Options, TraceStore};
use crate::trace_view::{self, Trace};
use crate::tracing_headers::X_NEWRELIC_APP_DATA;
use crate::verdict::{Counts, Evidence, Totals};

/// The configuration of the demo's Envoy, with placeholders.
const ENVOY_YAML: &str = include_str!("../envoy.yaml");
/// The key that the filter gets and the receiver asks for. It is no real one, so that a real one in
/// the environment is never sent to the demo's own receiver.
const LICENSE_KEY: &str = "0000000000000000000000000000000000000000";
/// How long records may take to arrive. They need a fraction of a second; only a fault meets this.
const ARRIVAL_MAX: Duration = Duration::from_secs(20);
/// How long the bank takes, so that the durations in the trace differ.
const BANK_TAKES: Duration = Duration::from_millis(20);

/// A running demo. Dropping it ends everything that it started.
#[derive(Debug)]
pub struct Demo {
    ports: Ports,
    /// Chosen by Envoy when the ports were not given.
    admin: SocketAddr,
    receiver: Receiver,
    /// Only in distributed tracing, as the other system has no spans.
    traces: Option<TraceStore>,
    sightings: Sightings,
    _services: Vec<Service>,
    envoy: EnvoyProcess,
}

impl Demo {
    /// Starts receiver, services and Envoy, and waits until requests can be sent. `dir` gets Envoy's configuration and
    /// log, and keeps the traces of this demo beside those of earlier ones.
    ///
    /// # Errors
    /// Something does not start; the message says what.
    pub async fn start(mode: Mode, mut ports: Ports, envoy: &Path, module: &Path, dir: &Path) -> Result<Self> {
        let sightings = Sightings::default();
        let traces = open_traces(mode, dir).await?;
        let listener = ports.listen(ports::RECEIVER)?;
        let receiver = match &traces {
            Some(traces) => Receiver::with_trace_store(listener, LICENSE_KEY, traces.clone())?,
            None => Receiver::start(listener, LICENSE_KEY)?,
        };
        let services = start_services(&mut ports, &sightings)?;
        let config = render_config(mode, &ports, module)?;
        let envoy = EnvoyProcess::start(&Launch {
            binary: envoy,
            config: &config,
            dir,
            env: &[("NEW_RELIC_LICENSE_KEY", LICENSE_KEY), ("NEW_RELIC_ENCODING_KEY", ENCODING_KEY)],
            concurrency: 1,
        })
        .await?;
        let admin = envoy.admin_address()?;
        Ok(Self { ports, admin, receiver, traces, sightings, _services: services, envoy })
    }

    /// Where a part of the demo listens.
    pub fn address(&self, place: Place) -> SocketAddr {
        if place == ports::ADMIN { self.admin } else { self.ports.address(place) }
    }

    /// The receiver of spans and events.
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Where traces can be looked at; `None` in Cross Application Tracing.
    pub fn traces(&self) -> Option<&TraceStore> {
        self.traces.as_ref()
    }

    /// The address of the page that shows them.
    pub fn page(&self) -> Option<String> {
        self.traces.as_ref().map(|_| format!("http://{}/", self.receiver.address()))
    }

    /// The Envoy that runs the filter.
    pub fn envoy(&self) -> &EnvoyProcess {
        &self.envoy
    }

    /// Sends one scenario's request and collects what it leaves behind. Nobody else may send
    /// requests meanwhile.
    ///
    /// # Errors
    /// Envoy does not answer.
    pub async fn run<T: Expected>(&self, scenario: Scenario<T>) -> Result<Evidence<T>> {
        self.sightings.take();
        let gateway = self.ports.address(ports::GATEWAY);
        let answer = client::send(gateway, &scenario.request).await?;
        let sightings = self.sightings.take();
        let id = sightings.first().and_then(|first| T::id(&first.headers));
        let (spans, transactions) = self.collect(&scenario, id.as_deref()).await;
        let app_data = answer.lines(X_NEWRELIC_APP_DATA);
        let stored = self.stored(id.as_deref(), &sightings).await?;
        Ok(Evidence { scenario, status: answer.status, app_data, sightings, spans, transactions, stored })
    }

    /// Gives the trace store what the services saw, and asks it for the trace.
    async fn stored(&self, trace_id: Option<&str>, sightings: &[Sighting]) -> Result<Option<Trace>> {
        let (Some(traces), Some(trace_id)) = (&self.traces, trace_id) else {
            return Ok(None);
        };
        hops::hand_over(sightings, traces).await.context("the trace store does not take what the services saw")?;
        trace_view::server::trace(self.receiver.address(), trace_id).await
    }

    /// Gives the trace store what the services have seen since the last time. Without a store it is forgotten.
    ///
    /// # Errors
    /// The store cannot write it.
    pub async fn hand_over_hops(&self) -> Result<(), AddError> {
        let sightings = self.sightings.take();
        match &self.traces {
            Some(traces) => hops::hand_over(&sightings, traces).await,
            None => Ok(()),
        }
    }

    /// Waits for the records of a trace or trip, and gives what there is of them in the end.
    async fn collect<T: Expected>(
        &self,
        scenario: &Scenario<T>,
        id: Option<&str>,
    ) -> (Vec<SpanRecord>, Vec<Transaction>) {
        let Some(id) = id else {
            return Default::default();
        };
        if let Some(expected) = scenario.expected.as_ref().map(T::records) {
            let arrived = |store: &Store| {
                store.trace(id).count() as u64 >= expected.spans
                    && transactions_of::<T>(store, id).count() as u64 >= expected.transactions
            };
            // A verdict on what is missing says more than an error here.
            self.receiver.wait_until(ARRIVAL_MAX, arrived).await;
        }
        self.receiver
            .read(|store| (store.trace(id).cloned().collect(), transactions_of::<T>(store, id).cloned().collect()))
    }

    /// Waits until Envoy has nothing queued any more and its statistics are `settled`, and sums up;
    /// it does so, too, when that does not happen in time. `shown` is what belongs to the traces or
    /// trips of all scenarios.
    ///
    /// # Errors
    /// Envoy's admin does not answer.
    pub async fn totals(&self, shown: Counts, settled: impl Fn(&Stats) -> bool) -> Result<Totals> {
        let quiet = |stats: &Stats| {
            let received = self.receiver.read(counts);
            let all_arrived = [("spans", received.spans), ("transactions", received.transactions)].into_iter().all(
                |(records, received)| {
                    let accounting = stats.accounting(records);
                    accounting.queued == 0 && accounting.balances() && accounting.exported == received
                },
            );
            all_arrived && settled(stats)
        };
        let stats = self.envoy.stats_when(ARRIVAL_MAX, quiet).await?;
        Ok(self.receiver.read(|store| Totals { stats, shown, received: counts(store), complaints: complaints(store) }))
    }

    /// Ends everything, Envoy first, so that what it sends at its end is still taken.
    ///
    /// # Errors
    /// Envoy cannot be waited for.
    pub async fn stop(self) -> Result<()> {
        // A store that cannot write has said so already, as the line of a demo that stays up tells.
        self.hand_over_hops().await.unwrap_or_default();
        let stopped = self.envoy.stop().await;
        if let Some(traces) = &self.traces {
            traces.close().await;
        }
        stopped
    }
}

/// Where the demo has its files: below cargo's, and kept from one run to the next.
pub fn dir() -> PathBuf {
    paths::target_dir().join("envoy-demo")
}

/// Where in a demo's folder the traces are.
pub fn traces_dir(dir: &Path) -> PathBuf {
    dir.join("traces")
}

async fn open_traces(mode: Mode, dir: &Path) -> Result<Option<TraceStore>> {
    if mode == Mode::CrossApplicationTracing {
        return Ok(None);
    }
    let dir = traces_dir(dir);
    // It looks whether the database is whole, which takes a while for a large one.
    let opening = tokio::task::spawn_blocking(move || TraceStore::open(&dir, Options::default()));
    Ok(Some(opening.await?.context("the trace store does not start")?))
}

/// All scenarios of distributed tracing as of now.
///
/// # Errors
/// The clock stands before 1970.
pub fn scenarios() -> Result<Vec<Scenario>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    Ok(scenario::all(u64::try_from(now.as_millis())?))
}

fn start_services(ports: &mut Ports, sightings: &Sightings) -> Result<Vec<Service>> {
    let ask = |via, host, path| Next { via: ports.address(via), host, path };
    let programs = [
        ("storefront", ports::STOREFRONT, Work::Ask(ask(ports::STOREFRONT_OUTBOUND, "cart", "cart"))),
        ("cart", ports::CART, Work::Ask(ask(ports::CART_OUTBOUND, "payments", "payments"))),
        ("payments", ports::PAYMENTS, Work::AskUnlessDeclined(ask(ports::PAYMENTS_OUTBOUND, "bank.example", "charge"))),
        ("bank", ports::BANK, Work::Answer { after: BANK_TAKES }),
    ];
    let start = |(name, place, work)| Ok(Service::start(name, ports.listen(place)?, work, sightings));
    programs.into_iter().map(start).collect()
}

fn render_config(mode: Mode, ports: &Ports, module: &Path) -> Result<String> {
    let module = module.to_str().context("the module's path is no text")?;
    template::render(ENVOY_YAML, |name| match name {
        "WASM" => Some(module.to_owned()),
        "DISTRIBUTED_TRACING" => Some((mode == Mode::DistributedTracing).to_string()),
        "CROSS_APPLICATION_TRACING" => Some((mode == Mode::CrossApplicationTracing).to_string()),
        _ => {
            let place = ports::PLACES.into_iter().find(|place| Some(place.name) == name.strip_prefix("PORT_"))?;
            Some(ports.address(place).port().to_string())
        }
    })
}

fn counts(store: &Store) -> Counts {
    Counts { spans: store.spans().count() as u64, transactions: store.transactions().count() as u64 }
}

fn transactions_of<'a, T: Expected>(store: &'a Store, id: &'a str) -> impl Iterator<Item = &'a Transaction> {
    store.transactions().filter(move |transaction| transaction.text(T::TRANSACTION_KEY) == id)
}

fn complaints(store: &Store) -> Vec<String> {
    let refused = store.posts().filter(|post| !post.status.is_success());
    let refused = refused.map(|post| format!("a post to the {:?} API was answered {}", post.api, post.status));
    let faulty = store.integration_errors().map(|error| format!("a payload is faulty: {}", error.message));
    refused.chain(faulty).collect()
}
