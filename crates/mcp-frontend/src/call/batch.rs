//! What a front end has to say of a batch before a daemon runs it: who may take its steps.

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::{Batch, parse};
use serde_json::{Map, Value};

use crate::{access::Access, failure::Failure};

/// Where a batch has its steps, and each of them its arguments.
const STEPS: &str = "steps";
const ARGUMENTS: &str = "arguments";

/// Refuses a batch that could not run as a whole, or has a step that its caller may not take.
pub(super) fn allowed(access: &Access, arguments: &Map<String, Value>) -> Result<(), Failure> {
    let invalid = |what: String| Failure::new(ErrorCode::InvalidArgument, what);
    let batch: Batch = parse(Value::Object(arguments.clone())).map_err(|bad| invalid(bad.to_string()))?;
    let planned = batch.plan().map_err(|bad| invalid(bad.to_string()))?;
    for (step, number) in planned.iter().zip(1..) {
        access.check(step.tool).map_err(|refused| {
            let message =
                format!("Step {number} ({}): {} Nothing of the batch has run.", step.tool.name, refused.message);
            Failure { message, ..refused }
        })?;
    }
    Ok(())
}

/// The steps of a batch that has been checked: tool and arguments of each.
pub(super) fn steps(arguments: &mut Map<String, Value>) -> impl Iterator<Item = (String, &mut Map<String, Value>)> {
    let steps = arguments.get_mut(STEPS).and_then(Value::as_array_mut).into_iter().flatten();
    steps.filter_map(|step| {
        let tool = step["tool"].as_str()?.to_owned();
        Some((tool, step.get_mut(ARGUMENTS)?.as_object_mut()?))
    })
}
