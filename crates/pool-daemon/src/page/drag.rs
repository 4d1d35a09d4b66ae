//! Dragging with the mouse: what the page does with pointer events, or a drag and drop of HTML if it starts one.

use browserfleet_cdp::{
    Item,
    browser_protocol::input::{DispatchMouseEventType, SetInterceptDragsParams},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, timeout_at};

use super::{Button, Page, Press, input::mouse, state::World, world::call};
use crate::failure::Failure;

/// Most time for the browser to say what is dragged, after the page has started a drag.
const STARTED: Duration = Duration::from_secs(2);

/// Most time for giving the mouse back to the page after a drag that failed.
const LETTING_GO: Duration = Duration::from_secs(1);

const LEFT: Press = Press { button: Button::Left, modifiers: 0, clicks: 1 };

/// What the browser would have begun to drag if it had not been told to leave that to us.
#[derive(Debug, Deserialize)]
struct Intercepted {
    data: Value,
}

impl Page {
    /// Drags one element onto another. Answers how test code would name the two.
    pub async fn drag(&self, from: &str, to: &str, deadline: Instant) -> Result<(String, String), Failure> {
        // Nothing is picked up that cannot be put down.
        self.prepare_drop(to, deadline).await?;
        let (start, source) = self.prepare_click(from, deadline).await?;
        let (world, _) = self.world_of(from, deadline).await?;
        let () = world.value(call("watchDrag", &[]), deadline).await?;
        self.call(SetInterceptDragsParams::new(true), deadline).await?;
        let mut dragging = self.inner.session.subscribe(&["Input.dragIntercepted"], 1);
        let started = async {
            let dragged = async {
                match dragging.recv().await {
                    Some(Item::Event(event)) => event.decode::<Intercepted>().ok().map(|intercepted| intercepted.data),
                    _ => None,
                }
            };
            timeout_at(deadline.min(Instant::now() + STARTED), dragged).await.ok().flatten()
        };
        let dropped = self.carry(&world, start, to, started, deadline).await;
        if dropped.is_err() {
            // Whatever went wrong, nothing stays in the hand and the button does not stay pressed.
            self.let_go(Button::Left).await;
        } else {
            self.state().pointer.released(Button::Left);
            let _page_gone = self.call(SetInterceptDragsParams::new(false), Instant::now() + LETTING_GO).await;
        }
        Ok((source, dropped?))
    }

    /// Presses at one point, moves to another element and lets go there.
    async fn carry(
        &self,
        world: &World,
        start: (f64, f64),
        to: &str,
        started: impl Future<Output = Option<Value>>,
        deadline: Instant,
    ) -> Result<String, Failure> {
        let event = |kind, at, click| {
            self.state().pointer.at = at;
            self.unless_dialog(self.call(mouse(kind, at, LEFT, click), deadline))
        };
        event(DispatchMouseEventType::MouseMoved, start, None).await?;
        // From here on it is let go whatever becomes of the call.
        self.state().pointer.pressed(Button::Left);
        event(DispatchMouseEventType::MousePressed, start, Some(1)).await?;
        // Out of reach of a hand that shakes, so that a drag begins where it was meant to.
        for step in [3.0, 6.0] {
            self.unless_dialog(self.call(held((start.0 + step, start.1 + step)), deadline)).await?;
        }
        let (end, locator) = self.prepare_drop(to, deadline).await?;
        for at in [(start.0.midpoint(end.0), start.1.midpoint(end.1)), end, end] {
            self.unless_dialog(self.call(held(at), deadline)).await?;
        }
        let html: bool = world.value(call("dragStarted", &[]), deadline).await.unwrap_or(false);
        if html && let Some(data) = started.await {
            for kind in ["dragEnter", "dragOver", "drop"] {
                let params = json!({ "type": kind, "x": end.0, "y": end.1, "data": data, "modifiers": 0 });
                let sent = self.inner.session.call_raw("Input.dispatchDragEvent", &params, deadline);
                self.unless_dialog(async { Ok(sent.await?) }).await?;
            }
        }
        event(DispatchMouseEventType::MouseReleased, end, Some(1)).await?;
        Ok(locator)
    }
}

/// A move with the left button held down.
fn held(at: (f64, f64)) -> browserfleet_cdp::browser_protocol::input::DispatchMouseEventParams {
    let mut event = mouse(DispatchMouseEventType::MouseMoved, at, LEFT, Some(0));
    event.buttons = Some(1);
    event
}
