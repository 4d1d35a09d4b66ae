//! The tabs of a session.

use browserfleet_tools::{TabAction, Tabs};

use super::{Call, Registry, Reply, ToolResult, navigate, observe, reply::tab_list};
use crate::failure::Failure;

pub(super) fn register(registry: &mut Registry) {
    registry.add(tabs);
}

async fn tabs(mut call: Call, arguments: Tabs) -> ToolResult {
    let Tabs { action, index, url } = arguments;
    // Known by now, even if nobody has been told yet.
    call.workspace.context().arrivals_settled().await;
    match action {
        TabAction::List => {}
        TabAction::New => {
            let url =
                url.as_deref().filter(|url| !url.is_empty()).map(|url| navigate::allowed(&call, url)).transpose()?;
            call.page = call.workspace.open_tab().await?;
            if let Some(url) = url {
                let reply = navigate::to(&call, &url).await?;
                let list = tab_list(&call.workspace.describe_tabs().await?);
                return observe::page(&call, Reply::new().result(list).then(reply)).await;
            }
        }
        TabAction::Select => {
            let index = index.ok_or_else(|| Failure::invalid("Tab index is required"))?;
            let page = call.workspace.select_tab(index)?;
            page.to_front(call.within(call.times.action)).await?;
        }
        TabAction::Close => call.workspace.close_tab(index).await?,
    }
    Ok(Reply::new().result(tab_list(&call.workspace.describe_tabs().await?)))
}
