//! Running an agent's JavaScript in the page's own world, with a bounded result.

use browserfleet_cdp::{
    browser_protocol::dom::{DescribeNodeParams, ResolveNodeParams},
    js_protocol::runtime::{CallArgument, CallFunctionOnParams, EvaluateParams, ExceptionDetails, RemoteObject},
};
use browserfleet_common::error_code::ErrorCode;
use tokio::time::Instant;

use super::{Page, world::call};
use crate::failure::Failure;

/// Most bytes of a result, measured in the page before it is sent.
const MAX_RESULT: usize = 256 << 10;

/// A script's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluated {
    /// JSON with an indent of two, or `undefined`.
    pub text: String,
    /// How test code would name the element the function got, if there was one.
    pub locator: Option<String>,
}

impl Page {
    /// Calls a function, or evaluates an expression; with a target the function gets that element.
    pub async fn evaluate(&self, code: &str, target: Option<&str>, deadline: Instant) -> Result<Evaluated, Failure> {
        let (answer, locator) = match target {
            None => (self.evaluate_in_page(code, deadline).await?, None),
            Some(target) => {
                let (answer, locator) = self.evaluate_on(code, target, deadline).await?;
                (answer, Some(locator))
            }
        };
        Ok(Evaluated { text: text_of(answer)?, locator })
    }

    async fn evaluate_in_page(&self, code: &str, deadline: Instant) -> Result<Answer, Failure> {
        let mut command = EvaluateParams::new(format!("({})()", wrapper(code)));
        command.return_by_value = Some(true);
        command.await_promise = Some(true);
        command.user_gesture = Some(true);
        let answer = self.unless_dialog(self.call(command, deadline)).await?;
        Ok((answer.result, answer.exception_details))
    }

    async fn evaluate_on(&self, code: &str, target: &str, deadline: Instant) -> Result<(Answer, String), Failure> {
        let (world, target) = self.world_of(target, deadline).await?;
        let found = world.object(call("locate", &[target.clone().into()]), deadline).await?;
        let name = format!("__browserfleet.locator({})", call("locate", &[target.into()]));
        let locator: String = world.value(name, deadline).await?;
        // The element exists in our world only; its node is the same in the page's.
        let describe = DescribeNodeParams { object_id: found.object_id, ..DescribeNodeParams::default() };
        let node = world.session.call(describe, deadline).await?.node.backend_node_id;
        let resolve = ResolveNodeParams { backend_node_id: Some(node), ..ResolveNodeParams::default() };
        let element = world.session.call(resolve, deadline).await?.object.object_id;
        let mut command = CallFunctionOnParams::new(wrapper(code));
        command.object_id.clone_from(&element);
        command.arguments = Some(vec![CallArgument { object_id: element, ..CallArgument::default() }]);
        command.return_by_value = Some(true);
        command.await_promise = Some(true);
        command.user_gesture = Some(true);
        let answer = self.unless_dialog(async { Ok(world.session.call(command, deadline).await?) }).await?;
        Ok(((answer.result, answer.exception_details), locator))
    }
}

type Answer = (RemoteObject, Option<ExceptionDetails>);

/// A function that runs the agent's code and answers with bounded text: whatever the code returns, its size is known
/// before it leaves the page.
fn wrapper(code: &str) -> String {
    // As a statement it would end with a semicolon; here it is an expression.
    let code = code.trim().trim_end_matches(';');
    format!(
        "async (...given) => {{
  const code = (
{code}
);
  const value = await (typeof code === 'function' ? code(...given) : code);
  let text;
  try {{
    text = JSON.stringify(value, (_, item) => typeof item === 'bigint' ? `${{item}}n` : item, 2);
  }} catch {{
    text = JSON.stringify(String(value));
  }}
  // The page may have its own idea of these functions: what counts is the size of what they have made.
  text = text === undefined ? 'undefined' : `${{text.toWellFormed()}}`;
  return text.length > {MAX_RESULT} ? {{ tooLarge: text.length }} : text;
}}"
    )
}

fn text_of((result, exception): Answer) -> Result<String, Failure> {
    if let Some(exception) = exception {
        return Err(script_error(&exception));
    }
    match result.value {
        Some(serde_json::Value::String(text)) => Ok(text),
        Some(other) => {
            let size = other["tooLarge"].as_u64().unwrap_or_default();
            let message = format!(
                "the result has {size} characters; at most {MAX_RESULT} can be returned. Return less, for example a part \
                 of it or a count"
            );
            Err(Failure::new(ErrorCode::ResultTooLarge, message))
        }
        None => Ok("undefined".to_owned()),
    }
}

/// What the agent's code threw, without the frames of our wrapper.
fn script_error(exception: &ExceptionDetails) -> Failure {
    let thrown = exception.exception.as_ref();
    let description = thrown.and_then(|object| object.description.clone());
    let value = thrown.and_then(|object| object.value.as_ref()).map(ToString::to_string);
    let text = description.or(value).unwrap_or_else(|| exception.text.clone());
    let text = text.split("\n    at ").next().unwrap_or(&text);
    // The page chooses the text: further lines are indented, or they could look like a section of ours.
    Failure::new(ErrorCode::ScriptError, text.replace('\n', "\n  "))
}
