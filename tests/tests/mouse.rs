//! The mouse by coordinates, through gRPC.

use browserfleet_tests::{
    daemon::{Answer, Daemon, Lease},
    pages::Pages,
};
use serde_json::{Value, json};

type Outcome = anyhow::Result<()>;

/// What a script answers.
async fn value(lease: &Lease, code: &str) -> anyhow::Result<Value> {
    let answer = lease.ok("browser_evaluate", json!({ "function": code })).await?;
    Ok(serde_json::from_str(&answer.fenced.first().cloned().unwrap_or_default().1)?)
}

/// The middle of an element.
async fn middle(lease: &Lease, selector: &str) -> anyhow::Result<(f64, f64)> {
    let code = format!(
        "() => {{ const b = document.querySelector('{selector}').getBoundingClientRect(); \
         return [b.x + b.width / 2, b.y + b.height / 2] }}"
    );
    Ok(serde_json::from_value(value(lease, &code).await?)?)
}

async fn log(lease: &Lease) -> anyhow::Result<String> {
    Ok(value(lease, "() => document.getElementById('log').textContent").await?.as_str().unwrap_or_default().to_owned())
}

async fn drag(lease: &Lease, (x, y): (f64, f64), (to_x, to_y): (f64, f64)) -> anyhow::Result<Answer> {
    lease.ok("browser_mouse_drag_xy", json!({ "startX": x, "startY": y, "endX": to_x, "endY": to_y })).await
}

const EVENTS: &str = "() => { window.seen = []; for (const kind of ['mousedown', 'mouseup', 'click', 'dblclick', 'contextmenu', 'auxclick'])
  addEventListener(kind, e => seen.push([kind, e.button, e.buttons, e.detail, e.clientX, e.shiftKey].join(' ')), true); return 0 }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clicks_are_a_persons_wherever_they_are() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("clicks").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/menu") })).await?;
    let (x, y) = middle(&lease, "#top").await?;
    lease.ok("browser_mouse_move_xy", json!({ "x": x, "y": y })).await?;
    let shown = lease.ok("browser_snapshot", json!({})).await?;
    assert!(shown.text.contains("button \"Save\""), "the menu is open while the mouse is over it: {}", shown.text);
    let (x, y) = middle(&lease, "#sub button").await?;
    let clicked = lease.ok("browser_mouse_click_xy", json!({ "x": x, "y": y })).await?;
    assert!(clicked.text.contains("saved") && clicked.text.contains("### Snapshot"), "{}", clicked.text);
    let code = format!("// Click mouse at coordinates ({x}, {y})\nawait page.mouse.click({x}, {y});");
    assert!(clicked.text.contains(&code), "{}", clicked.text);

    value(&lease, EVENTS).await?;
    lease.ok("browser_keydown", json!({ "key": "Shift" })).await?;
    lease.ok("browser_mouse_click_xy", json!({ "x": 300, "y": 200, "clickCount": 2, "delay": 20 })).await?;
    lease.ok("browser_keyup", json!({ "key": "Shift" })).await?;
    lease.ok("browser_mouse_click_xy", json!({ "x": 301, "y": 200, "button": "right" })).await?;
    let seen = value(&lease, "() => seen.splice(0)").await?;
    let expected = json!([
        "mousedown 0 1 1 300 true",
        "mouseup 0 0 1 300 true",
        "click 0 0 1 300 true",
        "mousedown 0 1 2 300 true",
        "mouseup 0 0 2 300 true",
        "click 0 0 2 300 true",
        "dblclick 0 0 2 300 true",
        "mousedown 2 2 1 301 false",
        "contextmenu 2 2 0 301 false",
        "mouseup 2 0 1 301 false",
        "auxclick 2 0 1 301 false",
    ]);
    assert_eq!(seen, expected);
    lease.ok("browser_mouse_move_xy", json!({ "x": 310, "y": 210 })).await?;
    let down = lease.ok("browser_mouse_down", json!({ "button": "middle" })).await?;
    assert!(down.text.contains("await page.mouse.down({\n  button: 'middle'\n});"), "{}", down.text);
    lease.ok("browser_mouse_up", json!({ "button": "middle" })).await?;
    let seen = value(&lease, "() => seen").await?;
    assert_eq!(seen, json!(["mousedown 1 4 1 310 false", "mouseup 1 0 1 310 false", "auxclick 1 0 1 310 false"]));
    for wrong in [json!({ "x": 1e9, "y": 0 }), json!({ "x": 1, "y": 1, "clickCount": 99 })] {
        assert_eq!(lease.call("browser_mouse_click_xy", wrong).await?.outcome(), "invalid_argument");
    }
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dragged_arrives_by_pointer_and_by_html() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("drags").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/drag") })).await?;
    let (x, y) = middle(&lease, "#knob").await?;
    let dragged = drag(&lease, (x, y), (x + 120.0, y)).await?;
    assert!(
        dragged.text.contains("await page.mouse.down();") && dragged.text.contains("### Snapshot"),
        "{}",
        dragged.text
    );
    assert!(log(&lease).await?.contains("down; up at right"), "{}", log(&lease).await?);
    let (card, bin) = (middle(&lease, "#card").await?, middle(&lease, "#bin").await?);
    drag(&lease, card, bin).await?;
    let said = log(&lease).await?;
    assert!(said.contains("dragstart") && said.contains("bin got the card") && said.contains("dragend"), "{said}");
    drag(&lease, middle(&lease, "#refusing").await?, bin).await?;
    assert!(log(&lease).await?.contains("refused"), "a drag that its page calls off is none");

    // The same, step by step.
    let before = log(&lease).await?.matches("bin got the card").count();
    for (tool, arguments) in [
        ("move_xy", json!({ "x": card.0, "y": card.1 })),
        ("down", json!({})),
        ("move_xy", json!({ "x": card.0 + 8.0, "y": card.1 + 8.0 })),
        ("move_xy", json!({ "x": bin.0, "y": bin.1 })),
        ("up", json!({})),
    ] {
        lease.ok(&format!("browser_mouse_{tool}"), arguments).await?;
    }
    assert_eq!(log(&lease).await?.matches("bin got the card").count(), before + 1);

    // After a drag from element to element nothing is in the hand any more: a move is a move.
    lease.ok("browser_drag", json!({ "startTarget": "#card", "endTarget": "#bin" })).await?;
    assert_eq!(log(&lease).await?.matches("bin got the card").count(), before + 2);
    value(&lease, "() => { window.moved = []; addEventListener('mousemove', e => moved.push(e.buttons)); return 0 }")
        .await?;
    lease.ok("browser_mouse_move_xy", json!({ "x": 20, "y": 20 })).await?;
    assert_eq!(value(&lease, "() => moved").await?, json!([0]));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wheel_scrolls_what_is_under_the_mouse() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("wheel").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/kept") })).await?;
    lease.ok("browser_mouse_move_xy", json!({ "x": 200, "y": 200 })).await?;
    let turned = lease.ok("browser_mouse_wheel", json!({ "deltaX": 0, "deltaY": 700 })).await?;
    assert!(turned.text.contains("await page.mouse.wheel(0, 700);"), "{}", turned.text);
    lease.ok("browser_wait_for", json!({ "time": 0.5 })).await?;
    assert_eq!(value(&lease, "() => Math.round(scrollY)").await?, 700);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialog_under_the_mouse_is_an_answer() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("dialog").await?;
    let ask = "() => { window.held = []; addEventListener('mousedown', () => alert('stop')); \
               addEventListener('mousemove', e => held.push(e.buttons)); return 0 }";
    for (tool, arguments) in [
        ("click_xy", json!({ "x": 5, "y": 5 })),
        ("click_xy", json!({ "x": 5, "y": 5, "button": "middle" })),
        ("drag_xy", json!({ "startX": 5, "startY": 5, "endX": 90, "endY": 90 })),
    ] {
        lease.ok("browser_navigate", json!({ "url": pages.at("/menu") })).await?;
        value(&lease, ask).await?;
        let stopped = lease.ok(&format!("browser_mouse_{tool}"), arguments).await?;
        assert!(stopped.text.contains("\"alert\" dialog with message"), "{tool}: {}", stopped.text);
        lease.ok("browser_handle_dialog", json!({ "accept": true })).await?;
        lease.ok("browser_mouse_move_xy", json!({ "x": 40, "y": 60 })).await?;
        assert_eq!(value(&lease, "() => held.at(-1)").await?, 0, "{tool} leaves no button pressed");
    }
    let still = lease.ok("browser_snapshot", json!({})).await?;
    assert!(still.text.contains("button \"File\""), "the page goes on: {}", still.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cancelled_call_has_pressed_is_let_go() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("cancelled").await?;
    for (case, (tool, arguments, keeps)) in [
        ("click_xy", json!({ "x": 300, "y": 200, "delay": 2000 }), ""),
        ("drag", json!({ "startTarget": "#top", "endTarget": "#out" }), ""),
        ("press_key", json!({ "key": "Shift+A" }), ""),
        ("click_xy", json!({ "x": 300, "y": 200, "delay": 2000, "button": "right" }), "left"),
    ]
    .into_iter()
    .enumerate()
    {
        lease.ok("browser_navigate", json!({ "url": pages.at("/menu") })).await?;
        // What comes down is told, and then there is nothing to be dropped on, or no way for a key to come up.
        let watch = format!(
            "() => {{ window.held = []; const told = () => fetch('/seen/{case}'); \
             addEventListener('mousedown', e => {{ if (e.button !== ({keep} ? 0 : -1)) told(); document.querySelector('#out')?.remove() }}); \
             addEventListener('keydown', e => {{ if (e.key === 'A') {{ told(); for (;;); }} held.push(e.shiftKey) }}); \
             addEventListener('mousemove', e => held.push(e.buttons)); \
             if (!document.querySelector('#out')) document.body.insertAdjacentHTML('beforeend', '<p id=out>here'); return 0 }}",
            keep = !keeps.is_empty(),
        );
        value(&lease, &watch).await?;
        if !keeps.is_empty() {
            lease.ok("browser_mouse_down", json!({ "button": keeps })).await?;
        }
        let tool = if tool.ends_with("_xy") { format!("browser_mouse_{tool}") } else { format!("browser_{tool}") };
        let name = case.to_string();
        tokio::select! {
            ended = lease.call(&tool, arguments) => panic!("{tool} was not cancelled: {ended:?}"),
            () = pages.seen(&name) => {}
        }
        lease.ok("browser_mouse_move_xy", json!({ "x": 40, "y": 60 })).await?;
        lease.ok("browser_press_key", json!({ "key": "b" })).await?;
        let held = value(&lease, "() => held.slice(-2)").await?;
        assert_eq!(held, json!([i32::from(!keeps.is_empty()), false]), "{tool} {case}");
    }
    daemon.end().await
}
