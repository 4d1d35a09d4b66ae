//! What happens: one task owns the pool's state, feeds it events and carries out its actions.
//!
//! Page work never runs here, and nothing here waits for a browser: launches, endings and watches are tasks of their own
//! that report back as events.

use std::{collections::HashMap, sync::Arc, time::Duration};

use browserfleet_common::{ids, lifecycle::Tasks};
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{
    Browser, Launcher,
    handle::{Caller, Command, Handle, Identity, Listed, Place},
    lease::{Leased, Registry},
    model::{Action, Event, LeaseRef, Limits, Ticket},
    state::State,
};

/// Questions that may wait for the driver. It answers each in microseconds; this only absorbs bursts.
const COMMANDS: usize = 256;

/// What tasks report back.
#[derive(Debug)]
enum Report {
    Launched { slot: usize, generation: u64, browser: Arc<Browser> },
    LaunchFailed { slot: usize, generation: u64, reason: String },
    Died { slot: usize, generation: u64, reason: String },
    Ended { slot: usize, generation: u64 },
}

/// The task's own data.
pub struct Driver {
    state: State,
    launcher: Arc<dyn Launcher>,
    tasks: Tasks,
    identity: Arc<Identity>,
    registry: Arc<Registry>,
    browsers: HashMap<usize, Arc<Browser>>,
    callers: HashMap<Ticket, Caller>,
    next_ticket: u64,
    /// Resolves with the ticket of a caller that went away.
    departures: FuturesUnordered<BoxFuture<'static, Ticket>>,
    commands: mpsc::Receiver<Command>,
    reports: mpsc::Receiver<Report>,
    reporter: mpsc::Sender<Report>,
    counts: watch::Sender<super::model::Counts>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("counts", &self.state.counts()).finish_non_exhaustive()
    }
}

/// Starts the pool. Its driver runs as a task of `tasks` until a drain has finished.
pub fn start(limits: Limits, pool_id: String, launcher: Arc<dyn Launcher>, tasks: &Tasks) -> Handle {
    let (command_sender, commands) = mpsc::channel(COMMANDS);
    // Each slot has at most a launch, a death and an ending under way.
    let (reporter, reports) = mpsc::channel(3 * limits.max_browsers);
    let (counts, counts_watch) = watch::channel(super::model::Counts::default());
    let identity = Arc::new(Identity { pool_id, incarnation: ids::random_hex() });
    let registry = Arc::new(Registry::default());
    let handle = Handle {
        commands: command_sender,
        registry: Arc::clone(&registry),
        counts: counts_watch,
        identity: Arc::clone(&identity),
        started: Instant::now(),
        max_browsers: limits.max_browsers,
    };
    let driver = Driver {
        state: State::new(limits),
        launcher,
        tasks: tasks.clone(),
        identity,
        registry,
        browsers: HashMap::new(),
        callers: HashMap::new(),
        next_ticket: 1,
        departures: FuturesUnordered::new(),
        commands,
        reports,
        reporter,
        counts,
    };
    tasks.spawn("pool.driver", driver.run());
    handle
}

impl Driver {
    async fn run(mut self) {
        self.step(Event::Tick);
        while !self.state.is_drained() {
            let deadline = self.state.next_deadline();
            tokio::select! {
                // Facts before questions: an answer should know that a browser has just died.
                biased;
                Some(report) = self.reports.recv() => self.report(report),
                Some(ticket) = self.departures.next() => self.depart(ticket),
                Some(command) = self.commands.recv() => self.command(command),
                () = at(deadline) => {
                    self.note_activity();
                    self.step(Event::Tick);
                }
            }
        }
        tracing::info!("pool drained");
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Launched { slot, generation, browser } => {
                self.watch(slot, generation, &browser);
                self.browsers.insert(slot, browser);
                self.step(Event::Launched { slot, generation });
            }
            Report::LaunchFailed { slot, generation, reason } => {
                tracing::warn!(slot, generation, reason, "browser did not start");
                self.step(Event::LaunchFailed { slot, generation, reason });
            }
            Report::Died { slot, generation, reason } => self.step(Event::Died { slot, generation, reason }),
            Report::Ended { slot, generation } => {
                self.browsers.remove(&slot);
                self.step(Event::Ended { slot, generation });
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Acquire { key, ttl, deadline, caller } => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                let gone = caller.gone.clone();
                self.departures.push(Box::pin(async move {
                    gone.cancelled().await;
                    ticket
                }));
                self.callers.insert(ticket, caller);
                self.step(Event::Acquire { ticket, key, ttl, deadline });
            }
            Command::Renew { at, ttl, reply } => {
                self.step(Event::Renew { lease: at, ttl });
                let left = self.state.lease(at).map(|lease| self.left(lease));
                // A caller that went away needs no answer, here and below.
                let _caller_gone = reply.send(left);
            }
            Command::Release { at, reply } => {
                self.step(Event::Release { lease: at });
                let _caller_gone = reply.send(());
            }
            Command::List { reply } => {
                self.note_activity();
                let _caller_gone = reply.send(self.list());
            }
            Command::Drain { deadline, reply } => {
                let running = self.state.counts().leased;
                self.step(Event::Drain { deadline });
                let _caller_gone = reply.send(running);
            }
        }
    }

    fn depart(&mut self, ticket: Ticket) {
        if self.callers.remove(&ticket).is_some() {
            self.step(Event::Abandon { ticket });
        }
    }

    /// Tells the state which leases were used; calls themselves never disturb the driver.
    fn note_activity(&mut self) {
        for leased in self.registry.all() {
            if let Some(at) = leased.last_used() {
                let actions = self.state.on(Event::Used { lease: leased.at, at }, Instant::now());
                self.carry_out(actions);
            }
        }
    }

    fn step(&mut self, event: Event) {
        let actions = self.state.on(event, Instant::now());
        self.carry_out(actions);
        self.counts.send_if_modified(|counts| {
            let now = self.state.counts();
            std::mem::replace(counts, now) != now
        });
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Launch { slot, generation } => self.launch(slot, generation),
                Action::End { slot, generation } => self.end(slot, generation),
                Action::Grant { ticket, lease } => self.grant(ticket, lease),
                Action::Refuse { ticket, refusal } => {
                    if let Some(caller) = self.callers.remove(&ticket) {
                        let _caller_gone = caller.outcome.send(Err(refusal));
                    }
                }
                Action::Queued { ticket, position, depth } => {
                    if let Some(caller) = self.callers.get(&ticket) {
                        caller.place.send_replace(Place { position, depth });
                    }
                }
                Action::Revoke { lease, reason } => self.revoke(lease, &reason),
            }
        }
    }

    fn launch(&self, slot: usize, generation: u64) {
        let (launcher, reporter) = (Arc::clone(&self.launcher), self.reporter.clone());
        self.tasks.spawn("pool.launch", async move {
            let report = match launcher.launch(slot).await {
                Ok(browser) => Report::Launched { slot, generation, browser },
                Err(error) => Report::LaunchFailed { slot, generation, reason: error.to_string() },
            };
            // Nobody listens any more only when the driver is gone, and then nobody may keep a browser.
            if let Err(mpsc::error::SendError(Report::Launched { browser, .. })) = reporter.send(report).await {
                browser.tree.end().await;
            }
        });
    }

    fn watch(&self, slot: usize, generation: u64, browser: &Arc<Browser>) {
        let (browser, reporter) = (Arc::clone(browser), self.reporter.clone());
        self.tasks.spawn("pool.watch", async move {
            let reason = browser.died().await.reason;
            // The driver being gone means that the browser was ended on purpose.
            let _driver_gone = reporter.send(Report::Died { slot, generation, reason }).await;
        });
    }

    fn end(&self, slot: usize, generation: u64) {
        let Some(browser) = self.browsers.get(&slot).cloned() else {
            debug_assert!(false, "a slot that is ended has a browser");
            return;
        };
        let reporter = self.reporter.clone();
        self.tasks.spawn("pool.end", async move {
            let left = browser.tree.end().await;
            if left > 0 {
                // The slot stays taken: its user id may still run something. Better one browser less than a shared one.
                tracing::error!(slot, left, pid = browser.tree.pid(), "processes of a browser could not be ended");
                return;
            }
            let _driver_gone = reporter.send(Report::Ended { slot, generation }).await;
        });
    }

    fn grant(&mut self, ticket: Ticket, at: LeaseRef) {
        let leased = self.registry.at(at).or_else(|| self.new_lease(at));
        let (Some(caller), Some(leased)) = (self.callers.remove(&ticket), leased) else {
            debug_assert!(false, "a granted ticket has a caller and a browser");
            return;
        };
        // A caller that left a moment ago leaves a lease that stays unbound and is taken back soon. Ending it here could
        // take it from another front end that asked for the same session.
        let _caller_gone = caller.outcome.send(Ok(leased));
    }

    fn new_lease(&self, at: LeaseRef) -> Option<Arc<Leased>> {
        let key = self.state.lease(at)?.key.clone();
        let browser = Arc::clone(self.browsers.get(&at.slot)?);
        let ready = browser.take_ready()?;
        let Identity { pool_id, incarnation } = &*self.identity;
        let token = format!("{pool_id}/{incarnation}/{}/{}", at.slot, at.generation);
        let lease_id = uuid::Uuid::new_v4().to_string();
        tracing::info!(
            lease = lease_id,
            slot = at.slot,
            principal = ids::digest(&key.principal),
            session = ids::digest(&key.session),
            "lease granted"
        );
        let leased = Arc::new(Leased::new(lease_id, token, at, key, browser, ready));
        self.registry.insert(Arc::clone(&leased));
        Some(leased)
    }

    fn revoke(&self, at: LeaseRef, reason: &str) {
        if let Some(leased) = self.registry.at(at) {
            self.registry.remove(&leased.lease_id, reason);
            leased.end(reason);
            tracing::info!(lease = leased.lease_id, slot = at.slot, reason, "lease ended");
        }
    }

    fn list(&self) -> Vec<Listed> {
        let now = Instant::now();
        self.state
            .leases()
            .filter_map(|(at, lease)| {
                Some(Listed {
                    leased: self.registry.at(at)?,
                    bound: lease.bound,
                    age: now.duration_since(lease.granted),
                    idle: now.duration_since(lease.used),
                    expires_in: self.left(lease),
                })
            })
            .collect()
    }

    fn left(&self, lease: &super::model::Lease) -> Duration {
        lease.expires(self.state.limits()).duration_since(Instant::now())
    }
}

/// Sleeps until the deadline; for ever when there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
