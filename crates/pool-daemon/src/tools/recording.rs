//! Recording the calls of a session, as test code and as steps of a batch.

use browserfleet_tools::{
    Arguments as _, Effect, MAX_BYTES, Open, SNAPSHOT, StartRecording, StopRecording, Tabs, Tool, VerifyElementVisible,
    VerifyListVisible, VerifyTextVisible, VerifyValue, WaitFor,
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Call, Registry, Reply, ToolResult};
use crate::{
    failure::Failure,
    page::{Page, is_ref},
    recorders::{Recorders, Step},
};

/// Looks that are recorded as well: what comes after them relies on what they have seen.
const LOOKS: [&str; 5] =
    [WaitFor::TOOL, VerifyElementVisible::TOOL, VerifyTextVisible::TOOL, VerifyListVisible::TOOL, VerifyValue::TOOL];
/// Arguments that name elements, and the list whose members have such.
const TARGETS: [&str; 3] = ["target", "startTarget", "endTarget"];
const FIELDS: &str = "fields";
/// Arguments about a reply: a step has none of its own.
const OF_REPLY: [&str; 3] = [SNAPSHOT, MAX_BYTES, "filename"];

pub(super) fn register(registry: &mut Registry) {
    registry.add(start);
    registry.add(stop);
}

async fn start(call: Call, StartRecording {}: StartRecording) -> ToolResult {
    if !call.workspace.recorders().record_calls() {
        return Err(Failure::invalid("a recording is in progress; browser_stop_recording ends it"));
    }
    Ok(Reply::new().result("Recording started. Call browser_stop_recording to retrieve the recorded actions."))
}

async fn stop(call: Call, StopRecording {}: StopRecording) -> ToolResult {
    let calls = call
        .workspace
        .recorders()
        .take_calls()
        .ok_or_else(|| Failure::invalid("No recording in progress, use browser_start_recording to start one."))?;
    let steps: Vec<Value> =
        calls.steps.iter().map(|Step { tool, arguments }| json!({ "tool": tool, "arguments": arguments })).collect();
    let mut reply = match calls.code.as_slice() {
        [] => Reply::new().result("Recording stopped. No actions were recorded."),
        code => Reply::new()
            .result(format!("Recording stopped. Recorded actions:\n\n```js\n{}\n```", code.join("\n")))
            .steps(&steps),
    };
    if !calls.left_out.is_empty() {
        reply = reply.left_out(&calls.left_out);
    }
    Ok(reply.structured(json!({ "steps": steps, "code": calls.code, "left_out": calls.left_out })))
}

/// A call that is about to run, as a recording has it: as the step that it would be in another session, or why it would be none.
#[derive(Debug)]
pub(super) struct Recorded {
    tool: &'static str,
    step: Result<Map<String, Value>, &'static str>,
}

impl Recorded {
    /// Nothing while no calls are recorded, and of calls that change nothing. Before it runs, because afterwards an element may be gone.
    pub(super) async fn of(call: &Call, tool: &str, arguments: &Value) -> Option<Self> {
        if !call.workspace.recorders().records_calls() {
            return None;
        }
        let tool = browserfleet_tools::find(tool).filter(|tool| is_recorded(tool, arguments))?;
        let mut step = arguments.as_object().cloned().unwrap_or_default();
        step.retain(|name, _| !OF_REPLY.contains(&name.as_str()));
        let named = by_locators(&call.page, &mut step, call.within(call.times.action)).await;
        Some(Self { tool: tool.name, step: named.map(|()| step) })
    }

    /// It has run, with this reply; with none if a dialog was its consequence.
    pub(super) fn done(self, recorders: &Recorders, reply: Option<&Reply>) {
        let code = reply.and_then(Reply::ran).map_or_else(|| format!("// {}", self.tool), str::to_owned);
        recorders.acted(self.tool, self.step, code);
    }
}

/// Whether a call changes something, or is waited for. To open a session is no step, and a batch is its steps.
fn is_recorded(tool: &Tool, arguments: &Value) -> bool {
    let lists = tool.name == Tabs::TOOL && arguments["action"] == "list";
    (tool.effect == Effect::Acts && tool.name != Open::TOOL && !lists) || LOOKS.contains(&tool.name)
}

/// Names elements by what finds them in a later document, too: a ref means nothing there.
async fn by_locators(page: &Page, step: &mut Map<String, Value>, deadline: Instant) -> Result<(), &'static str> {
    for target in targets(step) {
        if !is_ref(target) {
            continue;
        }
        match page.lasting_locator(target, deadline).await {
            Ok(Some(locator)) => *target = locator,
            Ok(None) => return Err("its element is in a frame, where steps reach by refs only"),
            Err(_) => return Err("its element was not there before it"),
        }
    }
    Ok(())
}

/// The texts of a call's arguments that name elements.
fn targets(step: &mut Map<String, Value>) -> Vec<&mut String> {
    let mut found = Vec::new();
    for (name, value) in step {
        match value {
            Value::String(text) if TARGETS.contains(&name.as_str()) => found.push(text),
            Value::Array(fields) if name == FIELDS => {
                found.extend(fields.iter_mut().filter_map(|field| match field.get_mut(TARGETS[0]) {
                    Some(Value::String(text)) => Some(text),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use browserfleet_tools::{Batch, CATALOGUE, Place, STEPS_MAX, parse};

    use super::*;

    #[test]
    fn what_is_recorded_could_be_a_step() {
        let recorded = CATALOGUE.iter().filter(|tool| tool.place == Place::Browser && is_recorded(tool, &json!({})));
        let mut count = 0;
        for tool in recorded.filter(|tool| tool.name != Batch::TOOL) {
            let batch: Batch = parse(json!({ "steps": [{ "tool": tool.name, "arguments": {} }] })).unwrap();
            // Its arguments are missing here; that it is no step at all would be told before.
            let told = batch.plan().map_or_else(|bad| bad.to_string(), |_| String::new());
            assert!(told.is_empty() || told.contains("missing field"), "{told}");
            count += 1;
        }
        assert!(count > STEPS_MAX);
        let list = json!({ "action": "list" });
        assert!(!is_recorded(browserfleet_tools::find(Tabs::TOOL).unwrap(), &list));
        for looks in ["browser_snapshot", "browser_take_screenshot", "browser_start_tracing", "browser_open"] {
            assert!(!is_recorded(browserfleet_tools::find(looks).unwrap(), &json!({})), "{looks}");
        }
    }

    #[test]
    fn every_argument_that_names_an_element_is_found() {
        let mut step = json!({
            "target": "e1", "startTarget": "e2", "endTarget": "e3", "element": "e4", "text": "e5",
            "fields": [{ "target": "e6", "value": "e7" }, { "name": "no target" }],
        });
        let mut found: Vec<String> =
            targets(step.as_object_mut().unwrap()).into_iter().map(|text| text.clone()).collect();
        found.sort();
        assert_eq!(found, ["e1", "e2", "e3", "e6"]);
    }
}
