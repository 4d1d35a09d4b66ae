//! One call of a tool from its turn to its reply: dialogs, deadlines, cancellation, and freeing the page afterwards.

use std::sync::Arc;

use browserfleet_common::{error_code::ErrorCode, metrics::metrics};
use browserfleet_tools::{Arguments as _, Batch, SessionUse};
use serde_json::Value;
use tokio::time::{Duration, Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Call, Registry, Reply, batch, files, recording::Recorded, untrusted};
use crate::{
    failure::Failure,
    page::{Download, Freed, Held, Page},
    pool::{Leased, browser::Death},
    workspace::Workspace,
};

/// How long the end of a lease is waited for when its browser was given up.
const END: Duration = Duration::from_secs(1);

/// The tool that is about all tabs: it does not mind what became of the current one.
const TABS_TOOL: &str = "browser_tabs";

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
    call: Call,
    cancel: &CancellationToken,
) -> Outcome {
    let deadline = call.deadline;
    let mut outcome = match tool {
        Batch::TOOL => batch::run(registry, leased, arguments, call, cancel).await,
        tool => work(registry, leased, tool, arguments, call, cancel).await,
    };
    // Whoever cancelled does not listen any more: the next call hears of it.
    if outcome.failure.as_ref().is_none_or(|failure| failure.code != ErrorCode::Cancelled) {
        outcome.reply = with_place(outcome.reply, leased).await;
        outcome.reply = with_downloads(outcome.reply, leased, deadline).await;
    }
    outcome
}

/// Adds what pages have given away, and what happened unasked.
async fn with_downloads(mut reply: Reply, leased: &Leased, deadline: Instant) -> Reply {
    let (files, told) = leased.workspace.context().take_downloads(deadline).await;
    for Download { name, bytes } in files {
        reply = reply.download(&name, files::type_of(&name), bytes);
    }
    let mut happened = leased.workspace.take_notices();
    happened.extend(told);
    reply.events(&happened)
}

/// Says where the session is: with the page that a reply shows, and otherwise when it is not where the agent was told.
async fn with_place(reply: Reply, leased: &Leased) -> Reply {
    let workspace = &leased.workspace;
    let shows_page = reply.shows_page();
    if shows_page {
        workspace.context().arrivals_settled().await;
    }
    let tabs = workspace.open_tabs();
    if !shows_page && !tabs.iter().any(|tab| tab.page.has_news()) {
        return reply;
    }
    let reply = if shows_page && tabs.len() == 1 { reply } else { with_tabs(reply, workspace).await };
    for tab in &tabs {
        tab.page.header_told();
    }
    if reply.shows_page() && workspace.page().asks_for_files() { reply.file_chooser() } else { reply }
}

/// Adds what the current tab shows, if that is not said, and the list of tabs where there are several.
async fn with_tabs(mut reply: Reply, workspace: &Workspace) -> Reply {
    let tabs = match workspace.describe_tabs().await {
        Ok(tabs) => tabs,
        // The reply is worth more than the list.
        Err(failure) => {
            tracing::debug!(%failure, "the tabs could not be listed");
            return reply;
        }
    };
    if !reply.shows_page()
        && let Some(current) = tabs.iter().find(|tab| tab.current)
    {
        let page = workspace.page();
        page.titled(&current.title);
        let document = page.document();
        reply = reply.header(&document, &document.url, &document.title);
    }
    if tabs.len() > 1 { reply.open_tabs(&tabs) } else { reply }
}

/// Runs one tool on the current page, and frees that if it has to be.
pub(super) async fn work(
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
        && tool != TABS_TOOL
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
    let (crashes, held) = (page.crashes(), page.held());
    if page.is_crashed() && !opens_pages(tool) {
        return Outcome { failure: Some(page.crash_failure().await), ..Outcome::default() };
    }
    let work = async {
        // A tab that was in the background may have missed a change. One that does not answer says so to the tool.
        let _hung = page.take_on_looks(call.within(call.times.action)).await;
        let _hung = page.take_on_network(call.within(call.times.action)).await;
        let (recorded, workspace) = (Recorded::of(&call, tool, &arguments).await, Arc::clone(&call.workspace));
        let mark = page.mark_seen();
        let result = handler(call, arguments).await;
        let done = result.as_ref().map_or_else(|failure| failure.modal, |_| true);
        if let Some(recorded) = recorded.filter(|_| done) {
            recorded.done(workspace.recorders(), result.as_ref().ok());
        }
        let reply = result?;
        if !reply.shows_page() {
            // What it did may lead elsewhere. A dialog on the way is the next call's business.
            let _dialog = page.settle_elsewhere(mark, deadline).await;
        }
        Ok(reply)
    };
    let result = tokio::select! {
        // A finished call counts, whatever happened at the same moment; then the lease's end explains the others.
        biased;
        result = timeout_at(deadline, work) => result.unwrap_or_else(|_elapsed| {
            Err(Failure::new(ErrorCode::CallTimeout, "the call did not end within its time; the page was stopped"))
        }),
        () = leased.ended().cancelled() => Err(ended(leased)),
        failure = page.crashed_since(crashes) => Err(failure),
        () = cancel.cancelled() => Err(Failure::new(ErrorCode::Cancelled, "the call was cancelled")),
    };
    conclude(result, &page, leased, &held).await
}

/// Gives the call a page that is there. Never a silent blank one: whoever expects the old page is told.
async fn ensure_page(leased: &Leased, tool: &str, call: &mut Call) -> Result<(), Failure> {
    let mut untold = leased.workspace.take_untold_replacement();
    if call.page.is_gone()
        && let Some(number) = leased.workspace.leave_closed_tab()
    {
        call.page = leased.workspace.page();
        if !opens_pages(tool) && tool != TABS_TOOL {
            let message = format!(
                "the tab was closed by its page; tab {number} is the current one now. Look at it with browser_snapshot"
            );
            return Err(Failure::new(ErrorCode::BrowserPageCrashed, message));
        }
    } else if call.page.is_gone() {
        replace(leased).await?;
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

/// What the call has come to, with its page freed if it has to be: nothing stays pressed but what was `held` before it.
async fn conclude(result: Result<Reply, Failure>, page: &Page, leased: &Leased, held: &Held) -> Outcome {
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
    // What a script threw is its page's to say.
    failure.message = untrusted::lines(&failure.message).into_owned();
    match failure.code {
        // The end of its pipe may come before the pool has heard of it, which knows the reason.
        ErrorCode::BrowserGone if timeout(END, leased.ended().cancelled()).await.is_ok() => failure = ended(leased),
        ErrorCode::BrowserPageCrashed if page.is_crashed() => failure = page.crash_failure().await,
        ErrorCode::BrowserPageCrashed if !page.is_gone() => failure = Failure::frame_crashed(),
        ErrorCode::PageHung | ErrorCode::CallTimeout | ErrorCode::Cancelled => {
            free(page, leased, held, &mut failure).await;
        }
        _ => {}
    }
    Outcome { failure: Some(failure), ..Outcome::default() }
}

/// Leaves the session with a page that answers, or ends it.
async fn free(page: &Page, leased: &Leased, held: &Held, failure: &mut Failure) {
    let freed = page.recover().await;
    if let Some(freed) = freed {
        metrics().recoveries.add(freed.name());
        page.let_go_but(held).await;
        if freed != Freed::Blank {
            return;
        }
    } else if let Err(lost) = replace(leased).await {
        *failure = lost;
        return;
    }
    // Whoever cancelled does not listen any more: the next call hears of it.
    if failure.code == ErrorCode::Cancelled {
        leased.workspace.replaced_untold();
    } else {
        failure.message.push_str(". The page could not be freed: it was closed, and a blank one is open");
    }
}

/// Puts a blank page in the place of one that is gone or cannot be freed. A browser that opens none is given up.
async fn replace(leased: &Leased) -> Result<(), Failure> {
    let Err(error) = leased.workspace.replace_page().await else {
        metrics().recoveries.add("replaced");
        return Ok(());
    };
    // The lease's pages went with it; others may live in this browser.
    if leased.ended().is_cancelled() {
        return Err(ended(leased));
    }
    tracing::warn!(%error, "no page can be opened any more: the browser is given up");
    metrics().recoveries.add("none");
    let reason = "it did not open a new page in place of one that could not be freed".to_owned();
    leased.browser.condemn(Death { code: ErrorCode::BrowserGone, reason });
    // The pool ends the lease, and knows the reason if there was another one before.
    let _ended_anyway = timeout(END, leased.ended().cancelled()).await;
    Err(ended(leased))
}

/// A lease that ended under a call: the browser died, the session was closed, or its time was over.
fn ended(leased: &Leased) -> Failure {
    let (code, text) = leased.lost().map_or_else(
        || (ErrorCode::LeaseLost, "the browser of this session is gone: it did not answer any more".to_owned()),
        |refusal| (refusal.code, refusal.message),
    );
    // That the lease is lost says nothing; how the browser died does.
    let code = if code == ErrorCode::LeaseLost { ErrorCode::BrowserGone } else { code };
    let left = if leased.kept.is_kept() {
        "The next call goes on in a new browser with what was kept: tabs, cookies, local and session storage"
    } else {
        "Its pages, cookies and storage are lost; use browser_navigate to go on with a new browser"
    };
    Failure::new(code, format!("{text}. {left}"))
}
