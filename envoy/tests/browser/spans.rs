//! What a waterfall makes visible, and what senders can do to it.

use serde_json::{Value, json};

use crate::site::{Site, Span, api, browser_at, chromium_or_skip, send};

const TRACE_ID: &str = "11111111111111111111111111111111";
/// Does harm when it becomes markup.
const MARKUP: &str = "<img src=x onerror=\"window.harmed=1\"><script>window.harmed=1</script>";

#[tokio::test]
async fn hostile_names_are_shown_as_text() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    let service = format!("{MARKUP} service");
    let root = Span::root(TRACE_ID, &service, &format!("{MARKUP} name"))
        .with("error.message", format!("{MARKUP} message"))
        .with(&format!("{MARKUP} key"), format!("{MARKUP} value"));
    let child = root.child("00000000000000b1", "'\"]\\", "' onclick='window.harmed=1");
    send(site.address(), &[root, child]).await;
    let browser = browser_at(&programs, site.address()).await;
    for (fragment, parts) in [
        ("#/traces".to_owned(), vec!["name", "service"]),
        (format!("#/trace/{TRACE_ID}?span=00000000000000a1"), vec!["name", "service", "message", "key", "value"]),
        ("#/map".to_owned(), vec!["service"]),
    ] {
        browser.open(&fragment).await.unwrap();
        for part in parts {
            let script = "return document.getElementById('main').textContent.includes(arguments[0])";
            browser.until(script, vec![json!(format!("{MARKUP} {part}"))]).await.unwrap();
        }
        let script = "return [window.harmed ?? 0, document.querySelectorAll('main img, main script, [onerror], [onclick]').length]";
        assert_eq!(browser.run(script, vec![]).await.unwrap(), json!([0, 0]), "{fragment}");
    }
    assert_eq!(browser.complaints().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn boundaries_orphans_and_a_missing_root_are_visible() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    let lost = Span::root(TRACE_ID, "gateway", "lost");
    let first = lost.child("00000000000000b1", "shop", "first");
    let inside = first.child("00000000000000c1", "shop", "inside");
    let query = first.child("00000000000000c2", "shop", "query").with("db.statement", "SELECT 1");
    let across = inside.child("00000000000000d1", "warehouse", "across");
    send(site.address(), &[first, inside, query, across]).await;
    let browser = browser_at(&programs, site.address()).await;
    browser.open(&format!("#/trace/{TRACE_ID}")).await.unwrap();
    let rows = "const rows = [...document.querySelectorAll('[role=row][data-span-id]')];
        return rows.length === 4 && Object.fromEntries(rows.map((row) => [row.querySelector('.span-name').innerText, row.innerText]))";
    let rows = browser.until(rows, vec![]).await.unwrap();
    let says = |name: &str, part: &str| rows[name].as_str().unwrap().contains(part);
    assert!(says("first", "orphan: parent 00000000000000a1 is not in the data"), "{rows}");
    assert!(says("across", "↪ from shop") && !says("inside", "↪"), "{rows}");
    assert!(says("query", "datastore") && says("inside", "external") && says("across", "service"), "{rows}");
    let places = "return [...document.querySelectorAll('[role=row][data-span-id]')].map((row) =>
        [row.querySelector('.span-name').innerText, row.dataset.parentId, row.ariaLevel])";
    let expected = json!([
        ["first", "", "1"],
        ["inside", "00000000000000b1", "2"],
        ["across", "00000000000000c1", "3"],
        ["query", "00000000000000b1", "2"],
    ]);
    assert_eq!(browser.run(places, vec![]).await.unwrap(), expected, "each below its parent");
    let text = browser.run("return document.getElementById('main').innerText", vec![]).await.unwrap();
    assert!(text.as_str().unwrap().contains("The root of this trace is missing"), "{text}");
    let summary = api(site.address(), &format!("/api/traces/{TRACE_ID}")).await["sessions"][0].clone();
    let script = "return Object.fromEntries([...document.querySelectorAll('.stat')].map((stat) =>
        [stat.querySelector('dt').innerText, stat.querySelector('dd').innerText]))";
    let stats = browser.run(script, vec![]).await.unwrap();
    for (name, counter) in [
        ("Spans", "spans"),
        ("Entry", "entry_spans"),
        ("Exit", "exit_spans"),
        ("In-process", "in_process_spans"),
        ("Datastore", "datastore_spans"),
        ("External", "external_spans"),
        ("Boundaries", "process_boundaries"),
        ("Errors", "errors"),
        ("Orphans", "orphans"),
    ] {
        assert_eq!(stats[name].as_str(), Some(summary[counter].to_string().as_str()), "{name} in {stats}");
    }
    assert_eq!(stats["Root"], "missing");
}

#[tokio::test]
async fn an_address_with_a_span_opens_its_attributes() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    let root = Span::root(TRACE_ID, "shop", "root");
    let child = root.child("00000000000000b1", "shop", "child").with("http.statusCode", 204);
    send(site.address(), &[root, child]).await;
    let browser = browser_at(&programs, site.address()).await;
    browser.open(&format!("#/trace/{TRACE_ID}?span=00000000000000b1")).await.unwrap();
    let details = "return document.querySelector('.details')?.innerText";
    let text = browser.until(details, vec![]).await.unwrap();
    for part in ["child", "00000000000000b1", "http.statusCode", "204"] {
        assert!(text.as_str().unwrap().contains(part), "no {part:?} in {text}");
    }
    // The parent's name in the attributes leads to the parent, and the address follows.
    browser.click(".details .link").await.unwrap();
    browser.until("return document.getElementById('details-title').innerText === 'root'", vec![]).await.unwrap();
    let hash = browser.run("return location.hash", vec![]).await.unwrap();
    assert_eq!(hash, format!("#/trace/{TRACE_ID}?span=00000000000000a1"));
}

#[tokio::test]
async fn a_trace_that_is_not_there_is_said_to_be_missing() {
    let Some(programs) = chromium_or_skip() else { return };
    let site = Site::start().await;
    let browser = browser_at(&programs, site.address()).await;
    browser.open(&format!("#/trace/{TRACE_ID}")).await.unwrap();
    let text = browser.until("return document.querySelector('[role=alert]')?.innerText", vec![]).await.unwrap();
    assert_ne!(text, Value::from(""), "the store's own words");
    // It arrives after all.
    send(site.address(), &[Span::root(TRACE_ID, "shop", "root")]).await;
    browser.until("return document.querySelector('h1')?.innerText === 'root'", vec![]).await.unwrap();
}
