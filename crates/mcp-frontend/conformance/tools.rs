//! What the tools do.

use std::time::Duration;

use browserfleet_mcp_frontend::changes::Change;
use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, InputResponses, ProgressNotificationParam,
        ServerNotification,
    },
    service::RequestContext,
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    catalogue::{WAV, embedded_text, image, text},
    client,
    rounds::{self, Next},
    server::{Fixture, is_legacy, model},
};

/// Between two things that a tool says while it runs.
const PAUSE: Duration = Duration::from_millis(50);

/// A call of a tool that there is.
pub(crate) struct Call<'a> {
    pub(crate) fixture: &'a Fixture,
    pub(crate) request: CallToolRequestParams,
    pub(crate) context: RequestContext<RoleServer>,
}

pub(crate) async fn run(call: Call<'_>) -> Result<CallToolResponse, ErrorData> {
    if let Some(rounds) = rounds::of(&call.request.name, &call.context) {
        let (answers, state) = (call.request.input_responses, call.request.request_state);
        return Ok(match rounds.next(answers, state.as_deref())? {
            Next::Ask(question) => question.into(),
            Next::Done(answers) => success(vec![text(&summary(&call.request.name, &answers))]).into(),
        });
    }
    let content = match &*call.request.name {
        "test_error_handling" => {
            let error = "This tool intentionally returns an error for testing";
            return Ok(CallToolResult::error(vec![model(text(error))]).into());
        }
        "test_missing_capability" => {
            let capable = call.context.client_capabilities().is_some_and(|client| client.sampling.is_some());
            let missing = || ErrorData::missing_required_client_capability(model(json!({ "sampling": {} })));
            vec![text(capable.then_some("The client can do what this needs.").ok_or_else(missing)?)]
        }
        "test_tool_with_logging" | "test_logging_tool" => log(&call.context).await,
        "test_tool_with_progress" => progress(&call.context).await,
        "test_trigger_tool_change" => changed(&call, Change::Tools).await,
        "test_trigger_prompt_change" => changed(&call, Change::Prompts).await,
        name if is_legacy(&call.context) && client::question(name, &Value::Null).is_some() => {
            let arguments = Value::Object(call.request.arguments.clone().unwrap_or_default());
            return Ok(client::ask(name, &arguments, &call.context).await.into());
        }
        name => content(name),
    };
    Ok(success(content).into())
}

fn success(content: Vec<Value>) -> CallToolResult {
    CallToolResult::success(content.into_iter().map(model).collect())
}

/// What tools answer that do nothing.
fn content(name: &str) -> Vec<Value> {
    match name {
        "test_simple_text" => vec![text("This is a simple text response for testing.")],
        "test_image_content" => vec![image()],
        "test_audio_content" => vec![json!({ "type": "audio", "data": WAV, "mimeType": "audio/wav" })],
        "test_embedded_resource" => {
            vec![embedded_text("test://embedded-resource", "text/plain", "This is an embedded resource content.")]
        }
        "test_multiple_content_types" => {
            let data = json!({ "test": "data", "value": 123 }).to_string();
            let resource = embedded_text("test://mixed-content-resource", "application/json", &data);
            vec![text("Multiple content types test:"), image(), resource]
        }
        _ => vec![text("Done.")],
    }
}

/// What the client has answered in the last round.
fn summary(name: &str, answers: &InputResponses) -> String {
    match (name, answers.get("user_name")) {
        ("test_input_required_result_request_state", _) => "state-ok".to_owned(),
        (_, Some(user)) => format!("Hello, {}!", user["content"]["name"].as_str().unwrap_or_default()),
        _ => json!(answers).to_string(),
    }
}

/// Logs, unless the client would have had to ask for it and has not.
async fn log(context: &RequestContext<RoleServer>) -> Vec<Value> {
    if is_legacy(context) || context.meta.log_level().is_some() {
        for line in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
            let params = json!({ "level": "info", "data": line });
            let message = json!({ "method": "notifications/message", "params": params });
            // A client that has gone hears nothing.
            let _gone = context.peer.send_notification(model::<ServerNotification>(message)).await;
            sleep(PAUSE).await;
        }
    }
    vec![text("Logged.")]
}

async fn progress(context: &RequestContext<RoleServer>) -> Vec<Value> {
    for done in [0.0, 50.0, 100.0] {
        if let Some(token) = context.meta.get_progress_token() {
            let params = ProgressNotificationParam::new(token, done).with_total(100.0);
            // A client that has gone hears nothing.
            let _gone = context.peer.notify_progress(params).await;
        }
        sleep(PAUSE).await;
    }
    vec![text("Done.")]
}

async fn changed(call: &Call<'_>, change: Change) -> Vec<Value> {
    call.fixture.change(change).await;
    vec![text("Changed.")]
}
