//! The pool: which browsers exist, who holds them, who waits.
//!
//! [`model`] has the words, [`state`] decides (pure), [`driver`] does what was decided, [`handle`] is what everybody else
//! holds, [`lease`] is a granted lease with its token, [`browser`] the seam to real and fake browsers.

pub mod model;
pub mod state;

pub mod browser;
pub mod lease;

pub mod driver;
pub mod handle;

pub use browser::{Browser, LaunchError, Launcher};
pub use handle::Handle;
pub use lease::Leased;
pub use model::{Counts, Key, Limits, Pressure, Refusal};
