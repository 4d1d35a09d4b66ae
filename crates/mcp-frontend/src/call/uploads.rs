//! Contents of calls that are artifacts: what a session keeps goes to its page, or to another session's of the same caller.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use browserfleet_common::{artifact::Artifact, error_code::ErrorCode};
use browserfleet_tools::{Arguments as _, Batch, Drop, FileUpload, SetStorageState};
use serde_json::{Map, Value};

use super::{Call, batch};
use crate::{
    artifacts::{BYTES, FILES_BYTES_MAX, parse_uri},
    caller::Caller,
    core::Core,
    failure::Failure,
};

/// The argument that holds files, and in each of them the URI of an artifact in place of its content.
const FILES: &str = "files";
const ARTIFACT: &str = "artifact";

/// Most files of a call, or of a step, as in the tools' schemas.
const FILES_MAX: usize = 100;
/// Where a storage state is, and itself.
const FILENAME: &str = "filename";
const STORAGE_STATE: &str = "storage_state";

/// Puts contents in the place of URIs: daemons know nothing of artifacts. The call has been checked, so what it names is bounded.
/// Answers how many bytes of files came with it; `None` when it has nothing of the kind.
pub(super) async fn fill(core: &Core, call: &mut Call) -> Result<Option<usize>, Failure> {
    let Call { tool, caller, arguments, .. } = call;
    let mut filling = Filling { core, caller, room: FILES_BYTES_MAX, brought: None };
    if tool.name == Batch::TOOL {
        for (step, arguments) in batch::steps(arguments) {
            filling.step(&step, arguments).await?;
        }
    } else {
        filling.step(tool.name, arguments).await?;
    }
    Ok(filling.brought)
}

/// A call on its way to being filled.
struct Filling<'a> {
    core: &'a Core,
    caller: &'a Caller,
    /// Bytes that its artifacts may still have: one room for all its steps.
    room: usize,
    /// Bytes of the files that came with it, once there is any.
    brought: Option<usize>,
}

impl Filling<'_> {
    async fn step(&mut self, tool: &str, arguments: &mut Map<String, Value>) -> Result<(), Failure> {
        match tool {
            FileUpload::TOOL | Drop::TOOL => self.files(arguments).await,
            SetStorageState::TOOL => self.storage_state(arguments).await,
            _ => Ok(()),
        }
    }

    /// A storage state that was kept under a name, given by its URI. What is no URI of ours the daemon refuses.
    async fn storage_state(&mut self, arguments: &mut Map<String, Value>) -> Result<(), Failure> {
        let Some(uri) = arguments.get(FILENAME).filter(|name| name.as_str().and_then(parse_uri).is_some()) else {
            return Ok(());
        };
        let (_, bytes) = self.read(uri).await?;
        let state: Value = serde_json::from_slice(&bytes)
            .map_err(|error| invalid(format!("the artifact {uri} is no storage state: {error}")))?;
        arguments.remove(FILENAME);
        arguments.insert(STORAGE_STATE.to_owned(), state);
        self.brought.get_or_insert(0);
        Ok(())
    }

    async fn files(&mut self, arguments: &mut Map<String, Value>) -> Result<(), Failure> {
        let Some(Value::Array(files)) = arguments.get_mut(FILES) else { return Ok(()) };
        if files.len() > FILES_MAX {
            return Err(invalid(format!("a call may have {FILES_MAX} files")));
        }
        *self.brought.get_or_insert(0) += files.iter().filter_map(Value::as_object).map(brought).sum::<usize>();
        for file in files.iter_mut().filter_map(Value::as_object_mut) {
            let Some(uri) = file.remove(ARTIFACT).filter(|uri| !uri.is_null()) else { continue };
            if file.contains_key("content") {
                return Err(invalid("a file is given by content or by artifact, not by both".to_owned()));
            }
            let (artifact, bytes) = self.read(&uri).await?;
            file.insert("content".to_owned(), BASE64_STANDARD.encode(bytes).into());
            file.insert("encoding".to_owned(), "base64".into());
            file.entry("name").or_insert_with(|| artifact.name.into());
            if artifact.mime_type != BYTES {
                file.entry("mimeType").or_insert_with(|| artifact.mime_type.into());
            }
        }
        Ok(())
    }

    /// An artifact of the caller's, if there is room for it.
    async fn read(&mut self, uri: &Value) -> Result<(Artifact, Vec<u8>), Failure> {
        let found = self.core.read_artifact(&self.caller.principal, uri.as_str().unwrap_or_default()).await?;
        let (artifact, bytes) = found.ok_or_else(|| no_artifact(uri))?;
        self.room = self
            .room
            .checked_sub(bytes.len())
            .ok_or_else(|| invalid(format!("the files of a call may have {} MiB together", FILES_BYTES_MAX >> 20)))?;
        Ok((artifact, bytes))
    }
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
