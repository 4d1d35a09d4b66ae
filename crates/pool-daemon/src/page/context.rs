//! A browser context: the cookies, storage and pages of one session, apart from every other context's.

use browserfleet_cdp::{
    Connection,
    browser_protocol::{
        browser::BrowserContextId,
        target::{CreateBrowserContextParams, DisposeBrowserContextParams},
    },
};
use browserfleet_common::lifecycle::Tasks;
use tokio::time::Instant;

use super::Page;
use crate::failure::Failure;

/// A context of a browser. Not a border between tenants: the clipboard, crashes and the browser's own process are shared.
#[derive(Clone, Debug)]
pub struct Context {
    /// `None` is the browser's default context, which ends with the browser.
    id: Option<BrowserContextId>,
    connection: Connection,
    tasks: Tasks,
}

impl Context {
    /// The context every browser has.
    pub fn default_of(connection: &Connection, tasks: &Tasks) -> Self {
        Self { id: None, connection: connection.clone(), tasks: tasks.clone() }
    }

    /// A further context in a browser.
    pub async fn create(connection: &Connection, tasks: &Tasks, deadline: Instant) -> Result<Self, Failure> {
        let created = connection.browser().call(CreateBrowserContextParams::default(), deadline).await?;
        Ok(Self { id: Some(created.browser_context_id), connection: connection.clone(), tasks: tasks.clone() })
    }

    /// Opens a blank page, ready to be used.
    pub async fn open_page(&self, deadline: Instant) -> Result<Page, Failure> {
        Page::open(&self.connection, self.id.as_ref(), &self.tasks, deadline).await
    }

    /// Closes every page of a context of its own and forgets its data. The default context stays until its browser ends.
    pub async fn dispose(&self, deadline: Instant) -> Result<(), Failure> {
        if let Some(id) = &self.id {
            self.connection.browser().call(DisposeBrowserContextParams::new(id.clone()), deadline).await?;
        }
        Ok(())
    }
}
