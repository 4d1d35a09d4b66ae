//! One call of a tool from its turn to its reply: dialogs, deadlines, cancellation, and freeing the page afterwards.

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::SessionUse;
use serde_json::Value;
use tokio::time::{Duration, Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Call, Registry, Reply};
use crate::{failure::Failure, page::Page, pool::Leased, workspace::Workspace};

/// Time a page gets to be freed or replaced after a call that did not end by itself.
const RECOVERY: Duration = Duration::from_secs(5);

/// The one tool that works while a dialog is open.
const DIALOG_TOOL: &str = "browser_handle_dialog";

/// What a call came to: its sections, and why it failed if it did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub reply: Reply,
    pub failure: Option<Failure>,
}

/// Runs a tool that the registry has. Always ends: by its deadline, and a little later when the page has to be freed.
pub async fn run(
    registry: &Registry,
    leased: &Leased,
    tool: &str,
    arguments: Value,
    mut call: Call,
    cancel: &CancellationToken,
) -> Outcome {
    if let Err(failure) = ensure_page(leased, tool, &mut call).await {
        return Outcome { failure: Some(failure), ..Outcome::default() };
    }
    let page = call.page.clone();
    if tool != DIALOG_TOOL
        && let Some(dialog) = page.dialog()
    {
        let message = format!("Tool \"{tool}\" does not handle the modal state.");
        let failure = Failure::new(ErrorCode::PageHung, message);
        return Outcome { reply: Reply::new().modal(&dialog), failure: Some(failure) };
    }
    let Some(handler) = registry.find(tool) else {
        let failure = Failure::new(ErrorCode::Unsupported, format!("this server has no tool {tool}"));
        return Outcome { failure: Some(failure), ..Outcome::default() };
    };
    let deadline = call.deadline;
    let result = tokio::select! {
        // A finished call counts, whatever happened at the same moment; then the lease's end explains the others.
        biased;
        result = timeout_at(deadline, handler(call, arguments)) => result.unwrap_or_else(|_elapsed| {
            Err(Failure::new(ErrorCode::CallTimeout, "the call did not end within its time; the page was stopped"))
        }),
        () = leased.ended().cancelled() => Err(ended(leased)),
        () = cancel.cancelled() => Err(Failure::new(ErrorCode::Cancelled, "the call was cancelled")),
    };
    conclude(result, &page, leased).await
}

/// Gives the call a page that is there. Never a silent blank one: whoever expects the old page is told.
async fn ensure_page(leased: &Leased, tool: &str, call: &mut Call) -> Result<(), Failure> {
    let mut untold = leased.workspace.take_untold_replacement();
    if call.page.is_gone() {
        leased.workspace.replace_page(Instant::now() + RECOVERY).await?;
        call.page = leased.workspace.page();
        untold = true;
    }
    if untold && !opens_pages(tool) {
        let message = "the page was closed; a blank one is open. Use browser_navigate to go on";
        return Err(Failure::new(ErrorCode::BrowserPageCrashed, message));
    }
    Ok(())
}

/// Tools that load a page need not hear that the one before is gone.
fn opens_pages(tool: &str) -> bool {
    browserfleet_tools::find(tool).is_some_and(|tool| tool.session == SessionUse::Creates)
}

async fn conclude(result: Result<Reply, Failure>, page: &Page, leased: &Leased) -> Outcome {
    let mut failure = match result {
        Ok(reply) => return Outcome { reply, failure: None },
        Err(failure) => failure,
    };
    if failure.modal {
        // The action was carried out and a dialog was its consequence: that is an answer, not a failure.
        return match page.dialog() {
            Some(dialog) => Outcome { reply: Reply::new().modal(&dialog), failure: None },
            None => Outcome { failure: Some(failure), ..Outcome::default() },
        };
    }
    if failure.code == ErrorCode::BrowserGone && leased.ended().is_cancelled() {
        failure = ended(leased);
    }
    if matches!(failure.code, ErrorCode::PageHung | ErrorCode::CallTimeout | ErrorCode::Cancelled) {
        free(page, &leased.workspace, &mut failure).await;
    }
    Outcome { failure: Some(failure), ..Outcome::default() }
}

/// Leaves the session with a page that answers.
async fn free(page: &Page, workspace: &Workspace, failure: &mut Failure) {
    if page.recover().await {
        return;
    }
    match workspace.replace_page(Instant::now() + RECOVERY).await {
        // Whoever cancelled does not listen any more: the next call hears of it.
        Ok(()) if failure.code == ErrorCode::Cancelled => workspace.replaced_untold(),
        Ok(()) => failure.message.push_str(". The page could not be freed: it was closed, and a blank one is open"),
        Err(error) => tracing::warn!(%error, "a page that hangs could not be replaced"),
    }
}

/// A lease that ended under a call: the browser died, the session was closed, or its time was over.
fn ended(leased: &Leased) -> Failure {
    let text = leased.lost().map_or_else(String::new, |refusal| refusal.message);
    Failure::new(
        ErrorCode::BrowserGone,
        format!("{text}. Its pages, cookies and storage are lost; use browser_navigate to go on with a new browser"),
    )
}
