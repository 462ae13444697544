//! A headless Chromium, driven over WebDriver, for one test or one set of pictures.
//!
//! <https://www.w3.org/TR/webdriver2/>; what WebDriver has no word for goes over Chromium's own protocol:
//! <https://chromedevtools.github.io/devtools-protocol/tot/Emulation/>.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::http::Method;
use envoy_demo::paths;
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

/// How long a condition of the page may take to become true. Only a fault meets it, or a machine that is very busy.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Pause between two looks at the page.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// What chromedriver prints once it listens, in front of the port that it chose.
const LISTENS: &str = "started successfully on port ";
/// Arguments of every Chromium here: no window, no sandbox (which root has not got), nothing that asks the network.
const ARGUMENTS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];
/// Becomes chromedriver, after it has left a guard behind: when this program is gone, however it ended, the guard
/// kills its process group, which is chromedriver, the Chromium below it, and itself.
const GUARDED: &str = r#"exec 3<&0 </dev/null
(read -r _ <&3; kill -KILL 0) >/dev/null 2>&1 &
exec "$@" 3<&-"#;

/// Where chromedriver and Chromium are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    chromedriver: PathBuf,
    chromium: PathBuf,
}

impl Programs {
    /// As `find-chromium.sh` finds them; they are installed when there are none.
    ///
    /// # Errors
    /// There are none and they cannot be installed; the script has said why.
    pub(crate) fn find() -> Result<Self> {
        let script = Path::new(paths::PACKAGE).join("find-chromium.sh");
        let output = Command::new(&script)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot run {}", script.display()))?;
        ensure!(output.status.success(), "there is no Chromium to run");
        let text = String::from_utf8(output.stdout)?;
        let mut lines = text.lines().map(PathBuf::from);
        let (Some(chromedriver), Some(chromium)) = (lines.next(), lines.next()) else {
            bail!("{} printed {text:?}, which is not two paths", script.display());
        };
        Ok(Self { chromedriver, chromium })
    }
}

/// A colour scheme that a person may prefer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Dark text on light ground.
    Light,
    /// Light text on dark ground.
    Dark,
}

impl Scheme {
    /// Its name in CSS.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// A running Chromium with one window. Dropping it ends it and its chromedriver.
#[derive(Debug)]
pub(crate) struct Browser {
    pub(crate) client: Client,
    /// Address of the page, without a slash at the end.
    site: String,
    // In this order: what Chromium still writes would bring its profile back.
    _driver: Driver,
    _profile: Profile,
}

impl Browser {
    /// Starts a Chromium with an empty profile, which is in `dir` as long as it runs. `site` is the address of the page.
    ///
    /// # Errors
    /// Chromium does not start.
    pub(crate) async fn start(programs: &Programs, site: &str, dir: &Path) -> Result<Self> {
        let driver = Driver::start(&programs.chromedriver)?;
        let mut arguments: Vec<String> = ARGUMENTS.map(str::to_owned).to_vec();
        let profile = Profile(dir.to_owned());
        arguments.push(format!("--user-data-dir={}", dir.display()));
        let options = json!({ "binary": programs.chromium, "args": arguments });
        let timeouts = json!({ "pageLoad": WAIT_MAX.as_millis(), "script": WAIT_MAX.as_millis() });
        let wanted = json!({
            "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" }, "timeouts": timeouts,
        });
        let Value::Object(capabilities) = wanted else { bail!("the capabilities are no object") };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{}", driver.port))
            .await
            .context("chromedriver starts no Chromium")?;
        let browser = Self { client, site: site.to_owned(), _driver: driver, _profile: profile };
        browser.resize(1200, 900).await?;
        Ok(browser)
    }

    /// Loads the page at a fragment, as somebody does who follows a link from elsewhere.
    ///
    /// # Errors
    /// The browser is gone.
    pub(crate) async fn open(&self, fragment: &str) -> Result<()> {
        // Between two fragments of the same page nothing would be loaded.
        self.client.goto("about:blank").await?;
        Ok(self.client.goto(&format!("{}/{fragment}", self.site)).await?)
    }

    /// Runs a function body in the page. It may be asynchronous.
    ///
    /// # Errors
    /// It throws.
    pub(crate) async fn run(&self, script: &str, arguments: Vec<Value>) -> Result<Value> {
        Ok(self.client.execute(script, arguments).await?)
    }

    /// Waits until a function body gives something other than `null`, `false` or nothing, and gives that.
    ///
    /// # Errors
    /// It throws, or does not do so in time; the message shows what the page says instead.
    pub(crate) async fn until(&self, script: &str, arguments: Vec<Value>) -> Result<Value> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let found = self.run(script, arguments.clone()).await?;
            if !matches!(found, Value::Null | Value::Bool(false)) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                let text = self.run("return location.href + '\\n' + document.body.innerText", vec![]).await?;
                bail!("waited in vain for `{script}` {arguments:?}; the page shows\n{}", text.as_str().unwrap_or(""));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits for an element and clicks it with the mouse.
    ///
    /// # Errors
    /// It does not appear, or something covers it.
    pub(crate) async fn click(&self, selector: &str) -> Result<()> {
        let element = self.client.wait().at_most(WAIT_MAX).for_element(fantoccini::Locator::Css(selector)).await?;
        Ok(element.click().await?)
    }

    /// Presses one key, wherever the focus is.
    ///
    /// # Errors
    /// The browser is gone.
    pub(crate) async fn press(&self, key: Key) -> Result<()> {
        self.press_char(char::from(key)).await
    }

    /// The same for a key that types something.
    ///
    /// # Errors
    /// The browser is gone.
    pub(crate) async fn press_char(&self, value: char) -> Result<()> {
        let stroke = KeyActions::new("keys".to_owned()).then(KeyAction::Down { value }).then(KeyAction::Up { value });
        Ok(self.client.perform_actions(stroke).await?)
    }

    /// Gives the page a size, in CSS pixels.
    ///
    /// # Errors
    /// The browser is gone.
    pub(crate) async fn resize(&self, width: u32, height: u32) -> Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.ask_chromium("Emulation.setDeviceMetricsOverride", size).await
    }

    /// Makes the page believe that the person prefers a colour scheme.
    ///
    /// # Errors
    /// The browser is gone.
    pub(crate) async fn prefer(&self, scheme: Scheme) -> Result<()> {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme.name() });
        self.ask_chromium("Emulation.setEmulatedMedia", json!({ "features": [feature] })).await
    }

    /// What the page has written to the console since the last time, and what the browser complained about there:
    /// errors, and what the content security policy stopped.
    ///
    /// # Errors
    /// The browser is gone.
    pub(crate) async fn complaints(&self) -> Result<Vec<String>> {
        let log = self.issue("se/log", json!({ "type": "browser" })).await?;
        let entries = log.as_array().cloned().unwrap_or_default();
        let bad = entries.iter().filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG");
        Ok(bad.map(|entry| entry["message"].to_string()).collect())
    }

    async fn ask_chromium(&self, command: &str, parameters: Value) -> Result<()> {
        self.issue("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await.map(drop)
    }

    async fn issue(&self, path: &'static str, body: Value) -> Result<Value> {
        Ok(self.client.issue_cmd(Extension { path, body }).await?)
    }
}

/// A command of chromedriver that the standard does not know: a `POST` below the session.
#[derive(Debug)]
struct Extension {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base_url: &Url, session_id: Option<&str>) -> Result<Url, url::ParseError> {
        base_url.join(&format!("session/{}/{}", session_id.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

/// The folder of a Chromium's profile, some ten megabytes that nobody needs afterwards.
#[derive(Debug)]
struct Profile(PathBuf);

impl Drop for Profile {
    fn drop(&mut self) {
        // What is left then lies below cargo's folder.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A running chromedriver on a port that it chose.
#[derive(Debug)]
struct Driver {
    child: Child,
    /// Held open as long as chromedriver may live, see [`GUARDED`].
    guard: Option<ChildStdin>,
    /// Kept, so that chromedriver can go on printing.
    _output: BufReader<ChildStdout>,
    port: u16,
}

impl Driver {
    fn start(program: &Path) -> Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", GUARDED, "sh"])
            .arg(program)
            .arg("--port=0")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start chromedriver")?;
        let guard = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().context("chromedriver has no output")?);
        let port = read_port(&mut output)?;
        Ok(Self { child, guard, _output: output, port })
    }
}

/// Reads what chromedriver prints until it tells its port.
fn read_port(output: &mut impl BufRead) -> Result<u16> {
    for line in output.lines() {
        let line = line?;
        if let Some((_, port)) = line.split_once(LISTENS) {
            return port.trim_end_matches('.').parse().with_context(|| format!("chromedriver said {line:?}"));
        }
    }
    bail!("chromedriver ended instead of listening")
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.guard.take());
        // An error would mean that it is gone already.
        drop(self.child.wait());
    }
}
