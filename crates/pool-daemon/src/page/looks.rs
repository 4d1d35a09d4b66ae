//! How pages are shown: the size of the viewport, the colour scheme their user prefers, the medium, and the like. All
//! tabs of a session look alike, those included that pages open.

use std::sync::PoisonError;

use browserfleet_cdp::browser_protocol::emulation::{
    MediaFeature, SetDeviceMetricsOverrideParams, SetEmulatedMediaParams,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Context, Page, VIEWPORT};
use crate::failure::Failure;

/// What the pages of a session believe about the screen they are on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looks {
    /// In CSS pixels.
    viewport: (u32, u32),
    media: Media,
}

impl Default for Looks {
    fn default() -> Self {
        Self { viewport: VIEWPORT, media: Media::default() }
    }
}

/// What is emulated; what is `None` is the browser's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// `screen` or `print`.
    pub medium: Option<String>,
    /// `prefers-color-scheme` and other media features, with their values.
    pub features: Vec<(String, String)>,
}

impl Media {
    /// Sets a feature, or ends its emulation.
    pub fn set(&mut self, feature: &str, value: Option<String>) {
        self.features.retain(|(known, _)| known != feature);
        self.features.extend(value.map(|value| (feature.to_owned(), value)));
    }
}

impl Context {
    /// How its pages are shown.
    pub fn looks(&self) -> Looks {
        self.shared.looks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has its pages shown like this: those that open from now on, and the others once they take on their looks.
    pub fn set_looks(&self, looks: Looks) {
        *self.shared.looks.lock().unwrap_or_else(PoisonError::into_inner) = looks;
    }
}

impl Page {
    /// What the session's pages are shown like now.
    fn looks(&self) -> Looks {
        self.inner.shared.looks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_looks(&self, change: impl FnOnce(&mut Looks)) {
        change(&mut self.inner.shared.looks.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What is emulated now.
    pub fn media(&self) -> Media {
        self.looks().media
    }

    /// Emulates this and nothing else, here and in every tab that comes.
    pub async fn emulate_media(&self, media: Media, deadline: Instant) -> Result<(), Failure> {
        self.set_looks(|looks| looks.media = media);
        self.take_on_looks(deadline).await
    }

    /// Sets the viewport, in CSS pixels, here and in every tab that comes.
    pub async fn resize(&self, width: u32, height: u32, deadline: Instant) -> Result<(), Failure> {
        self.set_looks(|looks| looks.viewport = (width, height));
        self.take_on_looks(deadline).await
    }

    /// Shows the page as its session's pages are to be shown. Costs nothing when it is so already.
    pub async fn take_on_looks(&self, deadline: Instant) -> Result<(), Failure> {
        let (wanted, had) = (self.looks(), self.state().looks.clone());
        if had.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let (width, height) = wanted.viewport;
        let metrics = SetDeviceMetricsOverrideParams::new(i64::from(width), i64::from(height), 0.0, false);
        let features =
            wanted.media.features.iter().map(|(name, value)| MediaFeature::new(name.as_str(), value.clone()));
        let media = SetEmulatedMediaParams {
            // An empty one is the browser's own.
            media: Some(wanted.media.medium.clone().unwrap_or_default()),
            features: Some(features.collect()),
        };
        let emulated = had.map_or_else(Media::default, |had| had.media);
        tokio::try_join!(self.call(metrics, deadline), async {
            if emulated != wanted.media {
                self.call(media, deadline).await?;
            }
            Ok(())
        })?;
        self.state().looks = Some(wanted);
        Ok(())
    }
}
