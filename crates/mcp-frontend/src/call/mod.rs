//! One tool call, from arguments to reply: resolve the session, make sure it has a browser, run the tool.
//!
//! [`reply`] is what comes out, [`browser`] runs tools in a browser ([`resolve`] says whose, [`lease`] gets one, [`collect`] reads the
//! answer),
//! [`front_end`] has the tools that need none. What is too large for a reply is behind a cursor ([`paging`]), or
//! a resource, as is what the caller gave a name ([`keeping`]); resources can be files of a call ([`uploads`]).

pub(crate) mod reply;

pub(crate) mod browser;

mod resolve;

mod lease;

mod collect;

mod config;

mod front_end;

pub(crate) mod progress;

mod keeping;

mod paging;

mod uploads;

use std::{panic::AssertUnwindSafe, sync::Arc};

use browserfleet_common::{error_code::ErrorCode, lifecycle::panic_text};
use browserfleet_tools::{Place as At, Tool};
use futures_util::FutureExt as _;
use serde_json::{Map, Value};
use tokio::time::{Duration, Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{progress::Progress, reply::Reply};
use crate::{
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

/// Runs a call to its end, which comes whatever happens: a panic is answered, the deadline holds, and when `cancelled`
/// fires the work ends, also in the browser.
pub(crate) async fn run(core: &Arc<Core>, call: Call, cancelled: CancellationToken) -> Reply {
    let started = Instant::now();
    let (id, tool, deadline) = (call.id, call.tool, call.deadline);
    let principal = call.caller.principal.digest();
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
                let limit = core.config.call.timeout.as_secs();
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
    tracing::info!(
        request = %id,
        principal,
        session = reply.session.as_deref().unwrap_or("-"),
        tool = tool.name,
        duration_ms = started.elapsed().as_millis(),
        outcome = reply.failure.as_ref().map_or("ok", |failure| failure.code.name()),
        "call"
    );
    reply
}

async fn perform(core: &Arc<Core>, call: Call) -> Reply {
    core.before_call(call.tool);
    let place = match admit(core, &call).await {
        Ok(place) => place,
        Err(failure) => return failure.into(),
    };
    let result = match call.tool.place {
        At::Browser => browser::run(core, call).await,
        At::FrontEnd => front_end::run(core, call).await,
    };
    // Before the answer: the next call of the same caller finds the place free.
    place.give_back().await;
    result.unwrap_or_else(Reply::from)
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
        let text = "As many of your calls are running as your key allows. Wait for one to end, then try again.";
        Failure::new(ErrorCode::QuotaExceeded, text).retry(Duration::from_secs(1))
    })
}
