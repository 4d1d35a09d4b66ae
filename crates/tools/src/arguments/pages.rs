//! Where pages go and how they are shown.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

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
    /// The only origins the session reaches, such as `https://example.com`, `*.example.com` or `localhost:3000`
    #[serde(default)]
    pub allowed_origins: Option<Vec<String>>,
    /// Origins the session does not reach, even if allowed
    #[serde(default)]
    pub blocked_origins: Option<Vec<String>>,
    /// A proxy of your own, such as `http://user:password@proxy.example.com:3128`
    #[serde(default)]
    pub proxy_server: Option<String>,
    /// A language tag such as de-AT
    #[serde(default)]
    pub locale: Option<String>,
    /// A name such as Europe/Vienna
    #[serde(default)]
    pub timezone: Option<String>,
    #[serde(default)]
    pub user_agent: Option<String>,
    /// Headers to send with every request
    #[serde(default)]
    pub headers: Option<BTreeMap<String, String>>,
    /// Scripts to run in every new document before its own
    #[serde(default)]
    #[schemars(length(max = 10))]
    pub init_scripts: Option<Vec<String>>,
    /// Cookies and local storage to begin with, as `browser_storage_state` and Playwright write them: {cookies, origins}
    #[serde(default)]
    pub storage_state: Option<Map<String, Value>>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Navigate {
    /// Where to go; https:// is assumed when the scheme is missing
    pub url: String,
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

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Close {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NavigateBack {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NavigateForward {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// In CSS pixels
    #[schemars(range(min = 16, max = 4096))]
    pub width: f64,
    /// In CSS pixels
    #[schemars(range(min = 16, max = 4096))]
    pub height: f64,
}

/// What is left out stays as it is; null ends an emulation.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EmulateMedia {
    /// prefers-color-scheme
    #[serde(default, deserialize_with = "given")]
    #[schemars(extend("nullable" = true))]
    pub color_scheme: Option<Option<ColorScheme>>,
    /// prefers-reduced-motion
    #[serde(default, deserialize_with = "given")]
    #[schemars(extend("nullable" = true))]
    pub reduced_motion: Option<Option<ReducedMotion>>,
    /// forced-colors
    #[serde(default, deserialize_with = "given")]
    #[schemars(extend("nullable" = true))]
    pub forced_colors: Option<Option<ForcedColors>>,
    /// prefers-contrast
    #[serde(default, deserialize_with = "given")]
    #[schemars(extend("nullable" = true))]
    pub contrast: Option<Option<Contrast>>,
    /// The medium styles are made for
    #[serde(default, deserialize_with = "given")]
    #[schemars(extend("nullable" = true))]
    pub media: Option<Option<Medium>>,
}

/// Tells null, which is given, from nothing, which is not.
#[expect(clippy::option_option, reason = "null and nothing are two things here")]
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum ColorScheme {
    Light,
    Dark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum ReducedMotion {
    Reduce,
    NoPreference,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum ForcedColors {
    Active,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Contrast {
    More,
    NoPreference,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Medium {
    Screen,
    Print,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WaitFor {
    /// Seconds to wait, at most 30
    #[serde(default)]
    #[schemars(range(min = 0, max = 30))]
    pub time: Option<f64>,
    /// Text that has to appear
    #[serde(default)]
    pub text: Option<String>,
    /// Text that has to go
    #[serde(default)]
    pub text_gone: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tabs {
    /// What to do
    pub action: TabAction,
    /// Its number in the list, for close and select
    #[serde(default)]
    pub index: Option<usize>,
    /// Where a new tab goes
    #[serde(default)]
    pub url: Option<String>,
    /// A name for a new tab, or in place of index that of the tab to close or select
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum TabAction {
    List,
    New,
    Close,
    Select,
}
