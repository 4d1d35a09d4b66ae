//! Several calls in one: all of them checked, run in one turn of their session, and answered by one report.
//!
//! A step is what a call is, from its dialog to freeing its page; only the snapshot that its reply would end with is left out. The
//! batch ends with one.

use std::borrow::Cow;

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::{Arguments as _, Batch, OnError, Planned, SNAPSHOT, STEPS_MAX, Snapshot, Tool, parse};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Call, Outcome, Registry, Reply, Section,
    reply::{CODE, code_in},
    run::work,
};
use crate::{failure::Failure, pool::Leased};

/// Most time of a step, whatever its tool allows.
const STEP: Duration = Duration::from_mins(1);
/// What is kept back of the batch's time for freeing a page and for the report, and the part of it that is at most.
const REPORT: Duration = Duration::from_secs(5);
const REPORT_PART: u32 = 4;
/// Most bytes of a step's result in the structured form, so that those of all steps are a MiB of text at most: the whole of each is
/// in the reply's texts. It is more than a caller is shown of it (front ends cut it once they have masked secrets), or a secret could be cut
/// in two here and its head be shown.
const RESULT_BYTES: usize = (1 << 20) / STEPS_MAX;

/// Headings of what steps answered.
const HEADINGS: [&str; STEPS_MAX] = [
    "Step 1", "Step 2", "Step 3", "Step 4", "Step 5", "Step 6", "Step 7", "Step 8", "Step 9", "Step 10", "Step 11",
    "Step 12", "Step 13", "Step 14", "Step 15", "Step 16", "Step 17", "Step 18", "Step 19", "Step 20",
];

/// Runs a batch. Always ends, with a report of every step that was planned.
pub(super) async fn run(
    registry: &Registry,
    leased: &Leased,
    arguments: Value,
    call: Call,
    cancel: &CancellationToken,
) -> Outcome {
    let (steps, batch) = match plan(registry, arguments) {
        Ok(planned) => planned,
        Err(failure) => return Outcome { failure: Some(failure), ..Outcome::default() },
    };
    let deadline = before_report(call.deadline);
    let here = |deadline| Call { page: leased.workspace.page(), deadline, brief: true, ..call.clone() };
    let mut report = Report::of(&steps);
    let mut failure = None;
    for (at, Planned { tool, arguments }) in steps.into_iter().enumerate() {
        if let Some(why) = over(leased, deadline, cancel) {
            failure = Some(of_step(at, tool, &why));
            break;
        }
        let started = Instant::now();
        let step = here(deadline.min(started + STEP));
        let Outcome { reply, failure: failed } =
            work(registry, leased, tool.name, Value::Object(arguments), step, cancel).await;
        let ends = failed
            .as_ref()
            .is_some_and(|failed| batch.on_error.unwrap_or_default() == OnError::Stop || ends_all(failed.code));
        report.add(at, reply, failed.as_ref(), started.elapsed());
        if let (true, Some(failed)) = (ends, failed) {
            failure = Some(of_step(at, tool, &failed));
            break;
        }
    }
    let mode = batch.snapshot.unwrap_or(call.shows.otherwise);
    let shown = if report.shows_the_page() || over(leased, call.deadline, cancel).is_some() {
        Reply::new()
    } else {
        let look = Call { brief: false, ..here(call.deadline) };
        // What keeps the page from being shown, a dialog or a crash, the reply or the step has said.
        let looked = work(registry, leased, Snapshot::TOOL, json!({ SNAPSHOT: mode }), look, cancel).await;
        failure = failure.or(looked.failure.filter(|failure| ends_all(failure.code)));
        looked.reply
    };
    Outcome { reply: report.into_reply(shown), failure }
}

fn plan(registry: &Registry, arguments: Value) -> Result<(Vec<Planned>, Batch), Failure> {
    let batch: Batch = parse(arguments).map_err(|bad| Failure::invalid(bad.to_string()))?;
    let steps = batch.plan().map_err(|bad| Failure::invalid(bad.to_string()))?;
    if let Some(step) = steps.iter().find(|step| !registry.has(step.tool.name)) {
        let message = format!("this server has no tool {}. Nothing of the batch has run", step.tool.name);
        return Err(Failure::new(ErrorCode::Unsupported, message));
    }
    Ok((steps, batch))
}

/// When the last step has to end, so that there is time to tell of it.
fn before_report(deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(Instant::now());
    deadline.checked_sub(REPORT.min(left / REPORT_PART)).unwrap_or(deadline)
}

/// Why the next step does not run.
fn over(leased: &Leased, deadline: Instant, cancel: &CancellationToken) -> Option<Failure> {
    if cancel.is_cancelled() {
        Some(Failure::new(ErrorCode::Cancelled, "the call was cancelled"))
    } else if leased.ended().is_cancelled() {
        Some(Failure::new(ErrorCode::LeaseLost, "the browser of the session has ended"))
    } else if Instant::now() >= deadline {
        Some(Failure::new(ErrorCode::CallTimeout, "the time of the batch was over before it"))
    } else {
        None
    }
}

/// Whether a failure is not the step's alone.
fn ends_all(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Cancelled | ErrorCode::LeaseLost | ErrorCode::BrowserGone | ErrorCode::BrowserOutOfMemory)
}

fn of_step(at: usize, tool: &Tool, failure: &Failure) -> Failure {
    let message = format!("step {} ({}): {}", at + 1, tool.name, failure.message);
    Failure { modal: failure.modal, ..Failure::new(failure.code, message) }
}

/// How a step stands.
#[derive(Debug)]
enum Standing {
    NotRun,
    Ok,
    Failed { code: ErrorCode, message: String },
}

/// What has come of a batch so far.
#[derive(Debug)]
struct Report {
    steps: Vec<Stood>,
    code: Vec<String>,
    /// What the steps answered, each section under its step's heading.
    sections: Vec<Section>,
}

#[derive(Debug)]
struct Stood {
    tool: &'static str,
    standing: Standing,
    took: Duration,
    /// For programs.
    result: Value,
    /// Whether what it answered last is the page as it is now.
    shows_page: bool,
}

impl Report {
    fn of(steps: &[Planned]) -> Self {
        let stood = |step: &Planned| Stood {
            tool: step.tool.name,
            standing: Standing::NotRun,
            took: Duration::ZERO,
            result: Value::Null,
            shows_page: false,
        };
        Self { steps: steps.iter().map(stood).collect(), code: Vec::new(), sections: Vec::new() }
    }

    fn add(&mut self, at: usize, reply: Reply, failed: Option<&Failure>, took: Duration) {
        let step = &mut self.steps[at];
        step.took = took;
        step.standing = failed
            .map_or(Standing::Ok, |failure| Standing::Failed { code: failure.code, message: failure.message.clone() });
        step.shows_page = reply.shows_page();
        for section in reply.sections {
            match section {
                Section::Text { title: CODE, body } => self.code.push(code_in(&body).to_owned()),
                Section::Text { title, body } => {
                    if title == "Result" && step.result.is_null() {
                        step.result = cut(&body).into();
                    }
                    self.sections.push(Section::Text { title: HEADINGS[at], body });
                }
                Section::Structured(value) => step.result = bounded(value),
                other => self.sections.push(other),
            }
        }
    }

    /// Whether the last step that ran has shown the page.
    fn shows_the_page(&self) -> bool {
        self.steps
            .iter()
            .rev()
            .find(|step| !matches!(step.standing, Standing::NotRun))
            .is_some_and(|step| step.shows_page)
    }

    fn count(&self, wanted: impl Fn(&Standing) -> bool) -> usize {
        self.steps.iter().filter(|step| wanted(&step.standing)).count()
    }

    fn into_reply(self, shown: Reply) -> Reply {
        let ok = self.count(|standing| matches!(standing, Standing::Ok));
        let failed = self.count(|standing| matches!(standing, Standing::Failed { .. }));
        let not_run = self.steps.len() - ok - failed;
        let mut lines = vec![format!("{ok} of {} steps ok, {failed} failed, {not_run} not run", self.steps.len())];
        lines.extend(
            self.steps.iter().zip(1..).map(|(step, number)| format!("{number}. {}: {}", step.tool, step.words())),
        );
        let steps: Vec<Value> = self.steps.into_iter().map(Stood::into_value).collect();
        let structured = json!({ "steps": steps, "ok": ok, "failed": failed, "not_run": not_run });
        let mut reply = Reply::new().result(lines.join("\n"));
        if !self.code.is_empty() {
            reply = reply.code(self.code.join("\n"));
        }
        reply.sections.extend(self.sections);
        reply.then(shown).structured(structured)
    }
}

impl Stood {
    fn words(&self) -> Cow<'static, str> {
        match &self.standing {
            Standing::NotRun => "not run".into(),
            Standing::Ok => "ok".into(),
            Standing::Failed { code, message } => format!("{code}: {}", message.replace('\n', "\n   ")).into(),
        }
    }

    fn into_value(self) -> Value {
        let Self { tool, standing, took, result, .. } = self;
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut value = match standing {
            Standing::NotRun => return json!({ "tool": tool, "status": "not_run" }),
            Standing::Ok => json!({ "tool": tool, "status": "ok", "ms": ms }),
            Standing::Failed { code, message } => {
                let error = json!({ "code": code.name(), "message": message });
                json!({ "tool": tool, "status": "failed", "ms": ms, "error": error })
            }
        };
        if !result.is_null() {
            value["result"] = result;
        }
        value
    }
}

/// A result in its structured form; as the beginning of its text if it is too large.
fn bounded(value: Value) -> Value {
    let text = value.to_string();
    if text.len() <= RESULT_BYTES { value } else { cut(&text).into() }
}

fn cut(body: &str) -> Cow<'_, str> {
    if body.len() <= RESULT_BYTES {
        return body.into();
    }
    format!("{}\n[cut: the first of {} bytes]", &body[..body.floor_char_boundary(RESULT_BYTES)], body.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(tools: &[&str]) -> Vec<Planned> {
        let step =
            |name: &&str| Planned { tool: browserfleet_tools::find(name).unwrap(), arguments: serde_json::Map::new() };
        tools.iter().map(step).collect()
    }

    #[test]
    fn a_report_tells_of_every_step_and_of_none_twice() {
        let mut report =
            Report::of(&planned(&["browser_click", "browser_evaluate", "browser_hover", "browser_reload"]));
        report.add(0, Reply::new().code("one();"), None, Duration::from_millis(5));
        report.add(1, Reply::new().untrusted("{\"a\": 1}", "http://h/").code("two();"), None, Duration::ZERO);
        let failure = Failure::new(ErrorCode::ElementNotActionable, "no such\nelement");
        report.add(2, Reply::new(), Some(&failure), Duration::ZERO);
        let reply = report.into_reply(Reply::new());
        let texts = reply.sections.iter().filter_map(|section| match section {
            Section::Text { title, body } => Some((*title, body.as_str())),
            _ => None,
        });
        let texts: Vec<_> = texts.collect();
        assert_eq!(
            texts[0].1,
            "2 of 4 steps ok, 1 failed, 1 not run\n1. browser_click: ok\n2. browser_evaluate: ok\n3. browser_hover: element_not_actionable: no such\n   element\n4. browser_reload: not run"
        );
        assert_eq!(texts[1], ("Ran Playwright code", "```js\none();\ntwo();\n```"));
        assert!(texts[2].0 == "Step 2" && texts[2].1.starts_with("<untrusted-"), "{texts:?}");
        let Some(Section::Structured(value)) = reply.sections.last() else { panic!("{reply:?}") };
        assert_eq!(
            (&value["steps"][0]["ms"], &value["steps"][3]),
            (&json!(5), &json!({ "tool": "browser_reload", "status": "not_run" }))
        );
        assert_eq!(value["steps"][2]["error"]["code"], "element_not_actionable");
        assert!(value["steps"][1]["result"].as_str().unwrap().contains("{\"a\": 1}"));
    }

    #[test]
    fn what_a_program_gets_of_a_step_is_bounded() {
        let long = "é".repeat(RESULT_BYTES);
        assert!(cut(&long).len() < RESULT_BYTES + 60 && cut(&long).ends_with("bytes]"));
        assert_eq!(cut("short"), "short");
        let small = json!({ "data": "short" });
        assert_eq!(bounded(small.clone()), small);
        let large = bounded(json!({ "data": long }));
        assert!(large.as_str().is_some_and(|text| text.starts_with("{\"data\":\"é") && text.ends_with("bytes]")));
        let mut report = Report::of(&planned(&["browser_extract"; STEPS_MAX]));
        for step in 0..STEPS_MAX {
            report.add(step, Reply::new().result("x").structured(json!({ "data": long })), None, Duration::ZERO);
        }
        let reply = report.into_reply(Reply::new());
        let Some(Section::Structured(value)) = reply.sections.last() else { panic!("{reply:?}") };
        assert!(value.to_string().len() < (1 << 20) + STEPS_MAX * 200, "{}", value.to_string().len());
    }
}
