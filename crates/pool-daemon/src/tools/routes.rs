//! Answering requests in the place of servers, and being offline.

use std::sync::Arc;

use browserfleet_tools::{NetworkState, NetworkStateSet, Route, RouteList, Unroute};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::{Call, Registry, Reply, ToolResult, reply::quoted};
use crate::page;

/// Most characters of a body in the list of routes.
const SHOWN: usize = 50;

pub(super) fn register(registry: &mut Registry) {
    registry.add(route);
    registry.add(list);
    registry.add(unroute);
    registry.add(set_state);
}

async fn route(call: Call, arguments: Route) -> ToolResult {
    let Route { pattern, status, body, content_type, headers, remove_headers } = arguments;
    let headers = headers.unwrap_or_default();
    let wanted = page::Wanted { pattern, status, body, content_type, headers, remove_headers };
    let route = page::Route::new(wanted)?;
    let pattern = route.pattern.clone();
    call.workspace.context().add_route(route)?;
    take_on(&call).await;
    let code = format!("await page.context().route({}, async route => {{ /* route handler */ }});", quoted(&pattern));
    Ok(Reply::new().result(format!("Route added for pattern: {pattern}")).code(code))
}

async fn list(call: Call, RouteList {}: RouteList) -> ToolResult {
    let routes = call.workspace.context().routes();
    let lines: Vec<_> =
        routes.iter().enumerate().map(|(at, route)| format!("{}. {}", at + 1, described(route))).collect();
    let text = if lines.is_empty() { "No active routes".to_owned() } else { lines.join("\n") };
    let routes: Vec<_> = routes.iter().map(Arc::as_ref).collect();
    Ok(Reply::new().result(text).structured(json!({ "routes": routes })))
}

/// A route and what it does, as the peer writes it.
fn described(route: &page::Route) -> String {
    let cut = |body: &String| match body.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &body[..end]),
        None => body.clone(),
    };
    let headers = || -> Value {
        route.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>().into()
    };
    let details = [
        route.status.map(|status| format!("status={status}")),
        route.body.as_ref().map(|body| format!("body={}", cut(body))),
        route.content_type.as_ref().map(|kind| format!("contentType={kind}")),
        (!route.headers.is_empty()).then(|| format!("addHeaders={}", headers())),
        (!route.remove_headers.is_empty()).then(|| format!("removeHeaders={}", route.remove_headers.join(","))),
    ];
    let details: Vec<_> = details.into_iter().flatten().collect();
    if details.is_empty() { route.pattern.clone() } else { format!("{} ({})", route.pattern, details.join(", ")) }
}

async fn unroute(call: Call, Unroute { pattern }: Unroute) -> ToolResult {
    let removed = call.workspace.context().remove_routes(pattern.as_deref());
    take_on(&call).await;
    Ok(Reply::new().result(match pattern {
        Some(pattern) => format!("Removed {removed} route(s) for pattern: {pattern}"),
        None => format!("Removed all {removed} route(s)"),
    }))
}

async fn set_state(call: Call, NetworkStateSet { state }: NetworkStateSet) -> ToolResult {
    let offline = state == NetworkState::Offline;
    call.workspace.context().set_offline(offline);
    take_on(&call).await;
    let word = if offline { "offline" } else { "online" };
    Ok(Reply::new()
        .result(format!("Network is now {word}"))
        .code(format!("await page.context().setOffline({offline});")))
}

/// Every tab takes on what is wanted now. One that does not answer does so when it is worked in next.
async fn take_on(call: &Call) {
    let deadline = call.within(call.times.action);
    let tabs = call.workspace.open_tabs();
    for taken in join_all(tabs.iter().map(|tab| tab.page.take_on_network(deadline))).await {
        if let Err(failure) = taken {
            tracing::debug!(%failure, "a tab has not taken on what is wanted of the network");
        }
    }
}
