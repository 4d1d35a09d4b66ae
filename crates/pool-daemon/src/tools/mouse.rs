//! The mouse by coordinates.

use browserfleet_tools::{MouseButton, MouseClickXy, MouseDown, MouseDragXy, MouseMoveXy, MouseUp, MouseWheel};
use tokio::time::Duration;

use super::{Call, Registry, Reply, ToolResult, interact::button_of, observe};
use crate::failure::Failure;

/// How far from the viewport's corner a point may be, in CSS pixels, and how far a wheel turns at once.
const FAR: f64 = 100_000.0;
/// Most clicks at once.
const CLICKS_MAX: u8 = 10;
/// Longest pause between press and release, in milliseconds.
const PAUSE_MAX: f64 = 2000.0;

pub(super) fn register(registry: &mut Registry) {
    registry.add(move_to);
    registry.add(click);
    registry.add(drag);
    registry.add(down);
    registry.add(up);
    registry.add(wheel);
}

async fn move_to(call: Call, MouseMoveXy { x, y }: MouseMoveXy) -> ToolResult {
    let at = point(x, y)?;
    let mark = call.page.mark().await;
    call.page.move_mouse(at, call.within(call.times.action)).await?;
    call.page.settle(mark, call.deadline).await?;
    Ok(Reply::new().code(format!("// Move mouse to ({x}, {y})\nawait page.mouse.move({x}, {y});")))
}

async fn click(call: Call, arguments: MouseClickXy) -> ToolResult {
    let MouseClickXy { x, y, button, click_count, delay } = arguments;
    let (at, clicks, pause) = (point(x, y)?, click_count.unwrap_or(1), delay.unwrap_or(0.0));
    if !(1..=CLICKS_MAX).contains(&clicks) || !(0.0..=PAUSE_MAX).contains(&pause) {
        let message = format!("clickCount must be from 1 to {CLICKS_MAX}, delay from 0 to {PAUSE_MAX} ms");
        return Err(Failure::invalid(message));
    }
    let mark = call.page.mark().await;
    let press = (button_of(button.unwrap_or_default()), clicks);
    let pause = Duration::from_secs_f64(pause / 1000.0);
    call.page.click_at(at, press, pause, call.within(call.times.action)).await?;
    let options = [
        button.map(|button| format!("  button: '{}'", name(button))),
        click_count.map(|clicks| format!("  clickCount: {clicks}")),
        delay.map(|delay| format!("  delay: {delay}")),
    ];
    let options = object(&options.into_iter().flatten().collect::<Vec<_>>(), ", ");
    let code = format!("// Click mouse at coordinates ({x}, {y})\nawait page.mouse.click({x}, {y}{options});");
    call.page.settle(mark, call.deadline).await?;
    observe::page(&call, Reply::new().code(code)).await
}

async fn drag(call: Call, arguments: MouseDragXy) -> ToolResult {
    let MouseDragXy { start_x, start_y, end_x, end_y } = arguments;
    let (from, to) = (point(start_x, start_y)?, point(end_x, end_y)?);
    let mark = call.page.mark().await;
    call.page.drag_at(from, to, call.within(call.times.action)).await?;
    let code = format!(
        "// Drag mouse from ({start_x}, {start_y}) to ({end_x}, {end_y})\nawait page.mouse.move({start_x}, {start_y});\n\
         await page.mouse.down();\nawait page.mouse.move({end_x}, {end_y});\nawait page.mouse.up();"
    );
    call.page.settle(mark, call.deadline).await?;
    observe::page(&call, Reply::new().code(code)).await
}

async fn down(call: Call, MouseDown { button }: MouseDown) -> ToolResult {
    let mark = call.page.mark().await;
    call.page.press_mouse(button_of(button.unwrap_or_default()), 1, call.within(call.times.action)).await?;
    call.page.settle(mark, call.deadline).await?;
    Ok(Reply::new().code(format!("// Press mouse down\nawait page.mouse.down({});", which(button))))
}

async fn up(call: Call, MouseUp { button }: MouseUp) -> ToolResult {
    let mark = call.page.mark().await;
    call.page.release_mouse(button_of(button.unwrap_or_default()), 1, call.within(call.times.action)).await?;
    call.page.settle(mark, call.deadline).await?;
    Ok(Reply::new().code(format!("// Press mouse up\nawait page.mouse.up({});", which(button))))
}

async fn wheel(call: Call, MouseWheel { delta_x, delta_y }: MouseWheel) -> ToolResult {
    let by = point(delta_x, delta_y)?;
    let mark = call.page.mark().await;
    call.page.turn_wheel(by, call.within(call.times.action)).await?;
    call.page.settle_shown(mark, call.deadline).await?;
    Ok(Reply::new().code(format!("// Scroll mouse wheel\nawait page.mouse.wheel({delta_x}, {delta_y});")))
}

fn point(x: f64, y: f64) -> Result<(f64, f64), Failure> {
    let near = |value: f64| value.abs() <= FAR;
    if near(x) && near(y) { Ok((x, y)) } else { Err(Failure::invalid("the coordinates are too far away")) }
}

fn name(button: MouseButton) -> &'static str {
    match button {
        MouseButton::Left => "left",
        MouseButton::Right => "right",
        MouseButton::Middle => "middle",
    }
}

fn which(button: Option<MouseButton>) -> String {
    object(&button.map(|button| format!("  button: '{}'", name(button))).into_iter().collect::<Vec<_>>(), "")
}

/// Options as test code has them, after `before`; nothing if there are none.
fn object(options: &[String], before: &str) -> String {
    if options.is_empty() { String::new() } else { format!("{before}{{\n{}\n}}", options.join(",\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_written_as_the_peer_writes_them() {
        assert_eq!(which(None), "");
        assert_eq!(which(Some(MouseButton::Right)), "{\n  button: 'right'\n}");
    }

    #[test]
    fn points_are_near_the_page() {
        assert!(point(0.5, -3.0).is_ok());
        assert!(point(1e9, 0.0).is_err() && point(f64::NAN, 0.0).is_err());
    }
}
