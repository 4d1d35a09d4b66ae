//! Going places.

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::Navigate;

use super::{Call, Registry, Reply, ToolResult, observe, reply::quoted, url};
use crate::{failure::Failure, page::Navigated};

pub(super) fn register(registry: &mut Registry) {
    registry.add(navigate);
}

async fn navigate(call: Call, arguments: Navigate) -> ToolResult {
    let url = url::parse(&arguments.url)?;
    if call.page.navigate(url.as_str(), call.within(call.times.navigation)).await? == Navigated::Download {
        let message = "the URL is a download, and downloads are denied; the page has not changed";
        return Err(Failure::new(ErrorCode::NavigationFailed, message));
    }
    let reply = Reply::new();
    observe::page(&call, reply.code(format!("await page.goto({});", quoted(url.as_str())))).await
}
