//! Sessions: browser workspaces with an owner, a handle and a time to live.
//!
//! `common::session` says what is kept of one, [`store`] what every place to keep it must do, [`memory`] is the place inside
//! this process, [`redis`] the one that several front ends share. Which session a call belongs to is decided in `call::resolve`.

pub mod store;

pub mod memory;

pub mod redis;

mod emptied;

#[cfg(any(test, feature = "test-util"))]
pub mod suite;

#[cfg(any(test, feature = "test-util"))]
mod kept_suite;

pub use browserfleet_common::session::{
    Client, Created, Full, Key, LeaseRef, LeaseState, Limits, Loss, LossReason, Owner, Record, Swapped,
};
pub use memory::MemoryStore;
pub use redis::RedisStore;
pub use store::{Counts, Kept, NewSession, Scope, Store};
