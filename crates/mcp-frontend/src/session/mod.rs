//! Sessions: browser workspaces with an owner, a handle and a time to live.
//!
//! `common::session` says what is kept of one, [`store`] what every place to keep it must do, [`memory`] is the place inside
//! this process. Which session a call belongs to is decided in `call::resolve`.

pub mod store;

pub mod memory;

#[cfg(any(test, feature = "test-util"))]
pub mod suite;

pub use browserfleet_common::session::{Client, Key, LeaseRef, LeaseState, Loss, LossReason, Record};
pub use memory::MemoryStore;
pub use store::{Counts, Created, Full, Limits, NewSession, Scope, Store, Swapped};
