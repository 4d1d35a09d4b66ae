//! Looking at the page.

use browserfleet_tools::Snapshot;

use super::{Call, Registry, Reply, ToolResult};
use crate::page::SnapshotOptions;

pub(super) fn register(registry: &mut Registry) {
    registry.add(snapshot);
}

async fn snapshot(call: Call, arguments: Snapshot) -> ToolResult {
    let Snapshot { target, depth, boxes, filename: _ } = arguments;
    let options = SnapshotOptions { target, depth, boxes: boxes.unwrap_or(false) };
    describe(&call, Reply::new(), &options).await
}

/// Ends a reply with where the page is and what it shows.
pub(super) async fn page(call: &Call, reply: Reply) -> ToolResult {
    describe(call, reply, &SnapshotOptions::default()).await
}

async fn describe(call: &Call, reply: Reply, options: &SnapshotOptions) -> ToolResult {
    // Neither document is hung while the next one is awaited: there is just nothing to see yet.
    if !call.page.arrived(call.within(call.times.action)).await {
        return Ok(reply.still_loading(&call.page.document()));
    }
    let shot = call.page.snapshot(options, call.within(call.times.action)).await?;
    Ok(reply.page(&call.page.document(), &shot))
}
