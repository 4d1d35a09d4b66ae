//! The rows, by family. Each starts what it needs, measures, and ends what it started.

mod checkpoints;
mod economy;
mod front_end;
mod idle;
mod latency;
mod load;
mod start;
mod store;
mod sweep;

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::{report::Row, setup::Setup};

/// Most time for a program to become quiet before a measurement.
const QUIET: Duration = Duration::from_secs(5);

/// Which rows are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Only(pub Vec<String>);

impl Only {
    fn wants(&self, id: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|only| only == id)
    }

    /// Whether a row counts tokens.
    pub(crate) fn wants_tokens(&self) -> bool {
        self.wants_any(economy::IDS)
    }

    fn wants_any(&self, ids: &[&str]) -> bool {
        ids.iter().any(|id| self.wants(id))
    }
}

/// Every id of a row.
pub(crate) const IDS: &[&[&str]] = &[
    latency::IDS,
    economy::IDS,
    start::IDS,
    load::IDS,
    idle::IDS,
    store::IDS,
    checkpoints::IDS,
    front_end::IDS,
    sweep::IDS,
];

/// Measures all that is wanted, family after family.
///
/// # Errors
/// When something that must work does not. A peer that fails loses its column only.
pub(crate) async fn measure(setup: &Setup, only: &Only) -> anyhow::Result<Vec<Row>> {
    let mut rows = latency::measure(setup, only).await?;
    rows.extend(economy::measure(setup, only).await?);
    rows.extend(start::measure(setup, only).await?);
    rows.extend(load::measure(setup, only).await?);
    rows.extend(idle::measure(setup, only).await?);
    rows.extend(store::measure(setup, only).await?);
    rows.extend(checkpoints::measure(setup, only).await?);
    rows.extend(front_end::measure(setup, only).await?);
    rows.extend(sweep::measure(setup, only).await?);
    Ok(rows)
}

/// Whether there is time left for a further row.
fn time_left(setup: &Setup) -> bool {
    let left = Instant::now() < setup.pace.end;
    if !left {
        eprintln!("   the run's time is over: the remaining rows are left out");
    }
    left
}

/// Runs what a peer does within a bound; a failure costs its column, not the run.
async fn of_peer<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> Option<T> {
    match timeout(Duration::from_mins(2), work).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            eprintln!("   peer, {what}: {error:#}");
            None
        }
        Err(_elapsed) => {
            eprintln!("   peer, {what}: no end within two minutes");
            None
        }
    }
}
