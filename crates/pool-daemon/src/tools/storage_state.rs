//! Taking a session's logins along, and beginning with them.

use std::fmt::Write as _;

use browserfleet_tools::{GetStorageState, SetStorageState};
use serde_json::{Map, Value, json};

use super::{Call, Registry, Reply, ToolResult, untrusted::fenced};
use crate::{
    failure::Failure,
    storage_state::{self, Placed, Read, StorageState},
};

pub(super) fn register(registry: &mut Registry) {
    registry.add(get);
    registry.add(set);
}

async fn get(call: Call, GetStorageState { filename }: GetStorageState) -> ToolResult {
    let Read { state, unread, cookies_left } =
        storage_state::read(&call.workspace, call.within(call.times.navigation)).await?;
    let written = serde_json::to_string_pretty(&state).unwrap_or_default();
    let mut text = fenced(&written, "");
    if !unread.is_empty() {
        let unread = unread.join(", ");
        // Writing to a String cannot fail.
        let _infallible =
            write!(text, "\nThe local storage of {unread} is not in it: it could not be read, or there is too much.");
    }
    if cookies_left > 0 {
        let _infallible = write!(text, "\n{cookies_left} cookies are not in it: there are too many.");
    }
    let reply = Reply::new()
        .result(text)
        .code("await page.context().storageState();")
        .structured(json!({ "storage_state": state }));
    // What is kept can be put in place as it is.
    Ok(if filename.is_some() {
        reply.file("storage-state.json", "application/json", written.into_bytes())
    } else {
        reply
    })
}

async fn set(call: Call, SetStorageState { storage_state, filename }: SetStorageState) -> ToolResult {
    let Some(state) = storage_state.filter(|_| filename.is_none()) else {
        let message = "The server reads no files: give the state itself as storage_state, as browser_storage_state gives it, \
                       or as filename the browserfleet:// URI under which it was kept";
        return Err(Failure::invalid(message));
    };
    let reply = Reply::new().result(placed(&call, state).await?);
    Ok(reply.code("await page.context().setStorageState(state);"))
}

/// Puts a state in place and says what came of it.
pub(super) async fn placed(call: &Call, state: Map<String, Value>) -> Result<String, Failure> {
    let state = StorageState::parse(Value::Object(state))?;
    let Placed { cookies, refused, origins, failed, forgotten } =
        state.place(&call.workspace, call.within(call.times.navigation)).await?;
    let mut text = format!("Storage state restored: {cookies} cookies, {origins} sites with local storage");
    if refused > 0 {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "; {refused} cookies are not there, expired or refused by the browser");
    }
    if !failed.is_empty() {
        let _infallible = write!(text, "; the local storage of {} could not be set", failed.join(", "));
    }
    if !forgotten.is_empty() {
        let forgotten = forgotten.join(", ");
        let _infallible = write!(text, "; the local storage of {forgotten} goes with this browser: it is too much");
    }
    Ok(text)
}
