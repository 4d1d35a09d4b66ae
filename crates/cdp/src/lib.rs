//! A thin Chrome `DevTools` Protocol client over `--remote-debugging-pipe`.
//!
//! What it promises, and what chromiumoxide's own runtime does not: every command has a deadline; a crashed page, a gone
//! target and a dead browser fail their pending commands at once, each with its own error; memory is bounded whatever the
//! browser sends; an event nobody understands ends nothing. Only the generated protocol types are chromiumoxide's.
//!
//! In reading order: [`Connection`] owns the pipe, [`Session`] sends commands, [`Events`] receives events, [`Error`] says
//! what went wrong. Inside, `frame` cuts the byte stream (`skim` looks at what is too large to be taken), `wire` reads one message, `registry` decides who gets it.

mod connection;
mod error;
mod events;
#[cfg(any(test, feature = "test-util"))]
pub mod fake;
mod frame;
#[cfg(feature = "test-util")]
pub mod fuzz;
mod registry;
mod session;
mod skim;
mod surrogates;
mod wire;

pub use chromiumoxide_cdp::cdp::{browser_protocol, js_protocol};
pub use chromiumoxide_types::{Command, Method, MethodType};

pub use self::{
    connection::Connection,
    error::{CloseReason, Closed, Error},
    events::{Event, Events, Item, Watermark},
    frame::FRAME_LIMIT,
    registry::{SessionState, Stats},
    session::Session,
    wire::decode,
};
