//! The page of the trace store in a headless Chromium.
//!
//! Chromium is installed where that can be done. Where it cannot, the tests are skipped with a notice, but with `CI`,
//! `CHROMEDRIVER` or `CHROMIUM` set they fail. Those through the demo want an Envoy in the same way.

mod chromium;
mod demo;
mod filters;
mod keyboard;
mod live;
mod looks;
mod site;
mod spans;
