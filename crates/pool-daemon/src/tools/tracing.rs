//! What the browser does, as a Chrome trace.

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::{StartTracing, StopTracing};
use serde_json::json;

use super::{Call, Registry, Reply, ToolResult};
use crate::{failure::Failure, page::Traced};

/// What a trace is called.
const NAME: &str = "trace.json";

pub(super) fn register(registry: &mut Registry) {
    registry.add(start);
    registry.add(stop);
}

async fn start(call: Call, StartTracing {}: StartTracing) -> ToolResult {
    if call.abilities.shared {
        let message = "a trace is of a whole browser, and sessions share browsers here (pool.contexts_per_browser). Nothing is \
                       recorded; browser_har_export has the requests of a page";
        return Err(Failure::new(ErrorCode::Unsupported, message));
    }
    let slot = &call.workspace.recorders().trace;
    if slot.is_taken() {
        return Err(Failure::invalid("a trace is being recorded; browser_stop_tracing ends it"));
    }
    slot.put(call.workspace.context().start_trace(call.within(call.times.action)).await?);
    Ok(Reply::new().result("Trace recording started"))
}

async fn stop(call: Call, StopTracing {}: StopTracing) -> ToolResult {
    let trace = call.workspace.recorders().trace.take();
    let trace = trace.ok_or_else(|| Failure::invalid("Tracing is not started; browser_start_tracing starts it"))?;
    let Traced { json, duration, cut } = trace.stop(call.within(call.times.navigation)).await?;
    let mut text =
        "Trace recording stopped.\nIt is a trace of Chrome: https://ui.perfetto.dev and the performance panel of its \
                    developer tools show it."
            .to_owned();
    if cut {
        text.push_str("\nIts end is missing: there was more than a trace may have. Record a shorter time.");
    }
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let told = json!({ "bytes": json.len(), "duration_ms": milliseconds, "cut": cut });
    Ok(Reply::new().result(text).structured(told).file(NAME, "application/json", json))
}
