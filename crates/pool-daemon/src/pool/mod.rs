//! The pool: which browsers exist, who holds them, who waits.
//!
//! [`model`] has the words, [`state`] decides (pure, with its parts `queue`, `breaker`, `slot`, `admission`, `supply`, `audit`), [`driver`] with its `hands` does what was decided, [`handle`] is what everybody else
//! holds, [`lease`] is a granted lease with its token, [`browser`] the seam to real and fake browsers.

pub mod model;

mod admission;
mod audit;
mod breaker;
mod queue;
mod slot;
pub mod state;
mod supply;

pub mod browser;
pub mod lease;

pub mod driver;
pub mod handle;
mod hands;

pub use browser::{Browser, LaunchError, Launcher};
pub use handle::Handle;
pub use lease::Leased;
pub use model::{Counts, Key, Launching, Limits, PerPrincipal, Pressure, Refusal, Retirement};
#[cfg(test)]
pub(crate) use state::tests::limits as test_limits;
