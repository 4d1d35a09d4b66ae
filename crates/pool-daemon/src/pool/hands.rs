//! The driver's hands: each of its state's actions, carried out. What takes time is a task that reports back.

use std::{panic::AssertUnwindSafe, sync::Arc};

use browserfleet_common::{error_code::ErrorCode, lifecycle::panic_text, metrics::metrics};
use futures_util::FutureExt as _;
use tokio::{
    sync::mpsc::error::SendError,
    time::{Duration, Instant},
};

use super::{
    audit::INVARIANTS,
    browser::{Browser, Death, Ready},
    driver::{Driver, Opening, Report},
    handle::Place,
    lease::Leased,
    model::{BrowserRef, Event, LeaseRef, Refusal, Ticket, Violation},
};
use crate::page::Context;

/// Most time for opening a context with a page in a browser that is shared.
const OPEN: Duration = Duration::from_secs(10);
/// Most time for closing one.
const CLOSE: Duration = Duration::from_secs(5);
/// What browsers die of.
pub(super) const DEATHS: [ErrorCode; 3] = [ErrorCode::BrowserGone, ErrorCode::BrowserOutOfMemory, ErrorCode::Internal];
/// Why callers get no browser; those whose browser dies while it is made ready get its reason.
pub(super) const REFUSALS: [ErrorCode; 8] = [
    ErrorCode::PoolFull,
    ErrorCode::QueueTimeout,
    ErrorCode::QuotaExceeded,
    ErrorCode::Draining,
    ErrorCode::LeaseLost,
    ErrorCode::BrowserGone,
    ErrorCode::BrowserOutOfMemory,
    ErrorCode::Internal,
];

impl Driver {
    pub(super) fn launch(&self, at: BrowserRef) {
        let (launcher, reporter) = (Arc::clone(&self.launcher), self.reporter.clone());
        self.tasks.spawn("pool.launch", async move {
            let begun = Instant::now();
            let outcome = guarded(launcher.launch(at.slot)).await;
            let how = if matches!(outcome, Ok(Ok(_))) { "ok" } else { "failed" };
            metrics().launch_seconds.observe(how, begun.elapsed());
            let report = match outcome.and_then(|outcome| outcome.map_err(|error| error.to_string())) {
                Ok(browser) => Report::Launched { at, browser },
                Err(reason) => Report::LaunchFailed { at, reason },
            };
            // Nobody listens any more only when the driver is gone, and then nobody may keep a browser.
            if let Err(SendError(Report::Launched { browser, .. })) = reporter.send(report).await {
                browser.tree.end().await;
            }
        });
    }

    /// Waits beside the browser for its death.
    pub(super) fn watch(&self, at: BrowserRef, browser: &Arc<Browser>) {
        let (browser, reporter) = (Arc::clone(browser), self.reporter.clone());
        self.tasks.spawn("pool.watch", async move {
            let watched = guarded(browser.died()).await;
            let death = watched.unwrap_or_else(|reason| Death { code: ErrorCode::Internal, reason });
            // The driver being gone means that the browser was ended on purpose.
            let _driver_gone = reporter.send(Report::Died { at, death }).await;
        });
    }

    pub(super) fn end(&self, at: BrowserRef) {
        let Some(browser) = self.browsers.get(&at).cloned() else {
            debug_assert!(false, "a browser that is ended has been started");
            return;
        };
        let reporter = self.reporter.clone();
        self.tasks.spawn("pool.end", async move {
            let left = guarded(browser.tree.end()).await;
            let report = match left {
                Ok(0) => Report::Ended { at },
                // The slot stays taken: its user id may still run something. Better one browser less than a shared one.
                left => {
                    tracing::error!(slot = at.slot, ?left, pid = browser.tree.pid(), "a browser could not be ended");
                    Report::EndFailed { at }
                }
            };
            let _driver_gone = reporter.send(report).await;
        });
    }

    /// Gives a lease to the callers who are still there. Answers what has to happen when it reaches nobody.
    pub(super) fn grant(&mut self, at: LeaseRef, mut tickets: Vec<Ticket>) -> Option<Event> {
        if let Some(opening) = self.opening.get_mut(&at) {
            opening.callers.append(&mut tickets);
            return None;
        }
        if let Some(leased) = self.registry.at(at) {
            self.deliver(&leased, tickets);
            return None;
        }
        let browser = self.browsers.get(&at.browser)?;
        if !tickets.iter().any(|ticket| self.callers.get(ticket).is_some_and(|caller| !caller.outcome.is_closed())) {
            // Nobody knows of this lease, and nothing has touched its browser: the next one may have it.
            return Some(Event::Undelivered { lease: at });
        }
        if let Some(ready) = browser.take_ready() {
            let leased = self.register(at, ready, &tickets)?;
            return (!self.deliver(&leased, tickets)).then_some(Event::Release { lease: at });
        }
        self.open(at, Arc::clone(browser), tickets);
        None
    }

    /// Sends a lease to its callers. Answers whether it has reached anybody.
    fn deliver(&mut self, leased: &Arc<Leased>, tickets: Vec<Ticket>) -> bool {
        let mut reached = false;
        for ticket in tickets {
            let Some(caller) = self.callers.remove(&ticket) else { continue };
            metrics().grant_seconds.observe(self.kind(), caller.asked.elapsed());
            reached |= caller.outcome.send(Ok(Arc::clone(leased))).is_ok();
        }
        reached
    }

    /// Opens a context of its own for a lease in a browser that serves others already.
    fn open(&mut self, at: LeaseRef, browser: Arc<Browser>, callers: Vec<Ticket>) {
        self.opening.insert(at, Opening { callers, ended: false });
        let reporter = self.reporter.clone();
        self.tasks.spawn("pool.open", async move {
            let opened = guarded(Box::pin(open_place(&browser))).await.flatten();
            let report = match opened {
                Ok(ready) => Report::Opened { lease: at, ready },
                Err(reason) => Report::OpenFailed { lease: at, reason },
            };
            let _driver_gone = reporter.send(report).await;
        });
    }

    pub(super) fn opened(&mut self, at: LeaseRef, ready: Ready) {
        let opening = self.opening.remove(&at).unwrap_or_default();
        if opening.ended {
            self.dispose(at.browser, ready.context);
        } else if let Some(leased) = self.register(at, ready, &opening.callers)
            && !self.deliver(&leased, opening.callers)
        {
            self.step(Event::Release { lease: at });
        }
    }

    pub(super) fn open_failed(&mut self, at: LeaseRef, reason: String) {
        let opening = self.opening.remove(&at).unwrap_or_default();
        if opening.ended {
            self.step(Event::CloseFailed { at: at.browser });
            return;
        }
        for ticket in opening.callers {
            let message = format!("the browser could not open a page: {reason}");
            self.refuse(ticket, Refusal::retry(ErrorCode::BrowserGone, message, Duration::from_secs(1)));
        }
        self.step(Event::OpenFailed { lease: at, reason });
    }

    pub(super) fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        let code = refusal.code;
        debug_assert!(REFUSALS.contains(&code), "{code} is not among the codes that alerts can see the first of");
        metrics().refusals.add(code.name());
        if let Some(caller) = self.callers.remove(&ticket) {
            let _caller_gone = caller.outcome.send(Err(refusal));
        }
    }

    pub(super) fn tell(&self, ticket: Ticket, position: usize, depth: usize) {
        if let Some(caller) = self.callers.get(&ticket) {
            caller.place.send_replace(Place { position, depth });
        }
    }

    pub(super) fn revoke(&mut self, at: LeaseRef, death: &Death) {
        let Some(leased) = self.registry.at(at) else {
            // Its context is still being opened: whoever waits for it gets the reason.
            let opening = self.opening.get_mut(&at);
            for ticket in opening.map(|opening| std::mem::take(&mut opening.callers)).unwrap_or_default() {
                self.refuse(ticket, Refusal::new(death.code, death.reason.clone()));
            }
            return;
        };
        self.registry.remove(&leased.lease_id, death);
        leased.end(death);
        tracing::info!(lease = leased.lease_id, slot = at.browser.slot, reason = death.reason, "lease ended");
        // Its context is closed by the action that follows, unless the whole browser ends.
        if self.limits.contexts_per_browser > 1 {
            self.ended.insert(at, leased);
        }
    }

    /// Closes what an ended lease had of its browser.
    pub(super) fn close(&mut self, at: LeaseRef) {
        if let Some(opening) = self.opening.get_mut(&at) {
            opening.ended = true;
        } else if let Some(leased) = self.ended.remove(&at) {
            self.dispose(at.browser, leased.workspace.context().clone());
        }
    }

    fn dispose(&self, at: BrowserRef, context: Context) {
        let reporter = self.reporter.clone();
        self.tasks.spawn("pool.close", async move {
            let disposed = guarded(context.dispose(Instant::now() + CLOSE)).await;
            let report = match disposed {
                Ok(Ok(())) => Report::Closed { at },
                failed => {
                    tracing::warn!(slot = at.slot, ?failed, "a browser context could not be closed");
                    Report::CloseFailed { at }
                }
            };
            let _driver_gone = reporter.send(report).await;
        });
    }
}

/// Shows that nothing has happened so far: alerts see the first event of a kind only as a rise.
pub(super) fn report_none() {
    for invariant in INVARIANTS {
        metrics().invariant_violations.begin(invariant);
    }
    for code in DEATHS {
        metrics().deaths.begin(code.name());
    }
    for code in REFUSALS {
        metrics().refusals.begin(code.name());
    }
}

/// Counts a browser that died.
pub(super) fn report_death(at: BrowserRef, death: &Death) {
    let Death { code, reason } = death;
    debug_assert!(DEATHS.contains(code), "{code} is not among the codes that alerts can see the first of");
    metrics().deaths.add(code.name());
    tracing::warn!(slot = at.slot, code = code.name(), reason, "browser died");
}

/// A defect of ours that has cost a slot, and nothing else: operators are to hear of it.
pub(super) fn report(violation: &Violation) {
    let Violation { invariant, slot, what } = violation;
    debug_assert!(INVARIANTS.contains(invariant), "{invariant} is not among those that alerts can see the first of");
    metrics().invariant_violations.add(*invariant);
    tracing::error!(
        invariant,
        ?slot,
        what,
        "the pool has broken an invariant; its slot, if it is one's, is taken out of use"
    );
}

/// A context of its own in a browser that runs, with a page that is ready.
async fn open_place(browser: &Browser) -> Result<Ready, String> {
    let deadline = Instant::now() + OPEN;
    let gate = browser.tree.gate().await?;
    let downloads = browser.tree.downloads();
    let context = Context::create(&browser.connection, &browser.tasks, gate, downloads, deadline)
        .await
        .map_err(|error| error.message)?;
    match context.open_page(deadline).await {
        Ok(page) => Ok(Ready { context, page }),
        Err(error) => {
            // The browser is retired anyway; its end takes the context along.
            let _left = context.dispose(deadline).await;
            Err(error.message)
        }
    }
}

/// Runs the work of a task to its end; a panic in it becomes an error, so that its report is never missing.
async fn guarded<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|payload| {
        let panic = panic_text(payload.as_ref()).to_owned();
        tracing::error!(panic, "work of the pool panicked");
        format!("it failed inside: {panic}")
    })
}
