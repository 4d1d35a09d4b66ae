//! Asking the client, in the legacy era: requests of ours, over the answer of its own.

use std::time::Duration;

use rmcp::{
    RoleServer,
    model::{CallToolResult, ServerRequest},
    service::{PeerRequestOptions, RequestContext},
};
use serde_json::{Value, json};

use crate::{catalogue::text, server::model};

/// How long a client may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a tool asks its client for; `None` if it asks for nothing.
pub(crate) fn question(tool: &str, arguments: &Value) -> Option<Value> {
    Some(match tool {
        "test_sampling" => sampling(arguments["prompt"].as_str().unwrap_or_default()),
        "test_elicitation" => {
            let username = json!({ "type": "string", "description": "User's response" });
            let email = json!({ "type": "string", "description": "User's email address" });
            let properties = json!({ "username": username, "email": email });
            let message = arguments["message"].as_str().unwrap_or_default();
            elicitation(message, &properties, &["username", "email"])
        }
        "test_elicitation_sep1034_defaults" => elicitation("Please confirm", &defaults(), &[]),
        "test_elicitation_sep1330_enums" => elicitation("Please choose", &enums(), &[]),
        _ => return None,
    })
}

/// Asks the client, and says what it has answered.
pub(crate) async fn ask(tool: &str, arguments: &Value, context: &RequestContext<RoleServer>) -> CallToolResult {
    let error = |why: &str| CallToolResult::error(vec![model(text(why))]);
    let Some(question) = question(tool, arguments) else { return error("There is nothing to ask.") };
    let client = context.client_capabilities().unwrap_or_default();
    let is_able = if tool == "test_sampling" { client.sampling.is_some() } else { client.elicitation.is_some() };
    if !is_able {
        return error("The client does not answer such questions.");
    }
    let options = PeerRequestOptions::with_timeout(PATIENCE);
    let asked = context.peer.send_cancellable_request(model::<ServerRequest>(question), options);
    let answer = match asked.await {
        Ok(waiting) => waiting.await_response().await,
        Err(gone) => Err(gone),
    };
    match answer.map(|answer| json!(answer)) {
        Ok(answer) if tool == "test_sampling" => {
            let said = answer["content"]["text"].as_str().unwrap_or_default();
            CallToolResult::success(vec![model(text(&format!("LLM response: {said}")))])
        }
        Ok(answer) => {
            let action = answer["action"].as_str().unwrap_or_default();
            let said = format!("Elicitation completed: action={action}, content={}", answer["content"]);
            CallToolResult::success(vec![model(text(&said))])
        }
        Err(failed) => error(&failed.to_string()),
    }
}

/// Has the client's language model say something.
pub(crate) fn sampling(prompt: &str) -> Value {
    let message = json!({ "role": "user", "content": text(prompt) });
    json!({ "method": "sampling/createMessage", "params": { "messages": [message], "maxTokens": 100 } })
}

/// Has the client's user fill in a form.
pub(crate) fn elicitation(message: &str, properties: &Value, required: &[&str]) -> Value {
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    json!({ "method": "elicitation/create", "params": { "message": message, "requestedSchema": schema } })
}

/// A default for each kind of value.
fn defaults() -> Value {
    json!({
        "name": { "type": "string", "default": "John Doe" },
        "age": { "type": "integer", "default": 30 },
        "score": { "type": "number", "default": 95.5 },
        "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
        "verified": { "type": "boolean", "default": true },
    })
}

/// Every way to let somebody choose.
fn enums() -> Value {
    let titled = |choices: [(&str, &str); 3]| choices.map(|(value, title)| json!({ "const": value, "title": title }));
    let options = titled([("value1", "First Option"), ("value2", "Second Option"), ("value3", "Third Option")]);
    let choices = titled([("value1", "First Choice"), ("value2", "Second Choice"), ("value3", "Third Choice")]);
    json!({
        "untitledSingle": { "type": "string", "enum": ["option1", "option2", "option3"] },
        "titledSingle": { "type": "string", "oneOf": options },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {
            "type": "array",
            "items": { "type": "string", "enum": ["option1", "option2", "option3"] },
        },
        "titledMulti": { "type": "array", "items": { "anyOf": choices } },
    })
}
