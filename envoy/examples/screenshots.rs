//! Makes the pictures of the README: runs the demo, sends requests, and photographs the page of its trace store.
//!
//! The one argument is the folder for the pictures. Each is made in light and, as `…-dark.png`, in dark.

#[path = "../tests/browser/chromium.rs"]
#[expect(dead_code, reason = "the tests need more of a browser than pictures do")]
mod chromium;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use envoy_demo::client::{self, Request};
use envoy_demo::demo::{self, Demo};
use envoy_demo::mode::Mode;
use envoy_demo::ports::{self, Ports};
use envoy_demo::{paths, scenario};
use serde_json::json;

use crate::chromium::{Browser, Programs, Scheme};

/// Requests in addition to those of the demo's scenarios; one in five fails.
const REQUESTS: u32 = 20;
/// Size of the pictures, in pixels.
const WIDTH: u32 = 1200;

/// A picture: its name, where it is taken, what must be there, and its height in pixels.
struct Picture {
    name: &'static str,
    fragment: String,
    ready: &'static str,
    height: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).context("the folder for the pictures is missing")?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let programs = Programs::find()?;
    let dir = paths::target_dir().join("screenshots");
    forget(&dir)?;
    let (envoy, module) = (paths::envoy()?, paths::wasm_module()?);
    let demo = Demo::start(Mode::DistributedTracing, Ports::free()?, &envoy, &module, &dir).await?;
    let whole = traffic(&demo).await?;
    let site = format!("http://{}", demo.address(ports::RECEIVER));
    let browser = Browser::start(&programs, &site, &dir.join("profile")).await?;
    for picture in pictures(&whole) {
        take(&browser, &picture, &folder).await?;
    }
    drop(browser);
    demo.stop().await
}

/// Removes what an earlier run left behind: the pictures are to show the traces of this one.
fn forget(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Sends requests through the demo; gives the id of a trace that has its root.
async fn traffic(demo: &Demo) -> Result<String> {
    let gateway = demo.address(ports::GATEWAY);
    for number in 1..=REQUESTS {
        let path = if number % 5 == 0 { "/checkout/declined".to_owned() } else { format!("/checkout/{number}") };
        client::send(gateway, &Request::get(scenario::SHOP, &path)).await?;
    }
    demo.hand_over_hops().await?;
    let mut whole = None;
    for scenario in demo::scenarios()? {
        let begins_here = scenario.expected.as_ref().is_some_and(|trace| trace.caller.is_none() && !trace.failed);
        let evidence = demo.run(scenario).await?;
        whole = evidence.spans.first().filter(|_| begins_here).map(|span| span.trace_id.clone()).or(whole);
    }
    whole.context("no scenario of the demo begins a trace")
}

fn pictures(whole: &str) -> [Picture; 3] {
    [
        Picture { name: "traces", fragment: "#/traces".to_owned(), ready: ".trace-row", height: 800 },
        Picture { name: "trace", fragment: format!("#/trace/{whole}"), ready: ".span-row", height: 1000 },
        Picture { name: "map", fragment: "#/map".to_owned(), ready: "[data-node=payments]", height: 600 },
    ]
}

async fn take(browser: &Browser, picture: &Picture, folder: &Path) -> Result<()> {
    browser.resize(WIDTH, picture.height).await?;
    for (scheme, end) in [(Scheme::Light, ""), (Scheme::Dark, "-dark")] {
        browser.prefer(scheme).await?;
        browser.open(&picture.fragment).await?;
        // The line of the footer is the last thing to arrive.
        let ready = "return document.querySelector(arguments[0]) !== null && document.fonts.status === 'loaded'
            && document.getElementById('live').dataset.state === 'live' && document.getElementById('status').innerText !== ''";
        browser.until(ready, vec![json!(picture.ready)]).await?;
        let file = folder.join(format!("{}{end}.png", picture.name));
        let png = browser.client.screenshot().await?;
        std::fs::write(&file, png).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
