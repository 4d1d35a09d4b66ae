//! What is listed, and what resources and prompts contain, as the suite wants it.

use rmcp::model::{
    GetPromptResult, InputResponses, JsonObject, Prompt, ReadResourceResult, Resource, ResourceTemplate, Tool,
};
use serde_json::{Value, json};

use crate::server::model;

/// One red dot.
pub(crate) const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC";
/// Two samples of silence.
pub(crate) const WAV: &str = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQIAAACAgA==";

/// Tools without arguments.
const PLAIN: &[&str] = &[
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_error_handling",
    "test_tool_with_logging",
    "test_logging_tool",
    "test_tool_with_progress",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_reconnection",
    "test_missing_capability",
    "test_streaming_elicitation",
    "test_trigger_tool_change",
    "test_trigger_prompt_change",
    "test_input_required_result_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_request_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_multi_round",
    "test_input_required_result_tampered_state",
    "test_input_required_result_capabilities",
];

pub(crate) fn tools() -> Vec<Tool> {
    let plain = PLAIN.iter().map(|name| tool(name, &json!({ "type": "object", "properties": {} })));
    let others = [
        tool("test_sampling", &one_text("prompt", &json!({ "type": "string" }))),
        tool("test_elicitation", &one_text("message", &json!({ "type": "string" }))),
        tool("test_custom_header", &one_text("region", &json!({ "type": "string", "x-mcp-header": "Region" }))),
        tool("json_schema_2020_12_tool", &every_keyword()),
    ];
    plain.chain(others).collect()
}

fn tool(name: &str, schema: &Value) -> Tool {
    model(json!({ "name": name, "description": format!("The suite's {name}"), "inputSchema": schema }))
}

fn one_text(name: &str, schema: &Value) -> Value {
    json!({ "type": "object", "properties": { name: schema }, "required": [name] })
}

/// Keywords that a server which rebuilds schemas would lose.
fn every_keyword() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}

pub(crate) fn resources() -> Vec<Resource> {
    let listed = [("static-text", "text/plain"), ("static-binary", "image/png"), ("watched-resource", "text/plain")];
    let resource = |(name, kind)| json!({ "uri": format!("test://{name}"), "name": name, "description": format!("The suite's {name}"), "mimeType": kind });
    listed.map(resource).map(model).into()
}

pub(crate) fn templates() -> Vec<ResourceTemplate> {
    let template = json!({
        "uriTemplate": "test://template/{id}/data",
        "name": "template",
        "description": "The suite's template",
        "mimeType": "application/json",
    });
    vec![model(template)]
}

/// A resource; `None` if there is none.
pub(crate) fn resource(uri: &str) -> Option<ReadResourceResult> {
    let mut content = match uri {
        "test://static-text" => {
            json!({ "mimeType": "text/plain", "text": "This is the content of the static text resource." })
        }
        "test://static-binary" => json!({ "mimeType": "image/png", "blob": PNG }),
        "test://watched-resource" => json!({ "mimeType": "text/plain", "text": "Watched." }),
        templated => {
            let id = templated.strip_prefix("test://template/")?.strip_suffix("/data")?;
            let text = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") }).to_string();
            json!({ "mimeType": "application/json", "text": text })
        }
    };
    content["uri"] = json!(uri);
    Some(ReadResourceResult::new(vec![model(content)]))
}

pub(crate) fn prompts() -> Vec<Prompt> {
    let listed: [(&str, &[&str]); 5] = [
        ("test_simple_prompt", &[]),
        ("test_prompt_with_arguments", &["arg1", "arg2"]),
        ("test_prompt_with_embedded_resource", &["resourceUri"]),
        ("test_prompt_with_image", &[]),
        ("test_input_required_result_prompt", &[]),
    ];
    let prompt = |(name, arguments): (&str, &[&str])| {
        let argument = |name: &&str| json!({ "name": name, "description": "An argument", "required": true });
        let arguments: Vec<_> = arguments.iter().map(argument).collect();
        json!({ "name": name, "description": format!("The suite's {name}"), "arguments": arguments })
    };
    listed.map(prompt).map(model).into()
}

/// A prompt; `None` if there is none.
pub(crate) fn prompt(name: &str, arguments: &JsonObject) -> Option<GetPromptResult> {
    let argument = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
    let contents = match name {
        "test_simple_prompt" => vec![text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => {
            let (one, two) = (argument("arg1"), argument("arg2"));
            vec![text(&format!("Prompt with arguments: arg1='{one}', arg2='{two}'"))]
        }
        "test_prompt_with_embedded_resource" => {
            let embedded = "Embedded resource content for testing.";
            vec![
                embedded_text(argument("resourceUri"), "text/plain", embedded),
                text("Please process the embedded resource above."),
            ]
        }
        "test_prompt_with_image" => vec![image(), text("Please analyze the image above.")],
        _ => return None,
    };
    Some(said_by_the_user(contents))
}

/// The prompt that needs to know something first.
pub(crate) fn prompt_of_answers(answers: &InputResponses) -> GetPromptResult {
    let context = answers.get("user_context").map(|answer| &answer["content"]["context"]);
    said_by_the_user(vec![text(&format!("The context is {}.", context.unwrap_or(&Value::Null)))])
}

fn said_by_the_user(contents: Vec<Value>) -> GetPromptResult {
    let message = |content: Value| model(json!({ "role": "user", "content": content }));
    GetPromptResult::new(contents.into_iter().map(message).collect())
}

pub(crate) fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

pub(crate) fn image() -> Value {
    json!({ "type": "image", "data": PNG, "mimeType": "image/png" })
}

pub(crate) fn embedded_text(uri: &str, kind: &str, text: &str) -> Value {
    json!({ "type": "resource", "resource": { "uri": uri, "mimeType": kind, "text": text } })
}
