//! What a page has said on its console: bounded, the newest kept.

use std::{collections::VecDeque, fmt::Write as _};

use super::{
    state::cut,
    wire::{ConsoleArgument, ConsoleCalled, LogEntry, ThrownDetails},
};

/// Most messages that are kept, and most characters of one.
const MAX_MESSAGES: usize = 1000;
const MAX_TEXT: usize = 4_000;
const MAX_URL: usize = 500;

/// How bad a message is; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warning,
    Info,
    Debug,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleMessage {
    pub level: Level,
    /// As agents read it.
    pub line: String,
    /// The how-manieth document of the page has said it.
    document: u64,
}

/// How much the present document has said, whether or not all of it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsoleCounts {
    pub messages: usize,
    pub errors: usize,
    pub warnings: usize,
}

/// A page's messages, those of its earlier documents included.
#[derive(Debug, Default)]
pub(super) struct Console {
    messages: VecDeque<ConsoleMessage>,
    counts: ConsoleCounts,
    /// Whose counts these are.
    counted: u64,
}

impl Console {
    pub(super) fn called(&mut self, document: u64, call: ConsoleCalled) {
        let level = level_of(&call.kind);
        let text = call.args.iter().map(text_of).collect::<Vec<_>>().join(" ");
        let place = call.stack_trace.and_then(|trace| trace.call_frames.into_iter().next());
        let place = place.map(|frame| (frame.url, Some(frame.line_number)));
        self.add(document, level, line(&call.kind, text, place), call.kind == "error");
    }

    pub(super) fn logged(&mut self, document: u64, entry: LogEntry) {
        let level = level_of(&entry.level);
        let place = entry.url.map(|url| (url, entry.line_number));
        self.add(document, level, line(&entry.level, entry.text, place), level == Level::Error);
    }

    /// What a script threw and nobody caught: its stack says where.
    pub(super) fn thrown(&mut self, document: u64, details: ThrownDetails) {
        let description = details.exception.as_ref().map(text_of).filter(|text| !text.is_empty());
        self.add(document, Level::Error, cut(description.unwrap_or(details.text), MAX_TEXT), true);
    }

    fn add(&mut self, document: u64, level: Level, line: String, error: bool) {
        if self.counted != document {
            (self.counted, self.counts) = (document, ConsoleCounts::default());
        }
        self.counts.messages += 1;
        self.counts.errors += usize::from(error);
        self.counts.warnings += usize::from(level == Level::Warning);
        if self.messages.len() == MAX_MESSAGES {
            self.messages.pop_front();
        }
        self.messages.push_back(ConsoleMessage { level, line, document });
    }

    pub(super) fn counts(&self, document: u64) -> ConsoleCounts {
        if self.counted == document { self.counts } else { ConsoleCounts::default() }
    }

    /// Messages of this document, or of all, that are at least so bad.
    pub(super) fn messages(&self, document: Option<u64>, level: Level) -> Vec<ConsoleMessage> {
        let wanted = |message: &&ConsoleMessage| {
            message.level <= level && document.is_none_or(|document| message.document == document)
        };
        self.messages.iter().filter(wanted).cloned().collect()
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.counts = ConsoleCounts::default();
    }
}

fn level_of(kind: &str) -> Level {
    match kind {
        "error" | "assert" => Level::Error,
        "warning" => Level::Warning,
        "debug" | "trace" | "verbose" | "startGroup" | "startGroupCollapsed" | "endGroup" | "clear" => Level::Debug,
        _ => Level::Info,
    }
}

/// `[ERROR] text @ url:line`, lines counted from 1.
fn line(kind: &str, text: String, place: Option<(String, Option<i64>)>) -> String {
    let mut line = format!("[{}] {}", kind.to_ascii_uppercase(), cut(text, MAX_TEXT));
    if let Some((url, number)) = place.filter(|(url, _)| !url.is_empty()) {
        line.push_str(" @ ");
        line.push_str(&cut(url, MAX_URL));
        if let Some(number) = number {
            // Writing to a String cannot fail.
            let _infallible = write!(line, ":{}", number + 1);
        }
    }
    line
}

/// A value as the console of a browser shows it in one line.
fn text_of(argument: &ConsoleArgument) -> String {
    if let Some(preview) = &argument.preview
        && argument.subtype.as_deref() != Some("error")
    {
        let list = argument.subtype.as_deref() == Some("array");
        let mut parts: Vec<String> = preview
            .properties
            .iter()
            .map(|property| {
                let value = property.value.as_deref().unwrap_or("…");
                if list { value.to_owned() } else { format!("{}: {value}", property.name) }
            })
            .collect();
        if preview.overflow {
            parts.push("…".to_owned());
        }
        // Of a map, a date and the like the description says more than their properties.
        if !parts.is_empty() || argument.subtype.is_none() || list {
            let all = parts.join(", ");
            return if list { format!("[{all}]") } else { format!("{{{all}}}") };
        }
    }
    match (&argument.value, &argument.unserializable_value) {
        (Some(serde_json::Value::String(text)), _) => text.clone(),
        (Some(value), _) => value.to_string(),
        (None, Some(number)) => number.clone(),
        (None, None) => argument.description.clone().unwrap_or_else(|| argument.kind.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(value: serde_json::Value) -> ConsoleCalled {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn values_read_as_in_a_console() {
        let mut console = Console::default();
        let object = json!({ "type": "object", "description": "Object", "preview": { "overflow": true,
            "properties": [{ "name": "a", "value": "1" }, { "name": "b", "value": "Array(2)" }] } });
        let list = json!({ "type": "object", "subtype": "array", "preview": { "overflow": false,
            "properties": [{ "name": "0", "value": "1" }, { "name": "1", "value": "2" }] } });
        let args = json!([{ "type": "string", "value": "hi" }, object, list, { "type": "object", "subtype": "null", "value": null },
            { "type": "undefined" }, { "type": "number", "unserializableValue": "NaN", "description": "NaN" }]);
        let stack = json!({ "callFrames": [{ "url": "http://h/x.js", "lineNumber": 4 }] });
        console.called(1, call(json!({ "type": "log", "args": args, "stackTrace": stack })));
        let messages = console.messages(None, Level::Info);
        assert_eq!(messages[0].line, "[LOG] hi {a: 1, b: Array(2), …} [1, 2] null undefined NaN @ http://h/x.js:5");
    }

    #[test]
    fn the_newest_are_kept_and_counts_are_of_the_present_document() {
        let mut console = Console::default();
        for n in 0..1100 {
            console.called(1, call(json!({ "type": "error", "args": [{ "type": "number", "value": n }] })));
        }
        assert_eq!(console.counts(1), ConsoleCounts { messages: 1100, errors: 1100, warnings: 0 });
        assert_eq!(console.messages(Some(1), Level::Error).first().unwrap().line, "[ERROR] 100");
        console.called(2, call(json!({ "type": "warning", "args": [] })));
        assert_eq!(console.counts(2), ConsoleCounts { messages: 1, errors: 0, warnings: 1 });
        assert_eq!(console.messages(Some(2), Level::Debug).len(), 1);
        assert_eq!(console.messages(None, Level::Debug).len(), 1000);
        assert!(console.messages(None, Level::Error).iter().all(|message| message.level == Level::Error));
        assert_eq!(console.counts(3), ConsoleCounts::default());
        console.clear();
        assert!(console.messages(None, Level::Debug).is_empty());
    }
}
