//! Who is compared, and what each can be asked to do.

pub(crate) mod ours;
pub(crate) mod peer;
pub(crate) mod raw;

use async_trait::async_trait;

use crate::pages::Page;

/// One thing an agent does with a page, timed from the request to the complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// One more than a number.
    Evaluate(usize),
    /// The button, and what the page shows afterwards.
    Click,
    /// What the page shows. Raw: one minimal walk over the elements.
    Snapshot,
    /// Raw only: our own in-page script, called through the bare protocol.
    OurWalk,
    /// Going to a URL. Raw: until its load event; the others answer with a snapshot.
    Navigate(String),
    /// Raw only: to the load event, and one minimal walk.
    NavigateAndWalk(String),
    /// A PNG of the viewport.
    Screenshot,
}

/// Somebody who drives one page.
#[async_trait]
pub(crate) trait Contestant: Send {
    /// `raw`, `ours` or `peer`.
    fn name(&self) -> &'static str;

    /// Shows a page, ready for any work. Not timed.
    async fn show(&mut self, url: &str, page: Page) -> anyhow::Result<()>;

    async fn perform(&mut self, work: &Work) -> anyhow::Result<()>;
}

/// A whole session, once: open, navigate, snapshot, click, close.
#[async_trait]
pub(crate) trait Journeys: Send + Sync {
    fn name(&self) -> &'static str;

    async fn journey(&self, url: &str) -> anyhow::Result<()>;
}
