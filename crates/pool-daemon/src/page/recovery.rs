//! Freeing a page that does not answer, so that one bad page costs its call and not its session.
//!
//! The order matters (measured: a `Page.navigate` sent to a looping page makes `terminateExecution` hang): dialog, script,
//! loading. A page that still does not answer is the caller's to replace.

use browserfleet_cdp::{
    SessionState,
    browser_protocol::{page::HandleJavaScriptDialogParams, target::CloseTargetParams},
    js_protocol::runtime::{EvaluateParams, TerminateExecutionParams},
};
use tokio::time::{Duration, Instant};

use super::Page;
use crate::failure::Failure;

/// Most time for each step.
const STEP: Duration = Duration::from_secs(1);

impl Page {
    /// Stops what the page is doing. Answers whether it is well afterwards.
    pub async fn recover(&self) -> bool {
        if self.dialog().is_none() {
            // A page that is already free refuses; one that is stuck may not answer. The probe below tells.
            let _refused = self.call(TerminateExecutionParams::default(), Instant::now() + STEP).await;
            self.stop_loading().await;
        }
        self.dialog().is_some() || self.answers(Instant::now() + STEP).await
    }

    /// Closes the page for good, whatever it is doing: a dialog or a loop does not keep it open.
    pub async fn close(&self, deadline: Instant) {
        let close = CloseTargetParams::new(self.inner.target_id.clone());
        // It may have gone already.
        let _already_closed = self.inner.session.connection().browser().call(close, deadline).await;
    }

    /// Whether the page was closed, by itself or with its opener: nothing can be done with it any more.
    pub fn is_gone(&self) -> bool {
        self.inner.session.state() == SessionState::Gone
    }

    /// Takes the place of another page: the same viewport, and refs that cannot be mistaken for that one's.
    pub async fn replace(&self, other: &Self, deadline: Instant) -> Result<(), Failure> {
        let viewport = {
            let replaced = other.state();
            self.state().number_after(&replaced);
            replaced.viewport
        };
        self.resize(viewport.0, viewport.1, deadline).await
    }

    /// Whether the page computes 1 + 1.
    pub async fn answers(&self, deadline: Instant) -> bool {
        let mut probe = EvaluateParams::new("1 + 1");
        probe.return_by_value = Some(true);
        self.call(probe, deadline).await.is_ok_and(|answer| answer.result.value == Some(2.into()))
    }

    /// Answers the dialog that blocks the page.
    pub async fn answer_dialog(&self, accept: bool, text: Option<&str>, deadline: Instant) -> Result<(), Failure> {
        let mut command = HandleJavaScriptDialogParams::new(accept);
        command.prompt_text = text.map(str::to_owned);
        let answered = self.state().dialogs;
        self.call(command, deadline).await?;
        // The next one may open at once.
        self.until(deadline, |state| state.dialog.is_none() || state.dialogs > answered).await;
        Ok(())
    }
}
