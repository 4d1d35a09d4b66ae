//! Getting what a page says, for reading and for programs.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Only this element: a ref, or a selector of it alone
    #[serde(default)]
    pub target: Option<String>,
    /// Keep the result as a resource of this name
    #[serde(default)]
    pub filename: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Extract {
    /// What to get, by name: a CSS selector for its text, or {selector, attribute, all, fields}: `all` for a list, `fields` for an
    /// object of what is inside. Such as {"items": {"selector": ".row", "all": true, "fields": {"name": "h2", "link":
    /// {"selector": "a", "attribute": "href"}}}}
    pub schema: Map<String, Value>,
    /// Only inside this element: a ref, or a selector of it alone
    #[serde(default)]
    pub target: Option<String>,
    /// Keep the result as a resource of this name
    #[serde(default)]
    pub filename: Option<String>,
}
