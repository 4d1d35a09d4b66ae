//! When a lease's checkpoint is read and kept, and when one is put back.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use browserfleet_common::{
    checkpoint::Checkpoints,
    error_code::ErrorCode,
    ids::{Principal, SessionName},
    lifecycle::Tasks,
    session::{Key, Owner},
};
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep, sleep_until, timeout},
};

use super::{Config, Restored, capture::capture, content::Content, restore::restore};
use crate::pool::{Leased, Refusal};

/// Most time for the store to answer.
const STORE: Duration = Duration::from_secs(5);

/// After a call's answer, until its session is looked at: whoever calls again at once is not in the way then. Short, because
/// the call after it may leave the site.
const SHORTLY: Duration = Duration::from_millis(50);

/// After a call has come between, until the next try.
const AGAIN: Duration = Duration::from_millis(200);

/// Pages do things by themselves: after a call the session is looked at once more, so much later.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// Most time for one page to say what it keeps, when it will be asked again soon.
const READING: Duration = Duration::from_millis(500);

/// The same when nobody will ask it again: on a busy machine pages take their time, and what is not heard is lost.
const LAST_READING: Duration = Duration::from_secs(5);

/// Calls that come without a pause put a checkpoint off for so many intervals; then it takes its turn among them.
const OVERDUE: u32 = 10;

/// Most time for restoring; and never more than half of what its call has left.
const RESTORING: Duration = Duration::from_secs(20);

/// The tool whose call leaves the current tab's page at once.
const LEAVING: &str = "browser_navigate";

/// Keeps checkpoints of leases. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keeper {
    checkpoints: Checkpoints,
    config: Config,
    tasks: Tasks,
}

/// How far a lease is with its session's checkpoint.
#[derive(Debug, Default)]
pub struct Kept {
    /// The session's checkpoint, if there was one, has been put back.
    begun: AtomicBool,
    /// Rises with every call that may have changed something.
    acted: watch::Sender<u64>,
    /// What was kept last, or put back.
    last: Mutex<Last>,
    /// What was put back, until somebody has been told.
    untold: Mutex<Option<Restored>>,
}

#[derive(Debug, Default)]
struct Last {
    content: Content,
    /// Of what the store has.
    digest: Option<u64>,
}

impl Kept {
    /// Whether something of the session outlives its browser.
    pub fn is_kept(&self) -> bool {
        lock(&self.last).digest.is_some()
    }

    /// The store has lost what it had of the session: it is kept again, whether it changes or not.
    pub fn lost(&self) {
        lock(&self.last).digest = None;
        self.acted.send_modify(|acted| *acted += 1);
    }

    /// What was put back; only the first who asks hears of it.
    pub fn take_restored(&self) -> Option<Restored> {
        lock(&self.untold).take()
    }
}

impl Keeper {
    pub fn new(checkpoints: Checkpoints, config: Config, tasks: Tasks) -> Self {
        Self { checkpoints, config, tasks }
    }

    /// To be called in turn, before a call works in its pages: the first one of a lease restores its session, if there is
    /// something to restore, and has it kept from then on.
    ///
    /// # Errors
    /// When nobody knows whether there is: the store does not answer. Nothing has been done; trying again may help.
    pub async fn begin(&self, leased: &Arc<Leased>, tool: &str, deadline: Instant) -> Result<(), Refusal> {
        if leased.kept.begun.load(Ordering::Acquire) {
            return Ok(());
        }
        let Some(owner) = owner_of(leased) else { return Ok(()) };
        let loading = timeout(STORE, self.checkpoints.load(&owner)).await;
        let loaded =
            loading.map_err(|_elapsed| silent()).and_then(|loaded| loaded.map_err(|error| unanswered(&error)))?;
        leased.kept.begun.store(true, Ordering::Release);
        if let Some(content) = loaded.as_deref().and_then(Content::decoded) {
            let now = Instant::now();
            let time = deadline.saturating_duration_since(now) / 2;
            let restored = restore(&leased.workspace, &content, tool == LEAVING, now + time.min(RESTORING)).await;
            tracing::info!(
                lease = leased.lease_id,
                tabs = restored.tabs.len(),
                cookies = restored.cookies,
                origins = restored.origins.len(),
                ms = u64::try_from(now.elapsed().as_millis()).unwrap_or(u64::MAX),
                "session restored"
            );
            *lock(&leased.kept.untold) = (!content.is_blank()).then_some(restored);
            *lock(&leased.kept.last) = Last { content, digest: loaded.as_deref().map(digest) };
            self.acted(leased);
        }
        self.tasks.spawn("checkpoint.keep", self.clone().keep(Arc::clone(leased), owner));
        Ok(())
    }

    /// A call that may have changed something has been answered.
    pub fn acted(&self, leased: &Leased) {
        leased.kept.acted.send_modify(|acted| *acted += 1);
    }

    /// Keeps a lease's checkpoint until the lease ends.
    async fn keep(self, leased: Arc<Leased>, owner: Owner) {
        let mut acted = leased.kept.acted.subscribe();
        if *acted.borrow() > 0 {
            acted.mark_changed();
        }
        let keeping = async {
            let mut next = Instant::now();
            // The sender is the lease's own.
            while acted.changed().await.is_ok() {
                sleep_until(next.max(Instant::now() + SHORTLY)).await;
                acted.mark_unchanged();
                next = Instant::now() + self.config.interval;
                self.keep_once(&leased, &owner).await;
                if timeout(AFTERWARDS, acted.changed()).await.is_ok() {
                    acted.mark_changed();
                } else {
                    self.keep_once(&leased, &owner).await;
                }
            }
        };
        tokio::select! {
            () = keeping => {}
            () = leased.ended().cancelled() => {}
        }
    }

    /// Reads a checkpoint when no call is in the way, and keeps it.
    async fn keep_once(&self, leased: &Leased, owner: &Owner) {
        let content = match timeout(OVERDUE * self.config.interval, between_calls(leased)).await {
            Ok(content) => content,
            Err(_elapsed) => {
                let _turn = leased.workspace.turn().await;
                read(leased, READING).await
            }
        };
        if let Some(content) = content
            && let Err(error) = self.save(leased, owner, content).await
        {
            tracing::warn!(lease = leased.lease_id, error, "a checkpoint was not kept; the next one will be tried");
        }
    }

    /// Keeps a checkpoint that differs from the last one. Answers whether the session is still this lease's.
    async fn save(&self, leased: &Leased, owner: &Owner, content: Content) -> Result<bool, String> {
        let bytes = content.clone().encoded();
        let digest = digest(&bytes);
        if lock(&leased.kept.last).digest == Some(digest) {
            return Ok(true);
        }
        let saving = timeout(STORE, self.checkpoints.save(owner, &leased.lease_id, &bytes)).await;
        let saved = saving.map_err(|_elapsed| silent().message)?.map_err(|error| error.to_string())?;
        if saved {
            *lock(&leased.kept.last) = Last { content, digest: Some(digest) };
        }
        Ok(saved)
    }

    /// Keeps what there is now, while the caller has the turn.
    ///
    /// # Errors
    /// When it is not kept.
    pub(super) async fn keep_now(&self, leased: &Leased) -> Result<(), String> {
        // A lease without a call has nothing to keep: what its session had before is in the store still.
        if !leased.kept.begun.load(Ordering::Acquire) {
            return Ok(());
        }
        let Some(owner) = owner_of(leased) else { return Ok(()) };
        let content = read(leased, LAST_READING).await.ok_or("the browser does not answer")?;
        // Nobody keeps it again after this: a store that failed over may have lost what it had.
        lock(&leased.kept.last).digest = None;
        self.save(leased, &owner, content).await.map(drop)
    }
}

/// Reads a checkpoint while no call wants the pages; starts again when one came in between.
async fn between_calls(leased: &Leased) -> Option<Content> {
    loop {
        leased.workspace.quiet().await;
        let turn = leased.workspace.turn().await;
        tokio::select! {
            biased;
            content = read(leased, READING) => return content,
            () = leased.workspace.wanted() => {}
        }
        drop(turn);
        sleep(AGAIN).await;
    }
}

async fn read(leased: &Leased, time: Duration) -> Option<Content> {
    let last = lock(&leased.kept.last).content.clone();
    let read = capture(&leased.workspace, &last, time).await;
    read.inspect_err(|failure| tracing::debug!(%failure, "a checkpoint could not be read")).ok()
}

/// As whose a lease's checkpoint is kept. A session whose name could be none is in no store.
fn owner_of(leased: &Leased) -> Option<Owner> {
    let name = SessionName::parse(&leased.key.session).ok()?;
    let key = Key { principal: Principal::named(&leased.key.principal), name };
    Some(Owner { key, birth: leased.key.birth.clone() })
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn silent() -> Refusal {
    unanswered(&"it did not answer in time")
}

fn unanswered(error: &impl std::fmt::Display) -> Refusal {
    let message = format!("what is kept of this session cannot be read: {error}. Nothing was done; try again");
    Refusal::retry(ErrorCode::StoreUnavailable, message, Duration::from_secs(1))
}

/// Plain data behind a short lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
