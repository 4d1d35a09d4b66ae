//! What is kept beside a session in Redis: its artifacts, and the checkpoint its daemon writes.
//!
//! Artifacts are one hash: `order` (their ids and sizes, oldest first), `bytes` (of all), `d:<id>` what one is, as JSON,
//! `b:<id>` itself. A checkpoint is a hash with `sealed`, and the fields of its session that bring it back when it has lapsed.

use std::sync::LazyLock;

use async_trait::async_trait;
use redis::{Script, cmd};

use super::{Error, Index, LoadedScript, Sessions, sessions::member};
use crate::{
    artifact::{self, Artifact, COUNT_MAX},
    checkpoint::{self, CHECKPOINTS_MAX},
    ids::Principal,
    session::Owner,
    unavailable::Unavailable,
};

static KEEP: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/keep.lua")));
static KEPT: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/kept.lua")));
static ARTIFACT: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/artifact.lua")));
static UNPARK: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/unpark.lua")));
static SAVE: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/save.lua")));

const ARTIFACTS: &str = "the store of artifacts";
const CHECKPOINTS: &str = "the store of checkpoints";

/// What an artifact is, as it was written.
fn described(text: &str) -> Result<Artifact, Unavailable> {
    let strange = |_malformed| Unavailable::redis(ARTIFACTS)(Error::Strange("an artifact"));
    serde_json::from_str(text).map_err(strange)
}

#[async_trait]
impl artifact::Store for Sessions {
    async fn keep_artifact(
        &self,
        of: &Owner,
        artifact: &Artifact,
        sealed: Vec<u8>,
        room: usize,
    ) -> Result<bool, Unavailable> {
        let member = member(&of.key);
        let mut script = KEEP.key(self.keys.record(&member));
        let description = serde_json::to_string(artifact).expect("texts and numbers are JSON");
        script.key(self.keys.kept(&member)).arg(&of.birth).arg(&artifact.id).arg(description);
        script.arg(sealed).arg(room).arg(COUNT_MAX);
        self.redis.script(&script).await.map_err(Unavailable::redis(ARTIFACTS))
    }

    async fn artifact(&self, of: &Owner, id: &str) -> Result<Option<(Artifact, Vec<u8>)>, Unavailable> {
        let member = member(&of.key);
        let mut script = ARTIFACT.key(self.keys.record(&member));
        script.key(self.keys.kept(&member)).arg(&of.birth).arg(id);
        let found: (Option<String>, Option<Vec<u8>>) =
            self.redis.script(&script).await.map_err(Unavailable::redis(ARTIFACTS))?;
        let (Some(description), Some(sealed)) = found else { return Ok(None) };
        Ok(Some((described(&description)?, sealed)))
    }

    async fn artifacts(&self, of: &Owner) -> Result<Vec<Artifact>, Unavailable> {
        let member = member(&of.key);
        let mut script = KEPT.key(self.keys.record(&member));
        script.key(self.keys.kept(&member)).arg(&of.birth);
        let all: Vec<String> = self.redis.script(&script).await.map_err(Unavailable::redis(ARTIFACTS))?;
        all.iter().map(|description| described(description)).collect()
    }
}

#[async_trait]
impl checkpoint::Store for Sessions {
    async fn save_checkpoint(&self, of: &Owner, lease_id: &str, sealed: Vec<u8>) -> Result<bool, Unavailable> {
        let member = member(&of.key);
        let mut script = SAVE.key(self.keys.record(&member));
        script.key(self.keys.checkpoint(&member)).arg(&of.birth).arg(lease_id).arg(sealed);
        let ends: Option<u64> = self.redis.script(&script).await.map_err(Unavailable::redis(CHECKPOINTS))?;
        let Some(ends) = ends else { return Ok(false) };
        if let Err(error) = self.make_room(&of.key.principal, &member, ends).await {
            // It is kept, and counted when it is saved the next time.
            tracing::warn!(%error, "a checkpoint is not counted");
        }
        Ok(true)
    }

    async fn load_checkpoint(&self, of: &Owner) -> Result<Option<Vec<u8>>, Unavailable> {
        let mut read = cmd("HMGET");
        read.arg(self.keys.checkpoint(&member(&of.key))).arg("birth").arg("sealed");
        let found: (Option<String>, Option<Vec<u8>>) =
            self.redis.query(&read).await.map_err(Unavailable::redis(CHECKPOINTS))?;
        let (birth, sealed) = found;
        Ok(sealed.filter(|_| birth.as_ref() == Some(&of.birth)))
    }

    async fn drop_checkpoint(&self, of: &Owner) -> Result<(), Unavailable> {
        let member = member(&of.key);
        let dropped = async {
            self.redis.query::<()>(cmd("DEL").arg(self.keys.checkpoint(&member))).await?;
            self.take_out(&of.key.principal, &member).await
        };
        dropped.await.map_err(Unavailable::redis(CHECKPOINTS))
    }
}

impl Sessions {
    /// Which checkpoints a principal has.
    pub(super) fn checkpoints_of(&self, principal: &Principal) -> Index<'_> {
        Index::new(&self.redis, self.keys.checkpoints_of(principal), |member| self.keys.checkpoint(member))
    }

    /// Takes out the place of a checkpoint that is not there. Whoever has saved one does so when it has its place, whoever has
    /// removed one when it is gone: the later of the two sees what both have done.
    pub(super) async fn take_out(&self, principal: &Principal, member: &str) -> Result<(), Error> {
        let checkpoints = self.checkpoints_of(principal);
        let Some(score) = checkpoints.score(member).await? else { return Ok(()) };
        if self.redis.query::<bool>(cmd("EXISTS").arg(self.keys.checkpoint(member))).await? {
            return Ok(());
        }
        checkpoints.remove(member, &score).await
    }

    /// Counts a checkpoint that ends at `ends`. For a new one it removes the first to end of those whose sessions have lapsed, as
    /// long as there are too many. Those of sessions that live are bounded as sessions are.
    pub(super) async fn make_room(&self, principal: &Principal, member: &str, ends: u64) -> Result<(), Error> {
        let checkpoints = self.checkpoints_of(principal);
        if !checkpoints.enter(member, ends).await? {
            return Ok(());
        }
        // Its session may have ended since it was saved, and whoever ended it have found nothing here to take out.
        self.take_out(principal, member).await?;
        let mut beyond = checkpoints.count().await?.saturating_sub(CHECKPOINTS_MAX);
        if beyond == 0 {
            return Ok(());
        }
        for (member, score) in checkpoints.first(beyond + CHECKPOINTS_MAX).await? {
            let mut script = UNPARK.key(self.keys.record(&member));
            if self.redis.script(script.key(self.keys.checkpoint(&member))).await? {
                checkpoints.remove(&member, &score).await?;
                beyond -= 1;
            }
            if beyond == 0 {
                break;
            }
        }
        Ok(())
    }
}
