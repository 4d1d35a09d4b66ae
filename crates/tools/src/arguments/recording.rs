//! What records a session from one call to another: its calls, what the browser does, what is seen.

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRecording {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopRecording {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartTracing {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopTracing {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartVideo {
    /// A name for the video, video.webm by default; `browser_stop_video` keeps it under it as a resource
    #[serde(default)]
    pub filename: Option<String>,
    /// Ignored: a video has the size of the viewport
    #[serde(default)]
    pub size: Option<VideoSize>,
    /// Most frames per second while something changes, 5 by default; more than 10 are not taken
    #[serde(default)]
    pub fps: Option<f64>,
    /// Not offered: calls are not paced for a pointer to travel
    #[serde(default)]
    pub cursor: Option<bool>,
}

/// In pixels.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct VideoSize {
    /// Its width in pixels
    pub width: f64,
    /// Its height in pixels
    pub height: f64,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopVideo {}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VideoChapter {
    /// Chapter title
    pub title: String,
    /// Chapter description
    #[serde(default)]
    pub description: Option<String>,
    /// How many milliseconds the card is shown, 2000 by default
    #[serde(default)]
    #[schemars(range(min = 100, max = 10_000))]
    pub duration: Option<f64>,
}
