//! The mouse by coordinates: real events, wherever in the viewport, and what is dragged with them.

use browserfleet_cdp::browser_protocol::input::{
    CancelDraggingParams, DispatchMouseEventParams, DispatchMouseEventType as Kind, MouseButton,
    SetInterceptDragsParams,
};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep_until};

use super::{Button, Page, keyboard::Key, world::call};
use crate::failure::Failure;

/// Most time for the browser to say what is dragged, after the page has started a drag.
const STARTED: Duration = Duration::from_secs(2);
/// Most time for letting go what a failed drag has in its hand.
const LETTING_GO: Duration = Duration::from_secs(1);
/// Steps of a drag: pages that follow the mouse see it on its way.
const STEPS: u32 = 5;

/// Where the mouse is, and what it holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Pointer {
    /// In CSS pixels of the viewport.
    pub(super) at: (f64, f64),
    /// Buttons that are pressed, as CDP's bits.
    buttons: i64,
    /// What the page drags, once the browser has said so.
    pub(super) dragged: Option<Value>,
    /// The drag has entered something.
    entered: bool,
}

impl Pointer {
    /// A button is down.
    pub(super) fn pressed(&mut self, button: Button) {
        self.buttons |= button.bit();
    }

    /// A button is up, and with the left one nothing is in the hand any more.
    pub(super) fn released(&mut self, button: Button) {
        self.buttons &= !button.bit();
        if button == Button::Left {
            (self.dragged, self.entered) = (None, false);
        }
    }
}

/// What is held down: buttons of the mouse, and keys.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// As CDP's bits.
    buttons: i64,
    keys: Vec<Key>,
}

impl Button {
    /// CDP's bit of a button that is held.
    const fn bit(self) -> i64 {
        match self {
            Self::Left => 1,
            Self::Right => 2,
            Self::Middle => 4,
        }
    }

    const fn wire(self) -> MouseButton {
        match self {
            Self::Left => MouseButton::Left,
            Self::Right => MouseButton::Right,
            Self::Middle => MouseButton::Middle,
        }
    }
}

impl Page {
    /// Moves the mouse. What it holds comes along.
    pub async fn move_mouse(&self, at: (f64, f64), deadline: Instant) -> Result<(), Failure> {
        let held = {
            let mut state = self.state();
            state.pointer.at = at;
            state.pointer.buttons
        };
        if self.state().pointer.dragged.is_none() {
            let mut event = self.mouse_event(Kind::MouseMoved);
            // Which button is held is said twice: pages that look at either see the same.
            event.button = (held & Button::Left.bit() != 0).then_some(MouseButton::Left);
            self.unless_dialog(self.call(event, deadline)).await?;
            if held & Button::Left.bit() != 0 {
                self.take_up_drag(deadline).await?;
            }
        }
        self.drag_over(deadline).await
    }

    /// Presses a button where the mouse is, the how-manieth time in a row.
    pub async fn press_mouse(&self, button: Button, click: u8, deadline: Instant) -> Result<(), Failure> {
        if button == Button::Left {
            // A drag of the system's own would swallow every event after it.
            self.call(SetInterceptDragsParams::new(true), deadline).await?;
            let () = self.main_world(deadline).await?.value(call("watchDrag", &[]), deadline).await?;
        }
        self.state().pointer.pressed(button);
        let mut event = self.mouse_event(Kind::MousePressed);
        (event.button, event.click_count) = (Some(button.wire()), Some(i64::from(click)));
        self.unless_dialog(self.call(event, deadline)).await.map(drop)
    }

    /// Lets a button go where the mouse is. What was dragged is dropped.
    pub async fn release_mouse(&self, button: Button, click: u8, deadline: Instant) -> Result<(), Failure> {
        let dragged = {
            let mut state = self.state();
            state.pointer.buttons &= !button.bit();
            state.pointer.entered = false;
            if button == Button::Left { state.pointer.dragged.take() } else { None }
        };
        let released = async {
            if let Some(data) = dragged {
                self.drag_event("drop", &data, deadline).await?;
            }
            let mut event = self.mouse_event(Kind::MouseReleased);
            (event.button, event.click_count) = (Some(button.wire()), Some(i64::from(click)));
            self.unless_dialog(self.call(event, deadline)).await.map(drop)
        };
        let released = released.await;
        if button == Button::Left {
            let _page_gone = self.call(SetInterceptDragsParams::new(false), Instant::now() + LETTING_GO).await;
        }
        released
    }

    /// Clicks at a point, with a pause between press and release. A button that meets a dialog does not stay pressed.
    pub async fn click_at(
        &self,
        at: (f64, f64),
        (button, clicks): (Button, u8),
        pause: Duration,
        deadline: Instant,
    ) -> Result<(), Failure> {
        self.move_mouse(at, deadline).await?;
        for click in 1..=clicks {
            if let Err(failure) = self.press_mouse(button, click, deadline).await {
                // One that met a dialog is pressed all the same.
                self.let_go(button).await;
                return Err(failure);
            }
            sleep_until(deadline.min(Instant::now() + pause)).await;
            self.release_mouse(button, click, deadline).await?;
        }
        Ok(())
    }

    /// Drags with the left button from a point to another one. Whatever goes wrong, the button does not stay pressed.
    pub async fn drag_at(&self, from: (f64, f64), to: (f64, f64), deadline: Instant) -> Result<(), Failure> {
        self.move_mouse(from, deadline).await?;
        let carried = async {
            self.press_mouse(Button::Left, 1, deadline).await?;
            for step in 1..=STEPS {
                let part = f64::from(step) / f64::from(STEPS);
                let at = (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part);
                self.move_mouse(at, deadline).await?;
            }
            // What takes a drop wants to hear of it more than once.
            self.move_mouse(to, deadline).await
        };
        match carried.await {
            Ok(()) => self.release_mouse(Button::Left, 1, deadline).await,
            Err(failure) => {
                self.let_go(Button::Left).await;
                Err(failure)
            }
        }
    }

    /// Has a button up and nothing in the hand any more, also behind a dialog. Other buttons stay as they are.
    pub(super) async fn let_go(&self, button: Button) {
        self.state().pointer.released(button);
        let deadline = Instant::now() + LETTING_GO;
        if button == Button::Left {
            let _page_gone = self.call(CancelDraggingParams::default(), deadline).await;
        }
        let mut up = self.mouse_event(Kind::MouseReleased);
        (up.button, up.click_count) = (Some(button.wire()), Some(1));
        let _page_gone = self.call(up, deadline).await;
        if button == Button::Left {
            let _page_gone = self.call(SetInterceptDragsParams::new(false), deadline).await;
        }
    }

    /// What is held down now.
    pub fn held(&self) -> Held {
        let state = self.state();
        Held { buttons: state.pointer.buttons, keys: state.held.clone() }
    }

    /// Lets everything go but what was held before: what a call has pressed that did not come to its end nobody holds.
    pub async fn let_go_but(&self, before: &Held) {
        let now = self.held();
        for button in [Button::Left, Button::Right, Button::Middle] {
            if now.buttons & !before.buttons & button.bit() != 0 {
                self.let_go(button).await;
            }
        }
        for key in now.keys.iter().rev().filter(|key| !before.keys.contains(key)) {
            let _page_gone = self.up(key, Instant::now() + LETTING_GO).await;
        }
    }

    /// Turns the wheel where the mouse is, by so many CSS pixels.
    pub async fn turn_wheel(&self, (x, y): (f64, f64), deadline: Instant) -> Result<(), Failure> {
        let mut event = self.mouse_event(Kind::MouseWheel);
        (event.delta_x, event.delta_y) = (Some(x), Some(y));
        self.unless_dialog(self.call(event, deadline)).await.map(drop)
    }

    fn mouse_event(&self, kind: Kind) -> DispatchMouseEventParams {
        let (at, buttons) = {
            let state = self.state();
            (state.pointer.at, state.pointer.buttons)
        };
        let mut event = DispatchMouseEventParams::new(kind, at.0, at.1);
        event.modifiers = Some(self.held_modifiers());
        event.buttons = Some(buttons);
        event
    }

    /// When the page has started a drag and drop, waits until the browser has said what is dragged.
    async fn take_up_drag(&self, deadline: Instant) -> Result<(), Failure> {
        let world = self.main_world(deadline).await?;
        if world.value(call("dragStarted", &[]), deadline).await? {
            self.until(deadline.min(Instant::now() + STARTED), |state| state.pointer.dragged.is_some()).await;
            Ok(())
        } else {
            world.value(call("watchDrag", &[]), deadline).await
        }
    }

    /// Tells the page that what is dragged is where the mouse is.
    async fn drag_over(&self, deadline: Instant) -> Result<(), Failure> {
        let Some(data) = self.state().pointer.dragged.clone() else { return Ok(()) };
        let first = !std::mem::replace(&mut self.state().pointer.entered, true);
        if first {
            self.drag_event("dragEnter", &data, deadline).await?;
        }
        self.drag_event("dragOver", &data, deadline).await
    }

    async fn drag_event(&self, kind: &str, data: &Value, deadline: Instant) -> Result<(), Failure> {
        let (x, y) = self.state().pointer.at;
        let params = json!({ "type": kind, "x": x, "y": y, "data": data, "modifiers": self.held_modifiers() });
        let sent = self.inner.session.call_raw("Input.dispatchDragEvent", &params, deadline);
        self.unless_dialog(async { Ok(sent.await?) }).await.map(drop)
    }
}
