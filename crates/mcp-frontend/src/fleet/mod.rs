//! The pool daemons behind this front end: which one holds a lease, and where a new one is asked for.
//!
//! [`placement`] decides and [`placing`] asks; [`client`] is the wire to one daemon, [`wire`] says how it is reached,
//! [`signer`] what it is told of callers. Which daemons there are, the settings say, or a directory ([`members`]).

mod client;
mod members;
mod placement;
mod placing;
mod signer;
mod wire;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use browserfleet_common::{
    clock::Clock,
    error_code::ErrorCode,
    lifecycle::Tasks,
    pb::{GetPoolResponse, Lease},
    redis::{Directory, directory::Entry},
};
use futures_util::future::join_all;
use tokio::{
    sync,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

pub use self::wire::{Pools, Wire};
pub(crate) use self::{
    client::{PoolClient, QueueWatch},
    placing::Wanted,
};
use self::{
    members::{Identity, Members},
    placement::{Event, Index, Placement, Report},
    signer::Signer,
};
use crate::{
    failure::{DaemonError, Failure},
    session::{LeaseRef, Record},
};

/// How often each daemon is asked how it is.
const LOOK: Duration = Duration::from_secs(1);

/// How long an answer of all daemons is good enough for whoever asks next.
const FRESH: Duration = Duration::from_millis(200);

/// All daemons.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// Where daemons are found, if they are not those of the settings.
    directory: Option<(Directory, Wire)>,
    signer: Signer,
    known: Mutex<Known>,
    /// When all were asked at once. Held while they are.
    asked: sync::Mutex<Option<Instant>>,
}

/// What is known of the daemons. A plain mutex: nobody waits while holding it.
#[derive(Debug, Default)]
struct Known {
    placement: Placement,
    members: Members,
}

impl Known {
    fn add(&mut self, client: PoolClient) -> Index {
        let index = self.members.add(client);
        self.placement.add(index);
        index
    }
}

impl Fleet {
    pub(crate) fn new(pools: Pools, clock: Arc<dyn Clock>) -> Self {
        let Pools { daemons, directory, secret } = pools;
        let (signer, mut known) = (Signer::new(secret, clock), Known::default());
        for (name, door) in daemons {
            known.add(PoolClient::new(name, door, signer.clone()));
        }
        Self { directory, signer, known: Mutex::new(known), asked: sync::Mutex::default() }
    }

    /// Starts watching the daemons, until `stop`.
    pub(crate) fn watch(self: &Arc<Self>, tasks: &Tasks, stop: &CancellationToken) {
        let fleet = Arc::clone(self);
        tasks.spawn("watch daemons", again_and_again(stop.clone(), async move || fleet.look_at_all().await));
        if self.directory.is_some() {
            // Beside it: one that does not answer holds up no news of the others.
            let fleet = Arc::clone(self);
            tasks.spawn("try daemons", again_and_again(stop.clone(), async move || fleet.look_at_doubtful().await));
        }
    }

    /// Whether somebody would take a new lease. The daemons are asked, but not for everybody who wants to know: anybody
    /// may want to.
    pub(crate) async fn is_ready(&self) -> bool {
        let mut asked = self.asked.lock().await;
        if asked.is_none_or(|asked| asked.elapsed() >= FRESH) {
            self.look_at_all().await;
            *asked = Some(Instant::now());
        }
        drop(asked);
        self.in_service() > 0
    }

    /// How many daemons there are.
    pub(crate) fn count(&self) -> usize {
        self.known().members.count()
    }

    /// How many of them take new leases, as far as is known.
    pub(crate) fn in_service(&self) -> usize {
        self.known().placement.count(Instant::now())
    }

    /// How many are left alone for a while because they failed.
    pub(crate) fn ejected(&self) -> usize {
        self.known().placement.ejected(Instant::now())
    }

    /// How every daemon is, by its name, for operators: what it says itself, or why it does not.
    pub(crate) async fn statuses(&self) -> Vec<(String, Result<GetPoolResponse, DaemonError>)> {
        let asked = self.clients().into_iter().map(async |daemon| (daemon.name().to_owned(), daemon.status().await));
        join_all(asked).await
    }

    /// The leases of all daemons that answer, with the daemon's name, for operators.
    pub(crate) async fn leases(&self) -> Vec<(String, Lease)> {
        let asked = self.clients().into_iter().map(async |daemon| {
            let leases = daemon.leases().await.unwrap_or_default();
            leases.into_iter().map(|lease| (daemon.name().to_owned(), lease)).collect::<Vec<_>>()
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    fn clients(&self) -> Vec<PoolClient> {
        let known = self.known();
        let indices = known.members.indices();
        indices.into_iter().filter_map(|index| Some(known.members.get(index)?.client.clone())).collect()
    }

    /// The daemon of a lease. Never one that did not grant it: an address may belong to somebody else by now.
    pub(crate) async fn holder(&self, lease: &LeaseRef) -> Result<PoolClient, DaemonError> {
        // One that is not in the list is out of our reach; that does not mean that it is gone.
        let index = self.named(&lease.daemon).ok_or(DaemonError::Unreachable)?;
        let (client, last_seen) = {
            let known = self.known();
            let member = known.members.get(index).ok_or(DaemonError::Unreachable)?;
            (member.client.clone(), member.identity.clone())
        };
        let Some(grantor) = Identity::of_token(&lease.token) else { return Ok(client) };
        // What we remember may be older than the lease: before a lease is called lost, its daemon is asked who it is.
        if last_seen.is_some_and(|identity| identity != grantor) && self.look(index).await? != grantor {
            let why = "the daemon it ran on has been replaced";
            return Err(DaemonError::Refused(Failure::new(ErrorCode::LeaseLost, why)));
        }
        Ok(client)
    }

    /// Confirms a lease to its daemon and prolongs it.
    pub(crate) async fn renew(&self, session: &Record, lease: &LeaseRef, ttl: Duration) -> Result<(), DaemonError> {
        self.holder(lease).await?.renew(session, lease, ttl).await
    }

    /// Returns a lease. One that is not there any more counts as returned.
    pub(crate) async fn release(&self, session: &Record, lease: &LeaseRef) -> Result<(), DaemonError> {
        match self.holder(lease).await {
            Ok(daemon) => daemon.release(session, lease).await,
            Err(DaemonError::Refused(failure)) if failure.code == ErrorCode::LeaseLost => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn look_at_all(&self) {
        let Some((directory, _)) = &self.directory else {
            let indices = self.known().members.indices();
            return self.look_at(indices).await;
        };
        match directory.list().await {
            Ok(entries) => self.listed(&entries),
            // That says nothing about the daemons.
            Err(error) => tracing::debug!(%error, "the directory cannot be read"),
        }
    }

    /// Asks those of the directory that may be out of reach. Callers need not find out.
    async fn look_at_doubtful(&self) {
        let indices = self.known().placement.doubtful();
        self.look_at(indices).await;
    }

    async fn look_at(&self, indices: Vec<Index>) {
        // What came of it is noted.
        let _noted = join_all(indices.into_iter().map(|index| self.look(index))).await;
    }

    /// Asks a daemon who and how it is, and takes note.
    async fn look(&self, index: Index) -> Result<Identity, DaemonError> {
        let daemon = self.client(index).ok_or(DaemonError::Unreachable)?;
        match daemon.status().await {
            Ok(status) => {
                let identity = Identity { pool: status.pool_id.clone(), incarnation: status.incarnation.clone() };
                self.identified(index, identity.clone());
                self.note(index, Event::Reported(report(&status)));
                Ok(identity)
            }
            Err(error) => {
                self.note(index, Event::Unreachable);
                Err(error)
            }
        }
    }

    /// Takes note of what the directory says.
    fn listed(&self, entries: &[Entry]) {
        let mut listed = Vec::with_capacity(entries.len());
        for entry in entries {
            let Some(index) = self.named(&entry.address) else { continue };
            listed.push(index);
            self.identified(index, Identity { pool: entry.pool_id.clone(), incarnation: entry.incarnation.clone() });
            let Entry { idle, room, queued, closed, .. } = *entry;
            self.note(index, Event::Announced(Report { idle, room, queued, closed }));
        }
        let (left, forgotten) = self.known().members.listed(&listed, Instant::now());
        for index in left {
            self.note(index, Event::Unlisted);
        }
        for index in forgotten {
            self.known().placement.remove(index);
        }
    }

    fn identified(&self, index: Index, identity: Identity) {
        if let Some(member) = self.known().members.get_mut(index) {
            member.identity = Some(identity);
        }
    }

    /// The daemon of a name. With a directory names are addresses: one that is not known yet, because the lease was made by
    /// another front end, is made known.
    fn named(&self, name: &str) -> Option<Index> {
        let mut known = self.known();
        if let Some(index) = known.members.named(name) {
            return Some(index);
        }
        let (_, wire) = self.directory.as_ref()?;
        Some(known.add(PoolClient::new(name.to_owned(), wire.door(name)?, self.signer.clone())))
    }

    fn client(&self, index: Index) -> Option<PoolClient> {
        self.known().members.get(index).map(|member| member.client.clone())
    }

    fn note(&self, index: Index, event: Event) {
        let mut known = self.known();
        let now = Instant::now();
        let before = known.placement.count(now);
        // An acquisition that begins is a probe at most: not news.
        let news = (event != Event::Asked).then(|| format!("{event:?}"));
        known.placement.on(index, event, now);
        let in_service = known.placement.count(now);
        drop(known);
        if let Some(event) = news.filter(|_| in_service != before) {
            let daemon = self.client(index).map(|daemon| daemon.name().to_owned());
            tracing::info!(daemon, event, in_service, of = self.count(), "daemons changed");
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does something every [`LOOK`], or as often as it can be done, until `stop`.
async fn again_and_again(stop: CancellationToken, act: impl AsyncFn()) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let acting = async {
        loop {
            ticks.tick().await;
            act().await;
        }
    };
    tokio::select! {
        () = acting => {}
        () = stop.cancelled() => {}
    }
}

fn report(status: &GetPoolResponse) -> Report {
    let up = status.idle + status.leased + status.retiring;
    let used = up + status.starting + status.killing + status.poisoned;
    Report {
        idle: status.idle,
        room: status.max_browsers.saturating_sub(used),
        queued: status.queued,
        closed: status.draining || !status.unavailable.is_empty(),
    }
}
