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
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::{Context, Inner};
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

    /// Has a page take this on in place of what it had; where nobody knows what that was, all of it.
    async fn apply(&self, session: &Session, had: Option<&Self>, deadline: Instant) -> Result<(), Failure> {
        if had.is_none_or(|had| self.touch != had.touch) {
            let mut touch = SetTouchEmulationEnabledParams::new(self.touch);
            touch.max_touch_points = self.touch.then_some(FINGERS);
            session.call(touch, deadline).await?;
        }
        if had.is_none_or(|had| self.cpu != had.cpu) {
            session.call(SetCpuThrottlingRateParams::new(self.cpu.unwrap_or(1.0)), deadline).await?;
        }
        match self.geolocation {
            place if had.is_some_and(|had| place == had.geolocation) => {}
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
    async fn apply_everywhere(&self, session: &Session, had: Option<&Self>, deadline: Instant) -> Result<(), Failure> {
        if had.is_none_or(|had| (&self.user_agent, &self.locale) != (&had.user_agent, &had.locale)) {
            let mut agent = SetUserAgentOverrideParams::new(self.user_agent.clone().unwrap_or_default());
            agent.accept_language.clone_from(&self.locale);
            session.call(agent, deadline).await?;
        }
        if had.is_none_or(|had| self.locale != had.locale) {
            let locale = SetLocaleOverrideParams { locale: self.locale.clone() };
            in_this_process(session.call(locale, deadline).await)?;
        }
        if had.is_none_or(|had| self.timezone != had.timezone) {
            let zone = SetTimezoneOverrideParams::new(self.timezone.clone().unwrap_or_default());
            in_this_process(session.call(zone, deadline).await)?;
        }
        if had.is_none_or(|had| self.headers != had.headers) {
            let headers = SetExtraHttpHeadersParams::new(Headers::new(json!(self.headers)));
            session.call(headers, deadline).await?;
        }
        Ok(())
    }
}

/// A session of a frame in a process of its own.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) session: Session,
    /// Whether it has what its page has: from then on it is told of every change.
    pub(super) ready: bool,
    worn: Worn,
}

impl Attached {
    pub(super) fn new(session: Session) -> Self {
        Self { session, ready: false, worn: Worn::default() }
    }
}

/// What a session of a page is known to have been told of what is emulated.
#[derive(Debug)]
pub(super) struct Worn {
    /// None: something, by a call that has not come to its end. All of it is to be told anew.
    emulation: Option<Emulation>,
    /// The scripts that its documents begin with, in order, and what the browser calls them.
    scripts: Vec<(Arc<str>, ScriptIdentifier)>,
}

impl Default for Worn {
    /// As the browser makes it.
    fn default() -> Self {
        Self { emulation: Some(Emulation::default()), scripts: Vec::new() }
    }
}

impl Inner {
    /// What a session of the page has been told; none of a frame that is gone.
    fn worn<T>(&self, session: &Session, of: impl FnOnce(&mut Worn) -> T) -> Option<T> {
        let mut state = self.state();
        if session.id() == self.session.id() {
            return Some(of(&mut state.worn));
        }
        state.attached.get_mut(session.id()?).map(|frame| of(&mut frame.worn))
    }
}

/// Has a session of a page take this on in place of what it had.
pub(super) async fn wear(
    page: &Inner,
    session: &Session,
    wanted: &Emulation,
    deadline: Instant,
) -> Result<(), Failure> {
    // Whoever is dropped from here on leaves it unknown.
    let Some(had) = page.worn(session, |worn| worn.emulation.take()) else { return Ok(()) };
    if session.id() == page.session.id() {
        wanted.apply(session, had.as_ref(), deadline).await?;
    } else {
        wanted.apply_everywhere(session, had.as_ref(), deadline).await?;
    }
    put_scripts(page, session, &wanted.init_scripts, deadline).await?;
    page.worn(session, |worn| worn.emulation = Some(wanted.clone()));
    Ok(())
}

/// Has every new document of a session begin with these scripts. They are noted one by one: of those that were added before
/// something went wrong each can be taken away again.
async fn put_scripts(page: &Inner, session: &Session, wanted: &[Arc<str>], deadline: Instant) -> Result<(), Error> {
    let put = page.worn(session, |worn| worn.scripts.iter().map(|(script, _)| script).eq(wanted));
    if put.unwrap_or(true) {
        return Ok(());
    }
    while let Some((_, id)) = page.worn(session, |worn| worn.scripts.last().cloned()).flatten() {
        match session.call(RemoveScriptToEvaluateOnNewDocumentParams::new(id), deadline).await {
            // It may be gone: then nobody has heard of it.
            Ok(_) | Err(Error::Protocol { .. }) => page.worn(session, |worn| worn.scripts.pop()),
            Err(error) => return Err(error),
        };
    }
    for script in wanted {
        let added = session.call(AddScriptToEvaluateOnNewDocumentParams::new(script.to_string()), deadline).await?;
        page.worn(session, |worn| worn.scripts.push((Arc::clone(script), added.identifier)));
    }
    Ok(())
}

/// Has a frame that is new take on what its page has, and what that takes on meanwhile.
pub(super) async fn catch_up(page: &Inner, frame: &Session, deadline: Instant) -> Result<(), Failure> {
    loop {
        let wanted = page.state().emulation.clone();
        let worn = wear(page, frame, &wanted, deadline).await;
        let mut state = page.state();
        if worn.is_ok() && state.emulation != wanted {
            continue;
        }
        if let Some(frame) = frame.id().and_then(|id| state.attached.get_mut(id)) {
            frame.ready = true;
        }
        return worn;
    }
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
