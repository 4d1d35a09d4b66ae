//! Contents of calls that are artifacts: what a session keeps goes to its page, or to another session's of the same caller.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::{Arguments as _, Batch, Drop, FileUpload, SetStorageState};
use serde_json::{Map, Value, json};

use super::{
    Call, batch,
    quota::{self, Quota},
};
use crate::{
    artifacts::{BYTES, FILES_BYTES_MAX, parse_uri},
    caller::Caller,
    core::Core,
    failure::Failure,
};

/// The argument that holds files, and in each of them the URI of an artifact in place of its content.
const FILES: &str = "files";
const ARTIFACT: &str = "artifact";

/// Most files of a call, as in the tools' schemas.
const FILES_MAX: usize = 100;
/// Where a storage state is, and itself.
const FILENAME: &str = "filename";
const STORAGE_STATE: &str = "storage_state";

/// Puts contents in the place of URIs: daemons know nothing of artifacts.
pub(super) async fn fill(core: &Core, call: &mut Call) -> Result<(), Failure> {
    let Call { tool, caller, arguments, .. } = call;
    if tool.name != Batch::TOOL {
        return fill_one(core, caller, tool.name, arguments).await;
    }
    for (step, arguments) in batch::steps(arguments) {
        fill_one(core, caller, &step, arguments).await?;
    }
    Ok(())
}

async fn fill_one(core: &Core, caller: &Caller, tool: &str, arguments: &mut Map<String, Value>) -> Result<(), Failure> {
    match tool {
        FileUpload::TOOL | Drop::TOOL => files(core, caller, arguments).await,
        SetStorageState::TOOL => storage_state(core, caller, arguments).await,
        _ => Ok(()),
    }
}

/// A storage state that was kept under a name, given by its URI. What is no URI of ours the daemon refuses.
async fn storage_state(core: &Core, caller: &Caller, arguments: &mut Map<String, Value>) -> Result<(), Failure> {
    let Some(uri) = arguments.get(FILENAME).and_then(Value::as_str).filter(|name| parse_uri(name).is_some()) else {
        return Ok(());
    };
    let (_, bytes) = core.read_artifact(&caller.principal, uri).await?.ok_or_else(|| no_artifact(&json!(uri)))?;
    let state: Value = serde_json::from_slice(&bytes)
        .map_err(|error| invalid(format!("the artifact {uri:?} is no storage state: {error}")))?;
    arguments.remove(FILENAME);
    arguments.insert(STORAGE_STATE.to_owned(), state);
    Ok(())
}

async fn files(core: &Core, caller: &Caller, arguments: &mut Map<String, Value>) -> Result<(), Failure> {
    let Some(Value::Array(files)) = arguments.get_mut(FILES) else { return Ok(()) };
    if files.len() > FILES_MAX {
        return Err(invalid(format!("a call may have {FILES_MAX} files")));
    }
    let brought = files.iter().filter_map(Value::as_object).map(brought).sum();
    quota::spend(core, &caller.access, Quota::Upload, brought).await?;
    let mut room = FILES_BYTES_MAX;
    for file in files.iter_mut().filter_map(Value::as_object_mut) {
        let Some(uri) = file.remove(ARTIFACT).filter(|uri| !uri.is_null()) else { continue };
        if file.contains_key("content") {
            return Err(invalid("a file is given by content or by artifact, not by both".to_owned()));
        }
        let found = core.read_artifact(&caller.principal, uri.as_str().unwrap_or_default()).await?;
        let (artifact, bytes) = found.ok_or_else(|| no_artifact(&uri))?;
        room = room
            .checked_sub(bytes.len())
            .ok_or_else(|| invalid(format!("the files of a call may have {} MiB together", FILES_BYTES_MAX >> 20)))?;
        file.insert("content".to_owned(), BASE64_STANDARD.encode(bytes).into());
        file.insert("encoding".to_owned(), "base64".into());
        file.entry("name").or_insert_with(|| artifact.name.into());
        if artifact.mime_type != BYTES {
            file.entry("mimeType").or_insert_with(|| artifact.mime_type.into());
        }
    }
    Ok(())
}

/// Bytes of a file that comes with its call. One that was sent before has been counted then.
fn brought(file: &Map<String, Value>) -> usize {
    let content = file.get("content").and_then(Value::as_str).map_or(0, str::len);
    // Four characters of base64 are three bytes; what is none the daemon refuses.
    if file.get("encoding").and_then(Value::as_str) == Some("base64") { content.div_ceil(4) * 3 } else { content }
}

fn no_artifact(uri: &Value) -> Failure {
    invalid(format!("there is no artifact {uri}: its session has ended, or it made room for others"))
}

fn invalid(message: String) -> Failure {
    Failure::new(ErrorCode::InvalidArgument, message)
}
