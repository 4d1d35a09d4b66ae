//! How a page believes to be shown: the colour scheme its user prefers, the medium, and the like.

use browserfleet_cdp::browser_protocol::emulation::{MediaFeature, SetEmulatedMediaParams};
use tokio::time::Instant;

use super::Page;
use crate::failure::Failure;

/// What is emulated; what is `None` is the browser's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// `screen` or `print`.
    pub medium: Option<String>,
    /// `prefers-color-scheme` and other media features, with their values.
    pub features: Vec<(&'static str, String)>,
}

impl Media {
    /// Sets a feature, or ends its emulation.
    pub fn set(&mut self, feature: &'static str, value: Option<String>) {
        self.features.retain(|(known, _)| *known != feature);
        self.features.extend(value.map(|value| (feature, value)));
    }
}

impl Page {
    /// What is emulated now.
    pub fn media(&self) -> Media {
        self.state().media.clone()
    }

    /// Emulates this and nothing else.
    pub async fn emulate_media(&self, media: Media, deadline: Instant) -> Result<(), Failure> {
        let features = media.features.iter().map(|(name, value)| MediaFeature::new(*name, value.clone())).collect();
        let command = SetEmulatedMediaParams {
            // An empty one is the browser's own.
            media: Some(media.medium.clone().unwrap_or_default()),
            features: Some(features),
        };
        self.call(command, deadline).await?;
        self.state().media = media;
        Ok(())
    }
}
