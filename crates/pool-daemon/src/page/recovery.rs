//! Freeing a page that does not answer, so that one bad page costs its call and not its session.
//!
//! The order matters (measured: a `Page.navigate` sent to a looping page makes `terminateExecution` hang): dialog, script,
//! loading, and only then another document. A page that still does not answer is the caller's to replace.

use browserfleet_cdp::{
    SessionState,
    browser_protocol::{
        page::{HandleJavaScriptDialogParams, NavigateParams, StopLoadingParams},
        target::CloseTargetParams,
    },
    js_protocol::runtime::{EvaluateParams, TerminateExecutionParams},
};
use tokio::time::{Duration, Instant};

use super::{Page, notices::Notice, open::BLANK, state::Crash};
use crate::failure::Failure;

/// Most time for each step, its probe included.
const STEP: Duration = Duration::from_secs(1);

/// How long the browser's word for a crash is waited for: it follows the crash itself at once.
const WORD: Duration = Duration::from_millis(50);

/// Signal 5: how Chromium's renderers end themselves, above all when V8 has no memory left.
const TRAP: i64 = 5;

/// What freed a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed {
    /// A dialog had stopped it.
    Dialog,
    Script,
    Loading,
    /// Its document had to go: a blank one is open.
    Blank,
}

impl Freed {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dialog => "dialog",
            Self::Script => "script",
            Self::Loading => "loading",
            Self::Blank => "blank",
        }
    }
}

impl Page {
    /// Stops what the page is doing, gently first. Answers what has helped; nothing if the page still does not answer.
    pub async fn recover(&self) -> Option<Freed> {
        // Until it is free no dialog may stop it again.
        self.state().dismissing = true;
        let freed = self.climb().await;
        self.state().dismissing = false;
        freed
    }

    async fn climb(&self) -> Option<Freed> {
        let step = || Instant::now() + STEP;
        let deadline = step();
        // Also when we know of none: the event may have been lost. Without one it is refused at once.
        if self.dismiss(deadline).await && self.answers(deadline).await {
            return Some(Freed::Dialog);
        }
        let deadline = step();
        // A page that is already free may refuse; one that is stuck may not answer. The probe tells.
        let _refused = self.call(TerminateExecutionParams::default(), deadline).await;
        if self.answers(deadline).await {
            return Some(Freed::Script);
        }
        let deadline = step();
        let _refused = self.call(StopLoadingParams::default(), deadline).await;
        if self.answers(deadline).await {
            return Some(Freed::Loading);
        }
        let deadline = step();
        let _refused = self.call(NavigateParams::new(BLANK), deadline).await;
        self.answers(deadline).await.then_some(Freed::Blank)
    }

    /// Nobody will answer the page's dialogs any more: the one that stops it is dismissed, and so are those that follow.
    pub async fn dismiss_dialogs(&self, deadline: Instant) {
        self.state().dismissing = true;
        if self.dialog().is_some() {
            self.dismiss(deadline).await;
        }
    }

    /// Answers whether there was a dialog to dismiss.
    async fn dismiss(&self, deadline: Instant) -> bool {
        let dismissed = self.call(HandleJavaScriptDialogParams::new(false), deadline).await.is_ok();
        if dismissed && let Some(dialog) = self.state().dialog.take() {
            self.inner.shared.notices.add(Notice::DialogDismissed(dialog));
        }
        dismissed
    }

    /// Closes the page for good, whatever it is doing: a dialog or a loop does not keep it open.
    pub async fn close(&self) {
        let close = CloseTargetParams::new(self.inner.target_id.clone());
        // It may have gone already.
        let _already_closed = self.inner.session.connection().browser().call(close, Instant::now() + STEP).await;
    }

    /// How often the page has crashed.
    pub fn crashes(&self) -> u64 {
        self.inner.session.crashes()
    }

    /// Waits until the page has crashed more than `before` times, and says how.
    pub async fn crashed_since(&self, before: u64) -> Failure {
        let mut changes = self.inner.changed.subscribe();
        while self.crashes() <= before {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        self.crash_failure().await
    }

    /// Whether the page's renderer is dead. A navigation revives it.
    pub fn is_crashed(&self) -> bool {
        self.inner.session.state() == SessionState::Crashed
    }

    /// What a call fails with because of the page's last crash.
    pub async fn crash_failure(&self) -> Failure {
        self.until(Instant::now() + WORD, |state| state.crash.is_some()).await;
        let crash = self.state().crash.clone();
        Failure::page_crashed(crash.is_some_and(|Crash { status, code }| status == "oom" || code == TRAP))
    }

    /// Whether the page was closed, by itself or with its opener: nothing can be done with it any more.
    pub fn is_gone(&self) -> bool {
        self.inner.session.state() == SessionState::Gone
    }

    /// Whether its browser has ended.
    pub fn is_ended(&self) -> bool {
        self.inner.session.connection().is_closed()
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

#[cfg(test)]
mod tests {
    use browserfleet_cdp::fake::Peer;
    use browserfleet_common::lifecycle::Tasks;
    use serde_json::json;

    use super::*;

    const LADDER: [(&str, Freed); 4] = [
        ("Page.handleJavaScriptDialog", Freed::Dialog),
        ("Runtime.terminateExecution", Freed::Script),
        ("Page.stopLoading", Freed::Loading),
        ("Page.navigate", Freed::Blank),
    ];

    /// What a page that only `remedy` frees is asked to do, and when; and what is said to have freed it.
    async fn climbed(remedy: Option<&'static str>) -> (Option<Freed>, Vec<(String, Duration)>) {
        let tasks = Tasks::new();
        let (mut browser, connection) = Peer::connect(&tasks).unwrap();
        let page = Page::detached(&connection);
        let began = Instant::now();
        let stuck = async {
            let (mut steps, mut freed) = (Vec::new(), false);
            while let Some(request) = browser.request().await.unwrap() {
                if request.method != "Runtime.evaluate" {
                    steps.push((request.method.clone(), began.elapsed()));
                    freed |= remedy == Some(request.method.as_str());
                }
                if freed {
                    browser
                        .reply(&request, json!({ "result": { "type": "number", "value": 2 }, "frameId": "f" }))
                        .await
                        .unwrap();
                } else if request.method == "Page.handleJavaScriptDialog" {
                    browser.refuse(&request, -32602, "No dialog is showing").await.unwrap();
                }
            }
            steps
        };
        let recovered = async {
            let freed = page.recover().await;
            assert!(!page.state().dismissing, "its dialogs are its agent's again");
            drop((page, connection));
            tasks.join(STEP).await;
            freed
        };
        tokio::join!(recovered, stuck)
    }

    #[tokio::test(start_paused = true)]
    async fn each_step_is_tried_in_its_order_and_given_a_second_until_one_helps() {
        for (helps, (remedy, name)) in LADDER.into_iter().enumerate() {
            let (freed, steps) = climbed(Some(remedy)).await;
            assert_eq!(freed, Some(name));
            let asked: Vec<_> = steps.iter().map(|(method, _)| method.as_str()).collect();
            assert_eq!(asked, LADDER[..=helps].iter().map(|(method, _)| *method).collect::<Vec<_>>());
        }
        let (freed, steps) = climbed(None).await;
        assert_eq!((freed, steps.len()), (None, LADDER.len()));
        for (step, (method, at)) in steps.iter().enumerate() {
            // That there is no dialog is said at once.
            let due = Duration::from_secs(step.saturating_sub(1) as u64);
            assert!((due..due + Duration::from_millis(100)).contains(at), "{method} at {at:?}");
        }
    }
}
