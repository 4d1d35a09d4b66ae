//! Rehearsal: a blank page does, before anybody waits for it, what the first visit of every page needs.
//!
//! Chromium loads fonts, compiles our scripts, starts to paint and opens its cookie store when they are first used: a good
//! part of the time from a fresh browser to its first snapshot. A small document is shown in the blank one and cleared
//! away again; there is no navigation, so history, network and storage know nothing of it.

use browserfleet_cdp::browser_protocol::storage::GetCookiesParams;
use serde_json::Value;
use tokio::time::Instant;

use super::Page;
use crate::failure::Failure;

/// Leaves the document as empty as it was.
const REHEARSAL: &str = include_str!("inject/rehearsal.js");

impl Page {
    /// Goes through the motions once, in a blank page that nobody has used. A page that cannot is not fit to be used.
    pub async fn rehearse(&self, deadline: Instant) -> Result<(), Failure> {
        let world = self.main_world(deadline).await?;
        tokio::try_join!(
            world.value::<Value>(REHEARSAL.to_owned(), deadline),
            self.call(GetCookiesParams::default(), deadline)
        )?;
        Ok(())
    }
}
