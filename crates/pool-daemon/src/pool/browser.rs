//! The seam between the pool and what it owns: a started browser, and who starts one.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use browserfleet_cdp::Connection;
use browserfleet_common::{error_code::ErrorCode, lifecycle::Tasks};

use tokio::sync::SetOnce;

use crate::{
    egress::Gate,
    page::{Context, DownloadPlace, Page},
};

/// Starts browsers. Real ones in production, fake ones in tests of the pool.
#[async_trait]
pub trait Launcher: Send + Sync + 'static {
    /// Starts a browser for a slot and makes a page ready in it. Bounded in time by the launcher. When it fails, or when
    /// the future is dropped, nothing of the attempt is left running.
    async fn launch(&self, slot: usize) -> Result<Arc<Browser>, LaunchError>;

    /// Shows in metrics which processes there are, also when there is no browser. Does not block.
    fn measure(&self);
}

/// Why a browser did not start; the text is for operators and, shortened, for agents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LaunchError(pub String);

/// The process tree behind a browser.
#[async_trait]
pub trait ProcessTree: Send + Sync + fmt::Debug + 'static {
    /// The main process.
    fn pid(&self) -> u32;
    /// Waits until the browser has died by itself, or must be ended because it is not sound any more: it answers no
    /// probe, or takes too much memory.
    async fn died(&self) -> Death;
    /// The memory of all its processes when it was last measured, in bytes; 0 before that.
    fn memory(&self) -> u64;
    /// Another way out, for a further context of a shared browser. Fake browsers have none.
    async fn gate(&self) -> Result<Option<Gate>, String>;
    /// Where its pages' downloads go. None: they are denied.
    fn downloads(&self) -> Option<DownloadPlace>;
    /// Ends everything: TERM, grace, KILL, verified. Idempotent. Answers how many processes are left: 0.
    async fn end(&self) -> usize;
}

/// Why a browser cannot be used any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// What a call in this browser fails with.
    pub code: ErrorCode,
    /// How it came, for people: a clause with the browser as its subject, such as "it ended with signal 9".
    pub reason: String,
}

impl Death {
    /// The end of a lease whose browser is as sound as ever.
    pub(super) fn of_lease(reason: &str) -> Self {
        Self { code: ErrorCode::LeaseLost, reason: reason.to_owned() }
    }
}

/// Where one lease works: a browser context and the page that is ready in it.
#[derive(Clone, Debug)]
pub struct Ready {
    pub context: Context,
    pub page: Page,
}

/// One started browser.
#[derive(Debug)]
pub struct Browser {
    pub connection: Connection,
    pub tasks: Tasks,
    pub tree: Arc<dyn ProcessTree>,
    /// Made ready with the browser, for its first lease.
    ready: Mutex<Option<Ready>>,
    condemned: SetOnce<Death>,
}

impl Browser {
    pub fn new(connection: Connection, tasks: Tasks, tree: Arc<dyn ProcessTree>, ready: Ready) -> Self {
        Self { connection, tasks, tree, ready: Mutex::new(Some(ready)), condemned: SetOnce::new() }
    }

    /// The place that was made ready with the browser. Only the first who asks gets it.
    pub fn take_ready(&self) -> Option<Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Says that the browser is not sound any more: its lease ends and its processes are killed.
    pub fn condemn(&self, death: Death) {
        // The first reason is the cause.
        let _condemned_already = self.condemned.set(death);
    }

    /// Waits until the browser has died, or must not be used any more.
    pub async fn died(&self) -> Death {
        tokio::select! {
            death = self.tree.died() => death,
            death = self.condemned.wait() => death.clone(),
        }
    }
}
