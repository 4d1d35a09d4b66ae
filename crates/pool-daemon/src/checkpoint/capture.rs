//! Reading a checkpoint from the pages of a lease.

use std::collections::HashMap;

use futures_util::future::join_all;
use tokio::time::{Duration, Instant};

use super::content::{Content, SavedTab, too_large};
use crate::{
    failure::Failure,
    page::Stored,
    workspace::{Tab, Workspace},
};

/// Most time for what the browser knows by itself.
const ASKING: Duration = Duration::from_secs(1);

/// Reads what there is now. Each page has so much time (`reading`) to say what it keeps: one that does not answer costs what has
/// changed in it, not the checkpoint. What cannot be read stays as it was in `last`, and so does the local storage of sites that
/// are not open any more.
pub(super) async fn capture(workspace: &Workspace, last: &Content, reading: Duration) -> Result<Content, Failure> {
    let browser = workspace.context();
    let open = workspace.open_tabs();
    let deadline = Instant::now() + ASKING;
    let pages = join_all(open.iter().map(|tab| read(tab, reading)));
    let (cookies, shown, stored) = tokio::join!(browser.cookies(deadline), browser.titles(deadline), pages);
    let mut content = Content {
        documents: browser.documents(),
        cookies: cookies?,
        local: last.local.clone().into_iter().chain(browser.planted()).collect(),
        looks: browser.looks(),
        next_tab: workspace.next_number(),
        lost: workspace.recorders().running().collect(),
        ..Content::default()
    };
    let mut shown = shown?;
    let mut visited = Vec::new();
    // Where the agent acts: other tabs of the same site may not have heard yet of what was stored last.
    let current = open.iter().zip(&stored).find(|(tab, _)| tab.current);
    let latest = current.and_then(|(_, stored)| Some(stored.as_ref()?.local.clone())).unwrap_or_default();
    for (tab, stored) in open.iter().zip(stored) {
        let place = shown.remove(tab.page.target_id()).unwrap_or_default();
        visited.extend(stored.iter().flat_map(|stored| stored.local.keys().cloned()));
        let tab = saved(tab, place, stored, last, &mut content);
        content.tabs.push(tab);
    }
    browser.uproot(visited.iter());
    content.local.extend(latest);
    Ok(content)
}

async fn read(tab: &Tab, time: Duration) -> Option<Stored> {
    // Behind a dialog nothing of a page runs.
    if tab.page.dialog().is_some() || tab.page.is_gone() || tab.page.is_crashed() {
        return None;
    }
    let stored = tab.page.stored(Instant::now() + time).await;
    stored.inspect_err(|failure| tracing::debug!(%failure, "a page does not say what it keeps")).ok()
}

fn saved(
    tab: &Tab,
    (title, url): (String, String),
    stored: Option<Stored>,
    last: &Content,
    content: &mut Content,
) -> SavedTab {
    let saved = SavedTab {
        number: tab.number,
        name: tab.name.clone(),
        current: tab.current,
        url,
        title,
        ..SavedTab::default()
    };
    let Some(Stored { local, session, too_large: large, scroll }) = stored else {
        let known: HashMap<_, _> = last.tabs.iter().map(|tab| (tab.number, tab)).collect();
        let Some(before) = known.get(&tab.number) else { return saved };
        return SavedTab { session: before.session.clone(), scroll: before.scroll, ..saved };
    };
    for origin in large {
        for (kind, storages) in [("local", &local), ("session", &session)] {
            if !storages.contains_key(&origin) {
                content.lost.insert(too_large(kind, &origin));
            }
        }
        if !local.contains_key(&origin) {
            content.local.remove(&origin);
        }
    }
    content.local.extend(local);
    SavedTab { session, scroll, ..saved }
}
