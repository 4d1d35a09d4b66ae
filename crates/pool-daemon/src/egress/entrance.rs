//! How a browser's connections come to its gates.
//!
//! Where a browser has a network of its own, nobody else is in it: one socket takes all that is sent there, and each gate has an
//! address of loopback to itself, of which there are sixteen million. Elsewhere loopback is everybody's: each gate has a port,
//! and the kernel is asked whose each connection is ([`peer`](super::peer)).

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener as StdListener},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::SetOnce,
    time::{Duration, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Exits, gate::Open};

/// Where proxies usually are; in a browser's own network every port is free.
const PORT: u16 = 3128;
/// When connections cannot be accepted, for want of descriptors for example: the time until the next attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// What all gates of one browser have in common. Cheap to clone; it ends with the last clone.
#[derive(Clone, Debug)]
pub struct Entrance {
    pub(super) way: Way,
}

#[derive(Clone, Debug)]
pub(super) enum Way {
    /// The one process that may come.
    Machine(Arc<SetOnce<u32>>),
    Own(Arc<Network>),
}

/// A network of the browser's own, as it is held.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) hall: Arc<Hall>,
    /// Nothing is taken there any more when the last holder has gone.
    _last: DropGuard,
}

/// What is behind the one socket that listens there.
#[derive(Debug)]
pub(super) struct Hall {
    next: AtomicU32,
    /// By the address each has. Held only to read or change it.
    gates: Mutex<HashMap<Ipv4Addr, Weak<Open>>>,
    ended: CancellationToken,
}

impl Entrance {
    /// Over the machine's loopback.
    pub fn on_the_machine() -> Self {
        Self { way: Way::Machine(Arc::default()) }
    }

    /// In a network that only the browser has.
    pub fn inside() -> Self {
        let ended = CancellationToken::new();
        let last = ended.clone().drop_guard();
        let hall = Hall { next: AtomicU32::new(Ipv4Addr::LOCALHOST.to_bits()), gates: Mutex::default(), ended };
        Self { way: Way::Own(Arc::new(Network { hall: Arc::new(hall), _last: last })) }
    }

    /// The port to listen at in the browser's network, if it has one.
    pub fn port(&self) -> Option<u16> {
        matches!(self.way, Way::Own(..)).then_some(PORT)
    }

    /// Says that the browser runs: which process it is, and what listens in its network if it has one. The first word counts.
    ///
    /// # Errors
    /// When the socket is none to listen on.
    pub fn open(&self, exits: &Exits, pid: u32, listener: Option<StdListener>) -> io::Result<()> {
        match (&self.way, listener) {
            (Way::Machine(owner), _) => {
                let _known_already = owner.set(pid);
            }
            (Way::Own(..), None) => return Err(io::Error::other("nothing listens in the browser's network")),
            (Way::Own(network), Some(listener)) => {
                let (listener, hall) = (TcpListener::from_std(listener)?, Arc::clone(&network.hall));
                exits.inner.tasks.spawn("egress.entrance", async move {
                    accept(listener, hall.ended.clone(), |stream, _peer| hall.lead(stream)).await;
                });
            }
        }
        Ok(())
    }
}

impl Hall {
    /// An address for another gate. None has been another's before.
    pub(super) fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from_bits(self.next.fetch_add(1, Ordering::Relaxed)), PORT)
    }

    pub(super) fn add(&self, address: SocketAddrV4, gate: &Arc<Open>) {
        let mut gates = self.gates();
        gates.retain(|_address, gate| gate.strong_count() > 0);
        gates.insert(*address.ip(), Arc::downgrade(gate));
    }

    /// Leads a connection to the gate that it was meant for. Others are closed.
    fn lead(&self, stream: TcpStream) {
        let Ok(SocketAddr::V4(address)) = stream.local_addr() else { return };
        let gate = self.gates().get(address.ip()).and_then(Weak::upgrade);
        if let Some(gate) = gate {
            gate.take(stream, None);
        }
    }

    fn gates(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, Weak<Open>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes connections until the end.
pub(super) async fn accept(listener: TcpListener, ended: CancellationToken, take: impl Fn(TcpStream, SocketAddr)) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = ended.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => take(stream, peer),
            Err(error) => {
                tracing::warn!(%error, "a browser's connection cannot be accepted");
                sleep(PAUSE).await;
            }
        }
    }
}
