//! What the pages of a session believe about the network: [routes](super::routes), and being offline. Like their looks it is
//! the session's, and each page takes it on before a call works in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use browserfleet_cdp::{
    Error, Session,
    browser_protocol::{
        fetch::{self, ContinueRequestParams, FulfillRequestParams, HeaderEntry, RequestId, RequestPattern},
        network::{EmulateNetworkConditionsByRuleParams, NetworkConditions, OverrideNetworkStateParams},
    },
};
use futures_util::future::join_all;
use tokio::time::{Duration, Instant};

use super::{
    Context, Inner, Page, Throttle,
    routes::{self, Asked, Route, Verdict},
    wire,
};
use crate::failure::Failure;

/// Most time for Chromium to take what is done with a request.
const ANSWER: Duration = Duration::from_secs(5);

/// What is wanted of the network. Plain data behind a short lock.
#[derive(Debug, Default)]
pub(super) struct Network(Mutex<Settings>);

#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// Rises with every change.
    pub(super) generation: u64,
    offline: bool,
    /// How slow it is; none: as fast as it is.
    throttle: Option<Throttle>,
    /// In the order in which they were added.
    routes: Vec<Arc<Route>>,
}

impl Network {
    fn lock(&self) -> MutexGuard<'_, Settings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settings(&self) -> Settings {
        self.lock().clone()
    }

    /// Makes it slow, or as fast as it is.
    pub(super) fn set_throttle(&self, throttle: Option<Throttle>) {
        let mut settings = self.lock();
        if settings.throttle != throttle {
            settings.throttle = throttle;
            settings.generation += 1;
        }
    }

    /// What is done with a request.
    pub(super) fn decide(&self, request: &wire::Request) -> Verdict {
        let asked = Asked { url: &request.url, method: &request.method, headers: &request.headers };
        routes::decide(&self.lock().routes, asked)
    }
}

impl Settings {
    /// Whether requests are looked at.
    pub(super) fn is_routing(&self) -> bool {
        !self.routes.is_empty()
    }

    /// Has a session of a page do as is wanted.
    pub(super) async fn apply(&self, session: &Session, deadline: Instant) -> Result<(), Error> {
        if self.is_routing() {
            let pattern = |pattern| RequestPattern { url_pattern: Some(pattern), ..RequestPattern::default() };
            let patterns = routes::patterns(&self.routes).into_iter().map(pattern).collect();
            let enable = fetch::EnableParams { patterns: Some(patterns), ..fetch::EnableParams::default() };
            session.call(enable, deadline).await?;
        } else {
            // Whatever waits goes on.
            session.call(fetch::DisableParams::default(), deadline).await?;
        }
        // Every request; then what pages are told of it.
        let as_it_is = Throttle { latency: 0.0, download: -1.0, upload: -1.0 };
        let Throttle { latency, download, upload } = self.throttle.unwrap_or(as_it_is);
        let all = NetworkConditions::new("", latency, download, upload);
        session.call(EmulateNetworkConditionsByRuleParams::new(self.offline, vec![all]), deadline).await?;
        session.call(OverrideNetworkStateParams::new(self.offline, latency, download, upload), deadline).await?;
        Ok(())
    }
}

impl Context {
    /// The routes of its pages, in the order in which they were added.
    pub fn routes(&self) -> Vec<Arc<Route>> {
        self.shared.network.lock().routes.clone()
    }

    /// Adds a route. Its pages know of it once they have taken it on.
    ///
    /// # Errors
    /// When there are too many.
    pub fn add_route(&self, route: Route) -> Result<(), Failure> {
        let mut settings = self.shared.network.lock();
        routes::check_room(&settings.routes, &route)?;
        settings.routes.push(Arc::new(route));
        settings.generation += 1;
        Ok(())
    }

    /// Removes the routes of a pattern, or all of them. Answers how many there were.
    pub fn remove_routes(&self, pattern: Option<&str>) -> usize {
        let mut settings = self.shared.network.lock();
        let before = settings.routes.len();
        settings.routes.retain(|route| pattern.is_some_and(|pattern| pattern != route.pattern));
        settings.generation += 1;
        before - settings.routes.len()
    }

    /// Takes its pages offline, or online again, once they have taken it on.
    pub fn set_offline(&self, offline: bool) {
        let mut settings = self.shared.network.lock();
        settings.offline = offline;
        settings.generation += 1;
    }
}

impl Page {
    /// Takes on what is wanted of the network. Costs nothing when it is so already.
    pub async fn take_on_network(&self, deadline: Instant) -> Result<(), Failure> {
        let wanted = self.inner.shared.network.settings();
        let frames: Vec<_> = {
            let mut state = self.state();
            if state.network == wanted.generation {
                return Ok(());
            }
            // Before the first request is held: somebody has to answer it.
            state.routing |= wanted.is_routing();
            state.attached.values().map(|frame| frame.session.clone()).collect()
        };
        wanted.apply(&self.inner.session, deadline).await?;
        let applied = join_all(frames.iter().map(|session| wanted.apply(session, deadline))).await;
        for (session, applied) in frames.iter().zip(applied) {
            if let Err(error) = applied {
                // A frame that goes away takes its requests along.
                tracing::debug!(%error, session = session.id(), "a frame did not take on what is wanted of the network");
            }
        }
        let mut state = self.state();
        (state.network, state.routing) = (wanted.generation, wanted.is_routing());
        Ok(())
    }
}

/// A frame has been prepared with the settings of a generation, or with none (0). Whoever told the page's frames of other ones
/// meanwhile may not have known of it.
pub(super) async fn catch_up(page: &Inner, frame: &Session, generation: u64) -> Result<(), Error> {
    let wanted = page.shared.network.settings();
    if wanted.generation == generation {
        return Ok(());
    }
    // Before the first request is held: somebody has to answer it.
    page.state().routing |= wanted.is_routing();
    wanted.apply(frame, Instant::now() + ANSWER).await
}

/// Does with a request that waits what was decided.
pub(super) async fn carry_out(session: &Session, request: RequestId, verdict: Verdict) {
    let deadline = Instant::now() + ANSWER;
    let entries = |headers: Vec<(String, String)>| -> Vec<HeaderEntry> {
        headers.into_iter().map(|(name, value)| HeaderEntry::new(name, value)).collect()
    };
    let done = match verdict {
        Verdict::Continue(headers) => {
            let mut go_on = ContinueRequestParams::new(request);
            go_on.headers = headers.map(entries);
            session.call(go_on, deadline).await.map(drop)
        }
        Verdict::Answer { status, headers, body } => {
            let mut answer = FulfillRequestParams::new(request, i64::from(status));
            answer.response_headers = Some(entries(headers));
            answer.body = Some(STANDARD.encode(body).into());
            session.call(answer, deadline).await.map(drop)
        }
    };
    if let Err(error) = done {
        // A request that its page does not want any more needs nothing.
        tracing::debug!(%error, "a request was not answered");
    }
}
