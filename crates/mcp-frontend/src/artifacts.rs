//! Artifacts of sessions in clear, and what points to them: cursors, URIs and links.
//!
//! A *cursor* says from where on an artifact is to be read. It is signed for its principal, and its artifact is found in the
//! principal's own session or nowhere, so one that is foreign, forged or out of date means nothing. A *link* is for whoever has it,
//! until it expires: a program without a key. It is sealed, and so shows nothing of whose it is.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use browserfleet_common::{
    artifact::{Artifact, Store},
    ids::{Principal, SessionName, random_hex},
    keyring::{Keyring, Unusable},
    secrets::Secrets,
    session::{Key, Owner},
};
use serde::{Deserialize, Serialize};

use crate::Unavailable;

/// The type of what nobody knows the kind of.
pub(crate) const BYTES: &str = "application/octet-stream";
/// Most bytes of an artifact.
pub(crate) const BYTES_MAX: usize = 16 << 20;
/// Most bytes of the files of a call, whether they came with it or before.
pub(crate) const FILES_BYTES_MAX: usize = 8 << 20;
/// Longest cursor, and longest link, that is looked at, in bytes.
const POINTER_MAX: usize = 1024;
/// What the keys are for.
const SEALING: &str = "artifact";
const POINTING: &str = "cursor";
const LINKING: &str = "link";
/// How URIs of artifacts begin; then the session and the artifact, with a slash between.
const SCHEME: &str = "browserfleet://";

/// Artifacts of sessions. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Artifacts {
    store: Arc<dyn Store>,
    secrets: Secrets,
    /// Bytes kept of a session.
    room: usize,
}

/// Something to keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct New<'a> {
    pub(crate) name: &'a str,
    pub(crate) mime_type: &'a str,
    pub(crate) bytes: &'a [u8],
    /// Wall time.
    pub(crate) now: Duration,
}

/// From where on an artifact is to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    #[serde(rename = "s")]
    pub(crate) session: SessionName,
    #[serde(rename = "a")]
    pub(crate) artifact: String,
    #[serde(rename = "o")]
    pub(crate) offset: usize,
}

/// Which artifact a link lets its holder read, and until when.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Grant {
    #[serde(rename = "p")]
    principal: Principal,
    #[serde(rename = "s")]
    session: SessionName,
    #[serde(rename = "b")]
    birth: String,
    #[serde(rename = "a")]
    artifact: String,
    /// Wall time.
    #[serde(rename = "u")]
    until: Duration,
}

impl Artifacts {
    pub(crate) fn new(store: Arc<dyn Store>, secrets: Secrets, room: usize) -> Self {
        Self { store, secrets, room }
    }

    /// Looks after the secret where it is shared: one that its store has lost is given back.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub(crate) async fn look_after_secret(&self) -> Result<(), Unavailable> {
        self.secrets.keyring().await.map(drop)
    }

    /// Keeps something for a session, unless that has ended or it is too large.
    pub(crate) async fn keep(&self, of: &Owner, new: New<'_>) -> Result<Option<Artifact>, Unavailable> {
        if new.bytes.len() > BYTES_MAX {
            return Ok(None);
        }
        let artifact = Artifact {
            id: random_hex(),
            name: new.name.to_owned(),
            mime_type: new.mime_type.to_owned(),
            size: new.bytes.len(),
            created: new.now,
        };
        let sealed = self.secrets.keyring().await?.seal(SEALING, &bound(of, &artifact.id), new.bytes);
        let kept = self.store.keep_artifact(of, &artifact, sealed, self.room).await?;
        Ok(kept.then_some(artifact))
    }

    /// An artifact of a living session.
    pub(crate) async fn read(&self, of: &Owner, id: &str) -> Result<Option<(Artifact, Vec<u8>)>, Unavailable> {
        let Some((artifact, sealed)) = self.store.artifact(of, id).await? else { return Ok(None) };
        let opened = self.secrets.keyring().await?.open(SEALING, &bound(of, id), &sealed, BYTES_MAX);
        let unreadable = |error: &Unusable| tracing::warn!(%error, "an artifact cannot be read");
        Ok(opened.inspect_err(unreadable).ok().map(|bytes| (artifact, bytes)))
    }

    /// What lets whoever has it read an artifact until then, and as long as its session lives.
    pub(crate) async fn link(&self, of: &Owner, id: &str, until: Duration) -> Result<String, Unavailable> {
        let Owner { key: Key { principal, name }, birth } = of.clone();
        let grant = Grant { principal, session: name, birth, artifact: id.to_owned(), until };
        let plain = serde_json::to_vec(&grant).expect("texts and numbers are JSON");
        Ok(BASE64_URL_SAFE_NO_PAD.encode(self.secrets.keyring().await?.seal(LINKING, &[], &plain)))
    }

    /// What a link leads to, if it is one of ours and holds good.
    pub(crate) async fn linked(&self, link: &str, now: Duration) -> Result<Option<(Artifact, Vec<u8>)>, Unavailable> {
        let Some(Grant { principal, session, birth, artifact, until }) = granted(&self.secrets.keyring().await?, link)
        else {
            return Ok(None);
        };
        if until <= now {
            return Ok(None);
        }
        self.read(&Owner { key: Key { principal, name: session }, birth }, &artifact).await
    }

    /// The artifacts of a session, oldest first.
    pub(crate) async fn list(&self, of: &Owner) -> Result<Vec<Artifact>, Unavailable> {
        self.store.artifacts(of).await
    }

    /// A cursor as its principal shows it.
    pub(crate) async fn point(&self, principal: &Principal, cursor: &Cursor) -> Result<String, Unavailable> {
        Ok(point(&self.secrets.keyring().await?, principal, cursor))
    }

    /// Where a cursor points, if it is one of this principal's.
    pub(crate) async fn follow(&self, principal: &Principal, cursor: &str) -> Result<Option<Cursor>, Unavailable> {
        Ok(follow(&self.secrets.keyring().await?, principal, cursor))
    }
}

/// What an artifact is sealed for: it cannot take another's place.
fn bound(of: &Owner, id: &str) -> Vec<u8> {
    [&of.bytes(), id.as_bytes()].concat()
}

fn purpose(principal: &Principal) -> String {
    format!("{POINTING} of {}", principal.as_str())
}

pub(crate) fn point(keyring: &Keyring, principal: &Principal, cursor: &Cursor) -> String {
    keyring.sign(&purpose(principal), &serde_json::to_vec(cursor).expect("texts and numbers are JSON"))
}

pub(crate) fn follow(keyring: &Keyring, principal: &Principal, cursor: &str) -> Option<Cursor> {
    if cursor.len() > POINTER_MAX {
        return None;
    }
    serde_json::from_slice(&keyring.verify(&purpose(principal), cursor).ok()?).ok()
}

pub(crate) fn granted(keyring: &Keyring, link: &str) -> Option<Grant> {
    if link.len() > POINTER_MAX {
        return None;
    }
    let sealed = BASE64_URL_SAFE_NO_PAD.decode(link).ok()?;
    serde_json::from_slice(&keyring.open(LINKING, &[], &sealed, POINTER_MAX).ok()?).ok()
}

/// How MCP names an artifact.
pub(crate) fn uri(session: &SessionName, artifact: &str) -> String {
    format!("{SCHEME}{}/{artifact}", session.as_str())
}

/// The session and the artifact that a URI names.
pub(crate) fn parse_uri(uri: &str) -> Option<(SessionName, &str)> {
    let (session, artifact) = uri.strip_prefix(SCHEME)?.split_once('/')?;
    Some((SessionName::parse(session).ok()?, artifact))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        Cursor { session: SessionName::mint(), artifact: random_hex(), offset: 40_000 }
    }

    #[test]
    fn a_cursor_is_its_principals_and_nobody_can_change_it() {
        let (keyring, me, cursor) = (Keyring::generate(), Principal::named("me"), cursor());
        let shown = point(&keyring, &me, &cursor);
        assert_eq!(follow(&keyring, &me, &shown), Some(cursor));
        assert_eq!(follow(&keyring, &Principal::named("you"), &shown), None);
        assert_eq!(follow(&Keyring::generate(), &me, &shown), None);
        for at in 0..shown.len() {
            let mut changed = shown.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(follow(&keyring, &me, &String::from_utf8(changed).unwrap()), None, "byte {at}");
            assert_eq!(follow(&keyring, &me, &shown[..at]), None, "{at} bytes");
        }
        for foreign in ["", "x", &"x".repeat(POINTER_MAX + 1)] {
            assert_eq!(follow(&keyring, &me, foreign), None);
        }
    }

    #[test]
    fn uris_name_session_and_artifact() {
        let session = SessionName::mint();
        assert_eq!(parse_uri(&uri(&session, "abc")), Some((session, "abc")));
        for bad in ["", "browserfleet://", "browserfleet://x", "file:///etc/passwd", "browserfleet://a b/c"] {
            assert_eq!(parse_uri(bad), None, "{bad}");
        }
    }
}
