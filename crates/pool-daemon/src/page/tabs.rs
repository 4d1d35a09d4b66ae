//! Tabs that pages open by themselves: counted, and closed beyond a limit.
//!
//! One guard a browser context. Our own pages have no opener; what has one is a page's doing, whether or not it may see
//! its opener.

use std::{collections::HashSet, sync::Arc};

use browserfleet_cdp::{
    Connection, Events, Item,
    browser_protocol::{
        browser::{BrowserContextId, CancelDownloadParams},
        target::{CloseTargetParams, GetTargetsParams},
    },
};
use browserfleet_common::{lifecycle::Tasks, metrics::metrics};
use futures_util::future::join_all;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::{Page, arrivals::Arrivals, context::Shared, downloads::Verdict, notices::Notice, wire};

/// Most tabs of a session, its own page included.
pub(crate) const MAX_TABS: usize = 10;

/// What the guard listens to, on the browser's own level.
pub(super) const EVENTS: &[&str] =
    &["Target.targetCreated", "Target.targetDestroyed", "Browser.downloadWillBegin", "Browser.downloadProgress"];

/// Events that may wait for the guard. When more have come it asks the browser which tabs there are.
pub(super) const CAPACITY: usize = 1024;

/// Most time for making a tab ready.
const ADOPTING: Duration = Duration::from_secs(5);

/// Most time for closing one round of tabs.
const CLOSING: Duration = Duration::from_secs(1);

/// Watches one browser context until its owner drops the token.
pub(super) struct Guard {
    pub(super) connection: Connection,
    pub(super) context: String,
    /// How commands name it: the default context has no name there.
    pub(super) id: Option<BrowserContextId>,
    pub(super) shared: Arc<Shared>,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) tasks: Tasks,
    pub(super) ended: CancellationToken,
}

impl Guard {
    pub(super) async fn run(self, mut events: Events) {
        let mut tabs = Tabs::default();
        loop {
            let item = tokio::select! {
                biased;
                () = self.ended.cancelled() => return,
                item = events.recv() => item,
            };
            let Some(item) = item else { return };
            self.take(&mut tabs, item).await;
            // A storm arrives in bursts: one round of closing for all that is there.
            while let Some(item) = events.try_recv() {
                self.take(&mut tabs, item).await;
            }
            let excess = tabs.excess();
            tabs.fresh().for_each(|target| self.adopt(target));
            self.close(excess).await;
        }
    }

    /// Makes a tab ready to be driven, beside everything else.
    fn adopt(&self, target: String) {
        self.arrivals.begins();
        let (connection, tasks) = (self.connection.clone(), self.tasks.clone());
        let (shared, arrivals) = (Arc::clone(&self.shared), Arc::clone(&self.arrivals));
        self.tasks.spawn("context.adopt", async move {
            let opened = Page::adopt(&connection, target.into(), &shared, &tasks, Instant::now() + ADOPTING).await;
            let page = opened.inspect_err(|error| tracing::debug!(%error, "a tab could not be taken over")).ok();
            arrivals.ends(page);
        });
    }

    async fn take(&self, tabs: &mut Tabs, item: Item) {
        let event = match item {
            Item::Event(event) => event,
            Item::Lagged(_) => {
                for name in self.shared.downloads.lost_sight() {
                    self.shared.notices.add(Notice::DownloadBrokenOff(name));
                }
                return self.ask(tabs).await;
            }
        };
        match event.method {
            "Target.targetCreated" => {
                if let Ok(wire::TargetCreated { target_info }) = event.decode() {
                    self.created(tabs, target_info);
                }
            }
            "Target.targetDestroyed" => {
                if let Ok(wire::TargetOnly { target_id }) = event.decode() {
                    tabs.closed(&target_id);
                }
            }
            // The pages we drive tell of theirs; a tab may download and be gone before it is one of them.
            "Browser.downloadWillBegin" => {
                if let Ok(download) = event.decode::<wire::DownloadBegins>()
                    && tabs.has(&download.frame_id)
                {
                    self.shared.download_begins(download);
                }
            }
            "Browser.downloadProgress" => {
                if let Ok(progress) = event.decode::<wire::DownloadProgress>() {
                    self.judge(progress);
                }
            }
            _ => {}
        }
    }

    /// Stops a download that is not to go on.
    fn judge(&self, progress: wire::DownloadProgress) {
        match self.shared.downloads.progress(&progress) {
            Verdict::BrokenOff(None) | Verdict::Fine => {}
            Verdict::BrokenOff(Some(name)) => self.shared.notices.add(Notice::DownloadBrokenOff(name)),
            Verdict::Stop(why) => {
                self.shared.notices.add(Notice::DownloadStopped(why));
                let mut cancel = CancelDownloadParams::new(progress.guid);
                cancel.browser_context_id.clone_from(&self.id);
                let browser = self.connection.browser();
                let (shared, id) = (Arc::clone(&self.shared), cancel.guid.clone());
                self.tasks.spawn("context.cancel_download", async move {
                    let _complete_by_now = browser.call(cancel, Instant::now() + CLOSING).await;
                    shared.downloads.remove(vec![id]).await;
                });
            }
        }
    }

    fn created(&self, tabs: &mut Tabs, target: wire::TargetInfo) {
        if target.kind == "page" && target.opener_id.is_some() && target.browser_context_id == self.context {
            tabs.opened(target.target_id);
        }
    }

    /// Starts again from what the browser knows.
    async fn ask(&self, tabs: &mut Tabs) {
        let deadline = Instant::now() + CLOSING;
        let Ok(all) = self.connection.browser().call_raw(GetTargetsParams::IDENTIFIER, &(), deadline).await else {
            return;
        };
        if let Ok(wire::Targets { target_infos }) = browserfleet_cdp::decode(&all) {
            *tabs = Tabs::default();
            for target in target_infos {
                self.created(tabs, target);
            }
        }
    }

    async fn close(&self, excess: Vec<String>) {
        let deadline = Instant::now() + CLOSING;
        let browser = self.connection.browser();
        join_all(excess.into_iter().map(|target| {
            metrics().pages_closed.add("too_many");
            self.shared.notices.add(Notice::TabClosed);
            // One that has gone by itself meanwhile is as good.
            let command = CloseTargetParams::new(target);
            let browser = &browser;
            async move { browser.call(command, deadline).await.ok() }
        }))
        .await;
    }
}

/// The tabs that pages of one context have opened, oldest first.
#[derive(Debug, Default)]
struct Tabs {
    open: Vec<String>,
    /// Of these, those that nobody drives yet.
    fresh: Vec<String>,
    /// Asked to close and not gone yet.
    closing: HashSet<String>,
}

impl Tabs {
    fn opened(&mut self, target: String) {
        if !self.has(&target) {
            self.open.push(target.clone());
            self.fresh.push(target);
        }
    }

    /// Those that have come since the last time, and stay.
    fn fresh(&mut self) -> impl Iterator<Item = String> {
        std::mem::take(&mut self.fresh).into_iter()
    }

    fn closed(&mut self, target: &str) {
        self.fresh.retain(|fresh| fresh != target);
        self.open.retain(|open| open != target);
        self.closing.remove(target);
    }

    fn has(&self, target: &str) -> bool {
        self.open.iter().any(|open| open == target) || self.closing.contains(target)
    }

    /// The newest ones that are too many; each is named once.
    fn excess(&mut self) -> Vec<String> {
        let excess = self.open.split_off(self.open.len().min(MAX_TABS - 1));
        self.fresh.retain(|fresh| !excess.contains(fresh));
        self.closing.extend(excess.iter().cloned());
        excess
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_tabs_go_once_and_make_room_when_others_close() {
        let mut tabs = Tabs::default();
        (0..12).for_each(|n| tabs.opened(n.to_string()));
        assert_eq!(tabs.excess(), ["9", "10", "11"], "one place is the session's own page's");
        assert_eq!(tabs.fresh().count(), 9);
        assert!(tabs.excess().is_empty());
        tabs.closed("9");
        tabs.closed("3");
        tabs.opened("12".to_owned());
        assert!(tabs.excess().is_empty());
        tabs.opened("13".to_owned());
        assert_eq!(tabs.excess(), ["13"]);
        assert_eq!(tabs.fresh().collect::<Vec<_>>(), ["12"], "each is taken over once");
        assert!(tabs.has("13") && !tabs.has("9"));
    }
}
