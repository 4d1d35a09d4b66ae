//! Cookies, storage and storage states, through gRPC.

use browserfleet_tests::{
    checkpoints::Kept,
    daemon::{Answer, Daemon, File, Lease},
    pages::Pages,
};
use serde_json::{Value, json};

type Outcome = anyhow::Result<()>;

fn state_of(answer: &Answer) -> Value {
    answer.structured.as_ref().map(|structured| structured["storage_state"].clone()).unwrap_or_default()
}

/// What the first line of a page of [`browserfleet_tests::keeping`] saw in its storages.
async fn first_saw(lease: &Lease) -> anyhow::Result<Value> {
    let code = "() => document.getElementById('first').textContent.replace('first saw ', '')";
    let answer = lease.ok("browser_evaluate", json!({ "function": code })).await?;
    let (_, said) = answer.fenced.first().cloned().unwrap_or_default();
    let text: String = serde_json::from_str(&said)?;
    Ok(serde_json::from_str(&text)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_are_listed_set_and_deleted() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("cookies").await?;
    let none = lease.call("browser_cookie_set", json!({ "name": "a", "value": "1" })).await?;
    assert_eq!(none.outcome(), "invalid_argument", "a blank page has no host: {none:?}");
    assert!(lease.ok("browser_cookie_list", json!({})).await?.text.contains("No cookies found"));
    lease.ok("browser_navigate", json!({ "url": pages.at("/kept") })).await?;
    let listed = lease.ok("browser_cookie_list", json!({})).await?;
    assert_eq!(listed.fenced[0].1, "login=ann (domain: 127.0.0.1, path: /)", "one that no script can read");
    assert!(listed.text.contains("await page.context().cookies();"), "{}", listed.text);
    let got = lease.ok("browser_cookie_get", json!({ "name": "login" })).await?;
    assert!(got.text.contains("path: /, httpOnly: true, secure: false, sameSite: Strict)"), "{}", got.text);

    let expires = 4_102_444_800_u64;
    let set = json!({ "name": "mine", "value": "1", "path": "/kept", "expires": expires, "sameSite": "Lax" });
    let done = lease.ok("browser_cookie_set", set).await?;
    assert!(done.text.contains("addCookies([{") && done.text.contains("\"domain\":\"127.0.0.1\""), "{}", done.text);
    lease.ok("browser_cookie_set", json!({ "name": "far", "value": "2", "domain": ".example.com" })).await?;
    let mine = lease.ok("browser_cookie_list", json!({ "domain": "127", "path": "/kept" })).await?;
    let cookies = mine.structured.unwrap_or_default()["cookies"].clone();
    assert_eq!((cookies[0]["name"].clone(), cookies[1].clone()), (json!("mine"), Value::Null));
    // Chromium grants 400 days at most.
    assert!(cookies[0]["expires"].as_f64().is_some_and(|expires| expires > 1.0e9), "{cookies}");
    assert_eq!(cookies[0]["sameSite"], "Lax");
    let refused = lease.call("browser_cookie_set", json!({ "name": "__Host-x", "value": "1" })).await?;
    assert_eq!(refused.outcome(), "invalid_argument", "{refused:?}");

    lease.ok("browser_cookie_delete", json!({ "name": "mine" })).await?;
    let gone = lease.ok("browser_cookie_get", json!({ "name": "mine" })).await?;
    assert!(gone.text.contains("Cookie 'mine' not found"), "{}", gone.text);
    assert_eq!(lease.ok("browser_cookie_list", json!({})).await?.text.matches("(domain:").count(), 2, "others stay");
    lease.ok("browser_cookie_clear", json!({})).await?;
    assert!(lease.ok("browser_cookie_list", json!({})).await?.text.contains("No cookies found"));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_of_storages_are_listed_set_and_deleted() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("items").await?;
    let none = lease.call("browser_localstorage_list", json!({})).await?;
    let message = none.error.map(|error| error.message).unwrap_or_default();
    assert!(message.contains("This page has no localStorage: go to a page of the site first."), "{message}");
    lease.ok("browser_navigate", json!({ "url": pages.at("/kept") })).await?;
    for (place, name, item) in
        [("localstorage", "localStorage", "name=Ann"), ("sessionstorage", "sessionStorage", "step=/kept")]
    {
        let call = async |what: &str, arguments: Value| lease.ok(&format!("browser_{place}_{what}"), arguments).await;
        let listed = call("list", json!({})).await?;
        assert_eq!(listed.fenced, [(pages.url.clone(), item.to_owned())]);
        assert!(listed.text.contains(&format!("await page.{name}.items();")), "{}", listed.text);
        call("set", json!({ "key": "ключ '", "value": "a\n</script>" })).await?;
        let code = json!({ "function": format!("() => {name}['ключ \\'']") });
        assert!(lease.ok("browser_evaluate", code).await?.text.contains("a\\n</script>"), "the page has it");
        let got = call("get", json!({ "key": "ключ '" })).await?;
        assert_eq!(got.structured.unwrap_or_default()["value"], "a\n</script>");
        call("delete", json!({ "key": "ключ '" })).await?;
        let gone = call("get", json!({ "key": "ключ '" })).await?;
        assert!(gone.text.contains(&format!("{name} key 'ключ \\'' not found")), "{}", gone.text);
        assert_eq!(gone.structured.unwrap_or_default()["value"], Value::Null);
        call("clear", json!({})).await?;
        assert!(call("list", json!({})).await?.text.contains(&format!("No {name} items found")));
    }
    let large = json!({ "key": "k", "value": "x".repeat(6 << 20) });
    let refused = lease.call("browser_localstorage_set", large).await?;
    assert_eq!(refused.outcome(), "element_not_actionable", "more than a site may have");
    let message = refused.error.map(|error| error.message).unwrap_or_default();
    assert_eq!(message, "The item is not set: with it localStorage would be larger than a site may have.");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_cannot_lie_about_its_storage() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("liar").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/kept/liar") })).await?;
    let listed = lease.ok("browser_localstorage_list", json!({})).await?;
    assert_eq!(listed.fenced[0].1, "mine=true");
    lease.ok("browser_localstorage_set", json!({ "key": "secret", "value": "s" })).await?;
    let state = state_of(&lease.ok("browser_storage_state", json!({})).await?);
    let items = json!([{ "name": "mine", "value": "true" }, { "name": "secret", "value": "s" }]);
    assert_eq!(state["origins"], json!([{ "origin": pages.url, "localStorage": items }]));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_state_takes_logins_to_another_session() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let one = daemon.lease("one").await?;
    let other_site = pages.url.replace("127.0.0.1", "localhost");
    for url in [pages.at("/kept"), format!("{other_site}/kept"), "about:blank".to_owned()] {
        one.ok("browser_navigate", json!({ "url": url })).await?;
    }
    let got = one.ok("browser_storage_state", json!({ "filename": "me.json" })).await?;
    let state = state_of(&got);
    let said: Value = serde_json::from_str(&got.fenced[0].1)?;
    assert_eq!(said, state, "the same in text and structured form");
    let File { mime_type: kind, bytes, .. } = &got.files[0];
    assert_eq!((kind.as_str(), serde_json::from_slice::<Value>(bytes)?), ("application/json", state.clone()));
    let item = json!([{ "name": "name", "value": "Ann" }]);
    let origin = |origin: &str| json!({ "origin": origin, "localStorage": item });
    assert_eq!(state["origins"], json!([origin(&pages.url), origin(&other_site)]), "also of sites that are not open");
    assert_eq!(state["cookies"].as_array().map(Vec::len), Some(2), "{state}");
    let tabs = one.ok("browser_tabs", json!({ "action": "list" })).await?;
    assert!(tabs.text.contains("- 0: (current)") && !tabs.text.contains("- 1:"), "no tab is left: {}", tabs.text);

    let two = daemon.lease("two").await?;
    let opened = two.ok("browser_open", json!({ "storage_state": state })).await?;
    assert!(opened.text.contains("Storage state restored: 2 cookies, 2 sites with local storage"), "{}", opened.text);
    let page = two.ok("browser_navigate", json!({ "url": format!("{other_site}/kept") })).await?;
    assert!(page.text.contains("login=ann"), "the server knows it: {}", page.text);
    let seen = first_saw(&two).await?;
    assert_eq!((&seen["local"], &seen["session"]), (&json!({ "name": "Ann" }), &json!({})), "before its first line");

    let only =
        json!({ "cookies": [], "origins": [{ "origin": pages.url, "localStorage": [{ "name": "k", "value": "v" }] }] });
    let done = two.ok("browser_set_storage_state", json!({ "storage_state": only })).await?;
    assert!(done.text.contains("0 cookies, 1 sites"), "{}", done.text);
    let page = two.ok("browser_reload", json!({})).await?;
    assert!(!page.text.contains("login=ann"), "what there was is gone: {}", page.text);
    assert_eq!(first_saw(&two).await?["local"], json!({}));
    two.ok("browser_navigate", json!({ "url": pages.at("/kept") })).await?;
    assert_eq!(first_saw(&two).await?["local"], json!({ "k": "v" }));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_of_the_server_is_read_and_no_nonsense_believed() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("files").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/kept") })).await?;
    for arguments in [
        json!({}),
        json!({ "filename": "/etc/passwd" }),
        json!({ "filename": "state.json", "storage_state": { "cookies": [] } }),
        json!({ "storage_state": { "origins": [{ "origin": "file:///" }] } }),
        json!({ "storage_state": { "cookies": [{ "name": "x" }] } }),
    ] {
        let refused = lease.call("browser_set_storage_state", arguments.clone()).await?;
        assert_eq!(refused.outcome(), "invalid_argument", "{arguments}: {refused:?}");
    }
    let cookies = lease.ok("browser_cookie_list", json!({})).await?;
    assert!(cookies.text.contains("login=ann"), "nothing has been changed: {}", cookies.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_no_page_has_seen_yet_outlives_its_browser() -> Outcome {
    let kept = Kept::default();
    let daemon = Daemon::start_with(Some(kept.checkpoints.clone()), |config| {
        config.checkpoints.interval = std::time::Duration::from_millis(200);
    })?;
    let pages = Pages::start().await?;
    let lease = daemon.lease("s").await?;
    let state =
        json!({ "origins": [{ "origin": pages.url, "localStorage": [{ "name": "k", "value": "v" }] }], "cookies": [] });
    lease.ok("browser_open", json!({ "storage_state": state })).await?;
    kept.until("s", |kept| kept["local"][&pages.url]["k"] == "v").await?;
    daemon.pool().release(lease.released()).await?;
    let lease = daemon.lease("s").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/kept") })).await?;
    assert_eq!(first_saw(&lease).await?["local"], json!({ "k": "v" }));
    // What the page has changed since counts, also once it is left.
    lease.ok("browser_localstorage_set", json!({ "key": "k", "value": "new" })).await?;
    kept.until("s", |kept| kept["local"][&pages.url]["k"] == "new").await?;
    lease.ok("browser_navigate", json!({ "url": "about:blank" })).await?;
    kept.until("s", |kept| kept["tabs"][0]["url"] == "about:blank" && kept["local"][&pages.url]["k"] == "new").await?;
    daemon.end().await
}
