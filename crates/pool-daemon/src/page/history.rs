//! Back, forward, and once more.

use browserfleet_cdp::browser_protocol::page::{
    GetNavigationHistoryParams, NavigateToHistoryEntryParams, ReloadParams,
};
use browserfleet_common::error_code::ErrorCode;
use tokio::time::Instant;

use super::{Page, state::PageState};
use crate::{egress::Refusal, failure::Failure};

impl Page {
    /// Goes so many entries forward in the history, back if negative. `false` when there are not so many.
    pub async fn travel(&self, by: i64, deadline: Instant) -> Result<bool, Failure> {
        let history = self.call(GetNavigationHistoryParams::default(), deadline).await?;
        let Ok(wanted) = usize::try_from(history.current_index + by) else { return Ok(false) };
        let Some(entry) = history.entries.get(wanted) else { return Ok(false) };
        self.leave(NavigateToHistoryEntryParams::new(entry.id), &entry.url, deadline).await?;
        Ok(true)
    }

    /// Loads the page again.
    pub async fn reload(&self, deadline: Instant) -> Result<(), Failure> {
        let url = self.document().url;
        self.leave(ReloadParams::default(), &url, deadline).await
    }

    /// Sends a command that leads elsewhere, and waits until that has been reached: another document, or another place of
    /// this one.
    async fn leave<C: browserfleet_cdp::Command>(
        &self,
        command: C,
        url: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        self.synced().await;
        let (commits, moves, stops) = {
            let state = self.state();
            (state.commits, state.moves, state.stops)
        };
        self.unless_dialog(self.call(command, deadline)).await?;
        let there = |state: &PageState| {
            let read = state.commits > commits && state.document.content_loaded;
            // An answer without content ends the load and changes nothing.
            read || state.moves > moves || (state.commits == commits && state.stops > stops)
        };
        let arrived = self.unless_dialog(async { Ok(self.until(deadline, there).await) }).await?;
        if !arrived {
            self.stop_loading().await;
            let message = format!("the page did not finish loading in time: {url}");
            return Err(Failure::new(ErrorCode::NavigationTimeout, message));
        }
        self.loaded(deadline).await?;
        match self.document().refused {
            Some(refusal @ (Refusal::Blocked(_) | Refusal::Upstream(_) | Refusal::Gone)) => {
                Err(refusal.into_failure(url))
            }
            _ => Ok(()),
        }
    }
}
