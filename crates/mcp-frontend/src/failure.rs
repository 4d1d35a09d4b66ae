//! What a call ends with when it does not succeed: a code to act upon, a text that says what to do.

use std::{error::Error, fmt, time::Duration};

use browserfleet_common::{error_code::ErrorCode, pb::ToolFailure, session::is_inside, unavailable::Unavailable};
use tonic::{Code, Status};

/// Most characters of a failure's text.
const TEXT_MAX: usize = 1000;

/// A failed call, for the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((cut, _)) = message.char_indices().nth(TEXT_MAX) {
            message.truncate(cut);
            message.push('…');
        }
        Self { code, message, retry_after: None }
    }

    pub(crate) fn retry(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    /// The same text whether a handle is unknown, expired or somebody else's.
    pub(crate) fn no_such_session() -> Self {
        Self::new(
            ErrorCode::HandleUnknownOrExpired,
            "This session is unknown or has expired. Call browser_open to get a new one, and pass its session_id.",
        )
    }

    /// The session's daemon does not answer, but others would.
    pub(crate) fn out_of_reach(daemon: &str) -> Self {
        if is_inside(daemon) {
            let text = "The browser of this session is at another program, which cannot be reached from here. Call it \
                        through that one, or use browser_navigate to go on with a new browser.";
            return Self::new(ErrorCode::BrowserGone, text);
        }
        Self::new(
            ErrorCode::BrowserGone,
            "The browser of this session cannot be reached right now; its pages may still be there. Try again in a \
             moment, or use browser_navigate to go on with a new browser.",
        )
        .retry(Duration::from_secs(1))
    }

    /// A daemon does not believe this front end: no caller can do anything about it.
    fn not_trusted() -> Self {
        let text = "This server is not set up right: its parts do not share a secret. Its operator finds the reason in the log.";
        Self::new(ErrorCode::Internal, text)
    }

    /// No daemon answers, and nothing has happened yet.
    pub(crate) fn unreachable() -> Self {
        Self::new(ErrorCode::BrowserGone, "The browsers cannot be reached right now. Try again in a moment.")
            .retry(Duration::from_secs(1))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Unavailable> for Failure {
    fn from(error: Unavailable) -> Self {
        tracing::error!(what = error.what, cause = error.cause.as_deref().map(tracing::field::display), "unavailable");
        Self::new(ErrorCode::StoreUnavailable, "Sessions cannot be looked up right now. Try again in a moment.")
            .retry(Duration::from_secs(1))
    }
}

/// A tool's own failure, as it comes in band.
impl From<ToolFailure> for Failure {
    fn from(failure: ToolFailure) -> Self {
        Self::new(ErrorCode::from_name(&failure.code).unwrap_or(ErrorCode::Internal), failure.message)
    }
}

/// Why a daemon did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DaemonError {
    /// It says no.
    Refused(Failure),
    /// The request never reached it: there was no connection.
    Unreachable,
    /// The connection broke, or it said nothing: nobody knows what became of the request.
    Broken,
}

/// The one place where statuses are read.
impl From<Status> for DaemonError {
    fn from(status: Status) -> Self {
        let code = ErrorCode::of(&status);
        if !status.details().is_empty() {
            if code == ErrorCode::Unauthorized {
                tracing::warn!(why = status.message(), "a daemon does not believe us: see grpc.secret_file");
                return Self::Refused(Failure::not_trusted());
            }
            let failure =
                Failure { retry_after: ErrorCode::retry_after(&status), ..Failure::new(code, status.message()) };
            return Self::Refused(failure);
        }
        // Without details it is the transport that speaks; its text is for the log.
        tracing::debug!(status = %status, "the daemon's transport failed");
        match status.code() {
            // The channel's own timer reports a deadline as a cancellation: we never cancel and then look.
            _ if never_sent(&status) => Self::Unreachable,
            Code::Unavailable | Code::Unknown => Self::Broken,
            Code::Internal | Code::Cancelled if connection_broke(&status) => Self::Broken,
            Code::DeadlineExceeded | Code::Cancelled => {
                Self::Refused(Failure::new(ErrorCode::CallTimeout, "The call did not end within its time."))
            }
            _ => Self::Refused(Failure::new(code, format!("The browser's daemon refused the call ({code})."))),
        }
    }
}

/// What a status was made of here; a status from the daemon has no causes.
fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |&cause| cause.source())
}

/// Whether the request has certainly not left this process.
fn never_sent(status: &Status) -> bool {
    causes(status).any(|cause| {
        cause.is::<tonic::ConnectError>()
            || cause.downcast_ref().is_some_and(|error: &hyper::Error| error.is_canceled())
    })
}

/// Whether the connection went away, and it was not our own timer that ended the request.
fn connection_broke(status: &Status) -> bool {
    status.source().is_some() && !causes(status).any(<dyn std::error::Error>::is::<tonic::TimeoutExpired>)
}

impl DaemonError {
    /// Whether the daemon did not answer at all.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable | Self::Broken)
    }

    /// What to tell when nothing else can be tried.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Refused(failure) => failure,
            Self::Unreachable | Self::Broken => Failure::unreachable(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_ours_keep_code_text_and_delay() {
        let status = ErrorCode::PoolFull.status_retry("full", Duration::from_secs(2));
        let DaemonError::Refused(failure) = status.into() else { panic!("refused") };
        assert_eq!((failure.code, failure.message.as_str()), (ErrorCode::PoolFull, "full"));
        assert_eq!(failure.retry_after, Some(Duration::from_secs(2)));
    }

    #[test]
    fn the_transports_texts_stay_inside() {
        for code in [Code::Unavailable, Code::Unknown] {
            assert_eq!(DaemonError::from(Status::new(code, "10.0.0.7:50051 refused")), DaemonError::Broken);
        }
        let DaemonError::Refused(failure) = Status::cancelled("Timeout expired").into() else { panic!("refused") };
        assert_eq!(failure.code, ErrorCode::CallTimeout);
        let DaemonError::Refused(failure) = Status::permission_denied("user root@10.0.0.7").into() else {
            panic!("refused")
        };
        assert!(failure.code == ErrorCode::Forbidden && !failure.message.contains("10.0.0.7"));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(Failure::new(ErrorCode::Internal, "é".repeat(5000)).message.chars().count(), TEXT_MAX + 1);
    }
}
