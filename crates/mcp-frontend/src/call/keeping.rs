//! Results that are kept beside the reply: those that are too large for it, and those the caller gave a name.

use std::sync::Arc;

use browserfleet_common::artifact::Artifact;

use super::reply::{Image, Link, Reply};
use crate::{artifacts::New, caller::words, core::Core, failure::Failure, session::Record};

/// The argument by which a caller names what it wants to keep.
const NAME: &str = "filename";
/// A picture's name when it has none.
const PICTURE: &str = "picture";
const TEXT: &str = "text/plain";

/// The name under which a call's result is to be kept.
pub(super) fn name(arguments: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
    let name = words(arguments.get(NAME)?.as_str()?);
    (!name.is_empty()).then_some(name)
}

/// Keeps what has to be kept, and says where. Pictures stay in the reply when they are small enough.
pub(super) async fn keep(
    core: &Arc<Core>,
    record: &Record,
    reply: &mut Reply,
    name: Option<&str>,
) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for image in std::mem::take(&mut reply.images) {
        let fits = image.data.len() <= core.config.call.inline_bytes;
        if name.is_some() || !fits {
            let Image { mime_type, data } = &image;
            let artifact = kept(core, record, name.unwrap_or(PICTURE), mime_type, data).await?;
            lines.push(line(record, &artifact));
            reply.links.push(Link::to(record, &artifact));
        }
        if fits {
            reply.images.push(image);
        }
    }
    let pictured = !lines.is_empty();
    let main = reply.texts.iter().max_by_key(|text| text.body.len());
    if let (Some(name), Some(main), false, None) = (name, main, pictured, &reply.failure) {
        let artifact = kept(core, record, name, TEXT, main.body.as_bytes()).await?;
        lines.push(line(record, &artifact));
        reply.links.push(Link::to(record, &artifact));
    }
    if !lines.is_empty() {
        reply.push_text("Kept", lines.join("\n"));
    }
    Ok(())
}

async fn kept(core: &Core, record: &Record, name: &str, mime_type: &str, bytes: &[u8]) -> Result<Artifact, Failure> {
    let new = New { name, mime_type, bytes, now: core.clock.now() };
    core.artifacts.keep(&record.owner(), new).await?.ok_or_else(Failure::no_such_session)
}

fn line(record: &Record, artifact: &Artifact) -> String {
    let Link { uri, artifact: Artifact { name, mime_type, size, .. } } = Link::to(record, artifact);
    format!("- {name} ({mime_type}, {size} bytes): {uri} until the session ends; read it as a resource")
}
