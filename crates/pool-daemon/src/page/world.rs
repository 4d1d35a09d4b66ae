//! Calls of our in-page scripts (`inject/`), in the isolated world of a frame.

use std::{fmt::Write as _, sync::atomic::Ordering};

use browserfleet_cdp::js_protocol::runtime::{EvaluateParams, ExceptionDetails, RemoteObject};
use browserfleet_common::error_code::ErrorCode;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::{
    Page,
    state::{World, prefix},
};
use crate::failure::Failure;

/// The scripts, as one function: nothing of them is visible but the object they publish.
pub fn script() -> String {
    const PARTS: &[&str] = &[
        include_str!("inject/dom.js"),
        include_str!("inject/aria.js"),
        include_str!("inject/snapshot.js"),
        include_str!("inject/interactive.js"),
        include_str!("inject/locate.js"),
        include_str!("inject/expressions.js"),
        include_str!("inject/act.js"),
        include_str!("inject/forms.js"),
        include_str!("inject/files.js"),
        include_str!("inject/verify.js"),
        include_str!("inject/highlight.js"),
        include_str!("inject/labels.js"),
        include_str!("inject/card.js"),
        include_str!("inject/read.js"),
        include_str!("inject/extract.js"),
        include_str!("inject/publish.js"),
    ];
    format!("(() => {{\n'use strict';\n{}\n}})();", PARTS.join("\n"))
}

/// A call such as `snapshot({…})`.
pub(super) fn call(function: &str, arguments: &[Value]) -> String {
    let mut text = format!("__browserfleet.{function}(");
    for (index, argument) in arguments.iter().enumerate() {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{}{argument}", if index > 0 { ", " } else { "" });
    }
    text.push(')');
    text
}

/// Whether a target is a snapshot's ref and not a selector.
pub fn is_ref(target: &str) -> bool {
    parse_ref(target).is_some()
}

/// Splits a ref into the number of its document and the element's ref within it; `None` if `target` is no ref.
pub(super) fn parse_ref(target: &str) -> Option<(u32, &str)> {
    let (document, element) = match target.strip_prefix('f') {
        Some(rest) => {
            let (document, element) = rest.split_once('e')?;
            (document.parse().ok()?, element)
        }
        None => (0, target.strip_prefix('e')?),
    };
    let valid = !element.is_empty() && element.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| (document, &target[target.len() - element.len() - 1..]))
}

/// Most time that a page may take to answer beyond what it was asked to wait: a busy machine is no hung page, and the
/// page's own words about what it waited for say more than ours.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

impl World {
    /// Calls a function of ours that waits until the target is ready for something, until the deadline.
    pub(super) async fn wait<T: DeserializeOwned>(
        &self,
        function: &str,
        target: &str,
        mut wanted: Value,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let left = deadline.duration_since(Instant::now());
        wanted["deadlineMs"] = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).into();
        self.value(call(function, &[target.into(), wanted]), deadline + PATIENCE).await
    }

    /// Evaluates an expression and answers with its value; a promise is awaited.
    pub(super) async fn value<T: DeserializeOwned>(&self, expression: String, deadline: Instant) -> Result<T, Failure> {
        let mut command = self.evaluation(expression);
        command.return_by_value = Some(true);
        let answer = self.session.call(command, deadline).await?;
        if let Some(exception) = answer.exception_details {
            return Err(script_failure(&exception));
        }
        serde_json::from_value(answer.result.value.unwrap_or(Value::Null)).map_err(|error| {
            tracing::error!(%error, "an in-page script answered in an unexpected form");
            Failure::new(ErrorCode::Internal, "the page could not be read")
        })
    }

    /// Evaluates an expression and answers with a handle to its value.
    pub(super) async fn object(&self, expression: String, deadline: Instant) -> Result<RemoteObject, Failure> {
        let answer = self.session.call(self.evaluation(expression), deadline).await?;
        match answer.exception_details {
            Some(exception) => Err(script_failure(&exception)),
            None => Ok(answer.result),
        }
    }

    fn evaluation(&self, expression: String) -> EvaluateParams {
        let mut command = EvaluateParams::new(expression);
        command.unique_context_id = Some(self.context.clone());
        command.await_promise = Some(true);
        command
    }
}

/// What a script of ours threw: its message is written for the agent.
fn script_failure(exception: &ExceptionDetails) -> Failure {
    let text = exception.exception.as_ref().and_then(|thrown| thrown.description.as_deref()).unwrap_or(&exception.text);
    let message = text.split("\n    at ").next().unwrap_or(text);
    let message = message.strip_prefix("Error: ").unwrap_or(message);
    Failure::new(ErrorCode::ElementNotActionable, message)
}

impl Page {
    /// The world of the main frame. Right after a commit it takes a moment to appear.
    pub(super) async fn main_world(&self, deadline: Instant) -> Result<World, Failure> {
        self.synced().await;
        if !self.until(deadline, |state| state.main_world().is_some()).await {
            return Err(Failure::hung());
        }
        self.state().main_world().ok_or_else(Failure::hung)
    }

    /// The world a target belongs to, and the target as that world knows it: a ref without its document, or a selector.
    pub(super) async fn world_of(&self, target: &str, deadline: Instant) -> Result<(World, String), Failure> {
        // Blanks around a ref do not make it a selector. The last one is JavaScript's idea of a blank, not Rust's.
        let target = target.trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}');
        let Some((document, element)) = parse_ref(target) else {
            return Ok((self.main_world(deadline).await?, target.to_owned()));
        };
        self.synced().await;
        let numbered = |world: &World| world.document == Some(document);
        let world = self.state().frame_where(numbered).and_then(|frame| frame.world.clone());
        let world = world.ok_or_else(|| {
            if document < self.inner.shared.first_document.load(Ordering::Relaxed) {
                return Failure::earlier_browser(target);
            }
            let message = format!("Ref {target} not found in the current page snapshot. Try capturing new snapshot.");
            Failure::new(ErrorCode::ElementNotActionable, message)
        })?;
        Ok((world, format!("{}{element}", prefix(document))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_are_told_from_selectors() {
        assert_eq!(parse_ref("e12"), Some((0, "e12")));
        assert_eq!(parse_ref("f3e7"), Some((3, "e7")));
        for selector in ["e", "em", "fe1", "f1e", "f1ex", "form", "#e1", "e1 ", "f-1e2", ""] {
            assert_eq!(parse_ref(selector), None, "{selector}");
        }
    }

    #[test]
    fn arguments_cannot_break_out_of_a_call() {
        assert_eq!(call("locate", &["\"); alert(1) //".into()]), r#"__browserfleet.locate("\"); alert(1) //")"#);
    }
}
