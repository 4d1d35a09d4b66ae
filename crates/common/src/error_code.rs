//! The one closed list of error codes, and the only place where they become gRPC statuses.
//!
//! A code is what a client may act on; it travels as `ErrorInfo.reason` in a status, as `code` of a tool failure and
//! in `structuredContent` of an MCP tool error. Texts beside it may change, codes may not.

use std::{fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The `domain` of every `ErrorInfo` we send.
pub const DOMAIN: &str = "browserfleet";

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal => $status:ident;)+) => {
        /// What went wrong, as a client may act on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$variant,)+];

            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(ErrorCode::$variant => $name,)+ }
            }

            /// The gRPC status code of a status that carries it.
            pub fn status_code(self) -> Code {
                match self { $(ErrorCode::$variant => Code::$status,)+ }
            }
        }
    };
}

error_codes! {
    /// An argument is missing, malformed or out of range; the message names it and the range.
    InvalidArgument = "invalid_argument" => InvalidArgument;
    /// No, or no valid, credentials.
    Unauthorized = "unauthorized" => Unauthenticated;
    /// The caller may not do this.
    Forbidden = "forbidden" => PermissionDenied;
    /// The session handle is unknown, expired or somebody else's: deliberately one answer.
    HandleUnknownOrExpired = "handle_unknown_or_expired" => NotFound;
    /// A limit of this caller is reached.
    QuotaExceeded = "quota_exceeded" => ResourceExhausted;
    /// Every browser is leased and the queue is full.
    PoolFull = "pool_full" => ResourceExhausted;
    /// The wait in the queue took longer than allowed.
    QueueTimeout = "queue_timeout" => DeadlineExceeded;
    /// The daemon takes no new work.
    Draining = "draining" => Unavailable;
    /// The lease has ended or belongs to somebody else; the pages are gone.
    LeaseLost = "lease_lost" => FailedPrecondition;
    /// The page's renderer crashed; the session goes on.
    BrowserPageCrashed = "browser_page_crashed" => Aborted;
    /// The browser process is gone, or could not be started.
    BrowserGone = "browser_gone" => Unavailable;
    /// The browser took more memory than it may; it was ended.
    BrowserOutOfMemory = "browser_out_of_memory" => ResourceExhausted;
    /// The page does not answer.
    PageHung = "page_hung" => DeadlineExceeded;
    /// The navigation did not finish in time.
    NavigationTimeout = "navigation_timeout" => DeadlineExceeded;
    /// The navigation failed: name resolution, connection, TLS.
    NavigationFailed = "navigation_failed" => Aborted;
    /// The URL's scheme or address is not allowed.
    UrlBlocked = "url_blocked" => PermissionDenied;
    /// The session's own proxy cannot be used; nothing goes around it.
    EgressUnavailable = "egress_unavailable" => Unavailable;
    /// No element matches, or more than one, or it cannot be acted upon.
    ElementNotActionable = "element_not_actionable" => FailedPrecondition;
    /// What was to be verified is not so.
    VerificationFailed = "verification_failed" => FailedPrecondition;
    /// The page's own code failed.
    ScriptError = "script_error" => Aborted;
    /// The result is larger than allowed.
    ResultTooLarge = "result_too_large" => OutOfRange;
    /// The call did not end within its time.
    CallTimeout = "call_timeout" => DeadlineExceeded;
    /// The caller cancelled the call.
    Cancelled = "cancelled" => Cancelled;
    /// Sessions cannot be read or written now.
    StoreUnavailable = "store_unavailable" => Unavailable;
    /// This daemon or front end cannot do it; the message says what would.
    Unsupported = "unsupported" => Unimplemented;
    /// A defect of ours; the log has the details under the request id.
    Internal = "internal" => Internal;
}

impl ErrorCode {
    /// The code of a wire name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }

    /// A status of this code. `message` is for the client.
    pub fn status(self, message: impl Into<String>) -> Status {
        self.status_with(message, None)
    }

    /// A status of this code that says when to try again.
    pub fn status_retry(self, message: impl Into<String>, retry_after: Duration) -> Status {
        self.status_with(message, Some(retry_after))
    }

    fn status_with(self, message: impl Into<String>, retry_after: Option<Duration>) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(self.name(), DOMAIN, std::collections::HashMap::new());
        if let Some(delay) = retry_after {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(self.status_code(), message, details)
    }

    /// The code a status carries. A status without ours comes from the transport: it is guessed from its gRPC code.
    pub fn of(status: &Status) -> Self {
        let reason = status.get_details_error_info().filter(|info| info.domain == DOMAIN).map(|info| info.reason);
        reason.and_then(|reason| Self::from_name(&reason)).unwrap_or_else(|| match status.code() {
            Code::DeadlineExceeded => Self::CallTimeout,
            Code::Cancelled => Self::Cancelled,
            Code::Unavailable => Self::BrowserGone,
            Code::Unauthenticated => Self::Unauthorized,
            Code::PermissionDenied => Self::Forbidden,
            Code::InvalidArgument => Self::InvalidArgument,
            _ => Self::Internal,
        })
    }

    /// When the sender of a status advises to try again.
    pub fn retry_after(status: &Status) -> Option<Duration> {
        status.get_details_retry_info().and_then(|info| info.retry_delay)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for &code in ErrorCode::ALL {
            let status = code.status_retry("text", Duration::from_secs(2));
            assert_eq!(ErrorCode::of(&status), code);
            assert_eq!(ErrorCode::retry_after(&status), Some(Duration::from_secs(2)));
            assert_eq!(status.code(), code.status_code());
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::HashSet<_> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn a_foreign_status_is_guessed_from_its_code() {
        assert_eq!(ErrorCode::of(&Status::unavailable("connection refused")), ErrorCode::BrowserGone);
    }
}
