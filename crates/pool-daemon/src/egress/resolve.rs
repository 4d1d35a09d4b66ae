//! The addresses of a name.

use std::{
    fmt,
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

/// Look-ups at a time. The system's cannot be stopped: one that is given up goes on, and keeps its place until its end.
const AT_A_TIME: usize = 64;

/// Knows the addresses of names.
#[async_trait]
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// The addresses of a name, the one to try first first. Bounded in time. Empty when there is none.
    async fn resolve(&self, name: &str) -> Vec<IpAddr>;
}

/// The system's resolver: its hosts file, its name servers.
#[derive(Debug)]
pub struct System {
    places: Arc<Semaphore>,
}

impl Default for System {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_A_TIME)) }
    }
}

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, name: &str) -> Vec<IpAddr> {
        let name = name.to_owned();
        let places = Arc::clone(&self.places);
        let look_up = async move {
            let place = places.acquire_owned().await.ok()?;
            let found = spawn_blocking(move || {
                let _place = place;
                // The port is of no interest, but the interface wants one.
                (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect())
            });
            found.await.ok()?.ok()
        };
        timeout(LOOK_UP, look_up).await.ok().flatten().unwrap_or_default()
    }
}
