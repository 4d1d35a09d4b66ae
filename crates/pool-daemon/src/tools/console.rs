//! What pages have said on their console.

use std::fmt::Write as _;

use browserfleet_tools::{ConsoleClear, ConsoleLevel, ConsoleMessages};
use serde_json::{Value, json};

use super::{
    Call, Registry, Reply, ToolResult,
    untrusted::{fenced, origin},
};
use crate::page::{ConsoleCounts, ConsoleMessage, Level};

/// Most bytes of messages in one reply; the newest are shown.
const MAX_BYTES: usize = 64 << 10;

pub(super) fn register(registry: &mut Registry) {
    registry.add(messages);
    registry.add(clear);
}

async fn messages(call: Call, arguments: ConsoleMessages) -> ToolResult {
    let ConsoleMessages { level, all, filename: _ } = arguments;
    let level = match level.unwrap_or_default() {
        ConsoleLevel::Error => Level::Error,
        ConsoleLevel::Warning => Level::Warning,
        ConsoleLevel::Info => Level::Info,
        ConsoleLevel::Debug => Level::Debug,
    };
    let name = name_of(level);
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
    let mut shown: Vec<&ConsoleMessage> = shown.collect();
    shown.reverse();
    let lines: Vec<&str> = shown.iter().map(|message| message.line.as_str()).collect();
    if lines.len() < messages.len() {
        let _infallible = write!(text, "\nShowing the newest {} of them: the others have no room here", lines.len());
    }
    let url = call.page.document().url;
    if !lines.is_empty() {
        let said = fenced(&lines.join("\n"), &url);
        let _infallible = write!(text, "\n\n{said}");
    }
    let told: Vec<Value> =
        shown.iter().map(|message| json!({ "level": name_of(message.level), "text": message.line })).collect();
    let structured =
        json!({ "total": total, "errors": errors, "warnings": warnings, "origin": origin(&url), "messages": told });
    Ok(Reply::new().result(text).structured(structured))
}

fn name_of(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

async fn clear(call: Call, ConsoleClear {}: ConsoleClear) -> ToolResult {
    call.page.clear_console();
    Ok(Reply::new().result("Console messages cleared"))
}
