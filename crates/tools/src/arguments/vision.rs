//! The mouse by coordinates, in CSS pixels of the viewport.

use schemars::JsonSchema;
use serde::Deserialize;

use super::MouseButton;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MouseMoveXy {
    /// CSS pixels from the left of the viewport
    pub x: f64,
    /// CSS pixels from its top
    pub y: f64,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MouseClickXy {
    /// CSS pixels from the left of the viewport
    pub x: f64,
    /// CSS pixels from its top
    pub y: f64,
    /// Mouse button, left by default
    #[serde(default)]
    pub button: Option<MouseButton>,
    /// Number of clicks, 1 by default
    #[serde(default)]
    #[schemars(range(min = 1, max = 10))]
    pub click_count: Option<u8>,
    /// Milliseconds between press and release, 0 by default
    #[serde(default)]
    #[schemars(range(min = 0, max = 2000))]
    pub delay: Option<f64>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MouseDragXy {
    /// Where the left button is pressed: CSS pixels from the left of the viewport
    pub start_x: f64,
    /// CSS pixels from its top
    pub start_y: f64,
    /// Where it is let go: CSS pixels from the left of the viewport
    pub end_x: f64,
    /// CSS pixels from its top
    pub end_y: f64,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MouseDown {
    /// Mouse button, left by default
    #[serde(default)]
    pub button: Option<MouseButton>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MouseUp {
    /// Mouse button, left by default
    #[serde(default)]
    pub button: Option<MouseButton>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MouseWheel {
    /// CSS pixels to scroll to the right
    #[serde(default)]
    pub delta_x: f64,
    /// CSS pixels to scroll down
    #[serde(default)]
    pub delta_y: f64,
}
