//! The tool catalogue: what agents can call, in one place.
//!
//! An entry is a [`Tool`]: name, argument struct (the JSON schema is derived from it), description, annotations,
//! the [`Group`] that it belongs to, the [`Scope`] a caller needs. Names, arguments and reply sections are those of Playwright MCP, so that switching is one
//! URL. The implementation of a tool is one function: in the pool daemon for [`Place::Browser`], in the front end for
//! [`Place::FrontEnd`].

mod arguments;
mod batch;
mod catalogue;
mod groups;
mod optional;
mod outputs;
mod schema;
mod scope;
pub mod secrets;
mod slim;
mod snapshot_mode;

pub use arguments::*;
pub use batch::{BadBatch, Planned, STEPS_MAX, TASKS_MAX};
pub use catalogue::{CATALOGUE, Effect, Place, SessionUse, Tool, find};
pub use groups::Groups;
pub use schema::{MAX_BYTES, MAX_BYTES_RANGE, SESSION_ID};
pub use scope::{Group, Scope, UnknownName};
pub use slim::Slimmed;
pub use snapshot_mode::{SNAPSHOT, SnapshotMode};
