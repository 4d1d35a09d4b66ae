//! Looking at a page and at what it has done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Only this element and what is in it: a ref from a snapshot, or a selector
    #[serde(default)]
    pub target: Option<String>,
    /// A name under which the result is kept, too, as a resource
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
    /// What is pictured, in words a person understands
    #[serde(default)]
    pub element: Option<String>,
    /// Only this element: a ref from a snapshot, or a selector that matches it alone
    #[serde(default)]
    pub target: Option<String>,
    /// Image format; by default from the extension of filename, else png
    #[serde(default)]
    pub r#type: Option<ImageType>,
    /// A name under which the picture is kept, too, as a resource
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
pub struct Find {
    /// Words to look for, whatever their case; either this or regex
    #[serde(default)]
    pub text: Option<String>,
    /// A regular expression as in JavaScript; with slashes it may have flags: /error/i
    #[serde(default)]
    pub regex: Option<String>,
    /// A name under which the result is kept, too, as a resource
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
    /// A name under which the result is kept, too, as a resource
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
    /// A name under which the result is kept, too, as a resource
    #[serde(default)]
    pub filename: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkRequest {
    /// The number it has in the list of requests
    #[schemars(range(min = 1))]
    pub index: usize,
    /// Only this part; without it everything but the bodies
    #[serde(default)]
    pub part: Option<RequestPart>,
    /// A name under which the result is kept, too, as a resource
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
