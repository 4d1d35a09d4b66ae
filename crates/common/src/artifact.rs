//! Artifacts: what a session keeps that is too large for a reply, until it ends.
//!
//! Front ends write and read them; kept sealed, wherever sessions are kept.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{session::Owner, unavailable::Unavailable};

/// Most artifacts of a session. Beyond, the oldest go.
pub const COUNT_MAX: usize = 64;

/// What is known of an artifact without opening it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Drawn when it was made: 128 random bits.
    pub id: String,
    /// For people.
    pub name: String,
    pub mime_type: String,
    /// In bytes, opened.
    pub size: usize,
    /// Wall time, for people.
    pub created: Duration,
}

/// Keeps artifacts, which it cannot read. They never change.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Keeps an artifact until its session ends or has lapsed. The oldest go when the session has more than
    /// [`COUNT_MAX`], or more than `room` bytes as they are kept. Answers whether the session lives.
    ///
    /// # Errors
    /// When the store cannot answer; it may or may not be kept. Asking again is safe.
    async fn keep_artifact(
        &self,
        of: &Owner,
        artifact: &Artifact,
        sealed: Vec<u8>,
        room: usize,
    ) -> Result<bool, Unavailable>;

    /// An artifact of a living session, sealed.
    ///
    /// # Errors
    /// When the store cannot answer.
    async fn artifact(&self, of: &Owner, id: &str) -> Result<Option<(Artifact, Vec<u8>)>, Unavailable>;

    /// The artifacts of a living session, oldest first.
    ///
    /// # Errors
    /// When the store cannot answer.
    async fn artifacts(&self, of: &Owner) -> Result<Vec<Artifact>, Unavailable>;
}
