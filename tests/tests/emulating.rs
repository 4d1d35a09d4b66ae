//! Devices, places and networks that pages believe in, through gRPC.

use std::time::Duration;

use anyhow::Context as _;
use browserfleet_tests::{
    checkpoints::Kept,
    daemon::{Daemon, Lease},
    pages::Pages,
};
use serde_json::{Value, json};
use tokio::time::Instant;

type Outcome = anyhow::Result<()>;

/// What the page answers.
async fn asked(lease: &Lease, expression: &str) -> anyhow::Result<Value> {
    let answer = lease.ok("browser_evaluate", json!({ "function": expression })).await?;
    let (_, said) = answer.fenced.first().context("an answer")?;
    Ok(serde_json::from_str(said)?)
}

const BELIEVES: &str = "() => ({ lang: navigator.language, zone: Intl.DateTimeFormat().resolvedOptions().timeZone, \
    number: (1234.5).toLocaleString(), agent: navigator.userAgent, size: [innerWidth, innerHeight], screen: screen.width, scale: devicePixelRatio, \
    touch: navigator.maxTouchPoints, dark: matchMedia('(prefers-color-scheme: dark)').matches, \
    calm: matchMedia('(prefers-reduced-motion: reduce)').matches, init: globalThis.begun ?? null })";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_another_device_in_another_place_until_it_is_reset() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("device").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/opener") })).await?;
    let before = asked(&lease, BELIEVES).await?;
    let wanted = json!({
        "device": "pixel", "locale": "de-DE", "timezone": "Asia/Tokyo", "color_scheme": "dark", "reduced_motion": "reduce",
        "geolocation": { "latitude": 48.2, "longitude": 16.4 },
    });
    let told = lease.ok("browser_emulate", wanted).await?;
    assert_eq!(told.structured.unwrap_or_default()["emulated"]["timezone"], "Asia/Tokyo");
    // Of a tab that the page opens, too, and of a new one.
    lease.ok("browser_navigate", json!({ "url": pages.at("/opener") })).await?;
    lease.ok("browser_click", json!({ "target": "text=New tab" })).await?;
    for tab in 0..3 {
        match tab {
            0 => {}
            1 => drop(lease.ok("browser_tabs", json!({ "action": "select", "index": 1 })).await?),
            _ => drop(lease.ok("browser_tabs", json!({ "action": "new", "url": pages.at("/") })).await?),
        }
        let now = asked(&lease, BELIEVES).await?;
        assert_eq!(
            (&now["lang"], &now["zone"], &now["number"]),
            (&json!("de-DE"), &json!("Asia/Tokyo"), &json!("1.234,5")),
            "{tab}: {now}"
        );
        assert_eq!(
            (&now["dark"], &now["calm"], &now["scale"]),
            (&json!(true), &json!(true), &json!(2.625)),
            "{tab}: {now}"
        );
        assert!(
            now["agent"].as_str().is_some_and(|agent| agent.contains("Android 10")) && now["touch"] == 5,
            "{tab}: {now}"
        );
        assert_eq!(now["screen"], 412, "{tab}: {now}");
    }
    let place = "() => new Promise((done, failed) => navigator.geolocation.getCurrentPosition(p => done([p.coords.latitude, p.coords.longitude]), e => done(e.message)))";
    let local = pages.url.replace("127.0.0.1", "localhost");
    lease.ok("browser_navigate", json!({ "url": local })).await?;
    assert_eq!(asked(&lease, place).await?, json!([48.2, 16.4]));
    lease.ok("browser_emulate", json!({ "locale": null, "device": "desktop" })).await?;
    let changed = asked(&lease, BELIEVES).await?;
    assert_eq!(
        (&changed["zone"], &changed["size"], &changed["touch"]),
        (&json!("Asia/Tokyo"), &json!([1920, 1080]), &json!(0)),
        "{changed}"
    );
    lease.ok("browser_emulate", json!({ "reset": true })).await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    assert_eq!(asked(&lease, BELIEVES).await?, before);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_network_is_slow_and_a_slow_processor_too() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("slow").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let fetch = "() => fetch('/done').then(r => r.text()).then(() => 1)";
    lease.ok("browser_emulate", json!({ "network": "slow-4g", "cpu": 4 })).await?;
    let began = Instant::now();
    lease.ok("browser_evaluate", json!({ "function": fetch })).await?;
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
    lease.ok("browser_emulate", json!({ "network": null, "cpu": null })).await?;
    let began = Instant::now();
    lease.ok("browser_evaluate", json!({ "function": fetch })).await?;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_browser_does_not_know_is_refused_and_changes_nothing() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("refused").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let before = asked(&lease, BELIEVES).await?;
    for bad in [
        json!({ "timezone": "Mars/Olympus", "user_agent": "x", "locale": "de" }),
        json!({ "locale": "not a locale" }),
        json!({ "user_agent": "a\r\nX: y" }),
        json!({ "geolocation": { "latitude": 100, "longitude": 0 } }),
        json!({ "cpu": 0.5 }),
        json!({ "width": 5, "height": 500 }),
    ] {
        let refused = lease.call("browser_emulate", bad.clone()).await?;
        assert_eq!(refused.outcome(), "invalid_argument", "{bad}: {refused:?}");
        lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
        assert_eq!(asked(&lease, BELIEVES).await?, before, "{bad}");
    }
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_begins_with_scripts_headers_and_a_language() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("begun").await?;
    let begin = json!({
        "locale": "fr-FR", "timezone": "Europe/Paris", "user_agent": "Tester/1", "headers": { "X-Begun": "yes" },
        "init_scripts": ["globalThis.begun = (globalThis.begun ?? 0) + 1"],
    });
    lease.ok("browser_open", begin).await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/frame") })).await?;
    let now = asked(&lease, BELIEVES).await?;
    assert_eq!(
        (&now["lang"], &now["zone"], &now["agent"], &now["init"]),
        (&json!("fr-FR"), &json!("Europe/Paris"), &json!("Tester/1"), &json!(1))
    );
    let framed = asked(&lease, "() => document.querySelector('iframe').contentWindow.begun").await?;
    assert_eq!(framed, json!(1));
    let sent = lease.ok("browser_network_request", json!({ "index": 1, "part": "request-headers" })).await?;
    assert!(sent.text.to_lowercase().contains("x-begun: yes") && sent.text.contains("fr-FR"), "{}", sent.text);
    lease.ok("browser_emulate", json!({ "reset": true })).await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    assert_eq!(asked(&lease, BELIEVES).await?["init"], 1, "what it began with is no device's");
    for bad in [
        json!({ "headers": { "Host": "internal" } }),
        json!({ "init_scripts": ["x".repeat(300 << 10)] }),
        json!({ "timezone": "Mars/Olympus" }),
    ] {
        assert_eq!(lease.call("browser_open", bad).await?.outcome(), "invalid_argument");
    }
    daemon.end().await
}

/// What a document in a frame in another process answers.
async fn asked_in_frame(lease: &Lease, expression: &str) -> anyhow::Result<Value> {
    lease.ok("browser_wait_for", json!({ "time": 0.2 })).await?;
    let field = lease.ok("browser_snapshot", json!({})).await?.find_ref("textbox \"Code\"")?;
    let answer = lease.ok("browser_evaluate", json!({ "target": field, "function": expression })).await?;
    let (_, said) = answer.fenced.first().context("an answer")?;
    Ok(serde_json::from_str(said)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_in_other_processes_change_with_their_page() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let other = pages.url.replace("127.0.0.1", "localhost");
    let lease = daemon.lease("frames").await?;
    let begins = |name: &str| format!("globalThis.begun = (globalThis.begun ?? '') + '{name}'");
    let seen = "() => [navigator.userAgent, globalThis.begun ?? '']";
    lease.ok("browser_open", json!({ "init_scripts": [begins("a")], "user_agent": "One/1" })).await?;
    lease.ok("browser_navigate", json!({ "url": format!("{}?frame={other}/code", pages.at("/framing")) })).await?;
    assert_eq!(asked_in_frame(&lease, seen).await?, json!(["One/1", "a"]));
    // The session of the frame stays when its next document is of the same site.
    lease.ok("browser_open", json!({ "init_scripts": [begins("b"), begins("c")], "user_agent": "Two/2" })).await?;
    let again = format!("() => {{ document.querySelector('iframe').src = '{other}/code?again' }}");
    lease.ok("browser_evaluate", json!({ "function": again })).await?;
    assert_eq!(asked_in_frame(&lease, seen).await?, json!(["Two/2", "bc"]));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_the_same_device_in_its_next_browser() -> Outcome {
    let kept = Kept::default();
    let daemon = Daemon::start_with(Some(kept.checkpoints.clone()), |config| {
        config.checkpoints.interval = Duration::from_millis(200);
    })?;
    let pages = Pages::start().await?;
    let lease = daemon.lease("s").await?;
    lease.ok("browser_open", json!({ "init_scripts": ["globalThis.begun = 1"], "timezone": "Asia/Tokyo" })).await?;
    lease.ok("browser_emulate", json!({ "device": "pixel", "geolocation": { "latitude": 1, "longitude": 2 } })).await?;
    let url = pages.at("/").replace("127.0.0.1", "localhost");
    lease.ok("browser_navigate", json!({ "url": url })).await?;
    let is_kept =
        |kept: &Value| kept["tabs"][0]["url"] == url && kept["looks"]["emulation"]["geolocation"]["latitude"] == 1.0;
    kept.until("s", is_kept).await?;
    daemon.pool().release(lease.released()).await?;
    let lease = daemon.lease("s").await?;
    let now = asked(&lease, BELIEVES).await?;
    assert_eq!(
        (&now["zone"], &now["init"], &now["scale"], &now["touch"]),
        (&json!("Asia/Tokyo"), &json!(1), &json!(2.625), &json!(5)),
        "{now}"
    );
    let place = "() => new Promise(done => navigator.geolocation.getCurrentPosition(p => done(p.coords.longitude), e => done(e.message)))";
    assert_eq!(asked(&lease, place).await?, json!(2));
    daemon.end().await
}
