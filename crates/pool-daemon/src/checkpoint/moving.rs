//! A daemon that drains moves its leases away: what is kept of each is brought up to date, and its session goes on elsewhere.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::{Duration, Instant, sleep};

use super::Keeper;
use crate::pool::{Handle, Leased};

/// Most time for dismissing the dialogs of a lease.
const DISMISSING: Duration = Duration::from_secs(1);

/// Why a lease ends that is moved.
const MOVED: &str =
    "it moves to another server because this one is shutting down; its tabs, cookies and storage are kept";

/// Between two tries to keep what a lease has, and between two looks for leases that were just being granted.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits for a drain, and then moves every lease at a quiet moment until the pool has ended. What is not quiet before the
/// drain's grace has passed is ended by the pool.
pub async fn run(keeper: Keeper, handle: Handle) {
    if handle.watch().wait_for(|counts| counts.draining).await.is_err() {
        return;
    }
    while let Ok(leases) = handle.list().await {
        join_all(leases.iter().map(|listed| move_away(&keeper, &handle, &listed.leased))).await;
        sleep(PAUSE).await;
    }
}

/// Where the session goes on nobody can answer what a page asks here; and behind a dialog a page does not say what it keeps.
async fn dismiss_dialogs(leased: &Leased) {
    let deadline = Instant::now() + DISMISSING;
    join_all(leased.workspace.open_tabs().iter().map(|tab| tab.page.dismiss_dialogs(deadline))).await;
}

/// Ends a lease once what it has is kept. Calls that are there by now finish first; later ones find the lease ended, before
/// they have done anything.
async fn move_away(keeper: &Keeper, handle: &Handle, leased: &Arc<Leased>) {
    let moving = async {
        loop {
            let turn = leased.workspace.turn().await;
            dismiss_dialogs(leased).await;
            match keeper.keep_now(leased).await {
                Ok(()) => {
                    // A pool that has stopped has ended it.
                    let _stopped = handle.session_ended(leased, MOVED).await;
                    return;
                }
                Err(error) => tracing::warn!(lease = leased.lease_id, error, "a lease could not be moved yet"),
            }
            drop(turn);
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = moving => {}
        () = leased.ended().cancelled() => {}
    }
}
