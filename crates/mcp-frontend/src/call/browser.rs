//! Tools that run in the browser of a session.

use std::{sync::Arc, time::Duration};

use browserfleet_common::{
    error_code::ErrorCode,
    pb::{self, CallToolRequest},
    step,
};
use browserfleet_tools::{Arguments as _, Batch, Effect, SESSION_ID, SessionUse, SnapshotMode, Tool};
use serde_json::Value;
use tokio::time::{Instant, interval_at};
use tracing::Instrument as _;

use super::{
    Call, batch,
    collect::{Ran, collect},
    keeping, lease,
    paging::{self, Budget},
    progress::Progress,
    quota::{self, Quota},
    reply::Reply,
    resolve::{self, Choice},
    uploads,
};
use crate::{
    access::Access,
    caller::Caller,
    changes::Change,
    core::Core,
    failure::{DaemonError, Failure},
    session::{Key, LeaseRef, Loss, LossReason, Record},
};

/// Most bytes of a call's arguments as JSON: a message less what is around them.
const ARGUMENTS_MAX: usize = pb::MESSAGE_BYTES - (64 << 10);
/// How often a call may be tried, as long as it has not started: the second time with a new browser.
const ATTEMPTS: usize = 2;
/// A call that took longer counts as activity when it ends, too.
const LONG_CALL: Duration = Duration::from_secs(1);

/// Runs a call.
pub(super) async fn run(core: &Arc<Core>, mut call: Call) -> Result<Reply, Failure> {
    let choice = resolve::choose(&call.caller, &mut call.arguments)?.for_use(call.tool.session);
    let budget = paging::budget(core, call.tool, &mut call.arguments)?;
    // On the heap, as tasks have it: it is the largest part of a call.
    Box::pin(run_in(core, call, choice, budget)).await
}

/// Runs a call whose session is chosen, with a budget for its texts.
pub(super) async fn run_in(core: &Arc<Core>, mut call: Call, choice: Choice, budget: Budget) -> Result<Reply, Failure> {
    resolve::may_begin(&call.caller.access, call.tool, &call.arguments)?;
    let egress = resolve::egress(call.tool, &mut call.arguments)?;
    let ready = ready(core, &mut call).await;
    // Before it is created: a call that goes away, or hears nothing, meanwhile does not know whether it was.
    let orphan = Orphan::of(core, &call.caller, &choice);
    let minted = orphan.is_some();
    let fit = ready.as_ref().map(drop).map_err(Clone::clone);
    let found = resolve::open(core, &call.caller, choice, egress, &fit).instrument(step!("find the session"));
    let record = found.await?;
    // A session that is not the caller's is told first, whatever else is wrong.
    let secrets = ready?;
    let name = keeping::name(call.tool, &call.arguments);
    let mut run = Run::new(core, &call, secrets, record);
    let result = match run.too_large() {
        Some(failure) => Err(failure),
        None => run.with_retries().await,
    };
    let mut reply = match result {
        Ok(reply) => reply,
        // Without a browser a new session is of no use: it ends, and its handle is never told.
        Err(failure) if minted && run.record.lease.lease.is_none() => return Err(failure),
        Err(failure) => failure.into(),
    };
    core.config.secrets.mask(&call.caller.access, &mut reply).await;
    if budget.keeps {
        // The tool has run: if what came of it cannot be kept, it is in the reply all the same.
        keeping::keep(core, &call.caller.access, &run.record, &mut reply, name.as_deref()).await;
    } else {
        keeping::let_go(core, &mut reply);
    }
    if let Err(error) = paging::fit(core, &run.record, &mut reply, budget).await {
        tracing::warn!(%error, "a large reply is not cut: the rest of it could not be kept");
    }
    if call.tool.name == Batch::TOOL {
        batch::bound(&mut reply, budget.bytes, core.config.secrets.mask_of(&call.caller.access).map(Arc::as_ref));
    }
    if call.tool.long || call.tool.name == Batch::TOOL {
        paging::omit(&mut reply, budget.bytes);
    }
    if !reply.links.is_empty() {
        core.changes.raise(&run.record.principal, Change::Resources).await;
    }
    reply.session = Some(run.record.name.digest());
    run.tell(&mut reply, minted || call.tool.name == browserfleet_tools::Open::TOOL);
    if let Some(orphan) = orphan {
        orphan.adopted();
    }
    Ok(reply)
}

/// Makes a call ready for a daemon, if one could run it: one that cannot succeed makes no session, takes no browser from anybody,
/// and has nothing read or counted for it. Answers the secrets that its texts refer to.
async fn ready(core: &Core, call: &mut Call) -> Result<Vec<pb::Secret>, Failure> {
    fit(call)?;
    let secrets = secrets(core, call)?;
    if let Some(brought) = uploads::fill(core, call).await? {
        // What was put in place came from elsewhere.
        fit(call)?;
        quota::spend(core, &call.caller.access, Quota::Upload, brought).await?;
    }
    Ok(secrets)
}

/// Refuses a call that no browser could run.
fn fit(call: &Call) -> Result<(), Failure> {
    if call.tool.name == Batch::TOOL {
        return batch::allowed(&call.caller.access, &call.arguments);
    }
    call.tool.check(&call.arguments).map_err(|bad| Failure::new(ErrorCode::InvalidArgument, bad.to_string()))
}

/// The secrets that the texts of a call refer to.
fn secrets(core: &Core, call: &Call) -> Result<Vec<pb::Secret>, Failure> {
    let texts = browserfleet_tools::secrets::typed(call.tool.name, &call.arguments);
    let names = texts.into_iter().flat_map(browserfleet_tools::secrets::names);
    core.config.secrets.named(&call.caller.access, names).map_err(|name| {
        let name: String = name.chars().take(64).collect();
        let text = format!("There is no secret {name:?} for you. Its operator names secrets, and who may use them.");
        Failure::new(ErrorCode::InvalidArgument, text)
    })
}

/// One call on its way.
struct Run<'a> {
    core: &'a Arc<Core>,
    tool: &'static Tool,
    progress: &'a Progress,
    access: &'a Access,
    request: CallToolRequest,
    deadline: Instant,
    record: Record,
    /// A browser was lost before this call, and it goes on with a new one.
    replaced: Option<Loss>,
}

impl<'a> Run<'a> {
    fn new(core: &'a Arc<Core>, call: &'a Call, secrets: Vec<pb::Secret>, record: Record) -> Self {
        let request = CallToolRequest {
            lease_id: String::new(),
            token: String::new(),
            tool: call.tool.name.to_owned(),
            arguments: serde_json::to_vec(&call.arguments).unwrap_or_default(),
            request_id: call.id.to_string(),
            snapshot: wire(core.config.call.snapshot).into(),
            secrets,
        };
        let Call { tool, progress, deadline, .. } = call;
        let access = &call.caller.access;
        Self { core, tool, progress, access, request, deadline: *deadline, record, replaced: None }
    }

    /// Why its arguments cannot be sent to a daemon.
    fn too_large(&self) -> Option<Failure> {
        let size = self.request.arguments.len();
        (size > ARGUMENTS_MAX).then(|| {
            let text =
                format!("The arguments have {size} bytes, what they name included; {ARGUMENTS_MAX} are allowed.");
            Failure::new(ErrorCode::InvalidArgument, text)
        })
    }

    /// Tools that open pages go on with a new browser, as does every tool where there is a checkpoint; others would show an
    /// empty page as if nothing had happened.
    fn goes_on(&self) -> bool {
        self.tool.session == SessionUse::Creates || self.record.restorable
    }

    async fn with_retries(&mut self) -> Result<Reply, Failure> {
        // The lease whose daemon may have run the call already.
        let mut doubtful: Option<LeaseRef> = None;
        for _ in 0..ATTEMPTS {
            let lease = match self.leased().await {
                Err(failure) if failure.code == ErrorCode::BrowserGone && doubtful.is_some() => return Err(broken()),
                leased => leased?,
            };
            if doubtful.as_ref().is_some_and(|before| before.lease_id == lease.lease_id) {
                return Err(broken());
            }
            doubtful = None;
            match self.attempt(&lease).await {
                Ran::Ended(reply) => return self.ended(&lease, reply).await,
                Ran::Refused(failure, reply) => {
                    return self.ended(&lease, Reply { failure: Some(failure), ..reply }).await;
                }
                Ran::Broken(reply) => {
                    self.unreachable(&lease).await?;
                    return Ok(Reply { failure: Some(broken()), ..reply });
                }
                Ran::NotStarted(DaemonError::Refused(failure))
                    if matches!(failure.code, ErrorCode::LeaseLost | ErrorCode::BrowserOutOfMemory) =>
                {
                    self.lease_ended(&lease, failure).await?;
                }
                Ran::NotStarted(DaemonError::Refused(failure)) => return Err(failure),
                // Whether the browser is still there, the next acquisition tells.
                Ran::NotStarted(DaemonError::Unreachable) => self.unreachable(&lease).await?,
                Ran::NotStarted(DaemonError::Broken) => {
                    self.unreachable(&lease).await?;
                    doubtful = (self.tool.effect != Effect::Reads).then_some(lease);
                }
            }
        }
        Err(if doubtful.is_some() { broken() } else { Failure::unreachable() })
    }

    async fn unreachable(&mut self, lease: &LeaseRef) -> Result<(), Failure> {
        let loss = Loss::new(lease, LossReason::Unreachable);
        lease::forget(self.core, &mut self.record, lease, Some(loss)).await
    }

    /// The session's lease, once the agent knows of what was lost before.
    async fn leased(&mut self) -> Result<LeaseRef, Failure> {
        let untold = self.record.lease.lost.clone().filter(|_| self.record.lease.lease.is_none());
        if let Some(loss) = untold.as_ref().filter(|loss| !loss.reason.is_uncertain() && !self.goes_on()) {
            lease::told(self.core, &self.record).await?;
            return Err(lost(loss));
        }
        let may_move = self.goes_on();
        let waiting = lease::Waiting { progress: self.progress, access: self.access, tool: self.tool.name };
        let lease = lease::ensure(self.core, &mut self.record, waiting, self.deadline, may_move);
        let lease = lease.instrument(step!("ensure a lease")).await?;
        self.record.lease.lost = None;
        match untold {
            // The daemon still has it: nothing was lost.
            Some(loss) if loss.lease_id == lease.lease_id => {}
            Some(loss) if self.goes_on() => self.replaced = Some(loss),
            Some(loss) => return Err(lost(&loss)),
            None => {}
        }
        Ok(lease)
    }

    async fn attempt(&mut self, lease: &LeaseRef) -> Ran {
        let request =
            CallToolRequest { lease_id: lease.lease_id.clone(), token: lease.token.clone(), ..self.request.clone() };
        let started = Instant::now();
        let work = async {
            let events = match self.core.fleet.holder(lease).await {
                Ok(daemon) => daemon.call_tool(&self.record, request, self.deadline).await,
                Err(error) => Err(error),
            };
            match events {
                Ok(events) => {
                    collect(events, self.progress, self.core.config.secrets.mask_of(self.access).cloned()).await
                }
                Err(error) => Ran::NotStarted(error),
            }
        };
        let key = self.record.key();
        let step = step!("BrowserService/CallTool", otel.kind = "client", browserfleet.lease = lease.lease_id);
        let ran = while_alive(self.core, &key, self.record.idle_ttl, work.instrument(step)).await;
        if started.elapsed() > LONG_CALL {
            touch(self.core, &key).await;
        }
        ran
    }

    /// The run is over; a browser that ended with it is remembered as lost.
    async fn ended(&mut self, lease: &LeaseRef, reply: Reply) -> Result<Reply, Failure> {
        let reason = reply.failure.as_ref().and_then(|failure| match failure.code {
            ErrorCode::BrowserGone | ErrorCode::BrowserOutOfMemory => Some(LossReason::BrowserGone),
            ErrorCode::LeaseLost => Some(LossReason::LeaseEnded),
            _ => None,
        });
        if let Some(reason) = reason
            && let Err(failure) =
                lease::forget(self.core, &mut self.record, lease, Some(Loss::new(lease, reason))).await
        {
            tracing::warn!(%failure, "a lost lease stays in its session until the next call");
        }
        Ok(reply)
    }

    /// The daemon had ended the lease before the call: tell it now, or go on and tell it then.
    async fn lease_ended(&mut self, lease: &LeaseRef, why: Failure) -> Result<(), Failure> {
        let loss = Loss { detail: Some(why.message), ..Loss::new(lease, LossReason::LeaseEnded) };
        let tell_later = self.goes_on().then(|| loss.clone());
        lease::forget(self.core, &mut self.record, lease, tell_later).await?;
        let replaced_meanwhile = self.record.lease.lease.is_some();
        if self.goes_on() || replaced_meanwhile { Ok(()) } else { Err(Failure { code: why.code, ..lost(&loss) }) }
    }

    /// Adds what the agent must know about its session.
    fn tell(&self, reply: &mut Reply, handle: bool) {
        let mut lines = Vec::new();
        if let Some(loss) = &self.replaced {
            // Of what is restored the daemon tells.
            let with = if self.record.restorable { "" } else { " with its pages, cookies and storage" };
            lines.push(format!("- The previous browser was lost{with} ({}); this is a new one", loss.why()));
        }
        if handle {
            lines.push(format!("- session_id: {}", self.record.name.as_str()));
            lines.push("- Pass this session_id to later calls to use the same browser".to_owned());
            reply.tell(SESSION_ID, Value::String(self.record.name.as_str().to_owned()));
        }
        if !lines.is_empty() {
            reply.add_text("Session", &lines.join("\n"));
        }
    }
}

/// How much of the page is shown, as daemons hear it.
fn wire(mode: SnapshotMode) -> pb::SnapshotMode {
    match mode {
        SnapshotMode::None => pb::SnapshotMode::None,
        SnapshotMode::Diff => pb::SnapshotMode::Diff,
        SnapshotMode::Interactive => pb::SnapshotMode::Interactive,
        SnapshotMode::Full => pb::SnapshotMode::Full,
    }
}

fn lost(loss: &Loss) -> Failure {
    Failure::new(
        ErrorCode::LeaseLost,
        format!(
            "The browser of this session was lost with its pages, cookies and storage ({}). Use browser_navigate to go \
             on with a new browser.",
            loss.why()
        ),
    )
}

fn broken() -> Failure {
    Failure::new(
        ErrorCode::BrowserGone,
        "The connection to the browser broke during the call. It may or may not have taken effect: look at \
         the page before you repeat it.",
    )
}

/// Runs `work`, during which the session counts as used.
async fn while_alive<T>(core: &Arc<Core>, key: &Key, idle_ttl: Duration, work: impl Future<Output = T>) -> T {
    let period = (idle_ttl / 3).max(Duration::from_millis(1));
    let mut ticks = interval_at(Instant::now() + period, period);
    // Beside the work: a store that is slow does not hold it up.
    let keeping = async {
        loop {
            ticks.tick().await;
            touch(core, key).await;
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        never = keeping => never,
    }
}

async fn touch(core: &Arc<Core>, key: &Key) {
    if let Err(error) = core.sessions.touch(key).await {
        tracing::warn!(%error, "a session in use could not be prolonged");
    }
}

/// A session that nobody can name unless its call answers. When the call goes away instead, so does the session.
pub(super) struct Orphan(Option<Nameless>);

struct Nameless {
    core: Arc<Core>,
    key: Key,
}

impl Orphan {
    /// Of a session that its call mints; others have names that somebody knows.
    pub(super) fn of(core: &Arc<Core>, caller: &Caller, choice: &Choice) -> Option<Self> {
        let Choice::Minted(name) = choice else { return None };
        let key = Key { principal: caller.principal.clone(), name: name.clone() };
        Some(Self(Some(Nameless { core: Arc::clone(core), key })))
    }

    pub(super) fn adopted(mut self) {
        self.0 = None;
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let Some(Nameless { core, key }) = self.0.take() else { return };
        core.tasks.clone().spawn("end orphaned session", async move {
            if let Err(failure) = core.end_session(&key, None).await {
                tracing::warn!(%failure, "a session nobody can name stays until it expires");
            }
        });
    }
}
