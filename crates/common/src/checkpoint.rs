//! What it takes to give a session another browser: daemons write it, and read it when they have to.
//!
//! What is in a checkpoint only daemons know. It is kept with the session, wherever sessions are kept ([`Store`]), encrypted
//! ([`Checkpoints`]), and goes with it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{keyring::Unusable, secrets::Secrets, session::Owner, unavailable::Unavailable};

/// Most bytes of a checkpoint before it is compressed.
pub const BYTES_MAX: usize = 8 << 20;
/// Most checkpoints of a principal. Beyond that those go whose sessions have lapsed, the first to end first: what nobody uses must
/// not fill the store. Those of sessions that live stay, and are bounded as sessions are.
pub const CHECKPOINTS_MAX: usize = 256;
/// What the key is for.
const PURPOSE: &str = "checkpoint";

/// Keeps checkpoints, which it cannot read.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Keeps a checkpoint in place of the last one, until the session's longest lifetime is over, if the session lives, is of
    /// that birth, and holds the lease `lease_id`: whoever has lost a session writes nothing over it. Answers whether it did.
    ///
    /// # Errors
    /// When the store cannot answer; it may or may not be kept. Asking again is safe.
    async fn save_checkpoint(&self, of: &Owner, lease_id: &str, sealed: Vec<u8>) -> Result<bool, Unavailable>;

    /// The checkpoint of a session that has not ended.
    ///
    /// # Errors
    /// When the store cannot answer.
    async fn load_checkpoint(&self, of: &Owner) -> Result<Option<Vec<u8>>, Unavailable>;

    /// Removes it: the session's owner has closed what it would bring back.
    ///
    /// # Errors
    /// When the store cannot answer; it may or may not be gone. Asking again is safe.
    async fn drop_checkpoint(&self, of: &Owner) -> Result<(), Unavailable>;
}

/// Checkpoints in clear, for a daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    store: Arc<dyn Store>,
    secrets: Secrets,
}

impl Checkpoints {
    pub fn new(store: Arc<dyn Store>, secrets: Secrets) -> Self {
        Self { store, secrets }
    }

    /// Keeps a checkpoint of at most [`BYTES_MAX`], as [`Store::save_checkpoint`] does.
    ///
    /// # Errors
    /// When the store cannot answer; it may or may not be kept. Asking again is safe.
    pub async fn save(&self, of: &Owner, lease_id: &str, plain: &[u8]) -> Result<bool, Unavailable> {
        let keyring = self.secrets.keyring().await?;
        self.store.save_checkpoint(of, lease_id, keyring.seal(PURPOSE, &of.bytes(), plain)).await
    }

    /// The session's checkpoint, unless it has none that can be read: one of another key is none.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn load(&self, of: &Owner) -> Result<Option<Vec<u8>>, Unavailable> {
        let Some(sealed) = self.store.load_checkpoint(of).await? else { return Ok(None) };
        let opened = self.secrets.keyring().await?.open(PURPOSE, &of.bytes(), &sealed, BYTES_MAX);
        let unreadable = |error: &Unusable| tracing::warn!(%error, "a checkpoint cannot be read");
        Ok(opened.inspect_err(unreadable).ok())
    }
}
