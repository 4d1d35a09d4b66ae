//! The addresses of a name.

use std::{
    fmt, io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::Arc,
};

use async_trait::async_trait;
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Duration, timeout},
};

/// Most time for a name.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Look-ups at a time, of all gates. The system's cannot be stopped: one that is given up goes on, and keeps its place
/// until its end.
const AT_A_TIME: usize = 128;

/// Of these, how many one gate may have: a page that asks for names whose servers are silent keeps its own from being
/// resolved, and nobody else's.
const OF_A_GATE: usize = 16;

/// Knows the addresses of names.
#[async_trait]
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// The addresses of a name, the one to try first first. Bounded in time. Empty when there is none.
    async fn resolve(&self, name: &str, share: &Share) -> Vec<IpAddr>;
}

/// A gate's part of the look-ups.
#[derive(Clone, Debug)]
pub struct Share {
    places: Arc<Semaphore>,
}

impl Default for Share {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(OF_A_GATE)) }
    }
}

/// The system's resolver: its hosts file, its name servers.
#[derive(Debug)]
pub struct System {
    places: Arc<Semaphore>,
    /// Blocks, for as long as the system pleases.
    ask: fn(&str) -> io::Result<Vec<IpAddr>>,
}

impl Default for System {
    fn default() -> Self {
        Self::asking(|name| {
            // The port is of no interest, but the interface wants one.
            (name, 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect())
        })
    }
}

impl System {
    fn asking(ask: fn(&str) -> io::Result<Vec<IpAddr>>) -> Self {
        Self { places: Arc::new(Semaphore::new(AT_A_TIME)), ask }
    }
}

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, name: &str, share: &Share) -> Vec<IpAddr> {
        let (name, ask) = (name.to_owned(), self.ask);
        let (own, all) = (Arc::clone(&share.places), Arc::clone(&self.places));
        let look_up = async move {
            let places = (own.acquire_owned().await.ok()?, all.acquire_owned().await.ok()?);
            let found = spawn_blocking(move || {
                let _places = places;
                ask(&name)
            });
            found.await.ok()?.ok()
        };
        timeout(LOOK_UP, look_up).await.ok().flatten().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    /// What the silent name server takes, and what it says in the end.
    const SILENCE: Duration = Duration::from_millis(400);
    const LATE: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)];

    fn ask(name: &str) -> io::Result<Vec<IpAddr>> {
        match name {
            "silent" => std::thread::sleep(SILENCE),
            "unknown" => return Err(io::ErrorKind::NotFound.into()),
            _ => {}
        }
        Ok(LATE.to_vec())
    }

    #[tokio::test]
    async fn silent_names_of_one_gate_keep_nobody_else_from_theirs() {
        let (system, one, other) = (System::asking(ask), Share::default(), Share::default());
        // As many as there are places for all: a share is less.
        let storm = join_all((0..AT_A_TIME).map(|_| system.resolve("silent", &one)));
        tokio::pin!(storm);
        let quick = tokio::select! {
            biased;
            _ = &mut storm => None,
            found = system.resolve("quick", &other) => Some(found),
        };
        assert_eq!(quick, Some(LATE.to_vec()), "before the storm was over");
        assert_eq!(system.places.available_permits() + OF_A_GATE, AT_A_TIME);
        assert_eq!(system.resolve("unknown", &other).await, Vec::<IpAddr>::new());
        assert!(storm.await.iter().all(|found| *found == LATE), "each in its turn");
        assert_eq!((system.places.available_permits(), one.places.available_permits()), (AT_A_TIME, OF_A_GATE));
    }
}
