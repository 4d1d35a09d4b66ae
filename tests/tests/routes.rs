//! Routes and being offline, through gRPC.

use browserfleet_common::pb;
use browserfleet_tests::{
    daemon::{Daemon, Lease},
    pages::Pages,
};
use serde_json::{Value, json};

type Outcome = anyhow::Result<()>;

/// What a script answers.
async fn value(lease: &Lease, code: &str) -> anyhow::Result<Value> {
    let answer = lease.ok("browser_evaluate", json!({ "function": code })).await?;
    Ok(serde_json::from_str(&answer.fenced.first().cloned().unwrap_or_default().1)?)
}

/// What a request of the page by script comes to.
async fn fetched(lease: &Lease, url: &str) -> anyhow::Result<Value> {
    let code = format!(
        "() => fetch('{url}').then(async r => [r.status, r.headers.get('content-type'), (await r.text()).slice(0, 60)], e => e.name)"
    );
    value(lease, &code).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_in_the_place_of_servers() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("routes").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    assert!(lease.ok("browser_route_list", json!({})).await?.text.contains("No active routes"));
    let route = json!({ "pattern": "**/api/users", "body": "[\"Ada é\"]", "contentType": "application/json", "headers": ["X-Mock: yes"] });
    let added = lease.ok("browser_route", route).await?;
    assert!(added.text.contains("Route added for pattern: **/api/users"), "{}", added.text);
    assert!(
        added.text.contains("await page.context().route('**/api/users', async route => { /* route handler */ });"),
        "{}",
        added.text
    );
    let mocked = json!([200, "application/json", "[\"Ada é\"]"]);
    assert_eq!(fetched(&lease, "/api/users").await?, mocked);
    assert_eq!(fetched(&lease, "/done").await?[0], 200, "what matches no route goes to its server");
    let elsewhere = pages.at("/api/users").replace("127.0.0.1", "localhost");
    assert_eq!(fetched(&lease, &elsewhere).await?, mocked, "a page of another origin may read it");
    let put = format!(
        "() => fetch('{elsewhere}', {{ method: 'PUT', headers: {{ 'x-own': '1' }}, body: 'b' }}).then(r => r.status)"
    );
    assert_eq!(value(&lease, &put).await?, 200, "and may ask first");

    lease.ok("browser_route", json!({ "pattern": "**/api/users", "status": 404 })).await?;
    assert_eq!(fetched(&lease, "/api/users").await?[0], 404, "the latest counts");
    let listed = lease.ok("browser_route_list", json!({})).await?;
    let first = "1. **/api/users (body=[\"Ada é\"], contentType=application/json, addHeaders={\"X-Mock\":\"yes\"})";
    assert!(listed.text.contains(first) && listed.text.contains("2. **/api/users (status=404)"), "{}", listed.text);
    let seen = lease.ok("browser_network_requests", json!({ "filter": "api" })).await?;
    assert!(seen.text.contains("=> [404]"), "{}", seen.text);
    let removed = lease.ok("browser_unroute", json!({ "pattern": "**/api/users" })).await?;
    assert!(removed.text.contains("Removed 2 route(s) for pattern: **/api/users"), "{}", removed.text);
    assert_eq!(fetched(&lease, "/done").await?[0], 200);
    lease.ok("browser_route", json!({ "pattern": "**/done", "body": "mocked" })).await?;
    let page = lease.ok("browser_navigate", json!({ "url": pages.at("/done") })).await?;
    assert!(page.text.contains("mocked") && !page.text.contains("thank you"), "documents as well: {}", page.text);
    assert!(lease.ok("browser_unroute", json!({})).await?.text.contains("Removed all 1 route(s)"));
    let page = lease.ok("browser_reload", json!({})).await?;
    assert!(page.text.contains("thank you"), "{}", page.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_hold_in_every_tab_and_frame() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("everywhere").await?;
    let other_site = pages.url.replace("127.0.0.1", "localhost");
    lease.ok("browser_navigate", json!({ "url": pages.at("/frame") })).await?;
    lease.ok("browser_route", json!({ "pattern": "**/done", "body": "<title>Mock</title>mocked" })).await?;
    let load = format!("() => {{ document.querySelector('iframe').src = '{other_site}/done'; return 0 }}");
    value(&lease, &load).await?;
    lease.ok("browser_wait_for", json!({ "time": 1 })).await?;
    let shown = lease.ok("browser_snapshot", json!({})).await?;
    assert!(shown.text.contains("mocked"), "a frame of another site: {}", shown.text);
    let tab = lease.ok("browser_tabs", json!({ "action": "new", "url": pages.at("/done") })).await?;
    assert!(tab.text.contains("mocked"), "a new tab: {}", tab.text);
    let state = lease.ok("browser_storage_state", json!({})).await?;
    assert_eq!(state.outcome(), "ok", "reading storage holds requests as well: {}", state.text);
    assert_eq!(fetched(&lease, "/done").await?[2], "<title>Mock</title>mocked", "and leaves routes alone");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_on_with_other_headers() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("headers").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/kept") })).await?;
    let known = lease.ok("browser_reload", json!({})).await?;
    assert!(known.text.contains("login=ann"), "{}", known.text);
    lease.ok("browser_route", json!({ "pattern": "**/kept", "headers": ["Cookie: login=bob"] })).await?;
    let page = lease.ok("browser_reload", json!({})).await?;
    assert!(page.text.contains("login=bob") && !page.text.contains("login=ann"), "{}", page.text);
    for header in ["Host: elsewhere.test", "no header"] {
        let refused = lease.call("browser_route", json!({ "pattern": "**", "headers": [header] })).await?;
        assert_eq!(refused.outcome(), "invalid_argument", "{header}");
    }
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_leads_nowhere_that_the_gate_refuses() -> Outcome {
    let (daemon, pages, refused) = (Daemon::start(|_| {})?, Pages::start().await?, Pages::start().await?);
    let allowed = pages.url.strip_prefix("http://").unwrap_or_default().to_owned();
    let request = pb::AcquireRequest {
        principal: "tester".to_owned(),
        session: "gate".to_owned(),
        birth: "1".to_owned(),
        wait: Some(pb::to_wire(std::time::Duration::from_mins(1))),
        egress: Some(pb::Egress { allowed_origins: vec![allowed], ..pb::Egress::default() }),
        ..pb::AcquireRequest::default()
    };
    let lease = daemon.granted(request).await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let beyond = refused.at("/seen/reached");
    lease.ok("browser_route", json!({ "pattern": "**/seen/*", "headers": ["X-Any: 1"] })).await?;
    assert_eq!(fetched(&lease, &beyond).await?, "TypeError", "it goes on to the gate, which refuses it");
    let redirect = json!({ "pattern": "**/away", "status": 302, "headers": [format!("Location: {beyond}")] });
    lease.ok("browser_route", redirect).await?;
    assert_eq!(fetched(&lease, "/away").await?, "TypeError", "where an answer leads is asked for as ever");
    lease.ok("browser_route", json!({ "pattern": "**/seen/*", "body": "mock" })).await?;
    let blocked = lease.call("browser_navigate", json!({ "url": beyond })).await?;
    assert_eq!(blocked.outcome(), "url_blocked", "nor does an answer open a page there");
    assert!(!refused.was_seen("reached"), "nothing has arrived");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offline_every_request_fails_until_it_is_online_again() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("offline").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let set = async |state: &str| lease.ok("browser_network_state_set", json!({ "state": state })).await;
    let done = set("offline").await?;
    assert!(done.text.contains("Network is now offline") && done.text.contains("setOffline(true);"), "{}", done.text);
    assert_eq!(fetched(&lease, "/done").await?, "TypeError");
    assert_eq!(value(&lease, "() => navigator.onLine").await?, false);
    let page = lease.call("browser_navigate", json!({ "url": pages.at("/done") })).await?;
    assert_eq!(page.outcome(), "navigation_failed", "{page:?}");
    let tab = lease.call("browser_tabs", json!({ "action": "new", "url": pages.at("/done") })).await?;
    assert_ne!(tab.outcome(), "ok", "a new tab is offline, too");
    set("online").await?;
    let page = lease.ok("browser_navigate", json!({ "url": pages.at("/done") })).await?;
    assert!(page.text.contains("thank you"), "{}", page.text);
    daemon.end().await
}
