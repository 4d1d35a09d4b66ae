//! Why a tool failed, for the agent: a code to act upon and a text that says what to do.

use browserfleet_cdp::Error;
use browserfleet_common::error_code::ErrorCode;

/// Longest text, in characters: some of it comes from pages.
const MAX_TEXT: usize = 1000;

/// A tool's failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub code: ErrorCode,
    pub message: String,
    /// The page stands still behind a dialog: the reply shows it.
    pub modal: bool,
}

impl Failure {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MAX_TEXT) {
            message.truncate(end);
            message.push('…');
        }
        Self { code, message, modal: false }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// A dialog opened while the page was being worked on.
    pub fn modal() -> Self {
        let message = "a dialog blocks the page; answer it with browser_handle_dialog";
        Self { modal: true, ..Self::new(ErrorCode::PageHung, message) }
    }

    /// The page did not answer in time.
    pub fn hung() -> Self {
        Self::new(
            ErrorCode::PageHung,
            "the page did not answer in time; its script was stopped. Try again, or load another page",
        )
    }

    /// The page's renderer died.
    pub fn page_crashed(out_of_memory: bool) -> Self {
        let why = if out_of_memory { ": most likely it needed more memory than a page may have" } else { "" };
        Self::new(
            ErrorCode::BrowserPageCrashed,
            format!("the page has crashed{why}. Use browser_navigate to load it again, or another one"),
        )
    }

    /// A frame in a process of its own died; the page around it did not.
    pub fn frame_crashed() -> Self {
        Self::new(
            ErrorCode::ElementNotActionable,
            "the frame of this element has crashed; the rest of the page works. Load the page again with browser_navigate",
        )
    }

    /// A ref of a document that was shown in an earlier browser of the session.
    pub fn earlier_browser(target: &str) -> Self {
        let message = format!(
            "Ref {target} is of a page before the session was restored in another browser. Take a new snapshot and use its refs"
        );
        Self::new(ErrorCode::ElementNotActionable, message)
    }

    /// The document the work was about has been replaced.
    pub fn stale_document() -> Self {
        Self::new(ErrorCode::ElementNotActionable, STALE)
    }

    /// Whether the document the work was about has been replaced: trying again may succeed.
    pub fn is_stale_document(&self) -> bool {
        self.message == STALE
    }
}

const STALE: &str = "the page has gone elsewhere meanwhile; take a new snapshot";

/// The one place where errors of the protocol become failures of tools.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Closed(_) => Self::new(
                ErrorCode::BrowserGone,
                "the browser has died; its pages, cookies and storage are lost. Use browser_navigate to go on with a new \
                 one",
            ),
            Error::PageCrashed => Self::page_crashed(false),
            Error::TargetGone => Self::new(
                ErrorCode::BrowserPageCrashed,
                "the page was closed. Use browser_navigate to open another one",
            ),
            Error::Timeout { .. } => Self::hung(),
            Error::Protocol { message, .. } if document_is_gone(message) => Self::stale_document(),
            Error::Protocol { message, .. } => {
                Self::new(ErrorCode::Internal, format!("the browser refused: {message}"))
            }
            Error::ReplyTooLarge { bytes, .. } => Self::new(
                ErrorCode::ResultTooLarge,
                format!("the page's answer has {bytes} bytes, more than can be taken; ask for a part of it"),
            ),
            Error::TooLarge { bytes, .. } => {
                Self::new(ErrorCode::InvalidArgument, format!("the arguments are too large: {bytes} bytes"))
            }
            Error::Decode { .. } | Error::Encode { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "protocol error");
                Self::new(ErrorCode::Internal, "the browser answered in an unexpected form")
            }
        }
    }
}

/// Chromium's words for a context or node that went with its document.
fn document_is_gone(message: &str) -> bool {
    const WORDS: [&str; 5] = [
        "Cannot find context",
        "context was destroyed",
        "uniqueContextId not found",
        "Cannot find execution context",
        "Inspected target navigated or closed",
    ];
    WORDS.iter().any(|words| message.contains(words))
}
