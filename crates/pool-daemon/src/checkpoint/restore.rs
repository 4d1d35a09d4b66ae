//! Putting a checkpoint back into a fresh browser.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::{Duration, Instant};

use super::content::{Content, SavedTab};
use crate::{
    egress::target,
    failure::Failure,
    page::{MAX_TABS, Page, Seed},
    workspace::Workspace,
};

/// Most time for cookies.
const COOKIES: Duration = Duration::from_secs(2);
/// Most time for the storages of one tab.
const STORAGES: Duration = Duration::from_secs(5);
/// Most time for a tab to open.
const OPENING: Duration = Duration::from_secs(3);
/// Most time for loading the current tab, and the others, all together.
const LOADING: Duration = Duration::from_secs(10);
const OTHERS: Duration = Duration::from_secs(5);
/// Most time for a last touch: where the page is scrolled to, which tab is in front.
const TOUCH: Duration = Duration::from_secs(1);

/// Documents that may have been shown after the checkpoint was read: no ref of theirs may mean anything now. Far more than a
/// browser shows between two checkpoints.
const UNSEEN_DOCUMENTS: u32 = 1000;

/// What no checkpoint keeps.
const NEVER: [&str; 7] = [
    "what was typed into forms",
    "the history of tabs",
    "IndexedDB and caches",
    "service workers",
    "storage of frames of other sites",
    "routes, and being offline",
    "whatever pages had in memory only",
];

/// What was put back, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Restored {
    pub tabs: Vec<RestoredTab>,
    /// How many.
    pub cookies: usize,
    /// Sites that have their local or session storage again.
    pub origins: Vec<String>,
    /// A clause each.
    pub lost: Vec<String>,
}

/// A tab that is open again.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RestoredTab {
    pub number: usize,
    pub current: bool,
    pub url: String,
}

/// Puts a checkpoint back. Always leaves pages that can be used, and always ends: what is not done by `deadline` is lost.
/// With `leaving` the current tab stays blank: the call goes elsewhere with it.
pub(super) async fn restore(workspace: &Workspace, content: &Content, leaving: bool, deadline: Instant) -> Restored {
    workspace.context().number_documents_from(content.documents.saturating_add(UNSEEN_DOCUMENTS));
    let mut restored = Restored { lost: content.lost.iter().cloned().collect(), ..Restored::default() };
    restore_cookies(workspace, content, &mut restored, deadline).await;
    let none = SavedTab::default();
    let current = content.tabs.iter().find(|tab| tab.current).unwrap_or(&none);
    let page = restore_current(workspace, content, current, &mut restored, leaving, deadline).await;
    let others: Vec<_> = content.tabs.iter().filter(|tab| tab.number != current.number).take(MAX_TABS - 1).collect();
    let until = deadline.min(Instant::now() + OTHERS);
    let opened = join_all(others.iter().map(|tab| restore_other(workspace, tab, until))).await;
    let mut tabs = BTreeMap::from([(current.number, page.clone())]);
    for (tab, (page, lost)) in others.iter().zip(opened) {
        tabs.extend(page.map(|page| (tab.number, page)));
        restored.lost.extend(lost);
        restored.origins.extend(origins_of(tab));
    }
    let kept = content.tabs.iter().filter(|tab| tabs.contains_key(&tab.number));
    restored.tabs = kept
        .map(|SavedTab { number, current, url, .. }| RestoredTab {
            number: *number,
            current: *current,
            url: url.clone(),
        })
        .collect();
    let ordered =
        content.tabs.iter().filter_map(|tab| Some((tab.number, tab.name.clone(), tabs.get(&tab.number)?.clone())));
    workspace.take_over(ordered.collect(), current.number, content.next_tab);
    if !others.is_empty()
        && let Err(failure) = page.to_front(Instant::now() + TOUCH).await
    {
        tracing::debug!(%failure, "the current tab did not come to the front");
    }
    restored.origins.sort();
    restored.origins.dedup();
    restored.lost.extend(NEVER.map(str::to_owned));
    restored
}

async fn restore_cookies(workspace: &Workspace, content: &Content, restored: &mut Restored, deadline: Instant) {
    let deadline = deadline.min(Instant::now() + COOKIES);
    let browser = workspace.context();
    let set = async {
        browser.set_cookies(&content.cookies, deadline).await?;
        browser.cookies(deadline).await
    };
    let there = match set.await {
        Ok(cookies) => cookies.len(),
        Err(failure) => {
            tracing::warn!(%failure, "the cookies of a session could not be restored");
            0
        }
    };
    restored.cookies = there;
    let missing = content.cookies.len().saturating_sub(there);
    if missing > 0 {
        restored.lost.push(format!("{missing} cookies, expired or refused by the browser"));
    }
}

/// Restores the current tab in the page that is there, and with it the local storage of every site.
async fn restore_current(
    workspace: &Workspace,
    content: &Content,
    current: &SavedTab,
    restored: &mut Restored,
    leaving: bool,
    deadline: Instant,
) -> Page {
    let mut seeds: BTreeMap<String, Seed> = BTreeMap::new();
    for (origin, items) in &content.local {
        seeds.entry(origin.clone()).or_default().local = items.clone();
    }
    for (origin, items) in &current.session {
        seeds.entry(origin.clone()).or_default().session = items.clone();
    }
    seeds.retain(|_, seed| !seed.local.is_empty() || !seed.session.is_empty());
    let mut page = workspace.page();
    workspace.context().set_looks(content.looks.clone());
    if let Err(failure) = page.take_on_looks(deadline.min(Instant::now() + TOUCH)).await {
        // The call tries again.
        tracing::debug!(%failure, "a page was not shown as its session's pages are");
    }
    if content.looks.emulation.geolocation.is_some()
        && let Err(failure) = workspace.context().permit_geolocation(true, deadline.min(Instant::now() + TOUCH)).await
    {
        tracing::debug!(%failure, "pages may not ask where they are");
    }
    match page.seed(&seeds, deadline.min(Instant::now() + STORAGES)).await {
        Ok(failed) => {
            seeds.retain(|origin, _| !failed.contains(origin));
            restored.lost.extend(failed.iter().map(|origin| format!("storage of {origin}: it could not be put back")));
            restored.origins.extend(seeds.into_keys());
        }
        Err(failure) => {
            tracing::warn!(%failure, "the storage of a session could not be restored");
            restored.lost.push("local and session storage: the browser did not take them".to_owned());
            // What was begun in this page is in the way. If no other one opens, the call finds that out.
            let _told_later = workspace.replace_page().await;
            page = workspace.page();
        }
    }
    if !leaving {
        restored.lost.extend(load(workspace, &page, current, deadline.min(Instant::now() + LOADING)).await);
    }
    page
}

/// Opens a further tab as it was. Answers it, and what could not be done.
async fn restore_other(workspace: &Workspace, tab: &SavedTab, deadline: Instant) -> (Option<Page>, Vec<String>) {
    let page = match workspace.context().open_page(deadline.min(Instant::now() + OPENING)).await {
        Ok(page) => page,
        Err(failure) => return (None, vec![format!("tab {} ({}): {}", tab.number, tab.url, failure.message)]),
    };
    let seeds: BTreeMap<_, _> = tab
        .session
        .iter()
        .filter(|(_, items)| !items.is_empty())
        .map(|(origin, items)| (origin.clone(), Seed { session: items.clone(), ..Seed::default() }))
        .collect();
    let mut lost = Vec::new();
    match page.seed(&seeds, deadline).await {
        Ok(failed) => {
            lost.extend(failed.iter().map(|origin| format!("session storage of {origin}: it could not be put back")));
        }
        Err(failure) => {
            page.close().await;
            return (None, vec![format!("tab {} ({}): {}", tab.number, tab.url, failure.message)]);
        }
    }
    lost.extend(load(workspace, &page, tab, deadline).await);
    (Some(page), lost)
}

/// Loads what a tab showed. Answers what could not be done.
async fn load(workspace: &Workspace, page: &Page, tab: &SavedTab, deadline: Instant) -> Option<String> {
    if tab.is_blank() {
        return None;
    }
    match loaded(workspace, page, tab, deadline).await {
        Ok(()) => None,
        // The dialog is the page's own, and the reply shows it.
        Err(failure) if failure.modal => None,
        Err(failure) => Some(format!("tab {} did not load: {}", tab.number, failure.message)),
    }
}

async fn loaded(workspace: &Workspace, page: &Page, tab: &SavedTab, deadline: Instant) -> Result<(), Failure> {
    let url = target::parse(&tab.url)?;
    // As for any navigation: what the lease may not reach it does not get by having been there.
    if let Some(gate) = workspace.context().gate() {
        gate.check(&url)?;
    }
    page.navigate(url.as_str(), deadline).await?;
    let touch = Instant::now() + TOUCH;
    page.forget_history(touch).await?;
    if tab.scroll != (0.0, 0.0) {
        page.scroll_to(tab.scroll, touch).await?;
    }
    Ok(())
}

fn origins_of(tab: &SavedTab) -> impl Iterator<Item = String> {
    tab.session.iter().filter(|(_, items)| !items.is_empty()).map(|(origin, _)| origin.clone())
}
