//! Settling: waiting for what an action has set in motion, by events and not by a clock.
//!
//! After an input event the page gets one turn of its event loop. A navigation that the action started is followed to
//! its end; requests by script that it started are waited for, within a bound. On a quiet page this is one round trip.

use serde_json::json;
use tokio::time::{Duration, Instant};

use super::Page;
use crate::failure::Failure;

/// Most time that a page may take over what it needs no time for: a busy page settles when it is asked the next thing.
const BUSY: Duration = Duration::from_secs(1);

/// Most time for one turn of the page's event loop.
const TURN: Duration = Duration::from_millis(16);

/// Most time for a frame. They come every 16 ms, if the machine is not busy and the page not in the background.
const FRAME: Duration = Duration::from_millis(500);

/// Most time for requests that the action started.
const REQUESTS: Duration = Duration::from_secs(3);

/// Most time for a navigation that the action started.
const NAVIGATION: Duration = Duration::from_secs(10);

/// Where a page was before an action.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    navigations_asked: u64,
    commits: u64,
    stops: u64,
    requests_started: u64,
}

impl Page {
    /// Remembers where the page is, before an action.
    pub async fn mark(&self) -> Mark {
        self.synced().await;
        self.mark_seen()
    }

    /// Remembers where the page is, as far as events have told: they may lag behind.
    pub fn mark_seen(&self) -> Mark {
        let state = self.state();
        Mark {
            navigations_asked: state.navigations_asked,
            commits: state.commits,
            stops: state.stops,
            requests_started: state.requests.started,
        }
    }

    /// Waits for what has been set in motion since the mark. A dialog ends the wait: the page stands still.
    pub async fn settle(&self, mark: Mark, deadline: Instant) -> Result<(), Failure> {
        self.unless_dialog(async {
            self.turn(deadline).await;
            if self.follow_navigation(mark, deadline).await {
                return Ok(());
            }
            if self.state().requests.started > mark.requests_started {
                let limit = deadline.min(Instant::now() + REQUESTS);
                self.until(limit, |state| !state.requests.running_since(mark.requests_started)).await;
                self.turn(deadline).await;
                self.follow_navigation(mark, deadline).await;
            }
            Ok(())
        })
        .await
    }

    /// Waits for a navigation that has been asked for since the mark. Costs the page nothing when there is none.
    pub async fn settle_elsewhere(&self, mark: Mark, deadline: Instant) -> Result<(), Failure> {
        self.unless_dialog(async {
            self.synced().await;
            self.follow_navigation(mark, deadline).await;
            Ok(())
        })
        .await
    }

    /// Waits until the page has been told how it is shown now, and settles: it learns so with a frame, not at once.
    pub async fn settle_shown(&self, mark: Mark, deadline: Instant) -> Result<(), Failure> {
        self.unless_dialog(async {
            self.let_page("nextFrame", FRAME, deadline).await;
            Ok(())
        })
        .await?;
        self.settle(mark, deadline).await
    }

    /// One turn of the page's event loop, and every event it caused.
    async fn turn(&self, deadline: Instant) {
        self.let_page("settle", TURN, deadline).await;
        self.synced().await;
    }

    /// Calls a function of ours that resolves when the page has done something, or after so long.
    async fn let_page(&self, function: &str, most: Duration, deadline: Instant) {
        let deadline = deadline.min(Instant::now() + most + BUSY);
        let Some(world) = self.state().main_world() else { return };
        let expression = super::world::call(function, &[json!({ "maxMs": most.as_millis() })]);
        // A document that goes away in the middle has had its turn.
        let _document_gone = world.value::<serde_json::Value>(expression, deadline).await;
    }

    /// Follows a navigation started since the mark, if there is one, until its document has been read.
    async fn follow_navigation(&self, mark: Mark, deadline: Instant) -> bool {
        let deadline = deadline.min(Instant::now() + NAVIGATION);
        let started = {
            let state = self.state();
            state.navigations_asked > mark.navigations_asked || state.commits > mark.commits
        };
        if started {
            // A download, or an answer without content, ends without a document.
            self.until(deadline, |state| {
                let arrived = state.commits > mark.commits && state.document.content_loaded;
                arrived || (state.commits == mark.commits && state.stops > mark.stops)
            })
            .await;
            // What is missing of the page shows in its snapshot.
            let _load_unfinished = self.loaded(deadline).await;
        }
        started
    }
}
