//! The filters of the list, and the addresses that they make.

use fantoccini::Locator;
use serde_json::{Value, json};

use crate::chromium::Browser;
use crate::site::{Site, Span, browser_at, chromium_or_skip, now_ms, send};

/// The names of the traces in the list, once there are as many as in the argument.
const NAMES: &str = "const links = [...document.querySelectorAll('.trace-link')];
    return document.querySelector('.traces')?.ariaBusy === 'false' && links.length === arguments[0]
        && links.map((link) => link.innerText)";

/// Three traces, a second apart: a slow one, one that fails, and the newest.
async fn three_traces(site: &Site) {
    let now = now_ms();
    let [slow, failing, newest] = [("slow", 3), ("failing", 2), ("newest", 1)].map(|(name, ago)| {
        let id = format!("{ago}").repeat(32);
        let root = Span::root(&id, "shop", name);
        Span { start_ms: now - ago * 1000, ..root }
    });
    let slow = slow.lasting(900.0);
    let store = slow.child("00000000000000b1", "warehouse", "look");
    let failing = failing.with("error.message", "no stock");
    send(site.address(), &[slow, store, failing, newest]).await;
}

async fn names(browser: &Browser, count: usize) -> Vec<String> {
    let names = browser.until(NAMES, vec![json!(count)]).await.unwrap();
    names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

async fn hash(browser: &Browser) -> Value {
    browser.run("return location.hash", vec![]).await.unwrap()
}

#[tokio::test]
async fn every_filter_is_an_address_that_leads_to_the_same_list() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    three_traces(&site).await;
    let browser = browser_at(&programs, site.address()).await;
    for (filter, expected) in [
        ("", vec!["newest", "failing", "slow"]),
        ("?service=warehouse", vec!["slow"]),
        ("?error=true", vec!["failing"]),
        ("?min_ms=500", vec!["slow"]),
        ("?max_ms=500", vec!["newest", "failing"]),
        ("?id=2222", vec!["failing"]),
        ("?service=shop&error=true", vec!["failing"]),
        ("?last=60", vec!["newest", "failing", "slow"]),
    ] {
        browser.open(&format!("#/traces{filter}")).await.unwrap();
        assert_eq!(names(&browser, expected.len()).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn the_form_shows_and_changes_the_address() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    three_traces(&site).await;
    let browser = browser_at(&programs, site.address()).await;
    browser.open("#/traces").await.unwrap();
    assert_eq!(names(&browser, 3).await.len(), 3);
    browser.click("input[name=error]").await.unwrap();
    assert_eq!(names(&browser, 1).await, ["failing"]);
    assert_eq!(hash(&browser).await, "#/traces?error=true");
    browser.click("input[name=error]").await.unwrap();
    let shortest = browser.client.find(Locator::Css("input[name=min_ms]")).await.unwrap();
    shortest.send_keys("500").await.unwrap();
    assert_eq!(names(&browser, 1).await, ["slow"]);
    assert_eq!(hash(&browser).await, "#/traces?min_ms=500");
    // Somebody else opens that address and sees the same in the form.
    browser.open("#/traces?min_ms=500&service=warehouse").await.unwrap();
    assert_eq!(names(&browser, 1).await, ["slow"]);
    let form = "return ['min_ms', 'service'].map((name) => document.querySelector(`[name=${name}]`).value)";
    assert_eq!(browser.run(form, vec![]).await.unwrap(), json!(["500", "warehouse"]));
}

#[tokio::test]
async fn filters_that_nothing_matches_can_be_cleared() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    three_traces(&site).await;
    let browser = browser_at(&programs, site.address()).await;
    browser.open("#/traces?service=nobody").await.unwrap();
    browser.click(".empty button").await.unwrap();
    assert_eq!(names(&browser, 3).await, ["newest", "failing", "slow"]);
    assert_eq!(hash(&browser).await, "#/traces");
}

#[tokio::test]
async fn an_empty_store_says_how_to_send_something() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    let browser = browser_at(&programs, site.address()).await;
    browser.open("").await.unwrap();
    let text = browser.until("return document.querySelector('.empty')?.innerText", vec![]).await.unwrap();
    let own = format!("http://{}/v1/traces", site.address());
    for part in ["No traces yet", "curl http://", &own] {
        assert!(text.as_str().unwrap().contains(part), "no {part:?} in {text}");
    }
}

#[tokio::test]
async fn older_traces_are_on_the_next_page() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    let now = now_ms();
    let spans: Vec<Span> = (1..=60)
        .map(|number| {
            let root = Span::root(&format!("{number:032x}"), "shop", &format!("trace {number}"));
            Span { start_ms: now - 1000 + number, ..root }
        })
        .collect();
    send(site.address(), &spans).await;
    let browser = browser_at(&programs, site.address()).await;
    browser.open("#/traces").await.unwrap();
    assert_eq!(names(&browser, 50).await.first().map(String::as_str), Some("trace 60"));
    browser.click(".pages [rel=next]").await.unwrap();
    let rest = names(&browser, 10).await;
    assert_eq!((rest[0].as_str(), rest[9].as_str()), ("trace 10", "trace 1"));
    browser.click(".pages a:not([rel])").await.unwrap();
    assert_eq!(names(&browser, 50).await.first().map(String::as_str), Some("trace 60"));
}
