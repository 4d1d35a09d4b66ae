//! Running an agent's JavaScript in the page's own world, with a bounded result.

use browserfleet_cdp::{
    browser_protocol::dom::{DescribeNodeParams, ResolveNodeParams},
    js_protocol::runtime::{CallArgument, CallFunctionOnParams, EvaluateParams, ExceptionDetails, RemoteObject},
};
use browserfleet_common::error_code::ErrorCode;
use serde::Deserialize;
use tokio::time::Instant;

use super::{Page, snapshot::MAX_TITLE, world::call};
use crate::failure::Failure;

/// Most characters of a result, counted in the page before it is sent.
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
        if let Some(target) = target {
            let (answer, locator) = self.evaluate_on(code, target, deadline).await?;
            return Ok(Evaluated { text: result_of(answer)?.0, locator: Some(locator) });
        }
        let commits = self.state().commits;
        let (text, title) = result_of(self.evaluate_in_page(code, deadline).await?)?;
        self.state().titled(commits, title);
        Ok(Evaluated { text, locator: None })
    }

    async fn evaluate_in_page(&self, code: &str, deadline: Instant) -> Result<Answer, Failure> {
        let mut command = EvaluateParams::new(format!("({BOUNDED})({MAX_RESULT}, {MAX_TITLE}, {})", thunk(code)));
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
        let mut command = CallFunctionOnParams::new(format!(
            "(...given) => ({BOUNDED})({MAX_RESULT}, {MAX_TITLE}, {}, given)",
            thunk(code)
        ));
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

/// Runs the agent's code and answers with bounded text: whatever the code returns or throws, its size is known before it
/// leaves the page.
const BOUNDED: &str = include_str!("inject/bounded.js");

/// The agent's code as a function that is told nothing of ours: it sees the page's names and no others.
fn thunk(code: &str) -> String {
    // As a statement it would end with a semicolon; here it is an expression.
    let code = code.trim().trim_end_matches(';');
    format!("() => (\n{code}\n)")
}

/// What `BOUNDED` answers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Bounded {
    /// The result, unless there is none because of one of the others.
    text: Option<String>,
    too_large: bool,
    threw: Option<String>,
    /// The document's title when the code had run.
    title: String,
}

/// The result's text, and the title of the document.
fn result_of((result, exception): Answer) -> Result<(String, String), Failure> {
    if let Some(exception) = exception {
        return Err(script_error(&exception));
    }
    match result.value.map_or_else(Bounded::default, |answer| serde_json::from_value(answer).unwrap_or_default()) {
        Bounded { threw: Some(text), .. } => Err(thrown(&text)),
        Bounded { too_large: true, .. } => {
            let message = format!(
                "the result is larger than the {MAX_RESULT} characters that can be returned. Return less, for example a part \
                 of it or a count"
            );
            Err(Failure::new(ErrorCode::ResultTooLarge, message))
        }
        Bounded { text, title, .. } => Ok((text.unwrap_or_else(|| "undefined".to_owned()), title)),
    }
}

/// The page chooses the text: further lines are indented, or they could look like a section of ours.
fn thrown(text: &str) -> Failure {
    Failure::new(ErrorCode::ScriptError, text.replace('\n', "\n  "))
}

/// Code that could not be run at all.
fn script_error(exception: &ExceptionDetails) -> Failure {
    let description = exception.exception.as_ref().and_then(|object| object.description.as_deref());
    let text = description.unwrap_or(&exception.text);
    thrown(text.split("\n    at ").next().unwrap_or(text))
}
