//! Going somewhere, and knowing when one has arrived.

use browserfleet_cdp::browser_protocol::page::{BringToFrontParams, NavigateParams, StopLoadingParams};
use browserfleet_common::error_code::ErrorCode;
use tokio::time::{Duration, Instant};

use super::{Page, state::PageState};
use crate::failure::Failure;

/// After the document has been read, its pictures and frames get this long to load as well.
const LOAD_GRACE: Duration = Duration::from_secs(5);

/// Most time for a page to show that it is not on its way.
const PROBE: Duration = Duration::from_millis(500);

/// Most time for an answer to `stopLoading`.
const STOP: Duration = Duration::from_secs(1);

/// What a navigation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Navigated {
    /// A document was loaded, or the place within the document changed.
    Arrived,
    /// The URL was a download; the page stays where it is.
    Download,
}

impl Page {
    /// Goes to a URL and waits until its document has been read, and a little for the rest of it.
    pub async fn navigate(&self, url: &str, deadline: Instant) -> Result<Navigated, Failure> {
        self.forget_exchanges();
        let commits = self.state().commits;
        let command = NavigateParams::new(url);
        let answer = match self.unless_dialog(self.call(command, deadline)).await {
            Ok(answer) => answer,
            Err(failure) if failure.code == ErrorCode::PageHung && !failure.modal => {
                self.stop_loading().await;
                let message = format!("the server did not answer in time: {url}");
                return Err(Failure::new(ErrorCode::NavigationTimeout, message));
            }
            Err(failure) => return Err(failure),
        };
        if answer.is_download == Some(true) {
            return Ok(Navigated::Download);
        }
        if let Some(error) = answer.error_text.filter(|text| !text.is_empty()) {
            return Err(self.not_loaded(&error, url).await);
        }
        // Without a loader the place within the document has changed, and that is all.
        if answer.loader_id.is_some() {
            self.arrive(commits, url, deadline).await?;
        }
        Ok(Navigated::Arrived)
    }

    /// Why a document could not be loaded: a redirect may have led to another URL than `url`, and the egress gate may know
    /// more than Chromium.
    async fn not_loaded(&self, error: &str, url: &str) -> Failure {
        let Some(gate) = &self.inner.shared.gate else {
            return Failure::new(ErrorCode::NavigationFailed, format!("{error} at {url}"));
        };
        let exchanges = self.exchanges().await;
        let last = exchanges.iter().rev().find(|exchange| exchange.kind == "document");
        gate.failure(error, last.map_or(url, |exchange| exchange.url.as_str()))
    }

    /// Waits until a document newer than `commits` has been read. A page that sends itself elsewhere at once is followed:
    /// what counts is that something has arrived.
    async fn arrive(&self, commits: u64, url: &str, deadline: Instant) -> Result<(), Failure> {
        let read = async {
            let read = |state: &PageState| state.commits > commits && state.document.content_loaded;
            if self.until(deadline, read).await {
                return Ok(());
            }
            self.stop_loading().await;
            let message = format!("the page did not finish loading in time: {url}");
            Err(Failure::new(ErrorCode::NavigationTimeout, message))
        };
        self.unless_dialog(read).await?;
        self.loaded(deadline).await
    }

    /// Waits until the page is not on its way to another document; `false` if it still is at the deadline. Meanwhile the
    /// old document answers nothing.
    pub async fn arrived(&self, deadline: Instant) -> bool {
        self.synced().await;
        if self.until(deadline, |state| !state.navigating || state.dialog.is_some()).await {
            return true;
        }
        // Some navigations end without a word, such as a link for another program: then the page does answer.
        let stayed = self.answers(Instant::now() + PROBE).await;
        self.state().navigating &= !stayed;
        stayed
    }

    /// Gives the rest of a document a little time.
    pub(super) async fn loaded(&self, deadline: Instant) -> Result<(), Failure> {
        let deadline = deadline.min(Instant::now() + LOAD_GRACE);
        self.unless_dialog(async {
            // A frame that reloads itself keeps the page from ever being loaded.
            self.until(deadline, |state| state.document.loaded || state.is_restless()).await;
            Ok(())
        })
        .await
    }

    /// Makes the page's tab the one in front.
    pub async fn to_front(&self, deadline: Instant) -> Result<(), Failure> {
        self.call(BringToFrontParams::default(), deadline).await.map(drop)
    }

    /// Frees a page that waits for a server.
    pub(super) async fn stop_loading(&self) {
        if let Err(failure) = self.call(StopLoadingParams::default(), Instant::now() + STOP).await {
            tracing::debug!(%failure, "loading could not be stopped");
        }
    }
}
