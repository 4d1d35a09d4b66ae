//! Calls of our in-page scripts (`inject/`), in the isolated world of a frame.

use std::{
    fmt::Write as _,
    sync::{LazyLock, atomic::Ordering},
};

use browserfleet_cdp::{
    browser_protocol::page::{AddScriptToEvaluateOnNewDocumentParams, RemoveScriptToEvaluateOnNewDocumentParams},
    js_protocol::runtime::{EvaluateParams, ExceptionDetails, RemoteObject},
};
use browserfleet_common::error_code::ErrorCode;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::{
    Page,
    open::WORLD,
    state::{World, prefix},
};
use crate::failure::Failure;

/// The scripts, as one function: nothing of them is visible but the object they publish.
pub fn script() -> &'static str {
    static SCRIPT: LazyLock<String> =
        LazyLock::new(|| format!("(() => {{\n'use strict';\n{}}})();", PARTS.map(lean).concat()));
    const PARTS: [&str; 16] = [
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
    &SCRIPT
}

/// What a browser needs of a script: each new process reads and compiles it anew. Lines that are comments and what lines are
/// indented by are left out; other characters than those of ASCII are escaped, because V8 takes two bytes for each character
/// where there is one of them. In string templates of several lines neither matters.
fn lean(source: &str) -> String {
    let mut lean = String::with_capacity(source.len());
    let mut commented = false;
    for line in source.lines().map(str::trim_start) {
        commented |= line.starts_with("/*");
        let told = !commented && !line.is_empty() && !line.starts_with("//");
        commented &= !line.trim_end().ends_with("*/");
        if told {
            for unit in line.encode_utf16() {
                match u8::try_from(unit) {
                    Ok(byte) if byte.is_ascii() => lean.push(byte.into()),
                    // Writing to a String cannot fail.
                    _ => write!(lean, "\\u{unit:04x}").unwrap_or_default(),
                }
            }
            lean.push('\n');
        }
    }
    lean
}

/// Has the scripts run in every document that comes, in a world of ours.
pub(super) fn later() -> AddScriptToEvaluateOnNewDocumentParams {
    let mut add = AddScriptToEvaluateOnNewDocumentParams::new(script().to_owned());
    add.world_name = Some(WORLD.to_owned());
    add
}

/// As [`later`], and in the document that is there.
pub(super) fn at_once() -> AddScriptToEvaluateOnNewDocumentParams {
    let mut add = later();
    add.run_immediately = Some(true);
    add
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
        self.furnish(deadline).await?;
        if !self.until(deadline, |state| state.main_world().is_some()).await {
            return Err(Failure::hung());
        }
        self.state().main_world().ok_or_else(Failure::hung)
    }

    /// Makes a world in the first document, if it has none.
    async fn furnish(&self, deadline: Instant) -> Result<(), Failure> {
        let bare = {
            let mut state = self.state();
            if state.main_world().is_some() { None } else { state.bare.take() }
        };
        let Some(script) = bare else { return Ok(()) };
        // Both are sent before either is waited for: also if nobody waits any more, later documents get the scripts once.
        let furnished = tokio::try_join!(
            self.call(at_once(), deadline),
            self.call(RemoveScriptToEvaluateOnNewDocumentParams::new(script), deadline),
        );
        furnished.map(drop)
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
    use std::sync::Arc;

    use browserfleet_cdp::fake::Peer;
    use browserfleet_common::lifecycle::Tasks;
    use serde_json::json;

    use super::{super::state::PageState, *};

    #[test]
    fn refs_are_told_from_selectors() {
        assert_eq!(parse_ref("e12"), Some((0, "e12")));
        assert_eq!(parse_ref("f3e7"), Some((3, "e7")));
        for selector in ["e", "em", "fe1", "f1e", "f1ex", "form", "#e1", "e1 ", "f-1e2", ""] {
            assert_eq!(parse_ref(selector), None, "{selector}");
        }
    }

    #[tokio::test]
    async fn a_first_document_gets_a_world_when_it_is_needed_and_later_ones_the_scripts_once() {
        let (mut peer, connection) = Peer::connect(&Tasks::new()).unwrap();
        let page = Page::detached(&connection);
        page.state().bare = Some("for later documents".to_owned().into());
        let deadline = Instant::now() + Duration::from_mins(1);
        let furnish = async {
            let add = peer.expect("Page.addScriptToEvaluateOnNewDocument").await.unwrap();
            assert_eq!((&add.params["runImmediately"], &add.params["worldName"]), (&true.into(), &WORLD.into()));
            let remove = peer.expect("Page.removeScriptToEvaluateOnNewDocument").await.unwrap();
            assert_eq!(remove.params["identifier"], "for later documents");
            peer.reply(&add, json!({ "identifier": "2" })).await.unwrap();
            peer.reply(&remove, json!({})).await.unwrap();
            page.inner
                .change(|state| state.world_created("detached".to_owned(), page.inner.session.clone(), "w".to_owned()));
        };
        let (one, other, ()) = tokio::join!(page.main_world(deadline), page.main_world(deadline), furnish);
        assert_eq!((one.unwrap().context, other.unwrap().context), ("w".to_owned(), "w".to_owned()));
        assert!(page.state().bare.is_none());
    }

    #[test]
    fn another_document_brings_its_world_by_itself() {
        let mut state = PageState::new("main".to_owned(), Arc::default());
        state.bare = Some("1".to_owned().into());
        state.navigated("main", None, "about:blank".to_owned(), "learned late".to_owned());
        assert!(state.bare.is_some(), "it is the same one");
        state.navigated("main", None, "http://a.example/".to_owned(), "loader".to_owned());
        assert!(state.bare.is_none());
    }

    #[test]
    fn scripts_are_sent_without_what_only_people_read() {
        let source = "/** Why. */\nconst A = 1; // kept\n\n  // gone\n/*\n * gone\n */\n  const B = '…😀 // \\n';\n";
        assert_eq!(lean(source), "const A = 1; // kept\nconst B = '\\u2026\\ud83d\\ude00 // \\n';\n");
        assert!(script().is_ascii());
        assert!(!script().contains("/*"), "a comment that does not begin its line");
    }

    #[test]
    fn arguments_cannot_break_out_of_a_call() {
        assert_eq!(call("locate", &["\"); alert(1) //".into()]), r#"__browserfleet.locate("\"); alert(1) //")"#);
    }
}
