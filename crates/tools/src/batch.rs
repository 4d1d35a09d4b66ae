//! What a batch may be made of, checked as a whole before any of it runs.

use serde_json::{Map, Value};

use crate::{Arguments as _, Batch, Open, Place, SESSION_ID, Tool, find};

/// Most steps of a batch.
pub const STEPS_MAX: usize = 20;

/// Most tasks of a call that runs tasks.
pub const TASKS_MAX: usize = 10;

/// Names what a call makes. A step has none: what it makes comes with the reply, or under the tool's own name.
const FILENAME: &str = "filename";

/// A step whose tool is known and takes its arguments.
#[derive(Clone, Debug)]
pub struct Planned {
    pub tool: &'static Tool,
    pub arguments: Map<String, Value>,
}

/// Why a batch does not run. The text is for the agent: which step, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBatch(String);

impl std::fmt::Display for BadBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}. Nothing of the batch has run", self.0)
    }
}

impl std::error::Error for BadBatch {}

impl Batch {
    /// Its steps, if every one of them could run.
    ///
    /// # Errors
    /// When there are none or too many, or one has a tool that does not work in a page of this session, or arguments that do not fit it.
    pub fn plan(&self) -> Result<Vec<Planned>, BadBatch> {
        if !(1..=STEPS_MAX).contains(&self.steps.len()) {
            let count = self.steps.len();
            return Err(BadBatch(format!("A batch has from 1 to {STEPS_MAX} steps, and this one has {count}")));
        }
        let numbered = self.steps.iter().zip(1..);
        let planned = numbered.map(|(step, number)| {
            plan(&step.tool, &step.arguments).map_err(|why| {
                let name: String = step.tool.chars().take(64).collect();
                BadBatch(format!("Step {number} (\"{name}\"): {why}"))
            })
        });
        planned.collect()
    }
}

fn plan(name: &str, arguments: &Map<String, Value>) -> Result<Planned, String> {
    let tool = find(name).ok_or_else(|| "there is no such tool".to_owned())?;
    let refused = match tool.name {
        Batch::TOOL => Some("a batch is no step of another one"),
        Open::TOOL => Some("a step works in the batch's session and opens none"),
        _ if tool.place == Place::FrontEnd => Some("only tools that work in a page can be steps"),
        _ if arguments.contains_key(SESSION_ID) => Some("session_id is the batch's: leave it out of its steps"),
        _ if arguments.contains_key(FILENAME) && !reads_files(tool) => {
            Some("a step keeps nothing under a name: leave filename out, or call the tool by itself")
        }
        _ => None,
    };
    if let Some(why) = refused {
        return Err(why.to_owned());
    }
    tool.check(arguments).map_err(|bad| bad.to_string())?;
    Ok(Planned { tool, arguments: arguments.clone() })
}

/// Whether its `filename` is what it reads, not what it writes.
fn reads_files(tool: &Tool) -> bool {
    tool.name == crate::SetStorageState::TOOL
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parse;

    fn plan_of(steps: &Value) -> Result<Vec<&'static str>, String> {
        let batch: Batch = parse(json!({ "steps": steps })).map_err(|bad| bad.to_string())?;
        let planned = batch.plan().map_err(|bad| bad.to_string())?;
        Ok(planned.into_iter().map(|step| step.tool.name).collect())
    }

    #[test]
    fn steps_are_tools_that_work_in_a_page() {
        let steps = json!([
            { "tool": "browser_navigate", "arguments": { "url": "https://example.com" } },
            { "tool": "browser_snapshot" },
        ]);
        assert_eq!(plan_of(&steps), Ok(vec!["browser_navigate", "browser_snapshot"]));
    }

    #[test]
    fn one_step_that_could_not_run_refuses_all_of_them() {
        let good = json!({ "tool": "browser_snapshot" });
        for (bad, why) in [
            (json!({ "tool": "browser_nonsense" }), "no such tool"),
            (json!({ "tool": "browser_click", "arguments": { "target": 5 } }), "invalid type"),
            (json!({ "tool": "browser_click" }), "missing field `target`"),
            (json!({ "tool": "browser_click", "arguments": { "target": "e1", "wrong": 1 } }), "wrong"),
            (json!({ "tool": "browser_batch", "arguments": { "steps": [good] } }), "no step of another"),
            (json!({ "tool": "browser_open" }), "opens none"),
            (json!({ "tool": "browser_close" }), "work in a page"),
            (json!({ "tool": "session_close" }), "work in a page"),
            (json!({ "tool": "browser_snapshot", "arguments": { "session_id": "bs_1" } }), "session_id"),
            (json!({ "tool": "browser_snapshot", "arguments": { "filename": "a" } }), "filename"),
        ] {
            let told = plan_of(&json!([good, bad])).unwrap_err();
            assert!(told.starts_with("Step 2 (") && told.contains(why), "{told}");
            assert!(told.ends_with("Nothing of the batch has run"), "{told}");
        }
        assert!(plan_of(&json!([])).unwrap_err().contains("has 0"));
        assert!(plan_of(&json!(vec![good.clone(); STEPS_MAX + 1])).unwrap_err().contains("has 21"));
        assert!(plan_of(&json!(vec![good; STEPS_MAX])).is_ok());
    }
}
