//! The device, the place and the network that pages believe they are on. Part of a session's [looks](super::looks): kept with it,
//! taken on by every tab.

use std::{collections::BTreeMap, sync::Arc};

use browserfleet_cdp::{
    Error, Session,
    browser_protocol::{
        browser::SetPermissionParams,
        emulation::{
            ClearGeolocationOverrideParams, SetCpuThrottlingRateParams, SetGeolocationOverrideParams,
            SetLocaleOverrideParams, SetTimezoneOverrideParams, SetTouchEmulationEnabledParams,
            SetUserAgentOverrideParams,
        },
        network::{Headers, SetExtraHttpHeadersParams},
        page::{AddScriptToEvaluateOnNewDocumentParams, RemoveScriptToEvaluateOnNewDocumentParams, ScriptIdentifier},
    },
};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::Context;
use crate::failure::Failure;

/// Most fingers on an emulated touch screen.
const FINGERS: i64 = 5;

/// What is emulated; what is `None` or empty is the browser's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Emulation {
    /// Device pixels per CSS pixel.
    pub scale: Option<f64>,
    /// Lays pages out as a phone does: their viewport tag counts, scroll bars lie over them.
    pub mobile: bool,
    pub touch: bool,
    pub user_agent: Option<String>,
    /// A BCP 47 tag: of `Intl`, `navigator.language` and `Accept-Language`.
    pub locale: Option<String>,
    /// An IANA name.
    pub timezone: Option<String>,
    pub geolocation: Option<Geolocation>,
    /// How many times slower than it is.
    pub cpu: Option<f64>,
    pub network: Option<Throttle>,
    /// Sent with every request.
    pub headers: BTreeMap<String, String>,
    /// Run in every new document before its own scripts, in this order.
    pub init_scripts: Vec<Arc<str>>,
}

/// A place on earth, in degrees, and how well it is known, in metres.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Geolocation {
    pub latitude: f64,
    pub longitude: f64,
    pub accuracy: f64,
}

/// A slow network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Throttle {
    /// Until an answer begins, in milliseconds.
    pub latency: f64,
    /// Bytes per second, to and from the browser.
    pub download: f64,
    pub upload: f64,
}

impl Emulation {
    /// Whether there is nothing of it.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Has a page take this on in place of what it had.
    pub(super) async fn apply(&self, session: &Session, had: &Self, deadline: Instant) -> Result<(), Failure> {
        if self.touch != had.touch {
            let mut touch = SetTouchEmulationEnabledParams::new(self.touch);
            touch.max_touch_points = self.touch.then_some(FINGERS);
            session.call(touch, deadline).await?;
        }
        if self.cpu != had.cpu {
            session.call(SetCpuThrottlingRateParams::new(self.cpu.unwrap_or(1.0)), deadline).await?;
        }
        match self.geolocation {
            place if place == had.geolocation => {}
            Some(Geolocation { latitude, longitude, accuracy }) => {
                let place = SetGeolocationOverrideParams {
                    latitude: Some(latitude),
                    longitude: Some(longitude),
                    accuracy: Some(accuracy),
                    ..SetGeolocationOverrideParams::default()
                };
                session.call(place, deadline).await?;
            }
            None => {
                session.call(ClearGeolocationOverrideParams::default(), deadline).await?;
            }
        }
        self.apply_everywhere(session, had, deadline).await
    }

    /// As [`Self::apply`], of what frames in processes of their own take on by themselves.
    pub(super) async fn apply_everywhere(
        &self,
        session: &Session,
        had: &Self,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if (&self.user_agent, &self.locale) != (&had.user_agent, &had.locale) {
            let mut agent = SetUserAgentOverrideParams::new(self.user_agent.clone().unwrap_or_default());
            agent.accept_language.clone_from(&self.locale);
            session.call(agent, deadline).await?;
        }
        if self.locale != had.locale {
            let locale = SetLocaleOverrideParams { locale: self.locale.clone() };
            in_this_process(session.call(locale, deadline).await)?;
        }
        if self.timezone != had.timezone {
            let zone = SetTimezoneOverrideParams::new(self.timezone.clone().unwrap_or_default());
            in_this_process(session.call(zone, deadline).await)?;
        }
        if self.headers != had.headers {
            let headers = SetExtraHttpHeadersParams::new(Headers::new(json!(self.headers)));
            session.call(headers, deadline).await?;
        }
        Ok(())
    }

    /// Adds its scripts to every new document of a page or a frame; answers their ids there.
    pub(super) async fn add_scripts(
        &self,
        session: &Session,
        deadline: Instant,
    ) -> Result<Vec<ScriptIdentifier>, Error> {
        let add = self
            .init_scripts
            .iter()
            .map(|script| session.call(AddScriptToEvaluateOnNewDocumentParams::new(script.to_string()), deadline));
        Ok(try_join_all(add).await?.into_iter().map(|added| added.identifier).collect())
    }
}

/// Takes scripts away again.
pub(super) async fn remove_scripts(
    session: &Session,
    scripts: Vec<ScriptIdentifier>,
    deadline: Instant,
) -> Result<(), Error> {
    let remove = scripts.into_iter().map(RemoveScriptToEvaluateOnNewDocumentParams::new);
    try_join_all(remove.map(|script| session.call(script, deadline))).await.map(drop)
}

/// Locale and timezone belong to a process: of several pages in one the first sets them, and the others are told so.
fn in_this_process<T>(set: Result<T, Error>) -> Result<(), Failure> {
    match set {
        Err(Error::Protocol { message, .. }) if message.contains("already in effect") => Ok(()),
        Err(Error::Protocol { message, .. }) if message.contains("Invalid") => {
            Err(Failure::invalid(format!("the browser does not know it: {message}")))
        }
        set => Ok(set.map(drop)?),
    }
}

impl Context {
    /// Lets its pages ask where they are without asking anybody, or has them ask again.
    pub async fn permit_geolocation(&self, permitted: bool, deadline: Instant) -> Result<(), Failure> {
        let setting = if permitted { "granted" } else { "prompt" };
        let set = self.named(json!({ "permission": { "name": "geolocation" }, "setting": setting }));
        self.browser().call_raw(SetPermissionParams::IDENTIFIER, &set, deadline).await?;
        Ok(())
    }
}
