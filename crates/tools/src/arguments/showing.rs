//! Pages as PDF, helps for people who look at them, and what the server is set to.

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PdfSave {
    /// A name for the PDF, page.pdf by default; it is kept under it as a resource
    #[serde(default)]
    pub filename: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HarExport {
    /// Include the bodies of texts that the browser still has
    #[serde(default)]
    pub bodies: Option<bool>,
    /// A name for the archive, requests.har by default; it is kept under it as a resource
    #[serde(default)]
    pub filename: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Highlight {
    /// What is highlighted, for people
    #[serde(default)]
    pub element: Option<String>,
    /// The element: a ref, or a selector of it alone
    pub target: String,
    /// CSS for the frame around it, such as `outline: 2px dashed red`
    #[serde(default)]
    pub style: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HideHighlight {
    /// What was highlighted, for people
    #[serde(default)]
    pub element: Option<String>,
    /// The element: a ref, or a selector of it alone; without it every highlight goes
    #[serde(default)]
    pub target: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetConfig {}
