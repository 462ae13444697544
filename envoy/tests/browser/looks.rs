//! Whether what is on the page can be read: in light and dark, and on a narrow screen.

use serde_json::json;

use crate::chromium::Scheme;
use crate::site::{Site, Span, browser_at, chromium_or_skip, send};

const TRACE_ID: &str = "11111111111111111111111111111111";
const CONTRAST: &str = include_str!("contrast.js");
/// Least contrast of text (WCAG 2.2, 1.4.3 for AA) and of graphics (1.4.11).
const LEAST: [f64; 2] = [4.5, 3.0];

/// A view, and what of it must be there before it is judged.
const VIEWS: [(&str, &str); 5] = [
    ("#/traces", ".trace-row"),
    ("#/traces?service=nobody", ".empty"),
    ("#/trace/11111111111111111111111111111111", ".span-row"),
    ("#/trace/11111111111111111111111111111111?span=00000000000000b1", ".details"),
    ("#/map", "[data-node=shop]"),
];

/// A trace with everything that has a colour of its own: an error, an orphan, a boundary, a database.
async fn colourful(site: &Site) {
    let root = Span::root(TRACE_ID, "shop", "WebTransaction/Envoy/GET /a/rather/long/path/*");
    let failing = root.child("00000000000000b1", "warehouse", "failing").with("error.message", "no stock");
    let query = failing.child("00000000000000c1", "warehouse", "query").with("db.statement", "SELECT 1");
    let orphan = query.child("00000000000000d1", "billing", "orphan");
    let orphan = Span { parent_id: Some("00000000000000ff".to_owned()), ..orphan };
    send(site.address(), &[root, failing, query, orphan]).await;
}

#[tokio::test]
async fn all_text_has_contrast_in_light_and_in_dark() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    colourful(&site).await;
    let browser = browser_at(&programs, site.address()).await;
    for scheme in [Scheme::Light, Scheme::Dark] {
        browser.prefer(scheme).await.unwrap();
        for (view, there) in VIEWS {
            browser.open(view).await.unwrap();
            browser.until("return document.querySelector(arguments[0]) !== null", vec![json!(there)]).await.unwrap();
            let found = browser.run(CONTRAST, LEAST.map(|least| json!(least)).to_vec()).await.unwrap();
            assert!(found["seen"].as_u64().unwrap() > 10, "{view}: hardly any text was looked at");
            assert_eq!(found["faint"], json!([]), "{view} in {}", scheme.name());
            let is_bright = found["brightness"].as_f64().unwrap() > 0.5;
            assert_eq!(is_bright, scheme == Scheme::Light, "{view} follows the preference for {}", scheme.name());
        }
    }
}

#[tokio::test]
async fn a_narrow_screen_never_scrolls_sideways() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    colourful(&site).await;
    let browser = browser_at(&programs, site.address()).await;
    browser.resize(400, 800).await.unwrap();
    for (view, there) in VIEWS {
        browser.open(view).await.unwrap();
        browser.until("return document.querySelector(arguments[0]) !== null", vec![json!(there)]).await.unwrap();
        let widths = "return [document.documentElement.scrollWidth, window.innerWidth]";
        assert_eq!(browser.run(widths, vec![]).await.unwrap(), json!([400, 400]), "{view}");
    }
}

#[tokio::test]
async fn a_deep_tree_leaves_room_for_its_names() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    let mut spans = vec![Span::root(TRACE_ID, "shop", "a name of some length")];
    for level in 1..300 {
        let above = spans.last().unwrap();
        let below = above.child(&format!("d{level:015x}"), "shop", "a name of some length").lasting(above.duration_ms);
        spans.push(below);
    }
    send(site.address(), &spans).await;
    let browser = browser_at(&programs, site.address()).await;
    for width in [400, 1200] {
        browser.resize(width, 800).await.unwrap();
        browser.open(&format!("#/trace/{TRACE_ID}")).await.unwrap();
        let narrowest = "const names = [...document.querySelectorAll('.span-name')];
            return names.length === 300 && Math.min(...names.map((name) => name.getBoundingClientRect().width))";
        let narrowest = browser.until(narrowest, vec![]).await.unwrap();
        assert!(narrowest.as_f64().unwrap() > 100.0, "{narrowest} pixels for a name on a page of {width}");
    }
}
