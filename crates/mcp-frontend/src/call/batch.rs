//! What a front end has to say of a batch: before a daemon runs it, who may take its steps; afterwards, how much of it is told.

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::{Batch, parse};
use serde_json::{Map, Value, json};

use super::{paging, reply::Reply};
use crate::{access::Access, failure::Failure, secrets::Mask};

/// Where a batch has its steps, and each of them its arguments.
const STEPS: &str = "steps";
const ARGUMENTS: &str = "arguments";
/// Where each step has what it answered, for programs.
const RESULT: &str = "result";
/// Most bytes of such a text: the whole of it is in the reply's texts.
const RESULT_BYTES: usize = 4096;
/// How what a daemon has cut itself ends.
const CUT: &str = "[cut: ";

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

/// Bounds what programs are told of the steps: a text is cut, and what makes all of them too large is left out, largest first, and named
/// in `omitted` of its step. Once secrets are out of them, since what is left of a value that was cut nobody finds; where a daemon has
/// cut, the mask says what may be such a rest.
pub(super) fn bound(reply: &mut Reply, budget: usize, mask: Option<&Mask>) {
    let Some(structured) = &mut reply.structured else { return };
    let whole = |value: &Value| value.to_string().len();
    let Some(steps) = structured.get_mut(STEPS).and_then(Value::as_array_mut) else { return };
    for result in steps.iter_mut().filter_map(|step| step.get_mut(RESULT)) {
        if let Value::String(text) = result
            && let Some(cut) = cut(text, mask)
        {
            *text = cut;
        }
    }
    let sizes: Vec<(usize, usize)> = steps.iter().map(|step| step.get(RESULT).map_or(0, whole)).zip(0..).collect();
    let others = steps.iter().map(whole).sum::<usize>() - sizes.iter().map(|(size, _)| size).sum::<usize>();
    for at in paging::excess(sizes, budget.saturating_sub(others)) {
        if let Some(step) = steps[at].as_object_mut() {
            step.remove(RESULT);
            step.insert(paging::OMITTED.to_owned(), json!([RESULT]));
        }
    }
}

/// A text that is longer than it may be, cut.
fn cut(text: &str, mask: Option<&Mask>) -> Option<String> {
    // Of a text that a daemon has cut it has said how long it was.
    if let Some((begin, told)) = text.rsplit_once('\n').filter(|(_, last)| last.starts_with(CUT)) {
        let end = mask.map_or(begin.len(), |mask| mask.safe_end(begin.as_bytes()));
        let begin = &begin[..begin.floor_char_boundary(end.min(RESULT_BYTES))];
        return Some(format!("{begin}\n{told}"));
    }
    let begin = &text[..text.floor_char_boundary(RESULT_BYTES)];
    (text.len() > RESULT_BYTES).then(|| format!("{begin}\n{CUT}the first of {} bytes]", text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounded(results: &[Value], budget: usize) -> Vec<Value> {
        let step = |result: &Value| json!({ "tool": "browser_evaluate", "status": "ok", "result": result });
        let steps: Vec<Value> = results.iter().map(step).collect();
        let mut reply = Reply::default().with_structured(json!({ "steps": steps, "ok": results.len() }));
        let mask = Mask::of([("LOGIN", "hunter2-and-more")], &mut (1 << 20)).unwrap();
        bound(&mut reply, budget, Some(&mask));
        reply.structured.unwrap()["steps"].as_array().unwrap().clone()
    }

    #[test]
    fn a_step_tells_programs_the_beginning_of_a_long_text() {
        let long = "é".repeat(RESULT_BYTES);
        let steps = bounded(&[json!(long), json!("short"), json!({ "a": 1 })], 1 << 20);
        let told = steps[0]["result"].as_str().unwrap();
        assert!(told.len() < RESULT_BYTES + 60 && told.ends_with("é\n[cut: the first of 8192 bytes]"), "{told}");
        assert_eq!((&steps[1]["result"], &steps[2]["result"]), (&json!("short"), &json!({ "a": 1 })));
        let by_daemon = format!("{long}\n[cut: the first of 3000000 bytes]");
        let steps = bounded(&[json!(by_daemon)], 1 << 20);
        assert!(steps[0]["result"].as_str().unwrap().ends_with("é\n[cut: the first of 3000000 bytes]"));
        let broken = "what a daemon had little room for: hunter2-and-mor\n[cut: the first of 3000000 bytes]";
        let [step] = &bounded(&[json!(broken)], 1 << 20)[..] else { panic!("a step") };
        let told = step["result"].as_str().unwrap();
        assert!(told.starts_with("what a daemon") && !told.contains("hunt"), "{told}");
        assert!(told.ends_with("\n[cut: the first of 3000000 bytes]"), "{told}");
    }

    #[test]
    fn what_makes_all_of_them_too_large_is_left_out_and_said_so() {
        let (large, larger) = (json!({ "items": "x".repeat(20_000) }), json!({ "items": "y".repeat(30_000) }));
        let steps = bounded(&[large.clone(), larger, json!("short")], 40_000);
        assert_eq!((&steps[0]["result"], &steps[2]["result"]), (&large, &json!("short")));
        assert_eq!(steps[1], json!({ "tool": "browser_evaluate", "status": "ok", "omitted": ["result"] }));
    }
}
