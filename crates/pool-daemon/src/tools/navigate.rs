//! Going places.

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::{Navigate, NavigateBack, NavigateForward, Reload};

use url::Url;

use super::{Call, Registry, Reply, ToolResult, observe, reply::quoted};
use crate::{egress::target, failure::Failure, page::Navigated};

pub(super) fn register(registry: &mut Registry) {
    registry.add(navigate);
    registry.add(back);
    registry.add(forward);
    registry.add(reload);
}

async fn navigate(call: Call, arguments: Navigate) -> ToolResult {
    let url = allowed(&call, &arguments.url)?;
    let reply = to(&call, &url).await?;
    observe::page(&call, reply).await
}

/// The URL an agent gave, if it may be opened. That it may says nothing about where its name leads: the gate sees to that.
pub(super) fn allowed(call: &Call, url: &str) -> Result<Url, Failure> {
    let url = target::parse(url)?;
    if let Some(gate) = call.workspace.context().gate() {
        gate.check(&url)?;
    }
    Ok(url)
}

/// Goes to a URL. Answers what the same would be in test code.
pub(super) async fn to(call: &Call, url: &Url) -> ToolResult {
    if call.page.navigate(url.as_str(), call.within(call.times.navigation)).await? == Navigated::Download {
        if !call.workspace.context().keeps_downloads() {
            let message = "the URL is a download, and downloads are denied; the page has not changed";
            return Err(Failure::new(ErrorCode::NavigationFailed, message));
        }
        return Ok(Reply::new().result("The URL is a download; the page has not changed."));
    }
    Ok(Reply::new().code(format!("await page.goto({});", quoted(url.as_str()))))
}

async fn back(call: Call, NavigateBack {}: NavigateBack) -> ToolResult {
    travel(call, -1, "goBack").await
}

async fn forward(call: Call, NavigateForward {}: NavigateForward) -> ToolResult {
    travel(call, 1, "goForward").await
}

/// At the end of the history the page stays where it is, as with a browser's greyed-out button; the reply shows it.
async fn travel(call: Call, by: i64, method: &str) -> ToolResult {
    let travelled = call.page.travel(by, call.within(call.times.navigation)).await?;
    let reply = Reply::new();
    let reply = if travelled { reply } else { reply.result("The history ends here; the page has not changed.") };
    observe::page(&call, reply.code(format!("await page.{method}();"))).await
}

async fn reload(call: Call, Reload {}: Reload) -> ToolResult {
    call.page.reload(call.within(call.times.navigation)).await?;
    observe::page(&call, Reply::new().code("await page.reload();")).await
}
