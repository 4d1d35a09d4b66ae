//! A gate: the proxy of one browser, or of one context of a shared browser, from its port to its end.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, PoisonError, RwLock, atomic::Ordering},
};

use browserfleet_common::{egress::EgressRules, error_code::ErrorCode, metrics::metrics};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, SetOnce},
    task::spawn_blocking,
    time::{Duration, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

use super::{
    Exits, Refusal,
    entrance::{Entrance, Way, accept},
    peer,
    policy::Policy,
    serve,
    target::Target,
    verdicts::{self, Verdicts},
    watched::Traffic,
};
use crate::failure::Failure;

/// Most connections of a browser at a time, tunnels included. Chromium opens 32 to one proxy, and as many for web sockets.
const MAX_CONNECTIONS: usize = 128;
/// Most time until the browser's process is known: it connects only after it was started.
const OWNER: Duration = Duration::from_secs(30);

/// The handle of a gate. Cheap to clone; the gate ends when it is closed, or with the last handle.
#[derive(Clone, Debug)]
pub struct Gate {
    gate: Arc<Open>,
    _last: Arc<DropGuard>,
}

/// An open gate.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) exits: Exits,
    address: SocketAddrV4,
    /// Replaced when the browser is leased. Held only to read or replace it.
    policy: RwLock<Arc<Policy>>,
    places: Arc<Semaphore>,
    pub(super) ended: CancellationToken,
    pub(super) verdicts: Verdicts,
    pub(super) traffic: Arc<Traffic>,
}

impl Gate {
    /// Opens a gate of a browser. Nothing goes through it until it is leased.
    ///
    /// # Errors
    /// When there is no free port, or no free descriptor.
    pub async fn open(exits: &Exits, entrance: &Entrance) -> io::Result<Self> {
        match &entrance.way {
            Way::Machine(owner) => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                let SocketAddr::V4(address) = listener.local_addr()? else {
                    return Err(io::Error::other("IPv4 was asked for"));
                };
                exits.gates().insert(address.port());
                let gate = Self::new(exits, address);
                // Its task holds the gate itself; the handle's end is its own.
                let run = Arc::clone(&gate.gate).run(listener, Arc::clone(owner));
                exits.inner.tasks.spawn("egress.gate", run);
                Ok(gate)
            }
            Way::Own(network) => {
                let address = network.hall.address();
                let gate = Self::new(exits, address);
                network.hall.add(address, &gate.gate);
                Ok(gate)
            }
        }
    }

    fn new(exits: &Exits, address: SocketAddrV4) -> Self {
        let gate = Arc::new(Open {
            exits: exits.of_a_gate(),
            address,
            policy: RwLock::new(Arc::new(Policy::nothing())),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            ended: CancellationToken::new(),
            verdicts: Verdicts::default(),
            traffic: Arc::default(),
        });
        let last = Arc::new(gate.ended.clone().drop_guard());
        Self { gate, _last: last }
    }

    /// Where the gate is, as Chromium is told.
    pub fn server(&self) -> String {
        format!("http://{}", self.gate.address)
    }

    /// Opens the way for a lease, as far as the daemon's settings allow what it asks for.
    pub fn lease(&self, rules: EgressRules) {
        let policy = Arc::new(self.gate.exits.policy(rules));
        *self.gate.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// Ends the gate and every connection through it.
    pub fn close(&self) {
        self.gate.ended.cancel();
    }

    /// Checks a URL before it is opened: what is known to be blocked needs no browser to find out.
    ///
    /// # Errors
    /// `url_blocked`.
    pub fn check(&self, url: &Url) -> Result<(), Failure> {
        let Some(target) = Target::of(url) else { return Ok(()) };
        let admitted = self.gate.policy().admit(&target);
        admitted.map_err(|blocked| Refusal::from(blocked).into_failure(url.as_str()))
    }

    /// What an error of Chromium's at `url` really was, if it was this gate's doing.
    pub fn explain(&self, error: &str, url: &str) -> Option<Refusal> {
        if !verdicts::may_be_ours(error) {
            return None;
        }
        self.refused(url).or_else(|| verdicts::is_gone(error).then_some(Refusal::Gone))
    }

    /// Why the last request to where `url` leads was refused, if it was.
    pub fn refused(&self, url: &str) -> Option<Refusal> {
        let target = Target::of(&Url::parse(url).ok()?)?;
        self.gate.verdicts.of(&target)
    }

    /// The failure of a navigation that Chromium says ended with `error` at `url`.
    pub fn failure(&self, error: &str, url: &str) -> Failure {
        match self.explain(error, url) {
            Some(refusal) => refusal.into_failure(url),
            None => Failure::new(ErrorCode::NavigationFailed, format!("{error} at {url}")),
        }
    }
}

impl Open {
    pub(super) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes connections on the machine's loopback until the end.
    async fn run(self: Arc<Self>, listener: TcpListener, owner: Arc<SetOnce<u32>>) {
        accept(listener, self.ended.clone(), |stream, peer| {
            self.take(stream, Some(Claim { owner: Arc::clone(&owner), from: peer, to: self.address }));
        })
        .await;
        self.exits.gates().remove(&self.address.port());
    }

    /// Serves a connection. One too many is closed at once: Chromium never has so many.
    pub(super) fn take(self: &Arc<Self>, stream: TcpStream, claim: Option<Claim>) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let gate = Arc::clone(self);
        self.exits.inner.tasks.spawn("egress.connection", async move {
            let ended = gate.ended.clone();
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                () = gate.serve(stream, claim, Arc::new(place)) => {}
            }
        });
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, claim: Option<Claim>, place: serve::Place) {
        if let Some(claim) = claim
            && !claim.holds().await
        {
            metrics().egress_requests.add("foreign");
            tracing::warn!(peer = %claim.from, "somebody else than its browser has tried to use an egress gate");
            return;
        }
        // It only costs speed if it does not work.
        let _as_before = stream.set_nodelay(true);
        serve::connection(self, stream, place).await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let (sent, received) = (&self.traffic.sent, &self.traffic.received);
        tracing::debug!(
            sent = sent.load(Ordering::Relaxed),
            received = received.load(Ordering::Relaxed),
            "egress gate closed"
        );
    }
}

/// That a connection on the machine's loopback is the browser's.
pub(super) struct Claim {
    owner: Arc<SetOnce<u32>>,
    from: SocketAddr,
    to: SocketAddrV4,
}

impl Claim {
    async fn holds(&self) -> bool {
        let SocketAddr::V4(from) = self.from else { return false };
        let Ok(&pid) = timeout(OWNER, self.owner.wait()).await else { return false };
        let to = self.to;
        spawn_blocking(move || peer::belongs_to(pid, from, to)).await.unwrap_or(false)
    }
}
