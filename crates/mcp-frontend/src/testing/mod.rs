//! For tests, here and elsewhere: a pool daemon with scripted behaviour, reached over a pipe in memory or
//! over TCP.

mod daemon;

mod doors;

#[cfg(feature = "test-util")]
pub mod fuzz;

mod script;

pub use daemon::{FakeDaemon, Seen};
pub use script::{Event, Script};
