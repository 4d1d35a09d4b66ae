//! Running an agent's JavaScript in the page.

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::Evaluate;
use serde_json::{Value, json};

use super::{
    Call, Registry, Reply, ToolResult,
    reply::{locator_code, quoted},
    untrusted::origin,
};
use crate::failure::Failure;

pub(super) fn register(registry: &mut Registry) {
    registry.add(evaluate);
}

async fn evaluate(call: Call, arguments: Evaluate) -> ToolResult {
    let Evaluate { function, target, element: _, filename: _ } = arguments;
    let time = call.times.script;
    let evaluated = call.page.evaluate(&function, target.as_deref(), call.within(time)).await.map_err(|failure| {
        if failure.code == ErrorCode::PageHung && !failure.modal {
            let message = format!("the script did not end within {} s and was stopped", time.as_secs_f32());
            Failure::new(ErrorCode::PageHung, message)
        } else {
            failure
        }
    })?;
    let code = quoted(&as_function(&function));
    let ran = match (target, evaluated.locator) {
        (Some(target), Some(found)) => format!("await page.{}.evaluate({code});", locator_code(&target, &found)),
        _ => format!("await page.evaluate({code});"),
    };
    let url = call.page.document().url;
    let mut structured = json!({ "origin": origin(&url) });
    // What is undefined is no JSON, and no member.
    if let Ok(result) = serde_json::from_str::<Value>(&evaluated.text) {
        structured["result"] = result;
    }
    Ok(Reply::new().untrusted(&evaluated.text, &url).code(ran).structured(structured))
}

/// An expression as the function it stands for.
fn as_function(code: &str) -> String {
    let code = code.trim();
    let is_function = code.contains("=>") || code.starts_with("function") || code.starts_with("async");
    if is_function { code.to_owned() } else { format!("() => ({code})") }
}
