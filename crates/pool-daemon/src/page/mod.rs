//! A page: what the daemon knows of it beside its browser, and what can be done with it.
//!
//! [`Page`] is the handle, [`Context`] what it shares with the other pages of its session: cookies, [`notices`], the limit
//! of [`tabs`]. [`state`] is what it knows (frames, document, dialog, requests), kept up to date by [`pump`] from raw events
//! ([`wire`]). [`world`] calls our in-page scripts (`inject/`) in their isolated world. On top of these: [`navigation`],
//! [`history`], [`cookies`], [`storage`], [`storage_items`], [`network`] and its [`routes`], [`snapshot`], [`reading`], [`verify`], [`input`], [`mouse`], [`keyboard`], [`drag`], [`forms`], [`files`], [`settle`], [`evaluate`], [`looks`] with [`emulation`],
//! [`screenshot`], [`pdf`], [`highlight`], [`trace`], [`recovery`], [`rehearsal`].

mod state;
mod wire;

mod arrivals;
mod console;
mod context;
mod notices;
mod open;
mod origins;
mod pace;
mod pump;
mod resync;
mod tabs;
mod traffic;
mod world;

mod cookies;
mod downloads;
mod drag;
mod emulation;
mod evaluate;
mod files;
mod forms;
mod highlight;
mod history;
mod input;
mod keyboard;
mod looks;
mod mouse;
mod navigation;
mod network;
mod pdf;
mod reading;
mod recovery;
mod rehearsal;
mod routes;
mod screenshot;
mod settle;
mod snapshot;
mod storage;
mod storage_items;
mod trace;
mod verify;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use browserfleet_cdp::{Command, Session, Watermark};
use tokio::{sync::watch, time::Instant};

pub use console::{ConsoleCounts, ConsoleMessage, Level};
pub use context::Context;
pub use cookies::Cookie;
pub use downloads::{Download, DownloadPlace};
pub use emulation::{Emulation, Geolocation, Throttle};
pub use evaluate::Evaluated;
pub use files::FileData;
pub use input::{Button, Press, modifier};
pub use looks::{Looks, Media};
pub use mouse::Held;
pub use navigation::Navigated;
pub use reading::{Extracted, Facts, PageLink, Readable};
pub use recovery::Freed;
pub use routes::{ROUTES_MAX, Route, Wanted, parse_header};
pub use screenshot::{Area, Picture, QUALITY, Shooting};
pub use snapshot::{Shot, Shown, SnapshotOptions};
pub use state::{Dialog, DocumentInfo};
pub use storage::{Items, ORIGINS_MAX, STORAGE_MAX, Seed, Storages, Stored};
pub use storage_items::{Change, Place};
pub(crate) use tabs::MAX_TABS;
pub use trace::{Trace, Traced};
pub use traffic::{Exchange, Progress};
pub use world::{is_ref, script as in_page_script};

use crate::{
    failure::Failure,
    page::{context::Shared, state::PageState},
};

/// The default viewport, in CSS pixels: the peers' own.
pub const VIEWPORT: (u32, u32) = (1280, 720);

/// A page of a browser. Cheap to clone; all clones are the same page.
#[derive(Clone, Debug)]
pub struct Page {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The flat session of the page's target.
    session: Session,
    target_id: String,
    /// What the events have told so far.
    state: Mutex<PageState>,
    /// Rises with every change of `state`: wait for a state, not for an event.
    changed: watch::Sender<u64>,
    /// How many of the events received the pump has seen.
    seen: Watermark,
    shared: Arc<Shared>,
}

impl Page {
    /// Sends a command to the page, and fails with what an agent can act upon.
    async fn call<C: Command>(&self, command: C, deadline: Instant) -> Result<C::Response, Failure> {
        Ok(self.inner.session.call(command, deadline).await?)
    }

    fn state(&self) -> MutexGuard<'_, PageState> {
        self.inner.state()
    }

    /// Chromium's id of the tab.
    pub fn target_id(&self) -> &str {
        &self.inner.target_id
    }

    /// The dialog that blocks the page, if one does.
    pub fn dialog(&self) -> Option<Dialog> {
        self.state().dialog.clone()
    }

    /// The main frame's document, as far as events have told.
    pub fn document(&self) -> DocumentInfo {
        let state = self.state();
        let document = state.document.clone();
        let gate = self.inner.shared.gate.as_ref().filter(|_| document.unreachable);
        let refused = gate.and_then(|gate| gate.refused(&document.url));
        DocumentInfo { console: state.console.counts(state.commits), refused, ..document }
    }

    /// Whether there is something about where the page is that the agent has not been told, as far as events have told.
    pub fn has_news(&self) -> bool {
        let state = self.state();
        state.told.as_ref() != Some(&state.header())
    }

    /// The title of its document has been read.
    pub fn titled(&self, title: &str) {
        let mut state = self.state();
        state.document.title = state::cut(title.to_owned(), snapshot::MAX_TITLE);
    }

    /// The agent is told now where the page is.
    pub fn header_told(&self) {
        let mut state = self.state();
        state.told = Some(state.header());
    }

    /// What the present document has said on the console, or every document so far, if it is at least so bad.
    pub async fn console(&self, all: bool, level: Level) -> (ConsoleCounts, Vec<ConsoleMessage>) {
        self.synced().await;
        let state = self.state();
        let of = (!all).then_some(state.commits);
        (state.console.counts(state.commits), state.console.messages(of, level))
    }

    pub fn clear_console(&self) {
        self.state().console.clear();
    }

    /// Waits until the pump has seen every event that was received before this call.
    async fn synced(&self) {
        self.inner.seen.reached().await;
    }

    /// Waits until the state satisfies `ready`; `false` when the deadline came first.
    async fn until(&self, deadline: Instant, ready: impl Fn(&PageState) -> bool) -> bool {
        let mut changes = self.inner.changed.subscribe();
        tokio::time::timeout_at(deadline, async {
            while !ready(&self.state()) {
                if changes.changed().await.is_err() {
                    return false;
                }
            }
            true
        })
        .await
        .unwrap_or(false)
    }

    /// Runs page work; ends early with [`Failure::modal`] when a dialog opens, because the page stands still then.
    async fn unless_dialog<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let dialog = async {
            let mut changes = self.inner.changed.subscribe();
            while self.state().dialog.is_none() {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            // A result that is there counts, even if a dialog followed it.
            biased;
            result = work => result,
            () = dialog => Err(Failure::modal()),
        }
    }
}

impl Inner {
    /// Plain data behind a short lock, never held across an await.
    fn state(&self) -> MutexGuard<'_, PageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut PageState)) {
        change(&mut self.state());
        self.changed.send_modify(|generation| *generation += 1);
    }
}
