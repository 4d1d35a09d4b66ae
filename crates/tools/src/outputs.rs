//! What programs read in replies: the schemas of structured results, by tool.
//!
//! They are flat, because every client reads them with the list of tools; docs/tools.md names the members of what is in lists.
//! No member is required: what has no room in a reply is left out of it, and named in `omitted`; of a batch's steps the results first,
//! each in the `omitted` of its step.

use serde_json::{Map, Value, json};

/// The schema of a tool's structured result; none for tools whose result is for reading.
pub(crate) fn of(tool: &str) -> Option<Map<String, Value>> {
    let integer = || json!({ "type": "integer" });
    let string = || json!({ "type": "string" });
    let boolean = || json!({ "type": "boolean" });
    let object = || json!({ "type": "object" });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let members = match tool {
        "browser_open" => json!({ "session_id": string() }),
        "browser_batch" => {
            json!({ "steps": list(object()), "ok": integer(), "failed": integer(), "not_run": integer() })
        }
        "browser_read" => json!({
            "metadata": object(), "links": list(object()), "more_links": integer(), "truncated": boolean(),
        }),
        "browser_read_cursor" => json!({ "next_cursor": { "type": ["string", "null"] }, "total_bytes": integer() }),
        "browser_extract" => json!({ "data": object(), "truncated": boolean() }),
        "session_run_tasks" => json!({ "tasks": list(object()), "ok": integer() }),
        "browser_har_export" => json!({ "requests": integer(), "bodies_left_out": integer() }),
        "browser_stop_recording" => {
            json!({ "steps": list(object()), "code": list(string()), "left_out": list(string()) })
        }
        "browser_stop_tracing" => json!({ "bytes": integer(), "duration_ms": integer(), "cut": boolean() }),
        "browser_stop_video" => json!({
            "bytes": integer(), "duration_ms": integer(), "frames": integer(), "width": integer(), "height": integer(),
            "cut": boolean(),
        }),
        "browser_emulate" => json!({ "emulated": object() }),
        "browser_find" => json!({ "matches": integer(), "refs": list(string()) }),
        "browser_evaluate" => json!({ "result": {}, "origin": string() }),
        "browser_tabs" => json!({ "tabs": list(object()) }),
        "browser_console_messages" => json!({
            "total": integer(), "errors": integer(), "warnings": integer(), "origin": string(),
            "messages": list(object()),
        }),
        "browser_network_requests" => json!({
            "hidden": integer(), "origin": string(),
            "requests": list(object()),
        }),
        "browser_network_request" => json!({
            "index": integer(), "method": string(), "url": string(), "status": integer(), "error": string(),
            "type": string(), "mime_type": string(), "duration_ms": integer(),
            "request_headers": object(), "response_headers": object(), "body": string(),
        }),
        "browser_cookie_list" | "browser_cookie_get" => json!({ "cookies": list(object()) }),
        "browser_localstorage_list" | "browser_sessionstorage_list" => json!({ "items": object() }),
        "browser_localstorage_get" | "browser_sessionstorage_get" => json!({ "value": { "type": ["string", "null"] } }),
        "browser_storage_state" => json!({ "storage_state": object() }),
        "browser_route_list" => json!({ "routes": list(object()) }),
        "browser_verify_element_visible"
        | "browser_verify_text_visible"
        | "browser_verify_list_visible"
        | "browser_verify_value" => json!({ "verified": boolean() }),
        "browser_generate_locator" => json!({ "locator": string() }),
        "session_list" => json!({ "count": integer(), "sessions": list(object()) }),
        "session_stats" => json!({ "sessions": integer(), "max_sessions": integer(), "active_calls": integer() }),
        "browser_get_config" => json!({ "server": object(), "tools": object(), "session": object(), "call": object() }),
        _ => return None,
    };
    Some(Map::from_iter([("type".to_owned(), json!("object")), ("properties".to_owned(), members)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CATALOGUE;

    #[test]
    fn schemas_are_of_tools_that_exist_and_require_nothing() {
        let with: Vec<_> = CATALOGUE.iter().filter_map(|tool| of(tool.name)).collect();
        assert_eq!(with.len(), 33, "a name here that no tool has any more");
        for schema in with {
            assert_eq!((&schema["type"], schema.get("required")), (&json!("object"), None));
        }
    }
}
