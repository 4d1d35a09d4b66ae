//! Clicking, pointing, dragging and typing.

use browserfleet_tools::{Click, Drag, Hover, Modifier, MouseButton, Type};

use super::{
    Call, Registry, Reply, ToolResult, observe,
    reply::{locator_code, quoted},
};
use crate::{
    failure::Failure,
    page::{Button, Press, modifier},
};

/// Most characters of a text to type.
const MAX_TEXT: usize = 100_000;

/// Most characters to type key by key.
const MAX_KEYS: usize = 2_000;

pub(super) fn register(registry: &mut Registry) {
    registry.add(click);
    registry.add(hover);
    registry.add(drag);
    registry.add(type_text);
}

async fn click(call: Call, arguments: Click) -> ToolResult {
    let Click { target, double_click, button, modifiers, element: _ } = arguments;
    let (button, double) = (button.unwrap_or_default(), double_click.unwrap_or(false));
    let modifiers = modifiers.unwrap_or_default();
    let press = Press {
        button: button_of(button),
        modifiers: modifiers.iter().fold(0, |bits, &key| bits | modifier_bit(key)),
        clicks: if double { 2 } else { 1 },
    };
    let mark = call.page.mark().await;
    let found = call.page.click(&target, press, call.within(call.times.action)).await;
    let code = |found: &str| {
        let method = if double { "dblclick" } else { "click" };
        format!("await page.{}.{method}({});", locator_code(&target, found), click_options(button, &modifiers))
    };
    let reply = Reply::new().code(code(&found?));
    call.page.settle(mark, call.deadline).await?;
    observe::page(&call, reply).await
}

async fn hover(call: Call, Hover { target, element: _ }: Hover) -> ToolResult {
    let mark = call.page.mark().await;
    let found = call.page.hover(&target, call.within(call.times.action)).await?;
    let reply = Reply::new().code(format!("await page.{}.hover();", locator_code(&target, &found)));
    call.page.settle(mark, call.deadline).await?;
    observe::page(&call, reply).await
}

async fn drag(call: Call, arguments: Drag) -> ToolResult {
    let Drag { start_target: from, end_target: to, .. } = arguments;
    let mark = call.page.mark().await;
    let (source, goal) = call.page.drag(&from, &to, call.within(call.times.action)).await?;
    let (source, goal) = (locator_code(&from, &source), locator_code(&to, &goal));
    let reply = Reply::new().code(format!("await page.{source}.dragTo(page.{goal});"));
    call.page.settle(mark, call.deadline).await?;
    observe::page(&call, reply).await
}

async fn type_text(call: Call, arguments: Type) -> ToolResult {
    let Type { target, text, submit, slowly, element: _ } = arguments;
    let (submit, slowly) = (submit.unwrap_or(false), slowly.unwrap_or(false));
    let most = if slowly { MAX_KEYS } else { MAX_TEXT };
    if text.chars().count() > most {
        return Err(Failure::invalid(format!("text is too long: at most {most} characters can be typed at once")));
    }
    let mark = call.page.mark().await;
    let time = if slowly { call.times.script } else { call.times.action };
    let (filled, bound) = call.secrets.fill(&text)?;
    let found = call.page.type_text(&target, &filled, slowly, &bound, call.within(time)).await?;
    let locator = locator_code(&target, &found);
    let method = if slowly { "pressSequentially" } else { "fill" };
    let mut code = format!("await page.{locator}.{method}({});", quoted(&text));
    if submit {
        call.page.press("Enter", call.within(call.times.action)).await?;
        code = format!("{code}\nawait page.{locator}.press('Enter');");
    }
    call.page.settle(mark, call.deadline).await?;
    let reply = Reply::new().code(code);
    if submit || slowly { observe::page(&call, reply).await } else { observe::page_if_asked(&call, reply).await }
}

/// The button an agent names.
pub(super) fn button_of(button: MouseButton) -> Button {
    match button {
        MouseButton::Left => Button::Left,
        MouseButton::Right => Button::Right,
        MouseButton::Middle => Button::Middle,
    }
}

fn modifier_bit(key: Modifier) -> i64 {
    match key {
        Modifier::Alt => modifier::ALT,
        // Chromium on Linux: the key that selects all and copies is Control.
        Modifier::Control | Modifier::ControlOrMeta => modifier::CONTROL,
        Modifier::Meta => modifier::META,
        Modifier::Shift => modifier::SHIFT,
    }
}

fn click_options(button: MouseButton, modifiers: &[Modifier]) -> String {
    let mut lines = Vec::new();
    match button {
        MouseButton::Left => {}
        MouseButton::Right => lines.push("  button: 'right'".to_owned()),
        MouseButton::Middle => lines.push("  button: 'middle'".to_owned()),
    }
    if !modifiers.is_empty() {
        // In an order of their own, and the key for shortcuts by a name that fits every system.
        let written = |key: &str| modifiers.iter().any(|given| name_in_code(*given) == key);
        let names: Vec<_> =
            ["Alt", "ControlOrMeta", "Shift"].iter().filter(|key| written(key)).map(|key| format!("'{key}'")).collect();
        lines.push(format!("  modifiers: [{}]", names.join(", ")));
    }
    if lines.is_empty() { String::new() } else { format!("{{\n{}\n}}", lines.join(",\n")) }
}

fn name_in_code(key: Modifier) -> &'static str {
    match key {
        Modifier::Alt => "Alt",
        Modifier::Control | Modifier::ControlOrMeta | Modifier::Meta => "ControlOrMeta",
        Modifier::Shift => "Shift",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn click_options_are_written_as_the_peer_writes_them() {
        assert_eq!(click_options(MouseButton::Left, &[]), "");
        assert_eq!(
            click_options(MouseButton::Right, &[Modifier::Shift]),
            "{\n  button: 'right',\n  modifiers: ['Shift']\n}"
        );
        assert_eq!(
            click_options(MouseButton::Left, &[Modifier::Shift, Modifier::Control]),
            "{\n  modifiers: ['ControlOrMeta', 'Shift']\n}"
        );
    }
}
