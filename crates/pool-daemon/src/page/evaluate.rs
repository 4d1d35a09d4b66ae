//! Running an agent's JavaScript in the page's own world, with a bounded result.

use browserfleet_cdp::{
    Error,
    browser_protocol::dom::{DescribeNodeParams, ResolveNodeParams},
    js_protocol::runtime::{
        CallArgument, CallFunctionOnParams, EvaluateParams, ExceptionDetails, RemoteObject, RemoteObjectId,
    },
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
        let answer = self.unless_dialog(self.evaluate_in_page(code, deadline)).await?;
        let (text, title) = result_of(answer)?;
        self.state().titled(commits, title);
        Ok(Evaluated { text, locator: None })
    }

    /// To compile what bounds a result takes longer than most of what agents run, so its function stays in the document. The
    /// first call leaves it there, in the same round trip.
    async fn evaluate_in_page(&self, code: &str, deadline: Instant) -> Result<Answer, Failure> {
        self.synced().await;
        let (kept, dialogs) = {
            let state = self.state();
            (state.document.bounded.clone(), state.dialogs)
        };
        if let Some(kept) = kept {
            match self.evaluate_kept(kept, code, deadline).await {
                Err(Error::Protocol { message, .. }) if is_gone(&message) => {
                    self.synced().await;
                    // The document went before the call began. Only while a dialog is open can it go after that.
                    if self.state().dialogs != dialogs {
                        return Err(Failure::stale_document());
                    }
                }
                answer => return Ok(answer?),
            }
        }
        let commits = self.state().commits;
        let keep = async {
            let kept = self.inner.session.call(EvaluateParams::new(format!("({BOUNDED})")), deadline).await;
            let mut state = self.state();
            if state.commits == commits {
                state.document.bounded = kept.ok().and_then(|kept| kept.result.object_id);
            }
        };
        let mut command = EvaluateParams::new(format!("({BOUNDED})({MAX_RESULT}, {MAX_TITLE}, {})", thunk(code)));
        command.return_by_value = Some(true);
        command.await_promise = Some(true);
        command.user_gesture = Some(true);
        let ((), answer) = tokio::join!(keep, self.inner.session.call(command, deadline));
        answer.map(|answer| (answer.result, answer.exception_details)).map_err(Failure::from)
    }

    async fn evaluate_kept(&self, kept: RemoteObjectId, code: &str, deadline: Instant) -> Result<Answer, Error> {
        // `this` is the function of ours, and the code is told nothing of it.
        let function = format!("function () {{ return this({MAX_RESULT}, {MAX_TITLE}, {}) }}", thunk(code));
        let command = call_on(Some(kept), function);
        let answer = self.inner.session.call(command, deadline).await?;
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
        let function = format!("(...given) => ({BOUNDED})({MAX_RESULT}, {MAX_TITLE}, {}, given)", thunk(code));
        let mut command = call_on(element.clone(), function);
        command.arguments = Some(vec![CallArgument { object_id: element, ..CallArgument::default() }]);
        let answer = self.unless_dialog(async { Ok(world.session.call(command, deadline).await?) }).await?;
        Ok(((answer.result, answer.exception_details), locator))
    }
}

type Answer = (RemoteObject, Option<ExceptionDetails>);

/// Runs the agent's code and answers with bounded text: whatever the code returns or throws, its size is known before it
/// leaves the page.
const BOUNDED: &str = include_str!("inject/bounded.js");

/// Calls a function of ours that runs the agent's code, as if the user had caused it.
fn call_on(this: Option<RemoteObjectId>, function: String) -> CallFunctionOnParams {
    let mut command = CallFunctionOnParams::new(function);
    command.object_id = this;
    command.return_by_value = Some(true);
    command.await_promise = Some(true);
    command.user_gesture = Some(true);
    command
}

/// The agent's code as a function that is told nothing of ours: it sees the page's names and no others.
fn thunk(code: &str) -> String {
    // As a statement it would end with a semicolon; here it is an expression.
    let code = code.trim().trim_end_matches(';');
    // No arrow function: its `this` would be ours, and not the page's. In parentheses it is compiled at once, and not first looked
    // over and compiled when it is called.
    format!("(function () {{ return (\n{code}\n) }})")
}

/// Chromium's words for an object that went with its document.
fn is_gone(message: &str) -> bool {
    const WORDS: [&str; 3] = ["Cannot find context", "Could not find object", "Invalid remote object id"];
    WORDS.iter().any(|words| message.contains(words))
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

#[cfg(test)]
mod tests {
    use browserfleet_cdp::fake::Peer;
    use browserfleet_common::lifecycle::Tasks;
    use serde_json::json;
    use tokio::time::Duration;

    use super::*;

    const EVALUATE: &str = "Runtime.evaluate";
    const CALL: &str = "Runtime.callFunctionOn";

    fn page() -> (Peer, Page) {
        let (peer, connection) = Peer::connect(&Tasks::new()).unwrap();
        (peer, Page::detached(&connection))
    }

    async fn evaluate(page: &Page) -> Result<Evaluated, Failure> {
        page.evaluate("1 + 1", None, Instant::now() + Duration::from_mins(1)).await
    }

    /// The browser is asked for a function to keep, and to run the code without one.
    async fn expect_the_first(peer: &mut Peer, kept: &str) {
        let keep = peer.expect(EVALUATE).await.unwrap();
        peer.reply(&keep, json!({ "result": { "type": "function", "objectId": kept } })).await.unwrap();
        let run = peer.expect(EVALUATE).await.unwrap();
        assert!(run.params["expression"].as_str().unwrap().contains("1 + 1"));
        peer.reply(&run, json!({ "result": { "type": "object", "value": { "text": kept } } })).await.unwrap();
    }

    /// The browser is asked to run the code with what is kept, and says that this has gone.
    async fn refuse_the_next(peer: &mut Peer, kept: &str) {
        let call = peer.expect(CALL).await.unwrap();
        assert_eq!(call.params["objectId"], kept);
        peer.refuse(&call, -32000, "Cannot find context with specified id").await.unwrap();
    }

    #[tokio::test]
    async fn a_function_that_went_with_its_document_is_made_again() {
        let (mut peer, page) = page();
        let (first, ()) = tokio::join!(evaluate(&page), expect_the_first(&mut peer, "one"));
        assert_eq!(first.unwrap().text, "one");
        let (second, ()) = tokio::join!(evaluate(&page), async {
            refuse_the_next(&mut peer, "one").await;
            expect_the_first(&mut peer, "two").await;
        });
        assert_eq!(second.unwrap().text, "two");
        let (third, ()) = tokio::join!(evaluate(&page), async {
            let call = peer.expect(CALL).await.unwrap();
            assert_eq!(call.params["objectId"], "two");
            peer.reply(&call, json!({ "result": { "type": "object", "value": { "text": "three" } } })).await.unwrap();
        });
        assert_eq!(third.unwrap().text, "three");
    }

    #[tokio::test]
    async fn code_that_may_have_run_does_not_run_again() {
        let (mut peer, page) = page();
        let (_first, ()) = tokio::join!(evaluate(&page), expect_the_first(&mut peer, "one"));
        let (second, ()) = tokio::join!(evaluate(&page), async {
            let call = peer.expect(CALL).await.unwrap();
            // A dialog that was dismissed at once: its document went while it was open.
            page.state().dialogs += 1;
            peer.refuse(&call, -32000, "Cannot find context with specified id").await.unwrap();
        });
        assert_eq!(second.unwrap_err().code, ErrorCode::ElementNotActionable);
    }

    #[tokio::test]
    async fn another_document_has_a_function_of_its_own() {
        let (mut peer, page) = page();
        let (_first, ()) = tokio::join!(evaluate(&page), expect_the_first(&mut peer, "one"));
        page.state().navigated("detached", None, "http://example.test/".to_owned(), "loader".to_owned());
        let (second, ()) = tokio::join!(evaluate(&page), expect_the_first(&mut peer, "two"));
        assert_eq!(second.unwrap().text, "two");
    }
}
