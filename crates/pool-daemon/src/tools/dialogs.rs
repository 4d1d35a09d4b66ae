//! Answering what the page asks.

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::HandleDialog;

use super::{Call, Registry, Reply, ToolResult, observe};
use crate::failure::Failure;

pub(super) fn register(registry: &mut Registry) {
    registry.add(handle_dialog);
}

async fn handle_dialog(call: Call, arguments: HandleDialog) -> ToolResult {
    if call.page.dialog().is_none() {
        return Err(Failure::new(ErrorCode::InvalidArgument, "No dialog visible"));
    }
    let mark = call.page.mark().await;
    let deadline = call.within(call.times.action);
    call.page.answer_dialog(arguments.accept, arguments.prompt_text.as_deref(), deadline).await?;
    call.page.settle(mark, call.deadline).await?;
    observe::page(&call, Reply::new()).await
}
