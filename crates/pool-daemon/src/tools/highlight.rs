//! Frames around elements, for people who look at the page.

use browserfleet_tools::{HideHighlight, Highlight};

use super::{Call, Registry, Reply, ToolResult, reply::locator_code};
use crate::failure::Failure;

/// Most characters of a style.
const STYLE_MAX: usize = 2000;

pub(super) fn register(registry: &mut Registry) {
    registry.add(show);
    registry.add(hide);
}

async fn show(call: Call, Highlight { target, style, element: _ }: Highlight) -> ToolResult {
    if style.as_ref().is_some_and(|style| style.len() > STYLE_MAX) {
        return Err(Failure::invalid(format!("style may have {STYLE_MAX} characters")));
    }
    let found = call.page.highlight(&target, style.as_deref(), call.within(call.times.action)).await?;
    Ok(Reply::new().result(format!("Highlighted {}", locator_code(&target, &found))))
}

async fn hide(call: Call, HideHighlight { target, element: _ }: HideHighlight) -> ToolResult {
    let deadline = call.within(call.times.action);
    let Some(target) = target else {
        call.page.hide_highlights(deadline).await?;
        return Ok(Reply::new().result("Hid page highlight"));
    };
    let found = call.page.hide_highlight(&target, deadline).await?;
    Ok(Reply::new().result(format!("Hid highlight for {}", locator_code(&target, &found))))
}
