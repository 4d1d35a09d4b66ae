//! The seam between the pool and what it owns: a started browser, and who starts one.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use browserfleet_cdp::Connection;
use browserfleet_common::lifecycle::Tasks;

use crate::page::Page;

/// Starts browsers. Real ones in production, fake ones in tests of the pool.
#[async_trait]
pub trait Launcher: Send + Sync + 'static {
    /// Starts a browser for a slot and makes a page ready in it. Bounded in time by the launcher. When it fails, or when
    /// the future is dropped, nothing of the attempt is left running.
    async fn launch(&self, slot: usize) -> Result<Arc<Browser>, LaunchError>;
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
    /// Waits until the browser has died by itself; answers how, for people.
    async fn died(&self) -> String;
    /// Ends everything: TERM, grace, KILL, verified. Idempotent. Answers how many processes are left: 0.
    async fn end(&self) -> usize;
}

/// One started browser with a ready page. Ended, not reused, after its lease.
#[derive(Debug)]
pub struct Browser {
    /// The page that was made ready with it.
    pub page: Page,
    /// For further pages.
    pub connection: Connection,
    pub tasks: Tasks,
    pub tree: Arc<dyn ProcessTree>,
}
