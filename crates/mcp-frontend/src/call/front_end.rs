//! Tools about sessions: they need no page, and work while one hangs.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use browserfleet_common::{error_code::ErrorCode, ids::SessionName};
use browserfleet_tools::{
    Arguments, Close, GetConfig, ReadCursor, RunTasks, SESSION_ID, SessionClose, SessionList, SessionStats, parse,
};
use serde_json::{Map, Value, json};

use super::{Call, config, paging, reply::Reply, resolve, tasks};
use crate::{
    caller::Caller,
    core::Core,
    failure::Failure,
    session::{LeaseState, Record, Scope},
    usage::{Kind, Place},
};

/// Runs a call.
pub(super) async fn run(core: &Arc<Core>, mut call: Call) -> Result<Reply, Failure> {
    match call.tool.name {
        RunTasks::TOOL => tasks::run(core, call).await,
        Close::TOOL => close(core, &call.caller, call.arguments).await,
        SessionClose::TOOL => end(core, &call.caller, call.arguments).await,
        SessionList::TOOL => {
            check::<SessionList>(std::mem::take(&mut call.arguments))?;
            list(core, &call.caller).await
        }
        SessionStats::TOOL => {
            check::<SessionStats>(std::mem::take(&mut call.arguments))?;
            stats(core, &call.caller).await
        }
        GetConfig::TOOL => {
            check::<GetConfig>(std::mem::take(&mut call.arguments))?;
            Ok(config::show(core, &call.caller.access))
        }
        ReadCursor::TOOL => {
            // The cursor says which session; agents pass a handle to every call, as they were told to.
            call.arguments.remove(SESSION_ID);
            let arguments = check::<ReadCursor>(std::mem::take(&mut call.arguments))?;
            paging::read(core, &call, arguments).await
        }
        name => Err(Failure::new(ErrorCode::Unsupported, format!("This front end cannot run {name} yet."))),
    }
}

fn check<A: Arguments>(arguments: Map<String, Value>) -> Result<A, Failure> {
    parse(Value::Object(arguments)).map_err(|error| Failure::new(ErrorCode::InvalidArgument, error.to_string()))
}

/// `browser_close`: the browser goes, the session stays. The reply is that of Playwright MCP.
async fn close(core: &Arc<Core>, caller: &Caller, mut arguments: Map<String, Value>) -> Result<Reply, Failure> {
    let choice = resolve::choose(caller, &mut arguments)?;
    check::<Close>(arguments)?;
    let mut reply = Reply::text("Result", "No open tabs. Navigate to a URL to create one.");
    reply.push_text("Ran Playwright code", "```js\nawait page.close()\n```");
    if let Some(record) = resolve::find(core, caller, choice).await? {
        reply.session = Some(record.name.digest());
        free(core, &record).await?;
    }
    Ok(reply)
}

/// Returns the session's lease and forgets losses: a closed browser is nothing to mourn.
async fn free(core: &Arc<Core>, record: &Record) -> Result<(), Failure> {
    let held = record.lease.lease.as_ref();
    if let Some(lease) = held {
        core.fleet.release(record, lease).await.map_err(crate::failure::DaemonError::into_failure)?;
    }
    let expected = held.map(|lease| lease.lease_id.as_str());
    // Anything but success means that another call has changed the session meanwhile: its word stands.
    let _swapped = core.sessions.swap_lease(&record.key(), &record.birth, expected, LeaseState::default()).await?;
    // Nor is it brought back. Its daemon writes no more: the session does not hold its lease.
    Ok(core.checkpoints.drop_checkpoint(&record.owner()).await?)
}

/// `session_close`: everything goes.
async fn end(core: &Arc<Core>, caller: &Caller, mut arguments: Map<String, Value>) -> Result<Reply, Failure> {
    let choice = resolve::choose(caller, &mut arguments)?;
    check::<SessionClose>(arguments)?;
    let Some(record) = resolve::find(core, caller, choice).await? else {
        return Ok(Reply::text("Result", "There was no open session."));
    };
    let ended = core.end_session(&record.key(), Some(&record.birth)).await;
    let mut reply = match ended {
        Ok(_) => Reply::text("Result", "The session has ended, with its browser and everything kept for it."),
        Err(failure) => failure.into(),
    };
    reply.session = Some(record.name.digest());
    Ok(reply)
}

/// `session_list`: who has a key or a token sees all of its sessions. Without them everybody is the same principal, so a caller sees what
/// its own connection has named.
async fn list(core: &Arc<Core>, caller: &Caller) -> Result<Reply, Failure> {
    let records = core.sessions.list(Scope::Of(&caller.principal)).await?;
    if caller.access.is_somebodys() {
        return Ok(listed(&records.iter().collect::<Vec<_>>(), core.clock.now()));
    }
    let Some(connection) = &caller.connection else {
        let count = records.len();
        let text = format!("{count} open. Their ids are not listed: they are known only to who opened them.");
        return Ok(Reply::text("Sessions", text).with_structured(json!({ "count": count })));
    };
    // The connection's record is from before this call; other calls may have named more since.
    let connection = core.connections.touch(&connection.key).await?;
    let known = |name: &SessionName| connection.as_ref().is_some_and(|connection| connection.knows(name));
    let mine: Vec<&Record> = records.iter().filter(|record| known(&record.name)).collect();
    Ok(listed(&mine, core.clock.now()))
}

fn listed(mine: &[&Record], now: Duration) -> Reply {
    let lines: Vec<String> = mine.iter().map(|record| line(record, now)).collect();
    let text = if lines.is_empty() { "None open.".to_owned() } else { lines.join("\n") };
    let items: Vec<Value> = mine.iter().map(|record| item(record, now)).collect();
    Reply::text("Sessions", text).with_structured(json!({ "sessions": items }))
}

fn line(record: &Record, now: Duration) -> String {
    let (age, idle) = (short(now.saturating_sub(record.created)), short(now.saturating_sub(record.last_used)));
    let browser = if record.lease.lease.is_some() { "with a browser" } else { "without a browser" };
    format!("- {}: opened {age} ago, last used {idle} ago, {browser}", record.name.as_str())
}

fn item(record: &Record, now: Duration) -> Value {
    json!({
        "session_id": record.name.as_str(),
        "age_seconds": now.saturating_sub(record.created).as_secs(),
        "idle_seconds": now.saturating_sub(record.last_used).as_secs(),
        "browser": record.lease.lease.is_some(),
    })
}

/// A duration in one unit: people compare, they do not compute.
fn short(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

fn running(call: &Place, now: Duration) -> Value {
    json!({
        "call": call.id,
        "tool": call.tool,
        "running_seconds": now.saturating_sub(call.since).as_secs_f64(),
    })
}

/// `session_stats`.
async fn stats(core: &Arc<Core>, caller: &Caller) -> Result<Reply, Failure> {
    let counts = core.sessions.counts(&caller.principal).await?;
    let max = caller.access.limits.sessions.unwrap_or(core.config.session.per_principal);
    // Their own: how busy others are is nobody's business.
    let calls = core.usage.held(Kind::Call, Scope::Of(&caller.principal)).await?;
    let (active, now) = (calls.len(), core.clock.now());
    let mut text = format!("- Open: {} of {max}\n- Your calls that are running: {active}", counts.of_principal);
    let mut structured = json!({ "sessions": counts.of_principal, "max_sessions": max, "active_calls": active });
    // Without keys everybody is the same principal: then which calls they are is nobody's business either.
    if caller.access.is_somebodys() {
        for call in &calls {
            let age = short(now.saturating_sub(call.since));
            let _infallible = write!(text, "\n  - {} for {age}, call {}", call.tool, call.id);
        }
        structured["calls"] = calls.iter().map(|call| running(call, now)).collect();
    }
    Ok(Reply::text("Statistics", text).with_structured(structured))
}
