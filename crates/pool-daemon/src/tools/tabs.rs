//! The tabs of a session.

use std::sync::Arc;

use browserfleet_tools::{TabAction, Tabs};
use serde_json::json;

use super::{Call, Registry, Reply, ToolResult, navigate, observe, reply::tab_list};
use crate::{failure::Failure, workspace::TabInfo};

/// Most characters of a tab's name.
const MAX_NAME: usize = 64;

pub(super) fn register(registry: &mut Registry) {
    registry.add(tabs);
}

async fn tabs(mut call: Call, arguments: Tabs) -> ToolResult {
    let Tabs { action, index, url, name } = arguments;
    let name = name.map(|name| checked(&name)).transpose()?;
    // Known by now, even if nobody has been told yet.
    call.workspace.context().arrivals_settled().await;
    match action {
        TabAction::List => {}
        TabAction::New => {
            let url =
                url.as_deref().filter(|url| !url.is_empty()).map(|url| navigate::allowed(&call, url)).transpose()?;
            call.page = call.workspace.open_tab(name).await?;
            if let Some(url) = url {
                let reply = navigate::to(&call, &url).await?;
                let list = listed(&call).await?;
                return observe::page(&call, list.then(reply)).await;
            }
        }
        TabAction::Select => {
            let index =
                which(&call, index, name.as_deref())?.ok_or_else(|| Failure::invalid("Tab index is required"))?;
            let page = call.workspace.select_tab(index)?;
            page.to_front(call.within(call.times.action)).await?;
            call.page = page;
        }
        TabAction::Close => {
            call.workspace.close_tab(which(&call, index, name.as_deref())?).await?;
            call.page = call.workspace.page();
        }
    }
    let reply = listed(&call).await?;
    observe::page_if_asked(&call, reply).await
}

/// The tabs there are, for readers and for programs.
async fn listed(call: &Call) -> ToolResult {
    let tabs = call.workspace.describe_tabs().await?;
    let told: Vec<_> = tabs
        .iter()
        .map(|TabInfo { number, current, url, title, name }| {
            json!({ "index": number, "name": name, "current": current, "url": url, "title": title })
        })
        .collect();
    Ok(Reply::new().result(tab_list(&tabs)).structured(json!({ "tabs": told })))
}

/// The number of the tab that is meant, if one is named at all.
fn which(call: &Call, index: Option<usize>, name: Option<&str>) -> Result<Option<usize>, Failure> {
    let Some(name) = name else { return Ok(index) };
    if index.is_some() {
        return Err(Failure::invalid("give either the index of the tab or its name"));
    }
    let missing =
        || Failure::invalid(format!("No tab has the name {name:?}. Use browser_tabs with action list to see the tabs"));
    call.workspace.numbered(name).map(Some).ok_or_else(missing)
}

/// A name that stands in a list as one word.
fn checked(name: &str) -> Result<Arc<str>, Failure> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(sound) {
        return Ok(name.into());
    }
    Err(Failure::invalid(format!("a tab's name has from 1 to {MAX_NAME} letters, digits, -, _ or .")))
}
