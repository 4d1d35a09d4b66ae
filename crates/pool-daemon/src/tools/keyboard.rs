//! The keyboard by itself: keys go to where the focus is.

use browserfleet_tools::{KeyDown, KeyUp, PressKey};

use super::{Call, Registry, Reply, ToolResult, observe, reply::quoted};

pub(super) fn register(registry: &mut Registry) {
    registry.add(press_key);
    registry.add(key_down);
    registry.add(key_up);
}

async fn press_key(call: Call, PressKey { key }: PressKey) -> ToolResult {
    let mark = call.page.mark().await;
    call.page.press(&key, call.within(call.times.action)).await?;
    call.page.settle(mark, call.deadline).await?;
    let reply =
        Reply::new().code(format!("// Press {}\nawait page.keyboard.press({});", on_one_line(&key), quoted(&key)));
    // Enter sends forms and opens what is chosen.
    if key == "Enter" { observe::page(&call, reply).await } else { observe::page_if_asked(&call, reply).await }
}

async fn key_down(call: Call, KeyDown { key }: KeyDown) -> ToolResult {
    call.page.key_down(&key, call.within(call.times.action)).await?;
    Ok(Reply::new().code(format!("await page.keyboard.down({});", quoted(&key))))
}

async fn key_up(call: Call, KeyUp { key }: KeyUp) -> ToolResult {
    call.page.key_up(&key, call.within(call.times.action)).await?;
    Ok(Reply::new().code(format!("await page.keyboard.up({});", quoted(&key))))
}

/// A key as a comment may contain it.
fn on_one_line(key: &str) -> String {
    key.replace(char::is_control, " ")
}
