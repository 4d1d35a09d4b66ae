//! A network between a front end and a daemon that can be parted, in one direction or both, and cut.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use browserfleet_common::lifecycle::Tasks;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What gets through. What does not is held back, as TCP does that sends it again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) to_daemon: bool,
    pub(crate) to_front_end: bool,
    /// New connections are accepted.
    accepts: bool,
    /// Connections made under an earlier number are gone.
    age: u64,
}

/// The way to one daemon.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    network: watch::Sender<Network>,
    accepted: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) async fn to(daemon: SocketAddr, tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let network = watch::Sender::new(Network { to_daemon: true, to_front_end: true, accepts: true, age: 0 });
        let (accepted, state, spawner) = (Arc::<AtomicUsize>::default(), network.subscribe(), tasks.clone());
        let refused = Arc::<AtomicUsize>::default();
        let (counter, refusals) = (Arc::clone(&accepted), Arc::clone(&refused));
        tasks.spawn("proxy", async move {
            while let Ok((near, _)) = listener.accept().await {
                if !state.borrow().accepts {
                    refusals.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                counter.fetch_add(1, Ordering::SeqCst);
                let far = TcpStream::connect(daemon).await.unwrap();
                let ((read_near, write_near), (read_far, write_far)) = (near.into_split(), far.into_split());
                spawner.spawn("proxy, up", carry(read_near, write_far, state.clone(), |network| network.to_daemon));
                spawner
                    .spawn("proxy, down", carry(read_far, write_near, state.clone(), |network| network.to_front_end));
            }
        });
        Self { address, network, accepted, refused }
    }

    /// Says what gets through from now on.
    pub(crate) fn lets_through(&self, to_daemon: bool, to_front_end: bool) {
        self.network.send_modify(|network| (network.to_daemon, network.to_front_end) = (to_daemon, to_front_end));
    }

    /// Breaks every connection, and says whether new ones are accepted.
    pub(crate) fn cut(&self, accepts: bool) {
        self.network.send_modify(|network| (network.age, network.accepts) = (network.age + 1, accepts));
    }

    /// Accepts connections again.
    pub(crate) fn mend(&self) {
        self.network.send_modify(|network| network.accepts = true);
    }

    /// How many connections were not accepted.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// How many connections there have been.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    open: impl Fn(&Network) -> bool,
) {
    let age = network.borrow().age;
    let mut cut = network.clone();
    let carrying = async {
        let mut bytes = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            if network.wait_for(&open).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = carrying => {}
        _gone = cut.wait_for(|network| network.age != age) => {}
    }
}
