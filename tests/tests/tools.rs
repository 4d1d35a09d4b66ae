//! The tools against real Chromium, through gRPC.

use std::time::Duration;

use browserfleet_tests::{daemon::Daemon, pages::Pages, processes};
use nix::sys::signal::Signal;
use serde_json::json;

type Outcome = anyhow::Result<()>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_is_read_filled_and_sent() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("form").await?;
    let page = lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    assert!(page.text.contains(&format!("- Page URL: {}/\n- Page Title: Form\n", pages.url)), "{}", page.text);
    assert!(page.text.contains("- heading \"Hello\" [level=1]"), "{}", page.text);

    let field = page.find_ref("textbox \"Name\"")?;
    let typed = lease.ok("browser_type", json!({ "target": field, "text": "Ada \"L\"" })).await?;
    assert!(typed.text.contains("getByRole('textbox', { name: 'Name' }).fill('Ada \"L\"');"), "{}", typed.text);
    lease.ok("browser_click", json!({ "target": page.find_ref("checkbox \"Agree\"")? })).await?;
    let page = lease.ok("browser_snapshot", json!({})).await?;
    assert!(page.text.contains("- textbox \"Name\""), "{}", page.text);
    assert!(page.text.contains("Ada \\\"L\\\"") || page.text.contains("Ada \"L\""), "{}", page.text);
    assert!(page.text.contains("checkbox \"Agree\" [checked]"), "{}", page.text);

    let done = lease.ok("browser_click", json!({ "target": page.find_ref("button \"Go\"")? })).await?;
    assert!(done.text.contains("/done?name=Ada+%22L%22&agree=on"), "a submitted form is followed\n{}", done.text);
    assert!(done.text.contains("thank you"), "{}", done.text);
    let stale = lease.call("browser_click", json!({ "target": field })).await?;
    assert_eq!(stale.outcome(), "element_not_actionable", "a ref of an earlier document never names another element");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clicks_and_keys_are_a_persons() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("keys").await?;
    let page = lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let clicked = lease.ok("browser_click", json!({ "target": "#press", "modifiers": ["Shift"] })).await?;
    assert!(clicked.text.contains("pressed 0true"), "{}", clicked.text);
    assert!(
        clicked.text.contains("await page.locator('#press').click({\n  modifiers: ['Shift']\n});"),
        "{}",
        clicked.text
    );

    let field = page.find_ref("textbox \"Name\"")?;
    let events = "() => { window.keys = []; document.querySelector('input').addEventListener('keydown', e => keys.push(e.key)) }";
    lease.ok("browser_evaluate", json!({ "function": events })).await?;
    let slow =
        lease.ok("browser_type", json!({ "target": field, "text": "a7ü", "slowly": true, "submit": true })).await?;
    assert!(slow.text.contains("/done?name=a7%C3%BC"), "{}", slow.text);

    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let complained = lease.ok("browser_click", json!({ "target": "text=Complain" })).await?;
    assert!(complained.text.contains("- Console: 1 errors, 0 warnings"), "{}", complained.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_settle_on_what_the_action_started() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("settle").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/fetching") })).await?;
    let clicked = lease.ok("browser_click", json!({ "target": "button" })).await?;
    assert!(clicked.text.contains("paragraph") && clicked.text.contains(": loaded"), "{}", clicked.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_are_read_and_clicked_through() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("frames").await?;
    // Same origin first, then another site in a process of its own.
    let other_site = pages.url.replace("127.0.0.1", "localhost");
    lease.ok("browser_navigate", json!({ "url": pages.at("/frame") })).await?;
    for inner in ["/inner".to_owned(), format!("{other_site}/inner")] {
        let load = format!(
            "() => new Promise(done => {{ const f = document.querySelector('iframe'); f.onload = () => done(1); f.src = '{inner}' }})"
        );
        lease.ok("browser_evaluate", json!({ "function": load })).await?;
        let page = lease.ok("browser_snapshot", json!({})).await?;
        let button = page.find_ref("button \"In the frame\"")?;
        assert!(button.starts_with('f'), "{}", page.text);
        let clicked = lease.ok("browser_click", json!({ "target": button })).await?;
        assert!(clicked.text.contains("was clicked"), "{}", clicked.text);
        let field = clicked.find_ref("textbox \"Framed field\"")?;
        lease.ok("browser_type", json!({ "target": field, "text": "typed inside" })).await?;
        assert!(lease.ok("browser_snapshot", json!({})).await?.text.contains("typed inside"));
        let value = json!({ "function": "element => element.value", "target": field });
        assert!(lease.ok("browser_evaluate", value).await?.text.contains("\"typed inside\""));
    }
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elements_that_cannot_be_clicked_say_why() -> Outcome {
    let adjust = |config: &mut browserfleet_pool_daemon::config::Config| config.times.action = Duration::from_secs(1);
    let (daemon, pages) = (Daemon::start(adjust)?, Pages::start().await?);
    let lease = daemon.lease("awkward").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/awkward") })).await?;
    for (target, reason) in [
        ("text=Under", "overlay"),
        ("text=Disabled", "disabled"),
        ("text=Hidden", "visible"),
        ("#nothing", "#nothing"),
        ("e999", "Try capturing new snapshot"),
        ("button", "strict"),
        ("][", "]["),
    ] {
        let answer = lease.call("browser_click", json!({ "target": target })).await?;
        let error = answer.error.clone().unwrap_or_default();
        assert_eq!(error.code, "element_not_actionable", "{target}: {error:?}");
        assert!(error.message.contains(reason), "{target}: {}", error.message);
    }
    let far = lease.ok("browser_click", json!({ "target": "text=Far away" })).await?;
    assert!(far.text.contains("reached"), "{}", far.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_answer_with_bounded_json() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("scripts").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    for (function, expected) in [
        ("() => document.title", "### Result\n\"Form\"\n"),
        ("document.title", "### Result\n\"Form\"\n"),
        ("() => ({ a: [1, 2] })", "### Result\n{\n  \"a\": [\n    1,\n    2\n  ]\n}\n"),
        ("() => undefined", "### Result\nundefined\n"),
        ("async () => 7n", "### Result\n\"7n\"\n"),
        ("() => { const a = {}; a.a = a; return a }", "### Result\n{\n  \"a\": \"[Circular]\"\n}\n"),
        ("() => '\\ud800'", "### Result\n"),
        // The code is told nothing of ours, in the document's first call and in later ones.
        ("this === window", "### Result\ntrue\n"),
        ("() => this === window", "### Result\ntrue\n"),
        ("function () { return this === window && arguments.length === 0 }", "### Result\ntrue\n"),
        ("() => { window.kept = 7 }", "### Result\nundefined\n"),
        ("kept", "### Result\n7\n"),
        (
            "[typeof most, typeof run, typeof given]",
            "### Result\n[\n  \"undefined\",\n  \"undefined\",\n  \"undefined\"\n]\n",
        ),
    ] {
        let answer = lease.ok("browser_evaluate", json!({ "function": function })).await?;
        assert!(answer.text.starts_with(expected), "{function}: {}", answer.text);
    }
    for (function, code, words) in [
        ("() => { throw new Error('on purpose') }", "script_error", "on purpose"),
        ("() => {", "script_error", "SyntaxError"),
        ("() => 'x'.repeat(10_000_000)", "result_too_large", "262144"),
        ("() => ({ toJSON() { throw 1 }, toString() { throw 2 } })", "script_error", "1"),
    ] {
        let answer = lease.call("browser_evaluate", json!({ "function": function })).await?;
        assert_eq!(answer.outcome(), code, "{function}: {answer:?}");
        assert!(answer.error.unwrap_or_default().message.contains(words), "{function}");
    }
    // Another document, gone to by us and by the page itself: what was left in the one before is not asked for.
    lease.ok("browser_navigate", json!({ "url": pages.at("/?again") })).await?;
    let first = lease.ok("browser_evaluate", json!({ "function": "this === window && typeof kept" })).await?;
    assert!(first.text.starts_with("### Result\n\"undefined\"\n"), "{}", first.text);
    lease.ok("browser_evaluate", json!({ "function": "() => { location.search = 'by-itself' }" })).await?;
    let search = lease.ok("browser_evaluate", json!({ "function": "location.search" })).await?;
    assert!(search.text.starts_with("### Result\n\"?by-itself\"\n"), "{}", search.text);
    let on = lease.ok("browser_evaluate", json!({ "function": "e => e.id", "target": "#press" })).await?;
    assert!(
        on.text.contains("\"press\"") && on.text.contains("locator('#press').evaluate('e => e.id')"),
        "{}",
        on.text
    );
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_are_what_was_asked_for() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("pictures").await?;
    lease.ok("browser_open", json!({ "width": 640, "height": 480 })).await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/awkward") })).await?;
    let png = |bytes: &[u8]| {
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        (number(16), number(20))
    };
    let view = lease.ok("browser_take_screenshot", json!({})).await?;
    assert_eq!((view.images[0].0.as_str(), png(&view.images[0].1)), ("image/png", (640, 480)));
    let full = lease.ok("browser_take_screenshot", json!({ "fullPage": true })).await?;
    assert!(png(&full.images[0].1).1 > 3000, "the whole page is taller than the viewport");
    let element = lease.ok("browser_take_screenshot", json!({ "target": ".overlay" })).await?;
    assert_eq!(png(&element.images[0].1), (120, 30));
    let jpeg = lease.ok("browser_take_screenshot", json!({ "filename": "a.jpg" })).await?;
    assert_eq!((jpeg.images[0].0.as_str(), &jpeg.images[0].1[..2]), ("image/jpeg", &[0xff, 0xd8][..]));
    let both = lease.call("browser_take_screenshot", json!({ "fullPage": true, "target": "p" })).await?;
    assert_eq!(both.outcome(), "invalid_argument");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_page_costs_its_call_and_not_its_session() -> Outcome {
    let adjust = |config: &mut browserfleet_pool_daemon::config::Config| {
        config.times.script = Duration::from_secs(1);
        config.times.navigation = Duration::from_secs(1);
        config.times.action = Duration::from_secs(2);
    };
    let (daemon, pages) = (Daemon::start(adjust)?, Pages::start().await?);
    let lease = daemon.lease("bad").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;

    let endless = lease.call("browser_evaluate", json!({ "function": "() => { for (;;); }" })).await?;
    assert_eq!(endless.outcome(), "page_hung", "{endless:?}");
    assert!(lease.ok("browser_snapshot", json!({})).await?.text.contains("Hello"), "the page is as it was");

    let never = lease.call("browser_navigate", json!({ "url": pages.at("/never") })).await?;
    assert_eq!(never.outcome(), "navigation_timeout", "{never:?}");
    assert!(lease.ok("browser_snapshot", json!({})).await?.text.contains("Hello"), "the old page is still there");

    for (url, code) in [
        ("http://127.0.0.1:9/", "navigation_failed"),
        ("file:///etc/passwd", "url_blocked"),
        ("http://user:pw@127.0.0.1/", "url_blocked"),
        ("http://", "invalid_argument"),
    ] {
        assert_eq!(lease.call("browser_navigate", json!({ "url": url })).await?.outcome(), code, "{url}");
    }
    lease.ok("browser_navigate", json!({ "url": pages.at("/loop") })).await?;
    let hung = lease.call_within("browser_click", json!({ "target": "button" }), Duration::from_secs(4)).await?;
    assert_ne!(hung.outcome(), "ok", "{hung:?}");
    let page = lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    assert!(page.text.contains("Hello"), "{}", page.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialog_stays_until_it_is_answered() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("dialog").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/dialogs") })).await?;
    let asked = lease.ok("browser_click", json!({ "target": "button" })).await?;
    assert!(asked.text.contains("[\"prompt\" dialog with message \"your name?\"]"), "{}", asked.text);
    let blocked = lease.call("browser_snapshot", json!({})).await?;
    assert!(blocked.error.is_some() && blocked.text.contains("### Modal state"), "{blocked:?}");
    let answered = lease.ok("browser_handle_dialog", json!({ "accept": true, "promptText": "Ada" })).await?;
    assert!(answered.text.contains(": Ada"), "{}", answered.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_browser_ends_its_calls_and_its_lease() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("killed").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let running = {
        let lease = lease.clone();
        async move { lease.call("browser_evaluate", json!({ "function": "() => new Promise(() => {})" })).await }
    };
    let pid = lease.lease.browser_pid;
    let killing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        processes::signal(pid, Signal::SIGKILL)
    };
    let (answer, killed) = tokio::join!(running, killing);
    killed?;
    assert_eq!(answer?.outcome(), "browser_gone");
    let after = lease.call("browser_snapshot", json!({})).await.expect_err("the lease has ended");
    assert_eq!(browserfleet_common::error_code::ErrorCode::of(&after).name(), "lease_lost");
    let again = daemon.lease("killed").await?;
    assert_ne!(again.lease.lease_id, lease.lease.lease_id);
    again.ok("browser_snapshot", json!({})).await?;
    assert_eq!(processes::in_group(pid), 0, "the helpers of the killed browser are gone as well");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_page_says_so_and_navigates_again() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("crash").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let renderer = processes::renderer_of(lease.lease.browser_pid).expect("a loaded page has a renderer");
    processes::signal(renderer, Signal::SIGKILL)?;
    let mut crashed = lease.call("browser_snapshot", json!({})).await?;
    for _ in 0..50 {
        if crashed.outcome() != "ok" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        crashed = lease.call("browser_snapshot", json!({})).await?;
    }
    assert_eq!(crashed.outcome(), "browser_page_crashed", "{crashed:?}");
    assert!(lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?.text.contains("Hello"));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_closes_itself_is_replaced_and_said() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("closing").await?;
    lease.ok("browser_open", json!({ "width": 800, "height": 600 })).await?;
    // A page without a history may close itself; it goes a moment after the script has ended.
    lease.call("browser_evaluate", json!({ "function": "() => { window.close() }" })).await?;
    let mut answer = lease.call("browser_snapshot", json!({})).await?;
    for _ in 0..100 {
        if answer.outcome() == "browser_page_crashed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer = lease.call("browser_snapshot", json!({})).await?;
    }
    assert_eq!(answer.outcome(), "browser_page_crashed", "{answer:?}");
    let page = lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let width = lease.ok("browser_evaluate", json!({ "function": "() => innerWidth" })).await?;
    assert!(width.text.contains("800"), "the viewport is kept: {}", width.text);

    let old = page.find_ref("button \"Go\"")?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/awkward") })).await?;
    for blanks in ["", " ", "\u{feff}"] {
        let stale = lease.call("browser_click", json!({ "target": format!("{old}{blanks}") })).await?;
        assert_eq!(stale.outcome(), "element_not_actionable", "{old}{blanks:?}");
        assert!(stale.error.unwrap_or_default().message.contains("Try capturing new snapshot"));
    }
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_under_a_dialog_is_a_crash() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("crash").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/dialogs") })).await?;
    lease.ok("browser_click", json!({ "target": "button" })).await?;
    let renderer = processes::renderer_of(lease.lease.browser_pid).expect("a loaded page has a renderer");
    processes::signal(renderer, Signal::SIGKILL)?;
    let mut page = lease.call("browser_navigate", json!({ "url": pages.at("/") })).await?;
    for _ in 0..100 {
        if page.outcome() == "ok" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        page = lease.call("browser_navigate", json!({ "url": pages.at("/") })).await?;
    }
    assert!(page.text.contains("Hello"), "{page:?}");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_earlier_pages_do_not_use_up_the_room() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("frames").await?;
    let many = "() => { for (let i = 0; i < 300; i++) document.body.append(Object.assign(document.createElement('iframe'), { srcdoc: 'x' })) }";
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    lease.ok("browser_evaluate", json!({ "function": many })).await?;
    for _ in 0..3 {
        let page = lease.ok("browser_navigate", json!({ "url": pages.at("/frame") })).await?;
        assert!(page.text.contains("In the frame"), "{}", page.text);
    }
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_next_page_is_not_a_hung_one() -> Outcome {
    let adjust = |config: &mut browserfleet_pool_daemon::config::Config| config.times.action = Duration::from_secs(1);
    let (daemon, pages) = (Daemon::start(adjust)?, Pages::start().await?);
    let lease = daemon.lease("slow").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/links") })).await?;
    let mail = lease.ok("browser_click", json!({ "target": "text=Mail" })).await?;
    assert!(mail.text.contains("text: Links") || mail.text.contains("Links"), "{}", mail.text);
    let slow = lease.ok("browser_click", json!({ "target": "text=Slow" })).await?;
    assert!(slow.text.contains("still loading"), "{}", slow.text);
    assert!(lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?.text.contains("Hello"));

    lease.ok("browser_navigate", json!({ "url": pages.at("/links") })).await?;
    let dead = lease.ok("browser_click", json!({ "target": "text=Dead" })).await?;
    assert!(dead.text.contains("could not be loaded") && !dead.text.contains("chrome-error"), "{}", dead.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_element_in_a_scrolled_frame_is_pictured_where_it_is() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("scrolled").await?;
    let page = lease.ok("browser_navigate", json!({ "url": pages.at("/scrolled") })).await?;
    let target = page.find_ref("button \"Red\"")?;
    let shot = lease.ok("browser_take_screenshot", json!({ "target": target, "type": "png" })).await?;
    // Ours is the only picture of one colour: red compresses to very little, and is found in its bytes by Chromium itself.
    let code = format!(
        "async () => {{ const image = new Image(); image.src = 'data:image/png;base64,{}'; await image.decode(); \
         const canvas = document.createElement('canvas'); canvas.width = image.width; canvas.height = image.height; \
         const context = canvas.getContext('2d'); context.drawImage(image, 0, 0); \
         return [...context.getImageData(image.width >> 1, 5, 1, 1).data] }}",
        base64(&shot.images[0].1)
    );
    let pixel = lease.ok("browser_evaluate", json!({ "function": code })).await?;
    assert!(pixel.text.contains("255,\n  0,\n  0,\n  255"), "{}", pixel.text);
    daemon.end().await
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_a_page_run() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("workers").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let own = "URL.createObjectURL(new Blob(['postMessage(6 * 7)'], { type: 'text/javascript' }))";
    let nested = format!(
        "URL.createObjectURL(new Blob([`new Worker(${{JSON.stringify({own})}}).onmessage = e => postMessage(e.data)`]))"
    );
    for worker in [
        format!("new Worker({own})"),
        format!("new Worker({own}, {{ type: 'module' }})"),
        format!("new Worker({nested})"),
        "new SharedWorker(URL.createObjectURL(new Blob(['onconnect = e => e.ports[0].postMessage(42)']))).port"
            .to_owned(),
    ] {
        let function = format!(
            "() => Promise.race([new Promise(done => {{ const w = {worker}; w.onmessage = e => done(e.data); w.onerror = e => done('error ' + e.message) }}), \
             new Promise(done => setTimeout(done, 20000, 'nothing'))])"
        );
        let said = lease.ok("browser_evaluate", json!({ "function": function })).await?;
        assert!(said.text.starts_with("### Result\n42\n"), "{worker}: {}", said.text);
    }
    daemon.end().await
}
