//! Traces that arrive while somebody looks.

use serde_json::json;

use crate::site::{Site, Span, browser_at, chromium_or_skip, send};

const TRACE_ID: &str = "11111111111111111111111111111111";
/// Connections that a browser opens to one server at most, when it speaks HTTP/1.1.
const CONNECTIONS_OF_A_BROWSER: usize = 6;

#[tokio::test]
async fn an_open_trace_appears_and_grows_without_a_reload() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    let browser = browser_at(&programs, site.address()).await;
    browser.open("#/traces").await.unwrap();
    browser.until("return document.querySelector('.empty') !== null", vec![]).await.unwrap();
    // A reload would take this away.
    browser.run("window.same = true", vec![]).await.unwrap();
    let root = Span::root(TRACE_ID, "shop", "root");
    send(site.address(), std::slice::from_ref(&root)).await;
    let row = "const row = document.querySelector('.trace-row[data-state=open]');
        return row?.innerText.includes(arguments[0]) && row.innerText";
    let text = browser.until(row, vec![json!("1 span")]).await.unwrap();
    assert!(text.as_str().unwrap().contains("closes in"), "{text}");
    send(site.address(), &[root.child("00000000000000b1", "warehouse", "child")]).await;
    browser.until(row, vec![json!("2 spans")]).await.unwrap();
    assert_eq!(browser.run("return window.same", vec![]).await.unwrap(), true);
}

#[tokio::test]
async fn a_waterfall_grows_and_keeps_what_was_folded_and_focused() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    let root = Span::root(TRACE_ID, "shop", "root");
    let child = root.child("00000000000000b1", "shop", "child");
    let hidden = child.child("00000000000000c1", "shop", "hidden");
    send(site.address(), &[root.clone(), child, hidden]).await;
    let browser = browser_at(&programs, site.address()).await;
    browser.open(&format!("#/trace/{TRACE_ID}?span=00000000000000b1")).await.unwrap();
    browser.until("return document.activeElement.dataset.spanId === '00000000000000b1'", vec![]).await.unwrap();
    browser.press(fantoccini::key::Key::Left).await.unwrap();
    let late = Span { start_ms: root.start_ms + 9, ..root.child("00000000000000b2", "warehouse", "late") };
    send(site.address(), &[late]).await;
    browser
        .until("return document.querySelector('[data-span-id=\"00000000000000b2\"]') !== null", vec![])
        .await
        .unwrap();
    let state = "return [
        document.activeElement.dataset.spanId,
        document.querySelector('[data-span-id=\"00000000000000c1\"]').hidden,
        document.querySelector('[aria-selected=true]').dataset.spanId,
    ]";
    assert_eq!(
        browser.run(state, vec![]).await.unwrap(),
        json!(["00000000000000b1", true, "00000000000000b1"]),
        "focus, folded part and selection"
    );
}

#[tokio::test]
async fn tabs_in_the_background_leave_the_connections_to_the_one_in_front() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    let browser = browser_at(&programs, site.address()).await;
    for _ in 0..CONNECTIONS_OF_A_BROWSER + 2 {
        let tab = browser.client.new_window(true).await.unwrap();
        browser.client.switch_to_window(tab.handle).await.unwrap();
        browser.open("#/traces").await.unwrap();
        browser.until("return document.getElementById('live').dataset.state === 'live'", vec![]).await.unwrap();
    }
    // The first of them is behind the others, until somebody looks at it again.
    let first = browser.client.windows().await.unwrap().swap_remove(1);
    browser.client.switch_to_window(first).await.unwrap();
    send(site.address(), &[Span::root(TRACE_ID, "shop", "root")]).await;
    browser.until("return document.querySelector('.trace-row') !== null", vec![]).await.unwrap();
}
