//! The MCP front end: what agents talk to. It keeps nothing between two requests that another front end would miss.
//!
//! In suggested reading order: [`App`] is the whole, `http` and `mcp` are the way in, `call` is one tool call,
//! [`session`], [`connection`] and [`bus`] are what front ends share, `pool_client` is the way to the browsers.

mod app;

mod config;

pub mod cli;

mod http;

mod mcp;

mod call;

mod caller;

mod failure;

pub mod session;

pub mod connection;

pub mod bus;

mod pool_client;

#[cfg(any(test, feature = "test-util"))]
pub mod testing;

pub use app::{App, Fault, Host, Stores};
pub use config::Config;
pub use failure::Unavailable;
