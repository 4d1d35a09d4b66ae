//! Waiting for the page.

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::WaitFor;
use tokio::time::{Duration, sleep};

use super::{Call, Registry, Reply, ToolResult, observe, reply::quoted};
use crate::failure::Failure;

/// Longest time to wait without looking at anything.
const MAX_TIME: Duration = Duration::from_secs(30);

pub(super) fn register(registry: &mut Registry) {
    registry.add(wait_for);
}

async fn wait_for(call: Call, arguments: WaitFor) -> ToolResult {
    let WaitFor { time, text, text_gone } = arguments;
    let time = time.filter(|seconds| *seconds > 0.0);
    let texts: Vec<_> = [(text_gone, false), (text, true)]
        .into_iter()
        .filter_map(|(text, shown)| text.filter(|text| !text.trim().is_empty()).map(|text| (text, shown)))
        .collect();
    if time.is_none() && texts.is_empty() {
        return Err(Failure::invalid("Either time, text or textGone must be provided"));
    }
    let (mut waited, mut code) = (Vec::new(), Vec::new());
    if let Some(seconds) = time {
        let bounded = Duration::try_from_secs_f64(seconds).unwrap_or(MAX_TIME).min(MAX_TIME);
        // Not bounded by the call's deadline: who waited no longer than that has not waited so long.
        sleep(bounded).await;
        waited.push(format!("Waited for {} seconds", bounded.as_secs_f64()));
        code.push(format!("await new Promise(f => setTimeout(f, {} * 1000));", bounded.as_secs_f64()));
    }
    for (text, shown) in texts {
        let state = if shown { "visible" } else { "hidden" };
        if !call.page.wait_for_text(&text, shown, call.within(call.times.action)).await? {
            return Err(too_late(&call, &text, shown));
        }
        waited.push(format!("Waited for {}", if shown { text.clone() } else { format!("{text} to be gone") }));
        code.push(format!("await page.getByText({}).first().waitFor({{ state: '{state}' }});", quoted(&text)));
    }
    observe::page(&call, Reply::new().result(waited.join("\n")).code(code.join("\n"))).await
}

fn too_late(call: &Call, text: &str, shown: bool) -> Failure {
    let (seconds, text) = (call.times.action.as_secs_f32(), quoted(text));
    let message = if shown {
        format!(
            "the text {text} did not appear within {seconds} s. Look at the page with browser_snapshot, or wait again"
        )
    } else {
        format!(
            "the text {text} was still there after {seconds} s. Look at the page with browser_snapshot, or wait again"
        )
    };
    Failure::new(ErrorCode::CallTimeout, message)
}
