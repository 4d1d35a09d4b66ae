//! How much of a page replies show, through gRPC.

use std::{fs, path::Path};

use anyhow::Context as _;
use browserfleet_tests::{
    daemon::{Answer, Daemon, Lease},
    pages::Pages,
};
use serde_json::json;

type Outcome = anyhow::Result<()>;

async fn begin(path: &str) -> anyhow::Result<(Daemon, Pages, Lease)> {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("economy").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at(path), "snapshot": "none" })).await?;
    Ok((daemon, pages, lease))
}

/// What stands between the fences of the snapshot.
fn fenced<'a>(answer: &'a Answer, kind: &str) -> anyhow::Result<&'a str> {
    let (_, rest) = answer.text.split_once(&format!("```{kind}\n")).with_context(|| answer.text.clone())?;
    Ok(rest.split_once("\n```").context("the end of the fence")?.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_shows_as_much_of_the_page_as_was_asked_for() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("modes").await?;
    let at = pages.at("/corpus/shop.html");
    let none = lease.ok("browser_navigate", json!({ "url": at, "snapshot": "none" })).await?;
    assert!(none.text.contains(&format!("### Page\n- Page URL: {at}\n- Page Title: A shop\n")), "{}", none.text);
    assert!(!none.text.contains("### Snapshot") && !none.text.contains("ref="), "{}", none.text);
    let interactive = lease.ok("browser_snapshot", json!({ "snapshot": "interactive" })).await?;
    let full = lease.ok("browser_snapshot", json!({})).await?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/shop.interactive.yml");
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(fenced(&interactive, "yaml")?, expected.trim_end());
    assert!(interactive.text.contains("Only what can be acted on is shown"), "{}", interactive.text);
    // The refs are those of the whole snapshot.
    let cart = interactive.find_ref("button \"Add to cart\"")?;
    assert_eq!(full.find_ref("button \"Add to cart\"")?, cart);
    let clicked = lease.ok("browser_click", json!({ "target": cart, "snapshot": "none" })).await?;
    assert!(clicked.text.contains("Add to cart' }).click();") && !clicked.text.contains("### Snapshot"));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buttons_that_are_called_the_same_are_told_apart_by_what_they_are_in() -> Outcome {
    let (daemon, _pages, lease) = begin("/done").await?;
    let table = "() => { document.body.innerHTML = '<table><tr><td>Ann<td><button>Edit</button><tr><td>Bob<td><button>Edit</button></table>\
                 <ul><li>Fruit <button>Buy</button></ul><p>Words</p>' }";
    lease.ok("browser_evaluate", json!({ "function": table })).await?;
    let twins = lease.ok("browser_snapshot", json!({ "snapshot": "interactive" })).await?;
    let lines: Vec<_> =
        fenced(&twins, "yaml")?.lines().map(|line| line.split(" [ref").next().unwrap_or(line)).collect();
    let expected = ["- row \"Ann\"", "  - button \"Edit\"", "- row \"Bob\"", "  - button \"Edit\"", "- button \"Buy\""];
    assert_eq!(lines, expected, "{}", twins.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diff_is_what_changed_since_the_page_was_shown() -> Outcome {
    let (daemon, pages, lease) = begin("/fields").await?;
    let first = lease.ok("browser_click", json!({ "target": "#agree", "snapshot": "diff" })).await?;
    assert!(first.text.contains("there is no earlier snapshot") && fenced(&first, "yaml").is_ok(), "{}", first.text);
    let agree = first.find_ref("checkbox \"Agree\"")?;
    let unchecked = lease.ok("browser_click", json!({ "target": agree, "snapshot": "diff" })).await?;
    let changed = fenced(&unchecked, "diff")?;
    let marked = |sign: char| -> Vec<&str> { changed.lines().filter(|line| line.starts_with(sign)).collect() };
    assert_eq!((marked('-').len(), marked('+').len()), (1, 1), "{changed}");
    assert!(
        marked('-')[0].contains("checkbox \"Agree\" [checked]") && !marked('+')[0].contains("checked"),
        "{changed}"
    );
    assert!(changed.lines().next().is_some_and(|line| line.starts_with("  - generic")), "in what it is: {changed}");
    assert!(changed.len() < 600 && unchecked.text.contains("1 lines came (+) and 1 went (-)"), "{}", unchecked.text);
    let idle = lease.ok("browser_snapshot", json!({ "snapshot": "diff" })).await?;
    assert!(idle.text.contains("### Snapshot\nNothing has changed since the last snapshot."), "{}", idle.text);

    // What is shown in part, or not at all, is nothing to compare with.
    lease.ok("browser_type", json!({ "target": "#name", "text": "Ada" })).await?;
    lease.ok("browser_snapshot", json!({ "snapshot": "interactive" })).await?;
    lease.ok("browser_snapshot", json!({ "target": "#out" })).await?;
    let typed = lease.ok("browser_snapshot", json!({ "snapshot": "diff" })).await?;
    assert!(fenced(&typed, "diff")?.contains(": Ada"), "{}", typed.text);

    let other = lease.ok("browser_navigate", json!({ "url": pages.at("/done"), "snapshot": "diff" })).await?;
    assert!(fenced(&other, "yaml")?.contains("thank you") && other.text.contains("another document"), "{}", other.text);
    let all = "() => { document.body.innerHTML = '<h1>Nothing is as it was</h1>' }";
    lease.ok("browser_evaluate", json!({ "function": all })).await?;
    let more = lease.ok("browser_snapshot", json!({ "snapshot": "diff" })).await?;
    assert!(fenced(&more, "yaml")?.contains("heading") && more.text.contains("is more than that"), "{}", more.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_that_show_nothing_by_themselves_do_so_when_asked() -> Outcome {
    let (daemon, pages, lease) = begin("/fields").await?;
    let field = json!([{ "name": "Name", "type": "textbox", "target": "#name", "value": "Bob" }]);
    let filled = lease.ok("browser_fill_form", json!({ "fields": field, "snapshot": "full" })).await?;
    assert!(fenced(&filled, "yaml")?.contains(": Bob"), "{}", filled.text);
    let typed = lease.ok("browser_type", json!({ "target": "#name", "text": "Eve", "snapshot": "diff" })).await?;
    assert!(fenced(&typed, "diff")?.contains(": Eve"), "{}", typed.text);
    let silent = lease.ok("browser_type", json!({ "target": "#name", "text": "Mallory" })).await?;
    assert!(!silent.text.contains("### Snapshot"), "{}", silent.text);
    lease.ok("browser_tabs", json!({ "action": "new", "url": pages.at("/done") })).await?;
    let back = lease.ok("browser_tabs", json!({ "action": "select", "index": 0, "snapshot": "diff" })).await?;
    assert!(fenced(&back, "diff")?.contains(": Mallory"), "each tab is compared with itself: {}", back.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_shown_is_refused() -> Outcome {
    let (daemon, _pages, lease) = begin("/fields").await?;
    for (tool, arguments, why) in [
        (
            "browser_click",
            json!({ "target": "#agree", "snapshot": "half" }),
            "one of `none`, `diff`, `interactive`, `full`",
        ),
        ("browser_snapshot", json!({ "target": "#out", "snapshot": "diff" }), "leave out target"),
        ("browser_resize", json!({ "width": 800, "height": 600, "snapshot": "full" }), "unknown field"),
    ] {
        let refused = lease.call(tool, arguments).await?;
        assert_eq!(refused.outcome(), "invalid_argument", "{tool}: {refused:?}");
        assert!(refused.error.is_some_and(|error| error.message.contains(why)), "{tool}: {why}");
    }
    daemon.end().await
}
