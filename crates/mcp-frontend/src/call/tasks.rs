//! `session_run_tasks`: several batches, one after the other in a session, or beside each other in sessions of their own.
//!
//! A task of its own session leaves nothing: that ends with it, whatever becomes of the call.

use std::{fmt::Write as _, sync::Arc};

use browserfleet_common::{error_code::ErrorCode, ids::SessionName};
use browserfleet_tools::{Arguments as _, Batch, RunTasks, TASKS_MAX, Task, find, parse};
use futures_util::{StreamExt as _, stream};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Call, batch,
    browser::{self, Orphan},
    paging::{Budget, OMITTED},
    reply::{Reply, Text},
    resolve::{self, Choice},
};
use crate::{caller::words, core::Core, failure::Failure, session::Key};

/// Most tasks that run at a time.
const AT_ONCE: usize = 5;
/// Sections of a batch that are left out: what was done is in the task, and what the page shows in the steps that ask for it.
const LEFT_OUT: [&str; 2] = ["Ran Playwright code", "Snapshot"];
/// And of one whose session is over: where it was.
const LEFT_OUT_ALONE: &str = "Session";

/// Runs a call.
pub(super) async fn run(core: &Arc<Core>, mut call: Call) -> Result<Reply, Failure> {
    let choice = resolve::choose(&call.caller, &mut call.arguments)?;
    if choice != Choice::Unnamed {
        // A session that is not the caller's is told first, whatever else is wrong.
        resolve::find(core, &call.caller, choice.clone()).await?;
    }
    let invalid = |what: String| Failure::new(ErrorCode::InvalidArgument, what);
    let RunTasks { tasks, concurrent } =
        parse(Value::Object(std::mem::take(&mut call.arguments))).map_err(|bad| invalid(bad.to_string()))?;
    let concurrent = concurrent.unwrap_or(false);
    check(&call, &tasks)?;
    if !concurrent && choice == Choice::Unnamed {
        return Err(invalid(
            "Tasks that run one after the other need a session: pass a session_id, or concurrent: true.".to_owned(),
        ));
    }
    let count = tasks.len();
    let at_once = if concurrent { room(core, &call).await?.min(count) } else { 1 };
    let budget = Budget { bytes: core.config.call.reply_bytes / count, keeps: !concurrent };
    let ended = stream::iter(tasks.into_iter().enumerate()).map(|(at, task)| {
        let place = if concurrent { Choice::Minted(SessionName::mint()) } else { choice.clone() };
        run_one(core, &call, One { at, count, task, place, alone: concurrent, budget })
    });
    let mut ended: Vec<Ended> = ended.buffer_unordered(at_once).collect().await;
    ended.sort_by_key(|task| task.at);
    Ok(told(ended))
}

/// Refuses what could not run as a whole, before any of it runs.
fn check(call: &Call, tasks: &[Task]) -> Result<(), Failure> {
    if !(1..=TASKS_MAX).contains(&tasks.len()) {
        let message = format!("A call has from 1 to {TASKS_MAX} tasks, and this one has {}.", tasks.len());
        return Err(Failure::new(ErrorCode::InvalidArgument, message));
    }
    for (task, number) in tasks.iter().zip(1..) {
        batch::allowed(&call.caller.access, &steps(task)).map_err(|refused| {
            let message = format!("Task {number} (\"{}\"): {} No task has run.", words(&task.name), refused.message);
            Failure { message, ..refused }
        })?;
    }
    Ok(())
}

/// A task as the batch that it is.
fn steps(task: &Task) -> Map<String, Value> {
    let batch = json!({ "steps": task.steps, "on_error": task.on_error });
    match batch {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// How many tasks may have sessions at a time: those beyond wait for one that ends.
async fn room(core: &Arc<Core>, call: &Call) -> Result<usize, Failure> {
    let limits = &call.caller.access.limits;
    let most = limits.sessions.unwrap_or(core.config.session.per_principal);
    let open = core.sessions.counts(&call.caller.principal).await?.of_principal;
    // Without any free one the first task is told so.
    Ok(AT_ONCE.min(most.saturating_sub(open)).min(limits.calls.unwrap_or(AT_ONCE)).max(1))
}

/// A task on its way.
struct One {
    /// Its place among all.
    at: usize,
    count: usize,
    task: Task,
    place: Choice,
    /// Whether its session is its own.
    alone: bool,
    budget: Budget,
}

/// A task that is over.
struct Ended {
    at: usize,
    name: String,
    alone: bool,
    ms: u64,
    reply: Reply,
}

async fn run_one(core: &Arc<Core>, call: &Call, one: One) -> Ended {
    let One { at, count, task, place, alone, budget } = one;
    let name = words(&task.name);
    let label = format!("Task {} of {count} ({name})", at + 1);
    let started = Instant::now();
    call.progress.say(format!("{label} begins")).await;
    let mut reply = if started >= call.deadline {
        Failure::new(ErrorCode::CallTimeout, "The time of the tasks was over before it.").into()
    } else {
        Box::pin(perform(core, call, steps(&task), place, budget)).await
    };
    for text in std::mem::take(&mut reply.texts) {
        let left_out = LEFT_OUT.contains(&&*text.title) || (alone && text.title == LEFT_OUT_ALONE);
        if !left_out {
            reply.texts.push(text);
        }
    }
    let how = reply.failure.as_ref().map_or("ok", |failure| failure.code.name());
    call.progress.say(format!("{label} has ended: {how}")).await;
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ended { at, name, alone, ms, reply }
}

/// Runs a task's batch. A session of its own ends with it.
async fn perform(core: &Arc<Core>, call: &Call, arguments: Map<String, Value>, place: Choice, budget: Budget) -> Reply {
    let Some(tool) = find(Batch::TOOL) else {
        return Failure::new(ErrorCode::Internal, "There are no batches.").into();
    };
    let step = Call {
        id: Uuid::new_v4(),
        tool,
        caller: call.caller.clone(),
        arguments,
        progress: call.progress.clone(),
        deadline: call.deadline.min(Instant::now() + core.config.call.timeout),
    };
    let own = match &place {
        Choice::Minted(name) => Some(Key { principal: call.caller.principal.clone(), name: name.clone() }),
        _ => None,
    };
    // If the call goes away, the session goes as well.
    let orphan = Orphan::of(core, &call.caller, &place);
    let reply = Box::pin(browser::run_in(core, step, place, budget)).await.unwrap_or_else(Reply::from);
    if let Some(key) = own {
        match core.end_session(&key, None).await {
            Ok(_) => orphan.into_iter().for_each(Orphan::adopted),
            // The guard tries again.
            Err(failure) => tracing::warn!(%failure, "the session of a task could not be ended at once"),
        }
    }
    reply
}

/// What is told of all of them. The call has failed if none of them succeeded.
fn told(tasks: Vec<Ended>) -> Reply {
    let ok = tasks.iter().filter(|task| task.reply.failure.is_none()).count();
    let mut summary = format!("{ok} of {} tasks ok", tasks.len());
    let mut all = Reply::default();
    if let (0, Some(first)) = (ok, tasks.first()) {
        all.failure.clone_from(&first.reply.failure);
    }
    let mut structured = Vec::new();
    for task in tasks {
        let Ended { at, name, alone, ms, reply } = task;
        let Reply { failure, texts, images, links, structured: steps, .. } = reply;
        let how = failure.as_ref().map_or_else(|| "ok".to_owned(), |failure| format!("{}: {failure}", failure.code));
        // Writing to a String cannot fail.
        let _infallible = write!(summary, "\n{}. {name}: {how}", at + 1);
        let status = if failure.is_some() { "failed" } else { "ok" };
        let mut item = json!({ "name": name, "status": status, "own_session": alone, "ms": ms });
        if let Some(failure) = failure {
            item["error"] = json!({ "code": failure.code.name(), "message": failure.message });
        }
        if let Some(Value::Object(mut members)) = steps {
            for name in ["steps", OMITTED] {
                if let Some(told) = members.remove(name) {
                    item[name] = told;
                }
            }
        }
        structured.push(item);
        let titled = |text: Text| Text { title: format!("Task {} ({name}): {}", at + 1, text.title), ..text };
        all.texts.extend(texts.into_iter().map(titled));
        all.images.extend(images);
        all.links.extend(links);
    }
    all.texts.insert(0, Text { title: "Result".to_owned(), body: summary });
    all.with_structured(json!({ "tasks": structured, "ok": ok }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(at: usize, failure: Option<Failure>) -> Ended {
        let mut reply = Reply { failure, ..Reply::text("Step 1", "said") };
        reply.structure(Some(json!({ "steps": [{ "status": "ok" }], "ok": 1, "omitted": ["what"] })));
        Ended { at, name: format!("n{at}"), alone: true, ms: 1, reply }
    }

    #[test]
    fn one_that_fails_is_told_among_the_others_and_all_that_fail_are_a_failure() {
        let failure = || Some(Failure::new(ErrorCode::PageHung, "no answer"));
        let reply = told(vec![ended(0, None), ended(1, failure())]);
        assert!(reply.failure.is_none());
        assert_eq!(reply.texts[0].body, "1 of 2 tasks ok\n1. n0: ok\n2. n1: page_hung: no answer");
        assert_eq!(reply.texts[2].title, "Task 2 (n1): Step 1");
        let structured = reply.structured.unwrap();
        assert_eq!(structured["tasks"][0]["steps"], json!([{ "status": "ok" }]));
        assert_eq!(structured["tasks"][0]["omitted"], json!(["what"]));
        assert_eq!(structured["tasks"][1]["error"]["code"], "page_hung");
        assert_eq!(told(vec![ended(0, failure())]).failure.unwrap().code, ErrorCode::PageHung);
    }
}
