//! One tool call, from arguments to reply: resolve the session, make sure it has a browser, run the tool.
//!
//! [`reply`] is what comes out, [`browser`] runs tools in a browser ([`resolve`] says whose, [`lease`] gets one, [`collect`] reads the
//! answer; [`batch`] checks several in one),
//! [`front_end`] has the tools that need none, [`tasks`] runs several batches. What is too large for a reply is behind a cursor ([`paging`]), or
//! a resource, as is what the caller gave a name ([`keeping`]); resources can be files of a call ([`uploads`]). Files count ([`quota`]).

pub(crate) mod reply;

mod batch;

pub(crate) mod browser;

mod resolve;

mod lease;

mod collect;

mod config;

mod front_end;

pub(crate) mod progress;

mod keeping;

mod paging;

pub(crate) mod quota;

mod tasks;

mod uploads;

use std::{panic::AssertUnwindSafe, sync::Arc};

use browserfleet_common::{error_code::ErrorCode, lifecycle::panic_text, metrics::metrics, step, telemetry::trace_id};
use browserfleet_tools::{Arguments as _, Place as At, RunTasks, Tool};
use futures_util::FutureExt as _;
use serde_json::{Map, Value};
use tokio::time::{Duration, Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, field::Empty};
use uuid::Uuid;

use self::{progress::Progress, reply::Reply};
use crate::{
    audit::{Entry, Told},
    caller::Caller,
    core::Core,
    failure::Failure,
    usage::{Held, Kind, Place},
};

/// Beyond the deadline, so that the daemon's own answer about it arrives first.
const SLACK: Duration = Duration::from_secs(1);

/// A call of a tool.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: Uuid,
    pub(crate) tool: &'static Tool,
    pub(crate) caller: Caller,
    pub(crate) arguments: Map<String, Value>,
    pub(crate) progress: Progress,
    pub(crate) deadline: Instant,
}

/// How long a call of a tool may take.
pub(crate) fn time(core: &Core, tool: &Tool) -> Duration {
    let (timeout, tasks) = (core.config.call.timeout, core.config.call.tasks_timeout);
    if tool.name == RunTasks::TOOL { tasks.max(timeout) } else { timeout }
}

/// Runs a call to its end, which comes whatever happens: a panic is answered, the deadline holds, and when `cancelled`
/// fires the work ends, also in the browser.
pub(crate) async fn run(core: &Arc<Core>, call: Call, cancelled: CancellationToken) -> Reply {
    let step = step!(
        format!("tools/call {}", call.tool.name),
        otel.kind = "server",
        otel.status_code = Empty,
        mcp.method.name = "tools/call",
        gen_ai.tool.name = call.tool.name,
        browserfleet.request = %call.id,
        browserfleet.principal = call.caller.principal.digest(),
        browserfleet.session = Empty,
        browserfleet.outcome = Empty,
    );
    if let Some(trace) = &call.caller.trace {
        trace.lead(&step);
    }
    to_its_end(core, call, cancelled).instrument(step).await
}

async fn to_its_end(core: &Arc<Core>, call: Call, cancelled: CancellationToken) -> Reply {
    let started = Instant::now();
    let (id, tool, deadline) = (call.id, call.tool, call.deadline);
    let principal = call.caller.principal.digest();
    let told = core.config.audit.as_ref().map(|_| Told::by(&call.arguments)).unwrap_or_default();
    let running = core.running.enter(id);
    // On the heap: the call is the largest future there is, and panics are caught around all of it.
    let work = Box::pin(AssertUnwindSafe(perform(core, call)).catch_unwind());
    let reply = tokio::select! {
        // An answer that is there goes out, even when the caller has just given up.
        biased;
        answer = timeout_at(deadline + SLACK, work) => match answer {
            Ok(Ok(reply)) => reply,
            Ok(Err(panic)) => {
                tracing::error!(request = %id, tool = tool.name, panic = panic_text(panic.as_ref()), "call panicked");
                Failure::new(ErrorCode::Internal, format!("Internal error. The request id for the operator is {id}.")).into()
            }
            Err(_elapsed) => {
                let limit = time(core, tool).as_secs();
                Failure::new(ErrorCode::CallTimeout, format!("The call did not end within {limit} s and was stopped.")).into()
            }
        },
        () = running.stopped() => Failure::new(ErrorCode::Cancelled, "This call has been stopped by its owner or an operator.").into(),
        () = cancelled.cancelled() => Failure::new(ErrorCode::Cancelled, "The call was cancelled.").into(),
        () = core.hard.cancelled() => {
            Failure::new(ErrorCode::Draining, "The server is stopping. Try again in a moment.").into()
        }
    };
    drop(running);
    let duration = started.elapsed();
    note(&reply, id, tool, &principal, duration);
    if let Some(audit) = &core.config.audit {
        audit.note(entry(&reply, (id, tool), principal, told, (core.clock.now(), duration))).await;
    }
    reply
}

/// The line of a call in the audit trail, which has ended `now`.
fn entry(
    reply: &Reply,
    (id, tool): (Uuid, &Tool),
    principal: String,
    told: Told,
    (now, duration): (Duration, Duration),
) -> Entry {
    Entry {
        time: now,
        call: id.to_string(),
        principal,
        session: reply.session.clone(),
        tool: tool.name,
        told,
        outcome: outcome(reply),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        bytes: reply.bytes(),
        trace: trace_id(),
    }
}

/// `ok`, or the code of the error.
fn outcome(reply: &Reply) -> &'static str {
    reply.failure.as_ref().map_or("ok", |failure| failure.code.name())
}

/// Tells operators of a call that has ended: the line in the log, metrics, its step in a trace.
fn note(reply: &Reply, id: Uuid, tool: &Tool, principal: &str, duration: Duration) {
    let outcome = outcome(reply);
    metrics().calls.add([tool.name, outcome]);
    metrics().call_seconds.observe(tool.name, duration);
    let (session, step) = (reply.session.as_deref().unwrap_or("-"), Span::current());
    step.record("browserfleet.session", session).record("browserfleet.outcome", outcome);
    if reply.failure.is_some() {
        step.record("otel.status_code", "ERROR");
    }
    tracing::info!(
        request = %id,
        principal,
        session,
        tool = tool.name,
        duration_ms = duration.as_millis(),
        outcome,
        trace = trace_id(),
        "call"
    );
}

async fn perform(core: &Arc<Core>, call: Call) -> Reply {
    core.before_call(call.tool);
    let place = match admit(core, &call).await {
        Ok(place) => place,
        Err(failure) => return failure.into(),
    };
    let is_promised = call.tool.output_schema().is_some();
    let result = match call.tool.place {
        At::Browser => browser::run(core, call).await,
        At::FrontEnd => front_end::run(core, call).await,
    };
    // Before the answer: the next call of the same caller finds the place free.
    place.give_back().await;
    let mut reply = result.unwrap_or_else(Reply::from);
    // Clients are promised an object, also where there is nothing to say in it, as when a dialog came in between.
    if reply.failure.is_none() && is_promised {
        reply.structured.get_or_insert_with(|| Value::Object(Map::new()));
    }
    reply
}

/// Whether the caller may use the tool, and may make one more call now.
async fn admit(core: &Core, call: &Call) -> Result<Held, Failure> {
    let access = &call.caller.access;
    access.check(call.tool)?;
    let place = Place {
        id: call.id,
        principal: access.principal.clone(),
        tool: call.tool.name.to_owned(),
        session: resolve::named(&call.caller, &call.arguments).map(|name| name.digest()),
        front_end: core.usage.front_end().to_owned(),
        since: core.clock.now(),
    };
    core.usage.take(Kind::Call, place, access.limits.calls).await?.ok_or_else(|| {
        let text =
            "As many of your calls are running as your key or token allows. Wait for one to end, then try again.";
        Failure::new(ErrorCode::QuotaExceeded, text).retry(Duration::from_secs(1))
    })
}
