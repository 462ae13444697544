//! A demo that stays up: it sends a trickle of requests, prints the traces of everybody else's, and tells on one line
//! what it is doing.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Result;

use crate::cat;
use crate::cat::wire;
use crate::client::Request;
use crate::demo::{self, Demo};
use crate::follow::{Followed, follow};
use crate::mode::Mode;
use crate::paint::Paint;
use crate::ports;
use crate::progress::{Progress, State, Traces};
use crate::report;
use crate::trace_store::TraceStore;
use crate::tracing_headers::X_NEWRELIC_ID;
use crate::trickle::{self, Trickle};

/// Time between two looks at what has changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What there is to do for a demo that stays up.
#[derive(Debug)]
pub struct Stay<'a> {
    demo: &'a Demo,
    mode: Mode,
    /// `None` when the demo shall send nothing by itself.
    trickle: Option<Trickle>,
    progress: Progress,
    paint: Paint,
}

impl<'a> Stay<'a> {
    /// `has_trickle` tells whether the demo sends requests of its own, `in_place` whether its output can be drawn over.
    pub fn new(demo: &'a Demo, mode: Mode, has_trickle: bool, in_place: bool, paint: Paint) -> Self {
        let trickle = has_trickle.then(Trickle::default);
        Self { demo, mode, trickle, progress: Progress::new(in_place), paint }
    }

    /// What to tell a person at first.
    pub fn invitation(&self) -> String {
        let gateway = self.demo.address(ports::GATEWAY);
        let (what, options) = match self.mode {
            Mode::DistributedTracing => ("traces", String::new()),
            Mode::CrossApplicationTracing => {
                let id = wire::encode(cat::scenario::TRUSTED_CALLER);
                ("trips", format!("-i -H '{X_NEWRELIC_ID}: {id}' "))
            }
        };
        let mut text = "\nThe demo stays up; Ctrl-C ends it.".to_owned();
        if let Some(page) = self.demo.page() {
            text += &format!(" Its traces, and those of earlier runs, are at\n   {page}\n");
            text += "and `make trace` prints the latest one.";
        }
        if self.trickle.is_some() {
            let off = trickle::VARIABLE;
            text += &format!(" It sends a request a second ({off}=0 turns that off).");
        }
        if self.progress.is_in_place() {
            text += "\nThe last line counts what it sends";
            text += if self.demo.page().is_some() { ", and the traces that are open and written." } else { "." };
        }
        text += &format!("\nThe {what} of your own requests appear here:\n");
        for path in ["/checkout/1", "/checkout/declined"] {
            text += &format!("   curl {options}http://{gateway}{path}\n");
        }
        text + "\n"
    }

    /// Goes on until something fails. `say` prints.
    ///
    /// # Errors
    /// It cannot be printed.
    pub async fn run(&self, say: impl Fn(&str) -> Result<()>) -> Result<Infallible> {
        let outcome = tokio::try_join!(self.follow(&say), self.send(), self.watch(&say));
        outcome.map(|(never, _, _)| never)
    }

    /// What to print at the end.
    pub fn farewell(&self) -> String {
        let sent = self.trickle.as_ref().map(|trickle| format!("The demo sent {} requests. ", trickle.sent()));
        let kept = self.demo.traces().map(|_| "The traces are kept; `make trace` prints the latest one.");
        let text = sent.unwrap_or_default() + kept.unwrap_or_default();
        format!("{}\n{}\n", self.progress.end(), text.trim_end())
    }

    async fn follow(&self, say: &impl Fn(&str) -> Result<()>) -> Result<Infallible> {
        let paint = self.paint;
        match self.mode {
            Mode::DistributedTracing => {
                let print = |spans: &[_]| self.show(spans, &report::trace(spans, paint), say);
                follow(self.demo.receiver(), print).await
            }
            Mode::CrossApplicationTracing => {
                let print = |trip: &[_]| self.show(trip, &cat::report::trip(trip, paint), say);
                follow(self.demo.receiver(), print).await
            }
        }
    }

    /// Prints a trace or trip, unless the demo itself has begun it.
    fn show<R: Followed>(&self, records: &[R], text: &str, say: impl Fn(&str) -> Result<()>) -> Result<()> {
        if records.iter().any(|record| record.text(trickle::USER_AGENT_KEY) == trickle::USER_AGENT) {
            return Ok(());
        }
        say(&self.progress.above(&format!("{text}\n")))
    }

    async fn send(&self) -> Result<Infallible> {
        let gateway = self.demo.address(ports::GATEWAY);
        let scenarios = || -> Result<Vec<Request>> {
            Ok(match self.mode {
                Mode::DistributedTracing => demo::scenarios()?.into_iter().map(|one| one.request).collect(),
                Mode::CrossApplicationTracing => cat::scenario::all().into_iter().map(|one| one.request).collect(),
            })
        };
        match &self.trickle {
            Some(trickle) => trickle.run(gateway, scenarios).await,
            None => std::future::pending().await,
        }
    }

    /// Hands on what the services saw, and keeps the line up to date.
    async fn watch(&self, say: &impl Fn(&str) -> Result<()>) -> Result<Infallible> {
        let mut shown = None;
        loop {
            // The line tells when the store cannot write.
            self.demo.hand_over_hops().await.unwrap_or_default();
            let state = self.state();
            if shown.as_ref() != Some(&state) {
                say(&self.progress.change(state.line(self.paint)))?;
                shown = Some(state);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn state(&self) -> State {
        let traces = match (self.demo.traces(), self.demo.page()) {
            (Some(traces), Some(page)) => Some(traces_state(traces, page)),
            _ => None,
        };
        State {
            sent: self.trickle.as_ref().map(Trickle::sent),
            unanswered: self.trickle.as_ref().map_or(0, Trickle::unanswered),
            traces,
        }
    }
}

fn traces_state(traces: &TraceStore, page: String) -> Traces {
    let status = traces.status();
    Traces {
        open: status.open,
        // In whole seconds, so that the line changes once a second.
        next_close_s: status.next_close_in_ms.map(|ms| ms.div_ceil(1_000)),
        written: status.written,
        fault: status.fault,
        page,
    }
}
