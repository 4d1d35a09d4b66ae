//! What can go wrong with a command, and why a connection ended.

use std::{fmt, io};

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The whole connection has ended: no command will ever succeed on it again.
    #[error("the connection to the browser has ended")]
    Closed(#[source] Closed),
    /// The page's renderer died. `Page.navigate` and `Page.reload` revive it; everything else fails like this until then.
    #[error("the page has crashed")]
    PageCrashed,
    /// The session was detached: its target was closed, or one it was attached through.
    #[error("the target is gone")]
    TargetGone,
    /// The browser refused the command.
    #[error("{method} refused: {message} ({code})")]
    Protocol { method: String, code: i64, message: String },
    /// No answer came within the deadline. The command may still take effect.
    #[error("{method} was not answered in time")]
    Timeout { method: String },
    /// The answer, or an event, does not have the form that was asked for.
    #[error("{method} has an unexpected form")]
    Decode {
        method: String,
        #[source]
        source: serde_json::Error,
    },
    /// The parameters cannot be written as JSON.
    #[error("parameters of {method} cannot be encoded")]
    Encode {
        method: String,
        #[source]
        source: serde_json::Error,
    },
    /// The answer is larger than what is taken from a browser; it was skipped.
    #[error("the answer to {method} is too large: {bytes} bytes")]
    ReplyTooLarge { method: String, bytes: usize },
    /// The command is larger than the browser reads; sending it would end the connection.
    #[error("{method} is too large: {bytes} bytes")]
    TooLarge { method: String, bytes: usize },
}

/// The end of a connection, the same for everyone who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub reason: CloseReason,
}

/// What ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The browser closed its end: it exited or was killed. A half message before that is dropped.
    EndOfStream,
    /// Reading failed.
    Read(io::ErrorKind),
    /// Writing failed; `BrokenPipe` is a browser that has exited, seen by the writer first.
    Write(io::ErrorKind),
    /// We closed it: `Connection::close`, or the tasks were stopped.
    Local,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            CloseReason::EndOfStream => f.write_str("end of stream"),
            CloseReason::Read(kind) => write!(f, "read failed: {kind}"),
            CloseReason::Write(kind) => write!(f, "write failed: {kind}"),
            CloseReason::Local => f.write_str("closed on this side"),
        }
    }
}

impl std::error::Error for Closed {}
