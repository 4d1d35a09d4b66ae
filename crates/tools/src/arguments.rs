//! The argument structs: field documentation is what agents read in the JSON schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The arguments of one tool.
pub trait Arguments: DeserializeOwned + JsonSchema + Send + 'static {
    /// The tool's name in the catalogue.
    const TOOL: &'static str;
}

/// Arguments that do not fit their tool. The text is for the agent: what is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadArguments {
    tool: &'static str,
    what: String,
    path: String,
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
    "browser_navigate" => Navigate,
    "browser_snapshot" => Snapshot,
    "browser_click" => Click,
    "browser_type" => Type,
    "browser_handle_dialog" => HandleDialog,
    "browser_evaluate" => Evaluate,
    "browser_take_screenshot" => TakeScreenshot,
    "browser_close" => Close,
    "session_list" => SessionList,
    "session_stats" => SessionStats,
    "session_close" => SessionClose,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// false asks for a window on a display; only where the server has one
    #[serde(default)]
    pub headless: Option<bool>,
    /// Viewport width in CSS pixels, 1280 by default
    #[serde(default)]
    #[schemars(range(min = 16, max = 4096))]
    pub width: Option<u32>,
    /// Viewport height in CSS pixels, 720 by default
    #[serde(default)]
    #[schemars(range(min = 16, max = 4096))]
    pub height: Option<u32>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Navigate {
    /// Where to go; https:// is assumed when the scheme is missing
    pub url: String,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Only this element and what is in it: a ref from a snapshot, or a selector
    #[serde(default)]
    pub target: Option<String>,
    /// Accepted for compatibility; the snapshot is always in the reply, no file is written on the server
    #[serde(default)]
    pub filename: Option<String>,
    /// How many levels of the tree to show
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub depth: Option<u32>,
    /// Add [box=x,y,width,height] to each element, in CSS pixels of the viewport
    #[serde(default)]
    pub boxes: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Click {
    /// What is clicked, in words a person understands
    #[serde(default)]
    pub element: Option<String>,
    /// The element: a ref from a snapshot, or a selector that matches it alone
    pub target: String,
    /// Double click instead of a single one
    #[serde(default)]
    pub double_click: Option<bool>,
    /// Mouse button, left by default
    #[serde(default)]
    pub button: Option<MouseButton>,
    /// Keys held down during the click
    #[serde(default)]
    #[schemars(length(max = 5))]
    pub modifiers: Option<Vec<Modifier>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum MouseButton {
    #[default]
    Left,
    Right,
    Middle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum Modifier {
    Alt,
    Control,
    ControlOrMeta,
    Meta,
    Shift,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Type {
    /// What is typed into, in words a person understands
    #[serde(default)]
    pub element: Option<String>,
    /// The element: a ref from a snapshot, or a selector that matches it alone
    pub target: String,
    /// The text; it replaces what is there
    pub text: String,
    /// Press Enter afterwards
    #[serde(default)]
    pub submit: Option<bool>,
    /// Press a key per character, appending, for pages that listen to keys
    #[serde(default)]
    pub slowly: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HandleDialog {
    /// Accept (OK) or dismiss (Cancel)
    pub accept: bool,
    /// The answer to a prompt
    #[serde(default)]
    pub prompt_text: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// The element the function gets, in words a person understands
    #[serde(default)]
    pub element: Option<String>,
    /// An element to pass to the function: a ref from a snapshot, or a selector that matches it alone
    #[serde(default)]
    pub target: Option<String>,
    /// `() => { /* code */ }`, or `(element) => { /* code */ }` with a target; an expression works too
    pub function: String,
    /// Accepted for compatibility; the result is always in the reply
    #[serde(default)]
    pub filename: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TakeScreenshot {
    /// What is pictured, in words a person understands
    #[serde(default)]
    pub element: Option<String>,
    /// Only this element: a ref from a snapshot, or a selector that matches it alone
    #[serde(default)]
    pub target: Option<String>,
    /// Image format; by default from the extension of filename, else png
    #[serde(default)]
    pub r#type: Option<ImageType>,
    /// A name for the picture; it is in the reply, no file is written on the server
    #[serde(default)]
    pub filename: Option<String>,
    /// The whole scrollable page instead of the viewport; not together with target
    #[serde(default)]
    pub full_page: Option<bool>,
    /// css: one image pixel per CSS pixel (default); device: one per device pixel
    #[serde(default)]
    pub scale: Option<Scale>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ImageType {
    #[default]
    Png,
    Jpeg,
    Webp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Scale {
    #[default]
    Css,
    Device,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Close {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionList {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionStats {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionClose {}

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
