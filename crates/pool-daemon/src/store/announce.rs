//! Telling front ends where this daemon is and how it is.

use browserfleet_common::redis::{Directory, directory::Entry};
use tokio::time::{Duration, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Contact;
use crate::pool::{Counts, Handle};

/// At least so often.
const EVERY: Duration = Duration::from_secs(1);
/// At most so often, however much changes.
const BETWEEN: Duration = Duration::from_millis(100);

/// Announces the daemon until `stop`, soon after every change, and takes its entry back when it has ended.
pub(super) async fn run(directory: Directory, address: String, handle: Handle, stop: CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut counts, mut contact) = (handle.watch(), Contact::default());
    loop {
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            _ = ticks.tick() => false,
            changed = counts.changed() => changed.is_err(),
        };
        if ended {
            break;
        }
        let entry = entry(&address, &handle, &counts.borrow_and_update().clone());
        let _announced = contact.note("directory", directory.announce(&entry).await);
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(BETWEEN) => {}
        }
    }
    // Front ends would find out by themselves.
    let _left = contact.note("directory", directory.leave(&address).await);
}

fn entry(address: &str, handle: &Handle, counts: &Counts) -> Entry {
    let identity = handle.identity();
    let taken = counts.starting + counts.idle + counts.leased + counts.retiring + counts.killing + counts.poisoned;
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Entry {
        address: address.to_owned(),
        pool_id: identity.pool_id.clone(),
        incarnation: identity.incarnation.clone(),
        idle: number(counts.idle),
        room: number(handle.limits().max_browsers.saturating_sub(taken)),
        queued: number(counts.queued),
        closed: counts.unavailable().is_some(),
    }
}
