//! What pages have said on their console.

use std::fmt::Write as _;

use browserfleet_tools::{ConsoleClear, ConsoleLevel, ConsoleMessages};

use super::{Call, Registry, Reply, ToolResult, untrusted::fenced};
use crate::page::{ConsoleCounts, Level};

/// Most bytes of messages in one reply; the newest are shown.
const MAX_BYTES: usize = 64 << 10;

pub(super) fn register(registry: &mut Registry) {
    registry.add(messages);
    registry.add(clear);
}

async fn messages(call: Call, arguments: ConsoleMessages) -> ToolResult {
    let ConsoleMessages { level, all, filename: _ } = arguments;
    let (level, name) = match level.unwrap_or_default() {
        ConsoleLevel::Error => (Level::Error, "error"),
        ConsoleLevel::Warning => (Level::Warning, "warning"),
        ConsoleLevel::Info => (Level::Info, "info"),
        ConsoleLevel::Debug => (Level::Debug, "debug"),
    };
    let (counts, messages) = call.page.console(all.unwrap_or(false), level).await;
    let ConsoleCounts { messages: total, errors, warnings } = counts;
    let mut text = format!("Total messages: {total} (Errors: {errors}, Warnings: {warnings})");
    if messages.len() != total {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "\nReturning {} messages for level \"{name}\"", messages.len());
    }
    let mut room = MAX_BYTES;
    let shown = messages.iter().rev().take_while(|message| {
        let fits = message.line.len() < room;
        room = room.saturating_sub(message.line.len() + 1);
        fits
    });
    let mut lines: Vec<&str> = shown.map(|message| message.line.as_str()).collect();
    lines.reverse();
    if lines.len() < messages.len() {
        let _infallible = write!(text, "\nShowing the newest {} of them: the others have no room here", lines.len());
    }
    if !lines.is_empty() {
        let said = fenced(&lines.join("\n"), &call.page.document().url);
        let _infallible = write!(text, "\n\n{said}");
    }
    Ok(Reply::new().result(text))
}

async fn clear(call: Call, ConsoleClear {}: ConsoleClear) -> ToolResult {
    call.page.clear_console();
    Ok(Reply::new().result("Console messages cleared"))
}
