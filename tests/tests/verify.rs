//! Assertions and locators, through gRPC.

use browserfleet_tests::{daemon::Daemon, pages::Pages};
use serde_json::json;

type Outcome = anyhow::Result<()>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_page_shows_is_verified_and_what_not_is_told() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("verify").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let heading = json!({ "role": "heading", "accessibleName": "hell" });
    let done = lease.ok("browser_verify_element_visible", heading).await?;
    assert!(done.text.contains("### Result\nDone"), "{}", done.text);
    assert!(
        done.text.contains("await expect(page.getByRole('heading', { name: 'Hello' })).toBeVisible();"),
        "{}",
        done.text
    );
    let none = json!({ "role": "button", "accessibleName": "Nowhere" });
    let none = lease.call("browser_verify_element_visible", none).await?;
    assert_eq!(none.outcome(), "verification_failed");
    let message = none.error.map(|error| error.message).unwrap_or_default();
    assert_eq!(message, "Element with role \"button\" and accessible name \"Nowhere\" not found");

    let done = lease.ok("browser_verify_text_visible", json!({ "text": "Hello" })).await?;
    assert!(done.text.contains("toBeVisible();"), "{}", done.text);
    let hidden = "() => { document.body.insertAdjacentHTML('beforeend', '<p hidden>secret</p>'); }";
    lease.ok("browser_evaluate", json!({ "function": hidden })).await?;
    let none = lease.call("browser_verify_text_visible", json!({ "text": "secret" })).await?;
    assert_eq!(none.error.map(|error| error.message).unwrap_or_default(), "Text not found");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elements_of_frames_are_found_too() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("frames").await?;
    let other_site = pages.url.replace("127.0.0.1", "localhost");
    lease.ok("browser_navigate", json!({ "url": pages.at("/frame") })).await?;
    let load = format!("() => {{ document.querySelector('iframe').src = '{other_site}/fields' }}");
    lease.ok("browser_evaluate", json!({ "function": load })).await?;
    lease.ok("browser_wait_for", json!({ "time": 1 })).await?;
    lease.ok("browser_verify_element_visible", json!({ "role": "button", "accessibleName": "Show" })).await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_values_are_compared() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("values").await?;
    let page = lease.ok("browser_navigate", json!({ "url": pages.at("/fields") })).await?;
    lease.ok("browser_type", json!({ "target": "#name", "text": "Ada" })).await?;
    lease.ok("browser_check", json!({ "target": "#agree" })).await?;
    let value = async |kind: &str, target: &str, value: &str| {
        let arguments = json!({ "type": kind, "target": target, "value": value, "element": "a field" });
        lease.call("browser_verify_value", arguments).await
    };
    for (kind, target, right, code) in [
        ("textbox", "#name", "Ada", "page.locator('#name')).toHaveValue('Ada');"),
        ("slider", "#volume", "10", "toHaveValue('10');"),
        ("combobox", "#colour", "", "toHaveValue('');"),
        ("checkbox", "#agree", "true", "page.locator('#agree')).toBeChecked();"),
        ("radio", "#a", "false", "page.locator('#a')).not.toBeChecked();"),
    ] {
        let done = value(kind, target, right).await?;
        assert!(done.outcome() == "ok" && done.text.contains(code), "{kind}: {done:?}");
        let wrong = value(kind, target, if right == "true" { "false" } else { "true" }).await?;
        assert_eq!(wrong.outcome(), "verification_failed", "{kind}");
    }
    let wrong = value("textbox", "#name", "Bob").await?.error.map(|error| error.message).unwrap_or_default();
    assert!(wrong.starts_with("Expected value \"Bob\", but got\n<untrusted-"), "{wrong}");
    assert!(wrong.contains(&format!(" origin=\"{}\">\nAda\n</untrusted-", pages.url)), "{wrong}");

    let html = "() => { document.body.innerHTML = '<ul id=list><li>One apple<li>Two `pears`</ul><p>Three' }";
    lease.ok("browser_evaluate", json!({ "function": html })).await?;
    let list = json!({ "element": "fruit", "target": "#list", "items": ["apple", "Two `pears`"] });
    let done = lease.ok("browser_verify_list_visible", list).await?;
    let snapshot =
        "toMatchAriaSnapshot(`\n  - list:\n    - listitem: \"apple\"\n    - listitem: \"Two \\`pears\\`\"\n  `);";
    assert!(done.text.contains(snapshot) && !done.text.contains("One"), "only what was asked for: {}", done.text);
    let list = json!({ "element": "fruit", "target": "#list", "items": ["apple", "Three"] });
    let none = lease.call("browser_verify_list_visible", list).await?.error.map(|error| error.message);
    assert_eq!(none.unwrap_or_default(), "Item \"Three\" not found", "what is beside the list is not in it");
    let stale = json!({ "target": page.find_ref("Name")? });
    assert_eq!(lease.call("browser_generate_locator", stale).await?.outcome(), "element_not_actionable");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locator_names_the_element_of_a_ref() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("locator").await?;
    let page = lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let target = page.find_ref("textbox \"Name\"")?;
    let found = lease.ok("browser_generate_locator", json!({ "target": target, "element": "the name" })).await?;
    assert_eq!(found.text.trim_end(), "### Result\ngetByRole('textbox', { name: 'Name' })");
    daemon.end().await
}
