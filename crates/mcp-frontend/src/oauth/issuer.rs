//! The issuer of tokens, as far as its keys go.
//!
//! One task reads them, again and again, and nobody else does: so there is one question at a time, however many tokens wait for its
//! answer, and never more than one in `oauth.refetch`, whatever tokens say. Requests take what is there; only one whose key nobody knows
//! waits for the next answer, if it may be asked for now.

use std::{sync::Arc, time::Duration};

use browserfleet_common::metrics::metrics;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use url::Url;

use super::{fetch, jwks::KeySet, resource::Resource, settings::Settings, signature};

/// Most documents that are read for the keys: two that may say where they are, and they themselves.
const DOCUMENTS_MAX: u32 = 3;
/// How long a request waits for the issuer's keys: longer than it takes to read them, or to find out that they cannot be read.
const WAIT: Duration = fetch::BOUNDS.time.saturating_mul(DOCUMENTS_MAX).saturating_add(Duration::from_secs(1));

/// The issuer. Cheap to clone: all clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Issuer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    resource: Arc<Resource>,
    known: watch::Sender<Known>,
    /// Somebody has a token of a key that is not known.
    wanted: Notify,
}

/// What is known of the keys.
#[derive(Clone, Debug)]
struct Known {
    keys: Arc<KeySet>,
    /// When they were read.
    read: Option<Instant>,
    /// How often the issuer has been asked, whatever it said.
    rounds: u64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The issuer is being asked.
    Asking,
    /// It is not asked before this moment.
    Resting { until: Instant, failed: bool },
}

/// Why there is no key.
#[derive(Clone, Copy, Debug)]
pub(super) enum NoKey {
    /// The issuer has none of this id.
    Unknown,
    /// It cannot be asked; it will be after this time.
    Away(Duration),
}

impl Issuer {
    pub(crate) fn new(settings: Settings) -> Self {
        signature::install();
        let known = Known { keys: Arc::default(), read: None, rounds: 0, phase: Phase::Asking };
        let resource = Arc::new(Resource::of(&settings));
        Self(Arc::new(Inner { settings, resource, known: watch::Sender::new(known), wanted: Notify::new() }))
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// What its tokens are for.
    pub(crate) fn resource(&self) -> Arc<Resource> {
        Arc::clone(&self.0.resource)
    }

    /// The key of an id. It is asked for, and waited for in bounded time, if it is not known and may be asked for.
    pub(super) async fn key(&self, id: &str, algorithm: Algorithm) -> Result<DecodingKey, NoKey> {
        let mut changes = self.0.known.subscribe();
        let rounds = {
            let known = changes.borrow_and_update();
            match self.look(&known, id, algorithm) {
                Ok(key) => return Ok(key),
                Err(none) => match known.phase {
                    Phase::Resting { until, .. } => {
                        self.0.wanted.notify_one();
                        if Instant::now() < until {
                            return Err(none);
                        }
                    }
                    Phase::Asking => {}
                },
            }
            known.rounds
        };
        let answered = timeout(WAIT, changes.wait_for(|known| known.rounds > rounds)).await;
        match answered {
            Ok(Ok(known)) => self.look(&known, id, algorithm),
            Ok(Err(_)) | Err(_) => Err(NoKey::Away(self.0.settings.refetch)),
        }
    }

    fn look(&self, known: &Known, id: &str, algorithm: Algorithm) -> Result<DecodingKey, NoKey> {
        let away = |until: Instant| NoKey::Away(until.saturating_duration_since(Instant::now()));
        let good = known.read.is_some_and(|read| read.elapsed() <= self.0.settings.stale);
        match (known.keys.find(id, algorithm).filter(|_| good), known.phase) {
            (Some(key), _) => Ok(key.clone()),
            // It may be a new one that could not be read.
            (None, Phase::Resting { until, failed: true }) => Err(away(until)),
            (None, Phase::Asking) if !good => Err(NoKey::Away(self.0.settings.refetch)),
            (None, _) => Err(NoKey::Unknown),
        }
    }

    /// Reads the keys, now and again. Never ends.
    pub(crate) async fn run(&self) {
        let Settings { refetch, refresh, .. } = self.0.settings;
        let mut place = self.0.settings.jwks_url.clone();
        loop {
            self.0.known.send_modify(|known| known.phase = Phase::Asking);
            let failed = match self.ask(&mut place).await {
                Ok(keys) => {
                    tracing::debug!(keys = keys.len(), "the issuer's keys have been read");
                    self.learnt(keys);
                    false
                }
                Err(why) => {
                    tracing::warn!(why, "the issuer's keys cannot be read: those of before hold for oauth.stale");
                    // It may have moved.
                    place.clone_from(&self.0.settings.jwks_url);
                    true
                }
            };
            metrics().issuer_fetches.add(if failed { "failed" } else { "ok" });
            let until = Instant::now() + refetch;
            self.0.known.send_modify(|known| {
                known.phase = Phase::Resting { until, failed };
                known.rounds += 1;
            });
            sleep(refetch).await;
            let pause = if failed { Duration::ZERO } else { refresh.saturating_sub(refetch) };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.0.wanted.notified() => {}
            }
        }
    }

    fn learnt(&self, keys: KeySet) {
        let keys = Arc::new(keys);
        self.0.known.send_modify(|known| {
            known.keys = keys;
            known.read = Some(Instant::now());
        });
    }

    /// Asks the issuer for its keys, and before where they are if nobody has said it.
    async fn ask(&self, place: &mut Option<Url>) -> Result<KeySet, String> {
        let url = match place {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let text = self.0.settings.fetcher.get(&url).await.map_err(|error| format!("{url}: {error}"))?;
        let keys = KeySet::parse(&text).map_err(|why| format!("{url}: {why}"))?;
        *place = Some(url);
        Ok(keys)
    }

    /// Where the keys are, as the issuer says (RFC 8414, or `OpenID` Connect Discovery). What is no metadata of it at the one address
    /// says nothing of the other: a single page application answers to every path.
    async fn discover(&self) -> Result<Url, String> {
        let mut failures = Vec::new();
        for url in self.0.settings.metadata_urls() {
            let text = self.0.settings.fetcher.get(&url).await.map_err(|error| error.to_string());
            match text.and_then(|text| self.keys_of(&text)) {
                Ok(keys) => return Ok(keys),
                Err(why) => failures.push(format!("{url}: {why}")),
            }
        }
        Err(failures.join("; "))
    }

    fn keys_of(&self, text: &[u8]) -> Result<Url, String> {
        let Metadata { issuer, jwks_uri } =
            serde_json::from_slice(text).map_err(|error| format!("this is no metadata of an issuer: {error}"))?;
        let expected = &self.0.settings.issuer;
        if issuer != *expected {
            return Err(format!("this is the metadata of {issuer:?}, not of oauth.issuer {expected:?}"));
        }
        let url = self.0.settings.fetcher.usable(&jwks_uri).map_err(|why| format!("jwks_uri: {why}"))?;
        // Who is elsewhere has no say over what listens on this machine.
        if url.scheme() != "https" && expected.starts_with("https:") {
            return Err(format!("jwks_uri: {url} is not over TLS, as its issuer is"));
        }
        Ok(url)
    }
}

/// What an issuer says of itself, as far as it matters.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}
