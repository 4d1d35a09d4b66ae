//! Going places.

use browserfleet_tools::Navigate;

use super::{Call, Registry, Reply, ToolResult, observe, reply::quoted, url};
use crate::page::Navigated;

pub(super) fn register(registry: &mut Registry) {
    registry.add(navigate);
}

async fn navigate(call: Call, arguments: Navigate) -> ToolResult {
    let url = url::parse(&arguments.url)?;
    let arrived = call.page.navigate(url.as_str(), call.within(call.times.navigation)).await?;
    let reply = match arrived {
        Navigated::Arrived => Reply::new(),
        Navigated::Download => {
            Reply::new().result("The URL is a download; downloads are not kept. The page has not changed.")
        }
    };
    observe::page(&call, reply.code(format!("await page.goto({});", quoted(url.as_str())))).await
}
