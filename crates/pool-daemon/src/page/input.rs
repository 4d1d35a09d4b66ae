//! Acting as a person does: real mouse and key events, after the element has been found fit for them.

use browserfleet_cdp::{
    SessionState,
    browser_protocol::input::{DispatchMouseEventParams, DispatchMouseEventType, MouseButton},
};
use browserfleet_common::error_code::ErrorCode;
use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Page,
    state::World,
    world::{PATIENCE, call},
};
use crate::{failure::Failure, secrets::Bound};

/// Most frames within frames a point is translated through.
const MAX_FRAME_DEPTH: usize = 10;

/// CDP's bits of the modifier keys.
pub mod modifier {
    pub const ALT: i64 = 1;
    pub const CONTROL: i64 = 2;
    pub const META: i64 = 4;
    pub const SHIFT: i64 = 8;
}

/// A mouse button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    Left,
    Right,
    Middle,
}

/// How to click.
#[derive(Clone, Copy, Debug)]
pub struct Press {
    pub button: Button,
    /// Modifier keys held down, as CDP's bits.
    pub modifiers: i64,
    /// 1, or 2 for a double click.
    pub clicks: u8,
}

#[derive(Debug, Deserialize)]
struct Point {
    x: f64,
    y: f64,
    /// How test code would name the element.
    locator: String,
}

#[derive(Debug, Deserialize)]
struct TypeTarget {
    action: TypeAction,
    locator: String,
}

/// What is left to do after the page has prepared an element for typing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TypeAction {
    /// The old text is selected: the new one replaces it.
    Insert,
    /// The old text is selected and there is no new one.
    Clear,
    /// The value has been set (dates, colours, ranges).
    Done,
    /// The caret is at the end: press the keys.
    Keys,
}

impl Page {
    /// Clicks an element. Answers how test code would name it.
    pub async fn click(&self, target: &str, press: Press, deadline: Instant) -> Result<String, Failure> {
        let (at, locator) = self.prepare_click(target, deadline).await?;
        let press = Press { modifiers: press.modifiers | self.held_modifiers(), ..press };
        self.strokes(at, press, deadline).await?;
        Ok(locator)
    }

    /// Moves the mouse over an element. Answers how test code would name it.
    pub async fn hover(&self, target: &str, deadline: Instant) -> Result<String, Failure> {
        let (at, locator) = self.prepare_click(target, deadline).await?;
        let still = Press { button: Button::Left, modifiers: self.held_modifiers(), clicks: 0 };
        self.state().pointer.at = at;
        let moved = mouse(DispatchMouseEventType::MouseMoved, at, still, None);
        self.unless_dialog(self.call(moved, deadline)).await?;
        Ok(locator)
    }

    /// Where to click an element once it is fit for it, and its locator.
    pub(super) async fn prepare_click(&self, target: &str, deadline: Instant) -> Result<((f64, f64), String), Failure> {
        loop {
            match self.prepare_click_once(target, json!({}), deadline).await {
                // The page has replaced its document in the middle. Nothing has been done to either yet.
                Err(failure) if failure.is_stale_document() && Instant::now() < deadline => {}
                prepared => return prepared,
            }
        }
    }

    /// Where to let go what is dragged onto an element. What is dragged may cover it: only its place counts.
    pub(super) async fn prepare_drop(&self, target: &str, deadline: Instant) -> Result<((f64, f64), String), Failure> {
        self.prepare_click_once(target, json!({ "force": true }), deadline).await
    }

    async fn prepare_click_once(
        &self,
        target: &str,
        wanted: Value,
        deadline: Instant,
    ) -> Result<((f64, f64), String), Failure> {
        let (world, target) = self.world_of(target, deadline).await?;
        let point: Point = self.unless_dialog(world.wait("prepareClick", &target, wanted, deadline)).await?;
        Ok((self.to_page(&world, point.x, point.y, deadline).await?, point.locator))
    }

    /// Types text into an element, replacing what is there, or key by key at its end. Answers how test code would name
    /// the element.
    ///
    /// What is bound to origins is typed only while the document that was asked for its origin has the focus. The page may
    /// still be faster: between the last look and a key there is a moment.
    pub async fn type_text(
        &self,
        target: &str,
        text: &str,
        slowly: bool,
        bound: &Bound<'_>,
        deadline: Instant,
    ) -> Result<String, Failure> {
        let (world, TypeTarget { action, locator }) = loop {
            match self.prepare_type(target, text, slowly, bound, deadline).await {
                Err(failure) if failure.is_stale_document() && Instant::now() < deadline => {}
                prepared => break prepared?,
            }
        };
        let checked = (!bound.is_free()).then_some(&world);
        match action {
            TypeAction::Insert => {
                self.check_focus(checked, deadline).await?;
                self.insert(text, deadline).await?;
            }
            TypeAction::Clear => self.press("Delete", deadline).await?,
            TypeAction::Done => {}
            TypeAction::Keys => {
                for character in text.chars() {
                    // Any of them may send the page elsewhere, or the focus.
                    self.check_focus(checked, deadline).await?;
                    self.type_character(character, deadline).await?;
                }
            }
        }
        Ok(locator)
    }

    /// Refuses to type what would come to another document than this one, if there is one to hold to.
    async fn check_focus(&self, checked: Option<&World>, deadline: Instant) -> Result<(), Failure> {
        let Some(world) = checked else { return Ok(()) };
        match self.unless_dialog(world.value(call("takesKeys", &[]), deadline)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(
                ErrorCode::ElementNotActionable,
                "the focus has gone to another document meanwhile: no more of the secret was typed. Take a new snapshot",
            )),
            // A frame in a process of its own goes with its session.
            Err(_) if world.session.state() == SessionState::Gone && !self.is_gone() => Err(Failure::stale_document()),
            Err(failure) => Err(failure),
        }
    }

    async fn prepare_type(
        &self,
        target: &str,
        text: &str,
        slowly: bool,
        bound: &Bound<'_>,
        deadline: Instant,
    ) -> Result<(World, TypeTarget), Failure> {
        let (world, target) = self.world_of(target, deadline).await?;
        if !bound.is_free() {
            // Asked in our own world, where the page has no say; of the document that the text goes to.
            let origin: String = self.unless_dialog(world.value("self.origin".to_owned(), deadline)).await?;
            bound.check(&origin)?;
        }
        let wanted = json!({ "text": text, "slowly": slowly });
        let prepared = self.unless_dialog(world.wait("prepareType", &target, wanted, deadline)).await?;
        Ok((world, prepared))
    }

    /// Moves, presses and releases. All events are sent at once and arrive in order: a move by itself is answered with
    /// the next frame only, one that is followed by a press at once.
    async fn strokes(&self, at: (f64, f64), press: Press, deadline: Instant) -> Result<(), Failure> {
        self.state().pointer.at = at;
        let mut events = vec![mouse(DispatchMouseEventType::MouseMoved, at, press, None)];
        for click in 1..=press.clicks {
            events.push(mouse(DispatchMouseEventType::MousePressed, at, press, Some(click)));
            events.push(mouse(DispatchMouseEventType::MouseReleased, at, press, Some(click)));
        }
        let sent = try_join_all(events.into_iter().map(|event| self.call(event, deadline + PATIENCE)));
        self.unless_dialog(sent).await?;
        Ok(())
    }

    /// Translates a point of a frame's viewport into one of the page's.
    pub(super) async fn to_page(
        &self,
        world: &World,
        x: f64,
        y: f64,
        deadline: Instant,
    ) -> Result<(f64, f64), Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Offset {
            x: f64,
            y: f64,
            scale_x: f64,
            scale_y: f64,
        }
        let (mut x, mut y, mut context) = (x, y, world.context.clone());
        for _ in 0..MAX_FRAME_DEPTH {
            let step = {
                let state = self.state();
                let Some(frame) = state.frame_where(|world| world.context == context) else { return Err(gone()) };
                match (&frame.parent, &frame.owner) {
                    (None, _) => return Ok((x, y)),
                    (Some(parent), Some(owner)) => {
                        let parent = state.frames.get(parent).and_then(|frame| frame.world.clone());
                        (parent.ok_or_else(gone)?, owner.clone())
                    }
                    (Some(_), None) => return Err(gone()),
                }
            };
            let (parent, owner) = step;
            let offset: Offset = parent.value(call("frameOffset", &[owner.into()]), deadline).await?;
            (x, y) = (offset.x + x * offset.scale_x, offset.y + y * offset.scale_y);
            context = parent.context;
        }
        Err(gone())
    }
}

/// A mouse event; with the count of its click, if it is a button's.
pub(super) fn mouse(
    kind: DispatchMouseEventType,
    (x, y): (f64, f64),
    press: Press,
    click: Option<u8>,
) -> DispatchMouseEventParams {
    let mut event = DispatchMouseEventParams::new(kind, x, y);
    event.modifiers = Some(press.modifiers);
    event.click_count = click.map(i64::from);
    event.button = click.map(|_| match press.button {
        Button::Left => MouseButton::Left,
        Button::Right => MouseButton::Right,
        Button::Middle => MouseButton::Middle,
    });
    event
}

fn gone() -> Failure {
    Failure::new(ErrorCode::ElementNotActionable, "the frame of this ref is gone. Try capturing new snapshot.")
}
