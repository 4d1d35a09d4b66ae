//! What a lease's calls work in: its tabs, the current one among them, and the order of the calls.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use browserfleet_common::error_code::ErrorCode;
use tokio::{
    sync::{self, watch},
    time::{Duration, Instant},
};

use crate::{
    failure::Failure,
    page::{Context, MAX_TABS, Page},
    pool::{Refusal, browser::Ready},
    recorders::Recorders,
};

/// Most calls of one lease that wait for their turn.
const MAX_WAITING: usize = 16;

/// Most time for a blank page to open in place of one that is given up. More than it ever needs: a browser that does not
/// manage this much is ended.
const OPENING: Duration = Duration::from_secs(3);

/// Most time for asking the browser what its tabs show.
const ASKING: Duration = Duration::from_secs(1);

/// The tabs of a lease and the turns its calls take.
#[derive(Debug)]
pub struct Workspace {
    context: Context,
    /// Held only to read or change the list.
    tabs: Mutex<Tabs>,
    /// Fair: calls run one at a time, in the order in which they came.
    turn: sync::Mutex<()>,
    /// Calls that run or wait.
    calls: watch::Sender<usize>,
    /// The page was replaced, and nobody has been told yet.
    untold: AtomicBool,
    recorders: Recorders,
}

/// Never empty.
#[derive(Debug)]
struct Tabs {
    open: Vec<Tab>,
    /// A position in the list.
    current: usize,
    next_number: usize,
}

/// A tab. Its number stays with it: those of closed tabs do not come back.
#[derive(Clone, Debug)]
pub struct Tab {
    pub number: usize,
    /// As its owner calls it: no two open tabs have the same.
    pub name: Option<Arc<str>>,
    pub page: Page,
    pub current: bool,
}

/// What a tab shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TabInfo {
    pub number: usize,
    pub name: Option<Arc<str>>,
    pub current: bool,
    pub url: String,
    pub title: String,
}

/// A call's place in the line; leaving the line is dropping it.
#[derive(Debug)]
pub struct Waiting<'a> {
    workspace: &'a Workspace,
    /// Calls before this one.
    pub ahead: usize,
}

impl Tabs {
    fn add(&mut self, name: Option<Arc<str>>, page: Page) -> usize {
        let number = self.next_number;
        self.next_number += 1;
        self.open.push(Tab { number, name, page, current: false });
        number
    }

    /// Forgets tabs that have closed, but for the current one: whoever works there has to be told.
    fn forget_closed(&mut self) {
        let current = self.open[self.current].number;
        self.open.retain(|tab| tab.number == current || !tab.page.is_gone());
        self.make_current(current);
    }

    fn make_current(&mut self, number: usize) -> bool {
        let position = self.open.iter().position(|tab| tab.number == number);
        self.current = position.unwrap_or(self.current);
        position.is_some()
    }

    /// Takes the current tab out; its neighbour takes its place. Not for the last one.
    fn drop_current(&mut self) {
        self.open.remove(self.current);
        self.current = self.current.min(self.open.len() - 1);
    }
}

impl Workspace {
    pub fn new(ready: Ready) -> Self {
        let mut tabs = Tabs { open: Vec::new(), current: 0, next_number: 0 };
        tabs.add(None, ready.page);
        Self {
            context: ready.context,
            tabs: Mutex::new(tabs),
            turn: sync::Mutex::default(),
            calls: watch::Sender::new(0),
            untold: AtomicBool::new(false),
            recorders: Recorders::default(),
        }
    }

    /// Takes a place in the line.
    pub fn wait(&self) -> Result<Waiting<'_>, Refusal> {
        let mut ahead = 0;
        self.calls.send_modify(|calls| {
            ahead = *calls;
            *calls += 1;
        });
        let waiting = Waiting { workspace: self, ahead };
        if ahead >= MAX_WAITING {
            let message = format!("{ahead} calls of this session are running or waiting; wait for their answers first");
            return Err(Refusal::new(ErrorCode::QuotaExceeded, message));
        }
        Ok(waiting)
    }

    /// The turn after the calls that wait by now, for work that no call asked for.
    pub async fn turn(&self) -> sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Waits until no call runs or waits.
    pub async fn quiet(&self) {
        let mut calls = self.calls.subscribe();
        // The sender is ours.
        let _open = calls.wait_for(|calls| *calls == 0).await;
    }

    /// Waits until a call wants the turn, or has it.
    pub async fn wanted(&self) {
        let mut calls = self.calls.subscribe();
        let _open = calls.wait_for(|calls| *calls > 0).await;
    }

    /// How many calls run or wait, and when that changes.
    pub fn activity(&self) -> watch::Receiver<usize> {
        self.calls.subscribe()
    }

    /// What all pages of the lease share.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// What records its calls and pages.
    pub fn recorders(&self) -> &Recorders {
        &self.recorders
    }

    /// The current page.
    pub fn page(&self) -> Page {
        let tabs = self.tabs();
        tabs.open[tabs.current].page.clone()
    }

    /// Every tab, those included that pages have opened by now.
    pub fn open_tabs(&self) -> Vec<Tab> {
        let arrived = self.context.take_arrivals();
        let mut tabs = self.tabs();
        for page in arrived {
            tabs.add(None, page);
        }
        tabs.forget_closed();
        let current = tabs.current;
        tabs.open.iter().enumerate().map(|(at, tab)| Tab { current: at == current, ..tab.clone() }).collect()
    }

    /// What every tab shows, once those that are just opening are there.
    pub async fn describe_tabs(&self) -> Result<Vec<TabInfo>, Failure> {
        self.context.arrivals_settled().await;
        let open = self.open_tabs();
        let mut shown = self.context.titles(Instant::now() + ASKING).await?;
        let described = open.into_iter().map(|Tab { number, name, page, current }| {
            let (title, url) = shown.remove(page.target_id()).unwrap_or_default();
            TabInfo { number, name, current, url, title }
        });
        Ok(described.collect())
    }

    /// Opens a blank tab and makes it the current one.
    pub async fn open_tab(&self, name: Option<Arc<str>>) -> Result<Page, Failure> {
        if let Some(name) = &name
            && self.numbered(name).is_some()
        {
            return Err(Failure::invalid(format!("a tab of the name {name:?} is open; select it, or close it first")));
        }
        if self.open_tabs().len() >= MAX_TABS {
            let message = format!("a session may have {MAX_TABS} tabs open at a time; close one first");
            return Err(Failure::new(ErrorCode::QuotaExceeded, message));
        }
        let page = self.context.open_page(Instant::now() + OPENING).await?;
        page.take_on_network(Instant::now() + OPENING).await?;
        let mut tabs = self.tabs();
        let number = tabs.add(name, page.clone());
        tabs.make_current(number);
        Ok(page)
    }

    /// The number of the open tab of a name.
    pub fn numbered(&self, name: &str) -> Option<usize> {
        self.open_tabs().into_iter().find(|tab| tab.name.as_deref() == Some(name)).map(|tab| tab.number)
    }

    /// The number of the tab that opens next.
    pub fn next_number(&self) -> usize {
        self.tabs().next_number
    }

    /// Puts the tabs of an earlier lease in place of the first one, with the numbers and names they had.
    pub fn take_over(&self, restored: Vec<(usize, Option<Arc<str>>, Page)>, current: usize, next_number: usize) {
        if restored.is_empty() {
            return;
        }
        let mut tabs = self.tabs();
        let highest = restored.iter().map(|(number, ..)| number + 1).max().unwrap_or_default();
        tabs.next_number = next_number.max(highest);
        tabs.open =
            restored.into_iter().map(|(number, name, page)| Tab { number, name, page, current: false }).collect();
        tabs.current = 0;
        tabs.make_current(current);
    }

    /// Makes a tab the current one.
    pub fn select_tab(&self, number: usize) -> Result<Page, Failure> {
        if self.tabs().make_current(number) { Ok(self.page()) } else { Err(no_tab(number)) }
    }

    /// Closes a tab, the current one unless a number is given. In place of the last one a blank one opens.
    pub async fn close_tab(&self, number: Option<usize>) -> Result<(), Failure> {
        let open = self.open_tabs();
        let wanted = |tab: &&Tab| number.map_or(tab.current, |number| tab.number == number);
        let tab = open.iter().find(wanted).ok_or_else(|| no_tab(number.unwrap_or_default()))?;
        if open.len() == 1 {
            return self.replace_page().await;
        }
        tab.page.close().await;
        let mut tabs = self.tabs();
        if tab.current {
            tabs.drop_current();
        } else {
            tabs.open.retain(|other| other.number != tab.number);
            let current = open.iter().find(|tab| tab.current).map_or(0, |tab| tab.number);
            tabs.make_current(current);
        }
        Ok(())
    }

    /// When the current tab has closed by itself: makes its neighbour the current one, and answers its number. Nothing if
    /// there is no other.
    pub fn leave_closed_tab(&self) -> Option<usize> {
        let open = self.open_tabs().len();
        let mut tabs = self.tabs();
        if open == 1 || !tabs.open[tabs.current].page.is_gone() {
            return None;
        }
        tabs.drop_current();
        Some(tabs.open[tabs.current].number)
    }

    /// Remembers to tell the next call that its page is gone.
    pub fn replaced_untold(&self) {
        self.untold.store(true, Ordering::Release);
    }

    /// Whether a replacement has to be told; only the first who asks hears of it.
    pub fn take_untold_replacement(&self) -> bool {
        self.untold.swap(false, Ordering::AcqRel)
    }

    /// What happened in the session's pages unasked and has not been told; only the first who asks hears of it.
    pub fn take_notices(&self) -> Vec<String> {
        self.context.take_notices()
    }

    /// Gives up the current page and opens a blank one in its place.
    pub async fn replace_page(&self) -> Result<(), Failure> {
        self.page().close().await;
        let new = self.context.open_page(Instant::now() + OPENING).await?;
        let mut tabs = self.tabs();
        let current = tabs.current;
        tabs.open[current].page = new;
        Ok(())
    }

    fn tabs(&self) -> MutexGuard<'_, Tabs> {
        self.tabs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_tab(number: usize) -> Failure {
    Failure::invalid(format!("Tab {number} not found. Use browser_tabs with action list to see the tabs"))
}

impl Waiting<'_> {
    /// Waits for the turn. The place in the line is kept until the turn is over.
    pub async fn turn(&self) -> sync::MutexGuard<'_, ()> {
        self.workspace.turn.lock().await
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.workspace.calls.send_modify(|calls| *calls -= 1);
    }
}
