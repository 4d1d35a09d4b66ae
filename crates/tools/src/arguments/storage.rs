//! Cookies, local and session storage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CookieList {
    /// Only those whose domain contains this
    #[serde(default)]
    pub domain: Option<String>,
    /// Only those whose path begins with this
    #[serde(default)]
    pub path: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CookieGet {
    /// The cookie's name
    pub name: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CookieSet {
    /// The cookie's name
    pub name: String,
    /// Its value
    pub value: String,
    /// Which host gets it, by default that of the page; with a dot in front the hosts below as well
    #[serde(default)]
    pub domain: Option<String>,
    /// Below which path it is sent, / by default
    #[serde(default)]
    pub path: Option<String>,
    /// Until when, in Unix seconds; by default until the browser ends
    #[serde(default)]
    pub expires: Option<f64>,
    /// Scripts of pages do not see it
    #[serde(default)]
    pub http_only: Option<bool>,
    /// It is sent over HTTPS only
    #[serde(default)]
    pub secure: Option<bool>,
    /// Whether requests from other sites carry it
    #[serde(default)]
    pub same_site: Option<SameSite>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CookieDelete {
    /// The name of the cookies to delete, of whatever domain
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CookieClear {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalStorageList {}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalStorageGet {
    /// The key of the item
    pub key: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalStorageSet {
    /// The key of the item
    pub key: String,
    /// Its value
    pub value: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalStorageDelete {
    /// The key of the item
    pub key: String,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalStorageClear {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionStorageList {}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionStorageGet {
    /// The key of the item
    pub key: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionStorageSet {
    /// The key of the item
    pub key: String,
    /// Its value
    pub value: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionStorageDelete {
    /// The key of the item
    pub key: String,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionStorageClear {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetStorageState {
    /// A name under which the state is kept, too, as a resource
    #[serde(default)]
    pub filename: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetStorageState {
    /// The state, as `browser_storage_state` and Playwright write it: {cookies, origins}
    #[serde(default)]
    pub storage_state: Option<Map<String, Value>>,
    /// In its place the browserfleet:// URI under which one was kept; never a path
    #[serde(default)]
    pub filename: Option<String>,
}
