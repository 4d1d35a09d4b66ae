//! What it takes to give a session another browser, and doing so.
//!
//! A checkpoint ([`content`]) is read from a lease's pages ([`capture`]) between its calls, and kept with its session
//! ([`Keeper`]); the first call of the session's next lease puts it back ([`restore`]). A daemon that drains moves its leases
//! away at a quiet moment each ([`moving`]).

mod capture;
mod content;
mod keeper;
mod moving;
mod restore;

use std::time::Duration;

pub use keeper::{Keeper, Kept};
pub use moving::run as move_when_draining;
pub use restore::{Restored, RestoredTab};

/// `[checkpoints]`.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub enabled: bool,
    /// Least time between two checkpoints of a session that calls ask for.
    pub interval: Duration,
}
