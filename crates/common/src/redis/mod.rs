//! Redis, where front ends keep what another one must find, and where daemons look which sessions still live.
//!
//! In suggested reading order: [`settings`] says where it is, by an [`address`]; [`link`] is the one connection of a process, [`keys`] the table
//! of what is there, [`Sessions`] keeps sessions with [`Index`]es of which there are (what is beside them is in `kept`, what daemons see of them in [`looking`]), [`Directory`] knows the daemons, [`checks`] are made before a program
//! starts, and by [`Fitness`] when a Redis that was away answers; [`testing`] starts a server for a test.
//!
//! Redis decides nothing about browsers: a daemon does. Whatever is asked here is answered in bounded time or not at all, and
//! no answer is never taken for "there is none".

pub mod settings;

pub mod address;

pub mod link;

pub mod keys;

pub mod index;

pub mod sessions;

pub mod looking;

mod kept;

pub mod directory;

pub mod checks;

pub mod fitness;

#[cfg(any(test, feature = "test-util"))]
pub mod testing;

#[cfg(test)]
mod tests;

pub use self::{
    address::Address,
    directory::Directory,
    fitness::Fitness,
    index::Index,
    keys::Keys,
    link::{Error, Redis},
    sessions::Sessions,
    settings::Settings,
};

use redis::Script;

/// A script, loaded once per server: it is called by its hash.
pub type LoadedScript = std::sync::LazyLock<Script>;
