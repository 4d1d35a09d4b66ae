//! A browser context: the cookies, storage and pages of one session, apart from every other context's.

use std::sync::Arc;

use browserfleet_cdp::{
    Connection,
    browser_protocol::{
        browser::{BrowserContextId, SetDownloadBehaviorBehavior, SetDownloadBehaviorParams},
        target::{
            CreateBrowserContextParams, CreateTargetParams, DisposeBrowserContextParams, FilterEntry,
            GetTargetInfoParams, SetDiscoverTargetsParams, TargetFilter, TargetId,
        },
    },
};
use browserfleet_common::lifecycle::Tasks;
use tokio::{sync::OnceCell, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Page, notices::Notices, tabs};
use crate::failure::Failure;

/// A context of a browser. Not a border between tenants: the clipboard, crashes and the browser's own process are shared.
#[derive(Clone, Debug)]
pub struct Context {
    /// `None` is the browser's default context, which ends with the browser.
    id: Option<BrowserContextId>,
    connection: Connection,
    tasks: Tasks,
    notices: Arc<Notices>,
    /// Set with the first page; ends the guard with the last handle.
    guard: Arc<OnceCell<DropGuard>>,
}

impl Context {
    /// The context every browser has.
    pub fn default_of(connection: &Connection, tasks: &Tasks) -> Self {
        Self {
            id: None,
            connection: connection.clone(),
            tasks: tasks.clone(),
            notices: Arc::default(),
            guard: Arc::default(),
        }
    }

    /// A further context in a browser.
    pub async fn create(connection: &Connection, tasks: &Tasks, deadline: Instant) -> Result<Self, Failure> {
        let created = connection.browser().call(CreateBrowserContextParams::default(), deadline).await?;
        Ok(Self { id: Some(created.browser_context_id), ..Self::default_of(connection, tasks) })
    }

    /// Opens a blank page, ready to be used.
    pub async fn open_page(&self, deadline: Instant) -> Result<Page, Failure> {
        let mut create = CreateTargetParams::new("about:blank");
        create.browser_context_id.clone_from(&self.id);
        let target = self.connection.browser().call(create, deadline).await?.target_id;
        // Beside each other: a session waits for both, and a blank page opens nothing.
        let (_guard, page) = tokio::try_join!(
            self.guard.get_or_try_init(|| self.watch(&target, deadline)),
            Page::open(&self.connection, target.clone(), &self.notices, &self.tasks, deadline),
        )?;
        Ok(page)
    }

    /// Closes every page of a context of its own and forgets its data. The default context stays until its browser ends.
    pub async fn dispose(&self, deadline: Instant) -> Result<(), Failure> {
        if let Some(id) = &self.id {
            self.connection.browser().call(DisposeBrowserContextParams::new(id.clone()), deadline).await?;
        }
        Ok(())
    }

    /// What happened in this context and has not been told; only the first who asks hears of it.
    pub fn take_notices(&self) -> Vec<String> {
        self.notices.take()
    }

    /// Denies downloads, and watches what pages open.
    async fn watch(&self, page: &TargetId, deadline: Instant) -> Result<DropGuard, Failure> {
        let browser = self.connection.browser();
        let events = browser.subscribe(tabs::EVENTS, tabs::CAPACITY);
        let mut deny = SetDownloadBehaviorParams::new(SetDownloadBehaviorBehavior::Deny);
        deny.browser_context_id.clone_from(&self.id);
        deny.events_enabled = Some(true);
        let mut discover = SetDiscoverTargetsParams::new(true);
        let pages = FilterEntry { r#type: Some("page".to_owned()), ..FilterEntry::default() };
        discover.filter = Some(TargetFilter::new(vec![pages]));
        let (context, ..) =
            tokio::try_join!(self.own_id(page, deadline), async { Ok(browser.call(deny, deadline).await?) }, async {
                Ok(browser.call(discover, deadline).await?)
            },)?;
        let ended = CancellationToken::new();
        let guard = tabs::Guard {
            connection: self.connection.clone(),
            context,
            notices: Arc::clone(&self.notices),
            ended: ended.clone(),
        };
        self.tasks.spawn("context.tabs", guard.run(events));
        Ok(ended.drop_guard())
    }

    /// This context's id. Chromium tells the id of its default context only through a page in it.
    async fn own_id(&self, page: &TargetId, deadline: Instant) -> Result<String, Failure> {
        if let Some(id) = &self.id {
            return Ok(id.inner().clone());
        }
        let asked = GetTargetInfoParams { target_id: Some(page.clone()) };
        let answer = self.connection.browser().call(asked, deadline).await?;
        Ok(answer.target_info.browser_context_id.map(|id| id.inner().clone()).unwrap_or_default())
    }
}
