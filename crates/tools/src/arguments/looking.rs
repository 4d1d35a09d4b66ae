//! Looking at a page and at what it has done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Only this element and what is in it: a ref, or a selector
    #[serde(default)]
    pub target: Option<String>,
    /// Keep the result as a resource of this name
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

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TakeScreenshot {
    /// What is pictured, for people
    #[serde(default)]
    pub element: Option<String>,
    /// Only this element: a ref, or a selector of it alone
    #[serde(default)]
    pub target: Option<String>,
    /// Image format; by default from the extension of filename, else png
    #[serde(default)]
    pub r#type: Option<ImageType>,
    /// Keep the picture as a resource of this name
    #[serde(default)]
    pub filename: Option<String>,
    /// The whole scrollable page instead of the viewport; not together with target
    #[serde(default)]
    pub full_page: Option<bool>,
    /// css: one image pixel per CSS pixel (default); device: one per device pixel
    #[serde(default)]
    pub scale: Option<Scale>,
    /// Of jpeg and webp; 90 by default
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub quality: Option<u8>,
    /// Most pixels of the longer side; a larger picture is scaled down
    #[serde(default)]
    #[schemars(range(min = 16, max = 16384))]
    pub max_size: Option<u32>,
    /// Write the refs of what can be acted on beside it
    #[serde(default)]
    pub labels: Option<bool>,
    /// Leave the picture out if it is the same as the last one of this tab
    #[serde(default)]
    pub if_changed: Option<bool>,
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
pub struct Find {
    /// Words to look for, whatever their case; either this or regex
    #[serde(default)]
    pub text: Option<String>,
    /// A regular expression as in JavaScript; with slashes it may have flags: /error/i
    #[serde(default)]
    pub regex: Option<String>,
    /// How many lines to show around each match, 3 by default
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    pub context: Option<u32>,
    /// Keep the result as a resource of this name
    #[serde(default)]
    pub filename: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleMessages {
    /// The least bad messages to show, info by default; each level includes the worse ones
    #[serde(default)]
    pub level: Option<ConsoleLevel>,
    /// Those of earlier pages too, not only since the last navigation
    #[serde(default)]
    pub all: Option<bool>,
    /// Keep the result as a resource of this name
    #[serde(default)]
    pub filename: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ConsoleLevel {
    Error,
    Warning,
    #[default]
    Info,
    Debug,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleClear {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkRequests {
    /// Show successful requests for scripts, pictures and the like too
    #[serde(default)]
    pub r#static: Option<bool>,
    /// Only URLs this regular expression matches, such as /api/.*user
    #[serde(default)]
    pub filter: Option<String>,
    /// Keep the result as a resource of this name
    #[serde(default)]
    pub filename: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkRequest {
    /// Its number in the list
    #[schemars(range(min = 1))]
    pub index: usize,
    /// Only this part; without it everything but the bodies
    #[serde(default)]
    pub part: Option<RequestPart>,
    /// Keep the result as a resource of this name
    #[serde(default)]
    pub filename: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum RequestPart {
    RequestHeaders,
    RequestBody,
    ResponseHeaders,
    ResponseBody,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkClear {}
