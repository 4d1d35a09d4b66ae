//! What a lease's calls work in: the current page, and the order of the calls.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use browserfleet_common::error_code::ErrorCode;
use tokio::{
    sync,
    time::{Duration, Instant},
};

use crate::{
    failure::Failure,
    page::{Context, Page},
    pool::{Refusal, browser::Ready},
};

/// Most calls of one lease that wait for their turn.
const MAX_WAITING: usize = 16;

/// Most time for a blank page to open in place of one that is given up. More than it ever needs: a browser that does not
/// manage this much is ended.
const OPENING: Duration = Duration::from_secs(3);

/// The page of a lease and the turns its calls take.
#[derive(Debug)]
pub struct Workspace {
    context: Context,
    /// Replaced when a page cannot be freed any more. Held only to read or swap the handle.
    page: Mutex<Page>,
    /// Fair: calls run one at a time, in the order in which they came.
    turn: sync::Mutex<()>,
    waiting: AtomicUsize,
    /// The page was replaced, and nobody has been told yet.
    untold: AtomicBool,
}

/// A call's place in the line; leaving the line is dropping it.
#[derive(Debug)]
pub struct Waiting<'a> {
    workspace: &'a Workspace,
    /// Calls before this one.
    pub ahead: usize,
}

impl Workspace {
    pub fn new(ready: Ready) -> Self {
        Self {
            context: ready.context,
            page: Mutex::new(ready.page),
            turn: sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
            untold: AtomicBool::new(false),
        }
    }

    /// Takes a place in the line.
    pub fn wait(&self) -> Result<Waiting<'_>, Refusal> {
        let ahead = self.waiting.fetch_add(1, Ordering::AcqRel);
        let waiting = Waiting { workspace: self, ahead };
        if ahead >= MAX_WAITING {
            let message = format!("{ahead} calls of this session are running or waiting; wait for their answers first");
            return Err(Refusal::new(ErrorCode::QuotaExceeded, message));
        }
        Ok(waiting)
    }

    /// What all pages of the lease share.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The current page.
    pub fn page(&self) -> Page {
        self.page.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers to tell the next call that its page is gone.
    pub fn replaced_untold(&self) {
        self.untold.store(true, Ordering::Release);
    }

    /// Whether a replacement has to be told; only the first who asks hears of it.
    pub fn take_untold_replacement(&self) -> bool {
        self.untold.swap(false, Ordering::AcqRel)
    }

    /// What happened in the session's pages unasked and has not been told; only the first who asks hears of it.
    pub fn take_notices(&self) -> Vec<String> {
        self.context.take_notices()
    }

    /// Gives up the current page and opens a blank one in its place.
    pub async fn replace_page(&self) -> Result<(), Failure> {
        let old = self.page();
        old.close().await;
        let deadline = Instant::now() + OPENING;
        let new = self.context.open_page(deadline).await?;
        new.replace(&old, deadline).await?;
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

impl Waiting<'_> {
    /// Waits for the turn. The place in the line is kept until the turn is over.
    pub async fn turn(&self) -> sync::MutexGuard<'_, ()> {
        self.workspace.turn.lock().await
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.workspace.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
