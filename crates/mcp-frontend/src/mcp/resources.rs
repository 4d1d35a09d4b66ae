//! Artifacts as MCP resources.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use browserfleet_common::artifact::Artifact;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rmcp::model::{Resource, ResourceContents};

use crate::{
    Unavailable,
    artifacts::uri,
    caller::Caller,
    core::Core,
    session::{Record, Scope},
};

/// Sessions whose artifacts are listed; the latest ones.
const SESSIONS_MAX: usize = 100;
/// Sessions asked for at a time.
const AT_ONCE: usize = 16;

/// An artifact, as MCP describes resources.
pub(super) fn described(uri: &str, artifact: &Artifact) -> Resource {
    let size = u64::try_from(artifact.size).unwrap_or(u64::MAX);
    Resource::new(uri, &artifact.name).with_mime_type(&artifact.mime_type).with_size(size)
}

/// The artifacts of the caller's sessions: of all of them if it has a key or a token, else of those its connection has named.
pub(super) async fn list(core: &Arc<Core>, caller: &Caller) -> Result<Vec<Resource>, Unavailable> {
    let records = core.sessions.list(Scope::Of(&caller.principal)).await?;
    let known = |record: &Record| {
        caller.access.is_somebodys()
            || caller.connection.as_ref().is_some_and(|connection| connection.knows(&record.name))
    };
    let records = records.into_iter().rev().filter(known).take(SESSIONS_MAX);
    let listed = stream::iter(records).map(|record| async move {
        let artifacts = core.artifacts.list(&record.owner()).await?;
        let described = artifacts.iter().map(|artifact| described(&uri(&record.name, &artifact.id), artifact));
        Ok::<_, Unavailable>(described.collect::<Vec<_>>())
    });
    Ok(listed.buffered(AT_ONCE).try_collect::<Vec<_>>().await?.concat())
}

/// What is at a URI, if that is an artifact of a living session of the caller. Reading counts as use.
pub(super) async fn read(
    core: &Arc<Core>,
    caller: &Caller,
    uri: &str,
) -> Result<Option<ResourceContents>, Unavailable> {
    let Some((artifact, bytes)) = core.read_artifact(&caller.principal, uri).await? else { return Ok(None) };
    let contents = match String::from_utf8(bytes) {
        Ok(text) if artifact.mime_type.starts_with("text/") => ResourceContents::text(text, uri),
        Ok(text) => ResourceContents::blob(BASE64_STANDARD.encode(text), uri),
        Err(binary) => ResourceContents::blob(BASE64_STANDARD.encode(binary.as_bytes()), uri),
    };
    Ok(Some(contents.with_mime_type(artifact.mime_type)))
}
