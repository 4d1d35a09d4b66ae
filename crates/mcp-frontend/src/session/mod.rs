//! Sessions: browser workspaces with an owner, a handle and a time to live.
//!
//! [`record`] says what is kept of one, [`store`] what every place to keep it must do, [`memory`] is the place inside
//! this process. Which session a call belongs to is decided in `call::resolve`.

pub mod record;

pub mod store;

pub mod memory;

#[cfg(any(test, feature = "test-util"))]
pub mod suite;

pub use memory::MemoryStore;
pub use record::{Client, Key, LeaseRef, LeaseState, Loss, LossReason, Record};
pub use store::{Counts, Created, Full, Limits, NewSession, Scope, Store, Swapped};
