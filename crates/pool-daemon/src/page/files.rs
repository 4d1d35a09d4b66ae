//! Files for pages, by value: none is read from or written to the server's disk.

use browserfleet_cdp::{
    Session,
    browser_protocol::dom::{BackendNodeId, ResolveNodeParams},
    js_protocol::runtime::{CallArgument, CallFunctionOnParams},
};
use browserfleet_common::error_code::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Page;
use crate::failure::Failure;

/// A file for a page.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileData {
    pub name: String,
    pub mime_type: String,
    pub base64: String,
}

/// A page waits for the user to choose files.
#[derive(Clone, Debug)]
pub(super) struct Chooser {
    pub(super) session: Session,
    pub(super) input: BackendNodeId,
}

#[derive(Debug, Deserialize)]
struct Done {
    locator: String,
}

/// What a chooser's input does with the files, in the page's own world: that is where its node is.
const CHOSEN: &str = "function (files) {
  if (files && files.length > 1 && !this.multiple) return 'Non-multiple file input can only accept single file';
  if (!files) return void this.dispatchEvent(new Event('cancel', { bubbles: true }));
  const transfer = new DataTransfer();
  for (const { name, mimeType, base64 } of files) {
    transfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name, { type: mimeType }));
  }
  this.files = transfer.files;
  this.dispatchEvent(new Event('input', { bubbles: true, composed: true }));
  this.dispatchEvent(new Event('change', { bubbles: true }));
}";

impl Page {
    /// Whether the page waits for files.
    pub fn asks_for_files(&self) -> bool {
        self.state().chooser.is_some()
    }

    /// Answers the page that waits for files; without any the choice is called off.
    pub async fn choose_files(&self, files: Option<&[FileData]>, deadline: Instant) -> Result<(), Failure> {
        let chooser = self.state().chooser.clone();
        let Some(Chooser { session, input }) = chooser else {
            let message = "The tool \"browser_file_upload\" can only be used when there is related modal state present. \
                           Click what asks for files first, or give target";
            return Err(Failure::invalid(message));
        };
        let resolve = ResolveNodeParams { backend_node_id: Some(input), ..ResolveNodeParams::default() };
        let node = session.call(resolve, deadline).await?.object.object_id;
        let mut command = CallFunctionOnParams::new(CHOSEN);
        command.object_id = node;
        command.arguments = Some(vec![CallArgument { value: Some(json!(files)), ..CallArgument::default() }]);
        command.return_by_value = Some(true);
        command.user_gesture = Some(true);
        let answer = self.unless_dialog(async { Ok(session.call(command, deadline).await?) }).await?;
        if let Some(Value::String(refused)) = answer.result.value {
            return Err(Failure::new(ErrorCode::ElementNotActionable, refused));
        }
        self.state().chooser = None;
        Ok(())
    }

    /// Gives a file input these files. Answers how test code would name it.
    pub async fn give_files(&self, target: &str, files: &[FileData], deadline: Instant) -> Result<String, Failure> {
        self.hand_over("giveFiles", target, json!({ "files": files }), deadline).await
    }

    /// Drops files and data onto an element. Answers how test code would name it.
    pub async fn drop_on(
        &self,
        target: &str,
        files: &[FileData],
        data: &Map<String, Value>,
        deadline: Instant,
    ) -> Result<String, Failure> {
        self.hand_over("dropOn", target, json!({ "files": files, "data": data }), deadline).await
    }

    async fn hand_over(&self, function: &str, target: &str, what: Value, deadline: Instant) -> Result<String, Failure> {
        let (world, target) = self.world_of(target, deadline).await?;
        Ok(self.unless_dialog(world.wait::<Done>(function, &target, what, deadline)).await?.locator)
    }
}
