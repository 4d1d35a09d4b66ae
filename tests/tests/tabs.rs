//! Tabs: those the agent opens, and those its pages do.

use browserfleet_tests::{
    daemon::{Answer, Daemon, Lease},
    pages::Pages,
};
use serde_json::json;

type Outcome = anyhow::Result<()>;

async fn begin() -> anyhow::Result<(Daemon, Pages, Lease)> {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("tabs").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/opener") })).await?;
    Ok((daemon, pages, lease))
}

fn section<'a>(answer: &'a Answer, title: &str) -> Option<&'a str> {
    let (_, rest) = answer.text.split_once(&format!("### {title}\n"))?;
    Some(rest.split("\n###").next().unwrap_or(rest).trim_end())
}

async fn list(lease: &Lease) -> anyhow::Result<String> {
    let answer = lease.ok("browser_tabs", json!({ "action": "list" })).await?;
    Ok(section(&answer, "Result").unwrap_or_default().to_owned())
}

/// Waits until a tab shows this: it loads beside the call that opened it.
async fn listed(lease: &Lease, line: &str) -> Outcome {
    for _ in 0..100 {
        if list(lease).await?.lines().any(|there| there == line) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("no line {line:?} in\n{}", list(lease).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tab_that_a_page_opens_is_shown_and_can_be_used() -> Outcome {
    let (daemon, pages, lease) = begin().await?;
    let alone = lease.ok("browser_snapshot", json!({})).await?;
    assert_eq!(section(&alone, "Open tabs"), None, "one tab is not worth a word: {}", alone.text);
    let old = alone.find_ref("button \"Here\"")?;
    // A link with a target of its own gets no opener it may know; we do.
    for (number, (target, title, path)) in
        [("text=New tab", "Menu", "/menu"), ("text=Window", "Closer", "/closer")].into_iter().enumerate()
    {
        let clicked = lease.ok("browser_click", json!({ "target": target })).await?;
        let tabs = section(&clicked, "Open tabs").unwrap_or_default();
        assert!(tabs.starts_with(&format!("- 0: (current) [Opener]({})", pages.at("/opener"))), "{}", clicked.text);
        assert!(tabs.contains(&format!("\n- {}: [", number + 1)), "{}", clicked.text);
        listed(&lease, &format!("- {}: [{title}]({})", number + 1, pages.at(path))).await?;
        assert!(clicked.text.contains("- Page Title: Opener"), "it does not come to the front: {}", clicked.text);
    }
    let selected = lease.ok("browser_tabs", json!({ "action": "select", "index": 1 })).await?;
    assert!(selected.text.contains("- 1: (current) [Menu]"), "{}", selected.text);
    let page = lease.ok("browser_snapshot", json!({})).await?;
    assert!(page.text.contains("- Page Title: Menu"), "{}", page.text);
    let stale = lease.call("browser_click", json!({ "target": old })).await?;
    assert_eq!(stale.outcome(), "element_not_actionable", "a ref of one tab means nothing in another: {stale:?}");
    lease.ok("browser_hover", json!({ "target": "text=File" })).await?;
    let clicked = lease.ok("browser_click", json!({ "target": "text=Save" })).await?;
    assert!(clicked.text.contains("saved"), "{}", clicked.text);
    let size = lease.ok("browser_evaluate", json!({ "function": "() => innerWidth" })).await?;
    assert!(size.text.contains("1280"), "{}", size.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tabs_are_opened_chosen_and_closed_by_number() -> Outcome {
    let (daemon, pages, lease) = begin().await?;
    let new = lease.ok("browser_tabs", json!({ "action": "new", "url": pages.at("/menu") })).await?;
    assert!(new.text.contains(&format!("await page.goto('{}');", pages.at("/menu"))), "{}", new.text);
    assert!(new.text.contains("button \"File\"") && new.text.contains("- 1: (current) [Menu]"), "{}", new.text);
    let blank = lease.ok("browser_tabs", json!({ "action": "new" })).await?;
    assert!(blank.text.contains("- 2: (current) [](about:blank)"), "{}", blank.text);
    assert!(
        blank.text.contains("- Page URL: about:blank\n") || blank.text.ends_with("- Page URL: about:blank"),
        "{}",
        blank.text
    );
    lease.ok("browser_tabs", json!({ "action": "close", "index": 1 })).await?;
    let opener = format!("[Opener]({})", pages.at("/opener"));
    assert_eq!(list(&lease).await?, format!("- 0: {opener}\n- 2: (current) [](about:blank)"), "numbers stay");
    let closed = lease.ok("browser_tabs", json!({ "action": "close" })).await?;
    assert!(closed.text.contains(&format!("- 0: (current) {opener}")), "{}", closed.text);
    let again = lease.ok("browser_tabs", json!({ "action": "new" })).await?;
    assert!(again.text.contains("- 3: (current)"), "and do not come back: {}", again.text);
    for arguments in [
        json!({ "action": "select", "index": 1 }),
        json!({ "action": "select" }),
        json!({ "action": "close", "index": 99 }),
    ] {
        let refused = lease.call("browser_tabs", arguments).await?;
        assert_eq!(refused.outcome(), "invalid_argument", "{refused:?}");
    }
    lease.ok("browser_tabs", json!({ "action": "close", "index": 0 })).await?;
    let last = lease.ok("browser_tabs", json!({ "action": "close" })).await?;
    assert!(last.text.contains("- 3: (current) [](about:blank)"), "there is always one: {}", last.text);
    lease.ok("browser_navigate", json!({ "url": pages.at("/menu") })).await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tab_that_closes_itself_is_told() -> Outcome {
    let (daemon, pages, lease) = begin().await?;
    lease.ok("browser_click", json!({ "target": "text=Window" })).await?;
    listed(&lease, &format!("- 1: [Closer]({})", pages.at("/closer"))).await?;
    lease.ok("browser_tabs", json!({ "action": "select", "index": 1 })).await?;
    // The page goes away in the middle of the call: how that one ends is its own affair.
    let _either = lease.call("browser_click", json!({ "target": "text=Close me" })).await?;
    let told = lease.call("browser_evaluate", json!({ "function": "() => 1" })).await?;
    assert_eq!(told.outcome(), "browser_page_crashed", "{told:?}");
    assert!(told.error.unwrap_or_default().message.contains("tab 0 is the current one now"));
    assert_eq!(list(&lease).await?, format!("- 0: (current) [Opener]({})", pages.at("/opener")));
    let page = lease.ok("browser_snapshot", json!({})).await?;
    assert!(page.text.contains("- Page Title: Opener"), "{}", page.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialog_in_one_tab_leaves_the_others_alone() -> Outcome {
    let (daemon, pages, lease) = begin().await?;
    let alert = "() => { setTimeout(() => alert('here')); return 1 }";
    lease.ok("browser_evaluate", json!({ "function": alert })).await?;
    let blocked = lease.call("browser_snapshot", json!({})).await?;
    assert!(blocked.text.contains("### Modal state"), "{blocked:?}");
    let new = lease.ok("browser_tabs", json!({ "action": "new", "url": pages.at("/menu") })).await?;
    assert!(new.text.contains("button \"File\""), "{}", new.text);
    lease.ok("browser_tabs", json!({ "action": "select", "index": 0 })).await?;
    lease.ok("browser_handle_dialog", json!({ "accept": true })).await?;
    let page = lease.ok("browser_snapshot", json!({})).await?;
    assert!(page.text.contains("link \"New tab\""), "{}", page.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_has_ten_tabs_at_most() -> Outcome {
    let (daemon, _pages, lease) = begin().await?;
    for _ in 1..10 {
        lease.ok("browser_tabs", json!({ "action": "new" })).await?;
    }
    let eleventh = lease.call("browser_tabs", json!({ "action": "new" })).await?;
    assert_eq!(eleventh.outcome(), "quota_exceeded", "{eleventh:?}");
    assert_eq!(list(&lease).await?.lines().count(), 10);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tabs_look_alike() -> Outcome {
    let (daemon, _pages, lease) = begin().await?;
    let looks = async || {
        let function = "() => [innerWidth, innerHeight, matchMedia('(prefers-color-scheme: dark)').matches].join(' ')";
        let answer = lease.ok("browser_evaluate", json!({ "function": function })).await?;
        anyhow::Ok(answer.text.split('"').nth(1).unwrap_or_default().to_owned())
    };
    lease.ok("browser_resize", json!({ "width": 800, "height": 600 })).await?;
    lease.ok("browser_emulate_media", json!({ "colorScheme": "dark" })).await?;
    lease.ok("browser_click", json!({ "target": "text=Window" })).await?;
    lease.ok("browser_tabs", json!({ "action": "select", "index": 1 })).await?;
    assert_eq!(looks().await?, "800 600 true", "a tab that a page opened");
    lease.ok("browser_tabs", json!({ "action": "new" })).await?;
    assert_eq!(looks().await?, "800 600 true", "a tab that the agent opened");
    lease.ok("browser_resize", json!({ "width": 640, "height": 480 })).await?;
    lease.ok("browser_tabs", json!({ "action": "select", "index": 0 })).await?;
    assert_eq!(looks().await?, "640 480 true", "a tab that was there before");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_without_a_page_tells_where_it_is_when_that_has_changed() -> Outcome {
    let (daemon, pages, lease) = begin().await?;
    let evaluate = async |code: &str| lease.ok("browser_evaluate", json!({ "function": code })).await;
    let here = pages.at("/opener");
    let news = [
        ("1 + 1", None),
        ("document.title = 'Changed'", Some(format!("- Page URL: {here}\n- Page Title: Changed"))),
        ("document.title = 'Changed'", None),
        (
            "console.error('x')",
            Some(format!("- Page URL: {here}\n- Page Title: Changed\n- Console: 1 errors, 0 warnings")),
        ),
        ("console.log('x')", None),
        (
            "history.pushState({}, '', '?two')",
            Some(format!("- Page URL: {here}?two\n- Page Title: Changed\n- Console: 1 errors, 0 warnings")),
        ),
        ("void (location.href = '/menu')", Some(format!("- Page URL: {}\n- Page Title: Menu", pages.at("/menu")))),
        ("document.title", None),
    ];
    for (code, expected) in news {
        let answer = evaluate(code).await?;
        assert_eq!(section(&answer, "Page"), expected.as_deref(), "{code}: {}", answer.text);
        assert_eq!(section(&answer, "Open tabs"), None, "{code}");
    }
    let asked = evaluate("(history.pushState({}, '', '?three'), alert('stop'))").await?;
    assert_eq!(section(&asked, "Page"), Some(&*format!("- Page URL: {}?three\n- Page Title: Menu", pages.at("/menu"))));
    assert!(asked.text.find("### Page") < asked.text.find("### Modal state"), "{}", asked.text);
    lease.ok("browser_handle_dialog", json!({ "accept": true })).await?;
    let missing = lease.call("browser_click", json!({ "target": "#nowhere" })).await?;
    assert_eq!(section(&missing, "Page"), None, "{}", missing.text);
    evaluate("void setTimeout(() => console.warn('late'))").await?;
    lease.ok("browser_wait_for", json!({ "time": 0.1 })).await?;
    evaluate("void window.open('/closer')").await?;
    for _ in 0..100 {
        let answer = evaluate("0").await?;
        if let Some(tabs) = section(&answer, "Open tabs") {
            assert!(tabs.contains("- 0: (current) [Menu]") && tabs.contains("\n- 1: ["), "{}", answer.text);
            assert!(section(&answer, "Page").is_some_and(|page| page.contains("Page Title: Menu")), "{}", answer.text);
            return daemon.end().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("the new tab was not told")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tab_is_found_by_the_name_its_owner_gave_it() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("names").await?;
    lease.ok("browser_tabs", json!({ "action": "new", "name": "shop", "url": pages.at("/") })).await?;
    let listed = lease.ok("browser_tabs", json!({ "action": "new", "name": "mail" })).await?;
    assert!(
        listed.text.contains("- 1: shop [Form](") && listed.text.contains("- 2: mail (current) "),
        "{}",
        listed.text
    );
    let selected = lease.ok("browser_tabs", json!({ "action": "select", "name": "shop" })).await?;
    assert!(selected.text.contains("- 1: shop (current) [Form]("), "{}", selected.text);
    for (wrong, told) in [
        (json!({ "action": "new", "name": "shop" }), "a tab of the name \"shop\" is open"),
        (json!({ "action": "select", "name": "none" }), "No tab has the name \"none\""),
        (json!({ "action": "select", "name": "shop", "index": 1 }), "either the index"),
        (json!({ "action": "new", "name": "a b\n### Page" }), "a tab's name has from 1"),
    ] {
        let refused = lease.call("browser_tabs", wrong).await?;
        assert!(refused.error.as_ref().is_some_and(|error| error.message.contains(told)), "{told}: {refused:?}");
    }
    let left = lease.ok("browser_tabs", json!({ "action": "close", "name": "shop" })).await?;
    assert!(!left.text.contains("shop") && left.text.contains("- 2: mail (current)"), "{}", left.text);
    lease.ok("browser_tabs", json!({ "action": "new", "name": "shop" })).await?;
    daemon.end().await
}
