//! Results that are kept beside the reply: those that are too large for it, and those the caller gave a name.

use std::{fmt::Write as _, sync::Arc};

use browserfleet_common::{artifact::Artifact, error_code::ErrorCode, metrics::metrics};
use browserfleet_tools::{Arguments as _, StartVideo, Tool};

use super::{
    quota::{self, Quota},
    reply::{File, Link, Reply},
};
use crate::{
    access::Access,
    artifacts::{BYTES, New},
    caller::words,
    core::Core,
    failure::Failure,
    session::Record,
};

/// The argument by which a caller names what it wants to keep.
const NAME: &str = "filename";
/// The section that says what is kept, and where.
pub(super) const KEPT: &str = "Kept";
const NOT_KEPT: &str = "Not kept";
/// A picture's name when it has none.
const PICTURE: &str = "picture";
const TEXT: &str = "text/plain";
/// The sections that are what was asked for; the others say what was done, and where.
const MAIN: [&str; 2] = ["Result", "Snapshot"];

/// The name under which a call's result is to be kept. Whoever begins a video names what another call makes.
pub(super) fn name(tool: &Tool, arguments: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
    if tool.name == StartVideo::TOOL {
        return None;
    }
    let name = words(arguments.get(NAME)?.as_str()?);
    (!name.is_empty()).then_some(name)
}

/// Keeps what has to be kept, and says where. What pages give away keeps its name; the caller's is for what the tool has made.
/// Pictures stay in the reply when they are small enough, and when they cannot be kept.
pub(super) async fn keep(core: &Arc<Core>, access: &Access, record: &Record, reply: &mut Reply, name: Option<&str>) {
    let mut lines = Vec::new();
    for File { name, mime_type, data } in std::mem::take(&mut reply.downloads) {
        let mime_type = if mime_type.is_empty() { BYTES } else { &mime_type };
        // It is here already, but it goes no further.
        if let Err(failure) = quota::spend(core, access, Quota::Download, data.len()).await {
            lines.push(format!("- {name} is lost: {failure}"));
            continue;
        }
        if keep_one(core, record, reply, new(core, &name, mime_type, &data), &mut lines).await.is_err() {
            lines.push(format!("- {name} ({} bytes) could not be kept; it is lost", data.len()));
        }
    }
    let pictured = !reply.images.is_empty();
    for image in std::mem::take(&mut reply.images) {
        let fits = image.data.len() <= core.config.call.inline_bytes;
        let mut kept = false;
        if name.is_some() || !fits {
            let new = new(core, name.unwrap_or(PICTURE), &image.mime_type, &image.data);
            kept = keep_one(core, record, reply, new, &mut lines).await.is_ok();
        }
        if fits || !kept {
            reply.images.push(image);
        }
    }
    let filed = !reply.files.is_empty();
    for file in std::mem::take(&mut reply.files) {
        let new = new(core, name.unwrap_or(&file.name), &file.mime_type, &file.data);
        if let Err(failure) = keep_one(core, record, reply, new, &mut lines).await {
            reply.failure.get_or_insert(failure);
        }
    }
    let main = reply.texts.iter().find(|text| MAIN.contains(&text.title.as_str()));
    if let (Some(name), Some(main), false, None) = (name, main, pictured || filed, &reply.failure) {
        let body = main.body.clone();
        // It is in the reply as well.
        let _kept = keep_one(core, record, reply, new(core, name, TEXT, body.as_bytes()), &mut lines).await;
    }
    if !lines.is_empty() {
        reply.add_text(KEPT, &lines.join("\n"));
    }
}

/// What is too large for the reply of a call whose session ends with it, or was to be kept: nobody could ask for it, so it goes, and
/// that is said.
pub(super) fn let_go(core: &Core, reply: &mut Reply) {
    let gone = |name: &str, bytes: usize| {
        format!("- {name} ({bytes} bytes) is gone with the session of its task; concurrent: false keeps it")
    };
    let files = std::mem::take(&mut reply.downloads).into_iter().chain(std::mem::take(&mut reply.files));
    let mut lines: Vec<String> = files.map(|file| gone(&file.name, file.data.len())).collect();
    let (fit, large) = std::mem::take(&mut reply.images)
        .into_iter()
        .partition::<Vec<_>, _>(|image| image.data.len() <= core.config.call.inline_bytes);
    reply.images = fit;
    lines.extend(large.iter().map(|image| gone(PICTURE, image.data.len())));
    if !lines.is_empty() {
        reply.push_text(NOT_KEPT, lines.join("\n"));
    }
}

fn new<'a>(core: &Core, name: &'a str, mime_type: &'a str, bytes: &'a [u8]) -> New<'a> {
    New { name, mime_type, bytes, now: core.clock.now() }
}

fn not_kept() -> Failure {
    let message = "What came of it could not be kept: it is larger than a session may keep, or the session has ended. Ask for less";
    Failure::new(ErrorCode::ResultTooLarge, message)
}

/// Keeps something and adds where it is.
async fn keep_one(
    core: &Core,
    record: &Record,
    reply: &mut Reply,
    new: New<'_>,
    lines: &mut Vec<String>,
) -> Result<(), Failure> {
    let artifact = core.artifacts.keep(&record.owner(), new).await?.ok_or_else(not_kept)?;
    metrics().artifacts.add("file");
    let url = core.download_url(&record.owner(), &artifact.id).await;
    let link = Link { url, ..Link::to(record, &artifact) };
    lines.push(line(core, &link));
    reply.links.push(link);
    Ok(())
}

/// Where something is, for whoever reads the reply.
fn line(core: &Core, Link { uri, artifact, url }: &Link) -> String {
    let Artifact { name, mime_type, size, .. } = artifact;
    let mut line = format!("- {name} ({mime_type}, {size} bytes): {uri} until the session ends; read it as a resource");
    if let Some(url) = url {
        let ttl = humantime::format_duration(core.config.http.link_ttl);
        // Writing to a String cannot fail.
        let _infallible = write!(line, ", or within {ttl} from {url}");
    }
    line
}
