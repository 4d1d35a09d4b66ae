//! What happens: one task owns the pool's state, feeds it events and has its actions carried out ([`super::hands`]).
//!
//! Page work never runs here, and nothing here waits for a browser: launches, openings, endings and watches are tasks of
//! their own that report back as events.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use browserfleet_common::{egress::EgressRules, ids, lifecycle::Tasks, metrics::metrics};
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    Launcher,
    browser::{Browser, Death, Ready},
    handle::{Caller, Command, Handle, Identity, Listed},
    hands,
    lease::{Leased, Registry},
    model::{Action, BrowserRef, Counts, Event, LeaseRef, Limits, Pressure, Term, Ticket},
    state::State,
};

/// Questions that may wait for the driver. It answers each in microseconds; this only absorbs bursts.
const COMMANDS: usize = 256;

/// How often metrics show what changes without an event.
const MEASURED: Duration = Duration::from_secs(5);

/// What tasks report back.
#[derive(Debug)]
pub(super) enum Report {
    Launched { at: BrowserRef, browser: Arc<Browser> },
    LaunchFailed { at: BrowserRef, reason: String },
    Opened { lease: LeaseRef, ready: Ready },
    OpenFailed { lease: LeaseRef, reason: String },
    Closed { at: BrowserRef },
    CloseFailed { at: BrowserRef },
    Died { at: BrowserRef, death: Death },
    Ended { at: BrowserRef },
    EndFailed { at: BrowserRef },
}

/// The callers of a lease whose browser context is being opened.
#[derive(Debug, Default)]
pub(super) struct Opening {
    pub(super) callers: Vec<Ticket>,
    /// The lease has ended meanwhile: the context is closed as soon as it is there.
    pub(super) ended: bool,
}

/// The task's own data.
pub struct Driver {
    pub(super) state: State,
    pub(super) limits: Arc<Limits>,
    pub(super) launcher: Arc<dyn Launcher>,
    pub(super) tasks: Tasks,
    pub(super) identity: Arc<Identity>,
    pub(super) registry: Arc<Registry>,
    pub(super) browsers: HashMap<BrowserRef, Arc<Browser>>,
    pub(super) callers: HashMap<Ticket, Caller>,
    pub(super) opening: HashMap<LeaseRef, Opening>,
    /// Leases that have just ended, until their contexts are closed or their browsers ended. Empty between two steps.
    pub(super) ended: HashMap<LeaseRef, Arc<Leased>>,
    next_ticket: u64,
    /// Resolves with the ticket of a caller that went away.
    departures: FuturesUnordered<BoxFuture<'static, Ticket>>,
    commands: mpsc::Receiver<Command>,
    reports: mpsc::Receiver<Report>,
    pub(super) reporter: mpsc::Sender<Report>,
    pressure: watch::Receiver<Pressure>,
    counts: watch::Sender<Counts>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("counts", &self.state.counts()).finish_non_exhaustive()
    }
}

/// Starts the pool. Its driver runs as a task of `tasks` until a drain has finished.
pub fn start(
    limits: Limits,
    pool_id: String,
    launcher: Arc<dyn Launcher>,
    pressure: watch::Receiver<Pressure>,
    tasks: &Tasks,
) -> Handle {
    let (driver, handle) = Driver::new(limits, pool_id, launcher, pressure, tasks);
    tasks.spawn("pool.driver", driver.run());
    handle
}

impl Driver {
    fn new(
        limits: Limits,
        pool_id: String,
        launcher: Arc<dyn Launcher>,
        pressure: watch::Receiver<Pressure>,
        tasks: &Tasks,
    ) -> (Self, Handle) {
        hands::report_none();
        let (command_sender, commands) = mpsc::channel(COMMANDS);
        // Each browser has at most a launch, a death and an ending under way, and each of its contexts an opening or a closing.
        let (reporter, reports) = mpsc::channel((3 + limits.most_contexts()) * limits.max_browsers);
        let (counts, counts_watch) = watch::channel(Counts::default());
        let identity = Arc::new(Identity { pool_id, incarnation: ids::random_hex() });
        let registry = Arc::new(Registry::default());
        let limits = Arc::new(limits);
        let handle = Handle {
            commands: command_sender,
            registry: Arc::clone(&registry),
            counts: counts_watch,
            identity: Arc::clone(&identity),
            started: Instant::now(),
            limits: Arc::clone(&limits),
        };
        let driver = Self {
            state: State::new(Limits::clone(&limits)),
            limits,
            launcher,
            tasks: tasks.clone(),
            identity,
            registry,
            browsers: HashMap::new(),
            callers: HashMap::new(),
            opening: HashMap::new(),
            ended: HashMap::new(),
            next_ticket: 1,
            departures: FuturesUnordered::new(),
            commands,
            reports,
            reporter,
            pressure,
            counts,
        };
        (driver, handle)
    }

    async fn run(mut self) {
        self.step(Event::Tick);
        let (mut watches_pressure, mut measures) = (true, interval(MEASURED));
        measures.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.state.is_drained() {
            let deadline = self.state.next_deadline(Instant::now());
            tokio::select! {
                // Facts before questions: an answer should know that a browser has just died.
                biased;
                Some(report) = self.reports.recv() => self.report(report),
                Some(ticket) = self.departures.next() => self.depart(ticket),
                changed = self.pressure.changed(), if watches_pressure => {
                    watches_pressure = changed.is_ok();
                    let pressure = self.pressure.borrow_and_update().clone();
                    self.step(Event::Pressure(pressure));
                }
                Some(command) = self.commands.recv() => self.command(command),
                () = at(deadline) => {
                    self.note_activity();
                    self.step(Event::Tick);
                }
                _ = measures.tick() => self.measure(),
            }
        }
        tracing::info!("pool drained");
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Launched { at, browser } => {
                metrics().launches.add("ok");
                self.watch(at, &browser);
                self.browsers.insert(at, browser);
                self.step(Event::Launched { at });
            }
            Report::LaunchFailed { at, reason } => {
                metrics().launches.add("failed");
                tracing::warn!(slot = at.slot, generation = at.generation, reason, "browser did not start");
                self.step(Event::LaunchFailed { at, reason });
            }
            Report::Opened { lease, ready } => self.opened(lease, ready),
            Report::OpenFailed { lease, reason } => self.open_failed(lease, reason),
            Report::Closed { at } => {
                let memory = self.browsers.get(&at).map_or(0, |browser| browser.tree.memory());
                self.step(Event::Closed { at, memory });
            }
            Report::CloseFailed { at } => self.step(Event::CloseFailed { at }),
            Report::Died { at, death } => {
                if self.state.is_running(at) {
                    hands::report_death(at, &death);
                }
                self.step(Event::Died { at, death });
            }
            Report::Ended { at } => {
                metrics().ends.add("gone");
                self.browsers.remove(&at);
                self.step(Event::Ended { at });
            }
            Report::EndFailed { at } => {
                metrics().ends.add("left");
                self.browsers.remove(&at);
                self.step(Event::EndFailed { at });
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
                let left = self.state.lease(at).map(|lease| self.left(&lease.term));
                if let (Some(leased), Some(lease)) = (self.registry.at(at), self.state.lease(at)) {
                    leased.renewed(lease.term);
                }
                // A caller that went away needs no answer, here and below.
                let _caller_gone = reply.send(left);
            }
            Command::Release { at, reply } => {
                self.step(Event::Release { lease: at });
                let _caller_gone = reply.send(());
            }
            Command::SessionEnded { at, reason, reply } => {
                self.step(Event::SessionEnded { lease: at, reason });
                let _caller_gone = reply.send(());
            }
            Command::List { reply } => {
                self.note_activity();
                let _caller_gone = reply.send(self.list());
            }
            Command::Drain { deadline, reply } => {
                let running = self.state.counts().leases;
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
        let used = self.registry.all().into_iter().filter_map(|leased| Some((leased.at, leased.last_used()?)));
        let leases = used.collect();
        self.step(Event::Used { leases });
    }

    /// Feeds an event to the state and has everything done that follows from it.
    pub(super) fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let actions = self.state.on(event, Instant::now());
            self.carry_out(actions, &mut events);
        }
        self.publish();
    }

    fn carry_out(&mut self, actions: Vec<Action>, events: &mut VecDeque<Event>) {
        let mut granted: Vec<(LeaseRef, Vec<Ticket>)> = Vec::new();
        for action in actions {
            match action {
                Action::Launch { at } => self.launch(at),
                Action::End { at } => self.end(at),
                Action::Grant { ticket, lease } => match granted.iter_mut().find(|(other, _)| *other == lease) {
                    Some((_, tickets)) => tickets.push(ticket),
                    None => granted.push((lease, vec![ticket])),
                },
                Action::Refuse { ticket, refusal } => self.refuse(ticket, refusal),
                Action::Queued { ticket, position, depth } => self.tell(ticket, position, depth),
                Action::Revoke { lease, death } => self.revoke(lease, &death),
                Action::Close { lease } => self.close(lease),
                Action::Report(violation) => hands::report(&violation),
            }
        }
        self.ended.clear();
        for (lease, tickets) in granted {
            events.extend(self.grant(lease, tickets));
        }
    }

    fn publish(&self) {
        let now = self.state.counts();
        self.counts.send_if_modified(|counts| {
            if *counts == now {
                return false;
            }
            let states = [
                ("starting", now.starting),
                ("idle", now.idle),
                ("leased", now.leased),
                ("draining", now.retiring),
                ("killing", now.killing),
                ("poisoned", now.poisoned),
            ];
            for (state, count) in states {
                metrics().browsers.set(state, count);
            }
            metrics().queue.set("waiting", now.queued);
            *counts = now;
            true
        });
    }

    /// What a lease is granted here: a browser of its own, or a context of one.
    pub(super) fn kind(&self) -> &'static str {
        if self.limits.contexts_per_browser > 1 { "context" } else { "process" }
    }

    /// Shows in metrics what changes without an event.
    fn measure(&self) {
        self.launcher.measure();
        let memory: Vec<u64> = self.browsers.values().map(|browser| browser.tree.memory()).collect();
        metrics().browser_memory.set("all", memory.iter().sum::<u64>());
        metrics().browser_memory.set("largest", memory.into_iter().max().unwrap_or_default());
        let waiting = self.callers.values().map(|caller| caller.asked.elapsed()).max();
        metrics().queue_age.set("oldest", waiting.unwrap_or_default().as_secs());
        let (leases, bound) = self
            .state
            .leases()
            .fold((0, 0), |(leases, bound), (_, lease)| (leases + 1, bound + usize::from(lease.term.bound)));
        metrics().leases.set("bound", bound);
        metrics().leases.set("unbound", leases - bound);
    }

    fn list(&self) -> Vec<Listed> {
        let now = Instant::now();
        self.state
            .leases()
            .filter_map(|(at, lease)| {
                Some(Listed {
                    leased: self.registry.at(at)?,
                    bound: lease.term.bound,
                    age: now.duration_since(lease.term.granted),
                    idle: now.duration_since(lease.term.used),
                    expires_in: self.left(&lease.term),
                })
            })
            .collect()
    }

    fn left(&self, term: &Term) -> Duration {
        term.expires(&self.limits).saturating_duration_since(Instant::now())
    }

    /// A granted lease that its callers may have: registered, so that calls are let in.
    pub(super) fn register(&mut self, at: LeaseRef, ready: Ready, callers: &[Ticket]) -> Option<Arc<Leased>> {
        let lease = self.state.lease(at)?;
        // All of them ask for one session, and say the same about its way out. Without any nothing will be reached.
        let rules =
            callers.iter().find_map(|ticket| self.callers.get(ticket)).map(|caller| EgressRules::clone(&caller.rules));
        let egress = rules.as_ref().map(|rules| rules.asked.clone()).unwrap_or_default();
        if let (Some(gate), Some(rules)) = (ready.context.gate(), rules) {
            gate.lease(rules);
        }
        let running = (Arc::clone(self.browsers.get(&at.browser)?), ready);
        let leased = Arc::new(Leased::new(&self.identity, at, lease, egress, running, Arc::clone(&self.limits)));
        metrics().grants.add(self.kind());
        tracing::info!(
            lease = leased.lease_id,
            slot = at.browser.slot,
            principal = ids::digest(&leased.key.principal),
            session = ids::digest(&leased.key.session),
            "lease granted"
        );
        self.registry.insert(Arc::clone(&leased));
        Some(leased)
    }
}

/// Sleeps until the deadline; for ever when there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
