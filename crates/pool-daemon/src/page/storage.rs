//! What sites keep in a page's browser beside cookies: read in our own world, and put back without asking their servers.

use std::collections::BTreeMap;

use browserfleet_cdp::{
    Events, Item,
    browser_protocol::{
        fetch::{self, FulfillRequestParams, HeaderEntry, RequestId},
        page::ResetNavigationHistoryParams,
        storage::GetStorageKeyParams,
    },
};
use futures_util::future::join_all;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Page, open::BLANK, state::World};
use crate::failure::Failure;

const READ: &str = include_str!("inject/storage-read.js");
const WRITE: &str = include_str!("inject/storage-write.js");

/// Most characters of one storage of an origin that are read: a fifth of what Chromium lets an origin have.
pub const STORAGE_MAX: usize = 1 << 20;

/// Most origins whose local storages are kept, or put in place at a time. Each takes a renderer process a moment.
pub const ORIGINS_MAX: usize = 32;

/// Frames of a page, beside its main one, whose storages are read.
const MAX_FRAMES: usize = 16;

/// Requests of an empty document that may wait for their answer.
const REQUESTS: usize = 64;

/// What a storage holds.
pub type Items = BTreeMap<String, String>;

/// By origin, such as `https://example.com`.
pub type Storages = BTreeMap<String, Items>;

/// What the documents of one page keep, and where its main one is scrolled to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// Of every origin that was read, the empty ones too.
    pub local: Storages,
    /// As `local`, for this tab only.
    pub session: Storages,
    /// Origins one of whose storages has more than [`STORAGE_MAX`] characters; it is not in the others.
    pub too_large: Vec<String>,
    /// From the left and from the top, in CSS pixels.
    pub scroll: (f64, f64),
}

/// What is put into an origin's storages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seed {
    pub local: Items,
    pub session: Items,
    /// What the local storage has goes first.
    pub replaces: bool,
}

impl Seed {
    /// Answers whether the document is one of the origin, and has the items now.
    fn script(&self, origin: &str) -> String {
        let Self { local, session, replaces } = self;
        let arguments = [json!(origin), json!(local), json!(session), json!(replaces)];
        format!("({WRITE})({})", arguments.map(|argument| argument.to_string()).join(", "))
    }
}

#[derive(Debug, Deserialize)]
struct Reading {
    origin: String,
    local: StorageReading,
    session: StorageReading,
    scroll: (f64, f64),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StorageReading {
    items: Vec<(String, String)>,
    too_large: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StorageKey {
    storage_key: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Paused {
    request_id: RequestId,
}

impl Stored {
    fn add(&mut self, reading: Reading) {
        // `null` is no origin, and files and the like belong to this machine.
        if !reading.origin.starts_with("http") {
            return;
        }
        let Reading { origin, local, session, .. } = reading;
        if local.too_large || session.too_large {
            self.too_large.push(origin.clone());
        }
        for (storages, StorageReading { items, too_large }) in [(&mut self.local, local), (&mut self.session, session)]
        {
            if !too_large {
                storages.insert(origin.clone(), items.into_iter().collect());
            }
        }
    }
}

impl Page {
    /// Reads the storages of the page's documents. Those of frames whose site is another one than the page's are parted by
    /// Chromium from what the same site has in a tab of its own, and are left out.
    pub async fn stored(&self, deadline: Instant) -> Result<Stored, Failure> {
        self.unless_dialog(async {
            let main = self.read_storage(&self.main_world(deadline).await?, deadline).await?;
            let mut stored = Stored { scroll: main.scroll, ..Stored::default() };
            stored.add(main);
            for (origin, world) in self.frame_origins(deadline).await {
                // A frame that is just going elsewhere costs nothing but itself.
                if !stored.local.contains_key(&origin)
                    && let Ok(reading) = self.read_storage(&world, deadline).await
                    && reading.origin == origin
                {
                    stored.add(reading);
                }
            }
            Ok(stored)
        })
        .await
    }

    async fn read_storage(&self, world: &World, deadline: Instant) -> Result<Reading, Failure> {
        world.value(format!("({READ})({STORAGE_MAX})"), deadline).await
    }

    /// The frames whose storages are the same as in a tab of their own, by what the browser says of them.
    async fn frame_origins(&self, deadline: Instant) -> Vec<(String, World)> {
        let frames: Vec<(String, World)> = {
            let state = self.state();
            let others = state.frames.iter().filter(|(id, _)| **id != state.main_frame);
            others.filter_map(|(id, frame)| Some((id.clone(), frame.world.clone()?))).take(MAX_FRAMES).collect()
        };
        let asked = frames.into_iter().map(|(frame, world)| async move {
            let asked = json!({ "frameId": frame });
            let answer = world.session.call_raw(GetStorageKeyParams::IDENTIFIER, &asked, deadline).await.ok()?;
            let StorageKey { storage_key } = browserfleet_cdp::decode(&answer).ok()?;
            // What comes after a caret says under which other site.
            let origin = (!storage_key.contains('^')).then(|| storage_key.trim_end_matches('/').to_owned())?;
            Some((origin, world))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Puts items into the storages of origins. Answers the origins for which it failed. Afterwards the page is blank and has
    /// no history.
    ///
    /// # Errors
    /// When the page may not be used any more.
    pub async fn seed(&self, seeds: &BTreeMap<String, Seed>, deadline: Instant) -> Result<Vec<String>, Failure> {
        let scripts = seeds.iter().map(|(origin, seed)| (origin.clone(), seed.script(origin))).collect();
        let written = self.visit::<bool>(scripts, deadline).await?;
        let failed = written.into_iter().filter(|(_, written)| !matches!(written, Ok(true)));
        Ok(failed.map(|(origin, _)| origin).collect())
    }

    /// Reads the local storages of origins; `None` of one that cannot be read, or is larger than [`STORAGE_MAX`].
    /// Afterwards the page is blank and has no history.
    ///
    /// # Errors
    /// When the page may not be used any more.
    pub async fn local_storages(
        &self,
        origins: &[String],
        deadline: Instant,
    ) -> Result<Vec<(String, Option<Items>)>, Failure> {
        let scripts = origins.iter().map(|origin| (origin.clone(), format!("({READ})({STORAGE_MAX})"))).collect();
        let read = self.visit::<Reading>(scripts, deadline).await?;
        let items = |origin: &str, reading: Reading| {
            let fits = reading.origin == *origin && !reading.local.too_large;
            fits.then(|| reading.local.items.into_iter().collect())
        };
        Ok(read
            .into_iter()
            .map(|(origin, reading)| {
                let items = reading.ok().and_then(|reading| items(&origin, reading));
                (origin, items)
            })
            .collect())
    }

    /// Runs a script of ours in an empty document of each origin, with which we answer ourselves: no server is asked and no
    /// script of theirs runs.
    async fn visit<T: DeserializeOwned>(
        &self,
        scripts: Vec<(String, String)>,
        deadline: Instant,
    ) -> Result<Vec<(String, Result<T, Failure>)>, Failure> {
        if scripts.is_empty() {
            return Ok(Vec::new());
        }
        let mut requests = self.inner.session.subscribe(&["Fetch.requestPaused"], REQUESTS);
        self.call(fetch::EnableParams::default(), deadline).await?;
        let mut answers = Vec::new();
        for (origin, script) in scripts {
            let answer = tokio::select! {
                answer = self.run_at(&origin, script, deadline) => answer,
                () = self.answer_empty(&mut requests, deadline) => Err(Failure::hung()),
            };
            if let Err(failure) = &answer {
                tracing::debug!(%failure, "the storage of an origin could not be used");
            }
            answers.push((origin, answer));
        }
        // From here on whatever is left undone would be in the way of the agent.
        let end = Instant::now() + super::world::PATIENCE;
        self.call(fetch::DisableParams::default(), end).await?;
        self.navigate(BLANK, end).await?;
        self.forget_history(end).await?;
        Ok(answers)
    }

    async fn run_at<T: DeserializeOwned>(&self, origin: &str, script: String, deadline: Instant) -> Result<T, Failure> {
        self.navigate(&format!("{origin}/"), deadline).await?;
        self.main_world(deadline).await?.value(script, deadline).await
    }

    /// Answers every request with an empty document; ends when the page does.
    async fn answer_empty(&self, requests: &mut Events, deadline: Instant) {
        while let Some(item) = requests.recv().await {
            let Item::Event(event) = item else { continue };
            let Ok(Paused { request_id }) = event.decode() else { continue };
            let mut answer = FulfillRequestParams::new(request_id, 200);
            answer.response_headers = Some(vec![HeaderEntry::new("content-type", "text/html")]);
            // A request that its page does not want any more needs none.
            let _unwanted = self.call(answer, deadline).await;
        }
    }

    /// Makes the page's document the only one of its history.
    pub async fn forget_history(&self, deadline: Instant) -> Result<(), Failure> {
        self.call(ResetNavigationHistoryParams::default(), deadline).await.map(drop)
    }

    /// Scrolls the main document; one that is smaller is scrolled as far as it goes.
    pub async fn scroll_to(&self, (left, top): (f64, f64), deadline: Instant) -> Result<(), Failure> {
        let world = self.main_world(deadline).await?;
        let wanted = json!({ "left": left, "top": top, "behavior": "instant" });
        world.value::<Value>(format!("(scrollTo({wanted}), true)"), deadline).await.map(drop)
    }
}
