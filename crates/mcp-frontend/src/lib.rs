//! The MCP front end: what agents talk to. It keeps nothing between two requests that another front end would miss.
//!
//! In suggested reading order: [`App`] is the whole, `http` and `mcp` are the way in, `call` is one tool call,
//! [`session`], [`connection`] and [`bus`] are what front ends share, `fleet` is the way to the browsers.

mod app;

mod core;

pub mod stores;

mod fleet;

mod running;
pub mod secrets;

mod config;

pub mod cli;

mod http;

mod mcp;

pub mod keys;

pub mod oauth;

mod access;

mod limits;

mod artifacts;
mod audit;

pub mod usage;

mod call;

mod caller;

mod failure;

pub mod session;

pub mod connection;

pub mod sqlite;

pub mod bus;

pub mod changes;

#[cfg(any(test, feature = "test-util"))]
pub mod testing;

pub use self::core::{Fault, Host};
pub use app::App;
pub use browserfleet_common::unavailable::Unavailable;
pub use config::Config;
pub use fleet::{Pools, Wire};
pub use stores::Stores;
