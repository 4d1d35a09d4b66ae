//! `docs/tools.md` is written by this test from the catalogue, and must be as it would write it.

use std::{env, fmt::Write as _, fs, path::Path};

use browserfleet_tools::{CATALOGUE, Effect, Tool};
use serde_json::{Map, Value};

const HEAD: &str = "# Tools\n\nWritten from the catalogue by `UPDATE_DOCS=1 cargo test -p browserfleet-tools --test reference`. Every tool that \
                    works in a page\ntakes `session_id` too: see the README. Tools of the groups core and session are always there; the others where `--caps` or \
                    the\nURL (`/mcp?caps=storage,testing`) asks for their group.\n";

#[test]
fn the_reference_is_what_the_catalogue_says() {
    let written = CATALOGUE.iter().fold(HEAD.to_owned(), |text, tool| text + &described(tool));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tools.md");
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &written).unwrap();
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    assert!(there == written, "docs/tools.md is not what the catalogue says: see its head for how to write it anew");
}

fn described(tool: &Tool) -> String {
    let kind = if tool.effect == Effect::Reads { "looks only" } else { "acts" };
    let mut text = format!(
        "\n## `{}`\n\n{} ({kind}; group `{}`, scope `{}`)\n",
        tool.name, tool.description, tool.group, tool.scope
    );
    let schema = tool.input_schema();
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let rows: Vec<_> = properties.iter().filter(|(name, _)| *name != "session_id").collect();
    if !rows.is_empty() {
        text.push_str("\n| argument | type | |\n|---|---|---|\n");
    }
    for (name, property) in rows {
        let needed = if required.contains(&name.as_str()) { ", required" } else { "" };
        let meaning = property["description"].as_str().unwrap_or_default().replace('|', "\\|").replace('\n', " ");
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "| `{name}` | {}{needed} | {meaning} |", kind_of(property));
    }
    if let Some(output) = tool.output_schema() {
        let members = output["properties"].as_object().unwrap_or(&empty);
        let members: Vec<_> = members.keys().map(|name| format!("`{name}`{}", items_of(tool.name, name))).collect();
        let _infallible = writeln!(text, "\nStructured result: {}.", members.join(", "));
    }
    text
}

/// What is in the lists of structured results, which schemas leave open.
fn items_of(tool: &str, member: &str) -> &'static str {
    match (tool, member) {
        ("browser_tabs", "tabs") => " (of `index`, `current`, `url`, `title`)",
        ("browser_console_messages", "messages") => " (of `level`, `text`)",
        ("browser_network_requests", "requests") => {
            " (of `index`, `method`, `url`, and `status` or `error` once there is one)"
        }
        ("session_list", "sessions") => " (of `session_id`, `age_seconds`, `idle_seconds`, `browser`)",
        ("browser_batch", "steps") => {
            " (of `tool`, `status`: `ok`, `failed` or `not_run`, `ms`, and `result` or `error` where there is one; `omitted` where the result has no room)"
        }
        ("browser_read", "links") => " (of `text`, `url`)",
        ("browser_stop_recording", "steps") => " (of `tool`, `arguments`, as `browser_batch` takes them)",
        ("session_run_tasks", "tasks") => {
            " (of `name`, `status`, `own_session`, `ms`, `steps` as those of `browser_batch`, and `error` if it failed)"
        }
        (_, "cookies") => " (as Playwright has them)",
        _ => "",
    }
}

/// A type in words: the choices, the items of a list.
fn kind_of(property: &Value) -> String {
    if let Some(choices) = property["enum"].as_array() {
        let choices: Vec<_> =
            choices.iter().map(|choice| format!("`{}`", choice.to_string().trim_matches('"'))).collect();
        return choices.join(", ");
    }
    let of = |kind: &Value| kind.as_str().unwrap_or("object").to_owned();
    match property["type"].as_str() {
        Some("array") => {
            let items = &property["items"];
            match items["properties"].as_object() {
                Some(fields) => format!("list of {{{}}}", fields.keys().cloned().collect::<Vec<_>>().join(", ")),
                None => {
                    format!("list of {}", if items["enum"].is_array() { kind_of(items) } else { of(&items["type"]) })
                }
            }
        }
        _ => of(&property["type"]),
    }
}
