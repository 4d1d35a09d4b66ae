//! The few fields we need of the events we listen to.
//!
//! Decoded by hand-made structs instead of the generated ones: those have closed enums, and a value that a newer
//! Chromium adds must not cost us the event.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrameNavigated {
    pub(super) frame: FrameInfo,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrameInfo {
    pub(super) id: String,
    pub(super) parent_id: Option<String>,
    pub(super) loader_id: String,
    pub(super) url: String,
    #[serde(default)]
    pub(super) url_fragment: String,
    /// The URL that could not be loaded, on Chromium's page about it.
    pub(super) unreachable_url: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WithinDocument {
    pub(super) frame_id: String,
    pub(super) url: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrameAttached {
    pub(super) frame_id: String,
    pub(super) parent_frame_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrameDetached {
    pub(super) frame_id: String,
    /// `swap` when the frame moved to another process and lives on.
    #[serde(default)]
    pub(super) reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Lifecycle {
    pub(super) frame_id: String,
    pub(super) loader_id: String,
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrameOnly {
    pub(super) frame_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NavigationAsked {
    pub(super) frame_id: String,
    #[serde(default)]
    pub(super) navigation_type: String,
    /// `currentTab`, `newTab`, `newWindow`, `download`; absent once it has started.
    pub(super) disposition: Option<String>,
}

impl NavigationAsked {
    /// A move to another place of the same document loads nothing, and one in another tab nothing here.
    pub(super) fn loads_nothing_here(&self) -> bool {
        let elsewhere = self.disposition.as_deref().is_some_and(|disposition| disposition != "currentTab");
        elsewhere || matches!(self.navigation_type.as_str(), "sameDocument" | "historySameDocument")
    }
}

/// A request that waits until it is told to go on, or answered.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequestPaused {
    pub(super) request_id: String,
    pub(super) request: Request,
}

/// What the browser would have begun to drag if it had not been told to leave that to us.
#[derive(Debug, Deserialize)]
pub(super) struct DragIntercepted {
    pub(super) data: serde_json::Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChooserOpened {
    /// The file input.
    pub(super) backend_node_id: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DownloadBegins {
    #[serde(default)]
    pub(super) guid: String,
    pub(super) frame_id: String,
    #[serde(default)]
    pub(super) suggested_filename: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DownloadProgress {
    pub(super) guid: String,
    /// 0 when the server does not say.
    #[serde(default)]
    pub(super) total_bytes: f64,
    #[serde(default)]
    pub(super) received_bytes: f64,
    /// `inProgress`, `completed`, `canceled`.
    #[serde(default)]
    pub(super) state: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TargetCreated {
    pub(super) target_info: TargetInfo,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Targets {
    pub(super) target_infos: Vec<TargetInfo>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TargetInfo {
    pub(super) target_id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The page that opened it, even if it may not know.
    pub(super) opener_id: Option<String>,
    #[serde(default)]
    pub(super) browser_context_id: String,
    #[serde(default)]
    pub(super) url: String,
    #[serde(default)]
    pub(super) title: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TargetOnly {
    pub(super) target_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TargetCrashed {
    pub(super) target_id: String,
    /// killed, crashed, oom, …
    #[serde(default)]
    pub(super) status: String,
    /// The signal, or the exit code.
    #[serde(default)]
    pub(super) error_code: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrameTree {
    pub(super) frame_tree: FrameBranch,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrameBranch {
    pub(super) frame: FrameInfo,
    #[serde(default)]
    pub(super) child_frames: Vec<FrameBranch>,
}

#[derive(Debug, Deserialize)]
pub(super) struct DialogOpening {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct ContextCreated {
    pub(super) context: Context,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Context {
    pub(super) unique_id: String,
    pub(super) name: String,
    pub(super) aux_data: ContextAux,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContextAux {
    #[serde(default)]
    pub(super) frame_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContextDestroyed {
    pub(super) execution_context_unique_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConsoleCalled {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) args: Vec<ConsoleArgument>,
    pub(super) stack_trace: Option<StackTrace>,
}

/// A value on the console, or one that was thrown.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ConsoleArgument {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) subtype: Option<String>,
    /// JSON's null is a value, too.
    #[serde(deserialize_with = "present")]
    pub(super) value: Option<serde_json::Value>,
    /// `NaN`, `-0`, `7n`, …
    pub(super) unserializable_value: Option<String>,
    pub(super) description: Option<String>,
    pub(super) preview: Option<Preview>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Some)
}

#[derive(Debug, Deserialize)]
pub(super) struct Preview {
    /// Whether it has more properties than these.
    #[serde(default)]
    pub(super) overflow: bool,
    #[serde(default)]
    pub(super) properties: Vec<PreviewProperty>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PreviewProperty {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StackTrace {
    #[serde(default)]
    pub(super) call_frames: Vec<CallFrame>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallFrame {
    pub(super) url: String,
    /// From 0.
    pub(super) line_number: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Thrown {
    pub(super) exception_details: ThrownDetails,
}

#[derive(Debug, Deserialize)]
pub(super) struct ThrownDetails {
    #[serde(default)]
    pub(super) text: String,
    pub(super) exception: Option<ConsoleArgument>,
}

#[derive(Debug, Deserialize)]
pub(super) struct LogAdded {
    pub(super) entry: LogEntry,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogEntry {
    pub(super) level: String,
    #[serde(default)]
    pub(super) text: String,
    pub(super) url: Option<String>,
    /// From 0.
    pub(super) line_number: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequestSent {
    pub(super) request_id: String,
    /// XHR, Fetch, Document, Image, …
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    pub(super) request: Request,
    /// Seconds on the browser's own clock.
    #[serde(default)]
    pub(super) timestamp: f64,
    /// Seconds since 1970.
    #[serde(default)]
    pub(super) wall_time: f64,
    /// The answer of the request before, under the same id, that led here.
    pub(super) redirect_response: Option<Response>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) url: String,
    #[serde(default)]
    pub(super) method: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) has_post_data: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResponseReceived {
    #[serde(default)]
    pub(super) request_id: String,
    #[serde(default)]
    pub(super) frame_id: String,
    pub(super) loader_id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) response: Response,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Response {
    pub(super) status: i64,
    #[serde(default)]
    pub(super) status_text: String,
    #[serde(default)]
    pub(super) mime_type: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

impl Response {
    /// The challenge of a server that wants to know who is there. Nobody sits before a prompt: it stays unanswered.
    pub(super) fn login_asked(&self) -> Option<&str> {
        let asks = |name: &str| name.eq_ignore_ascii_case("www-authenticate");
        let asked = self.headers.iter().find(|(name, _)| self.status == 401 && asks(name));
        asked.map(|(_, challenge)| challenge.as_str())
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequestOver {
    pub(super) request_id: String,
    #[serde(default)]
    pub(super) timestamp: f64,
    /// Why it failed, if it did.
    pub(super) error_text: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attached {
    pub(super) session_id: String,
    pub(super) target_info: AttachedTarget,
    pub(super) waiting_for_debugger: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct AttachedTarget {
    #[serde(rename = "type")]
    pub(super) kind: String,
}
