//! The page without a mouse.

use fantoccini::key::Key;
use serde_json::json;

use crate::chromium::Browser;
use crate::site::{Site, Span, browser_at, chromium_or_skip, send};

const TRACE_ID: &str = "11111111111111111111111111111111";
/// More than the elements that Tab reaches before the first trace.
const TABS_MAX: usize = 40;

/// A trace of two services: a root with two children, the first of which has one.
async fn family(site: &Site) {
    let root = Span::root(TRACE_ID, "shop", "root");
    let first = root.child("00000000000000b1", "shop", "first").with("colour", "green");
    let grandchild = first.child("00000000000000c1", "warehouse", "grandchild");
    let second = Span { start_ms: root.start_ms + 5, ..root.child("00000000000000b2", "shop", "second") };
    send(site.address(), &[root, first, grandchild, second]).await;
}

/// Waits until the focus is on an element with that text in its first line.
async fn assert_focus(browser: &Browser, selector: &str, text: &str) {
    let script = "const at = document.activeElement;
        return at.matches(arguments[0]) && (at.querySelector('.span-name') ?? at).innerText === arguments[1]";
    browser.until(script, vec![json!(selector), json!(text)]).await.unwrap();
}

/// Presses Tab until the focus is on an element of that kind.
async fn tab_to(browser: &Browser, selector: &str) {
    for _ in 0..TABS_MAX {
        browser.press(Key::Tab).await.unwrap();
        let script = "return document.activeElement.matches(arguments[0])";
        if browser.run(script, vec![json!(selector)]).await.unwrap() == true {
            return;
        }
    }
    panic!("{TABS_MAX} times Tab do not lead to {selector}");
}

async fn wait_for(browser: &Browser, selector: &str) {
    browser.until("return document.querySelector(arguments[0]) !== null", vec![json!(selector)]).await.unwrap();
}

#[tokio::test]
async fn tab_and_enter_lead_from_the_list_to_the_attributes_and_escape_leads_back() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    family(&site).await;
    let browser = browser_at(&programs, site.address()).await;
    browser.open("#/traces").await.unwrap();
    wait_for(&browser, ".trace-link").await;
    tab_to(&browser, ".trace-link").await;
    browser.press(Key::Enter).await.unwrap();
    wait_for(&browser, "[role=row][data-span-id]").await;
    tab_to(&browser, "[role=row][data-span-id]").await;
    assert_focus(&browser, "[role=row]", "root").await;
    browser.press(Key::Down).await.unwrap();
    assert_focus(&browser, "[role=row]", "first").await;
    browser.press(Key::Enter).await.unwrap();
    assert_focus(&browser, "#details-title", "first").await;
    let attributes = "return document.querySelector('.attributes')?.innerText";
    let attributes = browser.until(attributes, vec![]).await.unwrap();
    assert!(attributes.as_str().unwrap().contains("colour") && attributes.as_str().unwrap().contains("green"));
    browser.press(Key::Escape).await.unwrap();
    assert_focus(&browser, "[role=row]", "first").await;
    browser.press(Key::Escape).await.unwrap();
    browser.until("return location.hash === '#/traces'", vec![]).await.unwrap();
}

#[tokio::test]
async fn arrow_keys_walk_and_fold_the_tree() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    family(&site).await;
    let browser = browser_at(&programs, site.address()).await;
    browser.open(&format!("#/trace/{TRACE_ID}")).await.unwrap();
    wait_for(&browser, "[role=row][data-span-id]").await;
    for (key, focus, visible) in [
        (Key::Down, "root", 4),
        (Key::Down, "first", 4),
        (Key::Left, "first", 3),
        (Key::Down, "second", 3),
        (Key::Up, "first", 3),
        (Key::Right, "first", 4),
        (Key::Right, "grandchild", 4),
        (Key::Left, "first", 4),
        (Key::Left, "first", 3),
        (Key::Left, "root", 3),
        (Key::Left, "root", 1),
        (Key::Right, "root", 3),
        (Key::End, "second", 3),
        (Key::Home, "root", 3),
    ] {
        browser.press(key).await.unwrap();
        assert_focus(&browser, "[role=row]", focus).await;
        let script = "return document.querySelectorAll('[role=row][data-span-id]:not([hidden])').length";
        assert_eq!(browser.run(script, vec![]).await.unwrap(), visible, "after {key:?} to {focus}");
    }
}

#[tokio::test]
async fn letters_walk_the_list_and_change_the_view() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    let [older, newer] =
        [("older", "1"), ("newer", "2")].map(|(name, digit)| Span::root(&digit.repeat(32), "shop", name));
    let older = Span { start_ms: older.start_ms - 1000, ..older };
    send(site.address(), &[older, newer]).await;
    let browser = browser_at(&programs, site.address()).await;
    browser.open("#/traces").await.unwrap();
    wait_for(&browser, ".trace-row + .trace-row").await;
    for (key, name) in [('j', "newer"), ('j', "older"), ('k', "newer")] {
        browser.press_char(key).await.unwrap();
        assert_focus(&browser, ".trace-link", name).await;
    }
    browser.press_char('m').await.unwrap();
    wait_for(&browser, "[data-node=shop]").await;
    browser.press_char('t').await.unwrap();
    wait_for(&browser, ".trace-row").await;
    browser.press_char('/').await.unwrap();
    browser.until("return document.activeElement.closest('form') !== null", vec![]).await.unwrap();
    // In a field the same keys type: nothing else happens.
    browser.click("input[name=id]").await.unwrap();
    browser.press_char('m').await.unwrap();
    assert_eq!(browser.run("return document.querySelector('[name=id]').value", vec![]).await.unwrap(), "m");
    browser.press(Key::Escape).await.unwrap();
    browser.press_char('?').await.unwrap();
    browser.until("return document.getElementById('keys').open", vec![]).await.unwrap();
    browser.press(Key::Escape).await.unwrap();
    browser.until("return !document.getElementById('keys').open", vec![]).await.unwrap();
}
