//! The device, the place and the network that pages believe they are on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ColorScheme, ReducedMotion, pages::given};

/// What is left out stays as it is; null ends an emulation.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Emulate {
    /// End every emulation first, the viewport's size included
    #[serde(default)]
    pub reset: Option<bool>,
    /// Size, touch and user agent of a device
    #[serde(default)]
    pub device: Option<Device>,
    /// Viewport width in CSS pixels
    #[serde(default)]
    #[schemars(range(min = 16, max = 4096))]
    pub width: Option<u32>,
    /// Viewport height in CSS pixels
    #[serde(default)]
    #[schemars(range(min = 16, max = 4096))]
    pub height: Option<u32>,
    /// A language tag such as de-AT; null for the browser's own
    #[serde(default, deserialize_with = "given")]
    #[schemars(extend("nullable" = true))]
    pub locale: Option<Option<String>>,
    /// A name such as Europe/Vienna; null for the server's own
    #[serde(default, deserialize_with = "given")]
    #[schemars(extend("nullable" = true))]
    pub timezone: Option<Option<String>>,
    /// prefers-color-scheme; null for the browser's own
    #[serde(default, deserialize_with = "given")]
    #[schemars(extend("nullable" = true))]
    pub color_scheme: Option<Option<ColorScheme>>,
    /// prefers-reduced-motion; null for the browser's own
    #[serde(default, deserialize_with = "given")]
    #[schemars(extend("nullable" = true))]
    pub reduced_motion: Option<Option<ReducedMotion>>,
    /// Where it is; pages may ask without asking anybody. null for nowhere
    #[serde(default, deserialize_with = "given")]
    #[schemars(extend("nullable" = true))]
    pub geolocation: Option<Option<Position>>,
    /// null for the browser's own
    #[serde(default, deserialize_with = "given")]
    #[schemars(extend("nullable" = true))]
    pub user_agent: Option<Option<String>>,
    /// How fast the network is; null for as fast as it is
    #[serde(default, deserialize_with = "given")]
    #[schemars(extend("nullable" = true))]
    pub network: Option<Option<NetworkSpeed>>,
    /// How many times slower the processor is, up to 20; null for as fast as it is
    #[serde(default, deserialize_with = "given")]
    #[schemars(extend("nullable" = true))]
    pub cpu: Option<Option<f64>>,
}

/// A place on earth.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Position {
    /// Degrees, from -90 to 90
    pub latitude: f64,
    /// Degrees, from -180 to 180
    pub longitude: f64,
    /// Metres, 10 by default
    #[serde(default)]
    pub accuracy: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Device {
    Iphone,
    Pixel,
    Ipad,
    Laptop,
    Desktop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum NetworkSpeed {
    #[serde(rename = "3g")]
    Of3g,
    #[serde(rename = "slow-4g")]
    Slow4g,
    #[serde(rename = "fast-4g")]
    Fast4g,
}
