//! How pages are shown: the size of the viewport, the colour scheme their user prefers, the medium, and the like. All
//! tabs of a session look alike, those included that pages open.

use std::{collections::HashMap, sync::PoisonError};

use browserfleet_cdp::browser_protocol::emulation::{
    MediaFeature, SetDeviceMetricsOverrideParams, SetEmulatedMediaParams,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Context, Emulation, Page, VIEWPORT, emulation};
use crate::failure::Failure;

/// What the pages of a session believe about the screen they are on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Looks {
    /// In CSS pixels.
    viewport: (u32, u32),
    media: Media,
    #[serde(default)]
    emulation: Emulation,
}

impl Default for Looks {
    fn default() -> Self {
        Self { viewport: VIEWPORT, media: Media::default(), emulation: Emulation::default() }
    }
}

impl Looks {
    /// What is emulated beside media.
    pub fn emulation(&self) -> &Emulation {
        &self.emulation
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
        self.shared.network.set_throttle(looks.emulation.network);
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

    /// What is emulated beside media.
    pub fn emulation(&self) -> Emulation {
        self.looks().emulation
    }

    /// Emulates this and nothing else, here and in every tab that comes. What cannot be emulated is not kept.
    ///
    /// # Errors
    /// When the browser does not know a locale or a timezone; then everything stays as it was.
    pub async fn emulate(&self, emulation: Emulation, deadline: Instant) -> Result<(), Failure> {
        let before = self.looks();
        self.set_looks(|looks| looks.emulation = emulation.clone());
        if let Err(failure) = self.take_on_looks(deadline).await {
            self.set_looks(|looks| *looks = before.clone());
            // What of it was taken on goes again: the rest with the next call.
            self.state().looks = None;
            let session = &self.inner.session;
            if let Err(failure) = before.emulation.apply(session, &emulation, deadline).await {
                tracing::debug!(%failure, "a page keeps a part of what it could not emulate");
            }
            return Err(failure);
        }
        self.inner.shared.network.set_throttle(emulation.network);
        self.take_on_network(deadline).await
    }

    /// Shows the page as its session's pages are to be shown. Costs nothing when it is so already.
    pub async fn take_on_looks(&self, deadline: Instant) -> Result<(), Failure> {
        let (wanted, had) = (self.looks(), self.state().looks.clone());
        if had.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let (width, height) = wanted.viewport;
        // Of one that has not taken on all of it: whatever it has, it takes on anew.
        let emulation = &wanted.emulation;
        let scale = emulation.scale.unwrap_or_default();
        let metrics = SetDeviceMetricsOverrideParams::new(i64::from(width), i64::from(height), scale, emulation.mobile);
        let features =
            wanted.media.features.iter().map(|(name, value)| MediaFeature::new(name.as_str(), value.clone()));
        let media = SetEmulatedMediaParams {
            // An empty one is the browser's own.
            media: Some(wanted.media.medium.clone().unwrap_or_default()),
            features: Some(features.collect()),
        };
        let had = had.unwrap_or_default();
        let (emulated, device) = (had.media, had.emulation);
        tokio::try_join!(self.call(metrics, deadline), async {
            if emulated != wanted.media {
                self.call(media, deadline).await?;
            }
            Ok(())
        })?;
        if device != wanted.emulation {
            self.take_on_emulation(&wanted.emulation, &device, deadline).await?;
        }
        self.state().looks = Some(wanted);
        Ok(())
    }

    /// Takes this on in place of what it had, with its frames.
    async fn take_on_emulation(&self, wanted: &Emulation, had: &Emulation, deadline: Instant) -> Result<(), Failure> {
        let session = &self.inner.session;
        wanted.apply(session, had, deadline).await?;
        if wanted.init_scripts != had.init_scripts {
            let before = std::mem::take(&mut self.state().init_scripts);
            emulation::remove_scripts(session, before, deadline).await?;
            let added = wanted.add_scripts(session, deadline).await?;
            self.state().init_scripts = added;
        }
        let frames: HashMap<_, _> = {
            let state = self.state();
            let worlds = state.frames.values().filter_map(|frame| frame.world.as_ref());
            worlds.map(|world| (world.session.id().map(str::to_owned), world.session.clone())).collect()
        };
        for frame in frames.values().filter(|frame| frame.id() != session.id()) {
            // A frame that goes away takes nothing on.
            if let Err(failure) = wanted.apply_everywhere(frame, had, deadline).await {
                tracing::debug!(%failure, "a frame did not take on what is emulated");
            }
        }
        Ok(())
    }
}
