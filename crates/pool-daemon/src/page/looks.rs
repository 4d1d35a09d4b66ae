//! How pages are shown: the size of the viewport, the colour scheme their user prefers, the medium, and the like. All
//! tabs of a session look alike, those included that pages open.

use std::sync::PoisonError;

use browserfleet_cdp::browser_protocol::emulation::{
    MediaFeature, SetDeviceMetricsOverrideParams, SetEmulatedMediaParams,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Context, Emulation, Page, VIEWPORT, context::Shared, emulation::wear};
use crate::failure::Failure;

/// What the pages of a session believe about the screen they are on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Looks {
    /// In CSS pixels.
    pub viewport: (u32, u32),
    pub media: Media,
    /// What is emulated beside media.
    #[serde(default)]
    pub emulation: Emulation,
}

impl Default for Looks {
    fn default() -> Self {
        Self { viewport: VIEWPORT, media: Media::default(), emulation: Emulation::default() }
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

impl Shared {
    fn looks(&self) -> Looks {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_looks(&self, looks: Looks) {
        self.network.set_throttle(looks.emulation.network);
        *self.looks.lock().unwrap_or_else(PoisonError::into_inner) = looks;
    }
}

impl Context {
    /// How its pages are shown.
    pub fn looks(&self) -> Looks {
        self.shared.looks()
    }

    /// Has its pages shown like this: those that open from now on, and the others once they take on their looks.
    pub fn set_looks(&self, looks: Looks) {
        self.shared.set_looks(looks);
    }
}

impl Page {
    /// How the session's pages are shown now.
    pub fn looks(&self) -> Looks {
        self.inner.shared.looks()
    }

    /// Shows the page like this, and every tab of its session, also those that come.
    ///
    /// # Errors
    /// When the browser does not know a locale or a timezone, or the page does not answer; then the session's looks stay as
    /// they were, also when the call is dropped, and what the page has of the new ones goes with the next call at the latest.
    pub async fn show_as(&self, looks: Looks, deadline: Instant) -> Result<(), Failure> {
        if let Err(failure) = self.put_on(&looks, deadline).await {
            let _tried_again_by_the_next_call = self.take_on_looks(deadline).await;
            return Err(failure);
        }
        self.inner.shared.set_looks(looks);
        self.take_on_network(deadline).await
    }

    /// Shows the page as its session's pages are to be shown. Costs nothing when it is so already.
    pub async fn take_on_looks(&self, deadline: Instant) -> Result<(), Failure> {
        self.put_on(&self.looks(), deadline).await
    }

    async fn put_on(&self, wanted: &Looks, deadline: Instant) -> Result<(), Failure> {
        let had = {
            let mut state = self.state();
            if state.looks.as_ref() == Some(wanted) {
                return Ok(());
            }
            // Until it has been told all of it, nobody knows how it is shown.
            state.looks.take()
        };
        let (width, height) = wanted.viewport;
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
        tokio::try_join!(self.call(metrics, deadline), async {
            if had.is_none_or(|had| had.media != wanted.media) {
                self.call(media, deadline).await?;
            }
            Ok(())
        })?;
        self.take_on_emulation(emulation, deadline).await?;
        self.state().looks = Some(wanted.clone());
        Ok(())
    }

    /// Takes this on, with its frames.
    async fn take_on_emulation(&self, wanted: &Emulation, deadline: Instant) -> Result<(), Failure> {
        wear(&self.inner, &self.inner.session, wanted, deadline).await?;
        // At once: a frame that is being set up either sees it, or is among those that are told here.
        let frames: Vec<_> = {
            let mut state = self.state();
            state.emulation = wanted.clone();
            let ready = state.attached.values().filter(|frame| frame.ready);
            ready.map(|frame| frame.session.clone()).collect()
        };
        for frame in frames {
            // A frame that goes away takes nothing on.
            if let Err(failure) = wear(&self.inner, &frame, wanted, deadline).await {
                tracing::debug!(%failure, "a frame did not take on what is emulated");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use browserfleet_cdp::fake::{Peer, Request};
    use browserfleet_common::lifecycle::Tasks;
    use serde_json::{Value, json};
    use tokio::time::Duration;

    use super::*;
    use crate::page::emulation::{Attached, catch_up};

    const LOCALE: &str = "Emulation.setLocaleOverride";
    const ADD: &str = "Page.addScriptToEvaluateOnNewDocument";
    const REMOVE: &str = "Page.removeScriptToEvaluateOnNewDocument";

    fn page() -> (Peer, Page) {
        let (peer, connection) = Peer::connect(&Tasks::new()).unwrap();
        (peer, Page::detached(&connection))
    }

    fn late() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    fn emulating(emulation: Emulation) -> Looks {
        Looks { emulation, ..Looks::default() }
    }

    /// Answers commands until one of this method comes, which waits.
    async fn until(peer: &mut Peer, method: &str) -> (Request, Vec<Request>) {
        let mut before = Vec::new();
        loop {
            let request = peer.request().await.unwrap().unwrap();
            if request.method == method {
                return (request, before);
            }
            let identifier = before.len().to_string();
            peer.reply(&request, json!({ "identifier": identifier })).await.unwrap();
            before.push(request);
        }
    }

    /// What is asked for while something is done.
    async fn asked<T>(peer: &mut Peer, work: impl Future<Output = T>) -> (T, Vec<Request>) {
        let mut asked = Vec::new();
        let served = peer.serve(|request| {
            asked.push(request.clone());
            json!({ "identifier": format!("n{}", asked.len()) })
        });
        let done = tokio::select! {
            done = work => done,
            served = served => panic!("{served:?}"),
        };
        (done, asked)
    }

    fn of<'a>(asked: &'a [Request], method: &str) -> Vec<&'a Value> {
        asked.iter().filter(|request| request.method == method).map(|request| &request.params).collect()
    }

    #[tokio::test]
    async fn looks_that_were_not_put_on_to_the_end_are_taken_off_and_not_kept() {
        let (mut peer, page) = page();
        let phone = Emulation {
            touch: true,
            cpu: Some(4.0),
            user_agent: Some("phone".to_owned()),
            locale: Some("de".to_owned()),
            timezone: Some("Europe/Viena".to_owned()),
            ..Emulation::default()
        };
        // The call is dropped while the page does not answer.
        tokio::select! {
            put_on = page.show_as(emulating(phone), late()) => panic!("{put_on:?}"),
            (_, before) = until(&mut peer, LOCALE) => assert_eq!(of(&before, "Emulation.setTouchEmulationEnabled").len(), 1),
        }
        assert_eq!(page.looks(), Looks::default());
        let (taken_on, asked_for) = asked(&mut peer, page.take_on_looks(late())).await;
        taken_on.unwrap();
        for (method, expected) in [
            ("Emulation.setTouchEmulationEnabled", json!({ "enabled": false })),
            ("Emulation.setCPUThrottlingRate", json!({ "rate": 1.0 })),
            ("Emulation.setUserAgentOverride", json!({ "userAgent": "" })),
            (LOCALE, json!({})),
            ("Emulation.setTimezoneOverride", json!({ "timezoneId": "" })),
            ("Emulation.clearGeolocationOverride", json!({})),
        ] {
            assert_eq!(of(&asked_for, method), [&expected], "{method}");
        }
        let (taken_on, asked_for) = asked(&mut peer, page.take_on_looks(late())).await;
        assert!(taken_on.is_ok() && asked_for.is_empty(), "{asked_for:?}");
    }

    #[tokio::test]
    async fn no_script_is_added_twice_by_a_call_that_was_dropped() {
        let (mut peer, page) = page();
        let scripts = |texts: &[&str]| Emulation {
            init_scripts: texts.iter().map(|text| Arc::from(*text)).collect(),
            ..Emulation::default()
        };
        let wanted = emulating(scripts(&["one", "two"]));
        let (put_on, _) = asked(&mut peer, page.show_as(wanted.clone(), late())).await;
        put_on.unwrap();
        // Dropped when the first of two others is there.
        tokio::select! {
            put_on = page.show_as(emulating(scripts(&["three", "four"])), late()) => panic!("{put_on:?}"),
            () = async {
                let (first, before) = until(&mut peer, ADD).await;
                assert_eq!(of(&before, REMOVE).len(), 2);
                peer.reply(&first, json!({ "identifier": "third" })).await.unwrap();
                until(&mut peer, ADD).await;
            } => {}
        }
        let (taken_on, asked_for) = asked(&mut peer, page.take_on_looks(late())).await;
        taken_on.unwrap();
        assert_eq!(of(&asked_for, REMOVE), [&json!({ "identifier": "third" })]);
        let added = of(&asked_for, ADD);
        assert!(added.len() == 2 && added[0]["source"] == "one" && added[1]["source"] == "two", "{added:?}");
    }

    #[tokio::test]
    async fn a_frame_that_comes_meanwhile_is_told_too() {
        let (mut peer, page) = page();
        let speaking = |locale: &str| Emulation {
            locale: Some(locale.to_owned()),
            init_scripts: vec![Arc::from(locale)],
            ..Emulation::default()
        };
        let (put_on, _) = asked(&mut peer, page.show_as(emulating(speaking("de")), late())).await;
        put_on.unwrap();
        let frame = page.inner.session.connection().session("frame");
        page.state().attached.insert("frame".to_owned(), Attached::new(frame.clone()));
        let of_frame = |asked: Vec<Request>| -> Vec<Request> {
            asked.into_iter().filter(|request| request.session.as_deref() == Some("frame")).collect()
        };
        let setup = catch_up(&page.inner, &frame, late());
        tokio::pin!(setup);
        let first = tokio::select! {
            caught_up = &mut setup => panic!("{caught_up:?}"),
            (first, _) = until(&mut peer, LOCALE) => first,
        };
        // While the frame takes on the old language, its page takes on another one.
        let (put_on, asked_for) = asked(&mut peer, page.show_as(emulating(speaking("fr")), late())).await;
        put_on.unwrap();
        assert!(of_frame(asked_for).is_empty());
        peer.reply(&first, json!({})).await.unwrap();
        let (caught_up, asked_for) = asked(&mut peer, setup).await;
        caught_up.unwrap();
        let asked_for = of_frame(asked_for);
        assert_eq!(of(&asked_for, LOCALE), [&json!({ "locale": "fr" })]);
        let runs: Vec<_> = of(&asked_for, ADD).iter().map(|script| script["source"].clone()).collect();
        assert_eq!((runs, of(&asked_for, REMOVE).len()), (vec![json!("de"), json!("fr")], 1));
        // From now on it is told with its page.
        let (put_on, asked_for) = asked(&mut peer, page.show_as(emulating(speaking("it")), late())).await;
        put_on.unwrap();
        let asked_for = of_frame(asked_for);
        assert_eq!((of(&asked_for, LOCALE), of(&asked_for, REMOVE).len()), (vec![&json!({ "locale": "it" })], 1));
    }
}
