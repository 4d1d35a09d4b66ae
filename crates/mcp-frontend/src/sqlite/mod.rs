//! Sessions, what is beside them, and connections in a directory of one program, which finds them again when it starts
//! anew: `SQLite`.
//!
//! [`Database`] is the file and the thread that works in it; [`sessions`], [`kept`] and [`connections`] are the stores in it. Times
//! are wall time, which goes on while the program does not.

mod connections;

mod database;

mod kept;

mod sessions;

pub use self::{
    connections::Connections,
    database::{BadStateDir, Database},
    sessions::Sessions,
};
