//! Where checkpoints are kept in tests: in memory, by the rules of every store.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use async_trait::async_trait;
use browserfleet_common::{
    checkpoint::{Checkpoints, Store},
    ids::{Principal, SessionName},
    keyring::Keyring,
    secrets::Secrets,
    session::{Key, Owner},
    unavailable::Unavailable,
};
use serde_json::Value;

/// Checkpoints in memory. Sessions of every name and birth live in it.
#[derive(Debug, Default)]
pub struct Memory {
    kept: Mutex<HashMap<Owner, Vec<u8>>>,
    away: AtomicBool,
}

impl Memory {
    fn kept(&self) -> Result<MutexGuard<'_, HashMap<Owner, Vec<u8>>>, Unavailable> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Unavailable { what: "the test's store", cause: None });
        }
        Ok(self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets the store be away, or back.
    pub fn away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }
}

#[async_trait]
impl Store for Memory {
    async fn save_checkpoint(&self, of: &Owner, _lease_id: &str, sealed: Vec<u8>) -> Result<bool, Unavailable> {
        self.kept()?.insert(of.clone(), sealed);
        Ok(true)
    }

    async fn load_checkpoint(&self, of: &Owner) -> Result<Option<Vec<u8>>, Unavailable> {
        Ok(self.kept()?.get(of).cloned())
    }

    async fn drop_checkpoint(&self, of: &Owner) -> Result<(), Unavailable> {
        self.kept()?.remove(of);
        Ok(())
    }
}

/// A store, and what daemons get of it.
#[derive(Clone, Debug)]
pub struct Kept {
    pub store: Arc<Memory>,
    pub checkpoints: Checkpoints,
}

impl Default for Kept {
    fn default() -> Self {
        let store = Arc::new(Memory::default());
        let checkpoints = Checkpoints::new(Arc::clone(&store) as Arc<dyn Store>, Secrets::Known(Keyring::generate()));
        Self { store, checkpoints }
    }
}

impl Kept {
    /// What is kept of a session that [`crate::daemon::Daemon::lease`] leased a browser for.
    pub async fn of(&self, session: &str) -> anyhow::Result<Option<Value>> {
        let key = Key { principal: Principal::named("tester"), name: SessionName::parse(session)? };
        let plain = self.checkpoints.load(&Owner { key, birth: "1".to_owned() }).await?;
        plain.map(|plain| serde_json::from_slice(&plain).context("a checkpoint is JSON")).transpose()
    }

    /// Waits until what is kept of a session is like this.
    pub async fn until(&self, session: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let mut last = None;
        for _ in 0..300 {
            last = self.of(session).await?;
            if let Some(kept) = last.as_ref().filter(|kept| wanted(kept)) {
                return Ok(kept.clone());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("the checkpoint never became what was waited for; the last one: {last:?}")
    }
}
