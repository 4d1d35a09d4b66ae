//! The argument structs: field documentation is what agents read in the JSON schema.

mod acting;
mod emulating;
mod looking;
mod network;
mod pages;
mod reading;
mod recording;
mod running;
mod sessions;
mod showing;
mod storage;
mod testing;
mod vision;

pub use acting::*;
pub use emulating::*;
pub use looking::*;
pub use network::*;
pub use pages::*;
pub use reading::*;
pub use recording::*;
pub use running::*;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
pub use sessions::*;
pub use showing::*;
pub use storage::*;
pub use testing::*;
pub use vision::*;

/// The arguments of one tool.
pub trait Arguments: DeserializeOwned + JsonSchema + Send + 'static {
    /// The tool's name in the catalogue.
    const TOOL: &'static str;
}

/// Arguments that do not fit their tool. The text is for the agent: what is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadArguments {
    pub(crate) tool: &'static str,
    pub(crate) what: String,
    pub(crate) path: String,
}

impl std::fmt::Display for BadArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Invalid arguments for tool \"{}\":\n✖ {}", self.tool, self.what)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "\n  → at {}", self.path) }
    }
}

impl std::error::Error for BadArguments {}

/// Reads the arguments of a tool from JSON.
pub fn parse<A: Arguments>(value: Value) -> Result<A, BadArguments> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        BadArguments {
            tool: A::TOOL,
            what: error.inner().to_string(),
            path: if path == "." { String::new() } else { path },
        }
    })
}

macro_rules! arguments {
    ($($tool:literal => $name:ident),+ $(,)?) => { $(impl Arguments for $name { const TOOL: &'static str = $tool; })+ };
}

arguments! {
    "browser_open" => Open,
    "browser_batch" => Batch,
    "browser_navigate" => Navigate,
    "browser_snapshot" => Snapshot,
    "browser_click" => Click,
    "browser_type" => Type,
    "browser_handle_dialog" => HandleDialog,
    "browser_evaluate" => Evaluate,
    "browser_take_screenshot" => TakeScreenshot,
    "browser_close" => Close,
    "browser_navigate_back" => NavigateBack,
    "browser_navigate_forward" => NavigateForward,
    "browser_reload" => Reload,
    "browser_resize" => Resize,
    "browser_emulate_media" => EmulateMedia,
    "browser_wait_for" => WaitFor,
    "browser_tabs" => Tabs,
    "browser_find" => Find,
    "browser_read" => Read,
    "browser_extract" => Extract,
    "browser_console_messages" => ConsoleMessages,
    "browser_console_clear" => ConsoleClear,
    "browser_network_requests" => NetworkRequests,
    "browser_network_request" => NetworkRequest,
    "browser_network_clear" => NetworkClear,
    "browser_hover" => Hover,
    "browser_drag" => Drag,
    "browser_press_key" => PressKey,
    "browser_keydown" => KeyDown,
    "browser_keyup" => KeyUp,
    "browser_select_option" => SelectOption,
    "browser_check" => Check,
    "browser_uncheck" => Uncheck,
    "browser_fill_form" => FillForm,
    "browser_file_upload" => FileUpload,
    "browser_drop" => Drop,
    "browser_cookie_list" => CookieList,
    "browser_cookie_get" => CookieGet,
    "browser_cookie_set" => CookieSet,
    "browser_cookie_delete" => CookieDelete,
    "browser_cookie_clear" => CookieClear,
    "browser_localstorage_list" => LocalStorageList,
    "browser_localstorage_get" => LocalStorageGet,
    "browser_localstorage_set" => LocalStorageSet,
    "browser_localstorage_delete" => LocalStorageDelete,
    "browser_localstorage_clear" => LocalStorageClear,
    "browser_sessionstorage_list" => SessionStorageList,
    "browser_sessionstorage_get" => SessionStorageGet,
    "browser_sessionstorage_set" => SessionStorageSet,
    "browser_sessionstorage_delete" => SessionStorageDelete,
    "browser_sessionstorage_clear" => SessionStorageClear,
    "browser_storage_state" => GetStorageState,
    "browser_set_storage_state" => SetStorageState,
    "browser_verify_element_visible" => VerifyElementVisible,
    "browser_verify_text_visible" => VerifyTextVisible,
    "browser_verify_list_visible" => VerifyListVisible,
    "browser_verify_value" => VerifyValue,
    "browser_generate_locator" => GenerateLocator,
    "browser_mouse_move_xy" => MouseMoveXy,
    "browser_mouse_click_xy" => MouseClickXy,
    "browser_mouse_drag_xy" => MouseDragXy,
    "browser_mouse_down" => MouseDown,
    "browser_mouse_up" => MouseUp,
    "browser_mouse_wheel" => MouseWheel,
    "browser_route" => Route,
    "browser_route_list" => RouteList,
    "browser_unroute" => Unroute,
    "browser_network_state_set" => NetworkStateSet,
    "browser_pdf_save" => PdfSave,
    "browser_emulate" => Emulate,
    "browser_har_export" => HarExport,
    "browser_highlight" => Highlight,
    "browser_hide_highlight" => HideHighlight,
    "browser_start_recording" => StartRecording,
    "browser_stop_recording" => StopRecording,
    "browser_start_tracing" => StartTracing,
    "browser_stop_tracing" => StopTracing,
    "browser_start_video" => StartVideo,
    "browser_stop_video" => StopVideo,
    "browser_video_chapter" => VideoChapter,
    "browser_get_config" => GetConfig,
    "browser_read_cursor" => ReadCursor,
    "session_run_tasks" => RunTasks,
    "session_list" => SessionList,
    "session_stats" => SessionStats,
    "session_close" => SessionClose,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wrong_argument_is_named() {
        let error = parse::<Click>(json!({ "target": 5 })).unwrap_err().to_string();
        assert!(error.starts_with("Invalid arguments for tool \"browser_click\":\n✖ "), "{error}");
        assert!(error.ends_with("→ at target"), "{error}");
        let error = parse::<Click>(json!({})).unwrap_err().to_string();
        assert!(error.contains("missing field `target`"), "{error}");
        let error = parse::<Click>(json!({ "target": "e1", "targets": 1 })).unwrap_err().to_string();
        assert!(error.contains("targets"), "{error}");
    }

    #[test]
    fn the_peers_spelling_is_ours() {
        let click: Click =
            parse(json!({ "target": "e1", "doubleClick": true, "button": "right", "modifiers": ["Shift"] })).unwrap();
        assert_eq!(click.double_click, Some(true));
        let shot: TakeScreenshot = parse(json!({ "fullPage": true, "scale": "css", "type": "jpeg" })).unwrap();
        assert_eq!((shot.full_page, shot.r#type), (Some(true), Some(ImageType::Jpeg)));
    }
}
